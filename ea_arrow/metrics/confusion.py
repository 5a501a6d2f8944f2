"""Confusion matrix of objects: which class predictions give to labels of which class.

Definition, at one IoU threshold and from one confidence up:

1. Within each class, predictions and labels match as pycocotools matches them. These pairs are the
   diagonal, which is therefore the true positives of protocol ``coco`` at the same thresholds. What
   matches an ignored label, or nothing while its area is beyond every range, is left out, as there.
2. The predictions left over in a data unit, by falling confidence (ties by ``prediction_id``), each
   take the free label of another class with the highest IoU (ties: the highest ``label_id``).
   These pairs are the cells off the diagonal.
3. What is left is the background: predictions without label its row, labels without prediction its
   column.

Tools that match all classes at once (Ultralytics, supervision) let a surer prediction of another
class take a label from one of its own, so that their diagonal disagrees with precision and recall;
the diagonal comes first here. Every label that counts stands in exactly one cell of its class's
row, every prediction that counts in exactly one of its class's column. A label whose id is 0 counts
like any other: pycocotools' quirk is no property of a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow import coco_match
from ea_arrow.candidates import effective_threshold
from ea_arrow.conform import conform
from ea_arrow.errors import EaArrowError
from ea_arrow.match import match_pairs
from ea_arrow.pairs import Pairs
from ea_arrow.schema import CONFUSION

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Ints
    from ea_arrow.candidates import Candidates


@dataclass(frozen=True)
class Outcomes:
    """What protocol ``coco`` makes of predictions (N) and labels (L) at one IoU threshold.

    Attributes:
        takes_part: Whether a prediction is within the cut and sure enough (N).
        hit: Whether it matches a label that counts (N): a true positive.
        false_alarm: Whether it matches none and is not to be ignored (N): a false positive.
        counts: Whether a label is to be found (L).
        found: Whether it is (L).
    """

    takes_part: Bools
    hit: Bools
    false_alarm: Bools
    counts: Bools
    found: Bools


def match_at(
    candidates: Candidates,
    iou_threshold: float,
    max_detections: int,
    confidence: float | None = None,
) -> Outcomes:
    """Match as pycocotools does, in all sizes; a label whose id is 0 counts as found.

    Args:
        candidates: With pairs down to the threshold and up to the cut.
        iou_threshold: IoU from which a pair can match.
        max_detections: Most confident predictions counted per data unit and class.
        confidence: Lowest score that takes part; by default all do.

    Raises:
        EaArrowError: The candidates do not reach down to the threshold or up to the cut.
    """
    arranged = candidates.arranged
    lowest = effective_threshold(iou_threshold)
    candidates.check(lowest, max_detections, f"IoU {lowest:g} and {max_detections} are needed")
    takes_part = arranged.rank < max_detections
    if confidence is not None:
        takes_part &= arranged.confidence >= confidence
    found = coco_match.match(candidates, iou_threshold, takes_part)
    prediction, label = found.matched.prediction, found.matched.label
    any_match, hit = np.zeros((2, len(arranged.row)), bool)
    any_match[prediction] = True
    hit[prediction] = ~found.ignored[label]
    is_found = np.zeros(len(arranged.label_row), bool)
    is_found[label] = ~found.ignored[label]
    return Outcomes(
        takes_part=takes_part,
        hit=hit,
        false_alarm=takes_part & ~any_match & ~found.outside,
        counts=~found.ignored,
        found=is_found,
    )


def confusion(
    candidates: Candidates,
    classes: Any,
    iou_threshold: float = 0.5,
    confidence: float | None = None,
    *,
    iteration: str = "",
    iou_type: str = "bbox",
    subset: str = "all",
    max_detections: int = 100,
) -> pa.Table:
    """Count labels by their class and the class predicted for them, as the module defines it.

    Args:
        candidates: With the pairs of one class and those across classes that reach the threshold.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes.
        iou_threshold: IoU from which a pair can match, within a class and across.
        confidence: Lowest score that takes part; by default all do.
        iteration: What the result says in its column ``iteration``.
        iou_type: What it says in ``iou_type``.
        subset: What it says in ``subset``.
        max_detections: Most confident predictions counted per data unit and class.

    Returns:
        A table in the shape of ``CONFUSION``: the cells that are not 0, by the label's class, then
        the predicted class, in the order of ``classes``, the background last.

    Raises:
        EaArrowError: The candidates lack pairs that the threshold, the cut or the classes need.
    """
    if candidates.across is None:
        message = "A confusion matrix needs candidates with pairs across classes (lowest_across)."
        raise EaArrowError(message)
    outcomes = match_at(candidates, iou_threshold, max_detections, confidence)
    label_class, predicted_class, count = _count(
        candidates.arranged, candidates.across, outcomes, iou_threshold
    )
    n = len(count)
    columns = {
        "iteration": pa.repeat(iteration, n),
        "iou_type": pa.repeat(iou_type, n),
        "iou_threshold": pa.repeat(float(iou_threshold), n),
        "confidence": pa.array([confidence], pa.float64()).take(pa.array(np.zeros(n, np.int64))),
        "max_detections": pa.repeat(max_detections, n),
        "subset": pa.repeat(subset, n),
        "attribute_hash": pa.nulls(n, pa.string()),
        **_named("label", classes, label_class),
        **_named("predicted", classes, predicted_class),
        "count": pa.array(count),
    }
    return conform(pa.table(columns), CONFUSION)


def _count(
    arranged: Arranged, across: Pairs, outcomes: Outcomes, iou_threshold: float
) -> tuple[Ints, Ints, Ints]:
    """Return the label's class, the predicted class and the count of each cell that is not 0."""
    mistaken, taken = _mistaken(arranged, across, outcomes, iou_threshold)
    alarms = outcomes.false_alarm.copy()
    alarms[mistaken] = False
    missed = outcomes.counts & ~outcomes.found
    missed[taken] = False
    background = arranged.n_classes
    width = background + 1
    cell = np.concatenate(
        [
            arranged.klass[outcomes.hit] * (width + 1),  # the diagonal
            arranged.label_class[taken] * width + arranged.klass[mistaken],
            background * width + arranged.klass[alarms],
            arranged.label_class[missed] * width + background,
        ]
    )
    cell, count = np.unique(cell, return_counts=True)
    return *np.divmod(cell, width), count


def _mistaken(
    arranged: Arranged, across: Pairs, outcomes: Outcomes, iou_threshold: float
) -> tuple[Ints, Ints]:
    """Return the left-over predictions that take a left-over label of another class, and these."""
    left = outcomes.false_alarm[across.prediction]
    left &= (outcomes.counts & ~outcomes.found)[across.label]
    thresholds = np.array([effective_threshold(iou_threshold)])
    pairs = across.take(np.flatnonzero(left & (across.iou >= thresholds[0])))

    # Predictions stand class by class: number them anew, by rank over the whole data unit.
    some, prediction = np.unique(pairs.prediction, return_inverse=True)
    unit = arranged.unit[some]
    order = np.lexsort((arranged.prediction_id[some], arranged.score_rank[some], unit))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    prediction = place[prediction]
    label_ids, label = np.unique(arranged.label_id[pairs.label], return_inverse=True)
    by_rank = np.lexsort((label, prediction))
    ranked = Pairs(prediction[by_rank], label[by_rank], pairs.iou[by_rank])

    plain = np.zeros((1, len(label_ids)), bool)  # ignored labels, crowds too, are not left over
    matched = by_rank[match_pairs(ranked, unit[order], thresholds, plain, plain[0]).pair[0]]
    return pairs.prediction[matched], pairs.label[matched]


def _named(side: str, classes: Any, klass: Ints) -> dict[str, Any]:
    """Return hash and name of each class, null for the background."""
    known = classes.filter(pc.equal(classes.column("kind"), "object"))
    at = pa.array(klass, mask=klass == len(known))
    return {
        f"{side}_hash": known.column("feature_hash").take(at),
        f"{side}_class": known.column("name").take(at),
    }
