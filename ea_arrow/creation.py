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
    RejectedRowsError,
    SourceError,
)
from ea_arrow.files import FileWriter, sync
from ea_arrow.normalise import Normaliser
from ea_arrow.ontology import Ontology
from ea_arrow.project import Project
from ea_arrow.publication import keep_messages, new_import_id
from ea_arrow.rejects import reject_rows
from ea_arrow.schema import DATA_UNITS, LABELS, REJECTS, SCHEMA_VERSION
from ea_arrow.sources.base import Coordinates, GroundTruth
from ea_arrow.sources.images import Images
from ea_arrow.sources.registry import read_ground_truth
from ea_arrow.store import FOLDER, Store
from ea_arrow.tables import Table, local
from ea_arrow.transfers import label_reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ea_arrow.ledger import Ledger
    from ea_arrow.sources.formats import Layout


def init(
    path: str | Path,
    labels: str | Path | None = None,
    *,
    format: str | None = None,
    ontology: str | Path | None = None,
    images: str | Path | None = None,
    box: Layout | None = None,
    one_based: bool = False,
    options: Mapping[str, str] | None = None,
) -> Project:
    """Make a project from ground truth, or from images alone.

    Args:
        path: The directory for it; made if it is not there.
        labels: The ground truth, in one of the formats that ``ea-arrow formats`` lists; without
            it ``images`` become data units without labels (see :meth:`Project.add_labels`).
        format: Its format; found from the content by default.
        ontology: The ontology of Encord label rows, where it is a file of its own.
        images: The directory with the images, to which ``data_units.uri`` then points; formats
            that do not say how large images are need it.
        box: The order of a box's four numbers, if it is not the format's own.
        one_based: Pixels count from 1 and corners are inclusive.
        options: Options of the format.

    Returns:
        The project; its ``ledger`` accounts for every label.

    Raises:
        ProjectExistsError: There is a project already.
        SourceError: The ground truth cannot be read.
    """
    if labels is None and images is None:
        raise ProjectError("Give labels, or images to make data units of.")
    root, source = local(path), local(labels or images or "")
    _check_free(root)
    reading = label_reading(box, images, ontology, options, one_based=one_based)
    truth = _of_images(source) if labels is None else read_ground_truth(source, format, reading)
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
        if images is not None and labels is not None:
            units = _with_images(units, local(images), truth.notes)
        Table(staged / DATA_UNITS.name, DATA_UNITS).append(units, {"action": "init"})
        normalise = Normaliser(units, truth.ontology.to_table(), truth.coordinates, "labels")
        _write_labels(staged, truth.labels, normalise, source)
        ledger = normalise.finish()
        _check_ledger(ledger)
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


def _check_ledger(ledger: Ledger) -> None:
    """Refuse ground truth of which no label could be kept."""
    if ledger.read and not ledger.kept:
        first = ledger.messages[next(iter(ledger.rejects))]
        message = f"No label could be kept: {ledger.read:,} of {ledger.read:,} refused: {first}"
        raise RejectedRowsError(message, ledger=ledger)


def _of_images(images: Path) -> GroundTruth:
    """Ground truth of images nobody has labelled."""
    found = Images(images)
    units = found.data_units()
    notes = {"images whose size cannot be read, left out": len(found.unreadable)}
    coordinates = Coordinates(relative=False, unit_key="source_id", class_key="source_id")
    ontology = Ontology({"objects": [], "classifications": []})
    return GroundTruth(units, ontology, iter(()), coordinates, notes if found.unreadable else {})


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
    import_id = new_import_id()
    metadata = {"action": "init", "import_id": import_id}
    labels, rejects = Table(folder / LABELS.name, LABELS), Table(folder / REJECTS.name, REJECTS)
    with (
        FileWriter(labels.root, LABELS, {}, import_id) as kept,
        FileWriter(rejects.root, REJECTS, {}, import_id) as refused,
    ):
        for raw in batches:
            batch = normalise(raw)
            kept.write(batch.rows)
            if batch.rejected.num_rows:
                rows = reject_rows(batch, import_id=import_id, iteration=None, source=source.name)
                keep_messages(batch, rows, normalise.ledger)
                refused.write_all(rows)
    labels.commit([kept.action()], metadata=metadata)
    rejects.commit([refused.action()], metadata=metadata)
