"""Rows of a table as batches of the ``RAW`` schema, once it is known what its columns mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.schema import BOX, RAW
from ea_arrow.sources.base import raw_batch
from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.columns import Problems, flags, floats, probabilities, texts, whole
from ea_arrow.sources.geometry_columns import boxes, formats, masks, polygons

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from ea_arrow.sources.table_base import Block
    from ea_arrow.sources.table_plan import Plan

_TEXTS: Final = ("track_id", "attribute_hash", "option_hash", "source_id")
_FLAGS: Final = ("is_crowd", "is_ignored")
_FORMAT_NAMES: Final = {"bitmask": "mask", "box": "bounding_box", "bbox": "bounding_box"}


def raw_of(
    block: Block,
    plan: Plan,
    notes: Counter[str],
    *,
    one_based: bool = False,
    source_file: str | None = None,
) -> pa.RecordBatch:
    """Bring a block of a table to the ``RAW`` schema; rows that cannot be read are rejects in it.

    Args:
        block: The rows.
        plan: What their columns mean.
        notes: Counts peculiarities.
        one_based: Pixels are counted from 1.
        source_file: The file, where the source is made of several.
    """
    n = len(block.rows)
    problems = Problems()
    arrays = {"source_row": pa.array(block.rows)}
    arrays |= _names(block, plan, problems)
    arrays |= _box(block, plan, problems, one_based=one_based)
    if plan.confidence is not None:
        cells = block.columns[plan.confidence]
        arrays["confidence"] = floats(plan.confidence, cells, problems)
    for raw, name in plan.others.items():
        arrays[raw] = _other(raw, name, block.columns[name], problems, notes)
    arrays["format"] = _format(arrays, n)
    arrays |= problems.columns(n)
    batch = raw_batch(arrays, n)
    if block.broken:
        batch = with_broken(batch, block.broken)
    return batch if source_file is None else in_file(batch, source_file)


def in_file(batch: pa.RecordBatch, source_file: str) -> pa.RecordBatch:
    """The batch with the name of its file."""
    names = pa.array([source_file], pa.string()).take(pa.array(np.zeros(batch.num_rows, np.int64)))
    return batch.set_column(RAW.names.index("source_file"), RAW.arrow.field("source_file"), names)


def _names(block: Block, plan: Plan, problems: Problems) -> dict[str, pa.Array]:
    arrays: dict[str, pa.Array] = {}
    if plan.unit is not None:
        arrays["unit"] = texts(plan.unit, block.columns[plan.unit], problems)
    if plan.class_ref is not None:
        found = texts(plan.class_ref, block.columns[plan.class_ref], problems)
        if plan.class_key == "index":
            found = pc.replace_substring_regex(found, r"^(\d+)\.0+$", r"\1")
        arrays["class_ref"] = found
    return arrays


def _box(block: Block, plan: Plan, problems: Problems, *, one_based: bool) -> dict[str, pa.Array]:
    if not plan.box:
        return {}
    if len(plan.box) == 1:
        sides, given = boxes(plan.box[0], block.columns[plan.box[0]], problems)
        missing = np.repeat(~given[:, None], 4, axis=1)
    else:
        columns = [floats(name, block.columns[name], problems, "invalid_box") for name in plan.box]
        sides = np.stack([c.to_numpy(zero_copy_only=False) for c in columns], axis=1)
        missing = ~np.stack([c.is_valid().to_numpy(zero_copy_only=False) for c in columns], axis=1)
    if plan.layout != "xywh":
        # Of an incomplete box nothing follows; a column of it stands where it did.
        missing = np.where(missing.any(axis=1, keepdims=True), True, missing)
        _refuse_incomplete(missing, sides, problems)
    xywh = to_xywh(sides, plan.layout, one_based=one_based)
    return {name: pa.array(xywh[:, i], mask=missing[:, i]) for i, name in enumerate(BOX)}


def _refuse_incomplete(
    missing: NDArray[np.bool_], sides: NDArray[np.float64], problems: Problems
) -> None:
    some: NDArray[np.bool_] = np.any(missing, axis=1) & ~np.isnan(sides).all(axis=1)
    problems.add_all(
        some, "invalid_box", lambda i: f"The box is {sides[i].tolist()}; expected four numbers."
    )


def _other(raw: str, name: str, cells: Any, problems: Problems, notes: Counter[str]) -> pa.Array:
    """A column that means what that of ``RAW`` means."""
    if raw in _TEXTS:
        return texts(name, cells, problems)
    if raw in _FLAGS:
        return flags(name, cells, problems)
    if raw == "frame":
        return whole(name, cells, problems, "invalid_frame")
    if raw == "mask":
        return masks(name, cells, problems)
    if raw == "polygon":
        return polygons(name, cells, problems, notes)
    if raw == "probabilities":
        return probabilities(name, cells, problems)
    if raw == "format":
        found = pc.replace_substring(texts(name, cells, problems), "-", "_")
        for other, own in _FORMAT_NAMES.items():
            found = pc.if_else(pc.equal(found, other), own, found)
        return found
    return floats(name, cells, problems)


def _format(arrays: dict[str, pa.Array], n: int) -> pa.Array:
    derived = formats(arrays, n)
    if "format" not in arrays:
        return derived
    return pc.coalesce(arrays["format"], derived)


def with_broken(batch: pa.RecordBatch, broken: list[tuple[int, str, str]]) -> pa.RecordBatch:
    """Put rows that could not be read among the others, in the order of the file."""
    both = pa.concat_batches([batch, broken_rows(broken)])
    order = np.argsort(both.column("source_row").to_numpy(), kind="stable")
    return both.take(pa.array(order))


def broken_rows(broken: list[tuple[int, str, str]]) -> pa.RecordBatch:
    """Rows that could not be split into columns, as ``RAW``."""
    rows, rules, messages = zip(*broken, strict=True)
    columns = {
        "source_row": pa.array(rows, pa.int64()),
        "rule": pa.array(rules, pa.string()),
        "message": pa.array(messages, pa.string()),
    }
    return raw_batch(columns, len(rows))
