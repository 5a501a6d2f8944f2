"""JSON files of many records, read piece by piece: memory is bounded by a piece, not by the file.

A piece is cut where one record seems to end and the next to begin (``}, {``). That may be inside a
string or a nested list; but a piece that begins at a record and parses as whole records also ends
at one. One that does not parse is joined to the next. So pieces can be parsed ahead, by threads.
"""

from __future__ import annotations

import os
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.sources.json_input import JsonInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

PIECE_BYTES: Final = 3 << 20
"""About 30,000 boxes."""

FIRST_BYTES: Final = 1 << 13
"""The first piece is small: what the records look like is learnt from it."""

_TAIL: Final = 1 << 12
_KEY_BYTES: Final = 1 << 20
_THREADS: Final = min(3, os.cpu_count() or 1)
_CUT: Final = re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")
_END: Final = re.compile(rb"\][ \t\r\n]*\}?[ \t\r\n]*\Z")
_ESCAPE: Final = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_STRING: Final = rb'"[^"\\\x00-\x1f]*(?:' + _ESCAPE + rb'[^"\\\x00-\x1f]*)*"'
_KEY: Final = re.compile(rb"[ \t\r\n]*(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*(?=[^ \t\r\n])")
_CLOSED: Final = re.compile(rb"[ \t\r\n]*\}")
_COMMA: Final = re.compile(rb"[ \t\r\n]*,")

_T = TypeVar("_T")


@dataclass
class _Piece(Generic[_T]):
    """A part of a list.

    Attributes:
        data: Its bytes, with the comma behind the last record; of the last piece, all that is left.
        offset: Where it begins in the file, unpacked.
        is_last: Whether there is nothing behind it.
        length: How many of its bytes seem to be records; 0 if that cannot be told.
        parsed: Those, being parsed; None if they are not.
    """

    data: bytes
    offset: int
    is_last: bool
    length: int
    parsed: Future[_T | None] | None = None


class JsonRecords:
    """The records of a JSON list, of the whole file or under a key of an object.

    Args:
        path: The file, gzip-compressed or not.
        key: The key of the list, where the file holds an object.
        expected: What the file should be, for error messages.

    Attributes:
        keys: The keys of the object that have been read; None where the file holds none.
        lists: Those of them that have lists.
        other: In a list of its own, what the file holds if it is neither a list nor an object.
    """

    def __init__(self, path: Path, key: str, expected: str) -> None:
        self.path, self.key, self.expected = path, key, expected
        self.keys: list[str] | None = None
        self.lists: set[str] = set()
        self.other: list[Any] = []
        self._size = FIRST_BYTES

    def pieces(self, parse: Callable[[bytes], _T | None]) -> Iterator[_T | list[Any]]:
        """Yield the records, piece by piece in file order.

        Args:
            parse: Makes something of the bytes of records, which commas part, or None if they are
                not plain, as far as it can tell. It is called by other threads, and never for the
                first piece. It must refuse what is not JSON and what leaves something open.

        Yields:
            What ``parse`` returned, or the records themselves.

        Raises:
            SourceError: The file cannot be read or is not JSON.
        """
        with JsonInput(self.path, self.expected) as text:
            text.begin()
            first = text.next_byte()
            if first == b"[":
                text.skip(1)
                yield from self._list(text, parse)
            elif first == b"{":
                text.skip(1)
                self.keys = []
                yield from self._object(text, parse)
            elif not first:
                raise SourceError(f"{self.path} is empty; expected {self.expected}.")
            else:
                self.other.append(text.value())
            if text.next_byte():
                raise text.broken("Extra data", text.offset, text.buffer)

    def _object(
        self, text: JsonInput, parse: Callable[[bytes], _T | None]
    ) -> Iterator[_T | list[Any]]:
        """Yield the records of an object that has begun."""
        if text.match(_CLOSED):
            return
        before = b"{"
        while key := text.match(_KEY, _KEY_BYTES):
            begin = text.offset - key.end() + key.start(1)
            name, _ = text.decode(b"", key[1], is_last=True, offset=begin) or ("", 0)
            if self.keys is not None:
                self.keys.append(name)
            if text.buffer.startswith(b"["):
                if name == self.key and name in self.lists:
                    raise SourceError(f"{self.path} has two lists under '{name}'; expected one.")
                text.skip(1)
                records = self._list(text, parse if name == self.key else None)
                if name == self.key:
                    yield from records
                else:
                    deque(records, maxlen=0)
                self.lists.add(name)
            else:
                text.value()
            if text.match(_CLOSED):
                return
            before = b'{"":0'
            if not text.match(_COMMA):
                break
            before += b","
        text.decode(before, text.buffer[:_KEY_BYTES], is_last=True)  # which says what is wrong
        message = f"{self.path} is not {self.expected}: found the key {cut(text.buffer[:200])}."
        raise SourceError(message)

    def _list(
        self, text: JsonInput, parse: Callable[[bytes], _T | None] | None
    ) -> Iterator[_T | list[Any]]:
        """Yield the elements of a list that has begun, and take its end."""
        ahead: deque[_Piece[_T]] = deque()
        with ThreadPoolExecutor(_THREADS) as pool:
            before = b"["
            while True:
                several = parse is not None and before != b"["
                while len(ahead) <= _THREADS * several and not (ahead and ahead[-1].is_last):
                    piece: _Piece[_T] = self._cut(text)
                    if several and parse is not None and piece.length:
                        piece.parsed = pool.submit(parse, piece.data[: piece.length])
                    ahead.append(piece)
                piece = ahead.popleft()
                parsed = piece.parsed.result() if piece.parsed else None
                if parsed is not None:
                    has_ended = piece.is_last
                    if has_ended:
                        text.give_back(piece.data[piece.length + 1 :])
                    yield parsed
                else:
                    records, has_ended = self._decoded(text, piece, ahead, before)
                    yield records
                if has_ended:
                    return
                before = b"[0,"

    def _cut(self, text: JsonInput) -> _Piece[Any]:
        """Take a piece."""
        size, self._size = self._size, PIECE_BYTES
        if len(text.buffer) < size and not text.is_read:
            text.more(size - len(text.buffer))
        start = max(size - _TAIL, 0)
        while not (found := _CUT.search(text.buffer, start)) and not text.is_read:
            text.check_size(len(text.buffer))
            start = max(start, len(text.buffer) - _TAIL)
            text.more(max(len(text.buffer), size))
        data, offset = text.buffer[: found.end() if found else None], text.offset
        text.skip(len(data))
        if found:
            return _Piece(data, offset, is_last=False, length=len(data) - 1)
        closed = _END.search(data, max(len(data) - _TAIL, 0))
        return _Piece(data, offset, is_last=True, length=closed.start() if closed else 0)

    def _decoded(
        self, text: JsonInput, piece: _Piece[_T], ahead: deque[_Piece[_T]], before: bytes
    ) -> tuple[list[Any], bool]:
        """The elements of a piece, joined to the next as need be; and whether the list ended."""
        data, is_last, more = piece.data, piece.is_last, 1
        while True:
            # Closed here, it is a list, unless it has the list's own end.
            part = data if is_last else data[:-1] + b"]"
            decoded = text.decode(before, part, is_last=is_last, offset=piece.offset)
            if decoded is not None:
                break
            text.check_size(len(data))
            for _ in range(more):
                if not is_last:
                    added = ahead.popleft() if ahead else self._cut(text)
                    data, is_last = data + added.data, added.is_last
            more *= 2
        records, end = decoded
        has_ended = is_last or end < len(part)
        if has_ended:
            text.give_back(data[end:] + b"".join(later.data for later in ahead))
        return records[before.count(b"0") :], has_ended
