"""Matching predictions to labels as Encord Active does: the ``encord`` protocol.

A prediction stands for one label only: that of its class and data unit with the highest IoU. Of the
predictions that stand for a label, the most confident one that reaches the threshold is its hit;
the others never look for another label, as they would under ``coco``. There is no limit on
detections. Encord Active has neither crowds nor ignored labels: they take part like any other (the
IoU with a crowd stays COCO's, the share of the prediction that it covers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ea_arrow.candidates import ANY_OVERLAP
from ea_arrow.pairs import best_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.candidates import Candidates

MATCHED, ALREADY_MATCHED, TOO_LOW, NO_OVERLAP = range(4)
"""Reasons of predictions, as positions in :func:`verdicts`; to the last the class is added."""

NOT_OVERLAPPED, NOT_BEST, NOT_REACHED = range(3)
"""Reasons of missed labels, as positions in ``MISSES``."""

MISSES = (
    "No prediction of this class overlaps.",
    "Every prediction of this class that overlaps has its best IoU with another label.",
    "IoU too low with every prediction that has its best IoU with this label.",
)
"""Why a label was missed."""


@dataclass(frozen=True)
class EncordMatches:
    """What became of predictions (N) and labels (L), both in group order.

    Attributes:
        label: Position of the label that each prediction stands for, −1 without overlap (N).
        iou: IoU with it, 0 without overlap (N).
        is_tp: Whether a prediction is a true positive (N); all others are false positives.
        reason: Position in :func:`verdicts` (N); ``NO_OVERLAP`` + class without overlap.
        is_found: Whether a label has a true positive (L); all others are false negatives.
        miss: Position in ``MISSES`` of labels that are not found (L).
    """

    label: Ints
    iou: Floats
    is_tp: Bools
    reason: Ints
    is_found: Bools
    miss: Ints


def verdicts(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Return outcome and reason of predictions, which ``EncordMatches.reason`` points into.

    Args:
        class_names: Names of the classes (K).
    """
    return [
        ("TP", "Matched label."),
        ("FP", "Prediction with higher confidence already matched label."),
        ("FP", "IoU too low."),
        *(("FP", f"No overlapping label of class `{name}`.") for name in class_names),
    ]


def match(candidates: Candidates, iou_threshold: float) -> EncordMatches:
    """Match as Encord Active does.

    A prediction less confident than the hit of its label has the reason ``ALREADY_MATCHED``,
    whatever its own IoU; a more confident one was below the threshold and has ``TOO_LOW``. Of
    labels with equal IoU a prediction stands for the one of lowest ``label_id``.

    Args:
        candidates: With all pairs that overlap at all, of all predictions.
        iou_threshold: IoU from which a pair can match; above 0, at most 1. It is compared as it
            is: pycocotools' allowance below 1 is not made.

    Raises:
        EaArrowError: Pairs are missing among the candidates.
    """
    _check_complete(candidates)
    arranged = candidates.arranged
    n, n_labels = len(arranged.row), len(arranged.label_row)
    label, iou = best_labels(candidates.pairs, arranged)
    stands = label >= 0
    reaches = np.flatnonzero(stands & (iou >= iou_threshold))[::-1]
    hit = np.full(n_labels, n)
    hit[label[reaches]] = reaches  # of several, the last written: the most confident
    place, hit_of_label = np.arange(n), np.append(hit, n)[label]
    is_tp = place == hit_of_label
    overlapped, stood_for = np.zeros((2, n_labels), bool)
    overlapped[candidates.pairs.label] = True
    stood_for[label[stands]] = True
    return EncordMatches(
        label=label,
        iou=iou,
        is_tp=is_tp,
        reason=np.select(
            [~stands, is_tp, place > hit_of_label],
            [NO_OVERLAP + arranged.klass, MATCHED, ALREADY_MATCHED],
            TOO_LOW,
        ),
        is_found=hit < n,
        miss=np.select([stood_for, overlapped], [NOT_REACHED, NOT_BEST], NOT_OVERLAPPED),
    )


def _check_complete(candidates: Candidates) -> None:
    most = int(candidates.arranged.rank.max(initial=-1)) + 1
    candidates.check(ANY_OVERLAP, most, f"the encord protocol needs every overlap and {most}")
