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

from ea_arrow.arranged import run_starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from ea_arrow.arranged import Arranged, Floats, Ints
    from ea_arrow.pairs import Pairs

_PREDICTIONS_AT_ONCE = 48  # per call of C, which compares all boxes of a call: 1 is slow, so is 200
_TAGS = 64
_WIDEST = 2**32 // _TAGS - 1  # the C code computes with 32 bits
_PAIRS_AT_ONCE = 2048
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
        counts = pa.chunked_array(labels.counts(), pa.binary())
        self._label_counts = pa.chunked_array([counts.combine_chunks()])

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

        arranged = self._arranged
        starts = run_starts(pairs.prediction)
        prediction = pairs.prediction[starts]
        column = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(pairs)))
        used = np.zeros(len(arranged.label_row), bool)
        used[pairs.label] = True
        label = np.flatnonzero(used)
        row = (np.cumsum(used) - 1)[pairs.label]

        crosses = bool(
            (arranged.group[pairs.prediction] != arranged.label_group[pairs.label]).any()
        )
        key = (arranged.unit if crosses else arranged.group)[prediction]
        label_key = (arranged.label_unit if crosses else arranged.label_group)[label]
        starts = run_starts(key)
        groups = key[starts]
        stride = int(max(self._predictions.width.max(), self._labels.width.max())) + 1
        is_narrow = stride <= _WIDEST
        tag = stride * is_narrow

        found = _dictionaries(
            self._predictions,
            arranged.row[prediction],
            _slices(counts, arranged.row[prediction] - first),
            np.searchsorted(groups, key) % _TAGS * tag,
        )
        rows = arranged.label_row[label]
        truth = _dictionaries(
            self._labels,
            rows,
            _slices(self._label_counts, rows),
            np.searchsorted(groups, label_key) % _TAGS * tag,
        )
        crowd = arranged.is_crowd[label].astype(np.uint8)
        iou = np.empty(len(pairs))
        most = _PREDICTIONS_AT_ONCE if is_narrow else 1
        calls = np.array(_calls(key, most))
        edges = zip(
            calls.tolist(),
            np.searchsorted(label_key, _edges(key, calls)).tolist(),
            np.searchsorted(column, calls).tolist(),
            strict=True,
        )
        for (low, high), (a, b), (begin, end) in edges:
            every = _mask.iou(found[low:high], truth[a:b], crowd[a:b])
            iou[begin:end] = every[column[begin:end] - low, row[begin:end] - a]
        return iou


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
    """Return masks as pycocotools takes them, the width marked with the group.

    Masks of different sizes are not compared run by run: so groups share a call at no cost.
    """
    heights, widths = masks.height[rows].tolist(), (masks.width[rows] + tag).tolist()
    return [
        {"size": size, "counts": string}
        for *size, string in zip(heights, widths, counts, strict=True)
    ]


def _calls(key: Ints, most: int) -> list[tuple[int, int]]:
    """Cut an ascending key into ranges of about ``most``, equal values together."""
    starts = run_starts(key)
    first = starts[run_starts(starts // most)]
    return list(pairwise([*first.tolist(), len(key)]))


def _edges(key: Ints, ranges: Ints) -> Ints:
    """Return the lowest key of each range, and the one after its highest."""
    edges: Ints = key[ranges - [0, 1]] + [0, 1]
    return edges
