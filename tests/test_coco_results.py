"""COCO results: the areas of pycocotools, and the same rows from both ways of reading."""

import io
import json
from contextlib import redirect_stdout

import pyarrow as pa
import pytest
from pycocotools.coco import COCO

from ea_arrow.errors import SourceError
from ea_arrow.ledger import REJECTS
from ea_arrow.schema import RAW
from ea_arrow.sources import coco_results
from ea_arrow.sources.coco_results import CocoResults

RLE = {"size": [4, 6], "counts": ":120103"}


def result(**more):
    return {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4.5], "score": 0.5} | more


@pytest.fixture
def read(tmp_path):
    def read(rows):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(rows))
        source = CocoResults(path)
        batches = list(source.batches())
        assert all(batch.schema.equals(RAW.arrow) for batch in batches)
        return source, pa.Table.from_batches(batches, RAW.arrow).to_pylist()

    return read


def test_a_box_is_read_as_given(read):
    source, [row] = read([result()])
    assert {k: v for k, v in row.items() if v is not None} == {
        "source_row": 0,
        "unit": "1",
        "class_ref": "2",
        "format": "bounding_box",
        "confidence": 0.5,
        "bbox_x": 1.0,
        "bbox_y": 2.0,
        "bbox_w": 3.0,
        "bbox_h": 4.5,
        "area": 13.5,
    }
    assert len(source) == 1
    assert source.coordinates.unit_key == source.coordinates.class_key == "source_id"


def test_with_a_box_first_every_area_is_that_of_the_given_box(read):
    _, rows = read([result(), result(segmentation=RLE, bbox=[0, 0, 0.1, 0.3])])
    assert [row["area"] for row in rows] == [13.5, 0.1 * 0.3]
    assert [row["area"] for row in rows] == areas_in_pycocotools(
        [result(), result(segmentation=RLE, bbox=[0, 0, 0.1, 0.3])]
    )
    assert rows[1]["mask"]["area"] == 3
    assert rows[1]["format"] == "mask"


@pytest.mark.parametrize("box", [None, []])
def test_with_a_mask_first_areas_are_left_to_the_masks(read, box):
    first = result(segmentation=RLE, bbox=box)
    _, rows = read([first, result(segmentation=RLE, bbox=[0, 0, 9, 9])])
    assert [row["area"] for row in rows] == [None, None]
    assert [row["bbox_w"] for row in rows] == [None, 9]


def test_with_a_mask_first_plain_boxes_get_no_area_either(read, monkeypatch):
    monkeypatch.setattr(coco_results, "BATCH_ROWS", 1)
    first = {"image_id": 1, "category_id": 2, "segmentation": RLE, "score": 1}
    _, rows = read([first, result()])
    assert [row["area"] for row in rows] == [None, None]
    assert areas_in_pycocotools([first]) == [3]


def areas_in_pycocotools(results):
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": [{"id": 1}], "categories": [], "annotations": []}
        truth.createIndex()
        found = truth.loadRes(json.loads(json.dumps(results)))
    return [float(found.anns[i + 1]["area"]) for i in range(len(results))]


def test_an_object_with_annotations_is_read_too(read):
    _, rows = read({"annotations": [result(image_id="a"), result(image_id="b")], "info": {}})
    assert [row["unit"] for row in rows] == ["a", "b"]
    _, rows = read({"images": [], "annotations": [result()]})
    assert len(rows) == 1


def test_polygons_and_uncompressed_masks_are_read(read):
    ring = [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]
    source, rows = read(
        [
            result(segmentation=[ring, [1, 1]]),
            result(segmentation={"size": [4, 6], "counts": [10, 1, 2, 1, 3, 1, 6]}),
        ]
    )
    assert rows[0]["polygon"] == [ring]
    assert rows[1]["mask"]["counts"] == b":120103"
    assert source.notes == {"polygon parts of fewer than three points left out": 1}


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"score": None}, None),
        ({"score": "0.5"}, "invalid_data"),
        ({"score": float("nan")}, "not_finite"),
        ({"score": True}, "invalid_data"),
        ({"bbox": ["1", 2, 3, 4]}, "invalid_box"),
        ({"bbox": [1, 2, 3]}, "invalid_box"),
        ({"bbox": [1, 2, 3, 4, 5]}, "invalid_box"),
        ({"bbox": [1, 2, 3, float("-inf")]}, "not_finite"),
        ({"bbox": [1, 2, 1e300, 1e300]}, "not_finite"),
        ({"bbox": [1, 2, 3, 10**400]}, "not_finite"),
        ({"bbox": [1, 2, [3], 4]}, "invalid_box"),
        ({"bbox": None}, "invalid_box"),
        ({"bbox": []}, "invalid_box"),
        ({"image_id": [1]}, "invalid_data"),
        ({"category_id": True}, "invalid_data"),
        ({"segmentation": {"size": [4, 6], "counts": "12"}}, "invalid_mask"),
        ({"segmentation": [[1, 2, 3, 4]]}, "invalid_polygon"),
    ],
)
def test_a_broken_result_is_a_reject_beside_good_ones(read, broken, rule):
    _, rows = read([result(), result() | broken, result()])
    assert [row["rule"] for row in rows] == [None, rule, None]
    assert rule is None or rule in REJECTS
    assert [row["source_row"] for row in rows] == [0, 1, 2]
    assert (rows[1]["message"] is None) == (rule is None)
    assert rows[0]["area"] == rows[2]["area"] == 13.5


def test_a_missing_score_or_id_is_null(read):
    _, rows = read([{"image_id": 1, "bbox": [1, 2, 3, 4]}, result(), "x"])
    assert (rows[0]["confidence"], rows[0]["class_ref"]) == (None, None)
    assert rows[2]["rule"] == "invalid_data"


@pytest.mark.parametrize(
    "ids", [(1, 2), ("a", "b"), (1, "b"), (1.0, 2), (2**70, 1), ("\ud83d", "")]
)
def test_both_ways_of_reading_give_the_same_rows(read, monkeypatch, ids):
    rows = [
        result(image_id=i, category_id=j, bbox=[0.1, i == 1, 0.3, 7], score=1)
        for i in ids
        for j in ids
    ]
    for row in rows:
        row["bbox"][1] = float(row["bbox"][1])
    _, fast = read(rows)
    monkeypatch.setattr(coco_results, "_by_column", lambda *_, **__: None)
    _, slow = read(rows)
    assert fast == slow
    assert [row["source_row"] for row in slow] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change", [{}, {"bbox": [0, 0, 1, 1]}, {"segmentation": {"size": [4, 6], "counts": "H0"}}]
)
def test_both_ways_of_reading_give_the_same_masks(read, monkeypatch, change):
    rows = [result(segmentation=RLE) | change, result(segmentation=RLE)]
    without_boxes = [{k: v for k, v in row.items() if k != "bbox"} for row in rows]
    fast = [read(given)[1] for given in (rows, without_boxes)]
    monkeypatch.setattr(coco_results, "_by_column", lambda *_, **__: None)
    assert fast == [read(given)[1] for given in (rows, without_boxes)]


def test_plain_boxes_and_masks_do_take_the_fast_way(read, monkeypatch):
    monkeypatch.delattr(CocoResults, "_one_by_one")
    _, rows = read([result(image_id=i) for i in range(10)])
    assert len(rows) == 10
    _, rows = read([result(image_id=str(i), segmentation=RLE) for i in range(10)])
    assert [row["mask"]["area"] for row in rows] == [3] * 10


def test_batches_are_bounded_and_number_rows_through(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_results, "BATCH_ROWS", 3)
    for module in ("base", "coco_results"):
        monkeypatch.setattr(f"ea_arrow.sources.{module}.BATCH_MASKS", 2)
    rows = [result() for _ in range(4)] + [result(segmentation=RLE) for _ in range(6)]
    batches = list(CocoResults(tmp_path / "x.json", rows).batches())
    assert [b.num_rows for b in batches] == [3, 3, 2, 2]
    assert [i for b in batches for i in b["source_row"].to_pylist()] == list(range(10))


def test_no_results_are_no_batches(read):
    assert read([])[1] == []
    assert read({"annotations": []})[1] == []


def test_ground_truth_is_told_from_results(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1}]}))
    with pytest.raises(SourceError, match="holds COCO ground truth, without scores") as caught:
        CocoResults(path)
    assert "ea-arrow init" in caught.value.hint
    for other in ({"a": 1}, [1, 2], "text", None, {"annotations": [1]}):
        path.write_text(json.dumps(other))
        with pytest.raises(SourceError, match="is not COCO results"):
            CocoResults(path)
