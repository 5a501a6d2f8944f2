"""Exact duplicates among any number of rows, in a fixed amount of memory."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.files import writing
from ea_arrow.row_keys import Duplicates, has_repeats

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MOST_ROWS: Final = 1 << 19
"""Rows whose keys are held in memory; with more, all go to a file that has no name."""

_PAIR: Final = np.dtype([("key", "<u8"), ("row", "<i8")])


class OneBatch(Duplicates):
    """The keys and rows of a single batch, for another to collect."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.rows: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, keys: NDArray[np.uint64], rows: NDArray[np.int64], name: Any) -> None:
        """Keep them."""
        del name
        self.keys, self.rows = keys, rows


class SpilledDuplicates(Duplicates):
    """Finds rows whose key came before, of a single source.

    Args:
        folder: Where the file lies, 16 bytes per row, until it is closed; it never has a name, so a
            process that is killed leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._held = 0

    def add(self, keys: NDArray[np.uint64], rows: NDArray[np.int64], name: Any) -> None:
        """Add rows by their keys and numbers in the source."""
        super().add(keys, rows, name)
        self._held += len(keys)
        if self._held >= MOST_ROWS:
            self._spill()

    def count(self, examples: int) -> tuple[int, list[int | str]]:
        """Return how many rows repeat an earlier one, and the first of them.

        The file is read once per part of the keys: as many rows as fit into memory at a time.
        """
        if self._file is None:
            return super().count(examples)
        self._spill()
        total = self._file.tell() // _PAIR.itemsize
        parts = -(-total // (2 * MOST_ROWS))
        number, first = 0, np.zeros(0, np.int64)
        for part in range(parts):
            pairs = self._part(part, parts)
            if not has_repeats(pairs["key"]):
                continue
            order = np.argsort(pairs["key"], kind="stable")
            ordered = pairs["key"][order]
            again = pairs["row"][order[1:][ordered[1:] == ordered[:-1]]]
            number += len(again)
            first = np.sort(np.concatenate((first, again)))[:examples]
        return number, list(first.tolist())

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self) -> None:
        with writing(self._folder):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  see close
            for keys, rows in zip(self._keys, self._rows, strict=True):
                pairs = np.empty(len(keys), _PAIR)
                pairs["key"], pairs["row"] = keys, rows
                self._file.write(pairs.data)
            self._file.flush()
        self._keys, self._rows, self._names, self._held = [], [], [], 0

    def _part(self, part: int, parts: int) -> NDArray[Any]:
        """The pairs of one part of the keys, in order of arrival."""
        if self._file is None:
            return np.zeros(0, _PAIR)
        self._file.seek(0)
        found = [np.zeros(0, _PAIR)]
        while data := self._file.read(_PAIR.itemsize << 19):
            pairs = np.frombuffer(data, _PAIR)
            found.append(pairs[pairs["key"] % np.uint64(parts) == part])
        return np.concatenate(found)
