"""Printing tables: for people aligned, for programs as JSON, CSV, Markdown or Parquet."""

from __future__ import annotations

import base64
import json
import math
import shutil
import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from ea_arrow.ledger import Ledger

MAX_ROWS = 1000
MAX_CELL = 60
MOST_RECORDS = 20


def emit(table: pa.Table, form: str) -> None:
    """Print a table to stdout in one of ``options.FORMATS``, with numbers in full but in tables."""
    if form == "parquet":
        _parquet(table)
    elif form == "csv":
        _csv(table)
    elif form == "json":
        rows = [_plain_row(table.schema.names, row) for row in _values(table)]
        click.echo(json.dumps(rows, indent=2, allow_nan=False))
    elif form == "ndjson":
        for row in _values(table):
            click.echo(json.dumps(_plain_row(table.schema.names, row), allow_nan=False))
    elif form == "md":
        _markdown(table)
    else:
        show(table.schema.names, list(_values(table.slice(0, MAX_ROWS))))
        if table.num_rows > MAX_ROWS:
            note(f"{MAX_ROWS:,} of {table.num_rows:,} rows shown; --format csv prints all.")


def show(names: list[str], rows: list[list[Any]]) -> None:
    """Print rows as an aligned table; numbers to the right."""
    on_terminal = sys.stdout.isatty()
    lines = _aligned(names, rows, MAX_CELL if on_terminal else None)
    if on_terminal and max(map(len, lines)) > shutil.get_terminal_size().columns:
        lines = list(_one_below_the_other(names, rows[:MOST_RECORDS]))
        if len(rows) > MOST_RECORDS:
            note(f"{MOST_RECORDS} of {len(rows):,} rows, too wide for a table; --format csv: all.")
    for line in lines:
        click.echo(line)


def _aligned(names: list[str], rows: list[list[Any]], most: int | None) -> list[str]:
    """Lines with columns as wide as they need, whatever the terminal: a cut number would lie."""
    columns = []
    for index, name in enumerate(names):
        values = [row[index] for row in rows]
        texts = [cell(name), *(cell(value, most) for value in values)]
        widths = [_width(text) for text in texts]
        fill = [" " * (max(widths) - width) for width in widths]
        if any(isinstance(v, int | float | Decimal) for v in values):
            columns.append([space + text for text, space in zip(texts, fill, strict=True)])
        else:
            columns.append([text + space for text, space in zip(texts, fill, strict=True)])
    head, *body = ("  ".join(line) for line in zip(*columns, strict=True))
    return [head.rstrip(), "─" * _width(head), *(line.rstrip() for line in body)]


def _width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum((east_asian_width(c) in "WF") + (not combining(c)) for c in text)


def _one_below_the_other(names: list[str], rows: list[list[Any]]) -> Iterator[str]:
    """A line per value, for rows that are wider than the terminal."""
    width = max(map(len, names))
    for number, row in enumerate(rows):
        yield f"row {number + 1}"
        for name, value in zip(names, row, strict=True):
            yield f"  {cell(name):<{width}}  {cell(value, None)}"


def cell(value: Any, most: int | None = MAX_CELL) -> str:
    """A value as it stands in a table for people, text cut to ``most`` characters."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    text = value if isinstance(value, str) else json.dumps(_plain(value))
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if most is None or len(text) <= most else f"{text[: most - 1]}…"


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 file``, ``1,000 files``.

    >>> counted(1, "class"), counted(0, "file")
    ('1 class', '0 files')
    """
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def note(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)


def print_ledger(ledger: Ledger) -> None:
    """Print the account of an import, on stderr: read = kept + each kind of reject."""
    from ea_arrow.ledger import NOTES, REJECTS

    note(f"  read {ledger.read:>12,}")
    note(f"  kept {ledger.kept:>12,}")
    for rule, number in ledger.rejects.items():
        note(f"  refused {number:>9,}  {REJECTS.get(rule, rule)}{_rows(ledger, rule, number)}")
        if rule in ledger.messages:
            note(f"{'':19}first: {cell(ledger.messages[rule], None)}")
    for kind, number in ledger.notes.items():
        note(f"  note {number:>12,}  {NOTES.get(kind, kind)}{_rows(ledger, kind, number)}")
    for choice in ledger.choices:
        note(f"  read as {'':9}  {choice}")
    for proposal in ledger.proposals:
        note(f"  try {'':13}  {proposal}")


def _rows(ledger: Ledger, kind: str, number: int) -> str:
    """Which source rows, or lines of files, as far as the ledger remembers them."""
    rows = ledger.examples.get(kind)
    if not rows:
        return ""
    more = ", …" if number > len(rows) else ""
    if isinstance(rows[0], str):
        return f" (at {', '.join(map(str, rows))}{more})"
    return f" (row{'s' if number > 1 else ''} {', '.join(map(str, rows))}{more})"


def _values(table: pa.Table) -> Iterator[list[Any]]:
    """The rows as lists of Python values; values that Python has no type for as text."""
    import pyarrow as pa

    for batch in table.to_batches():
        columns = []
        for column in batch.columns:
            try:
                columns.append(column.to_pylist())
            except (OverflowError, ValueError):  # the year 290000, a nanosecond
                columns.append(column.cast(pa.string()).to_pylist())
        yield from map(list, zip(*columns, strict=True))


def _plain_row(names: list[str], row: list[Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in zip(names, row, strict=True)}


def _plain(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinity become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode() if value.isascii() else base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _csv(table: pa.Table) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.schema.names)
    for row in _values(table):
        writer.writerow(map(_csv_cell, row))


def _csv_cell(value: Any) -> Any:
    """Nested values as JSON text, which CSV cannot hold otherwise; booleans as SQL writes them."""
    plain = _plain(value)
    if isinstance(plain, list | dict | bool):
        return json.dumps(plain)
    return "" if plain is None else plain


def _markdown(table: pa.Table) -> None:
    click.echo(_markdown_row(table.schema.names))
    click.echo(f"|{'---|' * table.num_columns}")
    for row in _values(table):
        click.echo(_markdown_row(row))


def _markdown_row(row: list[Any]) -> str:
    return f"| {' | '.join(cell(v).replace('|', chr(92) + '|') for v in row)} |"


def _parquet(table: pa.Table) -> None:
    import pyarrow.parquet as pq

    if sys.stdout.isatty():
        raise click.UsageError("Parquet is binary: send it to a file with > FILE.")
    pq.write_table(table, sys.stdout.buffer, compression="zstd")
