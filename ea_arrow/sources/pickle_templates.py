"""Reading thousands of like predictions at once.

A pickler writes each prediction of a list with the same opcodes; only numbers, strings and memo
references differ. After the :mod:`~ea_arrow.sources.pickle_machine` has run one, its bytes become a
:class:`Template`: a regular expression in which the values that end up in a row are wildcards and
every other byte is literal. Whatever matches it *is* the same program on other values, so those can
be gathered from the file into columns without running anything. What matches no template is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ea_arrow.sources.base import RowError
from ea_arrow.sources.pickle_machine import Machine
from ea_arrow.sources.pickle_rows import MAX_NAME, flatten, format_of
from ea_arrow.sources.pickle_values import Dtype, FormatValue, Instance, Symbol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LEAVES = {  # opcode: what it spells, and how many bytes of length come before it
    **{ord("G"): ("f8", 0), ord("K"): ("u1", 0), ord("M"): ("u2", 0), ord("J"): ("i4", 0)},
    **{0x8C: ("str", 1), ord("X"): ("str", 4), 0x8D: ("str", 8)},
    **{ord("C"): ("bytes", 1), ord("B"): ("bytes", 4)},
    **{ord("h"): ("get1", 0), ord("j"): ("get4", 0)},
    **{ord(c): ("line", 0) for c in "ILFVg"},
    0x8A: ("long", 1),
}
_MEMOIZE = 0x94
NUMBERS = {"f8": ">f8", "u1": "u1", "u2": "<u2", "i4": "<i4"}
MAX_BYTES = 4096
"""Longest prediction that is worth a template; longer ones carry masks or polygons."""


class NotAlike(Exception):
    """This prediction holds something whose bytes differ in more than value."""


@dataclass(slots=True)
class Traced:
    """A value and the bytes that spell it."""

    value: Any
    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where in a matching prediction a column's value is.

    Attributes:
        offset: First byte, from the start of the prediction.
        size: Bytes.
        kind: A NumPy dtype for a number, ``str`` or ``U…`` for text, ``get1`` or ``get4`` for a
            memo number.
    """

    offset: int
    size: int
    kind: str


@dataclass(frozen=True, slots=True)
class Template:
    """Predictions of one form.

    Attributes:
        pattern: Matches one such prediction.
        leaves: Where each column's value is.
        constants: Columns whose value is the same in all.
        memos: How many memo entries each assigns.
        puts: Offset and size of the explicit memo numbers, in order (protocols 1 to 3).
        texts: For the memo entries that are strings: which of the entries, where and how long.
    """

    pattern: re.Pattern[bytes]
    leaves: dict[str, Leaf]
    constants: dict[str, Any]
    memos: int
    puts: tuple[tuple[int, int], ...]
    texts: dict[int, tuple[int, int]]


class Tracer(Machine):
    """A machine that runs one element again and notes which bytes spell which value."""

    def __init__(self, machine: Machine, path: Path) -> None:
        super().__init__(machine.buffer, path)
        self.replaying = 1  # its elements are the other machine's
        self.machine = machine
        self.puts: list[tuple[int, int]] = []

    def _dispatch(self) -> list[Callable[[int], int]]:
        table = super()._dispatch()
        for code, (kind, head) in _LEAVES.items():
            table[code] = self._traced(table[code], kind, head)
        return table

    def _traced(
        self, operation: Callable[[int], int], kind: str, head: int
    ) -> Callable[[int], int]:
        def traced(position: int) -> int:
            end = operation(position)
            value = _bare(self.stack[-1])
            small = isinstance(value, memoryview) and len(value) < MAX_BYTES
            if small or isinstance(value, str | int | float):
                self.stack[-1] = Traced(value, position + head, end, kind)
            return end

        return traced

    def _frame(self, position: int) -> int:
        """A frame begins here in this element only."""
        raise NotAlike

    def recall(self, index: int, position: int) -> Any:
        """Entries from before this element are the other machine's.

        One of its own has another number in every element: no other has the same bytes.
        """
        if index in self.memo:
            raise NotAlike
        return self.machine.recall(index, position)

    def _put(self, index: int, position: int) -> None:
        super()._put(index, position)
        code = self.buffer[position - 1]
        if code == ord("p"):
            raise NotAlike
        if code != _MEMOIZE:
            self.puts.append((position, 1 if code == ord("q") else 4))

    def _set_items(self, position: int, values: list[Any]) -> int:
        return super()._set_items(
            position, [v if i % 2 else _bare(v) for i, v in enumerate(values)]
        )

    def _additems(self, position: int) -> int:
        self.stack[:] = [_bare(v) for v in self.stack]
        return super()._additems(position)

    def _symbol(self, module: Any, name: Any, position: int) -> Symbol:
        return super()._symbol(_bare(module), _bare(name), position)

    def _reduce(self, position: int) -> int:
        arguments, function = self.stack[-1], self.stack[-2]
        name = function.name if isinstance(function, Symbol) else ""
        if name in ("_frombuffer", "_reconstruct") or not isinstance(arguments, tuple):
            raise NotAlike
        self.stack[-1] = tuple(_bare(a) for a in arguments)
        if name == "set" and arguments and isinstance(arguments[0], list):
            self.stack[-1] = ([_bare(v) for v in arguments[0]],)
        end = super()._reduce(position)
        if name == "scalar":
            dtype, data = arguments
            if not isinstance(data, Traced) or not isinstance(dtype, Dtype):
                raise NotAlike
            kind = str(dtype.numpy().str)
            self.stack[-1] = Traced(self.stack[-1], data.start, data.end, kind)
        return end

    def _build(self, position: int) -> int:
        if isinstance(self.stack[-1], tuple):
            self.stack[-1] = tuple(_bare(v) for v in self.stack[-1])
        return super()._build(position)


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Traced) else value


def template_of(machine: Machine, start: int, end: int, base: int) -> Template | None:
    """Make a template of the element in bytes ``start`` to ``end``.

    Args:
        machine: The machine that ran it.
        start: Its first byte.
        end: The byte after it.
        base: The first memo number it assigned.

    Returns:
        The template, or None if like elements need not have like bytes: masks, polygons, data given
        as text, protocol 0.
    """
    if end - start > MAX_BYTES:
        return None
    tracer = Tracer(machine, machine.path)
    tracer.next_memo = base
    try:
        prediction, stop = tracer.run_element(start)
        if stop != end:
            return None
        leaves, constants = _columns(flatten(prediction), start)
    except (NotAlike, RowError):
        return None
    wild = [(leaf.offset, leaf.size, b".") for leaf in leaves.values()]
    wild += [(position - start, size, b".") for position, size in tracer.puts]
    frame = leaves.get("frame")
    if frame is not None and frame.kind == NUMBERS["i4"]:  # a negative one makes a reject
        wild.remove((frame.offset, frame.size, b"."))
        wild += [(frame.offset, 3, b"."), (frame.offset + 3, 1, b"[\x00-\x7f]")]
    texts = {
        index - base: (value.start - start, value.end - value.start)
        for index, value in tracer.memo.items()
        if isinstance(value, Traced) and value.kind == "str"
    }
    return Template(
        pattern=_pattern(machine.view[start:end], wild),
        leaves=leaves,
        constants=constants,
        memos=tracer.next_memo - base,
        puts=tuple((position - start, size) for position, size in tracer.puts),
        texts=texts,
    )


def _columns(flat: dict[str, Any], start: int) -> tuple[dict[str, Leaf], dict[str, Any]]:
    leaves: dict[str, Leaf] = {}
    constants: dict[str, Any] = {}

    def column(name: str, value: Any, allowed: Callable[[str], bool]) -> None:
        if value is None:
            return
        if not isinstance(value, Traced) or not allowed(value.kind):
            raise NotAlike
        if isinstance(value.value, str) and len(value.value) > MAX_NAME:
            raise NotAlike
        kind = NUMBERS.get(value.kind, value.kind)
        leaves[name] = Leaf(value.start - start, value.end - value.start, kind)

    for name, field in (("unit", "data_hash"), ("class_ref", "feature_hash")):
        column(name, flat.get(field), _is_text)
    column("frame", flat.get("frame"), _is_integer)
    column("confidence", flat.get("confidence"), _is_number)
    if "option_hash" in flat or "attribute_hash" in flat:
        constants["format"] = "classification"
        for name in ("attribute_hash", "option_hash"):
            column(name, flat.get(name), _is_text)
        return leaves, constants
    if flat.get("track_id") is not None or _format(flat.get("format")) != "bounding-box":
        raise NotAlike
    data = flat.get("data")
    box = data.fields if isinstance(data, Instance) else data
    if not isinstance(box, dict) or not {"x", "y", "w", "h"} <= box.keys():
        raise NotAlike
    constants["format"] = "bounding_box"
    for key in ("x", "y", "w", "h"):
        column(f"bbox_{key}", box[key], _is_number)
    column("theta", box.get("theta"), _is_number)
    return leaves, constants


def _format(value: Any) -> str:
    if not isinstance(value, FormatValue):
        raise NotAlike  # text: its bytes would be a wildcard
    return format_of(value)


def _is_text(kind: str) -> bool:
    return kind in ("str", "get1", "get4") or re.fullmatch(r"[<>=|]U\d+", kind) is not None


def _is_number(kind: str) -> bool:
    plain = kind in NUMBERS or kind in ("get1", "get4")
    return plain or re.fullmatch(r"[<>=|][fiu]\d", kind) is not None


def _is_integer(kind: str) -> bool:
    return kind in ("u1", "u2", "i4")


def _pattern(code: memoryview, wild: list[tuple[int, int, bytes]]) -> re.Pattern[bytes]:
    parts, position = [], 0
    for offset, size, which in sorted(wild):
        parts.append(re.escape(bytes(code[position:offset])))
        parts.append(which + b"{%d}" % size)
        position = offset + size
    parts.append(re.escape(bytes(code[position:])))
    return re.compile(b"".join(parts), re.DOTALL)
