"""Class names beside YOLO files: data.yaml, classes.txt, obj.names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ea_arrow.errors import SourceError
from ea_arrow.sources.yaml_files import names_of, read_text

if TYPE_CHECKING:
    from pathlib import Path

CLASSES_TXT: Final = "classes.txt"
NAME_FILES: Final = ("data.yaml", CLASSES_TXT, "obj.names")
MOST_BYTES: Final = 1 << 20

_LEVELS: Final = 3


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
        folder: Where the label or prediction files are.

    Returns:
        The names by index, empty where there are none or where files contradict each other; and
        notes for the ledger that say what was used.
    """
    found: dict[str, dict[str, str]] = {}
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
    readings = list(found.values())
    if not readings:
        return {}, notes
    if any(names != readings[0] for names in readings[1:]):
        notes[f"class names not used, as these files differ: {', '.join(found)}"] = len(found)
        return {}, notes
    notes[f"class names taken from {next(iter(found))}"] = len(readings[0])
    return readings[0], notes
