"""The four files from which Encord Active showed predictions.

``predictions.csv`` has the objects by falling confidence, ``labels.csv`` those of the ground truth;
both name data units and classes by numbers, the latter as ``class_idx.json`` says.
``ground_truths_matched.json`` has, by class and data unit, each label with the predictions that
overlap it more than any other label, the most confident ones first. Masks are runs of rows, as a
Python dictionary. Encord Active's hash of the label row, where the project knows it, is part of
every identifier.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import objects, run_starts, stable_order
from ea_arrow.cache import Cache
from ea_arrow.candidates import ANY_OVERLAP, find_candidates
from ea_arrow.derived import Results
from ea_arrow.errors import ExportError
from ea_arrow.exports.base import (
    Account,
    Subject,
    Target,
    floats,
    is_format,
    pieces,
)
from ea_arrow.exports.shapes import row_major_runs
from ea_arrow.exports.text import append, joined, listed, number_texts
from ea_arrow.inputs import Reader
from ea_arrow.pairs import best_labels
from ea_arrow.rasterise import with_masks
from ea_arrow.schema import BOX
from ea_arrow.store import DERIVED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.arranged import Floats, Ints

PREDICTIONS: Final = "predictions.csv"
LABELS: Final = "labels.csv"
MATCHED: Final = "ground_truths_matched.json"
CLASSES: Final = "class_idx.json"

_LABEL: Final = ",identifier,url,img_id,class_id,x1,y1,x2,y2,rle,theta"
_EVERY: Final = 2**31
_GREY: Final = "#808080"
_LINES: Final = 65_536


def _write(subject: Subject, folder: Path, name: str, account: Account) -> None:
    del name
    rows = _Rows(subject)
    matched = _Matched(subject)
    (folder / CLASSES).write_text(json.dumps(_class_index(subject)), encoding="utf-8")
    _write_labels(subject, rows, folder / LABELS, account)
    _write_predictions(subject, rows, matched, folder, account)
    _write_matched(matched, folder / MATCHED)


def _class_index(subject: Subject) -> dict[str, Any]:
    return {
        str(i): {
            "featureHash": row["feature_hash"],
            "name": row["name"],
            "color": row["color"] or _GREY,
        }
        for i, row in enumerate(subject.object_classes.to_pylist())
    }


class _Matched:
    """Which label each object overlaps most, in the order of the files.

    Attributes:
        order: Positions of the object predictions by falling confidence (N).
        iou: IoU of each with that label, 0 without (N), in the order of the iteration.
        label: Position of the label, −1 without (N), in the same order.
        label_class, label_unit: Class and data unit of each label (L).
    """

    def __init__(self, subject: Subject) -> None:
        iteration = subject.source
        if iteration is None:
            raise ExportError("Encord Active's directory holds predictions beside labels.")
        results = Results(subject.store, cache=False)
        reader = Reader(subject.store, Cache(subject.store.folder / DERIVED, enabled=False))
        kind = results.iou_type(iteration)
        if kind == "bbox":
            inputs = reader.boxes(iteration)
        else:
            keys = results.fingerprint(iteration), results.fingerprint(None)
            inputs = reader.masks(iteration, *keys)
        found = find_candidates(
            *inputs.tables, iou_type=kind, lowest=ANY_OVERLAP, most=_EVERY, masks=inputs.masks
        )
        a = found.arranged
        best, iou = best_labels(found.pairs, a)
        self.iou, self.label = np.zeros(len(a.row)), np.full(len(a.row), -1)
        self.iou[a.row] = iou
        self.label[a.row] = np.append(a.label_row, -1)[best]
        confidence = np.zeros(len(a.row))
        confidence[a.row] = a.confidence
        self.order: Ints = np.argsort(-confidence, kind="stable")
        self.label_class, self.label_unit = (np.zeros(len(a.label_row), np.int64) for _ in range(2))
        self.label_class[a.label_row] = a.label_class
        self.label_unit[a.label_row] = a.label_unit


class _Rows:
    """What rows of both files have in common."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        prefixes, urls = [], []
        for unit in subject.data_units.to_pylist():
            row = _label_hash(unit["metadata"]) or unit["data_hash"]
            prefixes.append(f"{row}_{unit['data_hash']}_{unit['frame']:05d}_")
            urls.append(unit["uri"] or unit["title"] or unit["data_hash"])
        self._prefixes, self._urls = pa.array(prefixes, pa.string()), _quoted(urls)

    def lines(self, batch: pa.RecordBatch, hashes: list[str]) -> pa.Array:
        """The columns from ``identifier`` to ``theta``."""
        positions = self._subject.unit_of(batch)
        unit = pa.array(positions)
        identifier = joined(self._prefixes.take(unit), pa.array(hashes, pa.string()))
        quoted = joined('"', pc.replace_substring(identifier, '"', '""'), '",')
        numbers = [
            unit.cast(pa.string()),
            pa.array(self._subject.class_of(batch)).cast(pa.string()),
        ]
        box = floats(batch, *BOX)
        corners = np.concatenate((box[:, :2], box[:, :2] + box[:, 2:]), axis=1)
        parts = [*numbers, *map(number_texts, corners.T), self._runs(batch), _theta(batch)]
        columns = [part for column in parts for part in (",", column)]
        return joined(quoted, self._urls.take(unit), *columns)

    def _runs(self, batch: pa.RecordBatch) -> pa.Array:
        """Masks, and polygons drawn as masks; nothing for boxes."""
        has_shape = is_format(batch, "mask", "polygon")
        texts = pa.repeat(pa.scalar(""), batch.num_rows)
        if not has_shape.any():
            return texts
        some = pa.Table.from_batches([batch.filter(pa.array(has_shape))])
        masks = with_masks(some, self._subject.data_units)["mask"].combine_chunks()
        sizes = zip(
            masks.field("height").to_pylist(), masks.field("width").to_pylist(), strict=True
        )
        written = [
            f"\"{{'size': [{height}, {width}], 'counts': {runs.tolist()}}}\""
            for (height, width), runs in zip(sizes, row_major_runs(masks), strict=True)
        ]
        return pc.replace_with_mask(texts, pa.array(has_shape), pa.array(written, pa.string()))


def _label_hash(metadata: str | None) -> str | None:
    try:
        found = json.loads(metadata or "{}")
    except ValueError:
        return None
    value = found.get("label_hash") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def _quoted(texts: list[str]) -> pa.Array:
    return pa.array(['"' + text.replace('"', '""') + '"' for text in texts], pa.string())


def _theta(batch: pa.RecordBatch) -> pa.Array:
    theta = batch.column("theta")
    return pc.if_else(theta.is_valid(), number_texts(theta.fill_null(0)), "")


def object_hash(number: int) -> str:
    """A hash such as Encord's, eight characters, of a row's number.

    >>> object_hash(1)
    'AAAAAAAB'
    """
    return b64encode(number.to_bytes(6, "big")).decode()


def _write_labels(subject: Subject, rows: _Rows, path: Path, account: Account) -> None:
    append(path, pa.array([_LABEL]))
    first = 0
    for batch in objects(subject.store.labels()).to_batches():
        for piece in pieces(batch):
            ids = zip(
                piece.column("label_id").to_pylist(),
                piece.column("source_id").to_pylist(),
                strict=True,
            )
            hashes = [source_id or object_hash(number) for number, source_id in ids]
            numbers = pa.array(np.arange(first, first + len(hashes))).cast(pa.string())
            append(path, joined("\n", numbers, ",", rows.lines(piece, hashes)), separator="")
            first += len(hashes)
            special = pc.or_(piece.column("is_crowd"), piece.column("is_ignored"))
            account.note(_ORDINARY, pc.sum(special).as_py() or 0)
    account.note("labels written beside, as labels.csv", first)
    append(path, pa.array(["\n"]))


_ORDINARY: Final = "crowds and labels to be ignored written as ordinary labels: it has no others"


def _write_predictions(
    subject: Subject, rows: _Rows, matched: _Matched, folder: Path, account: Account
) -> None:
    """Write the rows in their own order, then gather them by confidence."""
    unsorted, lengths = folder / f"{PREDICTIONS}.unsorted", [np.zeros(1, np.int64)]
    unsorted.touch()
    for batch in subject.objects(account):
        hashes = [object_hash(number) for number in batch.column("prediction_id").to_pylist()]
        confidence = number_texts(batch.column("confidence"))
        iou = number_texts(matched.iou[account.written : account.written + batch.num_rows])
        lines = joined(rows.lines(batch, hashes), ",", confidence, ",", iou, "\n")
        append(unsorted, lines, separator="")
        lengths.append(pc.binary_length(lines).to_numpy().astype(np.int64))
        account.written += batch.num_rows
        _note(batch, account)
    append(folder / PREDICTIONS, pa.array([f"{_LABEL},confidence,iou\n"]))
    for lines in _gathered(unsorted, np.cumsum(np.concatenate(lengths)), matched.order):
        append(folder / PREDICTIONS, lines, separator="")
    unsorted.unlink()


def _note(batch: pa.RecordBatch, account: Account) -> None:
    account.note("track ids left out", batch.num_rows - batch.column("track_id").null_count)
    account.note("polygons drawn as masks", is_format(batch, "polygon"))


def _gathered(path: Path, ends: Ints, order: Ints) -> Iterator[pa.Array]:
    """Lines of a file, of which the system keeps in memory what it likes, in another order."""
    if not len(order):
        return
    data = pa.py_buffer(np.memmap(path, np.uint8, "r"))
    lines = pa.Array.from_buffers(
        pa.large_string(), len(ends) - 1, [None, pa.py_buffer(ends.astype(np.int64)), data]
    )
    for start in range(0, len(order), _LINES):
        some = order[start : start + _LINES]
        for begin, end in _parts(np.diff(ends)[some]):
            numbers = pa.array(np.arange(start + begin, start + end)).cast(pa.string())
            texts = lines.take(pa.array(some[begin:end])).cast(pa.string())
            yield joined(numbers, ",", texts)


def _parts(lengths: Ints) -> Iterator[tuple[int, int]]:
    """Cut into ranges of about as many bytes as are written at once."""
    starts = run_starts(np.cumsum(lengths) >> 26).tolist()
    yield from zip(starts, [*starts[1:], len(lengths)], strict=True)


def _write_matched(matched: _Matched, path: Path) -> None:
    """Write ``{class: {data unit: [{lidx, pidxs}, …]}}``."""
    place: Ints = np.empty(len(matched.order), np.int64)
    place[matched.order] = np.arange(len(matched.order))  # position → line in the file
    n_labels = len(matched.label_class)
    ordered = place[matched.order]
    best = matched.label[matched.order]
    kept = np.flatnonzero(best >= 0)
    by_label = kept[stable_order((best[kept], max(n_labels, 1)))] if len(kept) else kept
    counts = np.bincount(best[kept], minlength=n_labels) if n_labels else np.zeros(0, np.int64)
    found = listed(_integers(ordered[by_label]), counts, ", ")
    entries = joined('{"lidx": ', _integers(np.arange(n_labels)), ', "pidxs": [', found, "]}")
    klass, unit = matched.label_class, matched.label_unit
    order = np.lexsort((unit, klass))
    klass, unit = klass[order], unit[order]
    starts = np.flatnonzero((np.diff(klass, prepend=-1) != 0) | (np.diff(unit, prepend=-1) != 0))
    lists = listed(entries.take(pa.array(order)), np.diff(starts, append=n_labels), ", ")
    images = joined('"', _integers(unit[starts]), '": [', lists, "]")
    heads = run_starts(klass[starts])
    grouped = listed(images, np.diff(heads, append=len(starts)), ", ")
    texts = joined('"', _integers(klass[starts][heads]), '": {', grouped, "}")
    append(path, texts, before=b"{", separator=",\n")
    append(path, pa.array(["}\n"]))


def _integers(values: Ints | Floats) -> pa.Array:
    return pa.array(values, pa.int64()).cast(pa.string())


TARGET: Final = Target(
    name="encord",
    doc="Encord Active's directory of predictions: two CSV and two JSON files, labels included",
    about="The four files from which Encord Active shows predictions: predictions.csv and "
    "labels.csv, an object a row; ground_truths_matched.json, which predictions each label "
    "has; class_idx.json, the classes. These are no label rows. Classifications are left out.",
    suffix="",
    write=_write,
    format=None,
    labels=False,
)
