"""Predictions in our own columns: Parquet, Arrow, CSV, TSV or lines of JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import Coordinates
from ea_arrow.sources.columns import Problems, texts
from ea_arrow.sources.formats import Files, PredictionFormat, Reading
from ea_arrow.sources.table_base import TableFile, arrow_errors
from ea_arrow.sources.table_files import open_table, shape_of
from ea_arrow.sources.table_plan import OPTIONS, OTHERS, RELATIVE, Plan, notes_of, plan_of
from ea_arrow.sources.table_rows import raw_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import pyarrow as pa

    from ea_arrow.sources.samples import Sample

SUFFIXES: Final = (".parquet", ".arrow", ".feather")
"""What of a directory is read."""

MAIN_FILE: Final = "predictions.parquet"
"""What of the directory of an export is read."""

_SUPERVISION: Final = {"x_min", "y_min", "x_max", "y_max", "class_id", "confidence", "tracker_id"}


class OwnTables:
    """Tables of predictions, opened: a source.

    Args:
        files: The files, or a directory of them.
        reading: What the caller knows about them.

    Attributes:
        path: The file or directory.
        coordinates: As the columns' names say.
        notes: Counted peculiarities; complete when the batches have been read to the end.

    Raises:
        SourceError: A file is no table of predictions, or one differs from the others.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self.notes: Counter[str] = Counter()
        self._reading = reading
        self._tables: list[tuple[str | None, TableFile, Plan]] = []
        paths = table_paths(files, MAIN_FILE)
        for path in paths:
            table = open_table(path)
            plan = with_class_key(table, plan_table(table, reading))
            _check(table, plan)
            name = files.name_of(path) if len(paths) > 1 or files.root.is_dir() else None
            self._tables.append((name, table, plan))
            note_left_out(table, plan, self.notes)
        self.coordinates = _common([(table, plan) for _, table, plan in self._tables])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema, file by file, in order."""
        for name, table, plan in self._tables:
            yield from raw_batches(table, plan, self.notes, self._reading, name)


def raw_batches(
    table: TableFile, plan: Plan, notes: Counter[str], reading: Reading, source_file: str | None
) -> Iterator[pa.RecordBatch]:
    """Yield a table as batches of the ``RAW`` schema, and note what is left out of it."""
    blocks = table.blocks(plan.columns)
    while True:
        with arrow_errors(table.path):
            block = next(blocks, None)
            if block is None:
                break
            raw = raw_of(block, plan, notes, one_based=reading.one_based, source_file=source_file)
        yield raw
    for name, number in table.unseen.items():
        notes[f"values of '{name}', which the first lines do not have, left out"] += number


def table_paths(files: Files, main: str) -> list[Path]:
    """The tables that are read of a source: those given; of a directory that of an export, or all.

    Raises:
        SourceError: A directory has none.
    """
    if len(files.paths) == 1 and (files.paths[0] / main).is_file():
        return [files.paths[0] / main]
    found = [p for p in files.listed(*SUFFIXES) if not p.name.startswith("_")]
    if not found:
        message = f"{files.root} has no file of {', '.join(SUFFIXES)}; expected tables."
        raise SourceError(message, hint="Give the files themselves.")
    return found


def plan_table(table: TableFile, reading: Reading) -> Plan:
    """Find out what a table's columns mean, see :func:`ea_arrow.sources.table_plan.plan_of`."""
    given: dict[str, Any] = {
        "types": table.types,
        "metadata": table.metadata,
        "reading": reading,
        "where": str(table.path),
    }
    plan = plan_of(table.names, **given)
    if table.kind != "ndjson" or not plan.has_shape:
        return plan
    # Later lines may have what the first ones lack.
    names = list(table.names)
    has = {name.strip().lower() for name in names}
    end = RELATIVE if any(name.endswith(RELATIVE) for name in has) else ""
    for raw, wanted in OTHERS.items():
        if not has & {*wanted, *(f"{name}{RELATIVE}" for name in wanted)}:
            names.append(f"polygon{end}" if raw == "polygon" else raw)
    return plan_of(names, **given)


def with_class_key(table: TableFile, plan: Plan) -> Plan:
    """Tell whole numbers in a column of classes from names: they are indices.

    Raises:
        SourceError: The file is damaged.
    """
    if plan.class_key != "name" or plan.class_ref is None:
        return plan
    for block in table.blocks([plan.class_ref]):
        with arrow_errors(table.path):
            found = texts(plan.class_ref, block.columns[plan.class_ref], Problems()).drop_null()
            is_number = pc.match_substring_regex(found, r"^\d+(\.0+)?$")
        if len(found):
            return replace(plan, class_key="index") if pc.all(is_number).as_py() else plan
    return plan


def note_left_out(
    table: TableFile, plan: Plan, notes: Counter[str], read: Collection[str | None] = ()
) -> None:
    """Count the columns of a table that are not read, and name them.

    Args:
        table: The table.
        plan: What its columns mean.
        notes: Take the counts.
        read: Columns that are read although the plan leaves them out.
    """
    names = [name for name in plan.left_out if name in table.names and name not in read]
    notes.update(notes_of(plan, names))


def _check(table: TableFile, plan: Plan) -> None:
    """Refuse a table that cannot be one of predictions.

    Raises:
        SourceError: A column is missing that each prediction has.
    """
    listed = ", ".join(table.names[:20])
    for given, what, hint in (
        (plan.unit, "data unit", "Name its column with --option unit=COLUMN."),
        (plan.class_ref, "class", "Name its column with --option class=COLUMN."),
        (plan.confidence, "confidence", "Give a column confidence or score."),
        (
            plan.has_shape or None,
            "box, mask, polygon or option_hash",
            "See 'ea-arrow formats table'.",
        ),
    ):
        if given is None:
            message = f"{table.path} has no column of the {what}; it has {listed}."
            raise SourceError(message, hint=hint)


def _common(tables: list[tuple[TableFile, Plan]]) -> Coordinates:
    """What all tables of a source agree about.

    Raises:
        SourceError: They do not.
    """
    found = [Coordinates(p.relative, p.unit_key, p.class_key) for _, p in tables]
    for (table, _), other in zip(tables, found, strict=True):
        if other != found[0]:
            message = (
                f"{table.path} names data units or classes, or gives coordinates, in another way "
                f"than {tables[0][0].path}."
            )
            raise SourceError(message, hint="Import files of different columns one at a time.")
    return found[0]


def _sniff(sample: Sample) -> bool:
    plan = sniff_plan(sample, MAIN_FILE)
    return plan is not None and plan.confidence is not None


def sniff_plan(sample: Sample, main: str) -> Plan | None:
    """What the columns of a table mean; None if it is none, or its rows have no shape."""
    if sample.is_dir:
        return _sniff_directory(sample, main)
    shape = shape_of(sample)
    if shape is None:
        return None
    names = {name.strip().lower() for name in shape.names}
    if shape.kind == "csv" and names >= _SUPERVISION:
        return None
    try:
        plan = plan_of(shape.names)
    except SourceError:
        return None
    known = plan.unit is not None and plan.class_ref is not None
    return plan if known and plan.has_shape else None


def _sniff_directory(sample: Sample, main: str) -> Plan | None:
    from ea_arrow.sources.samples import Sample as Look

    if (sample.path / main).is_file():
        return sniff_plan(Look(sample.path / main), main)
    paths = [p for p in sample.files if not p.name.startswith("_")]
    if not paths or any(path.suffix.lower() not in SUFFIXES for path in paths):
        return None
    return sniff_plan(Look(paths[0]), main)


ABOUT: Final = """\
One row per {row}. Parquet and Arrow (file or stream) as they are; CSV and TSV with a header; \
lines of JSON objects; CSV, TSV and JSON lines may be compressed by gzip. What a project's own \
tables hold is read back as it was. Ids stay text: 007 is not 7.

The data unit is named by the first of these columns that is there: data_hash or unit; source_id \
or image_id; file_name, filename, image_name, image_path, title, file or image; a frame of a video \
also by frame. The class by feature_hash, class_ref or class_uid; category_id; class_name, \
category_name, class, label or category (indices, if the first ones are whole numbers); \
class_index or class_id.

A box is bbox (a list) or bbox_x, bbox_y, bbox_w, bbox_h; or x, y, w, h; or left, top, width, \
height: left, top, width, height. Or xmin, ymin, xmax, ymax; x_min, …; x1, y1, x2, y2; left, top, \
right, bottom: two corners. Or cx, cy, w, h; x_center, y_center, width, height: centre and size. \
Corners and sides may also have bbox_ before them. Parts that do not make a box, or several boxes, \
are an error. Rows may have mask (COCO's size and counts, or the struct of a project's table), \
polygon (rings of x, y), theta (degrees), area, track_id, {more}, attribute_hash and option_hash; \
in CSV lists and objects are JSON.

Coordinates are pixels; relative where the names of columns end in _rel (bbox_rel, x_rel), where \
the schema's metadata has coordinates=relative, or where you say so. Other columns are left out, \
and named in the notes."""

PREDICTIONS: Final = PredictionFormat(
    name="table",
    doc="Our own columns as Parquet, Arrow, CSV, TSV or lines of JSON",
    about=ABOUT.format(row="prediction, with confidence or score", more="probabilities")
    + "\n\nOf a directory predictions.parquet is read, else all Parquet and Arrow files in it.",
    example="image_id,class_name,score,bbox_x,bbox_y,bbox_w,bbox_h\n"
    "000042,dog,0.236,258.1,41.3,348.3,243.8",
    options=OPTIONS,
    many=True,
    sniff=_sniff,
    open=OwnTables,
)
