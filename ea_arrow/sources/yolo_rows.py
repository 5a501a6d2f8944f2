"""Lines of a class and numbers, as YOLO and Darknet write them, parsed by column."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.ontology import clean_text
from ea_arrow.schema import POLYGON
from ea_arrow.sources.base import BATCH_ROWS
from ea_arrow.sources.text_files import TextRows, numbers, text_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Files
    from ea_arrow.sources.samples import Sample

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Ints = NDArray[np.int64]

HELD_BYTES: Final = 1 << 25
"""Files of no more than this in all are read once and held; larger sources are read twice."""

MOST_CLASSES: Final = 2**31

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MOST_SAMPLED: Final = 500
_SHOWN: Final = 80


class Lines:
    """A block of lines: the first word of each is a class, all others are numbers.

    Args:
        rows: The block.

    Attributes:
        rows: As given.
        counts: How many words each line has, shape (n,).
        values: Every number, line after line; NaN for words that are none, and for classes.
        good: Which words are numbers, classes left out.
        index: The class as a whole number from 0; −1 where it is none. Shape (n,).
    """

    def __init__(self, rows: TextRows) -> None:
        self.rows = rows
        self.counts = rows.counts
        self._words = rows.words.flatten()
        self._begins: Ints = np.cumsum(self.counts) - self.counts
        is_class = np.zeros(len(self._words), dtype=bool)
        is_class[self._begins] = True
        self.values: Floats = np.full(len(self._words), np.nan)
        self.good: Flags = is_class.copy()
        rest = np.flatnonzero(~is_class)
        self.values[rest], self.good[rest] = numbers(self._words.take(pa.array(rest)))
        self.classes: pa.StringArray = self._words.take(pa.array(self._begins))
        parsed, _ = numbers(self.classes)
        with np.errstate(invalid="ignore"):
            whole = (parsed >= 0) & (parsed < MOST_CLASSES) & (parsed == np.floor(parsed))
        self.index: Ints = np.where(whole, np.where(whole, parsed, 0), -1).astype(np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    def column(self, places: Ints | int, rows: Flags) -> tuple[Floats, Flags]:
        """The number at a place of some lines.

        Args:
            places: Words from the start of each line, shape (n,); −1 is the last word.
            rows: Lines that have it; all others get NaN.

        Returns:
            The numbers, and which lines have one there.
        """
        places = np.broadcast_to(places, len(self))
        at = self._begins + np.where(places < 0, self.counts + places, places)
        at = np.where(rows, at, 0)
        if not len(self):
            return np.zeros(0), np.zeros(0, dtype=bool)
        return np.where(rows, self.values[at], np.nan), self.good[at] & rows

    def box(self, first: int, rows: Flags) -> tuple[Floats, Flags]:
        """Four numbers from a place on: shape (n, 4), and which lines have four."""
        parts = [self.column(first + i, rows) for i in range(4)]
        good: Flags = np.logical_and.reduce([part[1] for part in parts])
        return np.stack([part[0] for part in parts], axis=1), good

    def span(self, lengths: Ints) -> tuple[Floats, Flags]:
        """Numbers from the second word on.

        Args:
            lengths: How many of each line, shape (n,).

        Returns:
            All of them, line after line, and which lines have only numbers there.
        """
        starts = np.cumsum(lengths) - lengths
        row = np.repeat(np.arange(len(self)), lengths)
        at = np.arange(len(row)) - starts[row] + self._begins[row] + 1
        bad = np.zeros(len(self), dtype=bool)
        bad[row[~self.good[at]]] = True
        return self.values[at], ~bad

    def text(self, row: int) -> str:
        """A line, cut short, for a message."""
        start = int(self._begins[row])
        words = self._words.slice(start, min(int(self.counts[row]), 12)).to_pylist()
        text = clean_text(" ".join(words))
        more = len(text) > _SHOWN or self.counts[row] > len(words)
        return f"'{text[:_SHOWN]}{' …' if more else ''}'"


class Refused:
    """The rules that the rows of a block break; the first one found of each row counts."""

    def __init__(self, rows: int) -> None:
        self.flags: Flags = np.zeros(rows, dtype=bool)
        self._rules: dict[int, tuple[str, str]] = {}

    def add(self, broken: Flags, rule: str, message: Callable[[int], str]) -> None:
        """Refuse rows.

        Args:
            broken: Which ones, shape (n,).
            rule: One of ``ledger.REJECTS``.
            message: Says of a row what was found and what was expected.
        """
        new = broken & ~self.flags
        for row in np.flatnonzero(new).tolist():
            self._rules[row] = (rule, message(row))
        self.flags |= new

    def columns(self) -> dict[str, pa.Array]:
        """The RAW columns ``rule`` and ``message``."""
        rows = range(len(self.flags))
        pairs = [self._rules.get(row, (None, None)) for row in rows] if self._rules else []
        return {
            name: pa.array([pair[i] for pair in pairs], pa.string())
            if pairs
            else pa.nulls(len(self.flags), pa.string())
            for i, name in enumerate(("rule", "message"))
        }


def blocks_of(paths: Sequence[Path]) -> Callable[[], Iterator[TextRows]]:
    """Read files so that they can be gone through several times.

    Raises:
        SourceError: A file cannot be read or is not text.
    """
    size = 0
    for path in paths:
        try:
            size += path.stat().st_size
        except OSError:
            break  # which reading it will tell
    if size > HELD_BYTES:
        return lambda: _cut(text_rows(paths))
    held = list(_cut(text_rows(paths)))
    return lambda: iter(held)


def place_columns(
    rows: TextRows, units: pa.StringArray, names: pa.StringArray | None
) -> dict[str, pa.Array]:
    """The RAW columns that say where rows stand.

    Args:
        rows: The rows.
        units: The data unit of each file.
        names: The name of each file; None where there is only one.
    """
    file = pa.array(rows.file)
    columns = {"source_row": pa.array(rows.line), "unit": units.take(file)}
    if names is not None:
        columns["source_file"] = names.take(file)
    return columns


def polygon_array(values: Floats, lengths: Ints, present: Flags) -> pa.ListArray:
    """A column of polygons of one ring each.

    Args:
        values: Interleaved x, y of all rows.
        lengths: How many of them each row has, shape (n,).
        present: Rows that have a polygon; all others are null.

    Returns:
        An array of type ``schema.POLYGON``.
    """
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    inner = pa.ListArray.from_arrays(pa.array(ends), pa.array(values))
    outer = pa.array(np.arange(len(lengths) + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(outer, inner, type=POLYGON, mask=pa.array(~present))


def whole_text(values: Floats, present: Flags) -> pa.StringArray:
    """Whole numbers as text (``7``, not ``7.0``), null where ``present`` is false."""
    kept = np.where(present, values, 0).astype(np.int64)
    return pa.array(kept, mask=~present).cast(pa.string())


def stems_of(paths: Sequence[Path]) -> pa.StringArray:
    """File names without ``.txt``."""
    return pa.array(
        [clean_text(path.name.removesuffix(path.suffix)) for path in paths], pa.string()
    )


def file_names(files: Files, paths: Sequence[Path]) -> pa.StringArray | None:
    """The files' names for rejects; None where there is only one."""
    if len(paths) < 2:
        return None
    return pa.array([clean_text(files.name_of(path)) for path in paths], pa.string())


def sampled_rows(sample: Sample, passed_over: Sequence[str] = ()) -> list[list[str]]:
    """Words of the first lines of a .txt file, or of some .txt files of a directory.

    Args:
        sample: The file or directory; of one that has a directory ``labels``, only that is seen.
        passed_over: Names of files of a directory that hold something else.

    Returns:
        One list of words per line; empty where there is no such file.
    """
    if not sample.is_dir:
        samples = [sample] if sample.suffix == ".txt" else []
    else:
        labels = sample.path / "labels"
        inside = type(sample)(labels) if labels.is_dir() else sample
        samples = [s for s in inside.inner(".txt") if s.path.name not in passed_over]
    if any(not inner.text for inner in samples):
        return [["not text"]]
    lines = [line for inner in samples for line in inner.lines[:_MOST_SAMPLED]]
    return [line.split() for line in lines if not line.lstrip().startswith("#")]


def sampled_numbers(rows: Sequence[Sequence[str]]) -> list[list[float]]:
    """The words of sampled lines after the first, as numbers; lines left out that have others."""
    numeric = (row for row in rows if all(len(w) < 40 and _NUMBER.fullmatch(w) for w in row[1:]))
    found = ([float(word) for word in row[1:]] for row in numeric)
    return [row for row in found if all(map(math.isfinite, row))]


def is_index(word: str) -> bool:
    """Whether a word can be the index of a class; ``007`` is rather the name of an image."""
    return bool(re.fullmatch(r"(0|[1-9]\d{0,4})(\.0+)?", word, re.ASCII))


def leaves_image(box: Sequence[float]) -> bool:
    """Whether a relative box, centre and size, reaches out of the image."""
    cx, cy, w, h = box
    sides = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    return min(sides) < -0.001 or max(sides) > 1.001 or w < 0 or h < 0


def six_columns(rows: Sequence[Sequence[float]]) -> tuple[bool, bool]:
    """Whether relative rows of six columns can be YOLO's, and whether they can be Darknet's.

    YOLO's are ``class cx cy w h confidence``, Darknet's ``class confidence cx cy w h``. Read
    rightly, few boxes if any leave the image; read wrongly, many do. A reading is out where it has
    three times as many such boxes as the other.

    Args:
        rows: The five numbers after the class.
    """
    yolo = sum(leaves_image(row[:4]) for row in rows)
    darknet = sum(leaves_image(row[1:]) for row in rows)
    return not yolo or yolo < 3 * darknet, not darknet or darknet < 3 * yolo


def _cut(blocks: Iterator[TextRows]) -> Iterator[TextRows]:
    """Blocks of no more rows than a batch has."""
    for block in blocks:
        for start in range(0, len(block), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            words = block.words.slice(start, BATCH_ROWS)
            yield TextRows(words, block.file[rows], block.line[rows])
