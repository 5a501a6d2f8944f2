"""Operating points: precision, recall and F1 at every confidence one could cut predictions at.

Predictions match greedily by falling confidence, so those below a cut change nothing for those
above it, and one matching holds the counts of all cuts: they are running sums. Matching is that of
protocol ``coco`` at one IoU threshold, with one difference: a label whose id is 0 counts as found
here, because pycocotools' quirk would only mislead the choice of a confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import run_starts, stable_order
from ea_arrow.conform import conform
from ea_arrow.metrics.confusion import match_at
from ea_arrow.schema import OPERATING_POINTS

if TYPE_CHECKING:
    from ea_arrow.arranged import Arranged, Bools, Floats, Ints
    from ea_arrow.candidates import Candidates
    from ea_arrow.metrics.confusion import Outcomes

_KEYS = ["iteration", "protocol", "iou_type", "iou_threshold", "max_detections", "subset"]
_KEYS += ["feature_hash", "class"]


def operating_points(
    candidates: Candidates,
    classes: Any,
    iou_threshold: float = 0.5,
    *,
    iteration: str = "",
    iou_type: str = "bbox",
    subset: str = "all",
    max_detections: int = 100,
) -> pa.Table:
    """Count hits and misses at each confidence that occurs, per class and over all classes.

    Predictions of equal confidence share a point. An ignored prediction has one too, but counts in
    neither ``tp`` nor ``fp``. Labels without any prediction have one row, of confidence null: there
    is nothing to choose, so it is not the best. With neither there is no row.

    Args:
        candidates: With pairs down to the threshold and up to the cut.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes.
        iou_threshold: IoU from which a pair can match.
        iteration: What the result says in its column ``iteration``.
        iou_type: What it says in ``iou_type``.
        subset: What it says in ``subset``.
        max_detections: Most confident predictions counted per data unit and class.

    Returns:
        A table in the shape of ``OPERATING_POINTS``: all classes together, then each in the order
        of ``classes``; within, by falling confidence. The best point of each has the highest F1,
        and of equals the highest confidence.

    Raises:
        EaArrowError: The candidates do not reach down to the threshold or up to the cut.
    """
    points = _count(candidates.arranged, match_at(candidates, iou_threshold, max_detections))
    objects = classes.filter(pc.equal(classes.column("kind"), "object"))
    n = len(points.cell)
    position = pa.array(points.cell - 1, mask=points.cell == 0)
    columns = {
        "iteration": pa.repeat(iteration, n),
        "protocol": pa.repeat("coco", n),
        "iou_type": pa.repeat(iou_type, n),
        "iou_threshold": pa.repeat(float(iou_threshold), n),
        "max_detections": pa.repeat(max_detections, n),
        "subset": pa.repeat(subset, n),
        "feature_hash": objects.column("feature_hash").take(position),
        "class": objects.column("name").take(position),
        "confidence": pa.array(points.confidence, mask=points.is_silent),
        **_rates(points.tp, points.fp, points.fn),
        "is_best": pa.array(_best(points)),
    }
    return conform(pa.table(columns), OPERATING_POINTS)


def best(points: pa.Table) -> pa.Table:
    """Return the point with the highest F1 of each class and of all classes together.

    Args:
        points: Table in the shape of ``OPERATING_POINTS``.
    """
    return points.filter(points.column("is_best"))


def at(points: pa.Table, confidence: float) -> pa.Table:
    """Return the point that holds for each class, and for all, from a confidence up.

    That is the point with the lowest confidence of at least the given one. Where there is none,
    nothing is predicted: the row has the given confidence, no hits, and every label missed.

    Args:
        points: All points, in any order, of one or more iterations, subsets and thresholds.
        confidence: Lowest score that counts.

    Returns:
        A table in the shape of ``OPERATING_POINTS``, in the order in which the classes come.
    """
    score, tp, fp = (points.column(name) for name in ("confidence", "tp", "fp"))
    near = pc.greater_equal(score, confidence).fill_null(False)
    none = pa.scalar(None, pa.float64())
    # Down the scores tp and fp only rise, so their maxima belong to the lowest score.
    extremes = {
        "score": (pc.if_else(near, score, none), "min"),
        "best": (pc.if_else(points.column("is_best"), score, none), "max"),
        "tp": (pc.if_else(near, tp, 0), "max"),
        "fp": (pc.if_else(near, fp, 0), "max"),
        "labels": (pc.add(tp, points.column("fn")), "max"),
    }
    table = points.select(_KEYS)
    for name, (values, _) in extremes.items():
        table = table.append_column(f"of {name}", values)
    wanted = [(f"of {name}", function) for name, (_, function) in extremes.items()]
    found = table.group_by(_KEYS, use_threads=False).aggregate(wanted)
    lowest, top, tp, fp, labels = (
        found.column(f"of {name}_{function}") for name, (_, function) in extremes.items()
    )
    columns = {
        **{name: found.column(name) for name in _KEYS},
        "confidence": lowest.fill_null(float(confidence)),
        **_rates(tp.to_numpy(), fp.to_numpy(), labels.to_numpy() - tp.to_numpy()),
        "is_best": pc.equal(lowest, top).fill_null(False),
    }
    return conform(pa.table(columns), OPERATING_POINTS)


@dataclass(frozen=True)
class _Points:
    """Points (P) of all classes together (cell 0), then of each class (cell class + 1)."""

    cell: Ints
    confidence: Floats
    is_silent: Bools  # labels without any prediction: there is no confidence
    tp: Ints
    fp: Ints
    fn: Ints


def _count(arranged: Arranged, outcomes: Outcomes) -> _Points:
    """Count down each cell's scores, one point for each distinct score."""
    some = np.flatnonzero(outcomes.takes_part)
    n_cells = arranged.n_classes + 1
    # Each prediction counts twice: among all, and in its class.
    cell = np.concatenate([np.zeros(len(some), np.int64), arranged.klass[some] + 1])
    some = np.concatenate([some, some])
    n_scores = len(arranged.row)
    order = stable_order((cell, n_cells), (arranged.score_rank[some], n_scores))
    cell, some = cell[order], some[order]
    starts = run_starts(cell * n_scores + arranged.score_rank[some])
    ends = np.append(starts, len(cell))[1:] - 1

    def total(flags: Bools) -> Ints:
        """Return how many are flagged up to each end, within its cell."""
        running = np.cumsum(flags[some])
        each = np.bincount(cell[flags[some]], minlength=n_cells)
        counted: Ints = running[ends] - (np.cumsum(each) - each)[cell[ends]]
        return counted

    n_labels = np.bincount(arranged.label_class[outcomes.counts] + 1, minlength=n_cells)
    n_labels[0] = n_labels.sum()
    predicted = np.bincount(cell, minlength=n_cells) > 0
    silent = np.flatnonzero((n_labels > 0) & ~predicted)
    nothing = np.zeros(len(silent), np.int64)
    cells = np.concatenate([cell[ends], silent])
    tp = np.concatenate([total(outcomes.hit), nothing])
    rows = np.argsort(cells, kind="stable")
    return _Points(
        cell=cells[rows],
        # Adding 0 turns −0.0, which is the same score as 0.0, into it.
        confidence=np.append(arranged.confidence[some[ends]] + 0.0, nothing)[rows],
        is_silent=(rows >= len(ends)),
        tp=tp[rows],
        fp=np.concatenate([total(outcomes.false_alarm), nothing])[rows],
        fn=(n_labels[cells] - tp)[rows],
    )


def _best(points: _Points) -> Bools:
    """Return whether a point is the first of its cell with the highest defined F1."""
    whole = 2 * points.tp + points.fp + points.fn
    defined = (whole > 0) & ~points.is_silent
    f1 = np.where(defined, _divide(2 * points.tp, whole), -1.0)
    starts = run_starts(points.cell)
    highest = np.maximum.reduceat(f1, starts) if len(starts) else f1
    highest = np.repeat(highest, np.diff(starts, append=len(f1)))
    top = np.flatnonzero(defined & (f1 == highest))
    is_best = np.zeros(len(f1), bool)
    is_best[top[run_starts(points.cell[top])]] = True
    return is_best


def _rates(tp: Ints, fp: Ints, fn: Ints) -> dict[str, Any]:
    """Return the counts and what follows from them; null where the divisor is 0."""
    parts = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
    }
    rates = {
        name: pa.array(_divide(part, whole), mask=whole == 0)
        for name, (part, whole) in parts.items()
    }
    return {"tp": pa.array(tp), "fp": pa.array(fp), "fn": pa.array(fn), **rates}


def _divide(part: Ints, whole: Ints) -> Floats:
    ratio = np.zeros(len(whole))
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
