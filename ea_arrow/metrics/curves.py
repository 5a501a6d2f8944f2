"""Precision and recall from matches: pycocotools' ``accumulate``, from hits alone.

Precision only rises where a prediction hits, so its envelope needs no more than the hits and how
many predictions count up to each. Misses never get a state of their own: they are a prefix sum over
all predictions, corrected for the few whose match, not whose area, decides whether they count.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ea_arrow.arranged import stable_order
from ea_arrow.parallel import each

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints
    from ea_arrow.match import Matching
    from ea_arrow.pairs import Pairs


@dataclass(frozen=True)
class Matched:
    """Predictions (N) and labels (L) in group order, what matched, and what counts.

    Attributes:
        arranged: Both sides in group order.
        pairs: The candidate pairs.
        matching: Which of them matched, per area range (A) and threshold (T).
        ignored: Whether a label is ignored in an area range (A, L).
        outside: Whether a prediction's own area is outside of an area range (A, N).
        unfindable: Whether a label counts as not found even if it matched (L): id 0.
    """

    arranged: Arranged
    pairs: Pairs
    matching: Matching
    ignored: Bools
    outside: Bools
    unfindable: Bools


@dataclass(frozen=True)
class Ranked:
    """Predictions in class order, and the candidates (C) among them: those with any pair."""

    starts: Ints  # where each class starts; the last entry is N
    order: Ints  # class order → group order
    rank: Ints  # rank within the group, in class order
    column: Ints  # group order → column among the candidates
    position: Ints  # of each candidate in class order
    column_starts: Ints  # where each class starts among the candidates; the last entry is C

    def within(self, most: int) -> Bools:
        """Return which candidates (C) are of a rank below a cut."""
        flags: Bools = self.rank[self.position] < most
        return flags


@dataclass(frozen=True)
class _Hits:
    """Hits of one area range in order of (threshold, class, score), and the corrections to counts.

    A key is threshold * C + column. ``sign`` is +1 for a prediction that counts although its area
    is outside (it hits), −1 for one that does not although it is inside (its label is ignored).
    """

    key: Ints
    column: Ints
    first: Ints  # where the hits of each threshold and class start (T, K)
    last: Ints  # and end
    odd: Ints
    sign: Ints


class Curves:
    """The arrays that pycocotools calls ``eval``, and the counts behind them.

    Recall is cheap and made at once. Precision and scores are made for the cuts that are asked for:
    of the twelve numbers none needs them at another cut than the largest.

    Args:
        matched: What matched.
        ranked: The same predictions in class order.
        n_thresholds: Number of IoU thresholds (T).
        recalls: Recalls at which precision is read (R).
        max_detections: Cuts (M), ascending.

    Attributes:
        recall: (T, K, A, M); −1 for a class without labels that count.
        n_labels: Labels that count (K, A).
        n_predictions: Predictions of each class (K).
    """

    def __init__(
        self,
        matched: Matched,
        ranked: Ranked,
        n_thresholds: int,
        recalls: Floats,
        max_detections: tuple[int, ...],
    ) -> None:
        self._matched, self._ranked = matched, ranked
        self._recalls, self._cuts = recalls, max_detections
        within = [ranked.within(most) for most in max_detections]

        def count(area: int) -> tuple[_Hits, list[Ints]]:
            hits = _hits(matched, ranked, area, n_thresholds)
            return hits, [_count_found(hits, flags) for flags in within]

        counted = each(count, range(len(matched.ignored)))
        self._hits = [hits for hits, _ in counted]
        self.n_labels = _count_labels(matched.arranged, matched.ignored)
        self.n_predictions = np.diff(self._ranked.starts)
        found = np.array([of_cut for _, of_cut in counted])
        total = np.maximum(self.n_labels, 1).T[:, None, None, :]
        self.recall = self._undefined(found / total).transpose(2, 3, 0, 1)

    def precision_and_scores(self, cuts: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Return precision and score at each recall (T, R, K, A, M), −1 without labels that count.

        Args:
            cuts: Positions in ``max_detections`` of the cuts wanted (M).
        """
        matched, ranked = self._matched, self._ranked
        confidence = matched.arranged.confidence[ranked.order]

        def read(area: int) -> list[tuple[Floats, Floats]]:
            inside = ~matched.outside[area][ranked.order]
            needed = _hits_needed(self.n_labels[:, area], self._recalls)
            found = []
            for cut in cuts:
                most = self._cuts[cut]
                counted = np.append(0, np.cumsum(inside & (ranked.rank < most)))
                curve = _Curve(ranked, self._hits[area], most)
                precision, scores = curve.read(needed, counted, confidence)
                curve.first_scores(scores, self._recalls, confidence)
                found.append((precision, scores))
            return found

        found = list(chain.from_iterable(each(read, range(len(self._hits)))))
        shape = (len(self._hits), len(cuts), *found[0][0].shape)
        arrays = (np.array(array).reshape(shape) for array in zip(*found, strict=True))
        # Only the shape is turned: what reads these in C order sees pycocotools' order.
        precision, scores = (self._undefined(a).transpose(2, 4, 3, 0, 1) for a in arrays)
        return precision, scores

    def _undefined(self, array: Floats) -> Floats:
        """Set (A, M, T, K, …) to −1 for classes without labels that count."""
        for area in range(len(array)):
            array[area, :, :, self.n_labels[:, area] == 0] = -1
        return array


def _count_labels(arranged: Arranged, ignored: Bools) -> Ints:
    klass = arranged.label_group % max(arranged.n_classes, 1)
    counts = [np.bincount(klass[~area], minlength=arranged.n_classes) for area in ignored]
    return np.stack(counts, axis=1)


def rank(arranged: Arranged, pairs: Pairs) -> Ranked:
    """Put predictions into class order: by class, then by falling score."""
    n = len(arranged.row)
    order = stable_order((arranged.klass, arranged.n_classes), (arranged.score_rank, n))
    counts = np.bincount(arranged.klass, minlength=arranged.n_classes)
    starts = np.append(0, np.cumsum(counts))
    is_candidate = np.zeros(n, bool)
    is_candidate[pairs.prediction] = True
    position = np.flatnonzero(is_candidate[order])
    column = np.zeros(n, np.int64)
    column[order[position]] = np.arange(len(position))
    column_starts = np.searchsorted(position, starts)
    return Ranked(starts, order, arranged.rank[order], column, position, column_starts)


def _hits(matched: Matched, ranked: Ranked, area: int, n_thresholds: int) -> _Hits:
    pair, threshold = matched.matching.pair[area], matched.matching.threshold[area]
    prediction, label = matched.pairs.prediction[pair], matched.pairs.label[pair]
    ignored, outside = matched.ignored[area][label], matched.outside[area][prediction]
    n = len(ranked.position)
    key = threshold * n + ranked.column[prediction]
    hit = ~ignored & ~matched.unfindable[label]
    # A prediction hits at most once at a threshold: flags put the keys in order without a sort.
    flags = np.zeros(n_thresholds * n, bool)
    flags[key[hit]] = True
    found = np.flatnonzero(flags)
    edges = np.searchsorted(found, _bounds(ranked, n_thresholds))
    column = found - np.repeat(np.arange(n_thresholds) * n, edges[:, -1] - edges[:, 0])
    extra, missing = key[hit & outside], key[ignored & ~outside]
    odd = np.concatenate([extra, missing])
    sign = np.repeat(np.array([1, -1]), [len(extra), len(missing)])
    by_key = np.argsort(odd)
    return _Hits(found, column, edges[:, :-1], edges[:, 1:], odd[by_key], sign[by_key])


def _bounds(ranked: Ranked, n_thresholds: int) -> Ints:
    """Return the key at which each threshold and class starts (T, K + 1)."""
    at: Ints = np.arange(n_thresholds)[:, None] * len(ranked.position) + ranked.column_starts
    return at


def _count_found(hits: _Hits, within: Bools) -> Ints:
    """Return the hits of each threshold and class (T, K) among some candidates."""
    if within.all():
        return hits.last - hits.first
    total = np.append(0, np.cumsum(within[hits.column]))
    found: Ints = total[hits.last] - total[hits.first]
    return found


def _hits_needed(n_labels: Ints, recalls: Floats) -> Ints:
    """Return how many hits first reach each recall (K, R); 1 even for recall 0."""
    total = np.maximum(n_labels, 1)[:, None]
    # The product may round over or under an integer; the quotient decides, as it does in
    # pycocotools' searchsorted.
    needed = np.maximum(np.ceil(total * recalls).astype(np.int64), 1)
    needed -= (needed > 1) & ((needed - 1) / total >= recalls)
    needed += needed / total < recalls
    return needed


class _Curve:
    """Precision over hits, for every threshold and class of one area range and cut.

    Attributes:
        first, last: Where the hits of each (threshold, class) start and end (T, K).
    """

    def __init__(self, ranked: Ranked, hits: _Hits, most: int) -> None:
        self._ranked, self._hits, self._most = ranked, hits, most
        self._cut = ranked.within(most)
        self._bounds = _bounds(ranked, len(hits.first))
        if self._cut.all():
            self._key, self._column, self.first, self.last = (
                hits.key, hits.column, hits.first, hits.last,
            )  # fmt: skip
        else:
            kept = self._cut[hits.column]
            self._key, self._column = hits.key[kept], hits.column[kept]
            edges = np.searchsorted(self._key, self._bounds)
            self.first, self.last = edges[:, :-1], edges[:, 1:]

    def _precision(self, counted: Ints) -> Floats:
        """Return the precision at each hit, and a 0 after the last.

        Args:
            counted: How many predictions, in class order, count up to each (N + 1), by their area.
        """
        ranked, hits = self._ranked, self._hits
        # Predictions that count, up to each hit, less those before its class.
        count = counted[ranked.position + 1][self._column]
        before = np.broadcast_to(counted[ranked.starts[:-1]], self.first.shape)
        odd = self._cut[hits.odd % max(len(ranked.position), 1)]
        if odd.any():
            odd_key, sign = hits.odd[odd], hits.sign[odd]
            at = np.searchsorted(self._key, odd_key)
            size = len(self._key)
            change = np.bincount(at, weights=sign, minlength=size + 1)[:size]
            count += np.cumsum(change.astype(np.int64))
            total = np.append(0, np.cumsum(sign))
            before = before + total[np.searchsorted(odd_key, self._bounds[:, :-1])]
        lengths = (self.last - self.first).ravel()
        count -= np.repeat(before.ravel(), lengths)
        hit = np.arange(1, len(self._key) + 1) - np.repeat(self.first.ravel(), lengths)
        precision = np.zeros(len(hit) + 1)
        np.divide(hit, count + np.spacing(1), out=precision[:-1])
        return precision

    def read(self, needed: Ints, counted: Ints, confidence: Floats) -> tuple[Floats, Floats]:
        """Return precision and score where each recall is first reached (T, K, R), 0 beyond."""
        at = self.first[..., None] + (needed - 1)
        beyond = at >= self.last[..., None]
        at = np.where(beyond, self.last[..., None], at)
        # Maxima between one recall and the next, then from the right: the envelope at recalls.
        edges = np.concatenate([at, self.last[..., None]], axis=2)
        peaks = np.maximum.reduceat(self._precision(counted), edges.ravel())
        peaks = peaks.reshape(edges.shape)[..., :-1]
        peaks[beyond] = 0
        envelope = np.maximum.accumulate(peaks[..., ::-1], axis=2)[..., ::-1]
        score = np.zeros(at.shape)
        score[~beyond] = confidence[self._ranked.position[self._column[at[~beyond]]]]
        return envelope, score

    def first_scores(self, scores: Floats, recalls: Floats, confidence: Floats) -> None:
        """Set the score where recall 0 is reached: at the first prediction, hit or not."""
        starts, ends = self._ranked.starts[:-1], self._ranked.starts[1:]
        some = np.flatnonzero((ends > starts) & (self._most > 0))
        for r in np.flatnonzero(recalls <= 0):
            scores[:, some, r] = confidence[starts[some]]
