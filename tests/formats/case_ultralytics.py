"""The data set as Ultralytics writes ``predictions.json``: COCO results with the files' names."""

from tests.formats.dataset import PREDICTIONS, PredictionCase, coco_results, write_json


def records():
    """Keys in Ultralytics' order; the image's id is the number that its file's name is."""
    return [
        {
            "image_id": row["image_id"],
            "file_name": f"{row['image_id']:012}.jpg",
            "category_id": row["category_id"],
            "bbox": [float(number) for number in row["bbox"]],
            "score": row["score"],
        }
        for row in coco_results()
    ]


def rotated_records():
    """The boxes as oriented ones that are not turned."""
    found = []
    for record, row in zip(records(), PREDICTIONS, strict=True):
        x, y, w, h = row.box
        del record["bbox"]
        record["rbox"] = [x + w / 2, y + h / 2, float(w), float(h), 0.0]
        record["poly"] = [float(n) for n in (x + w, y + h, x + w, y, x, y, x, y + h)]
        found.append(record)
    return found


def _spoil(folder):
    good = rotated_records()
    bad = [
        good[0] | {"rbox": [1, 2, 3, 4]},
        good[0] | {"rbox": [1, 2, -3, 4, 0]},
        good[0] | {"rbox": [1, 2, 3, 4, "0"]},
        good[0] | {"image_id": "street-9"},
    ]
    rejects = {"invalid_box": 3, "unknown_data_unit": 1}
    return [write_json(folder / "predictions.json", [*bad[:2], *good, *bad[2:]])], rejects


PREDICTION_CASES = (
    PredictionCase(
        format="coco",
        id="ultralytics",
        write=lambda folder: [write_json(folder / "predictions.json", records())],
    ),
    PredictionCase(
        format="coco",
        id="ultralytics-obb",
        write=lambda folder: [write_json(folder / "predictions.json", rotated_records())],
        spoil=_spoil,
    ),
)
