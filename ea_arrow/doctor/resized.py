"""Boxes in pixels of the image that a model saw: squares it was stretched to or fitted into."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.doctor.scoring import fit, matched
from ea_arrow.sources.boxes import to_xywh

if TYPE_CHECKING:
    from collections.abc import Callable

    from ea_arrow.arranged import Floats
    from ea_arrow.doctor.layouts import BoxReading, Scale
    from ea_arrow.doctor.scoring import Detections, Truth

USUAL: Final = (224, 256, 300, 320, 384, 416, 448, 512, 600, 608, 640, 736, 768, 800, 896, 1024,
                1280, 1536)  # fmt: skip
"""Usual sides of the squares that models see."""

SHORTEST: Final = ((800, 1333), (600, 1000), (600, 1024), (320, 640))
"""Usual lengths of the shorter side, and the most of the longer: Detectron, torchvision."""

SQUARES: Final[tuple[Scale, ...]] = ("stretched", "letterboxed", "padded")
_STRIDE: Final = 16
_NEAR: Final = 0.04
_SLACK: Final = 0.02
_WORTH: Final = 0.005
_LEAST_PAIRS: Final = 10


def resized_readings(now: BoxReading, numbers: Floats, size: Floats) -> list[BoxReading]:
    """The resized images that boxes may be of, by how far to the right and down they reach.

    Args:
        now: As boxes are read.
        numbers: Shape (n, 4), as the file has them.
        size: Width and height of their data units (n, 2).
    """
    if now.scale != "pixels" or not len(numbers):
        return []
    box = to_xywh(numbers, now.layout)
    ends = (box[:, :2] + box[:, 2:]).max(axis=1)
    reach = float(np.quantile(ends, 0.995))
    if not 2 < reach < 1e5:
        return []
    found = [
        replace(now, scale=scale, side=side, one_based=False)
        for side in _sides(reach, size.max(axis=1))
        for scale in SQUARES
    ]
    for side, most in SHORTEST:
        way = replace(now, scale="shortest", side=side, most=most, one_based=False)
        part = float(np.quantile(ends / (way.factor(size) * size.max(axis=1)), 0.995))
        found += [way] if 0.9 < part < 1 + _SLACK else []
    return found


def _sides(reach: float, longest: Floats) -> list[int]:
    """Sides of squares that hold the boxes: two usual ones, a multiple of 16, and the images'."""
    least = reach / (1 + _SLACK)
    usual = [side for side in USUAL if side >= least][:2]
    usual.append(int(-(-(reach - 1) // _STRIDE) * _STRIDE))
    return list(dict.fromkeys(usual + [s for s in _common(longest) if least <= s <= 1.5 * reach]))


def _common(longest: Floats) -> list[int]:
    """The two most common lengths of the longer side."""
    lengths, counts = np.unique(longest.astype(np.int64), return_counts=True)
    return [int(length) for length in lengths[np.argsort(-counts, kind="stable")][:2]]


def sharpened(
    way: BoxReading, read: Callable[[BoxReading], Detections], truth: Truth
) -> tuple[BoxReading, int]:
    """The square that fits best, near one that fits.

    Sides some per cent apart give nearly the same AP50; the sizes of matched boxes tell them
    apart, and AP over all thresholds decides.

    Returns:
        The reading, and how many were tried.
    """
    found = read(way)
    pairs = matched(found, truth, 0.5)
    if way.scale not in SQUARES or len(pairs.row) < _LEAST_PAIRS:
        return way, 0
    ratios = truth.box[pairs.label, 2:] / found.box[pairs.row, 2:]  # which overlap: no zeros
    estimate = way.side / float(np.median(ratios))
    near = [*USUAL, *_common(np.maximum(truth.width, truth.height))]
    sides = [way.side, *(s for s in near if abs(s - estimate) <= _NEAR * estimate)]
    best, highest = way, -1.0
    tried = list(dict.fromkeys([*sides, round(estimate)]))
    for side in tried:
        other = replace(way, side=side)
        ap = fit(read(other), truth)
        # An odd number has to be worth it: models rather see a usual one.
        needed = highest + (0.0 if side in sides else _WORTH)
        if ap is not None and ap.ap > needed:
            best, highest = other, ap.ap
    return best, len(tried)
