"""Pickles of every kind read to the rows that unpickling them would give."""

from __future__ import annotations

import json
import math
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from ea_arrow import predictions as own
from ea_arrow.schema import RAW
from ea_arrow.sources import pickle_columns, pickle_machine, pickle_operations, pickles
from ea_arrow.sources.pickles import PickleSource
from tests.pickles import forge

ROOT = Path(__file__).parents[2]
PROTOCOLS = range(6)
MASK = np.array([[0, 1, 1], [0, 1, 0]], dtype=np.uint8)  # in columns: 2 off, 3 on, 1 off
MASK_ROW = {"height": 2, "width": 3, "counts": b"231", "area": 3, "x": 1, "y": 0, "w": 2, "h": 2}
POINTS = [[0.25, 0.5], [0.75, 0.5], [0.5, 1.0]]
RING = [0.25, 0.5, 0.75, 0.5, 0.5, 1.0]


def read(path: Path, data: bytes) -> list[dict[str, Any]]:
    path.write_bytes(data)
    batches = list(PickleSource(path).batches())
    assert all(batch.schema == RAW.arrow for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return [row for batch in batches for row in batch.to_pylist()]


def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "predictions.pkl"


# -- every kind of file, by hand -------------------------------------------------------------------

COMMON = {"source_row": 0, "unit": "du-0", "frame": 0, "class_ref": "cat", "confidence": 0.5}
BOX = {"format": "bounding_box", "bbox_x": 0.25, "bbox_y": 0.5, "bbox_w": 0.125, "bbox_h": 0.375}
MASKED = {**COMMON, "format": "mask", "mask": MASK_ROW}
RINGED = {**COMMON, "format": "polygon", "polygon": [RING]}

SHAPES = {
    "mask uint8": ("MASK", MASK, MASKED),
    "mask bool": ("MASK", MASK.astype(bool), MASKED),
    "mask int64": ("MASK", MASK.astype(np.int64), MASKED),
    "mask big-endian": ("MASK", MASK.astype(">i4"), MASKED),
    "mask 0 and 255": ("MASK", MASK * 255, MASKED),
    "mask of floats": ("MASK", MASK.astype(np.float32), MASKED),
    "mask in Fortran order": ("MASK", np.asfortranarray(MASK), MASKED),
    "mask not contiguous": ("MASK", np.repeat(MASK, 2, axis=1)[:, ::2], MASKED),
    "mask called a polygon": ("POLYGON", MASK, MASKED),
    "mask as lists": ("MASK", MASK.tolist(), MASKED),
    "mask as JSON": ("MASK", json.dumps(MASK.tolist()), MASKED),
    "polygon float64": ("POLYGON", np.array(POINTS), RINGED),
    "polygon float32": ("POLYGON", np.array(POINTS, dtype=np.float32), RINGED),
    "polygon as lists": ("POLYGON", POINTS, RINGED),
    "polygon of tuples of scalars": (
        "POLYGON",
        tuple(tuple(map(np.float64, point)) for point in POINTS),
        RINGED,
    ),
    "polygon as JSON": ("POLYGON", json.dumps(POINTS), RINGED),
    "box as JSON": (
        "BOUNDING_BOX",
        json.dumps({"x": 0.25, "y": 0.5, "w": 0.125, "h": 0.375}),
        {**COMMON, **BOX},
    ),
    "box as a dictionary": (
        "BOUNDING_BOX",
        {"x": 0.25, "y": 0.5, "w": 0.125, "h": 0.375, "theta": 90},
        {**COMMON, **BOX, "theta": 90.0},
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("numpy", [1, 2])
@pytest.mark.parametrize("generation", ["new", "old", "app"])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(file, name, generation, numpy, protocol):
    form, data, expected = SHAPES[name]
    with forge.encord_active(generation) as module:
        dumped = forge.dumps([forge.detection(module, form, data)], protocol, numpy=numpy)
    assert (b"numpy._core" if numpy == 1 else b"numpy.core") not in dumped
    assert filled(read(file, dumped)) == [expected]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("enum_by_name", [False, True])
@pytest.mark.parametrize(("generation", "theta"), [("new", 0.0), ("old", None), ("app", None)])
def test_boxes(file, generation, theta, enum_by_name, protocol):
    with forge.encord_active(generation, enum_by_name=enum_by_name) as module:
        given = {"frame": 3, "track_id": 7, "confidence": 1}
        found = forge.detection(module, "BOUNDING_BOX", forge.box(module), **given)
        dumped = forge.dumps([found], protocol)
    assert (b"getattr" in dumped) is enum_by_name
    expected = {**COMMON, **BOX, "frame": 3, "track_id": "7", "confidence": 1.0, "theta": theta}
    assert filled(read(file, dumped)) == filled([expected])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("numpy", [1, 2])
def test_numpy_scalars(file, numpy, protocol):
    with forge.encord_active() as module:
        box = forge.box(module, np.float64(0.25), np.float32(0.5), np.float16(0.125), 0.375)
        given = {
            "data_hash": np.str_("du-ü"),
            "feature_hash": np.str_(""),
            "frame": np.int64(70_000),
            "confidence": np.float32(0.5),
            "track_id": np.int32(-4),
        }
        found = forge.detection(module, "BOUNDING_BOX", box, **given)
        dumped = forge.dumps([found], protocol, numpy=numpy)
    changed = {"unit": "du-ü", "class_ref": "", "frame": 70_000, "theta": 0.0, "track_id": "-4"}
    assert filled(read(file, dumped)) == [{**COMMON, **BOX, **changed}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_classification(file, protocol):
    with forge.encord_active() as module:
        hashes = {"feature_hash": "f", "attribute_hash": "a", "option_hash": "o"}
        answer = module.FrameClassification(**hashes)
        found = module.Prediction(data_hash="d", confidence=0.5, classification=answer)
        dumped = forge.dumps([found], protocol)
    expected = {**COMMON, "unit": "d", "class_ref": "f", "format": "classification"}
    expected |= {"attribute_hash": "a", "option_hash": "o"}
    assert filled(read(file, dumped)) == [expected]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("sequence", [list, tuple])
def test_lists_and_tuples_of_every_length(file, sequence, length, protocol):
    with forge.encord_active() as module:
        found = [
            forge.detection(module, "BOUNDING_BOX", forge.box(module), data_hash=f"du-{i}")
            for i in range(length)
        ]
        dumped = forge.dumps(sequence(found), protocol)
    assert [row["unit"] for row in read(file, dumped)] == [f"du-{i}" for i in range(length)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_objects(file, protocol):
    with forge.encord_active() as module:
        box, score, points = forge.box(module), np.float64(0.5), np.array(POINTS)
        first = forge.detection(module, "BOUNDING_BOX", box, confidence=score)
        same_box = forge.detection(module, "BOUNDING_BOX", box, confidence=score)
        ring = forge.detection(module, "POLYGON", points)
        same_ring = forge.detection(module, "POLYGON", points)
        found = [first, first, same_box, ring, same_ring, ring, first]
        dumped = forge.dumps(found, protocol)
    rows = filled(read(file, dumped))
    assert [row.pop("source_row") for row in rows] == list(range(7))
    boxed = {k: v for k, v in {**COMMON, **BOX, "theta": 0.0}.items() if k != "source_row"}
    ringed = {k: v for k, v in RINGED.items() if k != "source_row"}
    assert rows == [boxed, boxed, boxed, ringed, ringed, ringed, boxed]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_own_models(file, protocol):
    box = own.BoundingBox(x=0.25, y=0.5, w=0.125, h=0.375)
    shapes = [(own.Format.BOUNDING_BOX, box), (own.Format.MASK, MASK), (own.Format.POLYGON, POINTS)]
    found = [
        own.Prediction(
            data_hash="du-0",
            confidence=0.5,
            object=own.ObjectDetection(format=form, data=data, feature_hash="cat"),
        )
        for form, data in shapes
    ]
    answer = own.FrameClassification(feature_hash="cat", attribute_hash="a", option_hash="o")
    found.append(own.Prediction(data_hash="du-0", confidence=0.5, classification=answer))
    rows = filled(read(file, pickle.dumps(found, protocol)))
    classified = {**COMMON, "format": "classification", "attribute_hash": "a", "option_hash": "o"}
    expected = [{**COMMON, **BOX, "theta": 0.0}, MASKED, RINGED, classified]
    assert rows == [row | {"source_row": i} for i, row in enumerate(expected)]


BROKEN = {
    "no confidence": ({"confidence": None}, None),
    "confidence is text": ({"confidence": "0.5"}, "missing_confidence"),
    "confidence is too large": ({"confidence": 10**400}, "missing_confidence"),
    "frame is negative": ({"frame": -1}, "invalid_frame"),
    "frame is a fraction": ({"frame": 0.5}, "invalid_frame"),
    "frame is too large": ({"frame": 2**63}, "invalid_frame"),
    "data_hash is a number": ({"data_hash": 5}, "not_a_prediction"),
    "feature_hash is a list": ({"feature_hash": []}, "not_a_prediction"),
    "another format": ({"format": "circle"}, "bad_format"),
    "format is a number": ({"format": 3}, "bad_format"),
    "format is a list": ({"format": ["mask"]}, "bad_format"),
    "box is a list": ({"data": [0.1, 0.1, 0.5, 0.5]}, "invalid_box"),
    "box is a number": ({"data": 7}, "invalid_box"),
    "box lacks w": ({"data": {"x": 0.1, "y": 0.1, "h": 0.5}}, "invalid_box"),
    "box side is text": ({"data": {"x": "a", "y": 0, "w": 1, "h": 1}}, "invalid_box"),
    "box side is too large": ({"data": {"x": 10**400, "y": 0, "w": 1, "h": 1}}, "invalid_box"),
    "data is not JSON": ({"data": "[1"}, "invalid_data"),
    "data is deep JSON": ({"data": "[" * 100_000}, "invalid_data"),
    "mask of floats": ({"format": "mask", "data": np.full((2, 2), 0.5)}, "mask_not_binary"),
    "mask of NaN": ({"format": "mask", "data": np.full((2, 2), np.nan)}, "mask_not_binary"),
    "mask of 0 to 3": ({"format": "mask", "data": np.arange(4).reshape(2, 2)}, "mask_not_binary"),
    "mask of -1": ({"format": "mask", "data": np.full((2, 2), -1)}, "mask_not_binary"),
    "mask of text": ({"format": "mask", "data": np.array([["a"]])}, "invalid_mask"),
    "mask of empty text": ({"format": "mask", "data": np.array([[""]])}, "invalid_mask"),
    "mask of 3 dimensions": ({"format": "mask", "data": np.ones((2, 2, 2))}, "invalid_mask"),
    "mask of 0 dimensions": ({"format": "mask", "data": np.array(1)}, "invalid_mask"),
    "mask is a box": ({"format": "mask"}, "invalid_mask"),
    "polygon of 2 points": ({"format": "polygon", "data": np.zeros((2, 2))}, "invalid_polygon"),
    "polygon of bools": ({"format": "polygon", "data": np.ones((3, 2), bool)}, "invalid_polygon"),
    "polygon is empty": ({"format": "polygon", "data": []}, "invalid_polygon"),
    "polygon is ragged": ({"format": "polygon", "data": [[0, 1], [2]]}, "invalid_polygon"),
    "polygon of text": ({"format": "polygon", "data": [["a", "b"]] * 3}, "invalid_polygon"),
    "polygon of huge integers": (
        {"format": "polygon", "data": [[2**70, 0]] * 3},
        "invalid_polygon",
    ),
    "mask of huge integers": ({"format": "mask", "data": [[2**70]] * 3}, "invalid_mask"),
    "polygon of huge numbers": (
        {"format": "polygon", "data": [[10**400, 0.5]] * 3},
        "invalid_polygon",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_construct_lets_through_is_a_reject(file, name):
    changed, rule = BROKEN[name]
    with forge.encord_active() as module:
        detection = {"format": module.Format.BOUNDING_BOX, "data": forge.box(module)}
        detection |= {"feature_hash": "cat", "track_id": None}
        top = {"data_hash": "du-0", "confidence": 0.5}
        detection |= {k: v for k, v in changed.items() if k in detection}
        top |= {k: v for k, v in changed.items() if k not in detection}
        broken = module.Prediction.construct(
            object=module.ObjectDetection.construct(**detection), **top
        )
        whole = forge.detection(module, "BOUNDING_BOX", forge.box(module))
        dumped = [forge.dumps([whole, broken, whole], protocol) for protocol in PROTOCOLS]
    for data in dumped:
        rows = read(file, data)
        assert [row["rule"] for row in rows] == [None, rule, None]
        assert (rows[1]["message"] is None) is (rule is None)
        assert [row["source_row"] for row in rows] == [0, 1, 2]


@pytest.mark.parametrize(("object_", "answer"), [(False, False), (True, True)])
def test_neither_and_both_are_rejects(file, object_, answer):
    with forge.encord_active() as module:
        found = forge.detection(module, "MASK", MASK).object if object_ else None
        hashes = dict.fromkeys(("feature_hash", "attribute_hash", "option_hash"), "h")
        chosen = module.FrameClassification(**hashes) if answer else None
        broken = module.Prediction(data_hash="d", confidence=1, object=found, classification=chosen)
        [row] = read(file, forge.dumps([broken]))
    assert row["rule"] == "not_a_prediction"
    assert ("both" if object_ else "neither") in row["message"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_everything_missing_many_times(file, protocol):
    with forge.encord_active() as module:
        nothing = dict.fromkeys(("feature_hash", "attribute_hash", "option_hash"))
        found = [
            module.Prediction.construct(
                **{"data_hash": None, "confidence": None},
                classification=module.FrameClassification.construct(**nothing),
            )
            for _ in range(40)
        ]
        dumped = forge.dumps(found, protocol)
    rows = filled(read(file, dumped))
    assert rows == [{"source_row": i, "frame": 0, "format": "classification"} for i in range(40)]


# -- the same as unpickling ------------------------------------------------------------------------


def reference(prediction: Any, row: int) -> dict[str, Any]:
    """What a prediction, unpickled, says; written without regard to how the reader works."""
    fields = dict(prediction.__dict__)
    expected = dict.fromkeys(RAW.names) | {"source_row": row, "unit": fields["data_hash"]}
    frame = fields["frame"]
    if frame is not None and frame < 0:
        return {"source_row": row, "rule": "invalid_frame"}
    expected["frame"] = None if frame is None else int(frame)
    expected["confidence"] = float(fields["confidence"])
    found = fields.pop("object", None)
    answer = fields.pop("classification", None)
    if answer is not None:
        hashes = answer.__dict__
        expected |= {"format": "classification", "class_ref": hashes["feature_hash"]}
        return expected | {k: hashes[k] for k in ("attribute_hash", "option_hash")}
    fields |= found.__dict__ if found is not None else {"feature_hash": fields["class_id"]}
    track = fields["track_id"]
    expected["class_ref"] = fields["feature_hash"]
    expected["track_id"] = None if track is None else str(track)
    return expected | reference_shape(fields["format"].value, fields["data"])


def reference_shape(form: str, data: Any) -> dict[str, Any]:
    if form == "bounding-box":
        sides = data if isinstance(data, dict) else data.__dict__
        shape: dict[str, Any] = {f"bbox_{k}": float(sides[k]) for k in ("x", "y", "w", "h")}
        theta = sides.get("theta")
        return shape | {"format": "bounding_box", "theta": None if theta is None else float(theta)}
    values = np.asarray(data)
    if form == "mask" or values.shape[1] != 2:
        pixels = np.asfortranarray((values != 0).astype(np.uint8))
        rle = coco.encode(pixels)
        box = dict(zip("xywh", map(int, coco.toBbox(rle)), strict=True))
        size = {"height": pixels.shape[0], "width": pixels.shape[1], "counts": rle["counts"]}
        return {"format": "mask", "mask": size | {"area": int(coco.area(rle))} | box}
    return {"format": "polygon", "polygon": [[float(v) for point in values for v in point]]}


def assert_same(rows: list[dict[str, Any]], predictions: list[Any]) -> None:
    assert len(rows) == len(predictions)
    for number, (row, prediction) in enumerate(zip(rows, predictions, strict=True)):
        expected = reference(prediction, number)
        if expected.get("rule"):
            assert (row["source_row"], row["rule"]) == (number, expected["rule"])
        else:
            assert row == expected


short = st.text("ab\0é😀", max_size=3)
texts = st.sampled_from(["du-0", "du-1", "ab/+=", "x" * 300]) | short | short.map(np.str_)
numbers = st.one_of(
    st.floats(0, 1, allow_subnormal=False),
    st.floats(0, 1).map(np.float64),
    st.floats(0, 1, width=32).map(np.float32),
    st.sampled_from([0, 1, np.int64(1), np.uint8(0), 300, 70_000]),
)
frames = st.one_of(
    st.none(),
    st.integers(0, 300),
    st.sampled_from([255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**40, -1, -70_000]),
    st.sampled_from([np.int64(3), np.int32(-3)]),
)
tracks = st.none() | st.integers(-(2**40), 2**40) | texts | st.just(np.int64(5))
boxes = st.builds(
    lambda x, y, w, h, theta: ("box", {"x": x, "y": y, "h": h, "w": w} | theta),
    *([numbers] * 4),
    numbers.map(lambda theta: {"theta": theta}) | st.just({}),
)
seeds = st.integers(0, 2**31)


def _mask(seed: int, height: int, width: int, style: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 2, (height, width))
    dtype = ("u1", "?", "i8", ">i2", "f4")[style % 5]
    values = (values * (255 if style % 2 and dtype != "?" else 1)).astype(dtype)
    return [values, np.asfortranarray(values), values[::-1]][style % 3]


masks = st.builds(_mask, seeds, st.integers(1, 9), st.integers(1, 9), st.integers(0, 29))
polygons = st.builds(
    lambda seed, n, dtype: np.random.default_rng(seed).random((n, 2)).astype(dtype),
    *(seeds, st.integers(3, 9), st.sampled_from(["f8", "f4", "f2", ">f8"])),
)
mistaken = st.builds(
    lambda seed, n: np.random.default_rng(seed).integers(0, 2, (4, n)), seeds, st.integers(3, 6)
)
shapes = st.one_of(
    boxes,
    boxes,
    boxes.map(lambda made: ("dict", made[1])),
    masks.map(lambda values: ("MASK", values)),
    polygons.map(lambda values: ("POLYGON", values)),
    polygons.map(lambda values: ("POLYGON", values.tolist())),
    mistaken.map(lambda values: ("POLYGON", values)),
    st.tuples(texts, texts).map(lambda made: ("answer", made)),
)
runs = st.lists(  # of alike predictions, so that templates are made and used
    st.tuples(shapes, st.lists(st.tuples(texts, texts, numbers, frames, tracks), min_size=1)),
    min_size=1,
    max_size=8,
)


def build(module: Any, made: list[Any], share: int) -> list[Any]:
    """Predictions of what hypothesis made; every ``share``-th repeats objects of earlier ones."""
    predictions: list[Any] = []
    for (kind, shape), given_ in made:
        data = shape
        for number, (unit, name, score, frame, track) in enumerate(given_):
            again = share and number % share == 1
            if again and number % 4 == 3:
                predictions.append(predictions[-1])
                continue
            common = {"data_hash": unit, "confidence": score, "frame": frame}
            if kind == "answer":
                hashes = {"attribute_hash": shape[0], "option_hash": shape[1]}
                answer = module.FrameClassification(feature_hash=name, **hashes)
                predictions.append(module.Prediction(classification=answer, **common))
                continue
            if not again:  # pickled anew; otherwise a reference to the one before
                data = module.BoundingBox(**shape) if kind == "box" else _copy(shape)
            form = "BOUNDING_BOX" if kind in ("box", "dict") else kind
            tracked = {} if track is None else {"track_id": track}
            made_ = forge.detection(module, form, data, feature_hash=name, **common, **tracked)
            predictions.append(made_)
    return predictions


def _copy(shape: Any) -> Any:
    return shape.copy(order="K") if isinstance(shape, np.ndarray) else type(shape)(shape)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    made=runs,
    share=st.integers(0, 3),
    repeat=st.integers(1, 6),
    protocol=st.integers(0, 5),
    numpy=st.sampled_from([1, 2]),
    max_memo=st.sampled_from([0, 30, 200, 100_000]),
    batch_rows=st.sampled_from([1, 3, 17, 32_768]),
    optimize=st.booleans(),
)
def test_reads_what_unpickling_gives(
    tmp_path_factory, made, share, repeat, protocol, numpy, max_memo, batch_rows, optimize
):
    file = tmp_path_factory.getbasetemp() / "fuzzed.pkl"
    with forge.encord_active() as module, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle_machine, "MAX_MEMO", max_memo)
        patch.setattr(pickles, "BATCH_ROWS", batch_rows)
        predictions = build(module, made * repeat, share)
        dumped = forge.dumps(predictions, protocol, numpy=numpy)
        if optimize:
            dumped = pickletools.optimize(dumped)
        assert_same(read(file, dumped), forge.loads(dumped))


def _many(module: Any, count: int, *, mixed: bool = True) -> list[Any]:
    """Predictions of a video model: units and classes come up one by one, everything varies."""
    random = np.random.default_rng(7)
    predictions = []
    for number in range(count):
        unit, name = f"data-unit-{number // 5}", f"class-{min(number // 2, 400)}"
        given_ = {"data_hash": unit, "feature_hash": name, "frame": number * 40 % 70_000}
        given_["confidence"] = random.random() if number % 2 else np.float64(random.random())
        if mixed and number % 7 == 5:
            found = forge.detection(module, "MASK", random.integers(0, 2, (9, 9)), **given_)
        elif mixed and number % 11 == 6:
            found = forge.detection(module, "POLYGON", random.random((4, 2)), **given_)
        else:
            box = forge.box(module, *random.random(4).tolist())
            found = forge.detection(module, "BOUNDING_BOX", box, **given_)
        predictions.append(found)
    return predictions


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("max_memo", "max_names", "batch_rows"),
    [(100_000, 100_000, 32_768), (500, 100_000, 100), (0, 100, 1_000)],
)
def test_long_list(file, monkeypatch, protocol, max_memo, max_names, batch_rows):
    monkeypatch.setattr(pickle_machine, "MAX_MEMO", max_memo)
    monkeypatch.setattr(pickle_machine, "MAX_NAMES", max_names)
    monkeypatch.setattr(pickle_columns, "MAX_NAMES", max_names)
    monkeypatch.setattr(pickles, "BATCH_ROWS", batch_rows)
    with forge.encord_active() as module:
        predictions = _many(module, 3_000)
        dumped = forge.dumps(predictions, protocol)
        if protocol >= 4:
            frames = [a for o, a, _ in pickletools.genops(dumped) if o.name == "FRAME"]
            assert len(frames) > 5  # a frame is 64 KiB, so some begin inside an element
        assert_same(read(file, dumped), forge.loads(dumped))


@pytest.mark.parametrize("protocol", [2, 4])
def test_references_may_form_long_chains(file, monkeypatch, protocol):
    """Each prediction uses the name that the one before it brought up, and brings up another."""
    monkeypatch.setattr(pickle_machine, "MAX_MEMO", 100)
    with forge.encord_active() as module:
        names = [f"name-{number:04}" for number in range(1_000)]
        predictions = [
            forge.detection(
                module,
                *(("BOUNDING_BOX", forge.box(module)) if number % 400 else ("MASK", MASK)),
                data_hash=names[number // 2],
                feature_hash=names[(number + 1) // 2 + 500],
            )
            for number in range(998)
        ]
        dumped = forge.dumps([*predictions, *predictions[::-1]], protocol)
        assert_same(read(file, dumped), [*predictions, *predictions[::-1]])


def test_scores_shared_by_many(file, monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_MEMO", 1_000)
    monkeypatch.setattr(pickle_operations, "MAX_MEMORY", 1 << 16)  # of one prediction, not of all
    with forge.encord_active() as module:
        scores = [np.float64(number / 5_000) for number in range(5_000)]
        predictions = [
            forge.detection(module, "BOUNDING_BOX", forge.box(module), confidence=score)
            for score in [score for score in scores for _ in range(2)]
        ]
        assert_same(read(file, forge.dumps(predictions)), predictions)


def test_templates_read_most_of_a_long_list(file, monkeypatch):
    """The fast path is what is tested above: nearly all boxes take it."""
    run: list[int] = []
    real = pickle_machine.Machine.run_element

    def counted(machine: Any, start: int) -> Any:
        run.append(start)
        return real(machine, start)

    monkeypatch.setattr(pickle_machine.Machine, "run_element", counted)
    with forge.encord_active() as module:
        dumped = forge.dumps(_many(module, 2_000, mixed=False))
    assert len(read(file, dumped)) == 2_000
    assert len(run) < 300


READ = f"""{forge.PEAK}
import sys
from pathlib import Path
from ea_arrow.sources.pickles import PickleSource

def rows(path):
    return sum(batch.num_rows for batch in PickleSource(Path(path)).batches())

small, large = sys.argv[1:]
rows(small)
before = peak()
print(rows(large), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
@pytest.mark.parametrize("protocol", [2, 4])
def test_memory_does_not_grow_with_the_file(tmp_path, protocol):
    sizes = {"small.pkl": (2_000, 20), "large.pkl": (20_000, 800)}
    for name, (boxes_, masks_) in sizes.items():
        with forge.encord_active() as module:
            found = _many(module, boxes_, mixed=False)
            blank = np.zeros((480, 640), dtype=np.uint8)
            for number in range(masks_):
                mask = blank.copy()
                mask[number % 300 :][:100, 50:300] = 1
                found.append(forge.detection(module, "MASK", mask))
            (tmp_path / name).write_bytes(forge.dumps(found, protocol))
    assert (tmp_path / "large.pkl").stat().st_size > 250_000_000
    command = [sys.executable, "-c", READ, *(str(tmp_path / name) for name in sizes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows, grown = map(float, done.stdout.split())
    assert rows == 20_800
    assert grown < 150, f"{grown} MB"


def test_fake_modules_do_not_stay():
    with forge.encord_active() as module:
        dumped = forge.dumps([forge.detection(module, "MASK", MASK)], numpy=1)
        assert math.isclose(forge.loads(forge.dumps(forge.box(module))).x, 0.25)
    assert not [name for name in sys.modules if name.startswith("encord_active")]
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(dumped)
