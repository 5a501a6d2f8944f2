"""Every quality metric there is, by what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ea_arrow.quality import (
    acquisition,
    density,
    duplicates,
    geometry,
    moments,
    neighbours,
    pixels,
    sequences,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ea_arrow.quality.declared import Metric, Target

_ALL: Final = (
    *(*geometry.METRICS, *duplicates.METRICS, *density.METRICS, *moments.METRICS),
    *(*sequences.METRICS, *acquisition.METRICS, *pixels.METRICS, *neighbours.METRICS),
)

ENGINE: Final = 1
"""Rises whenever a metric's values change: kept values are computed anew."""


def metrics_of(target: Target) -> Mapping[str, Metric]:
    """The metrics of predictions, labels or images, by name."""
    return {metric.name: metric for metric in _ALL if target in metric.targets}


def metrics() -> Mapping[str, Metric]:
    """All metrics, by name."""
    return {metric.name: metric for metric in _ALL}
