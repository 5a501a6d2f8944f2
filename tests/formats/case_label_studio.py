"""The data set as an export of Label Studio."""

from tests.formats.dataset import (
    CLASSES,
    LABELS,
    PREDICTIONS,
    UNITS,
    LabelCase,
    PredictionCase,
    by_unit,
    write_json,
)


def _result(row, index):
    unit = UNITS[row.unit]
    x, y, w, h = (100 * side for side in row.relative)
    result = {
        "id": f"r{index}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": unit.width,
        "original_height": unit.height,
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
        | {"rectanglelabels": [CLASSES[row.cls]]},
    }
    return result if row.score is None else result | {"score": row.score}


def _tasks(rows, key):
    """Tasks whose results stand in an annotation or prediction."""
    found = by_unit(rows)
    return [
        {
            "id": number,
            "data": {"image": f"https://storage.example/images/{unit.name}?signature=abc"},
            "annotations": [],
            "predictions": [],
        }
        | {key: [{"id": number, "result": [_result(row, i) for i, row in enumerate(found[unit])]}]}
        for number, unit in enumerate(UNITS, 1)
        if unit in found
    ]


def _write(folder):
    return [write_json(folder / "tasks.json", _tasks(PREDICTIONS, "predictions"))]


def _spoil(folder):
    tasks = _tasks(PREDICTIONS, "predictions")
    good = tasks[0]["predictions"][0]["result"][0]
    tasks[0]["predictions"][0]["result"] += [
        good | {"score": "high"},
        good | {"score": None},
        good | {"value": good["value"] | {"rectanglelabels": ["zebra"]}},
        good | {"value": good["value"] | {"width": -1}},
        good | {"type": "ellipselabels", "value": {"x": 1, "y": 1, "radiusX": 1, "radiusY": 1}},
        "nothing",
    ]
    rejects = {
        "invalid_data": 2,
        "missing_confidence": 1,
        "unknown_class": 1,
        "invalid_box": 1,
        "unsupported_shape": 1,
    }
    return [write_json(folder / "tasks.json", tasks)], rejects


def _labelled():
    """All tasks: a prediction's result tells the size of the image that has no label."""
    tasks = _tasks(LABELS, "annotations")
    blank = _tasks(PREDICTIONS, "predictions")[0] | {"id": len(UNITS), "predictions": []}
    blank["data"] = {"image": f"/data/upload/{UNITS[-1].name}"}
    return [*tasks, blank]


def _write_labels(folder):
    return write_json(folder / "tasks.json", _labelled())


def _spoil_labels(folder):
    tasks = _labelled()
    good = tasks[0]["annotations"][0]["result"][0]
    tasks[0]["annotations"][0]["result"] += [
        good | {"value": good["value"] | {"x": None}},
        good | {"type": "polygonlabels", "value": {"points": [[1, 1]], "polygonlabels": ["car"]}},
        good | {"type": "choices", "value": {"choices": ["day"]}},
    ]
    rejects = {"invalid_box": 1, "invalid_polygon": 1, "unsupported_answer": 1}
    return write_json(folder / "tasks.json", tasks), rejects


PREDICTION_CASES = (PredictionCase(format="label-studio", write=_write, spoil=_spoil),)
LABEL_CASES = (
    LabelCase(format="label-studio", write=_write_labels, spoil=_spoil_labels, images=True),
)
