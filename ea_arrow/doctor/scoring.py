"""AP50 of rows in memory, by the engine that computes a project's metrics."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.candidates import Candidates, find_candidates
from ea_arrow.metrics.coco import evaluate_candidates
from ea_arrow.metrics.parameters import CocoParameters
from ea_arrow.pairs import best_labels
from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints

MOST: Final = 100
AT_50: Final = CocoParameters(
    iou_thresholds=(0.5,), areas={"all": (0.0, 1e10)}, max_detections=(MOST,)
)
AT_ALL: Final = CocoParameters(areas=AT_50.areas, max_detections=AT_50.max_detections)
_AT_90: Final = [round(100 * iou) for iou in AT_ALL.iou_thresholds].index(90)


@dataclass(frozen=True)
class Detections:
    """Predictions (N), in arrival order.

    Attributes:
        unit: Position of the data unit.
        klass: Position among the object classes.
        box: Left, top, width, height in pixels (N, 4).
        area: Area that size ranges use.
        confidence: Score.
    """

    unit: Ints
    klass: Ints
    box: Floats
    area: Floats
    confidence: Floats

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, chosen: Ints | Bools) -> Detections:
        """Some of them."""
        return Detections(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def followed_by(self, more: Detections) -> Detections:
        """These, then others."""
        names = [f.name for f in fields(self)]
        return Detections(*(np.concatenate([getattr(self, n), getattr(more, n)]) for n in names))

    def table(self) -> Any:
        """The columns of ``PREDICTIONS`` that an evaluation reads; keys are positions."""
        return pa.table(
            {
                **_keys(self.unit, self.klass, self.box),
                "prediction_id": pa.array(np.arange(len(self))),
                "confidence": pa.array(self.confidence),
                "area": pa.array(self.area),
            }
        )


@dataclass(frozen=True)
class Truth:
    """Labels (L) in order of ``label_id``, and what there is of data units and classes.

    Attributes:
        unit: Position of the data unit.
        klass: Position among the object classes.
        box: Left, top, width, height in pixels (L, 4).
        area: Area that size ranges use.
        is_crowd: Whether any number of predictions may match it.
        is_ignored: Whether it is neither hit nor miss.
        has_id_zero: Whether pycocotools takes it for "not matched".
        n_classes: Number of object classes (K).
        width: Of each data unit (U), in pixels.
        height: Of each data unit (U), in pixels.
    """

    unit: Ints
    klass: Ints
    box: Floats
    area: Floats
    is_crowd: Bools
    is_ignored: Bools
    has_id_zero: Bools
    n_classes: int
    width: Floats
    height: Floats

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def size(self) -> Floats:
        """Width, height, width, height of each data unit (U, 4)."""
        return np.stack([self.width, self.height, self.width, self.height], axis=1)

    @property
    def counts(self) -> Bools:
        """Which labels are to be found (L)."""
        return ~(self.is_crowd | self.is_ignored)

    def merged(self) -> Truth:
        """The same with a single class."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Truth(**{**values, "klass": np.zeros_like(self.klass), "n_classes": 1})

    def within(self, chosen: Bools) -> Truth:
        """Only some labels, given as a flag for each."""
        of_units = ("n_classes", "width", "height")
        values = {
            f.name: getattr(self, f.name) if f.name in of_units else getattr(self, f.name)[chosen]
            for f in fields(self)
        }
        return Truth(**values)

    def table(self) -> Any:
        """The columns of ``LABELS`` that an evaluation reads; keys are positions."""
        n = len(self)
        ids = pa.array(np.where(self.has_id_zero, "0", "1").tolist(), pa.string())
        return pa.table(
            {
                **_keys(self.unit, self.klass, self.box),
                "label_id": pa.array(np.arange(n)),
                "area": pa.array(self.area),
                "is_crowd": pa.array(self.is_crowd),
                "is_ignored": pa.array(self.is_ignored),
                "source_id": ids,
            }
        )

    def frames(self) -> tuple[Any, Any]:
        """``DATA_UNITS`` and ``CLASSES``, as far as an evaluation reads them."""
        n = len(self.width)
        units = {"data_hash": pa.array(np.arange(n)), "frame": pa.array(np.zeros(n, np.int64))}
        classes = {
            "kind": pa.array(["object"] * self.n_classes, pa.string()),
            "feature_hash": pa.array(np.arange(self.n_classes)),
            "name": pa.array([""] * self.n_classes, pa.string()),
        }
        return pa.table(units), pa.table(classes)


@dataclass(frozen=True)
class Score:
    """What an evaluation came to.

    Attributes:
        ap50: AP at IoU 0.5; None where no label counts.
        hits: Predictions that match a label which counts.
        classes: Classes of labels among the hits.
        recall: Hits among labels that count, of all classes together.
    """

    ap50: float | None
    hits: int
    classes: int
    recall: float = 0.0


@dataclass(frozen=True)
class Fit:
    """How closely boxes fit.

    Attributes:
        ap: AP, the mean over IoU 0.5, 0.55, … 0.95.
        ap90: AP at IoU 0.9.
    """

    ap: float
    ap90: float


@dataclass(frozen=True)
class Matched:
    """Predictions and the labels that they overlap most (M).

    Attributes:
        row: Which predictions.
        label: Which labels.
        iou: How much each pair overlaps.
    """

    row: Ints
    label: Ints
    iou: Floats


def pairs_of(found: Detections, truth: Truth, lowest: float) -> Candidates:
    """The pairs of predictions and labels of a class that reach an IoU."""
    units, classes = truth.frames()
    return find_candidates(found.table(), truth.table(), units, classes, lowest=lowest, most=MOST)


def score(found: Detections, truth: Truth) -> Score:
    """Evaluate predictions as ``Project.metrics`` does."""
    candidates = pairs_of(found, truth, AT_50.lowest)
    evaluated = evaluate_candidates(candidates, truth.frames()[1], AT_50)
    value = evaluated.summary()["AP"]
    label = evaluated.matched_labels()[0]
    hit = (label >= 0) & ~evaluated.ignored_predictions()[0]
    classes, hits = len(np.unique(truth.klass[label[hit]])), int(hit.sum())
    recall = hits / max(int(truth.counts.sum()), 1)
    return Score(None if value < 0 else value, hits, classes, recall)


def fit(found: Detections, truth: Truth) -> Fit | None:
    """AP over all thresholds, as ``Project.metrics`` has it; None without labels."""
    candidates = pairs_of(found, truth, AT_ALL.lowest)
    evaluated = evaluate_candidates(candidates, truth.frames()[1], AT_ALL)
    ap = evaluated.summary()["AP"]
    at_90 = evaluated.precision[_AT_90]
    return Fit(ap, float(at_90[at_90 > -1].mean())) if ap >= 0 else None


def matched(found: Detections, truth: Truth, lowest: float) -> Matched:
    """The predictions that reach an IoU with a label of their class which counts, and that label.

    Crowds are left out: what is called IoU is another measure for them.
    """
    counting = np.flatnonzero(truth.counts)
    candidates = pairs_of(found, truth.within(truth.counts), lowest)
    arranged = candidates.arranged
    label, iou = best_labels(candidates.pairs, arranged)
    hit = np.flatnonzero(label >= 0)
    return Matched(arranged.row[hit], counting[arranged.label_row[label[hit]]], iou[hit])


def ap50(found: Detections, truth: Truth) -> float | None:
    """AP at IoU 0.5 of boxes of all sizes, 100 a data unit and class; None without labels."""
    return score(found, truth).ap50


def _keys(unit: Ints, klass: Ints, box: Floats) -> dict[str, Any]:
    n = len(unit)
    return {
        "data_hash": pa.array(unit),
        "frame": pa.array(np.zeros(n, np.int64)),
        "format": pa.array(["bounding_box"], pa.string()).take(pa.array(np.zeros(n, np.int64))),
        "feature_hash": pa.array(klass),
        **{name: pa.array(np.ascontiguousarray(box[:, i])) for i, name in enumerate(BOX)},
    }
