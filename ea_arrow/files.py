"""Parquet files that ea-arrow writes itself, with the encodings of the schema module.

The Delta writer ignores encodings of nested columns and holds several times the memory; this one
holds no more than one row group.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from ea_arrow.conform import conform
from ea_arrow.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from ea_arrow.schema import TableSpec

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 1 << 27
_MAX_TEXT_STATISTIC = 64


class FileWriter:
    """Streams record batches into one Parquet file that nobody sees until it is committed.

    Used as a context manager it closes the file, or deletes it if the block raises. A row group is
    encoded and written by a thread while the caller makes the next one: an error of it is raised by
    what is called after it, at last by :meth:`close`.

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
        self._thread: ThreadPoolExecutor | None = None
        self._written: Future[None] | None = None
        with writing(self.path):
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
        if kind is None:
            self.close()
        else:
            self.discard()

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
        """Let what is pending be written, once the row group before it has been."""
        self._wait()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1)
        self._written = self._thread.submit(self._write_group, self._taken())

    def _taken(self) -> pa.Table:
        """What is pending, which is counted as written."""
        table = pa.Table.from_batches(self._pending)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        self.rows += table.num_rows
        return table

    def _write_group(self, table: pa.Table) -> None:
        with writing(self.path):
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def close(self) -> None:
        """Finish the file; if that fails it is gone."""
        try:
            self._finish()
        except BaseException:
            self.discard()
            raise

    def _finish(self) -> None:
        self._wait()
        self._end_thread()
        if self._pending:
            self._write_group(self._taken())
        with writing(self.path):
            self._writer.close()
            sync(self.path)
            # Nothing ever changes a published file; where it matters, the system says so too.
            self.path.chmod(self.path.stat().st_mode & ~0o222)

    def discard(self) -> None:
        """Delete the file."""
        self._end_thread()
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
        "compression_level": 1,  # 3 takes twice the time for files that are 0 to 3 % smaller
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


def sync(path: Path) -> None:
    """Bring a file or directory to the disk: a commit must not outlive what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES):
            raise  # some file systems cannot sync a directory
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that others see whole, as it was or as it is; its directory is made if needed.

    Args:
        path: The file.
        write: Writes it under the name that it is given.

    Raises:
        ProjectError: It cannot be written.
    """
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        write(staged)
        sync(staged)
        staged.replace(path)
        sync(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; the lock goes with the process that holds it.

    Where files cannot be locked (Windows) the block is entered at once: the transaction of the
    commit in it then tells who came second.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with writing(path), path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
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
