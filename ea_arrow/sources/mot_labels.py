"""MOTChallenge ground truth: ``gt.txt`` of each sequence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, clean_text
from ea_arrow.sources.base import Coordinates, GroundTruth, raw_batch
from ea_arrow.sources.formats import Files, LabelFormat, Option, Reading
from ea_arrow.sources.images import Images
from ea_arrow.sources.mot_lines import (
    DETECTIONS,
    FIRST_FRAME,
    NAMES,
    SUFFIX,
    TRUTH,
    MotBlock,
    MotFiles,
    blocks,
    folder_of,
    is_mot,
)
from ea_arrow.sources.mot_sequences import Frames, data_units, frames_of
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.text_columns import ONE_BASED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSES: Final = (
    "Pedestrian",
    "Person on vehicle",
    "Car",
    "Bicycle",
    "Motorbike",
    "Non motorized vehicle",
    "Static person",
    "Distractor",
    "Occluder",
    "Occluder on the ground",
    "Occluder full",
    "Reflection",
    "Crowd",
)
"""The classes of MOT16, MOT17 and MOT20, numbered from 1."""

_WITH_CLASS: Final = (8, 9)
"""Lines of so many values have a class in the 8th; of ten, the place in the world (2D MOT 2015)."""

_MOST_BYTES: Final = 1 << 20


def read_ground_truth(files: Files, reading: Reading) -> GroundTruth:
    """Read the ground truth of sequences.

    Args:
        files: A directory of sequences, a sequence, or a file of one.
        reading: May have the directory of the images, and the options ``class``, ``first_frame``.

    Returns:
        The ground truth: a data unit for every frame.

    Raises:
        SourceError: A file cannot be read, sequences are named alike, or their sizes, lengths or
            classes are not known.
    """
    found = MotFiles(files, _truth_files(files))
    given = _given_class(found, reading)
    names = (given,) if given else _class_names(found)
    sequences = _sequences(found, reading)
    notes: Counter[str] = Counter()
    return GroundTruth(
        data_units=data_units(sequences),
        ontology=Ontology.from_coco([{"id": i, "name": n} for i, n in enumerate(names, 1)]),
        labels=_labels(found, given, reading, notes),
        coordinates=Coordinates(
            relative=bool(reading.relative), unit_key="title", class_key="source_id"
        ),
        notes=notes,
    )


def _labels(
    files: MotFiles, given: str | None, reading: Reading, notes: Counter[str]
) -> Iterator[pa.RecordBatch]:
    for block in blocks(files, reading):
        n = len(block.rows)
        columns = block.columns()
        columns["class_ref"] = _class_column(block, given)
        ignored = pc.equal(block.confidence(), 0.0)
        columns["is_ignored"] = ignored
        columns |= block.refusals.columns()
        count = pc.sum(ignored).as_py()
        if count:
            notes["rows with the flag 0, kept as ignored labels"] += count
        if not reading.one_based:
            notes[ONE_BASED] += n
        yield raw_batch(columns, n)


def _class_column(block: MotBlock, given: str | None) -> pa.StringArray:
    n = len(block.rows)
    if given:
        return pa.array(["1"]).take(pa.array(np.zeros(n, np.int64)))
    named = np.isin(block.rows.counts, _WITH_CLASS)
    expected = "9 with a class as the 8th"
    block.refusals.add_counts(~named, block.rows.counts, "values", expected, "missing_class")
    return pc.if_else(pa.array(named), block.classes(), pa.scalar(None, pa.string()))


def _truth_files(files: Files) -> list[Path]:
    """The files named ``gt.txt`` or, where there are none, all that are neither names nor det."""
    found = files.listed(SUFFIX)
    named = [path for path in found if path.name == TRUTH]
    others = [path for path in found if path.name not in (NAMES, DETECTIONS)]
    return named or [path for path in found if path in others or path in files.paths]


def _given_class(files: MotFiles, reading: Reading) -> str | None:
    """The class of all rows, for ground truth that names none; None if it does.

    Raises:
        SourceError: It names none and none is given, or the reverse.
    """
    given = reading.options.get("class")
    for path, name in zip(files.paths, files.names, strict=True):
        lines = Sample(path).lines
        if not lines:
            continue
        values = len(lines[0].split(","))
        if values not in _WITH_CLASS and not given:
            message = f"{name}: the rows have {values} values; expected 9 with a class as the 8th."
            hint = "Of ground truth without classes (2D MOT 2015) give the option class=NAME."
            raise SourceError(message, hint=hint)
        if values in _WITH_CLASS and given:
            message = f"{name}: the rows name their classes; expected none with the option class."
            raise SourceError(message, hint="Leave the option out.")
    return given


def _class_names(files: MotFiles) -> tuple[str, ...]:
    """The names of the classes from 1: of ``labels.txt`` beside ``gt.txt``, else MOT's own.

    Raises:
        SourceError: Sequences have different ones.
    """
    first: tuple[str, ...] | None = None
    for path, name in zip(files.paths, files.names, strict=True):
        names = _read_names(path.parent / NAMES)
        if first is None:
            first = names
        elif names != first:
            message = f"{name}: its classes ({NAMES} beside it) are not those of {files.names[0]}."
            raise SourceError(message, hint=f"Give all sequences the same {NAMES}.")
    return first or CLASSES


def _read_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return CLASSES
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        names = [line.strip() for line in data.decode("utf-8-sig").strip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as names of classes: {error}.") from error
    if not all(names) or not names or len(data) > _MOST_BYTES:
        message = f"{path}: expected a name on each line, and no more than {_MOST_BYTES:,} bytes."
        raise SourceError(message, hint="The line's number is the class's.")
    return tuple(map(clean_text, names))


def _sequences(files: MotFiles, reading: Reading) -> list[Frames]:
    first = int(reading.options.get("first_frame", "1"))
    found: dict[str, Frames] = {}
    for path, name, sequence in zip(files.paths, files.names, files.sequences, strict=True):
        if sequence in found:
            message = f"{name}: there is another sequence named {sequence}."
            raise SourceError(message, hint="Give the directory of one split.")
        folders = [folder_of(path)]
        images = reading.images.root if isinstance(reading.images, Images) else reading.images
        if images is not None:
            folders.append(images / sequence)
            if len(files.paths) == 1:
                folders.append(images)
        found[sequence] = frames_of(sequence, folders, first)
    return [found[name] for name in sorted(found)]


def _sniff(sample: Sample) -> bool:
    """Whether it has lines of MOT: in files named ``gt.txt`` or, where there are none, in all."""
    if not sample.is_dir:
        return sample.path.name != DETECTIONS and is_mot(sample)
    named = [Sample(path) for path in sample.files if path.name == TRUTH][:3]
    files = [file for file in named if file.head] or sample.inner(SUFFIX)
    return bool(files) and all(file.path.name != DETECTIONS and is_mot(file) for file in files)


LABELS: Final = LabelFormat(
    name="mot",
    doc="MOTChallenge ground truth, gt.txt of each sequence",
    about="A directory of sequences, <sequence>/gt/gt.txt, one of them, or <sequence>.txt. A box "
    "per line with values apart by commas: frame, id, left, top, width, height, flag, class, "
    "visibility. A data unit is a frame of a sequence, which is its title; frames count from 1 "
    "here and from 0 in the project. The id is that of the track. The flag 0 makes a label "
    "ignored. The visibility is not read.\n\n"
    "How many frames a sequence has and how large they are is in its seqinfo.ini, else in the "
    "images <sequence>/img1/000001.jpg, in the same place or in --images DIR. Classes are MOT's "
    "(1 Pedestrian, 2 Person on vehicle, 3 Car, …, 13 Crowd), unless labels.txt beside gt.txt "
    "names others, a line each. 2D MOT 2015 has ten values and no class: give the option class.\n\n"
    "Left and top are pixels. By MOT's rules they count from 1, but many tools write them from 0. "
    "They are taken as given; --one-based takes 1 from them.",
    example="1,1,912,484,97,109,0,7,1\n1,2,1338,418,167,379,1,1,0.98",
    options=(
        Option("class", "The class of all rows, where they have none (2D MOT 2015)."),
        FIRST_FRAME,
    ),
    many=True,
    sniff=_sniff,
    read=read_ground_truth,
)
