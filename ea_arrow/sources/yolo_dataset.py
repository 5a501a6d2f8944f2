"""The files of a YOLO data set: which images there are, where their labels are, how large they are.

A data set is described by a data.yaml (Ultralytics), an obj.data (Darknet), or by nothing but its
directories.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut
from ea_arrow.sources.images import SUFFIXES, Images
from ea_arrow.sources.samples import read_head
from ea_arrow.sources.size_tables import MOST_LIST, Pictures, pictures_of, stem_of
from ea_arrow.sources.yaml_files import parse_names, read_text, read_yaml
from ea_arrow.sources.yolo_images import (
    images_of,
    label_files,
    labels_of,
    swapped,
    without_sizes,
)
from ea_arrow.sources.yolo_names import names_of_labels, read_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ea_arrow.sources.formats import Reading

SPLITS: Final = ("train", "val", "test", "all")
DATA_YAML: Final = "data.yaml"
OBJ_DATA: Final = "obj.data"

_EMPTY: Final = ("", "~", "null", "Null", "NULL")
_NAMES: Final = re.compile(r"^names\s*:", re.MULTILINE)
_IMAGES: Final = re.compile(r"^(train|val|test)\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A data unit.

    Attributes:
        title: The path of the image.
        labels: Its label file; None where there is none.
        pictures: What knows its size; None where nothing does.
        name: What it is called there.
    """

    title: str
    labels: Path | None
    pictures: Pictures | None
    name: str


@dataclass
class Dataset:
    """A data set, found.

    Attributes:
        entries: Its data units.
        orphans: Label files of its directories that belong to none of them.
        names: Class names by index; empty where there are none.
        key_points: How many columns follow the box of a pose; 0 if these are none.
        notes: For the ledger.
    """

    entries: list[Entry]
    orphans: list[Path] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    key_points: int = 0
    notes: Counter[str] = field(default_factory=Counter)


def read_dataset(path: Path, reading: Reading) -> Dataset:
    """Find the images, labels and classes of a data set.

    Args:
        path: A data.yaml, an obj.data, or a directory.
        reading: What the caller knows: images, and the options ``split``, ``sizes``, ``names``.

    Raises:
        SourceError: A file is not what it should be, or nothing is found.
    """
    pictures = pictures_of(reading)
    if path.is_dir():
        described = description_in(path)
        if described is None:
            return _of_directory(path, pictures, reading)
        path = described
    of_file = _of_obj_data if path.suffix.lower() == ".data" else _of_yaml
    found = of_file(path, pictures, reading)
    given = reading.options.get("names")
    if given is not None:
        found.names, notes = names_of_labels(path.parent, given)
        found.notes.update(notes)
    return found


def description_in(folder: Path) -> Path | None:
    """The file in a directory that describes a data set: data.yaml, obj.data, or the only YAML."""
    for name in (DATA_YAML, OBJ_DATA):
        if (folder / name).is_file():
            return folder / name
    found = [p for p in sorted(folder.glob("*.y*ml")) if p.suffix.lower() in (".yaml", ".yml")]
    described = [p for p in found[:20] if p.is_file() and is_description(p)]
    return described[0] if len(described) == 1 else None


def is_description(path: Path) -> bool:
    """Whether a YAML file begins like that of a data set."""
    head = read_head(path).decode(errors="replace")
    return bool(_NAMES.search(head) and _IMAGES.search(head))


def _of_yaml(path: Path, pictures: Pictures | None, reading: Reading) -> Dataset:
    document = read_yaml(path)
    if not isinstance(document, dict) or not {"names", "train", "val", "test"} & {*document}:
        message = f"{path} has no names, train, val or test; expected the data.yaml of a data set."
        raise SourceError(message, hint="Give the data.yaml, or the directory of the label files.")
    names = parse_names(path, document) if "names" in document else {}
    bases = [path.parent]
    root = document.get("path")
    if isinstance(root, str) and root not in _EMPTY:
        bases.insert(0, path.parent / root)
    given = {name: _values(path, name, document.get(name)) for name in SPLITS[:-1]}
    found = _of_splits(path, {k: v for k, v in given.items() if v}, bases, pictures, reading)
    found.names = names
    found.key_points = _key_points(document.get("kpt_shape"))
    classes = document.get("nc")
    if isinstance(classes, str) and names and classes != str(len(names)):
        found.notes[f"{path.name}: nc is {clean_text(classes[:20])}; names counted"] = len(names)
    return found


def _values(path: Path, name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(inner, str) for inner in values):
        message = f"{path} has {cut(value)} under {name}; expected a directory, a list, or several."
        raise SourceError(message)
    return [inner for inner in values if inner not in _EMPTY]


def _key_points(shape: Any) -> int:
    """Columns after the box of a pose, from ``kpt_shape: [17, 3]``."""
    if not isinstance(shape, list) or len(shape) != 2:
        return 0
    if not all(isinstance(n, str) and n.isascii() and n.isdigit() and len(n) < 5 for n in shape):
        return 0
    return int(shape[0]) * int(shape[1])


def _of_obj_data(path: Path, pictures: Pictures | None, reading: Reading) -> Dataset:
    lines = (line.partition("=") for line in read_text(path, MOST_LIST >> 8).splitlines())
    fields = {key.strip(): value.strip() for key, equals, value in lines if equals}
    names: dict[str, str] = {}
    if fields.get("names"):
        listed = _resolved([path.parent], fields["names"], Path.is_file)
        if listed is None:
            raise SourceError(f"{path} names {cut(fields['names'])}, which is not there.")
        names = read_names(listed)
    keys = (("train", "train"), ("val", "valid"), ("test", "test"))
    splits = {split: [fields[key]] for split, key in keys if fields.get(key)}
    found = _of_splits(path, splits, [path.parent], pictures, reading)
    found.names = names
    return found


def _of_splits(
    path: Path,
    splits: dict[str, list[str]],
    bases: list[Path],
    pictures: Pictures | None,
    reading: Reading,
) -> Dataset:
    """The data units of the splits asked for."""
    if not splits:
        raise SourceError(f"{path} names no images: it has neither train, val nor test.")
    wanted = reading.options.get("split") or ("val" if "val" in splits else "all")
    if wanted != "all" and wanted not in splits:
        message = f"{path} has no split '{wanted}'; it has {', '.join(splits)}."
        raise SourceError(message, hint="Give one of these, or --option split=all.")
    found = Dataset([])
    values = [v for name, vs in splits.items() if wanted in (name, "all") for v in vs]
    folders: list[Path] = []
    for value in dict.fromkeys(values):
        place = _resolved(bases, value, lambda p: p.is_file() or p.is_dir() or _has_labels(p))
        if place is None:
            message = f"{path} names {cut(clean_text(value))}, which is not there."
            hint = "Move it there, or give the directory of the label files and --images DIR."
            raise SourceError(message, hint=hint)
        if place.resolve().parent == place.resolve():
            raise SourceError(f"{path} names {place}, the root of the file system.")
        if place.is_file():
            _add_list(found, place, bases, pictures)
        else:
            folders.append(place)
    _add_folders(found, folders, pictures)
    found.entries = _titled(found)
    if wanted != "all" and len(splits) > 1:
        found.notes[f"data units of the split {wanted} (option split takes others)"] = len(
            found.entries
        )
    return found


def _has_labels(folder: Path) -> bool:
    return swapped(folder, "images", "labels").is_dir()


def _resolved(bases: Sequence[Path], value: str, there: Any) -> Path | None:
    """Where a path of a description is: below one of the directories, as far as it can be found.

    Descriptions are written relative to where a training was started: leading directories that are
    not there are left out (``../train/images``, ``data/obj.names``).
    """
    parts = [part for part in Path(value).parts if part != "."]
    for base in bases:
        if _true(there, base / value):
            return base / value
    for start in range(1, len(parts)):
        for base in bases:
            place = base.joinpath(*parts[start:])
            if ".." not in parts[start:] and _true(there, place):
                return place
    return None


def _true(there: Any, path: Path) -> bool:
    try:
        return bool(there(path))
    except (OSError, ValueError):  # too long a name, a NUL in it
        return False


def _add_folders(found: Dataset, folders: list[Path], pictures: Pictures | None) -> None:
    """Directories of images, or of labels where the images are elsewhere."""
    if pictures is not None:
        if folders:
            _match(found, [swapped(f, "images", "labels") for f in folders], pictures)
        return
    for folder in folders:
        if not folder.is_dir():
            raise without_sizes(folder)
        images = Images(folder)
        used: set[Path] = set()
        for name in images.paths:
            labels = labels_of(folder / name)
            used.add(labels)
            there = labels if labels.is_file() else None
            found.entries.append(Entry(str(folder / name), there, images, name))
        labels_folder = swapped(folder, "images", "labels")
        if labels_folder != folder:
            found.orphans += [p for p in label_files(labels_folder) if p not in used]


def _match(found: Dataset, folders: list[Path], pictures: Pictures) -> None:
    """Match label files to images by their paths without suffixes, else by their stems."""
    by_path: dict[str, Path] = {}
    by_stem: dict[str, list[Path]] = {}
    for folder in folders:
        for path in label_files(folder):
            by_path.setdefault(path.relative_to(folder).as_posix()[: -len(path.suffix)], path)
            by_stem.setdefault(path.stem, []).append(path)
    stems = Counter(stem_of(posixpath.basename(name)) for name in pictures.paths)
    used: set[Path] = set()
    for name in pictures.paths:
        stem = stem_of(posixpath.basename(name))
        labels = by_path.get(stem_of(name))
        if labels is None and stems[stem] == 1 and len(by_stem.get(stem, ())) == 1:
            labels = by_stem[stem][0]
        if labels is not None:
            used.add(labels)
        found.entries.append(Entry(name, labels, pictures, name))
    found.orphans += [p for paths in by_stem.values() for p in paths if p not in used]


def _add_list(found: Dataset, path: Path, bases: list[Path], pictures: Pictures | None) -> None:
    """A text file of one image path per line."""
    known: dict[Path, Images] = {}
    text = read_text(path, MOST_LIST)
    lines = [line.strip() for line in text.splitlines()]
    listed = dict.fromkeys(line for line in lines if line)
    repeated = sum(map(bool, lines)) - len(listed)
    if repeated:
        found.notes[f"images that {path.name} lists again"] += repeated
    places = [path.parent, *bases]
    for line in listed:
        if not line.lower().endswith(SUFFIXES):
            message = f"{path} lists {cut(clean_text(line))}; expected the path of an image."
            raise SourceError(message, hint="Give the directory of the label files instead.")
        image = _resolved(places, line, lambda p: p.is_file() or labels_of(p).is_file())
        labels = labels_of(image) if image and labels_of(image).is_file() else None
        inside: tuple[Pictures | None, str] = (None, line)
        if pictures is not None:
            name = pictures.find(line)
            inside = (pictures if name else None, name or line)
        elif image is not None and image.is_file():
            folder = next((b for b in bases if image.is_relative_to(b)), image.parent)
            if folder not in known:
                known[folder] = Images(folder)
            inside = (known[folder], image.relative_to(folder).as_posix())
        found.entries.append(Entry(str(image or line), labels, *inside))


def _titled(found: Dataset) -> list[Entry]:
    """The data units once each, in order, with what their paths share left out of the titles."""
    entries = {entry.title: entry for entry in found.entries}
    paths = [entry.title.replace(os.sep, "/") for entry in entries.values()]
    shared = posixpath.commonpath([posixpath.dirname(p) for p in paths]) if _alike(paths) else ""
    titles = (posixpath.relpath(p, shared) if shared else p for p in paths)
    titled = [
        Entry(clean_text(title), e.labels, e.pictures, e.name)
        for title, e in zip(titles, entries.values(), strict=True)
    ]
    return sorted(titled, key=lambda entry: entry.title)


def _alike(paths: Sequence[str]) -> bool:
    return bool(paths) and len({posixpath.isabs(p) for p in paths}) == 1


def _of_directory(path: Path, pictures: Pictures | None, reading: Reading) -> Dataset:
    """A directory of label files, class names beside."""
    if reading.options.get("split"):
        message = f"{path} has no data.yaml or obj.data, so that it has no splits."
        raise SourceError(message, hint="Leave out option split, or give the data.yaml.")
    labels = path / "labels" if (path / "labels").is_dir() else path
    if not label_files(labels):
        message = f"{path} has no label files (.txt), no data.yaml and no obj.data."
        raise SourceError(message, hint="Give the data.yaml of the data set.")
    names, notes = names_of_labels(labels, reading.options.get("names"))
    found = Dataset([], names=names, notes=Counter(notes))
    if pictures is None:
        pictures = next(images_of(labels), None)
        if pictures is None:
            raise without_sizes(path)
    _match(found, [labels], pictures)
    return found
