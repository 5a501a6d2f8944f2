"""What every reader yields, and the builder that turns parsed rows into record batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from ea_arrow.geometry import polygon_column
from ea_arrow.rle import mask_column
from ea_arrow.schema import RAW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ea_arrow.ontology import Ontology

BATCH_ROWS = 32_768
BATCH_MASKS = 2_048
BATCH_BYTES = 1 << 26
"""A batch is flushed at this many rows, masks, or bytes of geometry: the memory bound."""


UnitKey = Literal["data_hash", "source_id", "title", "name", "stem", "number", "position"]
"""What can name a data unit: a column of ``data_units``, or what derives from its title: the file
name without directories, that without its suffix, the whole number this is; or its place in the
order of evaluation, from 0."""

ClassKey = Literal["feature_hash", "source_id", "name", "index"]
"""What can name a class: a column of ``classes``, or its place in a list of classes, from 0."""


@dataclass(frozen=True)
class Coordinates:
    """How a source names data units and classes, and what its coordinates are relative to.

    Attributes:
        relative: Coordinates are fractions of the data unit's width and height, else pixels.
        unit_key: What the RAW column ``unit`` holds, as far as the format says.
        class_key: What the RAW column ``class_ref`` holds, as far as the format says. ``index`` is
            a place in the model's own list of classes, which need not be the project's.
        class_names: The source's own names of its classes by ``class_ref``, where it has them.
        unit_names: The source's own names of its data units by ``unit``, where it has them: file
            names, as the images of COCO have.
        reach: How far beyond the data unit a predicted fraction may lie; farther is refused. Encord
            Active had no fractions beyond; elsewhere a box may stick out of its image.
    """

    relative: bool
    unit_key: UnitKey
    class_key: ClassKey
    class_names: tuple[tuple[str, str], ...] = ()
    unit_names: tuple[tuple[str, str], ...] = ()
    reach: float = 1.0


class RowError(Exception):
    """A row breaks a rule. Readers catch it and yield the row as a reject.

    Args:
        rule: The rule, one of ``ledger.REJECTS``.
        message: What was found and what was expected.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


class PredictionSource(Protocol):
    """A file of predictions, opened.

    Attributes:
        path: The file.
        coordinates: How it names data units and classes, and its coordinates.
        notes: Counted peculiarities; complete when the batches have been read to the end.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102 - described above
    @property
    def coordinates(self) -> Coordinates: ...  # noqa: D102
    @property
    def notes(self) -> Mapping[str, int]: ...  # noqa: D102

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema, in file order."""


@dataclass
class GroundTruth:
    """Ground truth, opened: the data units and ontology at once, the labels as a stream.

    Attributes:
        data_units: ``DATA_UNITS`` table in evaluation order, ``unit_id`` 0 … n−1.
        ontology: The classes.
        labels: Batches of the ``RAW`` schema.
        coordinates: How the labels name data units and classes.
        notes: Counted peculiarities of the source that changed nothing that is kept, for the
            ledger (``{"annotations without id": 3}``).
        covered: The data units that the source says something of, if only that they have no
            labels, as ``coordinates.unit_key`` names them. None: all, or, where data units are
            images of a directory, those with labels.
    """

    data_units: pa.Table
    ontology: Ontology
    labels: Iterator[pa.RecordBatch]
    coordinates: Coordinates
    notes: dict[str, int]
    covered: frozenset[str] | None = None


def raw_batch(columns: Mapping[str, pa.Array], rows: int) -> pa.RecordBatch:
    """Return a ``RAW`` batch of columns that are there; all others are null.

    Args:
        columns: RAW columns by name, each of the type RAW has, of length ``rows``.
        rows: How many rows.

    >>> raw_batch({"source_row": pa.array([0, 1])}, 2).num_rows
    2
    """
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(rows, field.type)
        for field in RAW.arrow
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW.arrow)


class RawBuilder:
    """Collects parsed rows and turns them into ``RAW`` record batches.

    Masks are given as :class:`ea_arrow.geometry.Rle` and compressed in bulk; an RLE that is
    malformed turns its row into a reject under the rule ``invalid_mask``.

    >>> builder = RawBuilder()
    >>> builder.add(source_row=0, unit="a", class_ref="cat", format="bounding_box", confidence=0.5,
    ...             bbox_x=0.1, bbox_y=0.1, bbox_w=0.5, bbox_h=0.5)
    >>> builder.flush().num_rows
    1
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._masks = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether it is time to flush."""
        many = len(self._rows) >= BATCH_ROWS or self._masks >= BATCH_MASKS
        return many or self._bytes >= BATCH_BYTES

    def add(self, **row: Any) -> None:
        """Add one row: RAW columns by name; those left out are null."""
        self._rows.append(row)
        mask, rings = row.get("mask"), row.get("polygon")
        if mask is not None:
            self._masks += 1
            self._bytes += len(mask.counts) * (1 if isinstance(mask.counts, bytes) else 8)
        if rings is not None:
            self._bytes += sum(len(ring) for ring in rings) * 8

    def flush(self) -> pa.RecordBatch:
        """Return the collected rows as one batch of the ``RAW`` schema and start afresh."""
        rows, self._rows = self._rows, []
        self._masks = self._bytes = 0
        masks = [row.get("mask") for row in rows]
        encoded, broken = mask_column(masks)
        for index, why in broken.items():
            rows[index].setdefault("rule", "invalid_mask")
            rows[index].setdefault("message", why)
        built = {
            "mask": encoded,
            "polygon": polygon_column([row.get("polygon") for row in rows]),
        }
        columns = [
            built[field.name]
            if field.name in built
            else pa.array([row.get(field.name) for row in rows], type=field.type)
            for field in RAW.arrow
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RAW.arrow)


def batches_of(rows: Iterable[dict[str, Any]], start: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield rows as batches of the ``RAW`` schema.

    Args:
        rows: Columns of RAW by name; a ``source_row`` that is missing is the row's number.
        start: The number of the first.
    """
    builder = RawBuilder()
    for number, row in enumerate(rows, start):
        builder.add(**{"source_row": number} | row)
        if builder.full:
            yield builder.flush()
    if len(builder):
        yield builder.flush()
