"""The bytes of a pickle, and what to say of them when they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError, UnsafePickleError

if TYPE_CHECKING:
    from pathlib import Path

MAX_TEXT: Final = 1 << 20  # a line of protocol 0 that is not a string
_MAX_DIGITS: Final = 19  # more would not fit 64 bits


class PickleBytes:
    """A file that is or claims to be a pickle of predictions.

    Args:
        buffer: The file: anything that can be indexed and sliced to bytes, such as an ``mmap``.
        path: For messages.
    """

    def __init__(self, buffer: Any, path: Path) -> None:
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.size = len(buffer)
        self.path = path

    def line(self, position: int, limit: int = MAX_TEXT) -> tuple[bytes, int]:
        """The text argument of a protocol 0 opcode and the byte after its newline."""
        end = self.buffer.find(b"\n", position, min(self.size, position + limit))
        if end < 0:
            raise self.truncated(position)
        return self.buffer[position:end], end + 1

    def index(self, position: int) -> tuple[int, int]:
        """The memo number that is the text argument of an opcode and the byte after it."""
        text, end = self.line(position)
        if not text.isdigit() or len(text) > _MAX_DIGITS:
            raise self.damaged(position, "a memo number that is not one")
        return int(text), end

    def refuse(self, position: int, what: str) -> UnsafePickleError:
        """An error for something outside the allow-list."""
        return UnsafePickleError(
            f"{self.path}: refused at byte {position:,}: {what}. Nothing in the file was executed.",
            hint="A pickle of predictions only needs Prediction objects, NumPy arrays and plain "
            "values. If you trust the file, load it yourself and write a list of "
            "ea_arrow.Prediction objects instead.",
        )

    def damaged(self, position: int, what: str) -> SourceError:
        """An error for bytes that no pickler writes."""
        return SourceError(
            f"{self.path}: not a valid pickle of predictions at byte {position:,}: {what}.",
            hint="Expected a pickled list of Prediction objects. Write the file again, or check "
            "that it was copied completely.",
        )

    def truncated(self, position: int) -> SourceError:
        """An error for a file that ends too early."""
        return SourceError(
            f"{self.path}: ends at byte {self.size:,}, in the middle of the value at byte "
            f"{position:,}.",
            hint="The file was cut off: copy or write it again.",
        )


def opcode(code: int) -> str:
    """Name a pickle opcode, for messages."""
    import pickletools

    named = {o.code: o.name for o in pickletools.opcodes}
    return f"{named.get(chr(code), 'unknown')} (0x{code:02x})"
