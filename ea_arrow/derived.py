"""Matches and metrics, computed when asked for and kept for as long as their inputs stay the same.

Each result is a Parquet file named for a fingerprint of everything it was computed from. A changed
input has another fingerprint, so a stale result cannot be served; one that was half written has a
temporary name.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ea_arrow.conform import conform
from ea_arrow.files import parquet_options
from ea_arrow.match import match_boxes
from ea_arrow.metrics.coco import CocoParameters, evaluate
from ea_arrow.schema import DATA_UNITS, LABELS, MATCHES, METRICS, PREDICTIONS
from ea_arrow.store import DERIVED, ONTOLOGY, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ea_arrow.schema import TableSpec
    from ea_arrow.store import Iteration

ENGINE: Final = 1
"""Rises whenever the same inputs give other results."""

MATCH_THRESHOLD: Final = 0.5
_DICTIONARIES: Final = ("data_hash", "feature_hash", "format")
_NEEDED: Final = (
    *("data_hash", "frame", "format", "feature_hash"),
    *("bbox_x", "bbox_y", "bbox_w", "bbox_h", "area"),
)


def fingerprint(store: Store, iteration: Iteration) -> str:
    """Name the inputs that an iteration's matches and metrics are computed from."""
    ontology = (store.folder / ONTOLOGY).read_bytes()
    inputs = {
        "engine": ENGINE,
        "ontology": hashlib.sha256(ontology).hexdigest(),
        "labels": [f.path for f in store.table(LABELS).files()],
        "data_units": [f.path for f in store.table(DATA_UNITS).files()],
        "predictions": sorted(f.path for f in iteration.files),
    }
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


def metrics(store: Store, iteration: Iteration) -> pa.Table:
    """COCO box metrics of an iteration as ``METRICS``.

    Where a label has the id 0 there are also rows of the protocol ``coco_id_zero_counts``.
    """
    return read(_cached(store, iteration, METRICS, _metrics))


def known_metrics(store: Store, iteration: Iteration) -> pa.Table | None:
    """Metrics of an iteration if they have been computed."""
    path = _path(store, METRICS, fingerprint(store, iteration))
    return read(path) if path.is_file() else None


def matches(store: Store, iteration: Iteration) -> pa.Table:
    """Matches of an iteration under protocol ``coco`` at IoU 0.5 as ``MATCHES``."""
    return read(_cached(store, iteration, MATCHES, _matches))


def file_or_table(store: Store, iteration: Iteration, spec: TableSpec) -> Path | pa.Table:
    """A result's file, or the result itself where the project cannot be written to."""
    return _cached(store, iteration, spec, _metrics if spec is METRICS else _matches)


def read(result: Path | pa.Table) -> pa.Table:
    """A result's rows."""
    return result if isinstance(result, pa.Table) else pq.read_table(result, partitioning=None)


def _cached(
    store: Store,
    iteration: Iteration,
    spec: TableSpec,
    compute: Callable[[Store, Iteration, str], pa.Table],
) -> Path | pa.Table:
    name = fingerprint(store, iteration)
    path = _path(store, spec, name)
    if path.is_file():
        return path
    table = conform(compute(store, iteration, name), spec)
    return path if _save(table, path, spec) else table


def _path(store: Store, spec: TableSpec, name: str) -> Path:
    return store.folder / DERIVED / f"{spec.name}-{name}.parquet"


def _save(table: pa.Table, path: Path, spec: TableSpec) -> bool:
    """Write the file under a temporary name first; a disk that will not have it is no error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        pq.write_table(table, temporary, **parquet_options(spec))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _inputs(store: Store, iteration: Iteration) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    predictions = store.table(PREDICTIONS).read(
        ["prediction_id", "confidence", *_NEEDED],
        {"iteration": iteration.name},
        as_dictionary=_DICTIONARIES,
    )
    labels = store.table(LABELS).read(
        ["label_id", "is_crowd", "is_ignored", "source_id", *_NEEDED], as_dictionary=_DICTIONARIES
    )
    return predictions, labels, store.data_units(), store.classes()


def _metrics(store: Store, iteration: Iteration, name: str) -> pa.Table:
    inputs = _inputs(store, iteration)
    found = evaluate(*inputs)
    tables = [found.to_metrics(iteration.name, name)]
    if found.labels_with_id_zero:  # pycocotools never counts those: give the numbers if it did
        corrected = evaluate(*inputs, parameters=CocoParameters(annotation_id_zero_counts=True))
        tables.append(corrected.to_metrics(iteration.name, name))
    return pa.concat_tables(tables)


def _matches(store: Store, iteration: Iteration, name: str) -> pa.Table:
    del name
    inputs = _inputs(store, iteration)
    return match_boxes(*inputs, iou_threshold=MATCH_THRESHOLD, iteration=iteration.name)


def drop_stale(store: Store, iterations: list[Iteration]) -> int:
    """Delete results that no live iteration can use; return how many."""
    current = {fingerprint(store, iteration) for iteration in iterations}
    stale = [
        path
        for path in (store.folder / DERIVED).glob("*.parquet*")
        if path.name.partition("-")[2].removesuffix(".parquet") not in current
    ]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)
