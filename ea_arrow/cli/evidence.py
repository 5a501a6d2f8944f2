"""Commands that say which objects are right, wrong and why: matches, errors, confusion, curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import (
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
    from collections.abc import Mapping
    from pathlib import Path

_protocol = click.option(
    "--protocol",
    type=click.Choice(["coco", "encord"]),
    default="coco",
    show_default=True,
    help="How predictions and labels are paired.",
)


@click.command()
@click.argument("name")
@_protocol
@type_option
@threshold_option
@subset_options
@project_option
@format_option
def matches(name: str, directory: Path | None, form: str, **options: Any) -> None:
    """What became of each prediction and label of iteration NAME, a row each.

    \b
    Examples:  ea-arrow matches epoch-3 --iou 0.75 --format parquet > matches.parquet
               ea-arrow matches epoch-3 --protocol encord --where "title like 'night%'"
    """
    output.emit(open_project(directory).matches(name, **options).to_arrow(), form)


@click.command()
@click.argument("name")
@click.option("--by", type=click.Choice(["class"]), help="One row per class.")
@_protocol
@type_option
@threshold_option
@subset_options
@project_option
@format_option
def errors(name: str, by: str | None, directory: Path | None, form: str, **options: Any) -> None:
    """How many errors of each kind iteration NAME makes.

    False positives: localisation, class confusion, duplicate, background, both; labels not found:
    missed, or hidden by a localisation error or a class confusion. The kinds are TIDE's.

    \b
    Examples:  ea-arrow errors epoch-3
               ea-arrow errors epoch-3 --by class --iou 0.75
    """
    from ea_arrow.reports import error_counts, footer

    project = open_project(directory)
    found = project.matches(name, **options).to_arrow()
    output.emit(error_counts(found, project.classes.to_arrow(), by_class=by == "class"), form)
    if form == "table":
        iou, protocol = options["iou_threshold"], options["protocol"]
        output.note(footer(found, iou_threshold=iou, protocol=protocol))
        given = {"type": options["iou_type"], "where": options["where"], "slice": options["slice"]}
        given["iou"] = None if iou == 0.5 else str(iou)
        given["protocol"] = None if protocol == "coco" else protocol
        more = [w for key, value in given.items() if value for w in (f"--{key}", value)]
        command = suggested("matches", name, *more, directory=directory)
        output.note(f"The objects, a row each: {command}")


@click.command()
@click.argument("name")
@click.option("--confidence", type=float, help="Only predictions of at least this score.")
@click.option(
    "--protocol",
    type=click.Choice(["coco", "classification"]),
    show_default="classification where there is nothing else",
    help="coco for objects, classification for answers.",
)
@type_option
@threshold_option
@subset_options
@project_option
@format_option
def confusion(name: str, directory: Path | None, form: str, **options: Any) -> None:
    """Which classes iteration NAME takes for which.

    The diagonal holds the true positives of protocol coco (with a label of the id 0, if it was
    found, which pycocotools leaves out); what is left over is paired across
    classes; the rest is background. Rows are labels, columns predictions.

    \b
    Examples:  ea-arrow confusion epoch-3 --confidence 0.5
               ea-arrow confusion epoch-3 --iou 0.75 --format csv
    """
    from ea_arrow.reports import (
        MOST_PAIRS,
        MOST_SQUARE,
        confusion_pairs,
        confusion_square,
        footer,
    )

    project = open_project(directory)
    asked = options["protocol"]
    held = project.formats(name)
    options["protocol"] = asked or _confused(held, options)
    table = project.confusion(name, **options).to_arrow()
    if form != "table":
        output.emit(table, form)
        return
    square = confusion_square(table)
    if len(square[0]) <= MOST_SQUARE + 1:
        output.show(*square)
    else:
        output.show(*confusion_pairs(table))
        output.note(f"The {MOST_PAIRS} most frequent confusions; --format csv prints all cells.")
    least = options["confidence"]
    above = "any confidence" if least is None else f"confidence from {least:g}"
    output.note(f"Rows are labels, columns predictions; {above}.")
    output.note(footer(table, iou_threshold=options["iou_threshold"]))
    if not asked and options["protocol"] == "coco" and "classification" in held:
        more = suggested("confusion", name, "--protocol", "classification", directory=directory)
        output.note(f"It holds classifications too: {more}")


def _confused(held: Mapping[str, int], options: Mapping[str, Any]) -> str:
    """The protocol of what an iteration holds; coco if something is asked about objects."""
    about_objects = (
        options["iou_type"] or options["confidence"] is not None or options["iou_threshold"] != 0.5
    )
    return "classification" if set(held) == {"classification"} and not about_objects else "coco"


@click.command("operating-points")
@click.argument("name")
@click.option("--by", type=click.Choice(["class"]), help="One row per class.")
@click.option("--confidence", type=float, help="At this score instead of the best F1.")
@click.option("--curve", is_flag=True, help="Every point instead of the best.")
@type_option
@threshold_option
@subset_options
@project_option
@format_option
def operating_points(
    name: str,
    by: str | None,
    confidence: float | None,
    curve: bool,
    directory: Path | None,
    form: str,
    **options: Any,
) -> None:
    """Precision, recall and F1 of iteration NAME, at the confidence where F1 is best.

    \b
    Examples:  ea-arrow operating-points epoch-3 --by class
               ea-arrow operating-points epoch-3 --confidence 0.5
               ea-arrow operating-points epoch-3 --curve --format csv > curve.csv
    """
    from ea_arrow.metrics.operating import at, best
    from ea_arrow.reports import footer, operating_lines

    if curve and confidence is not None:
        raise click.UsageError("Give either --curve or --confidence.")
    if confidence is not None and not math.isfinite(confidence):
        raise click.UsageError(f"A confidence is a number, got {confidence}.")
    points = open_project(directory).operating_points(name, **options).to_arrow()
    if not curve:
        points = best(points) if confidence is None else at(points, confidence)
    if form == "table":
        output.show(*operating_lines(points, by_class=by == "class"))
        what = "the highest F1" if confidence is None else f"confidence from {confidence:g}"
        at_what = "At every confidence" if curve else f"At {what}"
        output.note(f"{at_what}; at most 100 predictions per data unit and class.")
        output.note(footer(points, iou_threshold=options["iou_threshold"]))
        if not points.num_rows:
            output.note("No predictions of objects: there is no confidence to choose.")
    else:
        import pyarrow.compute as pc

        of_class = pc.is_valid(points["class"])
        chosen = of_class if by == "class" else pc.invert(of_class)
        output.emit(points.filter(chosen), form)


@click.command()
@click.argument("name")
@type_option
@click.option(
    "--iou",
    "iou_thresholds",
    type=IouThresholds(),
    default="0.5",
    show_default=True,
    help="IoU thresholds: 0.5, or 0.5,0.75, or from:to:step.",
)
@subset_options
@project_option
@format_option
def curves(name: str, directory: Path | None, form: str, **options: Any) -> None:
    """Precision and confidence against recall, of each class of iteration NAME.

    \b
    Example:  ea-arrow curves epoch-3 --iou 0.5 --format csv > curves.csv
    """
    areas = {"all": (0.0, 1e10)}
    output.emit(open_project(directory).curves(name, areas=areas, **options).to_arrow(), form)


@click.command()
@click.argument("name", required=False)
@click.option("--where", help="The SQL condition that data units of the slice meet.")
@click.option("--replace", is_flag=True, help="Replace the slice of that name.")
@click.option("--remove", is_flag=True, help="Forget the slice.")
@project_option
@format_option
def slices(
    name: str | None,
    where: str | None,
    replace: bool,
    remove: bool,
    directory: Path | None,
    form: str,
) -> None:
    """List the slices, or store a condition over data units as slice NAME.

    \b
    Examples:  ea-arrow slices night --where "title like 'night%'"
               ea-arrow slices large --where "width * height > 2e6"
               ea-arrow slices
    """
    import pyarrow as pa

    project = open_project(directory)
    if name is None:
        if where or remove or replace:
            raise click.UsageError("Name the slice.")
        found = project.slices
        if not found:
            output.note("No slices yet. See 'ea-arrow slices --help'.")
        names, conditions = list(found), list(found.values())
        columns = {
            "slice": pa.array(names, pa.string()),
            "where": pa.array(conditions, pa.string()),
        }
        output.emit(pa.table(columns), form)
    elif remove and (where is not None or replace):
        raise click.UsageError("--remove stands alone.")
    elif remove:
        project.remove_slice(name)
        output.note(f"Removed slice '{name}'.")
    elif where is None:
        raise click.UsageError("Give the condition with --where, or --remove.")
    else:
        count = project.add_slice(name, where, replace=replace)
        output.note(f"Slice '{name}': {output.counted(count, 'data unit')} now.")
        command = suggested("metrics", "--slice", name, directory=directory)
        output.note(f"Next: {command}")
