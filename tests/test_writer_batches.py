"""Whole batches: columns of any kind, frameworks' outputs, streams of batches."""

# ruff: noqa: PT031  the warning of a whole block is what is tested

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import ea_arrow
from ea_arrow import (
    BoundingBox,
    Format,
    FrameClassification,
    ObjectDetection,
    Prediction,
    given_rows,
    intake,
)
from ea_arrow.errors import PredictionError
from ea_arrow.geometry import Rle, encode_dense
from ea_arrow.schema import PREDICTIONS
from tests.builders import make_encord_project, make_project

BOXES = np.array([[20.0, 10.0, 60.0, 40.0], [0.0, 0.0, 200.0, 100.0], [5.0, 5.0, 1.0, 1.0]])
SCORES = np.array([0.9, 0.8, 0.7])
SIDES = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


@pytest.fixture
def project(tmp_path):
    """One video, `film`, of 200 × 100 pixels with frames 0 and 4; classes `car` and `road`."""
    return make_encord_project(tmp_path / "p")


def columns(**changes):
    given = {
        "data_hash": ["film"] * 3,
        "frame": [0, 4, 4],
        "feature_hash": ["car", "car", "road"],
        "confidence": SCORES,
        "bbox": BOXES,
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


def flat(**changes):
    sides = {name: BOXES[:, i] for i, name in enumerate(SIDES)}
    return columns(bbox=None, **sides, **changes)


class Tensor:
    """As a framework's tensor on the CPU: an array behind a method."""

    def __init__(self, values):
        self._values = np.asarray(values)
        self.ndim, self.shape = self._values.ndim, self._values.shape

    def __len__(self):
        return len(self._values)

    def numpy(self):
        return self._values


class Stream:
    """An Arrow stream and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def expected(rows):
    assert [(r["frame"], r["feature_hash"], r["confidence"]) for r in rows] == [
        (0, "car", 0.9),
        (4, "car", 0.8),
        (4, "road", 0.7),
    ]
    assert [[r[name] for name in SIDES] for r in rows] == BOXES.tolist()
    assert [r["prediction_id"] for r in rows] == [r["source_row"] for r in rows] == [0, 1, 2]
    return True


@pytest.mark.parametrize(
    "given",
    [
        columns(),
        columns(bbox=BOXES.tolist(), confidence=SCORES.tolist()),
        columns(bbox=Tensor(BOXES), confidence=Tensor(SCORES), frame=Tensor([0, 4, 4])),
        columns(bbox=BOXES.astype(np.float32).astype(int)),
        columns(bbox=pa.array(BOXES.tolist())),
        columns(bbox=pa.FixedSizeListArray.from_arrays(pa.array(BOXES.reshape(-1)), 4)),
        columns(bbox=pl.Series(BOXES.tolist())),
        columns(confidence=pa.chunked_array([SCORES[:1], SCORES[1:]])),
        columns(confidence=pl.Series(SCORES), feature_hash=pl.Series(["car", "car", "road"])),
        columns(feature_hash=pa.array(["car", "car", "road"]).dictionary_encode()),
        columns(data_hash="film"),
        columns(data_hash=None, unit=np.array(["film"] * 3)),
        columns(feature_hash=None, class_name=["Car", "car", "Road"]),
        flat(),
        pa.table(flat()),
        pa.record_batch(flat()),
        pl.DataFrame(flat()),
        Stream(pa.table(flat())),
        Stream(pa.concat_tables([pa.table(flat()).slice(i, 1) for i in range(3)])),
    ],
    ids=lambda given: type(given).__name__,
)
def test_columns_of_every_kind(project, given):
    with project.writer("v8") as writer:
        writer.add_batch(given)
    assert expected(list(project.predictions("v8")))


def test_a_stored_iteration_is_a_batch(project):
    with project.writer("a") as writer:
        writer.add_batch(columns())
        writer.add_prediction("film", "road", 0.5, None, np.eye(100, 200, dtype=np.uint8))
        writer.add_prediction("film", "road", 0.5, None, [[0, 0], [1, 0], [1, 1]])
    with project.writer("b") as writer:
        writer.add_batch(project.predictions("a"))
    first, second = (
        project.predictions(n).to_arrow().drop_columns(["iteration"]) for n in ("a", "b")
    )
    assert first.equals(second)


def test_relative_and_pixels_in_one_loop_keep_their_order(project):
    with project.writer("v8") as writer:
        for number in range(3):
            writer.add_prediction(
                "film", "car", number / 10, {"x": 0.1, "y": 0.1, "w": 0.1, "h": 1e-3}
            )
            writer.add_batch(columns(), relative=False)
            relative = columns(bbox=BOXES / [200, 100, 200, 100])
            writer.add_batch(relative, relative=True)
    found = project.predictions("v8").to_arrow()
    assert found["prediction_id"].to_pylist() == found["source_row"].to_pylist() == [*range(21)]
    assert found["confidence"].to_pylist()[:8] == [0.0, 0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.1]
    assert found["bbox_w"].to_pylist()[:7] == pytest.approx([20, 60, 200, 1, 60, 200, 1])


def test_classes_by_index_and_name(project):
    batches = [
        ({"class_index": [1, 0, 1]}, {0: "Car", 1: "road"}),
        ({"class_index": np.array([1, 0, 1])}, ["car", "Road"]),
        ({"class_index": Tensor([1.0, 0.0, 1.0])}, {0.0: "car", 1.0: "road"}),
        ({"class_name": ["street", "auto", "street"]}, {"auto": "car", "street": "road"}),
        ({"feature_hash": ["street", "car", "street"]}, {"street": "road"}),
        ({"class_index": [1, 0, 1], "class_name": ["s", "a", "s"]}, {1: "road", 0: "car"}),
        ({"class_index": [1, 0, 1], "class_name": ["s", "a", "s"]}, {"s": "road", "a": "car"}),
    ]
    with project.writer("v8") as writer:
        for named, classes in batches:
            writer.add_batch(columns(**({"feature_hash": None} | named)), classes=classes)
    assert [r["feature_hash"] for r in project.predictions("v8")] == ["road", "car", "road"] * 7


def test_an_unknown_column_is_answered_with_those_there_are(project):
    with project.writer("v8") as writer, pytest.raises(PredictionError) as caught:
        writer.add_batch(columns(confidenze=SCORES, confidence=None))
    assert caught.value.hint.startswith("Did you mean 'confidence'? Columns may be: ")
    listed = caught.value.hint.split("Columns may be: ")[1].rstrip(".").split(", ")
    assert {"class", "score", "scores", "image_id", "bbox", "bbox_x", "polygons"} <= {*listed}
    assert "iteration" not in listed


def test_a_name_that_is_not_mapped_is_refused_by_row(project):
    given = columns(feature_hash=None, class_name=["car", "van", "car"])
    with pytest.warns(UserWarning, match="1 of 3"), project.writer("v8") as writer:
        writer.add_batch(given, classes={"auto": "car"})
    assert writer.ledger.rejects == {"unknown_class": 1}
    assert writer.ledger.messages == {"unknown_class": "No class 'van' in the ontology."}


@pytest.mark.parametrize(
    ("classes", "says", "hint"),
    [
        (["car"], r"class index 7 is not in classes \(0 … 0\)", None),
        ({3: "road", 0: "car"}, r"class index 7 is not in classes \(0 … 3\)", None),
        (["raod"], "'raod', which classes names, is no class .*no other", "Did you mean 'road'?"),
        ({0: "yyy", 7: "zzz"}, "'yyy', which classes names", "Classes of the project: "),
        ({0: "car", 7: None}, "names no class for 7", "Leave out"),
    ],
)
def test_classes_that_do_not_fit_are_an_error_at_once(project, classes, says, hint):
    given = columns(feature_hash=None, class_index=[0, 7, 0])
    with project.writer("v8") as writer:
        with pytest.raises(PredictionError, match=says) as caught:
            writer.add_batch(given, classes=classes)
        writer.add_batch(columns())  # nothing of the batch that failed was taken
    assert (caught.value.hint or "").startswith(hint or "")
    assert len(project.predictions("v8")) == 3


def test_a_model_may_know_more_classes_than_the_project(project):
    """What it predicts of them is refused, and said when the classes are first named."""
    given = columns(feature_hash=None, class_index=[0, 2, 0])
    with pytest.warns(UserWarning, match="class") as warned, project.writer("v8") as writer:
        writer.add_batch(given, classes=["car", "raod", "kite"])
    early, late = (str(warning.message) for warning in warned)
    assert early.startswith("'raod', which classes names, is no class of the project, nor are 1")
    assert early.endswith("Did you mean 'road'?")
    assert "1 of 3 predictions of 'v8' refused" in late
    assert len(project.predictions("v8")) == 2


def test_ids_of_the_source(tmp_path):
    project = make_project(tmp_path / "p")
    given = {"bbox": BOXES, "score": SCORES}
    with project.writer("v8") as writer:
        writer.add_batch(given | {"image_id": [1, 2, 2], "category_id": [1, 2, 2]})
        writer.add_batch(given | {"source_id": ["1", "2", "2"], "category_id": ["1", "2", "2"]})
    sql = """select source_id from predictions join data_units using (data_hash, frame)
             order by prediction_id"""
    assert [r["source_id"] for r in project.sql(sql)] == ["1", "2", "2"] * 2


MASK = np.zeros((100, 200), np.uint8)
MASK[10:20, 30:50] = 1


@pytest.mark.parametrize(
    "masks",
    [
        [MASK, None, MASK],
        [MASK.astype(bool), None, MASK.astype(float)],
        [encode_dense(MASK), None, encode_dense(MASK)],
        [Tensor(MASK), None, MASK * 255],
        [{"size": [100, 200], "counts": encode_dense(MASK).counts.tolist()}, None, MASK],
    ],
)
def test_masks(project, masks):
    with project.writer("v8") as writer:
        writer.add_batch(columns(masks=masks))
    found = list(project.predictions("v8"))
    assert [r["format"] for r in found] == ["mask", "bounding_box", "mask"]
    assert [r["area"] for r in found] == [200, 20000, 200]
    assert found[0]["bbox_w"] == 60  # as given


def test_masks_that_are_none(project):
    runs = Rle(100, 200, np.array([5, 5]))
    masks = [MASK, MASK * 3, np.zeros((50, 50), np.uint8), np.zeros(3), runs, MASK]
    given = {"mask": masks, "confidence": np.arange(6.0), "feature_hash": ["road"] * 6}
    with pytest.warns(UserWarning, match="4 of 6"), project.writer("v8") as writer:
        writer.add_batch(given, data_hash="film")
    assert writer.ledger.rejects == {"mask_not_binary": 1, "mask_size": 1, "invalid_mask": 2}
    assert [r["source_row"] for r in project.predictions("v8")] == [0, 5]


def test_an_array_of_masks_and_lists_of_polygons(project):
    ring = np.array([[0, 0], [10, 0], [10, 10]])
    with project.writer("v8") as writer:
        writer.add_batch(
            {"masks": np.stack([MASK, MASK]), "score": [0.5, 0.4], "class_name": ["Road", "Road"]},
            data_hash="film",
        )
        polygons = [[ring.reshape(-1)], ring, None]
        writer.add_batch(columns(polygons=polygons))
    found = list(project.predictions("v8"))
    assert [r["format"] for r in found] == ["mask"] * 2 + ["polygon"] * 2 + ["bounding_box"]
    assert [r["bbox_x"] for r in found[:2]] == [30, 30]
    assert found[2]["polygon"] == found[3]["polygon"] == [[0, 0, 10, 0, 10, 10]]


def test_other_columns(project):
    with project.writer("v8") as writer:
        writer.add_batch(
            columns(
                track_id=[1, None, 2],
                theta=[0.0, 30.0, 0.0],
                probabilities=np.array([[0.25, 0.75]] * 3),
            )
        )
        answers = {"format": None, "attribute_hash": "weather", "option_hash": ["sun", "rain"]}
        writer.add_batch(
            answers | {"feature_hash": "scene", "confidence": [1, 0.5]}, data_hash="film"
        )
    found = list(project.predictions("v8"))
    assert [r["track_id"] for r in found] == ["1", None, "2", None, None]
    assert [r["theta"] for r in found] == [None, 30, None, None, None]
    assert found[0]["probabilities"] == [0.25, 0.75]
    assert [r["option_hash"] for r in found[3:]] == ["sun", "rain"]
    assert found[3]["format"] == "classification"


def test_numbers_that_are_none_are_refused_by_row(project):
    with pytest.warns(UserWarning, match="2 of 3"), project.writer("v8") as writer:
        writer.add_batch(columns(confidence=[0.5, float("nan"), None]))
    assert writer.ledger.rejects == {"not_finite": 1, "missing_confidence": 1}


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        (columns(colour=[1, 2, 3]), {}, "no column 'colour'"),
        (columns(confidense=SCORES), {}, "Did you mean 'confidence'"),
        (columns(confidence=SCORES[:2]), {}, "different lengths: .*confidence 2"),
        (columns(bbox=BOXES[:, :3]), {}, "shape"),
        (columns(bbox=BOXES.T.copy()), {}, "different lengths"),
        (columns(data_hash=None), {}, "no data unit"),
        (columns(data_hash=None), {"data_hash": ["film"]}, "1 values; expected 3"),
        (columns(feature_hash=None), {}, "no class"),
        (columns(feature_hash=None, class_index=[0, 1, 2]), {}, "classes="),
        (columns(confidence=["a", "b", "c"]), {}, "does not convert"),
        (columns(frame=[0.5, 1, 2]), {}, "does not convert"),
        (columns(frame=[object()] * 3), {}, "cannot be read"),
        ({}, {}, "no column of predictions"),
        (3, {}, "a value of type int"),
        ([columns()], {}, "list of as many data units"),
        ([columns()], {"data_hash": ["film", "film"]}, "list of as many data units"),
    ],
)
def test_columns_that_cannot_be_read(project, given, options, says):
    with pytest.raises(PredictionError, match=says), project.writer("v8") as writer:
        writer.add_batch(given, **options)
    assert not project.iterations


def test_large_batches_are_cut_and_small_ones_gathered(project, monkeypatch):
    monkeypatch.setattr(intake, "BATCH_ROWS", 10)
    one = {"data_hash": "film", "feature_hash": "car", "bbox": np.tile(BOXES[:1], (25, 1))}
    with project.writer("v8") as writer:
        writer.add_batch(one | {"confidence": np.arange(25.0)})
        for number in range(25, 50):
            writer.add_batch(
                {"bbox": BOXES[:1], "confidence": [float(number)], "class_name": ["Car"]},
                data_hash="film",
            )
    found = project.predictions("v8").to_arrow()
    assert found["confidence"].to_pylist() == [*map(float, range(50))]
    assert found["prediction_id"].to_pylist() == [*range(50)]


def test_masks_are_cut_by_their_bytes(project, monkeypatch):
    monkeypatch.setattr(intake, "BATCH_BYTES", 500)
    given = {"masks": [MASK] * 20, "score": np.arange(20.0), "class_name": ["Road"] * 20}
    with project.writer("v8") as writer:
        batches = list(writer.stream([{"output": given, "data_hash": "film"}]))
    assert len(batches) > 3
    found = project.predictions("v8").to_arrow()
    assert found["confidence"].to_pylist() == [*map(float, range(20))]
    assert [mask["area"] for mask in found["mask"].to_pylist()] == [200] * 20


# -- frameworks ------------------------------------------------------------------------------------


def torchvision(n):
    corners = np.concatenate([BOXES[:n, :2], BOXES[:n, :2] + BOXES[:n, 2:]], axis=1)
    return {"boxes": Tensor(corners), "scores": Tensor(SCORES[:n]), "labels": Tensor([0, 1, 1][:n])}


def test_a_frameworks_outputs_with_their_images(project):
    with project.writer("v8") as writer:
        writer.add_batch(torchvision(3), data_hash="film", classes=["car", "road"])
        writer.add_batch(
            [torchvision(1), torchvision(0), torchvision(2)],
            data_hash=["film"] * 3,
            frame=[0, 0, 4],
            classes={0: "car", 1: "road"},
        )
    found = list(project.predictions("v8"))
    assert [r["frame"] for r in found] == [0, 0, 0, 0, 4, 4]
    assert [r["feature_hash"] for r in found] == ["car", "road", "road", "car", "car", "road"]
    assert [r["bbox_w"] for r in found] == [60, 200, 1, 60, 60, 200]


@pytest.mark.parametrize(
    "classes",
    [
        ["Sun", "Rain"],
        {0: "sun", 1: "rain"},
        [("scene", "weather", "sun"), ("scene", "weather", "rain")],
        [
            FrameClassification(feature_hash="scene", attribute_hash="weather", option_hash=option)
            for option in ("sun", "rain")
        ],
    ],
)
def test_the_class_of_an_image(project, classes):
    output = {"class_index": [1], "confidence": [0.75], "probabilities": [[0.25, 0.75]]}
    with project.writer("v8") as writer:
        writer.add_batch(output, data_hash="film", frame=4, classes=classes)
        writer.add_batch(columns(class_name=["Car", "Sun", "Car"], feature_hash=None))
    assert writer.ledger.rejects == {}
    first, car, sun, _ = project.predictions("v8")
    assert (first["format"], first["feature_hash"]) == ("classification", "scene")
    assert (first["attribute_hash"], first["option_hash"]) == ("weather", "rain")
    assert first["probabilities"] == [0.25, 0.75]
    assert (car["format"], car["option_hash"]) == ("bounding_box", None)
    assert (sun["format"], sun["option_hash"]) == ("classification", "sun")


def test_an_output_of_an_image_of_another_size(project):
    result = SimpleNamespace(
        orig_shape=(480, 640),
        names={0: "Car"},
        boxes=SimpleNamespace(data=Tensor([[1.0, 2, 3, 4, 0.5, 0]]), id=None, is_track=False),
        masks=None,
        probs=None,
        obb=None,
        keypoints=None,
    )
    with pytest.raises(PredictionError, match=r"480 × 640 .*is 100 × 200"), project.writer() as w:
        w.add_batch(result, data_hash="film")
    result.orig_shape = (100, 200)
    with project.writer() as writer:
        writer.add_batch(result, data_hash="film")
    assert [r["bbox_w"] for r in project.predictions(writer.name)] == [2]


# -- streams ---------------------------------------------------------------------------------------


def mixed():
    found = ObjectDetection(
        format=Format.BOUNDING_BOX,
        data=BoundingBox(x=0.1, y=0.1, w=0.3, h=0.4),
        feature_hash="car",
    )
    yield Prediction(data_hash="film", confidence=0.5, object=found)
    yield {
        "data_hash": "film",
        "class_uid": "nothing",
        "confidence_score": 0.5,
        "bbox": {"x": 0, "y": 0, "w": 1, "h": 1},
    }
    yield {
        "data_hash": "film",
        "class_uid": "road",
        "confidence_score": 0.25,
        "polygon": [[0, 0], [1, 0], [1, 1]],
    }
    yield columns()
    yield {"output": torchvision(2), "data_hash": "film", "classes": ["car", "road"]}
    yield pa.table(flat())


def test_a_stream_yields_what_it_writes(project, monkeypatch):
    monkeypatch.setattr(given_rows, "AT_ONCE", 2)
    monkeypatch.setattr(intake, "BATCH_ROWS", 2)
    with pytest.warns(UserWarning, match="1 of 17"), project.writer("v8") as writer:
        writer.add_batch(columns())
        batches = list(writer.stream(mixed()))
        writer.add_batch(columns())
    assert len(batches) > 1
    assert all(batch.schema.equals(PREDICTIONS.arrow, check_metadata=True) for batch in batches)
    stored = project.predictions("v8").to_arrow()
    assert len(stored) == 3 + 10 + 3
    assert pa.Table.from_batches(batches).equals(stored.slice(3, 10))
    assert writer.ledger.rejects == {"unknown_class": 1}


def test_a_stream_is_written_as_it_goes(project, monkeypatch):
    monkeypatch.setattr(intake, "BATCH_ROWS", 3)
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield columns()

    with project.writer("v8") as writer:
        stream = writer.stream(endless())
        for _ in range(5):
            assert next(stream).num_rows == 3
        stream.close()
    assert len(taken) < 20
    assert len(project.predictions("v8")) == 3 * len(taken)


def test_batches_without_storing(project):
    batches = ea_arrow.to_batches(mixed(), project, name="on-the-fly")
    table = pa.table(batches)
    assert not project.iterations
    with pytest.warns(UserWarning, match="1 of 11"), project.writer("on-the-fly") as writer:
        for _ in writer.stream(mixed()):
            pass
    assert table.equals(project.predictions("on-the-fly").to_arrow())
    assert batches.ledger == writer.ledger
    assert pa.concat_tables(batches.rejects)["rules"].to_pylist() == [["unknown_class"]]
    assert sum(b.num_rows for b in ea_arrow.to_batches(mixed(), project)) == 10


def test_an_iteration_is_read_batch_by_batch(project):
    with project.writer("v8") as writer:
        for number in range(4):
            writer.add_batch(columns(confidence=SCORES + number))
            writer.checkpoint()
    result = project.predictions("v8")
    assert len(result) == 12
    assert result.columns == PREDICTIONS.names
    batches = list(result.batches(2))
    assert [batch.num_rows for batch in batches] == [2, 1] * 4
    whole = result.to_arrow()
    assert pa.Table.from_batches(batches).equals(whole)
    assert pa.table(result).equals(whole)
    assert result.reader().read_all().equals(whole)
    assert [r["prediction_id"] for r in result] == [*range(12)]
    assert "12 rows" in repr(result)
    assert "<caption>12 rows</caption>" in project.predictions("v8")._repr_html_()


def test_what_was_read_stays_readable(project):
    with project.writer("v8") as writer:
        writer.add_batch(columns())
    result = project.predictions("v8")
    project.remove("v8")
    project.compact(keep_hours=0)
    assert expected(list(result))


def test_an_iteration_of_many_files(project):
    for _ in range(70):
        with project.writer("v8", mode="append") as writer:
            writer.add_batch(columns())
    result = project.predictions("v8")
    assert sum(batch.num_rows for batch in result.batches()) == len(result) == 210
    assert result.to_arrow()["prediction_id"].to_pylist() == [*range(210)]
