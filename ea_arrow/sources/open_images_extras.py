"""What stands beside Open Images' boxes: names of classes, sizes of images, packed predictions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut
from ea_arrow.schema import BOX
from ea_arrow.sources.columns import Problems, texts
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.table_base import Block, arrow_errors
from ea_arrow.sources.table_files import open_table
from ea_arrow.sources.truth import unit_table

if TYPE_CHECKING:
    from collections import Counter

    from ea_arrow.sources.formats import Reading
    from ea_arrow.sources.table_survey import Survey

MOST_BYTES: Final = 1 << 26
_NEAR: Final = 0.01
_PACKED: Final = ("labelname", "score", "xmin", "ymin", "xmax", "ymax")
_NAMES: Final = ("name", "file_name", "filename", "imageid", "image_id", "image")


def descriptions(reading: Reading) -> dict[str, str]:
    """Names of classes by their id, from the file that option ``names`` gives; none without.

    Raises:
        SourceError: It cannot be read, or is no CSV of ids and names.
    """
    given = reading.options.get("names")
    if given is None:
        return {}
    path = Path(given)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SourceError(f"{path} is too large to be a list of classes.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read as a list of classes: {error}.") from error
    if not rows or any(len(row) != 2 for row in rows):
        odd = next((row for row in rows if len(row) != 2), None)
        message = f"{path}: found {cut(odd)}; expected an id and a name in each row."
        raise SourceError(message, hint="Give Open Images' class-descriptions-boxable.csv.")
    if rows[0][0].lower() in ("labelname", "id", "mid"):
        rows.pop(0)
    return {clean_text(key.strip()): clean_text(name.strip()) for key, name in rows}


class Sizes:
    """A table of images' names, widths and heights.

    Args:
        path: The file.

    Raises:
        SourceError: It is no such table.
    """

    def __init__(self, path: str) -> None:
        table = open_table(Path(path))
        known = {name.strip().lower(): name for name in table.names}
        name = next((known[n] for n in _NAMES if n in known), None)
        if name is None or not {"width", "height"} <= known.keys():
            message = f"{path} has the columns {', '.join(table.names[:20])}; expected name, width "
            raise SourceError(f"{message}and height.")
        self.sizes: dict[str, tuple[int, int]] = {}
        columns = [name, known["width"], known["height"]]
        with arrow_errors(table.path):
            for block in table.blocks(columns):
                values = [texts(c, block.columns[c], Problems()).to_pylist() for c in columns]
                for image, *sides in zip(*values, strict=True):
                    width, height = map(parse_side, sides)
                    if image is None or not width or not height:
                        message = f"{path}: the size of {cut(image)} is {cut(sides)}; expected "
                        raise SourceError(f"{message}a width and a height in pixels.")
                    self.sizes[image] = (width, height)
        self._stems: dict[str, str | None] = {}
        for image in self.sizes:
            stem = image.rpartition(".")[0] or image
            self._stems[stem] = None if stem in self._stems else image

    def find(self, name: str) -> str | None:
        """The name in the table of an image that is named with or without a suffix."""
        if name in self.sizes:
            return name
        return self._stems.get(name) or self._stems.get(name.rpartition(".")[0])

    def rename(self, names: pa.Array) -> pa.Array:
        """The names in the table instead of those that labels have."""
        codes = names.dictionary_encode()
        found = [self.find(name) or name for name in codes.dictionary.to_pylist()]
        return pa.array(found, pa.string()).take(codes.indices)

    def data_units(self, survey: Survey) -> pa.Table:
        """The images as data units, in order of name.

        Raises:
            SourceError: An image that has labels is not among them.
        """
        missing = [name for name, _ in survey.units if self.find(name) is None]
        if missing:
            message = f"The table of sizes lacks {len(missing):,} images: {', '.join(missing[:5])}"
            raise SourceError(f"{message}{', …' if len(missing) > 5 else ''}.")
        rows: list[dict[str, Any]] = [
            {"title": name, "source_id": name.rpartition(".")[0] or name, "width": w, "height": h}
            for name, (w, h) in sorted(self.sizes.items())
        ]
        return unit_table(rows)


def expanded(block: Block, unit: str, string: str, notes: Counter[str]) -> Block:
    """Rows of images with all their predictions in one text, as a row for each prediction.

    Args:
        block: The images.
        unit: The column of their ids.
        string: The column of label, confidence, XMin, YMin, XMax, YMax, again and again.
        notes: Counts images without predictions.
    """
    problems = Problems()
    units = texts(unit, block.columns[unit], problems)
    given = texts(string, block.columns[string], problems)
    trimmed = pc.utf8_trim_whitespace(given.fill_null(""))
    empty = pc.equal(trimmed, "").to_numpy(zero_copy_only=False)
    notes["images without predictions"] += int(empty.sum())
    words = pc.utf8_split_whitespace(trimmed)
    counts = np.where(empty, 0, words.value_lengths().to_numpy().astype(np.int64))
    odd = counts % len(_PACKED) != 0
    broken = list(block.broken)
    for row in np.flatnonzero(odd).tolist():
        message = f"{string} has {counts[row]} words; expected six for each prediction."
        broken.append((int(block.rows[row]), "invalid_data", message))
    kept = np.flatnonzero(~odd & ~empty)
    flat = words.take(pa.array(kept)).flatten()
    repeated = np.repeat(kept, counts[kept] // len(_PACKED))
    columns: dict[str, Any] = {
        name: flat.take(pa.array(np.arange(i, len(flat), len(_PACKED))))
        for i, name in enumerate(_PACKED)
    }
    columns[unit] = units.take(pa.array(repeated))
    return Block(columns, block.rows[repeated], broken)


def whole_pixels(
    batch: pa.RecordBatch, sizes: dict[str, tuple[int, int]], notes: Counter[str]
) -> pa.RecordBatch:
    """Boxes as fractions, to corners in whole pixels: what they were before decimals were cut.

    Args:
        batch: ``RAW`` rows; those of images that are not known stay as they are.
        sizes: Width and height of the images.
        notes: Counts boxes that were no whole pixels.
    """
    units = batch.column("unit").to_pylist()
    sides = np.array([sizes.get(unit, (1, 1)) for unit in units], np.float64).reshape(-1, 2)
    known = np.array([unit in sizes for unit in units], dtype=bool)
    columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in BOX]
    box = np.stack(columns, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        first = box[:, :2] * sides
        last = (box[:, :2] + box[:, 2:]) * sides
        moved = np.maximum(np.abs(first - np.rint(first)), np.abs(last - np.rint(last)))
        pixels = np.concatenate((np.rint(first), np.rint(last) - np.rint(first)), axis=1)
    far = int(np.count_nonzero(moved.max(axis=1, initial=0) > _NEAR))
    if far:
        notes[f"boxes more than {_NEAR} pixels off whole ones, rounded"] += far
    for i, name in enumerate(BOX):
        values = pa.array(np.where(known, pixels[:, i], box[:, i]), mask=np.isnan(box[:, i]))
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, batch.schema.field(place), values)
    return batch
