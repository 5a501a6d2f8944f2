"""Tables in files, opened as blocks of columns: Parquet, Arrow, CSV, TSV and lines of JSON.

Nothing is said of what the columns mean. Memory is bounded by the size of a block, whatever the
size of the file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import BATCH_ROWS
from ea_arrow.sources.byte_streams import ByteStream
from ea_arrow.sources.table_base import BLOCK_BYTES, ERRORS, Block, TableFile, arrow_errors
from ea_arrow.sources.text_tables import HEADER_BYTES, CsvTable, JsonLines, header_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ea_arrow.sources.columns import Cells
    from ea_arrow.sources.samples import Sample

PARQUET: Final = b"PAR1"
ARROW_FILE: Final = b"ARROW1\0\0"
ARROW_STREAM: Final = b"\xff\xff\xff\xff"

_MOST_FOOTER: Final = 1 << 26
_PROBE: Final = 16


class Shape(NamedTuple):
    """What the beginning of a file says of its table: its kind and its columns."""

    kind: str
    names: list[str]


def open_table(path: Path) -> TableFile:
    """Open a table, of the kind that its first bytes tell.

    Raises:
        SourceError: The file cannot be read, is empty, or is no table.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(PARQUET):
        return ParquetTable(path)
    if head.startswith((ARROW_FILE, ARROW_STREAM)):
        return ArrowTable(path)
    with ByteStream(path) as stream:
        text = stream.read(HEADER_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text:
        raise SourceError(f"{path} is empty; expected a table.")
    return JsonLines(path) if text.startswith(b"{") else CsvTable(path)


def shape_of(sample: Sample) -> Shape | None:
    """Tell a table from a first look at a file; None if it is none."""
    head = sample.head
    try:
        if head.startswith(PARQUET):
            return Shape("parquet", ParquetTable(sample.path).names)
        if head.startswith((ARROW_FILE, ARROW_STREAM)):
            start = len(ARROW_FILE) if head.startswith(ARROW_FILE) else 0
            return Shape("arrow", pa.ipc.open_stream(head[start:]).schema.names)
        if head.startswith(b"{"):
            record = json.loads(sample.lines[0])
            return Shape("ndjson", list(record)) if isinstance(record, dict) else None
        names = header_of(sample.lines[0])[0] if sample.lines else []
    except (SourceError, *ERRORS, IndexError):
        return None
    return Shape("csv", names) if len(names) > 1 else None


class ParquetTable(TableFile):
    """A Parquet file."""

    kind = "parquet"

    def _look(self) -> None:
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 8, 0))
            tail = file.read()
        footer = int.from_bytes(tail[:4], "little")
        if size < 12 or not tail.endswith(PARQUET) or footer > min(size, _MOST_FOOTER):
            message = (
                f"{self.path} begins as a Parquet file but does not end as one: it is cut off."
            )
            raise SourceError(message, hint="Copy or write the file again.")
        with self._open() as file:
            self._set_schema(file.schema_arrow)
            self._groups = file.num_row_groups

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        # Repeated texts stay a dictionary: a small file can spell out very many of them.
        texts = [n for n, t in self.types.items() if pa.types.is_string(t) or pa.types.is_binary(t)]
        return pq.ParquetFile(
            self.path, buffer_size=1 << 20, pre_buffer=False, read_dictionary=texts or None
        )

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Read columns, see the base."""
        start = 0
        with arrow_errors(self.path), self._open() as file:
            for group in range(self._groups):
                for batch in self._batches(file, group, list(names)):
                    batch.validate(full=True)
                    rows = np.arange(start, start + batch.num_rows)
                    start += batch.num_rows
                    yield Block(_by_name(batch), rows, [])

    def _batches(self, file: Any, group: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Read a row group in batches of a size that its first rows suggest.

        Its metadata says what a column takes, but to ask a damaged file for it can end the process
        (Arrow's C++ throws where Cython expects nothing).
        """
        at_once = BATCH_ROWS
        for first in file.iter_batches(_PROBE, row_groups=[group], columns=names):
            size = first.nbytes / max(first.num_rows, 1)
            at_once = int(min(max(8 * BLOCK_BYTES / max(size, 1), 1), BATCH_ROWS))
            break
        yield from file.iter_batches(at_once, row_groups=[group], columns=names)


class ArrowTable(TableFile):
    """Arrow's IPC format: a file (Feather version 2) or a stream."""

    kind = "arrow"

    def _look(self) -> None:
        with self._source() as source, self._reader(source, None) as reader:
            self._set_schema(reader.schema)

    def _source(self) -> Any:
        return pa.memory_map(str(self.path))

    def _reader(self, source: Any, names: Sequence[str] | None) -> Any:
        """Open it to read some of the columns."""
        head = source.read(len(ARROW_FILE))
        source.seek(0)
        opened = pa.ipc.open_file if head == ARROW_FILE else pa.ipc.open_stream
        wanted = None if names is None else [self.names.index(name) for name in names]
        return opened(source, options=pa.ipc.IpcReadOptions(included_fields=wanted))

    def _batches(self, reader: Any) -> Iterator[pa.RecordBatch]:
        if hasattr(reader, "num_record_batches"):
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from reader

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Read columns, see the base."""
        start = 0
        with (
            arrow_errors(self.path),
            self._source() as source,
            self._reader(source, names) as reader,
        ):
            for whole in self._batches(reader):
                columns = whole.select(list(names))
                columns.validate(full=True)
                for first in range(0, columns.num_rows, BATCH_ROWS):
                    batch = columns.slice(first, BATCH_ROWS)
                    rows = np.arange(start, start + batch.num_rows)
                    start += batch.num_rows
                    yield Block(_by_name(batch), rows, [])


def _by_name(batch: pa.RecordBatch) -> dict[str, Cells]:
    return dict(zip(batch.schema.names, batch.columns, strict=True))
