"""Matches as evidence: what became of every prediction and label, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import run_starts
from ea_arrow.candidates import beyond, effective_thresholds
from ea_arrow.conform import conform
from ea_arrow.match import match_pairs
from ea_arrow.schema import MATCHES

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints
    from ea_arrow.candidates import Candidates
    from ea_arrow.pairs import Pairs

_HUNDRED = 100
_EVERY_AREA = np.array([[0.0, 1e10]])  # pycocotools' range "all"


def matches(
    candidates: Candidates,
    data_units: Any,
    classes: Any,
    iou_threshold: float = 0.5,
    *,
    iteration: str = "",
    annotation_id_zero_counts: bool = False,
) -> pa.Table:
    """Match as pycocotools does, in all sizes, 100 predictions per data unit and class.

    Args:
        candidates: With all pairs that overlap at all.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``.
        iou_threshold: IoU from which a pair can match.
        iteration: What the result says in its column ``iteration``.
        annotation_id_zero_counts: Let a label whose id is 0 be found; pycocotools never does.

    Returns:
        A table in the shape of ``MATCHES``: the object predictions in their order, then the labels
        that count and were not found, in theirs.
    """
    arranged = candidates.arranged
    thresholds = effective_thresholds(np.array([iou_threshold]))
    pairs = candidates.pairs
    near = (pairs.iou >= thresholds[0]) & (arranged.rank[pairs.prediction] < _HUNDRED)
    pairs = pairs.take(np.flatnonzero(near))
    ignored = arranged.is_ignored | beyond(arranged.label_area, _EVERY_AREA)
    matching = match_pairs(pairs, arranged.group, thresholds, ignored, arranged.is_crowd)
    found = _Found(
        candidates=candidates,
        data_units=data_units,
        feature_hashes=classes.filter(pc.equal(classes.column("kind"), "object"))["feature_hash"],
        pairs=pairs,
        matched=matching.pair[0],
        ignored=ignored[0],
        unfindable=arranged.has_id_zero & (not annotation_id_zero_counts),
        threshold=float(iou_threshold),
    )
    rows = pa.concat_tables([_prediction_rows(found), _missed_rows(found)])
    same = {"iteration": iteration, "protocol": "coco", "iou_type": "bbox"}
    for name, value in {**same, "iou_threshold": found.threshold}.items():
        rows = rows.append_column(name, pa.repeat(value, len(rows)))
    for name in ("error", "error_label_id", "error_feature_hash", "error_iou"):
        rows = rows.append_column(name, pa.nulls(len(rows), MATCHES.arrow.field(name).type))
    return conform(rows, MATCHES)


@dataclass(frozen=True)
class _Found:
    """What was found at one threshold: ``matched`` are indices into ``pairs``."""

    candidates: Candidates
    data_units: Any
    feature_hashes: Any
    pairs: Pairs
    matched: Ints
    ignored: Bools
    unfindable: Bools
    threshold: float

    @property
    def arranged(self) -> Arranged:
        return self.candidates.arranged

    def keys(self, group: Ints) -> dict[str, Any]:
        unit, klass = np.divmod(group, max(self.arranged.n_classes, 1))
        where = self.data_units.select(["data_hash", "frame"]).take(pa.array(unit))
        return {
            "data_hash": where["data_hash"].cast(pa.string()),
            "frame": where["frame"],
            "feature_hash": self.feature_hashes.cast(pa.string()).take(pa.array(klass)),
        }

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
    best = _best_ious(found.candidates)
    code = np.select(  # in the order of _verdicts
        [
            arranged.rank >= _HUNDRED,
            np.append(arranged.is_crowd, False)[label],
            np.append(found.ignored, False)[label],
            hit & ~np.append(found.unfindable, True)[label],
            beyond(arranged.area, _EVERY_AREA)[0],
            hit,
            ~(best > 0),
            best >= found.threshold,
        ],
        list(range(8)),
        8 + np.floor(np.nan_to_num(best) * 100).clip(0, 99).astype(np.int64),
    )
    outcome, reason = zip(*_verdicts(found.bound), strict=True)
    back = np.argsort(arranged.prediction_id)  # group order → table order
    counts_as_match = hit & (code < 4)
    label_id = np.append(arranged.label_id, -1)[label]
    iou = np.where(hit, np.append(pairs.iou, 0.0)[pair], best)[back]
    codes = pa.array(code[back])
    return pa.table(
        {
            **found.keys(arranged.group[back]),
            "prediction_id": pa.array(arranged.prediction_id[back]),
            "label_id": pa.array(label_id[back], mask=~counts_as_match[back]),
            "iou": pa.array(iou, mask=np.isnan(iou)),
            "confidence": pa.array(arranged.confidence[back]),
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


def _best_ious(candidates: Candidates) -> Floats:
    """Return the best IoU with a label of the group for each prediction (N), NaN without label."""
    arranged, pairs = candidates.arranged, candidates.pairs
    best = np.full(len(arranged.row), np.nan)
    best[np.isin(arranged.group, arranged.label_group)] = 0.0
    starts = run_starts(pairs.prediction)
    best[pairs.prediction[starts]] = np.maximum.reduceat(pairs.iou, starts) if len(starts) else 0.0
    return best


def _missed_rows(found: _Found) -> pa.Table:
    arranged, pairs = found.arranged, found.pairs
    taken, reached = np.zeros((2, len(arranged.label_row)), bool)
    taken[pairs.label[found.matched]] = True
    reached[pairs.label] = True
    missed = np.flatnonzero(~found.ignored & (~taken | found.unfindable))
    missed = missed[np.argsort(arranged.label_id[missed])]
    reasons = [
        f"No prediction of this class reaches IoU {found.bound}.",
        f"Every prediction that reaches IoU {found.bound} matched another label.",
        "Matched, but its id is 0, which pycocotools counts as no match.",
    ]
    code = np.where(taken, 2, reached)[missed]
    n = len(missed)
    return pa.table(
        {
            **found.keys(arranged.label_group[missed]),
            "prediction_id": pa.nulls(n, pa.int64()),
            "label_id": pa.array(arranged.label_id[missed]),
            "iou": pa.nulls(n, pa.float64()),
            "confidence": pa.nulls(n, pa.float64()),
            "outcome": pa.repeat("FN", n),
            "reason": pa.array(reasons).take(pa.array(code.astype(np.int64))),
        }
    )
