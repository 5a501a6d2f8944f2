"""From the stand-ins a pickle holds to rows of the ``RAW`` schema.

Fields may hold anything: ``construct()`` bypasses the models' own validation. So every value is
checked here; one that cannot be what its field means makes the row a reject with the reason.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import Rle, encode_dense
from ea_arrow.sources.base import RowError
from ea_arrow.sources.pickle_values import Array, FormatValue, Instance

MAX_JSON = 1 << 24
MAX_LIST_VALUES = 1 << 22  # rows may be shared: a small file can spell out a large list
MAX_NAME = 1024  # characters; names may be shared, too
_LIST_VALUE = 40  # bytes of an array that are converted while one value of a list is
_BOX_KEYS = ("x", "y", "w", "h")


def flatten(prediction: Instance) -> dict[str, Any]:
    """Bring the generations of ``Prediction`` to one flat set of fields, values untouched.

    Returns:
        ``data_hash``, ``frame``, ``confidence``, and either ``feature_hash``, ``format``, ``data``
        and ``track_id``, or ``feature_hash``, ``attribute_hash`` and ``option_hash``; those only
        that are there.

    Raises:
        RowError: Neither an object nor a classification, or both.
    """
    fields = prediction.fields or {}
    flat: dict[str, Any] = {
        k: fields[k] for k in ("data_hash", "frame", "confidence") if k in fields
    }
    parts = [fields.get(k) for k in ("object", "classification")]
    if "class_id" in fields:
        flat["feature_hash"] = fields["class_id"]
        flat |= {k: fields[k] for k in ("format", "data", "track_id") if k in fields}
        return flat
    given = [p for p in parts if p is not None]
    if len(given) != 1:
        message = "A prediction has exactly one of object and classification; this one has "
        raise RowError("not_a_prediction", message + ("both." if given else "neither."))
    part = given[0].fields if isinstance(given[0], Instance) else given[0]
    if not isinstance(part, dict):
        kind = type(given[0]).__name__
        raise RowError("not_a_prediction", f"Its object or classification is of type {kind}.")
    return flat | part


def row_of(flat: dict[str, Any]) -> dict[str, Any]:
    """Convert flat fields to the columns of a ``RAW`` row.

    Raises:
        RowError: A value cannot be what its field means.
    """
    row: dict[str, Any] = {
        "unit": text(flat.get("data_hash"), "data_hash"),
        "frame": _frame(flat.get("frame")),
        "class_ref": text(flat.get("feature_hash"), "feature_hash"),
        "confidence": _number(flat.get("confidence"), "confidence", "missing_confidence"),
    }
    if "option_hash" in flat or "attribute_hash" in flat:
        row["format"] = "classification"
        row["attribute_hash"] = text(flat.get("attribute_hash"), "attribute_hash")
        row["option_hash"] = text(flat.get("option_hash"), "option_hash")
        return row
    track = flat.get("track_id")
    row["track_id"] = text(str(track), "track_id") if _plain(track) else None
    return row | geometry_of(format_of(flat.get("format")), flat.get("data"))


def format_of(value: Any) -> str:
    """The value of a ``Format`` member, given as one or as its value.

    Raises:
        RowError: Not a format.
    """
    found = value.value if isinstance(value, FormatValue) else value
    if found not in ("bounding-box", "mask", "polygon"):
        raise RowError(
            "bad_format", f"Format {_shown(found)} is not bounding-box, mask or polygon."
        )
    return str(found)


def geometry_of(form: str, data: Any) -> dict[str, Any]:
    """Convert ``data`` to the geometry columns of its format.

    A two-dimensional integer array given as a polygon, with other than two columns, is a mask:
    such files exist.

    Raises:
        RowError: The data is not of that format.
    """
    if isinstance(data, str):
        data = _json(data)
    if form == "bounding-box":
        return box_of(data)
    if isinstance(data, Array):
        values = data.numpy()
    elif isinstance(data, list | tuple):
        values = _from_list(form, data)
    else:
        raise RowError(f"invalid_{form}", f"A {form} is an array; this is a {_kind(data)}.")
    integers = values.dtype.kind in "biu"
    if form == "polygon" and not (values.ndim == 2 and values.shape[1] != 2 and integers):
        return _polygon(values)
    if isinstance(data, Array):
        if data.cache is None:
            data.cache = _mask(values)
        return {"format": "mask", "mask": data.cache}
    return {"format": "mask", "mask": _mask(values)}


def extent(data: Any) -> int:
    """How much work the conversion of ``data`` is, in bytes of an array."""
    if isinstance(data, Array):
        return len(data.data or b"") if data.cache is None else 8 * len(data.cache.counts)
    if isinstance(data, list | tuple):
        return _LIST_VALUE * sum(len(row) for row in data if isinstance(row, list | tuple))
    return len(data) if isinstance(data, str) else 0


def box_of(data: Any) -> dict[str, Any]:
    """Convert a ``BoundingBox``, or a dictionary like one.

    Raises:
        RowError: A side is missing or not a number.
    """
    fields = data.fields if isinstance(data, Instance) else data
    if not isinstance(fields, dict):
        message = f"A bounding box has x, y, w and h; this is a {_kind(data)}."
        raise RowError("invalid_box", message)
    row = {f"bbox_{k}": _number(fields.get(k), k, "invalid_box") for k in _BOX_KEYS}
    missing = [k for k in _BOX_KEYS if row[f"bbox_{k}"] is None]
    if missing:
        raise RowError("invalid_box", f"The bounding box lacks {', '.join(missing)}.")
    theta = fields.get("theta")
    row["theta"] = None if theta is None else _number(theta, "theta", "invalid_box")
    return row | {"format": "bounding_box"}


def _mask(values: np.ndarray[Any, Any]) -> Rle:
    if values.ndim != 2:
        shape = " × ".join(map(str, values.shape))
        message = f"A mask has two dimensions, height and width; this one is {shape or 'a number'}."
        raise RowError("invalid_mask", message)
    if values.dtype.kind not in "biuf":
        raise RowError("invalid_mask", f"A mask holds 0 and 1; this one holds {values.dtype}.")
    if values.size and values.dtype != np.bool_:
        low = values.min() if values.dtype.kind in "if" else 0
        high = values.max()
        binary = low >= 0 and (high in (0, 1, 255))
        if binary and values.dtype.kind == "f":
            binary = bool(((values == 0) | (values == high)).all())
        elif binary and high == 255:
            binary = not ((values != 0) & (values != 255)).any()
        if not binary:
            message = f"A mask holds 0 and 1, or 0 and 255; this one ranges from {low} to {high}."
            raise RowError("mask_not_binary", message)
    try:
        return encode_dense(values)
    except GeometryError as error:
        raise RowError("invalid_mask", str(error)) from error


def _polygon(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf":
        shape = " × ".join(map(str, values.shape))
        message = (
            f"A polygon is n × 2 numbers; this one is {shape or 'one value'} of {values.dtype}."
        )
        raise RowError("invalid_polygon", message)
    if len(values) < 3:
        raise RowError(
            "invalid_polygon", f"A polygon has at least 3 points; this one {len(values)}."
        )
    ring = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
    return {"format": "polygon", "polygon": [ring]}


def _from_list(form: str, data: list[Any] | tuple[Any, ...]) -> np.ndarray[Any, Any]:
    rows = [row for row in data if isinstance(row, list | tuple)]
    regular = len(rows) == len(data) and len({len(row) for row in rows}) == 1
    if not regular or len(rows) * len(rows[0]) > MAX_LIST_VALUES:
        raise RowError(f"invalid_{form}", "Expected rows of numbers, all of one length.")
    flat = [value for row in rows for value in row]
    if not all(_numeric(v) for v in flat):
        raise RowError(f"invalid_{form}", "Expected rows of numbers; there are other values.")
    whole = all(isinstance(v, int) for v in flat)
    try:
        values = np.array(flat, dtype=np.int64 if whole else np.float64)
    except OverflowError as error:
        raise RowError(f"invalid_{form}", f"There are numbers too large: {error}") from error
    return values.reshape(len(rows), len(rows[0]))


def _json(text_: str) -> Any:
    if len(text_) > MAX_JSON:
        raise RowError(
            "invalid_data", f"JSON of {len(text_):,} characters is too long for one object."
        )
    try:
        return json.loads(text_)
    except (ValueError, RecursionError) as error:
        raise RowError("invalid_data", f"The data is text, but not JSON: {error}") from error


def text(value: Any, name: str) -> str | None:
    """A text field; None stays None.

    Raises:
        RowError: Not text.
    """
    if isinstance(value, str) and len(value) > MAX_NAME:
        message = f"{name} has {len(value):,} characters; expected at most {MAX_NAME:,}."
        raise RowError("not_a_prediction", message)
    if value is None or isinstance(value, str):
        return value
    raise RowError("not_a_prediction", f"{name} is text; this one is a {_kind(value)}.")


def _frame(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and 0 <= value < 2**63):
        return value if value is None else int(value)
    raise RowError("invalid_frame", f"frame is a whole number from 0; this one is {_shown(value)}.")


def _number(value: Any, name: str, rule: str) -> float | None:
    if value is None:
        return None
    if not _numeric(value):
        raise RowError(rule, f"{name} is a number; this one is {_shown(value)}.")
    try:
        return float(value)
    except OverflowError as error:
        raise RowError(rule, f"{name} is too large for a number: {error}") from error


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float)


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Instance) else type(value).__name__


def _shown(value: Any) -> str:
    return repr(value)[:60] if _plain(value) else f"a {_kind(value)}"
