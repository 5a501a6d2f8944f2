"""Acquisition scores: how unsure a model was, from the class probabilities of each prediction.

They work on the ``probabilities`` column itself, so they serve objects and classifications alike,
and lists may differ in length. A list is a distribution if its values are not negative and add up
to 1 within ``TOLERANCE``; it is then divided by its sum, so that rounding in the source takes no
score out of its range. Anything else (sigmoids of a multi-label model, logits, NaN, null, an empty
list) has no score: NaN.

Encord Active averaged these over an image, and gave an image without objects a mean confidence of
0. Here each prediction has its own, and such an image has none.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from ea_arrow.checks import ODD_SUM
from ea_arrow.errors import ParameterError
from ea_arrow.parallel import each
from ea_arrow.quality.declared import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from ea_arrow.arranged import Floats, Ints
    from ea_arrow.quality.declared import Direction
    from ea_arrow.quality.objects import Objects

TOLERANCE = ODD_SUM
"""How far from 1 the sum of a distribution may be."""

_BLOCK = 1 << 18  # probabilities looked at together; the bound on memory


def acquisition_scores(
    probabilities: pa.Array, names: Sequence[str] | None = None
) -> dict[str, Floats]:
    """Acquisition scores of predictions of any kind, in one pass over their probabilities.

    * ``entropy``: Shannon's −Σ p·log₂ p in bits; 0 if sure, log₂ K if K classes are as likely.
    * ``least_confidence``: 1 − the highest p; 0 if sure, 1 − 1/K if K classes are as likely.
    * ``margin``: the highest p less the second highest; 1 if sure, 0 if two lead together. With
      only one class there is none: NaN.
    * ``variance``: Σ (p − 1/K)² / K; (K − 1) / K² if sure, 0 if K classes are as likely.

    Args:
        probabilities: List column (n), of any kind of list; the K of a list is its length.
        names: Some of ``SCORES``; by default all.

    Returns:
        For each name values of shape (n,), NaN where there is no distribution.

    Raises:
        ParameterError: A name is not among ``SCORES``.
    """
    names = list(SCORES) if names is None else names
    for name in names:
        if name not in SCORES:
            raise ParameterError(f"'{name}' is not one of {', '.join(SCORES)}.")
    counts = pc.list_value_length(probabilities).fill_null(0)
    size = counts.to_numpy(zero_copy_only=False).astype(np.int64)
    values = pc.list_flatten(probabilities)  # without what lies under a null or outside a slice
    ends = np.cumsum(size)
    scores = {name: np.full(len(size), np.nan) for name in names}
    cuts = np.searchsorted(ends, np.arange(0, len(values), _BLOCK), side="right")

    def fill(part: tuple[int, int]) -> None:
        begin, end = part
        rows = begin + np.flatnonzero(size[begin:end])
        if not len(rows):
            return
        first, last = int(ends[rows[0]] - size[rows[0]]), int(ends[rows[-1]])
        flat = values.slice(first, last - first).to_numpy(zero_copy_only=False)
        rows, lists, length = _distributions(flat.astype(np.float64), rows, size[rows])
        if len(rows):
            starts = np.cumsum(length) - length
            for name in names:
                scores[name][rows] = SCORES[name](lists, starts, length)

    each(fill, list(pairwise(np.unique(np.append(cuts, len(size))).tolist())))
    return scores


def _distributions(flat: Floats, rows: Ints, size: Ints) -> tuple[Ints, Floats, Ints]:
    """Keep the lists that are distributions, divided by their sum.

    ``np.add.reduceat`` takes an empty list for its neighbour's first value, so lists of ``size`` 0
    must not come here.
    """
    usable = (flat >= 0) & (flat <= 1 + TOLERANCE)  # False for NaN
    flat[~usable] = np.inf
    total = np.add.reduceat(flat, np.cumsum(size) - size)
    kept = np.abs(total - 1) <= TOLERANCE
    lists = flat[np.repeat(kept, size)]
    lists /= np.repeat(total[kept], size[kept])
    return rows[kept], lists, size[kept]


def _entropy(p: Floats, starts: Ints, size: Ints) -> Floats:
    bits = np.zeros(len(p))
    np.log2(p, out=bits, where=p > 0)
    bits *= p
    return 0.0 - np.add.reduceat(bits, starts)  # rather than −0


def _least_confidence(p: Floats, starts: Ints, size: Ints) -> Floats:
    return 1 - np.maximum.reduceat(p, starts)


def _margin(p: Floats, starts: Ints, size: Ints) -> Floats:
    first = np.maximum.reduceat(p, starts)
    leaders = np.flatnonzero(p == np.repeat(first, size))
    rest = p.copy()
    rest[leaders[np.searchsorted(leaders, starts)]] = -1  # one of them: two that lead share p
    second = np.maximum.reduceat(rest, starts)
    return np.where(second < 0, np.nan, first - second)


def _variance(p: Floats, starts: Ints, size: Ints) -> Floats:
    away = (p - np.repeat(1 / size, size)) ** 2
    total: Floats = np.add.reduceat(away, starts)
    return total / size


SCORES: Mapping[str, Callable[[Floats, Ints, Ints], Floats]] = {
    "entropy": _entropy,
    "least_confidence": _least_confidence,
    "margin": _margin,
    "variance": _variance,
}
"""Name of each score and its function of lists that are distributions: their values one after the
other, where each list starts and how long it is."""


def mean_object_confidence(objects: Objects) -> Floats:
    """Mean confidence of the predicted objects of each data unit (U), NaN without any."""
    n = len(objects.units)
    given = ~np.isnan(objects.confidence)
    unit, confidence = objects.unit[given], objects.confidence[given]
    count = np.bincount(unit, minlength=n)
    total = np.bincount(unit, weights=confidence, minlength=n)
    mean = np.full(n, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _of_objects(name: str, objects: Objects) -> Floats:
    if objects.probabilities is None:
        return np.full(len(objects), np.nan)
    return acquisition_scores(objects.probabilities, [name])[name]


def _score(name: str, title: str, doc: str, direction: Direction) -> Metric:
    return Metric(
        name=name,
        title=title,
        targets=("prediction",),
        needs=("probabilities",),
        doc=doc,
        source="Encord Active's acquisition functions; Settles, Active Learning Literature Survey, "
        "2009, section 3.1.",
        direction=direction,
        compute=partial(_of_objects, name),
    )


METRICS = (
    _score(
        "entropy",
        "Entropy",
        "Entropy −Σ p·log₂ p of the class probabilities, in bits, 0 … log₂ of the number of "
        "classes; high where the model is unsure.",
        "high",
    ),
    _score(
        "least_confidence",
        "Least Confidence",
        "One minus the highest class probability, 0 … 1; high where the model is unsure.",
        "high",
    ),
    _score(
        "margin",
        "Margin",
        "Highest class probability less the second highest, 0 … 1; low where the model is unsure.",
        "low",
    ),
    _score(
        "variance",
        "Variance",
        "Variance of the class probabilities (divided by their number), 0 … 0.25; low where the "
        "model is unsure.",
        "low",
    ),
    Metric(
        name="mean_object_confidence",
        title="Mean Object Confidence",
        targets=("prediction",),
        needs=(),
        doc="Mean confidence of the objects predicted in a data unit; none without objects.",
        source="Encord Active's acquisition functions.",
        direction="low",
        compute=mean_object_confidence,
        per_unit=True,
    ),
)
"""Metrics of acquisition on :class:`~ea_arrow.quality.objects.Objects`."""
