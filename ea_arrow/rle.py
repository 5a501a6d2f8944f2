"""Masks as a column of COCO's compressed run-length encodings.

Runs of background and foreground pixels alternate in column-major order, the first run background;
each is written as a little-endian base-32 number in printable characters (pycocotools'
``rleToString``). Everything here works on the concatenated runs of a whole batch, and checks what
it is given before it takes memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import MAX_MASK_PIXELS, Rle
from ea_arrow.schema import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_BLOCK = 1 << 17  # runs, or characters of strings
_DIGITS = 7  # a run, or its difference to the one before last, fits 35 bits


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
    runs, counts, _, broken = _decode(strings)
    return runs, counts, broken


def _decode(
    strings: Sequence[bytes],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], dict[int, str]]:
    """Decode as :func:`decode_rle_strings`; also tell which strings take no digit too many."""
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
        runs, counts, is_shortest, more = _decode(kept)
        return runs, counts, is_shortest, broken | more
    place = np.arange(codes.size) - np.repeat(start, length)
    parts = (codes & 0x1F) << (5 * place)
    runs = np.add.reduceat(parts, start) if start.size else parts
    top = codes[start + length - 1] & 0x1F
    negative = (top & 0x10) != 0
    # A last digit that only repeats the sign of the one before it could be left out.
    sign = (codes[np.maximum(start + length - 2, 0)] & 0x10) != 0 if codes.size else negative
    idle = (length > 1) & (top == np.where(sign, 0x1F, 0))
    is_shortest = np.ones(sizes.size, dtype=bool)
    is_shortest[owner[start[idle]]] = False
    runs -= np.where(negative, np.int64(1) << (5 * length), 0)
    counts = np.bincount(owner[start], minlength=sizes.size).astype(np.int64)
    _undo_differences(runs, counts)
    if runs.size and runs.min() < 0:
        run_owner = np.repeat(np.arange(counts.size), counts)
        for index in np.unique(run_owner[runs < 0]).tolist():
            broken[index] = "The RLE string holds a negative run."
    return runs, counts, is_shortest, broken


def _undo_differences(runs: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Add to each run, from the fourth on, the run before last (in place).

    Runs 1, 3, 5, … of a mask are one chain and runs 2, 4, 6, … another; run 0 stands alone. Along a
    chain that is a prefix sum, begun afresh in each mask.
    """
    position = np.arange(runs.size) - np.repeat(np.cumsum(counts) - counts, counts)
    for first in (1, 2):
        chain = np.flatnonzero((position >= first) & ((position - first) & 1 == 0))
        total = np.cumsum(runs[chain])
        heads = np.flatnonzero(position[chain] == first)
        before = total[heads] - runs[chain[heads]]
        runs[chain] = total - np.repeat(before, np.diff(heads, append=chain.size))


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
    blocks, broken = [], dict[int, str]()
    for begin, end in _blocks(masks):
        block, why = _mask_block(masks[begin:end])
        blocks.append(block)
        broken |= {begin + row: reason for row, reason in why.items()}
    return (pa.concat_arrays(blocks) if blocks else pa.nulls(0, MASK)), broken


def _blocks(masks: Sequence[Rle | None]) -> Iterator[tuple[int, int]]:
    """Cut into ranges whose runs stay in the processor's cache."""
    sizes = np.fromiter((0 if m is None else len(m.counts) for m in masks), np.int64, len(masks))
    part = (np.cumsum(sizes + 1) - 1) // _BLOCK
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    yield from pairwise([*starts, len(masks)])


def _mask_block(masks: Sequence[Rle | None]) -> tuple[pa.StructArray, dict[int, str]]:
    rows = np.array([i for i, m in enumerate(masks) if m is not None], dtype=np.int64)
    broken: dict[int, str] = {}
    if rows.size == 0:
        return pa.nulls(len(masks), MASK), broken
    given = [m for m in masks if m is not None]
    height = np.array([m.height for m in given], dtype=np.int64)
    width = np.array([m.width for m in given], dtype=np.int64)
    runs, counts, is_shortest, malformed = _all_runs([m.counts for m in given])
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
    if is_shortest[valid].all():  # what was given is what would be written
        kept = [m.counts for m, keep in zip(given, valid.tolist(), strict=True) if keep]
        texts = [c for c in kept if isinstance(c, bytes)]
        strings = np.frombuffer(b"".join(texts), np.uint8)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        strings, lengths = encode_rle_strings(runs, counts)
    return _struct(len(masks), rows, (height, width), (strings, lengths), area, box), broken


def _all_runs(
    given: Sequence[bytes | NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], dict[int, str]]:
    """Return all runs, their number per mask, which strings have no idle digit, what is wrong."""
    strings = [c for c in given if isinstance(c, bytes)]
    decoded, sizes, is_shortest, malformed = _decode(strings)
    if len(strings) == len(given):
        return decoded, sizes, is_shortest, malformed
    compressed = [i for i, c in enumerate(given) if isinstance(c, bytes)]
    inverse = iter(np.split(decoded, np.cumsum(sizes)[:-1]))
    merged = [next(inverse) if isinstance(c, bytes) else np.asarray(c, np.int64) for c in given]
    counts = np.array([p.size for p in merged], dtype=np.int64)
    runs = np.concatenate(merged)
    broken = {compressed[i]: why for i, why in malformed.items()}
    if runs.size and runs.min() < 0:
        owner = np.repeat(np.arange(counts.size), counts)
        for index in np.unique(owner[runs < 0]).tolist():
            broken.setdefault(index, "The RLE holds a negative run.")
    return runs, counts, np.zeros(len(given), dtype=bool), broken


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
