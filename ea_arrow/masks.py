"""Masks of predictions and labels, compared run by run.

Most pairs are settled by numbers stored with each mask: an intersection is at most that of the
boxes and at most either area. What is left goes to pycocotools' C code, many groups in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ea_arrow.arranged import run_starts, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from ea_arrow.arranged import Arranged, Floats, Ints
    from ea_arrow.pairs import Pairs

_PREDICTIONS_AT_ONCE = 128  # per call of C, which compares all boxes: 1 is slow, so is 500
_TAGS = 128
_WIDEST = 2**32 // _TAGS - 1  # the C code computes with 32 bits
_PAIRS_AT_ONCE = 8192
_BYTES_AT_ONCE = 1 << 28


@dataclass(frozen=True)
class MaskColumn:
    """The masks of a table's objects, in the order of the table.

    Attributes:
        height, width: Size of each mask in pixels (n).
        area: Foreground pixels (n).
        box: Enclosing box x, y, w, h in pixels (4, n).
        counts: Returns the compressed run lengths as arrays of binary that make up the column; they
            are read again for each use and need not fit into memory together.
    """

    height: Ints
    width: Ints
    area: Floats
    box: Floats
    counts: Callable[[], Iterable[Any]]

    @classmethod
    def of(cls, column: Any, counts: Callable[[], Iterable[Any]] | None = None) -> MaskColumn:
        """Take a chunked array of ``schema.MASK`` without nulls.

        Args:
            column: The masks; ``counts`` may be missing if it is given apart.
            counts: Yields the counts instead.
        """
        chunks = column.chunks

        def field(name: str) -> NDArray[Any]:
            parts = [chunk.field(name).to_numpy() for chunk in chunks]
            return np.concatenate(parts) if parts else np.zeros(0, np.int32)

        return cls(
            height=field("height"),
            width=field("width"),
            area=field("area").astype(np.float64),
            box=np.stack([field(name) for name in "xywh"]).astype(np.float64),
            counts=counts or (lambda: (chunk.field("counts") for chunk in chunks)),
        )


class Masks:
    """Masks of predictions and labels in group order.

    Args:
        arranged: The order.
        predictions: Masks of the object predictions, in the order of their table.
        labels: Masks of the object labels, in the order of their table.
    """

    def __init__(self, arranged: Arranged, predictions: MaskColumn, labels: MaskColumn) -> None:
        self._arranged, self._predictions, self._labels = arranged, predictions, labels
        self._sides = _extents(predictions, arranged.row)
        self._label_sides = _extents(labels, arranged.label_row)
        counts = [part.cast(pa.large_binary()) for part in labels.counts()]  # beyond 2 GiB too
        self._label_counts = pa.chunked_array(
            [pa.chunked_array(counts, pa.large_binary()).combine_chunks()]
        )

    def near(self, prediction: Ints, label: Ints, lowest: float) -> tuple[Ints, Floats]:
        """Return which pairs may reach an IoU, and the bound that says so."""
        bound = self.bounds(prediction, label)
        kept = np.flatnonzero(bound >= lowest)
        return kept, bound[kept]

    def bounds(self, prediction: Ints, label: Ints) -> Floats:
        """Return the IoU if the smaller mask filled what the boxes share, 0 for other sizes."""
        x, y, right, bottom, area, height, width = (side[prediction] for side in self._sides)
        label_x, label_y, label_right, label_bottom, label_area, label_height, label_width = (
            side[label] for side in self._label_sides
        )
        w = np.maximum(np.minimum(right, label_right) - np.maximum(x, label_x), 0)
        h = np.maximum(np.minimum(bottom, label_bottom) - np.maximum(y, label_y), 0)
        intersection = np.minimum(np.minimum(w * h, area), label_area)
        intersection[(height != label_height) | (width != label_width)] = 0
        crowd = self._arranged.is_crowd[label]
        union = np.where(crowd, area, area + label_area - intersection)
        bound: Floats = intersection / np.maximum(union, 1)
        return bound

    def exact(self, pairs: Pairs) -> Floats:
        """Return intersection over union in pixels; over the prediction's area for a crowd."""
        iou = np.zeros(len(pairs))
        rows = self._arranged.row[pairs.prediction]
        first = 0
        for counts in _merged(self._predictions.counts()):
            mine = np.flatnonzero((rows >= first) & (rows < first + len(counts)))
            # In parts, so that what Python makes of the masks stays in the processor's cache.
            parts = _calls(self._arranged.unit[pairs.prediction[mine]], _PAIRS_AT_ONCE)
            for begin, end in parts:
                part = mine[begin:end]
                iou[part] = self._ious(pairs.take(part), counts, first)
            first += len(counts)
        return iou

    def _ious(self, pairs: Pairs, counts: Any, first: int) -> Floats:
        """Compare pairs whose predictions stand in ``counts``, which starts at row ``first``."""
        from pycocotools import _mask  # a library to load only where there are masks

        arranged, tied = self._arranged, _tie(pairs, self._arranged)
        stride = int(max(self._predictions.width.max(), self._labels.width.max())) + 1
        is_narrow = stride <= _WIDEST
        tag = stride * is_narrow

        rows = arranged.row[tied.prediction]
        strings = _slices(counts, rows - first)
        found = _dictionaries(self._predictions, rows, strings, tied.tie % _TAGS * tag)
        rows = arranged.label_row[tied.label]
        strings = _slices(self._label_counts, rows)
        truth = _dictionaries(self._labels, rows, strings, tied.label_tie % _TAGS * tag)
        crowd = arranged.is_crowd[tied.label].astype(np.uint8)

        calls = np.array(_calls(tied.tie, _PREDICTIONS_AT_ONCE if is_narrow else 1))
        edges = zip(
            calls.tolist(),
            np.searchsorted(tied.label_tie, _edges(tied.tie, calls)).tolist(),
            np.searchsorted(tied.column, calls).tolist(),
            strict=True,
        )
        iou = np.empty(len(pairs))
        for (low, high), (a, b), (begin, end) in edges:
            every = _mask.iou(found[low:high], truth[a:b], crowd[a:b])
            iou[begin:end] = every[tied.column[begin:end] - low, tied.row[begin:end] - a]
        whole = np.empty(len(pairs))
        whole[tied.order] = iou
        return whole


@dataclass(frozen=True)
class _Tied:
    """Pairs in order of their ties: a tie is a set of masks that no pair connects with others.

    Attributes:
        prediction, label: Positions in group order of those that occur, by tie.
        tie, label_tie: The tie of each, from 0, ascending.
        order: Which pair comes when.
        column, row: Positions of each pair, in that order, in ``prediction`` and ``label``.
    """

    prediction: Ints
    label: Ints
    tie: Ints
    label_tie: Ints
    order: Ints
    column: Ints
    row: Ints


def _tie(pairs: Pairs, arranged: Arranged) -> _Tied:
    """Tie masks together.

    A label whose predictions have no other label is a tie with them. The other labels of a group
    are one together, or of a data unit where a pair crosses classes.
    """
    starts = run_starts(pairs.prediction)
    prediction = pairs.prediction[starts]
    count = np.diff(starts, append=len(pairs))
    used = np.zeros(len(arranged.label_row), bool)
    used[pairs.label] = True
    label = np.flatnonzero(used)
    row = (np.cumsum(used) - 1)[pairs.label]

    together = arranged.label_group[label]
    if (together[row] != arranged.group[pairs.prediction]).any():
        together = arranged.label_unit[label]
    contested = np.zeros(len(label), bool)
    contested[row[np.repeat(count > 1, count)]] = True
    alone = together.max(initial=-1) + 1 + np.arange(len(label))
    key = np.where(contested, together, alone)
    label_order = np.argsort(key, kind="stable")
    starts_of_tie = run_starts(key[label_order])
    tie = np.repeat(np.arange(len(starts_of_tie)), np.diff(starts_of_tie, append=len(label)))
    of_label = np.empty(len(label), np.int64)
    of_label[label_order] = tie
    place = np.empty(len(label), np.int64)
    place[label_order] = np.arange(len(label))

    of_prediction = of_label[row[starts]]
    prediction_order = np.argsort(of_prediction, kind="stable")
    count = count[prediction_order]
    order = spread(starts[prediction_order], count)
    return _Tied(
        prediction=prediction[prediction_order],
        label=label[label_order],
        tie=of_prediction[prediction_order],
        label_tie=tie,
        order=order,
        column=np.repeat(np.arange(len(count)), count),
        row=place[row[order]],
    )


def _extents(masks: MaskColumn, rows: Ints) -> list[NDArray[Any]]:
    x, y, w, h = masks.box[:, rows]
    area, height, width = masks.area[rows], masks.height[rows], masks.width[rows]
    return [x, y, x + w, y + h, area, height, width]


def _merged(parts: Iterable[Any]) -> Iterable[Any]:
    """Join arrays as far as memory allows: a label is read again for each."""
    waiting: list[Any] = []
    size = 0
    for part in parts:
        if waiting and size + part.nbytes > _BYTES_AT_ONCE:
            yield pa.chunked_array(waiting)
            waiting, size = [], 0
        waiting.append(part)
        size += part.nbytes
    if waiting:
        yield pa.chunked_array(waiting)


def _slices(counts: Any, rows: Ints) -> list[bytes]:
    """Return values of a chunked array of binary; far cheaper than a scalar for each."""
    strings: list[bytes] = [b""] * len(rows)
    first = 0
    for chunk in counts.chunks:
        mine = np.flatnonzero((rows >= first) & (rows < first + len(chunk)))
        if len(mine):
            wide = str(chunk.type) == "large_binary"
            offsets = np.frombuffer(chunk.buffers()[1], np.int64 if wide else np.int32)
            at = rows[mine] - first + chunk.offset
            data = memoryview(chunk.buffers()[2])
            begin, end = offsets[at].tolist(), offsets[at + 1].tolist()
            found = [bytes(data[a:b]) for a, b in zip(begin, end, strict=True)]
            if len(mine) == len(rows):
                return found
            for place, string in zip(mine.tolist(), found, strict=True):
                strings[place] = string
        first += len(chunk)
    return strings


def _dictionaries(
    masks: MaskColumn, rows: Ints, counts: list[bytes], tag: Ints
) -> list[dict[str, Any]]:
    """Return masks as pycocotools takes them, the width marked with the tie.

    Masks of different sizes are not compared run by run: so ties share a call at no cost.
    """
    sizes = zip(masks.height[rows].tolist(), (masks.width[rows] + tag).tolist(), strict=True)
    return [{"size": size, "counts": string} for size, string in zip(sizes, counts, strict=True)]


def _calls(key: Ints, most: int) -> list[tuple[int, int]]:
    """Cut an ascending key into ranges of about ``most``, equal values together."""
    starts = run_starts(key)
    first = starts[run_starts(starts // most)]
    return list(pairwise([*first.tolist(), len(key)]))


def _edges(key: Ints, ranges: Ints) -> Ints:
    """Return the lowest key of each range, and the one after its highest."""
    edges: Ints = key[ranges - [0, 1]] + [0, 1]
    return edges
