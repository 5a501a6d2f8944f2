"""Predictions handed over one at a time, as rows: cheap to take, made into columns in bulk.

The fields of a box are put into one long list; whatever else is given, or is not what its field
means, takes the way of a pickled prediction, so that both are judged by the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.schema import BOX, RAW
from ea_arrow.sources.base import BATCH_BYTES, RawBuilder, RowError
from ea_arrow.sources.pickle_rows import MAX_NAME, row_of
from ea_arrow.sources.pickle_values import Array
from ea_arrow.tensors import array_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Size = Callable[[Any, Any], tuple[int, int] | None]

AT_ONCE: Final = 8_192
"""Rows that wait at most: few enough to be in the processor's cache when they become columns."""

MASKS_AT_ONCE: Final = 512  # their runs take several kilobytes each until they are compressed

_RAW: Final = RAW.arrow
_NOTHING: Final = (None,) * 7

_ROW: Final = ("unit", "class_ref", "confidence", "frame", *BOX)
"""The fields of a box, in the order in which they follow each other in the list."""

FIELDS: Final = len(_ROW)


class Rows:
    """Rows that wait to become a batch, in the order in which they came.

    Attributes:
        values: ``FIELDS`` values a row: those of a box, or a ``RAW`` row and nothing.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._others = 0
        self._masks = 0
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is time to flush."""
        large = self._masks >= MASKS_AT_ONCE or self._bytes >= BATCH_BYTES
        return large or len(self.values) >= AT_ONCE * FIELDS

    def add(self, flat: dict[str, Any]) -> None:
        """Take a prediction that is no plain box: its fields as in a pickled one.

        ``unreadable``, a rule and a message, says instead why it is refused.
        """
        row = _checked(flat)
        mask, rings = row.get("mask"), row.get("polygon")
        if mask is not None:
            self._masks += 1
            self._bytes += 8 * len(mask.counts)
        if rings is not None:
            self._bytes += sum(ring.nbytes for ring in rings)
        self.values += (row, *_NOTHING)
        self._others += 1

    def flush(self, first: int) -> pa.RecordBatch:
        """Return the rows as one batch of the ``RAW`` schema and start afresh.

        Args:
            first: ``source_row`` of the first.
        """
        columns = [self.values[number::FIELDS] for number in range(FIELDS)]
        self.values.clear()  # the same list: whoever adds to it need not look it up
        others, self._others = self._others, 0
        self._masks = self._bytes = 0
        rows = np.arange(first, first + len(columns[0]))
        if not others:
            return _numbered(_boxes(columns), rows)
        builder = RawBuilder()
        is_box = np.ones(len(rows), bool)
        for number, row in enumerate(columns[0]):
            if type(row) is dict:
                builder.add(source_row=0, **row)
                is_box[number] = False
        if others == len(rows):
            return _numbered(builder.flush(), rows)
        chosen = is_box.tolist()
        boxes = _boxes([list(compress(values, chosen)) for values in columns])
        place = np.empty(len(rows), np.int64)
        place[is_box] = np.arange(len(rows) - others)
        place[~is_box] = np.arange(len(rows) - others, len(rows))
        both = pa.Table.from_batches([boxes, builder.flush()]).take(pa.array(place))
        return _numbered(both.combine_chunks().to_batches()[0], rows)


def _numbered(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    place = batch.schema.get_field_index("source_row")
    return batch.set_column(place, batch.schema.field(place), pa.array(rows))


def _boxes(columns: Sequence[list[Any]]) -> pa.RecordBatch:
    """A batch of boxes: by column if every value has the type of its field."""
    n = len(columns[0])
    try:
        arrays = {name: _column(name, values) for name, values in zip(_ROW, columns, strict=True)}
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _one_by_one(columns)
    arrays |= {"format": pa.repeat("bounding_box", n), "source_row": pa.repeat(0, n)}
    wanted = [arrays[f.name] if f.name in arrays else pa.nulls(n, f.type) for f in _RAW]
    return pa.RecordBatch.from_arrays(wanted, schema=_RAW)


def _column(name: str, values: list[Any]) -> pa.Array:
    """One column of boxes.

    Raises:
        TypeError: A value has not the type of its field.
        ValueError: A value is out of range.
    """
    dtype = _RAW.field(name).type
    if pa.types.is_floating(dtype):
        return pa.array(values, dtype)
    column = pa.array(values)  # told the type, Arrow would take 1.5 for a frame and bytes for text
    if pa.types.is_null(column.type):
        return column.cast(dtype)
    if column.type != dtype:
        raise TypeError(name)
    if dtype == pa.string():
        out = pc.max(pc.binary_length(column)).as_py() > MAX_NAME
    else:
        out = pc.min(column).as_py() < 0
    if out:
        raise ValueError(name)
    return column


def _one_by_one(columns: Sequence[list[Any]]) -> pa.RecordBatch:
    builder = RawBuilder()
    for unit, class_ref, confidence, frame, x, y, w, h in zip(*columns, strict=True):
        sides = {"x": x, "y": y, "w": w, "h": h}
        flat = {
            **{"data_hash": unit, "feature_hash": class_ref, "confidence": confidence},
            **{"frame": frame, "format": "bounding-box"},
            "data": {name: plain(value) for name, value in sides.items()},
        }
        builder.add(source_row=0, **_checked(flat))
    return builder.flush()


def _checked(flat: dict[str, Any]) -> dict[str, Any]:
    """A ``RAW`` row, or one that says which rule the fields break."""
    unreadable = flat.pop("unreadable", None)
    flat = {name: plain(value) for name, value in flat.items()}
    try:
        _check_readable(unreadable)
        row = row_of(flat)
        for name in ("unit", "class_ref", "track_id", "attribute_hash", "option_hash"):
            _check_text(row.get(name))
    except RowError as error:
        unit = flat.get("data_hash")
        known = isinstance(unit, str) and len(unit) <= MAX_NAME and _storable(unit)
        return {
            **{"rule": error.rule, "message": error.message.encode(errors="replace").decode()},
            "unit": unit if known else None,
        }
    return row


def _check_readable(why: tuple[str, str] | None) -> None:
    if why is not None:
        raise RowError(*why)


def _check_text(value: Any) -> None:
    if value is not None and not _storable(value):
        raise RowError("not_a_prediction", "A name holds half a character (a lone surrogate).")


def _storable(text: str) -> bool:
    return text.isascii() or text.encode(errors="replace").decode() == text


def plain(value: Any) -> Any:
    """The Python value of a NumPy scalar or of a tensor of no dimensions; others as they are."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


# -- geometry --------------------------------------------------------------------------------------


@dataclass
class Given(Array):
    """An array that the caller holds, in the place of one in a pickle."""

    values: Any = field(default=None)

    def numpy(self) -> NDArray[Any]:
        """The array."""
        found: NDArray[Any] = self.values
        return found


def shape_of(value: Any, size: Callable[[], tuple[int, int] | None]) -> tuple[str, Any]:
    """Tell points from a mask, both of which may be given as ``polygon``.

    A list is a list of points if each of its items has two numbers. An array with other than two
    columns is a mask, and one with two columns a list of points; unless it holds truth values, or
    whole numbers and the data unit itself is two pixels wide and as high as the array has rows.

    Args:
        value: What was given.
        size: Returns the data unit's height and width, if it is known.

    Returns:
        The format, and the value as :func:`~ea_arrow.sources.pickle_rows.geometry_of` takes it.
    """
    if isinstance(value, str):
        return "polygon", value
    if isinstance(value, list | tuple):
        points = [plain_point(point) for point in value]
        if all(len(point) == 2 for point in points if isinstance(point, list)):
            return "polygon", points
        return "mask", points
    values = array_of(value, "polygon")
    pair = values.ndim == 2 and values.shape[1] == 2
    is_mask = values.ndim == 2 and not pair
    if pair and values.dtype.kind in "biu":
        is_mask = values.dtype.kind == "b" or size() == values.shape
    # The caller may change the array later; a mask is encoded at once.
    return ("mask", Given(values=values)) if is_mask else ("polygon", Given(values=values.copy()))


def plain_point(point: Any) -> Any:
    """A point or row of pixels as a list of plain numbers; what is none stays as it is."""
    if isinstance(point, dict) and point.keys() == {"x", "y"}:
        return [plain(point["x"]), plain(point["y"])]
    if isinstance(point, list | tuple):
        return [plain(number) for number in point]
    if getattr(point, "ndim", None) == 1 and hasattr(point, "tolist"):
        return point.tolist()
    return point
