"""What a COCO evaluation is asked for, and the numbers that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from ea_arrow.candidates import IouType, effective_threshold
from ea_arrow.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

AREAS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "all": (0.0, 1e10),
        "small": (0.0, 32.0**2),
        "medium": (32.0**2, 96.0**2),
        "large": (96.0**2, 1e10),
    }
)
MOST_DETECTIONS: Final = 2**31 - 1
_LETTERS: Final = {"small": "s", "medium": "m", "large": "l"}


@dataclass(frozen=True)
class CocoParameters:
    """What pycocotools calls ``Params``; the defaults are its own.

    Attributes:
        iou_type: Compare boxes (``bbox``) or masks (``segm``).
        iou_thresholds: IoU from which a pair can match (T), ascending, above 0 and at most 1.
        recall_thresholds: Recalls at which precision is read (R), ascending, 0 … 1.
        areas: Name → (lowest, highest) area in pixels², both ends included (A). The first is what
            numbers are read at that name no area.
        max_detections: Most confident predictions counted per data unit and class (M); sorted.
        annotation_id_zero_counts: pycocotools never counts a label whose id is 0 as found. ``True``
            gives the corrected numbers.

    Raises:
        ParameterError: A value is out of its range.
    """

    iou_type: IouType = "bbox"
    iou_thresholds: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
    recall_thresholds: tuple[float, ...] = tuple(np.linspace(0.0, 1.0, 101).tolist())
    areas: Mapping[str, tuple[float, float]] = field(default_factory=lambda: AREAS)
    max_detections: tuple[int, ...] = (1, 10, 100)
    annotation_id_zero_counts: bool = False

    def __post_init__(self) -> None:
        if self.iou_type not in get_args(IouType):
            raise ParameterError(f"iou_type is {self.iou_type!r}; expected 'bbox' or 'segm'.")
        for name in ("iou_thresholds", "recall_thresholds", "max_detections", "areas"):
            if not len(getattr(self, name)):
                raise ParameterError(f"{name} is empty; at least one value is needed.")
        for name in ("iou_thresholds", "recall_thresholds"):
            values = tuple(float(value) for value in getattr(self, name))
            if list(values) != sorted(values):
                raise ParameterError(f"{name} must ascend, got {values}.")
            object.__setattr__(self, name, values)
        self._check_ranges()
        object.__setattr__(self, "max_detections", tuple(sorted(map(int, self.max_detections))))

    @property
    def lowest(self) -> float:
        """The IoU from which a pair matters."""
        return effective_threshold(self.iou_thresholds[0])

    @property
    def match_as_pycocotools(self) -> bool:
        """Whether thresholds and area ranges are pycocotools' own."""
        own = self.iou_thresholds == CocoParameters.iou_thresholds
        return own and list(self.areas.items()) == list(AREAS.items())

    def _check_ranges(self) -> None:
        for value in self.iou_thresholds:
            check_iou_threshold(value)
        for value in self.recall_thresholds:
            if not 0 <= value <= 1:
                raise ParameterError(f"A recall lies between 0 and 1, got {value:g}.")
        for most in self.max_detections:
            if not 1 <= most <= MOST_DETECTIONS or most != int(most):
                raise ParameterError(
                    f"Maximum detections are whole numbers from 1 to {MOST_DETECTIONS:,}, "
                    f"got {most}."
                )
        for name, (low, high) in self.areas.items():
            if not name:
                raise ParameterError("An area range has no name.", hint="As tiny=0:256.")
            if not 0 <= low <= high:
                raise ParameterError(
                    f"Area range '{name}' goes from {low:g} to {high:g}; expected 0 ≤ low ≤ high."
                )


def check_iou_threshold(value: float) -> None:
    """Refuse an IoU threshold that is out of range.

    Raises:
        ParameterError: It is not above 0 and at most 1.
    """
    if not 0 < value <= 1:
        raise ParameterError(
            f"An IoU threshold is above 0 and at most 1, got {value:g}.",
            hint="At 0 any two objects of a class would match." if value <= 0 else None,
        )


@dataclass(frozen=True)
class Number:
    """One number of an evaluation: what it averages, as positions in the parameters.

    Attributes:
        name: As pycocotools' users know it: AP, AP50, APs, AR100, …
        is_recall: Average recall instead of average precision.
        threshold: The one IoU threshold, or None for the mean over all.
        area: The area range.
        cut: The maximum detections.
    """

    name: str
    is_recall: bool
    threshold: int | None
    area: int
    cut: int


def numbers_of(parameters: CocoParameters) -> list[Number]:
    """Return the numbers in pycocotools' order; with its parameters, its twelve.

    Precision is averaged over all IoU thresholds (AP) and, where there are several, also at 0.50
    and 0.75, or at each of those that the user chose; then for each further area range. Recall is
    averaged at each maximum of detections, then at the largest for each further area range.
    """
    thresholds, last = parameters.iou_thresholds, len(parameters.max_detections) - 1
    chosen = list(enumerate(thresholds)) if len(thresholds) > 1 else []
    if thresholds == CocoParameters.iou_thresholds:
        chosen = [(t, value) for t, value in chosen if value in (0.5, 0.75)]
    numbers = [Number("AP", False, None, 0, last)]
    numbers += [Number(f"AP{value * 100:.12g}", False, t, 0, last) for t, value in chosen]
    further = [
        (_suffix(name, parameters.areas[name]), area)
        for area, name in enumerate(parameters.areas)
        if area
    ]
    numbers += [Number(f"AP{suffix}", False, None, area, last) for suffix, area in further]
    numbers += [
        Number(f"AR{most}", True, None, 0, cut)
        for cut, most in enumerate(parameters.max_detections)
        if most not in parameters.max_detections[:cut]
    ]
    numbers += [Number(f"AR{suffix}", True, None, area, last) for suffix, area in further]
    return numbers


def _suffix(name: str, bounds: tuple[float, float]) -> str:
    """The letter of COCO's own area ranges, the name of any other."""
    return _LETTERS[name] if name in _LETTERS and AREAS[name] == bounds else f"_{name}"
