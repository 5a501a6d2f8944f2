"""64-bit keys of row contents, by which exact duplicates are found without comparing rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from numpy.typing import NDArray


class Duplicates:
    """Finds rows whose key came before, over all batches and files of an import.

    It keeps 16 bytes per row.
    """

    def __init__(self) -> None:
        self._keys: list[NDArray[np.uint64]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._names: list[str | pa.Array | None] = []

    def add(
        self, keys: NDArray[np.uint64], rows: NDArray[np.int64], name: str | pa.Array | None
    ) -> None:
        """Add rows by their keys and numbers in the source called ``name`` (one, or one a row)."""
        self._keys.append(keys)
        self._rows.append(rows)
        self._names.append(name)

    def count(self, examples: int) -> tuple[int, list[int | str]]:
        """Return how many rows repeat an earlier one, and the first of them."""
        if not self._keys:
            return 0, []
        keys = np.concatenate(self._keys)
        if not has_repeats(keys):
            return 0, []
        order = np.argsort(keys, kind="stable")
        again = np.sort(order[1:][keys[order][1:] == keys[order][:-1]])
        ends = np.cumsum([len(rows) for rows in self._rows])
        first: list[int | str] = []
        for place in again[:examples].tolist():
            part = int(np.searchsorted(ends, place, side="right"))
            inner = int(place - (ends[part - 1] if part else 0))
            row, name = int(self._rows[part][inner]), self._names[part]
            name = name if name is None or isinstance(name, str) else name[inner].as_py()
            first.append(f"{name}:{row}" if name else row)
        return len(again), first


class Seen:
    """Which rows repeat an earlier one, batch after batch; 8 bytes per distinct row."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, dtype=np.uint64)

    def again(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Flag the rows whose key came before, in this batch or an earlier one."""
        distinct, first = np.unique(keys, return_index=True)
        place = np.searchsorted(self._keys, distinct)
        known = np.zeros(len(distinct), dtype=bool)
        inside = place < len(self._keys)
        known[inside] = self._keys[place[inside]] == distinct[inside]
        repeats = np.ones(len(keys), dtype=bool)
        repeats[first[~known]] = False
        self._keys = np.sort(np.concatenate((self._keys, distinct[~known])))
        return repeats


def has_repeats(keys: NDArray[np.uint64]) -> bool:
    """Whether any key comes twice: sorting them is many times faster than finding their order."""
    ordered = np.sort(keys)
    return bool((ordered[1:] == ordered[:-1]).any())


def combined(parts: Iterable[NDArray[np.generic]], rows: int) -> NDArray[np.uint64]:
    """One key per row from columns of 8-byte values: equal rows have equal keys."""
    key = np.zeros(rows, dtype=np.uint64)
    for part in parts:
        key = _mixed(key ^ part.view(np.uint64))
    return key


def of_polygons(polygons: pa.ListArray) -> NDArray[np.uint64]:
    """One key per row of its rings' coordinates; 0 for a null."""
    rings = polygons.flatten()
    values = rings.flatten().to_numpy(zero_copy_only=False).view(np.uint64)
    lengths = rings.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    ring_row = polygons.value_parent_indices().to_numpy()
    points = _positional(values, np.repeat(ring_row, lengths), len(polygons))
    return _mixed(points) + _positional(lengths.view(np.uint64), ring_row, len(polygons))


def _mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: spreads every bit over all 64."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = key ^ (key >> np.uint64(31))
    return mixed


def _positional(
    values: NDArray[np.uint64], row: NDArray[np.int64], rows: int
) -> NDArray[np.uint64]:
    """Per row, a sum of its values, each mixed with its place in the row."""
    key = np.zeros(rows, dtype=np.uint64)
    if values.size:
        heads = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), row[1:] != row[:-1])))
        place = np.arange(values.size) - np.repeat(heads, np.diff(heads, append=values.size))
        mixed = _mixed(values ^ _mixed(place.astype(np.uint64) + np.uint64(1)))
        key[row[heads]] = np.add.reduceat(mixed, heads)
    return key


def of_bytes(column: pa.Array) -> NDArray[np.uint64]:
    """One key per row of its bytes; 0 for a null. Other processes give other keys."""
    # Python's own hash is of 64 bits, and faster than NumPy can be, even with an object per row.
    keys = np.fromiter(map(hash, column.to_pylist()), np.int64, len(column)).view(np.uint64)
    if column.null_count:
        keys[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return keys
