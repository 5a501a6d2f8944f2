"""Tables on disk: Delta Lake logs over Parquet files that ea-arrow writes itself.

Files are streamed first and published by one transaction, so a reader sees all of them or none.
Our own Parquet writer takes the encodings of the schema module, which the Delta writer ignores for
nested columns, and holds no more than one row group.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from ea_arrow.errors import ConflictError, ProjectError
from ea_arrow.schema import SCHEMA_VERSION, VERSION_KEY, conform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from ea_arrow.schema import TableSpec

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 1 << 27
_MAX_TEXT_STATISTIC = 64
_CONFIGURATION = {
    # History stays until `compact`: nothing is cleaned up behind the user's back.
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    VERSION_KEY: str(SCHEMA_VERSION),
}


@dataclass(frozen=True)
class DataFile:
    """A live Parquet file of a table."""

    path: str
    size: int
    rows: int
    partition: Mapping[str, str]


class FileWriter:
    """Streams record batches into one Parquet file that nobody sees until it is committed.

    Used as a context manager it closes the file, or deletes it if the block raises.

    Args:
        root: Directory of the table.
        spec: Schema of the table.
        partition: Values of the partition columns.
        file_id: Start of the file's name.
    """

    def __init__(
        self, root: Path, spec: TableSpec, partition: Mapping[str, str], file_id: str
    ) -> None:
        self.spec = spec
        self.partition = dict(partition)
        folder = "".join(f"{name}={value}/" for name, value in partition.items())
        self.name = f"{folder}{file_id}.parquet"
        self.path = root / self.name
        self.rows = 0
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        with _writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._writer = pq.ParquetWriter(
                    self.path, spec.arrow_stored, **parquet_options(spec)
                )
            except OSError:
                self.path.unlink(missing_ok=True)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del error, trace
        if kind is not None:
            self.discard()
            return
        try:
            self._finish()
        except BaseException:
            self.discard()
            raise

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows that conform to the table's stored schema.

        Raises:
            SchemaError: They do not.
        """
        batch = conform(batch, self.spec, stored=True)
        if batch.num_rows == 0:
            return
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def write_all(self, rows: pa.Table) -> None:
        """Add the rows of a table; see :meth:`write`."""
        for batch in rows.to_batches():
            self.write(batch)

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending)
            self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
            with _writing(self.path):
                self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            self.rows += table.num_rows

    def _finish(self) -> None:
        self._flush()
        with _writing(self.path):
            self._writer.close()
            _sync(self.path)

    def discard(self) -> None:
        """Delete the file."""
        with suppress(OSError):  # the disk that could not take the rows cannot take the footer
            self._writer.close()
        self.path.unlink(missing_ok=True)

    def action(self) -> AddAction:
        """The action that adds the finished file to its table."""
        stats = _statistics(pq.read_metadata(self.path), self.spec)
        return AddAction(
            path=self.name,
            size=self.path.stat().st_size,
            partition_values=self.partition,
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps(stats),
        )


class Table:
    """One Delta table of a project.

    Args:
        root: Its directory.
        spec: Its schema.

    Raises:
        ProjectError: There is no such table, or its schema version is another one.
    """

    def __init__(self, root: Path, spec: TableSpec, *, version: int | None = None) -> None:
        self.root = root
        self.spec = spec
        try:
            self._delta = DeltaTable(str(root), version=version)
        except TableNotFoundError as error:
            raise ProjectError(f"{root}: there is no table '{spec.name}' here.") from error

    @classmethod
    def create(cls, root: Path, spec: TableSpec) -> Table:
        """Create an empty table."""
        DeltaTable.create(
            str(root),
            spec.arrow,
            partition_by=list(spec.partition_by),
            description=spec.doc,
            configuration=_CONFIGURATION,
            raise_if_key_not_exists=False,
        )
        return cls(root, spec)

    @property
    def version(self) -> int:
        """The version of the table that this object sees."""
        return self._delta.version()

    def refresh(self) -> None:
        """See the newest version."""
        self._delta.update_incremental()

    def transaction(self, name: str) -> int:
        """How often the application transaction ``name`` was committed; 0 if never."""
        return self._delta.transaction_version(name) or 0

    def history(self) -> list[dict[str, Any]]:
        """Commits, newest first."""
        return self._delta.history()

    def files(self, partition: Mapping[str, str] | None = None) -> list[DataFile]:
        """Live files, of one partition if given, in the order of their names."""
        actions = pa.table(self._delta.get_add_actions(flatten=True)).to_pylist()
        wanted = dict(partition or {})
        found = [
            DataFile(
                path=action["path"],
                size=action["size_bytes"],
                rows=action["num_records"],
                partition={n: action[f"partition.{n}"] for n in self.spec.partition_by},
            )
            for action in actions
        ]
        live = [f for f in found if all(f.partition[k] == v for k, v in wanted.items())]
        return sorted(live, key=lambda f: f.path)

    def read(
        self,
        columns: Sequence[str] | None = None,
        partition: Mapping[str, str] | None = None,
        *,
        as_dictionary: Sequence[str] = (),
    ) -> pa.Table:
        """Read live rows into memory, partition columns included.

        Args:
            columns: Which, all by default.
            partition: Only of this partition.
            as_dictionary: String columns to return dictionary-encoded.
        """
        names = list(columns or self.spec.names)
        stored = [n for n in names if n not in self.spec.partition_by]
        tables = []
        for file in self.files(partition):
            table = pq.ParquetFile(
                self.root / file.path, read_dictionary=list(as_dictionary), memory_map=True
            ).read(columns=stored)
            for name in (n for n in names if n in self.spec.partition_by):
                value = pa.repeat(pa.scalar(file.partition[name], pa.string()), table.num_rows)
                table = table.append_column(name, value)
            tables.append(table.select(names))
        if tables:
            return pa.concat_tables(tables).unify_dictionaries()
        schema = self.spec.arrow
        return pa.schema([schema.field(n) for n in names]).empty_table()

    def batches(
        self, columns: Sequence[str] | None = None, partition: Mapping[str, str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream live rows, partition columns left out."""
        names = [n for n in columns or self.spec.names if n not in self.spec.partition_by]
        for file in self.files(partition):
            yield from pq.ParquetFile(self.root / file.path).iter_batches(columns=names)

    def append(self, rows: pa.Table, metadata: Mapping[str, Any]) -> None:
        """Write rows of an unpartitioned table and publish them."""
        with FileWriter(self.root, self.spec, {}, uuid.uuid4().hex) as writer:
            writer.write_all(rows)
        self.commit([writer.action()], metadata=metadata)

    def commit(
        self,
        add: Iterable[AddAction] = (),
        *,
        remove: Iterable[DataFile] = (),
        transaction: tuple[str, int] | None = None,
        metadata: Mapping[str, Any],
    ) -> None:
        """Publish added files and withdraw removed ones in one transaction.

        Args:
            add: Files that were written.
            remove: Files that were live in the version this object sees.
            transaction: Name and number of an application transaction: of two commits that carry
                the same one only the first succeeds.
            metadata: Kept in the table's history.

        Raises:
            ConflictError: Another commit came first; nothing was published.
        """
        now = int(time.time() * 1000)
        removals = [
            RemoveAction(
                path=f.path,
                data_change=True,
                deletion_timestamp=now,
                size=f.size,
                partition_values=dict(f.partition),
            )
            for f in remove
        ]
        properties = CommitProperties(
            custom_metadata={"ea_arrow": json.dumps(metadata)},
            # A commit that removes files was decided on what it saw: it must not be replayed.
            max_commit_retries=0 if removals else 15,
            app_transactions=[Transaction(*transaction)] if transaction else None,
        )
        try:
            with _writing(self.root):
                self._delta.create_write_transaction(
                    [*add, *removals],
                    "append",
                    self.spec.arrow,
                    list(self.spec.partition_by),
                    commit_properties=properties,
                )
        except CommitFailedError as error:
            raise ConflictError(f"Another process changed '{self.spec.name}' first.") from error
        self.refresh()
        log = self.root / "_delta_log"
        _sync(log / f"{self.version:020}.json")
        _sync(log)

    def vacuum(self, hours: float) -> list[str]:
        """Delete files that no live version needs and that are older than ``hours``."""
        deleted = self._delta.vacuum(
            retention_hours=int(hours), dry_run=False, enforce_retention_duration=False, full=True
        )
        self.refresh()
        return deleted


def parquet_options(spec: TableSpec) -> dict[str, Any]:
    """Options of ``pyarrow.parquet.ParquetWriter`` for the encodings that a table declares."""
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for column in spec.columns:
        if column.name in spec.partition_by:
            continue
        if column.encoding == "dictionary":
            dictionaries.append(column.name)
        elif column.encoding == "delta":
            encodings[column.name] = "DELTA_BINARY_PACKED"
        elif column.encoding == "split":
            leaf = ".list.element.list.element" if pa.types.is_list(column.type) else ""
            encodings[column.name + leaf] = "BYTE_STREAM_SPLIT"
        elif column.name == "mask":
            dictionaries += ["mask.height", "mask.width"]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": dictionaries or False,
        "column_encoding": encodings or None,
    }


def _statistics(metadata: Any, spec: TableSpec) -> dict[str, Any]:
    """Delta statistics from the footer: of scalar columns, without NaN and long texts."""
    scalar = {c.name for c in spec.columns if not pa.types.is_nested(c.type)}
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    unknown: set[str] = set()
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            name, stats = column.path_in_schema, column.statistics
            if name not in scalar or stats is None:
                continue
            nulls[name] = nulls.get(name, 0) + (stats.null_count or 0)
            if not stats.has_min_max:
                if stats.null_count != column.num_values:
                    unknown.add(name)
                continue
            if not _usable(stats.min) or not _usable(stats.max):
                unknown.add(name)
                continue
            low[name] = min(low.get(name, stats.min), stats.min)
            high[name] = max(high.get(name, stats.max), stats.max)
    return {
        "numRecords": metadata.num_rows,
        "minValues": {k: v for k, v in low.items() if k not in unknown},
        "maxValues": {k: v for k, v in high.items() if k not in unknown},
        "nullCount": nulls,
    }


def _usable(value: Any) -> bool:
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT_STATISTIC
    return isinstance(value, int)


def _sync(path: Path) -> None:
    """Bring a file or directory to the disk: a commit must not outlive what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES):
            raise  # some file systems cannot sync a directory
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a write into what it means for the user."""
    try:
        yield
    except OSError as error:
        # delta-rs gives the number in its text only.
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else error.errno
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full" if full else (error.strerror or str(error))
        raise ProjectError(
            f"{path}: cannot be written: {what}. Nothing was published.",
            hint="Free some space and run the same command again." if full else None,
        ) from error


def local(path: str | Path) -> Path:
    """The absolute path of a project or file given by the user."""
    return Path(path).expanduser().absolute()
