"""Rows as text, a column at a time. Numbers come back as they were, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SchemaError

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.arranged import Ints


def number_texts(values: Any) -> pa.StringArray:
    """The shortest texts that are read as exactly these numbers, valid in JSON too.

    Args:
        values: Finite float64 numbers, as an Arrow or NumPy array.

    >>> number_texts(np.array([0.1 + 0.2, 10.0, -0.0, 1e-7])).to_pylist()
    ['0.30000000000000004', '10', '-0.0', '1e-7']
    """
    texts = pa.array(values).cast(pa.string())
    # JSON's -0 is a whole number, which has no sign.
    return pc.if_else(pc.equal(texts, "-0"), "-0.0", texts)


def joined(*parts: Any) -> Any:
    """Texts put together row by row; a part is an array, or one text for all rows.

    Raises:
        SchemaError: A row lacks a value.

    >>> joined("(", pa.array(["a", "b"]), ")").to_pylist()
    ['(a)', '(b)']
    """
    kind = next((part.type for part in parts if isinstance(part, pa.Array)), pa.string())
    scalars = [part if isinstance(part, pa.Array) else pa.scalar(part, kind) for part in parts]
    texts = pc.binary_join_element_wise(*scalars, pa.scalar("", kind))
    if texts.null_count:
        raise SchemaError(f"{texts.null_count} rows lack a value that the export writes.")
    return texts


def listed(texts: pa.Array, counts: Ints, separator: str) -> pa.Array:
    """Runs of texts, each joined to one.

    Args:
        texts: All of them.
        counts: How many belong to each run.
        separator: What stands between.

    >>> listed(pa.array(["a", "b", "c"]), np.array([2, 0, 1]), ", ").to_pylist()
    ['a, b', '', 'c']
    """
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), pa.scalar(separator))


def ring_texts(polygons: pa.ListArray) -> pa.StringArray:
    """Polygons as JSON lists of rings; ``[]`` for a null.

    >>> ring_texts(pa.array([[[0.5, 1.0], [2.0]], None])).to_pylist()
    ['[[0.5, 1], [2]]', '[]']
    """
    rings = polygons.flatten()
    numbers = number_texts(rings.flatten())
    each = joined("[", listed(numbers, _lengths(rings), ", "), "]")
    return joined("[", listed(each, _lengths(polygons), ", "), "]")


def mask_counts(masks: pa.StructArray) -> pa.StringArray:
    """The run lengths of masks as COCO's strings; null where there is no mask."""
    counts = masks.field("counts").cast(pa.string())
    return pc.if_else(masks.is_valid(), counts, pa.scalar(None, pa.string()))


def mask_field(masks: pa.StructArray, name: str) -> pa.Array:
    """A number of each mask; null where there is no mask."""
    values = masks.field(name)
    return pc.if_else(masks.is_valid(), values, pa.scalar(None, values.type))


def append(path: Path, lines: pa.Array, *, before: bytes = b"", separator: str = "\n") -> None:
    """Append texts to a file, with ``separator`` between them."""
    with path.open("ab") as file:
        file.write(before)
        if len(lines):
            text = listed(lines, np.array([len(lines)]), separator)[0]
            file.write(text.as_buffer())


def _lengths(lists: pa.ListArray) -> Ints:
    lengths: Ints = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    return lengths
