"""The public face of a project."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow import __version__, derived
from ea_arrow.errors import (
    IterationNotFoundError,
    ProjectError,
    ProjectExistsError,
    SourceError,
)
from ea_arrow.files import FileWriter
from ea_arrow.importing import (
    ImportOptions,
    ImportResult,
    Mode,
    import_predictions,
    new_import_id,
)
from ea_arrow.normalise import Normaliser
from ea_arrow.rejects import reject_rows
from ea_arrow.results import Result
from ea_arrow.schema import DATA_UNITS, LABELS, PREDICTIONS, REJECTS, SCHEMA_VERSION, STORED
from ea_arrow.sources.registry import read_ground_truth
from ea_arrow.store import FOLDER, Iteration, Store, find_root
from ea_arrow.tables import Table, local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ea_arrow.ledger import Ledger
    from ea_arrow.ontology import Ontology


class Project:
    """A data set's predictions, labels and metrics.

    Made by :func:`ea_arrow.init` and :func:`ea_arrow.open`.

    Attributes:
        root: Its directory.
        ledger: The account of the labels, on a project just made by ``init``; else None.
    """

    def __init__(self, root: Path, ledger: Ledger | None = None) -> None:
        self.root = root
        self.ledger = ledger
        self._store = Store(root)

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    # -- iterations ----------------------------------------------------------------------------

    def import_predictions(
        self,
        source: str | Path | Iterable[str | Path],
        iteration: str | None = None,
        *,
        mode: Mode = "create",
        strict: bool = False,
        dry_run: bool = False,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        format: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ImportResult:
        """Import one or more files of predictions as one iteration.

        Args:
            source: The file or files.
            iteration: The iteration's name; by default the first file's stem.
            mode: ``create`` it, ``append`` to it or ``replace`` it.
            strict: Write nothing if any row is refused.
            dry_run: Read and check everything, write nothing.
            model: The model, for the record.
            parameters: Anything else about the run, for the record; must be JSON.
            format: The files' format; found from their content by default.
            progress: Called with the number of rows read so far.

        Returns:
            What was read, kept and refused.

        Raises:
            IterationExistsError: It is there already and the mode is ``create``.
            IterationError: The name is invalid.
            RejectedRowsError: Rows were refused under ``strict``, or none could be kept.
            SourceError: A file cannot be read as predictions.
        """
        given = [source] if isinstance(source, str | os.PathLike) else list(source)
        paths = [local(path) for path in given]
        if not paths:
            raise ProjectError("No file to import was given.")
        options = ImportOptions(mode, strict, dry_run, model, parameters, format)
        name = paths[0].with_suffix("").stem if paths[0].suffix == ".gz" else paths[0].stem
        name = name if iteration is None else iteration
        return import_predictions(self._store, paths, name, options, progress)

    @property
    def iterations(self) -> dict[str, Iteration]:
        """Live iterations by name, oldest first."""
        return self._store.iterations()

    def remove(self, name: str) -> None:
        """Remove an iteration; its rows stay readable by version until :meth:`compact`.

        Raises:
            IterationNotFoundError: There is none of that name.
            ConflictError: Another process changed it at the same time.
        """
        predictions = self._store.table(PREDICTIONS)
        iteration = self._store.iteration(name, predictions)
        predictions.commit(
            remove=iteration.files,
            transaction=(name, predictions.transaction(name) + 1),
            metadata={"action": "rm", "iteration": name},
        )

    def history(self, name: str | None = None) -> list[dict[str, Any]]:
        """What happened to the predictions, or to one iteration, newest first.

        Returns:
            One dictionary per commit: ``version``, ``at``, ``action``, ``iteration`` and, for
            imports, the counts of the ledger. ``predictions(name, version=version)`` reads what was
            there after it.
        """
        found = []
        for commit in self._store.table(PREDICTIONS).history():
            if "ea_arrow" not in commit:
                continue
            at = datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            event = {"version": commit["version"], "at": at, **json.loads(commit["ea_arrow"])}
            if name is None or event.get("iteration") == name:
                found.append(event)
        return found

    def compact(self, *, keep_hours: float = 168.0) -> int:
        """Delete files that no live version needs, and results that nothing can use.

        Args:
            keep_hours: Files younger than this stay: they may belong to an import that runs now.

        Returns:
            How many files were deleted.
        """
        deleted = sum(len(self._store.table(spec).vacuum(keep_hours)) for spec in STORED)
        return deleted + derived.drop_stale(self._store, list(self.iterations.values()))

    # -- rows ----------------------------------------------------------------------------------

    def predictions(self, name: str, *, version: int | None = None) -> Result:
        """The predictions of an iteration, in arrival order.

        Args:
            name: The iteration.
            version: As of this version of the history, even if it was removed since.

        Raises:
            IterationNotFoundError: There is none of that name, or was none then.
        """
        table = self._store.table(PREDICTIONS, version=version)
        if version is None:
            self._store.iteration(name, table)
        elif not table.files({"iteration": name}):
            raise IterationNotFoundError(f"There was no iteration '{name}' in version {version}.")
        return Result(table.read(partition={"iteration": name}))

    @property
    def labels(self) -> Result:
        """The ground truth."""
        return Result(self._store.labels())

    @property
    def data_units(self) -> Result:
        """The images and frames."""
        return Result(self._store.data_units())

    @property
    def classes(self) -> Result:
        """The classes, one row each."""
        return Result(self._store.classes())

    @property
    def ontology(self) -> Ontology:
        """The classes, as Encord's document."""
        return self._store.ontology()

    # -- answers -------------------------------------------------------------------------------

    def metrics(self, name: str, *, protocol: str = "coco") -> Result:
        """COCO box metrics of an iteration: the 12 numbers over all classes and for each.

        Args:
            name: The iteration.
            protocol: ``coco`` equals pycocotools, which never counts a label with the id 0 as
                found; ``coco_id_zero_counts`` does, and has rows only where there is one.

        Raises:
            IterationNotFoundError: There is none of that name.
        """
        table = derived.metrics(self._store, self._store.iteration(name))
        return Result(_of_protocol(table, protocol))

    def known_metrics(self) -> dict[str, pa.Table]:
        """The metrics of those live iterations for which they have been computed."""
        found = {
            name: derived.known_metrics(self._store, iteration)
            for name, iteration in self.iterations.items()
        }
        return {
            name: _of_protocol(table, "coco") for name, table in found.items() if table is not None
        }

    def matches(self, name: str) -> Result:
        """What became of every prediction and label of an iteration at IoU 0.5.

        Raises:
            IterationNotFoundError: There is none of that name.
        """
        return Result(derived.matches(self._store, self._store.iteration(name)))

    def sql(self, query: str) -> Result:
        """Run one SELECT over the project's views (see ``ea-arrow query --help``).

        Raises:
            QueryError: It is wrong, or does anything but read.
        """
        from ea_arrow.sql import query as run  # DuckDB: only those who ask pay for loading it

        return Result(run(self._store, query))


def open(path: str | Path = ".") -> Project:
    """Open the project in a directory, or in the nearest one above it that has one.

    Raises:
        ProjectError: There is none, or it cannot be read by this version.
    """
    start = local(path)
    root = find_root(start)
    return Project(start if root is None else root)


def init(
    path: str | Path,
    labels: str | Path,
    *,
    format: str | None = None,
    images: str | Path | None = None,
) -> Project:
    """Make a project from ground truth.

    Args:
        path: The directory for it; made if it is not there.
        labels: COCO instances JSON, an Encord Active project directory, or Encord label rows.
        format: ``coco`` or ``encord``; found from the content by default.
        images: The directory with the images, to which ``data_units.uri`` then points.

    Returns:
        The project; its ``ledger`` accounts for every label.

    Raises:
        ProjectExistsError: There is a project already.
        SourceError: The ground truth cannot be read.
    """
    root, source = local(path), local(labels)
    _check_free(root)
    truth = read_ground_truth(source, format)
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
            units = _with_images(units, local(images))
        Table(staged / DATA_UNITS.name, DATA_UNITS).append(units, {"action": "init"})
        normalise = Normaliser(units, truth.ontology.to_table(), truth.coordinates, "labels")
        _write_labels(staged, truth.labels, normalise, source)
        ledger = normalise.finish()
        for note, number in truth.notes.items():
            ledger.count(note, [], number, reject=False)
        staged.rename(root / FOLDER)  # publishes everything at once
    except OSError as error:
        _clear(staged, made)
        _check_free(root)  # another process was first
        raise ProjectError(f"{root}: the project cannot be written: {error.strerror}.") from error
    except BaseException:
        _clear(staged, made)
        raise
    return Project(root, ledger)


def _of_protocol(table: pa.Table, protocol: str) -> pa.Table:
    return table.filter(pc.equal(table["protocol"], protocol))


def _check_free(root: Path) -> None:
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


def _with_images(units: pa.Table, images: Path) -> pa.Table:
    """Point each data unit's uri at the file of its title below a directory, where there is one."""
    if not images.is_dir():
        raise SourceError(f"{images}: is not a directory of images.")
    found = {p.relative_to(images).as_posix(): p for p in images.rglob("*") if p.is_file()}
    by_name = {path.name: path for path in found.values()}
    uris = [
        str(found.get(title) or by_name.get(PurePosixPath(title).name) or "") or uri
        for title, uri in zip(
            units["title"].fill_null("").to_pylist(), units["uri"].to_pylist(), strict=True
        )
    ]
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
