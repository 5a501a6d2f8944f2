"""What COCO ground truth and COCO results share: telling them apart, and their geometry.

The readers themselves are ``coco_labels.read_ground_truth`` and ``coco_results.CocoResults``.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, TypeGuard

from ea_arrow.ontology import cut
from ea_arrow.schema import BOX
from ea_arrow.sources.base import RowError
from ea_arrow.sources.json_values import parse_box, parse_polygon, parse_rle
from ea_arrow.sources.samples import HEAD_BYTES

if TYPE_CHECKING:
    from collections import Counter

    from ea_arrow.sources.samples import Sample

_COCO_LISTS = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')
_RESULT = re.compile(rb'"image_id"\s*:')


def sniff_ground_truth(sample: Sample) -> bool:
    """Whether a file looks like COCO ground truth, from its first bytes."""
    return sample.head.startswith(b"{") and _COCO_LISTS.search(sample.head) is not None


def sniff_results(sample: Sample) -> bool:
    """Whether a file looks like COCO results, from its first bytes, and last where it takes them.

    An object of results may begin with a long list of images.
    """
    head = sample.head
    if head.startswith(b"["):
        return _RESULT.search(head) is not None or head[1:].lstrip().startswith(b"]")
    if not head.startswith(b"{") or _COCO_LISTS.search(head) is None:
        return False
    return b'"score"' in head or _ends_with_results(sample)


def _ends_with_results(sample: Sample) -> bool:
    try:
        with sample.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - HEAD_BYTES, 0))
            tail = file.read(HEAD_BYTES)
    except OSError:
        return False
    return b'"score"' in tail and _RESULT.search(tail) is not None


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
