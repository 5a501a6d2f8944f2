"""Rows that are odd by themselves or repeat each other, and scores."""

import numpy as np
import pytest

from ea_arrow.doctor import examine
from tests.doctor import made


@pytest.fixture
def data(tmp_path):
    truth = made.truth(images=30)
    return truth, made.good(truth), made.project(tmp_path, truth)


def only(project, kind, name="x"):
    found = examine(project, name)
    assert [finding.kind for finding in found] == [kind]
    return found[0]


def test_duplicates(data):
    _, results, project = data
    made.give(project, results + results[:50])
    made.give(project, results, "right")
    finding = only(project, "duplicated_rows")
    assert finding.severity == "warning"
    assert finding.evidence == {"rows": 50, "of": len(results) + 50}
    assert finding.ap50_now == made.ap50(project, "x")
    assert finding.ap50_then == made.ap50(project, "right") > finding.ap50_now
    assert finding.fix[-1] == "--dedupe"
    assert made.follow(project, finding) == finding.ap50_then
    assert examine(project, "x") == []


def test_a_duplicate_that_changes_nothing_is_a_note(data):
    _, results, project = data
    made.give(project, [*results, results[-1]])
    finding = only(project, "duplicated_rows")
    assert (finding.severity, finding.failed) == ("note", False)
    assert finding.message.startswith("1 row repeats an earlier one exactly (0.4 % of")


def test_rows_that_differ_in_one_column_are_no_duplicates(data):
    _, results, project = data
    first = results[0]
    one = {**first, "score": first["score"] / 2}
    other = {**first, "category_id": first["category_id"] % 6 + 1}
    made.give(project, [*results, one, other, {**first, "image_id": 30}])
    assert examine(project, "x") == []


def test_suppression_left_out(data):
    _, results, project = data
    rng = np.random.default_rng(0)
    more = [
        {**r, "bbox": [r["bbox"][0], r["bbox"][1], r["bbox"][2], r["bbox"][3] * f]}
        | {"score": r["score"] * f}
        for r in results
        for f in rng.uniform(0.95, 0.999, 2)
    ]
    made.give(project, results + more)
    made.give(project, results, "right")
    finding = only(project, "near_duplicates")
    assert finding.evidence["rows"] == len(more)
    assert finding.ap50_now == made.ap50(project, "x")
    assert finding.ap50_then == made.ap50(project, "right") > finding.ap50_now


@pytest.mark.parametrize("least", [0.05, 0.4])
def test_thresholded_scores(data, least):
    _, results, project = data
    made.give(project, [r for r in results if r["score"] >= least])
    found = examine(project, "x")
    assert found[0].kind == "thresholded_scores"
    assert found[0].evidence["lowest"] >= least
    assert "threshold of 0.001" in found[0].fix


def test_scores_below_the_threshold_are_none(data):
    _, results, project = data
    kept = [r for r in results if r["score"] >= 0.05]
    made.give(project, [*kept, {**results[0], "score": 0.0499}])
    assert examine(project, "x") == []


def test_scores_that_are_all_one(data):
    _, results, project = data
    made.give(project, [{**r, "score": 1.0} for r in results])
    finding = only(project, "equal_scores")
    assert finding.severity == "warning"
    assert "All 240 scores are 1" in finding.message


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda s: 100 * s, "scores_in_percent"),
        (lambda s: np.log(s / (1.001 - s)), "scores_beyond_one"),
        (lambda s: 1000 * s, "scores_beyond_one"),
        (lambda s: 1.2 * s, "scores_beyond_one"),
    ],
)
def test_scores_beyond_one_are_a_note(data, change, kind):
    _, results, project = data
    made.give(project, [{**r, "score": float(change(r["score"]))} for r in results])
    assert only(project, kind).severity == "note"


@pytest.mark.parametrize(("cap", "severity"), [(20, "warning"), (100, "note"), (21, None)])
def test_truncated_predictions(data, cap, severity):
    _, results, project = data
    rng = np.random.default_rng(3)
    noise = [
        made.result(
            i, 1 + n % 6, [*rng.uniform(0, 200, 2), *rng.uniform(5, 90, 2)], 0.01 * rng.random()
        )
        for i in range(1, 10)
        for n in range(cap - 8)
    ]
    made.give(project, results + noise)
    found = examine(project, "x")
    if severity is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.kind, finding.severity) == ("truncated_predictions", severity)
    assert finding.evidence == {"cap": cap, "data_units": 9, "of": 30}


def test_boxes_outside(data):
    _, results, project = data
    away = [made.result(i, 1, [700, 450, 60, 40], 0.9) for i in range(3, 13, 3)]  # 640 × 480
    upright = [made.result(i, 1, [310, 20, 100, 50], 0.9) for i in range(1, 10, 3)]  # 300 × 500
    made.give(project, results + away + upright)
    made.give(project, results, "right")
    finding = only(project, "boxes_outside")
    assert finding.severity == "warning"
    assert finding.evidence == {"rows": 7, "of": 247, "inside_if_exchanged": 3}
    assert "7 boxes lie mostly outside" in finding.message
    assert finding.ap50_then == made.ap50(project, "right")


def test_a_box_that_reaches_a_little_outside_is_fine(data):
    _, results, project = data
    made.give(project, [*results, made.result(3, 1, [600, 10, 79, 50], 0.01)])
    assert examine(project, "x") == []


def test_empty_boxes(data):
    _, results, project = data
    empty = [made.result(i, 1, [10, 10, 0, 20], 0.95) for i in range(1, 10)]
    made.give(project, results + empty)
    made.give(project, results, "right")
    finding = only(project, "empty_boxes")
    assert (finding.severity, finding.evidence["rows"]) == ("warning", 9)
    assert finding.ap50_then == made.ap50(project, "right") > finding.ap50_now


def mask(x, y, w, h, width, height):
    """An uncompressed RLE of a box of whole pixels."""
    filled = np.zeros((height, width), bool)
    filled[y : y + h, x : x + w] = True
    flat = filled.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0, append=0))
    counts = np.diff(np.concatenate([[0], edges, [len(flat)]]))
    return {"size": [height, width], "counts": counts.tolist()}


def test_boxes_apart_from_their_masks(data):
    truth, results, project = data
    sizes = {i["id"]: (i["width"], i["height"]) for i in truth["images"]}
    masked = []
    for r in results:
        x, y, w, h = (int(v) for v in r["bbox"])
        shape = mask(x, y, max(w, 1), max(h, 1), *sizes[r["image_id"]])
        masked.append({**r, "bbox": [x, y, max(w, 1), max(h, 1)], "segmentation": shape})
    made.give(project, masked, "right")
    assert examine(project, "right") == []
    wrong = [{**r, "bbox": [0, 0, 3, 3]} if i < 20 else r for i, r in enumerate(masked)]
    made.give(project, wrong)
    finding = only(project, "boxes_apart_from_masks")
    assert finding.evidence == {"rows": 20, "of": 240}
    assert finding.ap50_now == made.ap50(project, "x") < finding.ap50_then
    assert finding.ap50_then == made.ap50(project, "right")
    turned = [
        {**r, "bbox": [r["bbox"][0], r["bbox"][1], *np.add(r["bbox"][:2], r["bbox"][2:]).tolist()]}
        for r in masked
    ]
    made.give(project, turned, "corners")
    assert only(project, "corner_as_size", "corners").ap50_then == made.ap50(project, "right")


def test_refused_masks_cannot_be_tried(data):
    """Their rows are not kept whole: what is proposed may be worth more than is said."""
    truth, results, project = data
    sizes = {i["id"]: (i["width"], i["height"]) for i in truth["images"]}
    masked = []
    for r in results:
        shape = mask(*(int(v) for v in r["bbox"]), *sizes[r["image_id"]])
        rest = {key: value for key, value in r.items() if key != "bbox"}
        masked.append({**rest, "segmentation": shape})
    made.give(project, made.classes(masked, lambda k: k - 1))
    finding = only(project, "shifted_classes")
    lost = sum(r["category_id"] == 1 for r in masked)
    assert f" {lost} refused rows could not be tried" in finding.message
    assert made.follow(project, finding) > finding.ap50_then
