"""COCO: results JSON of predictions, instances JSON of labels.

Images and categories go by the ids that the project's source gave them. Where it gave none, or
none that COCO keeps in the same order, they are numbered from 1, and the ground truth that goes
with the numbers is written beside the results.

A results file says areas, which the size ranges of the metrics use, only in so far as it gives
boxes or none (pycocotools looks at the first result): beside a box the area is the box's. So boxes
are left out where all rows are masks whose areas and boxes are the masks' own: they come back the
same, here as in pycocotools.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import objects
from ea_arrow.exports.base import (
    Account,
    Subject,
    Target,
    floats,
    given,
    is_format,
    note_unsaid,
    pieces,
)
from ea_arrow.exports.text import append, joined, mask_counts, mask_field, number_texts, ring_texts
from ea_arrow.exports.units import unit_stems
from ea_arrow.ontology import id_order
from ea_arrow.schema import BOX, LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ea_arrow.arranged import Floats

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Ids:
    """Ids as JSON texts.

    Attributes:
        texts: One per data unit or class.
        own: Whether they are the source's, not made up.
    """

    texts: list[str]
    own: bool

    @classmethod
    def of(cls, source_ids: Sequence[str | None]) -> Ids:
        """Take the source's ids if COCO sorts them into the order they stand in, else numbers.

        >>> Ids.of(["7", "42"]).texts, Ids.of(["a", "b"]).texts, Ids.of(["b", "a"]).texts
        (['7', '42'], ['"a"', '"b"'], ['1', '2'])
        """
        known = [value for value in source_ids if value is not None]
        if len(known) == len(source_ids) > 0:
            numbers = [int(v) if _INTEGER.fullmatch(v) else v for v in known]
            for ids in (numbers, known):
                keys = [id_order(value) for value in ids]
                if all(a < b for a, b in pairwise(keys)):
                    return cls([json.dumps(value) for value in ids], True)
        return cls([str(i) for i in range(1, len(source_ids) + 1)], False)


class _Ids:
    """The ids of a project's images and categories."""

    def __init__(self, subject: Subject) -> None:
        self.units = Ids.of(subject.data_units["source_id"].to_pylist())
        self.classes = Ids.of(subject.object_classes["source_id"].to_pylist())
        self._subject = subject
        self._unit_texts = pa.array(self.units.texts, pa.string())
        self._class_texts = pa.array(self.classes.texts, pa.string())

    @property
    def own(self) -> bool:
        return self.units.own and self.classes.own

    def columns(self, batch: pa.RecordBatch) -> tuple[Any, ...]:
        """The beginning of each row, to be continued."""
        image = self._unit_texts.take(pa.array(self._subject.unit_of(batch)))
        category = self._class_texts.take(pa.array(self._subject.class_of(batch)))
        return '"image_id": ', image, ', "category_id": ', category


def _write(subject: Subject, folder: Path, name: str, account: Account) -> None:
    ids = _Ids(subject)
    if subject.is_labels:
        _write_instances(subject, ids, folder / name, account, subject.objects(account))
        return
    _write_results(subject, ids, folder / name, account)
    if not ids.own:
        truth = folder / f"{Path(name).stem}.ground_truth.json"
        labels = Account()
        table = objects(subject.store.labels())
        batches = (piece for batch in table.to_batches() for piece in pieces(batch))
        _write_instances(subject, ids, truth, labels, batches)
        account.note(f"labels written beside, as {truth.name}: the ids are new", labels.written)


def _write_results(subject: Subject, ids: _Ids, path: Path, account: Account) -> None:
    boxless = _boxes_are_the_masks_own(subject)
    before = b"[\n"
    for batch in subject.objects(account):
        account.written += batch.num_rows
        note_unsaid(batch, account)
        box = () if boxless else _box(batch)
        score = number_texts(batch.column("confidence"))
        parts = ("{", *ids.columns(batch), *box, ', "score": ', score, _segmentation(batch), "}")
        append(path, joined(*parts), before=before, separator=",\n")
        before = b",\n"
        if not boxless:
            account.note(_OTHER_AREAS, _area_differs(batch))
    append(path, pa.array([], pa.string()), before=b"\n]\n" if before != b"[\n" else b"[]\n")


_OTHER_AREAS: Final = (
    "masks and polygons whose area other programs take to be their box's, for size ranges"
)


def _boxes_are_the_masks_own(subject: Subject) -> bool:
    """Whether all rows are masks, each with its own area and box, and not all fill their boxes."""
    if not subject.formats or set(subject.formats) - {"classification"} != {"mask"}:
        return False
    differs = False
    for batch in subject.objects(Account()):
        own = np.stack([_numbers(mask_field(batch.column("mask"), n)) for n in _OF_MASK], axis=1)
        if not np.array_equal(own, floats(batch, *BOX, "area")):
            return False
        differs = differs or bool(_area_differs(batch).any())
    return differs


_OF_MASK: Final = ("x", "y", "w", "h", "area")


def _area_differs(batch: pa.RecordBatch) -> Any:
    x_y_w_h = floats(batch, *BOX)
    with np.errstate(over="ignore"):
        box_area = x_y_w_h[:, 2] * x_y_w_h[:, 3]
    return _numbers(batch.column("area")) != box_area


def _numbers(column: pa.Array) -> Floats:
    values: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _box(batch: pa.RecordBatch) -> tuple[Any, ...]:
    x, y, w, h = (number_texts(batch.column(name)) for name in BOX)
    return ', "bbox": [', x, ", ", y, ", ", w, ", ", h, "]"


def _segmentation(batch: pa.RecordBatch) -> pa.Array:
    """Masks and polygons, with the comma before them; nothing for boxes."""
    texts = pa.repeat(pa.scalar(""), batch.num_rows)
    is_mask = is_format(batch, "mask") & given(batch.column("mask"))
    if is_mask.any():
        masks = batch.column("mask")
        height, width = (mask_field(masks, n).cast(pa.string()) for n in ("height", "width"))
        # Of the characters of an RLE string JSON minds the backslash only.
        counts = pc.replace_substring(mask_counts(masks), "\\", "\\\\")
        parts = (', "segmentation": {"size": [', height, ", ", width, '], "counts": "', counts)
        texts = pc.if_else(
            pa.array(is_mask), joined(*(_filled(part) for part in parts), '"}'), texts
        )
    is_polygon = is_format(batch, "polygon") & given(batch.column("polygon"))
    if is_polygon.any():
        rings = joined(', "segmentation": ', ring_texts(batch.column("polygon")))
        texts = pc.if_else(pa.array(is_polygon), rings, texts)
    return texts


def _filled(part: Any) -> Any:
    return part.fill_null("") if isinstance(part, pa.Array) else part


# -- ground truth ------------------------------------------------------------------------------


def _write_instances(
    subject: Subject, ids: _Ids, path: Path, account: Account, batches: Any
) -> None:
    images = pa.array(_images(subject, ids), pa.string())
    categories = pa.array(_categories(subject, ids), pa.string())
    numbering = _Numbering(subject)
    append(path, images, before=b'{"images": [\n', separator=",\n")
    append(path, categories, before=b'\n],\n"categories": [\n', separator=",\n")
    before = b'\n],\n"annotations": [\n'
    for batch in batches:
        account.written += batch.num_rows
        note_unsaid(batch, account)
        append(path, _annotations(batch, ids, numbering, account), before=before, separator=",\n")
        before = b",\n"
    end = b"\n]}\n"
    append(path, pa.array([], pa.string()), before=end if before == b",\n" else before + end[1:])
    account.note("annotation ids made up: the labels have no whole numbers", numbering.made)


class _Numbering:
    """Ids of annotations: the source's where all are whole numbers, else from 1."""

    def __init__(self, subject: Subject) -> None:
        ids = subject.store.table(LABELS).read(["source_id"])["source_id"]
        whole = pc.match_substring_regex(ids, f"^({_INTEGER.pattern})$").fill_null(False)
        self.own = bool(pc.all(whole).as_py())
        self.made = 0

    def ids(self, batch: pa.RecordBatch) -> pa.Array:
        if self.own:
            return batch.column("source_id")
        self.made += batch.num_rows
        return pc.add(batch.column("label_id"), 1).cast(pa.string())


def _annotations(
    batch: pa.RecordBatch, ids: _Ids, numbering: _Numbering, account: Account
) -> pa.Array:
    crowd = pc.if_else(batch.column("is_crowd"), "1", "0")
    ignored = pc.and_not(batch.column("is_ignored"), batch.column("is_crowd"))
    account.note('labels to be ignored written as "ignore": 1, which pycocotools does not read',
                 pc.sum(ignored).as_py() or 0)  # fmt: skip
    return joined(
        *('{"id": ', numbering.ids(batch), ", ", *ids.columns(batch), *_box(batch)),
        *(', "area": ', number_texts(batch.column("area")), ', "iscrowd": ', crowd),
        *(pc.if_else(ignored, ', "ignore": 1', ""), _segmentation(batch), "}"),
    )


def _images(subject: Subject, ids: _Ids) -> list[str]:
    units = subject.data_units
    stems = unit_stems(units) if not ids.units.own else [None] * len(units)
    texts = []
    for key, stem, unit in zip(ids.units.texts, stems, units.to_pylist(), strict=True):
        more: dict[str, Any] = {"width": unit["width"], "height": unit["height"]}
        if stem is not None:
            more |= {"data_hash": unit["data_hash"], "frame": unit["frame"]}
        title = unit["title"]
        if stem is not None and (title is None or stem.endswith(f"__{unit['frame']}")):
            title = f"{stem}{Path(title or '').suffix}"
        more |= {"file_name": title} if title is not None else {}
        more |= {"coco_url": unit["uri"]} if unit["uri"] is not None else {}
        # Made from COCO, it is what else the image said; of other sources it is text.
        rest = _document(unit["metadata"]) if ids.units.own else unit["metadata"]
        rest = rest if isinstance(rest, dict) else {} if rest is None else {"metadata": rest}
        more = {name: value for name, value in rest.items() if name != "id"} | more
        texts.append(f'{{"id": {key}, {json.dumps(more)[1:]}')
    return texts


def _document(metadata: str | None) -> Any:
    try:
        return {} if metadata is None else json.loads(metadata)
    except ValueError:
        return metadata


def _categories(subject: Subject, ids: _Ids) -> list[str]:
    nodes = {n.get("featureNodeHash"): n for n in subject.store.ontology().document["objects"]}
    texts = []
    for key, row in zip(ids.classes.texts, subject.object_classes.to_pylist(), strict=True):
        more = {"name": row["name"]}
        above = nodes[row["feature_hash"]].get("supercategory")
        more |= {"supercategory": above} if isinstance(above, str) else {}
        texts.append(f'{{"id": {key}, {json.dumps(more)[1:]}')
    return texts


TARGET: Final = Target(
    name="coco",
    doc="COCO results JSON of predictions; COCO instances JSON of labels",
    about="Images and categories go by the ids that the ground truth gave them. Where it gave "
    "none, or none that COCO keeps in the same order, they are numbered from 1, and the labels "
    "are written beside the results, as <name>.ground_truth.json. Classifications are left out.",
    suffix=".json",
    write=_write,
    format="coco",
)
