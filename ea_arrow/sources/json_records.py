"""What readers of JSON with one record per object share: names, numbers, boxes and batches."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.ontology import clean_text, cut, id_text
from ea_arrow.schema import BOX
from ea_arrow.sources.base import Coordinates, RowError, batches_of
from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.json_values import parse_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from ea_arrow.sources.formats import Layout, Reading

Row = dict[str, Any]
"""Columns of RAW by name."""

_NUMBER: Final = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE
)
_LONGEST: Final = 400  # characters of a number given as text


@dataclass
class JsonSource:
    """A file of predictions that was parsed as JSON.

    Attributes:
        path: The file or directory.
        coordinates: How it names data units and classes, and its coordinates.
        rows: Yields the rows, in the order of the file.
        notes: Counted peculiarities; complete when the rows have been read to the end.
    """

    path: Path
    coordinates: Coordinates
    rows: Callable[[], Iterable[Row]]
    notes: Counter[str] = field(default_factory=Counter)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema."""
        return batches_of(self.rows())


def refused(error: RowError) -> Row:
    """The columns of a row that breaks a rule."""
    return {"rule": error.rule, "message": clean_text(error.message)}


def loose_number(value: object, rule: str, what: str) -> float:
    """Return a number that may be given as text.

    Args:
        value: What the file holds.
        rule: The rule that anything but a number breaks.
        what: Where it stands, for the message.

    Raises:
        RowError: It is not a finite number.

    >>> loose_number("1.5", "invalid_box", "x_min")
    1.5
    """
    if isinstance(value, str) and len(value) < _LONGEST and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    return parse_number(value, rule, what)


def score_of(record: Row, key: str) -> float | None:
    """Return a confidence; None where it is missing, null or an empty text.

    Raises:
        RowError: It is not a finite number.
    """
    value = record.get(key)
    return None if value is None or value == "" else loose_number(value, "invalid_data", key)


def name_text(value: object, what: str) -> str | None:
    """Return the text of a name or id; None where it is missing, null or empty.

    Raises:
        RowError: It is neither a text nor a number.
    """
    text = id_text(value)
    if text is None and value is not None:
        message = f"{what} is {cut(value)}; expected a text or a number."
        raise RowError("invalid_data", message)
    return text or None


def file_name(path: str) -> str:
    r"""Return the last part of a path, of either kind of slash.

    >>> file_name("images/a.jpg"), file_name("C:\\images\\a.jpg"), file_name("a.jpg")
    ('a.jpg', 'a.jpg', 'a.jpg')
    """
    return path.replace("\\", "/").rpartition("/")[2]


def box_row(numbers: list[float], reading: Reading, own: Layout) -> Row:
    """Return the box columns of four numbers.

    Args:
        numbers: As the source gives them.
        reading: What the caller knows better.
        own: Their order as the format has it.
    """
    layout = reading.box or own
    values = numbers
    if layout == "xyxy" and not reading.one_based:
        left, top, right, bottom = numbers
        values = [left, top, right - left, bottom - top]
    elif layout != "xywh" or reading.one_based:
        given = np.array([numbers], dtype=np.float64)
        values = to_xywh(given, layout, one_based=reading.one_based)[0].tolist()
    return dict(zip(BOX, values, strict=True))
