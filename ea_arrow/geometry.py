"""Masks, polygons and boxes as columns.

A mask is stored as COCO's compressed run-length encoding: runs of background and foreground pixels
in column-major order, the first run background, each run written as a little-endian base-32 number
in printable characters (pycocotools' ``rleToString``). Everything here works on the concatenated
runs of a whole batch, and checks what it is given before it takes memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from ea_arrow.errors import GeometryError
from ea_arrow.schema import MASK, POLYGON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_MASK_PIXELS = 2**28
"""Largest mask accepted (16,384 × 16,384): a size is checked before memory is taken for it."""

_DIGITS = 7  # a run, or its difference to the one before last, fits 35 bits


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


def decode_rle_string(string: bytes) -> NDArray[np.int64]:
    """Return the run lengths that COCO's compressed string holds.

    Raises:
        GeometryError: The string is not one that ``rleToString`` can have written.

    >>> decode_rle_string(b"52203")
    array([5, 2, 2, 2, 5])
    """
    runs, _, broken = decode_rle_strings([string])
    if broken:
        raise GeometryError(broken[0])
    return runs


def decode_rle_strings(
    strings: Sequence[bytes],
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, str]]:
    """Decode many compressed strings at once.

    Returns:
        The run lengths of all strings, concatenated; how many runs each has; and, by position,
        what is wrong with those that are malformed (they have no runs).
    """
    broken: dict[int, str] = {}
    sizes = np.fromiter((len(s) for s in strings), dtype=np.int64, count=len(strings))
    codes = np.frombuffer(b"".join(strings), dtype=np.uint8).astype(np.int64) - 48
    ends = np.cumsum(sizes)
    owner = np.repeat(np.arange(sizes.size), sizes)
    last = (codes & 0x20) == 0
    bad = np.zeros(sizes.size, dtype=bool)
    bad[owner[(codes < 0) | (codes > 63)]] = True
    filled = sizes > 0
    bad[filled] |= ~last[ends[filled] - 1]
    start = (
        np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), last[:-1])))
        if codes.size
        else ends[:0]
    )
    length = np.diff(start, append=codes.size)
    bad[owner[start[length > _DIGITS]]] = True
    if bad.any():
        for index in np.flatnonzero(bad).tolist():
            broken[index] = "The RLE string is not COCO's compressed format."
        kept = [b"" if bad[i] else s for i, s in enumerate(strings)]
        runs, counts, more = decode_rle_strings(kept)
        return runs, counts, broken | more
    place = np.arange(codes.size) - np.repeat(start, length)
    parts = (codes & 0x1F) << (5 * place)
    runs = np.add.reduceat(parts, start) if start.size else parts
    negative = (codes[start + length - 1] & 0x10) != 0
    runs -= np.where(negative, np.int64(1) << (5 * length), 0)
    counts = np.bincount(owner[start], minlength=sizes.size).astype(np.int64)
    _undo_differences(runs, counts)
    if runs.size and runs.min() < 0:
        run_owner = np.repeat(np.arange(counts.size), counts)
        for index in np.unique(run_owner[runs < 0]).tolist():
            broken[index] = "The RLE string holds a negative run."
    return runs, counts, broken


def _undo_differences(runs: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Add to each run, from the fourth on, the run before last (in place): two prefix sums."""
    if runs.size == 0:
        return
    first = np.cumsum(counts) - counts
    position = np.arange(runs.size) - np.repeat(first, counts)
    # The chains are runs 1, 3, 5, … and 2, 4, 6, …; run 0 stands alone.
    chain = np.repeat(first * 2, counts) + (position & 1)
    order = np.lexsort((position, chain, position == 0))
    order = order[: runs.size - int((position == 0).sum())]
    if order.size == 0:
        return
    values, group = runs[order], chain[order]
    total = np.cumsum(values)
    heads = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), group[1:] != group[:-1])))
    before = np.concatenate((np.zeros(1, dtype=np.int64), total))[heads]
    runs[order] = total - np.repeat(before, np.diff(heads, append=order.size))


def encode_rle_strings(
    runs: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Write the run lengths of many masks as COCO's compressed strings.

    Args:
        runs: Run lengths of all masks, concatenated.
        counts: How many runs each mask has.

    Returns:
        The strings' bytes, concatenated, and the length of each string.
    """
    if runs.size == 0:
        return np.zeros(0, dtype=np.uint8), np.zeros(counts.size, dtype=np.int64)
    first = np.cumsum(counts) - counts
    position = np.arange(runs.size) - np.repeat(first, counts)
    value = runs.copy()
    later = np.flatnonzero(position > 2)
    value[later] -= runs[later - 2]
    # A number takes as many groups of 5 bits as leave its sign in the top bit of the last one.
    digits = np.ones(value.size, dtype=np.int64)
    magnitude = np.where(value < 0, ~value, value)
    for more in range(1, _DIGITS):
        digits += magnitude >= (1 << (5 * more - 1))
    total = int(digits.sum())
    start = np.cumsum(digits) - digits
    owner = np.repeat(np.arange(value.size), digits)
    place = np.arange(total) - start[owner]
    code = (value[owner] >> (5 * place)) & 0x1F
    code |= np.where(place < digits[owner] - 1, 0x20, 0)
    return (code + 48).astype(np.uint8), np.add.reduceat(digits, first[counts > 0])[
        np.cumsum(counts > 0) - 1
    ] * (counts > 0)


def mask_column(masks: Sequence[Rle | None]) -> tuple[pa.StructArray, dict[int, str]]:
    """Build the mask column of a batch, with each mask's own area and box.

    Args:
        masks: One per row; None where a row has no mask.

    Returns:
        An array of type ``schema.MASK`` as long as ``masks``, and why a row's mask is invalid, by
        row (such a row has no mask in the array). Areas and boxes equal pycocotools' ``area`` and
        ``toBbox``.
    """
    rows = np.array([i for i, m in enumerate(masks) if m is not None], dtype=np.int64)
    broken: dict[int, str] = {}
    if rows.size == 0:
        return pa.nulls(len(masks), MASK), broken
    given = [masks[i] for i in rows.tolist()]
    height = np.array([m.height for m in given if m is not None], dtype=np.int64)
    width = np.array([m.width for m in given if m is not None], dtype=np.int64)
    runs, counts, malformed = _all_runs([m.counts for m in given if m is not None])
    broken |= {int(rows[i]): why for i, why in malformed.items()}
    owner = np.repeat(np.arange(rows.size), counts)
    covered = np.bincount(owner, weights=runs, minlength=rows.size)
    valid = np.ones(rows.size, dtype=bool)
    valid[list(malformed)] = False
    too_large = (height < 0) | (width < 0) | (height.astype(float) * width > MAX_MASK_PIXELS)
    for i in np.flatnonzero(valid & (too_large | (covered != height * width))).tolist():
        broken[int(rows[i])] = (
            f"The mask's runs cover {int(covered[i])} pixels; its size is {height[i]} × {width[i]}."
        )
        valid[i] = False
    if not valid.all():
        runs, counts = runs[valid[owner]], counts[valid]
        rows, height, width = rows[valid], height[valid], width[valid]
    area, box = areas_and_boxes(runs, counts, height)
    strings, lengths = encode_rle_strings(runs, counts)
    return _struct(len(masks), rows, (height, width), (strings, lengths), area, box), broken


def _all_runs(
    given: Sequence[bytes | NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, str]]:
    compressed = [i for i, c in enumerate(given) if isinstance(c, bytes)]
    if len(compressed) == len(given):
        return decode_rle_strings([c for c in given if isinstance(c, bytes)])
    decoded, sizes, malformed = decode_rle_strings([c for c in given if isinstance(c, bytes)])
    pieces = [np.asarray(c, dtype=np.int64) for c in given if not isinstance(c, bytes)]
    if not compressed:
        counts = np.array([p.size for p in pieces], dtype=np.int64)
        runs, broken = np.concatenate(pieces), {}
    else:
        inverse = iter(np.split(decoded, np.cumsum(sizes)[:-1]))
        plain = iter(pieces)
        merged = [next(inverse) if isinstance(c, bytes) else next(plain) for c in given]
        counts = np.array([p.size for p in merged], dtype=np.int64)
        runs = np.concatenate(merged)
        broken = {compressed[i]: why for i, why in malformed.items()}
    if runs.size and runs.min() < 0:
        owner = np.repeat(np.arange(counts.size), counts)
        for index in np.unique(owner[runs < 0]).tolist():
            broken.setdefault(index, "The RLE holds a negative run.")
    return runs, counts, broken


def areas_and_boxes(
    runs: NDArray[np.int64], counts: NDArray[np.int64], height: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Area and enclosing box of many masks.

    A run that crosses from one column into the next covers the full height there, so its box spans
    rows 0 to height − 1 (as in pycocotools' ``rleToBbox``).

    Args:
        runs: Run lengths of all masks, concatenated.
        counts: How many runs each mask has.
        height: Rows of each mask.

    Returns:
        Areas, shape (n,), and boxes x, y, w, h, shape (n, 4); zeros for an empty mask.
    """
    first = np.cumsum(counts) - counts
    position = np.arange(runs.size) - np.repeat(first, counts)
    end = np.cumsum(runs)
    end -= np.repeat((end - runs)[first[counts > 0]], counts[counts > 0])
    mine = (position & 1 == 1) & (runs > 0)
    owner = np.repeat(np.arange(counts.size), counts)[mine]
    area = np.zeros(counts.size, dtype=np.int64)
    box = np.zeros((counts.size, 4), dtype=np.int64)
    if owner.size == 0:
        return area, box
    start, last, rows = (end - runs)[mine], end[mine] - 1, height[owner]
    heads = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), owner[1:] != owner[:-1])))
    who = owner[heads]
    area[who] = np.add.reduceat(runs[mine], heads)
    x0, x1 = start // rows, last // rows
    crosses = x0 != x1
    y0, y1 = np.where(crosses, 0, start % rows), np.where(crosses, rows - 1, last % rows)
    box[who, 0] = np.minimum.reduceat(x0, heads)
    box[who, 1] = np.minimum.reduceat(y0, heads)
    box[who, 2] = np.maximum.reduceat(x1, heads) - box[who, 0] + 1
    box[who, 3] = np.maximum.reduceat(y1, heads) - box[who, 1] + 1
    return area, box


def _struct(
    size: int,
    rows: NDArray[np.int64],
    shape: tuple[NDArray[np.int64], NDArray[np.int64]],
    strings: tuple[NDArray[np.uint8], NDArray[np.int64]],
    area: NDArray[np.int64],
    box: NDArray[np.int64],
) -> pa.StructArray:
    def spread(values: NDArray[np.int64], dtype: type) -> pa.Array:
        full: NDArray[np.generic] = np.zeros(size, dtype=dtype)
        full[rows] = values
        return pa.array(full)

    data, lengths = strings
    full_lengths = np.zeros(size, dtype=np.int64)
    full_lengths[rows] = lengths
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(full_lengths)))
    counts = pa.Array.from_buffers(
        pa.binary(), size, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    )
    absent = np.ones(size, dtype=bool)
    absent[rows] = False
    children = [
        spread(shape[0], np.int32),
        spread(shape[1], np.int32),
        counts,
        spread(area, np.int64),
    ]
    children += [spread(box[:, i], np.int32) for i in range(4)]
    return pa.StructArray.from_arrays(children, fields=list(MASK), mask=pa.array(absent))


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
