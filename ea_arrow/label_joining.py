"""New ground truth beside a project's own: which data units and classes it has already."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.class_maps import Targets
from ea_arrow.errors import SourceError
from ea_arrow.lookup import HASHES, UnitIndex, named_by
from ea_arrow.ontology import SOURCE_ID, Ontology

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ea_arrow.class_maps import Hashes

_TRIED: Final = ("data_hash", "source_id", "title", "name", "stem")
_WORDS: Final = {"data_hash": "data hash", "source_id": "source id", "name": "file name"}


@dataclass(frozen=True)
class JoinedUnits:
    """Data units of new ground truth, in terms of the project.

    Attributes:
        hashes: The project's ``data_hash`` of each, shape (n,).
        known: Which of them the project had, shape (n,).
        added: The others, as ``DATA_UNITS`` rows that follow the project's.
        key: By what they were found; None if none was.
    """

    hashes: pa.Array
    known: NDArray[np.bool_]
    added: pa.Table
    key: str | None


def join_units(mine: pa.Table, theirs: pa.Table, match: str | None = None) -> JoinedUnits:
    """Find the data units of new ground truth among a project's.

    Ids alone may coincide by accident: where file names are known on both sides they must agree.

    Args:
        mine: The project's ``DATA_UNITS``.
        theirs: Those of the ground truth.
        match: What names them; found by trial by default.

    Raises:
        SourceError: A data unit has another size than in the project, or its hash is taken.
    """
    frames = theirs["frame"].to_numpy()
    best, key = np.full(len(theirs), -1), None
    for tried in _TRIED if match is None else (match,):
        column = tried if tried in ("data_hash", "source_id") else "title"
        found = UnitIndex(mine, tried).find(theirs[column].combine_chunks(), frames)
        if tried == "source_id" and match is None and _names_differ(mine, theirs, found):
            continue
        if _twice(found):
            if match is not None:
                raise SourceError(f"By {match} several data units of the file are the same here.")
            continue
        if (found >= 0).sum() > (best >= 0).sum():
            best, key = found, tried
    known = best >= 0
    _check_sizes(mine, theirs, best)
    rows = pa.array(np.where(known, best, 0), mask=~known)
    hashes = pc.coalesce(mine["data_hash"].combine_chunks().take(rows), theirs["data_hash"])
    hashes = hashes.combine_chunks() if isinstance(hashes, pa.ChunkedArray) else hashes
    added = theirs.filter(pa.array(~known))
    taken = pc.is_in(added["data_hash"], mine["data_hash"].combine_chunks())
    if pc.any(taken).as_py():
        clash = added.filter(taken)["title"][0].as_py()
        raise SourceError(f"Data unit '{clash}' is new, but its hash is another one's.")
    ids = pa.array(np.arange(len(mine), len(mine) + len(added)))
    added = added.set_column(
        added.schema.get_field_index("unit_id"), added.schema.field("unit_id"), ids
    )
    return JoinedUnits(hashes, known, added, _WORDS.get(key, key) if key else None)


def _twice(found: NDArray[np.int64]) -> bool:
    """Whether two data units of theirs would be one of ours."""
    rows = found[found >= 0]
    return len(np.unique(rows)) < len(rows)


def _names_differ(mine: pa.Table, theirs: pa.Table, found: NDArray[np.int64]) -> bool:
    rows = np.flatnonzero(found >= 0)
    one = named_by(mine["title"].take(pa.array(found[rows])), "stem")
    other = named_by(theirs["title"].take(pa.array(rows)), "stem")
    return bool(pc.any(pc.not_equal(one, other)).as_py())


def _check_sizes(mine: pa.Table, theirs: pa.Table, found: NDArray[np.int64]) -> None:
    rows = np.flatnonzero(found >= 0)
    sizes = [
        np.stack([table[name].to_numpy()[at] for name in ("width", "height")], axis=1)
        for table, at in ((mine, found[rows]), (theirs, rows))
    ]
    differ = np.flatnonzero((sizes[0] != sizes[1]).any(axis=1))
    if len(differ):
        first = int(differ[0])
        title = theirs["title"][int(rows[first])].as_py()
        was, now = (f"{w} × {h}" for w, h in (sizes[0][first], sizes[1][first]))
        raise SourceError(
            f"{len(differ)} data units have another size than in the project; '{title}' is {was} "
            f"there and {now} in the file.",
            hint="Labels of resized images cannot be compared with predictions on the originals.",
        )


def join_classes(mine: Ontology, theirs: Ontology) -> tuple[Ontology, dict[Hashes, Hashes], int]:
    """Find the classes of new ground truth among a project's, by hash or name; add those missing.

    Args:
        mine: The project's.
        theirs: Those of the ground truth.

    Returns:
        The project's ontology with the new classes, the project's hashes of each of theirs, and how
        many are new.
    """
    targets = Targets(mine.to_table())
    document = copy.deepcopy(mine.document)
    known = {c.key for c in mine.classes}
    ids = {c.source_id for c in mine.classes}
    same: dict[Hashes, Hashes] = {}
    new = 0
    for node in theirs.document.get("objects") or ():
        hashes: Hashes = (node["featureNodeHash"], None, None)
        found = hashes if hashes in known else targets.by("name").get(node.get("name"))
        if found is None:
            added = {**node, "id": str(len(document.setdefault("objects", [])) + 1)}
            if added.get(SOURCE_ID) in ids:
                added.pop(SOURCE_ID, None)  # the id is another class's here
            document["objects"].append(added)
            found, new = hashes, new + 1
        same[hashes] = found
    new += _add_classifications(document, mine, theirs, same)
    return Ontology(document), same, new


def _add_classifications(
    document: dict[str, Any], mine: Ontology, theirs: Ontology, same: dict[Hashes, Hashes]
) -> int:
    """Add the questions that are missing, whole; return how many options are new.

    Raises:
        SourceError: A question that is there has other options: its labels would have no class.
    """
    known = {c.key for c in mine.classes}
    by_path = {c.path: c.key for c in mine.classes if c.kind == "classification"}
    questions = {node["featureNodeHash"] for node in document.get("classifications") or ()}
    new = 0
    for node in theirs.document.get("classifications") or ():
        options = [c for c in theirs.classes if c.feature_hash == node["featureNodeHash"]]
        there = [c for c in options if c.key in known or c.path in by_path]
        missing = [c for c in options if c not in there]
        if there and missing:
            raise SourceError(
                f"The classification '{missing[0].path}' is new, but its question is there.",
                hint="Make a project with the newer ontology.",
            )
        if missing or (not options and node["featureNodeHash"] not in questions):
            document.setdefault("classifications", []).append(node)
            new += len(missing)
        same |= {c.key: c.key if c.key in known else by_path.get(c.path, c.key) for c in options}
    return new


def class_columns(same: dict[Hashes, Hashes]) -> dict[str, dict[str, Any]]:
    """For each hash of theirs the project's, by column; hashes are unique within a column."""
    columns: dict[str, dict[str, Any]] = {"class_ref": {}, **{name: {} for name in HASHES}}
    for theirs, mine in same.items():
        for name, one, other in zip(columns, theirs, mine, strict=True):
            if one is not None:
                columns[name][one] = other
    return columns
