"""The ground truth as Encord label rows."""

from tests.formats.dataset import CLASSES, LABELS, UNITS, LabelCase, write_json


def _object(row, number):
    x, y, w, h = row.relative
    return {
        "name": CLASSES[row.cls],
        "value": CLASSES[row.cls],
        "shape": "bounding_box",
        "objectHash": f"object-{number}",
        "featureHash": CLASSES[row.cls],
        "boundingBox": {"x": x, "y": y, "w": w, "h": h},
    }


def _document():
    rows = []
    for index, unit in enumerate(UNITS):
        labels = [_object(row, n) for n, row in enumerate(LABELS) if row.unit == index]
        data_unit = {
            "data_hash": unit.stem,
            "data_title": unit.name,
            "data_type": "image/png",
            "data_sequence": 0,
            "width": unit.width,
            "height": unit.height,
            "labels": {"objects": labels, "classifications": []},
        }
        rows.append(
            {
                "label_hash": f"row-{index}",
                "data_hash": unit.stem,
                "data_title": unit.name,
                "data_type": "image",
                "data_units": {unit.stem: data_unit},
                "object_answers": {},
                "classification_answers": {},
            }
        )
    objects = [
        {"id": str(i), "name": name, "shape": "bounding_box", "featureNodeHash": name}
        for i, name in enumerate(CLASSES, 1)
    ]
    return {"label_rows": rows, "ontology": {"objects": objects, "classifications": []}}


def _spoil(folder):
    document = _document()
    objects = document["label_rows"][0]["data_units"]["000001"]["labels"]["objects"]
    objects.append(objects[0] | {"featureHash": "none", "objectHash": "stray"})
    return write_json(folder / "rows.json", document), {"unknown_class": 1}


LABEL_CASES = (
    LabelCase(
        format="encord",
        write=lambda folder: write_json(folder / "rows.json", _document()),
        spoil=_spoil,
    ),
)
