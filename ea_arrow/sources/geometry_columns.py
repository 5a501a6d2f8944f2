"""Columns of boxes, masks and polygons to those of the ``RAW`` schema, see :mod:`columns`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.geometry import Rle, polygon_column
from ea_arrow.ontology import cut
from ea_arrow.rle import mask_column
from ea_arrow.schema import POLYGON
from ea_arrow.sources.base import RowError
from ea_arrow.sources.columns import is_list, plain, values_of
from ea_arrow.sources.json_values import parse_box, parse_polygon, parse_size

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ea_arrow.sources.columns import Cells, Problems

    Floats = NDArray[np.float64]


def boxes(name: str, cells: Cells, problems: Problems) -> tuple[Floats, NDArray[np.bool_]]:
    """A column of four numbers a row.

    Returns:
        The numbers, shape (n, 4), NaN where a row has none, and which rows have, shape (n,).
    """
    cells = plain(cells)
    n = len(cells)
    if not isinstance(cells, list) and is_list(cells.type) and not cells.null_count and n:
        flat = cells.flatten()
        lengths = pc.list_value_length(cells)
        number = pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)
        if number and not flat.null_count and pc.all(pc.equal(lengths, 4)).as_py():
            sides: Floats = flat.cast(pa.float64(), safe=False).to_numpy().reshape(n, 4)
            return sides, np.ones(n, dtype=bool)
    found, given = np.full((n, 4), np.nan), np.zeros(n, dtype=bool)
    for row, value in enumerate(values_of(name, cells, problems, "invalid_box")):
        try:
            box = parse_box(value)
        except RowError as error:
            problems.add(row, error.rule, error.message)
        else:
            if box is not None:
                found[row], given[row] = box, True
    return found, given


def masks(name: str, cells: Cells, problems: Problems) -> pa.Array:
    """A column of run-length encoded masks: COCO's {size, counts}, or our own struct."""
    return mask_array(values_of(name, cells, problems, "invalid_mask"), rle_of, problems)


def mask_array(
    values: Sequence[Any], read: Callable[[Any], Rle | None], problems: Problems
) -> pa.Array:
    """Masks of any kind as a column of type ``schema.MASK``.

    Args:
        values: One per row.
        read: Makes runs of one; raises RowError if it is no mask.
        problems: Where rows are remembered whose mask is none, or does not fit its size.
    """
    found: list[Rle | None] = []
    for row, value in enumerate(values):
        try:
            found.append(read(value))
        except RowError as error:
            found.append(None)
            problems.add(row, error.rule, error.message)
    column, broken = mask_column(found)
    for row, message in broken.items():
        problems.add(row, "invalid_mask", message)
    return column


def rle_of(value: Any) -> Rle | None:
    """A mask given as a mapping: ``size`` [h, w], or ``height`` and ``width``, and ``counts``.

    Raises:
        RowError: It is no such mapping.
    """
    if value is None or isinstance(value, Rle):
        return value
    if not isinstance(value, Mapping) or "counts" not in value:
        message = f"The mask is {cut(value)}; expected a run-length encoding {{size, counts}}."
        raise RowError("invalid_mask", message)
    size = value["size"] if "size" in value else (value.get("height"), value.get("width"))
    sides = list(size) if hasattr(size, "__iter__") else size
    if isinstance(sides, list):
        sides = [side.item() if hasattr(side, "item") else side for side in sides]
    height, width = parse_size(sides)
    counts = value["counts"]
    if isinstance(counts, bytes):
        return Rle(height, width, counts)
    try:
        if isinstance(counts, str):
            return Rle(height, width, counts.encode("ascii"))
        runs = np.asarray(counts)
        if runs.ndim == 1 and (runs.dtype.kind in "iu" or not runs.size):
            return Rle(height, width, runs.astype(np.int64))
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        pass
    message = f"The mask's counts are {cut(counts)}; expected COCO's string or a list of integers."
    raise RowError("invalid_mask", message)


def polygons(name: str, cells: Cells, problems: Problems, notes: Counter[str]) -> pa.Array:
    """A column of polygons: rings of interleaved x, y; a flat list of them; or points [x, y]."""
    cells = plain(cells)
    if not isinstance(cells, list) and is_list(cells.type) and is_list(cells.type.value_type):
        quick = _nested(cells)
        if quick is not None:
            return quick
    found: list[list[list[float]] | None] = []
    for row, value in enumerate(values_of(name, cells, problems, "invalid_polygon")):
        try:
            found.append(_rings(value, notes))
        except RowError as error:
            found.append(None)
            problems.add(row, error.rule, error.message)
    return polygon_column(found)


def formats(arrays: Mapping[str, pa.Array], n: int) -> pa.Array:
    """The format of each row from what it has: an answer, a mask, a polygon, else a box."""
    form = pa.repeat("bounding_box", n)
    for name in ("polygon", "mask"):
        if name in arrays and arrays[name].null_count < n:
            form = pc.if_else(arrays[name].is_valid(), name, form)
    if "option_hash" in arrays:
        form = pc.if_else(arrays["option_hash"].is_valid(), "classification", form)
    return form


def _rings(value: Any, notes: Counter[str]) -> list[list[float]] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        message = f"The polygon is {cut(value)}; expected lists [x1, y1, x2, y2, …]."
        raise RowError("invalid_polygon", message)
    if len(value) > 2 and all(isinstance(point, list) and len(point) == 2 for point in value):
        # A ring of one point is no polygon, so these are the points of a ring.
        notes["polygons given as points [x, y], read as one part"] += 1
        value = [[number for point in value for number in point]]
    return parse_polygon(value, notes)


def _nested(cells: pa.Array) -> pa.Array | None:
    """Rings of numbers as they are; None if any of them needs a look."""
    rings = cells.flatten()
    values = rings.flatten() if is_list(rings.type) else None
    if values is None or is_list(values.type) or rings.null_count or values.null_count:
        return None
    lengths = pc.list_value_length(rings)
    shortest = pc.min(lengths).as_py()
    if shortest is not None and shortest < 6:
        return None
    try:
        return cells.cast(POLYGON, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
