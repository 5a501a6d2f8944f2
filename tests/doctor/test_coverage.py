"""Data units and classes that predictions or labels lack."""

import json

import pytest

from ea_arrow.doctor import examine
from tests.doctor import made


@pytest.fixture
def data(tmp_path):
    truth = made.truth(images=20)
    return truth, made.good(truth), made.project(tmp_path, truth)


@pytest.mark.parametrize(("missing", "severity"), [(1, "note"), (2, "warning")])
def test_data_units_without_predictions(data, missing, severity):
    _, results, project = data
    some = [r for r in results if r["image_id"] > missing]
    made.give(project, some)
    (finding,) = examine(project, "x")
    assert (finding.kind, finding.severity) == ("data_units_without_predictions", severity)
    assert finding.evidence["data_units"] == missing
    assert finding.evidence["first"] == ["0001.jpg", "0002.jpg"][:missing]
    assert finding.ap50_now == made.ap50(project, "x")
    others = project.metrics("x", where=f"cast(source_id as int) > {missing}").to_arrow()
    assert finding.ap50_then == others.to_pylist()[1]["value"] > finding.ap50_now


def test_a_data_unit_without_labels_is_not_missing(tmp_path):
    truth = made.truth(images=20)
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] > 3]
    project = made.project(tmp_path, truth)
    made.give(project, made.good(truth))
    assert examine(project, "x") == []


@pytest.mark.parametrize(("missing", "severity"), [(1, "note"), (2, "warning")])
def test_classes_without_predictions(data, missing, severity):
    _, results, project = data
    made.give(project, [r for r in results if r["category_id"] > missing])
    (finding,) = examine(project, "x")
    assert (finding.kind, finding.severity) == ("classes_without_predictions", severity)
    assert finding.evidence["first"] == list(made.NAMES[:missing])
    assert finding.ap50_then == pytest.approx(finding.ap50_now * 6 / (6 - missing), abs=1e-12)


def test_missing_data_units_are_judged_as_the_rows_are_to_be_read(data):
    """Whoever numbers classes wrongly seems to lack data units; they come back with the classes."""
    _, results, project = data
    shifted = made.classes(results, lambda k: k - 1)
    made.give(project, [r for r in shifted if r["image_id"] != 4 or r["category_id"] == 0])
    assert [finding.kind for finding in examine(project, "x")] == ["shifted_classes"]


def test_data_units_named_in_two_ways(tmp_path):
    truth = made.truth(images=20)
    for image in truth["images"]:
        image["file_name"] = f"a/no{image['id']}.jpg"
    results, project = made.good(truth), made.project(tmp_path, truth)
    named = [{**r, "image_id": f"no{r['image_id']}.jpg"} for r in results[:40]]
    made.give(project, results[40:] + named)
    made.give(project, results[40:] + results[:40], "right")
    finding = examine(project, "x")[0]
    assert (finding.kind, finding.severity) == ("unknown_data_units", "warning")
    assert finding.evidence == {
        "rows": 40,
        "first": [f"no{i}.jpg" for i in range(1, 6)],
        "match": "name",
        "found": 40,
    }
    assert finding.ap50_now == made.ap50(project, "x") < finding.ap50_then
    assert finding.ap50_then == made.ap50(project, "right")
    assert "in one way" in finding.fix


@pytest.mark.parametrize(("number", "severity"), [(1, "note"), (20, "warning")])
def test_data_units_that_nothing_finds(data, number, severity):
    _, results, project = data
    strange = [{**results[i], "image_id": 900 + i} for i in range(number)]
    made.give(project, results + strange)
    (finding,) = examine(project, "x")
    assert (finding.kind, finding.severity) == ("unknown_data_units", severity)
    assert finding.evidence["rows"] == number
    assert "900" in finding.message
    assert "rejects" in finding.fix


def test_classes_that_the_project_lacks(data):
    _, results, project = data
    made.give(project, results + [{**r, "category_id": "cowe"} for r in results[:10]])
    (finding,) = examine(project, "x")
    assert (finding.kind, finding.severity) == ("unknown_classes", "warning")
    assert "cowe. Did you mean 'cow'?" in finding.message
    assert finding.evidence == {"rows": 10, "first": ["cowe"]}


def test_several_files_are_named_in_the_command(data):
    _, results, project = data
    folder = project.root.parent
    shifted = made.classes(results, lambda k: k - 1)
    for name, part in (("a.json", shifted[:70]), ("b.json", shifted[70:])):
        (folder / name).write_text(json.dumps(part))
    project.import_predictions([folder / "a.json", folder / "b.json"], "x")
    (finding,) = examine(project, "x")
    words = ("ea-arrow", "import", "a.json", "b.json", "--as", "x", "--replace")
    assert finding.fix == (*words, "--map", "shift:1")
    made.give(project, results, "right")
    assert finding.ap50_then == made.ap50(project, "right")
