"""Scores and classes as wholes, and predictions that nothing explains."""

import pytest

from ea_arrow.doctor import examine
from tests.doctor import made


@pytest.fixture
def data(tmp_path):
    truth = made.truth(images=30)
    return truth, made.good(truth), made.project(tmp_path, truth)


@pytest.mark.parametrize("turned", [lambda s: 1 - s, lambda s: 40 * (1 - s), lambda s: -s])
def test_scores_that_rank_the_worst_first(data, turned):
    _, results, project = data
    made.give(project, [{**r, "score": turned(r["score"])} for r in results])
    made.give(project, results, "right")
    finding = next(f for f in examine(project, "x") if f.severity == "error")
    assert finding.kind == "inverted_scores"
    assert finding.ap50_now == made.ap50(project, "x")
    assert finding.ap50_then == made.ap50(project, "right") > finding.ap50_now + 0.05


@pytest.mark.parametrize("only", [1, 4])
def test_one_class_for_all(data, only):
    truth, results, project = data
    made.give(project, made.classes(results, lambda k: only))
    (finding,) = examine(project, "x")
    assert (finding.kind, finding.severity) == ("one_class_for_all", "error")
    assert finding.evidence["class"] == made.NAMES[only - 1]
    assert finding.evidence["recall_of_others"] > 0.9
    one = {**truth, "categories": [{"id": 1, "name": "any"}]}
    one["annotations"] = [{**a, "category_id": 1} for a in truth["annotations"]]
    merged = made.project(project.root.parent / "merged", one)
    made.give(merged, made.classes(results, lambda k: 1))
    assert finding.ap50_then == made.ap50(merged, "x")


def test_a_model_of_one_class_is_none(data):
    _, results, project = data
    made.give(project, [r for r in results if r["category_id"] == 2])
    kinds = {f.kind for f in examine(project, "x")}
    assert "classes_without_predictions" in kinds
    assert not kinds & {"one_class_for_all", "nothing_fits"}


def test_a_project_of_one_class(tmp_path):
    truth = made.truth(names=("a",), images=30, per_image=1)
    project = made.project(tmp_path, truth)
    made.give(project, made.good(truth))
    assert examine(project, "x") == []


@pytest.mark.parametrize("seed", range(4))
def test_nothing_fits(tmp_path, seed):
    """Each image has the predictions of another: no reading explains that, and none is blamed."""
    truth = made.truth(seed, images=30)
    project = made.project(tmp_path, truth)
    mixed = [{**r, "image_id": r["image_id"] % 30 + 1} for r in made.good(truth, seed)]
    made.give(project, mixed)
    assert made.ap50(project, "x") < 0.1
    found = examine(project, "x")
    assert [f.kind for f in found if f.severity == "error"] == []
    finding = next(f for f in found if f.kind == "nothing_fits")
    assert (finding.ap50_now, finding.ap50_then) == (made.ap50(project, "x"), None)
    assert f"({finding.evidence['trials']} trials)" in finding.message
    for command in ("ea-arrow matches x", "ea-arrow errors x", "from rejects"):
        assert command in finding.fix


def test_positions_are_doubted_first(data):
    _, results, project = data
    shifted = [{**r, "image_id": r["image_id"] % 30} for r in results]
    made.give(project, shifted, match="position")  # image 1 is at position 0
    made.give(project, [{**r, "image_id": (r["image_id"] + 7) % 30} for r in results], "y",
              match="position")  # fmt: skip
    finding = next(f for f in examine(project, "y") if f.kind == "nothing_fits")
    assert finding.fix.startswith("Data units were matched by their position")


def test_where_boxes_fit_the_classes_are_doubted(data):
    """No numbering that is tried does this: 1 → 4 → 2 → 6 → 1, 3 and 5 exchanged."""
    _, results, project = data
    other = {1: 4, 4: 2, 2: 6, 6: 1, 3: 5, 5: 3}
    made.give(project, made.classes(results, other.get))
    finding = next(f for f in examine(project, "x") if f.kind == "nothing_fits")
    assert finding.fix.startswith("The boxes fit, the classes do not")
    assert finding.evidence["ap50_without_classes"] > 0.5
