"""Masks as a column of COCO's compressed run-length encodings.

Runs of background and foreground pixels alternate in column-major order, the first run background;
each is written as a little-endian base-32 number in printable characters (pycocotools'
``rleToString``). Everything here works on the concatenated runs of a whole batch, and checks what
it is given before it takes memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import MAX_MASK_PIXELS, Rle
from ea_arrow.schema import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    _Runs = NDArray[np.int64]
    _Bytes = NDArray[np.uint8]
    _Made = tuple[pa.StructArray, dict[int, str]]  # a column, and what is wrong, by row

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


def decode_rle_strings(strings: Sequence[bytes]) -> tuple[_Runs, _Runs, dict[int, str]]:
    """Decode many compressed strings at once.

    Returns:
        The run lengths of all strings, concatenated; how many runs each has; and, by position,
        what is wrong with those that are malformed (they have no runs).
    """
    pairs, counts, _, broken = _decode(*_joined(strings))
    return _flat(pairs, counts), counts, broken


class _Decoded(NamedTuple):
    """The runs of masks.

    Attributes:
        pairs: Runs of background beside those of foreground that follow them, 0 where none does,
            of all masks: shape (n, 2).
        counts: How many runs each mask has.
        is_shortest: Whether it came as a string with no digit too many.
        broken: What is wrong, by position; such a mask has no runs, or some that are negative.
    """

    pairs: _Runs
    counts: _Runs
    is_shortest: NDArray[np.bool_]
    broken: dict[int, str]


def _joined(strings: Sequence[bytes]) -> tuple[_Bytes, _Runs]:
    """The bytes of all strings, and how many each has."""
    sizes = np.fromiter(map(len, strings), dtype=np.int64, count=len(strings))
    return np.frombuffer(b"".join(strings), dtype=np.uint8), sizes


def _decode(data: _Bytes, sizes: _Runs) -> _Decoded:
    """Decode the strings of so many bytes each."""
    codes = data - np.uint8(48)
    ends = np.cumsum(sizes)
    stop = np.flatnonzero(codes < 0x20)
    length = np.diff(stop, prepend=-1)
    most = int(length.max(initial=0))
    is_whole = not codes.size or (codes.max() < 64 and codes[ends[sizes > 0] - 1].max() < 0x20)
    if not is_whole or most > _DIGITS:
        return _decode_rest(data, sizes, (stop - length + 1)[length > _DIGITS])
    counts = np.diff(np.searchsorted(stop, ends), prepend=0)
    # Digits beyond the first are few: they are looked at where they are.
    runs = (codes[stop].view(np.int8) ^ 0x10).astype(np.int64) - 0x10  # the sign is bit 4
    is_shortest = np.ones(sizes.size, dtype=bool)
    for more in range(1, most):
        longer = np.flatnonzero(length > more)
        digit = codes[stop[longer] - more]
        if more == 1:
            # A last digit that only repeats the sign of the one before it could be left out.
            idle = runs[longer] == -((digit & 0x10) >> 4).astype(np.int8)
            is_shortest[np.searchsorted(ends, stop[longer[idle]], side="right")] = False
        runs[longer] = (runs[longer] << 5) | (digit & 0x1F)
    pairs = _pairs(runs, counts)
    _undo_differences(pairs, counts)
    broken = dict.fromkeys(_negative(pairs, counts), "The RLE string holds a negative run.")
    return _Decoded(pairs, counts, is_shortest, broken)


def _decode_rest(data: _Bytes, sizes: _Runs, too_long: _Runs) -> _Decoded:
    """Decode the strings that are well-formed; ``too_long`` is where runs of many digits begin."""
    codes = data - np.uint8(48)
    ends = np.cumsum(sizes)
    bad = np.zeros(sizes.size, dtype=bool)
    bad[np.searchsorted(ends, np.append(np.flatnonzero(codes > 63), too_long), side="right")] = True
    filled = sizes > 0
    bad[filled] |= codes[ends[filled] - 1] >= 0x20
    decoded = _decode(data[~np.repeat(bad, sizes)], np.where(bad, 0, sizes))
    what = "The RLE string is not COCO's compressed format."
    broken = dict.fromkeys(np.flatnonzero(bad).tolist(), what)
    return decoded._replace(broken=broken | decoded.broken)


def _halves(counts: _Runs) -> _Runs:
    """How many pairs so many runs make."""
    return (counts + 1) >> 1


def _pairs(runs: _Runs, counts: _Runs) -> _Runs:
    """Pair the runs of each mask, as in :class:`_Decoded`."""
    if not (counts & 1).any():
        return runs.reshape(-1, 2)
    pairs = np.zeros(2 * int(_halves(counts).sum()), dtype=np.int64)
    pairs[_filled(counts, pairs.size)] = runs
    return pairs.reshape(-1, 2)


def _flat(pairs: _Runs, counts: _Runs) -> _Runs:
    """The inverse of :func:`_pairs`."""
    runs = pairs.reshape(-1)
    return runs[_filled(counts, runs.size)] if (counts & 1).any() else runs


def _filled(counts: _Runs, size: int) -> NDArray[np.bool_]:
    filled = np.ones(size, dtype=bool)
    filled[2 * np.cumsum(_halves(counts))[counts & 1 == 1] - 1] = False
    return filled


def _negative(pairs: _Runs, counts: _Runs) -> list[int]:
    """Which masks have a negative run."""
    if not pairs.size or pairs.min() >= 0:
        return []
    owner = np.repeat(np.arange(counts.size), _halves(counts))
    return list(np.unique(owner[(pairs < 0).any(axis=1)]).tolist())


def _heads(counts: _Runs) -> _Runs:
    """The first pair of each mask that has any."""
    halves = _halves(counts)
    return (np.cumsum(halves) - halves)[counts > 0]


def _undo_differences(pairs: _Runs, counts: _Runs) -> None:
    """Add to each run, from the fourth on, the run before last (in place).

    Runs 1, 3, 5, … of a mask are one chain and runs 2, 4, 6, … another; run 0 stands alone. Along a
    chain that is a prefix sum, begun afresh in each mask: what came before is taken off its head.
    """
    heads = _heads(counts)
    if heads.size == 0:
        return
    alone = pairs[heads, 0]
    pairs[heads, 0] = 0
    for chain in pairs.T:
        chain[heads[1:]] -= np.add.reduceat(chain, heads)[:-1]
        np.cumsum(chain, out=chain)
    pairs[heads, 0] = alone
    pairs[np.cumsum(_halves(counts))[counts & 1 == 1] - 1, 1] = 0  # no run is there


def encode_rle_strings(runs: _Runs, counts: _Runs) -> tuple[_Bytes, _Runs]:
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


def mask_column(masks: Sequence[Rle | None]) -> _Made:
    """Build the mask column of a batch, with each mask's own area and box.

    Args:
        masks: One per row; None where a row has no mask.

    Returns:
        An array of type ``schema.MASK`` as long as ``masks``, and why a row's mask is invalid, by
        row (such a row has no mask in the array). Areas and boxes equal pycocotools' ``area`` and
        ``toBbox``.
    """
    sizes = np.fromiter((0 if m is None else len(m.counts) for m in masks), np.int64, len(masks))
    return _in_blocks(sizes, lambda begin, end: _mask_block(masks[begin:end]))


def compressed_column(height: _Runs, width: _Runs, strings: pa.BinaryArray) -> _Made:
    """Build the mask column of a batch as :func:`mask_column`, of columns.

    Args:
        height: Rows of each mask.
        width: Columns of each mask.
        strings: COCO's compressed strings, of type ``pa.binary()``, without nulls.
    """
    offsets = np.frombuffer(strings.buffers()[1], np.int32)[strings.offset :][: len(strings) + 1]
    data = np.frombuffer(strings.buffers()[2] or b"", np.uint8)
    sizes = (offsets[1:] - offsets[:-1]).astype(np.int64)

    def block(begin: int, end: int) -> _Made:
        part = data[offsets[begin] : offsets[end]], sizes[begin:end]
        shape = height[begin:end], width[begin:end]
        return _column(end - begin, np.arange(end - begin), shape, _decode(*part), part)

    return _in_blocks(sizes, block)


def _in_blocks(sizes: _Runs, block: Callable[[int, int], _Made]) -> _Made:
    """Build a column of parts whose runs stay in the processor's cache."""
    part = (np.cumsum(sizes + 1) - 1) // _BLOCK
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    blocks, broken = [], dict[int, str]()
    for begin, end in pairwise([*starts, len(sizes)]):
        column, why = block(begin, end)
        blocks.append(column)
        broken |= {begin + row: reason for row, reason in why.items()}
    return (pa.concat_arrays(blocks) if blocks else pa.nulls(0, MASK)), broken


def _mask_block(masks: Sequence[Rle | None]) -> _Made:
    rows = np.array([i for i, m in enumerate(masks) if m is not None], dtype=np.int64)
    if rows.size == 0:
        return pa.nulls(len(masks), MASK), {}
    given = [m for m in masks if m is not None]
    height = np.array([m.height for m in given], dtype=np.int64)
    width = np.array([m.width for m in given], dtype=np.int64)
    strings = [m.counts for m in given if isinstance(m.counts, bytes)]
    joined = _joined(strings)
    decoded = _decode(*joined)
    if len(strings) == len(given):
        return _column(len(masks), rows, (height, width), decoded, joined)
    decoded = _merged([m.counts for m in given], decoded)
    return _column(len(masks), rows, (height, width), decoded, None)


def _merged(given: Sequence[bytes | _Runs], strings: _Decoded) -> _Decoded:
    """Put the runs of those that are no strings between those of the strings."""
    compressed = [i for i, c in enumerate(given) if isinstance(c, bytes)]
    flat = _flat(strings.pairs, strings.counts)
    inverse = iter(np.split(flat, np.cumsum(strings.counts)[:-1]))
    merged = [next(inverse) if isinstance(c, bytes) else np.asarray(c, np.int64) for c in given]
    counts = np.array([p.size for p in merged], dtype=np.int64)
    runs = np.concatenate(merged)
    broken = {compressed[i]: why for i, why in strings.broken.items()}
    pairs = _pairs(runs, counts)
    broken = dict.fromkeys(_negative(pairs, counts), "The RLE holds a negative run.") | broken
    return _Decoded(pairs, counts, np.zeros(len(given), dtype=bool), broken)


def _column(
    size: int,
    rows: _Runs,
    shape: tuple[_Runs, _Runs],
    decoded: _Decoded,
    strings: tuple[_Bytes, _Runs] | None,
) -> _Made:
    """The column of masks that stand in some of its rows; ``strings``: as which they came."""
    height, width = shape
    pairs, counts, is_shortest, malformed = decoded
    covered = np.zeros(rows.size)
    if pairs.size:  # in floats: what is malformed may add up to anything
        both = pairs[:, 0].astype(np.float64) + pairs[:, 1]
        covered[counts > 0] = np.add.reduceat(both, _heads(counts))
    broken = {int(rows[i]): why for i, why in malformed.items()}
    valid = np.ones(rows.size, dtype=bool)
    valid[list(malformed)] = False
    too_large = (height < 0) | (width < 0) | (height.astype(float) * width > MAX_MASK_PIXELS)
    for i in np.flatnonzero(valid & (too_large | (covered != height * width))).tolist():
        broken[int(rows[i])] = (
            f"The mask's runs cover {int(covered[i])} pixels; its size is {height[i]} × {width[i]}."
        )
        valid[i] = False
    if not valid.all():
        pairs, counts = pairs[np.repeat(valid, _halves(counts))], counts[valid]
        rows, height, width = rows[valid], height[valid], width[valid]
        if strings is not None:
            strings = strings[0][np.repeat(valid, strings[1])], strings[1][valid]
    area, box = _areas_and_boxes(pairs, counts, height)
    if strings is None or not is_shortest[valid].all():  # else they are as they would be written
        strings = encode_rle_strings(_flat(pairs, counts), counts)
    return _struct(size, rows, (height, width), strings, area, box), broken


def areas_and_boxes(runs: _Runs, counts: _Runs, height: _Runs) -> tuple[_Runs, _Runs]:
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
    return _areas_and_boxes(_pairs(runs, counts), counts, height)


def _areas_and_boxes(pairs: _Runs, counts: _Runs, height: _Runs) -> tuple[_Runs, _Runs]:
    area = np.zeros(counts.size, dtype=np.int64)
    box = np.zeros((counts.size, 4), dtype=np.int64)
    there = np.flatnonzero(pairs[:, 1] > 0)
    if there.size == 0:
        return area, box
    halves = _halves(counts)
    end = np.cumsum(pairs).reshape(-1, 2)
    begin = np.append(0, end[:, 1])[np.cumsum(halves) - halves]
    owner = np.repeat(np.arange(counts.size), halves)[there]
    heads = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), owner[1:] != owner[:-1])))
    who = owner[heads]
    run = pairs[:, 1].take(there)
    # Pixel numbers and their parts are exact in floats, whose division is several times faster.
    start = (end[:, 0].take(there) - begin[owner]).astype(np.float64)
    rows = height.astype(np.float64)[owner]
    column = np.floor(start / rows)
    top = start - column * rows
    bottom = top + run
    crosses = bottom > rows
    top[crosses], bottom[crosses] = 0, rows[crosses]
    area[who] = np.add.reduceat(run, heads)
    tails = np.append(heads[1:], owner.size) - 1
    box[who, 0] = column[heads]
    box[who, 1] = low = np.minimum.reduceat(top, heads)
    box[who, 2] = np.floor((start + run - 1)[tails] / rows[tails]) - column[heads] + 1
    box[who, 3] = np.maximum.reduceat(bottom, heads) - low
    return area, box


def _struct(
    size: int,
    rows: _Runs,
    shape: tuple[_Runs, _Runs],
    strings: tuple[_Bytes, _Runs],
    area: _Runs,
    box: _Runs,
) -> pa.StructArray:
    def spread(values: _Runs, dtype: type) -> pa.Array:
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
    children = [*(spread(side, np.int32) for side in shape), counts, spread(area, np.int64)]
    children += [spread(box[:, i], np.int32) for i in range(4)]
    return pa.StructArray.from_arrays(children, fields=list(MASK), mask=pa.array(absent))
