"""The data units and classes of a table of labels, found by a first pass over it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology
from ea_arrow.sources.columns import Problems, texts, whole
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.table_base import arrow_errors
from ea_arrow.sources.table_plan import CLASSES, UNITS
from ea_arrow.sources.truth import unit_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ea_arrow.sources.base import ClassKey
    from ea_arrow.sources.table_base import Block, TableFile
    from ea_arrow.sources.table_plan import Plan

MOST_CLASSES: Final = 100_000
"""A table of more classes than this is not one of labels: is another column the class?"""

Unit = tuple[str, int]
"""A data unit: its name and frame."""

Size = tuple[int, int]


class Survey:
    """What occurs in tables of labels.

    Attributes:
        units: Width and height of each data unit, where a row says them; by name and frame.
        titles: Of data units that are not named by it.
        classes: The classes, with their names if another column has them.
        has_answers: Whether there are answers to classifications.
    """

    def __init__(self) -> None:
        self.units: dict[Unit, Size | None] = {}
        self.titles: dict[Unit, str] = {}
        self.classes: dict[str, str | None] = {}
        self.has_answers = False

    def add(self, table: TableFile, plan: Plan) -> None:
        """Look at a table.

        Raises:
            SourceError: A data unit has two sizes, or there are too many classes.
        """
        title, name = names_beside(table, plan)
        given = (plan.unit, plan.class_ref, title, name, *(plan.size or ()))
        extra = [plan.others[raw] for raw in ("frame", "option_hash") if raw in plan.others]
        columns = list(dict.fromkeys(n for n in (*given, *extra) if n is not None))
        with arrow_errors(table.path):
            for block in table.blocks(columns):
                self._units(block, plan, title, table.path)
                self._classes(block, plan, name, table.path)

    def look(self, block: Block, plan: Plan, path: Path) -> None:
        """Look at a block: at nothing but what the plan names."""
        self._units(block, plan, None, path)
        self._classes(block, plan, None, path)

    def without_size(self) -> list[str]:
        """The data units whose size is not known, by name."""
        return [name for (name, _), size in self.units.items() if size is None]

    def _units(self, block: Block, plan: Plan, title: str | None, path: Path) -> None:
        unit, frame = plan.unit, plan.others.get("frame")
        columns = [
            _texts(block, unit),
            whole("frame", block.columns[frame], Problems(), "invalid_frame")
            if frame in block.columns
            else pa.nulls(len(block.rows), pa.int64()),
            _texts(block, title),
            *(_texts(block, side) for side in plan.size or (None, None)),
        ]
        for name, number, label, width, height in _distinct(columns):
            if name is None:
                continue
            key = name, number or 0
            side = parse_side(_whole(width)), parse_side(_whole(height))
            size = (side[0], side[1]) if side[0] and side[1] else None
            known = self.units.get(key)
            if known and size and known != size:
                message = f"{path}: data unit '{name}' is {known} pixels, and elsewhere {size}."
                raise SourceError(message, hint="Give every data unit one width and height.")
            self.units[key] = known or size
            if label is not None:
                self.titles.setdefault(key, label)

    def _classes(self, block: Block, plan: Plan, name: str | None, path: Path) -> None:
        option = plan.others.get("option_hash")
        answer = _texts(block, option if option in block.columns else None)
        for reference, label, is_object in _distinct(
            [_texts(block, plan.class_ref), _texts(block, name), answer.is_null()]
        ):
            self.has_answers |= not is_object
            if reference is None or not is_object:
                continue
            if plan.class_key == "index":
                reference = str(_whole(reference))
            if self.classes.get(reference) is None:
                self.classes[reference] = label
            if len(self.classes) > MOST_CLASSES:
                message = f"{path} has more than {MOST_CLASSES:,} classes."
                raise SourceError(message, hint="Name the column: --option class=COLUMN.")


def names_beside(table: TableFile, plan: Plan) -> tuple[str | None, str | None]:
    """The columns of titles and of names of classes, where others name data units and classes."""
    title = _other(table, plan.unit, [name for name, key in UNITS.items() if key == "title"])
    name = _other(table, plan.class_ref, [n for n, key in CLASSES.items() if key == "name"])
    return title, name


def units_of(survey: Survey, plan: Plan) -> pa.Table:
    """The data units as a table, in order of their ids (numbers by value) or names."""
    rows = []
    groups = Counter(name for name, _ in survey.units)
    for name, frame in sorted(survey.units, key=lambda unit: (_order(unit[0]), unit[1])):
        size = survey.units[name, frame] or (0, 0)
        row: dict[str, Any] = {
            "width": size[0],
            "height": size[1],
            "title": survey.titles.get((name, frame), name),
        }
        if frame or groups[name] > 1:
            row["frame"] = frame
        if plan.unit_key != "title":
            row[plan.unit_key] = name
        rows.append(row)
    return unit_table(rows)


def ontology_of(
    survey: Survey, plan: Plan, path: Path, notes: Counter[str]
) -> tuple[Ontology, ClassKey]:
    """The classes that occur, and how the labels name them.

    Raises:
        SourceError: They do not make an ontology.
    """
    names = sorted(survey.classes, key=_order)
    unnamed = sum(survey.classes[name] is None for name in names)
    if plan.class_key == "feature_hash":
        if unnamed:
            notes["classes without a name, called by their hash"] += unnamed
        objects = [
            {
                "id": str(number),
                "name": survey.classes[name] or name,
                "shape": "any",
                "featureNodeHash": name,
            }
            for number, name in enumerate(names, 1)
        ]
        return Ontology({"objects": objects, "classifications": []}), "feature_hash"
    numbered = all(_is_number(name) for name in names)
    categories = [
        {"id": int(name) if numbered else name, "name": survey.classes[name] or name}
        for name in names
    ]
    try:
        return Ontology.from_coco(categories), "source_id"
    except SourceError as error:
        raise SourceError(f"{path}: {error.message}", hint=error.hint) from error


def _distinct(columns: Sequence[pa.Array]) -> list[tuple[Any, ...]]:
    """The combinations of values that occur, in order of appearance."""
    names = [str(i) for i in range(len(columns))]
    table = pa.Table.from_arrays(list(columns), names=names)
    found = table.group_by(names, use_threads=False).aggregate([]).to_pydict()
    return list(zip(*(found[name] for name in names), strict=True))


def _texts(block: Block, name: str | None) -> pa.Array:
    if name is None:
        return pa.nulls(len(block.rows), pa.string())
    return texts(name, block.columns[name], Problems())


def _other(table: TableFile, used: str | None, wanted: Sequence[str]) -> str | None:
    """The first column of these names that is not used already."""
    named = {name.strip().lower(): name for name in table.names}
    return next((named[n] for n in wanted if n in named and named[n] != used), None)


def _whole(text: str | None) -> str | None:
    """A whole number that is written with a point, without it."""
    head, _, tail = (text or "").partition(".")
    return head if tail and not tail.strip("0") else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19 and str(int(text)) == text


def _order(name: str) -> tuple[bool, int, str]:
    """Sort key: whole numbers by value, then names."""
    number = name.isascii() and name.isdigit() and len(name) < 19
    return not number, int(name) if number else 0, name
