"""What is exported and imported again is what it was."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ea_arrow
from ea_arrow.exporting import export
from ea_arrow.schema import BOX, LABELS, PREDICTIONS
from tests.builders import RESULTS, import_results, make_encord_project, make_project
from tests.exports.rows import again, by_unit, mask_of, project_with, results, rows_of, same
from tests.formats import dataset

FEW = settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
EPSILON = 2.0**-52


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("round") / "p")


@FEW
@given(
    rows=st.lists(results(), min_size=1, max_size=12),
    to=st.sampled_from(["coco", "parquet", "csv"]),
)
def test_rows_of_every_shape_come_back_exactly(project, rows, to):
    import_results(project, rows, "base", mode="replace")
    found = again(project, to)
    assert same(rows_of(project, "base"), rows_of(project, "again"))
    assert found.rows == len(rows)
    assert not found.left_out


@FEW
@given(rows=st.lists(results(shapes=["mask"]), min_size=1, max_size=6))
def test_masks_without_boxes_keep_their_areas_as_coco(project, rows):
    rows = [{k: v for k, v in row.items() if k != "bbox"} for row in rows]
    import_results(project, rows, "base", mode="replace")
    found = again(project, "coco")
    assert same(rows_of(project, "base"), rows_of(project, "again"))
    assert not found.notes


whole = st.integers(-200, 200).map(lambda n: n / 8)


@FEW
@given(rows=st.lists(results(["box"], whole, st.integers(0, 800).map(lambda n: n / 8)), min_size=1))
def test_boxes_come_back_exactly_as_kitti(project, rows):
    import_results(project, rows, "base", mode="replace")
    found = again(project, "kitti")
    assert same(by_unit(rows_of(project, "base")), by_unit(rows_of(project, "again")))
    assert not found.notes


@FEW
@given(rows=st.lists(results(["box"]), min_size=1, max_size=12))
def test_sizes_of_any_boxes_come_back_within_half_a_last_place_as_kitti(project, rows):
    import_results(project, rows, "base", mode="replace")
    found = again(project, "kitti")
    changed = 0
    base, later = (by_unit(rows_of(project, name)) for name in ("base", "again"))
    for one, other in zip(base, later, strict=True):
        assert same([one[k] for k in ("bbox_x", "bbox_y", "confidence")],
                    [other[k] for k in ("bbox_x", "bbox_y", "confidence")])  # fmt: skip
        for low, size in (("bbox_x", "bbox_w"), ("bbox_y", "bbox_h")):
            far = abs(one[low] + one[size])
            assert abs(one[size] - other[size]) <= 0.5 * np.spacing(far) + np.spacing(one[size])
        changed += any(one[k] != other[k] for k in ("bbox_w", "bbox_h"))
    assert found.notes.get("boxes whose size is rounded, as corners are written", 0) == changed


inside = st.just(0.0) | st.floats(1e-9, 25)
fractions = st.floats(0.001, 0.999)


@FEW
@given(rows=st.lists(results(["box"], inside, inside, fractions), min_size=1, max_size=12))
def test_boxes_come_back_within_the_stated_bound_as_yolo(project, rows):
    import_results(project, rows, "base", mode="replace")
    found = again(project, "yolo")
    base, later = (by_unit(rows_of(project, name)) for name in ("base", "again"))
    changed = sum(
        any(one[k] != other[k] for k in BOX) for one, other in zip(base, later, strict=True)
    )
    counted = "boxes whose pixels no fractions give exactly: the last places may differ"
    assert found.notes.get(counted, 0) == changed
    sizes = {row["data_hash"]: row for row in project.data_units}
    for one, other in zip(base, later, strict=True):
        assert one["confidence"] == other["confidence"]
        assert one["feature_hash"] == other["feature_hash"]
        unit = sizes[one["data_hash"]]
        for low, size, side in (("bbox_x", "bbox_w", "width"), ("bbox_y", "bbox_h", "height")):
            assert abs(one[low] - other[low]) <= 4 * EPSILON * max(unit[side], one[low] + one[size])
            assert abs(one[size] - other[size]) <= np.spacing(one[size])


@FEW
@given(rows=st.lists(results(["polygon"], inside, inside, fractions), min_size=1, max_size=6))
def test_polygons_come_back_as_yolo(project, rows):
    for row in rows:
        row["segmentation"] = row["segmentation"][:1]
    import_results(project, rows, "base", mode="replace")
    found = again(project, "yolo")
    assert found.reading["task"] == "segment"
    base, later = (by_unit(rows_of(project, name)) for name in ("base", "again"))
    for one, other in zip(base, later, strict=True):
        assert other["format"] == "polygon"
        np.testing.assert_allclose(one["polygon"], other["polygon"], rtol=2 * EPSILON)


@FEW
@given(rows=st.lists(results(position=inside, side=inside), min_size=1, max_size=8))
def test_what_a_pickle_holds_comes_back_exactly(project, rows):
    """The first pickle moves pixels by a last place where no fraction says them, never the next."""
    import_results(project, rows, "first", mode="replace")
    export(project, "first", "pickle", project.root / "first.pkl", overwrite=True)
    project.import_predictions(project.root / "first.pkl", "base", mode="replace", strict=True)
    found = again(project, "pickle")
    assert same(rows_of(project, "base"), rows_of(project, "again"))
    assert not found.notes
    for one, other in zip(rows_of(project, "first"), rows_of(project, "base"), strict=True):
        parts = one["polygon"] and len(one["polygon"]) > 1
        assert other["format"] == ("mask" if parts else one["format"])
        if one["format"] == "bounding_box":
            for side in ("bbox_x", "bbox_y", "bbox_w", "bbox_h"):
                assert abs(one[side] - other[side]) <= 2 * np.spacing(one[side])


def test_pixels_that_were_fractions_come_back_exactly_as_a_pickle(tmp_path):
    project = make_encord_project(tmp_path / "p")  # 200 × 100 pixels
    random = np.random.default_rng(3)
    with project.writer("base") as writer:
        for x, y, w, h in random.random((500, 4)) / 2:
            writer.add_prediction(
                data_hash="film",
                class_uid="car",
                confidence_score=x,
                bbox={"x": x, "y": y, "w": w, "h": h},
            )
        writer.add_prediction(
            data_hash="film",
            class_uid="car",
            confidence_score=1,
            bbox={"x": 0.7, "y": 0, "w": 0.3, "h": 1},
        )
    found = again(project, "pickle")
    assert not found.notes
    assert same(rows_of(project, "base"), rows_of(project, "again"))


def everything():
    """Rows with every column there is: tracks, rotations, probabilities and answers."""
    own = {"iteration": "base", "source_row": 0, "confidence": 0.25, "area": 12.5}
    film = {"data_hash": "film", "frame": 4}
    box = {"bbox_x": 1.0, "bbox_y": 2.5, "bbox_w": 5.0, "bbox_h": 2.5}
    car = {"feature_hash": "car", **box}
    answer = {"feature_hash": "scene", "attribute_hash": "weather", "option_hash": "rain"}
    polygon = [[0.1, 0.2, 3.3, 4.0, 5.0, 1.0], [7.0, 7.0, 8.0, 7.0, 8.0, 8.0]]
    rows = [
        {"format": "bounding_box", **car, "track_id": 'a "quoted", name\n', "confidence": -0.0},
        {"format": "rotatable_bounding_box", **car, "theta": 30.5, "track_id": "007"},
        {"format": "polygon", "feature_hash": "road", **box, "polygon": polygon, "track_id": ""},
        {"format": "classification", **answer, "probabilities": [0.1, 0.9], "area": None},
    ]
    full = [own | film | row | {"prediction_id": i} for i, row in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=PREDICTIONS.arrow)


@pytest.mark.parametrize("to", ["parquet", "csv"])
def test_every_column_comes_back(tmp_path, to):
    project = make_encord_project(tmp_path / "p")
    pq.write_table(everything(), tmp_path / "all.parquet")
    project.import_predictions(tmp_path / "all.parquet", "base", format="table", strict=True)
    found = again(project, to)
    base = rows_of(project, "base")
    assert base[2]["track_id"] == ""
    notes = {}
    if to == "csv":
        notes = {"empty track ids, which CSV cannot tell from none": 1}
        base[2]["track_id"] = None
    assert same(base, rows_of(project, "again"))
    assert (found.rows, found.left_out, found.notes) == (4, {}, notes)
    first = rows_of(project, "again")[0]
    assert first["track_id"] == 'a "quoted", name\n'
    assert str(first["confidence"]) == "-0.0"


def test_parquet_has_exactly_the_columns_of_the_schema(tmp_path):
    project = project_with(tmp_path / "p", RESULTS)
    export(project, "base", "parquet", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert table.schema.equals(PREDICTIONS.arrow)
    assert table.schema.metadata == PREDICTIONS.arrow.metadata
    assert table.equals(project.predictions("base").to_arrow())
    export(project, None, "parquet", tmp_path / "labels")
    assert pq.read_table(tmp_path / "labels" / "labels.parquet").schema.equals(LABELS.arrow)
    units = pq.read_table(tmp_path / "labels" / "data_units.parquet")
    assert units.equals(project.data_units.to_arrow())
    classes = pq.read_table(tmp_path / "labels" / "classes.parquet")
    assert classes.equals(project.classes.to_arrow())


# -- labels ------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path):
    """The shared data set with crowds, masks and polygons among its labels, and predictions."""
    truth = dataset.coco_ground_truth()
    first, second, third = truth["annotations"][:3]
    first |= {"iscrowd": 1, "segmentation": mask_of(1, 64, 32), "area": 77.5}
    second |= {"segmentation": [[32, 8, 56, 8, 56.25, 24], [33, 9, 34, 9, 34, 10]]}
    third |= {"bbox": [10.1, 20.2, 40.3, 30.4]}
    truth["images"][0] |= {"license": 3, "coco_url": "http://x/1.png"}
    truth["categories"][0]["supercategory"] = "animal"
    project = make_project(tmp_path / "p", truth=truth)
    import_results(project, dataset.coco_results(), "base")
    return project


def columns(result):
    return result.to_arrow().to_pylist()


@pytest.mark.parametrize("to", ["coco", "parquet"])
def test_labels_come_back(labelled, tmp_path, to):
    found = export(labelled, None, to, tmp_path / f"labels-{to}")
    assert (found.rows, found.left_out, found.notes) == (7, {}, {})
    other = ea_arrow.init(tmp_path / "again", found.path)
    for name in ("labels", "data_units", "classes"):
        assert same(columns(getattr(labelled, name)), columns(getattr(other, name))), name
    import_results(other, dataset.coco_results(), "base")
    base, later = (columns(p.metrics("base")) for p in (labelled, other))
    for row in (*base, *later):
        del row["provenance"]
    assert same(base, later)


def test_labels_come_back_from_csv_but_for_empty_units(labelled, tmp_path):
    found = export(labelled, None, "csv", tmp_path / "labels.csv")
    assert found.notes == {"data units without labels, which a table of labels does not name": 1}
    other = ea_arrow.init(tmp_path / "again", found.path)
    wanted = ("bbox_x", "bbox_w", "area", "is_crowd", "polygon", "mask", "source_id", "format")
    for one, two in zip(columns(labelled.labels), columns(other.labels), strict=True):
        assert same([one[k] for k in wanted], [two[k] for k in wanted])
