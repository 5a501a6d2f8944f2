"""The quality of images: what was measured of their pixels, their neighbours, and their labels."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow import cache
from ea_arrow.quality.embeddings import Embeddings
from ea_arrow.quality.engine import quality
from ea_arrow.quality.image_jobs import known_images
from ea_arrow.quality.near_duplicates import (
    image_near_duplicates,
    image_uniqueness,
    near_duplicates,
)
from ea_arrow.quality.neighbours import (
    annotation_quality,
    image_diversity,
    image_singularity,
    nearest,
)
from ea_arrow.quality.objects import unit_rows
from ea_arrow.quality.registry import ENGINE, metrics, metrics_of
from ea_arrow.schema import Column, TableSpec

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.derived import Results
    from ea_arrow.store import Store

MEASURES: Final = "images"
"""The folder of what was measured of pixels."""

OF_LABELS: Final = ("object_count", "frame_object_density")
"""What images have of their labels."""


def image_spec() -> TableSpec:
    """The shape of ``image_quality``: keys, then a column per metric."""
    keys = (
        Column("unit_id", pa.int64(), "Place in the order of evaluation.", nullable=False),
        Column("data_hash", pa.string(), "The data unit.", nullable=False),
        Column("frame", pa.int64(), "Its frame.", nullable=False),
    )
    found = [*metrics_of("image").values(), *(metrics()[name] for name in OF_LABELS)]
    values = [Column(m.name, pa.float64(), m.doc, encoding="split") for m in found]
    error = Column("error", pa.string(), "Why the image could not be measured.")
    return TableSpec("image_quality", "Quality metrics, a column each.", (*keys, *values, error))


def image_quality(store: Store, results: Results) -> Path | pa.Table:
    """The quality of every data unit: its file, or the table itself."""
    return results.kept(image_spec(), None, measured_as(store), lambda: _compute(store, results))


def measured_as(store: Store) -> str:
    """Name what was measured of images, and their embeddings: another after every change."""
    parts = sorted(path.name for path in (store.folder / MEASURES).glob("part-*.parquet"))
    embedded = Embeddings(store).stamp("image", "")
    return hashlib.sha256(f"{ENGINE} {parts} {embedded}".encode()).hexdigest()[:16]


def _compute(store: Store, results: Results) -> pa.Table:
    units = results.reader.data_units
    keys = {name: units[name] for name in ("unit_id", "data_hash", "frame")}
    hashes, frames = units["data_hash"].to_pylist(), units["frame"].to_pylist()
    found = known_images(store.folder / MEASURES, hashes, frames)
    columns: dict[str, Any] = {name: found[name] for name in found.schema.names if name not in keys}
    near = near_duplicates(columns.pop("perceptual_hash").combine_chunks())
    columns["image_uniqueness"] = _nullable(image_uniqueness(near))
    columns["image_near_duplicates"] = _nullable(image_near_duplicates(near))
    columns |= _of_embeddings(store, results, units)
    columns |= _of_labels(results, units)
    return pa.table({**keys, **columns})


def _of_embeddings(store: Store, results: Results, units: pa.Table) -> dict[str, pa.Array]:
    names = ("image_singularity", "image_diversity", "image_annotation_quality")
    vectors = Embeddings(store).of("image", "", units)
    if vectors is None:
        return {name: pa.nulls(len(units), pa.float64()) for name in names}
    neighbours = nearest(vectors)
    values = (
        image_singularity(neighbours),
        image_diversity(neighbours),
        annotation_quality(neighbours, _answers(results, units)),
    )
    return {name: _nullable(value) for name, value in zip(names, values, strict=True)}


def _answers(results: Results, units: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The class of each image: the option its only classification has, −1 without one."""
    columns = ["data_hash", "frame", "format", "option_hash"]
    labels = results.reader.rows(None, columns)
    labels = labels.filter(pc.equal(labels["format"].cast(pa.string()), "classification"))
    classes = np.full(len(units), -1)
    if len(labels):
        rows = unit_rows(labels, units)
        options = labels["option_hash"].cast(pa.string()).combine_chunks()
        codes = pc.dictionary_encode(options).indices.fill_null(-1).to_numpy()
        once = np.bincount(rows, minlength=len(units))[rows] == 1
        classes[rows[once]] = codes[once]
    return classes


def _of_labels(results: Results, units: pa.Table) -> dict[str, pa.Array]:
    """What the labels say of each image; one without labels has none, and they cover nothing."""
    labels = cache.read(quality(results, None))
    columns = {}
    rows = unit_rows(labels, units)
    for name in OF_LABELS:
        values = np.zeros(len(units))
        values[rows] = labels[name].to_numpy(zero_copy_only=False)
        columns[name] = _nullable(values)
    return columns


def _nullable(values: Any) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))
