"""What is read of a project to evaluate an iteration: no more columns than the question needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import objects
from ea_arrow.masks import MaskColumn
from ea_arrow.rasterise import with_masks
from ea_arrow.schema import BOX, DATA_UNITS, LABELS, MASK, PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ea_arrow.cache import Cache
    from ea_arrow.store import Iteration, Store

_DICTIONARIES: Final = ("data_hash", "feature_hash", "attribute_hash", "option_hash", "format")
_KEY: Final = ("data_hash", "frame", "format", "feature_hash")
_SHAPE: Final = (*BOX, "theta", "mask", "polygon")
_LIGHT: Final = tuple(f"mask.{name}" for name in MASK.names if name != "counts")
_PREDICTION: Final = ("prediction_id", "confidence", "area")
_LABEL: Final = ("label_id", "is_crowd", "is_ignored", "source_id", "area")
_ANSWER: Final = ("attribute_hash", "option_hash")


@dataclass(frozen=True)
class Inputs:
    """Tables for :func:`~ea_arrow.candidates.find_candidates`, and masks if they are compared."""

    predictions: pa.Table
    labels: pa.Table
    data_units: pa.Table
    classes: pa.Table
    masks: tuple[MaskColumn, MaskColumn] | None = None

    @property
    def tables(self) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
        """All four."""
        return self.predictions, self.labels, self.data_units, self.classes


class Reader:
    """Reads a project's tables for an evaluation.

    Args:
        store: The project.
        cache: Where masks drawn from polygons are kept.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self._store, self._cache = store, cache
        self.label_table = store.table(LABELS)
        self.unit_table = store.table(DATA_UNITS)
        self._predictions = store.table(PREDICTIONS)

    @cached_property
    def data_units(self) -> pa.Table:
        """``DATA_UNITS`` in evaluation order."""
        return self.unit_table.read().sort_by("unit_id")

    @cached_property
    def classes(self) -> pa.Table:
        """``CLASSES``."""
        return self._store.classes()

    def formats(self, iteration: Iteration | None) -> dict[str, int]:
        """How many predictions of an iteration, or labels, have each format."""
        if iteration is None:
            table = self._read_labels(["format"])
        else:
            table = self._read_predictions(iteration, ["format"])
        counts = pc.value_counts(table["format"]).to_pylist()
        return {count["values"]: count["counts"] for count in counts}

    def rows(self, iteration: Iteration | None, columns: Sequence[str]) -> pa.Table:
        """Some columns of an iteration's predictions, or of the labels."""
        if iteration is None:
            return self._read_labels(columns)
        return self._read_predictions(iteration, columns)

    def boxes(self, iteration: Iteration) -> Inputs:
        """What comparing boxes needs."""
        return self._inputs(
            self._read_predictions(iteration, [*_PREDICTION, *_KEY, *BOX]),
            self._read_labels([*_LABEL, *_KEY, *BOX]),
        )

    def masks(self, iteration: Iteration, predictions_key: str, labels_key: str) -> Inputs:
        """What comparing masks needs; polygons and boxes are drawn once and kept.

        Args:
            iteration: The iteration.
            predictions_key: Fingerprint of its predictions and their data units.
            labels_key: Fingerprint of the labels and data units.
        """
        units = self.data_units
        labels = objects(self._read_labels([*_LABEL, *_KEY]))
        truth = self._cache.arrays(
            "masks",
            labels_key,
            lambda: _drawn(self._read_labels(["label_id", *_KEY, *_SHAPE]), units),
            always=True,
        )
        predictions = self._read_predictions(iteration, [*_PREDICTION, *_KEY])
        if set(pc.unique(predictions["format"]).to_pylist()) <= {"mask"}:
            light = self._predictions.read(_LIGHT, files=iteration.files)
            counts = partial(self._predictions.batches, "mask.counts", iteration.files)
            found = MaskColumn.of(light.column("mask"), counts)
        else:
            drawn = self._cache.arrays(
                "masks",
                predictions_key,
                lambda: _drawn(
                    self._read_predictions(iteration, ["prediction_id", *_KEY, *_SHAPE]), units
                ),
                always=True,
            )
            found = MaskColumn.of(drawn.column("mask"))
        masks = found, MaskColumn.of(truth.column("mask"))
        return Inputs(objects(predictions), labels, units, self.classes, masks)

    def classifications(self, iteration: Iteration) -> Inputs:
        """What comparing answers needs."""
        return self._inputs(
            self._read_predictions(
                iteration, ["prediction_id", "confidence", "probabilities", *_KEY, *_ANSWER]
            ),
            self._read_labels(["label_id", "is_ignored", *_KEY, *_ANSWER]),
        )

    def _inputs(self, predictions: pa.Table, labels: pa.Table) -> Inputs:
        return Inputs(predictions, labels, self.data_units, self.classes)

    def _read_predictions(self, iteration: Iteration, columns: Sequence[str]) -> pa.Table:
        return self._predictions.read(columns, files=iteration.files, as_dictionary=_DICTIONARIES)

    def _read_labels(self, columns: Sequence[str]) -> pa.Table:
        return self.label_table.read(columns, as_dictionary=_DICTIONARIES)


def _drawn(table: pa.Table, data_units: Any) -> pa.Table:
    return with_masks(objects(table), data_units).select(["mask"])
