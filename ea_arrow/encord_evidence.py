"""Matches under the ``encord`` protocol as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from ea_arrow.encord_match import MISSES, match, verdicts
from ea_arrow.evidence import Verdicts, table
from ea_arrow.tide import find_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from ea_arrow.candidates import Candidates, IouType


def matches(
    candidates: Candidates,
    data_units: Any,
    classes: Any,
    iou_threshold: float = 0.5,
    *,
    iteration: str = "",
    iou_type: IouType = "bbox",
) -> pa.Table:
    """Match as Encord Active does, with the errors that TIDE would see.

    Args:
        candidates: With all pairs that overlap at all, of all predictions, and those across classes
            of an IoU of at least ``tide.BACKGROUND_IOU``.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``.
        iou_threshold: IoU from which a pair can match.
        iteration: What the result says in its column ``iteration``.
        iou_type: What the IoU of the candidates is of.

    Returns:
        A table in the shape of ``MATCHES``: the object predictions in their order, then the labels
        that were not found, in theirs.
    """
    arranged = candidates.arranged
    found = match(candidates, iou_threshold)
    has_labels = np.isin(arranged.group, arranged.label_group)
    every_label = np.ones(len(arranged.label_row), bool)
    names = classes.filter(pc.equal(classes["kind"], "object"))["name"].to_pylist()
    judged = Verdicts(
        protocol="encord",
        iou_type=iou_type,
        iou_threshold=iou_threshold,
        label=np.where(found.is_tp, found.label, -1),
        iou=np.where(has_labels, found.iou, np.nan),
        verdict=found.reason,
        verdicts=verdicts(names),
        is_missed=~found.is_found,
        miss=found.miss,
        misses=list(MISSES),
        errors=find_errors(candidates, ~found.is_tp, found.is_found, every_label, iou_threshold),
    )
    return table(judged, arranged, data_units, classes, iteration=iteration)
