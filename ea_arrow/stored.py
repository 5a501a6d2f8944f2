"""A stored iteration as a result that is read when it is asked for, whole or batch by batch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ea_arrow.conform import conform
from ea_arrow.results import Result
from ea_arrow.schema import PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ea_arrow.tables import DataFile, Table

MOST_OPEN: Final = 64
BATCH_ROWS: Final = 65_536


class Predictions(Result):
    """The predictions of an iteration.

    Files are opened at once, so that what was live stays readable, and read when rows are asked
    for. :meth:`batches`, a loop over it, and whatever takes an Arrow stream hold one batch at a
    time; ``to_arrow`` and the like hold all rows.

    Args:
        table: The table of predictions.
        files: Its files, in order.

    Raises:
        FileNotFoundError: One is gone.
    """

    def __init__(self, table: Table, files: Sequence[DataFile]) -> None:
        self.notes = []
        self._source, self._files = table, list(files)
        self._rows = sum(file.rows for file in files)
        self._opened: list[Any] = []
        if len(files) > MOST_OPEN:  # more than a process may have open
            self.__dict__["_table"] = table.read(files=files)
        else:
            paths = [table.root / file.path for file in files]
            self._opened = [pq.ParquetFile(path, memory_map=True) for path in paths]

    @cached_property
    def _table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches(), schema=PREDICTIONS.arrow)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries."""
        for batch in self.batches():
            yield from batch.to_pylist()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface."""
        return self.reader().__arrow_c_stream__(requested_schema)

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return PREDICTIONS.names

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``PREDICTIONS`` schema, one in memory at a time.

        Args:
            rows: How many rows a batch has at most.
        """
        if "_table" in self.__dict__:
            yield from self._table.to_batches(max_chunksize=rows)
            return
        for file, opened in zip(self._files, self._opened, strict=True):
            for batch in opened.iter_batches(batch_size=rows):
                name = pa.repeat(pa.scalar(file.partition["iteration"]), batch.num_rows)
                yield conform(batch.append_column("iteration", name), PREDICTIONS)

    def reader(self, rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The same batches as a ``pyarrow.RecordBatchReader``."""
        return pa.RecordBatchReader.from_batches(PREDICTIONS.arrow, self.batches(rows))

    def _repr_html_(self) -> str:
        first = next(self.batches(), None)
        table = pa.Table.from_batches([] if first is None else [first], PREDICTIONS.arrow)
        caption = f"<caption>{len(table):,} rows</caption>"
        return (
            Result(table)._repr_html_().replace(caption, f"<caption>{len(self):,} rows</caption>")
        )
