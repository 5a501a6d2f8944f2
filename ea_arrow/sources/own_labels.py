"""Ground truth in our own columns: the tables of an export, or one table with the images' sizes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.schema import RAW
from ea_arrow.sources.base import Coordinates, GroundTruth
from ea_arrow.sources.formats import Files, LabelFormat, Reading
from ea_arrow.sources.images import Images, opened
from ea_arrow.sources.own_exports import CLASSES_FILE, UNITS_FILE, read_classes, read_units
from ea_arrow.sources.own_tables import (
    ABOUT,
    note_left_out,
    plan_table,
    raw_batches,
    sniff_plan,
    table_paths,
)
from ea_arrow.sources.table_files import open_table
from ea_arrow.sources.table_plan import OPTIONS
from ea_arrow.sources.table_survey import Survey, names_beside, ontology_of, units_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.sources.base import UnitKey
    from ea_arrow.sources.samples import Sample
    from ea_arrow.sources.table_base import TableFile
    from ea_arrow.sources.table_plan import Plan

MAIN_FILE: Final = "labels.parquet"

_GIVE_SIZES: Final = (
    "Give columns image_width and image_height, or the directory of the images: --images DIR."
)


def read(files: Files, reading: Reading) -> GroundTruth:
    """Read tables of labels.

    Args:
        files: Tables, or the directory of an export: labels.parquet, data_units.parquet and
            classes.parquet.
        reading: What the caller knows about them.

    Raises:
        SourceError: A file is no table of labels, or the sizes of data units are not known.
    """
    if reading.ontology is not None:
        raise SourceError(f"{files.root}: a table has its classes in it; leave out the ontology.")
    notes: Counter[str] = Counter()
    folder = files.root if files.root.is_dir() else None
    tables = _opened(files, reading, notes)
    plan = tables[0][2]
    survey = Survey()
    exported = folder is not None and (folder / CLASSES_FILE).is_file()
    if not (exported and (files.root / UNITS_FILE).is_file()):
        for _, table, own in tables:
            survey.add(table, own)
    if exported:
        ontology, class_key = read_classes(files.root / CLASSES_FILE), plan.class_key
    else:
        ontology, class_key = ontology_of(survey, plan, files.root, notes)
        if survey.has_answers:
            message = f"{files.root} has answers to classifications, but not what they mean."
            hint = f"Give a directory that has {CLASSES_FILE} beside {MAIN_FILE}."
            raise SourceError(message, hint=hint)
    units, unit_key, rename = label_units(files, plan, survey, reading, notes)
    notes.update(ontology.notes)
    return GroundTruth(
        data_units=units,
        ontology=ontology,
        labels=_labels(tables, notes, reading, rename),
        coordinates=Coordinates(plan.relative, unit_key, class_key),
        notes=notes,
    )


_Opened = list[tuple["str | None", "TableFile", "Plan"]]


def _opened(files: Files, reading: Reading, notes: Counter[str]) -> _Opened:
    tables: _Opened = []
    paths = table_paths(files, MAIN_FILE)
    for path in paths:
        table = open_table(path)
        plan = plan_table(table, reading)
        if plan.unit is None or plan.class_ref is None or not plan.has_shape:
            lacks = "data unit" if plan.unit is None else "class" if not plan.class_ref else "shape"
            message = f"{path} has no column of the {lacks}; it has {', '.join(table.names[:20])}."
            raise SourceError(message, hint="See 'ea-arrow formats table'.")
        if plan.confidence is not None:
            notes["columns of confidence, left out: labels have none"] += 1
        note_left_out(table, plan, notes, names_beside(table, plan))
        tables.append((files.name_of(path) if len(paths) > 1 else None, table, plan))
        first = tables[0][2]
        if (plan.unit_key, plan.class_key, plan.relative) != (
            *(first.unit_key, first.class_key),
            first.relative,
        ):
            message = f"{path} names data units or classes in another way than the other tables."
            raise SourceError(message, hint="Give tables of the same columns.")
    return tables


def label_units(
    files: Files, plan: Plan, survey: Survey, reading: Reading, notes: Counter[str]
) -> tuple[pa.Table, UnitKey, Callable[[pa.Array], pa.Array]]:
    """The data units, how labels name them, and what changes the names in the labels to that.

    Raises:
        SourceError: Their sizes are not known.
    """
    path = files.root / UNITS_FILE
    if files.root.is_dir() and path.is_file():
        return read_units(path), plan.unit_key, lambda names: names
    if reading.images is not None:
        images = opened(reading.images)
        units = images.data_units()
        if images.unreadable:
            notes["images whose size cannot be read, left out"] += len(images.unreadable)
        return units, "title", lambda names: _found(names, images)
    missing = survey.without_size()
    if missing:
        message = (
            f"{files.root}: the size of {len(missing):,} data units is not known: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}."
        )
        raise SourceError(message, hint=_GIVE_SIZES)
    return units_of(survey, plan), plan.unit_key, lambda names: names


def _found(names: pa.Array, images: Images) -> pa.Array:
    """The paths of images instead of the names that labels have for them."""
    codes = names.dictionary_encode()
    paths = [images.find(name) or name for name in codes.dictionary.to_pylist()]
    return pa.array(paths, pa.string()).take(codes.indices)


def _labels(
    tables: _Opened,
    notes: Counter[str],
    reading: Reading,
    rename: Callable[[pa.Array], pa.Array],
) -> Iterator[pa.RecordBatch]:
    place = RAW.names.index("unit")
    for name, table, plan in tables:
        for batch in raw_batches(table, plan, notes, reading, name):
            kept = without_empty(batch, notes)
            units = rename(kept.column(place))
            yield kept.set_column(place, RAW.arrow.field(place), units)


def without_empty(batch: pa.RecordBatch, notes: Counter[str]) -> pa.RecordBatch:
    """Leave out rows that say nothing but that there is a data unit."""
    empty = batch.column("unit").is_valid()
    for name in ("class_ref", "bbox_x", "bbox_w", "mask", "polygon", "option_hash", "rule"):
        empty = pc.and_(empty, batch.column(name).is_null())
    number = int(np.count_nonzero(empty))
    if not number:
        return batch
    notes["rows of data units without labels"] += number
    return batch.filter(pc.invert(empty))


def _sniff(sample: Sample) -> bool:
    plan = sniff_plan(sample, MAIN_FILE)
    return plan is not None and plan.confidence is None


LABELS: Final = LabelFormat(
    name="table",
    doc="Our own columns as Parquet, Arrow, CSV, TSV or lines of JSON",
    about=ABOUT.format(row="label", more="is_crowd, is_ignored")
    + "\n\nThe sizes of data units are columns image_width and image_height, or width and height, "
    "in every row of a data unit or in one; or come from --images, whose images are then the data "
    "units. A row of a data unit with neither class nor shape is a data unit without labels. "
    "Classes are those that occur, in order of name or number.\n\nOf a directory labels.parquet is "
    "read, with data_units.parquet and classes.parquet beside it, as an export writes them: their "
    "hashes, sizes and the order of evaluation are kept.",
    example="file_name,image_width,image_height,class_name,xmin,ymin,xmax,ymax\n"
    "a.jpg,640,480,dog,258,41,606,284",
    options=OPTIONS,
    many=True,
    sniff=_sniff,
    read=read,
)
