"""The writer: one prediction at a time, published as a whole or not at all."""

# ruff: noqa: PT012, PT031  the error of a whole block is what is tested

from __future__ import annotations

import json
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import ea_arrow
from ea_arrow import (
    BoundingBox,
    Format,
    FrameClassification,
    ObjectDetection,
    Prediction,
    PredictionWriter,
    given_rows,
    intake,
)
from ea_arrow.errors import (
    IterationError,
    IterationExistsError,
    ParameterError,
    PredictionError,
    ProjectError,
    RejectedRowsError,
)
from tests.builders import make_encord_project, make_project

BOX = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
PIXELS = (20.0, 20.0, 60.00000000000001, 40.0)  # of BOX in a frame of 200 × 100


@pytest.fixture
def project(tmp_path):
    """One video, `film`, of 200 × 100 pixels with frames 0 and 4; classes `car` and `road`."""
    return make_encord_project(tmp_path / "p")


def box(**changes):
    given = {"data_hash": "film", "class_uid": "car", "confidence_score": 0.5, "bbox": BOX}
    return given | changes


def rows(project, name):
    return project.predictions(name).to_arrow().to_pylist()


def nothing_left(project):
    """No file of predictions but those that are live, and nothing staged."""
    live = {f.path for it in project.iterations.values() for f in it.files}
    folder = project.root / ".ea-arrow"
    there = {
        p.relative_to(folder / "predictions").as_posix()
        for p in (folder / "predictions").rglob("*.parquet")
        if "_delta_log" not in p.parts
    }
    return there == live and not list((folder / "staging").rglob("*.json"))


# -- what may be given -----------------------------------------------------------------------------


def test_a_box_by_keywords(project):
    with project.writer("v8", model="yolo", parameters={"conf": 0.25}) as writer:
        writer.add_prediction(**box(frame=4))
        assert "v8" not in project.iterations
    (row,) = rows(project, "v8")
    assert (row["data_hash"], row["frame"], row["feature_hash"]) == ("film", 4, "car")
    assert (row["format"], row["confidence"]) == ("bounding_box", 0.5)
    assert tuple(row[f"bbox_{side}"] for side in "xywh") == pytest.approx(PIXELS)
    (imported,) = project.iterations["v8"].imports
    assert imported["model"] == "yolo"
    assert json.loads(imported["parameters"]) == {"conf": 0.25}
    assert (imported["rows_read"], imported["rows_kept"], imported["mode"]) == (1, 1, "create")
    assert writer.result.published
    assert nothing_left(project)


def test_arguments_by_position(project):
    with project.writer("v8") as writer:
        writer.add_prediction("film", "car", 0.5, BOX, None, 4)
    assert rows(project, "v8")[0]["frame"] == 4


def test_predictions_as_objects(project):
    mask = np.zeros((100, 200), np.uint8)
    mask[10:20, 30:50] = 1
    triangle = np.array([[0.1, 0.1], [0.5, 0.1], [0.1, 0.6]])
    shapes = [
        ObjectDetection(format=Format.BOUNDING_BOX, data=BoundingBox(**BOX), feature_hash="car"),
        ObjectDetection(
            format=Format.BOUNDING_BOX,
            data=BoundingBox(**BOX, theta=30),
            feature_hash="car",
            track_id=7,
        ),
        ObjectDetection(format=Format.MASK, data=mask, feature_hash="road"),
        ObjectDetection(format=Format.POLYGON, data=triangle, feature_hash="road"),
    ]
    weather = FrameClassification(feature_hash="scene", attribute_hash="weather", option_hash="sun")
    with project.writer("v8") as writer:
        for shape in shapes:
            writer.add_prediction(Prediction(data_hash="film", confidence=0.5, object=shape))
        writer.add_prediction(
            prediction=Prediction(data_hash="film", confidence=0.5, classification=weather)
        )
    plain, turned, masked, polygon, answer = rows(project, "v8")
    assert plain["theta"] is None
    assert (turned["theta"], turned["track_id"]) == (30, "7")
    assert turned["format"] == "rotatable_bounding_box"
    assert (masked["format"], masked["area"], masked["mask"]["area"]) == ("mask", 200, 200)
    assert [masked[f"bbox_{side}"] for side in "xywh"] == [30, 10, 20, 10]
    assert polygon["polygon"] == [pytest.approx([20, 10, 100, 10, 20, 60])]
    assert (answer["format"], answer["option_hash"]) == ("classification", "sun")


def test_an_object_like_a_prediction_will_do(project):
    found = SimpleNamespace(
        format=SimpleNamespace(value="bounding-box"),
        data=SimpleNamespace(x=0.1, y=0.2, w=0.3, h=0.4),
        feature_hash="car",
    )
    like = SimpleNamespace(data_hash="film", confidence=0.5, object=found)
    with project.writer("v8") as writer:
        writer.add_prediction(like)
    assert rows(project, "v8")[0]["bbox_w"] == pytest.approx(60)


@pytest.mark.parametrize(
    ("polygon", "form"),
    [
        ([[0.1, 0.1], [0.5, 0.1], [0.1, 0.6]], "polygon"),
        ([(0.1, 0.1), (0.5, 0.1), (0.1, 0.6)], "polygon"),
        ([{"x": 0.1, "y": 0.1}, {"x": 0.5, "y": 0.1}, {"x": 0.1, "y": 0.6}], "polygon"),
        ([np.array([0.1, 0.1]), np.array([0.5, 0.1]), np.array([0.1, 0.6])], "polygon"),
        (np.array([[0.1, 0.1], [0.5, 0.1], [0.1, 0.6]], np.float32), "polygon"),
        ([[0, 0], [1, 0], [1, 1], [0, 1]], "polygon"),
        (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), "polygon"),
        (np.ones((100, 200), np.uint8), "mask"),
        (np.ones((100, 200), bool), "mask"),
        (np.ones((100, 200), np.float32), "mask"),
        (np.full((100, 200), 255, np.uint8), "mask"),
        (np.ones((100, 200), np.uint8).tolist(), "mask"),
    ],
)
def test_points_and_masks_are_told_apart(project, polygon, form):
    with project.writer("v8") as writer:
        writer.add_prediction(**box(bbox=None, polygon=polygon))
    (row,) = rows(project, "v8")
    assert row["format"] == form
    assert row[form] is not None


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_a_mask_of_an_image_two_pixels_wide(tmp_path, dtype):
    truth = {
        "images": [{"id": 1, "width": 2, "height": 4, "file_name": "thin.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
    }
    project = make_project(tmp_path / "p", truth=truth)
    unit = project.data_units.to_arrow()["data_hash"][0].as_py()
    cat = project.classes.to_arrow()["feature_hash"][0].as_py()
    pixels = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype)
    given = {"data_hash": unit, "class_uid": cat, "confidence_score": 1}
    with project.writer("v8") as writer:
        writer.add_prediction(**given, polygon=pixels)
        writer.add_prediction(**given, polygon=pixels.astype(float))
    mask, polygon = rows(project, "v8")
    assert (mask["format"], mask["area"]) == ("mask", 4)
    assert (polygon["format"], polygon["area"]) == ("polygon", 8)


@pytest.mark.parametrize("given", [{}, {"bbox": BOX, "polygon": [[0, 0], [1, 0], [1, 1]]}])
def test_exactly_one_of_box_and_polygon(project, given):
    with (
        pytest.raises(PredictionError, match="exactly one of bbox and polygon"),
        project.writer("v8") as writer,
    ):
        writer.add_prediction(data_hash="film", class_uid="car", confidence_score=1, **given)
    assert not project.iterations


def test_what_was_given_may_change_afterwards(project):
    side, points = dict(BOX), np.array([[0.1, 0.1], [0.5, 0.1], [0.1, 0.6]])
    mask = np.ones((100, 200), np.uint8)
    with project.writer("v8") as writer:
        writer.add_prediction(**box(bbox=side))
        writer.add_prediction(**box(bbox=None, polygon=points))
        writer.add_prediction(**box(bbox=None, polygon=mask))
        side["x"] = 0.7
        points[:] = 0
        mask[:] = 0
    boxed, polygon, masked = rows(project, "v8")
    assert boxed["bbox_x"] == pytest.approx(20)
    assert polygon["area"] == pytest.approx(80 * 50 / 2)
    assert masked["area"] == 100 * 200


class Tensor:
    """A value on no device, as of a framework that is not imported."""

    ndim = 0

    def __init__(self, value):
        self._value = value

    def item(self):
        return self._value


def test_numbers_of_any_kind(project):
    given = [0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), Tensor(0.25)]
    with project.writer("v8") as writer:
        for score in given:
            writer.add_prediction(**box(confidence_score=score, frame=np.int64(4)))
            writer.add_prediction(
                **box(bbox={k: type(score)(v) if score is given[4] else v for k, v in BOX.items()})
            )
    found = rows(project, "v8")
    assert [row["confidence"] for row in found[::2]] == [0.25] * 5
    assert {row["bbox_w"] for row in found} == {found[0]["bbox_w"]}


# -- refused rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"data_hash": "nothing"}, "unknown_data_unit"),
        ({"data_hash": None}, "missing_data_unit"),
        ({"data_hash": 3}, "not_a_prediction"),
        ({"data_hash": b"film"}, "not_a_prediction"),
        ({"data_hash": "\ud800"}, "not_a_prediction"),
        ({"data_hash": "x" * 2000}, "not_a_prediction"),
        ({"class_uid": "nothing"}, "unknown_class"),
        ({"class_uid": None}, "missing_class"),
        ({"class_uid": "x\udfff"}, "not_a_prediction"),
        ({"confidence_score": None}, "missing_confidence"),
        ({"confidence_score": float("nan")}, "not_finite"),
        ({"confidence_score": "high"}, "missing_confidence"),
        ({"confidence_score": 10**400}, "missing_confidence"),
        ({"frame": 3}, "unknown_data_unit"),
        ({"frame": -1}, "invalid_frame"),
        ({"frame": 1.5}, "invalid_frame"),
        ({"frame": 2**70}, "invalid_frame"),
        ({"bbox": BOX | {"x": 0.8}}, "box_out_of_range"),
        ({"bbox": BOX | {"w": -0.1}}, "invalid_box"),
        ({"bbox": BOX | {"w": None}}, "invalid_box"),
        ({"bbox": BOX | {"w": "wide"}}, "invalid_box"),
        ({"bbox": {"x": 0.1, "y": 0.1, "w": 0.1}}, "invalid_box"),
        ({"bbox": {"x1": 0.1, "y1": 0.1, "x2": 0.1, "y2": 1}}, "invalid_box"),
        ({"bbox": [0.1, 0.1, 0.1, 0.1]}, "invalid_box"),
        ({"bbox": None, "polygon": [[0.1, 0.1], [0.2, 0.2]]}, "invalid_polygon"),
        ({"bbox": None, "polygon": np.array([[10.5, 20.5], [30, 40], [50, 60]])},
         "polygon_out_of_range"),
        ({"bbox": None, "polygon": object()}, "invalid_polygon"),
        ({"bbox": None, "polygon": np.ones((50, 100), np.uint8)}, "mask_size"),
        ({"bbox": None, "polygon": np.full((100, 200), 7, np.uint8)}, "mask_not_binary"),
        ({"bbox": None, "polygon": np.full((100, 200), 0.5)}, "mask_not_binary"),
        ({"bbox": None, "polygon": np.zeros((2, 100, 200), np.uint8)}, "invalid_polygon"),
    ],
)  # fmt: skip
def test_a_row_that_breaks_a_rule_is_refused_and_others_stay(project, changes, rule):
    warned = pytest.warns(UserWarning, match="1 of 3 predictions of 'v8' refused: ")
    with warned, project.writer("v8") as writer:
        writer.add_prediction(**box())
        writer.add_prediction(**box(**changes))
        writer.add_prediction(**box(confidence_score=0.25))
    assert writer.ledger.rejects == {rule: 1}
    assert writer.ledger.examples[rule] == [1]
    assert rule in writer.ledger.messages
    assert (writer.ledger.read, writer.ledger.kept) == (3, 2)
    assert [row["source_row"] for row in rows(project, "v8")] == [0, 2]
    (refused,) = project.sql("select * from rejects")
    assert (refused["rules"], refused["source_row"]) == ([rule], 1)
    assert (refused["source"], refused["iteration"]) == ("writer", "v8")


def test_strict_stops_at_the_first_refused_batch(project):
    with (
        pytest.raises(RejectedRowsError, match="strict=True is given: 1 of 2") as caught,
        project.writer("v8", strict=True) as writer,
    ):
        writer.add_prediction(**box())
        writer.add_prediction(**box(class_uid="nothing"))
    assert caught.value.ledger.rejects == {"unknown_class": 1}
    assert not project.iterations
    assert nothing_left(project)


def test_an_error_that_took_rows_cannot_be_passed_over(project):
    with pytest.raises(PredictionError, match="lost predictions"), project.writer("v8") as writer:
        writer.add_prediction(**box())
        writer._intake._done = lambda _: 1 / 0
        with pytest.raises(ZeroDivisionError):
            writer._intake.flush()
        writer._intake._done = lambda _: None
        writer.add_prediction(**box())
    assert not project.iterations
    assert nothing_left(project)


def test_nothing_kept_is_an_error(project):
    with pytest.raises(RejectedRowsError) as caught, project.writer("v8") as writer:
        writer.add_prediction(**box(class_uid="nothing"))
    assert caught.value.message == (
        "No row could be kept: 1 of 1 refused: No class 'nothing' in the ontology. "
        "Iteration 'v8' was not written."
    )
    assert caught.value.hint == "Classes of the project: ea-arrow ontology"
    assert not project.iterations
    assert nothing_left(project)


def test_duplicates_are_counted_over_batches(project, monkeypatch):
    monkeypatch.setattr(given_rows, "AT_ONCE", 2)
    monkeypatch.setattr(intake, "BATCH_ROWS", 2)
    with pytest.warns(UserWarning, match="6 of 12"), project.writer("v8") as writer:
        for score in (0.1, 0.2, 0.3, 0.1, 0.4, 0.2):
            writer.add_prediction(**box(confidence_score=score))
            writer.add_prediction(Prediction.model_construct(data_hash="film", confidence=9))
            writer._intake.flush()
    assert writer.ledger.notes["duplicate"] == 2


def test_refused_rows_are_told_without_progress(project, capsys):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with project.writer("v8") as writer:
            writer.add_prediction(**box())
            for name in ("Dics", "Dics", "Bx"):
                writer.add_prediction(**box(class_uid=name))
            writer.add_prediction(**box(frame=3))
    (told,) = found
    assert str(told.message) == (
        "4 of 5 predictions of 'v8' refused: data unit is not in the project (1, first: No data "
        "unit 'film' with frame 3 in the project); class is not in the ontology (3, first: No "
        "class 'Dics' in the ontology). select * from rejects where iteration = 'v8'"
    )
    assert (told.category, told.filename) == (UserWarning, __file__)
    assert len(project.sql("select * from rejects where iteration = 'v8'")) == 4
    assert capsys.readouterr().err == ""


def test_fractions_given_as_pixels_are_told(project):
    columns = {"bbox": [[0.1, 0.1, 0.5, 0.5]], "score": [0.5], "class": ["car"]}
    with pytest.warns(UserWarning, match="1 × boxes within the first pixel"):  # noqa: SIM117
        with project.writer("v8") as writer:
            writer.add_batch(columns, data_hash="film")
    assert len(rows(project, "v8")) == 1


def test_a_warning_that_is_an_error_leaves_what_was_written(project):
    with pytest.raises(UserWarning, match="1 of 2"), project.writer("v8") as writer:
        writer.add_prediction(**box())
        writer.add_prediction(**box(class_uid="nothing"))
    assert len(rows(project, "v8")) == 1
    assert nothing_left(project)


# -- errors in the loop ----------------------------------------------------------------------------


def test_an_error_says_that_nothing_was_written(project):
    with pytest.raises(ZeroDivisionError) as caught, project.writer("v8") as writer:
        writer.add_prediction(**box(confidence_score=1 / 0))
    assert caught.value.__notes__ == ["ea-arrow: nothing of 'v8' was written"]


def test_an_error_says_what_a_checkpoint_has_written(project):
    with pytest.raises(ZeroDivisionError) as caught, project.writer("v8") as writer:
        for score in (0.1, 0.2):
            writer.add_prediction(**box(confidence_score=score))
        writer.checkpoint()
        writer.add_prediction(**box(confidence_score=0.3))
        1 / 0  # noqa: B018
    (note,) = caught.value.__notes__
    assert note == "ea-arrow: 2 predictions of 'v8' are written; any later ones are lost"
    assert len(rows(project, "v8")) == 2


def test_a_stream_that_is_never_read_is_an_error(project):
    with pytest.raises(PredictionError, match="never read"), project.writer("v8") as writer:
        writer.stream([box()])
    assert not project.iterations
    assert nothing_left(project)


# -- names and modes -------------------------------------------------------------------------------


def test_a_writer_without_a_name_takes_the_next_free_one(project):
    names = []
    for _ in range(2):
        with project.writer() as writer:
            writer.add_prediction(**box())
            with project.writer() as inner:  # at the same time
                inner.add_prediction(**box())
        names += [writer.name, inner.name]
    assert names == ["run-001", "run-002", "run-003", "run-004"]
    assert sorted(project.iterations) == names
    assert "run-004" in repr(inner)


def test_a_name_that_came_to_nothing_is_free_again(project):
    with pytest.raises(ZeroDivisionError), project.writer() as writer:
        writer.add_prediction(**box(confidence_score=1 / 0))
    with project.writer() as writer:
        writer.add_prediction(**box())
    assert writer.name == "run-001"


def test_modes(project):
    for mode, scores in (("error", [0.1]), ("append", [0.2, 0.3]), ("append", [0.4])):
        with project.writer("v8", mode=mode) as writer:
            for score in scores:
                writer.add_prediction(**box(confidence_score=score))
    found = rows(project, "v8")
    assert [(r["prediction_id"], r["confidence"]) for r in found] == [
        (0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4)
    ]  # fmt: skip
    with pytest.raises(IterationExistsError, match="already there") as caught:
        project.writer("v8").__enter__()
    assert 'mode="append"' in caught.value.hint
    with project.writer("v8", mode="replace") as writer:
        writer.add_prediction(**box(confidence_score=0.9))
    assert [r["confidence"] for r in rows(project, "v8")] == [0.9]
    assert [e["action"] for e in project.history("v8")] == [
        "write (replace)", "write (append)", "write (append)", "write (create)"
    ]  # fmt: skip


def test_an_iteration_of_no_predictions(project):
    with project.writer("empty"):
        pass
    assert rows(project, "empty") == []
    assert "empty" in project.iterations


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "a/b"}, IterationError),
        ({"name": "a", "mode": "overwrite"}, IterationError),
        ({"name": "a", "shard": (2, 2)}, ParameterError),
        ({"name": "a", "shard": "two"}, ParameterError),
        ({"shard": (0, 2)}, ParameterError),
        ({"name": "a", "shard": (0, 2), "partial": True}, ParameterError),
        ({"name": "a", "parameters": {"x": object()}}, ProjectError),
    ],
)
def test_options_that_make_no_sense(project, options, error):
    with pytest.raises(error), project.writer(**options):
        pass
    assert not project.iterations


def test_outside_of_its_block_a_writer_refuses(project):
    writer = project.writer("v8")
    with pytest.raises(PredictionError, match="not open"):
        writer.add_prediction(**box())
    with writer:
        pass
    for call in (
        lambda: writer.add_prediction(**box()),
        lambda: writer.add_prediction(**box(bbox=None, polygon=[[0, 0], [1, 1], [1, 0]])),
        lambda: writer.add_batch({}),
        writer.checkpoint,
        writer.running,
    ):
        with pytest.raises(PredictionError, match="has finished") as caught:
            call()
        assert "mode='append'" in caught.value.hint
    with pytest.raises(PredictionError, match="one iteration"):
        writer.__enter__()


# -- Encord Active's forms -------------------------------------------------------------------------


def test_their_writer_by_directory(project):
    foreign = SimpleNamespace(title="an Encord project")
    with PredictionWriter(project.root, foreign) as writer:
        writer.add_prediction(
            data_hash="film",
            class_uid="car",
            confidence_score=0.8,
            bbox={"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4},
            frame=4,
        )
    with PredictionWriter(str(project.root), project):
        pass
    assert list(project.iterations) == ["run-001", "run-002"]


@pytest.mark.parametrize("given", [{"auto": "car", 3: "road"}, {"car": "auto", "road": "3"}])
def test_their_custom_object_map_either_way(project, given):
    with PredictionWriter(project, custom_object_map=given) as writer:
        writer.add_prediction(**box(class_uid="auto"))
        writer.add_prediction(**box(class_uid=3))
        writer.add_prediction(**box(class_uid="car"))
    assert [r["feature_hash"] for r in rows(project, writer.name)] == ["car", "road", "car"]


def test_their_project_object(project):
    theirs = SimpleNamespace(file_structure=SimpleNamespace(project_dir=project.root))
    with PredictionWriter(theirs, None) as writer:
        writer.add_prediction(**box())
    assert writer.ledger.kept == 1
    with pytest.raises(ProjectError, match="a value of type int"):
        PredictionWriter(3)


# -- whole or nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(project, error):
    with pytest.raises(error), project.writer("v8") as writer:
        writer.add_prediction(**box())
        raise error
    assert not project.iterations
    assert nothing_left(project)
    with project.writer("v8") as writer:
        writer.add_prediction(**box())
    assert len(rows(project, "v8")) == 1


def test_partial_publishes_what_was_there_and_says_so(project):
    with (
        pytest.raises(ValueError, match="out of memory"),
        project.writer("v8", partial=True, parameters={"a": 1}) as writer,
    ):
        writer.add_prediction(**box())
        writer.add_prediction(**box(class_uid="nothing"))
        raise ValueError("out of memory")
    assert len(rows(project, "v8")) == 1
    (imported,) = project.iterations["v8"].imports
    assert json.loads(imported["parameters"]) == {"a": 1, "partial": "ValueError: out of memory"}
    assert writer.ledger.notes["partial: the loop ended with an error"] == 1
    assert writer.result.published


def test_partial_of_nothing_is_nothing(project):
    with pytest.raises(ValueError), project.writer("v8", partial=True):  # noqa: PT011
        raise ValueError
    assert not project.iterations
    assert nothing_left(project)


def test_checkpoints_publish_under_the_loop(project):
    with pytest.raises(ValueError, match="late"), project.writer("v8") as writer:
        for score in (0.1, 0.2):
            writer.add_prediction(**box(confidence_score=score))
        assert writer.checkpoint() == 2
        assert len(rows(project, "v8")) == 2
        assert writer.checkpoint() == 2  # nothing new
        writer.add_prediction(**box(confidence_score=0.1))
        assert writer.checkpoint() == 3
        writer.add_prediction(**box(confidence_score=0.4))
        raise ValueError("late")
    found = rows(project, "v8")
    assert [(r["prediction_id"], r["source_row"]) for r in found] == [(0, 0), (1, 1), (2, 2)]
    assert writer.ledger.notes["duplicate"] == 1
    assert (writer.ledger.read, writer.ledger.kept) == (3, 3)
    assert len(project.iterations["v8"].imports) == 2
    assert nothing_left(project)


def test_a_checkpoint_replaces_once(project):
    with project.writer("v8") as writer:
        writer.add_prediction(**box())
    with project.writer("v8", mode="replace") as writer:
        writer.add_prediction(**box(confidence_score=0.1))
        writer.checkpoint()
        writer.add_prediction(**box(confidence_score=0.2))
    assert [r["confidence"] for r in rows(project, "v8")] == [0.1, 0.2]
    assert nothing_left(project) is False  # what was replaced stays until compact


def test_an_iteration_removed_under_its_writer(project):
    with (
        pytest.raises(IterationError, match="removed or replaced while"),
        project.writer("v8") as writer,
    ):
        writer.add_prediction(**box())
        writer.checkpoint()
        project.remove("v8")
        writer.add_prediction(**box())
    assert "v8" not in project.iterations


def test_others_append_between_checkpoints(project):
    with project.writer("v8") as writer:
        writer.add_prediction(**box(confidence_score=0.1))
        writer.checkpoint()
        with project.writer("v8", mode="append") as other:
            other.add_prediction(**box(confidence_score=0.2))
        writer.add_prediction(**box(confidence_score=0.3))
    found = rows(project, "v8")
    assert [(r["prediction_id"], r["confidence"]) for r in found] == [
        (0, 0.1), (1, 0.2), (2, 0.3)
    ]  # fmt: skip


# -- the same as an import -------------------------------------------------------------------------


def test_metrics_equal_those_of_the_same_predictions_as_pickle_and_as_coco(tmp_path):
    draw = np.random.default_rng(3)
    images = [
        {"id": i, "width": int(w), "height": int(h), "file_name": f"{i}.png"}
        for i, (w, h) in enumerate(draw.integers(50, 900, (20, 2)), 1)
    ]

    def some(n):
        for _ in range(n):
            image = images[draw.integers(20)]
            x, y, w, h = draw.uniform(0, 0.5, 4)
            yield image, int(draw.integers(1, 4)), (x, y, w, h)

    def pixels(image, shape):
        x, y, w, h = shape
        return [x * image["width"], y * image["height"], w * image["width"], h * image["height"]]

    truth = {
        "images": images,
        "categories": [{"id": k, "name": f"class {k}"} for k in (1, 2, 3)],
        "annotations": [
            {"id": n, "image_id": image["id"], "category_id": k, "bbox": (b := pixels(image, s)),
             "area": b[2] * b[3], "iscrowd": 0}
            for n, (image, k, s) in enumerate(some(200), 1)
        ],
    }  # fmt: skip
    project = make_project(tmp_path / "p", truth=truth)
    units = {int(u["source_id"]): u["data_hash"] for u in project.data_units}
    classes = {int(c["source_id"]): c["feature_hash"] for c in project.classes}
    labels = [
        (images[a["image_id"] - 1], a["category_id"], a["bbox"]) for a in truth["annotations"]
    ]
    found = []
    for (image, k, (x, y, w, h)), score in zip(labels * 3, draw.random(600), strict=True):
        move = 1 + draw.normal(0, 0.05, 2)
        width, height = image["width"], image["height"]
        shape = (x / width, y / height, min(w / width * move[0], 1 - x / width),
                 min(h / height * move[1], 1 - y / height))  # fmt: skip
        found.append((image, k, shape, round(float(score), 2)))
    results = [
        {"image_id": image["id"], "category_id": k, "bbox": pixels(image, s), "score": score}
        for image, k, s, score in found
    ]
    (tmp_path / "coco.json").write_text(json.dumps(results))
    project.import_predictions(tmp_path / "coco.json", "coco")
    objects = [
        Prediction(
            data_hash=units[image["id"]],
            confidence=score,
            object=ObjectDetection(
                format=Format.BOUNDING_BOX,
                feature_hash=classes[k],
                data=BoundingBox(**dict(zip("xywh", s, strict=True))),
            ),
        )
        for image, k, s, score in found
    ]
    (tmp_path / "pickle.pkl").write_bytes(pickle.dumps(objects))
    project.import_predictions(tmp_path / "pickle.pkl", "pickle")
    with project.writer("keywords") as writer:
        for image, k, s, score in found:
            sides = dict(zip("xywh", s, strict=True))
            writer.add_prediction(units[image["id"]], classes[k], score, sides)
    with project.writer("objects") as writer:
        for prediction in objects:
            writer.add_prediction(prediction)
    with project.writer("batch") as writer:
        writer.add_batch(
            {
                "image_id": [image["id"] for image, *_ in found],
                "category_id": [k for _, k, *_ in found],
                "bbox": np.array([pixels(image, s) for image, _, s, _ in found]),
                "score": [score for *_, score in found],
            }
        )
        running = writer.running().to_arrow()
    names = ("coco", "pickle", "keywords", "objects", "batch")
    numbers = [project.metrics(name).to_arrow()["value"].to_pylist() for name in names]
    assert 0.2 < numbers[0][0] < 0.9
    assert all(other == numbers[0] for other in numbers[1:])
    seen = {image["id"] for image, *_ in found}
    assert seen == {a["image_id"] for a in truth["annotations"]}
    assert running["value"].to_pylist() == numbers[0]


def test_public_names_of_the_package():
    assert ea_arrow.PredictionWriter is PredictionWriter
