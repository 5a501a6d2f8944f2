"""Files read wrongly: each mistake is found, called by its name, and mended by its command."""

import json

import pytest

from ea_arrow.coco_classes import COCO_CLASSES
from ea_arrow.doctor import examination, examine
from tests.doctor import made

ORDERS = {
    "corner_as_size": (lambda x, y, w, h, W, H: [x, y, x + w, y + h], ["--box", "xyxy"]),
    "centre_as_corner": (
        lambda x, y, w, h, W, H: [x + w / 2, y + h / 2, w, h],
        ["--box", "cxcywh"],
    ),
    "y_before_x": (lambda x, y, w, h, W, H: [y, x, h, w], ["--box", "yxhw"]),
    "y_before_x, corners": (lambda x, y, w, h, W, H: [y, x, y + h, x + w], ["--box", "yxyx"]),
    "relative_as_pixels": (lambda x, y, w, h, W, H: [x / W, y / H, w / W, h / H], ["--relative"]),
    "relative_as_pixels, YOLO": (
        lambda x, y, w, h, W, H: [(x + w / 2) / W, (y + h / 2) / H, w / W, h / H],
        ["--box", "cxcywh", "--relative"],
    ),
}


@pytest.fixture
def data(tmp_path):
    truth = made.truth()
    return truth, made.good(truth), made.project(tmp_path, truth)


def failed(project, name="x"):
    return [finding for finding in examine(project, name) if finding.failed]


@pytest.mark.parametrize("seed", range(6))
def test_good_predictions_have_no_findings(tmp_path, seed):
    truth = made.truth(seed)
    project = made.project(tmp_path, truth)
    made.give(project, made.good(truth, seed + 100))
    assert examine(project, "x") == []


@pytest.mark.parametrize("seed", range(4))
def test_a_poor_model_is_no_mistake(tmp_path, seed):
    truth = made.truth(seed)
    project = made.project(tmp_path, truth)
    made.give(project, made.good(truth, seed, off=0.4))
    found = examination(project, "x")
    assert found.ap50 == made.ap50(project, "x") < 0.5
    assert found.trials > 10
    assert [f.kind for f in found.findings if f.severity == "error"] == []


@pytest.mark.parametrize("case", ORDERS)
def test_boxes_in_another_order(data, case):
    truth, results, project = data
    change, options = ORDERS[case]
    made.give(project, made.boxes(truth, results, change))
    made.give(project, results, "right")
    before = made.ap50(project, "x")
    (finding,) = failed(project)
    assert (finding.kind, finding.severity) == (case.partition(",")[0], "error")
    assert finding.fix == ("ea-arrow", "import", "x.json", "--as", "x", "--replace", *options)
    assert finding.ap50_now == before
    assert finding.ap50_then == pytest.approx(made.ap50(project, "right"), abs=1e-12)
    assert finding.ap50_then == pytest.approx(made.follow(project, finding), abs=1e-12)
    assert finding.ap50_then > 0.6
    assert failed(project) == []


def test_y_before_x_is_said_in_words(data):
    truth, results, project = data
    made.give(project, made.boxes(truth, results, ORDERS["y_before_x"][0]))
    (finding,) = failed(project)
    assert finding.message == (
        "Boxes are read as [left, top, width, height] in pixels, but fit the labels as "
        "[top, left, height, width] in pixels. y stands before x."
    )


def test_pixels_read_as_fractions(data):
    _, results, project = data
    tiny = [made.result(1, 1, [0, 0, 1, 1], 0.0005)]  # all others are refused
    made.give(project, results + tiny, relative=True)
    assert project.iterations["x"].rows == 1
    (finding,) = [f for f in failed(project) if f.severity == "error"]
    assert finding.kind == "pixels_as_relative"
    assert finding.fix[-1] == "--pixels"
    assert finding.ap50_now < 0.01
    assert finding.ap50_then == pytest.approx(made.follow(project, finding), abs=1e-12)
    assert finding.ap50_then > 0.6


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (
            lambda x, y, w, h, W, H: [
                y * 1e3 / H,
                x * 1e3 / W,
                (y + h) * 1e3 / H,
                (x + w) * 1e3 / W,
            ],
            "thousandths_as_pixels",
            "divide them by 1000, then import with --relative and --box yxyx",
        ),
        (
            lambda x, y, w, h, W, H: [x * 100 / W, y * 100 / H, w * 100 / W, h * 100 / H],
            "percent_as_pixels",
            "divide them by 100, then import with --relative",
        ),
        (
            lambda x, y, w, h, W, H: [x * 416 / W, y * 416 / H, w * 416 / W, h * 416 / H],
            "resized_coordinates",
            "multiply x by width / 416 and y by height / 416",
        ),
        (
            lambda x, y, w, h, W, H: [v * 416 / max(W, H) for v in (x, y, w, h)],
            "resized_coordinates",
            "divide them by 416 / max(width, height)",
        ),
        (
            lambda x, y, w, h, W, H: [
                v * 416 / max(W, H)
                for v in (x + (max(W, H) - W) / 2, y + (max(W, H) - H) / 2, w, h)
            ],
            "resized_coordinates",
            "subtract the padding",
        ),
    ],
)
def test_scaled_boxes(data, change, kind, said):
    truth, results, project = data
    made.give(project, made.boxes(truth, results, change))
    made.give(project, results, "right")
    (finding,) = failed(project)
    assert finding.kind == kind
    assert said in finding.fix
    assert finding.ap50_then == pytest.approx(made.ap50(project, "right"), abs=1e-12)


@pytest.mark.parametrize("by", [-1, 1])
def test_shifted_classes(data, by):
    """The class without a number, or with one that no class has, was refused: it comes back."""
    _, results, project = data
    made.give(project, made.classes(results, lambda k: k + by))
    made.give(project, results, "right")
    assert project.iterations["x"].rows < len(results)
    (finding,) = failed(project)
    assert finding.kind == "shifted_classes"
    assert finding.fix[-2:] == ("--map", f"shift:{-by}")
    assert finding.ap50_now == made.ap50(project, "x")
    assert finding.ap50_then == made.ap50(project, "right")
    assert made.follow(project, finding) == finding.ap50_then


def test_the_order_of_refused_rows_among_equal_scores(data):
    _, results, project = data
    equal = [{**r, "score": 0.1 + 0.8 * (i % 3) / 2} for i, r in enumerate(results)]
    made.give(project, made.classes(equal, lambda k: k - 1))
    finding = failed(project)[0]
    assert finding.kind == "shifted_classes"
    assert made.follow(project, finding) == finding.ap50_then


@pytest.mark.parametrize(("first", "map"), [(0, "coco80"), (1, "coco80-1")])
def test_cocos_80_classes_for_its_91_ids(tmp_path, first, map):
    names = dict(list(COCO_CLASSES.items())[8:20])  # 9 … 21: without 12
    truth = made.truth(names=names.values(), ids=names)
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    index = {category: number for number, category in enumerate(COCO_CLASSES, first)}
    made.give(project, made.classes(results, index.get))
    made.give(project, results, "right")
    (finding,) = failed(project)
    assert finding.kind == "coco_numbering"
    assert finding.fix[-2:] == ("--map", map)
    assert finding.ap50_then == made.ap50(project, "right")
    assert made.follow(project, finding) == finding.ap50_then


def test_cocos_91_ids_for_its_80_classes(tmp_path):
    names = list(COCO_CLASSES.values())
    truth = made.truth(names=names[8:20], ids=range(8, 20))
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    ids = list(COCO_CLASSES)
    made.give(project, made.classes(results, lambda k: ids[k]))
    (finding,) = failed(project)
    assert (finding.kind, finding.fix[-1]) == ("coco_numbering", "coco91")
    made.give(project, results, "right")
    assert finding.ap50_then == made.ap50(project, "right")
    assert made.follow(project, finding) == finding.ap50_then


@pytest.mark.parametrize("first", [0, 1])
def test_classes_in_alphabetical_order(data, first):
    _, results, project = data
    order = sorted(made.NAMES)
    number = {k: order.index(name) + first for k, name in enumerate(made.NAMES, 1)}
    made.give(project, made.classes(results, number.get))
    made.give(project, results, "right")
    (finding,) = failed(project)
    assert finding.kind == "class_order"
    assert json.loads(finding.file[1])[str(first)] == "ant"
    assert finding.ap50_then == made.ap50(project, "right")
    assert made.follow(project, finding) == finding.ap50_then


def test_indices_of_classes_with_gaps(tmp_path):
    truth = made.truth(ids=(2, 5, 6, 9, 11, 40))
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    ids = [2, 5, 6, 9, 11, 40]
    made.give(project, made.classes(results, ids.index))
    (finding,) = failed(project)
    assert (finding.kind, finding.fix[-1]) == ("class_index", "index")
    assert made.follow(project, finding) == finding.ap50_then > 0.6


def test_boxes_and_classes_wrong_at_once(data):
    """Neither helps alone; one command mends both, and rows repeated are dropped by it too."""
    truth, results, project = data
    wrong = made.boxes(truth, results, ORDERS["y_before_x"][0])
    made.give(project, made.classes(wrong * 2, lambda k: k - 1))
    made.give(project, results, "right")
    boxes, numbers, repeats = failed(project)
    kinds = [finding.kind for finding in (boxes, numbers, repeats)]
    assert kinds == ["y_before_x", "shifted_classes", "duplicated_rows"]
    mend = ("--box", "yxhw", "--map", "shift:1", "--dedupe")
    assert boxes.fix == numbers.fix == repeats.fix
    assert boxes.fix[6:] == mend
    assert boxes.evidence["ap50_alone"] < 0.1
    assert boxes.ap50_then == numbers.ap50_then == repeats.ap50_now > boxes.ap50_now
    assert repeats.ap50_then == made.ap50(project, "right")
    assert made.follow(project, boxes) == repeats.ap50_then
    assert failed(project) == []


@pytest.mark.parametrize(
    ("layout", "change"),
    [
        ("xywh", lambda x, y, w, h, W, H: [x + 1, y + 1, w, h]),
        ("xyxy", lambda x, y, w, h, W, H: [x + 1, y + 1, x + w, y + h]),
    ],
)
def test_pixels_counted_from_one(tmp_path, layout, change):
    """The second is also in another order: the command says both."""
    truth = made.truth(images=40)
    project = made.project(tmp_path, truth)
    made.give(project, made.boxes(truth, made.good(truth, off=0.003), change))
    found = failed(project)
    assert found[-1].kind == "one_based_pixels"
    assert found[-1].fix[6:] == ("--box", layout, "--one-based")
    assert found[-1].evidence["medians"][:2] == pytest.approx([1, 1], abs=0.1)
    assert found[-1].ap_then > found[-1].ap_now
    assert made.follow(project, found[-1]) == found[-1].ap50_then
    assert failed(project) == []


def test_chance_on_two_objects_proposes_nothing(tmp_path):
    truth = made.truth(images=1, per_image=2, names=("a", "b"))
    project = made.project(tmp_path, truth)
    swapped = {1: 2, 2: 1}
    made.give(project, [{**r, "score": 0.9} for r in made.classes(
        [made.result(1, a["category_id"], a["bbox"], 1) for a in truth["annotations"]], swapped.get
    )])  # fmt: skip
    assert failed(project) == []
