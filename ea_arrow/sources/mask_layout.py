"""How masks lie on disk: one image of classes per data unit, or one image per instance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut, id_text
from ea_arrow.sources.formats import Files, Option, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.mask_files import looks_like_index

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from ea_arrow.sources.samples import Sample

MAPPING: Final = "ontology_mapping.json"

_BESIDE: Final = (MAPPING, "classes.txt", "names.txt", "classes.json", "names.json")
_FRAME: Final = re.compile(r"(?P<title>.+?)__(?P<frame>[0-9]{1,9})", re.DOTALL)
_MOST_NAMES: Final = 1 << 24
_NO_VALUE: Final = -(1 << 40)
"""A value that no pixel has."""

READING_OPTIONS: Final = (
    Option("layout", "One image of classes per data unit, or of one instance; by the file names "
           "by default.", ("index", "instances")),
    Option("objects", "Whether a value is one object, or every piece of it that touches no other.",
           ("values", "components"), "values"),
    Option("background", "The value that is no object.", (), "0"),
    Option("ignore", "A value that is left out as void, or none.", (), "255"),
    Option("names", "A file of class names: one per line, from value 0 on, or JSON {value: name}."),
)  # fmt: skip


@dataclass(frozen=True)
class MaskFile:
    """One PNG.

    Attributes:
        path: Where it is.
        name: Its path below the root.
        unit: The data unit that its name gives.
        frame: The frame, where it gives one.
        class_ref: The class of an instance; None for an image of classes.
    """

    path: Path
    name: str
    unit: str
    frame: int | None
    class_ref: str | None


@dataclass(frozen=True)
class Masks:
    """A directory of masks and how to read them.

    Attributes:
        files: In order of name.
        instances: Whether every file is one instance.
        components: Whether every piece of a value is an object.
        background: The value that is no object.
        void: The value that is left out; one that no pixel has where none is.
        names: Names of classes by value.
    """

    files: tuple[MaskFile, ...]
    instances: bool
    components: bool
    background: int
    void: int
    names: Mapping[str, str]


def masks_of(files: Files, reading: Reading, notes: Counter[str], *, frames: bool) -> Masks:
    """Find the masks of a source.

    Args:
        files: A directory of PNG files, or some.
        reading: Its options are those of ``READING_OPTIONS``.
        notes: Where is said how the names were read.
        frames: Whether ``title__12.png`` is frame 12 of ``title``.

    Raises:
        SourceError: There is no PNG, an option has no meaning, or the names are of both layouts.
    """
    paths = files.listed(".png")
    if not paths:
        message = f"{files.root} has no .png files; expected masks."
        raise SourceError(message, hint="Give the directory with the masks.")
    options = reading.options
    units = [clean_text(files.name_of(path)) for path in paths]
    instances = _is_instances(files.root, [_stem(unit) for unit in units], options.get("layout"))
    found = []
    for path, name in zip(paths, units, strict=True):
        unit, frame, class_ref = _stem(name), None, None
        if instances:
            unit, class_ref = _instance(unit) or (unit, None)
        elif frames and (framed := _FRAME.fullmatch(unit)):
            unit, frame = framed["title"], int(framed["frame"])
        found.append(MaskFile(path, name, unit, frame, class_ref))
    _note(found, instances, notes)
    return Masks(
        files=tuple(found),
        instances=instances,
        components=options.get("objects") == "components",
        background=_value(options, "background", 0),
        void=_NO_VALUE if instances else _value(options, "ignore", 255),
        names=_names(options.get("names")),
    )


def mapping_of(files: Files) -> dict[str, str]:
    """Feature hashes by value, from Encord's ``ontology_mapping.json`` in the directory.

    Raises:
        SourceError: The file is not such a mapping, or gives a value to two classes.
    """
    folder = files.root if files.root.is_dir() else files.root.parent
    path = folder / MAPPING
    if not path.is_file():
        return {}
    expected = f"{MAPPING}, an object of pixel values by feature hash"
    document = read_json(path, expected)
    if not isinstance(document, dict) or not document:
        raise SourceError(f"{path} is {cut(document)}; expected {expected}.")
    found: dict[str, str] = {}
    for key, value in document.items():
        text = id_text(value)
        if text is None or text in found:
            twice = "" if text is None else ", as another class has"
            message = f"{path}: the value of {cut(key)} is {cut(value)}{twice}."
            raise SourceError(message, hint='Write it as {"featureHash": 1}, each value once.')
        found[text] = clean_text(key)
    return found


def sniff(sample: Sample) -> bool:
    """Whether a file is a PNG of one number per pixel, or a directory has nothing else."""
    if not sample.is_dir:
        return looks_like_index(sample.head)
    rest = [p for p in sample.files if p.suffix.lower() != ".png" and p.name not in _BESIDE]
    found = sample.inner(".png")
    return bool(found) and not rest and all(looks_like_index(inner.head) for inner in found)


def _is_instances(root: Path, stems: list[str], layout: str | None) -> bool:
    if layout is not None:
        return layout == "instances"
    named = [stem for stem in stems if _names_instance(stem)]
    if named and len(named) < len(stems):
        other = next(stem for stem in stems if not _names_instance(stem))
        message = (
            f"{root}: {len(named):,} of {len(stems):,} masks are named as instances "
            f"(unit__class__n.png), as {cut(named[0])} is; {cut(other)} is not."
        )
        hint = "Say what they are: --option layout=index or --option layout=instances."
        raise SourceError(message, hint=hint)
    return bool(named)


def _names_instance(stem: str) -> bool:
    parts = stem.split("__")
    return _instance(stem) is not None and (len(parts) > 2 or not parts[-1].isdecimal())


def _instance(stem: str) -> tuple[str, str] | None:
    """Data unit and class of ``unit__class`` or ``unit__class__n``; None if it is neither."""
    parts = stem.split("__")
    if len(parts) > 2 and parts[-1].isdecimal():
        parts.pop()
    unit, class_ref = "__".join(parts[:-1]), parts[-1]
    return (unit, class_ref) if unit and class_ref else None


def _note(files: list[MaskFile], instances: bool, notes: Counter[str]) -> None:
    if instances:
        text = "files read as one instance each, unit__class__n.png (else: --option layout=index)"
        notes[text] = len(files)
    framed = sum(file.frame is not None for file in files)
    if framed:
        notes["files named title__frame, read as frames (else: --option frames=none)"] = framed


def _stem(name: str) -> str:
    return name[: -len(".png")] if name.lower().endswith(".png") else name


def _value(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if name == "ignore" and text == "none":
        return _NO_VALUE
    if not re.fullmatch(r"-?[0-9]{1,10}", text):
        raise SourceError(f"Option {name} is {cut(text)}; expected a whole number.")
    return int(text)


def _names(option: str | None) -> dict[str, str]:
    """Class names by value."""
    if option is None:
        return {}
    path = Path(option)
    expected = "class names: one per line, from value 0 on, or JSON {value: name}"
    try:
        if path.stat().st_size > _MOST_NAMES:
            raise SourceError(f"{path} is too large to be {expected}.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SourceError(f"{path} cannot be read: {why}; expected {expected}.") from error
    if text.lstrip().startswith(("{", "[")):
        return _named(path, read_json(path, expected), expected)
    return {str(i): line.strip() for i, line in enumerate(text.splitlines()) if line.strip()}


def _named(path: Path, document: Any, expected: str) -> dict[str, str]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found: dict[str, str] = {}
    for value, name in items:
        if not re.fullmatch(r"-?[0-9]{1,10}", str(value)) or not isinstance(name, str):
            message = f"{path}: {cut(value)} is {cut(name)}; expected {expected}."
            raise SourceError(message)
        found[str(int(value))] = clean_text(name)
    return found
