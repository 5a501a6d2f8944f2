"""Our own columns: a directory of Parquet files, or one CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ea_arrow.conform import conform
from ea_arrow.exports.base import UNUSED, Account, Subject, Target, given
from ea_arrow.exports.text import joined, listed, mask_counts, mask_field, ring_texts
from ea_arrow.files import parquet_options
from ea_arrow.schema import CLASSES, DATA_UNITS, LABELS, PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ea_arrow.schema import TableSpec


def _write_parquet(subject: Subject, folder: Path, name: str, account: Account) -> None:
    del name
    spec = LABELS if subject.is_labels else PREDICTIONS
    account.written += _write_table(folder, spec, subject.read())
    _write_table(folder, DATA_UNITS, subject.data_units.to_batches())
    _write_table(folder, CLASSES, subject.classes.to_batches())


def _write_table(folder: Path, spec: TableSpec, batches: Iterable[pa.RecordBatch]) -> int:
    options = parquet_options(spec)
    if spec.partition_by:  # here a column like others
        options["use_dictionary"] = [*(options["use_dictionary"] or ()), *spec.partition_by]
    rows = 0
    with pq.ParquetWriter(folder / f"{spec.name}.parquet", spec.arrow, **options) as writer:
        for batch in batches:
            if batch.num_rows:
                writer.write_batch(conform(batch, spec))
                rows += batch.num_rows
    return rows


_TEXTS: Final = ("data_hash", "title", "frame", "format", "feature_hash", "class_name")
_UNIT: Final = ("data_hash", "frame")
_NO_LABELS: Final = "data units without labels, which a table of labels does not name"
_OPTION: Final = ("attribute_hash", "option_hash")
_SHAPE: Final = ("bbox_x", "bbox_y", "bbox_w", "bbox_h", "theta", "mask", "polygon", "area")
_COLUMNS: Final = {
    "predictions": (*_TEXTS, *_OPTION, "confidence", *_SHAPE, "track_id", "probabilities"),
    "labels": (
        *(*_TEXTS, "image_width", "image_height", *_OPTION, *_SHAPE),
        *("is_crowd", "is_ignored", "track_id", "source_id"),
    ),
}


def _write_csv(subject: Subject, folder: Path, name: str, account: Account) -> None:
    from pyarrow import csv

    columns = _COLUMNS["labels" if subject.is_labels else "predictions"]
    spec = LABELS if subject.is_labels else PREDICTIONS
    empty = _flat(subject, pa.RecordBatch.from_pylist([], schema=spec.arrow), columns)
    labelled: set[tuple[str, int]] = set()
    used: set[str] = set()
    with csv.CSVWriter(folder / name, empty.schema) as writer:
        for batch in subject.batches():
            account.written += batch.num_rows
            empty_track = pc.equal(batch.column("track_id"), "").fill_null(False)
            account.note(
                "empty track ids, which CSV cannot tell from none", pc.sum(empty_track).as_py() or 0
            )
            writer.write(_flat(subject, batch, columns))
            used.update(batch.column("feature_hash").unique().to_pylist())
            labelled.update(zip(*(batch.column(n).to_pylist() for n in _UNIT), strict=True))
    if subject.is_labels:
        account.note(_NO_LABELS, len(subject.data_units) - len(labelled))
        known = {*subject.classes["feature_hash"].to_pylist()}
        account.note(UNUSED, len(known - used))


def _flat(subject: Subject, batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """A batch with a column for each of the file's: text or numbers."""

    def of_unit(name: str) -> pa.Array:
        return subject.data_units[name].combine_chunks().take(pa.array(subject.unit_of(batch)))

    made = {
        "title": lambda: of_unit("title"),
        "image_width": lambda: of_unit("width"),
        "image_height": lambda: of_unit("height"),
        "class_name": lambda: _class_names(subject, batch),
        "mask": lambda: _masks(batch.column("mask")),
        "polygon": lambda: _where(batch.column("polygon"), ring_texts(batch.column("polygon"))),
        "probabilities": lambda: _lists(batch.column("probabilities")),
    }
    arrays = [made[name]() if name in made else batch.column(name) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _class_names(subject: Subject, batch: pa.RecordBatch) -> pa.Array:
    """Names of classes; of an answer that of the option."""
    classes = subject.classes.combine_chunks()
    keys = ("feature_hash", *_OPTION)
    known, wanted = (
        pc.binary_join_element_wise(
            *(table.column(name).cast(pa.string()).fill_null("") for name in keys), "\0"
        )
        for table in (pa.Table.from_batches(classes.to_batches(), classes.schema), batch)
    )
    known = known.combine_chunks() if isinstance(known, pa.ChunkedArray) else known
    names = classes["name"].combine_chunks()
    return names.take(pc.index_in(wanted, value_set=known))


def _masks(masks: pa.StructArray) -> pa.Array:
    height, width = (mask_field(masks, n).cast(pa.string()) for n in ("height", "width"))
    counts = pc.replace_substring(mask_counts(masks), "\\", "\\\\")
    parts = (
        height.fill_null(""),
        ", ",
        width.fill_null(""),
        '], "counts": "',
        counts.fill_null(""),
    )
    return _where(masks, joined('{"size": [', *parts, '"}'))


def _lists(lists: pa.ListArray) -> pa.Array:
    lengths = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    values = listed(lists.flatten().cast(pa.string()), lengths, ", ")
    return _where(lists, joined("[", values, "]"))


def _where(column: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(given(column)), texts, pa.scalar(None, pa.string()))


PARQUET: Final = Target(
    name="parquet",
    doc="directory of Parquet files: the rows, the data units and the classes",
    about="predictions.parquet or labels.parquet, data_units.parquet and classes.parquet: "
    "everything there is, hashes and classes without labels included. Only this keeps all of "
    "a project.",
    suffix="",
    write=_write_parquet,
    format="table",
)
CSV: Final = Target(
    name="csv",
    doc="CSV file with a column for each of ours; masks and polygons as JSON",
    about="A row per prediction or label. Of labels, data units and classes that have none are not "
    "in it; parquet keeps them.",
    suffix=".csv",
    write=_write_csv,
    format="table",
)
