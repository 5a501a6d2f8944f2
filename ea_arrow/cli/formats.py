"""The formats command: what can be read and written, and how each format is read."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import format_option
from ea_arrow.errors import SourceError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from ea_arrow.sources.formats import Format

_WIDTH = 96


@click.command()
@click.argument("name", required=False)
@format_option
def formats(name: str | None, form: str) -> None:
    """List the formats that are read and written, or explain format NAME.

    \b
    Examples:  ea-arrow formats
               ea-arrow formats yolo
    """
    if name is None:
        output.emit(_table(), form)
        output.note("'ea-arrow formats NAME' explains one: columns, options, an example.")
        return
    from ea_arrow.sources.registry import LABELS, PREDICTIONS

    found: list[tuple[str, Format | None]] = [
        ("Predictions", PREDICTIONS.get(name)),
        ("Ground truth", LABELS.get(name)),
    ]
    if not any(known for _, known in found):
        near = did_you_mean(name, [*PREDICTIONS, *LABELS])
        hint = f"{near} See 'ea-arrow formats'." if near else "See 'ea-arrow formats'."
        raise SourceError(f"There is no format '{name}'.", hint=hint)
    for what, known in found:
        if known is not None:
            _explain(what, known)


def _explain(what: str, known: Format) -> None:
    command = "import" if what == "Predictions" else "init DIR --labels"
    given = "DIR or FILES" if known.many else "FILE"
    click.echo(f"{what} in format '{known.name}': {known.doc}\n")
    for paragraph in known.about.split("\n"):
        click.echo(textwrap.fill(paragraph, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    click.echo("\n  Example:\n")
    click.echo(textwrap.indent(known.example, "    "))
    for index, option in enumerate(known.options):
        click.echo("" if index else "\n  Options, given as --option NAME=VALUE:\n")
        choices = f" ({' | '.join(option.choices)})" if option.choices else ""
        default = f" Default: {option.default}." if option.default else ""
        text = f"{option.name}{choices}: {option.doc}{default}"
        click.echo(textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      "))
    click.echo(f"\n  ea-arrow {command} {given} --format {known.name}\n")


def _table() -> pa.Table:
    import pyarrow as pa

    from ea_arrow.exporting import TARGETS
    from ea_arrow.sources.registry import LABELS, PREDICTIONS

    names = list(dict.fromkeys((*PREDICTIONS, *LABELS, *TARGETS)))
    docs = {name: known.doc for name, known in (*LABELS.items(), *PREDICTIONS.items())}
    docs |= {name: doc for name, doc in TARGETS.items() if name not in docs}
    columns = {
        "format": names,
        "import": ["yes" if name in PREDICTIONS else "" for name in names],
        "init --labels": ["yes" if name in LABELS else "" for name in names],
        "export": ["yes" if name in TARGETS else "" for name in names],
        "what": [docs[name] for name in names],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
