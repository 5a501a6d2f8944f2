"""The data set as COCO."""

from tests.formats.dataset import (
    LabelCase,
    PredictionCase,
    coco_ground_truth,
    coco_results,
    write_json,
)


def _write(folder):
    return [write_json(folder / "results.json", coco_results())]


def _spoil(folder):
    good = coco_results()
    bad = [
        good[0] | {"image_id": 99},
        good[0] | {"category_id": 99},
        good[0] | {"bbox": [1, 2, 3]},
        good[0] | {"bbox": [1, 2, -3, 4]},
        good[0] | {"score": None},
        good[0] | {"score": "high"},
    ]
    rejects = {
        "unknown_data_unit": 1,
        "unknown_class": 1,
        "invalid_box": 2,
        "missing_confidence": 1,
        "invalid_data": 1,
    }
    return [write_json(folder / "results.json", [*bad[:3], *good, *bad[3:]])], rejects


def _spoil_labels(folder):
    truth = coco_ground_truth()
    first = truth["annotations"][0]
    truth["annotations"] += [
        first | {"id": 101, "bbox": [0, 0, "x", 1]},
        first | {"id": 102, "image_id": 9},
    ]
    return write_json(folder / "gt.json", truth), {"invalid_box": 1, "unknown_data_unit": 1}


PREDICTION_CASES = (PredictionCase(format="coco", write=_write, spoil=_spoil),)
LABEL_CASES = (
    LabelCase(
        format="coco",
        write=lambda folder: write_json(folder / "gt.json", coco_ground_truth()),
        spoil=_spoil_labels,
    ),
)
