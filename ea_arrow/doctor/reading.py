"""Reading a :class:`~ea_arrow.doctor.case.Case` from a project."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow import row_keys
from ea_arrow.arranged import objects, unit_codes
from ea_arrow.class_maps import Targets
from ea_arrow.doctor.case import Case, Rows, Units
from ea_arrow.doctor.imported import imported
from ea_arrow.doctor.refused import read_refused
from ea_arrow.doctor.scoring import Detections, Truth
from ea_arrow.schema import BOX, LABELS, PREDICTIONS

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.doctor.imported import Imported
    from ea_arrow.doctor.refused import Refused
    from ea_arrow.store import Iteration, Store

MOST_ROWS: Final = 100_000
"""Of predictions, and of labels; beyond, data units are sampled."""

_DICTIONARIES: Final = ("data_hash", "feature_hash", "format")
_KEY: Final = ("data_hash", "frame", "format", "feature_hash")
_LIGHT: Final = ("x", "y", "w", "h", "area")


def read_case(store: Store, iteration: Iteration) -> Case:
    """Read what an examination of an iteration needs."""
    data_units, targets = store.data_units(), Targets(store.classes())
    hashes = pa.array([row["feature_hash"] for row in targets.objects], pa.string())
    truth = _read_truth(store, data_units, hashes)
    unit, is_object = _read_units(store, iteration, data_units)
    units = _units(data_units, truth, unit[is_object])
    chosen = is_object & units.chosen[unit]
    refused = read_refused(store, iteration)
    how = imported(iteration, relative="box_out_of_range" in refused.rules)
    references, of_class, classes = _references(how, targets, refused)
    table = _read_chosen(store, iteration, chosen)
    kept = _kept_rows(table, unit[chosen], hashes, how, truth)
    kept.reference[:] = of_class[kept.found.klass]
    rest = _refused_rows(refused, data_units, references, classes)
    rest = rest.take(units.chosen[rest.found.unit] | (rest.found.unit < 0))
    return Case(
        imported=how,
        rows=_merged(kept, rest, table, refused, how),
        truth=truth.within(units.chosen[truth.unit]) if units.sampled else truth,
        units=units,
        data_units=data_units,
        targets=targets,
        references=references,
        reference_class=classes,
        refused=refused,
    )


def _read_truth(store: Store, data_units: pa.Table, hashes: pa.Array) -> Truth:
    columns = [*_KEY, *BOX, "area", "is_crowd", "is_ignored", "source_id"]
    labels = objects(store.table(LABELS).read(columns, as_dictionary=_DICTIONARIES))
    id_zero = pc.equal(labels.column("source_id"), "0").fill_null(False).to_numpy()
    return Truth(
        unit=unit_codes(labels, data_units, "label"),
        klass=_positions(labels.column("feature_hash"), hashes),
        box=_matrix(labels, BOX),
        area=labels.column("area").to_numpy(),
        is_crowd=labels.column("is_crowd").to_numpy(),
        is_ignored=labels.column("is_ignored").to_numpy(),
        has_id_zero=id_zero,
        n_classes=len(hashes),
        width=data_units["width"].to_numpy().astype(np.float64),
        height=data_units["height"].to_numpy().astype(np.float64),
    )


def _read_units(store: Store, iteration: Iteration, data_units: pa.Table) -> tuple[Ints, Bools]:
    """The data unit of each prediction, and whether it is an object."""
    keys = store.table(PREDICTIONS).read(
        ["data_hash", "frame", "format"], files=iteration.files, as_dictionary=_DICTIONARIES
    )
    is_object = pc.not_equal(keys["format"].cast(pa.string()), "classification")
    return unit_codes(keys, data_units, "prediction"), is_object.to_numpy()


def _read_chosen(store: Store, iteration: Iteration, chosen: Bools) -> pa.Table:
    """The columns of some predictions; a file at a time, so that no more than these are held."""
    columns = [*_KEY, *BOX, "area", "confidence", "source_row", *(f"mask.{n}" for n in _LIGHT)]
    parts, start = [], 0
    for file in iteration.files:
        part = store.table(PREDICTIONS).read(columns, files=[file], as_dictionary=_DICTIONARIES)
        parts.append(part.filter(pa.array(chosen[start : start + len(part)])))
        start += len(part)
    return pa.concat_tables(parts).unify_dictionaries()


def _units(data_units: pa.Table, truth: Truth, unit: Ints) -> Units:
    n = len(data_units)
    predictions = np.bincount(unit, minlength=n)
    return Units(
        names=pc.coalesce(data_units["title"], data_units["source_id"], data_units["data_hash"]),
        labels=np.bincount(truth.unit[truth.counts], minlength=n),
        predictions=predictions,
        chosen=_sample(data_units, predictions, np.bincount(truth.unit, minlength=n)),
    )


def _sample(data_units: pa.Table, predictions: Ints, labels: Ints) -> Bools:
    """Data units in an order that depends on their keys alone, as many as are to be looked at."""
    chosen = np.ones(len(data_units), bool)
    if predictions.sum() <= MOST_ROWS and labels.sum() <= MOST_ROWS:
        return chosen
    names = pa.concat_arrays(data_units["data_hash"].cast(pa.binary()).chunks)
    frame = data_units["frame"].to_numpy().astype(np.int64)
    order = np.argsort(row_keys.combined([row_keys.of_bytes(names), frame], len(names)))
    within = (np.cumsum(predictions[order]) <= MOST_ROWS) & (np.cumsum(labels[order]) <= MOST_ROWS)
    within[np.flatnonzero((predictions + labels)[order] > 0)[:1]] = True
    chosen[order] = within
    return chosen


def _references(how: Imported, targets: Targets, refused: Refused) -> tuple[list[str], Ints, Ints]:
    """The distinct class references, that of each class, and the class of each; −1 for none."""
    given = how.references(targets)
    references = [reference for reference in given if reference is not None]
    has_one = np.array([reference is not None for reference in given], bool)
    of_class = np.where(has_one, np.cumsum(has_one) - 1, -1).astype(np.int64)
    known = set(references)
    unknown = sorted({c for c in refused.classes if c is not None and c not in known})
    classes = np.concatenate([np.flatnonzero(has_one), np.full(len(unknown), -1)])
    return references + unknown, of_class, classes.astype(np.int64)


def _kept_rows(table: Any, unit: Ints, hashes: pa.Array, how: Imported, truth: Truth) -> Rows:
    n = len(unit)
    box = _matrix(table, BOX)
    masks = pa.concat_arrays(table.column("mask").chunks) if n else pa.nulls(0)
    mask = np.zeros((0, len(_LIGHT)))
    if n:
        mask = np.stack([_floats(pc.struct_field(masks, name)) for name in _LIGHT], axis=1)
    plain: Bools = pc.equal(table.column("format").cast(pa.string()), "bounding_box").to_numpy()
    differs: Bools = ~np.isnan(mask[:, 0]) & np.any(mask[:, :4] != box, axis=1)
    klass = _positions(table.column("feature_hash"), hashes)
    area, confidence = (_floats(table.column(name)) for name in ("area", "confidence"))
    return Rows(
        found=Detections(unit, klass, box, area, confidence),
        kept=np.ones(n, bool),
        four=plain | differs,
        box=box / truth.size[unit] if how.reading.relative else box,
        reference=np.full(n, -1),
        mask=mask,
    )


def _refused_rows(
    refused: Refused, data_units: pa.Table, references: list[str], classes: Ints
) -> Rows:
    n = len(refused)
    position = {reference: i for i, reference in enumerate(references)}
    reference = np.array([position.get(c or "", -1) for c in refused.classes], np.int64)
    klass = np.append(classes, -1)[reference]
    nowhere = np.full((n, 4), np.nan)
    unit = refused.unit_codes(data_units)
    return Rows(
        found=Detections(unit, klass, nowhere, np.zeros(n), refused.confidence),
        kept=np.zeros(n, bool),
        four=~np.any(np.isnan(refused.box), axis=1),
        box=refused.box,
        reference=reference,
        mask=np.full((n, len(_LIGHT)), np.nan),
    )


def _merged(kept: Rows, rest: Rows, table: Any, refused: Refused, how: Imported) -> Rows:
    """Refused rows where they stood in the file; behind all others if there are several files."""
    joined = Rows(
        found=Detections(*(_both(kept.found, rest.found, f.name) for f in fields(Detections))),
        **{f.name: _both(kept, rest, f.name) for f in fields(Rows) if f.name != "found"},
    )
    places = table.column("source_row").to_numpy()
    if len(rest.kept) < len(refused) or not how.one or (np.diff(places) < 0).any():
        return joined
    return joined.take(np.argsort(np.concatenate([places, refused.row]), kind="stable"))


def _both(kept: Any, rest: Any, name: str) -> Any:
    return np.concatenate([getattr(kept, name), getattr(rest, name)])


def _positions(values: Any, known: pa.Array) -> Ints:
    found = pc.index_in(values.cast(known.type), value_set=known).fill_null(-1)
    codes: Ints = found.to_numpy().astype(np.int64)
    return codes


def _matrix(table: Any, names: tuple[str, ...]) -> Floats:
    return np.stack([_floats(table.column(name)) for name in names], axis=1)


def _floats(column: Any) -> Floats:
    """Values as float64, null as NaN."""
    values: Floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values
