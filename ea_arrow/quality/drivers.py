"""What drives performance: how often a model is right, over the range of every quality metric.

For predictions it is their precision, for labels their false-negative rate. A metric is cut into
quantile bins; the more its bins differ, the more it says about the model, and mutual information
puts a number on that. Encord Active used 50 bins and showed no intervals; few bins with intervals
tell a trend from chance.

How a metric's rows are binned:

* Bins hold as many rows as each other, as far as possible: equal values are never parted, so a
  cut that falls into a run of them moves to the nearer end. A metric with few distinct values has
  a bin for each, or fewer bins.
* A bin's bounds are the lowest and the highest value in it: both belong to it.
* NaN and infinite values are *undefined*: they have a bin of their own, without number and bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from ea_arrow.errors import ParameterError
from ea_arrow.parallel import each
from ea_arrow.quality.declared import BINS as BINS
from ea_arrow.quality.mutual_information import corrected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ea_arrow.arranged import Bools, Floats, Ints

DriverTarget: TypeAlias = Literal["prediction", "label"]
"""What is right or wrong."""

MOST_BINS = 1000

_Z = 1.959963984540054  # so many standard deviations around the mean hold 95 % of a normal one


@dataclass(frozen=True)
class Drivers:
    """What drives performance.

    Attributes:
        ranking: One row per metric in the shape of ``DRIVERS``, by falling mutual information.
        bins: One row per bin in the shape of ``DRIVER_BINS``: metrics in the same order, bins by
            rising values, that of undefined values last.
    """

    ranking: pa.Table
    bins: pa.Table


@dataclass(frozen=True)
class _Binned:
    """One metric in B bins.

    Attributes:
        low: Lowest value in each, shape (B,).
        high: Highest value in each, shape (B,).
        n: Rows in each, and then those whose value is undefined, shape (B + 1,).
        good: Correct ones among them, shape (B + 1,).
        correlation: Pearson's, of value and correctness.
    """

    low: Floats
    high: Floats
    n: Ints
    good: Ints
    correlation: float


def drivers(
    values: Mapping[str, Floats],
    correct: Bools,
    *,
    target: DriverTarget = "prediction",
    counted: Bools | None = None,
    bins: int = BINS,
) -> Drivers:
    """Rank metrics by what they say about correctness.

    The order of the rows changes nothing, down to the last bit, and putting a metric on another
    rising scale changes nothing but bounds and correlation.

    Args:
        values: For each metric one value per prediction or label, shape (n,), NaN if undefined.
        correct: Whether the prediction is a true positive, or the label was found, shape (n,).
        target: What the rows are. Of a ``prediction`` the rate is precision: the share of correct
            ones; of a ``label`` it is the false-negative rate: the share of those not found.
        counted: Which rows take part, shape (n,): all but the ignored. By default all.
        bins: Into how many bins each metric is cut.

    Raises:
        ParameterError: There are too few or too many bins, or columns differ in length.
    """
    if not 1 <= bins <= MOST_BINS:
        raise ParameterError(f"{bins} bins were asked for; it can be 1 to {MOST_BINS:,}.")
    correct = np.asarray(correct, dtype=bool)
    rows = np.ones(len(correct), dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
    columns = [("counted", rows), *values.items()]
    for name, column in columns:
        if len(column) != len(correct):
            message = f"'{name}' has {len(column):,} values, but there are {len(correct):,} rows."
            raise ParameterError(message)
    good, bad = (np.flatnonzero(rows & flags) for flags in (correct, ~correct))

    def binned(column: Floats) -> _Binned:
        return _bin(column[good], column[bad], bins)

    found = each(binned, list(values.values()))
    ranked = [(metric, b, _judge(b, target)) for metric, b in zip(values, found, strict=True)]
    ranked.sort(key=lambda one: (-np.nan_to_num(one[2]["mutual_information"], nan=-1), one[0]))
    return Drivers(
        _ranking([(metric, judged) for metric, _, judged in ranked], target),
        _bins([(metric, b) for metric, b, _ in ranked], target),
    )


def wilson(hits: Ints, n: Ints, z: float = _Z) -> tuple[Floats, Floats]:
    """Bounds of Wilson's confidence interval of a proportion (1927; no continuity correction).

    Unlike mean ± 1.96 standard errors it stays within 0 … 1 and has a width at 0 and at 1.

    Args:
        hits: How often it came true, shape (B,).
        n: Of how many times, shape (B,); of none the bounds are NaN.
        z: Width in standard deviations: by default for a level of 95 %.
    """
    count = np.where(n > 0, n, np.nan)
    centre = (hits + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * np.sqrt(hits * (count - hits) / count + z**2 / 4)
    # Exact where rounding would leave 1e-17 or put the rate itself outside.
    low = np.where(hits == 0, 0.0, centre - half)
    high = np.where(hits == n, 1.0, centre + half)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def _bin(good: Floats, bad: Floats, bins: int) -> _Binned:
    """Bin the values of the correct and of the wrong rows.

    Sorted apart they need no indices: sorting bare numbers is several times faster. All sums are
    over sorted values, so that the order of the rows cannot show in them.
    """
    right, wrong = _defined(good), _defined(bad)
    ordered = np.concatenate([right, wrong])
    ordered.sort(kind="stable")  # merges the two
    undefined = len(good) - len(right), len(bad) - len(wrong)
    cuts = _cuts(ordered, bins)
    bounds = np.concatenate([[0], cuts, [len(ordered)]]) if len(ordered) else np.zeros(1, np.int64)
    ends = np.concatenate([np.searchsorted(right, ordered[bounds[:-1]]), [len(right)]])
    return _Binned(
        low=ordered[bounds[:-1]],
        high=ordered[bounds[1:] - 1],
        n=np.append(np.diff(bounds), sum(undefined)),
        good=np.append(np.diff(ends), undefined[0]),
        correlation=_correlation(right, wrong, ordered),
    )


def _defined(column: Floats) -> Floats:
    """Finite values, sorted, as float64, with −0 as 0, which equals it."""
    some: Floats = column[np.isfinite(column)].astype(np.float64) + 0.0
    some.sort()
    return some


def _cuts(ordered: Floats, bins: int) -> Ints:
    """Where bins but the first begin in sorted values, each where a new value does."""
    n = len(ordered)
    wanted = np.arange(1, bins) * n // bins
    wanted = wanted[(wanted > 0) & (wanted < n)]
    begin = np.searchsorted(ordered, ordered[wanted])
    end = np.searchsorted(ordered, ordered[wanted], side="right")
    cuts = np.unique(np.where(wanted - begin <= end - wanted, begin, end))
    inner: Ints = cuts[(cuts > 0) & (cuts < n)]
    return inner


def _correlation(right: Floats, wrong: Floats, ordered: Floats) -> float:
    """Pearson's (point-biserial) correlation of value and correctness; NaN if one is constant."""
    if not len(right) or not len(wrong) or ordered[0] == ordered[-1]:
        return float("nan")
    scale = max(abs(ordered[0]), abs(ordered[-1]))  # squares of huge values would be infinite
    mean = (ordered / scale).mean()
    deviation = np.sqrt(((ordered / scale - mean) ** 2).mean())
    if not deviation:
        return float("nan")
    apart = (right / scale - mean).mean() - (wrong / scale - mean).mean()
    share = len(right) / len(ordered)
    return float(np.clip(apart * np.sqrt(share * (1 - share)) / deviation, -1, 1))


def _is_clear(hits: Ints, n: Ints) -> bool:
    """Whether two bins differ more than chance would make any two.

    With 95 % intervals some two of ten bins lie apart for one in six metrics that say nothing, and
    of fifty bins for most. So the level rises with the pairs of bins (Bonferroni), and a width of
    z/√2 each makes two intervals touch where their difference is z standard errors: at most about
    one such metric in twenty is taken for clear.
    """
    from statistics import NormalDist  # takes a while to load

    pairs = max(len(n) * (len(n) - 1) // 2, 1)
    z = NormalDist().inv_cdf(1 - 0.05 / 2 / pairs) / np.sqrt(2)
    low, high = wilson(hits, n, z)
    return bool(low.max() > high.min())


def _direction(correlation: float, n: int) -> str | None:
    """At which end errors gather: ``high`` or ``low``; None if it may be chance (95 %)."""
    if not abs(correlation) * np.sqrt(n) > _Z:
        return None
    return "low" if correlation > 0 else "high"


def _judge(binned: _Binned, target: DriverTarget) -> dict[str, Any]:
    """The row of a metric in ``DRIVERS``, but for its name and rank; NaN for null."""
    nan = float("nan")
    n, good = binned.n[:-1], binned.good[:-1]
    counts = np.stack([good, n - good], axis=1)
    defined, total = int(n.sum()), int(binned.n.sum())
    # Rows without a value say nothing, so a metric that few rows have cannot lead.
    shared = corrected(counts) * defined / total if defined else nan
    hits = binned.good if target == "prediction" else binned.n - binned.good
    rates = {"worst_low": nan, "worst_high": nan, "worst_rate": nan, "spread": nan}
    clear = None
    if defined:
        rate, (low, high) = hits[:-1] / n, wilson(hits[:-1], n)
        # The bin that is bad for certain, rather than one of few rows that may be bad by chance.
        worst = int(high.argmin() if target == "prediction" else low.argmax())
        rates = {
            "worst_low": binned.low[worst],
            "worst_high": binned.high[worst],
            "worst_rate": rate[worst],
            "spread": rate.max() - rate.min(),
        }
        clear = _is_clear(hits[:-1], n)
    return {
        "n": defined,
        "undefined": total - defined,
        "mutual_information": shared,
        "correlation": binned.correlation,
        "direction": _direction(binned.correlation, defined),
        **rates,
        "overall_rate": hits.sum() / total if total else nan,
        "is_clear": clear,
    }


_RANKING = pa.schema(
    {
        "target": pa.string(),
        "metric": pa.string(),
        "rank": pa.int64(),
        "n": pa.int64(),
        "undefined": pa.int64(),
        "mutual_information": pa.float64(),
        "correlation": pa.float64(),
        "direction": pa.string(),
        "worst_low": pa.float64(),
        "worst_high": pa.float64(),
        "worst_rate": pa.float64(),
        "overall_rate": pa.float64(),
        "spread": pa.float64(),
        "is_clear": pa.bool_(),
    }
)

_BINS = pa.schema(
    {
        "target": pa.string(),
        "metric": pa.string(),
        "bin": pa.int64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "n": pa.int64(),
        "rate": pa.float64(),
        "rate_low": pa.float64(),
        "rate_high": pa.float64(),
    }
)


def _ranking(ranked: Sequence[tuple[str, dict[str, Any]]], target: DriverTarget) -> pa.Table:
    rows = [
        {"target": target, "metric": metric, "rank": place, **judged}
        for place, (metric, judged) in enumerate(ranked, start=1)
    ]
    columns = [
        pa.array([row[column.name] for row in rows], column.type, from_pandas=True)
        for column in _RANKING
    ]
    return pa.table(columns, schema=_RANKING)


def _bins(ranked: Sequence[tuple[str, _Binned]], target: DriverTarget) -> pa.Table:
    parts = [_bins_of(metric, binned, target) for metric, binned in ranked]
    return pa.concat_tables([_BINS.empty_table(), *parts]).combine_chunks()


def _bins_of(metric: str, binned: _Binned, target: DriverTarget) -> pa.Table:
    """The rows of a metric in ``DRIVER_BINS``."""
    size = len(binned.n) if binned.n[-1] else len(binned.n) - 1
    n, good = binned.n[:size], binned.good[:size]
    hits = good if target == "prediction" else n - good
    rate_low, rate_high = wilson(hits, n)
    number = np.arange(size)
    columns = {
        "target": [target] * size,
        "metric": [metric] * size,
        "bin": pa.array(number, mask=number == len(binned.low)),
        "low": pa.array(np.append(binned.low, np.nan)[:size], from_pandas=True),
        "high": pa.array(np.append(binned.high, np.nan)[:size], from_pandas=True),
        "n": n,
        "rate": hits / n,
        "rate_low": rate_low,
        "rate_high": rate_high,
    }
    return pa.table(columns, schema=_BINS)
