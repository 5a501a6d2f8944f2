"""Checks of single rows, of their scores, and of rows that repeat each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow import row_keys
from ea_arrow.doctor.findings import Finding, counted, share
from ea_arrow.doctor.scoring import Detections, Truth, ap50, pairs_of

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.trials import Mended

MANY: Final = 0.01
"""A share from which odd rows are a failure; below, a note."""

CAPS: Final = (20, 25, 30, 32, 40, 50, 64, 100, 128, 150, 200, 256, 300, 500, 512, 1000)
HARMLESS_CAP: Final = 100
LEAST_CAPPED: Final = 5
LEAST_SCORE: Final = 0.05
LEAST_ROWS: Final = 50
NEAR: Final = 0.9
NEAR_SHARE: Final = 0.2
APART: Final = 0.5


def repeated(case: Case, mended: Mended) -> Bools:
    """Which of the predictions, read as they should be, repeat an earlier one in every column."""
    found, mask = mended.found, case.rows.mask[mended.rows]
    values: list[Any] = [found.unit, found.klass]
    columns = (*found.box.T, found.area, found.confidence, *mask.T)
    values += [np.ascontiguousarray(column) + 0.0 for column in columns]
    keys = row_keys.combined(values, len(found))
    _, first = np.unique(keys, return_index=True)
    again = np.ones(len(found), bool)
    again[first] = False
    return again


def check_repeats(case: Case, mended: Mended, again: Bools) -> list[Finding]:
    """Rows that repeat another exactly."""
    number = int(again.sum())
    if not number:
        return []
    now, then = mended.then.ap50, ap50(mended.found.take(~again), case.truth)
    changes = now is not None and then is not None and abs(then - now) >= 1e-3
    bad = changes or number >= MANY * len(again)
    message = f"{counted(number, 'row', ('repeats', 'repeat'))} an earlier one exactly"
    message += f" ({share(number, len(again))} of the predictions)."
    if mended.changed:
        message += f" AP50 is what it would be{mended.once}."
    return [
        Finding(
            kind="duplicated_rows",
            severity="warning" if bad else "note",
            message=message,
            evidence={"rows": number, "of": len(again)},
            ap50_now=now,
            ap50_then=then,
            fix=("--dedupe",),
        )
    ]


def check_near_repeats(case: Case, mended: Mended, again: Bools) -> list[Finding]:
    """Boxes that nearly cover a more confident one of their class: no suppression was done."""
    found = mended.found.take(~again)
    if len(found) < LEAST_ROWS:
        return []
    covered = _covered(found, case.truth)
    number = int(covered.sum())
    if number < NEAR_SHARE * len(found):
        return []
    now, then = ap50(found, case.truth), ap50(found.take(~covered), case.truth)
    return [
        Finding(
            kind="near_duplicates",
            severity="warning",
            message=f"{share(number, len(found))} of the boxes cover a more confident one of their "
            f"class with an IoU above {NEAR:g}: was non-maximum suppression left out?",
            evidence={"rows": number, "of": len(found), "iou": NEAR},
            ap50_now=now,
            ap50_then=then,
            fix="Suppress overlapping boxes in the model's output, then import it again.",
        )
    ]


def _covered(found: Detections, truth: Truth) -> Bools:
    """Which boxes a more confident one of their class nearly covers."""
    n = len(found)
    no = np.zeros(n, bool)
    others = Truth(
        found.unit, found.klass, found.box, found.area, no, no, no,
        truth.n_classes, truth.width, truth.height,
    )  # fmt: skip
    candidates = pairs_of(found, others, NEAR)
    arranged, pairs = candidates.arranged, candidates.pairs
    one, other = arranged.row[pairs.prediction], arranged.label_row[pairs.label]
    surer = found.confidence[other] > found.confidence[one]
    surer |= (found.confidence[other] == found.confidence[one]) & (other < one)
    covered = np.zeros(n, bool)
    covered[one[surer]] = True
    return covered


def check_scores(case: Case) -> list[Finding]:
    """Scores that were cut off, are all one, or are no probabilities."""
    scores = case.now.confidence
    if not len(scores):
        return []
    low, high = float(scores.min()), float(scores.max())
    evidence = {"lowest": low, "highest": high, "rows": len(scores)}
    if low == high:
        if len(scores) < 10:
            return []
        message = f"All {len(scores):,} scores are {low:g}: nothing ranks the predictions, and AP "
        message += "is that of one point of the curve."
        fix = "Write the model's own scores, then import them."
        return [Finding("equal_scores", "warning", message, evidence, fix=fix)]
    if low < 0 or high > 1:
        percent = low >= 0 and 1 < high <= 100
        kind = "scores_in_percent" if percent and high > 2 else "scores_beyond_one"
        what = "percentages" if kind == "scores_in_percent" else "no probabilities"
        message = f"Scores go from {low:.4g} to {high:.4g}: they are {what}. AP depends on their "
        message += "order alone, but thresholds of confidence are to be given in their terms."
        return [Finding(kind, "note", message, evidence)]
    if low < LEAST_SCORE or len(scores) < LEAST_ROWS:
        return []
    units = len(np.unique(case.now.unit))
    mean = len(scores) / units
    message = (
        f"No score is below {low:.3g}, with {mean:.1f} predictions a data unit: they were cut "
    )
    message += "off at a threshold, so that AP and recall are understated."
    fix = "Predict again with a confidence threshold of 0.001, then import that."
    evidence["per_data_unit"] = mean
    return [Finding("thresholded_scores", "warning", message, evidence, fix=fix)]


def check_cap(case: Case) -> list[Finding]:
    """Data units that have exactly as many predictions as were allowed."""
    counts = case.units.predictions[case.units.predictions > 0]
    most = int(counts.max(initial=0))
    full = int((counts == most).sum())
    if most not in CAPS or full < LEAST_CAPPED or full < 0.05 * len(counts):
        return []
    message = (
        f"{full:,} of {len(counts):,} data units have exactly {most} predictions, and none has "
    )
    message += "more: they were cut off there."
    severity, fix = "note", None
    if most < HARMLESS_CAP:
        severity = "warning"
        message += " AP and recall are understated where more would count."
        fix = f"Predict again with at least {HARMLESS_CAP} detections per image, then import that."
    evidence = {"cap": most, "data_units": full, "of": len(counts)}
    return [Finding("truncated_predictions", severity, message, evidence, fix=fix)]  # type: ignore[arg-type]  # either of two literals


def check_outside(case: Case) -> list[Finding]:
    """Boxes that lie for the most part outside of their data unit."""
    found = case.now
    away = _mostly_outside(found.box, found.unit, case.truth)
    number = int(away.sum())
    if not number:
        return []
    turned = _mostly_outside(found.box[:, [1, 0, 3, 2]], found.unit, case.truth)
    fitting = int((away & ~turned).sum())
    exchanged = replace(found, box=np.where(away[:, None], found.box[:, [1, 0, 3, 2]], found.box))
    then = ap50(found.take(~away), case.truth)
    message = f"{counted(number, 'box', ('lies', 'lie'))} mostly outside of the data unit "
    message += f"({share(number, len(found))})"
    fits = fitting and (ap50(exchanged, case.truth) or 0.0) > (then or 0.0)
    message += f"; {fitting:,} would be inside with x and y exchanged." if fits else "."
    return [
        Finding(
            kind="boxes_outside",
            severity="warning" if number >= MANY * len(found) else "note",
            message=message,
            evidence={"rows": number, "of": len(found), "inside_if_exchanged": fitting},
            ap50_now=ap50(found, case.truth),
            ap50_then=then,
            fix="See which: are their data units of the size that the model saw?",
        )
    ]


def _mostly_outside(box: Floats, unit: Any, truth: Truth) -> Bools:
    with np.errstate(over="ignore", invalid="ignore"):
        low = box[:, :2].clip(0)
        high = np.minimum(box[:, :2] + box[:, 2:], truth.size[unit][:, :2])
        inside = (high - low).clip(0).prod(axis=1)
        away: Bools = inside < APART * box[:, 2] * box[:, 3]
    return away


def check_empty(case: Case) -> list[Finding]:
    """Boxes without width or height, which match nothing."""
    found = case.now
    empty = (found.box[:, 2] <= 0) | (found.box[:, 3] <= 0)
    number = int(empty.sum())
    if not number:
        return []
    message = f"{counted(number, 'box', ('has', 'have'))} no width or no height "
    message += f"({share(number, len(found))}): nothing can match."
    return [
        Finding(
            kind="empty_boxes",
            severity="warning" if number >= MANY * len(found) else "note",
            message=message,
            evidence={"rows": number, "of": len(found)},
            ap50_now=ap50(found, case.truth),
            ap50_then=ap50(found.take(~empty), case.truth),
            fix="Leave them out of the model's output.",
        )
    ]


def check_masks(case: Case) -> list[Finding]:
    """Boxes given beside masks that are not the masks' boxes."""
    rows = case.rows.take(case.rows.kept & ~np.isnan(case.rows.mask[:, 0]))
    number = len(rows.kept)
    if not number:
        return []
    own, given = rows.mask[:, :4], rows.found.box
    low = np.maximum(own[:, :2], given[:, :2])
    high = np.minimum(own[:, :2] + own[:, 2:], given[:, :2] + given[:, 2:])
    both = (high - low).clip(0).prod(axis=1)
    either = own[:, 2:].prod(axis=1) + given[:, 2:].prod(axis=1) - both
    apart = both < APART * either
    far = int(apart.sum())
    if not far:
        return []
    found = rows.found
    message = f"{counted(far, 'box', ('is', 'are'))} far from the mask beside "
    message += (
        f"{'it' if far == 1 else 'them'} (IoU below {APART:g}; {share(far, number)} of masks)."
    )
    drawn = Detections(
        found.unit, found.klass, np.where(apart[:, None], own, given), found.area, found.confidence
    )
    return [
        Finding(
            kind="boxes_apart_from_masks",
            severity="warning" if far >= MANY * number else "note",
            message=message,
            evidence={"rows": far, "of": number},
            ap50_now=ap50(found, case.truth),
            ap50_then=ap50(drawn, case.truth),
            fix="Leave bbox out of the file: boxes are then drawn around the masks.",
        )
    ]
