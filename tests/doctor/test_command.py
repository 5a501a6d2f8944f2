"""``ea-arrow doctor``."""

import json

import pytest
from click.testing import CliRunner

from ea_arrow.cli.doctor import doctor
from tests.doctor import made


def run(*arguments):
    return CliRunner().invoke(doctor, [str(a) for a in arguments])


@pytest.fixture
def project(tmp_path):
    truth = made.truth()
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    made.give(project, results, "good")
    made.give(project, made.boxes(truth, results, lambda x, y, w, h, W, H: [y, x, h, w]), "turned")
    return project


def test_all_is_well(project):
    ran = run("good", "--project", project.root)
    assert ran.exit_code == 0
    assert ran.stdout == "No mistakes found in 'good' (20 checks).\n"
    ran = run("good", "-v", "--project", project.root)
    assert "    the order of a box's four numbers\n" in ran.stdout


def test_a_mistake_is_named_with_its_ap50_and_command(project):
    ran = run("turned", "--project", project.root)
    assert ran.exit_code == 1
    lines = ran.stdout.splitlines()
    assert lines[0] == "1 mistake found in 'turned' (20 checks)."
    assert lines[1].startswith("  error y_before_x: Boxes are read as [left, top, width, height]")
    now, then = (made.ap50(project, name) for name in ("turned", "good"))
    assert lines[2] == f"    AP50 {now:.4f} → {then:.4f}"
    command = "ea-arrow import turned.json --as turned --replace --box yxhw"
    assert lines[3] == f"    fix: {command} --project {project.root}"
    assert len(lines) == 4


def test_all_iterations(project):
    ran = run("--project", project.root)
    assert ran.exit_code == 1
    lines = ran.stdout.splitlines()
    assert (
        lines[0] == "1 mistake found in 'turned' (20 checks)."
    )  # good has none: the table says so
    good, turned = (f"{made.ap50(project, name):.4f}" for name in ("good", "turned"))
    assert lines[-4].split() == ["iteration", "AP50", "errors", "warnings", "notes"]
    assert lines[-2].split() == ["good", good, "0", "0", "0"]
    assert lines[-1].split() == ["turned", turned, "1", "0", "0"]


def test_notes_are_shown_of_one_iteration_or_when_asked_for(tmp_path):
    truth = made.truth(images=20)
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    some = [r for r in results if r["image_id"] > 1]
    made.give(project, some, "a")
    made.give(project, made.boxes(truth, some, lambda x, y, w, h, W, H: [y, x, h, w]), "b")
    note = "note data_units_without_predictions"
    several = run("--project", project.root)
    assert note not in several.stdout
    assert several.stdout.splitlines()[-2].split()[-3:] == ["0", "0", "1"]
    assert "2 notes not shown; -v shows them." in several.stderr
    assert run("--project", project.root, "-v").stdout.count(note) == 2
    assert note in run("a", "--project", project.root).stdout


def test_a_number_that_does_not_change_is_printed_once(tmp_path):
    truth = made.truth()
    project = made.project(tmp_path, truth)
    results = made.good(truth)
    made.give(project, [*results, results[-1]])
    ran = run("x", "--project", project.root)
    assert "warning duplicated_rows" in ran.stdout
    assert f"    AP50 {made.ap50(project, 'x'):.4f}\n" in ran.stdout


def test_of_masks_it_is_the_ap50_of_their_boxes(tmp_path):
    truth = made.truth()
    project = made.project(tmp_path, truth)
    polygons = []
    for r in made.classes(made.good(truth), lambda k: max(k - 1, 1)):
        x, y, w, h = r.pop("bbox")
        polygons.append({**r, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})
    made.give(project, polygons)
    now = made.ap50(project, "x")
    assert f"    AP50 of boxes {now:.4f} → " in run("x", "--project", project.root).stdout


def test_what_a_fix_says_can_be_pasted(project, monkeypatch):
    folder = project.root.parent
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    command = (
        f"ea-arrow import ../turned.json --as turned --replace --box yxhw --project {project.root}"
    )
    assert f"    fix: {command}\n" in run("turned", "--project", project.root).stdout
    (folder / "turned.json").unlink()
    said = run("turned", "--project", project.root).stdout
    assert "    fix: ea-arrow import turned.json --as" in said
    assert "      (turned.json: where the file is now)\n" in said


def test_json(project):
    ran = run("--project", project.root, "--format", "json")
    assert ran.exit_code == 1
    good, turned = json.loads(ran.stdout)
    assert (good["iteration"], good["findings"]) == ("good", [])
    (finding,) = turned["findings"]
    assert finding["kind"] == "y_before_x"
    assert finding["ap50_then"] == good["ap50"] == made.ap50(project, "good")
    assert finding["fix"][-2:] == ["--box", "yxhw"]
    assert finding["file"] is None


def test_a_file_for_the_command_is_written_by_it(tmp_path):
    truth = made.truth(names=("it's", "a", "b", "c", "d", "e"))
    project = made.project(tmp_path, truth)
    order = sorted(c["name"] for c in truth["categories"])
    number = {c["id"]: order.index(c["name"]) for c in truth["categories"]}
    made.give(project, made.classes(made.good(truth), number.get))
    ran = run("x", "--project", project.root)
    assert "class_order" in ran.stdout
    assert 'fix: printf %s \'{"0": "a"' in ran.stdout
    assert "> classes-x.json && ea-arrow import x.json" in ran.stdout
    (tmp_path / "classes-x.json").write_text("mine")
    assert "> classes-x-2.json && ea-arrow" in run("x", "--project", project.root).stdout


def test_without_iterations(tmp_path):
    project = made.project(tmp_path, made.truth())
    ran = run("--project", project.root)
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "No iterations yet" in ran.stderr
