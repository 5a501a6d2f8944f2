"""Hugging Face pipelines' output as JSON: object detection and image classification.

What a pipeline returns names no image; people dump it in several ways, told apart by structure:
an object of lists by file name or id, a list of records that name their image, a list of lists (a
pipeline called with several images), or one file per image that holds the plain list.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut
from ea_arrow.sources.base import Coordinates, RowError, UnitKey, batches_of
from ea_arrow.sources.formats import Files, PredictionFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_records import (
    Row,
    box_row,
    file_name,
    name_text,
    refused,
    score_of,
)
from ea_arrow.sources.json_values import parse_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from ea_arrow.sources.samples import Sample

_EXPECTED: Final = "the output of a Hugging Face pipeline as JSON"
_HINT: Final = "Dump {file name: pipeline(image)} for all images, or one file per image."
_UNITS: Final[Mapping[str, UnitKey]] = {
    "image": "name",
    "file_name": "name",
    "image_id": "source_id",
    "id": "source_id",
}
_LISTS: Final = ("predictions", "objects", "results")
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")
_SCALAR: Final = r'(?:"(?:[^"\\]|\\.)*"|[^\s,{}\[\]"]+)'
_BOX: Final = re.compile(r'"box"\s*:\s*\{\s*"[xy](?:min|max)"\s*:')
_CLASSIFIED: Final = re.compile(
    rf'\[\s*\{{\s*(?:"label"\s*:\s*{_SCALAR}\s*,\s*"score"|"score"\s*:\s*{_SCALAR}\s*,\s*"label")'
    rf"\s*:\s*{_SCALAR}\s*\}}"
)
_WHOLE: Final = "boxes are whole pixels: AP is understated by rounding"
_NO_NAMES: Final = "labels such as LABEL_0: the model does not know the names of its classes"
_NOT_BEST: Final = "scores of classes other than the best of an image, left out"
_EMPTY: Final = "images without predictions"


class _Image(NamedTuple):
    """What a pipeline returned for one image."""

    unit: str | None
    entries: Any


class HuggingFaceSource:
    """The output of a pipeline: a file for all images, or one file per image.

    Args:
        files: The files.
        reading: What the caller knows.

    Attributes:
        path: The file or directory.
        coordinates: Pixels; classes go by name.
        notes: Counted peculiarities; complete when the batches have been read to the end.

    Raises:
        SourceError: The first file that is not empty is not such output.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self.notes: Counter[str] = Counter()
        self._boxes = self._whole = 0  # boxes, and those of whole pixels
        self._files, self._reading = files, reading
        self._paths = files.listed(".json", ".gz")
        self._first: tuple[Path, Any] | None = None
        unit_key: UnitKey = "stem"
        for path in self._paths:
            document = read_json(path, _EXPECTED)
            if document:
                self._first = path, document
                unit_key = _unit_key(path, document)
                break
        relative = bool(reading.relative)
        self.coordinates = Coordinates(relative=relative, unit_key=unit_key, class_key="name")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the predictions as batches of the ``RAW`` schema.

        Raises:
            SourceError: A file cannot be read, or names its images in another way than the first.
        """
        return batches_of(self._rows())

    def _rows(self) -> Iterator[Row]:
        for path in self._paths:
            document = self._document(path)
            name = self._files.name_of(path) if len(self._paths) > 1 else None
            if document and _unit_key(path, document) != self.coordinates.unit_key:
                message = f"{path} names its images in another way than the files before it."
                raise SourceError(message, hint="Import files of different structure one by one.")
            rows = self._rows_of(list(_images(path, document)))
            for source_row, row in enumerate(rows):
                yield {"source_row": source_row, "source_file": name} | row
        if self._boxes and self._whole == self._boxes:
            self.notes[_WHOLE] = self._whole

    def _document(self, path: Path) -> Any:
        if self._first is not None and self._first[0] == path:
            document, self._first = self._first[1], None
            return document
        return read_json(path, _EXPECTED)

    def _rows_of(self, images: list[_Image]) -> Iterator[Row]:
        classified = _is_classification(images)
        for unit, entries in images:
            if not isinstance(entries, list):
                message = f"The predictions are {cut(entries)}; expected a list."
                yield {"unit": unit, "rule": "invalid_data", "message": message}
            elif not entries:
                self.notes[_EMPTY] += 1
            elif classified:
                yield {"unit": unit} | self._best(entries)
            else:
                for entry in entries:
                    yield {"unit": unit} | self._detection(entry)

    def _detection(self, entry: object) -> Row:
        row: Row = {}
        try:
            row |= self._scored(entry)
            return row | self._box(entry)
        except RowError as error:
            return row | refused(error)

    def _scored(self, entry: object) -> Row:
        if not isinstance(entry, dict):
            raise RowError("invalid_data", f"The prediction is {cut(entry)}; expected an object.")
        label = name_text(entry.get("label"), "label")
        if label is not None and re.fullmatch(r"LABEL_\d+", label):
            self.notes[_NO_NAMES] += 1
        return {"class_ref": label} | {"confidence": score_of(entry, "score")}

    def _box(self, entry: Any) -> Row:
        box = entry.get("box")
        if "mask" in entry and box is None:
            message = "The prediction has a mask, which no pipeline writes into JSON; no box."
            raise RowError("unsupported_shape", message)
        if not isinstance(box, dict):
            message = f"box is {cut(box)}; expected xmin, ymin, xmax and ymax."
            raise RowError("invalid_box", message)
        values = [box.get(name) for name in _CORNERS]
        self._boxes += 1
        self._whole += set(map(type, values)) == {int}
        numbers = [
            parse_number(value, "invalid_box", f"box.{name}")
            for name, value in zip(_CORNERS, values, strict=True)
        ]
        return {"format": "bounding_box"} | box_row(numbers, self._reading, "xyxy")

    def _best(self, entries: list[Any]) -> Row:
        """The most confident class of an image; of equal ones the first, as argmax."""
        rows = []
        for entry in entries:
            try:
                rows.append(self._scored(entry))
            except RowError as error:
                return {"format": "classification"} | refused(error)
        scored = [row for row in rows if row["confidence"] is not None] or rows
        best = max(scored, key=lambda row: row["confidence"] or 0.0)
        if len(rows) > 1:
            self.notes[_NOT_BEST] += len(rows) - 1
        return {"format": "classification"} | best


def _is_classification(images: list[_Image]) -> bool:
    """Whether no prediction has a box or a mask."""
    listed = (image.entries for image in images if isinstance(image.entries, list))
    entries = [entry for some in listed for entry in some if isinstance(entry, dict)]
    return bool(entries) and not any("box" in entry or "mask" in entry for entry in entries)


def _list_key(record: object) -> str | None:
    """Under which key a record has its predictions; None if it is no record."""
    if not isinstance(record, dict):
        return None
    if not any(key in record for key in _UNITS):
        return None
    return next((key for key in _LISTS if key in record), None)


def _unit_of(record: dict[str, Any]) -> str:
    return next(key for key in _UNITS if key in record)


def _unit_key(path: Path, document: Any) -> UnitKey:
    """How a document names its images."""
    if _list_key(document):
        return _UNITS[_unit_of(document)]
    if isinstance(document, dict):
        return "name" if any("." in str(key) for key in document) else "source_id"
    if not isinstance(document, list):
        raise SourceError(f"{path} holds {cut(document)}; expected {_EXPECTED}.", hint=_HINT)
    if any(isinstance(entry, list) for entry in document):
        return "position"
    record = next((entry for entry in document if _list_key(entry)), None)
    return "stem" if record is None else _UNITS[_unit_of(record)]


def _images(path: Path, document: Any) -> Iterator[_Image]:
    """Yield the images of a document, in its order."""
    if not document:
        return
    kind = _unit_key(path, document)
    if _list_key(document):
        document = [document]
    if isinstance(document, dict):
        for key, entries in document.items():
            yield _Image(_named(key, kind), entries)
    elif kind == "position":
        for index, entries in enumerate(document):
            yield _Image(str(index), entries)
    elif kind == "stem":
        yield _Image(clean_text(path.name.removesuffix(".gz").removesuffix(".json")), document)
    else:
        for record in document:
            yield _of_record(record, kind)


def _of_record(record: Any, kind: UnitKey) -> _Image:
    key = _list_key(record)
    if key is None:
        return _Image(None, record)  # refused with the rest of what is no list
    try:
        unit = name_text(record[_unit_of(record)], "image")
    except RowError:
        unit = None
    return _Image(None if unit is None else _named(unit, kind), record[key])


def _named(name: str, kind: UnitKey) -> str:
    return clean_text(file_name(name) if kind == "name" else name)


def _sniff(sample: Sample) -> bool:
    if sample.is_dir:
        heads = sample.inner(".json")
        found = [_sniff_file(inner) for inner in heads]
        empty = [inner.head.rstrip() == b"[]" for inner in heads]
        return any(found) and all(map(max, found, empty))
    return _sniff_file(sample)


def _sniff_file(sample: Sample) -> bool:
    if not {"label", "score"} <= sample.keys:
        return False
    return bool(_BOX.search(sample.text) or _CLASSIFIED.search(sample.text))


PREDICTIONS: Final = PredictionFormat(
    name="huggingface",
    box="xyxy",
    doc="output of Hugging Face pipelines (object-detection, image-classification) as JSON",
    about="What a pipeline returned, dumped with json.dump in one of these ways: an object "
    "{file name or id: [prediction, …]}; a list of objects that name their image (image, "
    "file_name, image_id or id) and have predictions, objects or results; a list of lists, one for "
    "each image in the order of the data set; or one file per image, <stem>.json, that holds the "
    "plain list.\n\n"
    "A prediction is {score, label, box: {xmin, ymin, xmax, ymax}} with corners in pixels. The "
    "pipelines round corners to whole pixels, so that AP comes out lower than the model's: a note "
    "says so; write post_process_object_detection's own numbers for an exact result. Classes go by "
    "name; labels such as LABEL_0 mean that the model does not know its classes' names, and need a "
    "map.\n\n"
    "Lists of {score, label} without a box are image classifications: one row for each image, its "
    "most confident class. Images go by file name where a key has a dot, else by id; lists of "
    "lists by position, which must be confirmed with --match position. Rows are counted through "
    "the file, over all its images. Masks of the segmentation pipelines are images, which JSON "
    "cannot hold.",
    example='{"000001.jpg": [{"score": 0.998, "label": "cat", "box": {"xmin": 13, "ymin": 52, '
    '"xmax": 314, "ymax": 470}}], "000002.jpg": []}',
    many=True,
    sniff=_sniff,
    open=HuggingFaceSource,
)
