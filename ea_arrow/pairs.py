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
from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints

PAIRS_AT_ONCE = 1 << 16  # as many as stay in a core's cache; also the bound on memory


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

    def near(self, prediction: Ints, label: Ints, lowest: float) -> tuple[Ints, Floats]:
        """Return which pairs may reach an IoU, and what theirs does not exceed.

        Called from threads.
        """
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
        close, bound = shapes.near(repeated, label, lowest)
        return repeated[close], label[close], bound

    kept = each(near, _parts(n_labels))
    if not kept:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    bounded = Pairs(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    iou = shapes.exact(bounded)
    if iou is bounded.iou:
        return bounded
    found = Pairs(bounded.prediction, bounded.label, iou)
    return found.take(np.flatnonzero(iou >= lowest))


def best_labels(pairs: Pairs, arranged: Arranged) -> tuple[Ints, Floats]:
    """Return each prediction's label of highest IoU (N), −1 without, and the IoU (N), then 0.

    Of labels with equal IoU it is the one of lowest ``label_id``.
    """
    label, iou = np.full(len(arranged.row), -1), np.zeros(len(arranged.row))
    starts = run_starts(pairs.prediction)
    if not len(starts):
        return label, iou
    lengths = np.diff(starts, append=len(pairs))
    highest = np.maximum.reduceat(pairs.iou, starts)
    ids = arranged.label_id[pairs.label]
    ids[pairs.iou < np.repeat(highest, lengths)] = np.iinfo(np.int64).max
    is_best = ids == np.repeat(np.minimum.reduceat(ids, starts), lengths)
    label[pairs.prediction[starts]] = pairs.label[is_best]
    iou[pairs.prediction[starts]] = highest
    return label, iou


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
    """Boxes of predictions and labels in group order; :meth:`near` is exact already.

    Args:
        arranged: The order.
        predictions: Object predictions, in the order of their table.
        labels: Object labels, in the order of their table.
    """

    def __init__(self, arranged: Arranged, predictions: Any, labels: Any) -> None:
        self._boxes = _corners(predictions, arranged.row)
        self._truth = _corners(labels, arranged.label_row)
        self._is_crowd = arranged.is_crowd

    def near(self, prediction: Ints, label: Ints, lowest: float) -> tuple[Ints, Floats]:
        """Return which pairs reach an IoU, and theirs.

        In pycocotools' order of operations (``bbIou`` in maskApi.c): float64 gives the same bits.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # boxes of 1e160: infinite areas
            return self._near(prediction, label, lowest)

    def _near(self, prediction: Ints, label: Ints, lowest: float) -> tuple[Ints, Floats]:
        x, y, right, bottom, area = self._boxes
        label_x, label_y, label_right, label_bottom, label_area = self._truth
        # Most pairs lie apart: look at one side before the other, and at areas last.
        w = np.minimum(right[prediction], label_right[label])
        w -= np.maximum(x[prediction], label_x[label])
        kept = np.flatnonzero(w > 0)
        prediction, label, w = prediction[kept], label[kept], w[kept]
        h = np.minimum(bottom[prediction], label_bottom[label])
        h -= np.maximum(y[prediction], label_y[label])
        overlap = np.flatnonzero(h > 0)
        prediction, label, kept = prediction[overlap], label[overlap], kept[overlap]
        intersection, own = w[overlap] * h[overlap], area[prediction]
        union = np.where(self._is_crowd[label], own, own + label_area[label] - intersection)
        iou = np.zeros(len(kept))
        # A product of two tiny sides can be 0: such a pair counts as not overlapping.
        np.divide(intersection, union, out=iou, where=union > 0)
        reached = np.flatnonzero(iou >= lowest)
        return kept[reached], iou[reached]

    def exact(self, pairs: Pairs) -> Floats:
        """Return what :meth:`near` found."""
        return pairs.iou


def _corners(table: Any, rows: Ints) -> tuple[Floats, ...]:
    x, y, w, h = (table.column(name).to_numpy()[rows] for name in BOX)
    with np.errstate(over="ignore"):
        return x, y, w + x, h + y, w * h
