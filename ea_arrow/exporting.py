"""An export: predictions or labels out, in another program's format, whole or not at all.

Rows are read and written in pieces; memory does not grow with them. What is written appears under
its name when it is complete: a file, or a directory that says of itself, in the hidden file
``.ea-arrow-export``, what it consists of, so that nothing else in it is ever overwritten.
"""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import ExportError, did_you_mean
from ea_arrow.exports.base import Account, Subject
from ea_arrow.exports.registry import TARGETS as _TARGETS
from ea_arrow.files import writing
from ea_arrow.schema import PREDICTIONS
from ea_arrow.sources.formats import Format
from ea_arrow.store import FOLDER
from ea_arrow.stored import Predictions
from ea_arrow.tables import local

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ea_arrow.exports.base import Target
    from ea_arrow.project import Project
    from ea_arrow.store import Store

MARKER: Final = ".ea-arrow-export"

TARGETS: Final[Mapping[str, str]] = {name: target.doc for name, target in _TARGETS.items()}
"""What can be exported to, each with what it is."""


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        path: The file or directory.
        rows: Rows written.
        files: How many files.
        left_out: Rows that the format cannot say, counted by what they are; with ``rows`` these
            are all rows.
        notes: What is different about rows that are written, counted.
        reading: Options of the format by which predictions are read again as what they are.
    """

    path: Path
    rows: int
    files: int
    left_out: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    reading: dict[str, str] = field(default_factory=dict)


def export(
    project: Project,
    name: str | None,
    to: str,
    path: str | Path | None = None,
    *,
    overwrite: bool = False,
    options: Mapping[str, str] | None = None,
) -> ExportResult:
    """Write an iteration's predictions, or the labels, in another program's format.

    Args:
        project: The project.
        name: The iteration; None for the labels.
        to: The format: ``coco``, ``yolo``, ``kitti``, ``parquet``, ``csv``, ``pickle`` or
            ``encord``.
        path: The file or directory to write; by default one in the current directory, named after
            the iteration.
        overwrite: Replace the file, or the directory that an earlier export made.
        options: The format's own options.

    Returns:
        What was written, and an account of what the format cannot say.

    Raises:
        IterationNotFoundError: There is no such iteration.
        ExportError: The format is unknown or cannot hold this, something is there already, or no
            row can be written.
        ProjectError: It cannot be written there.
    """
    target = _target(to)
    Format.check(target, options or {})  # type: ignore[arg-type]  # which has name and options, too
    subject = _subject(project._store, name, options or {})
    if subject.is_labels and not target.labels:
        raise ExportError(
            f"'{to}' holds predictions; labels alone cannot be written in it.",
            hint="Name an iteration, or export the labels to coco, yolo, kitti, parquet or csv.",
        )
    final = local(path) if path is not None else default_path(name, target)
    with writing(final):
        final = final.resolve() if final.is_symlink() else final
        _check_place(final, target, overwrite=overwrite)
    return _write(subject, target, final, overwrite=overwrite)


def default_path(name: str | None, target: Target) -> Path:
    """Where an export goes unless another place is named.

    >>> default_path("epoch-3", _TARGETS["coco"]).name, default_path(None, _TARGETS["yolo"]).name
    ('epoch-3.json', 'labels-yolo')
    """
    stem = name or "labels"
    return local(f"{stem}{target.suffix}" if target.suffix else f"{stem}-{target.name}")


def _target(name: str) -> Target:
    if name not in _TARGETS:
        listed = f"expected one of {', '.join(TARGETS)}"
        raise ExportError(f"'{name}' cannot be exported to; {listed}.",
                          hint=did_you_mean(name, TARGETS))  # fmt: skip
    return _TARGETS[name]


def _subject(store: Store, name: str | None, options: Mapping[str, str]) -> Subject:
    if name is None:
        labels = store.labels()

        def read() -> Iterator[pa.RecordBatch]:
            yield from labels.to_batches()

        return Subject(store, None, len(labels), _formats(labels), read, options)
    table = store.table(PREDICTIONS)
    iteration = store.iteration(name, table)
    predictions = Predictions(table, iteration.files)  # opens them: they stay as they are
    counted = table.read(["format"], files=iteration.files, as_dictionary=["format"])
    return Subject(
        store, iteration, len(predictions), _formats(counted), predictions.batches, options
    )


def _formats(table: pa.Table) -> dict[str, int]:
    counts = pc.value_counts(table["format"]).to_pylist()
    return {count["values"]: count["counts"] for count in counts}


# -- the place -------------------------------------------------------------------------------------


def _check_place(path: Path, target: Target, *, overwrite: bool) -> None:
    """Refuse to write where something is that no export wrote.

    Raises:
        ExportError: It is not to be overwritten.
    """
    if FOLDER in path.parts:
        raise ExportError(f"{path}: lies inside of a project's own files.")
    if not path.exists():
        return
    if not (path.is_file() or path.is_dir()):  # a file would take the place of the device
        raise ExportError(f"{path}: is a pipe or device; exports are files and directories.")
    if target.suffix:
        if path.is_dir():
            raise ExportError(f"{path}: is a directory; {target.name} is a file.")
        if not overwrite:
            raise _exists(path)
        return
    if not path.is_dir():
        raise ExportError(f"{path}: is a file; {target.name} is a directory.")
    foreign = _below(path) - _entries(path) - {MARKER}
    if foreign:
        raise ExportError(
            f"{path}: holds what no export wrote: {', '.join(sorted(foreign)[:3])}.",
            hint="Name another directory with --out, or one that is empty.",
        )
    if not overwrite and _entries(path):
        raise _exists(path)


def _below(path: Path) -> set[str]:
    """Everything below a directory, by its path there."""
    return {entry.relative_to(path).as_posix() for entry in path.rglob("*")}


def _exists(path: Path) -> ExportError:
    return ExportError(
        f"{path}: is there already; nothing was written.",
        hint="Replace it with --overwrite, or name another place with --out.",
    )


def _entries(path: Path) -> set[str]:
    """What the export that made a directory put into it."""
    try:
        found: Any = json.loads((path / MARKER).read_text(encoding="utf-8"))["entries"]
        return {entry for entry in found if isinstance(entry, str)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


# -- writing ---------------------------------------------------------------------------------------


def _write(subject: Subject, target: Target, path: Path, *, overwrite: bool) -> ExportResult:
    account = Account()
    made = [folder for folder in path.parents if not folder.exists()]
    staged = path.parent / f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with writing(path):
            staged.mkdir(parents=True)
            target.write(subject, staged, path.name, account)
            _check_account(subject, target, account)
            files = sum(entry.is_file() for entry in staged.rglob("*"))
            if target.suffix:
                _publish_files(staged, path, overwrite=overwrite)
            else:
                _publish_directory(staged, path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        for folder in made:  # deepest first
            with suppress(OSError):
                folder.rmdir()
        raise
    counts = dict(account.left_out), dict(account.notes)
    return ExportResult(path, account.written, files, *counts, account.reading)


def _check_account(subject: Subject, target: Target, account: Account) -> None:
    """Every row is written or left out, and not all of them left out.

    Raises:
        ExportError: It is not so.
    """
    left_out = sum(account.left_out.values())
    if account.written + left_out != subject.rows:
        what = f"{account.written:,} rows written, {left_out:,} left out, of {subject.rows:,}"
        raise ExportError(f"The export lost rows: {what}. This is a defect of ea-arrow.")
    if left_out and not account.written:
        what = "; ".join(f"{n:,} {why}" for why, n in account.left_out.items())
        raise ExportError(
            f"None of the rows can be written as {target.name}: {what}.",
            hint="Export to parquet or csv, which hold everything.",
        )


def _publish_files(staged: Path, path: Path, *, overwrite: bool) -> None:
    """Move the files to their names, the one asked for last."""
    others = sorted(entry for entry in staged.iterdir() if entry.name != path.name)
    for entry in others:
        if (path.parent / entry.name).exists() and not overwrite:
            raise _exists(path.parent / entry.name)
    for entry in (*others, staged / path.name):
        entry.replace(path.parent / entry.name)
    staged.rmdir()


def _publish_directory(staged: Path, path: Path) -> None:
    entries = sorted(_below(staged))
    (staged / MARKER).write_text(json.dumps({"entries": entries}) + "\n", encoding="utf-8")
    old = staged.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        staged.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
