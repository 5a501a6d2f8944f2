"""What frameworks return for one image becomes columns; doubles stand in for the frameworks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ea_arrow.errors import PredictionError
from ea_arrow.frameworks import columns_of
from ea_arrow.geometry import Rle, encode_dense
from ea_arrow.tensors import array_of, boxes_of_corners, masks_of, rotated_boxes, texts

# -- tensors ---------------------------------------------------------------------------------------


class ArrayTensor:
    """Speaks ``__array__``."""

    def __init__(self, values, dtype=np.float32):
        self.values = np.asarray(values, dtype=dtype)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)


class TorchTensor:
    """Refuses to become an array until it is detached and on the CPU, as in PyTorch."""

    def __init__(self, values, dtype=np.float32, grad=True, device="cuda"):
        self.values = np.asarray(values, dtype=dtype)
        self.grad, self.device = grad, device

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.numpy()

    def detach(self):
        return TorchTensor(self.values, self.values.dtype, False, self.device)

    def cpu(self):
        return TorchTensor(self.values, self.values.dtype, self.grad, "cpu")

    def numpy(self):
        if self.grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.device != "cpu":
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        return self.values


class StuckTensor(TorchTensor):
    """On a device, with no way down."""

    def detach(self):
        return self

    def __getattribute__(self, name):
        if name == "cpu":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Bfloat16Tensor(TorchTensor):
    """NumPy has no such type; ``float`` widens it."""

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def float(self):
        return TorchTensor(self.values, np.float32, False, "cpu")


class DlpackTensor:
    """Speaks DLPack only."""

    def __init__(self, values, dtype=np.float32):
        self.values = np.asarray(values, dtype=dtype)

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)


def as_list(values, dtype=np.float32):
    return np.asarray(values, dtype=dtype).tolist()


def as_array(values, dtype=np.float32):
    return np.asarray(values, dtype=dtype)


TENSORS = (as_array, as_list, ArrayTensor, TorchTensor, DlpackTensor)
every_tensor = pytest.mark.parametrize("tensor", TENSORS)


def plain(value):
    """Columns as lists, so that they compare."""
    if isinstance(value, Rle):
        return value.height, value.width, plain(value.counts)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


@every_tensor
def test_every_kind_of_tensor_is_read(tensor):
    assert array_of(tensor([[1, 2], [3, 4]]), "it").tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_list_of_tensors_is_read():
    found = array_of([TorchTensor(0.5), TorchTensor(0.25)], "it")
    assert found.tolist() == [0.5, 0.25]


def test_bfloat16_is_read_through_float32():
    assert array_of(Bfloat16Tensor([0.5, 3.0]), "it").tolist() == [0.5, 3.0]


@pytest.mark.parametrize(
    "value", [StuckTensor([1.0], grad=False), object(), [[1.0], [1.0, 2.0]], None]
)
def test_what_cannot_be_read_is_named(value):
    with pytest.raises(PredictionError, match=f"^'boxes' is a {type(value).__name__} ") as error:
        array_of(value, "'boxes'")
    assert "cpu()" in error.value.hint


# -- doubles of the frameworks ---------------------------------------------------------------------


class Boxes:
    """Ultralytics' ``Boxes`` and ``OBB``."""

    def __init__(self, data):
        self.data = data


class Attributes(NamedTuple):
    """The same with attributes and no ``data``."""

    xyxy: object
    conf: object
    cls: object
    id: object


class Masks(NamedTuple):
    data: object
    xy: object


def results(boxes=None, masks=None, obb=None, probs=None, names=None, shape=(4, 6)):
    return SimpleNamespace(
        orig_shape=shape,
        names={0: "cat", 2: "dog"} if names is None else names,
        boxes=None if boxes is None else Boxes(boxes),
        masks=masks,
        obb=None if obb is None else Boxes(obb),
        probs=None if probs is None else SimpleNamespace(data=probs),
        keypoints=None,
    )


def detections(**changes):
    fields = {
        "xyxy": as_array([[1, 2, 4, 8], [0, 0, 2.5, 3]]),
        "mask": None,
        "confidence": as_array([0.5, 0.25]),
        "class_id": np.array([3, 1]),
        "tracker_id": None,
        "data": {},
        "metadata": {},
    }
    return SimpleNamespace(**(fields | changes))


class Instances:
    """Detectron2's, whose fields are attributes."""

    def __init__(self, image_size, **fields):
        self._image_size, self._fields = image_size, fields

    @property
    def image_size(self):
        return self._image_size

    def __getattr__(self, name):
        if name == "_fields" or name not in self._fields:
            raise AttributeError(name)
        return self._fields[name]

    def get_fields(self):
        return self._fields


def d2_boxes(tensor):
    return SimpleNamespace(tensor=tensor)


def sample(ori_shape=(4, 6), **instances):
    return SimpleNamespace(
        pred_instances=SimpleNamespace(**instances), ori_shape=ori_shape, img_id=7
    )


TWO = [[1, 2, 4, 8], [0, 0, 2.5, 3]]
TWO_XYWH = [[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 2.5, 3.0]]

# -- boxes -----------------------------------------------------------------------------------------


@every_tensor
def test_ultralytics_boxes(tensor):
    found = columns_of(results(tensor([[*TWO[0], 0.5, 2], [*TWO[1], 0.25, 0]])))
    assert plain(found) == {
        "bbox": TWO_XYWH,
        "confidence": [0.5, 0.25],
        "class_index": [2, 0],
        "class_name": ["dog", "cat"],
        "height": 4,
        "width": 6,
    }
    assert found["bbox"].dtype == found["confidence"].dtype == np.float64
    assert found["class_index"].dtype == np.int64


def test_ultralytics_tracks():
    found = columns_of(results(as_array([[*TWO[0], 17, 0.5, 2], [*TWO[1], 3, 0.25, 0]])))
    assert found["track_id"] == ["17", "3"]
    assert plain(found["confidence"]) == [0.5, 0.25]
    assert plain(found["class_index"]) == [2, 0]


def test_ultralytics_boxes_by_attribute():
    output = results()
    output.boxes = Attributes(TorchTensor(TWO), TorchTensor([0.5, 1]), [2, 0], TorchTensor([9, 8]))
    found = columns_of(output)
    assert plain(found["bbox"]) == TWO_XYWH
    assert found["track_id"] == ["9", "8"]
    assert found["class_name"] == ["dog", "cat"]


def test_names_may_be_a_list_be_missing_or_lack_a_class():
    rows = as_array([[*TWO[0], 0.5, 1], [*TWO[1], 0.25, 0]])
    assert columns_of(results(rows, names=["cat", "dog"]))["class_name"] == ["dog", "cat"]
    assert columns_of(results(rows))["class_name"] == [None, "cat"]
    assert "class_name" not in columns_of(results(rows, names={}))


@every_tensor
def test_ultralytics_rotated_boxes(tensor):
    quarter = np.pi / 2
    rows = [[10, 20, 6, 4, quarter, 0.5, 2], [10, 20, 6, 4, 0, 0.5, 2], [1, 1, 2, 2, -0.1, 0.5, 0]]
    found = columns_of(results(obb=tensor(rows)))
    # float32's nearest to π/2 is 90.0000025° in float64, and stays so.
    angles = [float(np.float32(quarter)), 0.0, float(np.float32(-0.1))]
    expected = [angles[0] * 180 / np.pi, 0.0, 360 + angles[2] * 180 / np.pi]
    assert plain(found["bbox"]) == [[7, 18, 6, 4], [7, 18, 6, 4], [0, 0, 2, 2]]
    assert found["theta"].tolist() == pytest.approx(expected, abs=1e-12, rel=1e-15)
    assert found["theta"][0] == pytest.approx(90)
    assert plain(found["class_index"]) == [2, 2, 0]


def test_ultralytics_rotated_tracks():
    found = columns_of(results(obb=as_array([[10, 20, 6, 4, 0, 5, 0.5, 2]])))
    assert found["track_id"] == ["5"]
    assert plain(found["confidence"]) == [0.5]


def test_rotated_boxes_turn_clockwise_as_they_are_drawn():
    """A box 6 wide at 30°: its right end is lower, since y runs downwards."""
    from ea_arrow.rasterise import _corners

    row = columns_of(results(obb=np.array([[10, 20, 6, 4, np.pi / 6, 1, 0]])))
    names = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
    columns = {n: row["bbox"][:, i] for i, n in enumerate(names)} | {"theta": row["theta"]}
    drawn = _corners(pa.table(columns), np.array([0])).reshape(4, 2)
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    along, down = np.array([3 * cos, 3 * sin]), np.array([-2 * sin, 2 * cos])
    centre = np.array([10, 20])
    expected = [centre + i * along + j * down for i, j in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    np.testing.assert_allclose(drawn, expected)


@pytest.mark.parametrize(
    ("degrees", "theta"),
    [(0, 0), (-0.0, 0), (-90, 270), (360, 0), (725, 5), (-1e-20, 0), (np.nan, np.nan)],
)
def test_angles_lie_within_a_turn(degrees, theta):
    found = rotated_boxes(np.zeros((1, 4)), np.array([degrees], dtype=np.float64))["theta"]
    np.testing.assert_array_equal(found, [theta])
    assert not np.signbit(found[0])


def test_an_infinite_angle_stays_for_the_check():
    assert rotated_boxes(np.zeros((1, 4)), np.array([np.inf]))["theta"][0] == np.inf


@every_tensor
def test_supervision(tensor):
    found = columns_of(
        detections(
            xyxy=tensor(TWO),
            confidence=tensor([0.5, 0.25]),
            class_id=tensor([3, 1], np.int64),
            tracker_id=tensor([11, 12], np.int32),
            data={"class_name": np.array(["dog", "cat"])},
        )
    )
    assert plain(found) == {
        "bbox": TWO_XYWH,
        "confidence": [0.5, 0.25],
        "class_index": [3, 1],
        "class_name": ["dog", "cat"],
        "track_id": ["11", "12"],
    }


def test_supervision_without_classes_tracks_and_data():
    found = columns_of(detections(class_id=None, data=None))
    assert set(found) == {"bbox", "confidence"}


def test_supervision_rotated_boxes_by_their_corners():
    # 6 wide and 4 high about (10, 20), by a quarter turn: Ultralytics' order of corners.
    corners = [[8, 23], [12, 23], [12, 17], [8, 17]]
    found = columns_of(
        detections(
            xyxy=as_array([[8, 17, 12, 23]]),
            confidence=[0.5],
            class_id=[0],
            data={"xyxyxyxy": as_array([corners])},
        )
    )
    assert plain(found["bbox"]) == [[7, 18, 6, 4]]
    assert plain(found["theta"]) == [90]
    assert plain(boxes_of_corners(np.zeros((0, 4, 2)), "it")) == {"bbox": [], "theta": []}
    assert plain(boxes_of_corners([], "it")) == {"bbox": [], "theta": []}
    with pytest.raises(PredictionError, match=r"shape \(1, 8\); expected \(n, 4, 2\)"):
        boxes_of_corners(np.zeros((1, 8)), "it")


@every_tensor
def test_torchvision_and_hugging_face_boxes(tensor):
    output = {
        "boxes": tensor(TWO),
        "labels": tensor([3, 1], np.int64),
        "scores": tensor([0.5, 0.25]),
    }
    expected = {"bbox": TWO_XYWH, "confidence": [0.5, 0.25], "class_index": [3, 1]}
    assert plain(columns_of(output)) == expected
    assert plain(columns_of(OrderedDict(reversed(output.items())))) == expected
    keypoints = {"keypoints": tensor(np.zeros((2, 17, 3))), "keypoints_scores": tensor([[1], [1]])}
    assert plain(columns_of(output | keypoints)) == expected


def test_hugging_face_labels_of_text():
    named = {"boxes": as_array(TWO), "scores": [0.5, 0.25], "labels": ["a cat", "a dog"]}
    assert columns_of(named)["class_name"] == ["a cat", "a dog"]
    assert "class_index" not in columns_of(named)
    both = named | {"labels": [0, 1], "text_labels": ["a cat", "a dog"]}
    assert columns_of(both)["class_name"] == ["a cat", "a dog"]
    assert plain(columns_of(both)["class_index"]) == [0, 1]
    assert "class_name" not in columns_of(both | {"text_labels": None})


@every_tensor
def test_detectron2(tensor):
    instances = Instances(
        (4, 6),
        pred_boxes=d2_boxes(tensor(TWO)),
        scores=tensor([0.5, 0.25]),
        pred_classes=tensor([3, 1], np.int64),
    )
    expected = {
        "bbox": TWO_XYWH,
        "confidence": [0.5, 0.25],
        "class_index": [3, 1],
        "height": 4,
        "width": 6,
    }
    assert plain(columns_of(instances)) == expected
    assert plain(columns_of({"instances": instances})) == expected
    bare = SimpleNamespace(image_size=(4, 6), **instances.get_fields())
    assert plain(columns_of(bare)) == expected


def test_detectron2_rotated_boxes_turn_counter_clockwise():
    rows = d2_boxes(TorchTensor([[10, 20, 6, 4, 30], [10, 20, 6, 4, -30]]))
    found = columns_of(Instances((40, 40), pred_boxes=rows, scores=[1, 1], pred_classes=[0, 0]))
    assert plain(found["bbox"]) == [[7, 18, 6, 4]] * 2
    assert plain(found["theta"]) == [330, 30]


@every_tensor
def test_mmdetection(tensor):
    found = columns_of(
        sample(
            bboxes=tensor(TWO),
            scores=tensor([0.5, 0.25]),
            labels=tensor([3, 1], np.int64),
        )
    )
    assert plain(found) == {
        "bbox": TWO_XYWH,
        "confidence": [0.5, 0.25],
        "class_index": [3, 1],
        "height": 4,
        "width": 6,
    }


def test_mmdetection_with_channels_boxes_class_and_no_size():
    parts = {"bboxes": d2_boxes(as_array(TWO)), "scores": [0.5, 0.25], "labels": [3, 1]}
    assert columns_of(sample((4, 6, 3), **parts))["width"] == 6
    assert set(columns_of(sample(None, **parts))) == {"bbox", "confidence", "class_index"}


def as_torchvision(corners, scores, labels):
    return {"boxes": corners, "scores": scores, "labels": labels}


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 6), st.just(4)),
        elements=st.floats(2, 2**20, width=32, allow_nan=False),
    )
)
def test_boxes_are_converted_before_they_are_subtracted(corners):
    """The reference works in Python's floats, which are float64."""
    n = len(corners)
    reference = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in corners.tolist()]
    labels, scores = np.arange(n), np.full(n, 0.1, dtype=np.float32)
    outputs = [
        as_torchvision(TorchTensor(corners), TorchTensor(scores), labels),
        detections(xyxy=corners, confidence=scores, class_id=labels),
        Instances((9, 9), pred_boxes=d2_boxes(corners), scores=scores, pred_classes=labels),
        sample(bboxes=corners, scores=scores, labels=labels),
        results(np.concatenate([corners, scores[:, None], labels[:, None]], axis=1, dtype="f4")),
    ]
    for output in outputs:
        found = columns_of(output)
        assert plain(found["bbox"]) == reference
        assert plain(found["confidence"]) == [float(np.float32(0.1))] * n
        assert plain(found["class_index"]) == list(range(n))


def test_float64_keeps_all_its_digits():
    found = columns_of(as_torchvision(np.array([[0.1, 0.3, 7.7, 9.9]]), [0.1], [0]))
    assert plain(found["bbox"]) == [[0.1, 0.3, 7.7 - 0.1, 9.9 - 0.3]]
    assert plain(found["confidence"]) == [0.1]


def test_values_are_left_to_the_check_of_the_rows():
    corners = as_array([[np.nan, 0, 1, 1], [-np.inf, 0, -np.inf, 1], [5, 5, 2, 2]])
    found = columns_of(as_torchvision(corners, as_array([np.nan, 2, -1]), [0, 0, 0]))
    np.testing.assert_array_equal(found["bbox"][2], [5, 5, -3, -3])
    assert np.isnan(found["bbox"][0, 0])
    np.testing.assert_array_equal(found["confidence"], [np.nan, 2, -1])


# -- masks -----------------------------------------------------------------------------------------

PIXELS = np.zeros((2, 4, 6), dtype=bool)
PIXELS[0, 1:3, 2:5] = True  # 2 rows × 3 columns from (2, 1)
PIXELS[1, 0, 0] = True
RUNS = [(4, 6, [9, 2, 2, 2, 2, 2, 5]), (4, 6, [0, 1, 23])]


@every_tensor
def test_torchvision_masks_are_foreground_from_one_half(tensor):
    soft = np.where(PIXELS, 0.5, np.nextafter(np.float32(0.5), np.float32(0)))[:, None]
    output = as_torchvision(tensor(TWO), tensor([1, 1]), tensor([0, 1], np.int64))
    found = columns_of(output | {"masks": tensor(soft)})
    assert plain(found["masks"]) == RUNS
    assert (found["height"], found["width"]) == (4, 6)


def test_hugging_face_masks_without_boxes():
    output = {"scores": [1, 1], "labels": [0, 1], "masks": PIXELS.astype(np.int64)}
    assert plain(columns_of(output)["masks"]) == RUNS
    assert "bbox" not in columns_of(output)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.float16, np.float64])
def test_binary_masks_of_any_type(dtype):
    masks, size = masks_of(PIXELS.astype(dtype), "it")
    assert plain(masks) == RUNS
    assert size == (4, 6)


def test_masks_of_255():
    assert plain(masks_of(PIXELS * np.uint8(255), "it")[0]) == RUNS


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (PIXELS * 7, "0 and 1, or 0 and 255"),
        (PIXELS * -1, "0 and 1, or 0 and 255"),
        (PIXELS * 4.5, "probabilities from 0 to 1"),
        (PIXELS * -4.5, "probabilities from 0 to 1"),
        (PIXELS.astype(str), "booleans or numbers"),
        (PIXELS[0], r"\(n, height, width\)"),
        (np.stack([PIXELS, PIXELS], axis=1), r"\(n, height, width\)"),
    ],
)
def test_masks_that_are_none(values, expected):
    with pytest.raises(PredictionError, match=f"^'masks' .* expected {expected}"):
        masks_of(values, "'masks'")


@given(arrays.arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))))
def test_masks_equal_those_encoded_one_by_one(dense):
    n, height, width = dense.shape
    expected = [plain(encode_dense(mask)) for mask in dense]
    corners, labels, scores = np.full((n, 4), 2.0), np.zeros(n, dtype=int), np.ones(n)
    encoded = [{"size": [height, width], "counts": runs[2]} for runs in expected]
    rows = np.concatenate([corners, scores[:, None], labels[:, None]], axis=1)
    segments = [{"id": i + 1, "label_id": 0, "score": 1.0} for i in range(n)]
    soft = np.where(dense, 0.9, 0.2).astype(np.float32)[:, None]
    mm = {"bboxes": corners, "scores": scores, "labels": labels}
    d2 = {"pred_boxes": d2_boxes(corners), "scores": scores, "pred_classes": labels}
    outputs = [
        as_torchvision(corners, scores, labels) | {"masks": TorchTensor(soft)},
        detections(xyxy=corners, confidence=scores, class_id=labels, mask=dense),
        Instances((height, width), **d2, pred_masks=TorchTensor(dense, bool)),
        sample((height, width), **mm, masks=TorchTensor(dense, bool)),
        sample((height, width), **mm, masks=encoded),
        sample((height, width), **mm, masks=SimpleNamespace(masks=dense.astype(np.uint8))),
        results(rows, Masks(TorchTensor(dense), None), shape=(height, width)),
        {"segmentation": dense, "segments_info": segments},
    ]
    for output in outputs:
        found = columns_of(output)
        assert plain(found["masks"]) == expected
        assert (found["height"], found["width"]) == (height, width)


def test_compressed_masks_of_mmdetection():
    parts = {"bboxes": as_array(TWO), "scores": [0.5, 0.25], "labels": [3, 1]}
    for counts in (b"922225", "922225"):
        rle = {"size": (4, 6), "counts": counts}
        found = columns_of(sample(**parts, masks=[rle, rle]))
        assert found["masks"] == [Rle(4, 6, b"922225")] * 2
    with pytest.raises(PredictionError, match="holds \\['size'\\]; expected COCO's RLE"):
        columns_of(sample(**parts, masks=[{"size": (4, 6)}] * 2))


def test_ultralytics_outlines():
    data = TorchTensor(np.zeros((2, 8, 8)))
    outlines = [as_array([[0, 0], [2.5, 0], [2.5, 3]]), np.zeros((0, 2), dtype=np.float32)]
    rows = as_array([[*TWO[0], 0.5, 2], [*TWO[1], 0.25, 0]])
    found = columns_of(results(rows, Masks(data, outlines)))
    assert plain(found["polygons"]) == [[[0, 0, 2.5, 0, 2.5, 3]], []]
    assert found["polygons"][0][0].dtype == np.float64
    assert "masks" not in found
    assert (found["height"], found["width"]) == (4, 6)


def test_ultralytics_masks_of_the_images_size_are_given_beside_their_outlines():
    outlines = [as_array([[0, 0], [2, 0], [2, 3]])] * 2
    rows = as_array([[*TWO[0], 0.5, 2], [*TWO[1], 0.25, 0]])
    found = columns_of(results(rows, Masks(TorchTensor(PIXELS), outlines)))
    assert plain(found["masks"]) == RUNS
    assert plain(found["polygons"]) == [[[0, 0, 2, 0, 2, 3]]] * 2


def test_ultralytics_masks_of_another_size_are_not_resized():
    rows = as_array([[*TWO[0], 0.5, 2]])
    with pytest.raises(PredictionError, match="is of 8 × 8 pixels") as error:
        columns_of(results(rows, Masks(np.zeros((1, 8, 8)), None)))
    assert "retina_masks=True" in error.value.hint


def test_detectron2_masks_must_be_pasted():
    raw = Instances((4, 6), pred_masks=np.zeros((2, 1, 28, 28)), scores=[1, 1])
    with pytest.raises(PredictionError, match="28 × 28") as error:
        columns_of(raw)
    assert "detector_postprocess" in error.value.hint
    pasted = columns_of(Instances((4, 6), pred_masks=PIXELS, scores=[1, 1]))
    assert set(pasted) == {"masks", "confidence", "height", "width"}


def test_mmdetection_masks_must_be_rescaled():
    parts = {"bboxes": as_array(TWO), "scores": [0.5, 0.25], "labels": [3, 1]}
    with pytest.raises(PredictionError, match="4 × 6") as error:
        columns_of(sample((8, 12), **parts, masks=PIXELS))
    assert "rescale=True" in error.value.hint


@pytest.mark.parametrize(
    "tensor", [t for t in TENSORS if t is not as_list], ids=lambda tensor: tensor.__name__
)
def test_hugging_face_map_of_segments(tensor):
    ids = np.full((4, 6), -1)
    ids[PIXELS[1]], ids[PIXELS[0]] = 5, 0
    segments = [
        {"id": 0, "label_id": 3, "was_fused": False, "score": 0.5},
        {"id": 5, "label_id": 1, "was_fused": False, "score": 0.25},
        {"id": 6, "label_id": 1, "was_fused": False, "score": 0.125},
    ]
    found = columns_of({"segmentation": tensor(ids), "segments_info": segments})
    assert plain(found) == {
        "confidence": [0.5, 0.25, 0.125],
        "class_index": [3, 1, 1],
        "masks": [*RUNS, (4, 6, [24])],
        "height": 4,
        "width": 6,
    }


@pytest.mark.parametrize("segment", [{"id": 1, "label_id": 3}, {"id": 1, "score": 1}, 3])
def test_a_segment_without_a_part_is_named(segment):
    with pytest.raises(PredictionError, match="A segment in 'segments_info' has no "):
        columns_of({"segmentation": PIXELS[0], "segments_info": [segment]})


def test_hugging_face_run_lengths_are_refused():
    segments = [{"id": 0, "label_id": 3, "score": 0.5}]
    with pytest.raises(PredictionError, match="'segmentation' is list") as error:
        columns_of({"segmentation": [[1, 5, 9, 2]], "segments_info": segments})
    assert "return_coco_annotation" in error.value.hint


# -- classifications -------------------------------------------------------------------------------


@every_tensor
def test_ultralytics_probabilities(tensor):
    found = columns_of(results(probs=tensor([0.25, 0.125, 0.625])))
    assert plain(found) == {
        "probabilities": [[0.25, 0.125, 0.625]],
        "probability_names": ["cat", None, "dog"],
        "confidence": [0.625],
        "class_index": [2],
        "class_name": ["dog"],
        "height": 4,
        "width": 6,
    }
    with pytest.raises(PredictionError, match="one number per class"):
        columns_of(results(probs=tensor([])))


# -- nothing found ---------------------------------------------------------------------------------

NOTHING = {
    "ultralytics": results(as_array(np.zeros((0, 6)))),
    "ultralytics tracks": results(as_array(np.zeros((0, 7)))),
    "ultralytics outlines": results(as_array(np.zeros((0, 6))), Masks(np.zeros((0, 4, 6)), [])),
    "ultralytics obb": results(obb=TorchTensor(np.zeros((0, 7)))),
    "supervision": detections(
        xyxy=np.zeros((0, 4), dtype=np.float32),
        confidence=np.zeros(0, dtype=np.float32),
        class_id=np.zeros(0, dtype=int),
    ),
    "supervision, no scores": detections(
        xyxy=np.zeros((0, 4)), confidence=None, class_id=None, mask=np.zeros((0, 4, 6), dtype=bool)
    ),
    "torchvision": {
        "boxes": TorchTensor(np.zeros((0, 4))),
        "labels": TorchTensor([], np.int64),
        "scores": TorchTensor([]),
        "masks": TorchTensor(np.zeros((0, 1, 4, 6))),
    },
    "hugging face": {"boxes": [], "labels": [], "scores": [], "text_labels": []},
    "segments": {"segmentation": TorchTensor(np.full((4, 6), -1)), "segments_info": []},
    "no segments": {"segmentation": None, "segments_info": []},
    "no run lengths": {"segmentation": [], "segments_info": []},
    "detectron2": Instances(
        (4, 6),
        pred_boxes=d2_boxes(TorchTensor(np.zeros((0, 4)))),
        scores=TorchTensor([]),
        pred_classes=TorchTensor([], np.int64),
        pred_masks=TorchTensor(np.zeros((0, 4, 6)), bool),
    ),
    "mmdetection": sample(
        bboxes=TorchTensor(np.zeros((0, 4))),
        scores=TorchTensor([]),
        labels=TorchTensor([], np.int64),
        masks=[],
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_found(name):
    found = columns_of(NOTHING[name])
    assert {k: len(v) for k, v in found.items() if k not in ("height", "width")} == {
        k: 0 for k in found if k not in ("height", "width")
    }
    assert "confidence" in found
    if "bbox" in found:
        assert found["bbox"].shape == (0, 4)
    if name not in ("hugging face", "supervision", "no segments", "no run lengths"):
        assert (found["height"], found["width"]) == (4, 6)


# -- what is none of them, and what is broken ------------------------------------------------------


class Frame(SimpleNamespace):
    """A data frame, whose columns are attributes."""

    def __arrow_c_stream__(self, requested_schema=None):
        raise NotImplementedError


OTHERS = [
    None,
    3,
    "boxes",
    [],
    [results(np.zeros((0, 6)))],
    {},
    {"bbox_x": [0.1], "bbox_y": [0.1], "confidence": [0.5]},
    {"data_hash": ["a"], "boxes": [[1, 2, 3, 4]], "labels": [1], "scores": [0.5]},
    {"labels": [1], "scores": [0.5]},
    {"boxes": [[1, 2, 3, 4]], "scores": [0.5]},
    {"data_hash": ["a"], "class": ["cat"], "score": [0.5]},
    {"instances": [1]},
    {1: 2},
    np.zeros((2, 6)),
    TorchTensor([[1, 2, 3, 4, 5, 6]]),
    pa.table({"xyxy": [1], "mask": [1], "confidence": [1], "class_id": [1], "tracker_id": [1]}),
    Frame(xyxy=[], mask=[], confidence=[], class_id=[], tracker_id=[]),
    SimpleNamespace(xyxy=[], confidence=[]),
    SimpleNamespace(image_size=(4, 6)),
    SimpleNamespace(pred_instances=None),
    Boxes(np.zeros((1, 6))),
]


@pytest.mark.parametrize("other", OTHERS, ids=range(len(OTHERS)))
def test_other_objects_are_left_alone(other):
    assert columns_of(other) is None


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (detections(confidence=None), "numpy.ones"),
        ({"boxes": TWO, "labels": [1, 2], "image_id": 3}, "ground truth"),
        (Instances((4, 6), pred_boxes=d2_boxes(TWO), pred_classes=[1, 2]), "1.0"),
        (sample(bboxes=TWO, labels=[1, 2]), "1.0"),
    ],
)
def test_missing_confidences_are_asked_for(output, hint):
    with pytest.raises(
        PredictionError, match="is missing; expected one number for each of 2 ob"
    ) as e:
        columns_of(output)
    assert hint in e.value.hint


ROW = [*TWO[0], 0.5, 2]
BROKEN = [
    (results(as_array([ROW[:5]])), r"Results.boxes.data has shape \(1, 5\); expected \(n, 6\) or"),
    (results(obb=as_array([ROW])), r"Results.obb.data has shape \(1, 6\); expected \(n, 7\) or"),
    (results(), "Results holds no boxes; expected one of boxes, obb and probs"),
    (results(as_array([ROW]), shape=(4,)), r"orig_shape is \[4\]; expected \(height, width\)"),
    (results([[*ROW[:5], 1.5]]), "cls holds 1.5; expected whole numbers"),
    (results([[*ROW[:5], np.nan]]), "cls holds nan; expected whole numbers"),
    (results([ROW], Masks(None, [])), "bbox 1, confidence 1, class_index 1, .* polygons 0"),
    (results([ROW], Masks(None, [np.zeros((4, 3))])), r"outline .* \(4, 3\); expected \(n, 2\)"),
    (detections(xyxy=[[1, 2, 3]] * 2), r"Detections.xyxy has shape \(2, 3\); expected \(n, 4\)"),
    (detections(confidence=[0.5]), "A SimpleNamespace has parts .*: bbox 2, confidence 1"),
    (detections(confidence=[[0.5], [0.5]]), r"has shape \(2, 1\); expected one number per object"),
    (detections(mask=PIXELS[:1]), "bbox 2, .* masks 1"),
    (detections(class_id=["a", "b"]), "Detections.class_id holds <U1; expected numbers"),
    (detections(tracker_id=[[1], [2]]), r"tracker_id has shape \(2, 1\); expected one value"),
    (as_torchvision(TWO, [1, 1], [[1], [2]]), "'labels' has shape"),
    (as_torchvision(TWO, [1, 1], 3), "'labels' is a int that cannot be read"),
    (as_torchvision([["a"] * 4], [1], [1]), "'boxes' holds <U1; expected numbers"),
    (
        Instances((4, 6), gt_boxes=d2_boxes(TWO)),
        "fields gt_boxes; expected pred_boxes or pred_masks",
    ),
    (Instances((4, 6)), "fields none"),
    (sample(bboxes=[[*TWO[0], 0.5]], scores=[1], labels=[1]), r"shape \(1, 5\); expected \(n, 4\)"),
]


@pytest.mark.parametrize(("output", "message"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_broken_is_told_with_what_was_expected(output, message):
    with pytest.raises(PredictionError, match=message):
        columns_of(output)


def test_boxes_in_fractions_of_the_image_are_refused():
    """Hugging Face's post-processing gives them when it is not told the image's size."""
    with pytest.raises(PredictionError, match="expected pixels") as error:
        columns_of(as_torchvision([[0.1, 0.2, 0.5, 1.0]], [0.5], [1]))
    assert "target_sizes" in error.value.hint
    assert plain(columns_of(as_torchvision([[0, 0, 1, 1]], [0.5], [1]))["bbox"]) == [[0, 0, 1, 1]]
    assert plain(columns_of(as_torchvision([[0, 0, 0, 0]], [0.5], [1]))["bbox"]) == [[0, 0, 0, 0]]


def test_tracks_become_text():
    assert texts([7.0, np.nan, 2.5], "it") == ["7", None, "2.5"]
    assert texts(np.array([-1, 12], dtype=np.int32), "it") == ["-1", "12"]
    assert texts(np.array(["a", None], dtype=object), "it") == ["a", None]


def test_no_framework_is_imported():
    code = (
        "import sys, json; before = set(sys.modules)\n"
        "from ea_arrow.frameworks import columns_of\n"
        "columns_of({'boxes': [[1, 2, 4, 8]], 'scores': [0.5], 'labels': [3]})\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frameworks = {"torch", "torchvision", "ultralytics", "supervision", "transformers"}
    assert not set(json.loads(done.stdout)) & (frameworks | {"detectron2", "mmdet", "cv2"})


# -- the real package ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def supervision():
    return pytest.importorskip("supervision", reason="supervision is not installed; doubles are")


def test_real_supervision(supervision):
    found = columns_of(
        supervision.Detections(
            xyxy=as_array(TWO),
            mask=PIXELS,
            confidence=as_array([0.5, 0.1]),
            class_id=np.array([3, 1]),
            tracker_id=np.array([11, 12]),
            data={"class_name": np.array(["dog", "cat"])},
        )
    )
    assert plain(found) == {
        "bbox": TWO_XYWH,
        "masks": RUNS,
        "confidence": [0.5, float(np.float32(0.1))],
        "class_index": [3, 1],
        "class_name": ["dog", "cat"],
        "track_id": ["11", "12"],
        "height": 4,
        "width": 6,
    }


def test_real_supervision_slices_and_nothing(supervision):
    full = supervision.Detections(
        xyxy=as_array(TWO), confidence=as_array([0.5, 0.25]), class_id=np.array([3, 1])
    )
    assert plain(columns_of(full[full.confidence > 0.3])["class_index"]) == [3]
    assert plain(columns_of(full[full.confidence > 1])["bbox"]) == []
    assert plain(columns_of(supervision.Detections.empty())["bbox"]) == []
    with pytest.raises(PredictionError, match="confidence is missing"):
        columns_of(supervision.Detections(xyxy=as_array(TWO)))


def test_real_supervision_compact_masks(supervision):
    compact = pytest.importorskip("supervision.detection.compact_mask", reason="older supervision")
    masks = compact.CompactMask.from_dense(PIXELS, as_array([[0, 0, 5, 3]] * 2), (4, 6))
    found = columns_of(
        supervision.Detections(
            xyxy=as_array(TWO), mask=masks, confidence=as_array([1, 1]), class_id=np.array([3, 1])
        )
    )
    assert plain(found["masks"]) == RUNS
