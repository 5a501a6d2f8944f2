"""One text file per data unit, named after it."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.arranged import run_starts
from ea_arrow.errors import ExportError
from ea_arrow.exports.text import listed

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.arranged import Ints
    from ea_arrow.exports.base import Account

SIZES: Final = "sizes.csv"
"""The file of sizes beside labels in formats that hold none."""

_ENDS_LIKE_A_FRAME: Final = re.compile(r"__\d+$")
_HINT: Final = "Export to coco, parquet or csv: they name data units by their ids."


def unit_stems(data_units: pa.Table) -> list[str]:
    """What each data unit's file is called, without its suffix: its title's path and stem.

    A frame of a video has ``__<frame>`` after it; so has an image whose own name ends like that,
    for it to be told from one.

    Args:
        data_units: ``DATA_UNITS``.

    >>> unit_stems(pa.table({"data_hash": ["a", "b"], "frame": [0, 0], "title": ["x/1.png", None]}))
    ['x/1', 'b']
    """
    hashes, frames = data_units["data_hash"].to_pylist(), data_units["frame"].to_pylist()
    several = Counter(hashes)
    stems = []
    for data_hash, frame, title in zip(
        hashes, frames, data_units["title"].to_pylist(), strict=True
    ):
        path = PurePosixPath(title or data_hash)
        stem = str(
            PurePosixPath(*(p for p in path.parts if p != "/")).with_suffix(
                "" if title else path.suffix
            )
        )
        if frame or several[data_hash] > 1 or _ENDS_LIKE_A_FRAME.search(stem):
            stem = f"{stem}__{frame}"
        stems.append(stem)
    return stems


def write_sizes(folder: Path, data_units: pa.Table) -> None:
    """Write ``sizes.csv``: name, width and height of each data unit, for readers without images.

    Args:
        folder: Where to.
        data_units: ``DATA_UNITS``. The name is the title, or what the label file is called where
            that is something else.
    """
    stems, titles = unit_stems(data_units), data_units["title"].to_pylist()
    sides = (data_units[name].to_pylist() for name in ("width", "height"))
    with (folder / SIZES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "width", "height"))
        for stem, title, width, height in zip(stems, titles, *sides, strict=True):
            path = PurePosixPath(title or "")
            name = title if title and stem == str(path.with_suffix("")) else stem
            writer.writerow((name, width, height))


class UnitFiles:
    """Appends lines to the files of data units, in any order of the data units.

    Args:
        root: The directory of the files.
        data_units: ``DATA_UNITS``.
    """

    def __init__(self, root: Path, data_units: pa.Table) -> None:
        self._root = root
        self._stems = unit_stems(data_units)
        self._titles = data_units["title"].to_pylist()
        self._shared = {stem for stem, n in Counter(self._stems).items() if n > 1}
        self._written = np.zeros(len(self._stems), dtype=bool)

    def add(self, unit: Ints, lines: pa.Array) -> None:
        """Append rows to the files of their data units, in order.

        Args:
            unit: Position of each row's data unit.
            lines: The rows.

        Raises:
            ExportError: A data unit's name is no file name, or another has the same.
        """
        order = np.argsort(unit, kind="stable")
        starts = run_starts(unit[order])
        counts = np.diff(starts, append=len(order))
        texts = listed(lines.take(pa.array(order)), counts, "\n")
        for position, text in zip(unit[order][starts].tolist(), texts, strict=True):
            with self._path(position).open("ab") as file:
                file.write(text.as_buffer())
                file.write(b"\n")

    def add_empty(self) -> None:
        """Make an empty file for every data unit that has none."""
        for position in np.flatnonzero(~self._written).tolist():
            self._path(position).touch()

    def note(self, account: Account) -> None:
        """Count the files that readers which look at the name only cannot tell apart."""
        written = [s for s, w in zip(self._stems, self._written.tolist(), strict=True) if w]
        names = Counter(stem.rpartition("/")[2] for stem in written)
        account.note("files of equal names in different directories",
                     sum(n for n in names.values() if n > 1))  # fmt: skip

    def _path(self, position: int) -> Path:
        stem = self._stems[position]
        if not self._written[position]:
            self._check(position)
            self._written[position] = True
            (self._root / stem).parent.mkdir(parents=True, exist_ok=True)
        return self._root / f"{stem}.txt"

    def _check(self, position: int) -> None:
        stem = self._stems[position]
        if stem in self._shared:
            same = [t for s, t in zip(self._stems, self._titles, strict=True) if s == stem]
            named = " and ".join(repr(title) for title in same[:2])
            raise ExportError(
                f"{len(same)} data units would have the file '{stem}.txt': {named}.", hint=_HINT
            )
        parts = PurePosixPath(stem).parts
        if not parts or "\0" in stem or any(part.startswith(".") for part in parts):
            title = self._titles[position]
            raise ExportError(f"Data unit {title!r} cannot name a file: '{stem}.txt'.", hint=_HINT)
