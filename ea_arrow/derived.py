"""Matches, metrics and other answers, computed when asked for, kept while inputs are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ea_arrow.arranged import unit_codes
from ea_arrow.cache import Cache, readable
from ea_arrow.candidate_arrays import SHAPE, from_arrays, to_arrays
from ea_arrow.candidates import ANY_OVERLAP, effective_threshold, find_candidates
from ea_arrow.conform import conform
from ea_arrow.errors import ParameterError
from ea_arrow.inputs import Reader
from ea_arrow.metrics.coco import CocoParameters, evaluate_candidates
from ea_arrow.questions import Question
from ea_arrow.recent import Recent
from ea_arrow.schema import METRICS
from ea_arrow.store import DERIVED, ONTOLOGY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ea_arrow.candidates import Candidates, IouType
    from ea_arrow.schema import TableSpec
    from ea_arrow.slices import Subset
    from ea_arrow.store import Iteration, Store

ENGINE: Final = 3
"""Rises whenever the same inputs give other results."""

_EVERY: Final = 2**31
_SHAPED: Final = {"mask", "polygon"}


class Results:
    """The answers about a project's iterations.

    What all of them depend on (labels, data units, classes) is looked at once, when this is made.

    Args:
        store: The project.
        cache: If False, everything is computed again and nothing is kept, except masks drawn from
            polygons.
        recent: Candidates that the process still holds.
    """

    def __init__(self, store: Store, *, cache: bool = True, recent: Recent | None = None) -> None:
        self.store = store
        self._cache = Cache(store.folder / DERIVED, enabled=cache)
        self._reader = Reader(store, self._cache)
        ontology = (store.folder / ONTOLOGY).read_bytes()
        self._recent = recent or Recent()
        self._formats: dict[str | None, dict[str, int]] = {}
        self._shared = {
            "engine": ENGINE,
            "ontology": hashlib.sha256(ontology).hexdigest(),
            "labels": [f.path for f in self._reader.label_table.files()],
            "data_units": [f.path for f in self._reader.unit_table.files()],
        }

    def fingerprint(self, iteration: Iteration | None) -> str:
        """Name the inputs that answers about an iteration, or the labels, are computed from."""
        files = sorted(f.path for f in iteration.files) if iteration else []
        inputs = json.dumps({**self._shared, "predictions": files})
        return hashlib.sha256(inputs.encode()).hexdigest()[:32]

    def rows_key(self, iteration: Iteration | None) -> str:
        """Name the rows of an iteration, whatever becomes of the labels; of the labels, all."""
        if iteration is None:
            return self.fingerprint(None)
        files = json.dumps(sorted(file.path for file in iteration.files))
        return hashlib.sha256(files.encode()).hexdigest()[:32]

    def iou_type(self, iteration: Iteration) -> IouType:
        """Masks if all objects of an iteration are masks or polygons and some labels are."""
        shapes = self.formats(iteration).keys() - {"classification"}
        masks = shapes and shapes <= _SHAPED and self.formats(None).keys() & _SHAPED
        return "segm" if masks else "bbox"

    def formats(self, iteration: Iteration | None) -> dict[str, int]:
        """How many predictions of an iteration, or labels, have each format."""
        name = iteration.name if iteration else None
        if name not in self._formats:
            self._formats[name] = self._reader.formats(iteration)
        return self._formats[name]

    def known_metrics(self, iteration: Iteration) -> pa.Table | None:
        """Metrics of an iteration under the default question if they have been computed."""
        question = Question()
        name = question.fingerprint(self.iou_type(iteration))
        path = self._cache.find(METRICS, self.fingerprint(iteration), name)
        return readable(path) if path else None

    def answer(self, spec: TableSpec, iteration: Iteration, question: Question) -> pa.Table:
        """Rows in the shape of ``MATCHES``, ``METRICS``, ``CURVES``, ….

        Where a label has the id 0, ``coco`` metrics have rows of ``coco_id_zero_counts`` too.
        """
        found = self.file_or_table(spec, iteration, question)
        if isinstance(found, pa.Table):
            return found
        table = readable(found)
        if table is not None:
            return table
        question = self.settled(iteration, question)  # damaged after it was written
        return conform(self._compute(spec, iteration, question), spec)

    def file_or_table(
        self, spec: TableSpec, iteration: Iteration, question: Question
    ) -> Path | pa.Table:
        """An answer's file, or the answer itself where the project cannot be written to.

        Raises:
            ParameterError: The protocol has no such answer.
        """
        question = self.settled(iteration, question)
        inputs, asked = self.fingerprint(iteration), question.fingerprint(_type(question))
        compute = partial(self._compute, spec, iteration, question)
        return self._cache.table(spec, inputs, asked, compute)

    def _compute(self, spec: TableSpec, iteration: Iteration, question: Question) -> pa.Table:
        compute = self._computers.get((spec.name, question.protocol))
        if compute is None:
            raise ParameterError(f"Protocol '{question.protocol}' has no {spec.name}.")
        return compute(iteration, question)

    def settled(self, iteration: Iteration, question: Question) -> Question:
        """The question with what is compared."""
        if question.protocol == "classification":
            return question
        return replace(question, iou_type=question.iou_type or self.iou_type(iteration))

    @property
    def reader(self) -> Reader:
        """What reads the project's tables."""
        return self._reader

    def kept(
        self,
        spec: TableSpec,
        iteration: Iteration | None,
        asked: str,
        compute: Callable[[], pa.Table],
    ) -> Path | pa.Table:
        """A table computed from an iteration's predictions, or from the labels, kept as a file."""
        return self._cache.table(spec, self.fingerprint(iteration), asked, compute)

    def stale(self, iterations: Iterable[Iteration], files: Iterable[Path]) -> list[Path]:
        """Those of ``files`` that no iteration can use."""
        current = {self.fingerprint(iteration) for iteration in iterations}
        return self._cache.stale(files, current | {self.fingerprint(None)})

    @property
    def _computers(
        self,
    ) -> dict[tuple[str, str], Callable[[Iteration, Question], pa.Table]]:
        return {
            ("metrics", "coco"): self._coco,
            ("metrics", "encord"): self._encord,
            ("metrics", "classification"): self._classification,
            ("curves", "coco"): self._curves,
            ("matches", "coco"): self._matches,
            ("matches", "encord"): self._matches,
            ("operating_points", "coco"): self._operating_points,
            ("confusion", "coco"): self._confusion,
            ("confusion", "classification"): self._classification_confusion,
        }

    def _inputs(self, iteration: Iteration, iou_type: IouType) -> Any:
        if iou_type == "bbox":
            return self._reader.boxes(iteration)
        labels = self.fingerprint(None)
        return self._reader.masks(iteration, self.fingerprint(iteration), labels)

    def _find(
        self,
        iteration: Iteration,
        question: Question,
        lowest: float,
        most: int = _EVERY,
        lowest_across: float | None = None,
    ) -> Candidates:
        """Find candidates afresh."""
        inputs = self._inputs(iteration, _type(question))
        found = find_candidates(
            *inputs.tables,
            iou_type=_type(question),
            lowest=lowest,
            most=most,
            lowest_across=lowest_across,
            masks=inputs.masks,
        )
        return _within(found, question.subset)

    def _kept(self, iteration: Iteration, question: Question, lowest: float, most: int) -> Any:
        """Candidates with pycocotools' matches, from the cache unless they do not reach as far."""
        iou_type = _type(question)
        kind, inputs = f"candidates_{iou_type}", f"{self.fingerprint(iteration)}-{SHAPE}"
        everything = replace(question, subset=None)

        def find(lowest: float, most: int) -> pa.Table:
            most = max(most, CocoParameters.max_detections[-1])
            # Matches of that many: those of fewer are among them.
            own = CocoParameters(iou_type=iou_type, max_detections=(most,))
            lowest = min(lowest, own.iou_thresholds[0])
            found = self._find(iteration, everything, lowest, most)
            matching = evaluate_candidates(found, self._reader.classes, own).matching
            return to_arrays(replace(found, matching=matching))

        name = f"{kind}-{inputs}"
        kept = self._recent.find(name)
        if kept is None:
            kept = from_arrays(self._cache.arrays(kind, inputs, lambda: find(lowest, most)))
        if kept.lowest > lowest or kept.most < most:
            table = find(min(lowest, kept.lowest), max(most, kept.most))
            self._cache.replace(kind, inputs, table)
            kept = from_arrays(table)
        self._recent.keep(name, kept)
        return _within(kept, question.subset)

    def _evaluations(self, iteration: Iteration, question: Question) -> Iterable[Any]:
        parameters = question.parameters(_type(question))
        find = self._kept if self._cache.enabled else self._find
        candidates = find(iteration, question, parameters.lowest, parameters.max_detections[-1])
        classes = self._reader.classes
        found = evaluate_candidates(candidates, classes, parameters)
        yield found
        if found.labels_with_id_zero:  # pycocotools never counts those: the numbers if it did
            corrected = replace(parameters, annotation_id_zero_counts=True)
            yield evaluate_candidates(candidates, classes, corrected)

    def _coco(self, iteration: Iteration, question: Question) -> pa.Table:
        provenance = self.fingerprint(iteration)
        return pa.concat_tables(
            found.to_metrics(iteration.name, provenance, question.subset_name)
            for found in self._evaluations(iteration, question)
        )

    def _curves(self, iteration: Iteration, question: Question) -> pa.Table:
        found = next(iter(self._evaluations(iteration, question)))
        return found.to_curves(iteration.name, question.subset_name)

    def _encord(self, iteration: Iteration, question: Question) -> pa.Table:
        from ea_arrow.metrics import encord

        candidates = self._find(iteration, question, ANY_OVERLAP)
        subset = question.subset_name
        if question.ignore_unmatched_frames:
            subset += ", recall over data units with predictions"
        provenance = self.fingerprint(iteration)
        return pa.concat_tables(
            encord.evaluate(
                candidates,
                self._reader.classes,
                threshold,
                ignore_unmatched_frames=question.ignore_unmatched_frames,
            ).to_metrics(iteration.name, provenance, subset, _type(question))
            for threshold in question.iou_thresholds or (question.iou_threshold,)
        )

    def _matches(self, iteration: Iteration, question: Question) -> pa.Table:
        from ea_arrow import encord_evidence, evidence
        from ea_arrow.tide import BACKGROUND_IOU

        background = min(BACKGROUND_IOU, question.iou_threshold)
        candidates = self._find(iteration, question, ANY_OVERLAP, lowest_across=background)
        units, classes = self._reader.data_units, self._reader.classes
        about: dict[str, Any] = {"iteration": iteration.name, "iou_type": _type(question)}
        make = encord_evidence.matches if question.protocol == "encord" else evidence.matches
        table = make(candidates, units, classes, question.iou_threshold, **about)
        position = table.schema.get_field_index("subset")
        return table.set_column(position, "subset", pa.repeat(question.subset_name, len(table)))

    def _operating_points(self, iteration: Iteration, question: Question) -> pa.Table:
        from ea_arrow.metrics.operating import operating_points

        find = self._kept if self._cache.enabled else self._find
        lowest = effective_threshold(question.iou_threshold)
        return operating_points(
            find(iteration, question, lowest, _cut(question)),
            self._reader.classes,
            question.iou_threshold,
            iteration=iteration.name,
            iou_type=_type(question),
            subset=question.subset_name,
            max_detections=_cut(question),
        )

    def _confusion(self, iteration: Iteration, question: Question) -> pa.Table:
        from ea_arrow.metrics.confusion import confusion

        lowest = effective_threshold(question.iou_threshold)
        return confusion(
            self._find(iteration, question, lowest, _cut(question), lowest_across=lowest),
            self._reader.classes,
            question.iou_threshold,
            question.confidence,
            iteration=iteration.name,
            iou_type=_type(question),
            subset=question.subset_name,
            max_detections=_cut(question),
        )

    def _classification(self, iteration: Iteration, question: Question) -> pa.Table:
        found = self._classified(iteration, question)
        return found.to_metrics(iteration.name, self.fingerprint(iteration), question.subset_name)

    def _classification_confusion(self, iteration: Iteration, question: Question) -> pa.Table:
        found = self._classified(iteration, question)
        return found.to_confusion(iteration.name, question.subset_name)

    def _classified(self, iteration: Iteration, question: Question) -> Any:
        from ea_arrow.metrics import classification

        inputs = self._reader.classifications(iteration)
        predictions, labels, data_units, classes = inputs.tables
        if question.subset:
            predictions, labels = (
                _rows_within(table, data_units, question.subset) for table in (predictions, labels)
            )
        return classification.evaluate(predictions, labels, data_units, classes)


def _type(question: Question) -> IouType:
    return question.iou_type or "bbox"


def _cut(question: Question) -> int:
    return question.max_detections[-1] if question.max_detections else 100


def _within(candidates: Candidates, subset: Subset | None) -> Candidates:
    return candidates.within(subset.units) if subset else candidates


def _rows_within(table: pa.Table, data_units: pa.Table, subset: Subset) -> pa.Table:
    return table.filter(pa.array(subset.units[unit_codes(table, data_units, "row")]))
