"""Printing tables: for people with rich, for programs as JSON, CSV, Markdown or Parquet."""

from __future__ import annotations

import base64
import json
import math
import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa

    from ea_arrow.ledger import Ledger

MAX_ROWS = 1000
MAX_CELL = 60


def emit(table: pa.Table, form: str) -> None:
    """Print a table to stdout in one of ``options.FORMATS``, with numbers in full but in tables."""
    if form == "parquet":
        _parquet(table)
    elif form == "csv":
        _csv(table)
    elif form == "json":
        click.echo(
            json.dumps([_plain_row(r) for r in table.to_pylist()], indent=2, allow_nan=False)
        )
    elif form == "ndjson":
        for batch in table.to_batches():
            for row in batch.to_pylist():
                click.echo(json.dumps(_plain_row(row), allow_nan=False))
    elif form == "md":
        _markdown(table)
    else:
        rows = [list(r.values()) for r in table.slice(0, MAX_ROWS).to_pylist()]
        show(table.schema.names, rows)
        if table.num_rows > MAX_ROWS:
            note(f"{MAX_ROWS:,} of {table.num_rows:,} rows shown; --format csv prints all.")


def show(names: list[str], rows: list[list[Any]]) -> None:
    """Print rows as an aligned table; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(names):
        values = [row[index] for row in rows]
        numeric = any(isinstance(v, int | float | Decimal) for v in values)
        shown.add_column(Text(name), justify="right" if numeric else "left")
    for row in rows:
        shown.add_row(*(Text(cell(value)) for value in row))
    on_terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if on_terminal else 10_000, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def cell(value: Any) -> str:
    """A value as it stands in a table for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) >= 1e4 or value == 0 else f"{value:.4f}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    text = value if isinstance(value, str) else json.dumps(_plain(value))
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def note(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)


def print_ledger(ledger: Ledger) -> None:
    """Print the account of an import, on stderr: read = kept + each kind of reject."""
    from ea_arrow.ledger import NOTES, REJECTS

    note(f"  read {ledger.read:>12,}")
    note(f"  kept {ledger.kept:>12,}")
    for rule, number in ledger.rejects.items():
        note(f"  refused {number:>9,}  {REJECTS.get(rule, rule)}{_rows(ledger, rule)}")
    for kind, number in ledger.notes.items():
        note(f"  note {number:>12,}  {NOTES.get(kind, kind)}{_rows(ledger, kind)}")


def _rows(ledger: Ledger, kind: str) -> str:
    rows = ledger.examples.get(kind)
    return f" (rows {', '.join(map(str, rows))}{', …' if len(rows) > 2 else ''})" if rows else ""


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


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
    return float(value) if isinstance(value, Decimal) else str(value)


def _flat(table: pa.Table) -> pa.Table:
    """Nested and binary columns as JSON text, which CSV cannot hold otherwise."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        nested = pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
        if nested:
            texts = [None if v is None else json.dumps(_plain(v)) for v in table[index].to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def _csv(table: pa.Table) -> None:
    import csv

    writer = csv.writer(click.get_text_stream("stdout"), lineterminator="\n")
    writer.writerow(table.schema.names)
    for batch in _flat(table).to_batches():
        for row in batch.to_pylist():
            writer.writerow(["" if v is None else _plain(v) for v in row.values()])


def _markdown(table: pa.Table) -> None:
    click.echo(f"| {' | '.join(table.schema.names)} |")
    click.echo(f"|{'---|' * table.num_columns}")
    for row in table.to_pylist():
        cells = (cell(v).replace("|", "\\|") for v in row.values())
        click.echo(f"| {' | '.join(cells)} |")


def _parquet(table: pa.Table) -> None:
    import pyarrow.parquet as pq

    out = click.get_binary_stream("stdout")
    if out.isatty():
        raise click.UsageError("Parquet is binary: send it to a file with > FILE.")
    pq.write_table(table, out, compression="zstd")
