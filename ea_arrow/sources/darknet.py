"""Detections as ``class confidence`` and a box, one text file per image."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import Coordinates, raw_batch
from ea_arrow.sources.boxes import box_columns, to_xywh
from ea_arrow.sources.formats import Files, PredictionFormat, Reading
from ea_arrow.sources.yolo import prediction_files, yolo_like
from ea_arrow.sources.yolo_names import CLASSES_TXT, find_names
from ea_arrow.sources.yolo_rows import (
    Lines,
    Refused,
    blocks_of,
    file_names,
    is_index,
    place_columns,
    sampled_numbers,
    sampled_rows,
    six_columns,
    stems_of,
    whole_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.sources.formats import Layout
    from ea_arrow.sources.samples import Sample
    from ea_arrow.sources.text_files import TextRows

_COLUMNS: Final = 6
_FRACTION: Final = 1.01
_FAR: Final = 2.0
"""Numbers up to the first are fractions, numbers beyond the second are pixels."""

_NAME: Final = re.compile(r"[^\W\d_][^\s,;:]*")
_MANY_DIGITS: Final = re.compile(r"\d{3}")


@dataclass
class _Survey:
    """What all rows of a source say about their boxes.

    Attributes:
        rows: Rows of six columns.
        high: The greatest coordinate.
        disordered: Rows whose third number is below the first, or fourth below the second: their
            boxes are not two corners.
        first: Where the first of these stands.
        indices: Every class is a whole number.
    """

    rows: int = 0
    high: float = -np.inf
    disordered: int = 0
    first: str = ""
    indices: bool = True


class DarknetSource:
    """A directory, or several files, of detections, opened.

    Args:
        files: What was given.
        reading: What the caller knows.

    Raises:
        SourceError: There is no text file, one cannot be read, or the order of the boxes' numbers
            cannot be told.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self._one_based = reading.one_based
        paths = prediction_files(files)
        self._units, self._names = stems_of(paths), file_names(files, paths)
        self._blocks = blocks_of(paths)
        survey = _survey(self._blocks, lambda file: files.name_of(paths[file]))
        relative = _is_relative(self.path, survey, reading)
        self._box = reading.box or _own_order(self.path, survey, relative=relative)
        names: dict[str, str] = {}
        self.notes: Counter[str] = Counter()
        if survey.indices:
            names, notes = find_names(files.root if files.root.is_dir() else files.root.parent)
            self.notes.update(notes)
        unit = "fractions" if relative else "pixels"
        self.notes[f"boxes read as {self._box} in {unit}"] = survey.rows
        self._indices = survey.indices
        self.coordinates = Coordinates(
            relative=relative,
            unit_key="stem",
            class_key="index" if survey.indices else "name",
            class_names=tuple(names.items()),
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema, in file order."""
        for rows in self._blocks():
            yield self._batch(rows)

    def _batch(self, rows: TextRows) -> pa.RecordBatch:
        lines, refused = Lines(rows), Refused(len(rows))
        six = lines.counts == _COLUMNS
        refused.add(~six, "invalid_data", lambda row: _columns_message(lines, row))
        confidence, scored = lines.column(1, six)
        refused.add(
            six & ~scored,
            "invalid_data",
            lambda row: f"The line is {lines.text(row)}; its confidence is no number.",
        )
        boxes, good = lines.box(2, six)
        refused.add(
            six & ~good,
            "invalid_box",
            lambda row: (
                f"The line is {lines.text(row)}; expected four numbers after the confidence."
            ),
        )
        columns = place_columns(rows, self._units, self._names)
        columns["class_ref"] = (
            whole_text(lines.index.astype(np.float64), lines.index >= 0)
            if self._indices
            else lines.classes
        )
        columns["confidence"] = pa.array(confidence, mask=~scored)
        columns |= box_columns(to_xywh(boxes, self._box, one_based=self._one_based))
        columns["format"] = pa.repeat("bounding_box", len(rows))
        return raw_batch(columns | refused.columns(), len(rows))


def _columns_message(lines: Lines, row: int) -> str:
    found = f"The line has {lines.counts[row]} words, {lines.text(row)}; expected six"
    more = " (a class name has no spaces)" if lines.counts[row] > _COLUMNS else ""
    return f"{found}: class, confidence and the four numbers of a box{more}."


def _survey(blocks: Callable[[], Iterator[TextRows]], name_of: Callable[[int], str]) -> _Survey:
    found = _Survey()
    for rows in blocks():
        lines = Lines(rows)
        six = lines.counts == _COLUMNS
        boxes, good = lines.box(2, six)
        good &= np.isfinite(boxes).all(axis=1)
        found.rows += int(six.sum())
        found.indices &= bool((lines.index[six] >= 0).all())
        if good.any():
            found.high = max(found.high, float(boxes[good].max()))
        with np.errstate(invalid="ignore"):
            wrong = good & ((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
        if wrong.any() and not found.disordered:
            row = int(np.flatnonzero(wrong)[0])
            found.first = f"{name_of(int(rows.file[row]))}, line {rows.line[row]}: "
            found.first += lines.text(row)
        found.disordered += int(wrong.sum())
    return found


def _is_relative(path: object, survey: _Survey, reading: Reading) -> bool:
    """Whether coordinates are fractions: as the caller says, else by their size."""
    if reading.relative is not None:
        return reading.relative
    if survey.high <= _FRACTION:
        return True
    if survey.high > _FAR:
        return False
    message = (
        f"{path}: coordinates reach {survey.high:g}: little for pixels, and much for fractions of "
        "the image."
    )
    raise SourceError(message, hint="Say which: --relative, or --pixels and --box.")


def _own_order(path: object, survey: _Survey, *, relative: bool) -> Layout:
    """Darknet's order of fractions; that of pixels has to be given."""
    if relative:
        return "cxcywh"
    message = (
        f"{path}: boxes are in pixels (up to {survey.high:g}), and the order of their four numbers "
        "cannot be told."
    )
    hint = "Give it: --box xywh (left, top, width, height) or --box xyxy (two corners)."
    if survey.disordered:
        message += (
            f" They are not two corners: in {survey.disordered:,} of {survey.rows:,} rows the "
            f"second would lie left of or above the first ({survey.first})."
        )
        hint = "Give it: --box xywh (left, top, width, height) or --box cxcywh (centre first)."
    elif survey.rows:
        message += f" In all {survey.rows:,} rows they may be two corners."
    raise SourceError(message, hint=hint)


def sniff(sample: Sample) -> bool:
    """Whether a path looks like lines of class, confidence and box."""
    rows = sampled_rows(sample, (CLASSES_TXT,))
    six = [row for row in rows if len(row) == _COLUMNS and _is_class(row[0])]
    found = [row for row in sampled_numbers(six) if 0 <= row[0] <= 1]
    if not found or len(found) * 2 < len(rows):
        return False
    if sum(not is_index(row[0]) for row in six) * 2 > len(six):
        return True
    if sum(len(row) != _COLUMNS - 1 for row in yolo_like(rows)) >= 0.1 * len(rows):
        return False
    far = [row for row in found if max(row[1:]) > _FRACTION]
    if len(far) * 2 > len(found):  # a single one may be a mistake of YOLO's
        # Else only the last number is large: a track id at the end of YOLO's columns.
        return max(max(row[1:4]) for row in far) > _FRACTION
    return any(row[-1] < 0 for row in found) or six_columns(found)[1]


def _is_class(word: str) -> bool:
    """Whether a word can name a class: the ids of VOC's images have a number in them."""
    return is_index(word) or bool(_NAME.fullmatch(word) and not _MANY_DIGITS.search(word))


def _open(files: Files, reading: Reading) -> DarknetSource:
    return DarknetSource(files, reading)


PREDICTIONS: Final = PredictionFormat(
    name="darknet",
    box="cxcywh",
    doc="Darknet txt: one file per image, class, confidence, box (object_detection_metrics)",
    about="One text file per image, named <stem of the image>.txt, one line per object: 'class "
    "confidence a b c d'. A directory of them, or several files, are one source. The class is an "
    "index in the model's list of names, or a name without spaces; the names of indices are taken "
    "from data.yaml, classes.txt or obj.names in the directory, its parent or its grandparent, "
    "where they are found and do not contradict each other. Data units are named by the stem of "
    "the file.\n\n"
    "Boxes are the centre, width and height as fractions of the image, Darknet's own order, where "
    "no number is beyond 1.01. Larger numbers are pixels, and these are written as left, top, "
    "width, height by some tools and as two corners by others: nothing is guessed, give --box xywh "
    "or --box xyxy. Numbers between 1.01 and 2 can be either: give --relative or --pixels.\n\n"
    "The order 'class cx cy w h confidence' is the format yolo. Which of the two a file is shows "
    "in the boxes: of one reading they leave the image. Where neither does, give --format.",
    example="6 0.557524 0.415000 0.493333 0.026000 0.032000\n"
    "14 0.850489 0.030000 0.476000 0.060000 0.653333",
    many=True,
    sniff=sniff,
    open=_open,
)
