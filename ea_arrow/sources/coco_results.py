"""COCO results: a list of detections with scores.

As in pycocotools the first result decides for the whole file whether areas, which size ranges use,
are those of the given boxes (``w * h``, even beside a mask) or those of the masks.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.geometry import Rle
from ea_arrow.ontology import cut
from ea_arrow.rle import mask_column
from ea_arrow.schema import BOX, RAW
from ea_arrow.sources.base import BATCH_MASKS, BATCH_ROWS, Coordinates, RawBuilder, RowError
from ea_arrow.sources.coco import (
    geometry_columns,
    looks_like_ground_truth,
    looks_like_results,
    parse_number,
    parse_reference,
    read_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_EXPECTED = "COCO results: a JSON list of {image_id, category_id, bbox or segmentation, score}"


class CocoResults:
    """A COCO results JSON (``.gz`` too), opened: a source of predictions.

    Args:
        path: The file: a list of results, or an object with the list under ``annotations``.
        document: The parsed file, where the caller has it already.

    Attributes:
        path: The file.
        coordinates: Pixels; images and categories go by the ids of the ground truth.
        notes: Counted peculiarities; complete when the batches have been read to the end.

    Raises:
        SourceError: The file is not COCO results.
    """

    def __init__(self, path: Path | str, document: Any = None) -> None:
        self.path = Path(path)
        self.coordinates = Coordinates(relative=False, unit_key="source_id", class_key="source_id")
        self.notes: Counter[str] = Counter()
        self._rows = _rows(
            self.path, read_json(self.path, _EXPECTED) if document is None else document
        )
        first = self._rows[0] if self._rows else None
        self._area_of_box = isinstance(first, dict) and first.get("bbox") not in (None, [])

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the results as batches of the ``RAW`` schema, in file order."""
        start = 0
        while start < len(self._rows):
            first = self._rows[start]
            has_mask = isinstance(first, dict) and first.get("segmentation")
            rows = self._rows[start : start + (BATCH_MASKS if has_mask else BATCH_ROWS)]
            plain = _by_column(rows, start, area_of_box=self._area_of_box)
            if plain is not None:
                yield plain
            else:
                yield from self._one_by_one(rows, start)
            start += len(rows)

    def _one_by_one(self, rows: list[Any], start: int) -> Iterator[pa.RecordBatch]:
        builder = RawBuilder()
        for source_row, record in enumerate(rows, start):
            builder.add(source_row=source_row, **self._row(record))
            if builder.full:
                yield builder.flush()
        if len(builder):
            yield builder.flush()

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
            columns |= geometry_columns(record, self.notes)
            if self._area_of_box and "bbox_w" in columns:
                area = columns["bbox_w"] * columns["bbox_h"]
                columns["area"] = parse_number(area, "invalid_box", "The area of bbox")
        except RowError as error:
            return columns | {"rule": error.rule, "message": error.message}
        return columns


def _rows(path: Path, document: object) -> list[Any]:
    if looks_like_results(document):
        rows: list[Any] = document["annotations"] if isinstance(document, dict) else document
        return rows
    if looks_like_ground_truth(document):
        message = f"{path} holds COCO ground truth, without scores; expected {_EXPECTED}."
        hint = "Make a project from it with `ea-arrow init`, and import the model's results."
        raise SourceError(message, hint=hint)
    found = f"the keys {cut(list(document))}" if isinstance(document, dict) else cut(document)
    message = f"{path} is not COCO results: found {found}; expected {_EXPECTED}."
    raise SourceError(message, hint="`ea-arrow import --help` says what can be read.")


def _by_column(rows: list[Any], start: int, *, area_of_box: bool) -> pa.RecordBatch | None:
    """Build a batch column by column; None if anything in it needs a look row by row.

    Only plain boxes and compressed masks pass, and only exact types: NumPy would read the string
    "1" and the bool True as numbers.
    """
    try:
        columns = {
            "source_row": pa.array(np.arange(start, start + len(rows))),
            "unit": _ids([row["image_id"] for row in rows]),
            "class_ref": _ids([row["category_id"] for row in rows]),
            "confidence": pa.array(_floats([row["score"] for row in rows])),
            **_boxes(rows, area_of_box=area_of_box),
            **_masks(rows),
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    name = "mask" if "mask" in columns else "bounding_box"
    columns["format"] = pa.repeat(pa.scalar(name, pa.string()), len(rows))
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(len(rows), field.type)
        for field in RAW.arrow
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW.arrow)


def _boxes(rows: list[Any], *, area_of_box: bool) -> dict[str, pa.Array]:
    if not any("bbox" in row for row in rows) and all("segmentation" in row for row in rows):
        return {}
    boxes = _floats(_flat([row["bbox"] for row in rows], 4)).reshape(-1, 4)
    columns = {name: pa.array(boxes[:, i]) for i, name in enumerate(BOX)}
    if area_of_box:
        with np.errstate(over="ignore"):
            columns["area"] = pa.array(_finite(boxes[:, 2] * boxes[:, 3]))
    return columns


def _masks(rows: list[Any]) -> dict[str, pa.Array]:
    if not any("segmentation" in row for row in rows):
        return {}
    given = [row["segmentation"] for row in rows]
    sizes = _flat([rle["size"] for rle in given], 2)
    if set(map(type, sizes)) != {int}:
        raise TypeError
    counts = [rle["counts"].encode("ascii") for rle in given]
    masks, broken = mask_column(list(map(Rle, sizes[0::2], sizes[1::2], counts)))
    if broken:
        raise ValueError
    return {"mask": masks}


def _flat(lists: list[list[Any]], length: int) -> list[Any]:
    if set(map(type, lists)) != {list} or set(map(len, lists)) != {length}:
        raise TypeError
    return list(chain.from_iterable(lists))


def _ids(values: list[Any]) -> pa.Array:
    if set(map(type, values)) == {int}:
        return pa.array(values, type=pa.int64()).cast(pa.string())
    if set(map(type, values)) != {str}:
        raise TypeError
    return pa.array(values, type=pa.string())


def _floats(values: list[Any]) -> NDArray[np.float64]:
    if not set(map(type, values)) <= {int, float}:
        raise TypeError
    return _finite(np.array(values, dtype=np.float64))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise ValueError
    return values
