"""KITTI predictions: one text file per data unit, an object per line, 15 words and a score.

Encord Active reads predictions in this format too: its file names may carry a frame, and an
``ontology_mapping.json`` beside them says which class of the ontology each name is.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut
from ea_arrow.sources.base import Coordinates, raw_batch
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.kitti_lines import (
    ABOUT,
    COLUMNS,
    DONT_CARE,
    Block,
    KittiFiles,
    blocks,
    sniff,
    stem_of,
)
from ea_arrow.sources.text_columns import of_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAPPING: Final = "ontology_mapping.json"

_FRAME: Final = re.compile(r"(?P<title>.+?)__(?P<frame>[0-9]{1,18})", re.DOTALL)
_MOST_HASH: Final = 200
_MOST_NAME: Final = 10_000


class KittiPredictions:
    """A directory or files of predictions, opened. See :class:`base.PredictionSource`.

    Raises:
        SourceError: There are no such files, or ``ontology_mapping.json`` cannot be read.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.root
        self.notes: Counter[str] = Counter()
        self._reading = reading
        self._files = KittiFiles(files)
        self._mapping = _mapping_of(files)
        self._frames = reading.options.get("frames", "name") == "name"

    @property
    def coordinates(self) -> Coordinates:
        """Pixels; data units by stem, classes by name or, where Encord's mapping is, by hash."""
        return Coordinates(
            relative=bool(self._reading.relative),
            unit_key="stem",
            class_key="feature_hash" if self._mapping else "name",
            class_names=tuple((key, name) for name, key in self._mapping.items()),
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order of file name."""
        self.notes.clear()
        units = [_unit_of(path.name, self._frames) for path in self._files.paths]
        self._note_files(units)
        for block in blocks(self._files, self._reading, self.notes):
            columns = block.columns()
            columns["unit"] = of_files([title for title, _ in units], block.rows)
            frames = pa.array([frame for _, frame in units], pa.int64())
            columns["frame"] = frames.take(pa.array(block.rows.file))
            columns["confidence"] = block.scores()
            columns |= block.refusals.columns()
            self._note_rows(block)
            if self._mapping:
                columns["class_ref"] = self._translated(columns["class_ref"])
            yield raw_batch(columns, len(block.rows))

    def _note_files(self, units: Sequence[tuple[str, int | None]]) -> None:
        framed = sum(frame is not None for _, frame in units)
        if framed:
            text = "files named title__frame, read as frames (else: --option frames=none)"
            self.notes[text] = framed
        repeated = len(units) - len(set(units))
        if repeated:
            self.notes["files of a data unit that an earlier file has too"] = repeated
        if self._mapping:
            self.notes[f"classes named by {MAPPING}"] = len(self._mapping)

    def _note_rows(self, block: Block) -> None:
        ignored = int(block.dont_care.sum())
        if ignored:
            self.notes[f"{DONT_CARE} rows, which are no predictions of a class"] += ignored

    def _translated(self, names: pa.StringArray) -> pa.StringArray:
        """Feature hashes in place of names; a name without one stays, and is unknown."""
        at = pc.index_in(names, pa.array(list(self._mapping), pa.string()))
        unnamed = at.null_count - names.null_count
        if unnamed:
            self.notes[f"rows of a class that {MAPPING} does not name"] += unnamed
        return pc.coalesce(pa.array(list(self._mapping.values()), pa.string()).take(at), names)


def _unit_of(name: str, frames: bool) -> tuple[str, int | None]:
    """The title and the frame that a file's name gives."""
    stem = stem_of(name)
    framed = _FRAME.fullmatch(stem) if frames else None
    return (framed["title"], int(framed["frame"])) if framed else (stem, None)


def _mapping_of(files: Files) -> dict[str, str]:
    """Feature hashes by class name, from Encord's mapping in or beside the directory."""
    folder = files.root if files.root.is_dir() else files.root.parent
    path = next((p for p in (folder / MAPPING, folder.parent / MAPPING) if p.is_file()), None)
    if path is None:
        return {}
    expected = f"{MAPPING}, an object of class names by feature hash"
    document = read_json(path, expected)
    found: dict[str, str] = {}
    for key, name in document.items() if isinstance(document, dict) else ():
        if not isinstance(name, str) or len(key) > _MOST_HASH or len(name) > _MOST_NAME:
            message = f"{path}: {cut(key)} is {cut(name)}; expected {expected}."
            raise SourceError(message, hint='Write it as {"featureHash": "class name"}.')
        if clean_text(name) in found:
            message = f"{path} names two classes {cut(name)}; a KITTI file cannot tell them apart."
            raise SourceError(message, hint="Give each class a name of its own.")
        found[clean_text(name)] = clean_text(key)
    if not found:
        message = f"{path} is {cut(document)}; expected {expected}."
        raise SourceError(message, hint="Correct the file, or take it away.")
    return found


PREDICTIONS: Final = PredictionFormat(
    name="kitti",
    box="xyxy",
    doc="KITTI object text files, as Encord Active also reads them",
    about=" ".join(ABOUT) + " A number after two underscores is the frame of a video: "
    "title__12.txt (Encord Active). With an ontology_mapping.json ({feature hash: class name}) in "
    "the directory or the one above, classes are found by their feature hash, else by name.\n\n"
    "Scores are kept as they are: KITTI's are not bounded (97.85). Lines without the 16th column "
    "have no score and are refused. DontCare is no class: such lines are refused unless the "
    "project has a class of that name.",
    example=f"{COLUMNS} 0.97\n"
    "Pedestrian -1 -1 -10 12.5 148.0 40.25 231.75 -1 -1 -1 -1000 -1000 -1000 -10 97.85",
    options=(
        Option(
            "frames",
            "Whether a number after two underscores in a file's name is a frame, or part of it.",
            choices=("name", "none"),
            default="name",
        ),
    ),
    many=True,
    sniff=sniff,
    open=KittiPredictions,
)
