"""Options that several commands share."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ea_arrow.project import Project

MOST_THRESHOLDS = 1000
_SPECIAL_IN_DOUBLE_QUOTES = '"$`\\!'
MATCHES = ("data_hash", "source_id", "title", "name", "stem", "number", "position")
BOXES = ("xywh", "xyxy", "cxcywh", "yxhw", "yxyx")
FORMATS = ("table", "json", "ndjson", "csv", "md", "parquet")


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--project``."""
    return click.option(
        "--project",
        "directory",
        type=click.Path(path_type=Path),
        show_default="the nearest one from here upwards",
        help="Directory of the project.",
    )(command)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format`` for what is printed."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to print; parquet is binary and wants a file: > FILE.",
    )(command)


class FormatOption(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """``NAME=VALUE``."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the name and the value."""
        name, sign, text = str(value).partition("=")
        if not (name and sign):
            self.fail(f"{value!r}: expected NAME=VALUE, as in ea-arrow formats", param, ctx)
        return name.strip(), text.strip()


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--box``, ``--one-based`` and ``--option``."""
    for option in (
        click.option(
            "--option",
            "-o",
            "format_options",
            type=FormatOption(),
            multiple=True,
            metavar="NAME=VALUE",
            help="An option of the format (ea-arrow formats NAME).",
        ),
        click.option(
            "--one-based", is_flag=True, help="Pixels count from 1, corners are inclusive (VOC)."
        ),
        click.option(
            "--box", type=click.Choice(BOXES), help="Order of a box's numbers, if unusual."
        ),
    ):
        command = option(command)
    return command


class IouThresholds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """``0.5``, ``0.5,0.75`` or ``0.5:0.95:0.05`` (from, to, step)."""

    name = "iou"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the thresholds."""
        if isinstance(value, tuple):
            return value
        try:
            if ":" in value:
                return _range(*map(float, value.split(":")))
            return tuple(sorted({float(part) for part in value.split(",")}))
        except (TypeError, ValueError):
            self.fail(f"{value!r}: expected 0.5, 0.5,0.75 or 0.5:0.95:0.05", param, ctx)


def _range(low: float, high: float, step: float) -> tuple[float, ...]:
    """Return the thresholds that NumPy's linspace makes: pycocotools' own for 0.5:0.95:0.05."""
    import numpy as np

    if not (step > 0 and low <= high and math.isfinite(high)):
        raise ValueError
    count = round((high - low) / step) + 1
    if count > MOST_THRESHOLDS or not math.isclose(low + (count - 1) * step, high):
        raise ValueError
    return tuple(np.linspace(low, high, count).tolist())


class AreaRange(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """``NAME=LOW:HIGH`` in pixels²."""

    name = "area"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[float, float]]:
        """Return the name and the range."""
        name, _, ends = str(value).partition("=")
        low, _, high = ends.partition(":")
        try:
            return name, (float(low), float(high))
        except ValueError:
            self.fail(f"{value!r}: expected NAME=LOW:HIGH, as tiny=0:256", param, ctx)


def type_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--type``."""
    return click.option(
        "--type",
        "iou_type",
        type=click.Choice(["bbox", "segm"]),
        show_default="what the iteration holds",
        help="Compare boxes or masks.",
    )(command)


def threshold_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--iou`` for one threshold."""
    return click.option(
        "--iou",
        "iou_threshold",
        type=float,
        default=0.5,
        show_default=True,
        help="IoU from which a prediction can match a label.",
    )(command)


def subset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--where``, ``--slice`` and ``--no-cache``."""
    for option in (
        click.option(
            "--cache/--no-cache",
            default=True,
            help="Use and keep results; --no-cache computes again and keeps only drawn masks.",
        ),
        click.option("--slice", help="Only data units of this slice (see ea-arrow slices)."),
        click.option("--where", help="Only data units that meet an SQL condition."),
    ):
        command = option(command)
    return command


def suggested(*arguments: str, directory: Path | None) -> str:
    """A command line to paste, naming the project unless it is found from here."""
    words = ["ea-arrow", *arguments]
    if directory is not None and directory != Path():
        words += ["--project", str(directory)]
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """A word for the shell; SQL, which has single quotes of its own, stays readable."""
    if "'" in word and not any(character in word for character in _SPECIAL_IN_DOUBLE_QUOTES):
        return f'"{word}"'
    return shlex.quote(word)


def open_project(directory: Path | None) -> Project:
    """Open the project that ``--project`` names."""
    from ea_arrow.project import open as open_in

    return open_in(directory)
