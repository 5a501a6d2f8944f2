"""Arrays of a NumPy archive, read row by row: what they claim is checked before memory is taken."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import SourceError
from ea_arrow.sources.json_files import MAX_RATIO, MAX_UNPACKED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_BYTES: Final = 1 << 24
_MOST_IN_COLUMNS: Final = 1 << 28  # an array in Fortran order is read whole
_MOST_MEMBERS: Final = 1_000
_KINDS: Final = "biufUS"
_ERRORS: Final = (
    *(OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError),
    *(NotImplementedError, KeyError, OverflowError, SyntaxError, TypeError, MemoryError),
)


class NpzFile:
    """An archive of arrays, as ``numpy.savez`` writes it.

    Args:
        path: The file.

    Attributes:
        shapes: Shape by name.
        dtypes: Type by name.

    Raises:
        SourceError: It is none, it holds objects, or unpacks to an unreasonable size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                limit = max(path.stat().st_size * MAX_RATIO, MAX_UNPACKED)
                if len(members) > _MOST_MEMBERS or sum(m.file_size for m in members) > limit:
                    message = f"{path} unpacks to more than arrays of predictions do."
                    raise SourceError(message)
                for member in members:
                    if member.filename.endswith(".npy"):
                        self._look(archive, member)
        except _ERRORS as error:
            raise self._damaged(error) from error

    def _look(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as stream:
            shape, _, dtype = _header(stream)
        if dtype.kind in _KINDS and all(side >= 0 for side in shape):
            size = dtype.itemsize
            for side in shape:
                size *= side
            if size > member.file_size:
                message = f"{self.path}: array '{name}' claims {size:,} bytes, and has fewer."
                raise SourceError(message, hint="Copy or write the file again.")
        self.shapes[name], self.dtypes[name] = shape, dtype

    def rows(self, name: str, at_once: int) -> Iterator[NDArray[Any]]:
        """Read an array, some rows at a time.

        Raises:
            SourceError: It holds objects, or is damaged.
        """
        shape, dtype = self.shapes[name], self.dtypes[name]
        if dtype.kind not in _KINDS or not shape:
            message = f"{self.path}: array '{name}' is {dtype} of shape {shape}; expected rows."
            raise SourceError(message, hint="Save plain arrays of numbers and texts.")
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
                _, in_columns, _ = _header(stream)
                yield from self._rows(stream, shape, dtype, at_once, in_columns=in_columns)
        except _ERRORS as error:
            raise self._damaged(error) from error

    def _rows(
        self,
        stream: Any,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        at_once: int,
        *,
        in_columns: bool,
    ) -> Iterator[NDArray[Any]]:
        row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        if in_columns and len(shape) > 1:
            if row * shape[0] > _MOST_IN_COLUMNS:
                message = f"{self.path}: a large array is stored by column; expected rows."
                raise SourceError(message, hint="Save numpy.ascontiguousarray(probs).")
            whole = np.frombuffer(_exactly(stream, row * shape[0]), dtype)
            whole = whole.reshape(shape, order="F")
            yield from (whole[i : i + at_once] for i in range(0, shape[0], at_once))
            return
        for first in range(0, shape[0], at_once):
            n = min(at_once, shape[0] - first)
            data = _exactly(stream, row * n)
            yield (
                np.frombuffer(data, dtype).reshape(n, *shape[1:])
                if row
                else np.zeros((n, *shape[1:]), dtype)
            )

    def _damaged(self, error: BaseException) -> SourceError:
        message = f"{self.path} cannot be read as a NumPy archive: {str(error)[:300]}"
        return SourceError(message, hint="Write it with numpy.savez(path, probs=…, ids=…).")


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the array format is not known")
    shape, in_columns, dtype = read(stream)
    return shape, in_columns, dtype


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) != size:
        raise EOFError(f"{size - len(data):,} bytes are missing at the end")
    return data
