"""The data set as FiftyOne's samples.json."""

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


def _detection(row, index):
    detection = {
        "_id": {"$oid": f"{index:024x}"},
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": CLASSES[row.cls],
        "bounding_box": list(row.relative),
    }
    return detection if row.score is None else detection | {"confidence": row.score}


def _detections(rows):
    listed = [_detection(row, i) for i, row in enumerate(rows)]
    return {"_cls": "Detections", "detections": listed}


def _samples():
    labels, predictions = by_unit(LABELS), by_unit(PREDICTIONS)
    return {
        "samples": [
            {
                "_id": {"$oid": f"{i:024x}"},
                "filepath": f"data/{unit.name}",
                "tags": [],
                "metadata": {"_cls": "ImageMetadata", "width": unit.width, "height": unit.height},
                "_media_type": "image",
                "ground_truth": _detections(labels.get(unit, [])),
                "predictions": _detections(predictions.get(unit, [])),
            }
            for i, unit in enumerate(UNITS)
        ]
    }


def _write(folder):
    write_json(folder / "export" / "metadata.json", {"name": "dataset"})
    return [write_json(folder / "export" / "samples.json", _samples())]


def _directory(folder):
    return [_write(folder)[0].parent]


def _spoil(folder):
    document = _samples()
    into = document["samples"][0]["predictions"]["detections"]
    good = into[0]
    into += [
        good | {"confidence": None},
        good | {"label": "zebra"},
        good | {"label": None},
        good | {"bounding_box": [0.1, 0.2, 0.3]},
        good | {"bounding_box": [0.5, 50, 0.6, 0.2]},
        good | {"_cls": "Keypoint"},
    ]
    rejects = {
        "missing_confidence": 1,
        "unknown_class": 1,
        "missing_class": 1,
        "invalid_box": 1,
        "box_out_of_range": 1,
        "unsupported_shape": 1,
    }
    return [write_json(folder / "samples.json", document)], rejects


def _spoil_labels(folder):
    document = _samples()
    into = document["samples"][0]["ground_truth"]["detections"]
    into += [into[0] | {"bounding_box": "all"}, into[0] | {"label": None}]
    return write_json(folder / "samples.json", document), {"invalid_box": 1, "missing_class": 1}


PREDICTION_CASES = (
    PredictionCase(format="fiftyone", write=_write, spoil=_spoil),
    PredictionCase(format="fiftyone", id="directory", write=_directory),
)
LABEL_CASES = (
    LabelCase(
        format="fiftyone",
        write=lambda folder: write_json(folder / "samples.json", _samples()),
        spoil=_spoil_labels,
    ),
)
