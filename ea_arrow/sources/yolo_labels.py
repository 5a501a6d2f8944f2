"""YOLO ground truth: label files beside images, described by a data.yaml or an obj.data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, clean_text, cut
from ea_arrow.schema import BOX
from ea_arrow.sources.base import Coordinates, GroundTruth, raw_batch
from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.formats import Files, LabelFormat, Option, Reading
from ea_arrow.sources.size_tables import SIZES, Size, stem_of
from ea_arrow.sources.truth import unit_table
from ea_arrow.sources.yolo import box_of, classes_of, polygon_of
from ea_arrow.sources.yolo_dataset import (
    OBJ_DATA,
    SPLITS,
    Dataset,
    Entry,
    description_in,
    is_description,
    read_dataset,
)
from ea_arrow.sources.yolo_images import without_sizes
from ea_arrow.sources.yolo_names import CLASSES_TXT
from ea_arrow.sources.yolo_rows import (
    Lines,
    Refused,
    blocks_of,
    is_index,
    place_columns,
    sampled_numbers,
    sampled_rows,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ea_arrow.sources.samples import Sample
    from ea_arrow.sources.text_files import TextRows
    from ea_arrow.sources.yolo_rows import Flags, Floats, Ints

_BOX: Final = 5
_MOST_UNNAMED: Final = 10_000
"""Without class names, a class of a higher index is a mistake rather than a class."""

_LOW: Final = -0.01
_HIGH: Final = 1.01
_OBJ_DATA: Final = re.compile(r"^\s*names\s*=", re.MULTILINE)


class _Labels:
    """The label files of a data set, read.

    Args:
        files: What was given.
        reading: What the caller knows.
        dataset: What was found there.
        units: The data unit of each label file, by its source id.
        paths: The label files.
    """

    def __init__(
        self,
        files: Files,
        reading: Reading,
        dataset: Dataset,
        units: Sequence[str],
        paths: Sequence[Path],
    ) -> None:
        self._box = reading.box or "cxcywh"
        self._one_based = reading.one_based
        self._key_points = dataset.key_points
        self.notes: Counter[str] = dataset.notes
        self._units = pa.array(units, pa.string())
        self._names = pa.array([clean_text(files.name_of(p)) for p in paths], pa.string())
        self._blocks = blocks_of(paths)
        self.names = dataset.names or self._unnamed()
        self._known = np.array(sorted(map(int, self.names)), dtype=np.int64)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as ``RAW``."""
        for rows in self._blocks():
            yield self._batch(rows)

    def _unnamed(self) -> dict[str, str]:
        """Every index up to the greatest there is, as its own name."""
        highest = -1
        for rows in self._blocks():
            index = Lines(rows).index
            highest = max(highest, int(index[index < _MOST_UNNAMED].max(initial=-1)))
        self.notes["classes without names, called by their index"] = highest + 1
        return {str(index): str(index) for index in range(highest + 1)}

    def _batch(self, rows: TextRows) -> pa.RecordBatch:
        lines, refused = Lines(rows), Refused(len(rows))
        counts = lines.counts
        columns = place_columns(rows, self._units, self._names)
        columns["class_ref"] = classes_of(lines, refused)
        refused.add(
            ~np.isin(lines.index, self._known),
            "unknown_class",
            lambda row: (
                f"The class is {lines.index[row]}; expected one of {len(self._known)} classes"
                f"{f', up to {self._known[-1]}' if len(self._known) else ''}."
            ),
        )
        is_box = counts == _BOX + self._key_points if self._key_points else counts == _BOX
        is_polygon = (counts > _BOX) & (counts % 2 == 1) & (self._key_points == 0)
        refused.add(
            ~is_box & ~is_polygon,
            "invalid_box" if self._key_points else "invalid_data",
            lambda row: self._columns_message(lines, row),
        )
        boxes = to_xywh(box_of(lines, is_box, refused), self._box, one_based=self._one_based)
        columns |= _where(boxes, is_box)
        lengths: Ints = np.where(is_polygon, counts - 1, 0)
        columns["polygon"] = polygon_of(lines, is_polygon, lengths, refused)
        columns["format"] = pa.array(np.where(is_polygon, "polygon", "bounding_box"))
        if self._key_points:
            self.notes["key points that are not read, only the boxes of their objects"] += int(
                is_box.sum()
            )
        four = int((lengths == 8).sum())
        if four:
            self.notes["labels of four points, polygons whether oriented boxes or not"] += four
        return raw_batch(columns | refused.columns(), len(rows))

    def _columns_message(self, lines: Lines, row: int) -> str:
        expected = (
            f"{_BOX + self._key_points} (class cx cy w h and key points)"
            if self._key_points
            else "5 (class cx cy w h) or an odd number (class x1 y1 x2 y2 …)"
        )
        found = f"The line has {lines.counts[row]} columns, {lines.text(row)}"
        return f"{found}; expected {expected}. Labels have no confidence."


def _where(boxes: Floats, rows: Flags) -> dict[str, pa.Array]:
    """Box columns, null in all other rows."""
    return {name: pa.array(boxes[:, i], mask=~rows) for i, name in enumerate(BOX)}


def _read(files: Files, reading: Reading) -> GroundTruth:
    path = files.paths[0]
    dataset = read_dataset(path, reading)
    if not dataset.entries:
        raise SourceError(f"{path} has no images.", hint="Give the data.yaml of the data set.")
    sizes = _sizes(path, dataset.entries, dataset.notes)
    ids = _source_ids(dataset.entries)
    kept = [i for i, size in enumerate(sizes) if size is not None]
    labelled = [i for i, entry in enumerate(dataset.entries) if entry.labels is not None]
    without = len(dataset.entries) - len(labelled)
    if without:
        dataset.notes["images without a label file, which have no labels"] = without
    if dataset.orphans:
        dataset.notes["label files without an image, whose rows are refused"] = len(dataset.orphans)
    known = {i: ids[i] for i in kept}
    own = [(dataset.entries[i].labels, known.get(i, f"{ids[i]} (unreadable)")) for i in labelled]
    pairs = [(p, unit) for p, unit in own if p is not None]
    pairs += [(p, clean_text(files.name_of(p))) for p in dataset.orphans]
    labels = _Labels(files, reading, dataset, [unit for _, unit in pairs], [p for p, _ in pairs])
    ontology = Ontology.from_coco(
        [{"id": int(index), "name": name} for index, name in labels.names.items()]
    )
    rows = [_unit(dataset.entries[i], ids[i], size) for i in kept if (size := sizes[i])]
    return GroundTruth(
        data_units=unit_table(rows),
        ontology=ontology,
        labels=labels.batches(),
        coordinates=Coordinates(
            relative=True if reading.relative is None else reading.relative,
            unit_key="source_id",
            class_key="source_id",
        ),
        notes=dataset.notes,
        covered=frozenset(unit for _, unit in own),
    )


def _unit(entry: Entry, source_id: str, size: Size) -> dict[str, object]:
    uri = getattr(entry.pictures, "uri", None)
    return {
        "width": size[0],
        "height": size[1],
        "title": entry.title,
        "source_id": source_id,
        "uri": uri(entry.name) if uri else None,
    }


def _source_ids(entries: Sequence[Entry]) -> list[str]:
    """The stem of each image where no other has it, else its path."""
    stems = [stem_of(entry.title.rpartition("/")[2]) for entry in entries]
    count: dict[str, int] = {}
    for stem in stems:
        count[stem] = count.get(stem, 0) + 1
    titles = {entry.title for entry in entries}
    return [
        stem if count[stem] == 1 and stem not in titles else entry.title
        for stem, entry in zip(stems, entries, strict=True)
    ]


def _sizes(path: Path, entries: Sequence[Entry], notes: Counter[str]) -> list[Size | None]:
    """Width and height of each data unit; None where the image's file is damaged.

    Raises:
        SourceError: Of some the size is not known, or no image can be read.
    """
    unknown = [entry.title for entry in entries if entry.pictures is None]
    if unknown:
        error = without_sizes(path)
        message = f"{error.message} {len(unknown):,} of {len(entries):,}, first {cut(unknown[0])}."
        raise SourceError(message, hint=error.hint)
    sizes: dict[int, Size | None] = {}
    by_source: dict[int, list[int]] = {}
    for index, entry in enumerate(entries):
        by_source.setdefault(id(entry.pictures), []).append(index)
    for indices in by_source.values():
        pictures = entries[indices[0]].pictures
        if pictures is not None:
            found = pictures.sizes([entries[i].name for i in indices])
            sizes |= dict(zip(indices, found, strict=True))
            rotated = getattr(pictures, "rotated", 0)
            if rotated:
                notes["images that lie on their side, sizes as they are shown"] += rotated
    damaged = sum(size is None for size in sizes.values())
    if damaged:
        notes["images that cannot be read, left out with their labels"] = damaged
    if damaged == len(entries):
        raise SourceError(f"{path}: none of {damaged:,} images can be read.")
    return [sizes[index] for index in range(len(entries))]


def sniff(sample: Sample) -> bool:
    """Whether a path looks like a YOLO data set: its description, or label files."""
    path = sample.path
    if not sample.is_dir:
        if path.suffix.lower() in (".yaml", ".yml"):
            return is_description(path)
        return path.suffix.lower() == ".data" and bool(_OBJ_DATA.search(sample.text))
    described = description_in(path)
    if described is not None:
        return described.name == OBJ_DATA or is_description(described)
    rows = sampled_rows(sample, (CLASSES_TXT,))
    odd = [row for row in rows if len(row) >= _BOX and len(row) % 2 and is_index(row[0])]
    found = [row for row in sampled_numbers(odd) if min(row) >= _LOW and max(row) <= _HIGH]
    return bool(found) and len(found) * 2 >= len(rows)


LABELS: Final = LabelFormat(
    name="yolo",
    doc="YOLO data set: data.yaml (Ultralytics), obj.data (Darknet) or label files",
    about="Give a data.yaml (path, train, val, test, names), the directory it is in, a Darknet "
    "obj.data, or a directory of label files with classes.txt, obj.names or data.yaml up to two "
    "levels above; where these differ, option names says which is right.\n\n"
    "The label file of an image has its stem and .txt, in the directory in which the "
    "last 'images' of its path is 'labels', else beside it, as Ultralytics has it. Images without "
    "one are data units without labels. Paths that are not there are looked for below the "
    "description, leading directories left out.\n\n"
    "Lines are 'class cx cy w h' or 'class x1 y1 x2 y2 …': 5 columns are boxes, more are polygons, "
    "four corners of oriented boxes too. All are fractions of the image, whose size comes from the "
    "header of its file. Where the images are elsewhere give --images DIR, or option sizes, a CSV "
    "of name,width,height: then these images are the data units, matched to label files by path or "
    "stem.\n\n"
    "Classes have the index as their id and the name given; without names they are called by the "
    "index. Of a pose (kpt_shape) only the box is read. The split val is read if there is one, "
    "else all; option split takes another. Only plain YAML is read: no aliases, and every name is "
    "the text that stands there, so that a class may be called no or 1.0.",
    example="0 0.481719 0.634028 0.690625 0.713278\n1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75",
    options=(
        Option("split", "Which images: by default val, else all.", SPLITS),
        SIZES,
        Option(
            "names",
            "A file of class names, a data.yaml or one name a line; by default what is nearby.",
        ),
    ),
    sniff=sniff,
    read=_read,
)
