"""The data set as Encord label rows with confidences, for a project that was made from COCO."""

from ea_arrow.ontology import Ontology
from ea_arrow.sources.truth import data_hash_of
from tests.formats.dataset import (
    PREDICTIONS,
    UNITS,
    PredictionCase,
    by_unit,
    coco_ground_truth,
    write_json,
)


def _hashes():
    classes = Ontology.from_coco(coco_ground_truth()["categories"]).classes
    return [known.feature_hash for known in classes]


def _object(row, index, hashes):
    sides = dict(zip("xywh", row.relative, strict=True))
    return {
        "name": "thing",
        "shape": "bounding_box",
        "objectHash": f"object{index}",
        "featureHash": hashes[row.cls],
        "confidence": row.score,
        "boundingBox": sides,
    }


def _label_rows():
    hashes = _hashes()
    rows = []
    for number, unit in enumerate(UNITS, 1):
        found = by_unit(PREDICTIONS).get(unit, [])
        data_hash = data_hash_of(str(number), unit.name)
        data_unit = {
            "data_hash": data_hash,
            "data_title": unit.name,
            "data_type": "image/png",
            "width": unit.width,
            "height": unit.height,
            "labels": {
                "objects": [_object(row, i, hashes) for i, row in enumerate(found)],
                "classifications": [],
            },
        }
        rows.append(
            {
                "label_hash": f"label{number}",
                "data_type": "image",
                "data_units": {data_hash: data_unit},
                "classification_answers": {},
            }
        )
    return rows


def _write(folder):
    return [write_json(folder / "label_rows.json", _label_rows())]


def _spoil(folder):
    rows = _label_rows()
    (unit,) = rows[0]["data_units"].values()
    objects = unit["labels"]["objects"]
    objects += [
        objects[0] | {"confidence": None},
        objects[0] | {"confidence": "high"},
        objects[0] | {"featureHash": "nothing"},
        objects[0] | {"boundingBox": {"x": 0.1}},
        objects[0] | {"shape": "skeleton"},
    ]
    rejects = {
        "missing_confidence": 1,
        "invalid_data": 1,
        "unknown_class": 1,
        "invalid_box": 1,
        "unsupported_shape": 1,
    }
    return [write_json(folder / "label_rows.json", rows)], rejects


PREDICTION_CASES = (PredictionCase(format="encord", write=_write, spoil=_spoil),)
