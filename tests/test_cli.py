"""The command line through its real entry point."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ea_arrow
from ea_arrow import BoundingBox, Format, ObjectDetection, Prediction
from tests.builders import GROUND_TRUTH, RESULTS, make_project

EA_ARROW = str(Path(sys.executable).with_name("ea-arrow"))


def run(*arguments: str | Path, cwd: Path, given: str | None = None) -> Any:
    return subprocess.run(
        [EA_ARROW, *map(str, arguments)],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def done(*arguments: str | Path, cwd: Path, given: str | None = None) -> Any:
    ran = run(*arguments, cwd=cwd, given=given)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with gt.json, results.json and a project in p."""
    (tmp_path / "gt.json").write_text(json.dumps(GROUND_TRUTH))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    done("init", "p", "--labels", "gt.json", cwd=tmp_path)
    return tmp_path


def write_pickle(folder: Path) -> Path:
    project = ea_arrow.open(folder / "p")
    unit = next(u for u in project.data_units if u["source_id"] == "1")
    known = {c["name"]: c["feature_hash"] for c in project.classes}
    predictions = [
        Prediction(
            data_hash=unit["data_hash"],
            confidence=0.9,
            object=ObjectDetection(
                format=Format.BOUNDING_BOX,
                data=BoundingBox(x=0.1, y=0.2, w=0.2, h=0.4),
                feature_hash=known["cat"],
            ),
        )
    ]
    path = folder / "preds.pkl"
    path.write_bytes(pickle.dumps(predictions))
    return path


def test_main_job(folder: Path) -> None:
    imported = done("import", write_pickle(folder), "--project", "p", cwd=folder)
    assert "Imported 1 prediction as 'preds'" in imported.stderr
    assert "read            1" in imported.stderr
    assert "kept            1" in imported.stderr
    printed = done("metrics", "--project", "p", "--format", "json", cwd=folder)
    rows = json.loads(printed.stdout)
    assert [r["metric"] for r in rows] == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
    ]
    asked = "select outcome, count(*) as n from matches group by all order by all"
    answer = done("query", asked, "--project", "p", "--format", "csv", cwd=folder)
    assert answer.stdout == "outcome,n\nFN,2\nTP,1\n"


def test_import_predictions_is_the_same_command(folder: Path) -> None:
    done("import", "predictions", "results.json", "--project", "p", cwd=folder)
    assert list(ea_arrow.open(folder / "p").iterations) == ["results"]


def test_import_prints_where_it_belongs(folder: Path) -> None:
    imported = done("import", "../results.json", cwd=folder / "p")
    assert imported.stdout.startswith("results")
    assert "AP " in imported.stdout
    assert "read            3" not in imported.stdout
    quiet = done("import", "../results.json", "--as", "b", "--no-metrics", cwd=folder / "p")
    assert quiet.stdout == ""


def test_existing_iteration(folder: Path) -> None:
    done("import", "results.json", "--project", "p", cwd=folder)
    again = run("import", "results.json", "--project", "p", cwd=folder)
    assert again.returncode == 2
    assert again.stderr == (
        "Error: Iteration 'results' is already there; nothing was written.\n"
        "Give another name with --as, or use --append or --replace.\n"
    )
    for option, rows in (("--append", 6), ("--replace", 3)):
        done("import", "results.json", "--project", "p", option, cwd=folder)
        assert len(ea_arrow.open(folder / "p").predictions("results")) == rows
    both = run("import", "results.json", "--append", "--replace", "--project", "p", cwd=folder)
    assert both.returncode == 2
    assert "exclude each other" in both.stderr


def test_strict_and_dry_run(folder: Path) -> None:
    stray = [*RESULTS, {**RESULTS[0], "image_id": 5}]
    (folder / "stray.json").write_text(json.dumps(stray))
    dry = done("import", "stray.json", "--dry-run", "--project", "p", cwd=folder)
    assert "Dry run, nothing was written" in dry.stderr
    strict = run("import", "stray.json", "--strict", "--project", "p", cwd=folder)
    assert strict.returncode == 1
    assert "refused         1  data unit is not in the project (row 3)\n" in strict.stderr
    assert "first: No data unit '5' with frame 0 in the project." in strict.stderr
    assert not ea_arrow.open(folder / "p").iterations
    loose = done("import", "stray.json", "--project", "p", cwd=folder)
    assert "select * from rejects" in loose.stderr


def test_ls_show_rm(folder: Path) -> None:
    empty = done("ls", cwd=folder / "p")
    assert "No iterations yet" in empty.stderr
    done("import", "../results.json", "--model", "yolo", "--as", "007", cwd=folder / "p")
    [listed] = json.loads(done("ls", "--format", "json", cwd=folder / "p").stdout)
    assert listed["iteration"] == "007"
    assert listed["predictions"] == 3
    assert listed["model"] == "yolo"
    assert listed["AP"] is not None
    shown = done("show", "007", cwd=folder / "p").stdout
    assert "results.json" in shown
    assert "read 3, kept 3, none refused" in shown
    removed = done("rm", "007", cwd=folder / "p")
    [_, code] = removed.stderr.splitlines()
    read = subprocess.run(
        [sys.executable, "-c", f"import ea_arrow; print(len({code.strip()}))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout == "3\n"
    assert "removed" in done("show", "007", cwd=folder / "p").stdout
    assert "Deleted" in done("compact", "--keep-hours", "0", cwd=folder / "p").stderr


def test_metrics_of_one_of_all_and_by_class(folder: Path) -> None:
    for name in ("a", "b"):
        done("import", "../results.json", "--as", name, "--no-metrics", cwd=folder / "p")
    one = done("metrics", "a", cwd=folder / "p").stdout
    assert one.splitlines()[0].split() == [
        "a",
        "value",
        "IoU",
        "area",
        "max",
        "detections",
        "labels",
    ]
    assert len(one.splitlines()) == 14
    side_by_side = done("metrics", cwd=folder / "p").stdout.splitlines()
    assert [line.split()[0] for line in side_by_side[2:]] == ["a", "b"]
    by_class = done("metrics", "a", "--by", "class", cwd=folder / "p").stdout.splitlines()
    assert [line.split()[0] for line in by_class[2:]] == ["cat", "dog"]
    rows = json.loads(
        done("metrics", "a", "--by", "class", "--format", "json", cwd=folder / "p").stdout
    )
    assert {r["class"] for r in rows} == {"cat", "dog"}
    assert len(rows) == 24


def test_label_id_zero_is_said_aloud(tmp_path: Path) -> None:
    annotations = [{**a, "id": a["id"] - 1} for a in GROUND_TRUTH["annotations"]]
    (tmp_path / "gt.json").write_text(json.dumps({**GROUND_TRUTH, "annotations": annotations}))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    done("init", "p", "--labels", "gt.json", cwd=tmp_path)
    imported = done("import", "results.json", "--project", "p", cwd=tmp_path)
    assert "A label has the id 0, which pycocotools never counts as found" in imported.stderr


def test_query_from_file_and_standard_input(folder: Path) -> None:
    (folder / "q.sql").write_text("select count(*) as n from labels;")
    for arguments, given in (
        (("-f", "q.sql"), None),
        (("-f", "-"), "select count(*) as n from labels"),
    ):
        answer = done(
            "query", *arguments, "--project", "p", "--format", "json", cwd=folder, given=given
        )
        assert json.loads(answer.stdout) == [{"n": 3}]
    neither = run("query", "--project", "p", cwd=folder)
    assert neither.returncode == 2
    assert "Give either a query or --file" in neither.stderr


def test_query_cannot_write(folder: Path) -> None:
    refused = run("query", "copy (select 1) to 'x.csv'", "--project", "p", cwd=folder)
    assert refused.returncode == 2
    assert "Only SELECT is allowed" in refused.stderr
    assert not (folder / "x.csv").exists()


def test_ontology_lists_classes_of_equal_names(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "cat"}]
    (tmp_path / "gt.json").write_text(
        json.dumps({"images": [], "annotations": [], "categories": categories})
    )
    done("init", "p", "--labels", "gt.json", cwd=tmp_path)
    for command in (["ontology"], ["print", "ontology"]):
        rows = json.loads(done(*command, "--format", "json", "--project", "p", cwd=tmp_path).stdout)
        assert [r["name"] for r in rows] == ["cat", "cat"]
        assert len({r["feature_hash"] for r in rows}) == 2
        assert [r["source_id"] for r in rows] == ["0", "1"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["improt", "x"], "Did you mean 'import'?"),
        (["import", "nothing.pkl", "--project", "p"], "no such file"),
        (["import", "results.json"], "there is no ea-arrow project here"),
        (["import", "results.json", "--as", "a b", "--project", "p"], "--as a-b"),
        (["metrics", "nope", "--project", "p"], "There is no iteration 'nope'"),
        (["show", "nope", "--project", "p"], "There is no iteration 'nope'"),
        (["rm", "nope", "--project", "p"], "There is no iteration 'nope'"),
        (["init", "p", "--labels", "gt.json"], "there is a project already"),
        (["init", "q", "--labels", "results.json"], "looks like predictions"),
        (["query", "select * from nope", "--project", "p"], "nope"),
        (["query", "selekt", "--project", "p"], "selekt"),
        (["metrics", "--format", "yaml", "--project", "p"], "yaml"),
    ],
)
def test_errors_say_what_and_what_next(folder: Path, arguments: list[str], says: str) -> None:
    failed = run(*arguments, cwd=folder)
    assert failed.returncode == 2
    assert says in failed.stderr
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr
    assert "Internal error" not in failed.stderr


def test_debug_shows_the_traceback(folder: Path) -> None:
    failed = run("import", "nothing.pkl", "--project", "p", "--debug", cwd=folder)
    assert "Traceback" in failed.stderr


def test_hostile_pickle_is_named_and_leaves_the_project_alone(folder: Path) -> None:
    trace = folder / "trace"
    payload = b"\x80\x04]\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(f"touch {trace}")])
    payload += f"touch {trace}".encode() + b"\x85Ra."
    (folder / "evil.pkl").write_bytes(payload)
    refused = run("import", "evil.pkl", "--project", "p", cwd=folder)
    assert refused.returncode == 2
    assert "refused at byte" in refused.stderr
    assert "'os.system'" in refused.stderr
    assert not trace.exists()
    assert not ea_arrow.open(folder / "p").iterations


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    done("import", "results.json", "--project", "p", cwd=folder)
    command = f"{EA_ARROW} query 'from range(200000)' --format ndjson --project p | head -1"
    ran = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == {"range": 0}
    assert ran.stderr == ""


def test_every_command_has_help_with_an_example() -> None:
    listed = subprocess.run([EA_ARROW, "--help"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in listed.partition("Commands:")[2].splitlines() if line]
    assert {"init", "import", "metrics", "query", "demo", "ls", "show", "rm"} <= set(names)
    for name in set(names) - {"print"}:
        shown = subprocess.run(
            [EA_ARROW, name, "--help"], capture_output=True, text=True, check=True
        )
        assert f"ea-arrow {name}" in shown.stdout.partition("Example")[2], name


def test_show_tells_a_partial_iteration_from_a_whole_one(tmp_path: Path) -> None:
    project = make_project(tmp_path, results=RESULTS, name="whole")
    [unit, *_] = [row["data_hash"] for row in project.data_units]
    with contextlib.suppress(ValueError), project.writer(
        "half", partial=True, parameters={"conf": 0.25}
    ) as writer:  # fmt: skip
        box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
        writer.add_prediction(unit, project.classes.to_arrow()["feature_hash"][0].as_py(), 0.5, box)
        raise ValueError("boom")
    shown = done("show", "half", cwd=tmp_path).stdout
    assert "half (live, partial: " in shown
    assert "boom" in shown
    assert "conf: 0.25" in shown
    assert "(live)" in done("show", "whole", cwd=tmp_path).stdout
