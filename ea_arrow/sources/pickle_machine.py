"""A pickle interpreter that can build Encord Active's predictions and nothing else.

No Python unpickler is involved and no name is ever resolved: a global that is on the allow-list
becomes a :class:`Symbol`, calling one of those builds a stand-in, and anything else ends the load
with the byte at which it was asked for. Arrays stay views into the file.

The machine runs one element of the top-level list at a time. The memo, in which a pickle keeps
everything it may refer to again, is what makes plain unpickling use kilobytes per prediction. Here
it may be emptied between elements: where each element starts and which memo numbers it assigns is
kept, so an entry that is asked for later is made again by running its element again.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import SourceError, UnsafePickleError
from ea_arrow.geometry import MAX_MASK_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MAX_NESTING = 64
MAX_STACK = 1_000_000
MAX_MEMO = 100_000
MAX_TEXT = 1 << 20  # a line of protocol 0 that is not a string

_ENCORD = ("encord_active.lib.db.predictions", "encord_active.app.db.predictions")
_OWN = ("ea_arrow", "ea_arrow.predictions")
_NUMPY = ("numpy.core", "numpy._core")
_MODELS = ("Prediction", "ObjectDetection", "FrameClassification", "BoundingBox")


class Symbol:
    """An allow-listed name, standing for itself: it can be compared, not called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


SYMBOLS: Final = {
    name: Symbol(name)
    for name in (
        *_MODELS,
        *("Format", "_reconstruct", "scalar", "_frombuffer", "ndarray", "dtype"),
        *("encode", "set", "object", "getattr", "_reconstructor"),
    )
}

ALLOWED: Final[dict[tuple[str, str], Symbol]] = {
    **{(m, n): SYMBOLS[n] for m in (*_ENCORD, *_OWN) for n in (*_MODELS, "Format")},
    **{(f"{m}.multiarray", n): SYMBOLS[n] for m in _NUMPY for n in ("_reconstruct", "scalar")},
    **{(f"{m}.numeric", "_frombuffer"): SYMBOLS["_frombuffer"] for m in _NUMPY},
    **{("numpy", n): SYMBOLS[n] for n in ("ndarray", "dtype")},
    ("_codecs", "encode"): SYMBOLS["encode"],
    **{
        (m, n): SYMBOLS[n]
        for m in ("builtins", "__builtin__")
        for n in ("set", "object", "getattr")
    },
    **{(m, "_reconstructor"): SYMBOLS["_reconstructor"] for m in ("copyreg", "copy_reg")},
}

FORMAT_VALUES: Final = ("bounding-box", "mask", "polygon")
_FORMAT_NAMES: Final = {"BOUNDING_BOX": "bounding-box", "MASK": "mask", "POLYGON": "polygon"}

FIELDS: Final[dict[str, set[str]]] = {
    "Prediction": {"data_hash", "frame", "confidence", "object", "classification"}
    | {"class_id", "format", "data", "track_id"},  # up to 0.1.32
    "ObjectDetection": {"format", "data", "feature_hash", "track_id"},
    "FrameClassification": {"feature_hash", "attribute_hash", "option_hash"},
    "BoundingBox": {"x", "y", "w", "h", "theta"},
}
_STATE_KEYS: Final = {
    *("__dict__", "__fields_set__", "__private_attribute_values__"),  # pydantic 1
    *("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"),  # pydantic 2
}


@dataclass(slots=True, eq=False)
class Instance:
    """A stand-in for one of the four models: its kind and, once built, its fields."""

    kind: str
    fields: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class FormatValue:
    """A stand-in for a member of ``Format``."""

    value: str


@dataclass(slots=True, eq=False)
class Dtype:
    """A stand-in for a plain NumPy dtype."""

    code: str
    order: str | None = None

    def numpy(self) -> np.dtype[Any]:
        """The dtype itself: a bool, integer, float or fixed-size string type."""
        return np.dtype((self.order or "") + self.code)


@dataclass(slots=True, eq=False)
class Array:
    """A stand-in for a NumPy array whose bytes stay where they are in the file."""

    dtype: Dtype | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    data: Any = None
    cache: Any = field(default=None)  # what the reader made of it, if it is shared

    def numpy(self) -> NDArray[Any]:
        """A read-only view of the bytes."""
        if self.dtype is None:
            message = "An array in the pickle was never given its contents."
            raise SourceError(message)
        flat = np.frombuffer(self.data, dtype=self.dtype.numpy())
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


class Machine:
    """Runs the elements of a pickled list of predictions.

    Args:
        buffer: The file: anything that can be indexed and sliced to bytes, such as an ``mmap``.
        path: For messages.
    """

    def __init__(self, buffer: Any, path: Path) -> None:
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.size = len(buffer)
        self.path = path
        self.memo: dict[int, Any] = {}
        self.next_memo = 0
        self.starts = array("Q")
        self.bases = array("Q")
        self.rerun_bytes = 0
        self.replaying = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.operations = self._dispatch()

    # -- running -------------------------------------------------------------------------------

    def run_element(self, start: int) -> tuple[Instance, int]:
        """Run the element that starts at byte ``start``; return it and where it ends.

        Raises:
            UnsafePickleError: It asks for something outside the allow-list.
            SourceError: It is not a prediction, or the file is damaged.
        """
        if not self.replaying:
            self.starts.append(start)
            self.bases.append(self.next_memo)
        stack, marks = self.stack, self.marks
        self.stack, self.marks = [], []
        position = start
        try:
            while True:
                code = self.buffer[position]
                position = self.operations[code](position + 1)
                if code in _COMPLETING and not self.marks and len(self.stack) == 1:
                    value = self.stack[0]
                    if isinstance(value, Instance) and value.kind == "Prediction" and value.fields:
                        return value, position
        except IndexError:
            if position >= self.size:
                raise self.truncated(position) from None
            raise self.damaged(position, "an operation finds nothing to work on") from None
        except (ValueError, OverflowError, struct.error, UnicodeError) as error:
            raise self.damaged(position, str(error)) from error
        finally:
            self.stack, self.marks = stack, marks

    def forget(self) -> None:
        """Empty the memo if it has grown large; entries asked for later are made again.

        A file that keeps asking for what was forgotten would be run over and over: once as many
        bytes as twice the file were run again, nothing more is forgotten.
        """
        if len(self.memo) > MAX_MEMO and self.rerun_bytes < 2 * self.size:
            self.memo = {i: v for i, v in self.memo.items() if i < self.bases[0]}

    def recall(self, index: int, position: int) -> Any:
        """Return memo entry ``index``, running the element that assigned it again if need be."""
        try:
            return self.memo[index]
        except KeyError:
            pass
        element = bisect_right(self.bases, index) - 1
        if element < 0 or index >= self.next_memo:
            message = f"memo entry {index} is used before it is assigned"
            raise self.damaged(position, message)
        if self.replaying >= MAX_NESTING:
            raise self.damaged(position, f"elements refer to each other over {MAX_NESTING} deep")
        saved = self.next_memo
        self.next_memo = self.bases[element]
        self.replaying += 1
        try:
            _, end = self.run_element(self.starts[element])
            self.rerun_bytes += end - self.starts[element]
        finally:
            self.replaying -= 1
            self.next_memo = saved
        if index not in self.memo:
            raise self.damaged(position, f"memo entry {index} is used before it is assigned")
        return self.memo[index]

    # -- errors --------------------------------------------------------------------------------

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

    # -- reading arguments ---------------------------------------------------------------------

    def take(self, position: int, size: int) -> bytes:
        """``size`` bytes from ``position``, all of which must be in the file."""
        if size > self.size - position:
            raise self.truncated(position)
        taken: bytes = self.buffer[position : position + size]
        return taken

    def line(self, position: int, limit: int = MAX_TEXT) -> tuple[bytes, int]:
        """The text argument of a protocol 0 opcode and the byte after its newline."""
        end = self.buffer.find(b"\n", position, min(self.size, position + limit))
        if end < 0:
            raise self.truncated(position)
        return self.buffer[position:end], end + 1

    def push(self, value: Any) -> None:
        """Push onto the stack."""
        if len(self.stack) >= MAX_STACK:
            message = f"{self.path}: a value of over {MAX_STACK:,} parts; no prediction has those."
            raise SourceError(message)
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        """The values since the last mark; the stack below it is current again."""
        values, self.stack = self.stack, self.marks.pop()
        return values

    # -- leaves --------------------------------------------------------------------------------

    def leaf(self, value: Any, start: int, end: int, kind: str) -> None:
        """Push a value that bytes ``start`` to ``end`` spell out; a subclass may trace it."""
        del start, end, kind
        self.push(value)

    def _fixed(self, form: str, kind: str) -> Callable[[int], int]:
        unpack = struct.Struct(form)

        def operation(position: int) -> int:
            end = position + unpack.size
            if end > self.size:
                raise self.truncated(position)
            self.leaf(unpack.unpack_from(self.buffer, position)[0], position, end, kind)
            return end

        return operation

    def _sized(self, form: str, kind: str) -> Callable[[int], int]:
        head = struct.Struct(form)

        def operation(position: int) -> int:
            start = position + head.size
            if start > self.size:
                raise self.truncated(position)
            (length,) = head.unpack_from(self.buffer, position)
            end = start + length
            if end > self.size:
                raise self.truncated(position)
            if kind == "str":
                self.leaf(str(self.view[start:end], "utf-8", "surrogatepass"), start, end, kind)
            else:
                self.leaf(self.view[start:end], start, end, kind)
            return end

        return operation

    def _constant(self, value: Any) -> Callable[[int], int]:
        def operation(position: int) -> int:
            self.push(value)
            return position

        return operation

    def _unicode_line(self, position: int) -> int:
        text, end = self.line(position, self.size)
        self.leaf(str(text, "raw-unicode-escape"), position, end, "line")
        return end

    def _int_line(self, position: int) -> int:
        text, end = self.line(position)
        booleans = {b"00": False, b"01": True}
        self.leaf(booleans[text] if text in booleans else int(text), position, end, "line")
        return end

    def _long_line(self, position: int) -> int:
        text, end = self.line(position)
        self.leaf(int(text.removesuffix(b"L")), position, end, "line")
        return end

    def _float_line(self, position: int) -> int:
        text, end = self.line(position)
        self.leaf(float(text), position, end, "line")
        return end

    def _long1(self, position: int) -> int:
        start = position + 1
        end = start + self.buffer[position]
        number = int.from_bytes(self.take(start, end - start), "little", signed=True)
        self.leaf(number, start, end, "long")
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
            self.push(make())
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
            raise self.refuse(position - 1, f"appending to a {_name(target)}")
        return target

    def _marked_list(self, position: int) -> int:
        self.push(self.pop_mark())
        return position

    def _marked_tuple(self, position: int) -> int:
        self.push(tuple(self.pop_mark()))
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
            raise self.refuse(position - 1, f"setting items of a {_name(target)}")
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
        self.push({})
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
        self.memo[index] = self.stack[-1]
        self.next_memo = index + 1

    def _memoize(self, position: int) -> int:
        self.memo[self.next_memo] = self.stack[-1]
        self.next_memo += 1
        return position

    def _numbered(self, form: str, *, get: bool) -> Callable[[int], int]:
        unpack = struct.Struct(form)
        kind = f"get{unpack.size}"

        def operation(position: int) -> int:
            end = position + unpack.size
            if end > self.size:
                raise self.truncated(position)
            (index,) = unpack.unpack_from(self.buffer, position)
            if get:
                self.leaf(self.recall(index, position), position, end, kind)
            else:
                self._put(index, position)
            return end

        return operation

    def _get_line(self, position: int) -> int:
        text, end = self.line(position)
        self.leaf(self.recall(int(text), position), position, end, "line")
        return end

    def _put_line(self, position: int) -> int:
        text, end = self.line(position)
        self._put(int(text), position)
        return end

    # -- names, calls and state ----------------------------------------------------------------

    def _global(self, position: int) -> int:
        module, middle = self.line(position)
        name, end = self.line(middle)
        self.push(self._symbol(str(module, "utf-8"), str(name, "utf-8"), position - 1))
        return end

    def _stack_global(self, position: int) -> int:
        name, module = self.stack.pop(), self.stack.pop()
        self.push(self._symbol(module, name, position - 1))
        return position

    def _symbol(self, module: Any, name: Any, position: int) -> Symbol:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.refuse(position, "a global whose name is not a string")
        try:
            return ALLOWED[module, name]
        except KeyError:
            asked = f"{module[:80]}.{name[:80]}".encode("ascii", "backslashreplace").decode()
            what = f"it asks for '{asked}', which is not on the list of allowed names"
            raise self.refuse(position, what) from None

    def _newobj(self, position: int) -> int:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not isinstance(cls, Symbol) or cls.name not in _MODELS or arguments != ():
            raise self.refuse(position - 1, f"creating a {_name(cls)} with arguments or not at all")
        self.push(Instance(cls.name))
        return position

    def _reduce(self, position: int) -> int:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Symbol) or not isinstance(arguments, tuple):
            raise self.refuse(position - 1, f"calling a {_name(function)}")
        make = _CALLS.get(function.name)
        value = make(self, arguments) if make else None
        if value is None:
            shown = ", ".join(_name(a) for a in arguments[:8])
            raise self.refuse(position - 1, f"calling {function.name}({shown})")
        self.push(value)
        return position

    def _build(self, position: int) -> int:
        state = self.stack.pop()
        target = self.stack[-1]
        make = _STATES.get(type(target))
        if make is None or not make(target, state):
            raise self.refuse(position - 1, f"giving a {_name(target)} a state it cannot have")
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
            b"G": self._fixed(">d", "f8"),
            b"K": self._fixed("<B", "u1"),
            b"M": self._fixed("<H", "u2"),
            b"J": self._fixed("<i", "i4"),
            b"\x8a": self._long1,
            b"I": self._int_line,
            b"L": self._long_line,
            b"F": self._float_line,
            b"V": self._unicode_line,
            b"\x8c": self._sized("<B", "str"),
            b"X": self._sized("<I", "str"),
            b"\x8d": self._sized("<Q", "str"),
            b"C": self._sized("<B", "bytes"),
            b"B": self._sized("<I", "bytes"),
            b"\x8e": self._sized("<Q", "bytes"),
            b"\x96": self._sized("<Q", "bytes"),
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
            b"h": self._numbered("<B", get=True),
            b"j": self._numbered("<I", get=True),
            b"q": self._numbered("<B", get=False),
            b"r": self._numbered("<I", get=False),
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
        raise self.refuse(position - 1, f"opcode {opcode(code)} has no place in a prediction")


_COMPLETING: Final = frozenset(b"bhjg")  # BUILD, or a GET of a prediction seen before


def opcode(code: int) -> str:
    """Name a pickle opcode, for messages."""
    import pickletools

    named = {o.code: o.name for o in pickletools.opcodes}
    return f"{named.get(chr(code), 'unknown')} (0x{code:02x})"


def _name(value: Any) -> str:
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, Instance):
        return value.kind
    return type(value).__name__


# -- what the allowed names make: a value, or None where the arguments are not theirs ------------


def _make_format(_: Machine, arguments: tuple[Any, ...]) -> FormatValue | None:
    match arguments:
        case (str(value),) if value in FORMAT_VALUES:
            return FormatValue(value)
    return None


def _make_getattr(_: Machine, arguments: tuple[Any, ...]) -> FormatValue | None:
    match arguments:
        case (Symbol(name="Format"), str(name)) if name in _FORMAT_NAMES:
            return FormatValue(_FORMAT_NAMES[name])
    return None


def _make_instance(_: Machine, arguments: tuple[Any, ...]) -> Instance | None:
    match arguments:
        case (Symbol(name=name), Symbol(name="object"), None) if name in _MODELS:
            return Instance(name)
    return None


def _make_set(_: Machine, arguments: tuple[Any, ...]) -> set[str] | None:
    match arguments:
        case () | ([],):
            return set()
        case (list(values),) if all(isinstance(v, str) for v in values):
            return set(values)
    return None


def _make_bytes(_: Machine, arguments: tuple[Any, ...]) -> memoryview | None:
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            return memoryview(text.encode("latin-1"))
    return None


_PLAIN = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def _make_dtype(_: Machine, arguments: tuple[Any, ...]) -> Dtype | None:
    match arguments:
        case (str(code), bool() | 0 | 1, bool() | 0 | 1):
            text = code.startswith("U") and code[1:].isdecimal() and len(code) < 6
            return Dtype(code) if code in _PLAIN or text else None
    return None


def _make_array(_: Machine, arguments: tuple[Any, ...]) -> Array | None:
    match arguments:
        case (Symbol(name="ndarray"), (0,), memoryview() as code) if code == b"b":
            return Array()
    return None


def _make_from_buffer(_: Machine, arguments: tuple[Any, ...]) -> Array | None:
    match arguments:
        case (memoryview() as data, Dtype() as dtype, tuple(shape), "C" | "F" as order, *rest):
            if rest not in ([], [None]):
                return None
            return _fill(Array(), dtype, shape, order, data)
    return None


def _make_scalar(_: Machine, arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (Dtype() as dtype, memoryview() as data):
            plain = dtype.numpy()
            return np.frombuffer(data, plain)[0].item() if len(data) == plain.itemsize else None
    return None


_CALLS: Final[dict[str, Callable[[Machine, tuple[Any, ...]], Any]]] = {
    "Format": _make_format,
    "getattr": _make_getattr,
    "_reconstructor": _make_instance,
    "set": _make_set,
    "encode": _make_bytes,
    "dtype": _make_dtype,
    "_reconstruct": _make_array,
    "_frombuffer": _make_from_buffer,
    "scalar": _make_scalar,
}


# -- what BUILD may give to a stand-in: True, or False where the state is not theirs -------------


def _fill(
    target: Array, dtype: Dtype, shape: tuple[Any, ...], order: str, data: memoryview
) -> Array | None:
    sizes = [n for n in shape if type(n) is int and 0 <= n <= MAX_MASK_PIXELS]
    if len(sizes) != len(shape) or len(shape) > 8:
        return None
    count = 1
    for n in sizes:
        count *= n
    if count * dtype.numpy().itemsize != len(data):
        return None
    target.dtype, target.shape, target.order, target.data = dtype, shape, order, data
    return target


def _build_array(target: Array, state: Any) -> bool:
    match state:
        case (1, tuple(shape), Dtype() as dtype, bool(fortran), memoryview() as data):
            unfilled = target.dtype is None
            return unfilled and bool(_fill(target, dtype, shape, "F" if fortran else "C", data))
    return False


def _build_dtype(target: Dtype, state: Any) -> bool:
    match state:
        case (3, "<" | ">" | "|" | "=" as order, None, None, None, int(), int(), int()):
            unbuilt = target.order is None
            target.order = order
            return unbuilt
    return False


def _build_instance(target: Instance, state: Any) -> bool:
    if target.fields is not None or not isinstance(state, dict) or not state.keys() <= _STATE_KEYS:
        return False
    fields = state.get("__dict__")
    hidden = [state.get("__private_attribute_values__"), state.get("__pydantic_extra__")]
    hidden.append(state.get("__pydantic_private__"))
    if not isinstance(fields, dict) or any(hidden) or not fields.keys() <= FIELDS[target.kind]:
        return False
    target.fields = fields
    return True


_STATES: Final[dict[type, Callable[[Any, Any], bool]]] = {
    Array: _build_array,
    Dtype: _build_dtype,
    Instance: _build_instance,
}
