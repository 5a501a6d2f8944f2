"""Columns of any kind to columns of the ``RAW`` schema: numbers, ids, boxes, masks and polygons.

A column is an Arrow array (of a Parquet file; of a CSV file, where everything is text) or a list of
Python values (of JSON). Whole columns are converted at once; a value that is not what its column
means is remembered with its row.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut, id_text
from ea_arrow.schema import RAW
from ea_arrow.sources.base import RowError
from ea_arrow.sources.json_values import parse_number
from ea_arrow.sources.text_files import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HASHED: Final = ("feature_hash", "class_ref", "class_uid")
"""Columns that name a class by its hash."""

NAMED: Final = ("class_name", "class_index", "class")
"""Columns that name a class in the model's own way."""

SAME: Final = {
    "score": "confidence",
    "scores": "confidence",
    "confidence_score": "confidence",
    "masks": "mask",
    "polygons": "polygon",
    "bboxes": "bbox",
}
"""Other names of columns."""

MOST_TEXT: Final = 1 << 16
"""A name of more bytes than this is refused: dictionary encoding could repeat it without end."""

_PROBABILITIES: Final = RAW.arrow.field("probabilities").type
_TRUE: Final = ("true", "1", "1.0")
_FALSE: Final = ("false", "0", "0.0")

Cells = Any
"""A column: ``pa.Array`` or a list of Python values."""


class Problems:
    """What is wrong with the rows of a batch: of each the first thing found."""

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, str]] = {}

    def add(self, row: int, rule: str, message: str) -> None:
        """Remember that a row breaks a rule."""
        self.found.setdefault(row, (rule, message))

    def add_all(self, rows: NDArray[np.bool_], rule: str, tell: Callable[[int], str]) -> None:
        """Remember rows, given as flags; ``tell`` words the message of one."""
        for row in np.flatnonzero(rows).tolist():
            self.add(row, rule, tell(row))

    def columns(self, n: int) -> dict[str, pa.Array]:
        """The RAW columns ``rule`` and ``message`` of n rows; nothing where all is well."""
        if not self.found:
            return {}
        told = [self.found.get(row, (None, None)) for row in range(n)]
        return {
            "rule": pa.array([rule for rule, _ in told], pa.string()),
            "message": pa.array([message for _, message in told], pa.string()),
        }


def plain(cells: Cells) -> Cells:
    """A column without dictionary encoding, its text of Arrow's plain string type.

    Raises:
        SourceError: It repeats a text of unreasonable length.
    """
    if isinstance(cells, list):
        return cells
    if isinstance(cells, pa.ExtensionArray):
        cells = cells.storage
    if pa.types.is_dictionary(cells.type):
        words = cells.dictionary
        if _is_text(words.type) or _is_binary(words.type):
            longest = pc.max(pc.binary_length(words.cast(pa.large_binary()))).as_py() or 0
            if longest > MOST_TEXT:
                raise SourceError(f"A text has {longest:,} bytes; expected at most {MOST_TEXT:,}.")
        cells = cells.dictionary_decode()
    if pa.types.is_run_end_encoded(cells.type):
        cells = pc.run_end_decode(cells)
    if _is_text(cells.type) or pa.types.is_null(cells.type):
        return cells.cast(pa.string())
    return cells


def texts(name: str, cells: Cells, problems: Problems) -> pa.Array:
    """A column of ids or names: text as it is, whole numbers without a point."""
    cells = plain(cells)
    if isinstance(cells, list):
        found = []
        for row, value in enumerate(cells):
            text = id_text(value)
            if text is None and not _is_missing(value):
                message = f"{name} is {cut(value)}; expected a number or a text."
                problems.add(row, "invalid_data", message)
            found.append(text)
        return pa.array(found, pa.string())
    kind = cells.type
    if _is_text(kind) or pa.types.is_integer(kind):
        return cells.cast(pa.string())
    if pa.types.is_floating(kind):
        return _whole_texts(cells)
    if _is_binary(kind):
        try:
            return cells.cast(pa.string())
        except pa.ArrowInvalid:
            pass
    _refuse_all(name, cells, problems, "a number or a text")
    return pa.nulls(len(cells), pa.string())


def floats(name: str, cells: Cells, problems: Problems, rule: str = "invalid_data") -> pa.Array:
    """A column of numbers; null where one is missing, or is none."""
    cells = plain(cells)
    if isinstance(cells, list):
        return _floats_of_values(name, cells, problems, rule)
    kind = cells.type
    if _is_text(kind):
        trimmed = pc.utf8_trim_whitespace(cells)
        values, good = numbers(trimmed)
        given = pc.not_equal(trimmed, "").fill_null(False).to_numpy(zero_copy_only=False)
        problems.add_all(
            given & ~good, rule, lambda i: f"{name} is {cut(cells[i].as_py())}; expected a number."
        )
        return pa.array(values, mask=~good)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return cells.cast(pa.float64(), safe=False)
    _refuse_all(name, cells, problems, "a number", rule)
    return pa.nulls(len(cells), pa.float64())


def whole(name: str, cells: Cells, problems: Problems, rule: str) -> pa.Array:
    """A column of whole numbers from 0."""
    values = floats(name, cells, problems, rule)
    given = values.is_valid().to_numpy(zero_copy_only=False)
    numbers_ = np.where(given, values.to_numpy(zero_copy_only=False), 0)
    with np.errstate(invalid="ignore"):
        good = (numbers_ >= 0) & (numbers_ < 2**53) & (np.floor(numbers_) == numbers_)
    problems.add_all(
        given & ~good, rule, lambda i: f"{name} is {numbers_[i]}; expected a whole number from 0."
    )
    return pa.array(np.where(good, numbers_, 0).astype(np.int64), mask=~(given & good))


def flags(name: str, cells: Cells, problems: Problems) -> pa.Array:
    """A column of yes and no: true and false, or 1 and 0."""
    cells = plain(cells)
    if not isinstance(cells, list) and pa.types.is_boolean(cells.type):
        return cells
    if isinstance(cells, list):
        words = pa.array(
            [
                None if v is None else str(v) if isinstance(v, str | int | float) else "?"
                for v in cells
            ],
            pa.string(),
        )
    else:
        words = texts(name, cells, problems)
    words = pc.utf8_lower(pc.utf8_trim_whitespace(words))
    yes, no = pc.is_in(words, pa.array(_TRUE)), pc.is_in(words, pa.array(_FALSE))
    odd = ~np.asarray(pc.or_(yes, no)) & np.asarray(pc.not_equal(words, "").fill_null(False))
    problems.add_all(
        odd, "invalid_data", lambda i: f"{name} is {words[i].as_py()}; expected 0 or 1."
    )
    return pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))


def probabilities(name: str, cells: Cells, problems: Problems) -> pa.Array:
    """A column of lists of numbers."""
    cells = plain(cells)
    if not isinstance(cells, list) and is_list(cells.type):
        try:
            return cells.cast(_PROBABILITIES, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    found: list[list[float] | None] = []
    for row, value in enumerate(values_of(name, cells, problems, "invalid_data")):
        try:
            found.append(_numbers(name, value))
        except RowError as error:
            found.append(None)
            problems.add(row, error.rule, error.message)
    return pa.array(found, _PROBABILITIES)


# -- values ----------------------------------------------------------------------------------------


def values_of(name: str, cells: Cells, problems: Problems, rule: str) -> list[Any]:
    """A column as Python values; text is read as JSON."""
    cells = plain(cells)
    values: list[Any] = cells if isinstance(cells, list) else cells.to_pylist()
    if not any(isinstance(value, str) for value in values):
        return values
    read: list[Any] = []
    for row, value in enumerate(values):
        found = value
        if isinstance(value, str):
            try:
                found = json.loads(value) if value.strip() else None
            except (ValueError, RecursionError):
                problems.add(
                    row, rule, f"{name} is {cut(value)}; expected a list or object as JSON."
                )
                found = None
        read.append(found)
    return read


def _floats_of_values(name: str, values: list[Any], problems: Problems, rule: str) -> pa.Array:
    if set(map(type, values)) <= {int, float}:
        try:
            return pa.array(np.array(values, np.float64))
        except (OverflowError, ValueError):
            pass
    found: list[float | None] = []
    for row, value in enumerate(values):
        number = None
        try:
            if value is not None:
                number = parse_number(value, rule, name)
        except RowError as error:
            problems.add(row, error.rule, error.message)
        found.append(number)
    return pa.array(found, pa.float64())


def _numbers(name: str, value: Any) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise RowError("invalid_data", f"{name} is {cut(value)}; expected a list of numbers.")
    return [parse_number(number, "invalid_data", name) for number in value]


def _whole_texts(cells: pa.Array) -> pa.Array:
    """Numbers as ids: 42.0 is 42; NaN is none."""
    values = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        is_whole = (np.floor(values) == values) & (np.abs(values) < 2**63)
    as_whole = pa.array(np.where(is_whole, values, 0).astype(np.int64)).cast(pa.string())
    rest = pa.array(np.where(np.isfinite(values), values, 0)).cast(pa.string())
    found = pc.if_else(pa.array(is_whole), as_whole, rest)
    missing = pa.array(~np.isfinite(values))
    return pc.if_else(missing, pa.scalar(None, pa.string()), found)


def _refuse_all(
    name: str, cells: pa.Array, problems: Problems, expected: str, rule: str = "invalid_data"
) -> None:
    given = cells.is_valid().to_numpy(zero_copy_only=False)
    message = f"{name} is a column of {cells.type}; expected {expected}."
    problems.add_all(given, rule, lambda _: message)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of any kind."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
