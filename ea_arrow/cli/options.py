"""Options that several commands share."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ea_arrow.project import Project

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


def suggested(*arguments: str, directory: Path | None) -> str:
    """A command line to paste, naming the project unless it is found from here."""
    words = ["ea-arrow", *arguments]
    if directory is not None and directory != Path():
        words += ["--project", str(directory)]
    return shlex.join(words)


def open_project(directory: Path | None) -> Project:
    """Open the project that ``--project`` names."""
    from ea_arrow.project import open as open_in

    return open_in(directory)
