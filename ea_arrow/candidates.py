"""Everything that matching and metrics need of an iteration, small enough to keep.

:func:`find_candidates` turns tables into predictions and labels in group order and the pairs that
overlap enough; protocols, thresholds, area ranges and subsets of data units start from there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ea_arrow.arranged import Arranged, arrange, objects
from ea_arrow.errors import EaArrowError
from ea_arrow.masks import MaskColumn, Masks
from ea_arrow.pairs import Boxes, Pairs, find_pairs
from ea_arrow.rasterise import with_masks

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.match import Matching
    from ea_arrow.pairs import Shapes

IouType = Literal["bbox", "segm"]

ANY_OVERLAP = 1e-300
"""A bound on IoU that every pair reaches which overlaps at all."""


@dataclass(frozen=True)
class Candidates:
    """Predictions (N) and labels (L) in group order, and the pairs between them.

    Attributes:
        arranged: Both sides.
        pairs: Pairs of the same group.
        lowest: All pairs of at least this IoU are there.
        most: Predictions of this rank in their group, and beyond, have no pairs.
        across: Pairs of the same data unit and different classes, if they were asked for.
        matching: Which pairs match under pycocotools' own thresholds and area ranges, if that was
            kept; holds for any smaller number of detections too.
    """

    arranged: Arranged
    pairs: Pairs
    lowest: float
    most: int
    across: Pairs | None = None
    matching: Matching | None = None

    def check(self, lowest: float, most: int, needed: str) -> None:
        """Refuse what needs pairs that were not sought.

        Args:
            lowest: IoU from which all pairs are needed.
            most: For how many predictions of a data unit and class.
            needed: The same in words, for the message.

        Raises:
            EaArrowError: They were not sought.
        """
        if self.lowest > lowest or self.most < most:
            message = (
                f"Candidates were sought from IoU {self.lowest:g} and for {self.most} "
                f"predictions; {needed}."
            )
            raise EaArrowError(message)

    def within(self, units: Bools) -> Candidates:
        """Return only what lies in some data units, given as one flag for each of all units."""
        a = self.arranged
        kept, kept_labels = units[a.unit], units[a.label_unit]
        new, new_label = np.cumsum(kept) - 1, np.cumsum(kept_labels) - 1

        def moved(pairs: Pairs) -> Pairs:
            some = pairs.take(np.flatnonzero(kept[pairs.prediction]))
            return Pairs(new[some.prediction], new_label[some.label], some.iou)

        matching = self.matching
        if matching is not None:
            matching = matching.within(kept[self.pairs.prediction])

        columns: dict[str, Any] = {}
        for field in fields(Arranged):
            values = getattr(a, field.name)
            if isinstance(values, np.ndarray):
                of_label = field.name.startswith(("label", "is_", "has_"))
                columns[field.name] = values[kept_labels if of_label else kept]
        across = None if self.across is None else moved(self.across)
        columns["score_rank"] = _dense(columns["score_rank"])
        arranged = replace(a, **columns)
        return replace(
            self, arranged=arranged, pairs=moved(self.pairs), across=across, matching=matching
        )


def find_candidates(
    predictions: Any,
    labels: Any,
    data_units: Any,
    classes: Any,
    *,
    iou_type: IouType = "bbox",
    lowest: float,
    most: int = 100,
    lowest_across: float | None = None,
    masks: tuple[MaskColumn, MaskColumn] | None = None,
) -> Candidates:
    """Find the pairs of predictions and labels that overlap enough.

    Args:
        predictions: Table in the shape of ``PREDICTIONS``, in order of ``prediction_id``.
        labels: Table in the shape of ``LABELS``, in order of ``label_id``.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``; its objects, in order, are the classes.
        iou_type: Compare boxes or masks. Polygons and boxes among masks are rasterised.
        lowest: IoU that a pair of the same class must reach.
        most: How many predictions of a data unit and class take part, by confidence.
        lowest_across: IoU that a pair of different classes must reach; by default none is sought.
        masks: The masks of object predictions and labels, if the tables do not hold them.

    Raises:
        SchemaError: A prediction or label names a data unit or class that the tables lack.
        GeometryError: A shape cannot be rasterised.
    """
    predictions, labels = objects(predictions), objects(labels)
    arranged = arrange(predictions, labels, data_units, classes)
    shapes: Shapes
    if iou_type == "bbox":
        shapes = Boxes(arranged, predictions, labels)
    else:
        if masks is None:
            drawn = (with_masks(table, data_units) for table in (predictions, labels))
            found, truth = (MaskColumn.of(table.column("mask")) for table in drawn)
        else:
            found, truth = masks
        shapes = Masks(arranged, found, truth)
    across = None
    if lowest_across is not None:
        across = find_pairs(arranged, shapes, lowest_across, most, across=True)
    pairs = find_pairs(arranged, shapes, lowest, most)
    return Candidates(arranged, pairs, lowest, most, across)


def _dense(rank: Ints) -> Ints:
    """Number what is there of some ranks without gaps."""
    present = np.zeros(int(rank.max(initial=-1)) + 1, bool)
    present[rank] = True
    dense: Ints = (np.cumsum(present) - 1)[rank]
    return dense


def effective_threshold(iou_threshold: float) -> float:
    """Return the IoU that a pair must reach: pycocotools lowers a threshold of 1 by 1e-10."""
    return min(float(iou_threshold), 1 - 1e-10)


def beyond(area: Floats, ranges: Floats) -> Bools:
    """Return whether each area is outside of each range (A, N); both ends belong to a range."""
    outside: Bools = (area < ranges[:, :1]) | (area > ranges[:, 1:])
    return outside
