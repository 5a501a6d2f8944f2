"""Candidate pairs of predictions and labels, with their IoU.

:func:`find_pairs` joins predictions and labels in group order on the group, or across classes on
the data unit, and keeps the pairs whose IoU reaches a bound. What an IoU is, a :class:`Shapes`
knows: boxes here, masks in :mod:`ea_arrow.masks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ea_arrow.arranged import run_starts, spread
from ea_arrow.parallel import each

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints

PAIRS_AT_ONCE = 1 << 16  # as many as stay in a core's cache; also the bound on memory
_BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


@dataclass(frozen=True)
class Pairs:
    """Pairs of a prediction and a label, as positions in group order, with their IoU.

    Sorted by prediction, then label.
    """

    prediction: Ints
    label: Ints
    iou: Floats

    def take(self, chosen: Ints | Bools) -> Pairs:
        """Return some of the pairs; positions must ascend."""
        return Pairs(self.prediction[chosen], self.label[chosen], self.iou[chosen])

    def __len__(self) -> int:
        return len(self.iou)


class Shapes(Protocol):
    """What pairs of predictions and labels are compared by."""

    def bounds(self, prediction: Ints, label: Ints) -> Floats:
        """Return a number that the IoU of each pair does not exceed; called from threads."""
        ...

    def exact(self, pairs: Pairs) -> Floats:
        """Return the IoU of pairs whose ``iou`` is a bound."""
        ...


def find_pairs(
    arranged: Arranged, shapes: Shapes, lowest: float, most: int, *, across: bool = False
) -> Pairs:
    """Return the pairs whose IoU is at least ``lowest``.

    Args:
        arranged: Predictions and labels in group order.
        shapes: Their shapes, in group order.
        lowest: The bound, above 0.
        most: Predictions of a group of this rank and beyond have no pairs.
        across: Compare with the labels of other classes in the data unit instead.
    """
    if across:
        key, label_key = arranged.unit, arranged.label_unit
    else:
        key, label_key = arranged.group, arranged.label_group
    prediction, first_label, n_labels = _join(key, label_key)
    within = arranged.rank[prediction] < most
    if not within.all():
        prediction, first_label, n_labels = (
            values[within] for values in (prediction, first_label, n_labels)
        )

    def near(part: tuple[int, int]) -> tuple[Ints, Ints, Floats]:
        begin, end = part
        n = n_labels[begin:end]
        label = spread(first_label[begin:end], n)
        repeated = np.repeat(prediction[begin:end], n)
        if across:
            other = np.flatnonzero(arranged.group[repeated] != arranged.label_group[label])
            repeated, label = repeated[other], label[other]
        bound = shapes.bounds(repeated, label)
        close = np.flatnonzero(bound >= lowest)
        return repeated[close], label[close], bound[close]

    kept = each(near, _parts(n_labels))
    if not kept:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    bounded = Pairs(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    iou = shapes.exact(bounded)
    if iou is bounded.iou:
        return bounded
    found = Pairs(bounded.prediction, bounded.label, iou)
    return found.take(np.flatnonzero(iou >= lowest))


def _join(key: Ints, label_key: Ints) -> tuple[Ints, Ints, Ints]:
    """Return predictions that share their key with labels, the first of these and how many."""
    first_label = run_starts(label_key)
    n_labels = np.diff(first_label, append=len(label_key))
    keys = label_key[first_label]
    first = np.searchsorted(key, keys)
    count = np.searchsorted(key, keys, side="right") - first
    return spread(first, count), np.repeat(first_label, count), np.repeat(n_labels, count)


def _parts(counts: Ints) -> list[tuple[int, int]]:
    """Cut into ranges whose counts add up to about ``PAIRS_AT_ONCE``."""
    ends = np.cumsum(counts)
    cuts = np.arange(0, ends[-1] if len(ends) else 0, PAIRS_AT_ONCE)
    bounds = np.append(np.searchsorted(ends, cuts, side="right"), len(ends)).tolist()
    return list(pairwise(bounds))


class Boxes:
    """Boxes of predictions and labels in group order, whose bounds are exact.

    Args:
        arranged: The order.
        predictions: Object predictions, in the order of their table.
        labels: Object labels, in the order of their table.
    """

    def __init__(self, arranged: Arranged, predictions: Any, labels: Any) -> None:
        self._boxes = _corners(predictions, arranged.row)
        self._truth = _corners(labels, arranged.label_row)
        self._is_crowd = arranged.is_crowd

    def bounds(self, prediction: Ints, label: Ints) -> Floats:
        """Return the IoU in pycocotools' order of operations (``bbIou`` in maskApi.c)."""
        x, y, right, bottom, area = (values[prediction] for values in self._boxes)
        label_x, label_y, label_right, label_bottom, label_area = (
            values[label] for values in self._truth
        )
        w = np.minimum(right, label_right) - np.maximum(x, label_x)
        h = np.minimum(bottom, label_bottom) - np.maximum(y, label_y)
        overlap = (w > 0) & (h > 0)
        intersection = w * h
        union = np.where(self._is_crowd[label], area, area + label_area - intersection)
        iou = np.zeros(len(w))
        # A product of two tiny sides can be 0: such a pair counts as not overlapping.
        np.divide(intersection, union, out=iou, where=overlap & (union > 0))
        return iou

    def exact(self, pairs: Pairs) -> Floats:
        """Return what :meth:`bounds` found."""
        return pairs.iou


def _corners(table: Any, rows: Ints) -> tuple[Floats, ...]:
    x, y, w, h = (table.column(name).to_numpy()[rows] for name in _BOX)
    return x, y, w + x, h + y, w * h
