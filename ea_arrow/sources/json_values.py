"""Values of JSON records, checked: numbers, ids, boxes, polygons and run-length encoded masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import Rle, check_mask_size
from ea_arrow.ontology import cut, id_text
from ea_arrow.sources.base import RowError

if TYPE_CHECKING:
    from collections import Counter


def parse_box(box: object) -> list[float] | None:
    """Return the four numbers of ``bbox``; None where it is missing, null or empty.

    Raises:
        RowError: It is anything but four finite numbers.
    """
    if box is None or box == []:
        return None
    if not isinstance(box, list) or len(box) != 4:
        message = f"bbox is {cut(box)}; expected four numbers [x, y, width, height]."
        raise RowError("invalid_box", message)
    return [parse_number(value, "invalid_box", "bbox") for value in box]


def parse_number(value: object, rule: str, what: str) -> float:
    """Return ``value`` as a float.

    Args:
        value: What the file holds.
        rule: The rule that anything but a number breaks.
        what: Where it stands, for the message.

    Raises:
        RowError: It is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"{what} has {cut(value)}; expected a number."
        raise RowError(rule, message)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        message = f"{what} has {cut(value)}; expected a finite number."
        raise RowError("not_finite", message)
    return number


def parse_reference(record: dict[str, Any], key: str) -> str | None:
    """Return the text of an id that a row refers to; None if it gives none.

    Raises:
        RowError: It is neither a number nor a string.
    """
    value = record.get(key)
    text = id_text(value)
    if text is None and value is not None:
        message = f"{key} is {cut(value)}; expected a number or a string."
        raise RowError("invalid_data", message)
    return text


def parse_rle(rle: dict[str, Any]) -> Rle:
    """Return a compressed or uncompressed RLE; its runs are checked later, in bulk.

    Raises:
        RowError: Its size or counts are of the wrong kind.
    """
    height, width = parse_size(rle.get("size"))
    counts = rle.get("counts")
    if isinstance(counts, str):
        try:
            return Rle(height, width, counts.encode("ascii"))
        except UnicodeEncodeError as error:
            message = "The RLE string is not COCO's compressed format: it is not ASCII."
            raise RowError("invalid_mask", message) from error
    if isinstance(counts, list) and set(map(type, counts)) <= {int}:
        try:
            return Rle(height, width, np.array(counts, dtype=np.int64))
        except OverflowError:
            pass  # a number of that size is as wrong as a string would be
    message = f"The RLE's counts are {cut(counts)}; expected a string or a list of integers."
    raise RowError("invalid_mask", message)


def parse_size(size: object) -> tuple[int, int]:
    """Return the height and width of an RLE.

    Raises:
        RowError: They are not two integers, or too large.
    """
    sides = [parse_side(side) for side in size] if isinstance(size, list) else []
    if len(sides) != 2 or None in sides:
        message = f"The RLE's size is {cut(size)}; expected [height, width] in pixels."
        raise RowError("invalid_mask", message)
    height, width = (side or 0 for side in sides)
    try:
        check_mask_size(height, width)
    except GeometryError as error:
        raise RowError("invalid_mask", error.message) from error
    return height, width


def parse_side(value: object) -> int | None:
    """Return a width or height in whole pixels (640, 640.0, "640"); None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    return None


def parse_polygon(parts: list[Any], notes: Counter[str]) -> list[list[float]]:
    """Return the rings of a polygon: several rings are the parts of one object.

    Raises:
        RowError: Not lists of x, y pairs, or no part has three points.
    """
    if isinstance(parts[0], int | float):
        notes["polygons given as one flat list, read as one part"] += 1
        parts = [parts]
    rings = [part for part in parts if isinstance(part, list)]
    if len(rings) != len(parts) or any(len(ring) % 2 for ring in rings):
        message = f"segmentation is {cut(parts)}; expected lists [x1, y1, x2, y2, …]."
        raise RowError("invalid_polygon", message)
    kept = [ring for ring in rings if len(ring) >= 6]
    if not kept:
        message = f"segmentation is {cut(parts)}; a polygon needs at least three points."
        raise RowError("invalid_polygon", message)
    if len(kept) < len(rings):
        notes["polygon parts of fewer than three points left out"] += len(rings) - len(kept)
    return [
        [parse_number(value, "invalid_polygon", "segmentation") for value in ring]
        if set(map(type, ring)) != {float} or not all(map(math.isfinite, ring))
        else ring
        for ring in kept
    ]
