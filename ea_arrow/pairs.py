"""Candidate pairs of predictions and labels, with their IoU.

:func:`arrange` encodes predictions and labels and puts them into *group order*: by (data unit,
class), predictions then by falling confidence and arrival, labels by ``label_id``.
:func:`box_pairs` joins both on the group and keeps the pairs whose IoU reaches a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ea_arrow.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PAIRS_AT_ONCE = 1 << 16  # as many as stay in a core's cache; also the bound on memory
_BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
_KEY = ("data_hash", "frame", "feature_hash", "format", *_BOX, "area")


@dataclass(frozen=True)
class Arranged:
    """Object predictions (N) and labels (L) in group order; ``row`` leads back to the tables.

    ``predictions`` and ``labels`` are the tables without classifications and without columns that
    matching does not read. ``group`` is data unit * number of classes + class. ``rank`` counts from
    0 within a group; ``score_rank`` is dense over all predictions, 0 for the highest confidence.
    """

    predictions: Any
    labels: Any
    n_classes: int
    row: Ints
    group: Ints
    klass: Ints
    rank: Ints
    score_rank: Ints
    label_row: Ints
    label_group: Ints
    is_crowd: Bools
    is_ignored: Bools

    def prediction(self, name: str) -> Any:
        """Return a column of the predictions in group order."""
        return self.predictions.column(name).to_numpy()[self.row]

    def label(self, name: str) -> Any:
        """Return a column of the labels in group order."""
        return self.labels.column(name).to_numpy()[self.label_row]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a prediction and a label of its group, as positions in group order, with IoU.

    Sorted by prediction, then label.
    """

    prediction: Ints
    label: Ints
    iou: Floats


def stable_order(*keys: tuple[Ints, int]) -> Ints:
    """Return the stable ascending order by ``keys``, each given with its number of values.

    Keys and position are packed into one integer, because NumPy sorts integers several times
    faster than it sorts indices, or by several columns.
    """
    size = len(keys[0][0])
    widths = [max(int(values) - 1, 0).bit_length() for _, values in keys]
    position = max(size - 1, 0).bit_length()
    if sum(widths) + position > 63:
        first = keys[0][0]
        if len(keys) == 1:
            return np.argsort(first, kind="stable")
        later = stable_order(*keys[1:])
        return later[stable_order((first[later], keys[0][1]))]
    packed = np.zeros(size, np.int64)
    for (key, _), width in zip(keys, widths, strict=True):
        packed <<= width
        packed |= key
    packed <<= position
    packed |= np.arange(size)
    packed.sort()
    packed &= (1 << position) - 1
    return packed


def spread(start: Ints, count: Ints) -> Ints:
    """Return the ranges ``start[i] … start[i] + count[i] − 1``, one after the other.

    >>> spread(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - ends + count, count)


def run_starts(key: Ints) -> Ints:
    """Return where each run of equal values starts.

    >>> run_starts(np.array([3, 3, 7])).tolist()
    [0, 2]
    """
    if not len(key):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])


def arrange(predictions: Any, labels: Any, data_units: Any, classes: Any) -> Arranged:
    """Encode object predictions and labels and put them into group order.

    Args:
        predictions: Table in the shape of ``PREDICTIONS``, in order of ``prediction_id``.
        labels: Table in the shape of ``LABELS``, in order of ``label_id``.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes.

    Raises:
        SchemaError: A prediction or label names a data unit or class that the tables lack.
    """
    predictions = _objects(predictions, ("prediction_id", "confidence"))
    labels = _objects(labels, ("label_id", "is_crowd", "is_ignored", "source_id"))
    known = classes.filter(pc.equal(classes.column("kind"), "object")).column("feature_hash")
    n_classes = len(known)
    n_groups = n_classes * len(data_units)

    klass = _class_codes(predictions, known, "prediction")
    group = _unit_codes(predictions, data_units, "prediction") * n_classes + klass
    score_rank = _falling_rank(predictions.column("confidence").to_numpy())
    row = stable_order((group, n_groups), (score_rank, len(score_rank)))
    group = group[row]
    starts = run_starts(group)
    rank = np.arange(len(row)) - np.repeat(starts, np.diff(starts, append=len(row)))

    label_group = _unit_codes(labels, data_units, "label") * n_classes
    label_group += _class_codes(labels, known, "label")
    label_row = stable_order((label_group, n_groups))
    crowd = labels.column("is_crowd").to_numpy()[label_row]
    return Arranged(
        predictions=predictions,
        labels=labels,
        n_classes=n_classes,
        row=row,
        group=group,
        klass=klass[row],
        rank=rank,
        score_rank=score_rank[row],
        label_row=label_row,
        label_group=label_group[label_row],
        is_crowd=crowd,
        is_ignored=crowd | labels.column("is_ignored").to_numpy()[label_row],
    )


def _objects(table: Any, extra: tuple[str, ...]) -> Any:
    table = table.select([*_KEY, *extra])
    if table.num_rows == 0:
        return table
    is_object = pc.not_equal(table.column("format"), "classification")
    return table if pc.all(is_object).as_py() else table.filter(is_object)


def _class_codes(table: Any, known: Any, what: str) -> Ints:
    codes = _positions(table.column("feature_hash"), known)
    if len(codes) and codes.min() < 0:
        lost = table.column("feature_hash")[int(codes.argmin())].as_py()
        message = f"{(codes < 0).sum()} {what}(s) name a class that is no object: '{lost}' first."
        raise SchemaError(message)
    return codes


def _unit_codes(table: Any, data_units: Any, what: str) -> Ints:
    codes = _positions(table.column("data_hash"), data_units.column("data_hash"))
    frame = table.column("frame").to_numpy()
    frames = data_units.column("frame").to_numpy()
    if frames.any() or frame.any():
        # The first row of a data_hash stands for it; with the frame it makes one integer.
        first = _positions(data_units.column("data_hash"), data_units.column("data_hash"))
        width = int(max(frames.max(initial=0), frame.max(initial=0))) + 1
        keys = first * width + frames
        order = np.argsort(keys)
        wanted = np.where((codes < 0) | (frame < 0), -1, codes * width + frame)
        found = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(order) - 1)]
        codes = np.where(keys[found] == wanted, found, -1)
    if len(codes) and codes.min() < 0:
        lost = int(codes.argmin())
        unit = f"'{table.column('data_hash')[lost].as_py()}' frame {frame[lost]}"
        message = f"{(codes < 0).sum()} {what}(s) name an unknown data unit: {unit} first."
        raise SchemaError(message)
    return codes


def _positions(values: Any, known: Any) -> Ints:
    """Return the position of each value in ``known``, −1 where it is not there."""
    if values.type != known.type:
        values = values.cast(known.type)
    codes: Ints = pc.index_in(values, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _falling_rank(score: Floats) -> Ints:
    order = np.argsort(score)
    rank = np.empty(len(score), np.int64)
    ordered = score[order]
    rank[order] = np.append(0, np.cumsum(ordered[1:] != ordered[:-1]))[: len(score)]
    falling: Ints = rank.max(initial=0) - rank
    return falling


def effective_thresholds(iou_thresholds: Floats) -> Floats:
    """Return the IoU that a pair must reach: pycocotools lowers a threshold of 1 by 1e-10."""
    return np.minimum(iou_thresholds, 1 - 1e-10)


def beyond(area: Floats, ranges: Floats) -> Bools:
    """Return whether each area is outside of each range (A, N); both ends belong to a range."""
    outside: Bools = (area < ranges[:, :1]) | (area > ranges[:, 1:])
    return outside


def has_id_zero(arranged: Arranged) -> Bools:
    """Return which labels have the source id 0, which pycocotools takes for "not matched" (L)."""
    zero = pc.equal(arranged.labels.column("source_id"), "0").fill_null(False)
    flags: Bools = zero.to_numpy()[arranged.label_row]
    return flags


def box_pairs(arranged: Arranged, lowest: float, max_detections: int) -> Pairs:
    """Return the pairs whose box IoU is at least ``lowest``.

    Args:
        arranged: Predictions and labels in group order.
        lowest: The bound; pairs that do not overlap have IoU 0.
        max_detections: Predictions of a group beyond this rank have no pairs.
    """
    kept: list[tuple[Ints, Ints, Floats]] = []
    for prediction, label, iou in box_ious(arranged, max_detections):
        near = np.flatnonzero(iou >= lowest)
        kept.append((prediction[near], label[near], iou[near]))
    if not kept:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    columns = [np.concatenate(column) for column in zip(*kept, strict=True)]
    return Pairs(*columns)


def box_ious(arranged: Arranged, max_detections: int) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield all pairs of the same group with their IoU, at most about ``PAIRS_AT_ONCE`` a time."""
    first_label = run_starts(arranged.label_group)
    n_labels = np.diff(first_label, append=len(arranged.label_group))
    groups = arranged.label_group[first_label]
    first = np.searchsorted(arranged.group, groups)
    count = np.searchsorted(arranged.group, groups, side="right") - first
    count = np.minimum(count, max_detections)
    prediction = spread(first, count)
    n_labels, first_label = np.repeat(n_labels, count), np.repeat(first_label, count)
    row = arranged.row[prediction]
    given = [arranged.predictions.column(name).to_numpy()[row] for name in _BOX]
    boxes = _corners(*given)
    truth = _corners(*(arranged.label(name) for name in _BOX))

    ends = np.cumsum(n_labels)
    cuts = np.arange(0, ends[-1] if len(ends) else 0, PAIRS_AT_ONCE)
    bounds = np.append(np.searchsorted(ends, cuts, side="right"), len(ends))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        n = n_labels[begin:end]
        label = spread(first_label[begin:end], n)
        repeated = [np.repeat(values[begin:end], n) for values in boxes]
        taken = [values[label] for values in truth]
        iou = _box_iou(repeated, taken, arranged.is_crowd[label])
        yield np.repeat(prediction[begin:end], n), label, iou


def _corners(x: Floats, y: Floats, w: Floats, h: Floats) -> tuple[Floats, ...]:
    return x, y, w + x, h + y, w * h


def _box_iou(box: list[Floats], truth: list[Floats], is_crowd: Bools) -> Floats:
    """Return the IoU in pycocotools' order of operations (``bbIou`` in maskApi.c)."""
    w = np.minimum(box[2], truth[2]) - np.maximum(box[0], truth[0])
    h = np.minimum(box[3], truth[3]) - np.maximum(box[1], truth[1])
    overlap = (w > 0) & (h > 0)
    intersection = w * h
    union = np.where(is_crowd, box[4], box[4] + truth[4] - intersection)
    iou = np.zeros(len(w))
    # A product of two tiny sides can be 0: such a pair counts as not overlapping.
    np.divide(intersection, union, out=iou, where=overlap & (union > 0))
    return iou
