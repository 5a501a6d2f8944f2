"""Computes the quality metrics of predictions and labels that need no pixels, in one pass.

The values of an iteration are one file with a column per metric, named for a fingerprint of its
inputs like every other answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.quality.acquisition import SCORES, acquisition_scores
from ea_arrow.quality.duplicates import duplicate_partners
from ea_arrow.quality.embeddings import Embeddings
from ea_arrow.quality.neighbours import annotation_quality, nearest
from ea_arrow.quality.objects import Objects, unit_rows
from ea_arrow.quality.registry import ENGINE, metrics_of
from ea_arrow.schema import BOX, Column, TableSpec

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.derived import Results
    from ea_arrow.quality.declared import Metric, Target
    from ea_arrow.store import Iteration

    Floats = np.ndarray[Any, np.dtype[np.float64]]

PARTNER: Final = "object_duplicate_of"
_EMBEDDED: Final = "embeddings"
_COLUMNS: Final = (
    *("data_hash", "frame", "format", "feature_hash", *BOX, "theta", "area", "track_id"),
    *("mask", "polygon"),
)
_TEXT: Final = pa.string()


def wide_spec(target: Target) -> TableSpec:
    """The shape of ``prediction_quality`` or ``label_quality``: keys, then a column per metric."""
    key = f"{target}_id"
    keys = [
        Column(key, pa.int64(), f"The {target}.", nullable=False, encoding="delta"),
        Column("data_hash", _TEXT, "The data unit.", nullable=False, encoding="dictionary"),
        Column("frame", pa.int64(), "Its frame.", nullable=False, encoding="dictionary"),
    ]
    if target == "prediction":
        keys.insert(0, Column("iteration", _TEXT, "The iteration.", nullable=False))
    values = [Column(m.name, pa.float64(), m.doc, encoding="split") for m in computed(target)]
    values.append(Column(PARTNER, pa.int64(), "The object that object_duplicates is about."))
    return TableSpec(f"{target}_quality", "Quality metrics, a column each.", (*keys, *values))


def computed(target: Target) -> list[Metric]:
    """The metrics of predictions or labels, in the order of their columns."""
    return list(metrics_of(target).values())


def quality(results: Results, iteration: Iteration | None) -> Path | pa.Table:
    """The quality of an iteration's predictions, or of the labels: its file, or the table itself.

    Args:
        results: The project's answers.
        iteration: The iteration; None for the labels.
    """
    target: Target = "label" if iteration is None else "prediction"
    embedded = Embeddings(results.store).stamp(target, results.rows_key(iteration))
    return results.kept(
        wide_spec(target),
        iteration,
        f"q{ENGINE}{embedded}",
        lambda: _compute(results, iteration, target),
    )


def _compute(results: Results, iteration: Iteration | None, target: Target) -> pa.Table:
    reader = results.reader
    own = ("prediction_id", "confidence", "probabilities") if iteration else ("label_id",)
    table = reader.rows(iteration, [*own, *_COLUMNS])
    columns: dict[str, Any] = {name: table[name] for name in (own[0], "data_hash", "frame")}
    if iteration:
        columns["iteration"] = pa.repeat(pa.scalar(iteration.name), len(table))
    vectors = Embeddings(results.store).of(target, results.rows_key(iteration), table)
    columns |= measured(table, reader.data_units, reader.classes, target, vectors)
    return pa.table(columns)


def measured(
    table: pa.Table,
    data_units: pa.Table,
    classes: pa.Table,
    target: Target,
    embeddings: pa.Array | None = None,
) -> dict[str, pa.Array]:
    """Compute every metric of some rows.

    Args:
        table: Rows of ``PREDICTIONS`` or ``LABELS``.
        data_units: ``DATA_UNITS`` in order of ``unit_id``.
        classes: ``CLASSES``.
        target: Which of the two.
        embeddings: A vector for each row, null without one.

    Returns:
        A column per metric, null where it is not defined, and the partners of duplicates.
    """
    is_object = pc.not_equal(table["format"].cast(_TEXT), "classification")
    rows = np.flatnonzero(is_object.to_numpy())
    objects = Objects.of(table, data_units, classes)
    unit = unit_rows(table, data_units)
    sequences = bool(objects.units.place.any())
    columns: dict[str, pa.Array] = {}
    scores = (
        acquisition_scores(table["probabilities"].combine_chunks())
        if "probabilities" in table.schema.names
        else {}
    )
    for metric in computed(target):
        if metric.name in SCORES:
            values = scores[metric.name]
        elif _EMBEDDED in metric.needs:
            values = _like_neighbours(embeddings, objects, rows, len(table))
        elif "order" in metric.needs and not sequences:
            values = np.full(len(table), np.nan)
        elif metric.per_unit:
            values = metric.compute(objects)[unit]
        else:
            values = np.full(len(table), np.nan)
            values[rows] = metric.compute(objects)
        columns[metric.name] = _nullable(values)
    partner = np.full(len(table), -1)
    partner[rows] = duplicate_partners(objects)
    columns[PARTNER] = pa.array(partner, mask=partner < 0)
    return columns


def _like_neighbours(embeddings: pa.Array | None, objects: Objects, rows: Any, n: int) -> Floats:
    values = np.full(n, np.nan)
    if embeddings is not None and len(rows):
        values[rows] = annotation_quality(nearest(embeddings.take(pa.array(rows))), objects.klass)
    return values


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))
