"""The data set as MMDetection's results: version 3 with tensors and with arrays, and version 2."""

import pickle

import numpy as np

from tests.formats import torch_pickles
from tests.formats.dataset import CLASSES, PREDICTIONS, UNITS, PredictionCase, by_unit


def _samples(wrap):
    found = by_unit(PREDICTIONS)
    return [
        {
            "img_id": number,
            "img_path": f"data/images/{unit.name}",
            "ori_shape": (unit.height, unit.width),
            "scale_factor": (1.5, 1.5),
            "flip_direction": None,
            "pred_instances": {
                "labels": wrap(np.array([row.cls for row in rows], dtype=np.int64)),
                "bboxes": wrap(
                    np.array([row.corners for row in rows], dtype=np.float32).reshape(-1, 4)
                ),
                "scores": wrap(np.array([row.score for row in rows], dtype=np.float32)),
            },
        }
        for number, unit in enumerate(UNITS, 1)
        for rows in [found.get(unit, [])]
    ]


def _tensors(folder):
    path = folder / "results.pkl"
    path.write_bytes(torch_pickles.dumps(_samples(torch_pickles.Tensor)))
    return [path]


def _arrays(folder):
    path = folder / "results.pkl"
    path.write_bytes(pickle.dumps(_samples(np.asarray)))
    return [path]


def _version_2(folder):
    """Rows come back class by class within an image."""
    images = [
        [
            np.array(
                [(*row.corners, row.score) for row in PREDICTIONS if (row.unit, row.cls) == at],
                dtype=np.float32,
            ).reshape(-1, 5)
            for cls in range(len(CLASSES))
            for at in [(unit, cls)]
        ]
        for unit in range(len(UNITS))
    ]
    path = folder / "results.pkl"
    path.write_bytes(pickle.dumps(images, 2))
    return [path]


def _spoil(folder):
    samples = _samples(torch_pickles.Tensor)
    boxes = torch_pickles.Tensor(np.array([[1, 2, 0, 4], [1, 2, np.nan, 4]], dtype=np.float32))
    scores = torch_pickles.Tensor(np.array([0.5, 0.5]))
    labels = torch_pickles.Tensor(np.array([0, 1]))
    bad = {"bboxes": boxes, "scores": scores, "labels": labels}
    samples += [
        {"img_id": 1, "pred_instances": bad},
        {"img_id": 99, "pred_instances": bad},
        {"img_id": 1, "pred_instances": {"bboxes": boxes, "scores": scores}},
    ]
    path = folder / "results.pkl"
    path.write_bytes(torch_pickles.dumps(samples))
    return [path], {"invalid_box": 1, "not_finite": 1, "unknown_data_unit": 2, "invalid_data": 1}


_INDEX = {"classes": "index"}

PREDICTION_CASES = (
    PredictionCase(format="mmdetection", write=_tensors, spoil=_spoil, options=_INDEX),
    PredictionCase(format="mmdetection", id="arrays", write=_arrays, options=_INDEX),
    PredictionCase(
        format="mmdetection",
        id="version-2",
        write=_version_2,
        options=_INDEX | {"match": "position"},
        ordered=False,
    ),
)
