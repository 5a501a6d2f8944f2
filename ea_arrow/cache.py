"""Results kept as files, each named for a fingerprint of everything it was computed from.

A changed input has another fingerprint, so a stale result cannot be served; one that was half
written has a temporary name.
"""

from __future__ import annotations

import os
import uuid
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ea_arrow.conform import conform
from ea_arrow.files import parquet_options, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ea_arrow.schema import TableSpec

_PARQUET: Final = ".parquet"
_ARROW: Final = ".arrow"
_CHECKSUM: Final = 4  # bytes at the end of a file of arrays
_BUDGET: Final = 4 << 30  # bytes that results may take together; the oldest go first


class Cache:
    """Files of results in one directory.

    Args:
        folder: The directory.
        enabled: If False, nothing is looked up or kept but what is kept always.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self._folder, self.enabled = folder, enabled

    def find(self, spec: TableSpec, inputs: str, question: str) -> Path | None:
        """The file of a table, if it is there and whole."""
        path = self._table_path(spec, inputs, question)
        return path if self.enabled and _is_whole(path) else None

    def table(
        self, spec: TableSpec, inputs: str, question: str, compute: Callable[[], pa.Table]
    ) -> Path | pa.Table:
        """A table's file, or the table itself where the project cannot be written to.

        Args:
            spec: Its shape.
            inputs: Fingerprint of what it is computed from.
            question: Fingerprint of what is asked.
            compute: Called if it is not there.
        """
        found = self.find(spec, inputs, question)
        if found:
            return found
        table = conform(compute(), spec)
        path = self._table_path(spec, inputs, question)

        def write(temporary: Path) -> None:
            options = parquet_options(spec)
            pq.write_table(table, temporary, write_page_checksum=True, **options)

        return path if self.enabled and _save(path, write) else table

    def arrays(
        self, kind: str, inputs: str, compute: Callable[[], pa.Table], *, always: bool = False
    ) -> pa.Table:
        """A table as an uncompressed file mapped into memory.

        Args:
            kind: What it holds; begins the file's name.
            inputs: Fingerprint of what it is computed from.
            compute: Called if it is not there.
            always: Keep it even if the cache is not enabled.
        """
        path = self._path(f"{kind}-{inputs}{_ARROW}")
        kept = self.enabled or always
        found = read_arrays(path) if kept else None
        if found is not None:
            return found
        table = compute()
        if kept:
            _save(path, lambda temporary: _write_arrays(table, temporary))
        return table

    def replace(self, kind: str, inputs: str, table: pa.Table) -> None:
        """Keep other arrays under a name."""
        if self.enabled:
            path = self._path(f"{kind}-{inputs}{_ARROW}")
            _save(path, lambda temporary: _write_arrays(table, temporary))

    def stale(self, files: Iterable[Path], current: set[str]) -> list[Path]:
        """Those of ``files`` that were not computed from any of the ``current`` inputs."""
        return [file for file in files if _inputs_of(file.name) not in current]

    def _table_path(self, spec: TableSpec, inputs: str, question: str) -> Path:
        shape = zlib.crc32(str(spec.arrow).encode())  # another version's columns are another file
        return self._path(f"{spec.name}-{inputs}-{question}-{shape:08x}{_PARQUET}")

    def _path(self, name: str) -> Path:
        return self._folder / name


def _inputs_of(name: str) -> str:
    """The fingerprint in a file's name; nothing for a temporary one."""
    parts = name.removesuffix(_PARQUET).removesuffix(_ARROW).split("-")
    return "" if name.startswith(".") or len(parts) < 2 else parts[1]


def read(result: Path | pa.Table) -> pa.Table:
    """A result's rows."""
    if isinstance(result, pa.Table):
        return result
    return pq.read_table(result, partitioning=None, page_checksum_verification=True)


def readable(path: Path) -> pa.Table | None:
    """A result's rows; None, and the file is gone, if it was damaged after it was written."""
    try:
        return read(path)
    except (OSError, pa.ArrowInvalid):
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None


def read_arrays(path: Path) -> pa.Table | None:
    """A mapped file's table; None if it is not there, not whole or damaged."""
    try:
        with pa.memory_map(str(path)) as file:
            whole = file.read_buffer()
    except (OSError, pa.ArrowInvalid):
        return None
    body = whole[: max(len(whole) - _CHECKSUM, 0)]
    if len(whole) <= _CHECKSUM or _checksum(body) != whole[len(body) :].to_pybytes():
        return None
    table = pa.ipc.open_file(body).read_all()
    table.validate(full=True)
    return table


def _write_arrays(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pa.memory_map(str(path)) as file:
        checksum = _checksum(file.read_buffer())
    with path.open("ab") as file:
        file.write(checksum)


def _checksum(body: pa.Buffer) -> bytes:
    return zlib.crc32(memoryview(body)).to_bytes(_CHECKSUM, "little")


def _is_whole(path: Path) -> bool:
    """Whether a file is there and complete: a power cut can leave an empty one."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True


def _prune(folder: Path, newest: Path) -> None:
    """Let go of the oldest results where all take more than the budget; any can be made again."""
    found = [(entry.stat(), entry.path) for entry in os.scandir(folder)]
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in sorted(found, key=lambda item: item[0].st_mtime_ns):
        if total <= _BUDGET:
            return
        if path != str(newest):
            total -= stat.st_size
            Path(path).unlink(missing_ok=True)


def _save(path: Path, write: Callable[[Path], None]) -> bool:
    """Write the file under a temporary name first; a disk that will not have it is no error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(exist_ok=True)
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        _prune(path.parent, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True
