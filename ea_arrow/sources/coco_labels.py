"""COCO ground truth: the data units, classes and labels of an instances JSON.

Whatever pycocotools makes of a peculiar file is reproduced here, and counted in the notes:

- Images, categories and annotations of equal ids: the last one wins. An annotation id that occurs
  k times makes pycocotools see its last annotation k times (each occurrence is looked up by id), at
  the places of the occurrences; so do we, for every occurrence whose image and category exist.
- A separate ``ignore`` key has no effect.

What pycocotools dies of gets a defined value: a missing ``area`` is derived, a missing ``iscrowd``
means no, a missing ``id`` names no other annotation.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, clean_text, cut, id_order, id_text
from ea_arrow.sources.base import Coordinates, GroundTruth, RowError, batches_of
from ea_arrow.sources.coco import (
    geometry_columns,
    looks_like_ground_truth,
    looks_like_results,
    sniff_ground_truth,
)
from ea_arrow.sources.formats import Files, LabelFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_values import parse_number, parse_reference, parse_side
from ea_arrow.sources.truth import data_hash_of, unit_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

COORDINATES = Coordinates(relative=False, unit_key="source_id", class_key="source_id")

_EXPECTED = "COCO ground truth: a JSON object with the lists images, annotations and categories"
_OWN_KEYS = {"id", "width", "height", "file_name", "coco_url"}
_SHOWN = 5

Record = dict[str, Any]
Row = tuple[int, Any]
"""An annotation with its place in the file."""


def read_ground_truth(path: Path | str) -> GroundTruth:
    """Read a COCO instances JSON (``.gz`` too).

    Args:
        path: The file.

    Returns:
        The ground truth. Its notes are complete when its labels have been read to the end.

    Raises:
        SourceError: The file is not COCO ground truth, or image sizes are missing.
    """
    path = Path(path)
    document = _checked(path, read_json(path, _EXPECTED))
    try:
        ontology = Ontology.from_coco(document["categories"])
    except SourceError as error:
        message = f"{path}: {error.message}"
        raise SourceError(message, hint=error.hint) from error
    notes = Counter(ontology.notes)
    images = _images(path, document["images"], notes)
    annotations = document.get("annotations") or []
    data_units = _data_units(path, images, annotations)
    rows = _last_of_each_id(annotations, data_units["source_id"].to_pylist(), ontology, notes)
    return GroundTruth(
        data_units=data_units,
        ontology=ontology,
        labels=_labels(rows, notes),
        coordinates=COORDINATES,
        notes=notes,
    )


def _checked(path: Path, document: object) -> dict[str, Any]:
    if not looks_like_ground_truth(document):
        if looks_like_results(document):
            message = f"{path} holds COCO results (predictions); expected {_EXPECTED}."
            hint = "Make the project from the ground truth, then import this file."
            raise SourceError(message, hint=hint)
        found = f"the keys {cut(list(document))}" if isinstance(document, dict) else cut(document)
        message = f"{path} is not COCO ground truth: found {found}; expected {_EXPECTED}."
        raise SourceError(message, hint="`ea-arrow init --help` says what can be read.")
    for key, needed in (("categories", True), ("annotations", False)):
        value = document.get(key)
        if not isinstance(value, list) and (needed or value is not None):
            message = f"{path}: '{key}' is {cut(value)}; expected a list."
            hint = f"Add '{key}' as COCO's instances files have it."
            raise SourceError(message, hint=hint)
    return document


def _images(path: Path, records: list[Any], notes: Counter[str]) -> dict[str, Record]:
    """The image records by the text of their id, in the order of evaluation."""
    last: dict[str, Record] = {}
    for index, record in enumerate(records):
        key = id_text(record.get("id")) if isinstance(record, dict) else None
        if key is None:
            message = f"{path}: images[{index}] has no usable id: {cut(record)}."
            raise SourceError(message, hint="Give every image an 'id', a number or a string.")
        last[key] = record
    if len(last) < len(records):
        notes["images replaced by a later one of the same id"] = len(records) - len(last)
    return dict(sorted(last.items(), key=lambda item: id_order(item[1]["id"])))


def _data_units(path: Path, images: dict[str, Record], annotations: list[Any]) -> pa.Table:
    sizes = {key: _size(image.get("width"), image.get("height")) for key, image in images.items()}
    missing = {key for key, size in sizes.items() if size is None}
    if missing:
        sizes |= _sizes_of_masks(annotations, missing)
    unknown = [key for key, size in sizes.items() if size is None]
    if unknown:
        message = (
            f"{path}: {len(unknown)} of {len(images)} images have no usable width and height, nor "
            f"an RLE mask to take them from. Image ids: {', '.join(unknown[:_SHOWN])}"
            f"{', …' if len(unknown) > _SHOWN else ''}."
        )
        hint = "Give image sizes: add 'width' and 'height', in pixels, to these entries of images."
        raise SourceError(message, hint=hint)
    rows = [
        {
            "data_hash": data_hash_of(key, image.get("file_name")),
            "width": size[0],
            "height": size[1],
            "title": _optional_text(image.get("file_name")),
            "uri": _optional_text(image.get("coco_url")),
            "source_id": key,
            "metadata": _rest(image),
        }
        for key, image in images.items()
        if (size := sizes[key]) is not None
    ]
    return unit_table(rows)


def _size(width: object, height: object) -> tuple[int, int] | None:
    w, h = parse_side(width), parse_side(height)
    return (w, h) if w and h else None


def _sizes_of_masks(annotations: list[Any], missing: set[str]) -> dict[str, tuple[int, int] | None]:
    found: dict[str, tuple[int, int] | None] = {}
    for annotation in annotations:
        record = annotation if isinstance(annotation, dict) else {}
        segmentation = record.get("segmentation")
        key = id_text(record.get("image_id"))
        if key in missing and key not in found and isinstance(segmentation, dict):
            size = segmentation.get("size")
            if isinstance(size, list) and len(size) == 2 and _size(size[1], size[0]):
                found[key] = _size(size[1], size[0])
    return found


def _optional_text(value: object) -> str | None:
    return None if value is None else clean_text(value if isinstance(value, str) else str(value))


def _rest(image: Record) -> str | None:
    rest = {key: value for key, value in image.items() if key not in _OWN_KEYS}
    return json.dumps(rest) if rest else None


def _last_of_each_id(
    annotations: list[Any], image_ids: list[str], ontology: Ontology, notes: Counter[str]
) -> Iterable[Row]:
    """Replace every occurrence of an annotation id by the last one, as pycocotools does."""
    last: dict[Any, Record] = {}
    named = 0
    for record in annotations:
        if isinstance(record, dict) and id_text(record.get("id")) is not None:
            last[record["id"]] = record
            named += 1
    if len(last) == named:
        return enumerate(annotations)
    rank = {key: index for index, key in enumerate(image_ids)}
    categories = {c.source_id for c in ontology.classes}
    rows: list[tuple[int, int, Any]] = []
    moved = False
    for index, record in enumerate(annotations):
        place, winner = -1, record
        if isinstance(record, dict):
            place = rank.get(id_text(record.get("image_id")) or "", -1)
            if place >= 0 and id_text(record.get("category_id")) in categories:
                winner = last.get(record["id"], record) if id_text(record.get("id")) else record
        if winner is not record:
            notes["annotations replaced by a later one of the same id"] += 1
            moved |= winner.get("image_id") != record["image_id"]
        rows.append((place, index, winner))
    if moved:
        # pycocotools goes through the images in order: an annotation that replaces one of an
        # earlier image comes before those of its own image.
        rows.sort(key=lambda row: row[0])
    return [(index, record) for _, index, record in rows]


def _labels(rows: Iterable[Row], notes: Counter[str]) -> Iterator[pa.RecordBatch]:
    return batches_of({"source_row": row, **_label(record, notes)} for row, record in rows)


def _label(record: object, notes: Counter[str]) -> dict[str, Any]:
    if not isinstance(record, dict):
        message = f"The annotation is {cut(record)}; expected an object."
        return {"rule": "invalid_data", "message": message}
    columns: dict[str, Any] = {}
    try:
        columns["source_id"] = parse_reference(record, "id")
        columns["unit"] = parse_reference(record, "image_id")
        columns["class_ref"] = parse_reference(record, "category_id")
        columns["is_crowd"] = _is_crowd(record.get("iscrowd"))
        columns |= geometry_columns(record, notes)
        if record.get("area") is not None:
            columns["area"] = parse_number(record["area"], "invalid_data", "area")
    except RowError as error:
        return columns | {"rule": error.rule, "message": error.message}
    _count_missing(record, columns, notes)
    return columns


def _is_crowd(value: object) -> bool | None:
    if value is None or isinstance(value, bool | int | float):
        return None if value is None else bool(value)
    if isinstance(value, str) and value in ("0", "1"):
        return value == "1"
    message = f"iscrowd is {cut(value)}; expected 0 or 1."
    raise RowError("invalid_data", message)


def _count_missing(record: Record, columns: dict[str, Any], notes: Counter[str]) -> None:
    if "area" not in columns:
        notes["annotations without area, which is derived"] += 1
    if "bbox_x" not in columns:
        notes["annotations without bbox, which is derived"] += 1
    if columns["is_crowd"] is None:
        notes["annotations without iscrowd, taken as 0"] += 1
    if columns["source_id"] is None:
        notes["annotations without id"] += 1


def _read(files: Files, reading: Reading) -> GroundTruth:
    if reading.ontology is not None:
        message = f"{files.one}: COCO ground truth has its classes in it; leave out the ontology."
        raise SourceError(message)
    return read_ground_truth(files.one)


LABELS: Final = LabelFormat(
    name="coco",
    doc="COCO instances JSON",
    about="An object with the lists images, annotations and categories.",
    example='{"images": [{"id": 42, "width": 640, "height": 480, "file_name": "42.jpg"}], '
    '"annotations": [{"id": 1, "image_id": 42, "category_id": 18, "bbox": [258, 41, 348, 243], '
    '"area": 84564, "iscrowd": 0}], "categories": [{"id": 18, "name": "dog"}]}',
    sniff=sniff_ground_truth,
    fixed=True,
    read=_read,
)
