"""Average precision and recall as Encord Active computes them, and plain precision, recall and F1.

AP follows Encord Active's definition, its ``eps`` included: a class with a single label never quite
reaches recall 1, so its AP stays below 100/101. Left out are two defects of theirs: a threshold of
0 that acts as 0.5, and labels of a class without predictions that are never false negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import run_starts, stable_order
from ea_arrow.conform import conform
from ea_arrow.encord_match import match
from ea_arrow.schema import METRICS

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints
    from ea_arrow.candidates import Candidates

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls (R) at which precision is read."""

_EPS = np.spacing(1)
_OF_CLASS = ("AP", "AR", "precision", "recall", "F1")
_OVERALL = ("mAP", "mAR", "precision", "recall", "F1")


@dataclass(frozen=True)
class EncordEvaluation:
    """Counts and precision of classes (K) at one IoU threshold; metrics derive from them.

    A metric is −1 where it is not defined: ``ap``, ``ar`` and ``recall`` without labels that count,
    ``precision`` without predictions, ``f1`` without either.

    Attributes:
        feature_hashes: The classes (K).
        class_names: Their names (K).
        iou_threshold: IoU from which a pair can match.
        n_labels: Labels that count (K).
        n_predictions: Predictions (K).
        n_tp: Predictions that match a label, which is as many as labels found (K).
        interpolated_precision: Highest precision at each of ``RECALLS`` or beyond (K, R); 0 where
            the recall is never reached, −1 for a class without labels that count.
    """

    feature_hashes: list[str]
    class_names: list[str]
    iou_threshold: float
    n_labels: Ints
    n_predictions: Ints
    n_tp: Ints
    interpolated_precision: Floats

    @property
    def n_fp(self) -> Ints:
        """Predictions that match no label (K)."""
        return self.n_predictions - self.n_tp

    @property
    def n_fn(self) -> Ints:
        """Labels that count and that no prediction matches (K)."""
        return self.n_labels - self.n_tp

    @property
    def ap(self) -> Floats:
        """Mean of the interpolated precisions (K)."""
        means: Floats = self.interpolated_precision.mean(axis=1)
        return means

    @property
    def ar(self) -> Floats:
        """Recall of all predictions (K): n_tp / (n_labels + eps)."""
        return np.where(self.n_labels > 0, self.n_tp / (self.n_labels + _EPS), -1.0)

    @property
    def precision(self) -> Floats:
        """n_tp / n_predictions (K)."""
        return _ratio(self.n_tp, self.n_predictions)

    @property
    def recall(self) -> Floats:
        """n_tp / n_labels (K)."""
        return _ratio(self.n_tp, self.n_labels)

    @property
    def f1(self) -> Floats:
        """2 n_tp / (n_predictions + n_labels) (K)."""
        return _ratio(2 * self.n_tp, self.n_predictions + self.n_labels)

    @property
    def mean_ap(self) -> float:
        """Mean of ``ap`` over the classes with labels that count; −1 if there are none."""
        return self._mean(self.ap)

    @property
    def mean_ar(self) -> float:
        """Mean of ``ar`` over the classes with labels that count; −1 if there are none."""
        return self._mean(self.ar)

    @property
    def overall_precision(self) -> float:
        """Precision of all classes counted together."""
        return float(_ratio(self.n_tp.sum(), self.n_predictions.sum()))

    @property
    def overall_recall(self) -> float:
        """Recall of all classes counted together."""
        return float(_ratio(self.n_tp.sum(), self.n_labels.sum()))

    @property
    def overall_f1(self) -> float:
        """F1 of all classes counted together."""
        counted = self.n_predictions.sum() + self.n_labels.sum()
        return float(_ratio(2 * self.n_tp.sum(), counted))

    def _mean(self, values: Floats) -> float:
        defined = values[self.n_labels > 0]
        return float(defined.mean()) if len(defined) else -1.0

    def to_metrics(
        self, iteration: str, provenance: str, subset: str = "all", iou_type: str = "bbox"
    ) -> pa.Table:
        """Return the five numbers over all classes, then those of each class, as ``METRICS``.

        Args:
            iteration: Name of the iteration.
            provenance: Fingerprint of the inputs.
            subset: Name of the subset of data units that the candidates hold.
            iou_type: What was compared, ``bbox`` or ``segm``.
        """
        overall = [
            self.mean_ap,
            self.mean_ar,
            self.overall_precision,
            self.overall_recall,
            self.overall_f1,
        ]
        each = np.stack([self.ap, self.ar, self.precision, self.recall, self.f1], axis=1)
        value = np.append(overall, each)
        n_rows, n_metrics = len(value), len(_OVERALL)

        def per_class(values: list[str]) -> pa.Array:
            cells = np.repeat(np.arange(len(values) + 1), n_metrics)
            return pa.array([None, *values], pa.string()).take(pa.array(cells))

        def counts(of_class: Ints) -> Ints:
            return np.repeat(np.append(of_class.sum(), of_class), n_metrics)

        columns = {
            "iteration": pa.repeat(iteration, n_rows),
            "protocol": pa.repeat("encord", n_rows),
            "iou_type": pa.repeat(iou_type, n_rows),
            "subset": pa.repeat(subset, n_rows),
            "metric": pa.array([*_OVERALL, *(_OF_CLASS * len(self.feature_hashes))]),
            "feature_hash": per_class(self.feature_hashes),
            "attribute_hash": pa.nulls(n_rows, pa.string()),
            "option_hash": pa.nulls(n_rows, pa.string()),
            "class": per_class(self.class_names),
            "area_range": pa.nulls(n_rows, pa.string()),
            "area_low": pa.nulls(n_rows, pa.float64()),
            "area_high": pa.nulls(n_rows, pa.float64()),
            "iou_threshold": pa.repeat(float(self.iou_threshold), n_rows),
            "iou_thresholds": pa.array([[float(self.iou_threshold)]] * n_rows),
            "max_detections": pa.nulls(n_rows, pa.int64()),
            "value": pa.array(value, mask=value < 0),
            "n_labels": pa.array(counts(self.n_labels)),
            "n_predictions": pa.array(counts(self.n_predictions)),
            "provenance": pa.repeat(provenance, n_rows),
        }
        return conform(pa.table(columns), METRICS)


def evaluate(
    candidates: Candidates,
    classes: Any,
    iou_threshold: float = 0.5,
    *,
    ignore_unmatched_frames: bool = False,
) -> EncordEvaluation:
    """Evaluate as Encord Active does.

    Args:
        candidates: With all pairs that overlap at all, of all predictions.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes K.
        iou_threshold: IoU from which a pair can match; above 0, at most 1.
        ignore_unmatched_frames: Count only labels in data units that have a prediction, of
            whatever class. This bears on recall, and so on AP and F1; it changes no match.

    Raises:
        EaArrowError: Pairs are missing among the candidates.
    """
    arranged = candidates.arranged
    is_tp = match(candidates, iou_threshold).is_tp
    label_class = arranged.label_class
    if ignore_unmatched_frames:
        label_class = label_class[np.isin(arranged.label_unit, arranged.unit)]
    n_classes = arranged.n_classes
    n_labels = np.bincount(label_class, minlength=n_classes)
    objects = classes.filter(pc.equal(classes.column("kind"), "object"))
    return EncordEvaluation(
        feature_hashes=objects.column("feature_hash").to_pylist(),
        class_names=objects.column("name").to_pylist(),
        iou_threshold=iou_threshold,
        n_labels=n_labels,
        n_predictions=np.bincount(arranged.klass, minlength=n_classes),
        n_tp=np.bincount(arranged.klass[is_tp], minlength=n_classes),
        interpolated_precision=_interpolated_precision(arranged, is_tp, n_labels),
    )


def _class_order(arranged: Arranged) -> Ints:
    """Return the order by class, falling confidence and arrival.

    The arrival has its own sort, for all three and a position do not fit into one integer.
    """

    def keyed(values: Ints) -> tuple[Ints, int]:
        return values, int(values.max(initial=-1)) + 1  # of a subset, ranks and ids have gaps

    arrival = stable_order(keyed(arranged.prediction_id))
    klass, score_rank = arranged.klass[arrival], arranged.score_rank[arrival]
    return arrival[stable_order((klass, arranged.n_classes), keyed(score_rank))]


def _interpolated_precision(arranged: Arranged, is_tp: Bools, n_labels: Ints) -> Floats:
    """Return the highest precision among the hits that reach each recall (K, R).

    Precision only rises at a hit, so the envelope needs no more than the hits.
    """
    order = _class_order(arranged)
    klass = arranged.klass[order]
    counts = np.bincount(klass, minlength=len(n_labels))
    before = np.cumsum(counts) - counts
    position = np.flatnonzero(is_tp[order])
    klass = klass[position]
    hits = np.bincount(klass, minlength=len(n_labels))
    hit = np.arange(1, len(position) + 1) - (np.cumsum(hits) - hits)[klass]
    precision = hit / (position + 1 - before[klass] + _EPS)
    recall = hit / (n_labels[klass] + _EPS)

    last_reached = np.searchsorted(RECALLS, recall, side="right") - 1
    cell = klass * len(RECALLS) + last_reached  # ascends: so does recall within a class
    starts = run_starts(cell)
    peaks = np.zeros((len(n_labels), len(RECALLS)))
    peaks.flat[cell[starts]] = np.maximum.reduceat(precision, starts)
    envelope = np.maximum.accumulate(peaks[:, ::-1], axis=1)[:, ::-1]
    envelope[n_labels == 0] = -1
    return np.ascontiguousarray(envelope)


def _ratio(part: Any, whole: Any) -> Floats:
    """Return part / whole of counts, one or many, −1 where the whole is 0."""
    ratio: Floats = np.where(whole > 0, part / np.maximum(whole, 1), -1.0)
    return ratio
