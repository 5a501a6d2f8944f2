"""Boxes of the image that the model saw."""

import pytest

from ea_arrow.doctor import examine
from ea_arrow.doctor.trials import FACTOR
from tests.doctor import made

COCO = ((640, 480), (480, 640), (640, 427), (500, 375))
VOC = ((500, 375), (375, 500), (500, 333))


def stretched(side):
    return lambda x, y, w, h, W, H: [x * side / W, y * side / H, w * side / W, h * side / H]


def letterboxed(side):
    def change(x, y, w, h, W, H):
        most = max(W, H)
        return [v * side / most for v in (x + (most - W) / 2, y + (most - H) / 2, w, h)]

    return change


def padded(side):
    return lambda x, y, w, h, W, H: [v * side / max(W, H) for v in (x, y, w, h)]


def shortest(side, most):
    def change(x, y, w, h, W, H):
        return [v * min(side / min(W, H), most / max(W, H)) for v in (x, y, w, h)]

    return change


@pytest.mark.parametrize(
    ("sizes", "change", "scale", "side"),
    [
        (COCO, stretched(640), "stretched", 640),  # as large as most images are long
        (COCO, letterboxed(640), "letterboxed", 640),
        (COCO, padded(1280), "padded", 1280),
        (COCO, stretched(960), "stretched", 960),  # no usual side, but a multiple of 16
        (COCO, shortest(800, 1333), "shortest", 800),
        (COCO, shortest(600, 1000), "shortest", 600),
        (VOC, stretched(500), "stretched", 500),  # 512 fits nearly as well
        (VOC, letterboxed(500), "letterboxed", 500),
        (VOC, stretched(512), "stretched", 512),
        (VOC, letterboxed(640), "letterboxed", 640),
    ],
)
def test_the_image_is_found(tmp_path, sizes, change, scale, side):
    truth = made.truth(images=40, sizes=sizes)
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    made.give(project, made.boxes(truth, results, change))
    made.give(project, results, "right")
    (finding,) = [f for f in examine(project, "x") if f.failed]
    assert finding.kind == "resized_coordinates"
    assert (finding.evidence["scale"], finding.evidence["side"]) == (scale, side)
    assert str(side) in finding.message
    assert str(side) in finding.fix
    assert finding.ap50_then == pytest.approx(made.ap50(project, "right"), abs=1e-12)


def test_a_few_images_enlarged(tmp_path):
    """Most images are 640 long already: AP50 hardly rises, but the boxes fit far more closely."""
    sizes = (*[(640, 480), (480, 640), (640, 427)] * 2, (640, 360), (560, 420))
    truth = made.truth(images=60, sizes=sizes)
    project = made.project(tmp_path, truth)
    results = [r for n, r in enumerate(made.good(truth)) if n % 8]  # a quarter is not found
    made.give(project, made.boxes(truth, results, padded(640)))
    found = [f for f in examine(project, "x") if f.severity == "error"]
    assert [f.kind for f in found] == ["resized_coordinates"]
    assert (found[0].evidence["scale"], found[0].evidence["side"]) == ("padded", 640)
    assert found[0].ap50_now > found[0].ap50_then / FACTOR


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("off", [0.03, 0.3])
def test_boxes_of_the_image_itself_are_left_alone(tmp_path, seed, off):
    truth = made.truth(seed, images=30, sizes=COCO)
    project = made.project(tmp_path, truth)
    made.give(project, made.good(truth, seed, off))
    assert [f.kind for f in examine(project, "x") if f.severity == "error"] == []
