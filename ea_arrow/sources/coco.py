"""What reading COCO ground truth and COCO results share: opening JSON, parsing geometry.

The readers themselves are ``coco_labels.read_ground_truth`` and ``coco_results.CocoResults``.
"""

from __future__ import annotations

import gc
import gzip
import json
import math
import re
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ea_arrow.errors import GeometryError, SourceError
from ea_arrow.geometry import Rle, check_mask_size
from ea_arrow.ontology import cut, id_text
from ea_arrow.schema import BOX
from ea_arrow.sources.base import RowError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

HEAD_BYTES = 65_536
"""How much of a file is enough to tell its format."""

MAX_RATIO = 200
MAX_UNPACKED = 2**31
"""A gzip file that unpacks to more than both is refused: JSON packs about 5 to 20 times."""

_CHUNK = 2**24
_GZIP_MAGIC = b"\x1f\x8b"
_COCO_LISTS = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')
_RESULT = re.compile(rb'"image_id"\s*:')


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file, gzip-compressed or not, whole.

    Args:
        path: The file.
        expected: What the file should be, for error messages: "COCO results JSON".

    Raises:
        SourceError: The file cannot be read, is not JSON, or unpacks to an unreasonable size.
    """
    hint = f"Give {expected}, complete and uncompressed or as .gz."
    try:
        data = _read_bytes(path)
        with garbage_collection_paused():
            return json.loads(data)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise SourceError(message, hint=hint) from error
    except (EOFError, zlib.error) as error:
        message = f"{path} is a damaged gzip file ({error}); expected {expected}."
        raise SourceError(message, hint="Copy or download the file again.") from error
    except json.JSONDecodeError as error:
        raise SourceError(_json_message(path, error, expected), hint=hint) from error
    except RecursionError as error:
        message = f"{path} is nested too deeply to be {expected}."
        raise SourceError(message, hint=hint) from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        message = f"{path} is not JSON: {error}; expected {expected}."
        raise SourceError(message, hint=hint) from error


def read_head(path: Path) -> bytes:
    """Return the first ``HEAD_BYTES`` of a file, unpacked; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                return file.read(HEAD_BYTES)
            with gzip.open(file) as unpacked:
                return unpacked.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def sniff_ground_truth(path: Path) -> bool:
    """Whether a file looks like COCO ground truth, from its first bytes."""
    head = read_head(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"{") and _COCO_LISTS.search(head) is not None


def sniff_results(path: Path) -> bool:
    """Whether a file looks like COCO results, from its first bytes."""
    head = read_head(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"["):
        return _RESULT.search(head) is not None or head[1:].lstrip().startswith(b"]")
    return _COCO_LISTS.search(head) is not None and b'"score"' in head


def looks_like_ground_truth(document: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON document has the structure of COCO ground truth."""
    return isinstance(document, dict) and isinstance(document.get("images"), list)


def looks_like_results(document: object) -> TypeGuard[dict[str, Any] | list[Any]]:
    """Whether a JSON document has the structure of COCO results.

    Results are a list, or stand under ``annotations`` of an object; with images beside them they
    are told from ground truth by their scores.
    """
    rows = document
    if isinstance(document, dict):
        rows = document.get("annotations")
    if not isinstance(rows, list):
        return False
    if not rows:
        return not looks_like_ground_truth(document)
    if isinstance(document, dict):
        return any(isinstance(row, dict) and "score" in row for row in rows)
    return any(isinstance(row, dict) and "image_id" in row for row in rows)


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause the cyclic collector: parsing makes millions of objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def geometry_columns(record: dict[str, Any], notes: Counter[str]) -> dict[str, Any]:
    """Parse ``bbox`` and ``segmentation`` of an annotation or result into RAW columns.

    Both are kept as given. A part of a polygon with fewer than three points covers nothing in
    pycocotools either; it is left out, and counted, where other parts are left.

    Args:
        record: The annotation or result.
        notes: Where peculiarities are counted.

    Raises:
        RowError: Box or segmentation are malformed, or there is neither.
    """
    columns: dict[str, Any] = {"format": "bounding_box"}
    box = parse_box(record.get("bbox"))
    if box is not None:
        columns.update(zip(BOX, box, strict=True))
    segmentation = record.get("segmentation")
    if isinstance(segmentation, dict) and segmentation:
        columns.update(format="mask", mask=parse_rle(segmentation))
    elif isinstance(segmentation, list) and segmentation:
        columns.update(format="polygon", polygon=parse_polygon(segmentation, notes))
    elif segmentation:
        message = f"segmentation is {cut(segmentation)}; expected polygons or an RLE."
        raise RowError("invalid_data", message)
    elif box is None:
        message = "The row has neither a bbox nor a segmentation."
        raise RowError("invalid_box", message)
    return columns


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


def _read_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read()
    if not data.startswith(_GZIP_MAGIC):
        return data
    limit = max(len(data) * MAX_RATIO, MAX_UNPACKED)
    chunks, size = [], 0
    with gzip.open(path) as unpacked:
        while chunk := unpacked.read(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                message = (
                    f"{path} unpacks from {len(data):,} to more than {limit:,} bytes: more than "
                    f"JSON ever does."
                )
                raise SourceError(message, hint="If the file is right, unpack it and give that.")
    return b"".join(chunks)


def _json_message(path: Path, error: json.JSONDecodeError, expected: str) -> str:
    place = f"line {error.lineno}, column {error.colno} (character {error.pos:,})"
    if not error.doc.strip():
        return f"{path} is empty; expected {expected}."
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"{path} ends in the middle, at {place}: it is cut off. Expected {expected}."
    return f"{path} is not JSON at {place}: {error.msg}. Expected {expected}."
