"""Where an export goes, what it replaces, and that it is whole or not there."""

import json
import shlex

import pytest
from click.testing import CliRunner

import ea_arrow
from ea_arrow.cli.export import FORMATS
from ea_arrow.cli.export import export as command
from ea_arrow.cli.projects import init
from ea_arrow.exporting import TARGETS, export
from ea_arrow.exports import kitti
from tests.builders import RESULTS, make_project
from tests.exports.rows import project_with


@pytest.fixture
def project(tmp_path):
    return project_with(tmp_path / "p", RESULTS)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_command_knows_every_target():
    assert list(TARGETS) == list(FORMATS)
    assert all(TARGETS.values())


@pytest.mark.parametrize("to", TARGETS)
def test_what_is_there_stays_unless_it_is_to_be_overwritten(project, tmp_path, to):
    first = export(project, "base", to, tmp_path / "out")
    before = {p: p.read_bytes() for p in (tmp_path / "out").parent.rglob("*") if p.is_file()}
    with pytest.raises(ea_arrow.EaArrowError, match="is there already"):
        export(project, "base", to, tmp_path / "out")
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert export(project, "base", to, tmp_path / "out", overwrite=True) == first
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert entries(tmp_path) == ["out", "p"]


def test_a_directory_of_other_things_is_never_overwritten(project, tmp_path):
    mine = tmp_path / "out"
    mine.mkdir()
    (mine / "photo.jpg").write_text("mine")
    with pytest.raises(ea_arrow.EaArrowError, match=r"what no export wrote: photo\.jpg"):
        export(project, "base", "yolo", mine, overwrite=True)
    (mine / "photo.jpg").unlink()
    export(project, "base", "yolo", mine)  # an empty one may be used
    (mine / "images").mkdir()
    with pytest.raises(ea_arrow.EaArrowError, match="what no export wrote: images"):
        export(project, "base", "yolo", mine, overwrite=True)
    assert entries(mine) == [".ea-arrow-export", "data.yaml", "images", "labels"]


def test_a_file_is_not_replaced_by_a_directory_nor_the_reverse(project, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ea_arrow.EaArrowError, match="is a file; yolo is a directory"):
        export(project, "base", "yolo", tmp_path / "file", overwrite=True)
    with pytest.raises(ea_arrow.EaArrowError, match="is a directory; coco is a file"):
        export(project, "base", "coco", tmp_path / "folder", overwrite=True)


def test_the_projects_own_files_are_safe(project):
    with pytest.raises(ea_arrow.EaArrowError, match="inside of a project's own files"):
        export(project, "base", "coco", project.root / ".ea-arrow" / "out.json")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError, OSError])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_nothing_new(project, tmp_path, monkeypatch, interrupt, exists):
    place = tmp_path / "new" / "deep" / "out"
    if exists:
        export(project, "base", "kitti", place)
    before = sorted(p for p in tmp_path.rglob("*") if "p" not in p.relative_to(tmp_path).parts)

    def fail(*_):
        raise interrupt

    monkeypatch.setattr(kitti, "joined", fail)
    expected = ea_arrow.EaArrowError if interrupt is OSError else interrupt
    with pytest.raises(expected):
        export(project, "base", "kitti", place, overwrite=True)
    assert before == sorted(
        p for p in tmp_path.rglob("*") if "p" not in p.relative_to(tmp_path).parts
    )


def test_an_unwritable_place_is_told(project, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ea_arrow.EaArrowError, match="cannot be written"):
        export(project, "base", "coco", tmp_path / "file" / "out.json")


def test_unknown_names_are_told(project, tmp_path):
    with pytest.raises(ea_arrow.EaArrowError, match="There is no iteration 'bas'"):
        export(project, "bas", "coco", tmp_path / "out")
    with pytest.raises(ea_arrow.EaArrowError, match="'coc' cannot be exported to") as told:
        export(project, "base", "coc", tmp_path / "out")
    assert told.value.hint == "Did you mean 'coco'?"
    with pytest.raises(ea_arrow.EaArrowError, match="'coco' has no option 'task'"):
        export(project, "base", "coco", tmp_path / "out", options={"task": "detect"})
    with pytest.raises(ea_arrow.EaArrowError, match="'yolo' is 'pose'"):
        export(project, "base", "yolo", tmp_path / "out", options={"task": "pose"})
    assert entries(tmp_path) == ["p"]


def test_an_export_of_which_nothing_is_left_is_an_error(tmp_path):
    from tests.builders import make_encord_project

    project = make_encord_project(tmp_path / "p")
    answer = ea_arrow.FrameClassification(
        feature_hash="scene", attribute_hash="weather", option_hash="sun"
    )
    with project.writer("base") as writer:
        writer.add_prediction(
            ea_arrow.Prediction(data_hash="film", confidence=1, classification=answer)
        )
    with pytest.raises(
        ea_arrow.EaArrowError, match="None of the rows can be written as coco: 1 class"
    ):
        export(project, "base", "coco", tmp_path / "out")
    assert entries(tmp_path) == ["p"]


def test_a_link_is_followed(project, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(project, "base", "yolo", tmp_path / "link")
    export(project, "base", "yolo", tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert "data.yaml" in entries(tmp_path / "real")


# -- the command -------------------------------------------------------------------------------


def run(project, *arguments):
    return CliRunner().invoke(command, [*arguments, "--project", str(project.root)])


def test_the_command_prints_an_account_and_the_next_step(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(project, "base", "--to", "yolo")
    assert done.exit_code == 0, done.output
    lines = done.stderr.splitlines()
    assert lines[0] == f"Exported 'base' to {tmp_path / 'base-yolo'} (3 files)"
    assert lines[1].split() == ["written", "3"]
    assert lines[-1] == (
        f"Next: ea-arrow import {tmp_path / 'base-yolo'} --as base-again --format yolo "
        f"--option task=detect --option columns=conf --project {project.root}"
    )
    assert not done.stdout


def test_the_command_without_a_name_writes_the_labels(project, tmp_path):
    done = run(project, "--to", "coco", "--out", str(tmp_path / "gt.json"))
    assert done.exit_code == 0, done.output
    assert len(json.loads((tmp_path / "gt.json").read_text())["annotations"]) == 3
    assert "Exported the labels" in done.stderr
    assert f"Next: ea-arrow init NEW-PROJECT --labels {tmp_path / 'gt.json'}" in done.stderr


@pytest.mark.parametrize("to", ["yolo", "kitti"])
def test_the_next_step_of_labels_takes_the_sizes_beside_them(project, tmp_path, monkeypatch, to):
    monkeypatch.chdir(tmp_path)
    done = run(project, "--to", to, "--out", "out")
    last = done.stderr.splitlines()[-1]
    place = tmp_path / "out"
    assert last == (
        f"Next: ea-arrow init NEW-PROJECT --labels {place} --format {to} "
        f"--option sizes={place / 'sizes.csv'}"
    )
    words = shlex.split(last.removeprefix("Next: ea-arrow init "))
    assert CliRunner().invoke(init, words, catch_exceptions=False).exit_code == 0
    labels = ea_arrow.open(tmp_path / "NEW-PROJECT").labels
    assert len(labels) == len(project.labels)


def test_the_command_takes_options(project, tmp_path):
    place = str(tmp_path / "x.pkl")
    done = run(
        project, "base", "--to", "pickle", "--out", place, "--option", "classes=encord_active"
    )
    assert done.exit_code == 0, done.output
    assert b"encord_active" in (tmp_path / "x.pkl").read_bytes()
    wrong = run(project, "base", "--to", "pickle", "--option", "classes")
    assert wrong.exit_code == 2
    assert "'classes': expected NAME=VALUE" in wrong.stderr
    spaced = "classes = encord_active"
    again = run(project, "base", "--to", "pickle", "--out", f"{place}2", "-o", spaced)
    assert again.exit_code == 0, again.output
    assert (tmp_path / "x.pkl2").read_bytes() == (tmp_path / "x.pkl").read_bytes()


def test_counts_are_printed(tmp_path):
    rows = [*RESULTS, RESULTS[0] | {"segmentation": [[1, 1, 2, 1, 2, 2]]}]
    project = project_with(tmp_path / "q", rows)
    done = run(project, "base", "--to", "kitti", "--out", str(tmp_path / "out"))
    assert "  note                1  polygons written as their boxes" in done.stderr


def test_the_same_name_may_be_exported_to_several_formats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = make_project(tmp_path / "p")
    for to in ("coco", "yolo", "kitti", "parquet", "csv"):
        export(project, None, to)
    assert entries(tmp_path) == [
        "labels-kitti", "labels-parquet", "labels-yolo", "labels.csv", "labels.json", "p",
    ]  # fmt: skip


def test_a_file_of_mine_below_an_export_is_not_deleted(project, tmp_path):
    export(project, "base", "yolo", tmp_path / "out")
    mine = tmp_path / "out" / "labels" / "my-notes.txt"
    mine.write_text("keep me")
    with pytest.raises(
        ea_arrow.EaArrowError, match=r"holds what no export wrote: labels/my-notes.txt"
    ):
        export(project, "base", "yolo", tmp_path / "out", overwrite=True)
    assert mine.read_text() == "keep me"
    mine.unlink()
    export(project, "base", "yolo", tmp_path / "out", overwrite=True)
