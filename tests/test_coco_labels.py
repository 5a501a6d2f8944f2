"""COCO ground truth: every peculiar file that pycocotools loads is loaded, and as it does."""

import gzip
import io
import json
from contextlib import redirect_stdout

import numpy as np
import pyarrow as pa
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ea_arrow.errors import SourceError
from ea_arrow.ledger import REJECTS
from ea_arrow.schema import DATA_UNITS, RAW
from ea_arrow.sources import coco, json_files
from ea_arrow.sources.coco_labels import read_ground_truth
from ea_arrow.sources.samples import Sample

SQUARE = [1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]


def image(id=1, **more):
    return {"id": id, "width": 6, "height": 4, "file_name": f"{id}.jpg"} | more


def annotation(id=1, **more):
    return {
        "id": id,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 1, 2, 2],
        "area": 4,
        "iscrowd": 0,
    } | more


def document(annotations, images=None, categories=None, **more):
    return {
        "images": [image()] if images is None else images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}] if categories is None else categories,
    } | more


@pytest.fixture
def read(tmp_path):
    def read(annotations, images=None, categories=None, **more):
        path = tmp_path / "gt.json"
        path.write_text(json.dumps(document(annotations, images, categories, **more)))
        truth = read_ground_truth(path)
        batches = list(truth.labels)
        assert all(batch.schema.equals(RAW.arrow) for batch in batches)
        labels = pa.Table.from_batches(batches, RAW.arrow).to_pylist()
        return truth, labels

    return read


def test_a_box_is_read_as_given(read):
    truth, [label] = read([annotation(7, bbox=[1, 1.5, 2, 2.25], area=3)])
    assert {k: v for k, v in label.items() if v is not None} == {
        "source_row": 0,
        "unit": "1",
        "class_ref": "1",
        "format": "bounding_box",
        "bbox_x": 1.0,
        "bbox_y": 1.5,
        "bbox_w": 2.0,
        "bbox_h": 2.25,
        "area": 3.0,
        "is_crowd": False,
        "source_id": "7",
    }
    assert truth.notes == {}
    assert truth.coordinates.unit_key == truth.coordinates.class_key == "source_id"
    assert not truth.coordinates.relative


def test_data_units_come_in_the_order_of_sorted_image_ids(read):
    truth, _ = read([], [image(i) for i in (10, 9, "b", 2, "a")])
    assert truth.data_units.schema.equals(DATA_UNITS.arrow)
    assert truth.data_units["source_id"].to_pylist() == ["2", "9", "10", "a", "b"]
    assert truth.data_units["unit_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert truth.data_units["title"].to_pylist()[0] == "2.jpg"


def test_a_data_hash_depends_on_image_id_and_file_name_only(read):
    one, _ = read([], [image(1), image(2)])
    two, _ = read([], [image(0), image(2, width=99, coco_url="http://x/2.jpg", license=3)])
    assert one.data_units["data_hash"][1] == two.data_units["data_hash"][1]
    assert len(set(one.data_units["data_hash"].to_pylist())) == 2
    assert two.data_units["uri"].to_pylist() == [None, "http://x/2.jpg"]
    assert two.data_units["metadata"].to_pylist() == [None, '{"license": 3}']


def test_all_parts_of_a_polygon_are_one_label(read):
    _, [label] = read([annotation(segmentation=[SQUARE, [0, 0, 1, 0, 1, 1]])])
    assert label["format"] == "polygon"
    assert label["polygon"] == [SQUARE, [0, 0, 1, 0, 1, 1]]
    assert label["bbox_x"] == 1


def test_compressed_and_uncompressed_rle_become_the_same_mask(read):
    # 4 × 6, column-major: 10 background, 1 foreground, 2, 1, 3, 1 and 6 background pixels.
    counts = [10, 1, 2, 1, 3, 1, 6]
    _, labels = read(
        [
            annotation(1, segmentation={"size": [4, 6], "counts": counts}, iscrowd=1),
            annotation(2, segmentation={"size": [4, 6], "counts": ":120103"}),
        ]
    )
    assert [x["format"] for x in labels] == ["mask", "mask"]
    assert [x["is_crowd"] for x in labels] == [True, False]
    assert labels[0]["mask"] == labels[1]["mask"]
    assert labels[0]["mask"] == {
        "height": 4,
        "width": 6,
        "counts": b":120103",
        "area": 3,
        "x": 2,
        "y": 1,
        "w": 3,
        "h": 2,
    }


def test_ids_may_be_zero_strings_or_whole_floats(read):
    truth, labels = read(
        [
            annotation(0, image_id=0, category_id=0),
            annotation("x", image_id="img", category_id="c"),
            annotation(2.0, image_id=0.0, category_id=0.0),
        ],
        [image(0), image("img")],
        [{"id": 0, "name": "zero"}, {"id": "c", "name": 7}],
    )
    assert [(x["source_id"], x["unit"], x["class_ref"]) for x in labels] == [
        ("0", "0", "0"),
        ("x", "img", "c"),
        ("2", "0", "0"),
    ]
    assert [c.source_id for c in truth.ontology.classes] == ["0", "c"]


def test_what_a_label_lacks_is_left_empty_and_counted(read):
    bare = {"image_id": 1, "category_id": 1, "bbox": [], "segmentation": [SQUARE]}
    truth, [label, other] = read([bare, annotation(id=None, iscrowd=None, segmentation=[])])
    assert label["format"] == "polygon"
    assert [label[k] for k in ("bbox_x", "area", "is_crowd", "source_id")] == [None] * 4
    assert other["format"] == "bounding_box"
    assert truth.notes == {
        "annotations without area, which is derived": 1,
        "annotations without bbox, which is derived": 1,
        "annotations without iscrowd, taken as 0": 2,
        "annotations without id": 2,
    }


def test_odd_headers_load(read):
    truth, labels = read(
        [annotation(ignore=1)], info={"year": "2014"}, licenses=None, type="instances"
    )
    assert labels[0]["is_ignored"] is None
    assert truth.data_units.num_rows == 1


def test_a_file_without_annotations_has_no_labels(read, tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"images": [image()], "categories": []}))
    truth = read_ground_truth(tmp_path / "test.json")
    assert list(truth.labels) == []
    assert len(truth.ontology) == 0
    _, labels = read(None)
    assert labels == []


def test_labels_of_unlisted_images_and_categories_are_rows_for_the_ledger(read):
    _, labels = read([annotation(1, image_id=99), annotation(2, category_id=None)])
    assert [(x["unit"], x["class_ref"], x["rule"]) for x in labels] == [
        ("99", "1", None),
        ("1", None, None),
    ]


def test_of_images_with_equal_ids_the_last_counts(read):
    truth, _ = read([], [image(1, width=10), image(1, width=20)])
    assert truth.data_units["width"].to_pylist() == [20]
    assert truth.notes == {"images replaced by a later one of the same id": 1}


# Duplicate annotation ids: what pycocotools evaluates, asked of pycocotools itself.

CROSSING = [
    annotation(5, image_id=1, bbox=[0, 0, 1, 1]),
    annotation(6, image_id=2, bbox=[0, 0, 2, 1]),
    annotation(5, image_id=2, bbox=[0, 0, 3, 1]),
    annotation(7, image_id=2, bbox=[0, 0, 4, 1]),
    annotation(5, image_id=2, bbox=[0, 0, 5, 1], category_id=2),
    annotation(7, image_id=99, bbox=[0, 0, 6, 1]),
    annotation(6, image_id=1, bbox=[0, 0, 7, 1], category_id=3),
    annotation(8, image_id=3, bbox=[0, 0, 8, 1]),
    annotation(9, image_id=1, bbox=[0, 0, 9, 1]),
    annotation(9, image_id=3, bbox=[0, 0, 10, 1]),
]


@pytest.mark.parametrize(
    "annotations",
    [
        [annotation(5, bbox=[0, 0, w, 1]) for w in (1, 2, 3)],
        [annotation(5, bbox=[0, 0, 1, 1]), annotation(6), annotation(5, bbox=[0, 0, 3, 1])],
        CROSSING,
        CROSSING[::-1],
    ],
)
def test_duplicate_annotation_ids_count_as_in_pycocotools(read, annotations):
    images, categories = [image(i) for i in (3, 1, 2)], [{"id": 2}, {"id": 1}]
    expected = labels_in_pycocotools(document(annotations, images, categories))
    truth, labels = read(annotations, images, categories)
    mine: dict = {}
    for label in labels:
        if label["unit"] in "123" and label["class_ref"] in "12":
            key = int(label["unit"]), int(label["class_ref"])
            mine.setdefault(key, []).append((label["source_id"], label["bbox_w"]))
    assert mine == expected
    assert len({label["source_row"] for label in labels}) == len(annotations)
    assert truth.notes["annotations replaced by a later one of the same id"] > 0


def labels_in_pycocotools(dataset):
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        found = truth.loadRes([annotation(score=1.0)])
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.imgIds = list(np.unique(evaluation.params.imgIds))
    evaluation._prepare()
    return {
        (int(i), int(c)): [(str(x["id"]), float(x["bbox"][2])) for x in evaluation._gts[i, c]]
        for i in evaluation.params.imgIds
        for c in evaluation.params.catIds
        if evaluation._gts[i, c]
    }


# Sizes


def test_sizes_come_from_masks_where_images_have_none(read):
    rle = {"size": [4, 6], "counts": ":120103"}
    truth, _ = read(
        [annotation(segmentation=[SQUARE]), annotation(2, segmentation=rle)], [{"id": 1}]
    )
    assert truth.data_units.select(["width", "height"]).to_pylist() == [{"width": 6, "height": 4}]


def test_unknown_sizes_are_an_error_with_the_fix(read):
    images = [image(i, width=w) for i, w in enumerate([None, 0, -5, "x", 1.5, True, 640.0])]
    with pytest.raises(SourceError, match="6 of 7 images have no usable width") as caught:
        read([annotation(image_id=1)], images)
    assert "Image ids: 0, 1, 2, 3, 4, …" in caught.value.message
    assert "Give image sizes" in caught.value.hint


# Rejects


@pytest.mark.parametrize(
    ("broken", "rule", "found"),
    [
        ({"bbox": ["1", 1, 2, 2]}, "invalid_box", "'1'"),
        ({"bbox": [1, 2, 3]}, "invalid_box", "[1, 2, 3]"),
        ({"bbox": {"x": 1}}, "invalid_box", "{'x': 1}"),
        ({"bbox": [1, 2, 3, float("nan")]}, "not_finite", "nan"),
        ({"bbox": [1, 2, True, 3]}, "invalid_box", "True"),
        ({"bbox": [1, 2, 10**400, 3]}, "not_finite", "1000"),
        ({"bbox": None}, "invalid_box", "neither"),
        ({"segmentation": [[1, 2, 3, 4]]}, "invalid_polygon", "three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "invalid_polygon", "expected lists"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "invalid_polygon", "'6'"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("inf")]]}, "not_finite", "inf"),
        ({"segmentation": [SQUARE, "x"]}, "invalid_polygon", "'x'"),
        ({"segmentation": "x"}, "invalid_data", "'x'"),
        ({"segmentation": {"counts": [24]}}, "invalid_mask", "size is None"),
        ({"segmentation": {"size": [4], "counts": [24]}}, "invalid_mask", "[4]"),
        ({"segmentation": {"size": [4, -6], "counts": [24]}}, "invalid_mask", "-6"),
        ({"segmentation": {"size": [99999, 99999], "counts": [24]}}, "invalid_mask", "99999"),
        ({"segmentation": {"size": [4, 6], "counts": None}}, "invalid_mask", "None"),
        ({"segmentation": {"size": [4, 6], "counts": [1.5]}}, "invalid_mask", "1.5"),
        ({"segmentation": {"size": [4, 6], "counts": [10**30]}}, "invalid_mask", "1000"),
        ({"segmentation": {"size": [4, 6], "counts": "é"}}, "invalid_mask", "not ASCII"),
        ({"segmentation": {"size": [4, 6], "counts": "~~~"}}, "invalid_mask", "COCO"),
        ({"segmentation": {"size": [4, 6], "counts": [23]}}, "invalid_mask", "23 pixels"),
        ({"area": "4"}, "invalid_data", "'4'"),
        ({"area": float("inf")}, "not_finite", "inf"),
        ({"iscrowd": "maybe"}, "invalid_data", "'maybe'"),
        ({"image_id": [1]}, "invalid_data", "[1]"),
        ({"id": {}}, "invalid_data", "{}"),
    ],
)
def test_a_broken_label_is_a_reject_that_says_what_was_found(read, broken, rule, found):
    truth, [bad, good] = read([annotation(1) | broken, annotation(2)])
    assert bad["rule"] == rule
    assert rule in REJECTS
    assert found in bad["message"]
    assert bad["source_row"] == 0
    assert good["rule"] is None
    assert "annotations without area, which is derived" not in truth.notes


def test_an_annotation_that_is_no_object_is_a_reject(read):
    _, [bad, _] = read(["x", annotation()])
    assert (bad["rule"], bad["message"]) == (
        "invalid_data",
        "The annotation is 'x'; expected an object.",
    )


def test_parts_that_cover_nothing_are_left_out_and_counted(read):
    truth, [label] = read([annotation(segmentation=[[1, 2, 3, 4], SQUARE, []])])
    assert label["polygon"] == [SQUARE]
    assert truth.notes == {"polygon parts of fewer than three points left out": 2}


def test_a_flat_polygon_is_one_part(read):
    truth, [label] = read([annotation(segmentation=SQUARE)])
    assert label["polygon"] == [SQUARE]
    assert truth.notes == {"polygons given as one flat list, read as one part": 1}


def test_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("ea_arrow.sources.base.BATCH_ROWS", 4)
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(document([annotation(i) for i in range(10)])))
    batches = list(read_ground_truth(path).labels)
    assert [batch["source_row"].to_pylist() for batch in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


# Files


def test_gzip_is_read_transparently_whatever_the_name(tmp_path):
    path = tmp_path / "gt.json"
    path.write_bytes(gzip.compress(json.dumps(document([annotation()])).encode()))
    assert sum(b.num_rows for b in read_ground_truth(str(path)).labels) == 1
    assert coco.sniff_ground_truth(Sample(path))


def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_WHOLE", 10_000)
    path = tmp_path / "gt.json.gz"
    path.write_bytes(gzip.compress(b" " * 1_000_000))
    with pytest.raises(SourceError, match=r"unpacks from .* to more than"):
        read_ground_truth(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"images": [\n  {"id": 1}', "ends in the middle, at line 2, column 12"),
        (b'{"images": "abc', "ends in the middle"),
        (b'{"images": [}', r"not JSON at line 1, column 13 \(character 12\): Expecting value"),
        (b"\xff\xfe\xff", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (gzip.compress(b'{"images": []}' * 99)[:-30], "damaged gzip"),
        (b"\x1f\x8bnothing at all", "cannot be read: Unknown compression"),
        (b"[1" + b"0" * 5000 + b"]", "is not JSON"),
        (b"[]", "holds COCO results"),
        (b'[{"image_id": 1, "score": 1}]', "holds COCO results"),
        (b"[1]", r"is not COCO ground truth: found \[1\]"),
        (b'{"shapes": []}', r"found the keys \['shapes'\]"),
        (b'{"images": []}', "'categories' is None; expected a list"),
        (b'{"images": [], "categories": [], "annotations": {}}', "'annotations' is {}"),
        (b'{"images": [{}], "categories": []}', r"images\[0\] has no usable id"),
        (b'{"images": [], "categories": [{}]}', r"gt.json: categories\[0\] has no usable id"),
    ],
)
def test_a_file_of_another_kind_ends_in_an_error_that_helps(tmp_path, content, message):
    path = tmp_path / "gt.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_ground_truth(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        read_ground_truth(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "is_truth", "is_results"),
    [
        (json.dumps(document([annotation()])), True, False),
        ('\ufeff {"annotations": [', True, False),
        ('[{"image_id": 1}]', False, True),
        (" [ ]", False, True),
        ('{"annotations": [{"score": 1}]}', True, True),
        ("[1, 2]", False, False),
        ('{"objects": []}', False, False),
        ("", False, False),
    ],
)
def test_formats_are_told_from_the_first_bytes(tmp_path, content, is_truth, is_results):
    path = tmp_path / "x.json"
    path.write_text(content)
    assert coco.sniff_ground_truth(Sample(path)) == is_truth
    assert coco.sniff_results(Sample(path)) == is_results
    assert not coco.sniff_ground_truth(Sample(tmp_path))
    assert not coco.sniff_results(Sample(tmp_path / "none.json"))
