"""Pixels that are counted from 1: too little for AP50 to show, but seen in where corners lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.doctor.findings import Finding
from ea_arrow.doctor.scoring import Detections, Truth, ap50, pairs_of
from ea_arrow.pairs import best_labels

if TYPE_CHECKING:
    from ea_arrow.arranged import Floats
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.layouts import BoxReading
    from ea_arrow.doctor.trials import Mended, Trials

LEAST_PAIRS: Final = 30
CLOSE: Final = 0.7
EXACT, LOOSE = 0.05, 0.25
"""How far a median may lie from where it is expected, with all the pairs there can be and at worst:
three standard errors, between these."""


@dataclass(frozen=True)
class Offsets:
    """How much predictions are off their labels, left, top, right and bottom, in pixels.

    Attributes:
        median: Of each side (4).
        tolerance: Within which a median is what is expected (4).
        iou: Mean IoU of the pairs.
        pairs: How many.
    """

    median: Floats
    tolerance: Floats
    iou: float
    pairs: int

    def near(self, expected: Floats | float, sides: slice = slice(None)) -> bool:
        """Whether medians are what is expected."""
        apart = np.abs(self.median - expected)[sides]
        return bool((apart <= self.tolerance[sides]).all())


def check_one_based(case: Case, trials: Trials, mended: Mended) -> list[Finding]:
    """Left and top edges one pixel too far to the right and down, as if pixels counted from 1."""
    reading = mended.boxes or case.imported.reading
    if reading.scale != "pixels" or reading.one_based:
        return []
    before = offsets(mended.found, case.truth)
    if before is None or not before.near(1.0, slice(0, 2)):
        return []
    shifted = trials.read(replace(reading, one_based=True), mended.classes)
    after = offsets(shifted, case.truth)
    if after is None or not after.near(0.0) or after.iou <= before.iou:
        return []
    left, top = before.median[:2]
    message = f"Left and top edges lie {left:.2f} and {top:.2f} pixels (median of {before.pairs:,} "
    message += (
        "matched boxes) right of and below the labels': pixels were counted from 1. Mean IoU "
    )
    message += f"{before.iou:.4f} → {after.iou:.4f} if counted from 0."
    evidence = {
        "pairs": before.pairs,
        "medians": before.median.tolist(),
        "medians_then": after.median.tolist(),
        "iou": before.iou,
        "iou_then": after.iou,
    }
    return [
        Finding(
            kind="one_based_pixels",
            severity="error",
            message=message,
            evidence=evidence,
            ap50_now=mended.then.ap50,
            ap50_then=ap50(shifted, case.truth),
            fix=_options(reading),
        )
    ]


def offsets(found: Detections, truth: Truth) -> Offsets | None:
    """How far the surer half of matched boxes is off their labels; None where they are few."""
    candidates = pairs_of(found, truth, CLOSE)
    arranged = candidates.arranged
    label, iou = best_labels(candidates.pairs, arranged)
    hit = np.flatnonzero(label >= 0)
    if not len(hit):
        return None
    hit = hit[arranged.confidence[hit] >= np.median(arranged.confidence[hit])]
    box, own = found.box[arranged.row[hit]], truth.box[arranged.label_row[label[hit]]]
    if len(hit) < LEAST_PAIRS:
        return None
    ends = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (box, own)]
    off = ends[0] - ends[1]
    median = np.median(off, axis=0)
    spread = 1.4826 * np.median(np.abs(off - median), axis=0)
    tolerance = (3 * 1.2533 * spread / np.sqrt(len(hit))).clip(EXACT, LOOSE)
    return Offsets(median, tolerance, float(iou[hit].mean()), len(hit))


def _options(reading: BoxReading) -> tuple[str, ...]:
    return ("--box", reading.layout, "--one-based")
