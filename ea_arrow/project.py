"""The public face of a project."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ea_arrow.answers import Answers
from ea_arrow.derived import Results
from ea_arrow.errors import (
    IterationNotFoundError,
    ProjectError,
)
from ea_arrow.quality_answers import QualityAnswers
from ea_arrow.results import Result
from ea_arrow.schema import PREDICTIONS, STORED
from ea_arrow.store import Iteration, Store, find_root
from ea_arrow.stored import Predictions
from ea_arrow.tables import local
from ea_arrow.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ea_arrow.ledger import Ledger
    from ea_arrow.ontology import Ontology
    from ea_arrow.writer import PredictionWriter


class Project(Transfers, QualityAnswers, Answers):
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
        self._functions = {}

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    # -- iterations ----------------------------------------------------------------------------

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
