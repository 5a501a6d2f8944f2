"""JSON records that look like one another, parsed into Arrow columns by Arrow itself.

Its parser is many times faster than Python's and lets other threads run meanwhile. It gives the
values that Python's gives, or nothing: then Python has to read them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

_DEPTH: Final = 4
_BEFORE, _AFTER = b'{"records":[', b"]}"
# It begins with what is looked for: `re` runs over the text many times faster so.
_MINUS_ZERO: Final = re.compile(rb"-0(?<![eE]-0)(?![.eE0-9])")


class JsonColumns:
    """Parses records like one it has seen.

    Args:
        whole: The keys, at any depth, whose numbers are whole: they are read as integers, all
            other numbers as floats.
    """

    def __init__(self, whole: Collection[str]) -> None:
        self._whole = frozenset(whole)
        self.type: pa.StructType | None = None

    def learn(self, record: object) -> None:
        """Expect records like this one: with its keys, or some of them, and values of its types."""
        try:
            self.type = self._type(record, "", 0) if isinstance(record, dict) and record else None
        except UnicodeEncodeError:  # a key that is no text: "\ud800"
            self.type = None

    def _type(self, value: object, key: str, depth: int) -> pa.DataType | None:
        """The type of a value; None if it is not plain."""
        if value is None:
            return pa.null()
        if isinstance(value, bool):
            return pa.bool_()
        if isinstance(value, str):
            return pa.string()
        if isinstance(value, int):
            return pa.int64() if key in self._whole else pa.float64()
        if isinstance(value, float):
            return None if key in self._whole else pa.float64()
        if depth == _DEPTH:
            return None
        if isinstance(value, list):
            inner = self._type(value[0], key, depth + 1) if value else pa.null()
            return inner and pa.list_(inner)
        if not isinstance(value, dict):
            return None
        fields = {name: self._type(v, name, depth + 1) for name, v in value.items()}
        return None if None in fields.values() else pa.struct(list(fields.items()))

    def parse(self, data: bytes) -> pa.StructArray | None:
        """Parse records, which commas part.

        Returns:
            One row per record, or None if they differ from what is expected, or are not JSON.
            Keys that a record lacks are null.
        """
        expected = self.type
        if expected is None:
            return None
        from pyarrow import json

        # One object is parsed in which all are a list. Nothing can end that list but what is put
        # behind it here: any other key is unexpected, and a key that comes twice is refused.
        text = b"".join((_BEFORE, data, _AFTER))
        schema = pa.schema([("records", pa.list_(expected))])
        try:
            if not data.isascii():
                data.decode()  # Arrow takes it as it comes
            table = json.read_json(
                pa.BufferReader(text),
                json.ReadOptions(use_threads=False, block_size=len(text) + 1),
                json.ParseOptions(schema, unexpected_field_behavior="error"),
            )
        except (pa.ArrowException, ValueError):
            return None
        column = table.column(0)
        if len(column) != 1 or column.num_chunks != 1:
            return None
        rows = column.chunk(0).flatten()
        if not len(rows) or rows.null_count:
            return None
        floats = list(_floats(rows))
        if not all(np.isfinite(values).all() for values in floats):
            return None  # Arrow takes Inf as well, which is no number to Python
        # Python reads -0 as the integer 0, Arrow as -0.0; the literal -0.0 is that to both.
        minus = any((np.signbit(values) & (values == 0)).any() for values in floats)
        return None if minus and _MINUS_ZERO.search(data) else rows


def _floats(column: pa.Array) -> Iterator[NDArray[np.float64]]:
    """All floats of a column, at any depth."""
    if pa.types.is_floating(column.type):
        yield column.drop_null().to_numpy()
    elif pa.types.is_struct(column.type):
        for inner in column.flatten():
            yield from _floats(inner)
    elif pa.types.is_list(column.type):
        yield from _floats(column.flatten())
