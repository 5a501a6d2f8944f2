"""Matching predictions to labels as pycocotools does, at one IoU threshold and in all sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ea_arrow.candidates import beyond, effective_threshold
from ea_arrow.match import match_pairs

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools
    from ea_arrow.candidates import Candidates
    from ea_arrow.pairs import Pairs

_EVERY_AREA = np.array([[0.0, 1e10]])  # pycocotools' range "all"


@dataclass(frozen=True)
class CocoMatches:
    """What matches.

    Attributes:
        reaching: The pairs that reach the threshold.
        matched: Those of them that match.
        ignored: Whether a label is neither hit nor miss (L).
        outside: Whether a prediction's own area is outside of every range (N).
    """

    reaching: Pairs
    matched: Pairs
    ignored: Bools
    outside: Bools


def match(candidates: Candidates, iou_threshold: float, takes_part: Bools) -> CocoMatches:
    """Match greedily.

    Args:
        candidates: With pairs down to the threshold, of all predictions that take part.
        iou_threshold: IoU from which a pair can match.
        takes_part: Whether a prediction may match (N).
    """
    arranged, pairs = candidates.arranged, candidates.pairs
    reached = effective_threshold(iou_threshold)
    near = (pairs.iou >= reached) & takes_part[pairs.prediction]
    reaching = pairs.take(np.flatnonzero(near))
    ignored = arranged.is_ignored | beyond(arranged.label_area, _EVERY_AREA)
    thresholds = np.array([reached])
    found = match_pairs(reaching, arranged.group, thresholds, ignored, arranged.is_crowd)
    outside = beyond(arranged.area, _EVERY_AREA)[0]
    return CocoMatches(reaching, reaching.take(found.pair[0]), ignored[0], outside)
