"""Other meanings of a file's class numbers: shifted, COCO's 80 or 91, indices, the alphabet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ea_arrow.class_maps import read_map
from ea_arrow.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ea_arrow.arranged import Ints
    from ea_arrow.class_maps import Hashes, Targets

MAP_FILE = "classes.json"

_WORDS = ("shift:1", "shift:-1", "coco80", "coco80-1", "coco91", "index", "id")
_MEANINGS = {
    "shift:1": "class numbers are 1 too low",
    "shift:-1": "class numbers are 1 too high",
    "coco80": "class numbers count COCO's 80 classes from 0; the project has its category ids",
    "coco80-1": "class numbers count COCO's 80 classes from 1; the project has its category ids",
    "coco91": "class numbers are COCO's category ids (1 to 90), which the project's are not",
    "index": "class numbers count the project's classes from 0",
    "id": "class numbers are the project's own ids",
}


@dataclass(frozen=True)
class Renumbering:
    """A meaning of class references.

    Attributes:
        kind: ``shifted_classes``, ``coco_numbering``, ``class_index`` or ``class_order``.
        meaning: What it supposes, as a clause.
        option: What ``--map`` takes; the name of a file if it needs one.
        content: The content of that file.
        klass: For each reference the position of its class, −1 for none (R).
    """

    kind: str
    meaning: str
    option: str
    content: str | None
    klass: Ints


def renumberings(references: list[str], now: Ints, targets: Targets) -> list[Renumbering]:
    """Meanings under which references stand for other classes than they do now.

    Args:
        references: The distinct class references of a file (R).
        now: The position of each one's class, −1 for none (R).
        targets: The project's classes.
    """
    position = {row["feature_hash"]: i for i, row in enumerate(targets.objects)}
    found: list[Renumbering] = []
    seen = {now.tobytes()}
    for kind, meaning, option, content, mapping in _mappings(targets):
        klass = np.array(
            [position.get(mapping[ref][0], -1) if ref in mapping else -1 for ref in references],
            np.int64,
        )
        if (klass >= 0).any() and klass.tobytes() not in seen:
            seen.add(klass.tobytes())
            found.append(Renumbering(kind, meaning, option, content, klass))
    return found


_Mapping = tuple[str, str, str, "str | None", "Mapping[str, Hashes]"]


def _mappings(targets: Targets) -> Iterator[_Mapping]:
    for word in _WORDS:
        kind = "coco_numbering" if word.startswith("coco") else "class_index"
        kind = "shifted_classes" if word.startswith("shift") else kind
        keys = {"index": "index", "id": "source_id"}
        try:
            mapping = targets.by(keys[word]) if word in keys else read_map(word, targets)
        except SourceError:  # the classes have no numbers, or are none of COCO's
            continue
        yield kind, _MEANINGS[word], word, None, mapping
    for kind, meaning, document in _documents(targets):
        try:
            mapping = read_map(document, targets)
        except SourceError:
            continue
        yield kind, meaning, MAP_FILE, json.dumps(document, ensure_ascii=False), mapping


def _documents(targets: Targets) -> Iterator[tuple[str, str, dict[str, Any]]]:
    names = [str(row["name"]) for row in targets.objects]
    if len(set(names)) < len(names):
        return  # which of two classes of one name is meant, a file of names cannot say
    yield "class_index", "class numbers count the project's classes from 1", _counted(names, 1)
    meaning = "class numbers follow the alphabetical order of the names, from"
    for first in (0, 1):
        yield "class_order", f"{meaning} {first}", _counted(sorted(names), first)
    for first in (0, 1):
        folded = sorted(names, key=str.casefold)
        yield "class_order", f"{meaning} {first}", _counted(folded, first)


def _counted(names: Iterable[str], first: int) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names, first)}
