"""Checks of what predictions and labels are about: data units and classes that one side lacks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.doctor.findings import Finding, counted, differ, listed, share
from ea_arrow.doctor.scoring import Detections, ap50
from ea_arrow.errors import did_you_mean

if TYPE_CHECKING:
    from ea_arrow.arranged import Ints
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.trials import Mended

MANY_UNITS: Final = 0.1
MANY_LABELS: Final = 0.2
MANY_REFUSED: Final = 0.01
_KEYS: Final = ("source_id", "title", "name", "stem", "number", "data_hash")


def check_units(case: Case, mended: Mended) -> list[Finding]:
    """Data units that have labels and no predictions, once rows are read as they should be."""
    labelled, predictions = case.units.labels > 0, case.units.predictions
    if mended.changed:
        labelled = labelled & case.units.chosen
        predictions = np.bincount(mended.found.unit, minlength=len(labelled))
    without = labelled & (predictions == 0)
    number, of = int(without.sum()), int(labelled.sum())
    if not number:
        return []
    truth = case.truth.within((predictions > 0)[case.truth.unit])
    names = case.units.names.take(np.flatnonzero(without)[:4]).to_pylist()
    message = f"{counted(number, 'data unit', ('has', 'have'))} labels and no predictions "
    message += f"({share(number, of)}): {listed(names)}."
    then = ap50(mended.found, truth)
    message += _of_others(mended, then)
    how = "the option --append" if case.imported.files else "the writer's mode='append'"
    return [
        Finding(
            kind="data_units_without_predictions",
            severity="warning" if number >= MANY_UNITS * of else "note",
            message=message,
            evidence={"data_units": number, "of": of, "first": names},
            ap50_now=mended.then.ap50,
            ap50_then=then,
            fix=f"Predict them too, and add them with {how}.",
        )
    ]


def check_classes(case: Case, mended: Mended) -> list[Finding]:
    """Classes that have labels and no predictions, once rows are read as they should be."""
    truth = case.truth
    counts = np.bincount(truth.klass[truth.counts], minlength=truth.n_classes)
    predicted = np.bincount(mended.found.klass, minlength=truth.n_classes)
    never = (counts > 0) & (predicted == 0)
    number = int(never.sum())
    if not number or not len(mended.found):
        return []
    labels = int(counts[never].sum())
    names = [case.class_names[k] for k in np.flatnonzero(never)]
    message = (
        f"{counted(number, 'class', ('has', 'have'))} labels ({labels:,}) and no predictions: "
    )
    message += f"{listed(names, 5)}."
    then = ap50(mended.found, truth.within(~never[truth.klass]))
    message += _of_others(mended, then)
    return [
        Finding(
            kind="classes_without_predictions",
            severity="warning" if labels >= MANY_LABELS * counts.sum() else "note",
            message=message,
            evidence={"classes": number, "labels": labels, "first": names[:20]},
            ap50_now=mended.then.ap50,
            ap50_then=then,
            fix="Does the model know them by another name or number? See --map in "
            "'ea-arrow import --help'.",
        )
    ]


def _of_others(mended: Mended, then: float | None) -> str:
    if not differ(mended.then.ap50, then):
        return ""
    return f" The second AP50 is that of the others{mended.once}."


def check_unknown_units(case: Case, now: float | None) -> list[Finding]:
    """Rows refused because the project has no such data unit; another key may find them."""
    refused = case.refused
    number = refused.rules.get("unknown_data_unit", 0)
    if not number:
        return []
    units = [u for u, lost in zip(refused.units, refused.unknown_unit, strict=True) if lost and u]
    distinct = list(dict.fromkeys(units))
    evidence: dict[str, Any] = {"rows": number, "first": distinct[:20]}
    message = f"{counted(number, 'row', ('names', 'name'))} data units that the project lacks"
    message += f": {listed(distinct)}." if distinct else "."
    total = number + len(case.now)
    severity = "warning" if number >= MANY_REFUSED * total else "note"
    key, found = _best_key(case)
    hits = int((found >= 0).sum())
    if hits * 2 < len(units) or not hits:
        what = "Are these of another split? 'ea-arrow query \"select * from rejects\"' lists them."
        return [Finding("unknown_data_units", severity, message, evidence, fix=what)]  # type: ignore[arg-type]
    evidence |= {"match": key, "found": hits}
    message += f" By {key} {hits:,} of them would be found."
    then = ap50(_with_units(case, found), case.truth)
    fix: tuple[str, ...] | str = ("--match", key)
    if hits <= len(case.now):  # by that key the others would be lost
        message += " The file names data units in two ways."
        fix = "Name all data units in one way in the file, then import it again."
    return [Finding("unknown_data_units", "warning", message, evidence, now, then, fix)]


def _best_key(case: Case) -> tuple[str, Ints]:
    best, most = "", np.full(len(case.refused), -1)
    for key in _KEYS:
        found = case.refused.found_by(key, case.data_units)
        found[~case.refused.unknown_unit] = -1
        if (found >= 0).sum() > (most >= 0).sum():
            best, most = key, found
    return best, most


def _with_units(case: Case, unit: Ints) -> Detections:
    """The predictions, and behind them the refused rows whose data unit another key finds."""
    position = {reference: i for i, reference in enumerate(case.references)}
    at = [position.get(c or "", -1) for c in case.refused.classes]
    klass = np.append(case.reference_class, -1)[np.array(at, np.int64)]
    size = case.truth.size[unit]
    box, fine = case.imported.reading.boxes(case.refused_numbers, size)
    fine &= (unit >= 0) & (klass >= 0)
    more = Detections(unit, klass, box, box[:, 2] * box[:, 3], case.refused.confidence).take(fine)
    return case.now.followed_by(more)


def check_unknown_classes(case: Case) -> list[Finding]:
    """Rows refused because the project has no such class."""
    number = case.refused.rules.get("unknown_class", 0)
    if not number:
        return []
    known = {r for r, k in zip(case.references, case.reference_class, strict=True) if k >= 0}
    counts = Counter(c for c in case.refused.classes if c is not None and c not in known)
    names = [name for name, _ in counts.most_common()]
    message = f"{counted(number, 'row', ('names', 'name'))} classes that the project lacks"
    message += f": {listed(names, 5)}." if names else "."
    near = did_you_mean(names[0], case.class_names) if names else None
    message += f" {near}" if near else ""
    bad = number >= MANY_REFUSED * (number + len(case.now))
    return [
        Finding(
            kind="unknown_classes",
            severity="warning" if bad else "note",
            message=message,
            evidence={"rows": number, "first": names[:20]},
            fix="Say which classes they are with --map FILE, or leave them refused if the project "
            "does not label them ('ea-arrow ontology' lists what it does).",
        )
    ]
