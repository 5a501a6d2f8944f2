"""Commands on a project and its iterations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import (
    MATCHES,
    format_option,
    open_project,
    project_option,
    reading_options,
    suggested,
)
from ea_arrow.errors import RejectedRowsError


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default="ea-arrow-demo")
def demo(directory: Path) -> None:
    """Make a small data set in DIRECTORY and show the main job on it.

    \b
    Example:  ea-arrow demo
    """
    from ea_arrow.cli.tour import run

    run(directory)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Ground truth: COCO, YOLO, VOC, KITTI, CVAT, Encord, … (ea-arrow formats).",
)
@click.option("--format", "form", help="The format (ea-arrow formats); found by default.")
@click.option(
    "--ontology",
    type=click.Path(path_type=Path),
    help="Ontology of Encord label rows, where it is a file of its own.",
)
@click.option("--images", type=click.Path(path_type=Path), help="Directory of the images.")
@reading_options
def init(directory: Path, labels: Path | None, form: str | None, **options: Any) -> None:
    """Make a project in DIRECTORY from ground truth, or from images alone.

    \b
    Examples:  ea-arrow init my-project --labels instances_val.json
               ea-arrow init my-project --labels data.yaml --images images/val
               ea-arrow init my-project --images images/val
               ea-arrow init . --labels ~/encord-active/my-project --format encord
    """
    from ea_arrow.creation import init as make

    if labels is None and options["images"] is None:
        raise click.UsageError("Give --labels, or --images to make data units of.")
    options["options"] = dict(options.pop("format_options"))
    project = make(directory, labels, format=form, **options)
    units, classes = len(project.data_units), len(project.classes)
    found = f"{output.counted(units, 'data unit')}, {output.counted(classes, 'class')}"
    output.note(f"Made a project in {directory}: {found}.")
    if labels is None:
        output.note(f"Next: {suggested('labels', 'add', 'LABELS', directory=directory)}")
        return
    output.note("Labels:")
    if project.ledger:
        output.print_ledger(project.ledger)
    output.note(f"Next: {suggested('import', 'PREDICTIONS', directory=directory)}")


@click.group()
def labels() -> None:
    """Change the ground truth.

    \b
    Example:  ea-arrow labels add instances_more.json
    """


@labels.command("add")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Drop labels the same data units have so far.")
@click.option("--strict", is_flag=True, help="Write nothing if any row is refused.")
@click.option("--format", "form", help="The format (ea-arrow formats); found by default.")
@click.option(
    "--match", type=click.Choice(MATCHES), help="What names data units; by default what fits."
)
@click.option(
    "--ontology",
    type=click.Path(path_type=Path),
    help="Ontology of Encord label rows, where it is a file of its own.",
)
@click.option("--images", type=click.Path(path_type=Path), help="Directory of the images.")
@reading_options
@project_option
def add(source: Path, form: str | None, directory: Path | None, **options: Any) -> None:
    """Add the ground truth in SOURCE: more labels, or newer ones with --replace.

    \b
    Examples:  ea-arrow labels add instances_more.json
               ea-arrow labels add corrected/ --replace --images images/
    """
    options["options"] = dict(options.pop("format_options"))
    project = open_project(directory)
    try:
        result = project.add_labels(source, format=form, **options)
    except RejectedRowsError as error:
        output.print_ledger(error.ledger)
        raise
    ledger = result.ledger
    replaced = f", dropped {result.replaced:,} older" if options["replace"] else ""
    output.note(f"Added {output.counted(ledger.kept, 'label')}{replaced}.")
    output.print_ledger(ledger)
    for number, what in ((result.new_data_units, "data unit"), (result.new_classes, "class")):
        if number:
            output.note(
                f"  new {number:>13,}  {'data units' if what == 'data unit' else 'classes'}"
            )
    output.note(f"Next: {suggested('metrics', directory=directory)}")


@click.command()
@project_option
@format_option
def ls(directory: Path | None, form: str) -> None:
    """List the iterations, oldest first.

    \b
    Example:  ea-arrow ls --format json
    """
    from ea_arrow.reports import iteration_list

    table = iteration_list(open_project(directory))
    output.emit(table, form)
    if table.num_rows == 0:
        command = suggested("import", "PREDICTIONS", directory=directory)
        output.note(f"No iterations yet. Next: {command}")


@click.command()
@click.argument("name")
@project_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print.",
)
def show(name: str, directory: Path | None, form: str) -> None:
    """Show where iteration NAME came from, and its history.

    \b
    Example:  ea-arrow show epoch-3
    """
    from ea_arrow.reports import fact_lines, iteration_facts

    facts = iteration_facts(open_project(directory), name)
    if form == "json":
        click.echo(json.dumps(facts, indent=2))
        return
    for key, lines in fact_lines(facts).items():
        for index, line in enumerate(lines):
            click.echo(f"{key if index == 0 else '':<14}{output.cell(line, None)}")


@click.command()
@click.argument("name")
@project_option
def rm(name: str, directory: Path | None) -> None:
    """Remove iteration NAME; its history stays until `compact`.

    \b
    Example:  ea-arrow rm epoch-3
    """
    project = open_project(directory)
    project.remove(name)
    version = project.history(name)[0]["version"] - 1
    output.note(
        f"Removed '{name}'. Until 'ea-arrow compact' deletes its files, Python reads it with"
    )
    output.note(f"  ea_arrow.open({str(project.root)!r}).predictions({name!r}, version={version})")


@click.command()
@click.option(
    "--keep-hours",
    type=click.FloatRange(min=0),
    default=168.0,
    show_default=True,
    help="Keep files younger than this; an import that runs now may still need them.",
)
@project_option
def compact(keep_hours: float, directory: Path | None) -> None:
    """Delete the files of removed iterations and of crashed imports.

    \b
    Example:  ea-arrow compact --keep-hours 24
    """
    deleted = open_project(directory).compact(keep_hours=keep_hours)
    output.note(f"Deleted {output.counted(deleted, 'file')} that no iteration needs.")
    if keep_hours:
        output.note(
            f"Files younger than {keep_hours:g} hours stay; --keep-hours 0 deletes them too."
        )


@click.command()
@project_option
@format_option
def ontology(directory: Path | None, form: str) -> None:
    """List every class with its name, shape and hashes.

    \b
    Examples:  ea-arrow ontology
               ea-arrow print ontology --format json
    """
    table = open_project(directory).classes.to_arrow()
    if form == "table":
        table = table.select(
            ["kind", "name", "shape", "feature_hash", "attribute_hash", "option_hash", "path"]
        )
    output.emit(table, form)


@click.group("print")
def print_() -> None:
    """Print the ontology (as Encord Active's `print ontology`)."""


print_.add_command(ontology)
