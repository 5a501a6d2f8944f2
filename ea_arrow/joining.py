"""How the rows of a source find their data units and classes: by what fits, or as the user says.

The source says what its names are, as far as its format knows. Where another reading fits more of
the first rows it is taken, and the import prints it; where nothing tells the readings apart, or a
format counts classes without saying which they are, the user is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.class_maps import KEYS, Hashes, Targets, read_map
from ea_arrow.errors import SourceError
from ea_arrow.lookup import HASHES, Renaming, UnitIndex
from ea_arrow.sources.base import UnitKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from ea_arrow.sources.base import ClassKey, Coordinates

UNIT_KEYS: Final[tuple[UnitKey, ...]] = get_args(UnitKey)
SAMPLE_ROWS: Final = 65_536

_TRIED: Final[tuple[UnitKey, ...]] = ("data_hash", "source_id", "title", "name", "stem", "number")
_BY_NAME: Final[tuple[UnitKey, ...]] = ("title", "name", "stem")
_UNIT_WORDS: Final = {
    "data_hash": "data hash",
    "source_id": "source id",
    "title": "title",
    "name": "file name",
    "stem": "file name without suffix",
    "number": "number in the file name",
    "position": "position in the project",
}
_CLASS_WORDS: Final[dict[ClassKey, str]] = {
    "feature_hash": "feature hash",
    "source_id": "id",
    "name": "name",
}


@dataclass(frozen=True)
class Joining:
    """How rows are joined.

    Attributes:
        coordinates: What the source's names are found by.
        classes: Which class each class reference is, where they are translated one by one.
        options: Which option each class reference of a classification is, where it names no more.
        units: What each reference to a data unit stands for, where the source has its own names.
        notes: What was chosen, where the source left it open.
    """

    coordinates: Coordinates
    classes: Mapping[str, Hashes] | None = None
    options: Mapping[str, Hashes] | None = None
    units: Renaming | None = None
    notes: tuple[str, ...] = ()

    def by_hash(self) -> Joining:
        """The same, with classes that are translated to feature hashes."""
        return replace(self, coordinates=replace(self.coordinates, class_key="feature_hash"))

    def apply(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        """Put the project's names in the place of the source's; those unknown stay as they are."""
        if self.units is not None:
            raw = _with(raw, "unit", self.units(raw.column("unit")))
        if self.classes is None and not self.options:
            return raw
        answers = _unresolved(raw)
        if self.classes is not None:
            raw = _translated(raw, self.classes, pc.invert(answers))
        if self.options and pc.any(answers).as_py():
            raw = _translated(raw, self.options, answers)
        return raw


def _translated(
    raw: pa.RecordBatch, classes: Mapping[str, Hashes], rows: pa.BooleanArray
) -> pa.RecordBatch:
    """Put feature hashes in the place of class references, in some rows."""
    at = pc.index_in(raw.column("class_ref"), pa.array(list(classes), pa.string()))
    found = pc.and_(at.is_valid(), rows)
    for place, name in enumerate(("class_ref", *HASHES)):
        values = pa.array([hashes[place] for hashes in classes.values()], pa.string())
        raw = _with(raw, name, pc.if_else(found, values.take(at), raw.column(name)))
    return raw


def _with(raw: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    return raw.set_column(raw.schema.get_field_index(name), raw.schema.field(name), column)


def _unresolved(raw: pa.RecordBatch) -> pa.BooleanArray:
    """Which rows are classifications that name their option alone."""
    is_answer = pc.equal(raw.column("format"), "classification").fill_null(False)
    return pc.and_(is_answer, pc.is_null(raw.column("option_hash")))


def sampled(
    batches: Iterator[pa.RecordBatch],
) -> tuple[list[pa.RecordBatch], Iterator[pa.RecordBatch]]:
    """Take the first batches, for a look at them before the first is used.

    Returns:
        The batches taken, and the rest.
    """
    taken: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        taken.append(batch)
        rows += batch.num_rows
        if rows >= SAMPLE_ROWS or len(taken) >= 8:
            break
    return taken, batches


def choose(
    sample: list[pa.RecordBatch],
    coordinates: Coordinates,
    units: pa.Table,
    classes: pa.Table,
    match: str | None = None,
    mapping: str | Path | Mapping[Any, Any] | None = None,
) -> Joining:
    """Decide how the rows of a source are joined.

    Args:
        sample: Its first batches.
        coordinates: What its format says.
        units: ``DATA_UNITS``.
        classes: ``CLASSES``.
        match: What names its data units; found by trial by default.
        mapping: Which class each of its classes is, as ``--map`` takes it.

    Raises:
        SourceError: Readings fit equally well but mean different data units; or the classes are
            indices of which nothing says what they count.
    """
    notes: list[str] = []
    unit_key, unit_names = _units(sample, coordinates, units, match, notes)
    joining = Joining(replace(coordinates, unit_key=unit_key), units=unit_names)
    targets = Targets(classes)
    references = _distinct(sample, "class_ref").to_pylist()
    if mapping is not None and str(mapping) not in KEYS:
        given = {*references, *dict(coordinates.class_names).values()}
        found = _by_names(coordinates, read_map(mapping, targets, given))
        answers = {ref: hashes for ref, hashes in found.items() if hashes[2] is not None}
        return replace(joining.by_hash(), classes=found, options=answers, notes=tuple(notes))
    options = targets.options("index" if mapping == "index" else "name")
    joining = replace(joining, options=options)
    names = dict(coordinates.class_names) if mapping is None else {}
    by_name = targets.by("name")
    translated = {ref: by_name[name] for ref, name in names.items() if name in by_name}
    if translated or (names and coordinates.class_key == "index"):
        notes.append(f"classes matched by the source's own names of them ({len(names)} names)")
        answers = {ref: options[name] for ref, name in names.items() if name in options}
        joining = replace(joining.by_hash(), classes=translated, options=options | answers)
        return replace(joining, notes=tuple(notes))
    key: ClassKey = coordinates.class_key if mapping is None else KEYS[str(mapping)]
    if mapping is None:
        objects = _distinct(sample, "class_ref", objects=True)
        key = _class_key(objects, key, targets, notes)
    return replace(
        joining, coordinates=replace(joining.coordinates, class_key=key), notes=tuple(notes)
    )


def _by_names(coordinates: Coordinates, found: dict[str, Hashes]) -> dict[str, Hashes]:
    """A mapping may name a source's classes by the source's own names, too."""
    names = dict(coordinates.class_names)
    return found | {ref: found[name] for ref, name in names.items() if name in found}


def _units(
    sample: list[pa.RecordBatch],
    coordinates: Coordinates,
    units: pa.Table,
    match: str | None,
    notes: list[str],
) -> tuple[UnitKey, Renaming | None]:
    """What finds data units, and the source's own names of them if those do.

    Names in the file tell what its ids mean, where ids of another data set would fit by accident.
    """
    names = dict(coordinates.unit_names)
    if names and match in (None, *_BY_NAME):
        refs, frames = _named_units(sample)
        named = pa.array([names.get(ref) for ref in refs.to_pylist()], pa.string())
        by_id = UnitIndex(units, coordinates.unit_key).find(refs, frames)
        for key in _BY_NAME if match is None else (match,):
            found = UnitIndex(units, key).find(named, frames)
            if (found >= 0).any() and (found >= 0).sum() >= (by_id >= 0).sum():
                if np.array_equal(found, by_id):
                    break
                notes.append(f"data units matched by the file's own names of its images ({key})")
                return key, Renaming(names)
    return _unit_key(sample, coordinates, units, match, notes), None


def _unit_key(
    sample: list[pa.RecordBatch],
    coordinates: Coordinates,
    units: pa.Table,
    match: str | None,
    notes: list[str],
) -> UnitKey:
    natural = coordinates.unit_key
    if match is not None:
        if match not in UNIT_KEYS:
            raise SourceError(f"--match {match}: expected one of {', '.join(UNIT_KEYS)}.")
        return match
    if natural == "position":
        raise SourceError(
            "The file names no data units; it follows the order of a data set.",
            hint="If that is the project's own (order of unit_id), give --match position.",
        )
    refs, frames = _named_units(sample)
    if len(refs) == 0:
        return natural
    by_nature = UnitIndex(units, natural).find(refs, frames)
    if (by_nature >= 0).all():
        return natural
    found: dict[UnitKey, Any] = {natural: by_nature}
    found |= {k: UnitIndex(units, k).find(refs, frames) for k in _TRIED if k != natural}
    hits = {key: int((rows >= 0).sum()) for key, rows in found.items()}
    best = max(hits.values())
    if hits[natural] == best:
        return natural
    fitting = [key for key in _TRIED if hits[key] == best]
    rivals = [key for key in fitting[1:] if not np.array_equal(found[key], found[fitting[0]])]
    both = (found[natural] >= 0) & (found[fitting[0]] >= 0)
    if (found[natural] != found[fitting[0]])[both].any() and 2 * hits[natural] >= best:
        rivals.insert(0, natural)
    if rivals:
        named = f"{_UNIT_WORDS[fitting[0]]} and {_UNIT_WORDS[rivals[0]]}"
        counts = f"{best:,} and {hits[rivals[0]]:,} of the first {len(refs):,}"
        raise SourceError(
            f"Data units are found by {named}, but they are different ones: {counts}.",
            hint=f"Say which is meant: --match {fitting[0]} or --match {rivals[0]}.",
        )
    notes.append(
        f"data units matched by {_UNIT_WORDS[fitting[0]]}: {best:,} of the first {len(refs):,} "
        f"are found so, {hits[natural]:,} by {_UNIT_WORDS[natural]}"
    )
    return fitting[0]


def _class_key(
    references: pa.Array, natural: ClassKey, targets: Targets, notes: list[str]
) -> ClassKey:
    if natural == "index":
        ids = targets.by("source_id")
        if set(ids) == {str(i) for i in range(len(targets.objects))}:
            return "source_id"
        numbers = sorted(references.to_pylist(), key=lambda text: (len(text), text))
        shown = f" ({numbers[0]} … {numbers[-1]})" if numbers else ""
        raise SourceError(
            f"The file counts its classes by index{shown}, and nothing says which class of the "
            f"project an index is: its {len(targets.objects)} classes do not have the ids 0, 1, ….",
            hint="Give --map FILE with the model's class names in order (names.txt, data.yaml), "
            "--map coco80, or --map index if it counts the project's classes (ea-arrow ontology).",
        )
    known = references.to_pylist()
    hits = {k: len(targets.by(k).keys() & known) for k in (natural, *_CLASS_WORDS)}
    best = max(hits.values(), default=0)
    if hits[natural] == best or not known:
        return natural
    key: ClassKey = next(k for k in _CLASS_WORDS if hits[k] == best)
    notes.append(f"classes matched by {_CLASS_WORDS[key]}")
    return key


def _distinct(sample: Iterable[pa.RecordBatch], name: str, *, objects: bool = False) -> pa.Array:
    """The distinct values of a column, of all rows or of those that are no bare answers."""
    columns = [
        (batch.filter(pc.invert(_unresolved(batch))) if objects else batch).column(name)
        for batch in sample
    ]
    return pa.chunked_array(columns, pa.string()).unique().drop_null()


def _named_units(sample: list[pa.RecordBatch]) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """The distinct data units of the sample: their references and frames."""
    if not sample:
        return pa.array([], pa.string()), np.zeros(0, dtype=np.int64)
    table = pa.Table.from_batches([b.select(["unit", "frame"]) for b in sample])
    table = table.filter(table["unit"].is_valid()).group_by(["unit", "frame"]).aggregate([])
    frames = table["frame"].fill_null(0).to_numpy().astype(np.int64)
    return table["unit"].combine_chunks(), frames
