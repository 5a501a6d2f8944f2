"""XML files, read with care: element by element, and without document types and entities.

Entities are how a few bytes of XML come to gigabytes of text or to files of this machine; no
annotation tool writes them, so a file that declares any is refused.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.sources.base import RowError
from ea_arrow.sources.boxes import to_xywh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.sources.formats import Layout, Reading

MOST_DEPTH: Final = 64
"""How deeply elements may be nested: annotation files need about 6 levels."""

MOST_ELEMENTS: Final = 1_000_000
"""How many elements one child of the root may have: a limit on memory, not on files."""

_CHUNK: Final = 1 << 16
_FIRST_TAG: Final = re.compile(
    rb"\s*(?:<\?.{0,4000}?\?>\s*|<!--.{0,8000}?-->\s*)*<([A-Za-z_][\w.:-]{0,80})[\s/>]", re.DOTALL
)


def root_tag(head: bytes) -> str | None:
    """The name of the first element of a file, from its first bytes; None if it is not XML.

    >>> root_tag(b'<?xml version="1.0"?><!-- VOC --><annotation verified="yes">')
    'annotation'
    """
    found = _FIRST_TAG.match(head)
    return found[1].decode() if found else None


def children(path: Path, root: str, expected: str, most_bytes: int) -> Iterator[Element]:
    """Read the elements below the root of an XML file, one after the other.

    Args:
        path: The file.
        root: The name that the root must have.
        expected: What the file should be, for error messages: "VOC XML".
        most_bytes: A larger file is refused.

    Raises:
        SourceError: The file cannot be read, is too large, is no well-formed XML, has another
            root, is nested too deeply, or declares a document type or an entity.
    """
    reader = _Reader(path, root, expected)
    hint = f"Give {expected}, complete and as it was exported."
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > most_bytes:
                    message = f"{path} has more than {most_bytes:,} bytes; expected {expected}."
                    raise SourceError(message)
                reader.feed(chunk)
                yield from reader.take()
        if size == 0:
            raise SourceError(f"{path} is empty; expected {expected}.", hint=hint)
        reader.feed(b"", final=True)
        yield from reader.take()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise SourceError(message, hint=hint) from error
    except expat.ExpatError as error:
        why = expat.ErrorString(error.code)
        message = f"{path} is not XML at line {error.lineno}, column {error.offset + 1}: {why}."
        raise SourceError(f"{message} Expected {expected}.", hint=hint) from error
    except (ValueError, LookupError) as error:  # an encoding that there is not
        raise SourceError(f"{path} is not XML: {error}.", hint=hint) from error


class _Reader:
    """Builds the children of the root, each on its own, so that none needs the others' memory."""

    def __init__(self, path: Path, root: str, expected: str) -> None:
        self._path, self._root, self._expected = path, root, expected
        self._depth = self._elements = 0
        self._done: list[Element] = []
        self._builder = TreeBuilder()
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse

    def feed(self, data: bytes, *, final: bool = False) -> None:
        self._parser.Parse(data, final)

    def take(self) -> list[Element]:
        done, self._done = self._done, []
        return done

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth == 1:
            if tag != self._root:
                message = f"{self._path} begins with <{cut(tag)[1:-1]}>; expected <{self._root}>, "
                raise SourceError(f"{message}as in {self._expected}.")
            return
        if self._depth == 2:
            self._elements = 0
        if self._depth > MOST_DEPTH or self._elements > MOST_ELEMENTS:
            what = "nested too deeply" if self._depth > MOST_DEPTH else "too large in one element"
            message = f"{self._path} is {what} to be {self._expected}"
            raise SourceError(f"{message} (line {self._parser.CurrentLineNumber:,}).")
        self._builder.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if self._depth == 0:
            return
        self._builder.end(tag)
        if self._depth == 1:
            self._done.append(self._builder.close())
            self._builder = TreeBuilder()

    def _text(self, data: str) -> None:
        if self._depth > 1:
            self._builder.data(data)

    def _refuse(self, *_: Any) -> Any:
        message = (
            f"{self._path} declares a document type or an entity (line "
            f"{self._parser.CurrentLineNumber:,}); {self._expected} has none, and they are not "
            f"followed."
        )
        raise SourceError(message, hint="Remove the <!DOCTYPE …> declaration, if you trust it.")


def text_of(element: Element | None) -> str | None:
    """The text of an element without the space around it; None if it is missing or empty."""
    if element is None or element.text is None:
        return None
    return element.text.strip() or None


def parse_decimal(text: str | None, rule: str, what: str) -> float:
    """Return the number that a text is.

    Args:
        text: The text of an element or attribute; None if there is none.
        rule: The rule that anything but a number breaks.
        what: What it is called, for the message.

    Raises:
        RowError: It is missing, no number, or not a finite one.
    """
    # Python's own digit separator is none of XML's.
    number = _decimal(text) if text is not None and "_" not in text else None
    if number is None:
        found = "missing" if text is None else cut(text)
        raise RowError(rule, f"{what} is {found}; expected a number.")
    if not math.isfinite(number):
        raise RowError("not_finite", f"{what} is {cut(text)}; expected a finite number.")
    return number


def _decimal(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse_flag(text: str | None) -> bool:
    """Whether a text says yes: 1, true or yes, in any case."""
    return text is not None and text.strip().lower() in ("1", "true", "yes")


def box_of(numbers: list[float], reading: Reading, layout: Layout = "xyxy") -> list[float]:
    """Bring one box to left, top, width, height, with what the caller knows better.

    Args:
        numbers: Four numbers, as given.
        reading: Says of another order, and of pixels counted from 1.
        layout: The order that the format has.

    Raises:
        RowError: Its size is not a finite number.
    """
    found = to_xywh(np.array([numbers]), reading.box or layout, one_based=reading.one_based)
    box: list[float] = found[0].tolist()
    if not all(map(math.isfinite, box)):
        raise RowError("not_finite", f"The box {cut(numbers)} is too large for its size.")
    return box
