"""YOLO predictions: one text file per image, as Ultralytics' ``save_txt`` writes them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import Coordinates, raw_batch
from ea_arrow.sources.boxes import box_columns, to_xywh
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.yolo_layout import COLUMNS, TASKS, layout_of
from ea_arrow.sources.yolo_names import CLASSES_TXT, find_names
from ea_arrow.sources.yolo_rows import (
    Lines,
    Refused,
    blocks_of,
    file_names,
    is_index,
    place_columns,
    polygon_array,
    sampled_numbers,
    sampled_rows,
    six_columns,
    stems_of,
    whole_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ea_arrow.sources.samples import Sample
    from ea_arrow.sources.text_files import TextRows
    from ea_arrow.sources.yolo_rows import Flags, Floats, Ints

_NO_CONFIDENCE: Final = (
    "No confidence; save it (Ultralytics: save_conf=True), or give one with "
    "--option confidence=VALUE."
)
_LOW: Final = -0.01
_HIGH: Final = 1.01
_LOW_CORNER: Final = -0.5
_HIGH_CORNER: Final = 1.5
"""Corners of oriented boxes are not clipped: they may lie further out than those of boxes."""


class YoloSource:
    """A directory, or several files, of YOLO predictions, opened.

    Args:
        files: What was given.
        reading: What the caller knows.

    Raises:
        SourceError: There is no text file, one cannot be read, or what its columns are cannot be
            told.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self._box = reading.box or "cxcywh"
        self._one_based = reading.one_based
        self._confidence = _confidence(reading.options)
        paths = prediction_files(files)
        self._units, self._names = stems_of(paths), file_names(files, paths)
        self._blocks = blocks_of(paths)
        names, notes = find_names(files.root if files.root.is_dir() else files.root.parent)
        self.notes: Counter[str] = Counter(notes)
        options = reading.options
        self._layout = layout_of(
            self.path, self._blocks, options.get("task"), options.get("columns")
        )
        self.notes.update(self._layout.notes)
        alike = len(paths) - len(self._units.unique())
        if alike:
            self.notes["files that have the stem of another, and with it its data unit"] = alike
        self.coordinates = Coordinates(
            relative=True if reading.relative is None else reading.relative,
            unit_key="stem",
            class_key="index",
            class_names=tuple(names.items()),
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema, in file order."""
        for rows in self._blocks():
            yield self._batch(rows)

    def _batch(self, rows: TextRows) -> pa.RecordBatch:
        lines, refused = Lines(rows), Refused(len(rows))
        extras = self._layout.extras(lines.counts)
        columns = place_columns(rows, self._units, self._names)
        columns["class_ref"] = classes_of(lines, refused)
        refused.add(
            extras < 0,
            "invalid_data",
            lambda row: (
                f"The line has {lines.counts[row]} columns, {lines.text(row)}; expected "
                f"{self._layout.expected}."
            ),
        )
        columns |= self._ends(lines, extras, refused)
        if self._layout.task == "detect":
            boxes = box_of(lines, extras >= 0, refused)
            columns |= box_columns(to_xywh(boxes, self._box, one_based=self._one_based))
            kind = "bounding_box"
        else:
            lengths = np.where(extras >= 0, lines.counts - 1 - extras, 0)
            columns["polygon"] = polygon_of(lines, extras >= 0, lengths, refused)
            kind = "polygon"
        columns["format"] = pa.repeat(kind, len(rows))
        return raw_batch(columns | refused.columns(), len(rows))

    def _ends(self, lines: Lines, extras: Ints, refused: Refused) -> dict[str, pa.Array]:
        """Confidences and track ids."""
        found: dict[str, tuple[Floats, Flags]] = {}
        for role in ("conf", "track"):
            values, present = np.full(len(lines), np.nan), np.zeros(len(lines), dtype=bool)
            for number, roles in self._layout.roles.items():
                if role not in roles:
                    continue
                mine = extras == number
                column, good = lines.column(roles.index(role) - number, mine)
                refused.add(mine & ~good, "invalid_data", _no_number(lines, role))
                values = np.where(mine, column, values)
                present |= good
            found[role] = values, present
        confidence, scored = found["conf"]
        if self._confidence is not None:
            lacking = ~scored & ~refused.flags
            self.notes["rows without confidence, given that of option confidence"] += int(
                lacking.sum()
            )
            confidence, scored = np.where(lacking, self._confidence, confidence), scored | lacking
        refused.add(~scored, "missing_confidence", lambda _: _NO_CONFIDENCE)
        track, tracked = found["track"]
        with np.errstate(invalid="ignore"):
            whole = (np.abs(track) < 2**53) & (track == np.floor(track))
        refused.add(tracked & ~whole, "invalid_data", _no_track(lines))
        return {
            "confidence": pa.array(confidence, mask=~scored),
            "track_id": whole_text(track, tracked & whole),
        }


def prediction_files(files: Files) -> list[Path]:
    """The text files of a source, those of class names left out.

    Raises:
        SourceError: There is none.
    """
    given = set(files.paths)
    paths = [p for p in files.listed(".txt") if p.name != CLASSES_TXT or p in given]
    if not paths:
        message = f"{files.root} has no .txt files; expected one for each image."
        raise SourceError(
            message, hint="Ultralytics writes them with save_txt=True save_conf=True."
        )
    return paths


def classes_of(lines: Lines, refused: Refused) -> pa.StringArray:
    """The classes of lines as indices in text; rows are refused that have none."""
    refused.add(
        lines.index < 0,
        "invalid_data",
        lambda row: (
            f"The line begins {lines.text(row)}; expected the index of a class, a whole number "
            "from 0."
        ),
    )
    return whole_text(lines.index.astype(np.float64), lines.index >= 0)


def box_of(lines: Lines, rows: Flags, refused: Refused) -> Floats:
    """The four numbers after the class, shape (n, 4); rows are refused that lack one."""
    boxes, good = lines.box(1, rows & (lines.counts > 4))
    refused.add(
        rows & ~good,
        "invalid_box",
        lambda row: f"The line is {lines.text(row)}; expected four numbers after the class.",
    )
    return boxes


def polygon_of(lines: Lines, rows: Flags, lengths: Ints, refused: Refused) -> pa.ListArray:
    """The points after the class as polygons.

    Args:
        lines: The lines.
        rows: Those that have points, shape (n,).
        lengths: How many coordinates each has, shape (n,).
        refused: Takes the rows that have fewer than three points, or a word that is no number.
    """
    refused.add(
        rows & (lengths < 6),
        "invalid_polygon",
        lambda row: f"The line has {lengths[row] // 2} points; a polygon needs at least three.",
    )
    values, good = lines.span(lengths)
    refused.add(
        rows & ~good,
        "invalid_polygon",
        lambda row: f"The line is {lines.text(row)}; expected numbers after the class.",
    )
    present = rows & good & (lengths >= 6)
    if not present.all():
        lengths = np.where(present, lengths, 0)
        values, _ = lines.span(lengths)
    return polygon_array(values, lengths, present)


def _no_number(lines: Lines, role: str) -> Any:
    what = {"conf": "confidence", "track": "track id"}[role]
    return lambda row: f"The line is {lines.text(row)}; its {what} is no number."


def _no_track(lines: Lines) -> Any:
    return lambda row: f"The line is {lines.text(row)}; its track id is no whole number."


def _confidence(options: Mapping[str, str]) -> float | None:
    text = options.get("confidence")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SourceError(f"Option confidence of 'yolo' is '{text}'; expected a number.")
    return value


def sniff(sample: Sample) -> bool:
    """Whether a path looks like YOLO predictions: relative coordinates after a class index."""
    rows = sampled_rows(sample, (CLASSES_TXT,))
    found = yolo_like(rows)
    if not found or len(found) * 2 < len(rows):
        return False
    six = [row for row in found if len(row) == 5]
    # An end beyond 1 is a track id, and so are all others.
    if len(found) - len(six) >= 0.1 * len(found) or any(row[-1] > _HIGH for row in six):
        return True
    return six_columns(six)[0]


def yolo_like(rows: Sequence[Sequence[str]]) -> list[list[float]]:
    """Those of some lines that are YOLO's, as the numbers after the class."""
    indexed = [row for row in rows if len(row) >= 5 and is_index(row[0])]
    return [row for row in sampled_numbers(indexed) if _is_relative(row)]


def _is_relative(row: Sequence[float]) -> bool:
    """Whether the numbers after a class are coordinates, then a confidence, then a track id."""
    low, high, last = _LOW, _HIGH, 4
    if len(row) > 6:
        low, high, last = _LOW_CORNER, _HIGH_CORNER, len(row) - 2
    inside = all(low <= number <= high for number in row[:last])
    return inside and all(low <= end <= high or end == int(end) >= 0 for end in row[last:])


def _open(files: Files, reading: Reading) -> YoloSource:
    return YoloSource(files, reading)


PREDICTIONS: Final = PredictionFormat(
    name="yolo",
    box="cxcywh",
    doc="YOLO txt: one file per image, relative coordinates (Ultralytics, YOLOv5)",
    about="One text file per image, named <stem of the image>.txt, one line per object; a "
    "directory of them, or several files, are one source. Lines are 'class cx cy w h' (detect), "
    "'class x1 y1 x2 y2 …' (segment) or 'class' and four corners (oriented boxes), each then with "
    "a confidence and a track id where they were saved. Ultralytics writes them with save_txt=True "
    "save_conf=True; without save_conf there is no confidence, and rows are refused unless option "
    "confidence gives one.\n\n"
    "Coordinates are fractions of the image's width and height, of six digits. Data units are "
    "named by the stem of the file, classes by their index in the model's list of names. The names "
    "are taken from data.yaml, classes.txt or obj.names in the directory, its parent or its "
    "grandparent, where they are found and do not contradict each other.\n\n"
    "5 to 7 columns are boxes, more are polygons. What stands after the coordinates is told from "
    "all rows of the source: fractions between 0 and 1 are confidences, whole numbers of which "
    "some are beyond 1 are track ids. Where that leaves a choice (a last column of nothing but 0 "
    "and 1, 7 columns that may be triangles) nothing is guessed: give option columns or task. Four "
    "corners become polygons, whether oriented boxes or not: in fractions of an image that is not "
    "square a rectangle has no right angles. Files of poses are not read.\n\n"
    "Ultralytics appends to files that are there: a second run into the same directory repeats "
    "every row, which the ledger counts as duplicates. Images without detections have no file. "
    "The order 'class confidence cx cy w h' is the format darknet.",
    example="0 0.481719 0.634028 0.690625 0.713278 0.914062\n"
    "16 0.741094 0.524306 0.314750 0.933389 0.870117",
    options=(
        Option("task", "What the lines hold; by default told from the columns.", TASKS),
        Option(
            "columns",
            "What stands after the coordinates; by default told from all rows.",
            tuple(COLUMNS),
        ),
        Option("confidence", "The confidence of rows that have none."),
    ),
    many=True,
    sniff=sniff,
    open=_open,
)
