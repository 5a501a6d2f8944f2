"""Candidates as one row of an Arrow table, whose file is mapped into memory, not parsed.

Matches are kept as one integer per pair and area range, with a bit for each IoU threshold.
"""

from __future__ import annotations

import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.arranged import Arranged
from ea_arrow.candidates import Candidates
from ea_arrow.match import Matching
from ea_arrow.pairs import Pairs

if TYPE_CHECKING:
    from ea_arrow.arranged import Ints

_PAIRS: Final = "pairs."
_MATCHED: Final = "matched."

_FIELDS: Final = ",".join(field.name for kind in (Arranged, Pairs) for field in fields(kind))
SHAPE: Final = f"{zlib.crc32(_FIELDS.encode()):08x}"
"""Part of a file's name: another version's arrays are another file."""


def to_arrays(candidates: Candidates) -> pa.Table:
    """Return candidates as a table of one row, each column the list of an array's values."""
    arranged, pairs, matching = candidates.arranged, candidates.pairs, candidates.matching
    arrays: dict[str, Any] = {
        field.name: getattr(arranged, field.name)
        for field in fields(Arranged)
        if field.name != "n_classes"
    }
    arrays |= {f"{_PAIRS}{field.name}": getattr(pairs, field.name) for field in fields(Pairs)}
    if matching is not None:
        for area, (pair, level) in enumerate(zip(matching.pair, matching.threshold, strict=True)):
            bits = np.bincount(pair, weights=2.0**level, minlength=len(pairs))
            arrays[f"{_MATCHED}{area}"] = bits.astype(np.int64)
    columns = {
        name: pa.LargeListArray.from_arrays([0, len(values)], pa.array(_plain(values)))
        for name, values in arrays.items()
    }
    numbers = {
        "n_classes": arranged.n_classes,
        "lowest": candidates.lowest,
        "most": candidates.most,
    }
    return pa.table(columns, metadata={name: repr(number) for name, number in numbers.items()})


def from_arrays(table: pa.Table) -> Candidates:
    """Return the candidates of :func:`to_arrays`; the arrays cannot be written to."""
    metadata = table.schema.metadata

    def stored(name: str) -> Any:
        return table.column(name).chunk(0).values.to_numpy()

    def array(name: str) -> Any:
        values = stored(name)
        if values.dtype == np.uint8:
            return values.view(bool)
        return values if values.dtype == np.float64 else values.astype(np.int64)

    columns = {field.name: array(field.name) for field in fields(Arranged)[1:]}
    pairs = Pairs(*(array(f"{_PAIRS}{field.name}") for field in fields(Pairs)))
    areas = [name for name in table.column_names if name.startswith(_MATCHED)]
    found = [_set_bits(stored(name)) for name in areas]
    matching = Matching(*(tuple(part) for part in zip(*found, strict=True))) if found else None
    return Candidates(
        arranged=Arranged(n_classes=int(metadata[b"n_classes"]), **columns),
        pairs=pairs,
        lowest=float(metadata[b"lowest"]),
        most=int(metadata[b"most"]),
        matching=matching,
    )


def _plain(values: Any) -> Any:
    """Return values as Arrow holds them, integers as narrow as they fit."""
    if values.dtype == bool:
        return values.view(np.uint8)
    if values.dtype == np.float64:
        return values
    most = max(int(values.max(initial=0)), -int(values.min(initial=0)))
    return values.astype(next(t for t in (np.int16, np.int32, np.int64) if most <= np.iinfo(t).max))


def _set_bits(bits: Ints) -> tuple[Ints, Ints]:
    """Return position and number of every bit that is set."""
    width = int(bits.max(initial=0)).bit_length()
    positions = [np.flatnonzero(bits & (1 << number)) for number in range(width)]
    numbers = np.repeat(np.arange(width), [len(at) for at in positions])
    return np.concatenate([np.zeros(0, np.int64), *positions]), numbers
