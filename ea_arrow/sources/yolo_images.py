"""Images and label files of YOLO data sets: which belongs to which, and how large images are."""

from __future__ import annotations

import csv
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.sources.images import SUFFIXES, Images, opened
from ea_arrow.sources.yaml_files import read_text
from ea_arrow.sources.yolo_names import CLASSES_TXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ea_arrow.sources.formats import Reading

MOST_LIST: Final = 1 << 26
"""A list of images, or of sizes, of more bytes than this is refused."""

_SIDE: Final = 10

Size = tuple[int, int]


class Pictures(Protocol):
    """What knows images by name, and their sizes: a directory of them, or a table."""

    @property
    def paths(self) -> Sequence[str]: ...  # noqa: D102 - names, sorted
    def find(self, name: str) -> str | None: ...  # noqa: D102 - one of paths
    def sizes(self, paths: Sequence[str]) -> Sequence[Size | None]: ...  # noqa: D102


class SizeTable:
    """A CSV of ``name,width,height``.

    Args:
        path: The file.

    Attributes:
        paths: The names in it, sorted.

    Raises:
        SourceError: It is not such a table.
    """

    def __init__(self, path: Path) -> None:
        text = read_text(path, MOST_LIST)
        if "\0" in text:
            raise SourceError(f"{path} is not text: it has NUL bytes.")
        self._sizes: dict[str, Size] = {}
        hint = "Give a CSV whose first line is name,width,height, sizes in pixels."
        try:
            rows = csv.DictReader(text.splitlines(), strict=True, skipinitialspace=True)
            if not {"name", "width", "height"} <= {*(rows.fieldnames or ())}:
                message = (
                    f"{path} has the columns {cut(rows.fieldnames)}; expected name,width,height."
                )
                raise SourceError(message, hint=hint)
            for row in rows:
                name, sides = row["name"], (row["width"] or "", row["height"] or "")
                if not name or not all(_is_side(side) for side in sides):
                    message = (
                        f"{path}, line {rows.line_num}: name is {cut(name)}, size {cut(sides)}; "
                        "expected a name and whole numbers of pixels."
                    )
                    raise SourceError(message, hint=hint)
                self._sizes[name] = (int(sides[0]), int(sides[1]))
        except csv.Error as error:
            raise SourceError(f"{path} is not a CSV: {error}.", hint=hint) from error
        if not self._sizes:
            raise SourceError(f"{path} has no row.", hint=hint)
        self.paths = sorted(self._sizes)
        self._alike: dict[str, list[str]] = {}
        for name in self.paths:
            for short in {posixpath.basename(name), stem_of(posixpath.basename(name))}:
                self._alike.setdefault(short, []).append(name)

    def find(self, name: str) -> str | None:
        """A name by itself, its file name or its stem; None if there is none, or several."""
        if name in self._sizes:
            return name
        base = posixpath.basename(name)
        found = self._alike.get(base) or self._alike.get(stem_of(base), [])
        return found[0] if len(found) == 1 else None

    def sizes(self, paths: Sequence[str]) -> list[Size | None]:
        """Width and height of names in ``paths``."""
        return [self._sizes.get(path) for path in paths]


def _is_side(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _SIDE and int(text) > 0


def stem_of(name: str) -> str:
    """A name without the suffix of an image."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in SUFFIXES else name


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


def pictures_of(reading: Reading) -> Pictures | None:
    """What the caller gave to know sizes by: a directory of images, a table, or nothing.

    Raises:
        SourceError: Both were given, or it is not what it should be.
    """
    table = reading.options.get("sizes")
    if table is not None and reading.images is not None:
        raise SourceError("Give either the images or option sizes, not both.")
    if table is not None:
        return SizeTable(Path(table))
    return opened(reading.images) if reading.images is not None else None


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
