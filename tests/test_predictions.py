"""The prediction models: Encord Active's names and rules, and what users' code may hand over."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ea_arrow.predictions import (
    BoundingBox,
    Format,
    FrameClassification,
    ObjectDetection,
    Prediction,
)

POINTS = [[0.25, 0.5], [0.75, 0.5], [0.5, 1.0]]
MASK = np.array([[0, 1, 1], [0, 1, 0]], dtype=np.uint8)
BOX = {"x": 0.25, "y": 0.5, "w": 0.125, "h": 0.375}


def box(**changed) -> BoundingBox:
    return BoundingBox(**{**BOX, **changed})


def detection(form="bounding-box", data=None, **changed) -> ObjectDetection:
    given = {"format": form, "data": BOX if data is None else data, "feature_hash": "cat"}
    return ObjectDetection(**{**given, **changed})


def prediction(**changed) -> Prediction:
    given = {"data_hash": "du", "confidence": 0.5}
    if not changed.keys() & {"object", "classification"}:
        given["object"] = detection()
    return Prediction(**{**given, **changed})


ANSWER = FrameClassification(feature_hash="f", attribute_hash="a", option_hash="o")
EVERY_KIND = {
    "box": prediction(),
    "rotated box": prediction(object=detection(data=box(theta=30), track_id=7)),
    "mask": prediction(object=detection("mask", MASK, track_id="t")),
    "polygon": prediction(object=detection("polygon", POINTS)),
    "classification": prediction(classification=ANSWER, frame=None),
}


# -- as in Encord Active ---------------------------------------------------------------------------


def test_the_names_and_the_order_of_the_fields():
    fields = {model.__name__: list(model.model_fields) for model in (BoundingBox, ObjectDetection)}
    assert fields["BoundingBox"] == ["x", "y", "h", "w", "theta"]
    assert fields["ObjectDetection"] == ["format", "data", "feature_hash", "track_id"]
    hashes = ["feature_hash", "attribute_hash", "option_hash"]
    assert list(FrameClassification.model_fields) == hashes
    expected = ["data_hash", "frame", "confidence", "object", "classification"]
    assert list(Prediction.model_fields) == expected


def test_the_documented_snippet():
    found = Prediction(
        data_hash="<your_data_hash>",
        frame=3,
        confidence=0.8,
        object=ObjectDetection(
            format=Format.BOUNDING_BOX,
            data=BoundingBox(x=0.2, y=0.3, w=0.1, h=0.4),
            feature_hash="OTk2MzM3",
        ),
    )
    assert (found.object.data.w, found.object.data.theta, found.object.track_id) == (0.1, 0.0, None)
    assert found.frame == 3
    assert prediction().frame == 0


def test_format_is_text_as_well():
    assert Format.MASK == "mask"
    assert str(Format.MASK) == "Format.MASK"
    assert [member.value for member in Format] == ["bounding-box", "mask", "polygon"]


def test_a_classification_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        ANSWER.option_hash = "other"
    assert len({ANSWER, ANSWER.model_copy()}) == 1


# -- boxes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"x": -1e-7}, (0.0, 0.5, 0.125, 0.375)),
        ({"x": 0.875 + 5e-7}, (0.875 + 5e-7, 0.5, 1 - (0.875 + 5e-7), 0.375)),
        ({"h": 0.5 + 1e-7}, (0.25, 0.5, 0.125, 0.5)),
        ({"x": 0, "w": 1 + 1e-7}, (0.0, 0.5, 1.0, 0.375)),
        ({"y": 1, "h": 0}, (0.25, 1.0, 0.125, 0.0)),
    ],
)
def test_float_noise_is_moved_onto_the_edge(given_, expected):
    made = box(**given_)
    assert (made.x, made.y, made.w, made.h) == expected


@given(st.floats(0, 1), st.floats(0, 1 + 1e-6))
def test_a_box_never_leaves_the_image(start, size):
    if start + size <= 1 + 1e-6:
        made = BoundingBox(x=start, y=start, w=size, h=size)
        assert made.x + made.w <= 1
        assert made.y + made.h <= 1
        assert abs(made.w - size) <= 1.01e-6


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"x": -0.1}, r"from 0 to 1; found -0\.1"),
        ({"w": 1.5}, r"from 0 to 1; found 1\.5"),
        ({"x": 0.9}, r"x \+ w to be at most 1.*found x = 0\.9 and w = 0\.125"),
        ({"y": 0.7}, r"y \+ h to be at most 1.*found y = 0\.7 and h = 0\.375"),
        ({"x": float("nan")}, "finite number"),
        ({"w": float("inf")}, "finite number"),
        ({"theta": -1}, "greater than or equal to 0"),
        ({"theta": 361}, "less than or equal to 360"),
        ({"x": "left"}, "valid number"),
        ({"x": None}, "valid number"),
        ({"width": 0.5}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_box(given_, message):
    with pytest.raises(ValidationError, match=message):
        box(**given_)


# -- data, in every form in which it may come ------------------------------------------------------


@pytest.mark.parametrize("data", [box(), dict(BOX), json.dumps(BOX)])
def test_forms_of_a_box(data):
    assert detection(data=data).data == box()


@pytest.mark.parametrize(
    "data",
    [
        MASK,
        MASK.astype(bool),
        MASK.astype(np.int64),
        MASK.astype(np.float32),
        MASK * 255,
        np.asfortranarray(MASK),
        np.repeat(MASK, 2, axis=1)[:, ::2],
        MASK.tolist(),
        MASK.astype(bool).tolist(),
        json.dumps(MASK.tolist()),
    ],
)
def test_forms_of_a_mask(data):
    made = detection("mask", data)
    assert made.data.dtype == np.uint8
    np.testing.assert_array_equal(made.data, MASK)


@pytest.mark.parametrize("fill", [0, 1, 255, True, False])
def test_uniform_masks(fill):
    assert set(detection("mask", np.full((2, 3), fill)).data.ravel().tolist()) == {int(fill > 0)}


def test_a_model_does_not_share_the_array_it_was_given():
    pixels, points = MASK.copy(), np.array(POINTS)
    made = detection("mask", pixels), detection("polygon", points)
    pixels[:], points[:] = 1, 0
    np.testing.assert_array_equal(made[0].data, MASK)
    np.testing.assert_array_equal(made[1].data, POINTS)


@pytest.mark.parametrize(
    "data",
    [
        np.array(POINTS),
        np.array(POINTS, dtype=np.float32),
        POINTS,
        tuple(map(tuple, POINTS)),
        json.dumps(POINTS),
        [[np.float64(x), np.float32(y)] for x, y in POINTS],
        np.add(POINTS, [[0, 0], [0, 0], [0, 1e-7]]),
    ],
)
def test_forms_of_a_polygon(data):
    made = detection("polygon", data)
    assert (made.format, made.data.dtype) == (Format.POLYGON, np.float64)
    np.testing.assert_array_equal(made.data, POINTS)


def test_a_polygon_of_whole_numbers():
    assert detection("polygon", [[0, 0], [1, 0], [1, 1]]).format is Format.POLYGON


@pytest.mark.parametrize("data", [MASK, MASK.astype(bool), MASK.tolist(), MASK * 255])
def test_a_mask_called_a_polygon_is_a_mask(data):
    made = detection("polygon", data)
    assert made == detection("mask", MASK)
    assert made.format is Format.MASK


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("bounding-box", [0.1, 0.2, 0.3, 0.4], "dictionary of x, y, w and h.*found.*type list"),
        ("bounding-box", {"x": 2, "y": 0, "w": 0}, r"x: .*found 2\.0; h: Field required"),
        ("bounding-box", {**BOX, "x": 0.9}, r"not a bounding box: .*x \+ w"),
        ("bounding-box", 5, "type int"),
        ("mask", box(), "array or nested lists for a mask; found a value of type BoundingBox"),
        ("mask", 7, "expected an array or nested lists for a mask; found a value of type int"),
        ("mask", MASK * 2, "0 and 1, or 0 and 255; found values from 0 to 2"),
        ("mask", MASK.astype(int) - 1, "found values from -1 to 0"),
        ("mask", MASK * 0.5, r"found values from 0\.0 to 0\.5"),
        ("mask", np.full((2, 2), np.nan), "found values from nan"),
        ("mask", MASK[0], r"shape \(height, width\); found shape \(3,\)"),
        ("mask", MASK[None], r"found shape \(1, 2, 3\)"),
        ("mask", MASK[:0], r"found shape \(0, 3\)"),
        ("mask", [[1], [1, 0]], "rows of numbers, all of one length, for a mask"),
        ("mask", [["a"]], "expected numbers for a mask; found values of type <U1"),
        ("mask", np.array([[None]]), "found values of type object"),
        ("mask", "[[1, 0", "text that is not JSON"),
        ("polygon", POINTS[:2], "at least 3 points; found 2"),
        ("polygon", np.array(POINTS) * 640, r"from 0 to 1; found values from 160\.0 to 640\.0"),
        ("polygon", np.array(POINTS) * np.nan, "found values from nan to nan"),
        ("polygon", [0.5, 0.5, 0.6], r"shape \(points, 2\); found float64 of shape \(3,\)"),
        ("polygon", np.ones((3, 3)), r"found float64 of shape \(3, 3\)"),
        ("polygon", np.ones((3, 2), dtype=bool), r"found bool of shape \(3, 2\)"),
        ("polygon", "{}", "type dict"),
        ("circle", MASK, "'bounding-box', 'mask' or 'polygon'"),
    ],
)
def test_what_is_no_data(form, data, message):
    with pytest.raises(ValidationError, match=message):
        detection(form, data)


# -- the rest of a prediction ----------------------------------------------------------------------


def test_numpy_scalars_are_taken_everywhere():
    made = Prediction(
        data_hash=np.str_("du"),
        frame=np.int64(3),
        confidence=np.float32(0.5),
        object={
            "format": np.str_("bounding-box"),
            "data": {k: np.float32(v) for k, v in BOX.items()} | {"theta": np.int8(5)},
            "feature_hash": np.str_("cat"),
            "track_id": np.int32(7),
        },
    )
    whole = prediction(frame=3, object=detection(data=box(theta=5), track_id=7))
    assert made == whole
    assert made.model_dump_json() == whole.model_dump_json()
    kinds = {type(value) for value in (made.data_hash, made.frame, made.confidence)}
    assert kinds == {str, int, float}
    assert type(detection(track_id=np.str_("t")).track_id) is str
    assert prediction(confidence=np.array(0.25)).confidence == 0.25
    hashes = {"feature_hash": np.str_("f"), "attribute_hash": "a", "option_hash": np.str_("o")}
    assert FrameClassification(**hashes) == ANSWER


@pytest.mark.parametrize("confidence", [-3.5, 0, 1, 1e300, np.float64(2), np.int64(5)])
def test_any_finite_confidence(confidence):
    assert prediction(confidence=confidence).confidence == float(confidence)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"confidence": float("nan")}, "finite number"),
        ({"confidence": np.float32("inf")}, "finite number"),
        ({"confidence": None}, "valid number"),
        ({"frame": -1}, "greater than or equal to 0"),
        ({"frame": 0.5}, "valid integer"),
        ({"data_hash": 5}, "valid string"),
        ({"data_hash": None}, "valid string"),
        ({"object": None}, "exactly one of object and classification; found neither"),
        (
            {"object": detection(), "classification": ANSWER},
            "exactly one of object and classification; found both",
        ),
        ({"class_id": "cat"}, "Extra inputs are not permitted"),
        ({"object": {"data": BOX, "feature_hash": "cat"}}, "Field required"),
        ({"classification": {"feature_hash": "f"}}, "Field required"),
    ],
)
def test_what_is_no_prediction(given_, message):
    with pytest.raises(ValidationError, match=message):
        prediction(**given_)


def test_missing_fields_are_named():
    with pytest.raises(ValidationError) as caught:
        Prediction(object=detection())
    assert {error["loc"] for error in caught.value.errors()} == {("data_hash",), ("confidence",)}


@pytest.mark.parametrize("track", [None, "t", 7, 0])
def test_tracks_keep_their_type(track):
    assert detection(track_id=track).track_id == track
    assert type(detection(track_id=track).track_id) is type(track)


# -- equality, pickles, JSON -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_equality(kind):
    made = EVERY_KIND[kind]
    assert made == copy.deepcopy(made)
    assert [name for name, other in EVERY_KIND.items() if other == made] == [kind]
    assert made != made.model_copy(update={"confidence": 0.25})
    assert made != "a prediction"


def test_equality_looks_into_the_data():
    assert detection("mask", MASK) == detection("mask", MASK.astype(bool))
    assert detection("mask", MASK) != detection("mask", 1 - MASK)
    assert detection("mask", MASK) != detection("mask", MASK[:1])
    assert detection("polygon", POINTS) != detection("polygon", POINTS[::-1])
    assert detection("polygon", POINTS) != detection()
    assert detection() != detection(data=box(x=0))
    assert detection() != "a detection"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_pickles(kind, protocol):
    made = EVERY_KIND[kind]
    assert pickle.loads(pickle.dumps(made, protocol)) == made


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_dumps_and_loads(kind):
    made = EVERY_KIND[kind]
    assert Prediction.model_validate(made.model_dump()) == made
    assert Prediction.model_validate(made.model_dump(mode="json")) == made
    assert Prediction.model_validate_json(made.model_dump_json()) == made


def test_json_holds_nested_lists():
    dumped = json.loads(EVERY_KIND["mask"].model_dump_json())
    assert dumped["object"]["data"] == MASK.tolist()
    assert dumped["object"]["format"] == "mask"
    assert json.loads(EVERY_KIND["polygon"].model_dump_json())["object"]["data"] == POINTS


def test_json_schema():
    schema = Prediction.model_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    models = [schema, *(schema["$defs"][name] for name in schema["$defs"] if name != "Format")]
    assert len(models) == 4
    for model in models:
        assert model["description"]
        for name, field in model["properties"].items():
            assert field["description"], name
    assert schema["properties"]["frame"]["anyOf"][0] == {"type": "integer", "minimum": 0}
    data = schema["$defs"]["ObjectDetection"]["properties"]["data"]["anyOf"]
    numbers = {"type": "array", "items": {"type": "number"}}
    assert data == [{"$ref": "#/$defs/BoundingBox"}, {"type": "array", "items": numbers}]
    side = schema["$defs"]["BoundingBox"]["properties"]["x"]
    assert (side["minimum"], side["maximum"]) == (0, 1)
    assert [one["required"] for one in schema["oneOf"]] == [["object"], ["classification"]]


def test_numpy_is_not_imported_for_boxes():
    code = (
        "import sys\n"
        "from ea_arrow.predictions import BoundingBox, ObjectDetection, Prediction\n"
        "box = BoundingBox(x=0, y=0, w=1, h=1)\n"
        "found = ObjectDetection(format='bounding-box', data=box, feature_hash='a')\n"
        "made = Prediction(data_hash='d', confidence=1, object=found)\n"
        "assert made == made.model_copy() and made.model_dump_json()\n"
        "assert Prediction.model_json_schema()\n"
        "assert 'numpy' not in sys.modules and 'pyarrow' not in sys.modules\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
