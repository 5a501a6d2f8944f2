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

from ea_arrow.candidates import ANY_OVERLAP, find_candidates
from ea_arrow.conform import conform
from ea_arrow.evidence import matches
from ea_arrow.files import parquet_options, sync
from ea_arrow.metrics.coco import CocoParameters, evaluate
from ea_arrow.schema import DATA_UNITS, LABELS, MATCHES, METRICS, PREDICTIONS
from ea_arrow.store import DERIVED, ONTOLOGY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ea_arrow.schema import TableSpec
    from ea_arrow.store import Iteration, Store

ENGINE: Final = 2
"""Rises whenever the same inputs give other results."""

MATCH_THRESHOLD: Final = 0.5
_DICTIONARIES: Final = ("data_hash", "feature_hash", "format")
_NEEDED: Final = (
    *("data_hash", "frame", "format", "feature_hash"),
    *("bbox_x", "bbox_y", "bbox_w", "bbox_h", "area"),
)


class Results:
    """The matches and metrics of a project's iterations.

    What all of them depend on (labels, data units, classes) is looked at once, when this is made.

    Args:
        store: The project.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._labels = store.table(LABELS)
        self._data_units = store.table(DATA_UNITS)
        ontology = (store.folder / ONTOLOGY).read_bytes()
        self._shared = {
            "engine": ENGINE,
            "ontology": hashlib.sha256(ontology).hexdigest(),
            "labels": [f.path for f in self._labels.files()],
            "data_units": [f.path for f in self._data_units.files()],
        }

    def fingerprint(self, iteration: Iteration) -> str:
        """Name the inputs that an iteration's matches and metrics are computed from."""
        inputs = {**self._shared, "predictions": sorted(f.path for f in iteration.files)}
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]

    def metrics(self, iteration: Iteration) -> pa.Table:
        """COCO box metrics of an iteration as ``METRICS``.

        Where a label has the id 0 there are also rows of the protocol ``coco_id_zero_counts``.
        """
        return read(self.file_or_table(iteration, METRICS))

    def known_metrics(self, iteration: Iteration) -> pa.Table | None:
        """Metrics of an iteration if they have been computed."""
        path = self._path(METRICS, self.fingerprint(iteration))
        return read(path) if _is_whole(path) else None

    def matches(self, iteration: Iteration) -> pa.Table:
        """Matches of an iteration under protocol ``coco`` at IoU 0.5 as ``MATCHES``."""
        return read(self.file_or_table(iteration, MATCHES))

    def file_or_table(self, iteration: Iteration, spec: TableSpec) -> Path | pa.Table:
        """A result's file, or the result itself where the project cannot be written to."""
        name = self.fingerprint(iteration)
        path = self._path(spec, name)
        if _is_whole(path):
            return path
        compute = self._metrics if spec is METRICS else self._matches
        table = conform(compute(iteration, name), spec)
        return path if _save(table, path, spec) else table

    def stale(self, iterations: Iterable[Iteration], files: Iterable[Path]) -> list[Path]:
        """Those of ``files`` that no iteration can use."""
        current = {self.fingerprint(iteration) for iteration in iterations}
        return [
            f for f in files if f.name.partition("-")[2].removesuffix(".parquet") not in current
        ]

    def _path(self, spec: TableSpec, name: str) -> Path:
        return self._store.folder / DERIVED / f"{spec.name}-{name}.parquet"

    def _inputs(self, iteration: Iteration) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
        predictions = self._store.table(PREDICTIONS).read(
            ["prediction_id", "confidence", *_NEEDED],
            files=iteration.files,
            as_dictionary=_DICTIONARIES,
        )
        labels = self._labels.read(
            ["label_id", "is_crowd", "is_ignored", "source_id", *_NEEDED],
            as_dictionary=_DICTIONARIES,
        )
        data_units = self._data_units.read().sort_by("unit_id")
        return predictions, labels, data_units, self._store.classes()

    def _metrics(self, iteration: Iteration, name: str) -> pa.Table:
        inputs = self._inputs(iteration)
        found = evaluate(*inputs)
        tables = [found.to_metrics(iteration.name, name)]
        if found.labels_with_id_zero:  # pycocotools never counts those: the numbers if it did
            parameters = CocoParameters(annotation_id_zero_counts=True)
            tables.append(evaluate(*inputs, parameters).to_metrics(iteration.name, name))
        return pa.concat_tables(tables)

    def _matches(self, iteration: Iteration, name: str) -> pa.Table:
        del name
        inputs = self._inputs(iteration)
        candidates = find_candidates(*inputs, lowest=ANY_OVERLAP)
        return matches(candidates, *inputs[2:], MATCH_THRESHOLD, iteration=iteration.name)


def read(result: Path | pa.Table) -> pa.Table:
    """A result's rows."""
    return result if isinstance(result, pa.Table) else pq.read_table(result, partitioning=None)


def _is_whole(path: Path) -> bool:
    """Whether a file is there and complete: a power cut can leave an empty one."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True


def _save(table: pa.Table, path: Path, spec: TableSpec) -> bool:
    """Write the file under a temporary name first; a disk that will not have it is no error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        pq.write_table(table, temporary, **parquet_options(spec))
        sync(temporary)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True
