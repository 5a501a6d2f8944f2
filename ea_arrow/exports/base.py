"""How a target is declared, what it is given, and the account of what it cannot say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import unit_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ea_arrow.arranged import Bools, Ints
    from ea_arrow.sources.formats import Option
    from ea_arrow.store import Iteration, Store

BATCH_ROWS: Final = 32_768
BATCH_BYTES: Final = 1 << 24
"""Rows are written in pieces of at most so many rows and bytes: the memory bound."""

UNUSED: Final = "classes without labels, which it does not name (parquet does)"
"""What of the classes is lost in files that name only those which occur."""

_ANSWERS: Final = "classifications: the format holds objects"


@dataclass
class Account:
    """What became of the rows: every row is written or left out, and what changed is counted.

    Attributes:
        written: Rows written.
        left_out: Rows the format cannot say, by what they are.
        notes: What is different about rows that are written, in words.
        reading: Options with which what was written is read as what it is.
    """

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    reading: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, rows: Any) -> None:
        """Count rows, given as a number or as flags, if there are any."""
        number = int(np.count_nonzero(rows)) if isinstance(rows, np.ndarray) else int(rows)
        if number:
            self.notes[what] += number

    def leave_out(self, why: str, rows: int) -> None:
        """Count rows that are not written, if there are any."""
        if rows:
            self.left_out[why] += rows


@dataclass(frozen=True)
class Subject:
    """What is exported: an iteration's predictions, or the labels.

    Attributes:
        store: The project.
        source: The iteration; None for the labels.
        rows: How many rows there are.
        formats: How many of them have each format.
        read: Yields them as batches of ``PREDICTIONS`` or ``LABELS``, in order, every time.
        options: The target's own options.
    """

    store: Store
    source: Iteration | None
    rows: int
    formats: Mapping[str, int]
    read: Callable[[], Iterator[pa.RecordBatch]]
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_labels(self) -> bool:
        """Whether these are labels, which have no confidence."""
        return self.source is None

    @cached_property
    def data_units(self) -> pa.Table:
        """``DATA_UNITS`` in order of ``unit_id``."""
        return self.store.data_units().combine_chunks()

    @cached_property
    def classes(self) -> pa.Table:
        """``CLASSES``."""
        return self.store.classes()

    @cached_property
    def object_classes(self) -> pa.Table:
        """The classes of objects, in their order."""
        return self.classes.filter(pc.equal(self.classes["kind"], "object")).combine_chunks()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in pieces that take little memory."""
        for batch in self.read():
            yield from pieces(batch)

    def objects(self, account: Account) -> Iterator[pa.RecordBatch]:
        """The objects among the rows; classifications are counted as left out."""
        for batch in self.batches():
            is_object = pc.not_equal(batch.column("format"), "classification")
            kept = batch if pc.all(is_object).as_py() else batch.filter(is_object)
            account.leave_out(_ANSWERS, batch.num_rows - len(kept))
            if kept.num_rows:
                yield kept

    def unit_of(self, batch: pa.RecordBatch) -> Ints:
        """Position of each row's data unit."""
        return unit_codes(batch, self.data_units, "row")

    def class_of(self, batch: pa.RecordBatch) -> Ints:
        """Position of each object's class among :attr:`object_classes`."""
        known = self.object_classes["feature_hash"].combine_chunks()
        found: Ints = pc.index_in(batch.column("feature_hash"), value_set=known).to_numpy(
            zero_copy_only=False
        )
        return found.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A format to export to.

    Attributes:
        name: As ``--to`` takes it.
        doc: One line: what is written.
        about: More of it: what each file holds, and what the format cannot say.
        suffix: Of the file that is written; empty where it is a directory.
        write: Writes into an empty directory, which becomes the one asked for; where a file is
            wanted, under the name given and, if need be, others beside it.
        format: Name of the format by which it is imported again; None: it is not.
        labels: Whether it can hold labels alone.
        options: Its own options.
    """

    name: str
    doc: str
    about: str
    suffix: str
    write: Callable[[Subject, Path, str, Account], None]
    format: str | None
    labels: bool = True
    options: tuple[Option, ...] = ()


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch until each piece takes little memory; an empty one has no pieces."""
    if batch.num_rows > 1 and (batch.num_rows > BATCH_ROWS or batch.nbytes > BATCH_BYTES):
        half = batch.num_rows // 2
        yield from pieces(batch.slice(0, half))
        yield from pieces(batch.slice(half))
    elif batch.num_rows:
        yield batch


def is_format(batch: pa.RecordBatch, *names: str) -> Bools:
    """Which rows have one of some formats."""
    found: Bools = pc.is_in(batch.column("format"), value_set=pa.array(names)).to_numpy(
        zero_copy_only=False
    )
    return found


def given(column: pa.Array) -> Bools:
    """Which rows have a value."""
    flags: Bools = column.is_valid().to_numpy(zero_copy_only=False)
    return flags


def floats(batch: pa.RecordBatch, *names: str) -> NDArray[np.float64]:
    """Columns as one array of shape (n, columns); NaN where there is no value."""
    columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
    return np.stack(columns, axis=1).astype(np.float64)


def note_unsaid(batch: pa.RecordBatch, account: Account, *, theta: bool = True) -> None:
    """Count tracks, rotations and probabilities, for targets that cannot hold them."""
    account.note("track ids left out", given(batch.column("track_id")))
    if theta:
        turned = given(batch.column("theta"))
        account.note("rotated boxes written without their rotation", turned)
    if "probabilities" in batch.schema.names:
        account.note("class probabilities left out", given(batch.column("probabilities")))
