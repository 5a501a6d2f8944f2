"""The data set as output of Hugging Face pipelines."""

from tests.formats.dataset import CLASSES, PREDICTIONS, UNITS, PredictionCase, by_unit, write_json


def _entry(row):
    xmin, ymin, xmax, ymax = row.corners
    box = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    return {"score": row.score, "label": CLASSES[row.cls], "box": box}


def _lists():
    found = by_unit(PREDICTIONS)
    return {unit: [_entry(row) for row in found.get(unit, [])] for unit in UNITS}


def _mapping(folder):
    lists = {f"images/{unit.name}": entries for unit, entries in _lists().items()}
    return [write_json(folder / "detections.json", lists)]


def _records(folder):
    records = [{"file_name": u.name, "predictions": entries} for u, entries in _lists().items()]
    return [write_json(folder / "detections.json", records)]


def _per_image(folder):
    for unit, entries in _lists().items():
        write_json(folder / "predictions" / f"{unit.stem}.json", entries)
    return [folder / "predictions"]


def _spoil(folder):
    lists = {unit.name: entries for unit, entries in _lists().items()}
    good = _entry(PREDICTIONS[0])
    lists[UNITS[1].name] += [
        good | {"score": None},
        good | {"score": "high"},
        good | {"label": "zebra"},
        good | {"box": {"xmin": 1, "ymin": 2, "xmax": 3}},
        good | {"box": {"xmin": 5, "ymin": 2, "xmax": 3, "ymax": 4}},
    ]
    lists["nowhere.png"] = [good]
    rejects = {
        "missing_confidence": 1,
        "invalid_data": 1,
        "unknown_class": 1,
        "invalid_box": 2,
        "unknown_data_unit": 1,
    }
    return [write_json(folder / "detections.json", lists)], rejects


PREDICTION_CASES = (
    PredictionCase(format="huggingface", write=_mapping, spoil=_spoil),
    PredictionCase(format="huggingface", id="records", write=_records),
    PredictionCase(format="huggingface", id="file-per-image", write=_per_image),
)
