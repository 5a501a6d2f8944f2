"""The opcodes of a pickle of predictions: what each does to the stack and the memo.

No Python unpickler is involved and no name is ever resolved: a global that is on the allow-list
becomes a :class:`Symbol`, calling one of those builds a stand-in, and anything else ends the load
with the byte at which it was asked for. Arrays stay views into the file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ea_arrow.sources.pickle_bytes import MAX_TEXT, PickleBytes, opcode
from ea_arrow.sources.pickle_values import ALLOWED, CALLS, MODELS, STATES, Instance, Symbol, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MAX_NESTING = 64
MAX_MEMORY = 1 << 26  # that one element may take beyond as many bytes as the file has

_CONTAINER, _VIEW, _MEMO_ENTRY, _SET_ITEM = 256, 256, 128, 64  # bytes that one takes, about


class Operations(PickleBytes):
    """The state that opcodes work on, and the opcodes.

    Args:
        buffer: The file: anything that can be indexed and sliced to bytes, such as an ``mmap``.
        path: For messages.

    Attributes:
        allowed, calls, states: Names it may ask for, what calling them makes, what BUILD may give.
    """

    allowed: Mapping[tuple[str, str], Symbol] = ALLOWED
    calls: Mapping[str, Callable[[tuple[Any, ...]], Any]] = CALLS
    states: Mapping[type, Callable[[Any, Any], bool]] = STATES

    def __init__(self, buffer: Any, path: Path) -> None:
        super().__init__(buffer, path)
        self.memo: dict[int, Any] = {}
        self.next_memo = 0
        self.taken = 0  # bytes of memory that the current element took, about
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.operations = self._dispatch()

    def recall(self, index: int, position: int) -> Any:
        """Return memo entry ``index``, asked for at byte ``position``."""
        raise NotImplementedError

    # -- what elements may take ----------------------------------------------------------------

    def take(self, amount: int, position: int) -> None:
        """Count memory that the current element takes other than by the size of its stack.

        Raises:
            UnsafePickleError: It is more than a prediction can need.
        """
        self.taken += amount
        if self.taken > MAX_MEMORY + self.size:
            raise self.refuse(position - 1, "one element that takes far more memory than the file")

    def pop_mark(self) -> list[Any]:
        """The values since the last mark; the stack below it is current again."""
        values, self.stack = self.stack, self.marks.pop()
        return values

    # -- leaves --------------------------------------------------------------------------------

    def _fixed(self, form: str) -> Callable[[int], int]:
        read, size = struct.Struct(form).unpack_from, struct.calcsize(form)

        def operation(position: int) -> int:
            end = position + size
            if end > self.size:
                raise self.truncated(position)
            self.stack.append(read(self.buffer, position)[0])
            return end

        return operation

    def _sized(self, form: str, *, text: bool) -> Callable[[int], int]:
        read, size = struct.Struct(form).unpack_from, struct.calcsize(form)

        def operation(position: int) -> int:
            start = position + size
            if start > self.size:
                raise self.truncated(position)
            end: int = start + read(self.buffer, position)[0]
            if end > self.size:
                raise self.truncated(position)
            data = self.view[start:end]
            if text:
                self.stack.append(str(data, "utf-8"))
            else:
                self.take(_VIEW, position)
                self.stack.append(data)
            return end

        return operation

    def _constant(self, value: Any) -> Callable[[int], int]:
        def operation(position: int) -> int:
            self.stack.append(value)
            return position

        return operation

    def _text_line(self, convert: Callable[[bytes], Any], limit: int) -> Callable[[int], int]:
        def operation(position: int) -> int:
            text, end = self.line(position, limit)
            self.stack.append(convert(text))
            return end

        return operation

    def _long1(self, position: int) -> int:
        start = position + 1
        end: int = start + self.buffer[position]
        if end > self.size:
            raise self.truncated(position)
        self.stack.append(int.from_bytes(self.buffer[start:end], "little", signed=True))
        return end

    # -- containers ----------------------------------------------------------------------------

    def _mark(self, position: int) -> int:
        if len(self.marks) >= MAX_NESTING:
            raise self.refuse(position - 1, f"values nested more than {MAX_NESTING} deep")
        self.marks.append(self.stack)
        self.stack = []
        return position

    def _new(self, make: Callable[[], Any]) -> Callable[[int], int]:
        def operation(position: int) -> int:
            self.take(_CONTAINER, position)
            self.stack.append(make())
            return position

        return operation

    def _append(self, position: int) -> int:
        value = self.stack.pop()
        self._list(position).append(value)
        return position

    def _appends(self, position: int) -> int:
        values = self.pop_mark()
        self._list(position).extend(values)
        return position

    def _list(self, position: int) -> list[Any]:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise self.refuse(position - 1, f"appending to a {name_of(target)}")
        return target

    def _marked_list(self, position: int) -> int:
        values = self.pop_mark()
        self.stack.append(values)
        return position

    def _marked_tuple(self, position: int) -> int:
        values = self.pop_mark()
        self.stack.append(tuple(values))
        return position

    def _tuple(self, size: int) -> Callable[[int], int]:
        def operation(position: int) -> int:
            if len(self.stack) < size:
                raise IndexError
            values = tuple(self.stack[-size:])
            del self.stack[-size:]
            self.stack.append(values)
            return position

        return operation

    def _set_items(self, position: int, values: list[Any]) -> int:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise self.refuse(position - 1, f"setting items of a {name_of(target)}")
        keys = values[0::2]
        if len(values) % 2 or not all(isinstance(key, str) for key in keys):
            raise self.refuse(position - 1, "a dictionary with keys that are not strings")
        target.update(zip(keys, values[1::2], strict=True))
        return position

    def _setitem(self, position: int) -> int:
        value, key = self.stack.pop(), self.stack.pop()
        return self._set_items(position, [key, value])

    def _setitems(self, position: int) -> int:
        return self._set_items(position, self.pop_mark())

    def _marked_dict(self, position: int) -> int:
        values = self.pop_mark()
        self.stack.append({})
        return self._set_items(position, values)

    def _additems(self, position: int) -> int:
        values = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, set) or not all(isinstance(v, str) for v in values):
            raise self.refuse(position - 1, "a set of anything but field names")
        target.update(values)
        return position

    # -- the memo ------------------------------------------------------------------------------

    def _put(self, index: int, position: int) -> None:
        if index < self.next_memo:
            raise self.damaged(position, f"memo entry {index} is assigned twice")
        self.take(_MEMO_ENTRY, position)
        self.memo[index] = self.stack[-1]
        self.next_memo = index + 1

    def _memoize(self, position: int) -> int:
        self._put(self.next_memo, position)
        return position

    def _get(self, form: str) -> Callable[[int], int]:
        read, size = struct.Struct(form).unpack_from, struct.calcsize(form)

        def operation(position: int) -> int:
            end = position + size
            if end > self.size:
                raise self.truncated(position)
            index = read(self.buffer, position)[0]
            memo = self.memo
            self.stack.append(memo[index] if index in memo else self.recall(index, position))
            return end

        return operation

    def _get_line(self, position: int) -> int:
        index, end = self.index(position)
        self.stack.append(self.recall(index, position))
        return end

    def _put_numbered(self, form: str) -> Callable[[int], int]:
        read, size = struct.Struct(form).unpack_from, struct.calcsize(form)

        def operation(position: int) -> int:
            end = position + size
            if end > self.size:
                raise self.truncated(position)
            self._put(read(self.buffer, position)[0], position)
            return end

        return operation

    def _put_line(self, position: int) -> int:
        index, end = self.index(position)
        self._put(index, position)
        return end

    # -- names, calls and state ----------------------------------------------------------------

    def _global(self, position: int) -> int:
        module, middle = self.line(position)
        name, end = self.line(middle)
        self.stack.append(self._symbol(str(module, "utf-8"), str(name, "utf-8"), position - 1))
        return end

    def _stack_global(self, position: int) -> int:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._symbol(module, name, position - 1))
        return position

    def _symbol(self, module: Any, name: Any, position: int) -> Symbol:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.refuse(position, "a global whose name is not a string")
        try:
            return self.allowed[module, name]
        except KeyError:
            asked = f"{module[:80]}.{name[:80]}".encode("ascii", "backslashreplace").decode()
            what = f"it asks for '{asked}', which is not on the list of allowed names"
            raise self.refuse(position, what) from None

    def _newobj(self, position: int) -> int:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not isinstance(cls, Symbol) or cls.name not in MODELS or arguments != ():
            raise self.refuse(
                position - 1, f"creating a {name_of(cls)} with arguments or not at all"
            )
        self.stack.append(Instance(cls.name))
        return position

    def _reduce(self, position: int) -> int:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Symbol) or not isinstance(arguments, tuple):
            raise self.refuse(position - 1, f"calling a {name_of(function)}")
        for argument in arguments:
            if isinstance(argument, str | memoryview):
                self.take(len(argument), position)
            elif isinstance(argument, list):
                self.take(_SET_ITEM * len(argument), position)
        make = self.calls.get(function.name)
        value = make(arguments) if make else None
        if value is None:
            shown = ", ".join(_argument(a) for a in arguments[:8])
            raise self.refuse(position - 1, f"calling {function.name}({shown})")
        self.stack.append(value)
        return position

    def _build(self, position: int) -> int:
        state = self.stack.pop()
        target = self.stack[-1]
        make = self.states.get(type(target))
        if make is None or not make(target, state):
            raise self.refuse(position - 1, f"giving a {name_of(target)} a state it cannot have")
        return position

    # -- opcodes -------------------------------------------------------------------------------

    def _frame(self, position: int) -> int:
        if position + 8 > self.size:
            raise self.truncated(position)
        return position + 8

    def _dispatch(self) -> list[Callable[[int], int]]:
        table: list[Callable[[int], int]] = [self._unknown] * 256
        known: dict[bytes, Callable[[int], int]] = {
            b"\x95": self._frame,
            b"(": self._mark,
            b"N": self._constant(None),
            b"\x88": self._constant(True),
            b"\x89": self._constant(False),
            b")": self._constant(()),
            b"G": self._fixed(">d"),
            b"K": self._fixed("<B"),
            b"M": self._fixed("<H"),
            b"J": self._fixed("<i"),
            b"\x8a": self._long1,
            b"I": self._text_line(_int_of_line, MAX_TEXT),
            b"L": self._text_line(lambda text: int(text.removesuffix(b"L")), MAX_TEXT),
            b"F": self._text_line(float, MAX_TEXT),
            b"V": self._text_line(_text_of_line, self.size),
            b"\x8c": self._sized("<B", text=True),
            b"X": self._sized("<I", text=True),
            b"\x8d": self._sized("<Q", text=True),
            b"C": self._sized("<B", text=False),
            b"B": self._sized("<I", text=False),
            b"\x8e": self._sized("<Q", text=False),
            b"\x96": self._sized("<Q", text=False),
            b"]": self._new(list),
            b"}": self._new(dict),
            b"\x8f": self._new(set),
            b"a": self._append,
            b"e": self._appends,
            b"l": self._marked_list,
            b"t": self._marked_tuple,
            b"\x85": self._tuple(1),
            b"\x86": self._tuple(2),
            b"\x87": self._tuple(3),
            b"d": self._marked_dict,
            b"s": self._setitem,
            b"u": self._setitems,
            b"\x90": self._additems,
            b"h": self._get("<B"),
            b"j": self._get("<I"),
            b"q": self._put_numbered("<B"),
            b"r": self._put_numbered("<I"),
            b"g": self._get_line,
            b"p": self._put_line,
            b"\x94": self._memoize,
            b"c": self._global,
            b"\x93": self._stack_global,
            b"\x81": self._newobj,
            b"R": self._reduce,
            b"b": self._build,
        }
        for code, operation in known.items():
            table[code[0]] = operation
        return table

    def _unknown(self, position: int) -> int:
        code = self.buffer[position - 1]
        if code == ord("."):
            raise self.damaged(position - 1, "the pickle ends inside a prediction")
        raise self.refuse(position - 1, f"opcode {opcode(code)} has no place in a prediction")


def _int_of_line(text: bytes) -> int:
    booleans = {b"00": False, b"01": True}
    return booleans[text] if text in booleans else int(text)


def _text_of_line(line: bytes) -> str:
    text = str(line, "raw-unicode-escape")
    text.encode()  # a surrogate on its own is no text: no column can hold it
    return text


def _argument(value: Any) -> str:
    return ascii(value[:40]) if isinstance(value, str) else name_of(value)
