"""Predictions and labels in *group order*: by (data unit, class), encoded as integers.

Within a group, predictions stand by falling confidence and arrival, labels by ``label_id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from ea_arrow.errors import SchemaError
from ea_arrow.parallel import together

if TYPE_CHECKING:  # loading numpy.typing takes 15 ms
    from typing import TypeAlias

    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]
    Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Arranged:
    """Object predictions (N) and labels (L) in group order.

    Attributes:
        n_classes: Number of object classes (K).
        row: Where each prediction stands among the object predictions of its table.
        prediction_id: Its id.
        group: Data unit * K + class, ascending.
        klass: Class.
        rank: Place within the group, from 0.
        score_rank: Dense over all predictions, 0 for the highest confidence.
        confidence: Score.
        area: Area that size ranges use, in pixels².
        label_row: Where each label stands among the object labels of its table.
        label_id: Its id.
        label_group: Data unit * K + class, ascending.
        label_area: Area that size ranges use, in pixels².
        is_crowd: Whether any number of predictions may match it.
        is_ignored: Whether it is neither hit nor miss; every crowd is.
        has_id_zero: Whether its source id is 0, which pycocotools takes for "not matched".
    """

    n_classes: int
    row: Ints
    prediction_id: Ints
    group: Ints
    klass: Ints
    rank: Ints
    score_rank: Ints
    confidence: Floats
    area: Floats
    label_row: Ints
    label_id: Ints
    label_group: Ints
    label_area: Floats
    is_crowd: Bools
    is_ignored: Bools
    has_id_zero: Bools

    @property
    def unit(self) -> Ints:
        """Data unit of each prediction (N)."""
        return self.group // max(self.n_classes, 1)

    @property
    def label_unit(self) -> Ints:
        """Data unit of each label (L)."""
        return self.label_group // max(self.n_classes, 1)

    @property
    def label_class(self) -> Ints:
        """Class of each label (L)."""
        return self.label_group % max(self.n_classes, 1)


def stable_order(*keys: tuple[Ints, int]) -> Ints:
    """Return the stable ascending order by ``keys``, each given with its number of values.

    Keys and position are packed into one integer, because NumPy sorts integers several times
    faster than it sorts indices, or by several columns.
    """
    size = len(keys[0][0])
    widths = [max(int(values) - 1, 0).bit_length() for _, values in keys]
    position = max(size - 1, 0).bit_length()
    if sum(widths) + position > 63:
        first = keys[0][0]
        if len(keys) == 1:
            return np.argsort(first, kind="stable")
        later = stable_order(*keys[1:])
        return later[stable_order((first[later], keys[0][1]))]
    packed = np.zeros(size, np.int64)
    for (key, _), width in zip(keys, widths, strict=True):
        packed <<= width
        packed |= key
    packed <<= position
    packed |= np.arange(size)
    packed.sort()
    packed &= (1 << position) - 1
    return packed


def spread(start: Ints, count: Ints) -> Ints:
    """Return the ranges ``start[i] … start[i] + count[i] − 1``, one after the other.

    >>> spread(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - ends + count, count)


def run_starts(key: Ints) -> Ints:
    """Return where each run of equal values starts.

    >>> run_starts(np.array([3, 3, 7])).tolist()
    [0, 2]
    """
    if not len(key):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])


def arrange(predictions: Any, labels: Any, data_units: Any, classes: Any) -> Arranged:
    """Encode object predictions and labels and put them into group order.

    Args:
        predictions: Table in the shape of ``PREDICTIONS``, in order of ``prediction_id``, without
            classifications (see :func:`objects`).
        labels: Table in the shape of ``LABELS``, in order of ``label_id``, without classifications.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes.

    Raises:
        SchemaError: A prediction or label names a data unit or class that the tables lack.
    """
    known = classes.filter(pc.equal(classes.column("kind"), "object")).column("feature_hash")
    n_classes = len(known)
    n_groups = n_classes * len(data_units)

    def codes(table: Any, what: str) -> tuple[Ints, Ints]:
        klass = _class_codes(table, known, what)
        return klass, unit_codes(table, data_units, what) * n_classes + klass

    confidence = predictions.column("confidence").to_numpy()
    score_rank, (klass, group), (_, label_group) = together(
        lambda: falling_rank(confidence),
        lambda: codes(predictions, "prediction"),
        lambda: codes(labels, "label"),
    )
    row = stable_order((group, n_groups), (score_rank, len(score_rank)))
    group = group[row]
    starts = run_starts(group)
    rank = np.arange(len(row)) - np.repeat(starts, np.diff(starts, append=len(row)))
    label_row = stable_order((label_group, n_groups))
    crowd = labels.column("is_crowd").to_numpy()[label_row]
    id_zero = pc.equal(labels.column("source_id"), "0").fill_null(False)
    return Arranged(
        n_classes=n_classes,
        row=row,
        prediction_id=predictions.column("prediction_id").to_numpy()[row],
        group=group,
        klass=klass[row],
        rank=rank,
        score_rank=score_rank[row],
        confidence=confidence[row],
        area=predictions.column("area").to_numpy()[row],
        label_row=label_row,
        label_id=labels.column("label_id").to_numpy()[label_row],
        label_group=label_group[label_row],
        label_area=labels.column("area").to_numpy()[label_row],
        is_crowd=crowd,
        is_ignored=crowd | labels.column("is_ignored").to_numpy()[label_row],
        has_id_zero=id_zero.to_numpy()[label_row],
    )


def objects(table: Any) -> Any:
    """Return a table of predictions or labels without its classifications."""
    if table.num_rows == 0:
        return table
    is_object = pc.not_equal(table.column("format"), "classification")
    return table if pc.all(is_object).as_py() else table.filter(is_object)


def _class_codes(table: Any, known: Any, what: str) -> Ints:
    codes = _positions(table.column("feature_hash"), known)
    if len(codes) and codes.min() < 0:
        lost = table.column("feature_hash")[int(codes.argmin())].as_py()
        message = f"{(codes < 0).sum()} {what}(s) name a class that is no object: '{lost}' first."
        raise SchemaError(message)
    return codes


def unit_codes(table: Any, data_units: Any, what: str) -> Ints:
    """Return the position of each row's data unit; ``what`` the rows are, for the message.

    Raises:
        SchemaError: There is no such data unit.
    """
    codes = _positions(table.column("data_hash"), data_units.column("data_hash"))
    frame = table.column("frame").to_numpy()
    frames = data_units.column("frame").to_numpy()
    if len(frames) and (frames.any() or frame.any()):
        # The first row of a data_hash stands for it; with the frame it makes one integer.
        first = _positions(data_units.column("data_hash"), data_units.column("data_hash"))
        width = int(max(frames.max(initial=0), frame.max(initial=0))) + 1
        keys = first * width + frames
        order = np.argsort(keys)
        wanted = np.where((codes < 0) | (frame < 0), -1, codes * width + frame)
        found = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(order) - 1)]
        codes = np.where(keys[found] == wanted, found, -1)
    if len(codes) and codes.min() < 0:
        lost = int(codes.argmin())
        unit = f"'{table.column('data_hash')[lost].as_py()}' frame {frame[lost]}"
        message = f"{(codes < 0).sum()} {what}(s) name an unknown data unit: {unit} first."
        raise SchemaError(message)
    return codes


def _positions(values: Any, known: Any) -> Ints:
    """Return the position of each value in ``known``, −1 where it is not there."""
    if values.type != known.type:
        values = values.cast(known.type)
    codes: Ints = pc.index_in(values, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
    return codes


def falling_rank(score: Floats) -> Ints:
    """Return the dense rank of each score, 0 for the highest.

    >>> falling_rank(np.array([0.5, 0.9, 0.5])).tolist()
    [1, 0, 1]
    """
    order = np.argsort(score)
    rank = np.empty(len(score), np.int64)
    ordered = score[order]
    rank[order] = np.append(0, np.cumsum(ordered[1:] != ordered[:-1]))[: len(score)]
    falling: Ints = rank.max(initial=0) - rank
    return falling
