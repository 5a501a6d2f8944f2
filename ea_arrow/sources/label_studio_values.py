"""Values of Label Studio's results: regions in percent, its run-length code for brushes, names."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import check_mask_size, encode_dense
from ea_arrow.ontology import clean_text, cut
from ea_arrow.schema import BOX
from ea_arrow.sources.base import RowError
from ea_arrow.sources.json_records import Row, file_name, name_text
from ea_arrow.sources.json_values import parse_number, parse_side

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from ea_arrow.geometry import Rle

_LABELS: Final = ("rectanglelabels", "polygonlabels", "brushlabels", "labels")
_ANSWERS: Final = ("choices", "taxonomy", "rating", "number", "textarea", "datetime", "pairwise")
_SEVERAL: Final = "regions of several labels, of which the first counts"
_HEX: Final = re.compile(r"[0-9a-f]{8}-(?=.)")
_QUARTERS: Final = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0), 180.0: (-1.0, 0.0), 270.0: (0.0, -1.0)}
_SIZES: Final = 4  # widths of run lengths that a brush's code chooses from
_HEADER_BITS: Final = 32 + 5 + _SIZES * 4

Size = tuple[int, int]


class Scale(NamedTuple):
    """What percent are turned into.

    Attributes:
        size: Width and height of the image in pixels, where they are known.
        relative: Coordinates become fractions; else pixels.
    """

    size: Size | None
    relative: bool

    def of(self, percent: list[float]) -> list[float]:
        """Return x, y, x, y, … in percent as fractions or pixels.

        One product and one quotient: whole pixels come back whole wherever the percent have all
        their digits.

        Raises:
            RowError: They are to be pixels, and the size is unknown.
        """
        if self.relative:
            return [value / 100 for value in percent]
        if self.size is None:
            message = "The result has no original_width and original_height; expected pixels."
            raise RowError("invalid_data", message)
        return [value * self.size[i & 1] / 100 for i, value in enumerate(percent)]


def size_of(result: Row) -> Size | None:
    """Return ``original_width`` and ``original_height``; None where either is missing."""
    width = parse_side(result.get("original_width"))
    height = parse_side(result.get("original_height"))
    return (width, height) if width and height else None


def image_name(url: str) -> str:
    """Return the file name at the end of an image's URL or path.

    Of a URL of local storage that is what its query names; other queries, such as signatures, are
    left out.

    >>> image_name("/data/upload/3/a1b2c3d4-cat.jpg"), image_name("https://x.org/b%20c.jpg?sig=1")
    ('a1b2c3d4-cat.jpg', 'b c.jpg')
    >>> image_name("/data/local-files/?d=photos/cat.jpg")
    'cat.jpg'
    """
    url = clean_text(url)
    try:
        parts = urlsplit(url)
        local = parse_qs(parts.query).get("d") if "local-files" in parts.path else None
    except ValueError:
        return file_name(url)
    if local:
        return file_name(local[0])
    if parts.scheme in ("http", "https", "s3", "gs", "azure-blob"):
        return clean_text(unquote(file_name(parts.path)))
    return file_name(url)


def without_prefix(name: str) -> str:
    """Return a name without the eight hexadecimal digits that uploading put before it.

    >>> without_prefix("a1b2c3d4-cat.jpg"), without_prefix("cat.jpg")
    ('cat.jpg', 'cat.jpg')
    """
    return _HEX.sub("", name, count=1) if _HEX.match(name) else name


def label_of(result: Row, notes: Counter[str]) -> str | None:
    """Return the class of a region: the first of its labels.

    Raises:
        RowError: The labels are not a list of texts.
    """
    value = result["value"]
    key = next((key for key in (result.get("type"), *_LABELS) if _has(value, key)), None)
    labels = value[key] if key is not None else []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise RowError("invalid_data", f"{key} is {cut(labels)}; expected a list of texts.")
    if len(labels) > 1:
        notes[_SEVERAL] += 1
    return clean_text(labels[0]) if labels else None


def is_labelled(result: Row) -> bool:
    """Whether a result says a class, rather than only a region whose class stands elsewhere."""
    value = result.get("value")
    return isinstance(value, dict) and any(value.get(key) for key in _LABELS)


def identity(result: object) -> Row:
    """Return the RAW column of a result's own id.

    Raises:
        RowError: It is no object, or has an id that is none.
    """
    if not isinstance(result, dict):
        raise RowError("invalid_data", f"The result is {cut(result)}; expected an object.")
    return {"source_id": name_text(result.get("id"), "id")}


def columns_of(result: Row, scale: Scale, notes: Counter[str]) -> Row:
    """Return the class and the geometry of a result, or its answer, as RAW columns.

    Args:
        result: The result.
        scale: What percent are turned into; the result's own size of the image wins.
        notes: Where peculiarities are counted.

    Raises:
        RowError: It is malformed, or a shape or answer that cannot be stored.
    """
    kind, value = result.get("type"), result.get("value")
    scale = scale._replace(size=size_of(result) or scale.size)
    if not isinstance(value, dict):
        raise RowError("invalid_data", f"The result's value is {cut(value)}; expected an object.")
    if isinstance(kind, str) and kind in _ANSWERS:
        return _answer(kind, value)
    row: Row = {"class_ref": label_of(result, notes)}
    try:
        if "rle" in value:
            return row | {"format": "mask", "mask": brush_mask(value["rle"], scale.size)}
        if "points" in value and kind in ("polygonlabels", "polygon", "labels"):
            return row | {"format": "polygon", "polygon": [_ring(value, scale)]}
        if "width" in value and "height" in value:
            return row | rectangle(value, scale)
    except GeometryError as error:
        raise RowError("invalid_mask", error.message) from error
    message = f"Results of type {cut(kind)} cannot be stored; only boxes, polygons and brushes."
    raise RowError("unsupported_shape", message)


def rectangle(value: Row, scale: Scale) -> Row:
    """Return the columns of a box: Label Studio turns it clockwise about its top left corner.

    Where that turns the box's centre, the box is given as it would be if it were turned about its
    centre instead, as boxes are stored.

    Raises:
        RowError: A number is missing or wrong.
    """
    names = ("x", "y", "width", "height")
    percent = [parse_number(value.get(name), "invalid_box", name) for name in names]
    turn = value.get("rotation")
    theta = 0.0 if turn is None else parse_number(turn, "invalid_box", "rotation") % 360
    x, y, w, h = scale.of(percent)
    if theta in (0.0, 360.0):
        return {"format": "bounding_box"} | dict(zip(BOX, (x, y, w, h), strict=True))
    if scale.relative:
        if scale.size is None:
            message = "A box is rotated, and there is no original_width and original_height."
            raise RowError("invalid_data", message)
        aspect = scale.size[1] / scale.size[0]
    else:
        aspect = 1.0
    angle = math.radians(theta)
    cos, sin = _QUARTERS.get(theta) or (math.cos(angle), math.sin(angle))
    centre_x = x + (w * cos - h * aspect * sin) / 2
    centre_y = y + (w / aspect * sin + h * cos) / 2
    box = (centre_x - w / 2, centre_y - h / 2, w, h)
    return {"format": "rotatable_bounding_box", "theta": theta} | dict(zip(BOX, box, strict=True))


def brush_mask(rle: object, size: Size | None) -> Rle:
    """Decode Label Studio's run-length code: the four channels of an image, row by row.

    A header has the number of values (32 bits), their width less one (5 bits) and four widths of
    run lengths, less one (4 bits each). A run has one bit that is set if it is one value repeated,
    two bits that choose the width of its length, its length less one, and the value or values. The
    fourth channel, alpha, is the mask: any value but 0.

    Args:
        rle: The code, as a list of bytes.
        size: Width and height of the image.

    Raises:
        RowError: It is not such a code, or of an image of another size.
        GeometryError: The image is too large.
    """
    if size is None:
        message = "A brush needs original_width and original_height."
        raise RowError("invalid_mask", message)
    width, height = size
    check_mask_size(height, width)
    try:
        code = bytes(rle) if isinstance(rle, list) else b""
    except (TypeError, ValueError, OverflowError):
        code = b""
    if len(code) * 8 < _HEADER_BITS:
        raise RowError("invalid_mask", f"rle is {cut(rle)}; expected a list of bytes.")
    alpha = _alpha(code, width * height)
    return encode_dense(alpha.reshape(height, width))


def _alpha(code: bytes, pixels: int) -> NDArray[np.uint8]:
    """Where alpha is not 0, as 0 and 1, row by row, shape (pixels,)."""
    total = _bits(code, 0, 32)
    if total != 4 * pixels:
        message = f"The brush has {total:,} values; expected 4 channels of {pixels:,} pixels."
        raise RowError("invalid_mask", message)
    word = _bits(code, 32, 5) + 1
    widths = [_bits(code, 37 + 4 * i, 4) + 1 for i in range(_SIZES)]
    alpha = np.zeros(pixels, dtype=np.uint8)
    place, at, end = 0, _HEADER_BITS, len(code) * 8
    while place < total:
        head = _bits(code, at, 3)
        width = widths[head & 3]
        length = _bits(code, at + 3, width) + 1
        at += 3 + width
        repeated = head & 4
        at_end = at + word * (1 if repeated else length)
        if at_end > end or place + length > total:
            message = f"The brush's code breaks off at value {place:,} of {total:,}."
            raise RowError("invalid_mask", message)
        if repeated:
            if _bits(code, at, word):
                alpha[place // 4 : (place + length) // 4] = 1
        else:
            for i in range((3 - place) % 4, length, 4):
                alpha[(place + i) // 4] = _bits(code, at + i * word, word) != 0
        place, at = place + length, at_end
    return alpha


def _bits(code: bytes, at: int, count: int) -> int:
    """The number in ``count`` bits, at most 32, from bit ``at``; zeros follow the end."""
    first = at >> 3
    window = int.from_bytes(code[first : first + 5].ljust(5, b"\0"), "big")
    return (window >> (40 - (at & 7) - count)) & ((1 << count) - 1)


def _answer(kind: str, value: Row) -> Row:
    answer = value.get(kind)
    region = {"x", "points", "rle"} & value.keys()
    one = isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], str)
    if kind != "choices" or region or not one or not isinstance(answer, list):
        of = "a region" if region else "the image"
        message = f"{kind} of {of} is {cut(answer)}; only one of the choices for an image counts."
        raise RowError("unsupported_answer", message)
    return {"format": "classification", "class_ref": clean_text(answer[0])}


def _ring(value: Row, scale: Scale) -> list[float]:
    points = value.get("points")
    if value.get("closed") is False:
        raise RowError("unsupported_shape", "The polygon is open; only closed ones are stored.")
    good = isinstance(points, list) and all(isinstance(p, list) and len(p) == 2 for p in points)
    if not isinstance(points, list) or not good or len(points) < 3:
        message = f"points is {cut(points)}; expected at least three points [x, y]."
        raise RowError("invalid_polygon", message)
    flat = [parse_number(side, "invalid_polygon", "points") for point in points for side in point]
    return scale.of(flat)


def _has(value: Row, key: object) -> bool:
    return isinstance(key, str) and key.endswith("labels") and key in value
