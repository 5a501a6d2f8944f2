"""Pixels that are counted from 1: too little for AP50 to show, but AP and the corners do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.doctor.findings import Finding, counted
from ea_arrow.doctor.scoring import Detections, Truth, ap50, fit, matched
from ea_arrow.doctor.shifts import common_offset, moved, overlap, try_shift

if TYPE_CHECKING:
    from ea_arrow.arranged import Floats
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.trials import Mended, Trials

LEAST_PAIRS: Final = 30
CLOSE: Final = 0.7
EXACT, LOOSE = 0.05, 0.25
"""How far a median may lie from where it is expected, with all the pairs there can be and at worst:
three standard errors, between these."""

FAR: Final = 1.5
"""Pixels from which boxes are said to be shifted; less may be how a model was trained."""


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


def check_shifts(case: Case, trials: Trials, mended: Mended) -> list[Finding]:
    """Boxes that all lie off by the same: one pixel because they count from 1, or several."""
    return check_one_based(case, trials, mended) or check_shifted(case, mended)


def check_one_based(case: Case, trials: Trials, mended: Mended) -> list[Finding]:
    """Left and top edges one pixel too far to the right and down, as if pixels counted from 1.

    Either AP says so, where boxes are small enough; or the edges of close boxes do.
    """
    reading = mended.boxes or case.imported.reading
    if reading.scale != "pixels" or reading.one_based:
        return []
    found, shifted = trials.read_alike(
        mended.boxes, replace(reading, one_based=True), mended.classes
    )
    shift = try_shift(found, case.truth, shifted.box - found.box)
    before, after = offsets(found, case.truth), offsets(shifted, case.truth)
    pinned = before is not None and before.near(1.0, slice(0, 2))
    pinned = pinned and after is not None and after.near(0.0) and after.iou > before.iou  # type: ignore[union-attr]
    if shift is None and not pinned:
        return []
    evidence = {
        "pairs": before.pairs if before else None,
        "medians": before.median.tolist() if before else None,
        "medians_then": after.median.tolist() if after else None,
    }
    return [
        Finding(
            kind="one_based_pixels",
            severity="error",
            message="Boxes fit the labels better one pixel further left and up: pixels were "
            f"counted from 1.{_closer(found, shifted, case.truth)}",
            evidence=evidence,
            ap50_now=mended.then.ap50,
            ap50_then=ap50(
                trials.read(replace(reading, one_based=True), mended.classes), case.truth
            ),
            ap_now=_ap(found, case.truth),
            ap_then=_ap(shifted, case.truth),
            fix=("--box", reading.layout, "--one-based"),
        )
    ]


def check_shifted(case: Case, mended: Mended) -> list[Finding]:
    """Boxes that all lie several pixels to one side."""
    if mended.boxes is not None:
        return []
    found, truth = mended.found, case.truth
    offset = common_offset(found, truth)
    if offset is None or np.abs(offset).max() < FAR:
        return []
    change = np.array([*-offset, 0.0, 0.0])
    shift = try_shift(found, truth, change)
    if shift is None:
        return []
    there = moved(found, change)
    x, y = (float(value) for value in offset)
    return [
        Finding(
            kind="shifted_boxes",
            severity="error",
            message=f"All boxes lie off their labels by about the same: {_sides(x, y)}."
            f"{_closer(found, there, truth)}",
            evidence={"x": x, "y": y, "pairs": shift.pairs},
            ap50_now=mended.then.ap50,
            ap50_then=ap50(there, truth),
            ap_now=shift.now.ap,
            ap_then=shift.then.ap,
            fix=f"No option of the import does this to coordinates: {_undone(x, y)}, in pixels, "
            "then import. Were images cropped or padded?",
        )
    ]


def _sides(x: float, y: float) -> str:
    said = [f"{abs(x):.1f} pixels to the {'right' if x > 0 else 'left'}"] if round(x, 1) else []
    said += [f"{abs(y):.1f} pixels {'down' if y > 0 else 'up'}"] if round(y, 1) else []
    return " and ".join(said)


def _undone(x: float, y: float) -> str:
    both = [(by, axis) for by, axis in ((x, "x"), (y, "y")) if round(by, 1)]
    return " and ".join(
        f"subtract {by:.1f} from {axis}" if by > 0 else f"add {-by:.1f} to {axis}"
        for by, axis in both
    )


def _ap(found: Detections, truth: Truth) -> float | None:
    fitting = fit(found, truth)
    return None if fitting is None else fitting.ap


def _closer(found: Detections, then: Detections, truth: Truth) -> str:
    """What mending does to pairs that overlap by half."""
    pairs = matched(found, truth, 0.5)
    after = overlap(then.box[pairs.row], truth.box[pairs.label])
    means = f"{pairs.iou.mean():.4f} → {after.mean():.4f}"
    return f" Mean IoU of {counted(len(pairs.row), 'matched box')}: {means}."


def offsets(found: Detections, truth: Truth) -> Offsets | None:
    """How far the surer half of matched boxes is off their labels; None where they are few."""
    pairs = matched(found, truth, CLOSE)
    if not len(pairs.row):
        return None
    score = found.confidence[pairs.row]
    sure = score >= np.median(score)
    box, own = found.box[pairs.row[sure]], truth.box[pairs.label[sure]]
    if len(box) < LEAST_PAIRS:
        return None
    ends = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (box, own)]
    off = ends[0] - ends[1]
    median = np.median(off, axis=0)
    spread = 1.4826 * np.median(np.abs(off - median), axis=0)
    tolerance = (3 * 1.2533 * spread / np.sqrt(len(box))).clip(EXACT, LOOSE)
    return Offsets(median, tolerance, float(pairs.iou[sure].mean()), len(box))
