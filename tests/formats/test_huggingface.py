"""Hugging Face pipelines: every structure in which their output is dumped."""

import json

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.huggingface import PREDICTIONS
from tests.formats.json_reading import (
    claimed,
    filled,
    opened,
    rows_of,
    sniffs,
    survives,
    written,
)

CAT = {"score": 0.75, "label": "cat", "box": {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 80}}
DOG = {"score": 0.5, "label": "dog", "box": {"xmin": 0.5, "ymin": 0, "xmax": 2, "ymax": 4}}
CAT_ROW = {
    "class_ref": "cat",
    "confidence": 0.75,
    "format": "bounding_box",
    "bbox_x": 10.0,
    "bbox_y": 20.0,
    "bbox_w": 30.0,
    "bbox_h": 60.0,
}
CLASSES = [{"label": "cat", "score": 0.25}, {"label": "dog", "score": 0.625}]


@pytest.mark.parametrize(
    ("document", "unit", "key"),
    [
        ({"photos/1.jpg": [CAT]}, "1.jpg", "name"),
        ({"17": [CAT]}, "17", "source_id"),
        ([{"image": "C:\\photos\\1.jpg", "predictions": [CAT]}], "1.jpg", "name"),
        ([{"file_name": "1.jpg", "objects": [CAT]}], "1.jpg", "name"),
        ([{"id": 17, "results": [CAT]}], "17", "source_id"),
        ({"image_id": 17, "predictions": [CAT]}, "17", "source_id"),
        ([[CAT]], "0", "position"),
        ([CAT], "file", "stem"),
    ],
)
def test_reads_every_structure(tmp_path, document, unit, key):
    path = written(tmp_path / "file.json", document)
    source = opened(PREDICTIONS, path)
    assert source.coordinates.unit_key == key
    assert source.coordinates.class_key == "name"
    assert not source.coordinates.relative
    assert filled(source.batches()) == [{"source_row": 0, "unit": unit} | CAT_ROW]
    assert sniffs(PREDICTIONS, path)


def test_a_directory_has_one_file_for_each_image(tmp_path):
    written(tmp_path / "d" / "b.json", [CAT, DOG])
    written(tmp_path / "d" / "a.json", [])
    written(tmp_path / "d" / "c.x.json", [CAT])
    rows = rows_of(PREDICTIONS, tmp_path / "d")
    assert [(r["source_file"], r["source_row"], r["unit"]) for r in rows] == [
        ("b.json", 0, "b"),
        ("b.json", 1, "b"),
        ("c.x.json", 0, "c.x"),
    ]
    assert sniffs(PREDICTIONS, tmp_path / "d")


def test_files_that_name_images_in_other_ways_are_not_mixed(tmp_path):
    one = written(tmp_path / "1.json", [CAT])
    two = written(tmp_path / "2.json", {"1.jpg": [CAT]})
    source = PREDICTIONS.open(Files(tmp_path, (one, two)), Reading())
    with pytest.raises(SourceError, match="another way"):
        list(source.batches())


@pytest.mark.parametrize(("entries", "noted"), [([CAT], 1), ([CAT, CAT], 2), ([CAT, DOG], None)])
def test_whole_pixels_are_noted_only_if_all_are(tmp_path, entries, noted):
    source = opened(PREDICTIONS, written(tmp_path / "a.json", {"1.jpg": entries}))
    list(source.batches())
    assert source.notes.get("boxes are whole pixels: AP is understated by rounding") == noted


def test_labels_without_names_are_noted(tmp_path):
    path = written(tmp_path / "a.json", {"1.jpg": [CAT | {"label": "LABEL_3"}, CAT]})
    source = opened(PREDICTIONS, path)
    assert [row["class_ref"] for row in filled(source.batches())] == ["LABEL_3", "cat"]
    assert [n for note, n in source.notes.items() if "LABEL_0" in note] == [1]


def test_classifications_keep_the_best_class(tmp_path):
    path = written(tmp_path / "a.json", {"1.jpg": CLASSES, "2.jpg": CLASSES[:1], "3.jpg": []})
    source = opened(PREDICTIONS, path)
    assert filled(source.batches()) == [
        {
            "source_row": row,
            "unit": unit,
            "class_ref": name,
            "confidence": score,
            "format": "classification",
        }
        for row, unit, name, score in [(0, "1.jpg", "dog", 0.625), (1, "2.jpg", "cat", 0.25)]
    ]
    assert sorted(source.notes.values()) == [1, 1]  # a class left out, an empty image
    assert sniffs(PREDICTIONS, path)


def test_the_box_may_be_read_otherwise(tmp_path):
    path = written(tmp_path / "a.json", {"1.jpg": [CAT]})

    def box(**reading):
        return [rows_of(PREDICTIONS, path, **reading)[0][f"bbox_{side}"] for side in "xywh"]

    assert box(box="xywh") == [10, 20, 40, 80]
    assert box(box="yxyx") == [20, 10, 60, 30]
    assert box(one_based=True) == [9, 19, 31, 61]
    assert opened(PREDICTIONS, path, relative=True).coordinates.relative


@pytest.mark.parametrize(
    ("entry", "rule", "said"),
    [
        ("cat", "invalid_data", "expected an object"),
        (CAT | {"score": "high"}, "invalid_data", "'high'"),
        (CAT | {"score": float("nan")}, "not_finite", "nan"),
        (CAT | {"label": ["cat"]}, "invalid_data", "label"),
        (CAT | {"box": [1, 2, 3, 4]}, "invalid_box", "xmin"),
        (CAT | {"box": {"xmin": 1}}, "invalid_box", "box.ymin"),
        ({"score": 0.5, "label": "cat", "mask": "<PIL.Image>"}, "unsupported_shape", "mask"),
    ],
)
def test_bad_predictions_are_refused_one_by_one(tmp_path, entry, rule, said):
    path = written(tmp_path / "a.json", {"1.jpg": [CAT, entry, CAT]})
    rows = rows_of(PREDICTIONS, path)
    assert [row.get("rule") for row in rows] == [None, rule, None]
    assert said in rows[1]["message"]
    assert rows[1]["unit"] == "1.jpg"


def test_what_is_missing_stays_missing(tmp_path):
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", {"1.jpg": [{"box": CAT["box"]}]}))
    assert "confidence" not in row
    assert "class_ref" not in row
    assert "rule" not in row  # the import counts it as missing


def test_lone_surrogates_do_no_harm(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"\ud83d.jpg": [CAT | {"label": "\ud83d"}]}))
    (row,) = rows_of(PREDICTIONS, path)
    assert (row["unit"], row["class_ref"]) == ("?.jpg", "?")


def test_other_documents_are_named(tmp_path):
    with pytest.raises(SourceError, match="holds 7"):
        opened(PREDICTIONS, written(tmp_path / "a.json", 7))
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "b.json", {"a.jpg": 7}))
    assert row["rule"] == "invalid_data"


def test_claims_no_other_format(tmp_path):
    assert claimed(PREDICTIONS, tmp_path) == []


def test_damaged_files_end_in_one_error(tmp_path):
    path = tmp_path / "a.json"
    data = json.dumps({"1.jpg": [CAT, DOG], "2.jpg": [], "3.jpg": [CAT]}).encode()
    assert survives(PREDICTIONS, path, data) > 10
