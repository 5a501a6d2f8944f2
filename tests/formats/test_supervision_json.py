"""supervision's JSONSink: numbers or texts, and an image that only custom data can name."""

import json

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.supervision_json import PREDICTIONS
from tests.formats.json_reading import claimed, filled, opened, rows_of, sniffs, survives, written

CAT = {
    "x_min": 10.5,
    "y_min": 20.0,
    "x_max": 40.5,
    "y_max": 80.0,
    "class_id": 15,
    "confidence": 0.75,
    "tracker_id": "",
}
NAMED = CAT | {"class_name": "cat", "file_name": "photos/1.jpg"}


def test_reads_a_detection(tmp_path):
    path = written(tmp_path / "a.json", [NAMED | {"tracker_id": 3}])
    source = opened(PREDICTIONS, path)
    assert filled(source.batches()) == [
        {
            "source_row": 0,
            "unit": "1.jpg",
            "class_ref": "cat",
            "track_id": "3",
            "confidence": 0.75,
            "format": "bounding_box",
            "bbox_x": 10.5,
            "bbox_y": 20.0,
            "bbox_w": 30.0,
            "bbox_h": 60.0,
        }
    ]
    assert source.coordinates.class_key == "name"
    assert not source.coordinates.relative
    assert sniffs(PREDICTIONS, path)


def test_numbers_may_be_texts(tmp_path):
    texts = {key: str(value) for key, value in CAT.items()} | {"image_id": "7"}
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", [texts]))
    assert [row[f"bbox_{side}"] for side in "xywh"] == [10.5, 20, 30, 60]
    assert (row["class_ref"], row["confidence"]) == ("15", 0.75)


def test_classes_without_names_go_by_index(tmp_path):
    rows = [NAMED, NAMED | {"class_name": "", "class_id": 16}, NAMED | {"class_id": 16.0}]
    source = opened(PREDICTIONS, written(tmp_path / "a.json", rows))
    assert source.coordinates.class_key == "index"
    assert source.coordinates.class_names == (("15", "cat"),)
    assert [row["class_ref"] for row in filled(source.batches())] == ["15", "16", "16"]
    assert source.notes == {"detections without class_name: all go by class_id": 1}


@pytest.mark.parametrize(
    ("key", "value", "unit", "unit_key"),
    [
        ("file_name", "x/1.jpg", "1.jpg", "name"),
        ("image_name", "1.jpg", "1.jpg", "name"),
        ("image_id", 12, "12", "source_id"),
        ("data_hash", "a/b", "a/b", "data_hash"),
    ],
)
def test_the_image_is_what_custom_data_says(tmp_path, key, value, unit, unit_key):
    source = opened(PREDICTIONS, written(tmp_path / "a.json", [CAT | {key: value}]))
    assert source.coordinates.unit_key == unit_key
    assert [row["unit"] for row in filled(source.batches())] == [unit]


def test_an_image_that_nothing_names_is_an_error(tmp_path):
    path = written(tmp_path / "a.json", [CAT | {"frame_index": 3, "video": "v.mp4"}])
    with pytest.raises(SourceError, match="frame_index, video") as caught:
        opened(PREDICTIONS, path)
    assert "--option unit=KEY" in (caught.value.hint or "")
    (row,) = rows_of(PREDICTIONS, path, options={"unit": "video", "frame": "frame_index"})
    assert (row["unit"], row["frame"]) == ("v.mp4", 3)
    with pytest.raises(SourceError, match="no detection has the key 'vdeo'"):
        opened(PREDICTIONS, path, options={"unit": "vdeo"})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"x_min": "left"}, "invalid_box"),
        ({"x_min": None}, "invalid_box"),
        ({"x_min": "nan"}, "not_finite"),
        ({"confidence": "high"}, "invalid_data"),
        ({"class_name": "cat", "tracker_id": [1]}, "invalid_data"),
        ({"frame": -1}, "invalid_frame"),
        ({"frame": 1.5}, "invalid_frame"),
    ],
)
def test_bad_detections_are_refused_one_by_one(tmp_path, change, rule):
    good = NAMED | {"frame": 1}
    path = written(tmp_path / "a.json", [good, good | change, good])
    rows = rows_of(PREDICTIONS, path, options={"frame": "frame"})
    assert [row.get("rule") for row in rows] == [None, rule, None]
    assert rows[1]["unit"] == "1.jpg"


def test_empty_texts_are_missing(tmp_path):
    empty = NAMED | {"confidence": "", "class_id": "", "file_name": "", "class_name": ""}
    first, second = rows_of(PREDICTIONS, written(tmp_path / "a.json", [NAMED, empty]))
    assert first["confidence"] == 0.75
    assert not {"confidence", "class_ref", "unit", "track_id", "rule"} & set(second)


def test_what_is_no_detection(tmp_path):
    (row, _) = rows_of(PREDICTIONS, written(tmp_path / "a.json", ["cat", NAMED]))
    assert row["rule"] == "invalid_data"
    with pytest.raises(SourceError, match="JSONSink"):
        opened(PREDICTIONS, written(tmp_path / "b.json", {"a": 1}))
    assert rows_of(PREDICTIONS, written(tmp_path / "c.json", [])) == []


def test_claims_no_other_format(tmp_path):
    assert claimed(PREDICTIONS, tmp_path) == []


def test_damaged_files_end_in_one_error(tmp_path):
    data = json.dumps([NAMED, NAMED | {"tracker_id": 1}]).encode()
    assert survives(PREDICTIONS, tmp_path / "a.json", data) > 10
