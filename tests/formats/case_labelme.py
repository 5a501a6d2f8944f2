"""The ground truth as LabelMe JSON."""

from tests.formats.dataset import CLASSES, LABELS, UNITS, LabelCase, by_unit, write_json


def shape(label, points, kind="rectangle", **more):
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "shape_type": kind,
        "flags": {},
    } | more


def document(unit, shapes):
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": unit.name,
        "imageData": None,
        "imageHeight": unit.height,
        "imageWidth": unit.width,
    }


def _rectangle(row):
    left, top, right, bottom = row.corners
    return shape(CLASSES[row.cls], [[right, top], [left, bottom]])


def _write(folder, bad=()):
    rows = by_unit(LABELS)
    for unit in UNITS:
        shapes = [_rectangle(row) for row in rows.get(unit, ())]
        if unit == UNITS[0]:
            shapes = [*bad, *shapes]
        write_json(folder / "labels" / f"{unit.stem}.json", document(unit, shapes))
    return folder / "labels"


def _spoil(folder):
    bad = [
        "shape",
        shape("car", [[1, 1]]),
        shape("car", [[1, 1], [2, "3"]]),
        shape(None, [[1, 1], [2, 3]]),
        shape("car", [[1, 1], [2, 3]], "circle"),
        shape("car", [[1, 1], [2, 3]], "polygon"),
        shape("car", [[1, 1], [2, 3]], "mask", mask="no base64!"),
    ]
    rejects = {
        "invalid_data": 1,
        "invalid_box": 2,
        "missing_class": 1,
        "unsupported_shape": 1,
        "invalid_polygon": 1,
        "invalid_mask": 1,
    }
    return _write(folder, bad), rejects


LABEL_CASES = (LabelCase(format="labelme", write=_write, spoil=_spoil),)
