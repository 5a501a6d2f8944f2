"""The public face of a project."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ea_arrow.answers import Answers
from ea_arrow.derived import Results
from ea_arrow.errors import (
    IterationNotFoundError,
    ProjectError,
)
from ea_arrow.results import Result
from ea_arrow.schema import PREDICTIONS, STORED
from ea_arrow.store import Iteration, Store, find_root
from ea_arrow.stored import Predictions
from ea_arrow.tables import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ea_arrow.importing import ImportResult, Mode
    from ea_arrow.labelling import LabelResult
    from ea_arrow.ledger import Ledger
    from ea_arrow.ontology import Ontology
    from ea_arrow.sources.base import UnitKey
    from ea_arrow.sources.formats import Layout
    from ea_arrow.writer import PredictionWriter


class Project(Answers):
    """A data set's predictions, labels and metrics.

    Made by :func:`ea_arrow.init` and :func:`ea_arrow.open`.

    Attributes:
        root: Its directory.
        ledger: The account of the labels, on a project just made by ``init``; else None.
    """

    def __init__(self, root: Path, ledger: Ledger | None = None) -> None:
        self.root = root
        self.ledger = ledger
        super().__init__(Store(root))

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    # -- iterations ----------------------------------------------------------------------------

    def import_predictions(  # noqa: PLR0913 - options, each by keyword and with a default
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
        match: UnitKey | None = None,
        classes: str | Path | Mapping[Any, str] | None = None,
        box: Layout | None = None,
        relative: bool | None = None,
        one_based: bool = False,
        dedupe: bool = False,
        options: Mapping[str, str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ImportResult:
        """Import one or more files of predictions as one iteration.

        Args:
            source: The files, or directories of them.
            iteration: The iteration's name; by default the first file's stem.
            mode: ``create`` it, ``append`` to it or ``replace`` it.
            strict: Write nothing if any row is refused.
            dry_run: Read and check everything, write nothing.
            model: The model, for the record.
            parameters: Anything else about the run, for the record; must be JSON.
            format: The files' format (``ea-arrow formats``); found from their content by default.
            match: What names data units: ``source_id``, ``title``, ``stem``, …; by default what
                fits.
            classes: Which class of the project each class of the files is: a mapping to names,
                ids or hashes, a file of one, or one of ``id``, ``name``, ``hash``, ``index``,
                ``shift:N``, ``coco80``, ``coco91``.
            box: The order of a box's four numbers, if it is not the format's own.
            relative: Coordinates are fractions of the data unit, or pixels, if they are not what
                the format has.
            one_based: Pixels count from 1 and corners are inclusive.
            dedupe: Drop rows that repeat an earlier one exactly.
            options: Options of the format.
            progress: Called with the number of rows read so far.

        Returns:
            What was read, kept and refused.

        Raises:
            IterationExistsError: It is there already and the mode is ``create``.
            IterationError: The name is invalid.
            RejectedRowsError: Rows were refused under ``strict``, or none could be kept.
            SourceError: A file cannot be read as predictions.
        """
        from ea_arrow.importing import ImportOptions, import_predictions  # every source's reader
        from ea_arrow.sources.formats import Reading

        given = [source] if isinstance(source, str | os.PathLike) else list(source)
        paths = [local(path) for path in given]
        if not paths:
            raise ProjectError("No file to import was given.")
        reading = Reading(box, relative, one_based, options=options or {})
        how = ImportOptions(
            *(mode, strict, dry_run, model, parameters, format, match, classes, reading, dedupe)
        )
        name = paths[0].with_suffix("").stem if paths[0].suffix == ".gz" else paths[0].stem
        name = name if iteration is None else iteration
        return import_predictions(self._store, paths, name, how, progress)

    def add_labels(
        self,
        source: str | Path,
        *,
        replace: bool = False,
        strict: bool = False,
        format: str | None = None,
        match: UnitKey | None = None,
        images: str | Path | None = None,
        ontology: str | Path | None = None,
        box: Layout | None = None,
        one_based: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> LabelResult:
        """Add ground truth: more labels, or newer ones. Metrics are computed afresh from then on.

        Data units and classes that the project has are found by hash, id or name; others are added.

        Args:
            source: The ground truth, in one of the formats that ``ea-arrow formats`` lists.
            replace: Drop the labels that the project has for the same data units.
            strict: Write nothing if any row is refused.
            format: Its format; found from the content by default.
            match: What names data units; by default what fits.
            images: The directory of the images, for formats that do not say how large they are.
            ontology: The ontology of Encord label rows, where it is a file of its own.
            box: The order of a box's four numbers, if it is not the format's own.
            one_based: Pixels count from 1 and corners are inclusive.
            options: Options of the format.

        Raises:
            SourceError: It cannot be read, or contradicts the project.
            RejectedRowsError: Rows were refused under ``strict``.
            ConflictError: Another process changed the labels meanwhile.
        """
        from ea_arrow.labelling import LabelOptions, add_labels  # every source's reader
        from ea_arrow.sources.formats import Reading

        reading = Reading(
            box,
            one_based=one_based,
            images=None if images is None else local(images),
            ontology=None if ontology is None else local(ontology),
            options=options or {},
        )
        how = LabelOptions(replace, strict, format, match, reading)
        return add_labels(self._store, local(source), how)

    def writer(
        self,
        name: str | None = None,
        *,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        mode: Literal["error", "append", "replace"] = "error",
        strict: bool = False,
        partial: bool = False,
        progress: bool = False,
        shard: tuple[int, int] | None = None,
        attempt: str | None = None,
        custom_object_map: Mapping[Any, Any] | None = None,
    ) -> PredictionWriter:
        """A writer for a prediction loop, to be used in a ``with`` block.

        Args:
            name: The iteration; by default the next free one of ``run-001``, ``run-002``, …
            model: The model, for the record.
            parameters: Anything else about the run, for the record; must be JSON.
            mode: What to do if the iteration is there.
            strict: Raise as soon as a refused row is noticed, and write nothing.
            partial: On an error, publish what was written before it, marked as partial.
            progress: Show how far it is, and an account at the end, on standard error.
            shard: Rank and number of ranks, where several processes write one iteration: it
                appears when all have finished.
            attempt: A name that all ranks of one run share, if parts of an earlier run that was
                broken off are not to be counted in.
            custom_object_map: From the model's names of classes to feature hashes.

        Raises:
            IterationError: The name or the mode is invalid.
            ParameterError: Options exclude each other.
        """
        from ea_arrow.writer import PredictionWriter  # the pipeline

        return PredictionWriter(
            self,
            custom_object_map,
            name=name,
            model=model,
            parameters=parameters,
            mode=mode,
            strict=strict,
            partial=partial,
            progress=progress,
            shard=shard,
            attempt=attempt,
        )

    @property
    def iterations(self) -> dict[str, Iteration]:
        """Live iterations by name, oldest first."""
        return self._store.iterations()

    def remove(self, name: str) -> None:
        """Remove an iteration; its rows stay readable by version until :meth:`compact`.

        Raises:
            IterationNotFoundError: There is none of that name.
            ConflictError: Other processes kept changing the project.
        """
        predictions = self._store.table(PREDICTIONS)

        def decide() -> dict[str, Any]:
            return {
                "remove": self._store.iteration(name, predictions).files,
                "transaction": (name, predictions.transaction(name) + 1),
                "metadata": {"action": "rm", "iteration": name},
            }

        predictions.commit_decided(decide, f"iteration '{name}'")

    def history(self, name: str | None = None) -> list[dict[str, Any]]:
        """What happened to the predictions, or to one iteration, newest first.

        Raises:
            IterationNotFoundError: There is and was none of that name.

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
        if name is not None and not found:
            raise self._store.no_iteration(name)
        return found

    def compact(self, *, keep_hours: float = 168.0) -> int:
        """Delete files that no live version needs, and results that nothing can use.

        Args:
            keep_hours: Files younger than this stay: they may belong to an import that runs now.

        Returns:
            How many files were deleted.
        """
        from ea_arrow.shards import abandoned  # what a writer needs, and metrics do not

        deleted = sum(len(self._store.table(spec).vacuum(keep_hours)) for spec in STORED)
        files = self._store.derived_files()  # before the iterations: a result may appear meanwhile
        stale = Results(self._store).stale(self.iterations.values(), files)
        stale += abandoned(self._store, keep_hours)
        for path in stale:
            path.unlink(missing_ok=True)
        return deleted + len(stale)

    # -- rows ----------------------------------------------------------------------------------

    def predictions(self, name: str, *, version: int | None = None) -> Predictions:
        """The predictions of an iteration, in arrival order; read when rows are asked for.

        ``for batch in project.predictions(name).batches()`` holds one batch at a time.

        Args:
            name: The iteration.
            version: As of this version of the history, even if it was removed since.

        Raises:
            IterationNotFoundError: There is none of that name, or was none then.
        """
        table = self._store.table(PREDICTIONS, version=version)
        if version is None:
            files = self._store.iteration(name, table).files
        else:
            files = tuple(table.files({"iteration": name}))
            if not files:
                raise IterationNotFoundError(
                    f"There was no iteration '{name}' in version {version}."
                )
        try:
            return Predictions(table, files)
        except FileNotFoundError as error:
            raise IterationNotFoundError(
                f"The files of iteration '{name}' in version {version} were deleted by compact."
            ) from error

    def formats(self, name: str) -> dict[str, int]:
        """How many predictions of an iteration have each format.

        Raises:
            IterationNotFoundError: There is none of that name.
        """
        return self._ask(name, True, lambda results, iteration: results.formats(iteration))

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


def open(path: str | Path | None = None) -> Project:
    """Open a project.

    Args:
        path: Its directory; by default the current one, or the nearest above it that has one.

    Raises:
        ProjectError: There is none, or it cannot be read by this version.
    """
    if path is None:
        here = local(".")
        return Project(find_root(here) or here)
    root = local(path)
    if not root.is_dir():
        what = "is a file; expected a project directory" if root.exists() else "no such directory"
        raise ProjectError(f"{root}: {what}.")
    return Project(root)
