"""The formats command: what can be read and written, and how each format is read."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import format_option
from ea_arrow.errors import SourceError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from ea_arrow.exports.base import Target
    from ea_arrow.sources.formats import Format, Option

_WIDTH = 96
_DIRECTIONS = ("import", "init --labels", "export")


@click.command()
@click.argument("name", required=False)
@format_option
def formats(name: str | None, form: str) -> None:
    """List the formats that are read and written, or explain format NAME.

    \b
    Examples:  ea-arrow formats
               ea-arrow formats yolo
               ea-arrow formats yolo --format json
    """
    if name is None:
        output.emit(_listed(), form)
        output.note("'ea-arrow formats NAME' explains one: columns, options, an example.")
        return
    parts = list(_parts(name))
    if not parts:
        known = {part.name for part in _all()}
        near = did_you_mean(name, sorted(known))
        hint = f"{near} See 'ea-arrow formats'." if near else "See 'ea-arrow formats'."
        raise SourceError(f"There is no format '{name}'.", hint=hint)
    if form != "table":
        output.emit(_data(parts), form)
        return
    for part in parts:
        _explain(part)


@dataclass(frozen=True)
class _Part:
    """One direction of a format.

    Attributes:
        name: The format.
        direction: What it is for: one of ``_DIRECTIONS``.
        heading: What begins its explanation.
        doc: One line.
        about: Paragraphs; none if empty.
        example: Some lines; none if empty.
        options: Its own options.
        command: The command line.
    """

    name: str
    direction: str
    heading: str
    doc: str
    about: str
    example: str
    options: tuple[Option, ...]
    command: str


def _all() -> Iterator[_Part]:
    """Every direction of every format."""
    from ea_arrow.exports.registry import TARGETS
    from ea_arrow.sources.registry import LABELS, PREDICTIONS

    yield from (_read(known, "import", "Predictions in format") for known in PREDICTIONS.values())
    yield from (
        _read(known, "init --labels", "Ground truth in format") for known in LABELS.values()
    )
    yield from (_written(target) for target in TARGETS.values())


def _parts(name: str) -> Iterator[_Part]:
    """What there is of a format: with the exports that it reads again under another name."""
    from ea_arrow.exports.registry import TARGETS

    again = {target.name for target in TARGETS.values() if target.format == name}
    for part in _all():
        if part.name == name or (part.direction == "export" and part.name in again):
            yield part


def _read(known: Format, direction: str, heading: str) -> _Part:
    command = "init DIR --labels PATH"
    if direction == "import":
        command = f"import {'DIR' if known.many else 'FILE'}"
    return _Part(
        name=known.name,
        direction=direction,
        heading=heading,
        doc=known.doc,
        about=known.about,
        example=known.example,
        options=known.options,
        command=f"ea-arrow {command} --format {known.name}",
    )


def _written(target: Target) -> _Part:
    again = f"It is read as format '{target.format}': ea-arrow formats {target.format}."
    if target.format is None:
        again = "It is not read again."
    elif target.format == target.name:
        again = ""
    name = "[NAME]" if target.labels else "NAME"
    place = f"FILE{target.suffix}" if target.suffix else "DIR"
    return _Part(
        name=target.name,
        direction="export",
        heading="Export to",
        doc=target.doc,
        about=f"{target.about} {again}".strip(),
        example="",
        options=target.options,
        command=f"ea-arrow export {name} --to {target.name} --out {place}",
    )


def _explain(part: _Part) -> None:
    click.echo(f"{part.heading} '{part.name}': {part.doc}\n")
    for paragraph in part.about.split("\n") if part.about else ():
        click.echo(textwrap.fill(paragraph, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    if part.example:
        click.echo("\n  Example:\n")
        click.echo(textwrap.indent(part.example, "    "))
    for index, option in enumerate(part.options):
        click.echo("" if index else "\n  Options, given as --option NAME=VALUE:\n")
        choices = f" ({' | '.join(option.choices)})" if option.choices else ""
        default = f" Default: {option.default}." if option.default else ""
        text = f"{option.name}{choices}: {option.doc}{default}"
        click.echo(textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      "))
    click.echo(f"\n  {part.command}\n")


def _data(parts: list[_Part]) -> pa.Table:
    """The explanation as a table, a row per direction."""
    import pyarrow as pa

    options = [
        [
            {"name": o.name, "doc": o.doc, "choices": list(o.choices), "default": o.default}
            for o in part.options
        ]
        for part in parts
    ]
    text = pa.string()
    kind = pa.struct(
        {"name": text, "doc": text, "choices": pa.list_(text), "default": text}.items()
    )
    columns = {
        "format": [part.name for part in parts],
        "direction": [part.direction for part in parts],
        "doc": [part.doc for part in parts],
        "about": [part.about for part in parts],
        "example": [part.example or None for part in parts],
        "command": [part.command for part in parts],
    }
    arrays = {name: pa.array(values, text) for name, values in columns.items()}
    return pa.table(arrays | {"options": pa.array(options, pa.list_(kind))})


def _listed() -> pa.Table:
    """A row for each thing that a format is: directions of one description share it."""
    import pyarrow as pa

    rows: dict[tuple[str, str], set[str]] = {}
    for part in _all():
        rows.setdefault((part.name, part.doc), set()).add(part.direction)
    names = list(dict.fromkeys(name for name, _ in rows))
    keys = sorted(rows, key=lambda key: names.index(key[0]))
    columns = {"format": [name for name, _ in keys]}
    columns |= {way: ["yes" if way in rows[key] else "" for key in keys] for way in _DIRECTIONS}
    columns["what"] = [doc for _, doc in keys]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
