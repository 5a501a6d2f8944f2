"""From pixels to runs, and polygons as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from ea_arrow.errors import GeometryError
from ea_arrow.schema import POLYGON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_MASK_PIXELS = 2**28
"""Largest mask accepted (16,384 × 16,384): a size is checked before memory is taken for it."""


class Rle(NamedTuple):
    """A run-length encoded mask in column-major order.

    Attributes:
        height: Rows of the mask, in pixels.
        width: Columns of the mask, in pixels.
        counts: COCO's compressed string, or the run lengths themselves, background first.
    """

    height: int
    width: int
    counts: bytes | NDArray[np.int64]


def check_mask_size(height: int, width: int) -> None:
    """Refuse sizes that are negative or too large to take memory for.

    Raises:
        GeometryError: The size is out of range.
    """
    if height < 0 or width < 0 or height * width > MAX_MASK_PIXELS:
        message = (
            f"A mask of {height} × {width} pixels is out of range; expected at most "
            f"{MAX_MASK_PIXELS:,} pixels."
        )
        raise GeometryError(message)


def encode_dense(mask: NDArray[np.generic]) -> Rle:
    """Encode a 2-D binary array; any value other than 0 is foreground.

    Runs end where a pixel differs from the one above it, or, at the top of a column, from the
    bottom of the column before; those places are found row by row, as the array lies in memory,
    and only then put into column order: several times faster than transposing the pixels.

    Args:
        mask: Shape (height, width), bool or integer.

    Raises:
        GeometryError: Not two-dimensional, or too large.

    >>> encode_dense(np.array([[0, 1], [0, 1]], dtype=np.uint8)).counts
    array([2, 2])
    """
    if mask.ndim != 2:
        message = f"A mask has 2 dimensions (height, width); this one has {mask.ndim}."
        raise GeometryError(message)
    height, width = mask.shape
    check_mask_size(height, width)
    pixels = (mask if mask.dtype.itemsize == 1 else mask != 0).view(np.uint8)
    if pixels.size == 0:
        return Rle(height, width, np.zeros(0, dtype=np.int64))
    if pixels.flags.f_contiguous and not pixels.flags.c_contiguous:
        column_order = pixels.T.reshape(-1)
        changes = _nonzero(column_order[1:] ^ column_order[:-1]) + 1
        first = int(column_order[0] != 0)
        ends = np.concatenate((np.zeros(first, dtype=np.int64), changes))
    else:
        ends = _column_changes(np.ascontiguousarray(pixels))
    return Rle(height, width, np.diff(ends, prepend=0, append=height * width))


def _column_changes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    height, width = pixels.shape
    occupied = _nonzero_words(pixels.reshape(-1))
    if occupied.size == 0:
        return np.zeros(0, dtype=np.int64)
    top = max(int(occupied[0]) * 8 // width - 1, 0)
    bottom = min((int(occupied[-1]) * 8 + 7) // width + 1, height - 1)
    inner = _nonzero((pixels[top + 1 : bottom + 1] ^ pixels[top:bottom]).reshape(-1))
    row, column = np.divmod(inner, width)
    before = np.concatenate((np.zeros(1, dtype=np.uint8), pixels[-1, :-1]))
    heads = np.flatnonzero((pixels[0] != 0) != (before != 0)) * height
    ends = np.concatenate((heads, column * height + (row + top + 1)))
    ends.sort()
    return ends


def _nonzero_words(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions, in units of 8 bytes, of the words that are not all zero."""
    whole = flat.size & ~7
    words = np.flatnonzero(flat[:whole].view(np.uint64) != 0)
    if whole != flat.size and flat[whole:].any():
        words = np.append(words, whole >> 3)
    return words


def _nonzero(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of bytes that are not 0, eight at a time: most of a mask's changes are zeros."""
    words = _nonzero_words(flat)
    if words.size * 16 > flat.size:
        return np.flatnonzero(flat)
    positions = ((words << 3)[:, None] + np.arange(8)).reshape(-1)
    if positions.size and positions[-1] >= flat.size:
        positions = positions[positions < flat.size]
    nonzero: NDArray[np.int64] = positions[flat[positions] != 0]
    return nonzero


def row_major_to_rle(height: int, width: int, runs: NDArray[np.int64]) -> Rle:
    """Convert run lengths over row-major pixels (Encord's order) to a column-major mask.

    Args:
        height: Rows, in pixels.
        width: Columns, in pixels.
        runs: Run lengths, background first, summing to ``height * width``.

    Raises:
        GeometryError: The runs do not cover the mask exactly, or the mask is too large.
    """
    check_mask_size(height, width)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        message = f"The runs cover {int(runs.sum())} pixels; expected {height} × {width}."
        raise GeometryError(message)
    values = (np.arange(runs.size) & 1).astype(np.uint8)
    return encode_dense(np.repeat(values, runs).reshape(height, width))


def polygon_column(
    polygons: Sequence[Sequence[Sequence[float] | NDArray[np.float64]] | None],
) -> pa.ListArray:
    """Build the polygon column of a batch.

    Args:
        polygons: One per row: rings of interleaved x, y; None where a row has no polygon.

    Returns:
        An array of type ``schema.POLYGON``.
    """
    if not any(p is not None for p in polygons):
        return pa.nulls(len(polygons), POLYGON)
    rings = [np.asarray(ring, dtype=np.float64) for p in polygons if p is not None for ring in p]
    values = np.concatenate(rings) if rings else np.zeros(0)
    ring_ends = np.cumsum([0, *(ring.size for ring in rings)]).astype(np.int32)
    row_ends = np.cumsum([0, *(0 if p is None else len(p) for p in polygons)]).astype(np.int32)
    absent = np.array([p is None for p in polygons])
    inner = pa.ListArray.from_arrays(pa.array(ring_ends), pa.array(values))
    return pa.ListArray.from_arrays(pa.array(row_ends), inner, type=POLYGON, mask=pa.array(absent))


def polygon_areas_and_boxes(
    polygons: pa.ListArray,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area (sum over rings, shoelace formula) and enclosing box of a column of polygons.

    Args:
        polygons: ``schema.POLYGON`` column: rings of interleaved x, y.

    Returns:
        Areas, shape (n,), and boxes x, y, w, h, shape (n, 4); zeros where there is no point.
    """
    n = len(polygons)
    rings = polygons.flatten()
    values = rings.flatten().to_numpy(zero_copy_only=False)
    ring_row = polygons.value_parent_indices().to_numpy()
    points = (rings.value_lengths().fill_null(0).to_numpy() // 2).astype(np.int64)
    x, y = values[0::2], values[1::2]
    area = np.zeros(n)
    box = np.zeros((n, 4))
    if x.size == 0:
        return area, box
    filled = points > 0
    first = (np.cumsum(points) - points)[filled]
    after = np.arange(1, x.size + 1)
    after[(first + points[filled]) - 1] = first
    cross = x * y[after] - x[after] * y
    np.add.at(area, ring_row[filled], np.abs(np.add.reduceat(cross, first)) / 2)
    point_row = np.repeat(ring_row, points)
    heads = np.flatnonzero(
        np.concatenate((np.ones(1, dtype=bool), point_row[1:] != point_row[:-1]))
    )
    who = point_row[heads]
    box[who, 0] = np.minimum.reduceat(x, heads)
    box[who, 1] = np.minimum.reduceat(y, heads)
    box[who, 2] = np.maximum.reduceat(x, heads) - box[who, 0]
    box[who, 3] = np.maximum.reduceat(y, heads) - box[who, 1]
    return area, box
