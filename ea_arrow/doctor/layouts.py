"""Other ways to read the four numbers of a box, and what each makes of the boxes there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.formats import LAYOUTS

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats
    from ea_arrow.sources.formats import Layout

Scale = Literal[
    "pixels",
    "relative",
    "percent",
    "thousandths",
    "stretched",
    "letterboxed",
    "padded",
    "shortest",
]
"""What coordinates count: the first two an import can be told, of the others the model's output
has to be scaled before."""

TOLERANCE: Final = 1e-6
"""How far outside [0, 1] a relative coordinate may lie, as at import."""

_DIVISOR: Final = {"relative": 1.0, "percent": 100.0, "thousandths": 1000.0}
_Y_FIRST: Final = ("yxhw", "yxyx")


@dataclass(frozen=True)
class BoxReading:
    """A way to read four numbers.

    Attributes:
        layout: Their order.
        scale: What they count.
        one_based: Pixels count from 1 and corners are inclusive.
        side: Of the resized image, in pixels, where the scale is one: of the square, or its shorter
            side (``shortest``).
        most: The longest that the longer side became (``shortest``).
    """

    layout: Layout = "xywh"
    scale: Scale = "pixels"
    one_based: bool = False
    side: int = 0
    most: int = 0

    @property
    def relative(self) -> bool:
        """Whether they are fractions of the data unit."""
        return self.scale == "relative"

    @property
    def importable(self) -> bool:
        """Whether an import can be told so."""
        return self.scale in ("pixels", "relative")

    def boxes(self, numbers: Floats, size: Floats) -> tuple[Floats, Bools]:
        """Read numbers (n, 4) of data units of a size (n, 4).

        Returns:
            Left, top, width, height in pixels, and which rows an import would keep.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            box = to_xywh(numbers, self.layout, one_based=self.one_based)
            fine: Bools = np.isfinite(box).all(axis=1) & (box[:, 2] >= 0) & (box[:, 3] >= 0)
            if self.scale in _DIVISOR:
                box = box / _DIVISOR[self.scale] if self.scale != "relative" else box
                ends = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
                fine &= ((ends >= -TOLERANCE) & (ends <= 1 + TOLERANCE)).all(axis=1)
                box = box * size
            elif self.side:
                box = self._unresized(box, size)
        return box, fine

    def _unresized(self, box: Floats, size: Floats) -> Floats:
        if self.scale == "stretched":
            return box * size / self.side
        longest = size.max(axis=1, keepdims=True)
        box = box / self.factor(size)[:, None]
        if self.scale == "letterboxed":
            box[:, :2] -= (longest - size[:, :2]) / 2
        return box

    def factor(self, size: Floats) -> Floats:
        """By how much images of a size (n, 2 or 4) were enlarged, keeping their shape (n)."""
        factor: Floats = self.side / size.max(axis=1)
        if self.scale == "shortest":
            factor = np.minimum(self.side / size.min(axis=1), self.most / size.max(axis=1))
        return factor


def to_numbers(xywh: Floats, reading: BoxReading) -> Floats:
    """The four numbers that :func:`~ea_arrow.sources.boxes.to_xywh` made a box of.

    >>> to_numbers(np.array([[10.0, 20, 20, 30]]), BoxReading("yxyx")).tolist()
    [[20.0, 10.0, 50.0, 30.0]]
    """
    first, second = xywh[:, :2], xywh[:, 2:]
    if reading.layout in ("xyxy", "yxyx"):
        second = first + second
    elif reading.layout == "cxcywh":
        first = first + second / 2
    if reading.one_based:
        first = first + 1
    numbers = np.concatenate([first, second], axis=1)
    return numbers[:, [1, 0, 3, 2]] if reading.layout in _Y_FIRST else numbers


def other_readings(now: BoxReading, numbers: Floats) -> list[BoxReading]:
    """Readings that the numbers allow, without the present one; of resized images see ``resized``.

    Args:
        now: As they are read.
        numbers: Shape (n, 4), as the file has them.
    """
    if not len(numbers):
        return []
    scales: list[Scale] = [now.scale]
    reach = float(np.quantile(np.abs(numbers).max(axis=1), 0.99))
    if now.relative:
        scales += ["pixels"] if reach > 2 else []
    elif reach <= 2:
        scales.append("relative")
    elif reach <= 101:
        scales.append("percent")
    elif reach <= 1001:
        scales.append("thousandths")
    found = [
        replace(now, layout=layout, scale=scale, one_based=now.one_based and scale == now.scale)
        for scale in scales
        for layout in LAYOUTS
    ]
    return [reading for reading in found if reading != now]
