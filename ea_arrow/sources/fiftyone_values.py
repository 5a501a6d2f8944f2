"""Values of FiftyOne's labels: boxes, polylines, classifications, and masks within boxes."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import Rle, check_mask_size
from ea_arrow.ontology import cut
from ea_arrow.sources.base import RowError
from ea_arrow.sources.json_records import Row, box_row, name_text
from ea_arrow.sources.json_values import parse_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Reading

LISTS: Final = {
    "Detections": "detections",
    "Polylines": "polylines",
    "Classifications": "classifications",
}
"""Classes of label fields that hold lists, and the key of each list."""

SINGLE: Final = ("Detection", "Polyline", "Classification")
"""Classes of single labels."""

_HEADER: Final = re.compile(
    rb"\{'descr': '(?P<type>[|<>=](?:b1|[iu][1248]|f[48]))', "
    rb"'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<h>\d{1,9}), (?P<w>\d{1,9})\),? ?\} *\n"
)
_MOST_HEADER: Final = 4096
_SLACK: Final = 1  # pixels by which a mask may differ from its box, for rounding

Size = tuple[int, int]


def plain(value: Any) -> Any:
    """A number that MongoDB's JSON wraps, as ``{"$numberDouble": "NaN"}`` does; else the value."""
    if isinstance(value, dict) and len(value) == 1:
        (key, inner) = next(iter(value.items()))
        if key in ("$numberDouble", "$numberInt", "$numberLong") and isinstance(inner, str):
            try:
                return float(inner) if key == "$numberDouble" else int(inner)
            except ValueError:
                return value
    return value


def class_of(label: object) -> str | None:
    """The class of a label or a label field, such as ``Detections``; None if it has none."""
    found = label.get("_cls") if isinstance(label, dict) else None
    return found if isinstance(found, str) else None


def labels_of(field: object) -> list[Any]:
    """The labels that a field of a sample holds.

    Raises:
        RowError: It holds something else.
    """
    kind = class_of(field)
    if kind in LISTS and isinstance(field, dict):
        listed = field.get(LISTS[kind])
        if listed is None:
            return []
        if isinstance(listed, list):
            return listed
    if kind in SINGLE:
        return [field]
    message = f"The field is {cut(field)}; expected {', '.join(LISTS)} or {', '.join(SINGLE)}."
    raise RowError("unsupported_shape", message)


def columns_of(label: object, size: Size | None, reading: Reading) -> Row:
    """Return a label as RAW columns, its confidence left out.

    Args:
        label: The label.
        size: Width and height of its image in pixels, where they are known; masks need them.
        reading: What the caller knows better of its box.

    Raises:
        RowError: It is malformed, or of a class that cannot be stored.
    """
    kind = class_of(label)
    if not isinstance(label, dict):
        raise RowError("invalid_data", f"The label is {cut(label)}; expected an object.")
    if kind == "Classification":
        return {"format": "classification"}
    if kind == "Polyline":
        return {"format": "polygon", "polygon": _rings(label)}
    if kind != "Detection":
        message = f"Labels of class {cut(kind)} cannot be stored; only {', '.join(SINGLE)}."
        raise RowError("unsupported_shape", message)
    box = _box(label)
    row = box_row(box, reading, "xywh")
    row["is_crowd"] = _is_crowd(label)
    if label.get("mask_path"):
        message = "The mask is a file of its own (mask_path); export with the masks in the labels."
        raise RowError("unsupported_shape", message)
    if label.get("mask") is None:
        return row | {"format": "bounding_box"}
    try:
        return row | {"format": "mask", "mask": _mask(label["mask"], box, size)}
    except GeometryError as error:
        raise RowError("invalid_mask", error.message) from error


def identity(label: Row) -> Row:
    """Return the columns of a label's class, id and index in a track.

    Raises:
        RowError: One is neither a text nor a number.
    """
    own = label.get("_id", label.get("id"))
    own = own.get("$oid") if isinstance(own, dict) else own
    return {
        "class_ref": name_text(label.get("label"), "label"),
        "source_id": name_text(own, "_id"),
        "track_id": name_text(plain(label.get("index")), "index"),
    }


def _box(label: Row) -> list[float]:
    box = label.get("bounding_box")
    if not isinstance(box, list) or len(box) != 4:
        message = f"bounding_box is {cut(box)}; expected [x, y, width, height] as fractions."
        raise RowError("invalid_box", message)
    return [parse_number(plain(value), "invalid_box", "bounding_box") for value in box]


def _is_crowd(label: Row) -> bool | None:
    value = label.get("iscrowd")
    if value is None and isinstance(label.get("attributes"), dict):
        value = label["attributes"].get("iscrowd")
        value = value.get("value") if isinstance(value, dict) else value
    value = plain(value)
    if value is None or isinstance(value, bool | int | float):
        return None if value is None else bool(value)
    raise RowError("invalid_data", f"iscrowd is {cut(value)}; expected 0 or 1.")


def _rings(label: Row) -> list[list[float]]:
    if not (label.get("closed") and label.get("filled")):
        message = "The polyline is not closed and filled; only polygons are stored."
        raise RowError("unsupported_shape", message)
    parts = label.get("points")
    if not isinstance(parts, list) or not parts or not all(map(_is_ring, parts)):
        message = f"points is {cut(parts)}; expected lists of at least three points [x, y]."
        raise RowError("invalid_polygon", message)
    return [
        [parse_number(plain(side), "invalid_polygon", "points") for xy in part for side in xy]
        for part in parts
    ]


def _is_ring(part: object) -> bool:
    good = isinstance(part, list) and len(part) >= 3
    return good and all(isinstance(point, list) and len(point) == 2 for point in part)  # type: ignore[attr-defined]


# -- masks -----------------------------------------------------------------------------------------


def _mask(value: object, box: list[float], size: Size | None) -> Rle:
    """Place a mask, which covers its box only, into the image."""
    if size is None:
        message = "A mask needs its image's size: the sample has no metadata."
        raise RowError("invalid_mask", message)
    width, height = size
    check_mask_size(height, width)
    part = _array(_packed(value), size)
    left = _place(box[0] * width, (box[0] + box[2]) * width, part.shape[1], width)
    top = _place(box[1] * height, (box[1] + box[3]) * height, part.shape[0], height)
    if left is None or top is None:
        shown = [round(box[i] * (height if i & 1 else width), 2) for i in range(4)]
        message = (
            f"The mask has {part.shape[1]} × {part.shape[0]} pixels, its box is {shown} within "
            f"{width} × {height}; expected a mask as large as its box."
        )
        raise RowError("invalid_mask", message)
    return _placed(part != 0, top, left, size)


def _placed(part: NDArray[np.bool_], top: int, left: int, size: Size) -> Rle:
    """Return the mask of a whole image that is ``part`` at a place and background elsewhere."""
    width, height = size
    padded = np.zeros((part.shape[1], part.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = part.T
    column, row = np.nonzero(np.diff(padded, axis=1))  # where runs begin and end, by turns
    edges = (column + left) * height + row + top
    touching = np.flatnonzero(edges[1:-1:2] == edges[2::2])  # one column's end, the next's start
    edges = np.delete(edges, np.concatenate((touching * 2 + 1, touching * 2 + 2)))
    return Rle(height, width, np.diff(edges, prepend=0, append=height * width).astype(np.int64))


def _place(start: float, end: float, length: int, limit: int) -> int | None:
    """The pixel at which a mask begins along one axis; None if it does not fit its box.

    FiftyOne cuts masks at rounded edges and draws them at truncated ones: whichever gives the
    length the mask has; rounded ones if neither does, but nearly.
    """
    if not (abs(start) < 2**31 and abs(end) < 2**31):
        return None
    edges = [(round(start), round(end)), (int(start), int(end))]
    first = next((a for a, b in edges if b - a == length), round(start))
    if abs(end - start - length) > _SLACK + 1e-6:
        return None
    first = min(first, limit - length)  # rounding may push it over the edge by a pixel
    return first if first >= 0 and first >= round(start) - _SLACK else None


def _packed(value: object) -> bytes:
    """The bytes that MongoDB's JSON holds in base64, in its present and its older form."""
    inner = value.get("$binary") if isinstance(value, dict) else None
    text = inner.get("base64") if isinstance(inner, dict) else inner
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error) as error:
        raise RowError("invalid_mask", f"The mask is not base64: {error}.") from error


def _array(packed: bytes, size: Size) -> NDArray[Any]:
    """Unpack an array of NumPy's file format: its header first, then what that announces.

    No more is unpacked than the image has pixels, whatever the bytes claim.
    """
    try:
        unpacking = zlib.decompressobj()
        head = unpacking.decompress(packed, _MOST_HEADER)
        length, match = _header(head)
        sides = int(match["h"]), int(match["w"])
        if sides[1] > size[0] + _SLACK or sides[0] > size[1] + _SLACK:
            message = f"The mask has {sides[1]} × {sides[0]} pixels, more than its image."
            raise RowError("invalid_mask", message)
        dtype = np.dtype(match["type"].decode())
        needed = length + sides[0] * sides[1] * dtype.itemsize
        data = head
        if len(data) < needed:
            data += unpacking.decompress(unpacking.unconsumed_tail, needed - len(data))
    except zlib.error as error:
        raise RowError("invalid_mask", f"The mask cannot be unpacked: {error}.") from error
    if len(data) < needed:
        raise RowError("invalid_mask", "The mask breaks off: its array is longer than its data.")
    order = "F" if match["fortran"] == b"True" else "C"
    values = np.frombuffer(data, dtype, sides[0] * sides[1], length)
    return values.reshape(sides, order=order)  # type: ignore[call-overload, no-any-return]


def _header(head: bytes) -> tuple[int, re.Match[bytes]]:
    """How long the header of an array is, and what it says."""
    wide = head[6:7] in (b"\x02", b"\x03")
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little") + start
    match = _HEADER.fullmatch(head[start:length]) if head.startswith(b"\x93NUMPY") else None
    if match is None:
        message = f"The mask is {head[:20]!r}; expected a NumPy array of two dimensions."
        raise RowError("invalid_mask", message)
    return length, match
