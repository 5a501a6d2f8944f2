"""Refused rows of an iteration that another reading might keep, out of their payloads."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.joining import UNIT_KEYS
from ea_arrow.lookup import UnitIndex
from ea_arrow.schema import BOX, REJECTS

if TYPE_CHECKING:
    from ea_arrow.arranged import Floats, Ints
    from ea_arrow.store import Iteration, Store

MENDABLE: Final = frozenset(
    {"invalid_box", "box_out_of_range", "unknown_class", "unknown_data_unit"}
)
MOST_READ: Final = 100_000


@dataclass(frozen=True)
class Refused:
    """Rows that were refused for nothing but what another reading changes (R).

    Attributes:
        row: Where each stands in its file.
        units: What each calls its data unit.
        frame: Its frame.
        classes: What each calls its class.
        confidence: Score.
        box: Left, top, width, height in the coordinates of the file (R, 4); NaN without.
        unknown_unit: Whether each was refused for its data unit.
        rules: How many rows of the iteration broke each rule, whether or not they are here.
        left_out: How many more there are: of masks and polygons, which are not kept whole, or too
            many to read.
    """

    row: Ints
    units: list[str | None]
    frame: Ints
    classes: list[str | None]
    confidence: Floats
    box: Floats
    unknown_unit: Any
    rules: dict[str, int]
    left_out: int

    def __len__(self) -> int:
        return len(self.row)

    def unit_codes(self, data_units: pa.Table) -> Ints:
        """The data unit of each, −1 if unknown, under the key that finds most of those known."""
        best = np.full(len(self), -1)
        for key in UNIT_KEYS:
            found = self.found_by(key, data_units)
            found[self.unknown_unit] = -1
            if (found >= 0).sum() > (best >= 0).sum():
                best = found
        return best

    def found_by(self, key: str, data_units: pa.Table) -> Ints:
        """The data unit of each under a key of ``--match``, −1 where there is none."""
        return UnitIndex(data_units, key).find(pa.array(self.units, pa.string()), self.frame)


def read_refused(store: Store, iteration: Iteration) -> Refused:
    """Read the rows of an iteration that were refused."""
    rows = store.live_rows(REJECTS)
    rows = rows.filter(pc.equal(rows["iteration"], iteration.name).fill_null(False))
    counts = pc.value_counts(pc.list_flatten(rows["rules"])).to_pylist()
    found, left_out = [], max(rows.num_rows - MOST_READ, 0)
    # A payload is JSON text: there is no other way than to parse each, so their number is bounded.
    for rules, payload, row in _columns(rows):
        if set(rules) <= MENDABLE:
            parsed = _parsed(payload)
            left_out += parsed is None
            if parsed is not None:
                found.append((row, "unknown_data_unit" in rules, parsed))
    return Refused(
        row=np.array([row for row, _, _ in found], np.int64),
        units=[_text(p.get("unit")) for _, _, p in found],
        frame=np.array([_whole(p.get("frame")) for _, _, p in found], np.int64),
        classes=[_text(p.get("class_ref")) for _, _, p in found],
        confidence=np.array([float(p["confidence"]) for _, _, p in found], np.float64),
        box=np.array([_box(p) for _, _, p in found], np.float64).reshape(-1, 4),
        unknown_unit=np.array([unknown for _, unknown, _ in found], bool),
        rules={count["values"]: count["counts"] for count in counts},
        left_out=left_out,
    )


def _columns(rows: pa.Table) -> Any:
    rows = rows.slice(0, MOST_READ)
    names = ("rules", "payload", "source_row")
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def _parsed(payload: str | None) -> dict[str, Any] | None:
    """A payload as it was read, if it is whole and of an object with a score."""
    try:
        parsed = json.loads(payload or "")
    except ValueError:  # cut to its longest length
        return None
    if not isinstance(parsed, dict) or parsed.get("format") != "bounding_box":
        return None
    confidence = parsed.get("confidence")
    known = isinstance(confidence, int | float) and math.isfinite(confidence)
    return parsed if known else None


def _box(parsed: dict[str, Any]) -> list[float]:
    numbers = [parsed.get(name) for name in BOX]
    return [float(n) if isinstance(n, int | float) else math.nan for n in numbers]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0
