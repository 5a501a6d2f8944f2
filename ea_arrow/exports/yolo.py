"""YOLO: a text file per image in ``labels``, and ``data.yaml`` with the names of the classes.

All rows are boxes, or all are polygons of one part, as what trains on them expects.

Coordinates are fractions, written in full. A box comes back with its size within one unit in the
last place, and its corner within ``4 × 2⁻⁵² ×`` the larger of the image's side and the box's far
edge: 1e-12 pixels for an image of 1,000. Most come back exactly; the others are counted, for an
IoU that is exactly a threshold may fall below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.exports.base import Account, Subject, Target, floats, given, is_format, note_unsaid
from ea_arrow.exports.fractions import centre_fractions
from ea_arrow.exports.text import joined, listed, number_texts
from ea_arrow.exports.units import UnitFiles, write_sizes
from ea_arrow.schema import BOX
from ea_arrow.sources.formats import Option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ea_arrow.arranged import Bools, Floats

LABELS: Final = "labels"


def _write(subject: Subject, folder: Path, name: str, account: Account) -> None:
    del name
    (folder / "data.yaml").write_text(_data_yaml(subject), encoding="utf-8")
    (folder / LABELS).mkdir()
    files = UnitFiles(folder / LABELS, subject.data_units)
    task = subject.options.get("task") or _task(subject.formats)
    if not subject.is_labels:
        account.reading |= {"task": task, "columns": "conf"}
    for batch in subject.objects(account):
        kept = _without_ignored(batch, account) if subject.is_labels else batch
        if not kept.num_rows:
            continue
        account.written += kept.num_rows
        unit = subject.unit_of(kept)
        size = np.stack([subject.data_units[n].to_numpy()[unit] for n in ("width", "height")])
        shape = _shapes(kept, size.T, task, account)
        klass = pa.array(subject.class_of(kept)).cast(pa.string())
        score = () if subject.is_labels else (" ", number_texts(kept.column("confidence")))
        files.add(unit, joined(klass, shape, *score))
    if subject.is_labels:
        files.add_empty()
        write_sizes(folder, subject.data_units)
    files.note(account)


_ROUNDED: Final = "boxes whose pixels no fractions give exactly: the last places may differ"
_OUTSIDE: Final = "boxes that leave the image, which YOLO's readers refuse or cut"


def _without_ignored(batch: pa.RecordBatch, account: Account) -> pa.RecordBatch:
    left_out = pc.or_(batch.column("is_crowd"), batch.column("is_ignored"))
    number = pc.sum(left_out).as_py() or 0
    account.leave_out("labels to be ignored and crowds: the format cannot say so", number)
    return batch.filter(pc.invert(left_out)) if number else batch


def _task(formats: Mapping[str, int]) -> str:
    """All rows of a data set are boxes, or all are polygons: what most of them are."""
    number = sum(n for form, n in formats.items() if form != "classification")
    return "segment" if formats.get("polygon", 0) * 2 > number else "detect"


def _shapes(batch: pa.RecordBatch, size: Any, task: str, account: Account) -> pa.Array:
    """Boxes, or polygons."""
    note_unsaid(batch, account)
    frames = batch.column("frame").to_numpy() > 0
    account.note("frames of videos, in files <title>__<frame>, which YOLO does not know", frames)
    account.note("masks written as their boxes", is_format(batch, "mask"))
    is_outline = _outlines(batch) & (task == "segment")
    polygons = is_format(batch, "polygon") & ~is_outline
    account.note("polygons written as their boxes", polygons)
    account.note(_OUTSIDE, _leave_image(batch, size) & ~is_outline)
    if task == "detect":
        return _boxes(batch, size, account)
    boxes = is_format(batch, "bounding_box", "rotatable_bounding_box")
    account.note("boxes written as polygons of four corners", boxes)
    texts = _corners(batch, size)
    if is_outline.any():
        some = batch.filter(pa.array(is_outline))
        outlines = _polygons(some, size[is_outline])
        texts = pc.replace_with_mask(texts, pa.array(is_outline), outlines)
    return texts


def _outlines(batch: pa.RecordBatch) -> Bools:
    """Polygons of one part."""
    parts = batch.column("polygon").value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flags: Bools = is_format(batch, "polygon") & given(batch.column("polygon")) & (parts == 1)
    return flags


def _leave_image(batch: pa.RecordBatch, size: Any) -> Bools:
    box = floats(batch, *BOX) / np.concatenate([size, size], axis=1)
    far = box[:, :2] + box[:, 2:]
    flags: Bools = (box[:, :2] < -1e-6).any(axis=1) | (far > 1 + 1e-6).any(axis=1)
    return flags


def _boxes(batch: pa.RecordBatch, size: Any, account: Account) -> pa.Array:
    box = floats(batch, *BOX)
    centre, extent = centre_fractions(box, size)
    again = np.concatenate(((centre - extent / 2) * size, extent * size), axis=1)
    account.note(_ROUNDED, np.any(again != box, axis=1))
    return _spaced([*centre.T, *extent.T])


def _corners(batch: pa.RecordBatch, size: Any) -> pa.Array:
    box = floats(batch, *BOX)
    low, high = (box[:, :2] / size).T, ((box[:, :2] + box[:, 2:]) / size).T
    return _spaced([low[0], low[1], high[0], low[1], high[0], high[1], low[0], high[1]])


def _spaced(columns: list[Floats]) -> pa.Array:
    return joined(*(part for column in columns for part in (" ", number_texts(column))))


def _polygons(batch: pa.RecordBatch, size: Any) -> pa.Array:
    rings = batch.column("polygon").flatten()
    lengths = rings.value_lengths().to_numpy().astype(np.int64)
    values = rings.flatten().to_numpy()
    place = np.arange(len(values))
    sides = np.repeat(size, lengths, axis=0)[place, place % 2]  # rings hold x, y, x, y, …
    return joined(" ", listed(number_texts(values / sides), lengths, " "))


def _data_yaml(subject: Subject) -> str:
    """The file of names; it is YAML, in the part of it that is simplest."""
    names = [yaml_text(name) for name in subject.object_classes["name"].to_pylist()]
    lines = [f"  {index}: {name}\n" for index, name in enumerate(names)]
    images = "path: .\ntrain: images\nval: images\n"
    return f"{images}nc: {len(names)}\nnames:\n{''.join(lines)}"


def yaml_text(text: str) -> str:
    r"""A text in double quotes, as YAML has it.

    >>> print(yaml_text('a "b" \\ é \x07'))
    "a \"b\" \\ é \x07"
    """
    return f'"{"".join(map(_yaml_character, text))}"'


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


TARGET: Final = Target(
    name="yolo",
    doc="YOLO directory: labels/<image>.txt and data.yaml",
    about="labels/<title without suffix>.txt per data unit, and data.yaml with the names of all "
    "classes. All lines are boxes, or all are polygons of one part (option task). Masks "
    "cannot be polygons without a change of their area: they are written as their boxes, "
    "with task=segment as the four corners of these. Classifications are left out. Of "
    "labels, those to be ignored and crowds are left out; a data unit without any has an "
    "empty file; sizes.csv (name,width,height) stands beside them, for who has no images.",
    suffix="",
    write=_write,
    format="yolo",
    options=(
        Option(
            "task",
            "Whether lines are boxes or polygons; by default what most rows are. Masks are their "
            "boxes, with segment the corners of their boxes.",
            choices=("detect", "segment"),
        ),
    ),
)
