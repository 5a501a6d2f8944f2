"""Tables that are text: values separated by commas or tabs, and lines of JSON.

CSV stays text, so that an id ``007`` or ``1e5`` is what it was; a row that cannot be split into
columns is told with its number.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut
from ea_arrow.sources import table_base
from ea_arrow.sources.base import BATCH_ROWS
from ea_arrow.sources.byte_streams import ByteStream
from ea_arrow.sources.json_files import garbage_collection_paused
from ea_arrow.sources.table_base import MOST_NAMES, Block, TableFile, arrow_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ea_arrow.sources.columns import Cells

HEADER_BYTES: Final = 1 << 20
"""The names of columns stand within so much."""

BOM: Final = b"\xef\xbb\xbf"
_SHOWN: Final = 200


def header_of(line: str) -> tuple[list[str], str]:
    """Split the header of a CSV file.

    Returns:
        Its names, and what separates them: that of comma, tab and semicolon that gives most.

    >>> header_of("a;b, c;d")
    (['a', 'b, c', 'd'], ';')
    """
    found: tuple[list[str], str] = ([], ",")
    for separator in (",", "\t", ";"):
        try:
            names = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            continue
        if len(names) > len(found[0]):
            found = ([name.strip() for name in names], separator)
    return found


class CsvTable(TableFile):
    """Values separated by commas, tabs or semicolons, below a header; compressed by gzip or not."""

    kind = "csv"

    def _look(self) -> None:
        with ByteStream(self.path) as stream:
            lines = stream.read(HEADER_BYTES).removeprefix(BOM).splitlines()
        first = next((line for line in lines if line.strip()), b"")
        self._skipped = lines.index(first) + 1 if first else 0
        try:
            self.names, self._separator = header_of(first.decode())
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.path} is not text in UTF-8; expected a table.") from error
        if not self.names or len(self.names) > MOST_NAMES:
            message = f"{self.path}: its first line is {cut(first)}; expected names of columns."
            raise SourceError(message)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Read columns, see the base."""
        wanted = [self.names.index(name) for name in names]
        refused: list[tuple[int, str, str]] = []
        numbering = _Numbering(refused)
        with arrow_errors(self.path), ByteStream(self.path) as stream:
            for batch in self._reader(stream, [f"c{i}" for i in wanted], refused):
                for first in range(0, batch.num_rows, BATCH_ROWS):
                    part = batch.slice(first, BATCH_ROWS)
                    rows, broken = numbering.take(part.num_rows)
                    yield Block(dict(zip(names, part.columns, strict=True)), rows, broken)
            if refused:
                empty = dict.fromkeys(names, pa.nulls(0, pa.string()))
                yield Block(empty, np.zeros(0, np.int64), list(refused))
            if stream.quotes % 2:
                message = f"{self.path}: a quotation mark is opened and never closed."
                raise SourceError(message, hint="Double the quotation marks within values.")

    def _reader(
        self, stream: ByteStream, columns: list[str], refused: list[tuple[int, str, str]]
    ) -> Iterator[pa.RecordBatch]:
        from pyarrow import csv as arrow_csv

        def refuse(row: Any) -> str:
            message = (
                f"The row has {row.actual_columns} values; expected {row.expected_columns}: "
                f"{cut(clean_text(row.text[:_SHOWN]))}."
            )
            refused.append((row.number - 1 - self._skipped, "invalid_data", message))
            return "skip"

        options = {
            "read_options": arrow_csv.ReadOptions(
                block_size=table_base.BLOCK_BYTES,
                use_threads=False,  # else rows that are refused have no numbers
                column_names=[f"c{i}" for i in range(len(self.names))],
                skip_rows=self._skipped,
            ),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self._separator, newlines_in_values=True, invalid_row_handler=refuse
            ),
            "convert_options": arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=columns,
                strings_can_be_null=True,
                null_values=[""],
            ),
        }
        try:
            yield from arrow_csv.open_csv(pa.PythonFile(stream, mode="r"), **options)
        except pa.ArrowInvalid as error:
            told = str(error)
            if "straddling" in told:
                message = f"{self.path}: a row has more than {table_base.BLOCK_BYTES:,} bytes."
                raise SourceError(message, hint="Is a quotation mark never closed?") from error
            if "Empty CSV" not in told and "Could not skip" not in told:  # no row below the header
                raise


class _Numbering:
    """Numbers of the rows that are kept, between those that were refused (reported early)."""

    def __init__(self, refused: list[tuple[int, str, str]]) -> None:
        self._refused = refused
        self._next = 0

    def take(self, n: int) -> tuple[NDArray[np.int64], list[tuple[int, str, str]]]:
        skipped = np.array([row for row, _, _ in self._refused], dtype=np.int64)
        numbers = np.arange(self._next, self._next + n + len(skipped))
        numbers = numbers[~np.isin(numbers, skipped)][:n]
        self._next = int(numbers[-1]) + 1 if n else self._next
        count = int(np.searchsorted(skipped, self._next))
        before, self._refused[:] = self._refused[:count], self._refused[count:]
        return numbers, before


class JsonLines(TableFile):
    """One JSON object a line; compressed by gzip or not."""

    kind = "ndjson"

    def _look(self) -> None:
        with ByteStream(self.path) as stream:
            lines = stream.read(HEADER_BYTES).removeprefix(BOM).splitlines()
        records = [_record(line) for line in lines[:1000] if line.strip()]
        if not records or not isinstance(records[0], dict):
            message = (
                f"{self.path} is not one JSON object a line: {cut(lines[0] if lines else b'')}."
            )
            raise SourceError(message, hint="Write each row as an object on a line of its own.")
        found = dict.fromkeys(key for r in records if isinstance(r, dict) for key in r)
        self.names = [clean_text(key) for key in found][:MOST_NAMES]

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Read columns, see the base; those that no line has are empty."""
        start = 0
        known = {*self.names, *names}
        self.unseen.clear()
        with ByteStream(self.path) as stream:
            for lines in _line_blocks(stream):
                with garbage_collection_paused():
                    records = _records(lines)
                good = [i for i, record in enumerate(records) if isinstance(record, dict)]
                kept = [records[i] for i in good]
                broken = [
                    (start + i, "invalid_data", f"The line is {cut(found)}; expected an object.")
                    for i, found in enumerate(records)
                    if not isinstance(found, dict)
                ]
                for record in kept:
                    if not record.keys() <= known:
                        self.unseen.update(clean_text(key) for key in record.keys() - known)
                columns: dict[str, Cells] = {n: [r.get(n) for r in kept] for n in names}
                yield Block(columns, np.array(good, np.int64) + start, broken)
                start += len(records)


def _line_blocks(stream: ByteStream) -> Iterator[list[bytes]]:
    """Lines that are not blank, some thousands at once."""
    rest = b""
    while data := stream.read(table_base.BLOCK_BYTES >> 1):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > table_base.BLOCK_BYTES * 8:
            raise SourceError(
                f"{stream.path}: a line has more than {table_base.BLOCK_BYTES * 8:,} bytes."
            )
        filled = [line for line in lines if line.strip()]
        for first in range(0, len(filled), BATCH_ROWS >> 2):
            yield filled[first : first + (BATCH_ROWS >> 2)]
    if rest.strip():
        yield [rest]


def _records(lines: list[bytes]) -> list[Any]:
    """The values of lines; what is no JSON is left as text."""
    try:
        found = json.loads(b"[" + b",".join(lines).removeprefix(BOM) + b"]")
    except (ValueError, RecursionError):
        found = []
    return found if len(found) == len(lines) else [_record(line) for line in lines]


def _record(line: bytes) -> Any:
    try:
        return json.loads(line.removeprefix(BOM))
    except (ValueError, RecursionError):
        return line[:_SHOWN].decode(errors="replace")
