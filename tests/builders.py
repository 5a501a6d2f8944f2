"""Small projects and batches for tests, made from plain Python values."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

import ea_arrow
from ea_arrow.schema import CLASSES, DATA_UNITS
from ea_arrow.sources.base import Coordinates, RawBuilder

RELATIVE = Coordinates(relative=True, unit_key="data_hash", class_key="feature_hash", reach=0)
PIXELS = Coordinates(relative=False, unit_key="source_id", class_key="source_id")

GROUND_TRUTH = {
    "images": [
        {"id": 1, "width": 100, "height": 50, "file_name": "one.jpg"},
        {"id": 2, "width": 640, "height": 480, "file_name": "two.jpg"},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [50, 10, 30, 30], "area": 900},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [0, 0, 640, 480], "area": 307200},
    ],
}
RESULTS = [
    {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9},
    {"image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 0.8},
    {"image_id": 2, "category_id": 1, "bbox": [0, 0, 640, 470], "score": 0.7},
]

ONTOLOGY = {
    "objects": [
        {"id": "1", "name": "Car", "shape": "bounding_box", "featureNodeHash": "car"},
        {"id": "2", "name": "Road", "shape": "polygon", "featureNodeHash": "road"},
    ],
    "classifications": [
        {
            "id": "3",
            "featureNodeHash": "scene",
            "attributes": [
                {
                    "id": "3.1",
                    "name": "Weather",
                    "type": "radio",
                    "featureNodeHash": "weather",
                    "options": [
                        {"id": "3.1.1", "label": "Sun", "featureNodeHash": "sun"},
                        {"id": "3.1.2", "label": "Rain", "featureNodeHash": "rain"},
                    ],
                }
            ],
        }
    ],
}
LABEL_ROWS = [
    {
        "label_hash": "row",
        "data_hash": "film",
        "data_type": "video",
        "data_title": "film.mp4",
        "data_units": {
            "film": {
                "data_hash": "film",
                "data_title": "film.mp4",
                "data_type": "video/mp4",
                "data_sequence": 0,
                "width": 200,
                "height": 100,
                "labels": {
                    str(frame): {
                        "objects": [
                            {
                                "name": "Car",
                                "shape": "bounding_box",
                                "objectHash": "track",
                                "featureHash": "car",
                                "boundingBox": {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4},
                            }
                        ],
                        "classifications": [],
                    }
                    for frame in (0, 4)
                },
            }
        },
        "classification_answers": {},
        "object_answers": {},
        "object_actions": {},
    }
]


def make_project(folder, *, results=None, truth=None, name="base"):
    """Make a project in ``folder`` from COCO ground truth; with results, import them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "gt.json"
    source.write_text(json.dumps(GROUND_TRUTH if truth is None else truth))
    project = ea_arrow.init(folder, source)
    if results is not None:
        import_results(project, results, name)
    return project


def import_results(project, results, name, **options):
    """Import COCO results, given as values, as one iteration."""
    path = project.root / "results.json"
    path.write_text(json.dumps(results))
    return project.import_predictions(path, name, **options)


def make_encord_project(folder):
    """Make a project in ``folder`` from Encord label rows: one video with two labelled frames."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "label_rows.json"
    source.write_text(json.dumps({"label_rows": LABEL_ROWS, "ontology": ONTOLOGY}))
    return ea_arrow.init(folder, source)


def raw_batch(rows: list[dict[str, Any]], first: int = 0) -> pa.RecordBatch:
    """A RAW batch; rows are numbered and get a confidence of 0.5 unless they say otherwise."""
    builder = RawBuilder()
    for index, row in enumerate(rows, first):
        builder.add(**({"source_row": index, "confidence": 0.5} | row))
    return builder.flush()


def data_units(*units: tuple[str, int, int, int]) -> pa.Table:
    """DATA_UNITS of (data hash, frame, width, height); the source ids are "1", "2", …"""
    rows = [
        {
            "unit_id": index,
            "data_hash": key,
            "frame": frame,
            "width": width,
            "height": height,
            "source_id": str(index + 1),
        }
        for index, (key, frame, width, height) in enumerate(units)
    ]
    return pa.Table.from_pylist(rows, schema=DATA_UNITS.arrow)


def object_classes(*classes: tuple[str, str, str | None]) -> list[dict[str, Any]]:
    """Rows of CLASSES of (feature hash, shape, source id)."""
    return [
        {"kind": "object", "name": key, "shape": shape, "feature_hash": key, "path": key}
        | {"source_id": source_id}
        for key, shape, source_id in classes
    ]


def option_classes(*options: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Rows of CLASSES of (feature, attribute, option hash)."""
    return [
        {"kind": "classification", "name": option, "path": option, "feature_hash": feature}
        | {"attribute_hash": attribute, "option_hash": option}
        for feature, attribute, option in options
    ]


def class_table(rows: list[dict[str, Any]]) -> pa.Table:
    """CLASSES of the rows that :func:`object_classes` and :func:`option_classes` make."""
    return pa.Table.from_pylist(rows, schema=CLASSES.arrow)
