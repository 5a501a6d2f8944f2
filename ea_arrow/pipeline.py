"""RAW batches in, conforming rows out, in order; joined and checked beside the caller's own work.

The memory is that of a few batches, however many go through.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.ledger import EXAMPLES, Ledger
from ea_arrow.normalise import Normaliser
from ea_arrow.spilled import OneBatch, SpilledDuplicates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ea_arrow.normalise import Normalised
    from ea_arrow.sources.base import Coordinates

MOST_WAITING: Final = 3
"""Batches between the caller and the file, at most."""


class Pipeline:
    """Normalises the batches of one writer.

    Args:
        data_units: The project's ``DATA_UNITS``.
        classes: The project's ``CLASSES``.
        folder: Where large numbers of row keys are spilled to.
        first_id: ``prediction_id`` of the first row kept.

    Attributes:
        next_id: ``prediction_id`` of the next row kept.
        ledger: The account of the rows taken so far.
    """

    def __init__(
        self, data_units: pa.Table, classes: pa.Table, folder: Path, first_id: int = 0
    ) -> None:
        self.data_units, self.classes = data_units, classes
        self.next_id = first_id
        self.ledger = Ledger()
        self._duplicates = SpilledDuplicates(folder)
        self._known_duplicates = 0
        self._normalisers: dict[Coordinates, Normaliser] = {}
        self._waiting: deque[Callable[[], tuple[Normalised, Normaliser]]] = deque()
        self._threads = min(2, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None

    def put(self, raw: pa.RecordBatch, coordinates: Coordinates) -> None:
        """Take a batch of the ``RAW`` schema."""
        if coordinates not in self._normalisers:
            self._normalisers[coordinates] = Normaliser(
                self.data_units, self.classes, coordinates, "predictions"
            )
        normaliser = copy.copy(self._normalisers[coordinates])  # shares what it looks up in
        normaliser.ledger, normaliser.duplicates = Ledger(), OneBatch()

        def run() -> tuple[Normalised, Normaliser]:
            return normaliser(raw), normaliser

        if self._threads > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads)
            future: Future[tuple[Normalised, Normaliser]] = self._pool.submit(run)
            self._waiting.append(future.result)
        else:
            self._waiting.append(run)

    def take(self, *, all: bool = False) -> Iterator[Normalised]:
        """Yield batches that are done, in the order they came; those in excess, or all."""
        while len(self._waiting) > (0 if all else MOST_WAITING):
            batch, normaliser = self._waiting.popleft()()
            keys = normaliser.duplicates
            if isinstance(keys, OneBatch):
                self._duplicates.add(keys.keys, keys.rows, None)
            self.ledger.add(normaliser.ledger)
            yield replace(batch, rows=self._numbered(batch.rows))

    def finish(self) -> Ledger:
        """Return the ledger since the last call, duplicates of any earlier row included."""
        if self._waiting:
            raise RuntimeError("finish comes after the last batch was taken")
        number, rows = self._duplicates.count(EXAMPLES)
        before, self._known_duplicates = self._known_duplicates, number
        fresh = rows if before == 0 else []
        self.ledger.count("duplicate", fresh, number - before, reject=False)
        finished, self.ledger = self.ledger, Ledger()
        return finished

    def close(self) -> None:
        """End the threads; batches not taken are lost."""
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._duplicates.close()

    def _numbered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        place = rows.schema.get_field_index("prediction_id")
        ids = pa.array(np.arange(self.next_id, self.next_id + rows.num_rows))
        self.next_id += rows.num_rows
        return rows.set_column(place, rows.schema.field(place), ids)
