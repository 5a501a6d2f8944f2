"""From what a source says to what the project stores: joined, checked, in pixels.

A RAW batch goes in; a batch of conforming rows and a table of rejects come out. Nothing loops over
rows: every rule is a boolean column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from ea_arrow.checks import Checks
from ea_arrow.conform import conform
from ea_arrow.ledger import EXAMPLES, Ledger
from ea_arrow.lookup import ClassIndex, UnitIndex
from ea_arrow.row_keys import Duplicates, Seen
from ea_arrow.schema import LABELS, PREDICTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.sources.base import Coordinates

    Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Normalised:
    """A batch after normalisation.

    Attributes:
        rows: Conforming rows, without the partition column.
        rejected: The RAW rows that were refused.
        broken: Per rule, which of the refused rows broke it; in the order of ``ledger.REJECTS``.
        unit_sizes: Width and height of the refused rows' data units, shape (2, n).
    """

    rows: pa.RecordBatch
    rejected: pa.RecordBatch
    broken: dict[str, Flags]
    unit_sizes: NDArray[np.float64]


class Normaliser:
    """Joins RAW batches of one source to a project's data units and classes.

    Args:
        data_units: The project's ``DATA_UNITS``.
        classes: The project's ``CLASSES``.
        coordinates: How the source names data units and classes, and its coordinates.
        kind: Whether rows become predictions or labels.
        first_id: ``prediction_id`` or ``label_id`` of the first row kept.
        duplicates: Where the rows of all sources of an import meet.
        name: The source's name, where there are several.
        seen: The rows of all sources so far, where exact duplicates are to be dropped.
    """

    def __init__(
        self,
        data_units: pa.Table,
        classes: pa.Table,
        coordinates: Coordinates,
        kind: Literal["predictions", "labels"],
        first_id: int = 0,
        duplicates: Duplicates | None = None,
        name: str | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.coordinates = coordinates
        self.kind = kind
        self.next_id = first_id
        self.ledger = Ledger()
        self._units = UnitIndex(data_units, coordinates.unit_key)
        self._classes = ClassIndex(classes, coordinates.class_key)
        self.duplicates = Duplicates() if duplicates is None else duplicates
        self.name, self.seen = name, seen

    def __call__(self, raw: pa.RecordBatch) -> Normalised:
        """Normalise one batch; the ledger counts it."""
        checks = Checks(raw, self._units, self._classes, self.coordinates, self.kind)
        checks.run()
        refused = checks.refused()
        if self.seen is not None:
            repeated = np.zeros(len(refused), dtype=bool)
            repeated[~refused] = self.seen.again(checks.keys(ids=False)[~refused])
            checks.rules["repeated"] = repeated
            refused = refused | repeated
        rows = self._rows(checks, ~refused)
        self._count(checks, refused)
        rejected = raw.filter(pa.array(refused))
        broken = {rule: flags[refused] for rule, flags in checks.rules.items() if flags.any()}
        sizes = np.stack([checks.width, checks.height])[:, refused]
        return Normalised(rows, rejected, broken, sizes)

    def finish(self) -> Ledger:
        """Return the ledger, exact duplicates over all batches included."""
        number, rows = self.duplicates.count(EXAMPLES)
        self.ledger.count("duplicate", rows, number, reject=False)
        return self.ledger

    def _count(self, checks: Checks, refused: Flags) -> None:
        ledger = self.ledger
        ledger.read += len(refused)
        ledger.kept += int((~refused).sum())
        counted = np.zeros(len(refused), dtype=bool)
        for rule, flags in checks.rules.items():
            mine = flags & ~counted
            counted |= mine
            ledger.count(rule, _places(checks.raw, mine), int(mine.sum()), reject=True)
        for note, flags in checks.notes.items():
            mine = flags & ~refused
            ledger.count(note, _places(checks.raw, mine), int(mine.sum()), reject=False)
        files = checks.raw.column("source_file")
        name = self.name if files.null_count else files.filter(pa.array(~refused))
        self.duplicates.add(checks.keys()[~refused], checks.source_row[~refused], name)

    def _rows(self, checks: Checks, kept: Flags) -> pa.RecordBatch:
        spec = PREDICTIONS if self.kind == "predictions" else LABELS
        columns = checks.columns()
        names = [n for n in spec.names if n in columns]
        batch = pa.RecordBatch.from_arrays([columns[n] for n in names], names=names)
        if not kept.all():
            batch = batch.filter(pa.array(kept))
        ids = np.arange(self.next_id, self.next_id + batch.num_rows)
        self.next_id += batch.num_rows
        key = "prediction_id" if self.kind == "predictions" else "label_id"
        return conform(batch.append_column(key, pa.array(ids)), spec, stored=True)


def _places(raw: pa.RecordBatch, rows: Flags) -> list[int | str]:
    """Where the first of some rows stand: in a row, or in a line of a file."""
    first = pa.array(np.flatnonzero(rows)[:EXAMPLES])
    numbers = raw.column("source_row").take(first).to_pylist()
    files = raw.column("source_file").take(first).to_pylist()
    return [f"{file}:{n}" if file else n for file, n in zip(files, numbers, strict=True)]
