"""Objects as columns, in the order in which quality metrics work on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.geometry import polygon_areas_and_boxes
from ea_arrow.schema import BOX, FORMATS

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """Data units (U) in order of evaluation.

    Attributes:
        width: In pixels, shape (U,).
        height: In pixels, shape (U,).
        video: Which video or image group a data unit belongs to, shape (U,): data units of one
            number are frames of one sequence; every image that is in none has a number of its own.
        place: The place of each within its sequence, by frame and then order of evaluation, (U,).
    """

    width: Floats
    height: Floats
    video: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.width)

    @classmethod
    def of(cls, data_units: pa.Table) -> Units:
        """Take them from ``DATA_UNITS`` in order of ``unit_id``."""
        n = len(data_units)
        frame = data_units["frame"].to_numpy()
        group = data_units["group"].combine_chunks()
        hashes = data_units["data_hash"].combine_chunks()
        named = pc.if_else(group.is_valid(), pc.binary_join_element_wise("g", group, ""), hashes)
        video = pc.dictionary_encode(named).indices.to_numpy().astype(np.int64)
        order = np.lexsort((np.arange(n), frame, video))
        place = np.zeros(n, dtype=np.int64)
        if n:
            heads = np.flatnonzero(np.append(True, video[order][1:] != video[order][:-1]))
            place[order] = np.arange(n) - np.repeat(heads, np.diff(heads, append=n))
        size = [data_units[name].to_numpy().astype(np.float64) for name in ("width", "height")]
        return cls(size[0], size[1], video, place)


@dataclass(frozen=True)
class Objects:
    """Object predictions or labels (n) of any number of data units.

    Attributes:
        units: The data units.
        unit: Which data unit each is in, shape (n,), an index into ``units``.
        klass: Class of each, an index, shape (n,).
        ids: ``prediction_id`` or ``label_id``, shape (n,).
        box: Left, top, width, height in pixels, shape (n, 4): the enclosing box, of a rotated box
            the box before it was turned.
        area: Area in pixels² of the shape itself (mask, polygon or box), shape (n,).
        format: Index into ``schema.FORMATS``, shape (n,).
        track: Index of its track, −1 without one, shape (n,).
        theta: Rotation of the box in degrees, NaN without one, shape (n,).
        polygon: ``POLYGON`` column, null where the object is none; None if it was not read.
        mask: ``MASK`` column, null where the object has none; None if it was not read.
        confidence: Scores of predictions, shape (n,); NaN for labels.
        probabilities: List column of class probabilities, or None.
    """

    units: Units
    unit: Ints
    klass: Ints
    ids: Ints
    box: Floats
    area: Floats
    format: Ints
    track: Ints
    theta: Floats
    polygon: pa.Array | None
    mask: pa.Array | None
    confidence: Floats
    probabilities: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.unit)

    @classmethod
    def of(cls, table: pa.Table, data_units: pa.Table, classes: pa.Table) -> Objects:
        """Take them from ``PREDICTIONS`` or ``LABELS``; classifications are left out.

        Args:
            table: The rows; ``mask`` and ``polygon`` may be missing.
            data_units: ``DATA_UNITS`` in order of ``unit_id``.
            classes: ``CLASSES``; the index of a class is its place among the objects.
        """
        table = table.filter(pc.not_equal(table["format"].cast(pa.string()), "classification"))
        objects = classes.filter(pc.equal(classes["kind"], "object"))

        def numbers(name: str) -> Any:
            if name not in table.schema.names:
                return np.full(len(table), np.nan)
            return table[name].to_numpy().astype(np.float64)

        def codes(name: str, values: pa.Array) -> Any:
            column = table[name].combine_chunks().cast(pa.string())
            return pc.index_in(column, values).fill_null(-1).to_numpy().astype(np.int64)

        def column(name: str) -> pa.Array | None:
            return table[name].combine_chunks() if name in table.schema.names else None

        tracks = column("track_id")
        track = np.full(len(table), -1)
        if tracks is not None:
            found = pc.dictionary_encode(tracks).indices.fill_null(-1)
            track = found.to_numpy().astype(np.int64)
        key = "prediction_id" if "prediction_id" in table.schema.names else "label_id"
        return cls(
            Units.of(data_units),
            unit_rows(table, data_units),
            codes("feature_hash", objects["feature_hash"].combine_chunks()),
            table[key].to_numpy(),
            np.stack([numbers(name) for name in BOX], axis=1),
            _areas(numbers("area"), column("polygon"), column("mask")),
            codes("format", pa.array(FORMATS)),
            track,
            numbers("theta"),
            column("polygon"),
            column("mask"),
            numbers("confidence"),
            column("probabilities"),
        )


def _areas(given: Floats, polygon: pa.Array | None, mask: pa.Array | None) -> Floats:
    """Areas of the shapes themselves: the source may give those of boxes, as COCO results do."""
    area = given.copy()
    if polygon is not None and polygon.null_count < len(polygon):
        there = polygon.is_valid().to_numpy(zero_copy_only=False)
        area[there] = polygon_areas_and_boxes(polygon)[0][there]
    if mask is not None and mask.null_count < len(mask):
        there = mask.is_valid().to_numpy(zero_copy_only=False)
        area[there] = pc.struct_field(mask, "area").to_numpy(zero_copy_only=False)[there]
    return area


def unit_rows(table: pa.Table, data_units: pa.Table) -> Ints:
    """Return the row of each object's data unit, shape (n,).

    Args:
        table: Rows with ``data_hash`` and ``frame``, all of data units that are there.
        data_units: ``DATA_UNITS``.
    """
    hashes = data_units["data_hash"].combine_chunks()
    distinct = hashes.unique()
    frames = int(pc.max(data_units["frame"]).as_py() or 0) + 1
    theirs = pc.index_in(hashes, distinct).to_numpy().astype(np.int64)
    key = theirs * frames + data_units["frame"].to_numpy()
    order = np.argsort(key)
    mine = pc.index_in(table["data_hash"].combine_chunks().cast(pa.string()), distinct)
    wanted = mine.to_numpy().astype(np.int64) * frames + table["frame"].to_numpy()
    rows: Ints = order[np.searchsorted(key[order], wanted)]
    return rows
