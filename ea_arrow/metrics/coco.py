"""COCO evaluation over columns, equal to pycocotools 2.0.11 bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.candidates import beyond, effective_threshold, find_candidates
from ea_arrow.conform import conform
from ea_arrow.match import match_pairs
from ea_arrow.metrics.curves import Curves, Matched, rank
from ea_arrow.metrics.parameters import CocoParameters as CocoParameters
from ea_arrow.metrics.parameters import Number, numbers_of
from ea_arrow.parallel import together
from ea_arrow.schema import CURVES, METRICS

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.candidates import Candidates
    from ea_arrow.match import Matching

_DEFAULTS = CocoParameters()


@dataclass(frozen=True)
class CocoEvaluation:
    """Everything pycocotools computes, for thresholds T, recalls R, classes K, areas A and cuts M.

    Attributes:
        parameters: What was asked for.
        feature_hashes: The classes (K).
        class_names: Their names (K).
        labels_with_id_zero: Whether a label has the id 0, which pycocotools never counts as found.
    """

    parameters: CocoParameters
    feature_hashes: list[str]
    class_names: list[str]
    labels_with_id_zero: bool
    _matched: Matched
    _curves: Curves

    @property
    def matching(self) -> Matching:
        """Which pairs of the candidates match, per area range."""
        return self._matched.matching

    @property
    def precision(self) -> Floats:
        """Precision (T, R, K, A, M), 0 … 1; −1 for a class without labels that count."""
        return self._precision_and_scores[0]

    @property
    def scores(self) -> Floats:
        """The confidence at which each recall is reached (T, R, K, A, M)."""
        return self._precision_and_scores[1]

    @property
    def recall(self) -> Floats:
        """Recall (T, K, A, M), 0 … 1; −1 for a class without labels that count."""
        return self._curves.recall

    @property
    def n_labels(self) -> Ints:
        """Labels that count, per class and area range (K, A)."""
        return self._curves.n_labels

    @property
    def n_predictions(self) -> Ints:
        """Predictions per class (K), also those beyond the cut."""
        return self._curves.n_predictions

    @cached_property
    def _precision_and_scores(self) -> tuple[Floats, Floats]:
        cuts = range(len(self.parameters.max_detections))
        return self._curves.precision_and_scores(tuple(cuts))

    @cached_property
    def _precision_at_last_cut(self) -> Floats:
        last = len(self.parameters.max_detections) - 1
        return self._curves.precision_and_scores((last,))[0][..., 0]

    @property
    def prediction_ids(self) -> Ints:
        """``prediction_id`` of the object predictions (N), the columns of the arrays below."""
        arranged = self._matched.arranged
        ids: Ints = self._in_order(arranged.prediction_id[None])[0]
        return ids

    @property
    def evaluated(self) -> Bools:
        """Whether a prediction is within the largest cut of its data unit and class (N)."""
        within: Bools = self._in_order(self._within()[None])[0]
        return within

    def matched_labels(self, area: str = "all") -> Ints:
        """Return the ``label_id`` that each prediction took at each threshold (T, N), or −1.

        A label with the id 0 is listed although pycocotools takes it for "none".
        """
        label = self._taken(area)
        label_id = np.append(self._matched.arranged.label_id, -1)
        taken: Ints = self._in_order(label_id[label])
        return taken

    def ignored_predictions(self, area: str = "all") -> Bools:
        """Return whether each prediction counts neither way at each threshold (T, N)."""
        matched, a = self._matched, list(self.parameters.areas).index(area)
        label = self._taken(area)
        by_match = np.append(matched.ignored[a], False)[label]
        unmatched = np.append(matched.unfindable, True)[label]
        unseen = unmatched & matched.outside[a]
        ignored: Bools = self._in_order((by_match | unseen) & self._within())
        return ignored

    def _within(self) -> Bools:
        return self._matched.arranged.rank < self.parameters.max_detections[-1]

    def _taken(self, area: str) -> Ints:
        matched, a = self._matched, list(self.parameters.areas).index(area)
        pair, threshold = matched.matching.pair[a], matched.matching.threshold[a]
        shape = (len(self.parameters.iou_thresholds), len(matched.arranged.row))
        label = np.full(shape, -1)
        label[threshold, matched.pairs.prediction[pair]] = matched.pairs.label[pair]
        return label

    def _in_order(self, values: Any) -> Any:
        return values[:, np.argsort(self._matched.arranged.prediction_id)]

    def summary(self) -> dict[str, float]:
        """Return the numbers by name; −1 where no class has labels that count.

        With the default parameters these are pycocotools' twelve, in its order. AP is read at the
        largest of ``max_detections``; pycocotools prints −1 for it unless that is 100.
        """
        return {number.name: self._mean(number) for number in numbers_of(self.parameters)}

    def _mean(self, number: Number) -> float:
        cells = self._cells(number)
        defined = cells[cells > -1]
        return float(np.mean(defined)) if len(defined) else -1.0

    def _cells(self, number: Number) -> Floats:
        """Return the cells a number averages over: (T, R, K), for recall (T, K)."""
        array = self.recall[..., number.cut] if number.is_recall else self._precision_at_last_cut
        if number.threshold is not None:
            array = array[number.threshold : number.threshold + 1]
        return array[..., number.area]

    def to_metrics(self, iteration: str, provenance: str, subset: str = "all") -> pa.Table:
        """Return the numbers over all classes, then those of each class, as ``METRICS``.

        Args:
            iteration: Name of the iteration.
            provenance: Fingerprint of the inputs.
            subset: Name of the subset of data units that the input tables hold.
        """
        numbers, parameters = numbers_of(self.parameters), self.parameters
        overall = np.array([[self._mean(number)] for number in numbers])
        each = np.array([self._per_class(number) for number in numbers])
        labels = np.array([self.n_labels[:, number.area] for number in numbers])
        value = np.concatenate([overall, each], axis=1).T.ravel()
        n_labels = np.concatenate([labels.sum(axis=1, keepdims=True), labels], axis=1).T.ravel()
        n_predictions = np.append(self.n_predictions.sum(), self.n_predictions)
        n_cells, n_numbers, n_rows = len(n_predictions), len(numbers), len(value)
        areas, thresholds = list(parameters.areas), parameters.iou_thresholds
        one = thresholds[0] if len(thresholds) == 1 else None
        same = {
            "iteration": iteration,
            "protocol": "coco_id_zero_counts" if parameters.annotation_id_zero_counts else "coco",
            "iou_type": parameters.iou_type,
            "subset": subset,
            "provenance": provenance,
        }
        per_number: dict[str, list[Any]] = {
            "metric": [n.name for n in numbers],
            "area_range": [areas[n.area] for n in numbers],
            "area_low": [parameters.areas[areas[n.area]][0] for n in numbers],
            "area_high": [parameters.areas[areas[n.area]][1] for n in numbers],
            "iou_threshold": [one if n.threshold is None else thresholds[n.threshold]
                              for n in numbers],
            "iou_thresholds": [
                list(thresholds) if n.threshold is None else [thresholds[n.threshold]]
                for n in numbers
            ],
            "max_detections": [parameters.max_detections[n.cut] for n in numbers],
        }  # fmt: skip
        per_class = {"feature_hash": self.feature_hashes, "class": self.class_names}
        cell = pa.array(np.repeat(np.arange(n_cells), n_numbers))
        columns = {
            **{name: pa.repeat(value, n_rows) for name, value in same.items()},
            **{
                name: pa.array([None, *values], pa.string()).take(cell)
                for name, values in per_class.items()
            },
            **{
                name: pa.array(values * n_cells, METRICS.arrow.field(name).type)
                for name, values in per_number.items()
            },
            "attribute_hash": pa.nulls(n_rows, pa.string()),
            "option_hash": pa.nulls(n_rows, pa.string()),
            "value": pa.array(value, mask=value < 0),
            "n_labels": pa.array(n_labels),
            "n_predictions": pa.array(np.repeat(n_predictions, n_numbers)),
        }
        return conform(pa.table(columns), METRICS)

    def _per_class(self, number: Number) -> Floats:
        """Return a number of each class (K), −1 where not defined."""
        cells = np.moveaxis(self._cells(number), -1, 0)
        if not cells[:1].size:
            return np.full(len(self.feature_hashes), -1.0)
        # A class's cells are all −1 or none is, and rows are summed as np.mean sums one class.
        means: Floats = np.ascontiguousarray(cells).reshape(len(cells), -1).mean(axis=1)
        return means

    def to_curves(self, iteration: str, subset: str = "all") -> pa.Table:
        """Return precision and score at each recall as ``CURVES``, of classes with labels.

        One row per class, IoU threshold, area range and recall, at the largest cut.
        """
        last = len(self.parameters.max_detections) - 1
        precision, scores = (
            np.moveaxis(array[..., 0], [0, 1, 2, 3], [1, 3, 0, 2])  # (K, T, A, R)
            for array in self._curves.precision_and_scores((last,))
        )
        klass, threshold, area, recall = (axis.ravel() for axis in np.indices(precision.shape))
        n_rows = len(klass)
        parameters = self.parameters
        taken = {
            "feature_hash": (self.feature_hashes, pa.string(), klass),
            "class": (self.class_names, pa.string(), klass),
            "iou_threshold": (parameters.iou_thresholds, pa.float64(), threshold),
            "area_range": (list(parameters.areas), pa.string(), area),
            "area_low": ([low for low, _ in parameters.areas.values()], pa.float64(), area),
            "area_high": ([high for _, high in parameters.areas.values()], pa.float64(), area),
            "recall": (parameters.recall_thresholds, pa.float64(), recall),
        }
        same = {"iteration": iteration, "iou_type": parameters.iou_type, "subset": subset}
        columns = {
            **{name: pa.repeat(value, n_rows) for name, value in same.items()},
            **{name: pa.array(v, kind).take(pa.array(at)) for name, (v, kind, at) in taken.items()},
            "max_detections": pa.repeat(parameters.max_detections[last], n_rows),
            "precision": pa.array(precision.ravel()),
            "confidence": pa.array(scores.ravel()),
        }
        defined = precision.ravel() > -1
        return conform(pa.table(columns).filter(pa.array(defined)), CURVES)


def evaluate(
    predictions: Any,
    labels: Any,
    data_units: Any,
    classes: Any,
    parameters: CocoParameters = _DEFAULTS,
) -> CocoEvaluation:
    """Evaluate boxes or masks as pycocotools does.

    Args:
        predictions: Table in the shape of ``PREDICTIONS``, in order of ``prediction_id``.
        labels: Table in the shape of ``LABELS``, in order of ``label_id``.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes K.
        parameters: Thresholds, area ranges and cuts.

    Raises:
        SchemaError: A prediction or label names a data unit or class that the tables lack.
    """
    candidates = find_candidates(
        predictions,
        labels,
        data_units,
        classes,
        iou_type=parameters.iou_type,
        lowest=parameters.lowest,
        most=parameters.max_detections[-1],
    )
    return evaluate_candidates(candidates, classes, parameters)


def evaluate_candidates(
    candidates: Candidates, classes: Any, parameters: CocoParameters = _DEFAULTS
) -> CocoEvaluation:
    """Evaluate what :func:`~ea_arrow.candidates.find_candidates` found, as pycocotools does.

    Args:
        candidates: With pairs down to the lowest threshold and up to the largest cut.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes K.
        parameters: Thresholds, area ranges and cuts.
    """
    thresholds = np.array([effective_threshold(value) for value in parameters.iou_thresholds])
    lowest, most = parameters.lowest, parameters.max_detections[-1]
    candidates.check(lowest, most, f"the evaluation needs IoU {lowest:g} and {most}")
    arranged, pairs = candidates.arranged, candidates.pairs
    ranges = np.array(list(parameters.areas.values()), np.float64)
    ignored = arranged.is_ignored | beyond(arranged.label_area, ranges)

    def match() -> Matching:
        if candidates.matching is not None and parameters.match_as_pycocotools:
            return candidates.matching
        if candidates.lowest == lowest and candidates.most == most:
            return match_pairs(pairs, arranged.group, thresholds, ignored, arranged.is_crowd)
        near = (pairs.iou >= lowest) & (arranged.rank[pairs.prediction] < most)
        chosen = np.flatnonzero(near)
        some = pairs.take(chosen)
        return match_pairs(some, arranged.group, thresholds, ignored, arranged.is_crowd).among(
            chosen
        )

    matching, ranked = together(match, lambda: rank(arranged, pairs))
    matched = Matched(
        arranged=arranged,
        pairs=pairs,
        matching=matching,
        ignored=ignored,
        outside=beyond(arranged.area, ranges),
        unfindable=arranged.has_id_zero & (not parameters.annotation_id_zero_counts),
    )
    recalls = np.array(parameters.recall_thresholds)
    objects = classes.filter(pc.equal(classes.column("kind"), "object"))
    return CocoEvaluation(
        parameters=parameters,
        feature_hashes=objects.column("feature_hash").to_pylist(),
        class_names=objects.column("name").to_pylist(),
        labels_with_id_zero=bool(arranged.has_id_zero.any()),
        _matched=matched,
        _curves=Curves(matched, ranked, len(thresholds), recalls, parameters.max_detections),
    )
