"""Checks of the predictions' scores and classes as wholes, and what to say where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.doctor.findings import Finding, share
from ea_arrow.doctor.scoring import ap50, matched, score
from ea_arrow.doctor.trials import FACTOR, GAIN

if TYPE_CHECKING:
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.scoring import Detections
    from ea_arrow.doctor.trials import Mended

LEAST_HITS: Final = 20
LEAST_RECALL: Final = 0.3
HALF: Final = 0.5
NEAR_NOTHING: Final = 0.1


def check_inverted(case: Case, mended: Mended) -> list[Finding]:
    """Scores whose order is the wrong way round: distances, costs, or 1 − score."""
    found, now = mended.found, mended.then
    if now.ap50 is None or now.hits < LEAST_HITS:
        return []
    then = ap50(replace(found, confidence=-found.confidence), case.truth) or 0.0
    if then - now.ap50 <= GAIN or then <= FACTOR * now.ap50:
        return []
    return [
        Finding(
            kind="inverted_scores",
            severity="error",
            message="The predictions fit the labels far better ranked the other way round: low "
            "scores seem to be the good ones, as of distances, costs or 1 − score.",
            evidence={"lowest": float(found.confidence.min())}
            | {"highest": float(found.confidence.max())},
            ap50_now=now.ap50,
            ap50_then=then,
            fix="No option of the import does this to scores: write 1 − score, or whatever is high "
            "where the model is sure, then import that.",
        )
    ]


def check_one_class(case: Case, mended: Mended) -> list[Finding]:
    """Predictions that are all of one class but find the labels of the others as well."""
    found, truth = mended.found, case.truth
    labelled = np.unique(truth.klass[truth.counts])
    if len(labelled) < 2 or not len(found) or (found.klass != found.klass[0]).any():
        return []
    only = int(found.klass[0])
    merged = _without_classes(found)
    hit = np.zeros(len(truth), bool)
    hit[matched(merged, truth.merged(), 0.5).label] = True
    own, others = truth.counts & (truth.klass == only), truth.counts & (truth.klass != only)
    recall = float(hit[others].mean())
    expected = float(hit[own].mean()) if own.any() else 0.0
    # Who detects cars alone hits a few lorries; but not half as many of them as of cars.
    if hit[others].sum() < LEAST_HITS or recall < max(LEAST_RECALL, HALF * expected):
        return []
    name = case.class_names[only]
    part = share(int(hit[others].sum()), int(others.sum()))
    message = f"All predictions are of the class '{name}', but they find {part} of the labels of"
    message += " other classes too. The second AP50 is without regard to classes."
    then = score(merged, truth.merged()).ap50 or 0.0
    return [
        Finding(
            kind="one_class_for_all",
            severity="error",
            message=message,
            evidence={"class": name, "recall_of_others": recall, "recall_of_own": expected},
            ap50_now=mended.then.ap50,
            ap50_then=then,
            fix="Write the class of each prediction. If the model does not tell them apart, "
            "compare it with labels of one class: 'ea-arrow init' with such.",
        )
    ]


def check_low(case: Case, mended: Mended) -> list[Finding]:
    """AP50 near zero that no other reading explains: what was tried, and where to look."""
    now = mended.then.ap50
    few = case.truth.counts.sum() < LEAST_HITS or not len(mended.found)
    if few or now is None or now >= NEAR_NOTHING or _of_predicted(case, mended) >= NEAR_NOTHING:
        return []
    merged = _without_classes(mended.found), case.truth.merged()
    then = score(*merged).ap50 or 0.0
    found, labels = matched(*merged, 0.5), int(case.truth.counts.sum())
    hits = len(np.unique(found.label))
    message = "The predictions hardly fit the labels, and no other reading of them fits clearly: "
    message += "other orders and units of the boxes, sizes of the image and meanings of the class "
    message += f"numbers were tried ({mended.tried} trials). Without regard to classes AP50 is "
    message += f"{then:.4f}, and {share(hits, labels)} of the labels are overlapped by half."
    name = case.imported.name
    fix = f"Look at pairs: 'ea-arrow matches {name}' and 'ea-arrow errors {name}'; and at refused"
    fix += " rows: 'ea-arrow query \"select * from rejects\"'."
    fix = _first_guess(case, hits, labels) + fix
    evidence = {"trials": mended.tried, "ap50_without_classes": then, "overlapped": hits}
    return [
        Finding("nothing_fits", "warning", message, evidence | {"labels": labels}, now, None, fix)
    ]


def _of_predicted(case: Case, mended: Mended) -> float:
    """AP50 of the data units and classes that have predictions: the rest is said elsewhere."""
    found, truth = mended.found, case.truth
    among = np.isin(truth.unit, found.unit) & np.isin(truth.klass, found.klass)
    return ap50(found, truth.within(among)) or 0.0


def _first_guess(case: Case, hits: int, labels: int) -> str:
    if case.imported.unit_key == "position":
        return (
            "Data units were matched by their position: are they in the project's order? --match "
            "names other keys. "
        )
    if hits >= HALF * labels:
        return "The boxes fit, the classes do not: which class is each number? See --map. "
    return "Are these the data units and the labels that the model saw? "


def _without_classes(found: Detections) -> Detections:
    return replace(found, klass=np.zeros_like(found.klass))
