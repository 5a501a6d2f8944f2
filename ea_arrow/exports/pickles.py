"""A pickled list of ``Prediction`` objects, which Encord Active's importers and ours take.

Coordinates are fractions. Where a fraction exists that gives the pixels back exactly, it is that
one; for the others, which are counted, it is the nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.exports.base import Account, Subject, Target, floats, given, is_format, pieces
from ea_arrow.exports.fractions import box_fractions, fractions
from ea_arrow.exports.pickle_script import (
    HEAD,
    MODULES,
    OBJECT_KINDS,
    TAIL,
    Script,
    bytes_code,
    float_slot,
    int_slot,
    text_slot,
)
from ea_arrow.exports.shapes import dense, differs_from_shape
from ea_arrow.exports.text import joined
from ea_arrow.rasterise import with_masks
from ea_arrow.schema import BOX
from ea_arrow.sources.formats import Option

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.arranged import Bools, Floats, Ints

_NEAR: Final = 1e-6
_PIXELS: Final = 1 << 26  # of masks, drawn in full, that are held at once


def _write(subject: Subject, folder: Path, name: str, account: Account) -> None:
    script = Script(subject.options.get("classes", "ea_arrow"))
    with (folder / name).open("wb") as file:
        file.write(HEAD)
        for batch in subject.batches():
            for part in _drawable(batch, subject, account):
                account.written += part.num_rows
                lines = _Rows(part, subject, account).lines(script)
                file.write(b"(")
                for chunk in lines:
                    file.write(chunk)
                file.write(b"e")
        file.write(TAIL)


def _drawable(
    batch: pa.RecordBatch, subject: Subject, account: Account
) -> Iterator[pa.RecordBatch]:
    """Draw polygons of several parts; cut so that masks drawn in full take little memory."""
    parts = batch.column("polygon").value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    several = is_format(batch, "polygon") & (parts != 1)
    if several.any():
        account.note("polygons of several parts written as masks", several)
        batch = _with_drawn(batch, several, subject)
    masks = batch.column("mask")
    pixels = pc.multiply(masks.field("height").cast(pa.int64()), masks.field("width"))
    held = np.where(is_format(batch, "mask"), pixels.fill_null(0).to_numpy(zero_copy_only=False), 0)
    part = np.cumsum(held) // _PIXELS
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], batch.num_rows], strict=True):
        yield from pieces(batch.slice(start, end - start))


def _with_drawn(batch: pa.RecordBatch, rows: Bools, subject: Subject) -> pa.RecordBatch:
    drawn = with_masks(pa.Table.from_batches([batch.filter(pa.array(rows))]), subject.data_units)
    at = np.where(rows, batch.num_rows + np.cumsum(rows) - 1, np.arange(batch.num_rows))
    together = pa.chunked_array([batch.column("mask"), *drawn["mask"].chunks])
    place = batch.schema.get_field_index
    masks = together.take(pa.array(at)).combine_chunks()
    forms = pc.if_else(pa.array(rows), "mask", batch.column("format"))
    columns = list(batch.columns)
    columns[place("mask")], columns[place("format")] = masks, forms
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


class _Rows:
    """A batch as slots of pickled predictions."""

    def __init__(self, batch: pa.RecordBatch, subject: Subject, account: Account) -> None:
        self.batch, self.account = batch, account
        unit = subject.unit_of(batch)
        width, height = (subject.data_units[n].to_numpy()[unit] for n in ("width", "height"))
        self.size = np.stack([width, height], axis=1).astype(np.float64)
        self.kinds = np.select(
            [is_format(batch, *names) for names in _KINDS.values()], list(range(len(_KINDS)))
        )
        account.note("boxes and areas given beside masks and polygons left out",
                     differs_from_shape(batch))  # fmt: skip
        account.note("class probabilities left out", given(batch.column("probabilities")))

    def lines(self, script: Script) -> Iterator[bytes]:
        """The predictions, in order."""
        found, order = [], []
        first = {kind: int(np.argmax(self.kinds == i)) for i, kind in enumerate(_KINDS)}
        for index, kind in sorted(enumerate(_KINDS), key=lambda item: first[item[1]]):
            rows = np.flatnonzero(self.kinds == index)
            if not len(rows):
                continue
            # The first of a kind spells out the names that the others refer to.
            new = [] if script.is_known(kind) else [(script.prediction(kind), rows[:1])]
            for parts, some in (*new, (script.prediction(kind), rows[len(new) :])):
                if len(some):
                    slots = self._slots(kind, some)
                    found.append(joined(*(p if isinstance(p, bytes) else slots[p] for p in parts)))
                    order.append(some)
        texts = pa.concat_arrays(found).take(pa.array(np.argsort(np.concatenate(order))))
        for text in texts:
            yield text.as_buffer()

    def _slots(self, kind: str, rows: Ints) -> dict[str, pa.Array]:
        batch = self.batch.take(pa.array(rows))
        slots = {n: text_slot(batch.column(n)) for n in ("data_hash", "feature_hash")}
        slots["frame"] = int_slot(batch.column("frame").to_numpy())
        slots["confidence"] = float_slot(batch.column("confidence").to_numpy())
        if kind not in OBJECT_KINDS:
            names = ("attribute_hash", "option_hash")
            return slots | {name: text_slot(batch.column(name)) for name in names}
        slots["track_id"] = text_slot(batch.column("track_id"))
        make = {"box": self._boxes, "mask": self._masks, "polygon": self._polygons}[kind]
        return slots | make(batch, self.size[rows])

    def _boxes(self, batch: pa.RecordBatch, size: Floats) -> dict[str, pa.Array]:
        pixels = floats(batch, *BOX)
        low, far = pixels[:, :2], pixels[:, :2] + pixels[:, 2:]
        outside: Bools = np.any((low < 0) | (far > size), axis=1)
        cut = np.clip(low, 0, size)
        cut = np.concatenate((cut, np.clip(far, 0, size) - cut), axis=1)
        leaves: Bools = outside & np.any(np.abs(cut - pixels) > _NEAR * np.tile(size, 2), axis=1)
        self.account.note("boxes cut at the edge of the image, as fractions end there", leaves)
        pixels = np.where(leaves[:, None], cut, pixels)
        low, extent = box_fractions(pixels, size)
        again = np.concatenate((low, extent), axis=1) * np.tile(size, 2)
        exact = (again == pixels).all(axis=1) & (low + extent <= 1).all(axis=1)
        self.account.note(_ROUNDED, ~exact)
        theta = np.nan_to_num(floats(batch, "theta")[:, 0])
        within = (theta >= 0) & (theta <= 360)
        self.account.note("rotations brought to 0 … 360 degrees", ~within)
        columns = (*low.T, *extent.T, np.where(within, theta, theta % 360))
        return dict(zip(("x", "y", "w", "h", "theta"), map(float_slot, columns), strict=True))

    def _polygons(self, batch: pa.RecordBatch, size: Floats) -> dict[str, pa.Array]:
        rings = batch.column("polygon").flatten()
        lengths = rings.value_lengths().to_numpy().astype(np.int64)
        values = rings.flatten().to_numpy()
        row = np.repeat(np.arange(len(lengths)), lengths)
        sides = size[row, np.arange(len(values)) % 2]
        inside = np.clip(values, 0, sides)
        self.account.note("polygons cut at the edge of the image, as fractions end there",
                          len(np.unique(row[np.abs(inside - values) > _NEAR * sides])))  # fmt: skip
        relative = fractions(inside, sides)
        self.account.note(_ROUNDED, len(np.unique(row[relative * sides != inside])))
        ends = np.cumsum(lengths)[:-1]
        data = [bytes_code(part.astype("<f8").tobytes()) for part in np.split(relative, ends)]
        two = np.full(len(lengths), 2)
        return {"shape": int_slot(lengths // 2, two), "bytes": pa.array(data, pa.binary())}

    def _masks(self, batch: pa.RecordBatch, size: Floats) -> dict[str, pa.Array]:
        del size
        masks = batch.column("mask")
        data = [bytes_code(pixels.tobytes()) for pixels in dense(masks)]
        height, width = (masks.field(n).to_numpy() for n in ("height", "width"))
        return {"shape": int_slot(height, width), "bytes": pa.array(data, pa.binary())}


_KINDS: Final = {
    "box": ("bounding_box", "rotatable_bounding_box"),
    "mask": ("mask",),
    "polygon": ("polygon",),
    "classification": ("classification",),
}
_ROUNDED: Final = "shapes whose pixels no fraction gives exactly: they may differ in the last place"


TARGET: Final = Target(
    name="pickle",
    doc="pickled list of Prediction objects, as Encord Active takes them",
    about="A list of Prediction objects in the order of the rows, for ea-arrow import and for "
    "Encord Active's own importer. Coordinates are fractions.",
    suffix=".pkl",
    write=_write,
    format="pickle",
    labels=False,
    options=(
        Option(
            "classes",
            "Whose classes the objects are of: those that Encord Active itself can load, or ours.",
            choices=tuple(MODULES),
            default="ea_arrow",
        ),
    ),
)
