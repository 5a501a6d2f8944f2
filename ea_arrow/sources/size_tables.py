"""Sizes of images from a CSV, for labels whose images are not at hand."""

from __future__ import annotations

import csv
import io
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.sources.formats import Option
from ea_arrow.sources.images import SUFFIXES, opened
from ea_arrow.sources.yaml_files import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ea_arrow.sources.formats import Reading

SIZES: Final = Option("sizes", "A CSV of name,width,height, where the images are not at hand.")
"""The option of formats that read such a file."""

MOST_LIST: Final = 1 << 26
"""A list of images, or of sizes, of more bytes than this is refused."""

_SIDE: Final = 10

Size = tuple[int, int]


class Pictures(Protocol):
    """What knows images by name, and their sizes: a directory of them, or a table."""

    root: Path

    @property
    def paths(self) -> Sequence[str]: ...  # noqa: D102 - names, sorted
    def find(self, name: str) -> str | None: ...  # noqa: D102 - one of paths
    def sizes(self, paths: Sequence[str]) -> Sequence[Size | None]: ...  # noqa: D102


class SizeTable:
    """A CSV of ``name,width,height``.

    Args:
        path: The file.

    Attributes:
        root: The file.
        paths: The names in it, sorted.

    Raises:
        SourceError: It is not such a table.
    """

    def __init__(self, path: Path) -> None:
        self.root = path
        text = read_text(path, MOST_LIST)
        if "\0" in text:
            raise SourceError(f"{path} is not text: it has NUL bytes.")
        self._sizes: dict[str, Size] = {}
        hint = "Give a CSV whose first line is name,width,height, sizes in pixels."
        try:
            rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
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
