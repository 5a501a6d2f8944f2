"""Lines of KITTI object files as columns: what predictions and labels share."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.sources.samples import read_head
from ea_arrow.sources.text_columns import (
    Refusals,
    box_of,
    is_number,
    is_whole,
    mostly,
    number_of,
    of_files,
    parts,
    word,
)
from ea_arrow.sources.text_files import TextRows, numbers, text_rows

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Files, Reading
    from ea_arrow.sources.samples import Sample

    Ints = NDArray[np.int64]

TEXT_SUFFIXES: Final = (".txt", ".csv")
DONT_CARE: Final = "DontCare"

SIZES_FILE: Final = "sizes.csv"

_SIZES_HEADER: Final = b"name,width,height"
_MOST_WORDS: Final = 5
"""Names of classes may have spaces in them; the longest of COCO's have two words."""
_AFTER: Final = (14, 15)
"""How many numbers follow the name of the class: without a score, and with one."""
_BOX: Final = (3, 4, 5, 6)
_SCORE: Final = 14

ABOUT: Final = (
    "One text file per data unit, .txt or .csv, an object per line, words apart by whitespace or "
    "commas: type, truncated, occluded, alpha, left, top, right, bottom, height, width, length, x, "
    "y, z, rotation_y and, of predictions, score. Of these the type, the box (columns 5 to 8: two "
    "corners, in pixels from 0) and the score are read. A name of several words ('traffic light') "
    "is taken as a whole.",
    "Data units are named by the file's name without suffix.",
)
COLUMNS: Final = "Car 0.00 0 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.5"


class KittiFiles:
    """The text files of a source.

    Args:
        files: What was given.

    Attributes:
        paths: The files, those of a directory searched for by suffix.
        names: Their paths below the directory, for messages and rejects.

    Raises:
        SourceError: There are none.
    """

    def __init__(self, files: Files) -> None:
        given = set(files.paths)
        self.paths = [p for p in files.listed(*TEXT_SUFFIXES) if p in given or not _has_sizes(p)]
        if not self.paths:
            message = f"{files.root} has no files with the suffixes {', '.join(TEXT_SUFFIXES)}."
            raise SourceError(message, hint="Give the directory with a file per data unit.")
        self.names = [files.name_of(path) for path in self.paths]


class Block:
    """Lines of several files as columns.

    Args:
        rows: The lines, commas and headers dealt with.
        files: What they are from.
        reading: What the caller knows about the box.

    Attributes:
        rows: As given.
        refusals: The lines that cannot be read, complete once the columns were made.
        scoreless: Which lines have no score.
    """

    def __init__(self, rows: TextRows, files: KittiFiles, reading: Reading) -> None:
        self.rows = rows
        self._files = files
        self._reading = reading
        self._start = _name_lengths(rows)
        self.refusals = Refusals(len(rows))
        after = rows.counts - self._start
        self.scoreless = after <= _AFTER[0]
        self.refusals.add_counts(
            ~np.isin(after, _AFTER), rows.counts, "words", "15, or 16 with a score"
        )
        nameless = pc.equal(self.names, "").to_numpy(zero_copy_only=False)
        self.refusals.add_words(nameless, "missing_class", self.names, "the name of a class")

    @cached_property
    def names(self) -> pa.StringArray:
        """The class of each line."""
        first = word(self.rows, 0)
        if not (self._start > 1).any():
            return first
        longer = np.flatnonzero(self._start > 1)
        some = self.rows.take(longer)
        lengths = self._start[longer]
        words = [pc.if_else(pa.array(lengths > k), word(some, k), None) for k in range(_MOST_WORDS)]
        joined = pc.binary_join_element_wise(*words, " ", null_handling="skip")
        return pc.replace_with_mask(first, pa.array(self._start > 1), joined)

    @cached_property
    def dont_care(self) -> NDArray[np.bool_]:
        """Which lines are regions to be ignored."""
        found: NDArray[np.bool_] = pc.equal(self.names, DONT_CARE).to_numpy(zero_copy_only=False)
        return found

    @property
    def longer_names(self) -> int:
        """How many classes are named by several words."""
        return int(((self._start > 1) & ~self.refusals.refused).sum())

    def columns(self) -> dict[str, pa.Array]:
        """The columns that predictions and labels share; without ``rule`` and ``message``."""
        rows, reading = self.rows, self._reading
        words = [word(rows, self._start + place) for place in _BOX]
        box = box_of(words, self.refusals, reading.box or "xyxy", one_based=reading.one_based)
        formats = pa.array(["bounding_box"]).take(pa.array(np.zeros(len(rows), np.int64)))
        return {
            "source_row": pa.array(rows.line),
            "source_file": of_files(self._files.names, rows),
            "class_ref": self.names,
            "format": formats,
            **box,
        }

    def scores(self) -> pa.DoubleArray:
        """The score of each line; null where there is none."""
        words = word(self.rows, self._start + _SCORE)
        return number_of(words, self.refusals, "a score", self.scoreless)


def blocks(files: KittiFiles, reading: Reading, notes: Counter[str]) -> Iterator[Block]:
    """Read the files as blocks of lines that make a batch each, in order.

    Args:
        files: The files.
        reading: What the caller knows about their boxes.
        notes: Counts what is peculiar.

    Raises:
        SourceError: A file cannot be read.
    """
    for rows in text_rows(files.paths):
        for part in parts(rows):
            kept = _without_headers(_split_at_commas(part), notes)
            if not len(kept):
                continue
            block = Block(kept, files, reading)
            if block.longer_names:
                notes["rows whose class is named by several words"] += block.longer_names
            yield block


def _split_at_commas(rows: TextRows) -> TextRows:
    """Split lines again that have commas between their words: CSV."""
    odd = ~np.isin(rows.counts, (15, 16))
    odd |= pc.match_substring(word(rows, 0), ",").to_numpy(zero_copy_only=False)
    if not odd.any():
        return rows
    text = pc.binary_join(rows.words, " ")
    commas = pc.and_(pa.array(odd), pc.match_substring(text, ","))
    fields = pc.split_pattern_regex(pc.replace_substring(text, '"', ""), r"\s*,\s*")
    return TextRows(pc.if_else(commas, fields, rows.words), rows.file, rows.line)


def _without_headers(rows: TextRows, notes: Counter[str]) -> TextRows:
    """Leave out lines of column names, as CSV files may have."""
    second = pc.starts_with(word(rows, 1), "truncat", ignore_case=True).fill_null(False)
    header = second.to_numpy(zero_copy_only=False)
    if not header.any():
        return rows
    notes["lines of column names"] += int(header.sum())
    return rows.take(np.flatnonzero(~header))


def _name_lengths(rows: TextRows) -> Ints:
    """How many words name each line's class: those before the first number, one at least."""
    lengths = np.ones(len(rows), np.int64)
    _, good = numbers(word(rows, 1))
    open_ = np.flatnonzero(~good & (rows.counts > _AFTER[0] + 1))
    for length in range(2, _MOST_WORDS + 1):
        if not len(open_):
            break
        _, good = numbers(word(rows.take(open_), length))
        lengths[open_[good]] = length
        open_ = open_[~good]
    return lengths


def stem_of(name: str) -> str:
    """A file's name without ``.txt`` or ``.csv``."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in TEXT_SUFFIXES else name


def _has_sizes(path: Path) -> bool:
    """Whether a file is the table of sizes that exports of labels have beside them."""
    return path.name == SIZES_FILE and read_head(path).startswith(_SIZES_HEADER)


def sniff(sample: Sample) -> bool:
    """Whether most lines of text files are a name and 14 or 15 numbers, the second a whole one."""
    files = [sample]
    if sample.is_dir:
        files = [f for f in sample.inner(*TEXT_SUFFIXES) if not _has_sizes(f.path)]
    if not all(file.path.suffix.lower() in TEXT_SUFFIXES for file in files):
        return False
    lines = [line for file in files for line in _after_header(file.lines)]
    return mostly([_is_kitti_line(line) for line in lines if not line.lstrip().startswith("#")])


def _after_header(lines: list[str]) -> list[str]:
    return lines[1:] if lines and "truncat" in lines[0].lower() else lines


def _is_kitti_line(line: str) -> bool:
    words = line.split()
    if "," in words[0] or ("," in line and len(words) not in (15, 16)):
        words = re.split(r"\s*,\s*", line.replace('"', "").strip())
    length = next((i for i, text in enumerate(words) if is_number(text)), 0)
    rest = words[length:]
    fits = 0 < length <= _MOST_WORDS and len(rest) in _AFTER
    return fits and all(map(is_number, rest)) and is_whole(rest[1])
