"""Neighbours of images and objects, and the metrics that are made of them.

With embeddings every pair of vectors is compared: exact, and quadratic. Without, images are
compared by their perceptual hashes: :mod:`ea_arrow.quality.near_duplicates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SchemaError
from ea_arrow.quality.declared import Metric
from ea_arrow.quality.near_duplicates import image_near_duplicates, image_uniqueness

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]
    Singles: TypeAlias = NDArray[np.float32]
    Bools: TypeAlias = NDArray[np.bool_]

NEIGHBOURS: Final = 10
VOTERS: Final = 9
"""How many neighbours are sought, and how many say whether an annotation is right."""

SAME: Final = 1 - 1e-5
"""Vectors whose cosine is not below this are the same, as in Encord Active."""

_COSINES_AT_ONCE: Final = 1 << 24
_ROWS_AT_ONCE: Final = 1 << 14


@dataclass(frozen=True)
class Neighbours:
    """The nearest of n vectors to each, by cosine.

    Attributes:
        index: The nearest other vectors, nearest first, of equally near ones the first first,
            shape (n, k); −1 where there are fewer or the vector is undefined.
        cosine: Theirs, shape (n, k); NaN likewise.
        other: Cosine of the nearest vector that is not the same (``SAME``), shape (n,), or NaN.
        is_first: Whether no vector before it is the same, shape (n,).
    """

    index: Ints
    cosine: Singles
    other: Singles
    is_first: Bools


def nearest(column: pa.Array | pa.ChunkedArray, k: int = NEIGHBOURS) -> Neighbours:
    """Find each vector's nearest neighbours by cosine, comparing every pair.

    Args:
        column: Embeddings, lists of floats of one length, shape (n,). Nulls, and vectors that are
            0 or not finite, are undefined: they have no neighbours and are nobody's.
        k: How many neighbours.

    Raises:
        SchemaError: The column holds no lists of floats, or lists of different lengths.
    """
    vectors, rows = _unit_vectors(column)
    n, found = len(column), len(rows)
    index, cosine = np.full((n, k), -1), np.full((n, k), np.nan, np.float32)
    other, is_first = np.full(n, np.nan, np.float32), np.zeros(n, np.bool_)
    high = max(1, _COSINES_AT_ONCE // max(found, 1))
    for first in range(0, found, high):
        block = vectors[first : first + high] @ vectors.T
        places = np.arange(len(block))
        block[places, places + first] = 2  # itself is the same
        at = rows[first : first + high]
        is_first[at] = np.argmax(block >= SAME, axis=1) == places + first
        block[places, places + first] = -np.inf
        width = min(k, found - 1)
        if width == 0:
            continue
        near, high_cosine = _highest(block, width)
        index[at, :width], cosine[at, :width] = rows[near], high_cosine
        # Whoever has the same vector k times over must be sought farther away.
        different = np.where(high_cosine >= SAME, -np.inf, high_cosine).max(axis=1)
        wanting = np.flatnonzero(np.isneginf(different))
        different[wanting] = np.where(block[wanting] >= SAME, -np.inf, block[wanting]).max(axis=1)
        other[at] = np.where(np.isneginf(different), np.nan, different)
    return Neighbours(index, cosine, other, is_first)


def _highest(block: Singles, k: int) -> tuple[Ints, Singles]:
    """Return the places of the k highest of each row, the highest first, and their values."""
    least = np.partition(block, block.shape[1] - k, axis=1)[:, -k]
    row, place = np.nonzero(block >= least[:, np.newaxis])
    order = np.lexsort((-block[row, place], row))  # stable: equal values stay in order of place
    starts = np.searchsorted(row, np.arange(len(block)))
    kept = order[starts[:, np.newaxis] + np.arange(k)]
    return place[kept], block[row[kept], place[kept]]


def _unit_vectors(column: pa.Array | pa.ChunkedArray) -> tuple[Singles, Ints]:
    """Return the vectors that are defined, of length 1, shape (m, d), and their rows, (m,)."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    fixed = pa.types.is_fixed_size_list(kind)
    if not (lists or fixed) or not pa.types.is_floating(kind.value_type):
        raise SchemaError(f"Embeddings are lists of floats; got a column of {kind}.")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    column = column.drop_null()
    lengths = pc.list_value_length(column).unique().to_pylist()
    if len(lengths) > 1:
        few, many = min(lengths), max(lengths)
        raise SchemaError(f"Embeddings have one length; got lengths from {few} to {many}.")
    size = lengths[0] if lengths else 0
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), size)
    vectors = np.zeros(values.shape, np.float32)
    defined = np.zeros(len(rows), np.bool_)
    for first in range(0, len(rows) if size else 0, _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        wide = values[part].astype(np.float64)
        peak = np.abs(wide).max(axis=1)
        good = np.isfinite(peak) & (peak > 0)
        wide = wide[good] / peak[good, np.newaxis]  # no square of these is too large or small
        wide /= np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, np.newaxis]
        vectors[part][good] = wide
        defined[part] = good
    return vectors[defined], rows[defined]


def image_singularity(neighbours: Neighbours) -> Floats:
    """Half of 1 − cosine to the nearest other embedding; 0 for each repeated one, shape (n,)."""
    values = (1 - neighbours.other.astype(np.float64)) / 2
    repeated = ~neighbours.is_first & (neighbours.index[:, 0] >= 0)
    values[repeated] = 0
    return values


def image_diversity(neighbours: Neighbours) -> Floats:
    """Mean half of 1 − cosine to the ten nearest embeddings, fewer if there are, shape (n,)."""
    cosine = neighbours.cosine.astype(np.float64)
    there = neighbours.index >= 0
    return _share(np.where(there, (1 - cosine) / 2, 0).clip(0, 1).sum(axis=1), there.sum(axis=1))


def annotation_quality(neighbours: Neighbours, klass: Ints) -> Floats:
    """Share of the nine nearest neighbours that have the same class, shape (n,).

    Args:
        neighbours: Of the embeddings of objects, or of images.
        klass: Class of each, −1 without one, shape (n,). Neighbours without a class have no say.
    """
    index = neighbours.index[:, :VOTERS]
    theirs = np.where(index >= 0, klass[index], -1)
    votes = np.count_nonzero((theirs >= 0) & (klass >= 0)[:, np.newaxis], axis=1)
    same = np.count_nonzero(theirs == klass[:, np.newaxis], axis=1)
    return _share(same, votes)


def _share(sums: Any, counts: Any) -> Floats:
    values: Floats = np.full(len(counts), np.nan)
    np.divide(sums, counts, out=values, where=counts > 0)
    return values


METRICS: Final = (
    Metric(
        name="image_uniqueness",
        title="Image Uniqueness",
        targets=("image",),
        needs=("pixels",),
        doc="Bits in which the image's 64-bit perceptual hash differs from the nearest image of "
        "another hash, at most 9, / 9: 1 where no other is within 8 bits. Of images with one hash "
        "all but the first are 0, so that the zeros can go and one of each stays.",
        source="pHash; Encord Active's Image Singularity, without embeddings",
        direction="low",
        compute=image_uniqueness,
        per_unit=True,
    ),
    Metric(
        name="image_near_duplicates",
        title="Near Duplicates",
        targets=("image",),
        needs=("pixels",),
        doc="How many other images have a perceptual hash that differs in at most 8 of 64 bits.",
        source="pHash",
        direction="high",
        compute=image_near_duplicates,
        per_unit=True,
    ),
    Metric(
        name="image_singularity",
        title="Image Singularity",
        targets=("image",),
        needs=("embeddings",),
        doc="(1 − cosine) / 2 to the nearest embedding that is not the same (cosine below "
        "0.99999); 0 … 1. Of images with the same embedding all but the first are 0.",
        source="Encord Active: Image Singularity",
        direction="low",
        compute=image_singularity,
        per_unit=True,
    ),
    Metric(
        name="image_diversity",
        title="Image Diversity",
        targets=("image",),
        needs=("embeddings",),
        doc="Mean of (1 − cosine) / 2 to the ten nearest embeddings; 0 … 1. High: unlike others.",
        source="ours; Encord Active ranked images by the distance to the centres of k-means",
        direction="high",
        compute=image_diversity,
        per_unit=True,
    ),
    Metric(
        name="object_annotation_quality",
        title="Object Annotation Quality",
        targets=("prediction", "label"),
        needs=("embeddings",),
        doc="Share of the nine nearest objects, by the cosine of embeddings, of the same class; "
        "0 … 1.",
        source="Encord Active: Object Annotation Quality",
        direction="low",
        compute=annotation_quality,
    ),
    Metric(
        name="image_annotation_quality",
        title="Image-level Annotation Quality",
        targets=("image",),
        needs=("embeddings",),
        doc="Share of the nine nearest images, by the cosine of embeddings, of the same class; "
        "0 … 1.",
        source="Encord Active: Image-level Annotation Quality",
        direction="low",
        compute=annotation_quality,
        per_unit=True,
    ),
)
