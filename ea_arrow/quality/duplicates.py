"""Objects that may be one object twice: the highest IoU with another of the same class."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ea_arrow.arranged import run_starts, stable_order
from ea_arrow.masks import MaskColumn, Masks
from ea_arrow.pairs import Pairs, best_labels
from ea_arrow.quality.declared import Metric
from ea_arrow.quality.density import drawn, is_box, is_lost
from ea_arrow.quality.geometry import Side, arranged_for, overlapping, remembered

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.quality.geometry import Joined
    from ea_arrow.quality.objects import Objects

_PAIRS_AT_ONCE = 1 << 16
_ANY = float(np.finfo(np.float64).tiny)  # any overlap at all


def object_duplicates(objects: Objects) -> Floats:
    """Return the highest IoU with another object of the class in the data unit, shape (n,).

    Of two masks, polygons or rotated boxes it is that of their pixels, drawn as evaluation of masks
    draws them (parts of a polygon together); of any other two, that of their enclosing boxes, in
    real numbers. 0 where there is no other, or none that overlaps. From 0.6 on, Encord Active
    called two objects possible duplicates.
    """
    return remembered(objects, "_duplicates", _duplicates)[1].copy()


def duplicate_partners(objects: Objects) -> Ints:
    """Return the id of the object with that highest IoU, shape (n,); −1 where that is 0.

    Of several the one of lowest id.
    """
    row = remembered(objects, "_duplicates", _duplicates)[0]
    found = row >= 0
    partner = np.full(len(objects), -1)
    partner[found] = objects.ids[row[found]]
    return partner


def _duplicates(objects: Objects) -> tuple[Ints, Floats]:
    """Return the row of each object's partner (n), −1 without, and their IoU (n)."""
    row, iou = np.full(len(objects), -1), np.zeros(len(objects))
    n_classes = int(objects.klass.max(initial=-1)) + 2
    key = objects.unit * n_classes + objects.klass + 1
    order = stable_order((key, len(objects.units) * n_classes))
    in_pixels = ~(is_box(objects) | is_lost(objects))
    for joined in overlapping(objects, Side(order, key[order]), None, _ANY):
        pairs = _both_ways(_with_masks(objects, joined, in_pixels))
        best, highest = best_labels(pairs, joined.arranged)
        mine = joined.arranged.row
        row[mine] = np.where(best >= 0, mine[best], -1)
        iou[mine] = highest
    return row, iou


def _with_masks(objects: Objects, joined: Joined, in_pixels: Bools) -> Pairs:
    """Return the pairs with the IoU of their pixels, where both have pixels; without those of 0."""
    arranged, pairs = joined.arranged, joined.pairs
    chosen = np.flatnonzero(in_pixels[joined.first] & in_pixels[joined.second])
    if not len(chosen):
        return pairs
    iou = pairs.iou.copy()
    # Pairs are in order of their data unit and class: cut where that changes.
    starts = run_starts(arranged.group[pairs.prediction[chosen]])
    cuts = [*starts[run_starts(starts // _PAIRS_AT_ONCE)].tolist(), len(chosen)]
    for begin, end in pairwise(cuts):
        part = chosen[begin:end]
        one, other = pairs.prediction[part], pairs.label[part]
        occurs = np.zeros(len(arranged.row), bool)
        occurs[one] = occurs[other] = True
        place = np.cumsum(occurs) - 1
        found, both = _mask_ious(objects, arranged.row[occurs], place[one], place[other])
        iou[part[both]] = found[both]
    return Pairs(pairs.prediction, pairs.label, iou).take(np.flatnonzero(iou > 0))


def _mask_ious(objects: Objects, rows: Ints, one: Ints, other: Ints) -> tuple[Floats, Bools]:
    """Return the IoU in pixels of pairs of ``rows``, and which of them could be drawn."""
    masks, is_drawn = drawn(objects, rows)
    column = MaskColumn.of(pa.chunked_array([masks]))
    here = Side(np.arange(len(rows)), objects.unit[rows])
    arranged = arranged_for(objects, here, here)
    compared = Masks(arranged, column, column)
    pairs = Pairs(one, other, compared.bounds(one, other))
    iou = np.zeros(len(one))
    close = np.flatnonzero(pairs.iou)  # the bound: only what can overlap is for the C code
    if len(close):
        iou[close] = compared.exact(pairs.take(close))
    same_size = column.height[one] == column.height[other]
    same_size &= column.width[one] == column.width[other]
    return iou, is_drawn[one] & is_drawn[other] & same_size


def _both_ways(pairs: Pairs) -> Pairs:
    """Return each pair from both its ends, sorted."""
    first = np.concatenate([pairs.prediction, pairs.label])
    second = np.concatenate([pairs.label, pairs.prediction])
    iou = np.concatenate([pairs.iou, pairs.iou])
    size = int(first.max(initial=0)) + 1
    order = stable_order((first, size), (second, size))
    return Pairs(first[order], second[order], iou[order])


METRICS: Final = (
    Metric(
        "object_duplicates",
        "Annotation Duplicates",
        ("prediction", "label"),
        ("geometry", "shape"),
        "Highest IoU with another object of the same class in the data unit; 0.6 and more may be "
        "one object twice. Of masks and polygons by their pixels, else of boxes.",
        "Encord Active",
        "high",
        object_duplicates,
    ),
)
