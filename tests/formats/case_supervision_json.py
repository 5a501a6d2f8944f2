"""The data set as supervision's JSONSink writes it."""

from tests.formats.dataset import CLASSES, PREDICTIONS, UNITS, PredictionCase, write_json


def _detections():
    return [
        {
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, row.corners), strict=True)),
            "class_id": row.cls,
            "confidence": row.score,
            "tracker_id": "",
            "class_name": CLASSES[row.cls],
            "file_name": UNITS[row.unit].name,
        }
        for row in PREDICTIONS
    ]


def _write(folder):
    return [write_json(folder / "detections.json", _detections())]


def _spoil(folder):
    good = _detections()
    bad = [
        good[0] | {"file_name": "nowhere.png"},
        good[0] | {"file_name": ""},
        good[0] | {"class_name": "zebra"},
        good[0] | {"confidence": ""},
        good[0] | {"x_min": "left"},
        good[0] | {"x_max": 1.0},
    ]
    rejects = {
        "unknown_data_unit": 1,
        "missing_data_unit": 1,
        "unknown_class": 1,
        "missing_confidence": 1,
        "invalid_box": 2,
    }
    return [write_json(folder / "detections.json", [*good, *bad])], rejects


PREDICTION_CASES = (PredictionCase(format="supervision-json", write=_write, spoil=_spoil),)
