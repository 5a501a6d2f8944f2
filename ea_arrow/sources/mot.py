"""MOTChallenge detections and tracks: one text file per sequence, a box per line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import Coordinates, raw_batch
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.mot_lines import (
    DETECTIONS,
    FIRST_FRAME,
    NAMES,
    SUFFIX,
    TRUTH,
    MotBlock,
    MotFiles,
    blocks,
    is_mot,
)
from ea_arrow.sources.text_columns import ONE_BASED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.sources.samples import Sample

_COLUMN: Final = "column"
_NUMBERED: Final = 6
"""Frames that are images of their own are named by six digits: 000001.jpg."""


class MotPredictions:
    """A directory or files of results, opened. See :class:`base.PredictionSource`.

    Raises:
        SourceError: There are no such files, or the option ``class`` is not given.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self.notes: Counter[str] = Counter()
        self._reading = reading
        self._given = reading.options.get("class", "")
        self._images = reading.options.get("units") == "images"
        if not self._given:
            message = f"{files.root}: MOT results do not say which class they are of."
            hint = "Give the option class=NAME, or class=column if the 8th column has a class's id."
            raise SourceError(message, hint=hint)
        self._passed_over, paths = _result_files(files)
        self._files = MotFiles(files, paths)

    @property
    def coordinates(self) -> Coordinates:
        """Pixels; sequences by title or images by number; the class as the option names it."""
        numbered = self._given == _COLUMN or self._given.isdecimal()
        return Coordinates(
            relative=bool(self._reading.relative),
            unit_key="number" if self._images else "title",
            class_key="source_id" if numbered else "name",
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order of file name."""
        self.notes.clear()
        if self._passed_over:
            self.notes[f"files of ground truth ({TRUTH}, {NAMES}) passed over"] = self._passed_over
        for block in blocks(self._files, self._reading):
            yield self._batch(block)

    def _batch(self, block: MotBlock) -> pa.RecordBatch:
        n = len(block.rows)
        columns = block.columns()
        columns["confidence"] = block.confidence()
        if self._given == _COLUMN:
            columns["class_ref"] = block.classes()
        else:
            columns["class_ref"] = pa.array([self._given]).take(pa.array(np.zeros(n, np.int64)))
        if self._images:
            columns |= self._as_images(columns["frame"])
        unset = pc.sum(pc.equal(columns["confidence"], -1.0)).as_py()
        if unset:
            self.notes["confidences of −1, which MOT writes where there is none (kept)"] += unset
        if not self._reading.one_based:
            self.notes[ONE_BASED] += n
        return raw_batch(columns | block.refusals.columns(), n)

    def _as_images(self, frame: pa.Int64Array) -> dict[str, pa.Array]:
        """Name data units by the number of the frame, as it stands in the file."""
        first = int(self._reading.options.get("first_frame", "1"))
        number = pc.add(frame, first).cast(pa.string())
        return {
            "unit": pc.utf8_lpad(number, width=_NUMBERED, padding="0"),
            "frame": pa.nulls(len(frame), pa.int64()),
        }


def _result_files(files: Files) -> tuple[int, list[Path]]:
    """How many files of ground truth a directory has, and its other files."""
    found = files.listed(SUFFIX)
    kept = [path for path in found if path in files.paths or not _is_truth(path)]
    return len(found) - len(kept), kept


def _is_truth(path: Path) -> bool:
    return path.name in (TRUTH, NAMES) and path.parent.name == "gt"


def _sniff(sample: Sample) -> bool:
    """Whether it has lines of MOT, other than in ``gt.txt``, which is ground truth."""
    if not sample.is_dir:
        return sample.path.name != TRUTH and is_mot(sample)
    files = [file for file in sample.inner(SUFFIX) if not _is_truth(file.path)]
    return bool(files) and all(map(is_mot, files))


PREDICTIONS: Final = PredictionFormat(
    name="mot",
    doc="MOTChallenge results, one text file per sequence",
    about="One text file per sequence, <sequence>.txt or <sequence>/det/det.txt, a box per line "
    "with 7 to 10 values apart by commas: frame, id, left, top, width, height, confidence, x, y, "
    "z. The data unit is the sequence, by its title; frames count from 1 here and from 0 in the "
    "project. The id is that of the track, −1 for none. x, y and z are not read. Where a project's "
    "data units are the images of one sequence, named by number (000001.jpg), give "
    "units=images.\n\n"
    "Results name no class: give it with the option class. A confidence of −1 is what MOT writes "
    "where there is none; it is kept, and counted.\n\n"
    "Left and top are pixels. By MOT's rules they count from 1, but many tools write them from 0. "
    f"They are taken as given; --one-based takes 1 from them. In a directory {DETECTIONS} and "
    "<sequence>.txt are read, and files of ground truth (gt/gt.txt) passed over.",
    example="1,3,794.27,247.59,71.245,174.88,0.93,-1,-1,-1\n"
    "1,-1,1648.1,119.61,66.504,163.24,0.58,-1,-1,-1",
    options=(
        Option(
            "class",
            "The class of all rows, by name or id; 'column' takes ids from the 8th column.",
        ),
        Option(
            "units",
            "What a frame is: a frame of the sequence, or an image named by its number.",
            choices=("sequence", "images"),
            default="sequence",
        ),
        FIRST_FRAME,
    ),
    many=True,
    sniff=_sniff,
    open=MotPredictions,
)
