"""Polygons and boxes drawn as masks, by pycocotools' own C code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import run_starts, stable_order, unit_codes
from ea_arrow.errors import GeometryError
from ea_arrow.geometry import MAX_MASK_PIXELS
from ea_arrow.rle import encode_rle_strings
from ea_arrow.schema import BOX, MASK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.arranged import Bools, Floats, Ints

_RINGS_AT_ONCE = 1024
_AREAS_AT_ONCE = 200  # pycocotools 2.0.11 miscounts longer lists under NumPy 2
_FARTHEST = float(2**20)  # pixels; what lies beyond the image is only cut off
_LONGEST = 2**25  # points on the outline, which the C code draws at five times the size


def with_masks(table: Any, data_units: Any) -> Any:
    """Return object predictions or labels in which every row has a mask.

    As pycocotools does, parts of a polygon are drawn apart and merged, and a box is drawn as the
    polygon of its corners; a rotated box is drawn rotated. A polygon without a part is empty.

    Args:
        table: Object rows with the geometry columns of ``LABELS`` or ``PREDICTIONS``.
        data_units: Table in the shape of ``DATA_UNITS``: the size of what is drawn on.

    Raises:
        SchemaError: A row names a data unit that there is not.
        GeometryError: An outline is malformed or too long to draw, or the data unit is too large to
            draw on.
    """
    column = table.column("mask")
    if column.null_count == 0:
        return table
    drawn = _draw(table.filter(pc.is_null(column)), data_units)
    if column.null_count == len(column):
        masks = drawn
    else:
        have = pc.is_valid(column).to_numpy().astype(bool)
        place = np.empty(len(have), np.int64)
        place[have] = np.arange(have.sum())
        place[~have] = have.sum() + np.arange(len(have) - have.sum())
        given = column.filter(pa.array(have))
        masks = (
            pa.chunked_array([*given.chunks, *drawn.chunks]).combine_chunks().take(pa.array(place))
        )
    return table.set_column(table.schema.get_field_index("mask"), "mask", masks)


def _draw(table: Any, data_units: Any) -> pa.ChunkedArray:
    from pycocotools import _mask  # a library to load only where something is drawn

    n = len(table)
    unit = unit_codes(table, data_units, "row")
    height, width = (
        data_units.column(name).to_numpy().astype(np.int64)[unit] for name in ("height", "width")
    )
    _check_sizes(table, height, width)
    points, ring_ends, owner = _rings(table)
    _check(table, points, ring_ends, owner)
    drawn: list[Any] = [None] * n
    order = stable_order((height, int(height.max(initial=0)) + 1),
                         (width, int(width.max(initial=0)) + 1))  # fmt: skip
    starts = np.append(0, ring_ends)
    first_ring = np.searchsorted(owner, np.arange(n + 1))
    n_rings = np.diff(first_ring)
    n_rings[height * width == 0] = 0  # where there is no pixel the C code writes beyond its memory
    size = height[order] * (int(width.max(initial=0)) + 1) + width[order]
    bounds = run_starts(size).tolist()
    for begin, end in zip(bounds, [*bounds[1:], n], strict=True):
        for low in range(begin, end, _RINGS_AT_ONCE):
            rows = order[low : min(low + _RINGS_AT_ONCE, end)]
            counts = n_rings[rows].tolist()
            rings = [
                points[starts[r] : starts[r + 1]]
                for row, count in zip(first_ring[rows].tolist(), counts, strict=True)
                for r in range(row, row + count)
            ]
            h, w = int(height[rows[0]]), int(width[rows[0]])
            parts = _mask.frPoly(rings, h, w)
            at = 0
            for row, count in zip(rows.tolist(), counts, strict=True):
                some = parts[at : at + count] or [_empty(h, w)]
                drawn[row] = some[0] if len(some) == 1 else _mask.merge(some)
                at += count
    return _column(drawn, height, width)


def _empty(height: int, width: int) -> dict[str, Any]:
    string, _ = encode_rle_strings(np.array([height * width]), np.array([1]))
    return {"size": [height, width], "counts": string.tobytes()}


def _column(drawn: list[Any], height: Ints, width: Ints) -> pa.ChunkedArray:
    """Build a column of ``schema.MASK`` from pycocotools' dictionaries."""
    from pycocotools import _mask

    blocks = []
    for begin in range(0, len(drawn), _AREAS_AT_ONCE):
        part = drawn[begin : begin + _AREAS_AT_ONCE]
        box = _mask.toBbox(part).astype(np.int32).T
        children = [
            pa.array(height[begin : begin + len(part)].astype(np.int32)),
            pa.array(width[begin : begin + len(part)].astype(np.int32)),
            pa.array([mask["counts"] for mask in part], pa.binary()),
            pa.array(_mask.area(part).astype(np.int64)),
            *(pa.array(side) for side in box),
        ]
        blocks.append(pa.StructArray.from_arrays(children, fields=list(MASK)))
    return pa.chunked_array(blocks, MASK)


def _rings(table: Any) -> tuple[Floats, Ints, Ints]:
    """Return all outlines: interleaved x, y, where each ring ends, and the row that each is of.

    Raises:
        GeometryError: A ring holds nulls or half a point.
    """
    polygon = table.column("polygon").combine_chunks()
    has_polygon = polygon.is_valid().to_numpy(zero_copy_only=False)
    rings = polygon.flatten()
    counts = np.where(has_polygon, pc.list_value_length(polygon).fill_null(0).to_numpy(), 0)
    values = rings.flatten()
    owner = np.repeat(np.arange(len(table)), counts)
    if rings.null_count or values.null_count:
        raise GeometryError("A polygon holds nulls; expected rings of interleaved x, y.")
    lengths = pc.list_value_length(rings).to_numpy().astype(np.int64)
    if (lengths % 2).any():
        row = int(owner[(lengths % 2).argmax()])
        raise _cannot_draw(table, int(row), "holds half a point")
    points = values.to_numpy()
    owner, lengths = owner[lengths > 0], lengths[lengths > 0]
    boxes = np.flatnonzero(~has_polygon)
    if not len(boxes):
        return points, np.cumsum(lengths), owner
    corners = _corners(table, boxes)
    owner = np.concatenate([owner, boxes])
    order = np.argsort(owner, kind="stable")
    begins = np.concatenate([np.cumsum(lengths) - lengths, len(points) + 8 * np.arange(len(boxes))])
    sizes = np.concatenate([lengths, np.full(len(boxes), 8)])[order]
    every = np.concatenate([points, corners.ravel()])
    ends = np.cumsum(sizes)
    at = np.arange(ends[-1]) + np.repeat(begins[order] - ends + sizes, sizes)
    return every[at], ends, owner[order]


def _corners(table: Any, rows: Ints) -> Floats:
    """Return the corners of boxes as rings (n, 8), in pycocotools' order unless rotated."""
    x, y, w, h = (table.column(name).to_numpy()[rows] for name in BOX)
    right, bottom = x + w, y + h
    corners = np.stack([x, y, x, bottom, right, bottom, right, y], axis=1)
    theta = np.nan_to_num(table.column("theta").to_numpy().astype(np.float64)[rows])
    turned = np.flatnonzero(theta)
    if len(turned):
        angle = np.deg2rad(theta[turned])[:, None]
        middle = np.stack([x + w / 2, y + h / 2], axis=1)[turned]
        from_x = corners[turned, 0::2] - middle[:, :1]
        from_y = corners[turned, 1::2] - middle[:, 1:]
        corners[turned, 0::2] = middle[:, :1] + from_x * np.cos(angle) - from_y * np.sin(angle)
        corners[turned, 1::2] = middle[:, 1:] + from_x * np.sin(angle) + from_y * np.cos(angle)
    return corners


def _check_sizes(table: Any, height: Ints, width: Ints) -> None:
    """Refuse to draw on what is larger than a mask may be.

    Raises:
        GeometryError: A size is out of range.
    """
    bad = (height < 0) | (width < 0) | (height.astype(np.float64) * width > MAX_MASK_PIXELS)
    if bad.any():
        row = int(bad.argmax())
        what = f"is on an image of {height[row]:,} × {width[row]:,} pixels"
        raise _cannot_draw(table, row, f"{what}; at most {MAX_MASK_PIXELS:,} can be drawn on")


def _check(table: Any, points: NDArray[Any], ring_ends: Ints, owner: Ints) -> None:
    """Refuse outlines that would take more memory than a mask may.

    Raises:
        GeometryError: An outline leaves the image by far, or is too long.
    """
    if not len(points):
        return
    far: Bools = ~(np.abs(points) <= _FARTHEST)
    if far.any():
        row = int(owner[np.searchsorted(ring_ends, int(far.argmax()), side="right")])
        what = f"has a corner at {points[far][0]:g}"
        raise _cannot_draw(table, row, f"{what}; at most {_FARTHEST:,.0f} pixels away can be drawn")
    step = np.abs(np.diff(points.reshape(-1, 2), axis=0)).max(axis=1)
    length = np.append(0, np.cumsum(step)) * 5
    ends = ring_ends // 2 - 1
    around = length[ends] - length[np.append(0, ends[:-1] + 1)]
    if around.max(initial=0) > _LONGEST:
        what = f"has an outline of {around.max():,.0f} points"
        row = int(owner[around.argmax()])
        raise _cannot_draw(table, row, f"{what}; at most {_LONGEST:,} can be drawn")


def _cannot_draw(table: Any, row: int, why: str) -> GeometryError:
    """An error that names the object."""
    for column in ("prediction_id", "label_id"):
        if column in table.column_names:
            name = f"{column} {table.column(column)[row].as_py()}"
            break
    else:
        name = f"Object {row}"
    unit = table.column("data_hash")[row].as_py()
    return GeometryError(
        f"{name} (data unit '{unit}') cannot be drawn as a mask: it {why}.",
        hint="Boxes can still be compared: --type bbox (iou_type='bbox').",
    )
