"""Encord label rows as predictions: confidences, videos, classifications, no ontology."""

import json

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.encord_predictions import PREDICTIONS
from tests.formats.json_reading import claimed, filled, opened, rows_of, sniffs, survives, written

BOX = {"x": 0.125, "y": 0.25, "w": 0.5, "h": 0.375}
OBJECT = {
    "shape": "bounding_box",
    "objectHash": "obj1",
    "featureHash": "car+/hash",
    "confidence": 0.75,
    "boundingBox": BOX,
}
ANSWERS = {
    "clf1": {
        "classifications": [{"featureHash": "weather", "answers": [{"featureHash": "sun"}]}],
    },
    "clf2": {"classifications": [{"featureHash": "note", "answers": "bright"}]},
}
ROW = {
    "source_row": 0,
    "unit": "unit1",
    "frame": 0,
    "class_ref": "car+/hash",
    "source_id": "obj1",
    "confidence": 0.75,
    "format": "bounding_box",
    "bbox_x": 0.125,
    "bbox_y": 0.25,
    "bbox_w": 0.5,
    "bbox_h": 0.375,
}


def label_row(*objects, classifications=(), video=False):
    labels = {"objects": list(objects), "classifications": list(classifications)}
    unit = {
        "data_hash": "unit1",
        "width": 3,
        "height": 2,
        "data_type": "video/mp4" if video else "image/png",
        "labels": {"7": labels} if video else labels,
    }
    return {
        "label_hash": "row1",
        "data_type": "video" if video else "image",
        "data_units": {"unit1": unit},
        "classification_answers": ANSWERS,
    }


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: [r], lambda r: {"label_rows": [r]}])
def test_reads_objects_with_their_confidence(tmp_path, wrap):
    path = written(tmp_path / "a.json", wrap(label_row(OBJECT)))
    source = opened(PREDICTIONS, path)
    assert filled(source.batches()) == [ROW]
    assert source.coordinates.relative
    assert (source.coordinates.unit_key, source.coordinates.class_key) == (
        "data_hash",
        "feature_hash",
    )
    assert sniffs(PREDICTIONS, path)


def test_objects_of_videos_are_tracks(tmp_path):
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", label_row(OBJECT, video=True)))
    assert row == ROW | {"frame": 7, "track_id": "obj1"}


def test_bitmasks_are_placed(tmp_path):
    # Row by row 0 1 | 1 1, from the second column of an image of 3 × 2: 0 0 1 | 0 1 1, which has
    # three pixels off and three on, column by column.
    bitmask = {"top": 0, "left": 1, "height": 2, "width": 2, "rleString": "13"}
    thing = {k: v for k, v in OBJECT.items() if k != "boundingBox"}
    thing |= {"shape": "bitmask", "bitmask": bitmask}
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", label_row(thing)))
    assert (row["mask"]["height"], row["mask"]["width"], row["mask"]["counts"]) == (2, 3, b"33")
    assert row["confidence"] == 0.75


def test_classifications_have_three_hashes_and_a_confidence(tmp_path):
    given = [
        {"featureHash": "clf", "classificationHash": "clf1", "confidence": 0.5},
        {"featureHash": "clf", "classificationHash": "clf2", "confidence": 0.25},
        {"featureHash": "clf", "classificationHash": "clf1", "confidence": "sure"},
    ]
    path = written(tmp_path / "a.json", label_row(classifications=given))
    first, second, third = rows_of(PREDICTIONS, path)
    assert first == {
        "source_row": 0,
        "unit": "unit1",
        "frame": 0,
        "class_ref": "clf",
        "source_id": "clf1",
        "format": "classification",
        "confidence": 0.5,
        "attribute_hash": "weather",
        "option_hash": "sun",
    }
    assert (second["rule"], second["confidence"]) == ("unsupported_answer", 0.25)
    assert third["rule"] == "invalid_data"


def test_an_ontology_tells_checklists_from_radios(tmp_path):
    option = {"label": "Sun", "featureNodeHash": "sun"}
    attribute = {
        "name": "W",
        "type": "checklist",
        "featureNodeHash": "weather",
        "options": [option],
    }
    document = {
        "objects": [],
        "classifications": [{"featureNodeHash": "clf", "attributes": [attribute]}],
    }
    ontology = written(tmp_path / "ontology.json", document)
    given = [{"featureHash": "clf", "classificationHash": "clf1", "confidence": 0.5}]
    path = written(tmp_path / "a.json", label_row(classifications=given))
    assert [row.get("rule") for row in rows_of(PREDICTIONS, path)] == [None]
    (row,) = rows_of(PREDICTIONS, path, ontology=ontology)
    assert row["rule"] == "unsupported_answer"


@pytest.mark.parametrize(
    ("confidences", "noted"), [([1, 1.0], 2), ([1, 0.5], None), ([1, None], 1), ([None], None)]
)
def test_labels_of_people_are_suspected(tmp_path, confidences, noted):
    path = written(
        tmp_path / "a.json", label_row(*[OBJECT | {"confidence": c} for c in confidences])
    )
    source = opened(PREDICTIONS, path)
    rows = filled(source.batches())
    assert [row.get("confidence") for row in rows] == confidences
    assert [n for note, n in source.notes.items() if "are these predictions?" in note] == (
        [] if noted is None else [noted]
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"confidence": "high"}, "invalid_data"),
        ({"confidence": float("inf")}, "not_finite"),
        ({"boundingBox": {"x": 0}}, "invalid_box"),
        ({"shape": "cuboid"}, "unsupported_shape"),
    ],
)
def test_bad_objects_are_refused_one_by_one(tmp_path, change, rule):
    path = written(tmp_path / "a.json", label_row(OBJECT, OBJECT | change, OBJECT))
    rows = rows_of(PREDICTIONS, path)
    assert [row.get("rule") for row in rows] == [None, rule, None]
    assert rows[1]["unit"] == "unit1"


def test_what_is_no_label_row(tmp_path):
    with pytest.raises(SourceError, match="label row 0"):
        opened(PREDICTIONS, written(tmp_path / "a.json", {"objects": []}))


def test_labels_without_confidence_are_not_claimed(tmp_path):
    bare = {key: value for key, value in OBJECT.items() if key != "confidence"}
    assert not sniffs(PREDICTIONS, written(tmp_path / "a.json", label_row(bare)))
    assert claimed(PREDICTIONS, tmp_path) == []


def test_damaged_files_end_in_one_error(tmp_path):
    data = json.dumps(label_row(OBJECT, OBJECT)).encode()
    assert survives(PREDICTIONS, tmp_path / "a.json", data) > 10
