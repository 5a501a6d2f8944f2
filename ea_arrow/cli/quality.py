"""Commands on quality metrics: values, the metrics themselves, and what drives performance."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import (
    format_option,
    open_project,
    project_option,
    suggested,
    threshold_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from ea_arrow.project import Project

TARGETS = ("prediction", "label", "image")
DIRECTIONS = ("high", "low", "both", "none")
_SHOWN = 76


@click.command()
@click.argument("name", required=False)
@click.option(
    "--target", type=click.Choice(TARGETS), help="What about; predictions, or images with --images."
)
@click.option("--only", multiple=True, help="Some of the metrics; may be given again, or a,b.")
@click.option("--rows", is_flag=True, help="Print every row, not a summary of each metric.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Measure the images below this directory first; '-' for where data units say they are.",
)
@project_option
@format_option
def quality(
    name: str | None,
    target: str | None,
    only: tuple[str, ...],
    rows: bool,
    images: Path | None,
    directory: Path | None,
    form: str,
) -> None:
    """Show quality metrics of the predictions of iteration NAME, of labels or of images.

    Those that need no pixels are computed when first asked for, and kept.

    \b
    Examples:  ea-arrow quality epoch-3
               ea-arrow quality --target label --only object_duplicates
               ea-arrow quality --images images/val
               ea-arrow quality epoch-3 --rows --format parquet > quality.parquet
    """
    project = open_project(directory)
    target = target or ("prediction" if images is None else "image")
    if images is not None:
        _measure(project, None if images == Path("-") else images)
    if name is not None and target != "prediction":
        raise click.UsageError(f"'{name}' is an iteration, and {target}s are of none.")
    chosen = [part.strip() for text in only for part in text.split(",")] or None
    result = project.quality(name, target=target, only=chosen)  # type: ignore[arg-type]  # one of the three
    table = result.to_arrow()
    if rows:
        output.emit(table, form)
        return
    import pyarrow.compute as pc

    from ea_arrow.reports import quality_summary

    if name is None and target == "prediction" and len(project.iterations) > 1:
        output.note(f"All {len(project.iterations)} iterations together; name one to see it alone.")
    known = {m["metric"]: m for m in project.quality_metrics()}
    _tell_missing(table, known)
    summary = quality_summary(table, known)
    if form == "table" and not only:
        empty = [row["metric"] for row in summary.to_pylist() if not row["rows"]]
        summary = summary.filter(pc.greater(summary["rows"], 0))
        if empty:
            output.note(f"Without any value here: {', '.join(empty)}.")
    output.emit(summary, form)
    if name is not None:
        output.note(f"Next: {suggested('drivers', name, directory=directory)}")


def _tell_missing(table: pa.Table, known: dict[str, Any]) -> None:
    """Say which functions have to be given again: their values are of other rows."""
    for name in table.schema.names:
        is_function = name in known and str(known[name]["source"]).startswith("Python: ")
        if is_function and len(table) and table[name].null_count == len(table):
            output.note(
                f"'{name}' is a Python function, which is not kept: "
                f"project.add_quality_metric('{name}', function, replace=True) computes it here."
            )


def _measure(project: Project, images: Path | None) -> None:
    with _progress() as progress:
        found = project.measure_images(images, progress=progress)
    output.note(
        f"Measured {output.counted(found.decoded, 'image')}; {found.reused:,} were measured before."
    )
    if found.failed:
        titles = {u["data_hash"]: u["title"] or u["source_id"] for u in project.data_units}
        rows = found.table.select(["data_hash", "error"]).to_pylist()
        first = next(row for row in rows if row["error"])
        name = titles.get(first["data_hash"], first["data_hash"])
        output.note(f"  {found.failed:>12,}  could not be; first: {name}: {first['error']}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show how many images are done, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Measuring images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@click.command()
@click.argument("name")
@click.option("--metric", help="Show the bins of this metric, as a plot on a terminal.")
@click.option("--target", type=click.Choice(["prediction", "label"]), help="Only of these.")
@click.option("--bins", default=10, show_default=True, help="Quantile bins of each metric.")
@click.option(
    "--svg",
    type=click.Path(path_type=Path),
    help="Write the plot of --metric to this file; with both targets one file each.",
)
@threshold_option
@project_option
@format_option
def drivers(
    name: str,
    metric: str | None,
    target: str | None,
    bins: int,
    svg: Path | None,
    iou_threshold: float,
    directory: Path | None,
    form: str,
) -> None:
    """Rank quality metrics by what they say about where iteration NAME is wrong.

    Of predictions the rate is precision, of labels the share that was missed; each with a 95 %
    interval. Metrics of an image repeat for all of its objects: their intervals are too narrow.
    mutual_information is in nats; direction says where errors gather; the worst bin lies between
    worst_low and worst_high; spread is the best bin's rate less the worst's; is_clear means that
    two bins differ more than chance would make any two.

    \b
    Examples:  ea-arrow drivers epoch-3
               ea-arrow drivers epoch-3 --metric object_area_relative
               ea-arrow drivers epoch-3 --metric brightness --svg brightness.svg
    """
    import pyarrow.compute as pc

    if svg is not None and metric is None:
        raise click.UsageError("--svg needs --metric.")
    project = open_project(directory)
    ranking, found = project.drivers(name, bins=bins, iou_threshold=iou_threshold)
    table = (ranking if metric is None else found).to_arrow()
    for column, value in (("target", target), ("metric", metric)):
        if value is not None:
            table = table.filter(pc.equal(table[column], value))
    if metric is None:
        hidden = [c for c in ("iteration", "undefined", "overall_rate") if form == "table"]
        output.emit(table.drop_columns(hidden), form)
        first = ranking.to_arrow()["metric"][0].as_py() if len(ranking) else "METRIC"
        command = suggested("drivers", name, "--metric", first, directory=directory)
        output.note(f"Next: {command}")
        return
    if not table.num_rows:
        known = sorted(set(ranking.to_arrow()["metric"].to_pylist()))
        raise click.UsageError(f"There are no values of '{metric}'. There are: {', '.join(known)}.")
    if svg is not None:
        _write_svg(table, name, metric, svg)
    if form == "table":
        _plot(table, name, metric)
    else:
        output.emit(table, form)


def _plot(table: pa.Table, name: str, metric: str) -> None:
    import shutil

    from ea_arrow.quality.plots import terminal_plot

    encoding = sys.stdout.encoding or "ascii"
    width = shutil.get_terminal_size().columns
    for part in _by_target(table):
        click.echo(terminal_plot(part, f"{name}: {metric}", width, encoding=encoding))


def _write_svg(table: pa.Table, name: str, metric: str, path: Path) -> None:
    from ea_arrow.errors import ExportError
    from ea_arrow.quality.plots import svg_plot

    parts = _by_target(table)
    for part in parts:
        target = part["target"][0].as_py()
        place = path if len(parts) == 1 else path.with_stem(f"{path.stem}-{target}")
        try:
            place.write_text(svg_plot(part, f"{name}: {metric}"), encoding="utf-8")
        except OSError as error:
            raise ExportError(f"{place}: cannot be written: {error.strerror}.") from error
        output.note(f"Wrote {place}")


def _by_target(table: pa.Table) -> list[pa.Table]:
    import pyarrow.compute as pc

    names = table["target"].unique().to_pylist()
    return [table.filter(pc.equal(table["target"], name)) for name in names]


@click.group("quality-metrics", invoke_without_command=True)
@project_option
@format_option
@click.pass_context
def quality_metrics(context: click.Context, directory: Path | None, form: str) -> None:
    """List quality metrics, built-in ones and your own; add or remove your own.

    \b
    Example:  ea-arrow quality-metrics
    """
    if context.invoked_subcommand is not None:
        return
    table = open_project(directory).quality_metrics().to_arrow()
    if form == "table":
        import pyarrow as pa

        docs = [doc if len(doc) <= _SHOWN else f"{doc[: _SHOWN - 1]}…"
                for doc in table["doc"].to_pylist()]  # fmt: skip
        targets = [", ".join(names) for names in table["targets"].to_pylist()]
        needs = [", ".join(names) for names in table["needs"].to_pylist()]
        table = pa.table(
            {
                "metric": table["metric"],
                "of": targets,
                "needs": needs,
                "look at": table["direction"],
                "what": docs,
            }
        )
    output.emit(table, form)


@quality_metrics.command("add")
@click.argument("name")
@click.option("--sql", required=True, help="An SQL expression over metrics and columns.")
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="prediction",
    show_default=True,
    help="What it is about.",
)
@click.option("--doc", default="", help="What it measures.")
@click.option(
    "--direction",
    type=click.Choice(DIRECTIONS),
    default="both",
    show_default=True,
    help="Which values ask for a look.",
)
@click.option("--replace", is_flag=True, help="Put it in the place of one of that name.")
@project_option
def add(
    name: str,
    sql: str,
    target: str,
    doc: str,
    direction: str,
    replace: bool,
    directory: Path | None,
) -> None:
    """Add a metric of your own, NAME, as an SQL expression.

    \b
    Example:  ea-arrow quality-metrics add sure_and_small --sql "confidence / object_area_relative"

    It may use the other metrics and the columns of predictions_details, labels_details or
    data_units. A Python function is added from Python: project.add_quality_metric(name, function).
    """
    project = open_project(directory)
    project.add_quality_metric(
        name,
        sql,
        target=target,  # type: ignore[arg-type]  # one of the three
        doc=doc,
        direction=direction,  # type: ignore[arg-type]  # one of the four
        replace=replace,
    )
    output.note(f"Added '{name}'.")
    command = suggested("quality", "--target", target, "--only", name, directory=directory)
    output.note(f"Next: {command}")


@quality_metrics.command("rm")
@click.argument("name")
@project_option
def remove(name: str, directory: Path | None) -> None:
    """Remove your own metric NAME.

    \b
    Example:  ea-arrow quality-metrics rm sure_and_small
    """
    open_project(directory).remove_quality_metric(name)
    output.note(f"Removed '{name}'.")
