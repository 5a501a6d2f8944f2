"""Matching predictions to labels greedily, in whole columns.

The candidates come from :mod:`ea_arrow.pairs`. :func:`match_pairs` finds what pycocotools' greedy
loop would, for all IoU thresholds and area ranges at once.

The greedy loop (each detection in score order takes its best free label) is the one stable matching
in which all labels rank detections alike, so it can be found in whole columns. A label whose
candidates have no other candidate label goes, at each threshold, to the first detection that
reaches it: the record-breaking IoUs in rank order. The rest is settled by deferred acceptance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ea_arrow.arranged import falling_rank, run_starts, spread, stable_order
from ea_arrow.parallel import each, together

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.pairs import Pairs


PAIRS_AT_ONCE = 1 << 13  # contested pairs become some 25 times as many bids


@dataclass(frozen=True)
class Matching:
    """Per area range, which pair (index into :class:`Pairs`) matched at which threshold (index)."""

    pair: tuple[Ints, ...]
    threshold: tuple[Ints, ...]

    def among(self, chosen: Ints) -> Matching:
        """Return the matches numbered as the pairs are that these were chosen from."""
        return Matching(tuple(chosen[pair] for pair in self.pair), self.threshold)

    def within(self, kept: Bools) -> Matching:
        """Return the matches among the pairs that are kept, numbered as they then are."""
        new = np.cumsum(kept) - 1
        chosen = [kept[pair] for pair in self.pair]
        return Matching(
            tuple(new[pair[some]] for pair, some in zip(self.pair, chosen, strict=True)),
            tuple(level[some] for level, some in zip(self.threshold, chosen, strict=True)),
        )


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
    rows = np.flatnonzero(contested)
    parts = np.split(rows, _group_cuts(group[pairs.prediction[rows]]))

    def settle(part: Ints) -> list[tuple[Ints, Ints]]:
        wishes = _by_liking(pairs, part, several[part])
        bids = _Bids(pairs, reached, wishes, group, ignored, is_crowd)
        return [bids.won(area) for area in range(len(ignored))]

    # The parts come first and share what threads there are; then, or beside them, the rest.
    settled, (pair, threshold) = together(
        lambda: each(settle, [part for part in parts if len(part)]),
        lambda: _record_breakers(pairs, reached, np.flatnonzero(~contested), is_crowd),
    )
    areas = range(len(ignored))
    return Matching(
        tuple(np.concatenate([pair, *(won[area][0] for won in settled)]) for area in areas),
        tuple(np.concatenate([threshold, *(won[area][1] for won in settled)]) for area in areas),
    )


def _group_cuts(group: Ints) -> Ints:
    """Return where to cut runs of equal values into parts of about ``PAIRS_AT_ONCE``."""
    starts = run_starts(group)
    after = np.searchsorted(starts, np.arange(PAIRS_AT_ONCE, len(group), PAIRS_AT_ONCE))
    cuts = starts[after[after < len(starts)]]
    return cuts[run_starts(cuts)]  # np.unique would load numpy.ma, which takes 20 ms


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


def _by_liking(pairs: Pairs, chosen: Ints, several: Bools) -> Ints:
    """Order the pairs of each prediction by falling IoU, of equals the later label first.

    Args:
        pairs: All pairs.
        chosen: Some of them, all those of a prediction or none.
        several: Whether each is not the only pair of its prediction.
    """
    some = np.flatnonzero(several)[::-1]  # so that a stable order puts the later label first
    taken = chosen[some]
    rank = falling_rank(pairs.iou[taken])
    prediction = pairs.prediction[taken]
    first = int(prediction.min(initial=0))
    width = int(prediction.max(initial=0)) + 1 - first
    order = stable_order((prediction - first, width), (rank, len(rank)))
    wishes = chosen.copy()
    wishes[some[::-1]] = taken[order]
    return wishes


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
        prediction, label = pairs.prediction[chosen], pairs.label[chosen]
        starts = run_starts(group[prediction])
        flags = ignored[:, label]
        some = np.logical_or.reduceat(flags, starts, axis=1)
        every = np.logical_and.reduceat(flags, starts, axis=1)
        mixed = np.repeat(some & ~every, np.diff(starts, append=len(chosen)), axis=1)
        variant, at = _variants(prediction, flags, mixed)

        # A bid for each threshold that is reached; levels, one for each variant, do not mix.
        count = reached[chosen][at]
        bids = [np.flatnonzero(count > t) for t in range(int(count.max()))]
        threshold = np.repeat(np.arange(len(bids)), [len(bid) for bid in bids])
        bid = np.concatenate(bids)
        variant, at = variant[bid], at[bid]
        level = threshold * (len(ignored) + 1) + variant
        first, last = int(label.min()), int(label.max())
        seat = level * (last + 1 - first) + label[at] - first
        bidder = level * len(group) + prediction[at]
        taken = _defer(run_starts(bidder), seat, is_crowd[label[at]])
        self._variant, self._threshold = variant[taken], threshold[taken]
        self._at, self._pair, self._mixed = at[taken], chosen[at[taken]], mixed

    def won(self, area: int) -> tuple[Ints, Ints]:
        """Return (pair, threshold) of the matches in an area range."""
        wanted = self._mixed[area, self._at] * (area + 1)
        mine = np.flatnonzero(self._variant == wanted)
        return self._pair[mine], self._threshold[mine]


def _variants(prediction: Ints, flags: Bools, mixed: Bools) -> tuple[Ints, Ints]:
    """Return variant and position of each wish, by variant, prediction and liking.

    Args:
        prediction: Of each wish, in order of liking (C).
        flags: Whether its label comes last in an area range (A, C).
        mixed: Whether its group has both kinds of labels there (A, C).
    """
    common = np.flatnonzero(~mixed.all(axis=0))
    area, at = np.nonzero(mixed)
    first = int(prediction.min())
    width = int(prediction.max()) + 1 - first
    order = stable_order(
        (area, len(mixed)), (prediction[at] - first, width), (flags[area, at].astype(np.int64), 2)
    )
    variant = np.concatenate([np.zeros(len(common), np.int64), area[order] + 1])
    return variant, np.concatenate([common, at[order]])


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
