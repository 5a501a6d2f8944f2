"""How much of a frame its objects cover; and objects drawn as masks for metrics that compare them.

A data unit of nothing but upright boxes is measured in real numbers. One with a mask, a polygon or
a rotated box is measured in pixels, everything drawn as evaluation of masks draws it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import run_starts, spread, stable_order
from ea_arrow.errors import GeometryError
from ea_arrow.geometry import MAX_MASK_PIXELS
from ea_arrow.parallel import each
from ea_arrow.quality.declared import Metric
from ea_arrow.quality.geometry import enclosing_boxes, image_area, is_turned
from ea_arrow.rasterise import with_masks
from ea_arrow.rle import decode_rle_strings
from ea_arrow.schema import BOX, FORMATS, MASK, POLYGON

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.quality.objects import Objects

_CELLS_AT_ONCE = 1 << 18
_DRAWN_AT_ONCE = 1 << 13
_CHARACTERS_AT_ONCE = 1 << 20
_FARTHEST = 2.0**20  # pixels; what lies farther cannot be drawn
_EMPTY: Final = pa.array(
    [{field.name: b"" if field.name == "counts" else 0 for field in MASK}], type=MASK
)


def frame_object_density(objects: Objects) -> Floats:
    """Return 100 × area of the union of a data unit's objects / image area, shape (U,).

    Only what lies within the image counts, so it is at most 100. Exact: the union of boxes in real
    numbers; with a mask, polygon or rotated box in the data unit, that of all of it in pixels.
    0 without objects; NaN on an image without pixels, or where an object cannot be drawn.
    """
    n_units = len(objects.units)
    covered = np.zeros(n_units)
    pixels = np.zeros(n_units, bool)
    pixels[objects.unit[~is_box(objects)]] = True
    rows = stable_order((objects.unit, n_units))
    in_pixels = pixels[objects.unit[rows]]
    _add_boxes(objects, rows[~in_pixels], covered)
    _add_pixels(objects, rows[in_pixels], covered)
    area = image_area(objects)
    density = np.full(n_units, np.nan)
    np.divide(100 * covered, area, out=density, where=area > 0)
    return density


# -- kinds of shapes -------------------------------------------------------------------------------


def has_mask(objects: Objects) -> Bools:
    """Return which objects are compared by their mask, shape (n,)."""
    return _is_valid(objects.mask, len(objects))


def has_polygon(objects: Objects) -> Bools:
    """Return which objects have a polygon and no mask, shape (n,)."""
    return _is_valid(objects.polygon, len(objects)) & ~has_mask(objects)


def is_lost(objects: Objects) -> Bools:
    """Return which objects are masks or polygons that were not read, shape (n,)."""
    shaped = np.isin(objects.format, [FORMATS.index("polygon"), FORMATS.index("mask")])
    return shaped & ~has_mask(objects) & ~has_polygon(objects)


def is_box(objects: Objects) -> Bools:
    """Return which objects are upright boxes and nothing else, shape (n,)."""
    return ~(has_mask(objects) | has_polygon(objects) | is_lost(objects) | is_turned(objects))


def _is_valid(column: pa.Array | None, n: int) -> Bools:
    if column is None:
        return np.zeros(n, bool)
    valid: Bools = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


# -- boxes -----------------------------------------------------------------------------------------


def _add_boxes(objects: Objects, rows: Ints, covered: Floats) -> None:
    """Set the area that boxes cover together, of data units that hold nothing else.

    Args:
        objects: The objects.
        rows: Boxes, by data unit.
        covered: Pixels² of each data unit, shape (U,); written to.
    """
    if not len(rows):
        return
    unit = objects.unit[rows]
    x, y, w, h = enclosing_boxes(objects)[rows].T
    width, height = objects.units.width[unit], objects.units.height[unit]
    with np.errstate(over="ignore"):
        right, bottom = np.clip(x + w, 0, width), np.clip(y + h, 0, height)
    sides = np.stack([np.clip(x, 0, width), np.clip(y, 0, height), right, bottom])
    by_top = np.lexsort((sides[1], unit))
    sides = sides[:, by_top]
    starts = run_starts(unit)
    counts = np.diff(starts, append=len(unit))
    padded = _rounded(counts)
    pieces = [
        (int(size), first, count)
        for size in np.unique(padded)
        for first, count in _parts(starts[padded == size], counts[padded == size], int(size))
    ]
    areas = each(lambda piece: (piece[1], _union(sides, *piece)), pieces)
    where = np.concatenate([first for first, _ in areas])
    covered[unit[where]] = np.concatenate([area for _, area in areas])


def _rounded(counts: Ints) -> Ints:
    """Round up to four binary digits: few sizes to work in, little to fill up."""
    digits = np.frexp(counts.astype(np.float64))[1]
    step = np.int64(1) << np.maximum(digits - 4, 0).astype(np.int64)
    rounded: Ints = -(-counts // step) * step
    return rounded


def _parts(starts: Ints, counts: Ints, size: int) -> list[tuple[Ints, Ints]]:
    at_once = max(_CELLS_AT_ONCE // (2 * size * size), 1)
    cuts = range(0, len(starts), at_once)
    return [(starts[i : i + at_once], counts[i : i + at_once]) for i in cuts]


def _union(sides: Floats, size: int, starts: Ints, counts: Ints) -> Floats:
    """Return the area of the union of each data unit's boxes, shape (u,).

    Their left and right edges cut a frame into strips. In a strip, boxes ordered by their top edge
    each add what lies below all before them.

    Args:
        sides: Left, top, right and bottom of all boxes, (4, N), by data unit, then top.
        size: Boxes to fill up to.
        starts: First box of each data unit, shape (u,).
        counts: Boxes of each data unit, at most ``size``, shape (u,).
    """
    place = np.arange(size)[:, None]
    rows = np.where(place < counts, starts + place, starts)  # the first box again adds nothing
    left, top, right, bottom = sides[:, rows]
    edges = np.sort(np.concatenate([left, right]), axis=0)
    area = np.zeros(len(starts))
    strips = max(_CELLS_AT_ONCE // (size * len(starts)), 1)
    for begin in range(0, 2 * size - 1, strips):
        at = edges[begin : begin + strips + 1]
        at, width = at[:-1], np.diff(at, axis=0)
        inside = (left[:, None] <= at) & (right[:, None] > at)  # (size, strips, u)
        low = np.where(inside, bottom[:, None], 0)
        high = np.broadcast_to(top[:, None], low.shape).copy()
        np.maximum(high[1:], np.maximum.accumulate(low, axis=0)[:-1], out=high[1:])
        low -= high
        np.maximum(low, 0, out=low)
        area += (low.sum(axis=0) * width).sum(axis=0)
    return area


# -- pixels ----------------------------------------------------------------------------------------


def _add_pixels(objects: Objects, rows: Ints, covered: Floats) -> None:
    """Set the number of pixels that objects cover together; NaN where one cannot be drawn.

    Args:
        objects: The objects.
        rows: Objects, by data unit, all of each.
        covered: Pixels of each data unit, shape (U,); written to.
    """
    if not len(rows):
        return
    starts = run_starts(objects.unit[rows])
    bounds = [*starts[run_starts(starts // _DRAWN_AT_ONCE)].tolist(), len(rows)]
    for begin, end in pairwise(bounds):
        part = rows[begin:end]
        masks, is_drawn = drawn(objects, part)
        unit = objects.unit[part]
        is_drawn &= masks.field("height").to_numpy() == objects.units.height[unit]
        is_drawn &= masks.field("width").to_numpy() == objects.units.width[unit]
        for low, high in character_blocks(masks, unit):
            _count_pixels(masks[low:high], unit[low:high], covered)
        covered[unit[~is_drawn]] = np.nan


def _count_pixels(masks: pa.StructArray, unit: Ints, covered: Floats) -> None:
    """Count pixels under any mask of a data unit.

    With the starts and the ends of all runs sorted, each apart, the k-th start and the k-th end
    enclose what is covered, up to the next start.
    """
    owner, start, end = foreground(masks)
    heads = np.append(False, unit[1:] != unit[:-1])
    step = int(end.max(initial=0)) + 1  # lays the data units one after the other
    offset = np.cumsum(heads)[owner] * step
    start, end = np.sort(start + offset), np.sort(end + offset)
    until = np.minimum(end, np.append(start[1:], np.iinfo(np.int64).max)) - start
    first = unit[run_starts(unit)]
    covered[first] = np.bincount(start // step, weights=until, minlength=len(first))


def foreground(masks: pa.StructArray) -> tuple[Ints, Ints, Ints]:
    """Return every run of foreground: the mask that it is of, its first pixel and the one after.

    Args:
        masks: ``schema.MASK`` column (n) without nulls.

    Returns:
        Three arrays (r,), by mask; pixels are counted down the columns.
    """
    runs, counts, _ = decode_rle_strings(masks.field("counts").to_pylist())
    first = np.cumsum(counts) - counts
    odd = spread(first + 1, counts // 2 * 2)[::2] if len(runs) else first[:0]
    owner = np.repeat(np.arange(len(counts)), counts // 2)
    ends = np.cumsum(runs)
    before = np.append(0, ends)[first]
    end = ends[odd] - before[owner]
    length = runs[odd]
    if length.min(initial=1) == 0:
        kept = np.flatnonzero(length)
        owner, end, length = owner[kept], end[kept], length[kept]
    return owner, end - length, end


def character_blocks(masks: pa.StructArray, key: Ints) -> list[tuple[int, int]]:
    """Cut masks into ranges of bounded length of their strings, equal keys together."""
    if not len(key):
        return []
    sizes = pc.binary_length(masks.field("counts")).to_numpy().astype(np.int64)
    starts = run_starts(key)
    before = np.cumsum(sizes) - sizes
    cuts = starts[run_starts(before[starts] // _CHARACTERS_AT_ONCE)]
    return list(pairwise([*cuts.tolist(), len(key)]))


def drawn(objects: Objects, rows: Ints) -> tuple[pa.StructArray, Bools]:
    """Draw objects as masks, as evaluation of masks does; a mask stays what it is.

    Args:
        objects: The objects.
        rows: Those to draw, shape (m,).

    Returns:
        ``schema.MASK`` column (m) without nulls, and which could be drawn: one whose shape was not
        read, whose outline is too long or far, or whose image is too large, is empty instead.
    """
    masked = has_mask(objects)[rows]
    far = (np.abs(enclosing_boxes(objects)[rows]) > _FARTHEST).any(axis=1)
    large = image_area(objects)[objects.unit[rows]] > MAX_MASK_PIXELS
    can = masked | ~(far | large | is_lost(objects)[rows])
    blocks, good = [], np.flatnonzero(can)
    for begin in range(0, len(good), _DRAWN_AT_ONCE):
        part = good[begin : begin + _DRAWN_AT_ONCE]
        table, units = _tables(objects, rows[part])
        masks, failed = _draw(table, units)
        can[part[failed]] = False
        blocks.append(masks)
    if len(good) == len(rows) and blocks:
        return pa.concat_arrays(blocks), can
    place = np.zeros(len(rows), np.int64)
    place[good] = np.arange(1, len(good) + 1)
    return pa.concat_arrays([_EMPTY, *blocks]).take(pa.array(place)), can


def _draw(table: Any, units: Any) -> tuple[pa.StructArray, Ints]:
    """Draw a block; where that fails, each half of it: one bad object costs only itself."""
    try:
        return with_masks(table, units)["mask"].combine_chunks(), np.zeros(0, np.int64)
    except GeometryError:
        if len(table) == 1:
            return _EMPTY, np.zeros(1, np.int64)
        middle = len(table) // 2
        one, failed = _draw(table[:middle], units)
        other, more = _draw(table[middle:], units)
        return pa.concat_arrays([one, other]), np.append(failed, more + middle)


def _tables(objects: Objects, rows: Ints) -> tuple[Any, Any]:
    """Return objects and their data units as tables to draw from."""
    used, unit = np.unique(objects.unit[rows], return_inverse=True)
    at = pa.array(rows)

    def column(values: pa.Array | None, kind: pa.DataType) -> pa.Array:
        return pa.nulls(len(rows), kind) if values is None else values.take(at)

    table = {
        "data_hash": unit,
        "frame": np.zeros(len(rows), np.int64),
        "mask": column(objects.mask, MASK),
        "polygon": column(objects.polygon, POLYGON),
        "theta": objects.theta[rows],
        **{name: objects.box[rows, i] for i, name in enumerate(BOX)},
    }
    units = {
        "data_hash": np.arange(len(used)),
        "frame": np.zeros(len(used), np.int64),
        "width": objects.units.width[used].astype(np.int64),
        "height": objects.units.height[used].astype(np.int64),
    }
    return pa.table(table), pa.table(units)


METRICS: Final = (
    Metric(
        "frame_object_density",
        "Frame Object Density",
        ("prediction", "label"),
        ("geometry", "shape"),
        "Per cent of the image that its objects cover together.",
        "100 · area of the union / (W · H): Encord Active",
        "both",
        frame_object_density,
        per_unit=True,
    ),
)
