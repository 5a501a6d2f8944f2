"""Class ids of another numbering: off by one, or COCO's 80 classes counted without their gaps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.coco_classes import COCO_CLASSES
from ea_arrow.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 3
_COCO_LIKE = 20
"""So many of COCO's class names tell that a project is one of COCO's kind."""


class References:
    """The class references that an import meets.

    Args:
        classes: ``CLASSES``.
    """

    def __init__(self, classes: pa.Table) -> None:
        self._classes = classes
        self._distinct = pa.array([], pa.string())

    def add(self, raw: pa.RecordBatch) -> None:
        """Take in those of a batch."""
        found = raw.column("class_ref").unique().drop_null()
        if len(found) and not pc.all(pc.is_in(found, self._distinct)).as_py():
            self._distinct = pa.chunked_array([self._distinct, found]).unique()

    def proposals(self) -> list[str]:
        """What ``--map`` might be, given that some references are unknown."""
        rows = self._classes.to_pylist()
        ids = {row["source_id"]: row["name"] for row in rows if row["source_id"] is not None}
        return numbering(self._distinct.to_pylist(), ids) or _near_names(
            self._distinct.to_pylist(), [row["name"] for row in rows]
        )


def numbering(references: Iterable[str], ids: dict[str, str]) -> list[str]:
    """Propose a ``--map`` for class numbers that the project does not have.

    Args:
        references: The class references of a source.
        ids: Names of the project's classes by source id.

    Returns:
        Sentences, the likeliest first; none if nothing fits.

    >>> numbering(["0", "1"], {"1": "cat", "2": "dog"})
    ['all 2 class ids (0 … 1) are classes of the project one higher: --map shift:1']
    """
    if not ids or any(not re.fullmatch(r"-?\d{1,9}", text) for text in (*references, *ids)):
        return []
    given, known = sorted(map(int, references)), set(map(int, ids))
    if not given or set(given) <= known:
        return []
    span = f"all {len(given)} class ids ({given[0]} … {given[-1]})"
    found = []
    names = set(ids.values())
    of_coco = len(names & set(COCO_CLASSES.values())) >= max(len(names) * 0.9, _COCO_LIKE)
    if of_coco and given[-1] <= 79 and given[0] >= 0 and max(known) > 80:
        found.append(f"{span} are indices of COCO's 80 classes: --map coco80")
    if of_coco and given[0] == 1 and given[-1] == 80 and max(known) > 80:
        found.append(f"{span} are COCO's 80 classes counted from 1: --map coco80-1")
    if of_coco and max(known) <= 80 and set(given) <= set(COCO_CLASSES):
        found.append(f"{span} are COCO's own category ids: --map coco91")
    for by, word in ((1, "higher"), (-1, "lower")):
        if {number + by for number in given} <= known:
            found.append(f"{span} are classes of the project one {word}: --map shift:{by}")
    return found


def _near_names(references: Iterable[str], names: list[str]) -> list[str]:
    folded = {name.casefold().replace("_", " "): name for name in names}
    unknown = [text for text in references if text not in names]
    near = []
    for text in unknown[:100]:
        same = folded.get(text.casefold().replace("_", " "))
        guess = f"'{same}'" if same else (did_you_mean(text, names) or "")[13:-1]
        if guess:
            near.append(f"'{text}' may be {guess}")
    if not near:
        return []
    more = ", …" if len(near) > _SHOWN else ""
    return [f"{'; '.join(near[:_SHOWN])}{more}: say so in a file for --map"]
