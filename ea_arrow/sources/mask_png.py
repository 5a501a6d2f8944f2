"""Masks as PNG files: predictions, and labels."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import GeometryError, SourceError
from ea_arrow.geometry import Rle, check_mask_size
from ea_arrow.ontology import Ontology, cut
from ea_arrow.parallel import each
from ea_arrow.sources.base import Coordinates, GroundTruth, RawBuilder, RowError
from ea_arrow.sources.formats import Files, LabelFormat, Option, PredictionFormat, Reading
from ea_arrow.sources.images import Images, opened
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_values import parse_number
from ea_arrow.sources.mask_files import png_size, read_png
from ea_arrow.sources.mask_layout import (
    MAPPING,
    READING_OPTIONS,
    MaskFile,
    Masks,
    mapping_of,
    masks_of,
    sniff,
)
from ea_arrow.sources.mask_runs import Runs, connected, objects, runs_of
from ea_arrow.sources.truth import unit_table
from ea_arrow.sources.unit_files import source_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

MOST_OBJECTS: Final = 10_000
"""A mask of more objects is refused: it is a picture, or ids of another kind."""

_AT_ONCE: Final = 16

Row = dict[str, Any]


class MaskPredictions:
    """Masks as predictions, opened. See :class:`base.PredictionSource`.

    Raises:
        SourceError: There are none, their names are of both layouts, or an option is wrong.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self.notes: Counter[str] = Counter()
        frames = reading.options.get("frames", "name") == "name"
        self._masks = masks_of(files, reading, self.notes, frames=frames)
        self._mapping = {} if self._masks.instances else mapping_of(files)
        self._confidence = _confidence(reading.options.get("confidence"))
        self._scores = _scores(reading.options.get("scores"))
        self._found = Counter(self.notes)

    @property
    def coordinates(self) -> Coordinates:
        """Pixels; data units by stem; classes by value, by name or, with a mapping, by hash."""
        names = self._masks.names
        if self._mapping:
            pairs = [(key, names.get(value, value)) for value, key in self._mapping.items()]
            return Coordinates(False, "stem", "feature_hash", tuple(pairs))
        key = _class_key(self._masks)
        return Coordinates(False, "stem", key, tuple(names.items()))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order of file name; of a file, by value."""
        self.notes.clear()
        self.notes.update(self._found)
        if self._mapping:
            self.notes[f"classes named by {MAPPING}"] = len(self._mapping)
        yield from _batches(self._scored())

    def _scored(self) -> Iterator[tuple[MaskFile, Row]]:
        note = f"masks taken with confidence {self._confidence:g}, since a PNG holds none"
        for file, row in _rows(self._masks, self.notes):
            if row.get("class_ref") in self._mapping:
                row["class_ref"] = self._mapping[row["class_ref"]]
            if self._scores is None:
                row["confidence"] = self._confidence
                self.notes[note] += "rule" not in row
            elif self._scores.get(file.name) is not None:
                try:
                    score = self._scores[file.name]
                    row["confidence"] = parse_number(score, "invalid_data", "The score")
                except RowError as error:
                    row = {"rule": error.rule, "message": error.message} | row
            yield file, row


def read_ground_truth(files: Files, reading: Reading) -> GroundTruth:
    """Read masks as labels.

    Without ``names``, the classes are the values that occur, and every mask is read twice.

    Args:
        files: A directory of PNG files, or some.
        reading: ``images`` gives the data units; without it every mask is one, or of instances
            every data unit that is named.

    Raises:
        SourceError: There are no masks, one of them is no PNG, or an option is wrong.
    """
    notes: Counter[str] = Counter()
    masks = masks_of(files, reading, notes, frames=False)
    if reading.images is not None:
        masks, units = _joined(masks, opened(reading.images), notes)
    else:
        masks, units = _own_units(masks)
    ontology = _ontology(masks)
    rows = _rows(masks, notes)
    return GroundTruth(
        data_units=units,
        ontology=ontology,
        labels=_batches(rows),
        coordinates=Coordinates(False, "source_id", _class_key(masks)),
        notes=notes,
    )


def _rows(masks: Masks, notes: Counter[str]) -> Iterator[tuple[MaskFile, Row]]:
    """The objects of all files, several files read at once.

    Raises:
        SourceError: There is none, but void: what is left out is what the masks hold.
    """
    number, voids = 0, 0
    for begin in range(0, len(masks.files), _AT_ONCE):
        block = masks.files[begin : begin + _AT_ONCE]
        for file, (rows, void) in zip(block, each(lambda f: _read(f, masks), block), strict=True):
            number, voids = number + len(rows), voids + void
            if void:
                notes[
                    f"masks with pixels of value {masks.void}, left out as void "
                    f"(else: --option ignore=none)"
                ] += 1
            for row in rows:
                yield file, row
    if voids and not number:
        raise _nothing_but_void(masks)


def _nothing_but_void(masks: Masks) -> SourceError:
    what = f"{masks.background} and {masks.void}, and {masks.void} is left out as void"
    message = f"{masks.files[0].path.parent}: the masks hold nothing but {what}: no row is left."
    return SourceError(message, hint=f"If {masks.void} is an object: --option ignore=none.")


def _batches(rows: Iterable[tuple[MaskFile, Row]]) -> Iterator[pa.RecordBatch]:
    builder = RawBuilder()
    last, number = None, 0
    for file, row in rows:
        number = 0 if file is not last else number + 1
        last = file
        row |= {"source_row": number, "source_file": file.name, "unit": file.unit}
        builder.add(**row, frame=file.frame)
        if builder.full:
            yield builder.flush()
    if len(builder):
        yield builder.flush()


def _read(file: MaskFile, masks: Masks) -> tuple[list[Row], bool]:
    """The objects of a file, and whether some of its pixels are void."""
    try:
        runs = runs_of(read_png(file.path), masks.background)
        if masks.instances:
            return [_instance(file, runs)], False
        kept = runs.values != masks.void
        void = not kept.all()
        if void:
            runs = Runs(runs.height, runs.width, *(column[kept] for column in runs[2:]))
        groups = connected(runs) if masks.components else runs.values
        _check_number(len(np.unique(groups)))
        return [
            {"format": "mask", "class_ref": str(value), "mask": mask}
            for value, mask in objects(runs, groups)
        ], void
    except RowError as error:
        row = {"format": "mask", "class_ref": file.class_ref}
        return [row | {"rule": error.rule, "message": error.message}], False


def _check_number(number: int) -> None:
    if number > MOST_OBJECTS:
        message = f"The mask has {number:,} objects; expected at most {MOST_OBJECTS:,}."
        raise RowError("invalid_mask", message)


def _instance(file: MaskFile, runs: Runs) -> Row:
    values = np.unique(runs.values)
    if len(values) > 1:
        message = f"The mask of one instance has the values {cut(values.tolist())} beside 0."
        raise RowError("mask_not_binary", message)
    empty = Rle(runs.height, runs.width, np.array([runs.height * runs.width]))
    found = [mask for _, mask in objects(runs, runs.values)] or [empty]
    return {"format": "mask", "class_ref": file.class_ref, "mask": found[0]}


def _class_key(masks: Masks) -> Any:
    """Values are ids, also where they name the class of an instance."""
    numbers = all((file.class_ref or "0").isdecimal() for file in masks.files)
    return "source_id" if numbers else "name"


def _confidence(option: str | None) -> float:
    if option is None:
        return 1.0
    try:
        value = float(option)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SourceError(f"Option confidence is {cut(option)}; expected a number.")
    return value


def _scores(option: str | None) -> dict[str, Any] | None:
    if option is None:
        return None
    path, expected = Path(option), "scores by file name, as JSON {file name: score}"
    document = read_json(path, expected)
    if not isinstance(document, dict):
        raise SourceError(f"{path} is {cut(document)}; expected {expected}.")
    return document


def _joined(masks: Masks, images: Images, notes: Counter[str]) -> tuple[Masks, pa.Table]:
    """Name masks by the images they belong to; one without stays unknown, row by row."""
    units = images.data_units()
    if images.unreadable:
        notes["images that cannot be read, which are no data units"] = len(images.unreadable)
    ids = dict(zip(units["title"].to_pylist(), units["source_id"].to_pylist(), strict=True))
    named = [
        replace(file, unit=ids.get(images.find(file.unit) or "", file.unit)) for file in masks.files
    ]
    return replace(masks, files=tuple(named)), units


def _own_units(masks: Masks) -> tuple[Masks, pa.Table]:
    """Every mask is a data unit; of instances, every unit that their names give."""
    rows: dict[str, Row] = {}
    ids = [file.unit for file in masks.files]
    if not masks.instances:
        ids = source_ids([file.name for file in masks.files])
    for file, source_id in zip(masks.files, ids, strict=True):
        if source_id not in rows:
            size = _size(file.path)
            title = file.unit if masks.instances else file.name
            rows[source_id] = {"title": title, "source_id": source_id} | size
    named = [replace(file, unit=unit) for file, unit in zip(masks.files, ids, strict=True)]
    return replace(masks, files=tuple(named)), unit_table(list(rows.values()))


def _size(path: Path) -> dict[str, int]:
    size = png_size(path)
    if size is None:
        raise SourceError(f"{path} is not a PNG; expected a mask.", hint="Take it away.")
    try:
        check_mask_size(size[1], size[0])
    except GeometryError as error:
        raise SourceError(f"{path}: {error.message}") from error
    return {"width": size[0], "height": size[1]}


def _ontology(masks: Masks) -> Ontology:
    """The classes: of instances, as files are named; else named values, or those that occur."""
    if masks.instances:
        found = {file.class_ref for file in masks.files if file.class_ref is not None}
        return Ontology.from_coco([{"id": _id(name), "name": name} for name in found])
    left_out = {str(masks.background), str(masks.void)}
    values = masks.names.keys() or {str(value) for value in _values(masks)}
    if str(masks.void) in values and values <= left_out:
        raise _nothing_but_void(masks)
    return Ontology.from_coco(
        [{"id": int(v), "name": masks.names.get(v, v)} for v in values if v not in left_out]
    )


def _id(name: str) -> int | str:
    # Ids must be of one kind to be in order; "007" is no number here, as it is none there.
    return int(name) if name.isdecimal() and str(int(name)) == name else name


def _values(masks: Masks) -> set[int]:
    found: set[int] = set()
    for begin in range(0, len(masks.files), _AT_ONCE):
        for values in each(_values_of, masks.files[begin : begin + _AT_ONCE]):
            found |= values
        if len(found) > MOST_OBJECTS:
            message = f"The masks have more than {MOST_OBJECTS:,} values; expected classes."
            raise SourceError(message, hint="Are they pictures, or ids of instances?")
    return found


def _values_of(file: MaskFile) -> set[int]:
    try:
        pixels = read_png(file.path)
    except RowError:
        return set()  # its row says so
    if pixels.dtype.itemsize == 1:
        flat = pixels.view(np.uint8).ravel()
        return set(np.flatnonzero(np.bincount(flat, minlength=256)).tolist())
    return set(np.unique(pixels).tolist())


_ABOUT: Final = (
    "A directory of PNG files with one number per pixel: grey (8 or 16 bits), 1 bit, or a palette, "
    "of which the indices count. Images of colours are refused, unless all channels are equal.\n\n"
    "Index images (layout=index), one per data unit and named as it is: the value of a pixel is "
    "its class, 0 is background, 255 is void. A value is one object (objects=values), or every "
    "piece of it that touches no other, corners included, is one (objects=components), as Encord "
    "Active read them. Classes are named by value: use --map to say which they are; predictions "
    "follow an ontology_mapping.json ({feature hash: value}) in the directory.\n\n"
    "Instance images (layout=instances), one per object: unit__class.png or unit__class__n.png, "
    "any value but 0 is the object. The layout is told by the names.\n\n"
)

PREDICTIONS: Final = PredictionFormat(
    name="masks",
    fixed=True,
    doc="PNG masks: index images of classes, or an image per instance",
    about=f"{_ABOUT}PNGs hold no confidence: it is 1 unless --option confidence=… gives another, "
    "or --option scores=FILE one per file. Index images named title__12.png are frame 12 of "
    "title. A mask must have the size of its data unit.",
    example="masks/000001.png\nmasks/000002.png\n\nmasks/000001__car__1.png\n"
    "masks/000001__car__2.png\nmasks/000001__person__1.png",
    options=(
        *READING_OPTIONS,
        Option("confidence", "The confidence of all masks.", (), "1"),
        Option("scores", "A file of confidences by file name: JSON {file name: score}."),
        Option("frames", "What __ and a number at the end of a name is.", ("name", "none"), "name"),
    ),
    many=True,
    sniff=sniff,
    open=MaskPredictions,
)

LABELS: Final = LabelFormat(
    name="masks",
    fixed=True,
    doc="PNG masks: index images of classes, or an image per instance",
    about=f"{_ABOUT}Every index image is a data unit of its size, also without objects; with "
    "--images DIR every image is one. Classes are the names that --option names=FILE gives, or "
    "the values that occur.",
    example="masks/000001.png\nmasks/000002.png\n\nmasks/000001__car__1.png\n"
    "masks/000001__car__2.png\nmasks/000001__person__1.png",
    options=READING_OPTIONS,
    many=True,
    sniff=sniff,
    read=read_ground_truth,
)
