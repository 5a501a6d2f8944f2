"""Areas, sides and counts of objects, and the join by which other metrics compare objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import pyarrow as pa

from ea_arrow.arranged import Arranged, run_starts
from ea_arrow.pairs import Boxes, Pairs, find_pairs
from ea_arrow.quality.declared import Metric
from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.pairs import Shapes
    from ea_arrow.quality.objects import Objects

    _T = TypeVar("_T")

OBJECTS_AT_ONCE = 1 << 17
SEED: Final = 0x9E3779B97F4A7C15

# -- metrics ---------------------------------------------------------------------------------------


def object_area_relative(objects: Objects) -> Floats:
    """Return 100 × area / image area, shape (n,), in per cent; NaN on an image without pixels.

    What of a box lies outside the image counts: more than 100 is possible.
    """
    return _quotient(100 * objects.area, image_area(objects)[objects.unit])


def object_area_absolute(objects: Objects) -> Floats:
    """Return the area of the shape, shape (n,), in pixels²: all of a mask, all parts."""
    return objects.area.copy()


def object_aspect_ratio(objects: Objects) -> Floats:
    """Return width / height of the enclosing box, shape (n,); NaN for height 0."""
    box = enclosing_boxes(objects)
    return _quotient(box[:, 2], box[:, 3])


def object_border_closeness(objects: Objects) -> Floats:
    """Return max(max x, max y, 1 − min x, 1 − min y) of the enclosing box, shape (n,).

    Coordinates are relative to the image: 1 touches a border, more lies beyond it; never below
    0.5. NaN on an image without pixels.
    """
    box = enclosing_boxes(objects)
    width, height = objects.units.width[objects.unit], objects.units.height[objects.unit]
    with np.errstate(over="ignore"):
        right, bottom = box[:, 0] + box[:, 2], box[:, 1] + box[:, 3]
    sides = (
        _quotient(right, width),
        _quotient(bottom, height),
        1 - _quotient(box[:, 0], width),
        1 - _quotient(box[:, 1], height),
    )
    closest: Floats = np.maximum.reduce(sides)
    return closest


def object_count(objects: Objects) -> Floats:
    """Return the number of objects of each data unit, shape (U,); 0 without any."""
    return np.bincount(objects.unit, minlength=len(objects.units)).astype(np.float64)


def random_value(objects: Objects) -> Floats:
    """Return a number from U[0, 1) per object, shape (n,): a hash of its id, always the same.

    SplitMix64 (Steele, Lea and Flood 2014) of the id; its upper 53 bits make the number.
    """
    state = (objects.ids.astype(np.uint64) + np.uint64(1)) * np.uint64(SEED)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    drawn: Floats = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


# -- what metrics share ----------------------------------------------------------------------------


def image_area(objects: Objects) -> Floats:
    """Return the pixels of each data unit, shape (U,)."""
    return objects.units.width * objects.units.height


def is_turned(objects: Objects) -> Bools:
    """Return which objects are boxes that stand at an angle, shape (n,)."""
    turned: Bools = np.isfinite(objects.theta) & (objects.theta != 0)
    return turned


def enclosing_boxes(objects: Objects) -> Floats:
    """Return left, top, width and height in pixels, shape (n, 4).

    Those of a rotated box enclose it as it stands; its columns hold it unrotated.
    """
    turned = np.flatnonzero(is_turned(objects))
    if not len(turned):
        return objects.box
    box = objects.box.copy()
    x, y, w, h = box[turned].T
    angle = np.deg2rad(objects.theta[turned])
    cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    with np.errstate(over="ignore", invalid="ignore"):  # sides of 1e308
        width, height = w * cosine + h * sine, w * sine + h * cosine
        corner = x + (w - width) / 2, y + (h - height) / 2
        box[turned] = np.stack([*corner, width, height], axis=1)
    return box


def remembered(objects: Objects, name: str, compute: Callable[[Objects], _T]) -> _T:
    """Return ``compute(objects)``, computed once: kept with the objects as a cached property is."""
    held = vars(objects)
    if name not in held:
        held[name] = compute(objects)
    found: _T = held[name]
    return found


def _quotient(one: Floats, other: Floats) -> Floats:
    """Divide; NaN where the divisor is not above 0 or the quotient is no finite number."""
    quotient = np.full(len(one), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(one, other, out=quotient, where=other > 0)
    quotient[np.isinf(quotient)] = np.nan
    return quotient


# -- pairs of objects ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One side of a join of objects.

    Attributes:
        row: Rows of objects, shape (m,).
        key: What they are joined on, ascending, shape (m,).
    """

    row: Ints
    key: Ints

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Joined:
    """Pairs of objects of one block whose boxes overlap, with the IoU of the boxes.

    Attributes:
        arranged: The order that ``pairs`` are positions in; ``row`` and ``label_row`` are rows.
        pairs: Sorted by the object of the first side.
    """

    arranged: Arranged
    pairs: Pairs

    @property
    def first(self) -> Ints:
        """Row of each pair's object of the first side."""
        return self.arranged.row[self.pairs.prediction]

    @property
    def second(self) -> Ints:
        """Row of each pair's object of the second side."""
        return self.arranged.label_row[self.pairs.label]


class _Once:
    """Compares each pair of a join with itself once, and none with itself."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def near(self, prediction: Ints, label: Ints, lowest: float) -> tuple[Ints, Floats]:
        later = np.flatnonzero(label > prediction)
        kept, bound = self._shapes.near(prediction[later], label[later], lowest)
        return later[kept], bound

    def exact(self, pairs: Pairs) -> Floats:
        return self._shapes.exact(pairs)


def overlapping(
    objects: Objects, first: Side, second: Side | None, lowest: float
) -> Iterator[Joined]:
    """Join objects on a key and yield, block by block, pairs whose boxes reach an IoU.

    Args:
        objects: The objects.
        first: One side.
        second: The other; None compares the first with itself, each pair once, the one that stands
            first in ``first`` as its prediction.
        lowest: IoU of enclosing boxes, above 0.
    """
    box = enclosing_boxes(objects)
    table = pa.table({name: box[:, i] for i, name in enumerate(BOX)})
    for one, other in _blocks(first, first if second is None else second):
        arranged = arranged_for(objects, one, other)
        shapes: Shapes = Boxes(arranged, table, table)
        if second is None:
            shapes = _Once(shapes)
        yield Joined(arranged, find_pairs(arranged, shapes, lowest, 1))


def _blocks(first: Side, second: Side) -> Iterator[tuple[Side, Side]]:
    """Cut into ranges of about ``OBJECTS_AT_ONCE``, equal keys together."""
    if not len(first):
        return
    starts = run_starts(first.key)
    begins = starts[run_starts(starts // OBJECTS_AT_ONCE)]
    ends = np.append(begins[1:], len(first))
    low = np.searchsorted(second.key, first.key[begins])
    high = np.searchsorted(second.key, first.key[ends - 1], side="right")
    columns = (begins.tolist(), ends.tolist(), low.tolist(), high.tolist())
    for begin, end, a, b in zip(*columns, strict=True):
        yield (
            Side(first.row[begin:end], first.key[begin:end]),
            Side(second.row[a:b], second.key[a:b]),
        )


def arranged_for(objects: Objects, first: Side, second: Side) -> Arranged:
    """Return objects as the predictions and labels of a match; none is a crowd."""
    n, m = len(first), len(second)
    none, nothing, no = np.zeros(max(n, m), np.int64), np.zeros(max(n, m)), np.zeros(m, bool)
    return Arranged(
        n_classes=1,
        row=first.row,
        prediction_id=objects.ids[first.row],
        group=first.key,
        klass=none[:n],
        rank=none[:n],
        score_rank=none[:n],
        confidence=nothing[:n],
        area=nothing[:n],
        label_row=second.row,
        label_id=objects.ids[second.row],
        label_group=second.key,
        label_area=nothing[:m],
        is_crowd=no,
        is_ignored=no,
        has_id_zero=no,
    )


_ENCORD = "Encord Active"

METRICS: Final = (
    Metric(
        "object_area_relative",
        "Object Area - Relative",
        ("prediction", "label"),
        ("geometry",),
        "Area of the object in per cent of the image's.",
        f"100 · area / (W · H): {_ENCORD}",
        "both",
        object_area_relative,
    ),
    Metric(
        "object_area_absolute",
        "Object Area - Absolute",
        ("prediction", "label"),
        ("geometry",),
        "Area of the object in pixels²: all of a mask, all parts of a polygon.",
        _ENCORD,
        "both",
        object_area_absolute,
    ),
    Metric(
        "object_aspect_ratio",
        "Object Aspect Ratio",
        ("prediction", "label"),
        ("geometry",),
        "Width by height of the enclosing box; none for height 0.",
        f"w / h: {_ENCORD}",
        "both",
        object_aspect_ratio,
    ),
    Metric(
        "object_border_closeness",
        "Annotation Closeness to Image Borders",
        ("prediction", "label"),
        ("geometry",),
        "How close the enclosing box comes to a border: 1 touches it, more lies beyond it.",
        f"max(max x, max y, 1 − min x, 1 − min y), relative: {_ENCORD}",
        "high",
        object_border_closeness,
    ),
    Metric(
        "object_count",
        "Object Count",
        ("prediction", "label"),
        (),
        "Objects of the data unit, classifications not counted.",
        _ENCORD,
        "both",
        object_count,
        per_unit=True,
    ),
    Metric(
        "random_value",
        "Random Values on Objects",
        ("prediction", "label"),
        (),
        "A number from 0 to 1 that only the object's id decides: the same in every run.",
        "SplitMix64 of the id (Steele, Lea and Flood 2014)",
        "none",
        random_value,
    ),
)
