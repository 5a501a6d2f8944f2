"""The export command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import FormatOption, open_project, project_option, suggested

if TYPE_CHECKING:
    from ea_arrow.exporting import ExportResult

FORMATS = ("coco", "yolo", "kitti", "parquet", "csv", "pickle", "encord")


@click.command()
@click.argument("name", required=False)
@click.option("--to", "to", required=True, type=click.Choice(FORMATS), help="Format to write.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    show_default="named after the iteration, here",
    help="File or directory to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file, or what an earlier export made.")
@click.option(
    "--option",
    "-o",
    "given",
    type=FormatOption(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of the format (ea-arrow formats NAME): classes=encord_active of pickle; "
    "task=segment of yolo, where boxes and masks become the four corners of their boxes.",
)
@project_option
def export(
    name: str | None,
    to: str,
    out: Path | None,
    overwrite: bool,
    given: tuple[tuple[str, str], ...],
    directory: Path | None,
) -> None:
    """Write the predictions of iteration NAME, or without NAME the labels, for other programs.

    coco: results or instances JSON. yolo, kitti: a directory of text files. parquet, csv: our own
    columns, with everything there is. pickle: a list of Prediction objects. encord: the directory
    that Encord Active shows, labels included.

    \b
    Examples:  ea-arrow export epoch-3 --to coco --out results.json
               ea-arrow export --to yolo --out labels
               ea-arrow export epoch-3 --to pickle --option classes=encord_active

    What a format cannot say is counted and printed; nothing is left out in silence.
    """
    from ea_arrow.exporting import export as write
    from ea_arrow.exports.registry import TARGETS

    project = open_project(directory)
    result = write(project, name, to, out, overwrite=overwrite, options=dict(given))
    print_account(result, name)
    target = TARGETS[to]
    if target.format is not None:
        output.note(f"Next: {_next(result, name, target.format, directory)}")


def print_account(result: ExportResult, name: str | None) -> None:
    """Print what was written and what was not, on stderr."""
    what = f"'{name}'" if name else "the labels"
    output.note(f"Exported {what} to {result.path} ({output.counted(result.files, 'file')})")
    output.note(f"  written  {result.rows:>12,}")
    for why, number in result.left_out.items():
        output.note(f"  left out {number:>12,}  {why}")
    for text, number in result.notes.items():
        output.note(f"  note     {number:>12,}  {text}")


def _next(result: ExportResult, name: str | None, form: str, directory: Path | None) -> str:
    """How what was written is read again: predictions by import, labels by init."""
    from ea_arrow.exports.units import SIZES

    if name is None:
        sizes = result.path / SIZES
        more = []
        if form in ("yolo", "kitti"):
            more = ["--format", form, "--option", f"sizes={sizes}"]
        return suggested("init", "NEW-PROJECT", "--labels", str(result.path), *more, directory=None)
    words = ["import", str(result.path), "--as", f"{name}-again", "--format", form]
    more = [word for pair in result.reading.items() for word in ("--option", "=".join(pair))]
    return suggested(*words, *more, directory=directory)
