"""Class names beside YOLO files: data.yaml, classes.txt, obj.names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ea_arrow.errors import SourceError
from ea_arrow.sources.samples import read_head
from ea_arrow.sources.yaml_files import names_of, read_text

CLASSES_TXT: Final = "classes.txt"
NAME_FILES: Final = ("data.yaml", CLASSES_TXT, "obj.names")
MOST_BYTES: Final = 1 << 20

_LEVELS: Final = 3
_SPLIT: Final = re.compile(rb"^(train|val|test)\s*:", re.MULTILINE)
"""What the description of a data set has, which says where its images are."""


def read_names(path: Path) -> dict[str, str]:
    """Read class names by index: YAML with ``names``, else one name per line.

    Raises:
        SourceError: The file cannot be read, or has no names.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return names_of(path)
    lines = [line.strip() for line in read_text(path, MOST_BYTES).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise SourceError(f"{path} is empty; expected one class name per line.")
    # A blank line keeps its place: the names after it would move otherwise.
    return {str(index): name or str(index) for index, name in enumerate(lines)}


def find_names(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Look for class names in a directory, its parent and its grandparent.

    Args:
        folder: Where the prediction files are.

    Returns:
        The names by index, empty where there are none or where files contradict each other; and
        notes for the ledger that say what was used.
    """
    found, notes = _nearby(folder)
    if _differ(found):
        notes[f"class names not used, as these files differ: {', '.join(found)}"] = len(found)
        return {}, notes
    return _used(found, notes)


def names_of_labels(folder: Path, given: str | None) -> tuple[dict[str, str], dict[str, int]]:
    """The class names of ground truth: those of a file that was given, or of one nearby.

    Args:
        folder: Where the label files are.
        given: The file of the option ``names``.

    Returns:
        As :func:`find_names`.

    Raises:
        SourceError: The file cannot be read, or those nearby contradict each other: which classes
            a project has is not to be guessed.
    """
    if given is not None:
        path = Path(given)
        return _used({str(path): read_names(path)}, {})
    found, notes = _nearby(folder)
    if _differ(found):
        listed = ", ".join(f"{path} ({len(names):,} classes)" for path, names in found.items())
        described = next((p for p in found if _SPLIT.search(read_head(Path(p)))), None)
        also = f" Or give {described} itself as the labels." if described else ""
        message = f"{folder}: these files of class names differ: {listed}."
        raise SourceError(message, hint=f"Say which is right: --option names=FILE.{also}")
    return _used(found, notes)


_Found = dict[str, dict[str, str]]
"""Class names by index, by file."""


def _nearby(folder: Path) -> tuple[_Found, dict[str, int]]:
    found: _Found = {}
    notes: dict[str, int] = {}
    places = [folder.absolute(), *folder.absolute().parents][:_LEVELS]
    for place in places:
        for name in NAME_FILES:
            path = place / name
            if not path.is_file():
                continue
            try:
                found[str(path)] = read_names(path)
            except SourceError as error:
                notes[f"file of class names that cannot be used: {error.message}"] = 1
    return found, notes


def _differ(found: _Found) -> bool:
    first = next(iter(found.values()), {})
    return any(names != first for names in found.values())


def _used(found: _Found, notes: dict[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    if not found:
        return {}, notes
    path, names = next(iter(found.items()))
    return names, notes | {f"class names taken from {path}": len(names)}
