"""KITTI labels: one text file per image, an object per line, 15 words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, clean_text
from ea_arrow.sources.base import Coordinates, GroundTruth, raw_batch
from ea_arrow.sources.formats import Files, LabelFormat, Reading
from ea_arrow.sources.images import SUFFIXES
from ea_arrow.sources.kitti_lines import (
    ABOUT,
    COLUMNS,
    DONT_CARE,
    KittiFiles,
    blocks,
    sniff,
    stem_of,
)
from ea_arrow.sources.size_tables import SIZES, pictures_of
from ea_arrow.sources.size_tables import stem_of as image_stem
from ea_arrow.sources.truth import unit_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ea_arrow.sources.size_tables import Pictures

_SHOWN: Final = 3
_NO_IMAGES: Final = (
    "Give the directory of the images: --images DIR. Or a CSV of name,width,height: "
    "--option sizes=FILE."
)


def read_ground_truth(files: Files, reading: Reading) -> GroundTruth:
    """Read a directory of KITTI labels.

    Args:
        files: The directory, or a file.
        reading: Has the directory of the images or the option ``sizes``, where their sizes are.

    Returns:
        The ground truth: a data unit for every label file that has an image.

    Raises:
        SourceError: A file cannot be read, or no image belongs to the labels.
    """
    pictures = pictures_of(reading)
    if pictures is None:
        message = f"{files.root}: KITTI labels do not say how large the images are."
        raise SourceError(message, hint=_NO_IMAGES)
    found = KittiFiles(files)
    notes: Counter[str] = Counter()
    units, titles = _images_of(found, pictures, notes)
    return GroundTruth(
        data_units=units,
        ontology=_ontology(found),
        labels=_labels(found, titles, reading, notes),
        coordinates=Coordinates(
            relative=bool(reading.relative), unit_key="title", class_key="name"
        ),
        notes=notes,
    )


def _labels(
    files: KittiFiles, titles: Sequence[str | None], reading: Reading, notes: Counter[str]
) -> Iterator[pa.RecordBatch]:
    stems = [clean_text(stem_of(path.name)) for path in files.paths]
    units = pa.array([t or stem for t, stem in zip(titles, stems, strict=True)], pa.string())
    for block in blocks(files, reading, notes):
        columns = block.columns()
        columns["unit"] = units.take(pa.array(block.rows.file))
        columns["is_ignored"] = pa.array(block.dont_care)
        columns |= block.refusals.columns()
        ignored = int(block.dont_care.sum())
        if ignored:
            text = f"{DONT_CARE} regions kept as ignored labels of a class of their own"
            notes[text] += ignored
        scored = int((~block.scoreless & ~block.refusals.refused).sum())
        if scored:
            notes["labels with a score, which is left out"] += scored
        yield raw_batch(columns, len(block.rows))


def _ontology(files: KittiFiles) -> Ontology:
    """The classes, sorted by name; those of lines that cannot be read are none."""
    names: set[str] = set()
    for block in blocks(files, Reading(), Counter()):
        block.columns()  # finds the lines that cannot be read
        good = pa.array(~block.refusals.refused)
        names.update(block.names.filter(good).unique().to_pylist())
    return Ontology.from_coco([{"id": name, "name": name} for name in sorted(names)])


def _images_of(
    files: KittiFiles, images: Pictures, notes: Counter[str]
) -> tuple[pa.Table, list[str | None]]:
    """The ``DATA_UNITS``, and for each label file the title of its image, None if it has none."""
    found = [_image_of(name, images) for name in files.names]
    paths = sorted({path for path in found if path})
    sizes = dict(zip(paths, images.sizes(paths), strict=True))
    uri = getattr(images, "uri", None)
    rows = [
        {
            "width": size[0],
            "height": size[1],
            "title": path,
            "uri": uri(path) if uri else None,
            "source_id": image_stem(path),
        }
        for path, size in sizes.items()
        if size is not None
    ]
    missing = found.count(None)
    if not rows:
        named = ", ".join(path.name for path in files.paths[:_SHOWN])
        message = f"{images.root} has no image for any of the label files ({named}, …)."
        raise SourceError(message, hint="Label files and images need the same names.")
    for text, number in (
        ("label files without an image of their name, or with several", missing),
        ("images whose size cannot be read", len(paths) - len(rows)),
        ("images without a label file, which are left out", len(images.paths) - len(paths)),
    ):
        if number:
            notes[text] = number
    return unit_table(rows), [path if path and sizes[path] else None for path in found]


def _image_of(name: str, images: Pictures) -> str | None:
    """The image of a label file: of equal path or, where that tells enough, of equal name."""
    stem = stem_of(name)
    found = images.find(clean_text(stem))
    if found is None and "/" in stem:
        exact = (images.find(clean_text(stem + suffix)) for suffix in SUFFIXES)
        return next((path for path in exact if path and path.rpartition(".")[0] == stem), None)
    return found


LABELS: Final = LabelFormat(
    name="kitti",
    doc="KITTI object label files, one per image",
    about=" ".join(ABOUT) + " Their sizes come from the images, --images DIR, or from option "
    "sizes, a CSV of name,width,height. An image without "
    "a label file is left out; an empty file is an image without objects.\n\n"
    "DontCare regions become ignored labels of a class DontCare. KITTI means them for all classes; "
    "here a label belongs to one class, so they excuse no predictions of the others. Classes are "
    "the types that occur, sorted by name.",
    example=f"{COLUMNS}\n"
    "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10",
    options=(SIZES,),
    many=True,
    sniff=sniff,
    read=read_ground_truth,
)
