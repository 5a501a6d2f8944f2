"""All checks of one iteration, each finding with the command that removes its cause."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.doctor import coverage, ranking, rows
from ea_arrow.doctor.misread import misread
from ea_arrow.doctor.one_based import check_shifts
from ea_arrow.doctor.reading import read_case
from ea_arrow.doctor.trials import Trials
from ea_arrow.store import Store

if TYPE_CHECKING:
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.findings import Finding
    from ea_arrow.doctor.trials import Mended
    from ea_arrow.project import Project

CHECKS: Final = (
    "the order of a box's four numbers",
    "fractions read as pixels, and pixels as fractions",
    "coordinates of a resized image",
    "pixels counted from 1",
    "boxes that all lie off by the same",
    "the numbers of classes",
    "predictions that are all of one class",
    "rows that repeat another exactly",
    "rows that nearly repeat another",
    "scores that rank the worst first",
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
        shapes: Whether there are masks or polygons, of which AP50 here is that of their boxes.
    """

    iteration: str
    findings: list[Finding]
    checks: tuple[str, ...]
    ap50: float | None
    data_units: int
    sampled: int | None
    trials: int
    shapes: bool = False

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
            "shapes": self.shapes,
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
        shapes=case.has_shapes,
    )


def _findings(case: Case, trials: Trials, mended: Mended) -> list[Finding]:
    now = mended.now.ap50
    again = rows.repeated(case, mended)
    found = misread(case, mended)
    shifted = check_shifts(case, trials, mended)
    found += shifted
    one_class = ranking.check_one_class(case, mended)
    found += one_class + ranking.check_inverted(case, mended)
    found += coverage.check_unknown_units(case, now)
    if mended.classes is None:  # else that explains them
        found += coverage.check_unknown_classes(case)
    found += rows.check_repeats(case, mended, again)
    found += rows.check_near_repeats(case, mended, again)
    found += rows.check_scores(case)
    found += rows.check_cap(case)
    if mended.boxes is None:
        found += [] if shifted else rows.check_outside(case)
        found += rows.check_empty(case)
        found += rows.check_masks(case)
    if not (mended.changed and case.refused.left_out):  # else what is missing may be among those
        found += coverage.check_units(case, mended)
        found += [] if one_class else coverage.check_classes(case, mended)
    if not any(finding.severity == "error" for finding in found):
        found += ranking.check_low(case, mended)
    return _with_commands(case, found)


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
        fix, remark = finding.fix, None
        if isinstance(fix, tuple):
            own = words if finding.failed else [*words, *fix]
            fix, remark = case.imported.command(*own), case.imported.remark
            if fix is None:
                fix = "A prediction loop wrote it, or a format without options: mend it there. "
                fix, remark = f"{fix}For other files the options would be {' '.join(own)}.", None
        done.append(replace(finding, fix=fix, remark=remark))
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
