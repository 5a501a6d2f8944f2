"""The bytes of a file, unpacked where it is compressed by gzip, with an eye on their number."""

from __future__ import annotations

import codecs
import zlib
from typing import IO, TYPE_CHECKING

from ea_arrow.errors import SourceError
from ea_arrow.sources.json_files import MAX_RATIO, MAX_UNPACKED, unpacked

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_GZIP_MAGIC = b"\x1f\x8b"
_NO_TEXT = bytes(8)
"""What holes in files and broken downloads consist of."""


class ByteStream:
    """A file of text, read in order. It has what Arrow expects of a Python file.

    Args:
        path: The file.

    Attributes:
        path: The file.
        quotes: How many quotation marks have been read.
        closed: Whether it is closed.

    Raises:
        SourceError: It cannot be read, or, while it is read, is not UTF-8, or unpacks to an
            unreasonable size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.quotes = 0
        self.closed = False
        self._read = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            file = path.open("rb")
            self._packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            size = path.stat().st_size
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
        self._file: IO[bytes] = unpacked(file) if self._packed else file  # type: ignore[assignment]
        self._raw = file
        self._limit = max(size * MAX_RATIO, MAX_UNPACKED)

    def read(self, size: int = -1) -> bytes:
        """Read some bytes, none at the end.

        Raises:
            SourceError: The file is damaged, is not UTF-8, or unpacks to more than texts do.
        """
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            message = f"{self.path} cannot be read: {error}."
            raise SourceError(message, hint="Copy or download the file again.") from error
        try:
            self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            near = self._read + error.start
            message = f"{self.path} is not text in UTF-8: {error.reason} near byte {near:,}."
            raise SourceError(message, hint="Save it as UTF-8, or name its format.") from error
        if _NO_TEXT in data:
            near = self._read + data.index(_NO_TEXT)
            message = f"{self.path} is not text: it holds zeros from byte {near:,} on."
            raise SourceError(message, hint="Copy or download the file again.")
        self.quotes += data.count(b'"')
        self._read += len(data)
        if self._packed and self._read > self._limit:
            message = (
                f"{self.path} unpacks to more than {self._limit:,} bytes: no text packs so well."
            )
            raise SourceError(message, hint="If the file is right, unpack it and give that.")
        return data

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._file.close()
        self._raw.close()

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
