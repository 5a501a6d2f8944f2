"""Kinds of error as TIDE defines them: why a false positive is one, and what hides a missed label.

The definitions are those of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors" (ECCV 2020), section 2.2; their order and comparisons follow the authors' ``tidecv``
(``quantify.py``). With t_f the IoU threshold and t_b = 0.1 (:data:`BACKGROUND_IOU`), the first that
holds of a false positive is its error; "best" is the highest IoU with a label that counts:

1. ``localisation``: t_b ≤ best of the class < t_f, whether or not that label is taken.
2. ``class confusion``: best of the other classes ≥ t_f.
3. ``duplicate``: best of the class among labels that are taken ≥ t_f.
4. ``background``: best of all classes ≤ t_b.
5. ``both``: the rest, which is badly located on a label of another class.

A label nobody found is ``missed`` unless an error of the first two kinds names it.

Where this differs from ``tidecv``:

- ``tidecv`` calls an IoU of exactly t_f ``localisation``. Such a prediction reaches its label in
  the matching, so here it is no longer badly located: what it lacks is a free label.
- Which predictions are false positives is the protocol's decision. ``tidecv`` has a matching of its
  own, with at most 100 predictions per image, where pycocotools allows 100 per image and class.
- Ignored predictions have no error. Release 1.0.1 of ``tidecv`` gives them one; its later source
  does not.
- Of labels with equal IoU the one with the lowest id explains the error. ``tidecv`` takes the first
  of its file, which is the same for labels in the order of their import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.pairs import best_labels
from ea_arrow.schema import ERRORS

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints
    from ea_arrow.candidates import Candidates
    from ea_arrow.pairs import Pairs

BACKGROUND_IOU: Final = 0.1
"""Up to this IoU with every label, a prediction is on the background (t_b)."""

LOCALISATION, CLASS_CONFUSION, DUPLICATE, BACKGROUND, BOTH, MISSED = range(len(ERRORS))
NO_ERROR: Final = -1


@dataclass(frozen=True)
class Errors:
    """Kinds of error, as positions in ``schema.ERRORS``, and what explains them; in group order.

    Attributes:
        kind: Of each prediction (N), ``NO_ERROR`` where it is not a false positive.
        label: Label that explains it (N), −1 without.
        iou: IoU with that label (N), NaN without.
        label_kind: Of each label (L), ``NO_ERROR`` where it is taken or does not count.
    """

    kind: Ints
    label: Ints
    iou: Floats
    label_kind: Ints


def find_errors(
    candidates: Candidates,
    is_false_positive: Bools,
    is_taken: Bools,
    counts: Bools,
    iou_threshold: float,
) -> Errors:
    """Return the error of every false positive and of every label that was not found.

    A missed label that several false positives would have found has the kind of the most confident;
    of equally confident ones, of the first. A false positive that reaches only labels of its class
    that nobody took, which greedy matching never leaves, is ``both``, as in ``tidecv``.

    With a threshold of t_b or less nothing is ``localisation`` or ``both``, and ``class confusion``
    starts at t_b: less overlap than that with another class says nothing at any threshold.

    Args:
        candidates: With the pairs of at least ``BACKGROUND_IOU``, those across classes too.
        is_false_positive: Predictions to explain (N).
        is_taken: Whether a prediction matched the label (L).
        counts: Whether the label is neither ignored nor a crowd (L).
        iou_threshold: IoU that a pair had to reach to match (t_f).

    Raises:
        ValueError: The candidates lack pairs that are needed.
    """
    if candidates.across is None or candidates.lowest > BACKGROUND_IOU:
        needed = f"lowest and lowest_across of at most {BACKGROUND_IOU}"
        raise ValueError(f"Errors need more pairs: find the candidates with {needed}.")
    arranged = candidates.arranged

    def best(pairs: Pairs, allowed: Bools) -> tuple[Ints, Floats]:
        wanted = is_false_positive[pairs.prediction] & allowed[pairs.label]
        return best_labels(pairs.take(np.flatnonzero(wanted)), arranged)

    own, own_iou = best(candidates.pairs, counts)
    taken, taken_iou = best(candidates.pairs, counts & is_taken)
    other, other_iou = best(candidates.across, counts)
    kind = np.select(
        [
            ~is_false_positive,
            (own_iou >= BACKGROUND_IOU) & (own_iou < iou_threshold),
            other_iou >= max(iou_threshold, BACKGROUND_IOU),
            taken_iou >= iou_threshold,
            np.maximum(own_iou, other_iou) <= BACKGROUND_IOU,
        ],
        [NO_ERROR, LOCALISATION, CLASS_CONFUSION, DUPLICATE, BACKGROUND],
        BOTH,
    )
    explained_by = [
        kind == LOCALISATION,
        kind == DUPLICATE,
        (kind == CLASS_CONFUSION) | (kind == BOTH),
    ]
    label = np.select(explained_by, [own, taken, other], -1)
    iou = np.select(explained_by, [own_iou, taken_iou, other_iou], np.nan)
    label_kind = _label_kinds(arranged, kind, label, counts & ~is_taken)
    return Errors(kind, label, np.where(label < 0, np.nan, iou), label_kind)


def _label_kinds(arranged: Arranged, kind: Ints, label: Ints, is_missed: Bools) -> Ints:
    """Return the error of each label (L): that of the most confident that would have found it."""
    kinds = np.where(is_missed, MISSED, NO_ERROR)
    hides = (kind == LOCALISATION) | (kind == CLASS_CONFUSION)
    hides &= np.append(is_missed, False)[label]
    hiding = np.flatnonzero(hides)
    falling = np.lexsort((arranged.prediction_id[hiding], arranged.score_rank[hiding]))
    last_best = hiding[falling[::-1]]  # of several values for a label, the last written stays
    kinds[label[last_best]] = kind[last_best]
    return kinds
