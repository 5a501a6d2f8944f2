"""The command ``metrics``, and SQL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import (
    AreaRange,
    IouThresholds,
    format_option,
    open_project,
    project_option,
    subset_options,
    suggested,
    threshold_option,
    type_option,
)

if TYPE_CHECKING:
    from ea_arrow.project import Project
    from ea_arrow.results import Result


MOST_NAMED = 3
_OF_OBJECTS = ("iou_type", "iou_thresholds", "areas", "max_detections", "ignore_unmatched_frames")


@click.command()
@click.argument("name", required=False)
@click.option("--by", type=click.Choice(["class", "slice"]), help="One row per class or slice.")
@click.option(
    "--protocol",
    type=click.Choice(["coco", "encord", "classification"]),
    show_default="coco, and classification where there are any",
    help="How predictions and labels are paired and averaged.",
)
@type_option
@click.option(
    "--iou",
    "iou_thresholds",
    type=IouThresholds(),
    show_default="0.5:0.95:0.05; of encord 0.5",
    help="IoU thresholds: 0.5, or 0.5,0.75, or from:to:step.",
)
@click.option(
    "--area",
    "areas",
    type=AreaRange(),
    multiple=True,
    help="An area range in pixels², as tiny=0:256; instead of COCO's. Repeatable.",
)
@click.option(
    "--max-detections",
    type=click.IntRange(1),
    multiple=True,
    show_default="1, 10, 100",
    help="Predictions counted per data unit and class. Repeatable.",
)
@click.option(
    "--ignore-unmatched-frames",
    is_flag=True,
    help="With --protocol encord: recall over data units with predictions only.",
)
@subset_options
@project_option
@format_option
def metrics(
    name: str | None, by: str | None, directory: Path | None, form: str, **options: Any
) -> None:
    """Metrics of iteration NAME, or of all iterations.

    Protocol coco equals pycocotools to the last bit. JSON and the like have one row per number.

    \b
    Examples:  ea-arrow metrics
               ea-arrow metrics epoch-3 --by class
               ea-arrow metrics epoch-3 --type segm --iou 0.5 --where "width > 1000"
               ea-arrow metrics epoch-3 --format json
    """
    _check_effect(by, options)
    project = open_project(directory)
    names = [name] if name else list(project.iterations)
    if not names:
        command = suggested("import", "PREDICTIONS", directory=directory)
        output.note(f"No iterations yet. Next: {command}")
    areas = dict(options.pop("areas"))
    options["areas"] = {"all": (0.0, 1e10), **areas} if areas else None
    options["max_detections"] = options["max_detections"] or None
    print_metrics(project, names, by=by, form=form, **options)


def _check_effect(by: str | None, options: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    areas = [area for area, _ in options["areas"]]
    if len(set(areas)) < len(areas) or "all" in areas:
        raise click.UsageError("Give each --area a name of its own; 'all' is there already.")
    if by == "slice" and options["slice"]:
        raise click.UsageError("Give either --slice or --by slice.")


def print_metrics(
    project: Project,
    names: list[str],
    *,
    by: str | None = None,
    form: str = "table",
    protocol: str | None = None,
    **options: Any,
) -> None:
    """Print the metrics of some iterations, with what to know about them."""
    from ea_arrow.reports import computed_at, long_metrics

    with project.at_once():
        protocols, found = _asked(project, names, by, protocol, options)
    if form != "table":
        tables = [result.to_arrow() for results in found for result in results.values()]
        output.emit(long_metrics(tables, by_class=by == "class"), form)
        return
    notes: dict[str, list[str]] = {}
    computed: list[str] = []
    for number, (chosen, results) in enumerate(zip(protocols, found, strict=True)):
        if number:
            click.echo()
        _show(project, results, by_question=chosen == "classification", by_class=by == "class")
        for name, result in results.items():
            for note in result.notes:
                notes.setdefault(note, []).append(name)
        computed += computed_at({name: result.to_arrow() for name, result in results.items()})
    for text, about in notes.items():
        who = f"{len(about)} iterations" if len(about) > MOST_NAMED else ", ".join(about)
        output.note(f"{who}: {text}")
    for text in computed:
        output.note(text)


def _asked(
    project: Project,
    names: list[str],
    by: str | None,
    protocol: str | None,
    options: dict[str, Any],
) -> tuple[list[str], list[dict[str, Result]]]:
    """Ask under each protocol that matters."""
    about_objects = any(options.get(name) for name in _OF_OBJECTS)
    protocols = [protocol] if protocol else _protocols(project, names, about_objects)
    found = []
    for chosen in protocols:
        asked = {**options, "protocol": chosen}
        if by == "slice":
            found.append(_by_slice(project, names, asked))
        else:
            chosen_names = names if protocol else _holding(project, names, chosen)
            found.append({name: project.metrics(name, **asked) for name in chosen_names})
    return protocols, found


def _protocols(project: Project, names: list[str], about_objects: bool) -> list[str]:
    """Those of what the iterations hold; if only objects are asked about, that of objects."""
    if about_objects:
        return ["coco"]
    held = {form for name in names for form in project.formats(name)}
    answers = ["classification"] if "classification" in held else []
    objects = ["coco"] if held - {"classification"} or not answers else []
    return objects + answers


def _holding(project: Project, names: list[str], protocol: str) -> list[str]:
    """Of classifications only those iterations that hold some; of objects all."""
    if protocol != "classification":
        return names
    return [name for name in names if "classification" in project.formats(name)]


def _by_slice(project: Project, names: list[str], asked: dict[str, Any]) -> dict[str, Result]:
    if not project.slices:
        raise click.UsageError("There are no slices yet. See 'ea-arrow slices --help'.")
    found = {}
    for name in names:
        found[f"{name} all"] = project.metrics(name, **asked)
        for part in project.slices:
            found[f"{name} {part}"] = project.metrics(name, **{**asked, "slice": part})
    return found


def _show(
    project: Project, results: dict[str, Result], *, by_question: bool, by_class: bool
) -> None:
    from ea_arrow.reports import (
        metric_lines,
        metrics_by_class,
        metrics_by_iteration,
        metrics_by_question,
    )

    tables = {name: result.to_arrow() for name, result in results.items()}
    if by_class:
        for number, (name, table) in enumerate(tables.items()):
            if number:
                click.echo()
            output.show(*metrics_by_class(name, table))
    elif by_question:
        output.show(*metrics_by_question(project, tables))
    elif len(tables) == 1:
        for name, table in tables.items():
            output.show(*metric_lines(name, table))
    elif tables:
        output.show(*metrics_by_iteration(tables))


@click.command()
@click.argument("sql", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True),
    help="Read the query from a file; - for standard input.",
)
@click.option(
    "--protocol",
    type=click.Choice(["coco", "encord"]),
    default="coco",
    show_default=True,
    help="Of the view matches.",
)
@type_option
@threshold_option
@project_option
@format_option
def query(
    sql: str | None, file: Path | None, directory: Path | None, form: str, **options: Any
) -> None:
    """Run one SQL SELECT over the project (DuckDB; it cannot write).

    Views: predictions, predictions_details, labels, labels_details, data_units, classes,
    iterations, matches, metrics, rejects. `describe predictions` lists columns. --protocol, --type
    and --iou say which matches the view matches holds.

    \b
    Examples:  ea-arrow query "select iteration, outcome, count(*) from matches group by all"
               ea-arrow query -f worst.sql --format parquet > worst.parquet
    """
    if (sql is None) == (file is None):
        raise click.UsageError("Give either a query or --file.")
    if file is not None:
        try:
            sql = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise click.UsageError(f"{file}: is not UTF-8 text.") from error
    output.emit(open_project(directory).sql(sql or "", **options).to_arrow(), form)
