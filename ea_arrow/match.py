"""Matching predictions to labels: tables in, arrays or a MATCHES table out.

The candidates come from :mod:`ea_arrow.pairs`. :func:`match_pairs` finds what pycocotools' greedy
loop would, for all IoU thresholds and area ranges at once.

The greedy loop (each detection in score order takes its best free label) is the one stable matching
in which all labels rank detections alike, so it can be found in whole columns. A label whose
candidates have no other candidate label goes, at each threshold, to the first detection that
reaches it: the record-breaking IoUs in rank order. The rest is settled by deferred acceptance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ea_arrow.conform import conform
from ea_arrow.pairs import (
    PAIRS_AT_ONCE,
    Arranged,
    Bools,
    Floats,
    Ints,
    Pairs,
    arrange,
    beyond,
    box_ious,
    box_pairs,
    effective_thresholds,
    has_id_zero,
    run_starts,
    spread,
    stable_order,
)
from ea_arrow.schema import MATCHES


@dataclass(frozen=True)
class Matching:
    """Per area range, which pair (index into :class:`Pairs`) matched at which threshold (index)."""

    pair: tuple[Ints, ...]
    threshold: tuple[Ints, ...]


def match_pairs(
    pairs: Pairs, group: Ints, thresholds: Floats, ignored: Bools, is_crowd: Bools
) -> Matching:
    """Match greedily, as pycocotools does, at every threshold and in every area range.

    Args:
        pairs: The candidates, with IoU of at least ``thresholds[0]``.
        group: Group of each prediction (N).
        thresholds: IoU thresholds (T), ascending.
        ignored: For each area range and label (A, L), whether the label is neither hit nor miss.
        is_crowd: For each label (L), whether any number of predictions may match it.
    """
    reached = np.searchsorted(thresholds, pairs.iou, side="right")
    again = pairs.prediction[1:] == pairs.prediction[:-1]
    several = np.zeros(len(pairs.label), bool)
    several[1:] |= again
    several[:-1] |= again
    contested = np.zeros(len(is_crowd), bool)
    contested[pairs.label[several]] = True
    contested = contested[pairs.label]
    pair, threshold = _record_breakers(pairs, reached, np.flatnonzero(~contested), is_crowd)
    rows = np.flatnonzero(contested)
    settled = [
        _Bids(pairs, reached, some, group, ignored, is_crowd)
        for some in np.split(rows, _group_cuts(group[pairs.prediction[rows]]))
        if len(some)
    ]
    won = [[bids.won(area) for bids in settled] for area in range(len(ignored))]
    return Matching(
        tuple(np.concatenate([pair, *(more for more, _ in area)]) for area in won),
        tuple(np.concatenate([threshold, *(more for _, more in area)]) for area in won),
    )


def _group_cuts(group: Ints) -> Ints:
    """Return where to cut runs of equal values into parts of about ``PAIRS_AT_ONCE``."""
    starts = run_starts(group)
    after = np.searchsorted(starts, np.arange(PAIRS_AT_ONCE, len(group), PAIRS_AT_ONCE))
    return np.unique(starts[after[after < len(starts)]])


def _record_breakers(
    pairs: Pairs, reached: Ints, chosen: Ints, is_crowd: Bools
) -> tuple[Ints, Ints]:
    """Match uncontested labels: (pair, threshold) of each prediction that raises the best IoU.

    A prediction wins the thresholds that it reaches and no earlier one did; a crowd takes all.
    """
    label = pairs.label[chosen]
    chosen = chosen[stable_order((label, len(is_crowd)))]
    label, high = pairs.label[chosen], reached[chosen]
    floor = label * (int(high.max(initial=0)) + 1)  # keeps one label's maximum from the next
    before = np.append(-1, np.maximum.accumulate(floor + high))[:-1] - floor
    low = np.where(is_crowd[label], 0, np.maximum(before, 0))
    count = np.maximum(high - low, 0)
    return np.repeat(chosen, count), spread(low, count)


class _Bids:
    """Deferred acceptance among contested labels, at all thresholds and in all area ranges.

    Area ranges differ only by which labels come last. Where a group's contested labels are all
    ignored, or none, their order is by IoU alone: one variant (0) serves all such area ranges;
    variant a + 1 settles the groups in which area range a mixes both.
    """

    def __init__(
        self,
        pairs: Pairs,
        reached: Ints,
        chosen: Ints,
        group: Ints,
        ignored: Bools,
        is_crowd: Bools,
    ) -> None:
        prediction, label, iou = pairs.prediction[chosen], pairs.label[chosen], pairs.iou[chosen]
        starts = run_starts(group[prediction])
        flags = ignored[:, label]
        some = np.logical_or.reduceat(flags, starts, axis=1)
        every = np.logical_and.reduceat(flags, starts, axis=1)
        mixed = np.repeat(some & ~every, np.diff(starts, append=len(chosen)), axis=1)
        needed = np.concatenate([~mixed.all(axis=0, keepdims=True), mixed])
        last = np.concatenate([np.zeros((1, len(chosen)), bool), flags])
        variant, at = np.nonzero(needed)

        # Wishes of each prediction: labels that count first, then higher IoU, then later label.
        liking = np.empty(len(chosen), np.int64)
        liking[np.lexsort((-label, -iou))] = np.arange(len(chosen))
        wishes = stable_order(
            (variant, len(needed)),
            (prediction[at], len(group)),
            (last[variant, at].astype(np.int64), 2),
            (liking[at], len(chosen)),
        )
        variant, at = variant[wishes], at[wishes]
        count = reached[chosen][at]
        n_thresholds = int(count.max())
        threshold = spread(np.zeros_like(count), count)
        variant, at = np.repeat(variant, count), np.repeat(at, count)
        level = variant * n_thresholds + threshold
        levels = len(needed) * n_thresholds
        order = stable_order((level, levels), (prediction[at], len(group)))
        level, at = level[order], at[order]
        labels, seat = np.unique(label, return_inverse=True)
        seat = level * len(labels) + seat[at]
        bidder = level * len(group) + prediction[at]
        taken = _defer(run_starts(bidder), seat, is_crowd[label[at]])
        self._variant, self._threshold = np.divmod(level[taken], n_thresholds)
        self._at, self._pair, self._mixed = at[taken], chosen[at[taken]], mixed

    def won(self, area: int) -> tuple[Ints, Ints]:
        """Return (pair, threshold) of the matches in an area range."""
        wanted = np.where(self._mixed[area, self._at], area + 1, 0)
        mine = self._variant == wanted
        return self._pair[mine], self._threshold[mine]


def _defer(starts: Ints, seat: Ints, is_open: Bools) -> Ints:
    """Return the positions of accepted bids.

    Args:
        starts: Where each bidder's bids start; bidders in rank order, bids in order of liking.
        seat: What each bid is for.
        is_open: Whether the seat takes any number of bidders.
    """
    n_bidders = len(starts)
    bid = starts.copy()
    ends = np.append(starts[1:], len(seat))
    holder = np.full(int(seat.max()) + 1, n_bidders)
    free = np.arange(n_bidders)
    while len(free):
        free = free[~is_open[bid[free]]]
        wanted = seat[bid[free]]
        before = holder[wanted]
        better = np.flatnonzero(free < before)[::-1]
        holder[wanted[better]] = free[better]  # of several, the last written: the best rank
        held = holder[wanted] == free
        ousted = before[held]
        free = np.sort(np.concatenate([free[~held], ousted[ousted < n_bidders]]))
        bid[free] += 1
        free = free[bid[free] < ends[free]]
    return bid[bid < ends]


_HUNDRED = 100
_EVERY_AREA = np.array([[0.0, 1e10]])  # pycocotools' range "all"


def match_boxes(
    predictions: Any,
    labels: Any,
    data_units: Any,
    classes: Any,
    iou_threshold: float = 0.5,
    *,
    iteration: str = "",
    annotation_id_zero_counts: bool = False,
) -> pa.Table:
    """Match boxes as pycocotools does, in all sizes, 100 predictions per data unit and class.

    Args:
        predictions: Table in the shape of ``PREDICTIONS``, in order of ``prediction_id``.
        labels: Table in the shape of ``LABELS``, in order of ``label_id``.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``.
        iou_threshold: IoU from which a pair can match.
        iteration: What the result says in its column ``iteration``.
        annotation_id_zero_counts: Let a label whose id is 0 be found; pycocotools never does.

    Returns:
        A table in the shape of ``MATCHES``: the object predictions in their order, then the labels
        that count and were not found, in theirs.

    Raises:
        SchemaError: A prediction or label names a data unit or class that the tables lack.
    """
    arranged = arrange(predictions, labels, data_units, classes)
    thresholds = effective_thresholds(np.array([iou_threshold]))
    pairs = box_pairs(arranged, thresholds[0], _HUNDRED)
    ignored = arranged.is_ignored | beyond(arranged.label("area"), _EVERY_AREA)
    matching = match_pairs(pairs, arranged.group, thresholds, ignored, arranged.is_crowd)
    found = _Found(
        arranged=arranged,
        pairs=pairs,
        matched=matching.pair[0],
        ignored=ignored[0],
        unfindable=has_id_zero(arranged) & (not annotation_id_zero_counts),
        threshold=float(iou_threshold),
    )
    rows = pa.concat_tables([_prediction_rows(found), _missed_rows(found)])
    same = {"iteration": iteration, "protocol": "coco", "iou_threshold": found.threshold}
    for name, value in same.items():
        rows = rows.append_column(name, pa.repeat(value, len(rows)))
    return conform(rows, MATCHES)


@dataclass(frozen=True)
class _Found:
    """What :func:`match_boxes` found at one threshold: ``matched`` are indices into ``pairs``."""

    arranged: Arranged
    pairs: Pairs
    matched: Ints
    ignored: Bools
    unfindable: Bools
    threshold: float

    @property
    def bound(self) -> str:
        rounded = f"{self.threshold:.2f}"
        return rounded if float(rounded) == self.threshold else str(self.threshold)


def _prediction_rows(found: _Found) -> pa.Table:
    arranged, pairs = found.arranged, found.pairs
    pair = np.full(len(arranged.row), -1)
    pair[pairs.prediction[found.matched]] = found.matched
    label = np.append(pairs.label, -1)[pair]
    hit = label >= 0
    best = _best_ious(arranged)
    code = np.select(  # in the order of _verdicts
        [
            arranged.rank >= _HUNDRED,
            np.append(arranged.is_crowd, False)[label],
            np.append(found.ignored, False)[label],
            hit & ~np.append(found.unfindable, True)[label],
            beyond(arranged.prediction("area"), _EVERY_AREA)[0],
            hit,
            ~(best > 0),
            best >= found.threshold,
        ],
        list(range(8)),
        8 + np.floor(np.nan_to_num(best) * 100).clip(0, 99).astype(np.int64),
    )
    outcome, reason = zip(*_verdicts(found.bound), strict=True)
    back = np.argsort(arranged.row)  # group order → table order
    counts_as_match = hit & (code < 4)
    label_id = np.append(arranged.label("label_id"), -1)[label]
    iou = np.where(hit, np.append(pairs.iou, 0.0)[pair], best)[back]
    codes = pa.array(code[back])
    table = arranged.predictions
    return pa.table(
        {
            **_keys(table),
            "prediction_id": table.column("prediction_id"),
            "label_id": pa.array(label_id[back], mask=~counts_as_match[back]),
            "iou": pa.array(iou, mask=np.isnan(iou)),
            "confidence": table.column("confidence"),
            "outcome": pa.array(outcome).take(codes),
            "reason": pa.array(reason).take(codes),
        }
    )


def _verdicts(bound: str) -> list[tuple[str, str]]:
    """Return outcome and reason by code; from 8 on, one for each hundredth of the best IoU."""
    below = f"with a label of this class is below {bound}."
    return [
        ("ignored", "More than 100 predictions of the class in this data unit."),
        ("ignored", "Matched a crowd region."),
        ("ignored", "Matched a label that is to be ignored."),
        ("TP", "Matched label."),
        ("ignored", "No match, and the area is outside of the range that counts."),
        ("FP", "Matched a label whose id is 0, which pycocotools counts as no match."),
        ("FP", "No label of this class overlaps."),
        ("FP", "A label this prediction overlaps is already matched by a more confident one."),
        *(("FP", f"Best IoU {percent / 100:.2f} {below}") for percent in range(100)),
    ]


def _keys(table: Any) -> dict[str, Any]:
    names = ("data_hash", "frame", "feature_hash")
    return {name: table.column(name).cast(MATCHES.arrow.field(name).type) for name in names}


def _best_ious(arranged: Arranged) -> Floats:
    """Return the best IoU with a label of the group for each prediction (N), NaN without label."""
    best = np.full(len(arranged.row), np.nan)
    for prediction, _, iou in box_ious(arranged, len(arranged.row)):
        starts = run_starts(prediction)
        best[prediction[starts]] = np.maximum.reduceat(iou, starts)
    return best


def _missed_rows(found: _Found) -> pa.Table:
    arranged, pairs = found.arranged, found.pairs
    taken, reached = np.zeros((2, len(arranged.label_row)), bool)
    taken[pairs.label[found.matched]] = True
    reached[pairs.label] = True
    missed = np.flatnonzero(~found.ignored & (~taken | found.unfindable))
    missed = missed[np.argsort(arranged.label_row[missed])]
    reasons = [
        f"No prediction of this class reaches IoU {found.bound}.",
        f"Every prediction that reaches IoU {found.bound} matched another label.",
        "Matched, but its id is 0, which pycocotools counts as no match.",
    ]
    code = np.where(taken, 2, reached)[missed]
    table = arranged.labels.take(pa.array(arranged.label_row[missed]))
    return pa.table(
        {
            **_keys(table),
            "prediction_id": pa.nulls(len(table), pa.int64()),
            "label_id": table.column("label_id"),
            "iou": pa.nulls(len(table), pa.float64()),
            "confidence": pa.nulls(len(table), pa.float64()),
            "outcome": pa.repeat("FN", len(table)),
            "reason": pa.array(reasons).take(pa.array(code.astype(np.int64))),
        }
    )
