"""MMDetection's pickles: tensors without torch, two generations, and nothing that is executed."""

import os
import pickle
import pickletools
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ea_arrow.errors import EaArrowError, SourceError, UnsafePickleError
from ea_arrow.sources import pickle_tensors, pickles
from ea_arrow.sources.mmdetection import PREDICTIONS
from tests.formats import torch_pickles
from tests.formats.json_reading import (
    claimed,
    filled,
    mutations,
    opened,
    rows_of,
    sniffs,
    survives,
)
from tests.formats.torch_pickles import Storage, Tensor, storage_file
from tests.pickles import forge

BOXES = np.array([[1, 2, 4, 8], [0.5, 1, 2.5, 3]], dtype=np.float32)
SCORES = np.array([0.75, 0.5], dtype=np.float32)
LABELS = np.array([62, 0])
RLE = {"size": [4, 4], "counts": b"52203"}  # runs of 5, 2, 2, 2 and 5 pixels


def sample(number=139, wrap=Tensor, **found):
    instances = {"bboxes": wrap(BOXES), "scores": wrap(SCORES), "labels": wrap(LABELS)} | found
    return {
        "img_id": number,
        "img_path": f"data/val/{number:012}.jpg",
        "ori_shape": (426, 640),
        "scale_factor": (np.float64(1.25), 1.25),
        "flip": False,
        "pred_instances": instances,
    }


def file(folder, value, protocol=2):
    path = folder / "results.pkl"
    data = value if isinstance(value, bytes) else torch_pickles.dumps(value, protocol)
    path.write_bytes(data)
    return path


def row(index, unit, label, score, *box):
    sides = dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True))
    common = {"source_row": index, "unit": unit, "class_ref": label, "confidence": score}
    return common | {"format": "bounding_box"} | sides


ROWS = [row(0, "139", "62", 0.75, 1, 2, 3, 6), row(1, "139", "0", 0.5, 0.5, 1, 2, 2)]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("wrap", [Tensor, np.asarray])
def test_version_3(tmp_path, protocol, wrap):
    path = file(tmp_path, [sample(wrap=wrap)], protocol)
    source = opened(PREDICTIONS, path)
    assert filled(source.batches()) == ROWS
    assert not source.coordinates.relative
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("source_id", "index")
    assert sniffs(PREDICTIONS, path)
    assert not sniffs(pickles.PREDICTIONS, path)


def test_images_by_file_name(tmp_path):
    path = file(tmp_path, [sample()])
    source = opened(PREDICTIONS, path, options={"unit": "img_path"})
    assert source.coordinates.unit_key == "name"
    assert {row["unit"] for row in filled(source.batches())} == {"000000000139.jpg"}


def test_masks(tmp_path):
    # With boxes of its own; the string is bytes, which protocol 2 writes as latin-1 text.
    rows = rows_of(PREDICTIONS, file(tmp_path, [sample(masks=[RLE, {"size": 3}])]))
    assert rows[0]["mask"]["counts"] == RLE["counts"]
    assert (rows[0]["mask"]["height"], rows[0]["mask"]["width"]) == (4, 4)
    assert rows[0]["format"] == "mask"
    assert [rows[0][f"bbox_{side}"] for side in "xywh"] == [1, 2, 3, 6]
    assert [row.get("rule") for row in rows] == [None, "invalid_mask"]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_version_2(tmp_path, masks, protocol):
    first = np.column_stack((BOXES, SCORES))
    none = np.zeros((0, 5), dtype=np.float32)
    image, empty = [none, first, first[:1]], [none, none, none]
    rles = [[], [RLE, RLE], [RLE]]
    value = [(image, rles), (empty, [[], [], []])] if masks else [empty, image]
    path = file(tmp_path, value, protocol)
    source = opened(PREDICTIONS, path)
    rows = filled(source.batches())
    assert source.coordinates.unit_key == "position"
    assert source.notes == {"images without detections": 1}
    unit = "0" if masks else "1"
    expected = [
        row(0, unit, "1", 0.75, 1, 2, 3, 6),
        row(1, unit, "1", 0.5, 0.5, 1, 2, 2),
        row(2, unit, "2", 0.75, 1, 2, 3, 6),
    ]
    assert [{k: v for k, v in r.items() if k not in ("mask", "format")} for r in rows] == [
        {k: v for k, v in r.items() if k != "format"} for r in expected
    ]
    assert {r["format"] for r in rows} == {"mask" if masks else "bounding_box"}
    assert sniffs(PREDICTIONS, path)
    assert not sniffs(pickles.PREDICTIONS, path)


DTYPES = (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_parts_of_a_storage_have_the_numbers_that_numpy_gives_them(tmp_path, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(4, 7))
    whole = np.arange(rows * columns, dtype=dtype).reshape(rows, columns)
    start, step = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(1, 3))
    first = data.draw(st.integers(0, columns - 4))
    part = whole[start::step, first : first + 4]
    boxes = Tensor(
        whole,
        shape=part.shape,
        strides=tuple(s // whole.itemsize for s in part.strides),
        offset=start * columns + first,
    )
    count = len(part)
    found = sample(bboxes=boxes, scores=Tensor(np.ones(count)), labels=Tensor(np.arange(count)))
    rows_found = rows_of(PREDICTIONS, file(tmp_path, [found]), box="xywh")
    assert [[r[f"bbox_{side}"] for side in "xywh"] for r in rows_found] == part.tolist()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"bboxes": Tensor(BOXES[:1])}, "invalid_data"),
        ({"bboxes": Tensor(BOXES.reshape(-1))}, "invalid_data"),
        ({"bboxes": [1, 2]}, "invalid_data"),
        ({"bboxes": Tensor(np.ones((2, 5)))}, "unsupported_shape"),
        ({"bboxes": Tensor(np.ones((2, 3)))}, "invalid_box"),
        ({"labels": Tensor(np.array([1.5, 2]))}, "invalid_data"),
        ({"labels": None}, "invalid_data"),
        ({"masks": 5}, "invalid_mask"),
        ({"masks": [RLE]}, "invalid_data"),
    ],
)
def test_bad_images_are_refused_one_by_one(tmp_path, change, rule):
    rows = rows_of(PREDICTIONS, file(tmp_path, [sample(), sample(140, **change), sample(141)]))
    assert [(r["unit"], r.get("rule")) for r in rows] == [
        ("139", None),
        ("139", None),
        ("140", rule),
        ("141", None),
        ("141", None),
    ]
    assert [r["source_row"] for r in rows] == list(range(5))


def test_other_elements(tmp_path):
    rows = rows_of(PREDICTIONS, file(tmp_path, [sample(), 7, {"img_id": 1}]))
    assert [row.get("rule") for row in rows[2:]] == ["invalid_data", "invalid_data"]
    with pytest.raises(SourceError, match="list of int"):
        opened(PREDICTIONS, file(tmp_path, [7]))
    with pytest.raises(SourceError, match="not a list"):
        opened(PREDICTIONS, file(tmp_path, sample()))


def test_many_images_are_read_in_batches(tmp_path, monkeypatch):
    # Over a thousand elements, as many as a pickler puts at once, and a memo that is emptied.
    monkeypatch.setattr(pickle_tensors, "_MOST_MEMO", 50)
    shared = (800, 1333)
    value = [sample(i) | {"batch_input_shape": shared} for i in range(2500)]
    rows = rows_of(PREDICTIONS, file(tmp_path, value))
    assert [row["unit"] for row in rows] == [str(i // 2) for i in range(5000)]
    assert [row["source_row"] for row in rows] == list(range(5000))


# -- what must not be ------------------------------------------------------------------------------


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_executed(tmp_path):
    bad = tmp_path / "made"
    path = file(tmp_path, [sample(), {"pred_instances": Evil(bad)}])
    with pytest.raises(UnsafePickleError, match="mkdir"):
        rows_of(PREDICTIONS, path)
    assert not bad.exists()


@pytest.mark.parametrize(
    "name", ["Prediction", "BoundingBox", "Format", "getattr", "object", "set", "_reconstructor"]
)
def test_names_of_predictions_are_not_allowed_here(tmp_path, name):
    module = "builtins" if name in ("getattr", "object", "set") else "ea_arrow"
    module = "copyreg" if name == "_reconstructor" else module
    path = file(tmp_path, b"\x80\x02](" + f"c{module}\n{name}\n".encode() + b"e.")
    with pytest.raises(UnsafePickleError, match=name):
        rows_of(PREDICTIONS, path)


@pytest.mark.parametrize(
    "symbol", ["ctorch._utils\n_rebuild_tensor_v2\n", "ctorch.storage\n_load_from_bytes\n"]
)
def test_names_of_tensors_are_not_allowed_in_predictions(tmp_path, symbol):
    path = file(tmp_path, b"\x80\x02](" + symbol.encode() + b"e.")
    with pytest.raises(UnsafePickleError, match="not on the list"):
        list(pickles.PickleSource(path).batches())


VALUES = np.arange(8, dtype=np.float32)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(VALUES, shape=(2, 8), strides=(0, 1)),  # repeats its storage
        Tensor(VALUES, shape=(2, 4), strides=(5, 1)),  # ends beyond it
        Tensor(VALUES, shape=(2, 4), strides=(4, 1), offset=1),
        Tensor(VALUES, shape=(2, 4), strides=(-4, 1), offset=4),
        Tensor(VALUES, shape=(2, 4), strides=(4,)),
        Tensor(VALUES, shape=(2**40, 0), strides=(1, 1), offset=9),
        Tensor(VALUES, shape=(2, True), strides=(4, 1)),
        Tensor(VALUES, shape=(1,) * 9, strides=(1,) * 9),
    ],
)
def test_tensors_outside_their_storage(tmp_path, tensor):
    with pytest.raises(UnsafePickleError, match="_rebuild_tensor_v2"):
        rows_of(PREDICTIONS, file(tmp_path, [sample(bboxes=tensor)]))


def storages():
    with torch_pickles.importable():
        good = storage_file(VALUES)
        other = storage_file(VALUES, kind=os.mkdir)
    big = good.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    assert big != good
    yield "cut", good[:-1]
    yield "longer", good + b"\0"
    yield "length", good[:-40] + (9).to_bytes(8, "little") + good[-32:]
    yield "zip", b"PK\x03\x04" + good
    yield "nothing", b""
    yield "other name", other
    yield "big-endian", big
    for end in range(20, len(good) - 32, 9):
        yield f"cut at {end}", good[:end]


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in storages()])
def test_storages_that_are_none(tmp_path, data):
    tensor = Tensor(VALUES, shape=(2, 4), strides=(4, 1), storage=Storage(None, data))
    with pytest.raises(SourceError, match="byte"):
        rows_of(PREDICTIONS, file(tmp_path, [sample(bboxes=tensor)]))


def test_small_files_that_spell_out_large_results(tmp_path):
    boxes = np.zeros((20_000, 5), dtype=np.float32)
    start = time.monotonic()
    with pytest.raises(SourceError, match="more results than"):
        rows_of(PREDICTIONS, file(tmp_path, [[boxes] * 100_000]))
    rle = {"size": [4000, 4000], "counts": b"0" * 200_000}
    found = sample(masks=[rle, rle])["pred_instances"]
    value = [{"img_id": i, "pred_instances": found} for i in range(900)]
    with pytest.raises(SourceError, match="more results than"):
        rows_of(PREDICTIONS, file(tmp_path, value))
    assert time.monotonic() - start < 20


def test_pickles_of_predictions_stay_theirs(tmp_path):
    with forge.encord_active() as module:
        data = forge.dumps([forge.detection(module, "MASK", np.eye(2, dtype=np.uint8))])
    path = file(tmp_path, data)
    assert sniffs(pickles.PREDICTIONS, path)
    assert not sniffs(PREDICTIONS, path)
    empty = file(tmp_path, pickle.dumps([]))
    assert sniffs(pickles.PREDICTIONS, empty)
    assert not sniffs(PREDICTIONS, empty)
    assert claimed(PREDICTIONS, tmp_path) == []


def test_damaged_files_end_in_one_error(tmp_path):
    value = [sample(masks=[RLE, RLE]), sample(140, wrap=np.asarray), sample(141)]
    path = tmp_path / "a.pkl"
    for protocol in (2, 4):
        survives(PREDICTIONS, path, torch_pickles.dumps(value, protocol), 400)
    images = [[np.column_stack((BOXES, SCORES))] * 2, [np.zeros((0, 5))] * 2]
    assert survives(PREDICTIONS, path, pickle.dumps(images, 2), 400) > 0


def test_files_that_end_anywhere(tmp_path):
    data = torch_pickles.dumps([sample()])
    path = tmp_path / "a.pkl"
    for end in range(0, len(data), 3):
        path.write_bytes(data[:end])
        with pytest.raises(EaArrowError):
            rows_of(PREDICTIONS, path)


def test_the_forged_tensors_are_pickled_as_torch_does():
    """The operations that torch 2 writes for a tensor, as its sources give them."""
    data = torch_pickles.dumps(Tensor(VALUES))
    names = [argument for op, argument, _ in pickletools.genops(data) if op.name == "GLOBAL"]
    assert names == [
        "torch._utils _rebuild_tensor_v2",
        "torch.storage _load_from_bytes",
        "_codecs encode",
        "collections OrderedDict",
    ]
    with torch_pickles.importable():
        inner = storage_file(VALUES)
    assert inner.startswith(bytes.fromhex("80028a0a6cfc9c46f9206aa850192e80024de9032e"))
    assert b"ctorch\nFloatStorage\n" in inner
    assert list(mutations(inner, 3)) != [inner] * 3
