"""YAML files, read with care: every scalar is the text that stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES: Final = 1 << 20
MOST_DEPTH: Final = 32
"""A YAML file that is larger, or nested more deeply, describes no data set."""

_HINT: Final = "Give the data.yaml of the data set: path, train, val and names."


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Scalars stay text, as they are written: a class named ``no`` is not false, and ``1.10`` not
    1.1. Aliases are refused, as a few lines of them can stand for gigabytes.

    Args:
        path: The file.

    Returns:
        Dictionaries and lists of strings.

    Raises:
        SourceError: The file cannot be read, is too large, is not YAML, or has aliases.
    """
    import yaml

    text = read_text(path, MOST_BYTES)
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                message = f"{path} has aliases (*{event.anchor}); expected plain YAML."
                raise SourceError(message, hint="Write out what they stand for.")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                message = f"{path} is nested more than {MOST_DEPTH} levels deep."
                raise SourceError(message, hint=_HINT)
        return yaml.load(text, Loader=loader)  # which makes only strings
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = clean_text(str(getattr(error, "problem", None) or error))
        raise SourceError(f"{path} is not YAML{place}: {problem}.", hint=_HINT) from error


def names_of(path: Path) -> dict[str, str]:
    """Return the class names of a YOLO data.yaml by index, from ``names``, a list or a mapping.

    Raises:
        SourceError: The file cannot be read, or has no such names.
    """
    return parse_names(path, read_yaml(path))


def parse_names(path: Path, document: Any) -> dict[str, str]:
    """Return what a data.yaml, read, says under ``names``.

    Args:
        path: The file, for messages.
        document: What :func:`read_yaml` returned.

    Raises:
        SourceError: There is no list or mapping of names.
    """
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        message = f"{path} has {cut(names)} under names; expected class names."
        raise SourceError(message, hint="Write names: [person, car] or names: {0: person, 1: car}.")
    found: dict[str, str] = {}
    for key, name in names.items():
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10):
            message = f"{path} has {cut(key)} as the index of a class; expected a number from 0."
            raise SourceError(message, hint=_HINT)
        if not isinstance(name, str):
            message = f"{path} has {cut(name)} as the name of class {key}; expected text."
            raise SourceError(message, hint=_HINT)
        found[str(int(key))] = clean_text(name) or key
    return found


def read_text(path: Path, most: int) -> str:
    """Read a small text file.

    Args:
        path: The file.
        most: More bytes than this are refused.

    Raises:
        SourceError: It cannot be read, is larger, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > most:
        raise SourceError(f"{path} has more than {most:,} bytes: too many for what it should be.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path} is not text: byte {error.start:,} is not UTF-8."
        raise SourceError(message, hint="Save it as UTF-8.") from error
