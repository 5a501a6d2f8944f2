"""Lines of MOTChallenge files as columns: what predictions and labels share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Option
from ea_arrow.sources.text_columns import (
    Refusals,
    box_of,
    is_number,
    is_whole,
    mostly,
    number_of,
    of_files,
    parts,
    whole,
    word,
)
from ea_arrow.sources.text_files import TextRows, text_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Files, Reading
    from ea_arrow.sources.samples import Sample

    Flags = NDArray[np.bool_]

SUFFIX: Final = ".txt"
TRUTH: Final = "gt.txt"
DETECTIONS: Final = "det.txt"
NAMES: Final = "labels.txt"
"""The names of classes beside ``gt.txt``, as CVAT writes them."""

FIRST_FRAME: Final = Option(
    "first_frame",
    "The number of a sequence's first frame.",
    choices=("1", "0"),
    default="1",
)

_COUNTS: Final = (7, 8, 9, 10)
_BOX: Final = (2, 3, 4, 5)
_CONFIDENCE: Final = 6
_CLASS: Final = 7
_FRAME_MOST: Final = 10**9
_AMBIGUOUS: Final = 8


class MotFiles:
    """The text files of a source, one for each sequence.

    Args:
        files: What was given.
        paths: Those of them to read.

    Attributes:
        paths: The files.
        names: Their paths below the directory, for messages and rejects.
        sequences: The name of the sequence each is of.

    Raises:
        SourceError: There are none.
    """

    def __init__(self, files: Files, paths: list[Path]) -> None:
        if not paths:
            message = f"{files.root} has no {SUFFIX} files of sequences."
            hint = "Give the directory with <sequence>.txt or <sequence>/gt/gt.txt in it."
            raise SourceError(message, hint=hint)
        self.paths = paths
        self.names = [files.name_of(path) for path in paths]
        self.sequences = [folder_of(path).name for path in paths]


def folder_of(path: Path) -> Path:
    """The directory of a sequence, whether or not it is there.

    >>> folder_of(Path("/data/MOT17-02/gt/gt.txt")).as_posix()
    '/data/MOT17-02'
    >>> folder_of(Path("/results/MOT17-02.txt")).as_posix()
    '/results/MOT17-02'
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    if path.name.lower() not in (TRUTH, DETECTIONS):
        return path.with_suffix("") if path.suffix.lower() == SUFFIX else path
    folder = path.parent
    return folder.parent if folder.name.lower() in ("gt", "det") else folder


class MotBlock:
    """Lines of several files as columns.

    Args:
        rows: The lines.
        files: What they are from.
        reading: What the caller knows about the box.

    Attributes:
        rows: As given.
        refusals: The lines that cannot be read, complete once the columns were made.
    """

    def __init__(self, rows: TextRows, files: MotFiles, reading: Reading) -> None:
        self.rows = rows
        self._files = files
        self._reading = reading
        self.refusals = Refusals(len(rows))
        self.refusals.add_counts(
            ~np.isin(rows.counts, _COUNTS), rows.counts, "values", "7 to 10 apart by commas"
        )

    def columns(self) -> dict[str, pa.Array]:
        """The columns that predictions and labels share; without ``rule`` and ``message``."""
        rows, reading = self.rows, self._reading
        frame, track = self._frames(), self._tracks()
        words = [self.word(place) for place in _BOX]
        box = box_of(words, self.refusals, reading.box or "xywh", one_based=reading.one_based)
        formats = pa.array(["bounding_box"]).take(pa.array(np.zeros(len(rows), np.int64)))
        return {
            "source_row": pa.array(rows.line),
            "source_file": of_files(self._files.names, rows),
            "unit": of_files(self._files.sequences, rows),
            "frame": frame,
            "track_id": track,
            "format": formats,
            **box,
        }

    def word(self, place: int) -> pa.StringArray:
        """One value of each line, without the spaces around it."""
        return pc.utf8_trim_whitespace(word(self.rows, place))

    def confidence(self) -> pa.DoubleArray:
        """The 7th value: the score or, of ground truth, whether the row counts."""
        return number_of(self.word(_CONFIDENCE), self.refusals, "a confidence")

    def classes(self) -> pa.StringArray:
        """The 8th value: the number of a class; as it stands where it is no whole number."""
        words = self.word(_CLASS)
        numbers, good = whole(words)
        return pc.if_else(pa.array(good), pa.array(numbers).cast(pa.string()), words)

    def _frames(self) -> pa.Int64Array:
        first = int(self._reading.options.get("first_frame", "1"))
        words = self.word(0)
        numbers, good = whole(words)
        good &= (numbers >= first) & (numbers < _FRAME_MOST)
        expected = f"a whole number from {first} as the frame"
        if not first:
            expected += " (option first_frame=0)"
        self.refusals.add_words(~good, "invalid_frame", words, expected)
        return pa.array(numbers - first, mask=~good)

    def _tracks(self) -> pa.StringArray:
        """Track ids; null for −1, which stands for none."""
        words = self.word(1)
        numbers, good = whole(words)
        self.refusals.add_words(~good, "invalid_data", words, "a whole number as the track's id")
        return pa.array(numbers, mask=~good | (numbers == -1)).cast(pa.string())


def blocks(files: MotFiles, reading: Reading) -> Iterator[MotBlock]:
    """Read the files as blocks of lines that make a batch each, in order.

    Args:
        files: The files.
        reading: What the caller knows about their boxes.

    Raises:
        SourceError: A file cannot be read.
    """
    for rows in text_rows(files.paths, separator=","):
        for part in parts(rows):
            yield MotBlock(part, files, reading)


def is_mot(sample: Sample) -> bool:
    """Whether most of a file's lines are 7 to 10 numbers, the first two a frame and a track.

    Lines of eight numbers are also VisDrone's, which begin with a box; those of MOT are in order of
    the frame or of the track.
    """
    if sample.path.suffix.lower() != SUFFIX:
        return False
    lines = [[text.strip() for text in line.split(",")] for line in sample.lines]
    fits = [_is_mot_line(line) for line in lines]
    fitting = [line for line, fit in zip(lines, fits, strict=True) if fit]
    if not mostly(fits):
        return False
    frames, tracks = ([float(line[place]) for line in fitting] for place in (0, 1))
    return len(fitting[0]) != _AMBIGUOUS or frames == sorted(frames) or tracks == sorted(tracks)


def _is_mot_line(words: list[str]) -> bool:
    if len(words) not in _COUNTS or not all(map(is_number, words)):
        return False
    known = is_whole(words[0]) and is_whole(words[1])
    return known and float(words[0]) >= 0 and float(words[1]) >= -1
