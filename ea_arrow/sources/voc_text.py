"""PASCAL VOC's competition detections: one text file per class, a detection per line."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import Coordinates, raw_batch
from ea_arrow.sources.formats import Files, PredictionFormat, Reading
from ea_arrow.sources.text_columns import (
    ONE_BASED,
    Refusals,
    box_of,
    is_number,
    mostly,
    number_of,
    of_files,
    parts,
    word,
)
from ea_arrow.sources.text_files import TextRows, text_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.sources.samples import Sample

_SUFFIX: Final = ".txt"
_WORDS: Final = 6
_BOX: Final = (2, 3, 4, 5)
_MOST_INDEX: Final = 1000
"""A whole number below this is taken for the index of a class, not for the id of an image."""

_NAMED: Final = re.compile(
    r"(?:comp\d+_(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}_)?det_[A-Za-z0-9]+"
    r"|det_(?:test|train|val|trainval)|Task2)_(?P<name>.+)"
)
"""``comp4_det_val_cat``, ``comp4_<uuid>_det_test_cat``, ``det_test_cat``, and DOTA's
``Task2_plane``, which has the same columns."""


class VocTextPredictions:
    """A directory or files of detections, opened. See :class:`base.PredictionSource`.

    Raises:
        SourceError: There are no such files.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self.notes: Counter[str] = Counter()
        self.coordinates = Coordinates(
            relative=bool(reading.relative), unit_key="stem", class_key="name"
        )
        self._reading = reading
        self._paths = files.listed(_SUFFIX)
        if not self._paths:
            message = f"{files.root} has no {_SUFFIX} files."
            raise SourceError(message, hint="Give the directory with a file per class.")
        self._names = [files.name_of(path) for path in self._paths]
        self._classes = [class_of(path) for path in self._paths]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order of file name."""
        self.notes.clear()
        for rows in text_rows(self._paths, comment=""):
            for part in parts(rows):
                yield self._batch(part)

    def _batch(self, rows: TextRows) -> pa.RecordBatch:
        reading, refusals, n = self._reading, Refusals(len(rows)), len(rows)
        refusals.add_counts(rows.counts != _WORDS, rows.counts, "words", str(_WORDS))
        scores = number_of(word(rows, 1), refusals, "a score")
        words = [word(rows, place) for place in _BOX]
        box = box_of(words, refusals, reading.box or "xyxy", one_based=reading.one_based)
        if not reading.one_based:
            self.notes[ONE_BASED] += n
        columns = {
            "source_row": pa.array(rows.line),
            "source_file": of_files(self._names, rows),
            "unit": word(rows, 0),
            "class_ref": of_files(self._classes, rows),
            "format": pa.array(["bounding_box"]).take(pa.array(np.zeros(n, np.int64))),
            "confidence": scores,
            **box,
        }
        return raw_batch(columns | refusals.columns(), n)


def class_of(path: Path) -> str:
    """The class that a file is of, by its name.

    >>> from pathlib import Path
    >>> class_of(Path("comp4_det_val_cat.txt")), class_of(Path("traffic_light.txt"))
    ('cat', 'traffic_light')
    """
    stem = path.stem if path.suffix.lower() == _SUFFIX else path.name
    named = _NAMED.fullmatch(stem)
    return named["name"] if named else stem


def _sniff(sample: Sample) -> bool:
    """Whether they are files of a class each: most lines begin with the id of an image.

    Darknet's ``cat 0.94 12 44 332 437`` looks alike, but is of one image. So either the file has a
    name like VOC's, or the first words look like ids (they have a digit, and are no small number as
    an index of a class would be) while the file's name, being that of a class, has no digit.
    """
    files = sample.inner(_SUFFIX) if sample.is_dir else [sample]
    if not all(file.path.suffix.lower() == _SUFFIX for file in files):
        return False
    return mostly([fits for file in files for fits in _fitting(file)])


def _fitting(file: Sample) -> list[bool]:
    named = _NAMED.fullmatch(file.path.stem) is not None
    like_an_image = any(char.isdigit() for char in file.path.stem)
    return [
        len(words) == _WORDS
        and all(map(is_number, words[1:]))
        and (named or (not like_an_image and looks_like_an_image(words[0])))
        for words in map(str.split, file.lines)
    ]


def looks_like_an_image(text: str) -> bool:
    """Whether a word looks like the id of an image rather than like a class.

    >>> [looks_like_an_image(text) for text in ("2007_000027", "000012", "139000")]
    [True, True, True]
    >>> [looks_like_an_image(text) for text in ("cat", "7", "0", "1.5")]
    [False, False, False, False]
    """
    if not any(char.isdigit() for char in text):
        return False
    if text.isascii() and text.isdigit():
        return (text[0] == "0" and len(text) > 1) or int(text[:20]) >= _MOST_INDEX
    return not is_number(text)


PREDICTIONS: Final = PredictionFormat(
    name="voc-text",
    box="xyxy",
    doc="PASCAL VOC competition detections, one text file per class",
    about="One text file per class, named comp4_det_val_cat.txt, det_test_cat.txt or cat.txt, with "
    "a detection per line in six words: image, score, xmin, ymin, xmax, ymax. The class is found "
    "by its name, the image by its file name without suffix. Files that DOTA's tools write for "
    "upright boxes (Task2_plane.txt) have the same columns. Scores are kept as they are; they need "
    "not lie in [0, 1].\n\n"
    "The corners are pixels. VOC's devkit counts pixels from 1 and its corners are the last pixels "
    "inside, but most tools that write these files count from 0. They are taken as given; with "
    "--one-based 1 is taken from xmin and ymin, so that a box from 1 to 10 is 10 pixels wide.\n\n"
    "Text files of one image each, whose lines begin with a class and a score, are Darknet's. A "
    "file is taken for VOC's if it is named as above with the prefix, or if most lines begin with "
    "a word that looks like an image (it has a digit, and is no whole number below 1000 unless it "
    "begins with 0) and the file's name has no digit. Otherwise name the format.",
    example="2007_000027 0.983 174 101 349 351\n000012 -1.25 45.5 30.0 120.25 99.0",
    many=True,
    sniff=_sniff,
    open=VocTextPredictions,
)
