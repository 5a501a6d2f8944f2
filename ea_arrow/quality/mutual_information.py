"""Mutual information of a binned metric and correctness, in nats.

A metric is cut into quantile bins first, so the estimate is exact for what the bins show, does not
change if the metric is put on another monotone scale, and needs no random numbers. The
nearest-neighbour estimate of ``sklearn.feature_selection.mutual_info_classif`` has none of this:
it adds noise to part ties, of which metrics such as counts are full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ea_arrow.arranged import Ints


def mutual_information(counts: Ints) -> float:
    """Plug-in mutual information Σ p(x, y)·ln(p(x, y) / p(x)·p(y)) of a table of counts.

    Equals ``sklearn.metrics.mutual_info_score`` of the rows that were counted.

    Args:
        counts: Rows with the x-th and y-th value, shape (X, Y).

    Returns:
        Nats, from 0 to the lower of the two entropies; NaN of a table without rows.
    """
    joint = counts.astype(np.float64)
    total = joint.sum()
    if not total:
        return float("nan")
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True) / total
    some = joint > 0
    terms = joint[some] * np.log(joint[some] / apart[some])
    return max(float(terms.sum() / total), 0.0)


def miller_madow(counts: Ints) -> float:
    """What the plug-in estimate exceeds the truth by on average, to the first order of 1/rows.

    Chance alone makes the rates of bins differ, so a metric that says nothing has a plug-in
    estimate above 0, and one of more bins a higher one. Miller and Madow's correction (Miller,
    *Note on the bias of information estimates*, 1955) of the three entropies gives
    (cells − X − Y + 1) / (2·rows), of cells, rows X and columns Y that are not empty.

    Args:
        counts: Rows with the x-th and y-th value, shape (X, Y).

    Returns:
        Nats, to be taken off the plug-in estimate; NaN of a table without rows.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    cells, rows, columns = (
        np.count_nonzero(part) for part in (counts, counts.sum(axis=1), counts.sum(axis=0))
    )
    return float((cells - rows - columns + 1) / (2 * total))


def corrected(counts: Ints) -> float:
    """Mutual information less its bias, in nats; never below 0, NaN of a table without rows.

    Args:
        counts: Rows with the x-th and y-th value, shape (X, Y).
    """
    return float(np.maximum(mutual_information(counts) - miller_madow(counts), 0.0))
