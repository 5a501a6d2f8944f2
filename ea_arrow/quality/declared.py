"""How a quality metric is declared: what it is, what it needs, and which values are suspicious."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Target = Literal["prediction", "label", "image"]
"""What a value is about: a row of predictions, a row of labels, or a data unit."""

Need = Literal["geometry", "shape", "order", "track", "probabilities", "pixels", "embeddings"]
"""What a metric is computed from: boxes and areas; masks and polygons themselves; the order of
frames; tracks; class probabilities; the image; a vector per image or object."""

Direction = Literal["high", "low", "both", "none"]
"""Which values ask for a look: high ones, low ones, both ends, or neither."""

BINS: Final = 10
"""Into how many quantile bins a metric is cut if nothing else is asked for."""


@dataclass(frozen=True)
class Metric:
    """One quality metric.

    Attributes:
        name: As in ``quality.metric`` and as a column of the wide views: ``object_area_relative``.
        title: For people: as Encord Active called it, where it had it.
        targets: What it is computed for.
        needs: What it is computed from.
        doc: What it measures, with its unit and range.
        source: Where the formula is from.
        direction: Which values are suspicious.
        compute: One function on columns. For objects it takes
            :class:`~ea_arrow.quality.objects.Objects` and returns values of shape (n,), NaN where
            undefined; a metric of whole data units returns one per data unit.
        per_unit: Whether ``compute`` returns one value per data unit rather than per object.
    """

    name: str
    title: str
    targets: tuple[Target, ...]
    needs: tuple[Need, ...]
    doc: str
    source: str
    direction: Direction
    compute: Callable[..., Any]
    per_unit: bool = False
