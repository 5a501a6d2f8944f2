"""A pickle interpreter for results made of NumPy arrays and torch tensors; torch is not needed.

As with pickles of predictions no name is resolved: tensors are stand-ins whose numbers stay bytes.
A tensor in a plain pickle refers to its storage, which is the content of a file of its own as
``torch.save`` wrote before it wrote zip archives: five pickles (a magic number, a version, a
description of the machine, the storage's reference, its keys) and then the numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import SourceError, UnsafePickleError
from ea_arrow.sources.pickle_operations import Operations
from ea_arrow.sources.pickle_values import (
    ALLOWED,
    CALLS,
    MODELS,
    STATES,
    Dtype,
    Instance,
    Symbol,
    name_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_DTYPES: Final = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_ALLOWED: Final = {
    **{
        (module, name): symbol
        for (module, name), symbol in ALLOWED.items()
        if name not in (*MODELS, "Format", "getattr", "object", "_reconstructor", "set")
    },
    ("torch._utils", "_rebuild_tensor_v2"): Symbol("_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"): Symbol("_load_from_bytes"),
    ("collections", "OrderedDict"): Symbol("OrderedDict"),
}
_STATES: Final = {kind: build for kind, build in STATES.items() if kind is not Instance}
_PLAIN: Final = ("encode", "bytes", "dtype", "_reconstruct", "_frombuffer", "scalar")
_PLAIN_CALLS: Final = {name: CALLS[name] for name in _PLAIN}
_STORAGES: Final = {("torch", name): Symbol(name) for name in _DTYPES}
_NOTHING: Final[dict[Any, Any]] = {}
_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
_MOST_DIMENSIONS: Final = 4
_STOP: Final = ord(".")
_PROTO: Final = 0x80
_KEPT_TEXT: Final = 256
_KEPT_ITEMS: Final = 8
_MOST_KEPT: Final = 100_000
_MOST_MEMO: Final = 50_000
_MOST_RUN: Final = 1 << 25  # bytes run before the memo is emptied: it may hold arrays


@dataclass(slots=True, eq=False)
class Storage:
    """A stand-in for a tensor's storage: its numbers as bytes."""

    dtype: np.dtype[Any]
    count: int
    data: Any = b""


@dataclass(slots=True, eq=False)
class Tensor:
    """A stand-in for a tensor on the CPU, checked to lie within its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def numpy(self) -> NDArray[Any]:
        """The numbers, read-only."""
        flat = np.frombuffer(self.storage.data, self.storage.dtype, self.storage.count)
        size = self.storage.dtype.itemsize
        strides = [size * stride for stride in self.strides]
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides, writeable=False
        )


class _Results(Operations):
    """Runs a whole pickle with the names that results need.

    Args:
        buffer: The file: anything that can be indexed and sliced to bytes, such as an ``mmap``.
        path: For messages.
    """

    def recall(self, index: int, position: int) -> Any:
        if index in self.memo:
            return self.memo[index]
        what = f"it refers to memo entry {index}, which is not there or of an earlier image"
        raise self.damaged(position, what)

    def refuse(self, position: int, what: str) -> UnsafePickleError:
        return UnsafePickleError(
            f"{self.path}: refused at byte {position:,}: {what}. Nothing in the file was executed.",
            hint="MMDetection's results only need lists, dictionaries, NumPy arrays and tensors. "
            "If you trust the file, load it yourself and write COCO results "
            "(CocoMetric's outfile_prefix) instead.",
        )

    def damaged(self, position: int, what: str) -> SourceError:
        return SourceError(
            f"{self.path}: not a valid pickle of results at byte {position:,}: {what}.",
            hint="Expected a pickled list of MMDetection's results. Write the file again, or check "
            "that it was copied completely.",
        )

    def step(self, position: int) -> int:
        """Run the operation at a byte; return the byte after it.

        Raises:
            UnsafePickleError: It asks for something outside the allow-list.
            SourceError: The file is damaged.
        """
        try:
            after: int = self.operations[self.buffer[position]](position + 1)
        except IndexError:
            if position >= self.size:
                raise self.truncated(position) from None
            raise self.damaged(position, "an operation finds nothing to work on") from None
        except (ValueError, OverflowError, struct.error, UnicodeError) as error:
            raise self.damaged(position, str(error)) from error
        return after

    def skip_protocol(self, position: int) -> int:
        """The byte after the announcement of the protocol, if there is one at a byte."""
        announced = position < self.size and self.buffer[position] == _PROTO
        return position + 2 if announced else position

    def at_stop(self, position: int) -> bool:
        """Whether the pickle ends at a byte.

        Raises:
            SourceError: The file ends before it.
        """
        if position >= self.size:
            raise self.truncated(position)
        stop: bool = self.buffer[position] == _STOP
        return stop


class ResultList(_Results):
    """A pickled list of results, of which one batch is in memory at a time.

    Args:
        buffer: The file.
        path: For messages.
    """

    allowed = _ALLOWED
    states = _STATES

    def __init__(self, buffer: Any, path: Path) -> None:
        super().__init__(buffer, path)
        made = {"_rebuild_tensor_v2": _make_tensor, "OrderedDict": _make_ordered}
        self.calls = {**_PLAIN_CALLS, **made, "_load_from_bytes": self._load}
        self._kept = 0  # memo entries that were not forgotten
        self._ran = 0  # byte up to which the file had run then

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the list: stand-ins, and plain values.

        Raises:
            UnsafePickleError: The file asks for something outside the allow-list.
            SourceError: It is damaged, or not a list.
        """
        position = self.skip_protocol(0)
        root: list[Any] | None = None
        while not self.at_stop(position):
            position = self.step(position)
            if root is None and not self.marks and len(self.stack) == 1:
                if not isinstance(self.stack[0], list):
                    raise self.damaged(0, f"it holds a {name_of(self.stack[0])}, not a list")
                root = self.stack[0]
            if root and not self.marks and len(self.stack) == 1 and self.stack[0] is root:
                yield from list(root)
                root.clear()
                self._forget(position)
        if root is None or self.marks or len(self.stack) != 1 or self.stack[0] is not root:
            raise self.damaged(position, "it ends within a value")
        if position + 1 != self.size:
            what = f"{self.size - position - 1:,} bytes follow the end of the pickle"
            raise self.damaged(position + 1, what)

    def _forget(self, position: int) -> None:
        """Forget all but what a pickle brings up once and then refers to: names, small tuples."""
        self.taken = 0
        if len(self.memo) < self._kept + _MOST_MEMO and position < self._ran + _MOST_RUN:
            return
        root = self.stack[0]
        kept = ((i, v) for i, v in self.memo.items() if v is root or _is_small(v))
        self.memo = dict(islice(kept, _MOST_KEPT))
        self._kept, self._ran = len(self.memo), position

    def _load(self, arguments: tuple[Any, ...]) -> Storage | None:
        match arguments:
            case (memoryview() as data,):
                return _StorageFile(bytes(data), self.path).read()
        return None


class _StorageFile(_Results):
    """The content of the file in which a tensor's storage is pickled."""

    allowed = _STORAGES
    calls = _NOTHING
    states = _NOTHING

    def __init__(self, buffer: bytes, path: Path) -> None:
        super().__init__(buffer, path)
        self.operations[ord("Q")] = self._persistent

    def read(self) -> Storage:
        """Return the storage.

        Raises:
            SourceError: This is not the file of one storage.
        """
        if not self.buffer.startswith(_MAGIC):
            what = "a tensor that was not written by torch.save's older format"
            raise self.refuse(0, what)
        machine, position = self._value(len(_MAGIC))
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise self.refuse(len(_MAGIC), "a tensor of a machine that is not little-endian")
        storage, position = self._value(position)
        keys, position = self._value(position)
        if not isinstance(storage, Storage) or not isinstance(keys, list) or len(keys) != 1:
            raise self.damaged(position, "a tensor's storage is not a single one")
        start = position + 8
        if (
            start > self.size
            or int.from_bytes(self.view[position:start], "little") != storage.count
        ):
            raise self.damaged(position, "a tensor's storage has another length than it says")
        storage.data = self.view[start:]
        if len(storage.data) != storage.count * storage.dtype.itemsize:
            raise self.damaged(start, "a tensor's storage has another length than it says")
        return storage

    def _value(self, position: int) -> tuple[Any, int]:
        """Run one pickle; return its value and the byte after it."""
        self.memo, self.next_memo, self.stack, self.marks = {}, 0, [], []
        position = self.skip_protocol(position)
        while not self.at_stop(position):
            position = self.step(position)
        if len(self.stack) != 1 or self.marks:
            raise self.damaged(position, "it ends within a value")
        return self.stack[0], position + 1

    def _persistent(self, position: int) -> int:
        match self.stack.pop():
            case ("storage", Symbol() as kind, str(), str(), int(count), None) if count >= 0:
                self.stack.append(Storage(np.dtype(_DTYPES[kind.name]), count))
            case other:
                raise self.refuse(position - 1, f"a reference to a {name_of(other)}")
        return position


def _make_tensor(arguments: tuple[Any, ...]) -> Tensor | None:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), bool(), dict(), *_):
            return _checked(Tensor(storage, offset, shape, strides))
    return None


def _checked(tensor: Tensor) -> Tensor | None:
    """The tensor; None if it does not lie within its storage, or repeats it."""
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > _MOST_DIMENSIONS:
        return None
    if not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        return None
    count = 1
    for n in tensor.shape:
        count *= n
    if count == 0:
        return tensor if tensor.offset <= tensor.storage.count else None
    last = tensor.offset + sum(
        (n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    inside = count <= tensor.storage.count and last < tensor.storage.count
    return tensor if inside else None


def _make_ordered(arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    return {} if arguments == () else None


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _KEPT_TEXT
    if isinstance(value, tuple):
        return len(value) <= _KEPT_ITEMS and all(isinstance(v, int | float | str) for v in value)
    return isinstance(value, Symbol | Dtype | int | float)
