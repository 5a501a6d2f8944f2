"""All checks of one iteration, each finding with the command that removes its cause."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.doctor import coverage, rows
from ea_arrow.doctor.findings import Finding, counted
from ea_arrow.doctor.one_based import check_one_based
from ea_arrow.doctor.reading import read_case
from ea_arrow.doctor.trials import Trials
from ea_arrow.store import Store

if TYPE_CHECKING:
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.layouts import BoxReading
    from ea_arrow.doctor.trials import Mended
    from ea_arrow.project import Project

CHECKS: Final = (
    "the order of a box's four numbers",
    "fractions read as pixels, and pixels as fractions",
    "coordinates of a resized image",
    "pixels counted from 1",
    "the numbers of classes",
    "rows that repeat another exactly",
    "rows that nearly repeat another",
    "scores cut off at a threshold",
    "predictions cut off at a number",
    "scores that are all one, or no probabilities",
    "boxes outside of their data unit",
    "boxes without width or height",
    "boxes apart from their masks",
    "data units without predictions",
    "data units that the project lacks",
    "classes without predictions",
    "classes that the project lacks",
)

_ORDER: Final = {
    "xywh": "[left, top, width, height]",
    "xyxy": "[left, top, right, bottom]",
    "cxcywh": "[centre x, centre y, width, height]",
    "yxhw": "[top, left, height, width]",
    "yxyx": "[top, left, bottom, right]",
}
_UNIT: Final = {
    "pixels": "in pixels",
    "relative": "in fractions of the data unit",
    "percent": "in percent of the data unit",
    "thousandths": "in thousandths of the data unit",
    "stretched": "in pixels of a {0} × {0} image that it was resized to",
    "letterboxed": "in pixels of a {0} × {0} image that it was fitted into the middle of",
    "padded": "in pixels of a {0} × {0} image that it was fitted into the top left of",
}
_SCALE: Final = {
    "percent": "divide them by 100, then import with --relative",
    "thousandths": "divide them by 1000, then import with --relative",
    "stretched": "multiply x by width / {0} and y by height / {0}, then import",
    "letterboxed": "subtract the padding and divide by {0} / max(width, height), then import",
    "padded": "divide them by {0} / max(width, height), then import",
}


@dataclass(frozen=True)
class Examination:
    """What was found in one iteration.

    Attributes:
        iteration: Its name.
        findings: The worst first.
        checks: What was looked for.
        ap50: AP at IoU 0.5 of boxes, of the data units looked at; None without labels.
        data_units: How many data units there are.
        sampled: How many of them were looked at, if not all.
        trials: How many other readings were tried.
    """

    iteration: str
    findings: list[Finding]
    checks: tuple[str, ...]
    ap50: float | None
    data_units: int
    sampled: int | None
    trials: int

    @property
    def failed(self) -> bool:
        """Whether anything is wrong."""
        return any(finding.failed for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The examination as plain values, for JSON."""
        return {
            "iteration": self.iteration,
            "ap50": self.ap50,
            "data_units": self.data_units,
            "sampled": self.sampled,
            "trials": self.trials,
            "checks": list(self.checks),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def examine(project: Project, name: str) -> list[Finding]:
    """Find mistakes in an iteration: of its reading, its scores and what it covers.

    What AP50 would become is computed by the engine of :meth:`Project.metrics`; of large iterations
    on a sample of data units, always the same.

    Args:
        project: The project.
        name: The iteration.

    Returns:
        What was found, the worst first; empty if nothing was.

    Raises:
        IterationNotFoundError: There is none of that name.
    """
    return examination(project, name).findings


def examination(project: Project, name: str) -> Examination:
    """What :func:`examine` finds, and what was looked at.

    Raises:
        IterationNotFoundError: There is none of that name.
    """
    store = Store(project.root)
    case = read_case(store, store.iteration(name))
    if not len(case.rows.kept):
        return Examination(name, [], (), None, len(case.data_units), None, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # boxes of 1e160 have infinite areas
        trials = Trials(case)
        mended = trials.run()
        found = _findings(case, trials, mended)
    order = {"error": 0, "warning": 1, "note": 2}
    return Examination(
        iteration=name,
        findings=sorted(found, key=lambda finding: order[finding.severity]),
        checks=CHECKS,
        ap50=mended.now.ap50,
        data_units=len(case.data_units),
        sampled=int(case.units.chosen.sum()) if case.units.sampled else None,
        trials=trials.tried,
    )


def _findings(case: Case, trials: Trials, mended: Mended) -> list[Finding]:
    now = mended.now.ap50
    again = rows.repeated(case, mended)
    found = _misread(case, mended)
    found += check_one_based(case, trials, mended)
    found += coverage.check_unknown_units(case, now)
    if mended.classes is None:  # else that explains them
        found += coverage.check_unknown_classes(case)
    found += rows.check_repeats(case, mended, again)
    found += rows.check_near_repeats(case, mended, again)
    found += rows.check_scores(case)
    found += rows.check_cap(case)
    if mended.boxes is None:
        found += rows.check_outside(case)
        found += rows.check_empty(case)
        found += rows.check_masks(case)
    if not (mended.changed and case.refused.left_out):  # else what is missing may be among those
        found += coverage.check_units(case, mended)
        found += coverage.check_classes(case, mended)
    return _with_commands(case, found)


def _at_least(case: Case) -> str:
    """What to say where refused rows cannot be tried."""
    number = case.refused.left_out
    if not number:
        return ""
    rows = counted(number, "refused row")
    return f" {rows} could not be tried, so that AP50 may rise further."


def _misread(case: Case, mended: Mended) -> list[Finding]:
    """What the trials came to: one finding for boxes, one for classes."""
    found = []
    both = mended.boxes is not None and mended.classes is not None
    if mended.boxes is not None:
        was, reading = case.imported.reading, mended.boxes
        message = (
            f"Boxes are read as {_ORDER[was.layout]} {_UNIT[was.scale]}, but fit the labels as "
        )
        message += f"{_ORDER[reading.layout]} {_UNIT[reading.scale].format(reading.side)}."
        kind, alone = _box_kind(was, reading), mended.boxes_only
        message += " y stands before x." if kind == "y_before_x" else ""
        message += " The classes are misread too (see there)." if both else ""
        found.append(
            _trial(
                kind,
                message + _at_least(case),
                mended,
                {"box": reading.layout, "scale": reading.scale, "side": reading.side or None}
                | {"ap50_alone": alone.ap50 if alone else None},
                _box_fix(was, reading),
            )
        )
    if mended.classes is not None:
        other, alone = mended.classes, mended.classes_only
        message = f"It looks as if {other.meaning}."
        message += " The boxes are misread too (see there)." if both else ""
        message += _at_least(case)
        evidence = {"map": other.option, "ap50_alone": alone.ap50 if alone else None}
        one = _trial(other.kind, message, mended, evidence, ("--map", other.option))
        file = None if other.content is None else (other.option, other.content)
        found.append(replace(one, file=file))
    return found


def _trial(
    kind: str,
    message: str,
    mended: Mended,
    evidence: dict[str, Any],
    fix: tuple[str, ...] | str,
) -> Finding:
    evidence |= {"matched_now": mended.now.hits, "matched_then": mended.then.hits}
    evidence |= {"trials": mended.tried}
    now, then = mended.now.ap50, mended.then.ap50
    return Finding(kind, "error", message, evidence, now, then, fix)


def _box_kind(was: BoxReading, reading: BoxReading) -> str:
    """What to call a misreading."""
    if reading.scale != was.scale:
        known = {"relative": "relative_as_pixels", "pixels": "pixels_as_relative"}
        known |= {"percent": "percent_as_pixels", "thousandths": "thousandths_as_pixels"}
        return known.get(reading.scale, "resized_coordinates")
    if (reading.layout in ("yxhw", "yxyx")) != (was.layout in ("yxhw", "yxyx")):
        return "y_before_x" if reading.layout[0] == "y" else "x_before_y"
    return {
        "xyxy": "corner_as_size",
        "yxyx": "corner_as_size",
        "cxcywh": "centre_as_corner",
    }.get(reading.layout, "corner_as_centre" if was.layout == "cxcywh" else "size_as_corner")


def _box_fix(was: BoxReading, reading: BoxReading) -> tuple[str, ...] | str:
    if not reading.importable:
        what = _SCALE[reading.scale].format(reading.side)
        layout = "" if reading.layout == was.layout else f" and --box {reading.layout}"
        return f"No option of the import does this to coordinates: {what}{layout}."
    words: tuple[str, ...] = ()
    if reading.layout != was.layout:
        words += ("--box", reading.layout)
    if reading.scale != was.scale:
        words += ("--relative",) if reading.relative else ("--pixels",)
    return words


def _with_commands(case: Case, found: list[Finding]) -> list[Finding]:
    """One command for everything that options of the import mend: it replaces the iteration."""
    changes: dict[str, None] = {}
    words: list[str] = []
    for finding in found:
        if isinstance(finding.fix, tuple) and finding.failed:
            for option in _options(finding.fix):
                if option[0] not in changes:
                    changes[option[0]] = None
                    words += option
    done = []
    for finding in found:
        fix = finding.fix
        if isinstance(fix, tuple):
            own = words if finding.failed else [*words, *fix]
            fix = case.imported.command(*own)
            if fix is None:
                fix = "A prediction loop wrote it: mend it there. For a file the options would be "
                fix += f"{' '.join(own)}."
        done.append(replace(finding, fix=fix))
    return done


def _options(words: tuple[str, ...]) -> list[list[str]]:
    """Options with their values."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            found.append([word])
        else:
            found[-1].append(word)
    return found
