"""COCO evaluation over columns, equal to pycocotools 2.0.11 bit by bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.candidates import IouType, beyond, effective_thresholds, find_candidates
from ea_arrow.conform import conform
from ea_arrow.errors import EaArrowError
from ea_arrow.match import match_pairs
from ea_arrow.metrics.curves import Curves, Matched
from ea_arrow.schema import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.candidates import Candidates

AREAS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "all": (0.0, 1e10),
        "small": (0.0, 32.0**2),
        "medium": (32.0**2, 96.0**2),
        "large": (96.0**2, 1e10),
    }
)


@dataclass(frozen=True)
class CocoParameters:
    """What pycocotools calls ``Params``; the defaults are its own.

    Attributes:
        iou_type: Compare boxes (``bbox``) or masks (``segm``).
        iou_thresholds: IoU from which a pair can match (T), ascending, above 0.
        recall_thresholds: Recalls at which precision is read (R), ascending.
        areas: Name → (lowest, highest) area in pixels², both ends included (A).
        max_detections: Most confident predictions counted per data unit and class (M); sorted.
        annotation_id_zero_counts: pycocotools never counts a label whose id is 0 as found. ``True``
            gives the corrected numbers.
    """

    iou_type: IouType = "bbox"
    iou_thresholds: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
    recall_thresholds: tuple[float, ...] = tuple(np.linspace(0.0, 1.0, 101).tolist())
    areas: Mapping[str, tuple[float, float]] = field(default_factory=lambda: AREAS)
    max_detections: tuple[int, ...] = (1, 10, 100)
    annotation_id_zero_counts: bool = False

    def __post_init__(self) -> None:
        for name in ("iou_thresholds", "recall_thresholds", "max_detections", "areas"):
            if not len(getattr(self, name)):
                message = f"CocoParameters.{name} is empty; at least one value is needed."
                raise EaArrowError(message)
        for name in ("iou_thresholds", "recall_thresholds"):
            values = tuple(float(value) for value in getattr(self, name))
            if list(values) != sorted(values):
                message = f"CocoParameters.{name} must ascend, got {values}."
                raise EaArrowError(message)
            object.__setattr__(self, name, values)
        object.__setattr__(self, "max_detections", tuple(sorted(self.max_detections)))


_DEFAULTS = CocoParameters()


@dataclass(frozen=True)
class _Metric:
    """One of the 12 numbers; ``cut`` is its place among the maximum detections, −1 the largest."""

    name: str
    iou: float | None = None
    area: str = "all"
    cut: int = -1
    nominal_cut: int = 100

    @property
    def is_recall(self) -> bool:
        return self.name.startswith("AR")


METRICS_OF_COCO = (
    _Metric("AP"),
    _Metric("AP50", iou=0.5),
    _Metric("AP75", iou=0.75),
    _Metric("APs", area="small"),
    _Metric("APm", area="medium"),
    _Metric("APl", area="large"),
    _Metric("AR1", cut=0, nominal_cut=1),
    _Metric("AR10", cut=1, nominal_cut=10),
    _Metric("AR100"),
    _Metric("ARs", area="small"),
    _Metric("ARm", area="medium"),
    _Metric("ARl", area="large"),
)


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
        """Return the 12 numbers; −1 where no class has labels that count.

        AP and AR100 are read at the largest of ``max_detections``, AR1 and AR10 at the first and
        second of three or more. pycocotools prints −1 for AP unless one of them is 100.
        """
        summary = {}
        for metric in METRICS_OF_COCO:
            cells = self._cells(metric)
            defined = cells[cells > -1]
            summary[metric.name] = float(np.mean(defined)) if len(defined) else -1.0
        return summary

    def _cells(self, metric: _Metric) -> Floats:
        """Return the cells a metric averages over: (T, R, K), for recall (T, K)."""
        area, cut = self._area(metric), self._cut(metric)
        if metric.is_recall:
            array = self.recall[..., 0 if cut is None else cut]
        else:  # a precision is always read at the largest cut
            array = self._precision_at_last_cut
        if metric.iou is not None:
            array = array[np.array(self.parameters.iou_thresholds) == metric.iou]
        if area is None or cut is None:
            return array[:0, ..., 0]
        return array[..., area]

    def _area(self, metric: _Metric) -> int | None:
        names = list(self.parameters.areas)
        return names.index(metric.area) if metric.area in names else None

    def _cut(self, metric: _Metric) -> int | None:
        last = len(self.parameters.max_detections) - 1
        if metric.cut < 0:
            return last
        return metric.cut if metric.cut < last else None

    def to_metrics(self, iteration: str, provenance: str, subset: str = "all") -> pa.Table:
        """Return the 12 numbers over all classes, then those of each class, as ``METRICS``.

        Args:
            iteration: Name of the iteration.
            provenance: Fingerprint of the inputs.
            subset: Name of the subset of data units that the input tables hold.
        """
        summary = self.summary()
        overall = np.array([[summary[metric.name]] for metric in METRICS_OF_COCO])
        each = np.array([self._per_class(metric) for metric in METRICS_OF_COCO])
        labels = np.array([self._labels_counted(metric) for metric in METRICS_OF_COCO])
        value = np.concatenate([overall, each], axis=1).T.ravel()
        n_labels = np.concatenate([labels.sum(axis=1, keepdims=True), labels], axis=1).T.ravel()
        n_predictions = np.append(self.n_predictions.sum(), self.n_predictions)
        n_cells, n_metrics = len(n_predictions), len(METRICS_OF_COCO)
        protocol = "coco_id_zero_counts" if self.parameters.annotation_id_zero_counts else "coco"

        def per_metric(values: list[Any]) -> pa.Array:
            return pa.array(values * n_cells)

        def per_class(values: list[str]) -> pa.Array:
            return pa.array([None, *values], pa.string()).take(
                pa.array(np.repeat(np.arange(n_cells), n_metrics))
            )

        n_rows = len(value)
        columns = {
            "iteration": pa.repeat(iteration, n_rows),
            "protocol": pa.repeat(protocol, n_rows),
            "iou_type": pa.repeat(self.parameters.iou_type, n_rows),
            "subset": pa.repeat(subset, n_rows),
            "metric": per_metric([metric.name for metric in METRICS_OF_COCO]),
            "feature_hash": per_class(self.feature_hashes),
            "attribute_hash": pa.nulls(n_rows, pa.string()),
            "option_hash": pa.nulls(n_rows, pa.string()),
            "class": per_class(self.class_names),
            "area_range": per_metric([metric.area for metric in METRICS_OF_COCO]),
            "iou_threshold": per_metric([metric.iou for metric in METRICS_OF_COCO]),
            "max_detections": per_metric([self._most(metric) for metric in METRICS_OF_COCO]),
            "value": pa.array(value, mask=value < 0),
            "n_labels": pa.array(n_labels),
            "n_predictions": pa.array(np.repeat(n_predictions, n_metrics)),
            "provenance": pa.repeat(provenance, n_rows),
        }
        return conform(pa.table(columns), METRICS)

    def _per_class(self, metric: _Metric) -> Floats:
        """Return a metric of each class (K), −1 where not defined."""
        cells = np.moveaxis(self._cells(metric), -1, 0)
        if not cells[:1].size:
            return np.full(len(self.feature_hashes), -1.0)
        # A class's cells are all −1 or none is, and rows are summed as np.mean sums one class.
        means: Floats = np.ascontiguousarray(cells).reshape(len(cells), -1).mean(axis=1)
        return means

    def _labels_counted(self, metric: _Metric) -> Ints:
        area = self._area(metric)
        return np.zeros_like(self.n_predictions) if area is None else self.n_labels[:, area]

    def _most(self, metric: _Metric) -> int:
        cut = self._cut(metric)
        return metric.nominal_cut if cut is None else self.parameters.max_detections[cut]


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
    thresholds = effective_thresholds(np.array(parameters.iou_thresholds))
    candidates = find_candidates(
        predictions,
        labels,
        data_units,
        classes,
        iou_type=parameters.iou_type,
        lowest=float(thresholds[0]),
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
    thresholds = effective_thresholds(np.array(parameters.iou_thresholds))
    most = parameters.max_detections[-1]
    if candidates.lowest > thresholds[0] or candidates.most < most:
        message = (
            f"Candidates were sought from IoU {candidates.lowest:g} and for {candidates.most} "
            f"predictions; the evaluation needs IoU {thresholds[0]:g} and {most}."
        )
        raise EaArrowError(message)
    arranged, pairs = candidates.arranged, candidates.pairs
    if candidates.lowest < thresholds[0] or candidates.most > most:
        near = (pairs.iou >= thresholds[0]) & (arranged.rank[pairs.prediction] < most)
        pairs = pairs.take(np.flatnonzero(near))
    ranges = np.array(list(parameters.areas.values()), np.float64)
    ignored = arranged.is_ignored | beyond(arranged.label_area, ranges)
    matched = Matched(
        arranged=arranged,
        pairs=pairs,
        matching=match_pairs(pairs, arranged.group, thresholds, ignored, arranged.is_crowd),
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
        _curves=Curves(matched, len(thresholds), recalls, parameters.max_detections),
    )
