"""Images and label files of YOLO data sets: which belongs to which, and how large images are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ea_arrow.errors import SourceError
from ea_arrow.sources.images import SUFFIXES, Images
from ea_arrow.sources.size_tables import stem_of
from ea_arrow.sources.yolo_names import CLASSES_TXT

if TYPE_CHECKING:
    from collections.abc import Iterator


def labels_of(image: Path) -> Path:
    """The label file of an image, as Ultralytics has it.

    The last ``images`` in its path becomes ``labels``; without one it is beside the image.
    """
    return swapped(image.parent, "images", "labels") / f"{stem_of(image.name)}.txt"


def swapped(folder: Path, old: str, new: str) -> Path:
    """A directory whose path has the last ``old`` in it replaced.

    >>> swapped(Path("images/images/val"), "images", "labels").as_posix()
    'images/labels/val'
    """
    parts = list(folder.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == old:
            return Path(*parts[:place], new, *parts[place + 1 :])
    return folder


def label_files(folder: Path) -> list[Path]:
    """The label files below a directory, in order of name."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.rglob("*") if p.suffix.lower() == ".txt" and p.name != CLASSES_TXT)
    return sorted(p for p in found if p.is_file() and not p.name.startswith("."))


def images_of(labels: Path) -> Iterator[Images]:
    """Images where they are by custom: in ``images`` for ``labels``, or beside the label files."""
    for folder in dict.fromkeys((swapped(labels, "labels", "images"), labels)):
        if folder.is_dir() and _has_images(folder):
            yield Images(folder)


def _has_images(folder: Path) -> bool:
    return any(name.lower().endswith(SUFFIXES) for _, _, names in os.walk(folder) for name in names)


def without_sizes(path: Path) -> SourceError:
    """The error of a data set whose images are not there."""
    message = f"{path}: labels are fractions of their images, whose sizes are not known."
    hint = (
        "Give the directory of the images: --images DIR. Or a CSV of name,width,height: "
        "--option sizes=FILE."
    )
    return SourceError(message, hint=hint)
