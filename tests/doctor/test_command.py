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
    assert ran.stdout == "No mistakes found in 'good' (17 checks).\n"
    ran = run("good", "-v", "--project", project.root)
    assert "    the order of a box's four numbers\n" in ran.stdout


def test_a_mistake_is_named_with_its_ap50_and_command(project):
    ran = run("turned", "--project", project.root)
    assert ran.exit_code == 1
    lines = ran.stdout.splitlines()
    assert lines[0] == "1 mistake found in 'turned' (17 checks)."
    assert lines[1].startswith("  error y_before_x: Boxes are read as [left, top, width, height]")
    now, then = (made.ap50(project, name) for name in ("turned", "good"))
    assert lines[2] == f"    AP50 {now:.4f} → {then:.4f}"
    command = "ea-arrow import turned.json --as turned --replace --box yxhw"
    assert lines[3] == f"    fix: {command} --project {project.root}"
    assert len(lines) == 4


def test_all_iterations(project):
    ran = run("--project", project.root)
    assert ran.exit_code == 1
    assert "No mistakes found in 'good'" in ran.stdout
    assert "1 mistake found in 'turned'" in ran.stdout


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
    assert "> classes.json && ea-arrow import x.json" in ran.stdout


def test_without_iterations(tmp_path):
    project = made.project(tmp_path, made.truth())
    ran = run("--project", project.root)
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "No iterations yet" in ran.stderr
