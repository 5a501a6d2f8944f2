"""Near duplicates among images by their perceptual hashes, in nearly linear time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.arranged import spread, stable_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]
    Bools: TypeAlias = NDArray[np.bool_]
    Codes: TypeAlias = NDArray[np.uint64]

NEAR_BITS: Final = 8
"""Images whose hashes differ in no more of the 64 bits are near duplicates."""

_PAIRS_AT_ONCE: Final = 1 << 18
_MANY: Final = 1 << 19  # hashes from which on wider bands are faster


@dataclass(frozen=True)
class NearDuplicates:
    """The near duplicates of each of n images.

    Attributes:
        hashed: Whether it has a hash, shape (n,).
        distance: Bits in which its hash differs from the nearest other image's, shape (n,); −1
            where all others differ in more than were asked for.
        partner: That image, the first of several, shape (n,); −1 likewise.
        count: How many other images are within the distance asked for, shape (n,).
        others: As ``distance``, to the nearest image of another hash, shape (n,).
        is_first: Whether no image before it has the same hash, shape (n,).
    """

    hashed: Bools
    distance: Ints
    partner: Ints
    count: Ints
    others: Ints
    is_first: Bools


def near_duplicates(hashes: Any, most: int = NEAR_BITS) -> NearDuplicates:
    """Find the images whose hashes differ in few bits; exact.

    Multi-index hashing (Norouzi, Punjani, Fleet: Fast search in Hamming space, 2012): cut into m
    bands, two codes that differ in r bits differ in at most r // m of one of them.

    Args:
        hashes: int64 column of 64-bit perceptual hashes, null for images without, shape (n,).
        most: The most bits in which near duplicates differ.
    """
    rows = np.flatnonzero(hashes.is_valid().to_numpy(zero_copy_only=False))
    found = _near_duplicates(hashes.drop_null().to_numpy().view(np.uint64), most)
    n = len(hashes)
    distance, partner, count, others = (np.full(n, empty) for empty in (-1, -1, 0, -1))
    hashed, is_first = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    distance[rows], count[rows], others[rows] = found.distance, found.count, found.others
    partner[rows] = np.append(rows, -1)[found.partner]
    hashed[rows], is_first[rows] = True, found.is_first
    return NearDuplicates(hashed, distance, partner, count, others, is_first)


def _near_duplicates(hashes: Codes, most: int) -> NearDuplicates:
    codes, first, group, size = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    n = len(hashes)
    far = (most + 1) * (n + 1)
    best = np.full(len(codes), far)  # distance and first image in one number
    count = size - 1
    for left, right, distance in _near_pairs(codes, most):
        bits = distance.astype(np.int64) * (n + 1)
        for one, other in ((left, right), (right, left)):
            np.minimum.at(best, one, bits + first[other])
            np.add.at(count, one, size[other])
    others = np.where(best < far, best // (n + 1), -1)[group]
    partner = np.where(best < far, best % (n + 1), -1)[group]
    is_first = first[group] == np.arange(n)
    # Of images with one hash, the second is the first one's partner, the first all others'.
    order = stable_order((group, len(codes)))
    second = order[np.minimum(np.cumsum(size) - size + 1, max(n - 1, 0))]
    again = size[group] > 1
    return NearDuplicates(
        np.ones(n, np.bool_),
        np.where(again, 0, others),
        np.where(again, np.where(is_first, second[group], first[group]), partner),
        count[group],
        others,
        is_first,
    )


def _near_pairs(codes: Codes, most: int) -> Iterator[tuple[Ints, Ints, NDArray[np.uint8]]]:
    """Yield each pair of distinct codes within ``most`` bits once, with its distance, in blocks."""
    bands = _bands(3 if len(codes) > _MANY else 4, most)
    for number, (shift, width, radius) in enumerate(bands):
        key = (codes >> np.uint64(shift)).astype(np.int64) & ((1 << width) - 1)
        order = stable_order((key, 1 << width))
        ordered, key = codes[order], key[order]
        starts = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=1 << width))])
        for mask in _masks(width, radius):
            for left, right in _sharing(key, mask, starts):
                differ = ordered[left] ^ ordered[right]
                distance = np.bitwise_count(differ)
                near = distance <= most
                for at, bits, few in bands[:number]:  # found before, in another band
                    part = (differ >> np.uint64(at)) & np.uint64((1 << bits) - 1)
                    near &= np.bitwise_count(part) > few
                kept = np.flatnonzero(near)
                yield order[left[kept]], order[right[kept]], distance[kept]


def _bands(m: int, most: int) -> list[tuple[int, int, int]]:
    """Cut 64 bits into m bands: where each starts, its width, and in how many bits it may differ.

    If every band differed in more than these, the codes would differ in more than ``most``.
    """
    edges = [64 * band // m for band in range(m + 1)]
    least, more = divmod(most, m)
    radii = [least if band <= more else least - 1 for band in range(m)]
    return [
        (low, high - low, radius)
        for low, high, radius in zip(edges, edges[1:], radii, strict=False)
        if radius >= 0
    ]


def _masks(width: int, radius: int) -> Iterator[int]:
    for size in range(radius + 1):
        for bits in combinations(range(width), size):
            yield sum(1 << bit for bit in bits)


def _sharing(key: Ints, mask: int, starts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs of places whose keys differ in exactly ``mask``, each once, in blocks.

    Args:
        key: Ascending, shape (n,).
        mask: The bits.
        starts: Where each key starts.
    """
    probe = key ^ mask
    if mask:
        begin, end = starts[probe], starts[probe + 1]
        end = np.where(probe > key, end, begin)
    else:
        begin, end = np.arange(1, len(key) + 1), starts[probe + 1]
    some = np.flatnonzero(end > begin)
    begin, count = begin[some], end[some] - begin[some]
    ends = np.cumsum(count)
    cuts = np.arange(0, ends[-1] if len(ends) else 0, _PAIRS_AT_ONCE)
    bounds = np.append(np.searchsorted(ends, cuts, side="right"), len(ends)).tolist()
    for first, last in pairwise(bounds):
        part = slice(first, last)
        yield np.repeat(some[part], count[part]), spread(begin[part], count[part])


def image_uniqueness(near: NearDuplicates) -> Floats:
    """How far an image is from the nearest of another hash: min(bits, 9) / 9, shape (n,).

    Of images with one hash all but the first are 0; NaN without a hash.
    """
    bits = np.where(near.others < 0, NEAR_BITS + 1, near.others)
    values = np.where(near.is_first, bits / (NEAR_BITS + 1), 0)
    return np.where(near.hashed, values, np.nan)


def image_near_duplicates(near: NearDuplicates) -> Floats:
    """How many near duplicates an image has, shape (n,); NaN without a hash."""
    return np.where(near.hashed, near.count, np.nan)
