"""Columns gathered from the bytes of predictions that match templates."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ea_arrow.schema import RAW

if TYPE_CHECKING:
    from array import array

    from numpy.typing import NDArray

    from ea_arrow.sources.pickle_machine import Machine
    from ea_arrow.sources.pickle_templates import Leaf, Template


class Columns:
    """Makes batches of elements that match a template.

    Args:
        machine: Where the file and its memo are.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.bytes = np.frombuffer(machine.buffer, dtype=np.uint8)
        self.templates: list[Any] = [None]  # forms count from 1; 0 is no template
        self.strings: dict[int, str] = {}

    def batch(self, form: int, elements: NDArray[np.int64], forms: array[int]) -> pa.RecordBatch:
        """Return the elements as a batch of the ``RAW`` schema.

        Args:
            form: The template they match.
            elements: Their numbers in the list, shape (n,), ascending.
            forms: The template of every element so far.

        Raises:
            SourceError: Their memo numbers are not consecutive, or text is not text.
        """
        template: Template = self.templates[form]
        starts = np.array(self.machine.starts, copy=False)[elements].astype(np.int64)
        self._check_memo(template, starts, elements)
        arrays = []
        for field in RAW.arrow:
            leaf = template.leaves.get(field.name)
            if field.name == "source_row":
                arrays.append(pa.array(elements))
            elif leaf is not None:
                arrays.append(self._column(leaf, starts, field.type, forms))
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
        self, template: Template, starts: NDArray[np.int64], elements: NDArray[np.int64]
    ) -> None:
        if not template.puts:
            return
        bases = np.array(self.machine.bases, copy=False)[elements].astype(np.int64)
        for number, (offset, size) in enumerate(template.puts):
            given = self._values(starts + offset, f"<u{size}").astype(np.int64)
            wrong = np.flatnonzero(given != bases + number)
            if wrong.size:
                position = int(starts[wrong[0]]) + offset
                raise self.machine.damaged(position, "memo entries are not numbered one by one")

    def _column(
        self, leaf: Leaf, starts: NDArray[np.int64], dtype: pa.DataType, forms: array[int]
    ) -> pa.Array:
        positions = starts + leaf.offset
        if leaf.kind in ("get1", "get4"):
            return self._referred(positions, leaf, dtype, forms)
        if leaf.kind == "str":
            return self._texts(positions, leaf.size)
        values = self._values(positions, leaf.kind)
        if values.dtype.kind == "U":
            return pa.array(values.astype(values.dtype.newbyteorder("=")), pa.string())
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

    def _referred(
        self, positions: NDArray[np.int64], leaf: Leaf, dtype: pa.DataType, forms: array[int]
    ) -> pa.Array:
        """Values given by memo number: each number is looked up once."""
        indices = self._values(positions, f"<u{leaf.size}")
        unique, first, inverse = np.unique(indices, return_index=True, return_inverse=True)
        found = [
            self._recall(index, int(positions[at]), forms)
            for index, at in zip(unique.tolist(), first.tolist(), strict=True)
        ]
        wanted = str if pa.types.is_string(dtype) else (int, float)
        for at, value in zip(first.tolist(), found, strict=True):
            if not isinstance(value, wanted):
                raise self.machine.damaged(int(positions[at]), f"a {type(value).__name__} as value")
        return pa.array(found, dtype).take(pa.array(inverse))

    def _recall(self, index: int, position: int, forms: array[int]) -> Any:
        machine = self.machine
        if index in self.strings:
            return self.strings[index]
        element = bisect_right(machine.bases, index) - 1
        if element >= 0 and forms[element]:
            text = self.templates[forms[element]].texts.get(index - machine.bases[element])
            if text is not None:
                start = machine.starts[element] + text[0]
                value = str(machine.view[start : start + text[1]], "utf-8", "surrogatepass")
                self.strings[index] = value
                return value
        return machine.recall(index, position)
