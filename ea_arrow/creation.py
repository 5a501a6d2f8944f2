"""Making a project from ground truth: all of it, or nothing."""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa

from ea_arrow import __version__
from ea_arrow.errors import (
    ProjectError,
    ProjectExistsError,
    SourceError,
)
from ea_arrow.files import FileWriter, sync
from ea_arrow.importing import (
    new_import_id,
)
from ea_arrow.normalise import Normaliser
from ea_arrow.project import Project
from ea_arrow.rejects import reject_rows
from ea_arrow.schema import DATA_UNITS, LABELS, REJECTS, SCHEMA_VERSION
from ea_arrow.sources.registry import read_ground_truth
from ea_arrow.store import FOLDER, Store
from ea_arrow.tables import Table, local

if TYPE_CHECKING:
    from collections.abc import Iterable


def init(
    path: str | Path,
    labels: str | Path,
    *,
    format: str | None = None,
    ontology: str | Path | None = None,
    images: str | Path | None = None,
) -> Project:
    """Make a project from ground truth.

    Args:
        path: The directory for it; made if it is not there.
        labels: COCO instances JSON, an Encord Active project directory, or Encord label rows.
        format: ``coco`` or ``encord``; found from the content by default.
        ontology: The ontology of Encord label rows, where it is a file of its own.
        images: The directory with the images, to which ``data_units.uri`` then points.

    Returns:
        The project; its ``ledger`` accounts for every label.

    Raises:
        ProjectExistsError: There is a project already.
        SourceError: The ground truth cannot be read.
    """
    root, source = local(path), local(labels)
    _check_free(root)
    truth = read_ground_truth(source, format, None if ontology is None else local(ontology))
    staged = root / f"{FOLDER}.{uuid.uuid4().hex[:8]}.tmp"
    made = _make_directories(root)
    try:
        staged.mkdir()
        marker = {
            "schema_version": SCHEMA_VERSION,
            "ea_arrow": __version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "labels": source.name,
        }
        Store.prepare(staged, truth.ontology, marker)
        units = truth.data_units
        if images is not None:
            units = _with_images(units, local(images), truth.notes)
        Table(staged / DATA_UNITS.name, DATA_UNITS).append(units, {"action": "init"})
        normalise = Normaliser(units, truth.ontology.to_table(), truth.coordinates, "labels")
        _write_labels(staged, truth.labels, normalise, source)
        ledger = normalise.finish()
        for note, number in truth.notes.items():
            ledger.count(note, [], number, reject=False)
        for path in (*staged.glob("*.json"), staged):
            sync(path)
        staged.rename(root / FOLDER)  # publishes everything at once
        sync(root)
    except OSError as error:
        _clear(staged, made)
        _check_free(root)  # another process was first
        raise ProjectError(f"{root}: the project cannot be written: {error.strerror}.") from error
    except BaseException:
        _clear(staged, made)
        raise
    return Project(root, ledger)


def _check_free(root: Path) -> None:
    if FOLDER in root.parts:
        raise ProjectError(f"{root}: lies inside of a project's own files.")
    if (root / FOLDER).exists():
        raise ProjectExistsError(
            f"{root}: there is a project already; nothing was changed.",
            hint="Import into it with 'ea-arrow import', or give another directory.",
        )


def _make_directories(root: Path) -> list[Path]:
    """Make the directory and those above it; return those that were not there, deepest first."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    return missing


def _clear(staged: Path, made: list[Path]) -> None:
    shutil.rmtree(staged, ignore_errors=True)
    for folder in made:
        with suppress(OSError):  # something else is in it by now
            folder.rmdir()


def _with_images(units: pa.Table, images: Path, notes: dict[str, int]) -> pa.Table:
    """Point each data unit's uri at the file of its title below a directory, where there is one."""
    if not images.is_dir():
        raise SourceError(f"{images}: is not a directory of images.")
    files = [path for path in images.rglob("*") if path.is_file()]
    by_path = {path.relative_to(images).as_posix(): path for path in files}
    names = Counter(path.name for path in files)
    by_name = {path.name: path for path in files if names[path.name] == 1}
    titles = units["title"].fill_null("").to_pylist()
    found = [by_path.get(t) or by_name.get(PurePosixPath(t).name) for t in titles]
    uris = [
        path.as_uri() if path else uri
        for path, uri in zip(found, units["uri"].to_pylist(), strict=True)
    ]
    missing = sum(path is None for path in found)
    if missing:
        notes["data units without an image of that name, or with several"] = missing
    index = units.schema.get_field_index("uri")
    return units.set_column(index, "uri", pa.array(uris, pa.string()))


def _write_labels(
    folder: Path, batches: Iterable[pa.RecordBatch], normalise: Normaliser, source: Path
) -> None:
    import_id, metadata = new_import_id(), {"action": "init"}
    labels, rejects = Table(folder / LABELS.name, LABELS), Table(folder / REJECTS.name, REJECTS)
    with (
        FileWriter(labels.root, LABELS, {}, import_id) as kept,
        FileWriter(rejects.root, REJECTS, {}, import_id) as refused,
    ):
        for raw in batches:
            batch = normalise(raw)
            kept.write(batch.rows)
            if batch.rejected.num_rows:
                refused.write_all(
                    reject_rows(batch, import_id=import_id, iteration=None, source=source.name)
                )
    labels.commit([kept.action()], metadata=metadata)
    rejects.commit([refused.action()], metadata=metadata)
