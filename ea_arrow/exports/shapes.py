"""Masks as pixels or runs, and whether boxes are the shapes' own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ea_arrow.exports.base import floats, is_format
from ea_arrow.exports.text import mask_field
from ea_arrow.geometry import encode_dense, polygon_areas_and_boxes
from ea_arrow.rle import decode_rle_strings
from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from ea_arrow.arranged import Bools, Ints


def dense(masks: pa.StructArray) -> Iterator[NDArray[np.uint8]]:
    """The pixels of masks, one after the other: 0 and 1, shape (height, width).

    Args:
        masks: A column of ``schema.MASK`` without nulls.
    """
    runs, counts, _ = decode_rle_strings(masks.field("counts").to_pylist())
    sizes = (masks.field(name).to_pylist() for name in ("height", "width"))
    parts = np.split(runs, np.cumsum(counts)[:-1]) if len(masks) else []
    for mine, height, width in zip(parts, *sizes, strict=True):
        values = (np.arange(len(mine)) & 1).astype(np.uint8)
        yield np.repeat(values, mine).reshape(width, height).T


def row_major_runs(masks: pa.StructArray) -> Iterator[Ints]:
    """The run lengths of masks row by row, background first, as Encord has them."""
    for pixels in dense(masks):
        # What is encoded column by column of the transposed mask goes row by row in the mask.
        counts: Any = encode_dense(pixels.T).counts
        yield counts


def differs_from_shape(batch: pa.RecordBatch) -> Bools:
    """Which masks and polygons have a box or an area that is not the shape's own."""
    stored = floats(batch, *BOX, "area")
    differs = np.zeros(batch.num_rows, dtype=bool)
    is_mask, is_polygon = is_format(batch, "mask"), is_format(batch, "polygon")
    if is_mask.any():
        fields = [mask_field(batch.column("mask"), name) for name in ("x", "y", "w", "h", "area")]
        own = np.stack(
            [f.to_numpy(zero_copy_only=False).astype(np.float64) for f in fields], axis=1
        )
        differs |= is_mask & (own != stored).any(axis=1)
    if is_polygon.any():
        area, box = polygon_areas_and_boxes(batch.column("polygon"))
        own = np.concatenate((box, area[:, None]), axis=1)
        differs |= is_polygon & (own != stored).any(axis=1)
    return differs
