"""What can be asked of an iteration, in one form that names a result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ea_arrow.errors import ParameterError, did_you_mean
from ea_arrow.metrics.parameters import AREAS, CocoParameters, check_iou_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ea_arrow.candidates import IouType
    from ea_arrow.slices import Subset

Protocol = Literal["coco", "encord", "classification"]
AnyProtocol = Literal["coco", "coco_id_zero_counts", "encord", "classification"]
MATCH_THRESHOLD: Final = 0.5
_EXPECTED: Final = {
    "iou_thresholds": "numbers above 0 and at most 1",
    "max_detections": "whole numbers from 1",
    "areas": "names with a lowest and a highest area",
    "confidence": "a number",
}
_IDLE: Final = {
    "coco": ("ignore_unmatched_frames",),
    "encord": ("areas", "max_detections"),
    "classification": (
        *("ignore_unmatched_frames", "areas", "max_detections"),
        *("iou_type", "iou_thresholds", "confidence"),
    ),
}


def _whole(number: Any) -> int:
    if not isfinite(number) or number != int(number):
        raise ParameterError(f"Maximum detections are whole numbers from 1, got {number:g}.")
    return int(number)


@dataclass(frozen=True)
class Question:
    """What is asked of an iteration; what is None has the protocol's default.

    Attributes:
        protocol: How predictions and labels are paired.
        iou_type: Boxes or masks; by default what the iteration holds.
        iou_thresholds: Of ``coco`` metrics 0.50:0.95, of everything else 0.5.
        areas: Area ranges of ``coco`` metrics.
        max_detections: Cuts of ``coco`` metrics.
        confidence: Predictions of at least this score take part, in a confusion matrix.
        ignore_unmatched_frames: ``encord``: recall over data units with predictions only.
        subset: The data units; by default all.

    Raises:
        ParameterError: A value is unknown or out of range.
    """

    protocol: Protocol = "coco"
    iou_type: IouType | None = None
    iou_thresholds: tuple[float, ...] | None = None
    areas: Mapping[str, tuple[float, float]] | None = None
    max_detections: tuple[int, ...] | None = None
    confidence: float | None = None
    ignore_unmatched_frames: bool = False
    subset: Subset | None = None

    def __post_init__(self) -> None:
        if self.protocol not in get_args(Protocol):
            known = ", ".join(get_args(Protocol))
            raise ParameterError(
                f"There is no protocol '{self.protocol}'.",
                hint=did_you_mean(self.protocol, get_args(Protocol)) or f"There are: {known}.",
            )
        self._take("iou_thresholds", lambda given: tuple(map(float, given)))
        self._take("max_detections", lambda given: tuple(map(_whole, given)))
        self._take(
            "areas", lambda given: {str(n): (float(a), float(b)) for n, (a, b) in given.items()}
        )
        self._take("confidence", float)
        if self.confidence is not None and not self.confidence == self.confidence:
            raise ParameterError("A confidence is a number, got NaN.")
        self.parameters(self.iou_type or "bbox")  # checks what it takes

    def _take(self, name: str, convert: Callable[[Any], Any]) -> None:
        """Take NumPy's numbers for Python's, and refuse what is none."""
        given = getattr(self, name)
        if given is None:
            return
        try:
            taken = convert([] if isinstance(given, str) else given)
        except ParameterError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            message = f"{name} cannot be {given!r}; expected {_EXPECTED[name]}."
            raise ParameterError(message) from error
        object.__setattr__(self, name, taken)

    def check_effect(self) -> None:
        """Refuse what metrics of the protocol do not look at: it would seem to say something.

        Raises:
            ParameterError: Something is given that says nothing.
        """
        for name in _IDLE[self.protocol]:
            if getattr(self, name) not in (None, False):
                raise ParameterError(f"{name} says nothing to protocol {self.protocol}.")

    @property
    def iou_threshold(self) -> float:
        """The one IoU threshold of matches, confusion matrices and operating points.

        Raises:
            ParameterError: Several were given.
        """
        if self.iou_thresholds is None:
            return MATCH_THRESHOLD
        if len(self.iou_thresholds) != 1:
            raise ParameterError(f"Expected one IoU threshold, got {len(self.iou_thresholds)}.")
        check_iou_threshold(self.iou_thresholds[0])
        return self.iou_thresholds[0]

    @property
    def subset_name(self) -> str:
        """The name of the subset, or ``all``."""
        return self.subset.name if self.subset else "all"

    def parameters(self, iou_type: IouType) -> CocoParameters:
        """The parameters of a ``coco`` evaluation."""
        given = {
            name: value
            for name in ("iou_thresholds", "areas", "max_detections")
            if (value := getattr(self, name)) is not None
        }
        return CocoParameters(iou_type=iou_type, **given)

    def fingerprint(self, iou_type: IouType) -> str:
        """Equal for equal questions."""
        parts: dict[str, Any] = {
            "protocol": self.protocol,
            "iou_type": iou_type,
            "iou_thresholds": self.iou_thresholds,
            "areas": list((self.areas or AREAS).items()),
            "max_detections": self.max_detections,
            "confidence": self.confidence,
            "ignore_unmatched_frames": self.ignore_unmatched_frames,
            "subset": [self.subset.name, self.subset.fingerprint] if self.subset else None,
        }
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
