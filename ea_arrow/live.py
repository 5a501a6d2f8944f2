"""Metrics of what a writer has written so far, by the engine that evaluates stored iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ea_arrow.arranged import objects, unit_codes
from ea_arrow.metrics.coco import evaluate
from ea_arrow.metrics.parameters import CocoParameters
from ea_arrow.rasterise import with_masks
from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ea_arrow.candidates import IouType
    from ea_arrow.store import Store

SUBSET: Final = "written so far"
_NAMES: Final = ("data_hash", "frame", "format", "feature_hash")
_NUMBERS: Final = ("prediction_id", "confidence", "area", *BOX)
_SHAPES: Final = ("theta", "mask", "polygon")
_CODED: Final = ("data_hash", "feature_hash", "format")


class Live:
    """The rows written so far, as far as an evaluation needs them.

    Boxes take some 80 bytes each, masks their runs as well.

    Args:
        store: The project.
        iou_type: Compare boxes or masks.
    """

    def __init__(self, store: Store, iou_type: IouType) -> None:
        self.iou_type = iou_type
        self._units = store.data_units()
        self._classes = store.classes()
        labels = objects(store.labels())
        self._labels = with_masks(labels, self._units) if iou_type == "segm" else labels
        self._label_unit = unit_codes(self._labels, self._units, "label")
        self._seen = np.zeros(self._units.num_rows, dtype=bool)
        self._parts: list[pa.Table] = []

    def read(self, paths: Iterable[Path]) -> None:
        """Take the rows of finished files."""
        for path in paths:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    self._add(file.read_row_group(group, columns=list(self._columns)))

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows as they are written."""
        if rows.num_rows:
            self._add(pa.Table.from_batches([rows]).select(list(self._columns)))

    def see(self, units: Iterable[tuple[str, int]]) -> None:
        """Count data units in, though nothing was found in them."""
        keys = list(units)
        if keys:
            table = pa.table({"data_hash": [k for k, _ in keys], "frame": [f for _, f in keys]})
            known = pc.is_in(table["data_hash"], self._units["data_hash"].combine_chunks())
            self._seen[unit_codes(table.filter(known), self._units, "data unit")] = True

    def metrics(self, name: str) -> pa.Table:
        """``METRICS`` over the data units written so far, and their labels."""
        if self._parts:
            predictions = pa.concat_tables(self._parts).unify_dictionaries()
        else:
            predictions = self._labels.slice(0, 0)
            for column in ("prediction_id", "confidence"):
                predictions = predictions.append_column(column, pa.nulls(0, pa.float64()))
        labels = self._labels.filter(pa.array(self._seen[self._label_unit]))
        found = evaluate(
            predictions,
            labels,
            self._units,
            self._classes,
            CocoParameters(iou_type=self.iou_type),
        )
        return found.to_metrics(name, "writer", SUBSET)

    @property
    def _columns(self) -> tuple[str, ...]:
        shapes = _SHAPES if self.iou_type == "segm" else ()
        return (*_NUMBERS, *_NAMES, *shapes)

    def _add(self, table: Any) -> None:
        self._seen[unit_codes(table, self._units, "prediction")] = True
        table = objects(table)
        if self.iou_type == "segm":
            table = with_masks(table, self._units).drop_columns(["theta", "polygon"])
        for name in _CODED:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table[name].dictionary_encode())
        self._parts.append(table.replace_schema_metadata(None))
