"""Masks as runs of pixels down the columns: objects told apart, and put into an image.

An image of classes is cut into runs of equal value once; every object is then made of its runs, so
that the work does not grow with the number of objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ea_arrow.geometry import Rle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

_BLOCK_PIXELS: Final = 1 << 22


class Runs(NamedTuple):
    """Runs of pixels of one value within columns, in column-major order, background left out.

    Attributes:
        height: Rows of the image, in pixels.
        width: Columns of the image, in pixels.
        starts: First place of each run, counted down the columns, shape (n,).
        ends: Place after its last pixel, shape (n,).
        values: Its value, shape (n,).
    """

    height: int
    width: int
    starts: Integers
    ends: Integers
    values: Integers


def runs_of(pixels: NDArray[np.generic], background: int = 0) -> Runs:
    """Cut an image into runs of equal value.

    Args:
        pixels: Shape (height, width), integer or bool.
        background: The value that belongs to no object.

    >>> runs_of(np.array([[1, 0], [1, 2]])).starts.tolist()
    [0, 3]
    """
    height, width = pixels.shape
    starts, ends, values = [], [], []
    step = max(_BLOCK_PIXELS // max(height, 1), 1)
    for first in range(0, width if height else 0, step):
        flat = np.ascontiguousarray(pixels[:, first : first + step].T).reshape(-1)
        begins = np.empty(flat.size, dtype=bool)
        np.not_equal(flat[1:], flat[:-1], out=begins[1:])
        begins[::height] = True
        heads = np.flatnonzero(begins)
        found = flat[heads].astype(np.int64)
        kept = found != background
        starts.append(heads[kept] + first * height)
        ends.append(np.append(heads[1:], flat.size)[kept] + first * height)
        values.append(found[kept])
    return Runs(height, width, *(_joined(parts) for parts in (starts, ends, values)))


def connected(runs: Runs) -> Integers:
    """Tell apart pieces of one value that do not touch, not even at a corner.

    Returns:
        The number of each run's piece, shape (n,); pieces are numbered in no particular order.

    >>> image = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    >>> np.unique(connected(runs_of(image))).size
    2
    """
    one, other = _touching(runs)
    piece = np.arange(len(runs.starts))
    while True:
        a, b = piece[one], piece[other]
        apart = a != b
        if not apart.any():
            return piece
        low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        np.minimum.at(piece, high, low)
        while True:  # every run points at the first of its piece
            further = piece[piece]
            if (further == piece).all():
                break
            piece = further


def objects(runs: Runs, groups: Integers) -> Iterator[tuple[int, Rle]]:
    """Make a mask of each group of runs.

    Args:
        runs: The runs of an image.
        groups: The group of each run, shape (n,); all runs of a group have one value.

    Yields:
        The value and the mask of each group, by value and then by the group's first pixel.
    """
    group, first = _ranks(groups)
    if not len(first):
        return
    order = np.lexsort((runs.starts[first], runs.values[first]))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    row = np.argsort(rank[group], kind="stable")
    bounds = np.append(np.searchsorted(rank[group][row], np.arange(len(order))), len(row))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        mine = row[begin:end]
        value = int(runs.values[mine[0]])
        yield value, _rle(runs.starts[mine], runs.ends[mine], runs.height, runs.width)


def placed(mask: NDArray[np.generic], left: int, top: int, height: int, width: int) -> Rle:
    """Put a small mask into an image; what lies outside of it is cut off.

    Args:
        mask: Shape (rows, columns); any value other than 0 is foreground.
        left: Column of the image in which it begins; may be negative.
        top: Row of the image in which it begins; may be negative.
        height: Rows of the image.
        width: Columns of the image.

    >>> placed(np.ones((1, 2)), 1, 1, 2, 3).counts.tolist()
    [3, 1, 1, 1]
    """
    rows = slice(max(-top, 0), max(height - top, 0))
    columns = slice(max(-left, 0), max(width - left, 0))
    runs = runs_of(mask[rows, columns] != 0)
    top, left = max(top, 0), max(left, 0)
    shift = left * height + top
    rows_cut = max(runs.height, 1)
    column = runs.starts // rows_cut
    starts = column * height + runs.starts % rows_cut + shift
    return _rle(starts, starts + (runs.ends - runs.starts), height, width)


def _rle(starts: Integers, ends: Integers, height: int, width: int) -> Rle:
    """The mask of runs in order; runs that go on in the next column become one."""
    apart = starts[1:] != ends[:-1]
    starts = starts[np.append(True, apart)] if len(starts) else starts
    ends = ends[np.append(apart, True)] if len(ends) else ends
    places = np.stack((starts, ends), axis=1).reshape(-1)
    counts = np.diff(places, prepend=0, append=height * width)
    return Rle(height, width, counts[:-1] if counts[-1] == 0 and counts.size > 1 else counts)


def _ranks(groups: Integers) -> tuple[Integers, Integers]:
    """Each run's group numbered from 0, and the first run of each group."""
    _, first, rank = np.unique(groups, return_index=True, return_inverse=True)
    return rank, first


def _touching(runs: Runs) -> tuple[Integers, Integers]:
    """Pairs of runs of one value in neighbouring columns that share an edge or a corner."""
    height, starts, ends = runs.height, runs.starts, runs.ends
    column = starts // max(height, 1)
    begins = np.searchsorted(column, np.arange(runs.width + 2))
    low = np.maximum(np.searchsorted(ends, starts + height, "left"), begins[column + 1])
    high = np.minimum(np.searchsorted(starts, ends + height, "right"), begins[column + 2])
    number = np.maximum(high - low, 0)
    one = np.repeat(np.arange(len(starts)), number)
    before = np.repeat(np.cumsum(number) - number, number)
    other = np.arange(len(one)) - before + np.repeat(low, number)
    alike = runs.values[one] == runs.values[other]
    return one[alike], other[alike]


def _joined(parts: list[Integers]) -> Integers:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
