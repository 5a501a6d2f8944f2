"""Boxes that lie off by a pixel or more: what is found, and what is not."""

import numpy as np
import pytest

from ea_arrow.doctor import examine
from tests.doctor import made

SMALL = (0.03, 0.1)


@pytest.fixture
def data(tmp_path):
    truth = made.truth(images=60, sides=SMALL)
    return truth, made.good(truth, off=0.05), made.project(tmp_path, truth)


def errors(project, name="x"):
    return [f for f in examine(project, name) if f.severity == "error"]


def ap(project, name):
    rows = project.metrics(name, iou_type="bbox").to_arrow().to_pylist()
    return next(r["value"] for r in rows if r["metric"] == "AP")


def moved(truth, results, dx, dy, dw=0.0, dh=0.0):
    return made.boxes(truth, results, lambda x, y, w, h, W, H: [x + dx, y + dy, w + dw, h + dh])


def corners(truth, results):
    """As in VOC: counted from 1, and the last pixel belongs to the box."""
    return made.boxes(truth, results, lambda x, y, w, h, W, H: [x + 1, y + 1, x + w, y + h])


@pytest.mark.parametrize("layout", ["xywh", "xyxy"])
def test_counted_from_one(data, layout):
    truth, results, project = data
    wrong = corners(truth, results) if layout == "xyxy" else moved(truth, results, 1, 1)
    made.give(project, wrong, box=layout)
    made.give(project, results, "right")
    (finding,) = errors(project)
    assert finding.kind == "one_based_pixels"
    assert finding.fix[6:] == ("--box", layout, "--one-based")
    assert finding.ap_now == ap(project, "x") < ap(project, "right") - 0.01
    assert finding.ap_then == pytest.approx(ap(project, "right"), abs=1e-12)
    assert made.follow(project, finding) == finding.ap50_then
    assert errors(project) == []


@pytest.mark.parametrize("by", [(-1, -1), (0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)])
def test_another_pixel_is_not_counting_from_one(data, by):
    truth, results, project = data
    made.give(project, moved(truth, results, *by))
    assert errors(project) == []


@pytest.mark.parametrize("seed", range(8))
def test_no_false_alarm(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = made.truth(seed, images=int(rng.integers(8, 40)), sides=SMALL)
    project = made.project(tmp_path, truth)
    made.give(project, made.good(truth, seed + 50, off=float(rng.uniform(0.01, 0.2))))
    assert errors(project) == []


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ((5, -3), "subtract 5.0 from x and add 3.0 to y"),
        ((0, 8), "subtract 8.0 from y,"),
        ((-12, 0), "add 12.0 to x,"),
    ],
)
def test_all_boxes_shifted(tmp_path, by, said):
    truth = made.truth(images=60, sides=(0.03, 0.3))
    project, results = made.project(tmp_path, truth), made.good(truth, off=0.01)
    made.give(project, moved(truth, results, *by))
    made.give(project, results, "right")
    (finding,) = errors(project)
    assert finding.kind == "shifted_boxes"
    assert (finding.evidence["x"], finding.evidence["y"]) == pytest.approx(by, abs=0.2)
    assert finding.ap_now == ap(project, "x")
    assert finding.ap_then == pytest.approx(ap(project, "right"), abs=0.05)
    assert said in finding.fix


def test_boxes_that_are_too_large_are_not_shifted(data):
    truth, results, project = data
    made.give(project, moved(truth, results, -3, -3, 6, 6))
    assert errors(project) == []
