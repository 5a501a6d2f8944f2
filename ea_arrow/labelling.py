"""More ground truth for a project, or newer: published by one commit on ``labels``.

What else it needs (new data units, new classes) is written before and changes no answer by itself:
a crash in between leaves the labels as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import EaArrowError, RejectedRowsError, SourceError
from ea_arrow.files import FileWriter, locked, write_whole
from ea_arrow.label_joining import class_columns, join_classes, join_units
from ea_arrow.ledger import Ledger
from ea_arrow.lookup import ClassIndex, Renaming
from ea_arrow.normalise import Normaliser
from ea_arrow.publication import keep_messages, new_import_id
from ea_arrow.rejects import reject_rows
from ea_arrow.row_keys import Duplicates, Seen
from ea_arrow.schema import DATA_UNITS, LABELS, RAW, REJECTS
from ea_arrow.sources.base import Coordinates, raw_batch
from ea_arrow.sources.images import KnownImages
from ea_arrow.sources.registry import read_ground_truth
from ea_arrow.store import ONTOLOGY, label_commits
from ea_arrow.tables import DataFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.ontology import Ontology
    from ea_arrow.sources.base import GroundTruth
    from ea_arrow.sources.formats import Reading
    from ea_arrow.store import Store

_TRANSACTION = "labels"
_LOCK = "labels.lock"


@dataclass(frozen=True)
class LabelOptions:
    """How labels are added.

    Attributes:
        replace: The labels that the project has for the same data units are dropped.
        strict: Write nothing if any row is refused.
        format: Format of the source; found from its content by default.
        match: What names data units; found by trial by default.
        reading: What is known about the source.
    """

    replace: bool
    strict: bool
    format: str | None
    match: str | None
    reading: Reading


@dataclass(frozen=True)
class LabelResult:
    """What adding labels did.

    Attributes:
        ledger: The account of every label.
        replaced: How many labels were dropped for newer ones.
        new_data_units: Data units that the project did not have.
        new_classes: Classes that the project did not have.
    """

    ledger: Ledger
    replaced: int
    new_data_units: int
    new_classes: int


def add_labels(store: Store, source: Path, options: LabelOptions) -> LabelResult:
    """Add ground truth to a project.

    Args:
        store: The project.
        source: The ground truth.
        options: How.

    Raises:
        SourceError: It cannot be read, or contradicts the project.
        RejectedRowsError: Rows were refused under ``strict``.
        ConflictError: Another process changed the labels meanwhile.
    """
    truth, by_images = _read(store, source, options)
    # What is added depends on the classes and data units that are there: one at a time.
    with locked(store.folder / _LOCK):
        return _Addition(store, truth, options, source.name, by_images=by_images).run()


def _read(store: Store, source: Path, options: LabelOptions) -> tuple[GroundTruth, bool]:
    """Read the ground truth; sizes it lacks are those of the project's own data units.

    Returns:
        The ground truth, and whether its data units may be images that it says nothing of.
    """
    try:
        truth = read_ground_truth(source, options.format, options.reading)
    except SourceError as error:
        wants_images = error.hint is not None and "--images" in error.hint
        if options.reading.images is not None or not wants_images:
            raise
        known = replace(options.reading, images=KnownImages(store.data_units()))
        return read_ground_truth(source, options.format, known), True
    return truth, options.reading.images is not None


class _Addition:
    """The steps of adding labels, decided on what the project holds when it is made."""

    def __init__(
        self,
        store: Store,
        truth: GroundTruth,
        options: LabelOptions,
        source: str,
        *,
        by_images: bool,
    ) -> None:
        self.store, self.truth, self.options, self.source = store, truth, options, source
        self.by_images = by_images
        self.committed_rejects = False
        self.named: set[str] = set()
        """The data units that labels were of, as the source names them."""
        self.import_id = new_import_id()
        self.labels, self.rejects = store.table(LABELS), store.table(REJECTS)
        self.live = self.labels.files()
        self.transaction = (_TRANSACTION, self.labels.transaction(_TRANSACTION) + 1)
        self.before = self.labels.read()
        self.first_id = self._next_id()
        own = store.data_units()
        self.units = join_units(own, truth.data_units, options.match)
        joined = join_classes(store.ontology(), truth.ontology)
        self.ontology, self.same, self.new_classes = joined
        self.all_units = pa.concat_tables([own, self.units.added.select(own.schema.names)])

    def run(self) -> LabelResult:
        """Read, write, and publish, or leave everything as it was."""
        with (
            FileWriter(self.labels.root, LABELS, {}, self.import_id) as kept,
            FileWriter(self.rejects.root, REJECTS, {}, self.import_id) as refused,
        ):
            ledger = self._read(kept, refused)
        try:
            self._check(ledger)
            replaced = self._publish(kept, refused, ledger)
        except BaseException:
            # The error may have come after the commit: what is published stays.
            if not self._published(kept):
                kept.discard()
            if not self.committed_rejects:
                refused.discard()
            raise
        return LabelResult(ledger, replaced, len(self.units.added), self.new_classes)

    def _read(self, kept: FileWriter, refused: FileWriter) -> Ledger:
        translation = _Translation(self.truth, self.units.hashes, class_columns(self.same))
        normalise = Normaliser(
            self.all_units,
            self.ontology.to_table(),
            translation.coordinates,
            "labels",
            first_id=self.first_id,
            seen=Seen(),
        )
        if not self.options.replace:
            self._remember(normalise)
        for raw in translation.batches(self.named):
            batch = normalise(raw)
            kept.write(batch.rows)
            if batch.rejected.num_rows:
                rows = reject_rows(
                    batch, import_id=self.import_id, iteration=None, source=self.source
                )
                keep_messages(batch, rows, normalise.ledger)
                refused.write_all(rows)
        ledger = normalise.finish()
        for note, number in self.truth.notes.items():
            ledger.count(note, [], number, reject=False)
        if self.units.key is not None and self.units.key != "data hash":
            ledger.choices.append(f"data units matched by {self.units.key}")
        return ledger

    def _next_id(self) -> int:
        """The first ``label_id`` that no label has or had: values may be kept by it."""
        highest = pc.max(self.before["label_id"]).as_py()
        told = [int(commit.get("next_label_id", 0)) for commit in label_commits(self.labels)]
        return max(0 if highest is None else int(highest) + 1, *told, 0)

    def _published(self, kept: FileWriter) -> bool:
        """Whether the labels are visible; where that cannot be told the file is left alone."""
        try:
            live = self.store.table(LABELS).files()
        except EaArrowError:
            return True
        return any(file.path == kept.name for file in live)

    def _remember(self, normalise: Normaliser) -> None:
        """Let labels that are there already be found again: each counts once."""
        columns = [name for name in RAW.names if name in self.before.schema.names]
        n = len(self.before)
        rows = {name: self.before[name].combine_chunks() for name in columns}
        rows["unit"] = self.before["data_hash"].combine_chunks()
        rows["class_ref"] = self.before["feature_hash"].combine_chunks()
        rows["source_row"] = pa.array(np.arange(n))
        first, coordinates = normalise.next_id, normalise.coordinates
        normalise.coordinates = replace(coordinates, relative=False)
        normalise(raw_batch(rows, n))
        normalise.coordinates, normalise.next_id = coordinates, first
        normalise.ledger, normalise.duplicates = Ledger(), Duplicates()

    def _covered(self) -> pa.Array:
        """The data units whose labels the source is to replace, by the project's hashes."""
        names = self.truth.data_units[self.truth.coordinates.unit_key].to_pylist()
        covered = self.truth.covered
        if covered is None and self.by_images:
            covered = frozenset(self.named)
        if covered is None:
            return self.units.hashes
        flags = pa.array([name in covered for name in names], pa.bool_())
        return self.units.hashes.filter(flags)

    def _check(self, ledger: Ledger) -> None:
        if self.options.strict and ledger.rejected:
            counts = f"{ledger.rejected:,} of {ledger.read:,} labels were refused"
            message = f"{counts} and --strict is given. The labels are as they were."
            raise RejectedRowsError(message, ledger=ledger)

    def _publish(self, kept: FileWriter, refused: FileWriter, ledger: Ledger) -> int:
        """Commit; return how many labels were dropped for newer ones."""
        metadata = {
            "action": "labels add",
            "import_id": self.import_id,
            "source": self.source,
            "kept": ledger.kept,
            "next_label_id": self.first_id + ledger.kept,
        }
        add, remove, replaced = [kept.action()], list[DataFile](), 0
        if self.options.replace:
            known = pc.is_in(self.before["data_hash"], self._covered())
            rest = self.before.filter(pc.invert(known))
            replaced = len(self.before) - len(rest)
            if replaced:
                with FileWriter(self.labels.root, LABELS, {}, new_import_id()) as others:
                    others.write_all(rest)
                add, remove = [others.action(), *add], self.live
        if len(self.units.added):
            self.store.table(DATA_UNITS).append(self.units.added, metadata)
        if self.new_classes:
            _write_ontology(self.store, self.ontology)
        if refused.rows:
            self.rejects.commit([refused.action()], metadata=metadata)
            self.committed_rejects = True
        else:
            refused.discard()
        self.labels.commit(add, remove=remove, transaction=self.transaction, metadata=metadata)
        return replaced


class _Translation:
    """Labels of new ground truth, in the project's hashes."""

    def __init__(
        self, truth: GroundTruth, hashes: pa.Array, classes: dict[str, dict[str, Any]]
    ) -> None:
        given = truth.coordinates
        self.coordinates = Coordinates(given.relative, "data_hash", "feature_hash")
        self._truth = truth
        keys = truth.data_units[given.unit_key].to_pylist()
        self._units = Renaming(dict(zip(keys, hashes.to_pylist(), strict=True)))
        self._theirs = ClassIndex(truth.ontology.to_table(), given.class_key)
        self._classes = {name: Renaming(known) for name, known in classes.items()}

    def batches(self, named: set[str]) -> Iterator[pa.RecordBatch]:
        """Yield the labels; those of unknown data units and classes keep their references.

        Args:
            named: Where the data units are collected, as the source names them.
        """
        for raw in self._truth.labels:
            named.update(raw.column("unit").unique().drop_null().to_pylist())
            found = self._theirs.find_objects(raw.column("class_ref"))
            rows = pa.array(np.maximum(found, 0), mask=found < 0)
            hashes = self._theirs.objects["feature_hash"].combine_chunks()
            refs = pc.coalesce(hashes.take(rows), raw.column("class_ref"))
            columns = {"unit": self._units(raw.column("unit")), "class_ref": refs}
            for name, renaming in self._classes.items():
                columns[name] = renaming(columns.get(name, raw.column(name)))
            for name, column in columns.items():
                field = raw.schema.field(name)
                raw = raw.set_column(raw.schema.get_field_index(name), field, column)
            yield raw


def _write_ontology(store: Store, ontology: Ontology) -> None:
    path = store.folder / ONTOLOGY
    write_whole(path, lambda staged: staged.write_text(ontology.to_json()))
