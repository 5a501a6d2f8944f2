"""Sequences of MOTChallenge: how many frames each has, how large, and where they are."""

from __future__ import annotations

import configparser
import json
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut
from ea_arrow.schema import DATA_UNITS
from ea_arrow.sources.images import SUFFIXES, Images
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.truth import data_hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

SEQINFO: Final = "seqinfo.ini"
IMAGES: Final = "img1"
MOST_FRAMES: Final = 1_000_000
"""More frames than this are refused, as each becomes a data unit: 9 hours of video."""

_MOST_BYTES: Final = 1 << 16
_SECTION: Final = "Sequence"


@dataclass(frozen=True)
class Frames:
    """The frames of a sequence.

    Attributes:
        name: The sequence's name, that of its directory.
        number: Their numbers from 0, ascending, shape (n,).
        width: In pixels, shape (n,).
        height: In pixels, shape (n,).
        uri: Where each is, None where that is not known; n of them.
        metadata: What else is said about the sequence.
    """

    name: str
    number: Ints
    width: Ints
    height: Ints
    uri: Sequence[str | None]
    metadata: Mapping[str, str] = field(default_factory=dict)


def frames_of(name: str, folders: Sequence[Path], first: int) -> Frames:
    """Find out what frames a sequence has, from ``seqinfo.ini`` or from its images.

    Args:
        name: The sequence's name.
        folders: Where it may be, the best first.
        first: The number of its first frame in file names.

    Raises:
        SourceError: Neither is there, or one cannot be read.
    """
    for folder in folders:
        if (folder / SEQINFO).is_file():
            return _from_seqinfo(name, folder, first)
    for folder in folders:
        for inner in (folder / IMAGES, folder):
            if (inner.is_dir() and inner != folder) or _numbered(inner, SUFFIXES):
                return _from_images(name, inner, first)
    tried = ", ".join(str(folder) for folder in folders)
    message = f"The size and length of sequence {name} are not known: found neither {SEQINFO} nor "
    message += f"{IMAGES} in {tried}."
    hint = f"Add {SEQINFO} to the sequence, or give the directory of the images: --images DIR."
    raise SourceError(message, hint=hint)


def data_units(sequences: Sequence[Frames]) -> pa.Table:
    """The frames of all sequences as ``DATA_UNITS``, sequence by sequence.

    Raises:
        SourceError: They are too many.
    """
    lengths = [len(sequence.number) for sequence in sequences]
    total = sum(lengths)
    if total > MOST_FRAMES:
        raise _too_many(sequences[-1].name, total)
    of = pa.array(np.repeat(np.arange(len(sequences)), lengths))
    names = [clean_text(sequence.name) for sequence in sequences]
    titles = pa.array(names, pa.string()).take(of)
    rest = [json.dumps(dict(s.metadata)) if s.metadata else None for s in sequences]
    columns = {
        "unit_id": pa.array(np.arange(total)),
        "data_hash": pa.array([data_hash_of(name) for name in names], pa.string()).take(of),
        "frame": pa.array(_joined([s.number for s in sequences])),
        "width": pa.array(_joined([s.width for s in sequences]).astype(np.int32)),
        "height": pa.array(_joined([s.height for s in sequences]).astype(np.int32)),
        "title": titles,
        "source_id": titles,
        "uri": pa.array([uri for s in sequences for uri in s.uri], pa.string()),
        "metadata": pa.array(rest, pa.string()).take(of),
    }
    arrays = [
        columns[column.name].cast(column.type)
        if column.name in columns
        else pa.nulls(total, column.type)
        for column in DATA_UNITS.arrow
    ]
    return pa.Table.from_arrays(arrays, schema=DATA_UNITS.arrow)


def _too_many(where: Path | str, frames: int) -> SourceError:
    message = f"{where}: makes {frames:,} frames; expected {MOST_FRAMES:,} at most."
    return SourceError(message, hint="Make a project of fewer sequences.")


def _joined(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _from_seqinfo(name: str, folder: Path, first: int) -> Frames:
    path = folder / SEQINFO
    found = _read_seqinfo(path)
    width, height, length = (
        _whole(path, found, key) for key in ("imWidth", "imHeight", "seqLength")
    )
    if length > MOST_FRAMES:
        raise _too_many(path, length)
    number = np.arange(length)
    inner = folder / found.get("imDir", IMAGES)
    uri: list[str | None] = [None] * length
    for image in _numbered(inner, (found.get("imExt", ".jpg").lower(),)):
        at = _number_of(image.name) - first
        if 0 <= at < length:
            uri[at] = image.absolute().as_uri()
    rest = {key: found[key] for key in ("name", "frameRate") if key in found}
    return Frames(name, number, number * 0 + width, number * 0 + height, uri, rest)


def _read_seqinfo(path: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    expected = f"the section [{_SECTION}] with imWidth, imHeight and seqLength"
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            message = f"{path} has more than {_MOST_BYTES:,} bytes; expected {expected}."
            raise SourceError(message)
        parser.read_string(data.decode("utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (configparser.Error, UnicodeDecodeError, ValueError) as error:
        found = str(error).splitlines()[0]
        raise SourceError(f"{path} is no INI file: {found}; expected {expected}.") from error
    if not parser.has_section(_SECTION):
        found = ", ".join(parser.sections()[:3]) or "none"
        raise SourceError(f"{path} has the sections: {found}; expected {expected}.")
    wanted = ("name", "imDir", "frameRate", "seqLength", "imWidth", "imHeight", "imExt")
    section = parser[_SECTION]
    return {key: value for key in wanted if (value := section.get(key)) is not None}


def _whole(path: Path, found: Mapping[str, str], key: str) -> int:
    value = parse_side(found.get(key))
    if not value:
        message = f"{path}: {key} is {cut(found.get(key))}; expected a whole number from 1."
        raise SourceError(message)
    return value


def _numbered(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files in a directory that have one of these suffixes and are named by number."""
    try:
        inner = sorted(folder.iterdir())
    except (OSError, ValueError):
        return []
    return [p for p in inner if p.suffix.lower() in suffixes and _number_of(p.name) >= 0]


def _from_images(name: str, folder: Path, first: int) -> Frames:
    images = Images(folder)
    by_number: dict[int, str] = {}
    for path in images.paths:
        number = _number_of(posixpath.basename(path)) - first
        if number < 0 or number in by_number:
            message = f"{folder}: {cut(path)} is not named by a frame's number, or one of several."
            hint = f"Name the frames 000001.jpg, 000002.jpg, … or add {SEQINFO} to the sequence."
            raise SourceError(message, hint=hint)
        by_number[number] = path
    numbers = sorted(by_number)
    sizes = images.sizes([by_number[number] for number in numbers])
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        broken = by_number[numbers[sizes.index(None)]]
        raise SourceError(f"{folder}: the size of {cut(broken)} cannot be read.")
    width, height = np.array(known, np.int64).reshape(-1, 2).T
    uri = [images.uri(by_number[number]) for number in numbers]
    return Frames(name, np.array(numbers, np.int64), width, height, uri)


def _number_of(name: str) -> int:
    """The number that an image's file name is; −1 if it is none."""
    stem = name.rpartition(".")[0]
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 10 else -1
