"""Pickles: Python loads them as our objects, or with Encord Active's own classes."""

import pickle
import pickletools
import sys
from enum import Enum
from io import StringIO
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ea_arrow
from ea_arrow import BoundingBox, Format, FrameClassification, ObjectDetection, Prediction
from ea_arrow.exporting import export
from ea_arrow.exports.pickle_script import text_code
from tests.builders import RESULTS, import_results, make_encord_project, make_project
from tests.exports.rows import again, mask_of, project_with, rows_of, same

ANSWER = FrameClassification(feature_hash="scene", attribute_hash="weather", option_hash="sun")
PIXELS = np.zeros((100, 200), np.uint8)
PIXELS[10:20, 30:50] = 1
PIXELS[15:90, 7] = 1
POINTS = np.array([[0.125, 0.25], [0.5, 0.25], [0.5, 0.75], [0.25, 0.875]])


def predictions():
    """One of each kind, twice, mixed."""
    box = BoundingBox(x=0.125, y=0.25, w=0.5, h=0.25, theta=30.5)
    shapes = (
        (Format.BOUNDING_BOX, box, "car", None),
        (Format.MASK, PIXELS, "road", "track 1"),
        (Format.POLYGON, POINTS, "road", None),
        (Format.BOUNDING_BOX, BoundingBox(x=0, y=0, w=1, h=1), "car", "ü" * 200),
    )
    for number in range(2):
        for form, data, feature_hash, track in shapes:
            found = ObjectDetection(
                format=form, data=data, feature_hash=feature_hash, track_id=track
            )
            confidence = 0.5 - number
            yield Prediction(data_hash="film", frame=4, confidence=confidence, object=found)
        yield Prediction(data_hash="film", confidence=97.85, classification=ANSWER)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_encord_project(tmp_path_factory.mktemp("pickles") / "p")
    with project.writer("base", strict=True) as writer:
        for prediction in predictions():
            writer.add_prediction(prediction)
    return project


def written(project, name="base", **options):
    found = export(
        project, name, "pickle", project.root / "out.pkl", overwrite=True, options=options
    )
    return found, found.path.read_bytes()


def test_python_loads_our_objects(project):
    found, data = written(project)
    assert pickle.loads(data) == list(predictions())
    assert (found.rows, found.files, found.left_out, found.notes) == (10, 1, {}, {})


def test_loaded_objects_are_whole(project):
    _, data = written(project)
    loaded = pickle.loads(data)
    assert [p.model_dump_json() for p in loaded] == [p.model_dump_json() for p in predictions()]
    assert loaded[0].model_fields_set == set(Prediction.model_fields)
    assert pickle.loads(pickle.dumps(loaded)) == loaded


@pytest.mark.parametrize("classes", ["ea_arrow", "encord_active"])
def test_the_importer_reads_them(project, classes):
    again(project, "pickle", classes=classes)
    assert same(rows_of(project, "base"), rows_of(project, "again"))


@pytest.mark.parametrize("rows", [1, 3])
def test_the_pickle_is_well_formed_in_pieces(project, monkeypatch, rows):
    monkeypatch.setattr("ea_arrow.exports.base.BATCH_ROWS", rows)
    monkeypatch.setattr("ea_arrow.exports.pickles._PIXELS", 30_000)
    _, data = written(project)
    pickletools.dis(data, out=StringIO())  # which checks the stack
    assert pickle.loads(data) == list(predictions())
    again(project, "pickle")
    assert same(rows_of(project, "base"), rows_of(project, "again"))


def test_encord_active_can_load_them_with_its_own_classes(project, monkeypatch):
    """Stand-ins of the same names and fields, on the pydantic of that time."""
    from pydantic.v1 import BaseModel

    class Format(str, Enum):  # noqa: UP042 - as theirs is
        BOUNDING_BOX = "bounding-box"
        MASK = "mask"
        POLYGON = "polygon"

    class BoundingBox(BaseModel):
        x: float
        y: float
        h: float
        w: float
        theta: float = 0.0

    class ObjectDetection(BaseModel):
        format: Format
        data: Any
        feature_hash: str
        track_id: str | int | None = None

    class FrameClassification(BaseModel):
        feature_hash: str
        attribute_hash: str
        option_hash: str

        class Config:
            frozen = True

    class Prediction(BaseModel):
        data_hash: str
        frame: int | None = 0
        confidence: float
        object: ObjectDetection | None = None
        classification: FrameClassification | None = None

    for name in ("encord_active", "encord_active.lib", "encord_active.lib.db"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = ModuleType("encord_active.lib.db.predictions")
    for model in (Format, BoundingBox, ObjectDetection, FrameClassification, Prediction):
        setattr(module, model.__name__, model)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    _, data = written(project, classes="encord_active")
    assert b"ea_arrow" not in data
    loaded = pickle.loads(data)
    for theirs, ours in zip(loaded, predictions(), strict=True):
        assert type(theirs) is Prediction
        assert theirs.copy() == theirs  # which looks at all of pydantic's own attributes
        if ours.classification:
            assert theirs.dict() == ours.model_dump()
            continue
        assert theirs.object.format is Format(ours.object.format.value)
        data, expected = theirs.object.data, ours.object.data
        if isinstance(data, BoundingBox):
            assert data.dict() == expected.model_dump()
        else:
            assert data.dtype == expected.dtype
            assert np.array_equal(data, expected)


def test_labels_have_no_confidence(project, tmp_path):
    with pytest.raises(ea_arrow.EaArrowError, match="labels alone cannot be written"):
        export(project, None, "pickle", tmp_path / "out.pkl")


def test_boxes_that_leave_the_image_are_cut(tmp_path):
    rows = [
        RESULTS[0] | {"bbox": [-10, 40, 30, 20]},
        RESULTS[0] | {"bbox": [200, 0, 5, 5]},
        RESULTS[0],
    ]
    found = again(project_with(tmp_path / "p", rows), "pickle")
    assert found.notes == {"boxes cut at the edge of the image, as fractions end there": 2}
    boxes = [
        [row[f"bbox_{side}"] for side in "xywh"]
        for row in rows_of(ea_arrow.open(tmp_path / "p"), "again")
    ]
    assert boxes == [[0, 40, 20, 10], [100, 0, 0, 5], [10, 10, 20, 20]]


def test_polygons_of_several_parts_become_masks(tmp_path):
    parts = [[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]]
    rows = [RESULTS[0], RESULTS[0] | {"segmentation": parts}, RESULTS[1]]
    project = project_with(tmp_path / "p", rows)
    found = again(project, "pickle")
    assert found.notes == {
        "polygons of several parts written as masks": 1,
        "boxes and areas given beside masks and polygons left out": 1,
    }
    later = rows_of(project, "again")
    assert [row["format"] for row in later] == ["bounding_box", "mask", "bounding_box"]
    assert later[1]["area"] == 200
    assert [later[1][f"bbox_{side}"] for side in "xywh"] == [0, 0, 30, 30]


def test_masks_come_back(tmp_path):
    rows = [
        {"image_id": 2, "category_id": 1, "score": 0.5, "segmentation": mask_of(seed, 640, 480)}
        for seed in range(12)
    ]
    project = make_project(tmp_path / "p")
    import_results(project, rows, "base")
    assert not again(project, "pickle").notes
    assert same(rows_of(project, "base"), rows_of(project, "again"))


def test_long_texts_have_long_lengths():
    for text in ("", "a" * 255, "a" * 256, "é" * 200):
        assert pickle.loads(b"\x80\x04" + text_code(text) + b".") == text
