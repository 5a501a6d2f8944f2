"""What the columns of a table mean, by their names: a documented table of names, no guessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.sources.columns import HASHED
from ea_arrow.sources.formats import LAYOUTS, Layout, Option, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ea_arrow.sources.base import ClassKey, UnitKey

UNITS: Final[Mapping[str, UnitKey]] = {
    **dict.fromkeys(("data_hash", "unit"), "data_hash"),
    **dict.fromkeys(("source_id", "image_id"), "source_id"),
    **dict.fromkeys(("file_name", "filename", "image_name", "image_path", "title"), "title"),
    **dict.fromkeys(("file", "image"), "title"),
}
"""Columns that name the data unit, the first one that is there; and how."""

CLASSES: Final[Mapping[str, ClassKey]] = {
    **dict.fromkeys(HASHED, "feature_hash"),
    "category_id": "source_id",
    **dict.fromkeys(("class_name", "category_name", "class", "label", "category"), "name"),
    **dict.fromkeys(("class_index", "class_id"), "index"),
}
"""Columns that name the class, the first one that is there; and how."""

CONFIDENCES: Final = (
    *("confidence", "score", "confidence_score", "scores", "conf", "probability", "prob"),
)
"""Columns of the confidence, the first one that is there."""

_EDGES: Final = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_CORNERS: Final = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("left", "top", "w", "h"),
)
_CENTRES: Final = (
    ("cx", "cy", "w", "h"),
    ("cx", "cy", "width", "height"),
    ("x_center", "y_center", "width", "height"),
    ("center_x", "center_y", "width", "height"),
)
BOXES: Final[Mapping[tuple[str, ...], Layout]] = {
    **dict.fromkeys((("bbox",), ("bboxes",), ("box",)), "xywh"),
    **{tuple(f"bbox_{side}" for side in sides): "xywh" for sides in _CORNERS},
    **{tuple(f"bbox_{side}" for side in sides): "xyxy" for sides in _EDGES},
    **dict.fromkeys(_CORNERS, "xywh"),
    **dict.fromkeys(_EDGES, "xyxy"),
    **dict.fromkeys(_CENTRES, "cxcywh"),
}
"""Columns of a box, one of a list or four of numbers; and the order of the numbers."""

OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "frame": ("frame",),
    "format": ("format",),
    "polygon": ("polygon", "polygons"),
    "mask": ("mask", "masks", "rle"),
    "theta": ("theta",),
    "area": ("area",),
    "track_id": ("track_id", "tracker_id"),
    "probabilities": ("probabilities",),
    "attribute_hash": ("attribute_hash",),
    "option_hash": ("option_hash",),
    "is_crowd": ("is_crowd", "iscrowd"),
    "is_ignored": ("is_ignored", "ignored"),
}
"""Columns of the same meaning as those of ``RAW``, and their other names."""

SIZES: Final = (("image_width", "image_height"), ("width", "height"))
"""Columns of the data unit's width and height, the first pair that no box takes."""

OWN: Final = frozenset(("iteration", "prediction_id", "label_id", "source_row", "unit_id"))
"""Columns that a table from a project has besides, which say nothing of the row."""

_EXPORTED: Final = frozenset((("data_hash", "title"), ("feature_hash", "class_name")))
"""Columns that name what another does, and which is read: as our own exports have them."""

RELATIVE: Final = "_rel"
"""What the names of relative columns end in."""

OPTIONS: Final = (
    Option("unit", "the column that names the data unit"),
    Option("class", "the column that names the class"),
    Option("box", "the column of boxes, or four with commas between them"),
)
_LISTED: Final = 12
_UNKNOWN: Final = "columns of no known meaning, left out"


@dataclass(frozen=True)
class Plan:
    """Which column holds what; names as the file has them.

    Attributes:
        unit: The data unit, and ``unit_key``, how it is named; None if no column does.
        class_ref: The class, and ``class_key``; None if no column does.
        box: One column of lists, four of numbers, or none; and ``layout``, the order.
        others: RAW column by name: of those that are there.
        confidence: The score; None if no column has it.
        size: Width and height of the data unit.
        relative: Coordinates are fractions.
        left_out: Columns of no known meaning, or that say again what another says.
    """

    unit: str | None
    unit_key: UnitKey
    class_ref: str | None
    class_key: ClassKey
    box: tuple[str, ...]
    layout: Layout
    others: Mapping[str, str]
    confidence: str | None
    size: tuple[str, str] | None
    relative: bool
    left_out: tuple[str, ...]

    @property
    def has_shape(self) -> bool:
        """Whether there is a box, a mask, a polygon or an answer."""
        return bool(self.box) or bool({"mask", "polygon", "option_hash"} & self.others.keys())

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        given = (self.unit, self.class_ref, self.confidence, *self.box, *self.others.values())
        return list(dict.fromkeys(name for name in given if name is not None))


def plan_of(
    names: Iterable[str],
    *,
    types: Mapping[str, pa.DataType] | None = None,
    metadata: Mapping[str, str] | None = None,
    reading: Reading | None = None,
    where: str = "The table",
) -> Plan:
    """Find out what columns mean.

    Args:
        names: The names, in any case.
        types: Their types, where they have any: a class of whole numbers is an index.
        metadata: What the file says of itself: ``coordinates`` is ``relative`` or ``pixel``.
        reading: What the caller knows better.
        where: The file, for messages.

    Raises:
        SourceError: Two columns have one name, the columns of a box are of several kinds or
            incomplete, or an option names a column that is not there.
    """
    reading = reading or Reading()
    known = _Names(names, where)
    options = reading.options
    unit = known.option(options.get("unit")) or known.first(UNITS)
    class_ref = known.option(options.get("class")) or known.first(CLASSES)
    box, layout, relative_box = _box(known, reading)
    relative = _relative(known, relative_box, metadata or {}, reading)
    others = {raw: found for raw, wanted in OTHERS.items() if (found := known.first(wanted))}
    if _plain(unit) == "data_hash" and "source_id" in known:
        others["source_id"] = known.given["source_id"]
    confidence = known.first(CONFIDENCES)
    size = known.pair(set(box))
    used = {unit, class_ref, confidence, *box, *others.values(), *(size or ())}
    left_out = [n for n in known.given.values() if n not in used and n.lower() not in OWN]
    class_key = CLASSES.get(_plain(class_ref), "name")
    kind = (types or {}).get(class_ref or "")
    if class_key == "name" and kind is not None and pa.types.is_integer(kind):
        class_key = "index"
    return Plan(
        unit=unit,
        unit_key=UNITS.get(_plain(unit), "title"),
        class_ref=class_ref,
        class_key=class_key,
        box=box,
        layout=reading.box or layout,
        others=others,
        confidence=confidence,
        size=size,
        relative=relative,
        left_out=tuple(left_out),
    )


def notes_of(plan: Plan, names: Iterable[str]) -> dict[str, int]:
    """What to say of columns that are not read, and how many there are.

    Those that say again what another column says are told from those of no known meaning; those
    that our own exports have beside another need no word.

    Args:
        plan: What the columns that are read mean.
        names: The columns that are not read.

    >>> notes_of(plan_of(["image", "class", "label"]), ["label"])
    {'columns not read, as class names the class: label': 1}
    >>> notes_of(plan_of(["image", "class", "eye"]), ["eye"])
    {'columns of no known meaning, left out: eye': 1}
    """
    sides = {side for box in BOXES for side in box if plan.box}
    told: dict[str, list[str]] = {}
    for name in names:
        plain = _plain(name)
        chosen, what = next(
            (
                (chosen, what)
                for chosen, what, known in (
                    (plan.unit, "names the data unit", UNITS),
                    (plan.class_ref, "names the class", CLASSES),
                    (plan.confidence, "is the confidence", CONFIDENCES),
                    (", ".join(plan.box), "is the box", sides),
                )
                if chosen and chosen != name and plain in known
            ),
            ("", ""),
        )
        if (_plain(chosen), plain) not in _EXPORTED:
            says = f"columns not read, as {chosen} {what}"
            told.setdefault(says if chosen else _UNKNOWN, []).append(name)
    return {f"{says}: {', '.join(some)}": len(some) for says, some in told.items()}


def _plain(name: str | None) -> str:
    return (name or "").strip().lower().removesuffix(RELATIVE)


class _Names:
    """The names of a table by their lower case; those that end in ``_rel`` also without that."""

    def __init__(self, names: Iterable[str], where: str) -> None:
        self.where = where
        self.given: dict[str, str] = {}
        for name in names:
            key = name.strip().lower()
            if key in self.given and key:
                raise SourceError(f"{where} has two columns '{key}'.", hint="Rename one of them.")
            self.given[key] = name

    def __contains__(self, name: str) -> bool:
        return name in self.given or f"{name}{RELATIVE}" in self.given

    def get(self, name: str) -> str | None:
        return self.given.get(name, self.given.get(f"{name}{RELATIVE}"))

    def first(self, wanted: Iterable[str]) -> str | None:
        return next((found for name in wanted if (found := self.get(name))), None)

    def option(self, name: str | None) -> str | None:
        if name is None:
            return None
        found = self.given.get(name.strip().lower())
        if found is None:
            near = did_you_mean(name, self.given.values())
            listed = ", ".join(list(self.given.values())[:_LISTED])
            message = f"{self.where} has no column '{name}'; it has {listed}."
            raise SourceError(message, hint=near)
        return found

    def pair(self, taken: set[str]) -> tuple[str, str] | None:
        for width, height in SIZES:
            found = self.given.get(width), self.given.get(height)
            if found[0] and found[1] and not taken & set(found):
                return found[0], found[1]
        return None


def _box(known: _Names, reading: Reading) -> tuple[tuple[str, ...], Layout, bool | None]:
    """The columns of a box, their order, and whether their names say that they are relative."""
    chosen = reading.options.get("box")
    if chosen is not None:
        names = tuple(known.option(part) or "" for part in chosen.split(","))
        layout = BOXES.get(tuple(map(_plain, names)))
        if len(names) not in (1, 4) or (layout is None and reading.box is None):
            message = (
                f"{known.where}: option box is '{chosen}'; the order of its numbers is unknown."
            )
            hint = f"Give one column of lists or four, and their order: --box {'|'.join(LAYOUTS)}."
            raise SourceError(message, hint=hint)
        return names, layout or "xywh", _all_relative(known, names)
    found = [sides for sides in BOXES if all(side in known for side in sides)]
    if any(sides[2:] == ("w", "h") for sides in found):
        found = [sides for sides in found if sides[2:] != ("width", "height")]  # of the image
    if len(found) > 1:
        told = " and ".join(", ".join(sides) for sides in found)
        message = f"{known.where} has several boxes a row: {told}."
        raise SourceError(message, hint=f"Choose one: --option box={','.join(found[0])}.")
    if not found:
        _refuse_parts(known)
        return (), "xywh", None
    names = tuple(known.get(side) or "" for side in found[0])
    return names, BOXES[found[0]], _all_relative(known, names)


def _all_relative(known: _Names, names: tuple[str, ...]) -> bool | None:
    """Whether names say that values are relative; None if they say nothing."""
    ends = {name.strip().lower().endswith(RELATIVE) for name in names}
    if len(ends) > 1:
        message = f"{known.where} has a box of relative and other columns: {', '.join(names)}."
        raise SourceError(message, hint="Name all of them with _rel, or none.")
    return True if ends == {True} else None


def _refuse_parts(known: _Names) -> None:
    """Refuse edges that do not make a box: a column may be misspelt, or of another layout."""
    edges = {side for sides in BOXES if len(sides) == 4 for side in sides}
    edges -= {"width", "height", "w", "h"}
    parts = [name for name in known.given if name.removesuffix(RELATIVE) in edges]
    if len(parts) > 1:
        message = f"{known.where} has parts of a box, {', '.join(parts)}, that do not make one."
        hint = "Expected for instance bbox_x, bbox_y, bbox_w, bbox_h, or xmin, ymin, xmax, ymax."
        raise SourceError(message, hint=hint)


def _relative(
    known: _Names, of_box: bool | None, metadata: Mapping[str, str], reading: Reading
) -> bool:
    if reading.relative is not None:
        return reading.relative
    polygon = next((n for n in OTHERS["polygon"] if n in known), None)
    of_polygon = None if polygon is None or polygon in known.given else True
    said = {of_box, of_polygon} - {None}
    has_plain = (of_box is None and any(all(s in known for s in b) for b in BOXES)) or (
        polygon is not None and of_polygon is None
    )
    if said and has_plain:
        message = f"{known.where} has relative boxes beside polygons in pixels, or the reverse."
        raise SourceError(message, hint="Give all of them in the same way.")
    told = metadata.get("coordinates")
    if told not in (None, "relative", "pixel"):
        message = f"{known.where}: its coordinates are '{told}'; expected relative or pixel."
        raise SourceError(message, hint="Correct the file's metadata.")
    return bool(said) or told == "relative"
