"""Boxes that all lie off by the same few pixels: too little for AP50, but not for AP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.doctor.scoring import fit, matched

if TYPE_CHECKING:
    from ea_arrow.arranged import Floats
    from ea_arrow.doctor.scoring import Detections, Fit, Matched, Truth

GAIN: Final = 0.01
GAIN_AT_90: Final = 1.1
_SURE: Final = 4.0
_LEAST_PAIRS: Final = 20
_OTHERS: Final = (-1.0, -0.5, 0.5, 1.5)


@dataclass(frozen=True)
class Closer:
    """How much better boxes fit elsewhere.

    Attributes:
        now: How they fit.
        then: How they fit there.
        iou: Mean IoU of the pairs that overlap by half.
        iou_then: That of the same pairs.
        pairs: How many.
    """

    now: Fit
    then: Fit
    iou: float
    iou_then: float
    pairs: int


def try_shift(found: Detections, truth: Truth, by: Floats | tuple[float, ...]) -> Closer | None:
    """Whether boxes fit clearly better with something added, and best with just that.

    A detector is noisy, and may be biased by a fraction of a pixel; so half as much, half as much
    again and the opposite must be worse (see also :func:`try_closer`).

    Args:
        found: Predictions.
        truth: Labels.
        by: What to add to left, top, width and height: (4), or (N, 4) for each.
    """
    change = np.broadcast_to(np.asarray(by, np.float64), found.box.shape)
    closer = try_closer(found, moved(found, change), truth)
    if closer is None:
        return None
    for part in _OTHERS:
        other = fit(moved(found, part * change), truth)
        if other is not None and other.ap >= closer.then.ap:
            return None
    return closer


def try_closer(found: Detections, there: Detections, truth: Truth) -> Closer | None:
    """Whether the same predictions fit clearly better with other boxes.

    AP must rise clearly, most of all where boxes must fit closely, and the same pairs must overlap
    more beyond doubt.
    """
    gain = _gain(found, there, truth)
    if gain is None:
        return None
    now, then = fit(found, truth), fit(there, truth)
    if now is None or then is None:
        return None
    if then.ap - now.ap < GAIN or then.ap90 <= GAIN_AT_90 * now.ap90:
        return None
    return Closer(now, then, *gain)


def moved(found: Detections, by: Floats) -> Detections:
    """Predictions with something added to left, top, width and height."""
    return replace(found, box=found.box + by)


def _gain(found: Detections, there: Detections, truth: Truth) -> tuple[float, float, int] | None:
    """Mean IoU of pairs before and after, and how many; None if the rise may be chance."""
    pairs = max((matched(boxes, truth, 0.5) for boxes in (found, there)), key=_number)
    if _number(pairs) < _LEAST_PAIRS:
        return None
    labels = truth.box[pairs.label]
    before, after = (overlap(boxes.box[pairs.row], labels) for boxes in (found, there))
    rise = after - before
    # Predictions of one label are no independent witnesses.
    label, which = np.unique(pairs.label, return_inverse=True)
    each = np.bincount(which, rise) / np.bincount(which)
    error = float(each.std()) / np.sqrt(len(label))
    if len(label) < _LEAST_PAIRS or float(each.mean()) <= _SURE * error:
        return None
    return float(before.mean()), float(after.mean()), _number(pairs)


def _number(pairs: Matched) -> int:
    return len(pairs.row)


def overlap(one: Floats, other: Floats) -> Floats:
    """IoU of boxes side by side (n, 4)."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    both = (high - low).clip(0).prod(axis=1)
    either = one[:, 2:].prod(axis=1) + other[:, 2:].prod(axis=1) - both
    iou: Floats = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return iou


def common_offset(found: Detections, truth: Truth) -> Floats | None:
    """By how much boxes lie right of and below their labels, if they all do; else None.

    Both edges must say the same, or boxes are too large or too small rather than shifted.

    Returns:
        x and y, in pixels (2).
    """
    total = np.zeros(2)
    for _ in range(3):  # large boxes match from the start, small ones once they are nearly right
        pairs = matched(moved(found, np.array([*-total, 0.0, 0.0])), truth, 0.5)
        if len(pairs.row) < _LEAST_PAIRS:
            return None
        box, label = found.box[pairs.row], truth.box[pairs.label]
        near = box[:, :2] - label[:, :2]
        far = near + box[:, 2:] - label[:, 2:]
        edges = np.median(near, axis=0), np.median(far, axis=0)
        total = (edges[0] + edges[1]) / 2
    apart = np.abs(edges[0] - edges[1])
    return None if (apart > np.maximum(np.abs(total).max() / 2, 0.5)).any() else total
