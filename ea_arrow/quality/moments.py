"""Hu's moments of shapes: seven numbers that moving, scaling and turning a shape do not change.

They are those of the filled shape as an area in the plane: boxes in closed form, polygons by
Green's theorem along their rings, masks as the union of their pixels, each a square of side 1. So
a box, the polygon of its corners and the mask of its pixels have the same moments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.arranged import run_starts
from ea_arrow.quality.declared import Metric
from ea_arrow.quality.density import (
    character_blocks,
    foreground,
    has_mask,
    has_polygon,
    is_lost,
)
from ea_arrow.quality.geometry import remembered

if TYPE_CHECKING:
    import pyarrow as pa

    from ea_arrow.arranged import Floats, Ints
    from ea_arrow.quality.objects import Objects

_MASKS_AT_ONCE = 1 << 14
_ROWS_AT_ONCE = 1 << 14
_ROUNDING = 1e-12  # of central moments, of a shape of size 1: less is symmetry
_SAME = 1e-9  # spreads and distances: less is none

_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
"""Of x and y, in the order of all raw moments here."""


def hu_moments(objects: Objects) -> Floats:
    """Return Hu's seven moments of each object, shape (n, 7); NaN for a shape without area.

    Not on a logarithmic scale: many moments of symmetric shapes are 0, whose logarithm would be
    that of rounding. The array is kept with the objects: do not write to it.
    """
    return remembered(objects, "_hu_moments", _hu_moments)


def shape_outlier(objects: Objects) -> Floats:
    """Return 1 / distance of each object's moments to the mean of its class, shape (n,).

    Hu's moments are brought to mean 0 and standard deviation 1 over all objects given (one that
    does not vary stays out of it); the distance is Euclid's. Low values are outliers. NaN for a
    shape without area, and where the distance is 0: the only object of its class, or all alike.
    """
    outlier = np.full(len(objects), np.nan)
    hu = hu_moments(objects)
    rows = np.flatnonzero(np.isfinite(hu[:, 0]))
    if not len(rows):
        return outlier
    hu = hu[rows] - hu[rows].mean(axis=0)
    spread = np.sqrt((hu**2).mean(axis=0))
    varies = spread > _SAME * np.abs(hu_moments(objects)[rows]).max(axis=0)
    scored = hu[:, varies] / spread[varies]
    klass = objects.klass[rows] + 1
    count = np.maximum(np.bincount(klass), 1)
    squared = np.zeros(len(rows))
    for values in scored.T:
        squared += (values - (np.bincount(klass, weights=values) / count)[klass]) ** 2
    distance = np.sqrt(squared)
    away = distance > _SAME
    outlier[rows[away]] = 1 / distance[away]
    return outlier


# -- from shapes to raw moments --------------------------------------------------------------------


def _hu_moments(objects: Objects) -> Floats:
    hu = np.full((len(objects), 7), np.nan)
    masked, outlined = has_mask(objects), has_polygon(objects)
    _of_boxes(objects, np.flatnonzero(~(masked | outlined | is_lost(objects))), hu)
    if objects.polygon is not None:
        rows = np.flatnonzero(outlined)
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[begin : begin + _ROWS_AT_ONCE]
            hu[part] = _hu(_of_polygons(objects.polygon.take(part)))
    if objects.mask is not None:
        rows = np.flatnonzero(masked)
        for begin in range(0, len(rows), _MASKS_AT_ONCE):
            part = rows[begin : begin + _MASKS_AT_ONCE]
            masks = objects.mask.take(part)
            for low, high in character_blocks(masks, part):
                hu[part[low:high]] = _hu(_of_masks(masks[low:high]))
    return hu


def _of_boxes(objects: Objects, rows: Ints, hu: Floats) -> None:
    """Set the moments of boxes, rotated or not: ∫∫ x² / (w h)² is w / 12 h, odd powers vanish."""
    w, h = objects.box[rows, 2], objects.box[rows, 3]
    with np.errstate(all="ignore"):
        wide, tall = w / (12 * h), h / (12 * w)
        both, differ = wide + tall, (wide - tall) ** 2
    full = (w > 0) & (h > 0) & np.isfinite(both) & np.isfinite(differ)
    rows = rows[full]
    hu[rows] = 0
    hu[rows, 0], hu[rows, 1] = both[full], differ[full]


def _of_polygons(polygons: pa.ListArray) -> Floats:
    """Return the raw moments of polygons, shape (10, n), about their middle and in their size.

    By Green's theorem, a ring at a time; each is taken as running the same way round, and the
    parts are added up. (Steger, On the Calculation of Moments of Polygons, 1996.)
    """
    n = len(polygons)
    moments = np.zeros((10, n))
    rings = polygons.flatten()
    sizes = (rings.value_lengths().fill_null(0).to_numpy() // 2).astype(np.int64)
    row = polygons.value_parent_indices().to_numpy()[sizes > 0]
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return moments
    points = rings.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
    first = np.cumsum(sizes) - sizes
    of_point = np.repeat(row, sizes)
    heads = run_starts(of_point)
    who = of_point[heads]
    low, high = np.minimum.reduceat(points, heads), np.maximum.reduceat(points, heads)
    middle, size = np.zeros((n, 2)), np.ones(n)
    with np.errstate(over="ignore", invalid="ignore"):
        middle[who] = low / 2 + high / 2
        size[who] = (high - low).max(axis=1)
        size[size == 0] = 1  # a point: no area
        x, y = ((points - middle[of_point]) / size[of_point, None]).T
        after = np.arange(1, len(x) + 1)
        after[first + sizes - 1] = first
        sums = np.stack([np.add.reduceat(term, first) for term in _green(x, y, x[after], y[after])])
        sums *= np.sign(sums[0])
    for power, values in enumerate(sums):
        moments[power] = np.bincount(row, weights=values, minlength=n)
    return moments


def _green(x: Floats, y: Floats, u: Floats, v: Floats) -> list[Floats]:
    """Return what each side, from (x, y) to (u, v), adds to the raw moments."""
    cross = x * v - u * y
    return [
        cross / 2,
        cross * (x + u) / 6,
        cross * (y + v) / 6,
        cross * (x * x + x * u + u * u) / 12,
        cross * (2 * x * y + x * v + u * y + 2 * u * v) / 24,
        cross * (y * y + y * v + v * v) / 12,
        cross * (x + u) * (x * x + u * u) / 20,
        cross * (x * x * (3 * y + v) + 2 * x * u * (y + v) + u * u * (y + 3 * v)) / 60,
        cross * (y * y * (3 * x + u) + 2 * y * v * (x + u) + v * v * (x + 3 * u)) / 60,
        cross * (y + v) * (y * y + v * v) / 20,
    ]


def _of_masks(masks: pa.StructArray) -> Floats:
    """Return the raw moments of masks, shape (10, n), about their middle and in their size.

    A run within a column is a rectangle of width 1. One that goes on into the next columns is at
    most three rectangles: its first column, its last, and the full ones between them.
    """
    n = len(masks)
    owner, start, end = foreground(masks)
    height = masks.field("height").to_numpy().astype(np.int64)[owner]
    x, y = np.divmod(start, np.maximum(height, 1))
    last, bottom = np.divmod(end - 1, np.maximum(height, 1))
    bottom += 1
    longer, between = np.flatnonzero(last > x), np.flatnonzero(last > x + 1)
    owner = np.concatenate([owner, owner[longer], owner[between]])
    left = np.concatenate([x, last[longer], x[between] + 1])
    right = np.concatenate([x + 1, last[longer] + 1, last[between]])
    top = np.concatenate([y, np.zeros(len(longer) + len(between), np.int64)])
    low = np.concatenate([np.where(last > x, height, bottom), bottom[longer], height[between]])
    sides = [masks.field(name).to_numpy().astype(np.float64) for name in "xywh"]
    size = np.maximum(np.maximum(sides[2], sides[3]), 1)
    scale = (1 / size)[owner]
    across = _integrals(*((edge - (sides[0] + sides[2] / 2)[owner]) * scale
                          for edge in (left, right)))  # fmt: skip
    down = _integrals(*((edge - (sides[1] + sides[3] / 2)[owner]) * scale
                        for edge in (top, low)))  # fmt: skip
    moments = np.empty((10, n))
    for i, (p, q) in enumerate(_POWERS):
        moments[i] = np.bincount(owner, weights=across[p] * down[q], minlength=n)
    return moments


def _integrals(low: Floats, high: Floats) -> list[Floats]:
    """Return ∫ tᵖ dt from ``low`` to ``high`` for p from 0 to 3."""
    width, both = high - low, high + low
    squares = high * high + low * low
    return [
        width,
        width * both / 2,
        width * (squares + high * low) / 3,
        width * both * squares / 4,
    ]


# -- from raw moments to Hu's ----------------------------------------------------------------------


def _hu(raw: Floats) -> Floats:
    """Return Hu's moments, shape (n, 7), of raw moments, shape (10, n), of shapes of size 1.

    (Hu, Visual Pattern Recognition by Moment Invariants, 1962.) NaN without area.
    """
    area = raw[0]
    usable = area > _ROUNDING  # what is less is rounding: a ring that goes there and back
    hu = np.full((len(area), 7), np.nan)
    a, b, c, p, q, r, s = _normalised(raw[:, usable])
    both, third, fourth = p + r, p - 3 * r, 3 * q - s
    sum_x, sum_y = both, q + s
    far_x, far_y = sum_x**2 - 3 * sum_y**2, 3 * sum_x**2 - sum_y**2
    found = np.stack(
        [
            a + c,
            (a - c) ** 2 + 4 * b**2,
            third**2 + fourth**2,
            sum_x**2 + sum_y**2,
            third * sum_x * far_x + fourth * sum_y * far_y,
            (a - c) * (sum_x**2 - sum_y**2) + 4 * b * sum_x * sum_y,
            fourth * sum_x * far_x - third * sum_y * far_y,
        ],
        axis=1,
    )
    hu[usable] = found
    return hu


def _normalised(raw: Floats) -> tuple[Floats, ...]:
    """Return η20, η11, η02, η30, η21, η12 and η03; rounding of a symmetric shape is 0."""
    m00, m10, m01, m20, m11, m02, m30, m21, m12, m03 = raw
    x, y = m10 / m00, m01 / m00
    second = [m20 - x * m10, m11 - x * m01, m02 - y * m01]
    third = [
        m30 - 3 * x * m20 + 2 * x * x * m10,
        m21 - 2 * x * m11 - y * m20 + 2 * x * x * m01,
        m12 - 2 * y * m11 - x * m02 + 2 * y * y * m10,
        m03 - 3 * y * m02 + 2 * y * y * m01,
    ]
    least = _ROUNDING * m00
    even = np.abs(second[0] - second[2]) < least
    second[0] = np.where(even, second[2], second[0])
    second[1] = np.where(np.abs(second[1]) < least, 0, second[1])
    third = [np.where(np.abs(value) < least, 0, value) for value in third]
    return *(value / m00**2 for value in second), *(value / m00**2.5 for value in third)


METRICS: Final = (
    Metric(
        "object_shape_outlier",
        "Shape outlier detection",
        ("prediction", "label"),
        ("geometry", "shape"),
        "How near the object's shape is to the mean shape of its class; low values are outliers.",
        "1 / distance to the class's mean of z-scored Hu moments (Hu 1962): Encord Active",
        "low",
        shape_outlier,
    ),
)
