"""Rotated boxes of Ultralytics' ``predictions.json``: ``rbox`` and ``poly`` in place of ``bbox``.

``rbox`` is centre, width, height and angle, in pixels and radians; the angle turns the x axis to
the y axis, which is clockwise as images are drawn. ``poly`` has the same box's corners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.ontology import cut
from ea_arrow.schema import BOX
from ea_arrow.sources.base import RowError
from ea_arrow.sources.json_values import parse_number
from ea_arrow.tensors import rotated_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EMPTY: Final[tuple[Any, ...]] = (None, [], {})


def is_rotated(record: dict[str, Any]) -> bool:
    """Whether a result has a rotated box, and no other shape."""
    return "rbox" in record and all(record.get(k) in _EMPTY for k in ("bbox", "segmentation"))


def rotated_columns(record: dict[str, Any]) -> dict[str, Any]:
    """Parse ``rbox`` of a result into RAW columns.

    Raises:
        RowError: It is anything but five finite numbers.
    """
    given = record["rbox"]
    if not isinstance(given, list) or len(given) != 5:
        message = f"rbox is {cut(given)}; expected five numbers [cx, cy, width, height, radians]."
        raise RowError("invalid_box", message)
    numbers = [parse_number(value, "invalid_box", "rbox") for value in given]
    columns = rotated(np.array([numbers]))
    return {name: float(values[0]) for name, values in columns.items()} | {
        "format": "rotatable_bounding_box"
    }


def rotated(numbers: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the RAW columns of rotated boxes.

    Args:
        numbers: Centre x, centre y, width, height and radians, shape (n, 5).
    """
    with np.errstate(over="ignore"):
        columns = rotated_boxes(numbers[:, :4], np.degrees(numbers[:, 4]))
    boxes = columns["bbox"]
    return {name: boxes[:, i] for i, name in enumerate(BOX)} | {"theta": columns["theta"]}
