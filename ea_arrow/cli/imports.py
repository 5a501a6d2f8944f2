"""The import command."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import (
    MATCHES,
    open_project,
    project_option,
    reading_options,
    suggested,
)
from ea_arrow.errors import RejectedRowsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.importing import ImportResult
    from ea_arrow.project import Project


LOW_AP50 = 0.2
"""Below this an iteration may have been read as it was not meant."""


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--as", "name", help="Name of the iteration.", show_default="the first file's stem")
@click.option("--append", is_flag=True, help="Add to the iteration if it is there.")
@click.option("--replace", is_flag=True, help="Replace the iteration if it is there.")
@click.option("--strict", is_flag=True, help="Write nothing if any row is refused.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@click.option("--model", help="The model, for the record.")
@click.option("--format", "form", help="The format (ea-arrow formats); found by default.")
@click.option(
    "--match", type=click.Choice(MATCHES), help="What names data units; by default what fits."
)
@click.option(
    "--map",
    "classes",
    help="Which class each is: a file, id, name, index, shift:N, coco80, coco80-1 or coco91.",
)
@reading_options
@click.option("--relative/--pixels", default=None, help="Coordinates are fractions, or pixels.")
@click.option("--dedupe", is_flag=True, help="Drop rows that repeat an earlier one exactly.")
@click.option("--no-metrics", is_flag=True, help="Do not compute and print COCO metrics.")
@click.option("--no-quality", is_flag=True, help="Do not compute quality metrics yet.")
@project_option
def import_(files: tuple[Path, ...], **options: Any) -> None:
    """Import FILES of predictions as one iteration.

    \b
    Examples:  ea-arrow import preds.pkl
               ea-arrow import results.json --as epoch-3 --model yolo-v8
               ea-arrow import runs/detect/labels --as epoch-3 --map data.yaml
               ea-arrow import predictions preds.pkl --replace

    The word "predictions" before the files changes nothing: Encord Active had it there.
    """
    if files[0] == Path("predictions") and len(files) > 1 and not files[0].is_file():
        files = files[1:]  # `import predictions FILE`, as Encord Active has it
    if options["append"] and options["replace"]:
        raise click.UsageError("--append and --replace exclude each other.")
    project = open_project(options["directory"])
    try:
        with _progress() as progress:
            result = _run(project, files, options, progress)
    except RejectedRowsError as error:
        output.print_ledger(error.ledger)
        raise
    _report(project, result, options["directory"], metrics=not options["no_metrics"])
    if result.published and not options["no_quality"]:
        project.quality(result.iteration, only=["object_count"])  # computes and keeps all


def _run(
    project: Project,
    files: tuple[Path, ...],
    options: dict[str, Any],
    progress: Callable[[int], None] | None,
) -> ImportResult:
    mode = "append" if options["append"] else "replace" if options["replace"] else "create"
    return project.import_predictions(
        files,
        options["name"],
        mode=mode,  # type: ignore[arg-type]  # one of the three literals
        strict=options["strict"],
        dry_run=options["dry_run"],
        model=options["model"],
        format=options["form"],
        match=options["match"],
        classes=options["classes"],
        box=options["box"],
        relative=options["relative"],
        one_based=options["one_based"],
        dedupe=options["dedupe"],
        options=dict(options["format_options"]),
        progress=progress,
    )


def _report(
    project: Project, result: ImportResult, directory: Path | None, *, metrics: bool
) -> None:
    name, ledger = result.iteration, result.ledger
    done = "Imported" if result.published else "Dry run, nothing was written: would import"
    kept = output.counted(ledger.kept, "prediction")
    output.note(f"{done} {kept} as '{name}' in {result.seconds:.2f} s")
    output.print_ledger(ledger)
    if not ledger.read:
        output.note("  Nothing was read: the files are of this format, but hold no predictions.")
    if ledger.rejected and result.published:
        command = suggested("query", "select * from rejects", directory=directory)
        output.note(f"  Refused rows are kept: {command}")
    if not result.published:
        return
    if metrics:
        from ea_arrow.cli.answers import print_metrics

        print_metrics(project, [name])
    for words in _next(project, name, metrics=metrics):
        output.note(f"Next: {suggested(*words, directory=directory)}")


def _next(project: Project, name: str, *, metrics: bool) -> list[list[str]]:
    """What to do with a new iteration: doubt it, if it looks wrong."""
    if set(project.formats(name)) == {"classification"}:
        return [["metrics", name, "--protocol", "classification"]]
    sql = f"select outcome, count(*) from matches where iteration = '{name}' group by all"
    if not metrics:
        return [["doctor", name], ["query", sql]]
    found = project.metrics(name).to_arrow().to_pylist()
    ap50 = [m["value"] for m in found if m["metric"] == "AP50" and m["feature_hash"] is None]
    low = any(value is not None and value < LOW_AP50 for value in ap50)
    return [["doctor", name], ["query", sql]] if low else [["query", sql]]


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Show how many rows were read, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading …")
        yield lambda rows: bar.update(task, description=f"Read {rows:,} predictions")
