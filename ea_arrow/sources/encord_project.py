"""An Encord Active project on disk: where its data units and label rows are.

Up to version 0.1.60 the label rows are files under ``data/``; from 0.1.53 there is a SQLite
database ``prisma.db`` too, which from 0.1.61 holds the label rows and the sizes of the data units.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.sources.encord_rows import Unit, public_uri, size_of, units
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_values import parse_side

if TYPE_CHECKING:
    from collections.abc import Iterator

ONTOLOGY = "ontology.json"
DATABASE = "prisma.db"
META = "label_row_meta.json"

_LABEL_ROW = "an Encord label row (label_row.json)"
_UNIT_COLUMNS = ("data_hash", "frame", "data_title", "data_uri", "location", "width", "height")

Json = dict[str, Any]


class LabelRow(NamedTuple):
    """A label row, parsed, and where it stands."""

    where: str
    document: Json


class ProjectDirectory:
    """The directory of an Encord Active project, opened for reading only.

    Args:
        path: The directory, which has ``ontology.json`` and ``data/`` or ``prisma.db``.

    Raises:
        SourceError: The directory or its database cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._directories = _label_row_directories(path)
        self._database = path / DATABASE if (path / DATABASE).is_file() else None
        self.without_labels: set[str] = set()  # label rows without JSON anywhere, once read

    def label_rows(self) -> Iterator[LabelRow]:
        """Yield the label rows one by one: those of the database, else those under ``data/``.

        Raises:
            SourceError: A label row cannot be read.
        """
        found = False
        if self._database is not None:
            for label_hash, text in _stored_label_rows(self._database):
                found = True
                if text is not None:
                    yield LabelRow(*_parsed(f"{self._database}: label row {label_hash}", text))
                elif label_hash in self._directories:
                    yield self._file(label_hash)
                else:
                    self.without_labels.add(label_hash)
        if not found:
            for label_hash in self._directories:
                yield self._file(label_hash)

    def units(self) -> Iterator[Unit]:
        """Yield the data units; a width or height of 0 is unknown.

        The database names all frames of a video. Without it, they are those whose images are
        there, and those that are labelled.

        Raises:
            SourceError: The database or a label row cannot be read.
        """
        listed = _stored_units(self._database, self.path) if self._database is not None else []
        if listed and all(unit.width for unit in listed):
            yield from listed
            return
        of_rows = [unit for row in self.label_rows() for unit in self._units_of(row)]
        if not listed:
            yield from of_rows
            return
        sizes = {unit.data_hash: (unit.width, unit.height) for unit in of_rows}
        for unit in listed:
            if unit.width:
                yield unit
            else:
                width, height = sizes.get(unit.data_hash, (0, 0))
                yield unit._replace(width=width, height=height)

    def _file(self, label_hash: str) -> LabelRow:
        path = self._directories[label_hash] / "label_row.json"
        return LabelRow(str(path), _object(str(path), read_json(path, _LABEL_ROW)))

    def _units_of(self, row: LabelRow) -> Iterator[Unit]:
        directory = self._directories.get(str(row.document.get("label_hash")))
        images = _images(directory) if directory is not None else {}
        return units(row.document, row.where, images)


def _label_row_directories(path: Path) -> dict[str, Path]:
    """Directories with a label row, in the order of ``label_row_meta.json``, others after."""
    data = path / "data"
    if not data.is_dir():
        return {}
    found = {d.name: d for d in sorted(data.iterdir()) if (d / "label_row.json").is_file()}
    meta = path / META
    order = read_json(meta, "Encord Active's label_row_meta.json") if meta.is_file() else {}
    listed = [key for key in order if key in found] if isinstance(order, dict) else []
    return {key: found[key] for key in dict.fromkeys([*listed, *found])}


def _images(directory: Path) -> dict[str, dict[int, str]]:
    """Links to a label row's images, ``<data_hash>.<ext>`` or, of videos, with ``_<frame>``."""
    images = directory / "images"
    if not images.is_dir():
        return {}
    with os.scandir(images) as entries:
        paths = sorted(Path(entry.path) for entry in entries if entry.is_file())
    links: dict[str, dict[int, str]] = {}
    for path in paths:
        data_hash, _, number = path.stem.rpartition("_")
        frame = parse_side(number)
        if not data_hash or frame is None:
            data_hash, frame = path.stem, 0
        links.setdefault(data_hash, {})[frame] = path.resolve().as_uri()
    return links


def _connect(database: Path) -> sqlite3.Connection:
    """Open the database read-only, leaving no file beside it.

    A database in WAL mode makes SQLite write files beside it even to read it, which fails on
    read-only media. Where the log is empty, the file is all there is, and is read as immutable.
    """
    with database.open("rb") as file:
        is_wal = file.read(20)[18:] == b"\x02\x02"  # SQLite's read and write versions
    log = database.with_name(f"{database.name}-wal")
    alone = is_wal and not (log.is_file() and log.stat().st_size)
    mode = "mode=ro&immutable=1" if alone else "mode=ro"
    return sqlite3.connect(f"file:{quote(str(database.resolve()))}?{mode}", uri=True)


def _rows(database: Path, table: str, columns: tuple[str, ...], rest: str) -> Iterator[Json]:
    """Yield rows of a table; columns that this version of the database lacks are None."""
    try:
        with closing(_connect(database)) as connection:
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            named = ", ".join(f"{table}.{c}" if c in there else f"NULL AS {c}" for c in columns)
            for row in connection.execute(f"SELECT {named}{rest}"):
                yield dict(zip(columns, row[: len(columns)], strict=True)) | {
                    "more": row[len(columns) :]
                }
    except (sqlite3.Error, OSError) as error:
        message = f"{database} cannot be read as Encord Active's database: {error}."
        hint = "Close Encord Active, or copy the project directory and give the copy."
        raise SourceError(message, hint=hint) from error


def _stored_label_rows(database: Path) -> Iterator[tuple[str, str | None]]:
    rest = " FROM LabelRow ORDER BY LabelRow.id"
    for row in _rows(database, "LabelRow", ("label_hash", "label_row_json"), rest):
        yield str(row["label_hash"]), row["label_row_json"]


def _stored_units(database: Path, directory: Path) -> list[Unit]:
    rest = (
        ", LabelRow.data_type, LabelRow.label_hash FROM DataUnit LEFT JOIN LabelRow"
        " ON DataUnit.lr_data_hash = LabelRow.data_hash"
        " ORDER BY LabelRow.id, DataUnit.frame, DataUnit.id"
    )
    found = []
    for row in _rows(database, "DataUnit", _UNIT_COLUMNS, rest):
        data_type, label_hash = row["more"]
        is_group = data_type == "img_group"
        width, height = size_of(row)
        group = label_hash if is_group else row["data_hash"] if data_type == "video" else None
        found.append(
            Unit(
                data_hash=row["data_hash"],
                # In a group the column holds an image's place in the sequence, not a frame.
                frame=row["frame"] if data_type not in ("img_group", "image") else 0,
                width=width,
                height=height,
                title=row["data_title"],
                uri=_uri(row["data_uri"] or row["location"], directory),
                group=group,
                metadata=json.dumps({"label_hash": label_hash}) if label_hash else None,
            )
        )
    return found


def _uri(link: str | None, directory: Path) -> str | None:
    """Resolve Encord Active's own ``relative://`` and ``absolute://`` links and plain paths."""
    if link is None:
        return None
    if link.startswith("relative://"):
        return (directory / link.removeprefix("relative://")).resolve().as_uri()
    if link.startswith("absolute://"):
        return Path("/", link.removeprefix("absolute://")).as_uri()
    return Path(link).as_uri() if Path(link).is_absolute() else public_uri(link)


def _parsed(where: str, text: str) -> tuple[str, Json]:
    try:
        return where, _object(where, json.loads(text))
    except (ValueError, RecursionError) as error:
        message = f"{where} is not JSON: {error}; expected {_LABEL_ROW}."
        raise SourceError(message, hint="Download the project again.") from error


def _object(where: str, document: object) -> Json:
    if isinstance(document, dict):
        return document
    message = f"{where} is {cut(document)}; expected {_LABEL_ROW}."
    raise SourceError(message, hint="Download the project again.")
