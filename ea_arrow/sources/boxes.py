"""Boxes as files give them, four numbers in some order, to left, top, width and height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Layout

    Floats = NDArray[np.float64]


def to_xywh(numbers: Floats, layout: Layout, *, one_based: bool = False) -> Floats:
    """Bring boxes to left, top, width, height.

    Args:
        numbers: Shape (n, 4), as given.
        layout: Their order.
        one_based: Pixels count from 1, and corners are the last pixels that belong to the box: its
            width is ``xmax - xmin + 1``, as in VOC's devkit.

    Returns:
        Shape (n, 4); a new array, unless nothing changes. A corner left or above the other gives a
        negative side, which a later check refuses.

    >>> to_xywh(np.array([[10.0, 20, 30, 50]]), "xyxy").tolist()
    [[10.0, 20.0, 20.0, 30.0]]
    >>> to_xywh(np.array([[1.0, 1, 10, 20]]), "xyxy", one_based=True).tolist()
    [[0.0, 0.0, 10.0, 20.0]]
    """
    if layout in ("yxhw", "yxyx"):
        numbers = numbers[:, [1, 0, 3, 2]]
    first, second = numbers[:, :2], numbers[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        if one_based:
            first = first - 1
        if layout in ("xyxy", "yxyx"):
            second = second - first
        elif layout == "cxcywh":
            first = first - second / 2
    return np.concatenate((first, second), axis=1)


def box_columns(xywh: Floats) -> dict[str, pa.Array]:
    """The four RAW columns of boxes, shape (n, 4), as :func:`to_xywh` gives them."""
    return {name: pa.array(xywh[:, i]) for i, name in enumerate(BOX)}
