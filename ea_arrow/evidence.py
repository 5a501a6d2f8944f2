"""Matches as evidence: what became of every prediction and label, and why.

:func:`matches` judges as pycocotools does. :func:`table` makes rows of any protocol's
:class:`Verdicts`. Errors are those of :mod:`ea_arrow.tide`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow import coco_match
from ea_arrow.candidates import effective_threshold
from ea_arrow.conform import conform
from ea_arrow.pairs import best_labels
from ea_arrow.schema import ERRORS, MATCHES
from ea_arrow.tide import find_errors

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints
    from ea_arrow.candidates import Candidates, IouType
    from ea_arrow.tide import Errors

_HUNDRED = 100

_OUTSIDE, _ID_ZERO = 4, 5  # positions in _verdicts
_MISSES = (
    "No prediction of this class reaches IoU {bound}.",
    "Every prediction that reaches IoU {bound} matched another label.",
    "Matched, but its id is 0, which pycocotools counts as no match.",
)


@dataclass(frozen=True)
class Verdicts:
    """What a protocol made of predictions (N) and labels (L), in group order.

    Attributes:
        protocol: Its name.
        iou_type: What IoU is of.
        iou_threshold: IoU from which a pair can match.
        label: The label that each prediction matched (N), −1 without.
        iou: IoU with it, or with the best label of the class (N); NaN without.
        verdict: Which of ``verdicts`` each prediction gets (N).
        verdicts: Outcomes, each with its reason.
        is_missed: Whether the label counts and was not found (L).
        miss: Which of ``misses`` a missed label gets (L).
        misses: Reasons why a label was missed.
        errors: Kinds of error.
    """

    protocol: str
    iou_type: IouType
    iou_threshold: float
    label: Ints
    iou: Floats
    verdict: Ints
    verdicts: list[tuple[str, str]]
    is_missed: Bools
    miss: Ints
    misses: list[str]
    errors: Errors


def matches(
    candidates: Candidates,
    data_units: Any,
    classes: Any,
    iou_threshold: float = 0.5,
    *,
    iteration: str = "",
    iou_type: IouType = "bbox",
    annotation_id_zero_counts: bool = False,
) -> pa.Table:
    """Match as pycocotools does, in all sizes, 100 predictions per data unit and class.

    A prediction that takes a label whose id is 0 is a false positive, and the label is missed, but
    only because pycocotools says so: neither has an error.

    Args:
        candidates: With all pairs that overlap at all, and those across classes of an IoU of at
            least ``tide.BACKGROUND_IOU``. Where ``most`` is exceeded, the best IoU is null.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``.
        iou_threshold: IoU from which a pair can match.
        iteration: What the result says in its column ``iteration``.
        iou_type: What the IoU of the candidates is of.
        annotation_id_zero_counts: Let a label whose id is 0 be found; pycocotools never does.

    Returns:
        A table in the shape of ``MATCHES``: the object predictions in their order, then the labels
        that count and were not found, in theirs.

    Raises:
        ValueError: The candidates lack pairs that are needed.
    """
    arranged = candidates.arranged
    judged = coco_match.match(candidates, iou_threshold, arranged.rank < _HUNDRED)
    matched = judged.matched
    is_reached = np.zeros(len(arranged.label_row), bool)
    is_reached[judged.reaching.label] = True
    found = _Found(
        candidates=candidates,
        label=_filled(len(arranged.row), -1, matched.prediction, matched.label),
        iou=_filled(len(arranged.row), np.nan, matched.prediction, matched.iou),
        is_reached=is_reached,
        ignored=judged.ignored,
        outside=judged.outside,
        unfindable=arranged.has_id_zero & (not annotation_id_zero_counts),
        threshold=effective_threshold(iou_threshold),
    )
    verdicts = _judge(found, float(iou_threshold), iou_type)
    return table(verdicts, arranged, data_units, classes, iteration=iteration)


def table(
    found: Verdicts, arranged: Arranged, data_units: Any, classes: Any, *, iteration: str = ""
) -> pa.Table:
    """Return what a protocol found as ``MATCHES``.

    Args:
        found: The verdicts.
        arranged: Predictions and labels that they are about.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``.
        iteration: What the result says in its column ``iteration``.

    Returns:
        The object predictions in their order, then the missed labels in theirs.
    """
    is_object = pc.equal(classes.column("kind"), "object")
    hashes = classes.filter(is_object)["feature_hash"].cast(pa.string())
    by_id = np.argsort(arranged.prediction_id)  # group order → table order
    missed = np.flatnonzero(found.is_missed)
    missed = missed[np.argsort(arranged.label_id[missed])]
    columns = pa.concat_tables(
        [_prediction_columns(found, arranged, by_id), _miss_columns(found, arranged, missed)]
    )
    group = np.concatenate([arranged.group[by_id], arranged.label_group[missed]])
    unit, klass = np.divmod(group, max(arranged.n_classes, 1))
    where = data_units.select(["data_hash", "frame"]).take(pa.array(unit))
    error_label = np.append(found.errors.label[by_id], np.full(len(missed), -1))
    error_class = np.append(arranged.label_class, -1)[error_label]
    same = {
        "iteration": iteration,
        "protocol": found.protocol,
        "iou_type": found.iou_type,
        "iou_threshold": found.iou_threshold,
        "subset": "all",
    }
    rows = {
        **{name: pa.repeat(value, len(group)) for name, value in same.items()},
        "data_hash": where["data_hash"],
        "frame": where["frame"],
        "feature_hash": hashes.take(pa.array(klass)),
        **dict(zip(columns.column_names, columns.columns, strict=True)),
        "error_feature_hash": hashes.take(_index(error_class)),
    }
    return conform(pa.table(rows), MATCHES)


def _prediction_columns(found: Verdicts, arranged: Arranged, rows: Ints) -> pa.Table:
    outcomes, reasons = (pa.array(column) for column in zip(*found.verdicts, strict=True))
    verdict = pa.array(found.verdict[rows])
    label_id = pa.array(arranged.label_id)
    return pa.table(
        {
            "prediction_id": pa.array(arranged.prediction_id[rows]),
            "label_id": label_id.take(_index(found.label[rows])),
            "iou": _number(found.iou[rows]),
            "confidence": pa.array(arranged.confidence[rows]),
            "outcome": outcomes.take(verdict),
            "reason": reasons.take(verdict),
            "error": pa.array(ERRORS).take(_index(found.errors.kind[rows])),
            "error_label_id": label_id.take(_index(found.errors.label[rows])),
            "error_iou": _number(found.errors.iou[rows]),
        }
    )


def _miss_columns(found: Verdicts, arranged: Arranged, rows: Ints) -> pa.Table:
    n = len(rows)
    return pa.table(
        {
            "prediction_id": pa.nulls(n, pa.int64()),
            "label_id": pa.array(arranged.label_id[rows]),
            "iou": pa.nulls(n, pa.float64()),
            "confidence": pa.nulls(n, pa.float64()),
            "outcome": pa.repeat("FN", n),
            "reason": pa.array(found.misses).take(pa.array(found.miss[rows])),
            "error": pa.array(ERRORS).take(_index(found.errors.label_kind[rows])),
            "error_label_id": pa.nulls(n, pa.int64()),
            "error_iou": pa.nulls(n, pa.float64()),
        }
    )


def _index(positions: Ints) -> Any:
    """Return positions for ``take``, null where they are negative."""
    return pa.array(positions, mask=positions < 0)


def _number(values: Floats) -> Any:
    """Return numbers, null where they are NaN."""
    return pa.array(values, mask=np.isnan(values))


def _filled(size: int, default: float, at: Ints, values: Any) -> Any:
    filled = np.full(size, default, values.dtype)
    filled[at] = values
    return filled


@dataclass(frozen=True)
class _Found:
    """Which label each prediction took (N), −1 without, with its IoU, as pycocotools matches.

    ``is_reached`` says of each label (L) whether a prediction reaches the threshold with it,
    ``unfindable`` whether taking it counts as no match.
    """

    candidates: Candidates
    label: Ints
    iou: Floats
    is_reached: Bools
    ignored: Bools
    outside: Bools
    unfindable: Bools
    threshold: float


def _judge(found: _Found, iou_threshold: float, iou_type: IouType) -> Verdicts:
    arranged, label = found.candidates.arranged, found.label
    rounded = f"{iou_threshold:.2f}"
    bound = rounded if float(rounded) == iou_threshold else str(iou_threshold)
    took = label >= 0
    is_taken = np.zeros(len(arranged.label_row), bool)
    is_taken[label[took]] = True
    best = _best_ious(found.candidates)
    code = np.select(  # in the order of _verdicts
        [
            arranged.rank >= _HUNDRED,
            np.append(arranged.is_crowd, False)[label],
            np.append(found.ignored, False)[label],
            took & ~np.append(found.unfindable, True)[label],
            found.outside,
            took,
            ~(best > 0),
            best >= found.threshold,
        ],
        list(range(8)),
        8 + np.floor(np.nan_to_num(best) * 100).clip(0, 99).astype(np.int64),
    )
    return Verdicts(
        protocol="coco",
        iou_type=iou_type,
        iou_threshold=iou_threshold,
        label=np.where((code == _OUTSIDE) | (code == _ID_ZERO), -1, label),
        iou=np.where(took, found.iou, best),
        verdict=code,
        verdicts=_verdicts(bound),
        is_missed=~found.ignored & (~is_taken | found.unfindable),
        miss=np.where(is_taken, 2, found.is_reached.astype(np.int64)),
        misses=[miss.format(bound=bound) for miss in _MISSES],
        errors=find_errors(
            found.candidates, code > _ID_ZERO, is_taken, ~found.ignored, found.threshold
        ),
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
    arranged = candidates.arranged
    known = np.isin(arranged.group, arranged.label_group) & (arranged.rank < candidates.most)
    _, best = best_labels(candidates.pairs, arranged)
    return np.where(known, best, np.nan)
