"""JSON files, gzip-compressed or not, read whole and with care."""

from __future__ import annotations

import gc
import gzip
import json
import os
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from ea_arrow.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_RATIO = 200
MAX_UNPACKED = 2**31
"""A gzip file that unpacks to more than both is refused: JSON packs about 5 to 20 times."""

MAX_WHOLE = 2**27
"""The same where the file is read whole: parsed it takes many times its bytes."""

MOST_PADDING = 2**17
"""So many zeros may follow the end of a gzip file, as tapes leave them."""

_CHUNK = 2**24
_NO_TEXT = bytes(8)
_GZIP_MAGIC = b"\x1f\x8b"


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file, gzip-compressed or not, whole.

    Args:
        path: The file.
        expected: What the file should be, for error messages: "COCO results JSON".

    Raises:
        SourceError: The file cannot be read, is not JSON, or unpacks to an unreasonable size.
    """
    hint = f"Give {expected}, complete and uncompressed or as .gz."
    try:
        data = _read_bytes(path, expected)
        with garbage_collection_paused():
            return json.loads(data)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise SourceError(message, hint=hint) from error
    except (EOFError, zlib.error) as error:
        message = f"{path} is a damaged gzip file ({error}); expected {expected}."
        raise SourceError(message, hint="Copy or download the file again.") from error
    except json.JSONDecodeError as error:
        raise SourceError(_json_message(path, error, expected), hint=hint) from error
    except MemoryError as error:
        message = f"{path} needs more memory than there is, to be read as {expected}."
        raise SourceError(message, hint="Split it into several files.") from error
    except RecursionError as error:
        message = f"{path} is nested too deeply to be {expected}."
        raise SourceError(message, hint=hint) from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        message = f"{path} is not JSON: {error}; expected {expected}."
        raise SourceError(message, hint=hint) from error


def unpacked(file: IO[bytes]) -> gzip.GzipFile:
    """Return what a gzip file holds, to be read; an ``EOFError`` is raised if a hole follows it."""
    return gzip.GzipFile(fileobj=_Packed(file))


class _Packed:
    """A file for ``GzipFile``, which passes over zeros at the end one by one: hours, of a hole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._zeros = 0
        self.seek, self.seekable = file.seek, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if size == 1 and data == b"\0":
            self._zeros += 1
            if self._zeros > MOST_PADDING:
                raise EOFError("zeros follow its end")
        return data


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause the cyclic collector: parsing makes millions of objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_bytes(path: Path, expected: str) -> bytearray:
    data = bytearray()
    with path.open("rb") as file:
        packed = file.peek(2).startswith(_GZIP_MAGIC)
        stream = unpacked(file) if packed else file
        size = os.fstat(file.fileno()).st_size
        limit = max(size * MAX_RATIO, MAX_WHOLE)
        while chunk := stream.read(_CHUNK):
            if _NO_TEXT in chunk:  # what holes in files and broken downloads consist of
                at = len(data) + chunk.index(_NO_TEXT)
                message = f"{path} is not JSON: it holds zeros from byte {at:,} on."
                raise SourceError(f"{message} Expected {expected}.", hint="Copy the file again.")
            data += chunk
            if packed and len(data) > limit:
                message = f"{path} unpacks from {size:,} to more than {limit:,} bytes"
                hint = "If the file is right, unpack it and give that."
                raise SourceError(f"{message}: more than JSON ever does.", hint=hint)
    return data


def _json_message(path: Path, error: json.JSONDecodeError, expected: str) -> str:
    place = f"line {error.lineno}, column {error.colno} (character {error.pos:,})"
    if not error.doc.strip():
        return f"{path} is empty; expected {expected}."
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"{path} ends in the middle, at {place}: it is cut off. Expected {expected}."
    return f"{path} is not JSON at {place}: {error.msg}. Expected {expected}."
