"""Columns gathered from the bytes of predictions that match templates."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ea_arrow.schema import RAW
from ea_arrow.sources.pickle_machine import MAX_NAMES
from ea_arrow.sources.pickle_rows import MAX_NAME
from ea_arrow.sources.pickle_values import name_of

if TYPE_CHECKING:
    from array import array

    from numpy.typing import NDArray

    from ea_arrow.sources.pickle_machine import Machine
    from ea_arrow.sources.pickle_templates import Leaf, Template


class Columns:
    """Makes batches of elements that match a template.

    Args:
        machine: Where the file and its memo are.
        forms: The template of every element so far.
    """

    def __init__(self, machine: Machine, forms: array[int]) -> None:
        self.machine = machine
        self.forms = forms
        self.bytes = np.frombuffer(machine.buffer, dtype=np.uint8)
        self.templates: list[Any] = [None]  # forms count from 1; 0 is no template
        self.strings: dict[int, str] = {}

    def batch(self, form: int, elements: NDArray[np.int64]) -> pa.RecordBatch:
        """Return the elements as a batch of the ``RAW`` schema.

        Args:
            form: The template they match.
            elements: Their numbers in the list, shape (n,), ascending.

        Raises:
            SourceError: Their memo numbers are not consecutive, or text is not text.
        """
        template: Template = self.templates[form]
        starts = np.array(self.machine.starts, copy=False)[elements].astype(np.int64)
        bases = np.array(self.machine.bases, copy=False)[elements].astype(np.int64)
        self._check_memo(template, starts, bases)
        arrays = []
        for field in RAW.arrow:
            leaf = template.leaves.get(field.name)
            if field.name == "source_row":
                arrays.append(pa.array(elements))
            elif leaf is not None:
                arrays.append(self._column(leaf, starts, bases, field.type))
            elif field.name in template.constants:
                arrays.append(pa.repeat(template.constants[field.name], len(elements)))
            else:
                arrays.append(pa.nulls(len(elements), field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=RAW.arrow)

    def _values(self, positions: NDArray[np.int64], kind: str) -> NDArray[Any]:
        """Elements of dtype ``kind`` that start at the given bytes, whatever their alignment."""
        dtype = np.dtype(kind)
        size = max(self.bytes.size - dtype.itemsize + 1, 0)
        at_every_byte: NDArray[Any] = np.ndarray((size,), dtype, buffer=self.bytes, strides=(1,))
        found: NDArray[Any] = at_every_byte[positions]
        return found

    def _check_memo(
        self, template: Template, starts: NDArray[np.int64], bases: NDArray[np.int64]
    ) -> None:
        for number, (offset, size) in enumerate(template.puts):
            given = self._values(starts + offset, f"<u{size}").astype(np.int64)
            wrong = np.flatnonzero(given != bases + number)
            if wrong.size:
                position = int(starts[wrong[0]]) + offset
                raise self.machine.damaged(position, "memo entries are not numbered one by one")

    def _column(
        self,
        leaf: Leaf,
        starts: NDArray[np.int64],
        bases: NDArray[np.int64],
        dtype: pa.DataType,
    ) -> pa.Array:
        positions = starts + leaf.offset
        if leaf.kind in ("get1", "get4"):
            return self._referred(positions, bases, leaf, dtype)
        if leaf.kind == "str":
            return self._texts(positions, leaf.size)
        values = self._values(positions, leaf.kind)
        if values.dtype.kind == "U":
            return self._numpy_texts(positions, values)
        native = np.float64 if pa.types.is_floating(dtype) else np.int64
        return pa.array(values.astype(native))

    def _texts(self, positions: NDArray[np.int64], size: int) -> pa.Array:
        if size == 0:
            return pa.repeat("", len(positions))
        data = self._values(positions, f"V{size}")
        offsets = np.arange(len(positions) + 1, dtype=np.int32) * np.int32(size)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        texts = pa.Array.from_buffers(pa.string(), len(positions), buffers)
        try:
            texts.validate(full=True)
        except pa.ArrowInvalid as error:
            raise self.machine.damaged(int(positions[0]), "text is not UTF-8") from error
        return texts

    def _numpy_texts(self, positions: NDArray[np.int64], values: NDArray[np.str_]) -> pa.Array:
        """Arrow would end a text at its first zero; NumPy only drops those at its end."""
        size = values.dtype.itemsize // 4
        try:
            characters = str(values.astype(f"<U{size}").tobytes(), "utf-32-le")
        except UnicodeError as error:
            raise self.machine.damaged(int(positions[0]), str(error)) from error
        starts = range(0, len(characters), size)
        return pa.array([characters[at : at + size].rstrip("\0") for at in starts], pa.string())

    def _referred(
        self,
        positions: NDArray[np.int64],
        bases: NDArray[np.int64],
        leaf: Leaf,
        dtype: pa.DataType,
    ) -> pa.Array:
        """Values given by memo number: each number is looked up once."""
        indices = self._values(positions, f"<u{leaf.size}").astype(np.int64)
        early = np.flatnonzero(indices >= bases)
        if early.size:
            what = f"memo entry {indices[early[0]]} is used before it is assigned"
            raise self.machine.damaged(int(positions[early[0]]), what)
        unique, first, inverse = np.unique(indices, return_index=True, return_inverse=True)
        make = _name if pa.types.is_string(dtype) else _number
        found = []
        for index, at in zip(unique.tolist(), first.tolist(), strict=True):
            position = int(positions[at])
            self.machine.taken = 0  # by this one
            value = self.machine.recall(index, position)
            made = make(value)
            if made is None:
                raise self.machine.damaged(position, f"a {name_of(value)} is no value for a column")
            found.append(made)
            self.machine.forget()
        return pa.array(found, dtype).take(pa.array(inverse))

    def text(self, index: int) -> str | None:
        """Return memo entry ``index`` if it is text in an element that matches a template."""
        if index in self.strings:
            return self.strings[index]
        element = bisect_right(self.machine.bases, index) - 1
        if not 0 <= element < len(self.forms) or not self.forms[element]:
            return None
        texts = self.templates[self.forms[element]].texts
        place = texts.get(index - self.machine.bases[element])
        if place is None:
            return None
        if len(self.strings) >= MAX_NAMES:
            self.strings.clear()
        start = self.machine.starts[element] + place[0]
        self.strings[index] = str(self.machine.view[start : start + place[1]], "utf-8")
        return self.strings[index]


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_NAME else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None
