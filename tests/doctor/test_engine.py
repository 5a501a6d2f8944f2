"""What trials rest on: the same AP50 as the metrics, boxes read and unread, samples."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ea_arrow import FrameClassification, Prediction
from ea_arrow.doctor import examination, examine, reading
from ea_arrow.doctor.imported import imported
from ea_arrow.doctor.layouts import BoxReading, other_readings, to_numbers
from ea_arrow.doctor.resized import resized_readings
from ea_arrow.doctor.scoring import ap50, fit
from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.formats import LAYOUTS
from ea_arrow.store import Store
from tests.builders import make_encord_project, make_project
from tests.doctor import made

whole = st.integers(0, 1000).map(float)


@given(
    st.lists(st.tuples(whole, whole, whole, whole), min_size=1, max_size=5),
    st.sampled_from(LAYOUTS),
    st.booleans(),
)
def test_numbers_are_what_boxes_were_read_from(rows, layout, one_based):
    """Halves of whole numbers are exact, so nothing is lost on the way."""
    box = np.array(rows)
    numbers = to_numbers(box, BoxReading(layout, one_based=one_based))
    assert to_xywh(numbers, layout, one_based=one_based).tolist() == box.tolist()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 0.5))
def test_ap50_is_that_of_the_metrics(tmp_path_factory, seed, off):
    """With crowds, a label of the id 0, equal scores and an unlabelled image."""
    truth = made.truth(seed, images=6)
    rng = np.random.default_rng(seed)
    for label in truth["annotations"]:
        label["iscrowd"] = int(rng.random() < 0.2)
    truth["annotations"][0]["id"] = 0
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] != 5]
    project = made.project(tmp_path_factory.mktemp("p"), truth)
    results = made.good(truth, seed, off)
    made.give(project, [{**r, "score": round(r["score"], 1)} for r in results])
    store = Store(project.root)
    case = reading.read_case(store, store.iteration("x"))
    assert ap50(case.now, case.truth) == made.ap50(project, "x")
    numbers = {
        r["metric"]: r["value"]
        for r in project.metrics("x", iou_type="bbox").to_arrow()[:12].to_pylist()
    }
    assert fit(case.now, case.truth).ap == numbers["AP"]
    at_90 = project.metrics("x", iou_type="bbox", iou_thresholds=[0.9]).to_arrow().to_pylist()[0]
    assert fit(case.now, case.truth).ap90 == pytest.approx(at_90["value"], abs=1e-12)
    assert examination(project, "x").ap50 == made.ap50(project, "x")


def test_without_labels_nothing_is_tried(tmp_path):
    truth = made.truth()
    results = made.good(truth)
    truth["annotations"] = []
    project = made.project(tmp_path, truth)
    made.give(project, results)
    found = examination(project, "x")
    assert (found.ap50, found.findings) == (None, [])


def test_classifications_are_not_looked_at(tmp_path):
    project = make_encord_project(tmp_path)
    sun = FrameClassification(feature_hash="scene", attribute_hash="weather", option_hash="sun")
    with project.writer("x") as writer:
        writer.add_prediction(Prediction(data_hash="film", confidence=0.5, classification=sun))
    assert examine(project, "x") == []
    assert examination(project, "x").checks == ()


def test_an_iteration_of_no_rows(tmp_path):
    project = make_project(tmp_path, results=[])
    assert examine(project, "base") == []
    assert examination(project, "base").checks == ()


def test_a_sample_is_the_same_each_time_and_said(tmp_path, monkeypatch):
    truth = made.truth(images=60)
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    made.give(project, made.boxes(truth, results, lambda x, y, w, h, W, H: [y, x, h, w]))
    monkeypatch.setattr(reading, "MOST_ROWS", 250)
    first, second = examination(project, "x"), examination(project, "x")
    assert first == second
    assert 25 <= first.sampled <= 31
    assert first.data_units == 60
    assert first.findings[0].kind == "y_before_x"
    assert first.ap50 != made.ap50(project, "x")
    monkeypatch.undo()
    assert examination(project, "x").ap50 == made.ap50(project, "x")


def test_refused_rows_outside_of_the_sample_do_not_count(tmp_path, monkeypatch):
    truth = made.truth(images=60)
    project = made.project(tmp_path, truth)
    made.give(project, made.classes(made.good(truth), lambda k: k - 1))
    monkeypatch.setattr(reading, "MOST_ROWS", 250)
    store = Store(project.root)
    case = reading.read_case(store, store.iteration("x"))
    assert set(case.rows.found.unit) <= set(np.flatnonzero(case.units.chosen))
    assert examination(project, "x").findings[0].kind == "shifted_classes"


def write_loop(project, results, order="xywh"):
    units = {u["source_id"]: u for u in project.data_units}
    hashes = {c["source_id"]: c["feature_hash"] for c in project.classes}
    with project.writer("x") as writer:
        for r in results:
            unit = units[str(r["image_id"])]
            width, height = unit["width"], unit["height"]
            sides = zip(order, r["bbox"], (width, height, width, height), strict=True)
            box = {side: value / size for side, value, size in sides}
            writer.add_prediction(unit["data_hash"], hashes[str(r["category_id"])], r["score"], box)


def test_a_loop_is_mended_where_it_writes(tmp_path):
    truth = made.truth()
    project = made.project(tmp_path, truth)
    write_loop(project, made.classes(made.good(truth), lambda k: max(k - 1, 1)))
    finding = next(f for f in examine(project, "x") if f.severity == "error")
    assert finding.kind == "shifted_classes"
    assert finding.fix == (
        "A prediction loop wrote it, or a format without options: mend it there. "
        "For other files the options would be --map shift:1."
    )


def test_a_loop_gives_fractions(tmp_path):
    truth = made.truth()
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    made.give(project, results, "right")
    write_loop(project, results, order="yxhw")
    finding = next(f for f in examine(project, "x") if f.severity == "error")
    assert finding.kind == "y_before_x"
    assert finding.ap50_then == pytest.approx(made.ap50(project, "right"), abs=1e-12)


def test_what_an_import_was_told_is_kept_in_the_command():
    read = {"box": "xyxy", "relative": True, "map": "names.txt", "class_key": "index"}
    read["options"] = ["--box", "xyxy", "--relative", "--map", "names.txt", "--format", "voc"]
    source = {"name": "a.txt", "bytes": 1, "sha256": "", "read": read}
    iteration = SimpleNamespace(name="x", imports=({"sources": json.dumps([source])},))
    how = imported(iteration, relative=False)
    assert how.reading == BoxReading("xyxy", "relative")
    command = how.command("--box", "yxyx", "--pixels", "--dedupe")
    assert command[:6] == ("ea-arrow", "import", "a.txt", "--as", "x", "--replace")
    assert command[6:] == (
        *("--map", "names.txt", "--format", "voc", "--box", "yxyx", "--pixels", "--dedupe"),
    )


def test_scales_are_tried_where_numbers_allow_them():
    def scales(reach, now=BoxReading()):  # noqa: B008 - frozen
        numbers = np.full((10, 4), reach / 2)
        size = np.full((10, 2), 2000.0)
        ways = other_readings(now, numbers) + resized_readings(now, numbers, size)
        return {way.scale for way in ways}

    assert scales(1) == {"pixels", "relative"}
    assert scales(100) >= {"pixels", "percent"}
    assert scales(900) >= {"pixels", "thousandths", "stretched"}
    assert scales(1e6) == {"pixels"}
    relative = BoxReading(scale="relative")
    assert scales(1, relative) == {"relative"}
    assert scales(900, relative) == {"relative", "pixels"}
    assert other_readings(relative, np.zeros((0, 4))) == []


def test_absurd_boxes_are_survived(tmp_path):
    truth = made.truth()
    project = made.project(tmp_path, truth)
    absurd = [[0, 0, 1e160, 1e160], [-1e300, 0, 1e300, 1], [1e17, 1e17, 0, 0], [0, 0, 5e-324, 1]]
    more = [made.result(1, 1, box, 0.9) for box in absurd]
    negative = [made.result(1, 1, [5, 5, -1, 3], 0.9), made.result(77, 55, [0, 0, 1, 1], 0.9)]
    made.give(project, made.good(truth) + more + negative)
    kinds = {finding.kind for finding in examine(project, "x")}
    assert {"boxes_outside", "empty_boxes"} <= kinds
    json.dumps(examination(project, "x").to_dict(), allow_nan=False)


def sources(*paths, **more):
    """An iteration imported from these."""
    given = [{"name": path.name, "path": str(path), **more} for path in paths]
    return SimpleNamespace(name="x", imports=({"sources": json.dumps(given)},))


def test_files_are_named_from_here_where_that_is_shorter(tmp_path, monkeypatch):
    near, far = tmp_path / "run" / "a.json", tmp_path / "b.json"
    (tmp_path / "run/deep/er/and/deep/er/still/and/deep/er").mkdir(parents=True)
    for path in (near, far):
        path.write_text("[]")
    how = imported(sources(near, far), relative=False)
    assert (how.files, how.remark) == (("run/a.json", "b.json"), None)
    monkeypatch.chdir(tmp_path / "run/deep/er/and/deep/er/still/and/deep/er")
    deep = tmp_path / "run/deep/er/and/deep/er/still/and/deep"
    assert imported(sources(deep), relative=False).files == ("..",)
    monkeypatch.chdir("/")
    assert imported(sources(far), relative=False).files == (str(far)[1:],)


def test_files_of_one_name_stay_two(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.json").write_text("[]")
    how = imported(sources(tmp_path / "a/x.json", tmp_path / "b/x.json"), relative=False)
    assert how.files == ("a/x.json", "b/x.json")


def test_a_directory_is_named_by_its_path(tmp_path):
    (tmp_path / "labels/txt").mkdir(parents=True)
    how = imported(sources(tmp_path / "labels/txt", files=200), relative=False)
    assert (how.files, how.one) == (("labels/txt",), False)


def test_a_file_that_is_gone_is_to_be_found(tmp_path):
    how = imported(sources(tmp_path / "old" / "a.json"), relative=False)
    assert how.files == ("a.json",)
    assert how.remark == "(a.json: where the file is now)"
    (tmp_path / "a.json").write_text("[]")  # as of imports that did not record the path
    assert imported(sources(tmp_path / "old" / "a.json"), relative=False).remark is None
