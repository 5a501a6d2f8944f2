"""COCO results: a list of detections with scores.

As in pycocotools the first result decides for the whole file whether areas, which size ranges use,
are those of the given boxes (``w * h``, even beside a mask) or those of the masks.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut, id_text
from ea_arrow.schema import BOX
from ea_arrow.sources.base import Coordinates, RowError, batches_of
from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.coco import geometry_columns, sniff_results
from ea_arrow.sources.coco_plain import PlainResults
from ea_arrow.sources.formats import PredictionFormat, Reading
from ea_arrow.sources.json_stream import JsonRecords
from ea_arrow.sources.json_values import parse_number, parse_reference
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.ultralytics import is_rotated, rotated_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    Piece = Any  # a RAW batch, or a list of records

_EXPECTED = "COCO results: a JSON list of {image_id, category_id, bbox or segmentation, score}"


class CocoResults:
    """A COCO results JSON (``.gz`` too), opened: a source of predictions.

    Args:
        path: The file: a list of results, or an object with the list under ``annotations``.
        reading: What is known about its boxes: their layout, and what they are relative to.

    Attributes:
        path: The file.
        coordinates: Pixels by default; images and categories go by the ids of the ground truth.
        notes: Counted peculiarities; complete when the batches have been read to the end.

    Raises:
        SourceError: The file is not COCO results. What is wrong further on in a large file is
            found when the batches are read.
    """

    def __init__(self, path: Path | str, reading: Reading | None = None) -> None:
        self.path = Path(path)
        self._reading = reading or Reading()
        self.coordinates = Coordinates(
            relative=bool(self._reading.relative),
            unit_key="source_id",
            class_key="source_id",
            class_names=_own_names(self.path, "categories", "name"),
            unit_names=_own_names(self.path, "images", "file_name"),
        )
        self.notes: Counter[str] = Counter()
        self._plain = PlainResults(self._reading)
        self._pieces: Iterator[Piece] | None = self._start()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the results as batches of the ``RAW`` schema, in file order."""
        pieces, self._pieces = self._pieces or self._start(), None
        start = 0
        for piece in pieces:
            if isinstance(piece, list):
                yield from self._one_by_one(piece, start)
                self._plain.learn(piece)
            else:
                rows = pa.array(np.arange(start, start + len(piece)))
                yield piece.set_column(0, piece.schema.field(0), rows)
            start += len(piece)

    # -- the whole ---------------------------------------------------------------------------------

    def _start(self) -> Iterator[Piece]:
        """Open the file and look at the first result."""
        self.notes.clear()
        records = JsonRecords(self.path, "annotations", _EXPECTED)
        pieces = self._checked(records)
        begin: list[Any] = next(pieces, [])
        first = begin[0] if begin else None
        boxed = isinstance(first, dict) and first.get("bbox") not in (None, [])
        # What is relative has no area before the size of its data unit is known.
        self._plain.area_of_box = boxed and not self.coordinates.relative
        return chain([begin], pieces)

    def _checked(self, records: JsonRecords) -> Iterator[Piece]:
        """The pieces of the file, once there is a result among them; and an error if none is."""
        held: list[Piece] = []
        found, shown = False, None
        for piece in records.pieces(self._plain.parse):
            shown = shown or cut(piece)
            key = "image_id" if records.keys is None else "score"
            found = found or isinstance(piece, pa.RecordBatch) or _any_has(piece, key)
            held.append(piece)
            if found or len(held) > 1:
                yield from held
                held.clear()
        if not found:
            self._refuse(records, shown or "[]")
        yield from held

    def _refuse(self, records: JsonRecords, shown: str) -> None:
        """Say what a file is that has no result, unless it is just empty."""
        if "images" in records.lists:
            message = f"{self.path} holds COCO ground truth, without scores; expected {_EXPECTED}."
            hint = "Make a project from it with `ea-arrow init`, and import the model's results."
            raise SourceError(message, hint=hint)
        if records.other:
            shown = cut(records.other[0])
        elif records.keys is not None and (shown != "[]" or "annotations" not in records.lists):
            shown = f"the keys {cut(records.keys)}"
        if shown != "[]":
            message = f"{self.path} is not COCO results: found {shown}; expected {_EXPECTED}."
            raise SourceError(message, hint="`ea-arrow import --help` says what can be read.")

    # -- row by row --------------------------------------------------------------------------------

    def _one_by_one(self, rows: list[Any], start: int) -> Iterator[pa.RecordBatch]:
        return batches_of(map(self._row, rows), start)

    def _row(self, record: object) -> dict[str, Any]:
        if not isinstance(record, dict):
            message = f"The result is {cut(record)}; expected an object."
            return {"rule": "invalid_data", "message": message}
        columns: dict[str, Any] = {}
        try:
            columns["unit"] = parse_reference(record, "image_id")
            columns["class_ref"] = parse_reference(record, "category_id")
            if record.get("score") is not None:
                score = parse_number(record["score"], "invalid_data", "score")
                columns["confidence"] = score
            if is_rotated(record):
                return columns | rotated_columns(record)
            if "rbox" in record:
                self.notes["rotated boxes (rbox) beside a bbox or segmentation, left out"] += 1
            columns |= self._box(geometry_columns(record, self.notes))
            if self._plain.area_of_box and "bbox_w" in columns:
                area = columns["bbox_w"] * columns["bbox_h"]
                columns["area"] = parse_number(area, "invalid_box", "The area of bbox")
        except RowError as error:
            return columns | {"rule": error.rule, "message": error.message}
        return columns

    def _box(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Bring the box to left, top, width, height, where the caller says it is otherwise."""
        layout, one_based = self._reading.box, self._reading.one_based
        if "bbox_x" in columns and (layout or one_based):
            given = np.array([[columns[name] for name in BOX]])
            box = to_xywh(given, layout or "xywh", one_based=one_based)[0].tolist()
            box = [parse_number(value, "invalid_box", "bbox") for value in box]
            columns |= zip(BOX, box, strict=True)
        return columns


def _own_names(path: Path, key: str, name: str) -> tuple[tuple[str, str], ...]:
    """What a file of results says of its own images or categories: their names by id."""
    if not Sample(path).head.startswith(b"{"):
        return ()
    records = JsonRecords(path, key, _EXPECTED)
    found = {
        id_text(record["id"]): clean_text(record[name])
        for piece in records.pieces(lambda _: None)
        for record in (piece if records.keys is not None else ())
        if isinstance(record, dict) and isinstance(record.get(name), str) and "id" in record
    }
    return tuple((ref, text) for ref, text in found.items() if ref is not None)


def _any_has(rows: list[Any], key: str) -> bool:
    return any(isinstance(row, dict) and key in row for row in rows)


PREDICTIONS: Final = PredictionFormat(
    name="coco",
    doc="COCO results JSON: boxes, rotated boxes, RLE masks, polygons",
    about="A list of results, or an object with the list under annotations. Detectron2's "
    "coco_instances_results.json, MMDetection's *.bbox.json and *.segm.json, LVIS results and "
    "Ultralytics' predictions.json are such files. A gzip-compressed one is read as it is.\n\n"
    "image_id and category_id, numbers or strings, are the ids of the ground truth's images and "
    "categories. bbox is [left, top, width, height] in pixels; --box, --relative and --one-based "
    "say otherwise. segmentation is a run-length encoding {size: [height, width], counts}, "
    "compressed or not, or a list of polygons [x1, y1, x2, y2, …] that are the parts of one "
    "object. A result has a bbox, a segmentation, or both, which are then kept as they are. Other "
    "keys are passed over.\n\n"
    "As in pycocotools the first result decides whether areas, which the size ranges use, are "
    "those of the boxes or of the masks. With --relative they are those of the shapes.\n\n"
    "Ultralytics writes the file's stem as image_id, a number if it is one, and counts classes "
    "from 0 or from 1 depending on its version; COCO's own classes have COCO's ids. Rotated boxes "
    "have rbox, [centre x, centre y, width, height, radians], in place of bbox: they become "
    "rotatable bounding boxes, theta in degrees clockwise; poly, the same box's corners, is passed "
    "over.",
    example='[{"image_id": 42, "category_id": 18, "bbox": [258.1, 41.3, 348.3, 243.8], '
    '"score": 0.236}]',
    sniff=sniff_results,
    open=lambda files, reading: CocoResults(files.one, reading),
)
