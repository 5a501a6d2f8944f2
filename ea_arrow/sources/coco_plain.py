"""COCO results that look like one another, as most do: by column, with no loop over rows.

The rows are those that ``coco_results`` makes of the same records one by one; whatever is not plain
is left to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.rle import compressed_column
from ea_arrow.sources.base import raw_batch
from ea_arrow.sources.boxes import box_columns, to_xywh
from ea_arrow.sources.json_columns import JsonColumns
from ea_arrow.sources.ultralytics import is_rotated, rotated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Reading

    Floats = NDArray[np.float64]

_WHOLE: Final = ("image_id", "category_id", "size")
_NUMBERS: Final = pa.list_(pa.float64())
_RLE: Final = {"size": pa.list_(pa.int64()), "counts": pa.string()}
_EMPTY: Final = (pa.null(), pa.list_(pa.null()), pa.struct([]))
_TYPES: Final = {
    "image_id": (pa.int64(), pa.string()),
    "category_id": (pa.int64(), pa.string()),
    "score": (pa.float64(),),
    "bbox": (_NUMBERS, *_EMPTY[:2]),
    "rbox": (_NUMBERS,),
    "segmentation": (_RLE, *_EMPTY),
}


class _NotPlainError(Exception):
    """A row needs a look of its own."""


class PlainResults:
    """Parses results like those it has seen.

    Args:
        reading: What is known of the boxes.

    Attributes:
        area_of_box: Whether a row's area is that of its ``bbox``.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._columns = JsonColumns(_WHOLE)
        self.area_of_box = False

    def learn(self, records: list[Any]) -> None:
        """Expect results like the last of these."""
        last = records[-1] if records else None
        self._columns.learn(last if isinstance(last, dict) and _is_plain(last) else None)
        expected = self._columns.type
        if expected is not None:
            types = {field.name: field.type for field in expected}
            if not all(_fits(types[key], _TYPES[key]) for key in _TYPES.keys() & types.keys()):
                self._columns.learn(None)

    def parse(self, data: bytes) -> pa.RecordBatch | None:
        """Parse results, which commas part.

        Returns:
            A RAW batch whose rows are numbered from 0; None if there is anything in them that is
            not plain.
        """
        rows = self._columns.parse(data)
        if rows is None:
            return None
        try:
            columns: dict[str, Any] = {
                "source_row": pa.array(np.arange(len(rows))),
                "unit": _given(rows, "image_id").cast(pa.string()),
                "class_ref": _given(rows, "category_id").cast(pa.string()),
                "confidence": pa.array(_floats(_given(rows, "score"))),
            }
            name = "bounding_box"
            has_box, has_mask = _is_there(rows, "bbox"), _is_there(rows, "segmentation")
            if has_box:
                columns |= self._boxes(_lists(rows, "bbox", 4))
            if has_mask:
                name, columns["mask"] = "mask", _masks(_given(rows, "segmentation"))
            elif not has_box:
                name = "rotatable_bounding_box"
                boxes = rotated(_lists(rows, "rbox", 5))
                columns |= {key: pa.array(_finite(values)) for key, values in boxes.items()}
        except _NotPlainError:
            return None
        columns["format"] = pa.repeat(pa.scalar(name, pa.string()), len(rows))
        return raw_batch(columns, len(rows))

    def _boxes(self, numbers: Floats) -> dict[str, pa.Array]:
        reading = self._reading
        if reading.box or reading.one_based:
            numbers = to_xywh(numbers, reading.box or "xywh", one_based=reading.one_based)
        columns = box_columns(_finite(numbers))
        if self.area_of_box:
            with np.errstate(over="ignore"):
                columns["area"] = pa.array(_finite(numbers[:, 2] * numbers[:, 3]))
        return columns


def _is_plain(record: dict[str, Any]) -> bool:
    if "rbox" in record:
        shaped = is_rotated(record)
    else:
        shaped = bool(record.get("bbox") or record.get("segmentation"))
    return shaped and record.keys() >= {"image_id", "category_id", "score"}


def _fits(found: pa.DataType, expected: tuple[Any, ...]) -> bool:
    fields = {f.name: f.type for f in found} if pa.types.is_struct(found) else None
    return found in expected or (bool(fields) and fields in expected)


def _is_there(rows: pa.StructArray, name: str) -> bool:
    """Whether rows have a shape; where it is empty in those seen before it is in all of these."""
    if rows.type.get_field_index(name) < 0:
        return False
    column = rows.field(name)
    if column.type == _EMPTY[1] and len(column.flatten()):
        raise _NotPlainError
    return column.type not in _EMPTY


def _given(rows: pa.StructArray, name: str) -> pa.Array:
    """A column that every row has."""
    column = rows.field(name)
    if column.null_count:
        raise _NotPlainError
    return column


def _lists(rows: pa.StructArray, name: str, length: int) -> Floats:
    """A column of lists of equal length as an array (n, length)."""
    column = _given(rows, name)
    offsets = column.offsets.to_numpy()
    if not (np.diff(offsets) == length).all():
        raise _NotPlainError
    return _floats(column.flatten()).reshape(-1, length)


def _floats(column: pa.Array) -> Floats:
    if column.null_count:
        raise _NotPlainError
    return _finite(column.to_numpy())


def _finite(values: Floats) -> Floats:
    if not np.isfinite(values).all():
        raise _NotPlainError
    return values


def _masks(rles: pa.StructArray) -> pa.StructArray:
    sizes, counts = _given(rles, "size"), _given(rles, "counts")
    if not (np.diff(sizes.offsets.to_numpy()) == 2).all() or sizes.flatten().null_count:
        raise _NotPlainError
    height, width = sizes.flatten().to_numpy().reshape(-1, 2).T
    masks, broken = compressed_column(height, width, counts.cast(pa.binary()))
    if broken:
        raise _NotPlainError
    return masks
