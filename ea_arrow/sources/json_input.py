"""The text of a JSON file, read bit by bit: what is next in it, and where it is broken."""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.sources.json_files import (
    MAX_RATIO,
    MAX_UNPACKED,
    garbage_collection_paused,
    unpacked,
)

if TYPE_CHECKING:
    import re
    from pathlib import Path
    from types import TracebackType

MOST_BYTES: Final = 1 << 26
"""A value of more than this has to be parsed whole, and is refused: no record is as long."""

_READ_BYTES: Final = 1 << 16
_COUNTED_BYTES: Final = 1 << 22
_GZIP_MAGIC: Final = b"\x1f\x8b"
_NO_TEXT: Final = bytes(8)
_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_AFTER_NUMBER: Final = tuple(bytes([byte]) for byte in b",]}" + _SPACE)
_DECODER: Final = json.JSONDecoder()


class JsonInput:
    """A JSON file, gzip-compressed or not, with as much of it in memory as is asked for.

    Args:
        path: The file.
        expected: What it should be, for error messages.

    Attributes:
        buffer: What has been read and not been taken.
        offset: Where that begins in the file, unpacked.
        is_read: Whether the buffer has all that is left.

    Raises:
        SourceError: The file cannot be read; so do all methods, also where it is not JSON.
    """

    def __init__(self, path: Path, expected: str) -> None:
        self.path, self.expected = path, expected
        self.buffer = b""
        self.offset = 0
        self.is_read = False
        self._hint = f"Give {expected}, complete and uncompressed or as .gz."
        self._file = _Bytes(path, expected)

    def __enter__(self) -> JsonInput:
        return self

    def begin(self) -> None:
        """Read the first bytes, and see that they are text that can be read."""
        self.more(_READ_BYTES)
        if self.buffer.startswith(_BOM):
            self.skip(len(_BOM))
        encoding = json.detect_encoding(self.buffer[:4])
        if not encoding.startswith("utf-8"):
            message = f"{self.path} is {encoding.upper()}, if it is text; expected UTF-8."
            raise SourceError(message, hint=self._hint)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    # -- what is next ------------------------------------------------------------------------------

    def more(self, size: int) -> None:
        """Read on."""
        data = self._file.read(size)
        if _NO_TEXT in data:  # what holes in files and broken downloads consist of
            at = self.offset + len(self.buffer) + data.index(_NO_TEXT)
            message = f"{self.path} is not JSON: it holds zeros from byte {at:,} on."
            raise SourceError(message, hint=self._hint)
        self.is_read = len(data) < size
        self.buffer += data

    def skip(self, size: int) -> None:
        """Take bytes."""
        self.buffer = self.buffer[size:]
        self.offset += size

    def give_back(self, data: bytes) -> None:
        """Put back bytes that were taken last."""
        self.buffer = data + self.buffer
        self.offset -= len(data)

    def next_byte(self) -> bytes:
        """The next byte that is not space, with that before it taken; none at the end."""
        while True:
            self.skip(len(self.buffer) - len(self.buffer.lstrip(_SPACE)))
            if self.buffer or self.is_read:
                return self.buffer[:1]
            self.more(_READ_BYTES)

    def match(self, pattern: re.Pattern[bytes], most: int = 1 << 12) -> re.Match[bytes] | None:
        """Take what is next, if it is this, within so many bytes."""
        while not (found := pattern.match(self.buffer)):
            if self.is_read or len(self.buffer) >= most:
                return None
            self.more(most)
        self.skip(found.end())
        return found

    def value(self) -> Any:
        """Take the value that is next."""
        while True:
            decoded = self.decode(b"", self.buffer, is_last=self.is_read)
            if decoded is not None:
                value, end = decoded
                # A number may go on.
                if self.is_read or self.buffer[end : end + 1] in _AFTER_NUMBER:
                    self.skip(end)
                    return value
            self.check_size(len(self.buffer))
            self.more(max(len(self.buffer), _READ_BYTES))

    def decode(
        self, before: bytes, data: bytes, *, is_last: bool, offset: int | None = None
    ) -> tuple[Any, int] | None:
        """Parse a part of the file.

        Args:
            before: What is put before it.
            data: The part.
            is_last: Whether the file ends with it.
            offset: Where it begins in the file; where the buffer begins by default.

        Returns:
            The value it begins with and where in ``data`` that ends; None if more may mend what
            is wrong with it.
        """
        offset = self.offset if offset is None else offset
        try:
            text = (before + data).decode("utf-8", "surrogatepass")
            with garbage_collection_paused():
                value, end = _DECODER.raw_decode(text)
        except UnicodeDecodeError as error:
            if not is_last and error.end == len(before) + len(data):
                return None
            message = f"{self.path} is not JSON: byte {offset + error.start - len(before):,} is"
            raise SourceError(f"{message} not UTF-8.", hint=self._hint) from error
        except json.JSONDecodeError as error:
            if not is_last and _is_cut_short(error):
                return None
            at = len(error.doc[: error.pos].encode("utf-8", "surrogatepass")) - len(before)
            raise self.broken(error.msg, offset + at, data[max(at, 0) :]) from None
        except RecursionError as error:
            message = f"{self.path} is nested too deeply to be {self.expected}."
            raise SourceError(message, hint=self._hint) from error
        except ValueError as error:  # a number of thousands of digits
            message = f"{self.path} is not JSON: {error}; expected {self.expected}."
            raise SourceError(message, hint=self._hint) from error
        if end < len(text):
            end = len(text[:end].encode("utf-8", "surrogatepass"))
        else:
            end = len(before) + len(data)
        return value, end - len(before)

    # -- what is wrong -----------------------------------------------------------------------------

    def check_size(self, size: int) -> None:
        """Refuse to parse so much at once."""
        if size > MOST_BYTES:
            message = f"{self.path} has a value of more than {MOST_BYTES:,} bytes"
            raise SourceError(f"{message}; expected {self.expected}.")

    def broken(self, what: str, at: int, rest: bytes) -> SourceError:
        """Say where the file is broken.

        Args:
            what: What is wrong.
            at: Where in the file, unpacked.
            rest: What comes from there, as far as it has been read.
        """
        line, column, place = self._place(at)
        where = f"line {line}, column {column} (character {place:,})"
        if not rest.strip(_SPACE) or what.startswith("Unterminated string"):
            message = f"{self.path} ends in the middle, at {where}: it is cut off."
        else:
            message = f"{self.path} is not JSON at {where}: {what}."
        return SourceError(f"{message} Expected {self.expected}.", hint=self._hint)

    def _place(self, end: int) -> tuple[int, int, int]:
        """Line and column, from 1, and number, from 0, of the character at a byte of the file."""
        line = column = place = left = 0
        file = _Bytes(self.path, self.expected)
        left = end
        while left > 0 and (data := file.read(min(left, _COUNTED_BYTES))):
            left -= len(data)
            data = data.removeprefix(_BOM)
            line += data.count(b"\n")
            column = 0 if b"\n" in data else column
            column += _characters(data[data.rfind(b"\n") + 1 :])
            place += _characters(data)
        file.close()
        return line + 1, column + 1, place


class _Bytes:
    """The bytes of a file, unpacked."""

    def __init__(self, path: Path, expected: str) -> None:
        self._path, self._expected, self._read = path, expected, 0
        self._open = ExitStack()
        try:
            self._size = path.stat().st_size
            self._file: Any = self._open.enter_context(path.open("rb"))
            self._is_packed = self._file.read(2) == _GZIP_MAGIC
            self._file.seek(0)
        except OSError as error:
            self.close()
            raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
        if self._is_packed:
            self._file = self._open.enter_context(unpacked(self._file))

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            message = f"{self._path} is a damaged gzip file ({error}); expected {self._expected}."
            raise SourceError(message, hint="Copy or download the file again.") from error
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror or error}.") from error
        self._read += len(data)
        if self._is_packed and self._read > max(self._size * MAX_RATIO, MAX_UNPACKED):
            message = f"{self._path} unpacks from {self._size:,} to more than {self._read:,} bytes"
            hint = "If the file is right, unpack it and give that."
            raise SourceError(f"{message}: more than JSON ever does.", hint=hint)
        return data

    def close(self) -> None:
        self._open.close()


def _characters(data: bytes) -> int:
    """How many characters begin in UTF-8."""
    return len(data.translate(None, bytes(range(0x80, 0xC0))))


def _is_cut_short(error: json.JSONDecodeError) -> bool:
    """Whether more text may mend it: the error is at the end, or in a string that has none."""
    return error.pos > len(error.doc) - 16 or error.msg.startswith("Unterminated string")
