"""Commands that answer: metrics and SQL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import format_option, open_project, project_option, suggested

if TYPE_CHECKING:
    from ea_arrow.project import Project


@click.command()
@click.argument("name", required=False)
@click.option("--by", type=click.Choice(["class"]), help="One row per class.")
@project_option
@format_option
def metrics(name: str | None, by: str | None, directory: Path | None, form: str) -> None:
    """COCO box metrics of iteration NAME, or of all iterations.

    Equal to pycocotools to the last bit. JSON and the like have one row per number.

    \b
    Examples:  ea-arrow metrics
               ea-arrow metrics epoch-3 --by class
               ea-arrow metrics epoch-3 --format json
    """
    from ea_arrow.reports import long_metrics

    project = open_project(directory)
    names = [name] if name else list(project.iterations)
    if not names:
        command = suggested("import", "PREDICTIONS", directory=directory)
        output.note(f"No iterations yet. Next: {command}")
    if form == "table":
        print_metrics(project, names, by_class=by == "class")
    else:
        output.emit(long_metrics(project, names, by_class=by == "class"), form)


def print_metrics(project: Project, names: list[str], *, by_class: bool = False) -> None:
    """Print the metrics of some iterations for people, with what each number means."""
    from ea_arrow.reports import (
        box_note,
        id_zero_note,
        metric_lines,
        metrics_by_class,
        metrics_by_iteration,
    )

    if by_class:
        for number, name in enumerate(names):
            if number:
                click.echo()
            output.show(*metrics_by_class(project, name))
    elif len(names) == 1:
        output.show(*metric_lines(project, names[0]))
    elif names:
        output.show(*metrics_by_iteration(project, names))
    for name in names:
        for warning in (box_note(project, name), id_zero_note(project, name)):
            if warning:
                output.note(warning)


@click.command()
@click.argument("sql", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True),
    help="Read the query from a file; - for standard input.",
)
@project_option
@format_option
def query(sql: str | None, file: Path | None, directory: Path | None, form: str) -> None:
    """Run one SQL SELECT over the project (DuckDB; it cannot write).

    Views: predictions, predictions_details, labels, labels_details, data_units, classes,
    iterations, matches, metrics, rejects. `describe predictions` lists columns.

    \b
    Examples:  ea-arrow query "select outcome, count(*) from matches group by all"
               ea-arrow query -f worst.sql --format parquet > worst.parquet
    """
    if (sql is None) == (file is None):
        raise click.UsageError("Give either a query or --file.")
    if file is not None:
        try:
            sql = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise click.UsageError(f"{file}: is not UTF-8 text.") from error
    output.emit(open_project(directory).sql(sql or "").to_arrow(), form)
