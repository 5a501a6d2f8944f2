"""What to know about numbers before believing them, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from ea_arrow.questions import Question


def metric_notes(
    table: pa.Table, question: Question, formats: Mapping[str, int], labels: Mapping[str, int]
) -> list[str]:
    """Return notes on an iteration's metrics.

    Args:
        table: The metrics, with those of ``coco_id_zero_counts`` if there are any.
        question: What was asked.
        formats: How many predictions have each format.
        labels: How many labels have each format.
    """
    notes = []
    if question.subset is not None and not question.subset.units.any():
        return [f"No data unit is in ({question.subset.name}): nothing to score."]
    if not labels:
        notes.append("The project has no labels: there is nothing to find.")
    if not formats:
        notes.append("The iteration holds no predictions.")
    if question.protocol == "classification":
        return notes + _of_answers(formats, labels)
    return notes + _of_objects(question, formats, labels) + _id_zero(table)


def _of_answers(formats: Mapping[str, int], labels: Mapping[str, int]) -> list[str]:
    notes = []
    if formats and "classification" not in formats:
        notes.append("The iteration holds no classifications.")
    if labels and "classification" not in labels:
        notes.append("No label is a classification: there is nothing to compare answers with.")
    return notes


def _of_objects(
    question: Question, formats: Mapping[str, int], labels: Mapping[str, int]
) -> list[str]:
    notes = []
    objects = {name: count for name, count in formats.items() if name != "classification"}
    if formats and not objects:
        notes.append("The iteration holds classifications only; see --protocol classification.")
    if labels and not labels.keys() - {"classification"}:
        notes.append("The labels are classifications only: there is no object to find.")
    shaped = {"mask", "polygon"}
    drawn = sum(count for name, count in objects.items() if name in shaped)
    if question.iou_type == "bbox" and drawn:
        notes.append(
            f"{_counted(drawn, 'mask or polygon takes', 'masks or polygons take')} part as "
            "enclosing boxes: these are box metrics; --type segm compares masks."
        )
    if question.iou_type == "segm":
        boxes = sum(objects.values()) - drawn
        if boxes:
            what = _counted(boxes, "predicted box takes", "predicted boxes take")
            notes.append(f"{what} part as filled rectangles.")
        boxes = sum(n for name, n in labels.items() if name not in {*shaped, "classification"})
        if boxes:
            what = _counted(boxes, "label is a box and takes", "labels are boxes and take")
            notes.append(f"{what} part as filled rectangles.")
    rotated = objects.get("rotatable_bounding_box", 0)
    if question.iou_type == "bbox" and rotated:
        what = _counted(rotated, "rotated box takes", "rotated boxes take")
        notes.append(f"{what} part unrotated.")
    if question.subset is None:
        return notes
    return [f"{note} (Counted over all data units.)" for note in notes]


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _id_zero(table: pa.Table) -> list[str]:
    corrected = table.filter(pc.equal(table["protocol"], "coco_id_zero_counts"))
    rows = corrected.filter(pc.is_null(corrected["feature_hash"])).to_pylist()
    values = {row["metric"]: row["value"] for row in rows}
    if values.get("AP") is None:
        return []
    return [
        "A label has the id 0, which pycocotools never counts as found, and so neither do these "
        f"numbers. If it counted, AP would be {values['AP']:.6f}."
    ]
