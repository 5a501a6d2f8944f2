"""One RAW batch, joined to a project and checked: every rule is a boolean column.

Geometry is checked in the coordinates of the source and converted to pixels on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow import row_keys
from ea_arrow.errors import SchemaError
from ea_arrow.geometry import polygon_areas_and_boxes
from ea_arrow.ledger import REJECTS
from ea_arrow.lookup import HASHES, ClassIndex, UnitIndex
from ea_arrow.schema import BOX, FORMATS, MASK, POLYGON

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.sources.base import Coordinates

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]

TOLERANCE: Final = 1e-6
"""How far outside [0, 1] a relative coordinate may lie: float noise, clipped and counted."""

# Arrays made of Python's values are made once: pyarrow looks for pandas each time it makes one.
_FORMATS: Final = pa.array(FORMATS)
ODD_SUM: Final = 1e-3
"""How far from 1 the probabilities of a distribution may add up to."""

_SHAPES: Final = {
    "bounding_box": pa.array(("bounding_box", "rotatable_bounding_box", "any")),
    "rotatable_bounding_box": pa.array(("rotatable_bounding_box", "any")),
    "polygon": pa.array(("polygon", "any")),
    "mask": pa.array(("bitmask", "any")),
}


def _numbers(raw: pa.RecordBatch, name: str) -> Floats:
    """A copy of a column of numbers, NaN where it is null."""
    return np.array(raw.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


class Checks:
    """One batch on its way: columns as arrays, rules and notes as flags."""

    def __init__(
        self,
        raw: pa.RecordBatch,
        units: UnitIndex,
        classes: ClassIndex,
        coordinates: Coordinates,
        kind: str,
    ) -> None:
        self.raw, self.units, self.classes = raw, units, classes
        self.relative, self.kind = coordinates.relative, kind
        self.reach = max(coordinates.reach, TOLERANCE)
        self.n = raw.num_rows
        self.source_row = raw.column("source_row").to_numpy()
        self.rules: dict[str, Flags] = {}
        self.notes: dict[str, Flags] = {}
        codes = pc.index_in(raw.column("format"), _FORMATS).fill_null(-1)
        self.format = codes.to_numpy().astype(np.int64)
        self.is_object = self.format != FORMATS.index("classification")
        # Column by column in memory: what runs over a row's four numbers runs over whole columns.
        self.box = np.stack([_numbers(raw, name) for name in BOX]).T
        self.theta = _numbers(raw, "theta")
        self.polygon = raw.column("polygon")
        self.mask = raw.column("mask")

    def run(self) -> None:
        """Join, check and convert, in the order in which the steps need each other."""
        self._read_by_source()
        self._join()
        if self.kind == "predictions":
            self._check_confidence()
        self._check_polygons()
        self._check_masks()
        self._check_boxes()
        if self.relative:
            self._to_pixels()
        self._derive()
        self._compare_shapes()
        unlisted = self.rules.keys() - REJECTS.keys()
        if unlisted:
            raise SchemaError(f"A reader uses rules that the ledger does not list: {unlisted}.")
        self.rules = {rule: self.rules[rule] for rule in REJECTS if rule in self.rules}

    def refused(self) -> Flags:
        """Rows that break a rule."""
        refused = np.zeros(self.n, dtype=bool)
        for flags in self.rules.values():
            refused |= flags
        return refused

    def _broken(self, rule: str, flags: Flags) -> None:
        if flags.any():
            flags = flags & ~self.unread
            self.rules[rule] = self.rules.get(rule, np.zeros(self.n, dtype=bool)) | flags

    def _note(self, note: str, flags: Flags) -> None:
        if flags.any():
            self.notes[note] = self.notes.get(note, np.zeros(self.n, dtype=bool)) | flags

    def _read_by_source(self) -> None:
        """Rows the reader could not read: only its own rule says anything about them."""
        rules = self.raw.column("rule")
        self.unread = rules.is_valid().to_numpy(zero_copy_only=False)
        if self.unread.any():
            for rule in rules.unique().drop_null().to_pylist():
                flags = pc.equal(rules, rule).fill_null(False).to_numpy(zero_copy_only=False)
                self.rules[rule] = flags

    def _join(self) -> None:
        raw = self.raw
        frame = raw.column("frame").fill_null(0).to_numpy()
        unit = raw.column("unit")
        self.unit = self.units.find(unit, frame)
        missing = unit.is_null().to_numpy(zero_copy_only=False)
        self._broken("missing_data_unit", missing)
        self._broken("unknown_data_unit", (self.unit < 0) & ~missing)
        found = self.classes.find_objects(raw.column("class_ref"))
        if not self.is_object.all():
            hashes = [raw.column(n) for n in ("class_ref", *HASHES)]
            found = np.where(self.is_object, found, self.classes.find_options(hashes))
        self.class_row = found
        missing = raw.column("class_ref").is_null().to_numpy(zero_copy_only=False)
        self._broken("missing_class", missing)
        self._broken("unknown_class", (found < 0) & ~missing)
        self._broken("bad_format", self.format < 0)
        known = np.maximum(self.unit, 0)
        empty = len(self.units.width) == 0
        self.width = np.ones(self.n) if empty else self.units.width[known]
        self.height = np.ones(self.n) if empty else self.units.height[known]

    def _check_confidence(self) -> None:
        confidence = self.raw.column("confidence")
        missing = confidence.is_null().to_numpy(zero_copy_only=False)
        self._broken("missing_confidence", missing)
        values = _numbers(self.raw, "confidence")
        self._broken("not_finite", ~np.isfinite(values) & ~missing)
        self._note("beyond_one", (values < 0) | (values > 1))
        self._check_probabilities()

    def _check_probabilities(self) -> None:
        """Note what is no distribution, as that of a model with a sigmoid per class."""
        lists = self.raw.column("probabilities")
        if lists.null_count == self.n:
            return
        values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        row = np.repeat(np.arange(self.n), _lengths(lists))
        with np.errstate(invalid="ignore"):
            sums = np.bincount(row, weights=values, minlength=self.n)
            proper = np.abs(sums - 1) <= ODD_SUM
        proper[row[~(values >= 0)]] = False
        self._note("no_distribution", _given(lists) & ~proper)

    def _check_polygons(self) -> None:
        self._drop_odd_rings()
        self.has_polygon = self.polygon.is_valid().to_numpy(zero_copy_only=False)
        wanted = self.format == FORMATS.index("polygon")
        if not self.has_polygon.any():
            self._broken("invalid_polygon", wanted)
            self.polygon_box = np.zeros((self.n, 4))
            self.polygon_area = np.zeros(self.n)
            return
        rings = self.polygon.flatten()
        values = rings.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        sizes = _lengths(rings)
        row = np.repeat(np.repeat(np.arange(self.n), _lengths(self.polygon)), sizes)
        self._broken("not_finite", self._rows_of(row[~np.isfinite(values)]))
        points = np.bincount(row, minlength=self.n) // 2
        self._broken("invalid_polygon", wanted & (points < 3))
        size = np.where(np.arange(values.size) & 1, self.height[row], self.width[row])
        limit = np.ones(values.size) if self.relative else size
        clipped = np.clip(values, 0, limit)
        outside = values != clipped
        if self.relative and self.kind == "predictions":
            far = (values < -self.reach) | (values > 1 + self.reach)
            near = outside & (values >= -TOLERANCE) & (values <= 1 + TOLERANCE)
            self._broken("polygon_out_of_range", self._rows_of(row[far]))
            self._note("clipped", self._rows_of(row[near]))
            self._note("outside", self._rows_of(row[outside & ~near & ~far]))
            values = np.where(near, clipped, values)
        else:
            self._note("outside", self._rows_of(row[outside & np.isfinite(values)]))
        with np.errstate(over="ignore", invalid="ignore"):
            if self.relative:
                values = values * size
            # The offsets of a slice start anywhere, and those under a null may hold values.
            inner = pa.ListArray.from_arrays(_offsets(sizes), pa.array(values))
            absent = pa.array(~self.has_polygon)
            self.polygon = pa.ListArray.from_arrays(
                _offsets(_lengths(self.polygon)), inner, type=POLYGON, mask=absent
            )
            self.polygon_area, self.polygon_box = polygon_areas_and_boxes(self.polygon)

    def _drop_odd_rings(self) -> None:
        """Refuse polygons with half a point: the points of all others would be read askew."""
        odd = _lengths(self.polygon.flatten()) % 2 == 1
        if odd.any():
            rows = self._rows_of(np.repeat(np.arange(self.n), _lengths(self.polygon))[odd])
            self._broken("invalid_polygon", rows)
            self.polygon = pc.if_else(pa.array(rows), pa.scalar(None, POLYGON), self.polygon)

    def _rows_of(self, rows: NDArray[np.int64]) -> Flags:
        flags = np.zeros(self.n, dtype=bool)
        flags[rows] = True
        return flags

    def _check_masks(self) -> None:
        self.has_mask = self.mask.is_valid().to_numpy(zero_copy_only=False)
        wanted = self.format == FORMATS.index("mask")
        self._broken("invalid_mask", wanted & ~self.has_mask)
        fields = {name: np.zeros(self.n) for name in _MASK_NUMBERS}
        if self.has_mask.any():
            for name in _MASK_NUMBERS:
                fields[name] = self.mask.field(name).to_numpy(zero_copy_only=False).astype(float)
        self.mask_fields = fields
        wrong = (fields["height"] != self.height) | (fields["width"] != self.width)
        self._broken("mask_size", self.has_mask & wrong & (self.unit >= 0))

    def _check_boxes(self) -> None:
        sides = np.stack([_given(self.raw.column(name)) for name in BOX]).T
        given, complete = sides.any(axis=1), sides.all(axis=1)
        finite = np.isfinite(self.box).all(axis=1)
        wanted = self.format <= FORMATS.index("rotatable_bounding_box")
        wanted &= self.format >= 0
        self._broken("invalid_box", (wanted | given) & ~complete)
        infinite: Flags = np.any(sides & ~np.isfinite(self.box), axis=1)
        self._broken("not_finite", infinite)
        rotated = _given(self.raw.column("theta"))
        self._broken("not_finite", rotated & ~np.isfinite(self.theta))
        negative = finite & ((self.box[:, 2] < 0) | (self.box[:, 3] < 0))
        self._broken("invalid_box", negative)
        self.has_box = finite & ~negative
        self._check_box_range()

    def _check_box_range(self) -> None:
        x, y, w, h = self.box.T
        limit_x, limit_y = (1.0, 1.0) if self.relative else (self.width, self.height)
        with np.errstate(invalid="ignore", over="ignore"):
            right, bottom = x + w, y + h
            outside = (x < 0) | (y < 0) | (right > limit_x) | (bottom > limit_y)
            low, high = np.minimum(x, y), np.maximum(np.maximum(x, y), np.maximum(right, bottom))
            far = (low < -self.reach) | (high > 1 + self.reach)
            beyond = (low < -TOLERANCE) | (high > 1 + TOLERANCE)
        outside &= self.has_box
        if not (self.relative and self.kind == "predictions"):
            self._note("outside", outside)
            tiny = (w > 0) & (h > 0) & (right <= 1) & (bottom <= 1)
            self._note("within_one_pixel", tiny & self.has_box & (not self.relative))
            return
        self._broken("box_out_of_range", far & self.has_box)
        self._note("outside", outside & beyond & ~far)
        near = outside & ~beyond
        if near.any():
            self._note("clipped", near)
            low = np.clip(self.box[near, :2], 0, 1)
            high = np.clip(self.box[near, :2] + self.box[near, 2:], 0, 1)
            inside = np.minimum(self.box[near, 2:], 1 - low)
            moved = low != self.box[near, :2]
            self.box[near, 2:] = np.where(moved, high - low, inside)
            self.box[near, :2] = low

    def _to_pixels(self) -> None:
        with np.errstate(over="ignore"):
            self.box *= np.stack([self.width, self.height, self.width, self.height]).T

    def _derive(self) -> None:
        """Boxes and areas of masks and polygons that came without."""
        mask = self.mask_fields
        without = ~self.has_box & self.is_object
        from_mask = without & self.has_mask
        from_polygon = without & ~self.has_mask & self.has_polygon
        if from_mask.any():
            mask_box = np.stack([mask[n] for n in ("x", "y", "w", "h")], axis=1)
            self.box[from_mask] = mask_box[from_mask]
        self.box[from_polygon] = self.polygon_box[from_polygon]
        with np.errstate(invalid="ignore", over="ignore"):
            box_area = self.box[:, 2] * self.box[:, 3]
        own = np.where(self.has_polygon, self.polygon_area, box_area)
        own = np.where(self.has_mask, mask["area"], own)
        given = _given(self.raw.column("area"))
        self.area = np.where(given, _numbers(self.raw, "area"), own)
        self._broken("not_finite", given & ~np.isfinite(self.area))
        measured = np.isfinite(self.box).all(axis=1) & np.isfinite(self.area)
        self._broken("not_finite", self.is_object & ~measured & ~self.refused())  # too large
        turned = (self.format == FORMATS.index("bounding_box")) & (np.nan_to_num(self.theta) != 0)
        self.format[turned] = FORMATS.index("rotatable_bounding_box")
        self.theta[self.theta == 0] = np.nan

    def _compare_shapes(self) -> None:
        shapes = self.classes.objects["shape"].combine_chunks()
        if len(shapes) == 0:
            return
        fits = np.stack(
            [
                pc.is_in(shapes, _SHAPES[f]).to_numpy(zero_copy_only=False)
                if f in _SHAPES
                else np.ones(len(shapes), dtype=bool)
                for f in FORMATS
            ]
        )
        rows = np.clip(self.class_row, 0, len(shapes) - 1)
        compared = self.is_object & (self.class_row >= 0) & (self.format >= 0)
        self._note("shape_differs", compared & ~fits[np.maximum(self.format, 0), rows])

    def columns(self) -> dict[str, Any]:
        """Every column of PREDICTIONS and LABELS but the row's own id."""
        raw, units = self.raw, self.units
        unit = pa.array(np.maximum(self.unit, 0), mask=self.unit < 0)
        row = pa.array(np.maximum(self.class_row, 0), mask=(self.class_row < 0) | ~self.is_object)
        feature = self.classes.objects["feature_hash"].combine_chunks().take(row)
        if not self.is_object.all():
            feature = pc.if_else(pa.array(self.is_object), feature, raw.column("class_ref"))
        numbers = {name: _nullable(self.box[:, i]) for i, name in enumerate(BOX)}
        numbers |= {"theta": _nullable(self.theta), "area": _nullable(self.area)}
        return {
            "data_hash": units.hashes.take(unit),
            "frame": pa.array(units.frame).take(unit),
            "format": _FORMATS.take(pa.array(np.maximum(self.format, 0), mask=self.format < 0)),
            "feature_hash": feature,
            **{n: raw.column(n) for n in (*HASHES, "confidence", "track_id", "probabilities")},
            **{n: raw.column(n) for n in ("source_row", "source_id")},
            **{n: raw.column(n).fill_null(False) for n in ("is_crowd", "is_ignored")},
            "mask": self.mask,
            "polygon": self.polygon,
            **numbers,
        }

    def keys(self, *, ids: bool = True) -> NDArray[np.uint64]:
        """A 64-bit key of each row's content: equal rows have equal keys.

        Args:
            ids: Whether rows that differ in nothing but the source's id are different.
        """
        parts = [self.unit, self.class_row, self.format]
        parts += [self.box[:, i] for i in range(4)]
        parts += [self.theta, self.area, _numbers(self.raw, "confidence")]
        # Every part takes part in every batch: a row's key must not depend on its neighbours.
        absent = np.zeros(self.n, dtype=np.uint64)
        parts += [
            self.raw.column(name).fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("is_crowd", "is_ignored")
        ]
        for name in ("track_id", "option_hash", *(("source_id",) if ids else ())):
            column = self.raw.column(name).cast(pa.binary())
            parts.append(row_keys.of_bytes(column) if column.null_count < self.n else absent)
        has_mask, has_polygon = self.has_mask.any(), self.has_polygon.any()
        parts.append(row_keys.of_bytes(self.mask.field("counts")) if has_mask else absent)
        parts.append(row_keys.of_polygons(self.polygon) if has_polygon else absent)
        return row_keys.combined(parts, self.n)


_MASK_NUMBERS: Final = tuple(f.name for f in MASK if f.name != "counts")


def _given(column: pa.Array) -> Flags:
    flags: Flags = column.is_valid().to_numpy(zero_copy_only=False)
    return flags


def _lengths(lists: pa.ListArray) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    return lengths


def _offsets(lengths: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
