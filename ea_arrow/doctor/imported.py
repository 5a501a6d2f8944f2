"""How an iteration was imported: from which files, and how their numbers were read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ea_arrow.class_maps import KEYS, read_map
from ea_arrow.doctor.findings import listed
from ea_arrow.doctor.layouts import BoxReading
from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import LAYOUTS
from ea_arrow.sources.registry import PREDICTIONS

if TYPE_CHECKING:
    from ea_arrow.class_maps import Targets
    from ea_arrow.sources.formats import Layout
    from ea_arrow.store import Iteration


_OF_NUMBERS = frozenset({"--box", "--relative", "--pixels", "--one-based"})


@dataclass(frozen=True)
class Imported:
    """What the project knows of an iteration's imports.

    Attributes:
        name: The iteration.
        files: Its files, in order, as a command here names them; none after a prediction loop.
        gone: Those of them that are no longer there.
        one: Whether it is a single file, whose rows are in order.
        reading: How boxes were read.
        options: What the import was told, as words of its command.
        unit_key: What data units were found by, if that is known.
        class_key: What class references were found by.
        map: What ``--map`` was given, if anything.
        fixed: Whether the format leaves nothing open of how its numbers are read.
    """

    name: str
    files: tuple[str, ...]
    gone: tuple[str, ...]
    one: bool
    reading: BoxReading
    options: tuple[str, ...]
    unit_key: str | None
    class_key: str
    map: str | None
    fixed: bool = False

    @property
    def remark(self) -> str | None:
        """What is to be said of the command's files."""
        return f"({listed(list(self.gone))}: where the file is now)" if self.gone else None

    def command(self, *changes: str) -> tuple[str, ...] | None:
        """The words that import it again with other options; None without files.

        Args:
            changes: The options, which take the place of those there were.
        """
        if not self.files or (self.fixed and _OF_NUMBERS & set(changes)):
            return None
        words = ["ea-arrow", "import", *self.files, "--as", self.name, "--replace"]
        given = _pairs(changes)
        replaced = set(given)
        if replaced & {"--relative", "--pixels"}:
            replaced |= {"--relative", "--pixels"}
        kept = {flag: value for flag, value in _pairs(self.options).items() if flag not in replaced}
        for flag, value in {**kept, **given}.items():
            words += [flag] if value is None else [flag, value]
        return tuple(words)

    def references(self, targets: Targets) -> list[str | None]:
        """By what reference the file named each of the project's object classes."""
        known = {}
        try:
            if self.map is not None and self.map not in KEYS:
                known = read_map(self.map, targets)
            else:
                known = targets.by(KEYS.get(self.map or "", self.class_key))
        except (SourceError, KeyError):  # the file of the mapping is gone
            return [None] * len(targets.objects)
        by_hash: dict[str, str] = {}
        for reference, hashes in known.items():
            by_hash.setdefault(hashes[0], reference)
        return [by_hash.get(row["feature_hash"]) for row in targets.objects]


def imported(iteration: Iteration, *, relative: bool) -> Imported:
    """Return what is known of an iteration's imports.

    Args:
        iteration: The iteration.
        relative: Whether its coordinates were fractions, if that is not on record.
    """
    sources = [s for row in iteration.imports for s in json.loads(row["sources"])]
    sources = [s for s in sources if isinstance(s, dict) and isinstance(s.get("name"), str)]
    reads = [s["read"] for s in sources if isinstance(s.get("read"), dict)]
    read: dict[str, Any] = reads[0] if reads else {}
    layout = read.get("box")
    given = read.get("relative")
    # Prediction loops and pickles give fractions, unless they say otherwise.
    fractions = relative or all(s["name"].endswith((".pkl", ".pickle")) for s in sources)
    is_relative = given if isinstance(given, bool) else fractions
    one_based = read.get("one_based") is True
    reading = BoxReading(
        cast("Layout", layout if layout in LAYOUTS else "xywh"),
        "relative" if is_relative else "pixels",
        one_based,
    )
    options = read.get("options")
    mapped, unit_key, form = (read.get(name) for name in ("map", "unit_key", "format"))
    files = tuple(dict.fromkeys(_shown(s) for s in sources))
    return Imported(
        name=iteration.name,
        files=files,
        gone=tuple(file for file in files if not Path(file).exists()),
        one=len(sources) == 1 and "files" not in sources[0],
        reading=reading,
        options=tuple(map(str, options)) if isinstance(options, list) else (),
        unit_key=unit_key if isinstance(unit_key, str) else None,
        class_key=str(read.get("class_key") or "source_id"),
        map=mapped if isinstance(mapped, str) else None,
        fixed=isinstance(form, str) and form in PREDICTIONS and PREDICTIONS[form].fixed,
    )


def free_name(name: str) -> str:
    """A file name that the current directory does not have yet.

    >>> free_name("no such file.json")
    'no such file.json'
    """
    path = Path(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    return next(n for n in chain([name], numbered) if not os.path.lexists(n))


def _shown(source: dict[str, Any]) -> str:
    """A source as a command here names it: from here if that is shorter; its name if it is gone."""
    path = source.get("path")
    if not isinstance(path, str) or not Path(path).exists():
        return str(Path(source["name"]))
    try:
        near = os.path.relpath(path)
    except ValueError:  # on another drive
        return path
    return near if len(near) < len(path) and Path(near).exists() else path


def _pairs(words: tuple[str, ...]) -> dict[str, str | None]:
    """Options of a command with their values."""
    found: dict[str, str | None] = {}
    last = ""
    for word in words:
        if word.startswith("--"):
            last, found[word] = word, None
        elif last:
            found[last] = word
    return found
