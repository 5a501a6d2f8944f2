"""FiftyOne's samples.json: fields, fractions, and masks that cover their box only."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.rle import decode_rle_string
from ea_arrow.sources.fiftyone import LABELS, PREDICTIONS
from tests.formats.json_reading import (
    claimed,
    filled,
    opened,
    read,
    rows_of,
    sniffs,
    survives,
    written,
)

BOX = [0.25, 0.5, 0.5, 0.25]
CAT = {
    "_id": {"$oid": "cat1"},
    "_cls": "Detection",
    "label": "cat",
    "bounding_box": BOX,
    "confidence": 0.75,
}
CAT_ROW = {
    "source_id": "cat1",
    "class_ref": "cat",
    "format": "bounding_box",
    "bbox_x": 0.25,
    "bbox_y": 0.5,
    "bbox_w": 0.5,
    "bbox_h": 0.25,
}


def detections(*listed):
    return {"_cls": "Detections", "detections": list(listed)}


def sample(number=1, width=8, height=4, **fields):
    return {
        "_id": {"$oid": f"s{number}"},
        "filepath": f"/data/{number}.jpg",
        "_media_type": "image",
        "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
    } | fields


def document(*samples):
    return {"samples": list(samples)}


def packed(mask, **save):
    """A mask as FiftyOne stores it."""
    file = io.BytesIO()
    np.save(file, mask, **save)
    return binary(file.getvalue())


def binary(data):
    text = base64.b64encode(zlib.compress(data)).decode()
    return {"$binary": {"base64": text, "subType": "00"}}


def pixels(row):
    """A row's mask as an array of 0 and 1."""
    mask = row["mask"]
    runs = decode_rle_string(mask["counts"])
    flat = np.repeat(np.arange(runs.size) % 2, runs)
    return flat.reshape(mask["width"], mask["height"]).T


def test_reads_the_field_with_confidences(tmp_path):
    bare = {key: value for key, value in CAT.items() if key != "confidence"}
    one = sample(predictions=detections(CAT), ground_truth=detections(bare))
    path = written(tmp_path / "samples.json", document(one, sample(2)))
    source = opened(PREDICTIONS, path)
    assert filled(source.batches()) == [
        {"source_row": 0, "unit": "1.jpg", "confidence": 0.75} | CAT_ROW
    ]
    assert source.coordinates.relative
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("name", "name")
    assert sniffs(PREDICTIONS, path)
    assert sniffs(PREDICTIONS, tmp_path)
    assert len(rows_of(PREDICTIONS, tmp_path)) == 1


def test_several_fields_with_confidences(tmp_path):
    dog = CAT | {"label": "dog"}
    one = sample(yolo=detections(CAT), rcnn=detections(dog))
    path = written(tmp_path / "a.json", document(one))
    with pytest.raises(SourceError, match="several fields with confidences: yolo, rcnn"):
        opened(PREDICTIONS, path)
    assert [r["class_ref"] for r in rows_of(PREDICTIONS, path, options={"field": "rcnn"})] == [
        "dog"
    ]
    with pytest.raises(SourceError, match="no labels in 'rcn'") as caught:
        opened(PREDICTIONS, path, options={"field": "rcn"})
    assert "rcnn" in (caught.value.hint or "")


def test_no_field_with_confidences(tmp_path):
    one = sample(found=detections(CAT | {"confidence": None}))
    path = written(tmp_path / "a.json", document(one))
    with pytest.raises(SourceError, match="no field with confidences; others: found"):
        opened(PREDICTIONS, path)
    (row,) = rows_of(PREDICTIONS, path, options={"field": "found"})
    assert "confidence" not in row


def test_the_box_may_be_read_otherwise(tmp_path):
    path = written(tmp_path / "a.json", document(sample(found=detections(CAT))))
    (row,) = rows_of(PREDICTIONS, path, box="cxcywh")
    assert [row[f"bbox_{side}"] for side in "xywh"] == [0, 0.375, 0.5, 0.25]
    assert not opened(PREDICTIONS, path, relative=False).coordinates.relative


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_a_mask_is_placed_into_its_image(tmp_path, order, dtype):
    # The image has 8 × 4 pixels; the box begins at column 2, row 2, and is 4 wide, 1 high.
    mask = np.asarray([[1, 0, 1, 1]], dtype=dtype, order=order)
    if order == "F":
        mask = np.asfortranarray(np.repeat(mask, 2, axis=0))
    box = [0.25, 0.5, 0.5, 0.25 * len(mask)]
    one = sample(predictions=detections(CAT | {"mask": packed(mask), "bounding_box": box}))
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(one)))
    expected = np.zeros((4, 8), dtype=int)
    expected[2 : 2 + len(mask), 2:6] = [1, 0, 1, 1]
    assert row["format"] == "mask"
    assert pixels(row).tolist() == expected.tolist()
    assert [row[f"bbox_{side}"] for side in "xywh"] == box


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mask_is_placed(tmp_path, data):
    width, height = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    count = (x1 - x0) * (y1 - y0)
    values = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    mask = np.array(values).reshape(y1 - y0, x1 - x0)
    box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    found = CAT | {"mask": packed(mask), "bounding_box": box}
    one = sample(width=width, height=height, predictions=detections(found))
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(one)))
    expected = np.zeros((height, width), dtype=int)
    expected[y0:y1, x0:x1] = mask
    assert pixels(row).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("left", "width", "columns", "first"),
    [
        (10.4, 9.9, 10, 10),  # rounded: 10 to 20
        (10.6, 9.6, 9, 11),  # rounded: 11 to 20
        (10.6, 9.6, 10, 10),  # truncated: 10 to 20
        (90.5, 9.5, 10, 90),  # half a pixel, rounded to even
        (90.7, 9.3, 10, 90),  # one pixel more than fits: moved back
    ],
)
def test_edges_between_pixels_are_rounded_as_fiftyone_does(tmp_path, left, width, columns, first):
    box = [left / 100, 0, width / 100, 1]
    found = CAT | {"mask": packed(np.ones((4, columns), dtype=bool)), "bounding_box": box}
    one = sample(width=100, height=4, predictions=detections(found))
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(one)))
    assert (row["mask"]["x"], row["mask"]["w"]) == (first, columns)


def test_the_older_form_of_binary(tmp_path):
    text = packed(np.ones((1, 4), dtype=bool))["$binary"]["base64"]
    found = CAT | {"mask": {"$binary": text, "$type": "00"}}
    (row,) = rows_of(
        PREDICTIONS, written(tmp_path / "a.json", document(sample(p=detections(found))))
    )
    assert pixels(row)[2].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


HEADER = b"\x93NUMPY\x01\x00"


def headed(text, data=b""):
    line = text.encode() + b"\n"
    return binary(HEADER + len(line).to_bytes(2, "little") + line + data)


BOMB = headed("{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000), }")
SHORT = headed("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 4), }", b"\1\1")
OBJECTS = headed("{'descr': '|O', 'fortran_order': False, 'shape': (1, 4), }", b"\1" * 32)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (packed(np.ones((2, 2), dtype=bool)), "expected a mask as large as its box"),
        (packed(np.ones((1, 4, 1), dtype=bool)), "two dimensions"),
        (packed(np.array([[None] * 4]), allow_pickle=True), "two dimensions"),
        (OBJECTS, "two dimensions"),
        (BOMB, "more than its image"),
        (SHORT, "breaks off"),
        ({"$binary": {"base64": "!!"}}, "base64"),
        ({"$binary": {"base64": "AAAA"}}, "unpacked"),
        ({"$binary": 3}, "two dimensions"),
        ("mask", "two dimensions"),
    ],
)
def test_bad_masks_are_refused(tmp_path, mask, said):
    one = sample(predictions=detections(CAT | {"mask": mask}, CAT))
    rows = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(one)))
    assert [row.get("rule") for row in rows] == ["invalid_mask", None]
    assert said in rows[0]["message"]


def test_a_mask_needs_its_images_size(tmp_path):
    one = sample(predictions=detections(CAT | {"mask": packed(np.ones((1, 4), dtype=bool))}))
    del one["metadata"]
    path = written(tmp_path / "a.json", document(one))
    (row,) = rows_of(PREDICTIONS, path)
    assert row["rule"] == "invalid_mask"
    Image.new("L", (8, 4)).save(tmp_path / "1.jpg")
    (row,) = rows_of(PREDICTIONS, path, images=tmp_path)
    assert pixels(row).sum() == 4


# -- other labels ----------------------------------------------------------------------------------


def test_polylines(tmp_path):
    line = {
        "_cls": "Polyline",
        "label": "cat",
        "confidence": 0.5,
        "points": [[[0, 0], [1, 0], [1, 0.5]], [[0.5, 0.5], [1, 1], [0, 1]]],
        "closed": True,
        "filled": True,
    }
    field = {
        "_cls": "Polylines",
        "polylines": [line, line | {"filled": False}, line | {"points": 3}],
    }
    rows = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(sample(found=field))))
    assert rows[0]["polygon"] == [[0, 0, 1, 0, 1, 0.5], [0.5, 0.5, 1, 1, 0, 1]]
    assert rows[0]["format"] == "polygon"
    assert [row.get("rule") for row in rows] == [None, "unsupported_shape", "invalid_polygon"]


@pytest.mark.parametrize("several", [False, True])
def test_classifications(tmp_path, several):
    answer = {"_cls": "Classification", "label": "day", "confidence": 0.5}
    field = {"_cls": "Classifications", "classifications": [answer]} if several else answer
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(sample(time=field))))
    assert row == {
        "source_row": 0,
        "unit": "1.jpg",
        "class_ref": "day",
        "confidence": 0.5,
        "format": "classification",
    }


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"confidence": "high"}, "invalid_data"),
        ({"confidence": {"$numberDouble": "NaN"}}, "not_finite"),
        ({"bounding_box": [1, 2]}, "invalid_box"),
        ({"bounding_box": [0, 0, "x", 1]}, "invalid_box"),
        ({"_cls": "Keypoint"}, "unsupported_shape"),
        ({"_cls": None}, "unsupported_shape"),
        ({"mask_path": "/masks/1.png"}, "unsupported_shape"),
        ({"label": {"a": 1}}, "invalid_data"),
    ],
)
def test_bad_labels_are_refused_one_by_one(tmp_path, change, rule):
    one = sample(found=detections(CAT, CAT | change, "cat", CAT))
    rows = rows_of(PREDICTIONS, written(tmp_path / "a.json", document(one)))
    assert [row.get("rule") for row in rows] == [None, rule, "invalid_data", None]
    assert all(row["unit"] == "1.jpg" for row in rows)


# -- ground truth ----------------------------------------------------------------------------------


def test_reads_ground_truth(tmp_path):
    crowd = {"iscrowd": {"_cls": "NumericAttribute", "value": 1}}
    truth = detections(CAT | {"iscrowd": 0}, CAT | {"label": "ant", "attributes": crowd})
    both = document(sample(ground_truth=truth, predictions=detections(CAT)), sample(2, 6, 5))
    path = written(tmp_path / "samples.json", both)
    found = read(LABELS, path)
    assert [known.source_id for known in found.ontology.classes] == ["ant", "cat"]
    assert found.data_units.select(["source_id", "title", "width", "height"]).to_pylist() == [
        {"source_id": "s1", "title": "1.jpg", "width": 8, "height": 4},
        {"source_id": "s2", "title": "2.jpg", "width": 6, "height": 5},
    ]
    first, second = filled(found.labels)
    assert first == {"source_row": 0, "unit": "s1", "is_crowd": False} | CAT_ROW
    assert (second["is_crowd"], second["class_ref"]) == (True, "ant")
    assert sniffs(LABELS, path)
    found = read(LABELS, path, options={"field": "predictions"})
    assert len(filled(found.labels)) == 1


def test_ground_truth_that_cannot_be_read(tmp_path):
    day = {"_cls": "Classification", "label": "day"}
    path = written(tmp_path / "a.json", document(sample(ground_truth=day)))
    assert [row["rule"] for row in filled(read(LABELS, path).labels)] == ["unsupported_answer"]
    path = written(tmp_path / "b.json", document(sample(truth=detections(CAT))))
    with pytest.raises(SourceError, match="no labels in 'ground_truth'"):
        read(LABELS, path)
    bare = sample(ground_truth=detections(CAT))
    del bare["metadata"]
    with pytest.raises(SourceError, match="1 of 1 samples have no metadata") as caught:
        read(LABELS, written(tmp_path / "c.json", document(bare)))
    assert "--images DIR" in (caught.value.hint or "")
    twice = document(*[sample(ground_truth=detections(CAT))] * 2)
    with pytest.raises(SourceError, match="no _id of their own"):
        read(LABELS, written(tmp_path / "d.json", twice))
    video = document(sample(_media_type="video"))
    with pytest.raises(SourceError, match="samples of video"):
        read(LABELS, written(tmp_path / "e.json", video))


def test_claims_no_other_format(tmp_path):
    assert claimed(PREDICTIONS, tmp_path) == []
    assert claimed(LABELS, tmp_path) == []


def test_damaged_files_end_in_one_error(tmp_path):
    mask = packed(np.ones((1, 4), dtype=bool))
    one = sample(ground_truth=detections(CAT, CAT | {"mask": mask}))
    data = json.dumps(document(one, sample(2))).encode()
    assert survives(PREDICTIONS, tmp_path / "a.json", data) > 10
    assert survives(LABELS, tmp_path / "b.json", data) > 10
