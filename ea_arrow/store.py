"""What a project directory holds, and which of it is live.

::

    <project>/.ea-arrow/
        project.json        schema version, where the labels came from
        ontology.json       the classes
        data_units/ labels/ predictions/ iterations/ rejects/     Delta tables
        derived/            matches and metrics, each named for the inputs it was computed from

One commit on ``predictions`` publishes an import. Its row in ``iterations`` and its rejects are
written before it under its import id, and count only once a live file of predictions, whose name
begins with that id, is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import IterationNotFoundError, ProjectError, did_you_mean
from ea_arrow.ontology import Ontology
from ea_arrow.schema import (
    DATA_UNITS,
    ITERATIONS,
    LABELS,
    PREDICTIONS,
    REJECTS,
    SCHEMA_VERSION,
    STORED,
)
from ea_arrow.tables import Table

if TYPE_CHECKING:
    from ea_arrow.schema import TableSpec
    from ea_arrow.tables import DataFile

FOLDER: Final = ".ea-arrow"
MARKER: Final = "project.json"
ONTOLOGY: Final = "ontology.json"
DERIVED: Final = "derived"

_MOST_NAMED: Final = 20


def find_root(start: Path) -> Path | None:
    """The nearest directory from ``start`` upwards that holds a project."""
    for folder in (start, *start.parents):
        if (folder / FOLDER / MARKER).is_file():
            return folder
    return None


def import_id_of(file: DataFile) -> str:
    """The import that wrote a file of predictions."""
    return Path(file.path).name.partition("-")[0]


def label_commits(labels: Table) -> list[dict[str, Any]]:
    """What each commit of labels says of itself, newest first."""
    return [json.loads(commit["ea_arrow"]) for commit in labels.history() if "ea_arrow" in commit]


@dataclass(frozen=True)
class Iteration:
    """A live iteration: its name, its files and the rows of ``iterations`` that made it."""

    name: str
    files: tuple[DataFile, ...]
    imports: tuple[dict[str, Any], ...]

    @property
    def rows(self) -> int:
        """Predictions in it."""
        return sum(file.rows for file in self.files)


class Store:
    """The files of one project.

    Args:
        root: The project directory, which holds ``.ea-arrow``.

    Raises:
        ProjectError: There is no project, or it was written under another schema version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self._iterations: tuple[tuple[int, int], dict[str, Iteration]] | None = None
        try:
            self.marker = json.loads((self.folder / MARKER).read_text())
            version = self.marker["schema_version"]
        except FileNotFoundError as error:
            raise ProjectError(
                f"{root}: there is no ea-arrow project here.",
                hint="Make one with 'ea-arrow init DIR --labels PATH', or name one with --project.",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProjectError(f"{self.folder / MARKER}: cannot be read: {error}.") from error
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            raise ProjectError(
                f"{root}: the project has schema version {version}; this ea-arrow reads "
                f"version {SCHEMA_VERSION}.",
                hint="Upgrade ea-arrow." if newer else "Make the project again from its sources.",
            )

    @staticmethod
    def prepare(folder: Path, ontology: Ontology, marker: dict[str, Any]) -> None:
        """Make the tables of a new project, empty, in ``folder``."""
        for spec in STORED:
            Table.create(folder / spec.name, spec)
        (folder / DERIVED).mkdir()
        (folder / ONTOLOGY).write_text(ontology.to_json())
        (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")

    def table(self, spec: TableSpec, *, version: int | None = None) -> Table:
        """One of the stored tables, at its newest version by default."""
        return Table(self.folder / spec.name, spec, version=version)

    def derived_files(self) -> list[Path]:
        """Files of results, unfinished ones included."""
        folder = self.folder / DERIVED
        files = folder.iterdir() if folder.is_dir() else ()
        return [path for path in files if ".parquet" in path.name or ".arrow" in path.name]

    def ontology(self) -> Ontology:
        """The classes as a document."""
        return Ontology.from_json((self.folder / ONTOLOGY).read_text())

    def classes(self) -> pa.Table:
        """The classes as ``CLASSES``."""
        return self.ontology().to_table()

    def data_units(self) -> pa.Table:
        """``DATA_UNITS`` in evaluation order."""
        return self.table(DATA_UNITS).read().sort_by("unit_id")

    def labels(self) -> pa.Table:
        """``LABELS`` in source order."""
        return self.table(LABELS).read()

    def iterations(self, predictions: Table | None = None) -> dict[str, Iteration]:
        """Live iterations by name, oldest first."""
        predictions = predictions or self.table(PREDICTIONS)
        described = self.table(ITERATIONS)
        versions = predictions.version, described.version
        if self._iterations is not None and self._iterations[0] == versions:
            return dict(self._iterations[1])
        files: dict[str, list[DataFile]] = {}
        for file in predictions.files():
            files.setdefault(file.partition["iteration"], []).append(file)
        rows = {row["import_id"]: row for row in described.read().to_pylist()}
        found = [
            Iteration(
                name,
                tuple(live),
                tuple(rows[i] for i in sorted({import_id_of(f) for f in live}) if i in rows),
            )
            for name, live in files.items()
        ]
        found.sort(key=lambda it: it.imports[0]["created_at"].timestamp() if it.imports else 0)
        by_name = {it.name: it for it in found}
        self._iterations = versions, by_name
        return dict(by_name)

    def iteration(self, name: str, predictions: Table | None = None) -> Iteration:
        """One live iteration.

        Raises:
            IterationNotFoundError: There is none of that name.
        """
        known = self.iterations(predictions)
        if name not in known:
            raise self.no_iteration(name)
        return known[name]

    def no_iteration(self, name: str) -> IterationNotFoundError:
        """An error that says which iterations there are."""
        known = list(self.iterations())
        near = did_you_mean(name, known)
        more = f", … ({len(known):,} in all)" if len(known) > _MOST_NAMED else ""
        listed = ", ".join(known[:_MOST_NAMED])
        listed = f"There are: {listed}{more}." if known else "There are none yet."
        hint = f"{near} {listed}" if near else listed
        return IterationNotFoundError(f"There is no iteration '{name}'.", hint=hint)

    def live_rows(self, spec: TableSpec) -> pa.Table:
        """Rows of ``iterations`` or ``rejects`` whose import is live, or of labels published."""
        rows = self.table(spec).read()
        live = {import_id_of(file) for file in self.table(PREDICTIONS).files()}
        if spec is REJECTS:
            labels = self.table(LABELS)
            live |= {import_id_of(file) for file in labels.files()}
            live |= {
                commit["import_id"] for commit in label_commits(labels) if "import_id" in commit
            }
        return rows.filter(pc.is_in(rows["import_id"], pa.array(sorted(live), pa.string())))
