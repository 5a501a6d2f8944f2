"""Whole batches of predictions, given as columns of any kind, as batches of the ``RAW`` schema.

Nothing loops over rows, but for masks that are not encoded yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import PredictionError, did_you_mean
from ea_arrow.frameworks import columns_of
from ea_arrow.geometry import Rle, polygon_column
from ea_arrow.given_classes import answers
from ea_arrow.given_rows import Given
from ea_arrow.schema import BOX, POLYGON, RAW
from ea_arrow.sources.base import Coordinates
from ea_arrow.sources.columns import HASHED, NAMED, SAME, Problems
from ea_arrow.sources.geometry_columns import formats, mask_array, rle_of
from ea_arrow.sources.pickle_rows import geometry_of
from ea_arrow.tensors import array_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ea_arrow.given_classes import ClassNames


# Which column each name stands for; what a unit or class is found by follows from the name.
_UNITS: Final = {"data_hash": "data_hash", "unit": "data_hash"} | dict.fromkeys(
    ("source_id", "image_id"), "source_id"
)
_TAKEN: Final = {
    *("frame", "format", "confidence", "theta", "track_id", "probabilities", "area"),
    *("attribute_hash", "option_hash", "mask", "polygon", "bbox", *BOX),
}
# What a table that was read from a project has besides, and what a framework says of the image.
_PASSED_OVER: Final = {
    *("iteration", "prediction_id", "source_row", "is_crowd", "is_ignored", "rule", "message"),
    *("height", "width", "probability_names"),
}
_KNOWN: Final = frozenset(
    _TAKEN | SAME.keys() | _UNITS.keys() | _PASSED_OVER | {"category_id", *HASHED, *NAMED}
)
_RAW: Final = RAW.arrow


@dataclass(frozen=True)
class Common:
    """What holds for all rows of a batch.

    Attributes:
        classes: The project's classes.
        mapping: The model's classes.
        unit: The data unit, or one per row; None if a column says it.
        frame: The frame, or one per row.
        relative: Coordinates are fractions of the data unit, else pixels.
    """

    classes: ClassNames
    mapping: dict[str, str]
    unit: Any = None
    frame: Any = None
    relative: bool = False


def parts_of(output: Any) -> Iterator[Mapping[str, Any]]:
    """Columns of a mapping, of anything with an Arrow stream, or of a framework's output.

    Raises:
        PredictionError: It is none of these.
    """
    found = columns_of(output)
    if found is not None:
        yield found
    elif isinstance(output, Mapping):
        yield output
    elif hasattr(output, "__arrow_c_stream__"):
        for batch in pa.RecordBatchReader.from_stream(output):
            yield dict(zip(batch.schema.names, batch.columns, strict=True))
    elif hasattr(output, "__arrow_c_array__"):
        batch = pa.record_batch(output)
        yield dict(zip(batch.schema.names, batch.columns, strict=True))
    else:
        raise PredictionError(
            f"Expected columns (a mapping, or a table with an Arrow stream) or a framework's "
            f"output; found a value of type {type(output).__name__}.",
            hint="For single predictions use add_prediction.",
        )


def raw_batch(
    part: Mapping[str, Any], given: Common, first: int = 0
) -> tuple[pa.RecordBatch, Coordinates]:
    """Bring columns to the ``RAW`` schema.

    Args:
        part: Columns by name, all of one length.
        given: What holds for all rows.
        first: ``source_row`` of the first.

    Returns:
        The batch, and how it names data units and classes.

    Raises:
        PredictionError: A column is unknown, missing, of the wrong type or length.
    """
    columns = _named(part)
    n = _length(columns)
    unit, unit_key = _unit(columns, given, n)
    class_ref, class_key = _class(columns, given, n)
    arrays = {"unit": unit, "class_ref": class_ref}
    arrays |= answers(class_ref) or {}
    arrays["frame"] = _scalars("frame", columns.get("frame", given.frame), n)
    arrays |= _boxes(columns, n)
    for name in ("confidence", "theta", "track_id", "area", "attribute_hash", "option_hash"):
        if name in columns:
            arrays[name] = _scalars(name, columns[name], n)
    if "probabilities" in columns:
        arrays["probabilities"] = _probabilities(columns["probabilities"], n)
    if "mask" in columns:
        arrays |= _masks(columns["mask"], n)
    if "polygon" in columns:
        arrays["polygon"] = _polygons(columns["polygon"], n)
    arrays["format"] = _format(columns, arrays, n)
    arrays["source_row"] = pa.array(np.arange(first, first + n))
    nulls = _nulls(n)
    wanted = [arrays[name] if name in arrays else nulls[name] for name in _RAW.names]
    batch = pa.RecordBatch.from_arrays(wanted, schema=_RAW)
    return batch, Coordinates(given.relative, unit_key, class_key, reach=0)


@lru_cache(maxsize=8)
def _nulls(n: int) -> dict[str, pa.Array]:
    return {f.name: pa.nulls(n, f.type) for f in _RAW}


def _named(part: Mapping[str, Any]) -> dict[str, Any]:
    for name in part:
        if name not in _KNOWN:
            near = did_you_mean(str(name), _KNOWN)
            listed = f"Columns may be: {', '.join(sorted(_KNOWN - _PASSED_OVER))}."
            hint = f"{near} {listed}" if near else listed
            raise PredictionError(f"There is no column '{name}'.", hint=hint)
    return {SAME.get(n, n): v for n, v in part.items() if n not in _PASSED_OVER and v is not None}


def length_of(part: Mapping[str, Any]) -> int:
    """How many predictions columns hold.

    Raises:
        PredictionError: A column is unknown, or they have different lengths.
    """
    return _length(_named(part))


def _length(columns: dict[str, Any]) -> int:
    lengths = {n: len(v) for n, v in columns.items() if not _is_single(v)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise PredictionError(f"The columns have different lengths: {told}.")
    if not lengths:
        raise PredictionError("There is no column of predictions.")
    return next(iter(lengths.values()))


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float) or not hasattr(value, "__len__") or _no_axis(value)


def _no_axis(value: Any) -> bool:
    return getattr(value, "ndim", None) == 0


def _unit(
    columns: dict[str, Any], given: Common, n: int
) -> tuple[pa.Array, Literal["data_hash", "source_id"]]:
    names = [name for name in _UNITS if name in columns]
    if given.unit is not None:
        return _scalars("unit", given.unit, n), "data_hash"
    if not names:
        raise PredictionError(
            "The predictions name no data unit.",
            hint="Give data_hash='…' for all of them, or a column data_hash.",
        )
    by_source = _UNITS[names[0]] == "source_id"
    return _scalars("unit", columns[names[0]], n), "source_id" if by_source else "data_hash"


def _class(
    columns: dict[str, Any], given: Common, n: int
) -> tuple[pa.Array, Literal["feature_hash", "source_id"]]:
    # A framework tells the name of a class beside its index: a mapping may be of either.
    for name in (*HASHED, "category_id", *NAMED):
        if name not in columns:
            continue
        if name == "class_name" and "class_index" in columns and _by_index(given, columns):
            continue
        if name == "category_id" and not given.mapping:
            return _scalars("class_ref", columns[name], n), "source_id"
        values = _texts_or_numbers(name, columns[name], n)
        by_name = name in NAMED
        if name in HASHED and not given.mapping:
            return values.cast(pa.string()), "feature_hash"
        return given.classes.column(values, given.mapping, by_name=by_name), "feature_hash"
    raise PredictionError(
        "The predictions name no class.",
        hint="Give a column feature_hash, or class_index or class_name with classes={…}.",
    )


def _by_index(given: Common, columns: dict[str, Any]) -> bool:
    names = set(columns["class_name"]) if len(columns["class_name"]) else set()
    return bool(given.mapping) and not (names - {None}) & given.mapping.keys()


def _format(columns: dict[str, Any], arrays: dict[str, pa.Array], n: int) -> pa.Array:
    if "format" in columns:
        return _scalars("format", columns["format"], n)
    form = formats(arrays, n)
    if "mask" in arrays and "rule" in arrays:
        form = pc.if_else(arrays["rule"].is_valid(), "mask", form)
    return form


# -- columns of one kind ---------------------------------------------------------------------------


def _scalars(name: str, values: Any, n: int) -> pa.Array:
    """A column of one value per row, or of one value for all, in the type ``RAW`` has."""
    dtype = _RAW.field(name).type
    if values is None:
        return pa.nulls(n, dtype)
    array = _texts_or_numbers(name, values, n)
    try:
        return array.cast(dtype)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"Column '{name}' is {array.type}, which does not convert to {dtype}: {error}"
        raise PredictionError(message) from error


def _texts_or_numbers(name: str, values: Any, n: int) -> pa.Array:
    """A column as an Arrow array of text or numbers."""
    if _is_single(values):
        values = values.item() if _no_axis(values) else values
        return pa.repeat(pa.scalar(values), n)
    array = _arrow(name, values)
    if len(array) != n:
        raise PredictionError(f"Column '{name}' has {len(array)} values; expected {n}.")
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    is_text = pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)
    return array.cast(pa.string()) if is_text or pa.types.is_null(array.type) else array


def _arrow(name: str, values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if hasattr(values, "__arrow_c_stream__"):
        return pa.chunked_array(values).combine_chunks()
    try:
        if isinstance(values, list | tuple):
            return pa.array(values)
        return pa.array(array_of(values, name))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise PredictionError(f"Column '{name}' cannot be read: {error}") from error


def _boxes(columns: dict[str, Any], n: int) -> dict[str, pa.Array]:
    if "bbox" not in columns:
        return {name: _scalars(name, columns[name], n) for name in BOX if name in columns}
    values = columns["bbox"]
    if hasattr(values, "__arrow_c_stream__") or isinstance(values, pa.Array):
        array = _arrow("bbox", values)
        flat = array.flatten().to_numpy(zero_copy_only=False)
    else:
        flat = np.asarray(array_of(values, "bbox"))
    if flat.size != 4 * n or (flat.ndim == 2 and flat.shape[1] != 4):
        message = f"Column 'bbox' has shape {flat.shape}; expected 4 numbers for each of {n} rows."
        raise PredictionError(message)
    sides = flat.reshape(n, 4)
    return {name: pa.array(sides[:, i].astype(np.float64)) for i, name in enumerate(BOX)}


def _probabilities(values: Any, n: int) -> pa.Array:
    dtype = _RAW.field("probabilities").type
    if hasattr(values, "__arrow_c_stream__") or isinstance(values, pa.Array):
        return _arrow("probabilities", values).cast(dtype)
    if isinstance(values, list | tuple) and any(v is None for v in values):
        return pa.array(values, dtype)
    matrix = np.asarray(array_of(values, "probabilities"), np.float32)
    if matrix.ndim != 2 or len(matrix) != n:
        message = f"Column 'probabilities' has shape {matrix.shape}; expected {n} rows."
        raise PredictionError(message)
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(matrix.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.reshape(-1)))


def _masks(values: Any, n: int) -> dict[str, pa.Array]:
    """The mask column; a mask that is none, or does not fit its size, makes its row a reject."""
    if hasattr(values, "__arrow_c_stream__") or isinstance(values, pa.Array):
        values = _arrow("mask", values).to_pylist()
    problems = Problems()
    column = mask_array(values, _rle, problems)
    if len(column) != n:
        raise PredictionError(f"Column 'mask' has {len(column)} values; expected {n}.")
    return {"mask": column, **problems.columns(n)}


def _rle(mask: Any) -> Rle | None:
    """One mask: runs, a dictionary of them as COCO or this package has it, or pixels.

    Raises:
        RowError: It is no mask.
    """
    if mask is None or isinstance(mask, Rle | Mapping):
        return rle_of(mask)
    found: Rle = geometry_of("mask", Given(values=array_of(mask, "mask")))["mask"]
    return found


def _polygons(values: Any, n: int) -> pa.Array:
    if hasattr(values, "__arrow_c_stream__") or isinstance(values, pa.Array):
        return _arrow("polygon", values).cast(POLYGON)
    column = polygon_column([_rings(polygon) for polygon in values])
    if len(column) != n:
        raise PredictionError(f"Column 'polygon' has {len(column)} values; expected {n}.")
    return column


def _rings(polygon: Any) -> Sequence[Any] | None:
    """A polygon as rings of interleaved x, y: from an array of points, or rings of either kind."""
    if polygon is None:
        return None
    if getattr(polygon, "ndim", None) == 2:
        polygon = [polygon]
    return [np.asarray(array_of(ring, "polygon"), np.float64).reshape(-1) for ring in polygon]
