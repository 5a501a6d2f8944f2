"""Formats, options of reading, labels and quality through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ea_arrow.sources.registry import LABELS, PREDICTIONS
from tests.builders import GROUND_TRUTH, RESULTS

COMMAND = Path(sys.executable).with_name("ea-arrow")


def run(*arguments, cwd):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def done(*arguments, cwd, code=0):
    ran = run(*arguments, cwd=cwd)
    assert ran.returncode == code, ran.stderr
    return ran


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A project of COCO ground truth with one iteration, and files beside it."""
    folder = tmp_path_factory.mktemp("place")
    write(folder / "gt.json", GROUND_TRUTH)
    write(folder / "x.json", RESULTS)
    done("init", "p", "--labels", "gt.json", cwd=folder)
    done("import", "../x.json", cwd=folder / "p")
    return folder / "p"


def test_every_format_is_listed_and_explained(tmp_path):
    listed = json.loads(done("formats", "--format", "json", cwd=tmp_path).stdout)
    assert {row["format"] for row in listed} >= {*PREDICTIONS, *LABELS}
    for name in {*PREDICTIONS, *LABELS}:
        told = done("formats", name, cwd=tmp_path).stdout
        for known in (PREDICTIONS.get(name), LABELS.get(name)):
            if known is not None:
                assert known.example.splitlines()[0] in told
                assert all(option.name in told for option in known.options)
    wrong = done("formats", "yollo", cwd=tmp_path, code=2)
    assert "Did you mean 'yolo'?" in wrong.stderr


def test_ways_to_read_are_options(place):
    rows = [row | {"category_id": row["category_id"] - 1} for row in RESULTS]
    for row in rows:
        x, y, w, h = row["bbox"]
        row["bbox"] = [y, x, y + h, x + w]
    write(place / "odd.json", [*rows, rows[0]])
    options = ("--box", "yxyx", "--map", "shift:1", "--dedupe", "--no-metrics")
    ran = done("import", "odd.json", *options, cwd=place)
    assert "refused         1  exact duplicate of a row that is there, dropped" in ran.stderr
    told = done("show", "odd", cwd=place).stdout
    assert "coco --map shift:1 --box yxyx --dedupe" in told
    sql = "select iteration, bbox_x, bbox_w from predictions order by prediction_id, iteration"
    found = json.loads(done("query", sql, "--format", "json", cwd=place).stdout)
    given = [(row["bbox"][0], row["bbox"][2]) for row in RESULTS]
    assert [(r["bbox_x"], r["bbox_w"]) for r in found if r["iteration"] == "odd"] == given


def test_another_numbering_is_proposed_and_not_applied(place):
    rows = [row | {"category_id": row["category_id"] - 1} for row in RESULTS]
    write(place / "shifted.json", rows)
    ran = run("import", "shifted.json", "--no-metrics", cwd=place)
    assert "--map shift:1" in ran.stderr
    wrong = done("import", "shifted.json", "--as", "y", "--map", "shift:x", cwd=place, code=2)
    assert "--map takes a file" in wrong.stderr


def test_an_option_that_is_none_is_refused(place):
    wrong = done("import", "../x.json", "--as", "y", "-o", "colour=red", cwd=place, code=2)
    assert "Format 'coco' has no option 'colour'" in wrong.stderr
    wrong = done("import", "../x.json", "--as", "y", "-o", "colour", cwd=place, code=2)
    assert "expected NAME=VALUE" in wrong.stderr
    wrong = done("import", "../x.json", "--as", "y", "--match", "colour", cwd=place, code=2)
    assert "colour" in wrong.stderr


def test_labels_are_added_and_accounted_for(tmp_path):
    write(tmp_path / "gt.json", GROUND_TRUTH)
    done("init", "p", "--labels", "gt.json", cwd=tmp_path)
    more = {"image_id": 2, "category_id": 2, "bbox": [5, 5, 10, 10], "id": 9}
    write(tmp_path / "p/more.json", GROUND_TRUTH | {"annotations": [more]})
    ran = done("labels", "add", "more.json", cwd=tmp_path / "p")
    assert "Added 1 label." in ran.stderr
    again = done("labels", "add", "more.json", "--strict", cwd=tmp_path / "p", code=1)
    assert "1 of 1 labels were refused" in again.stderr
    newer = done("labels", "add", "more.json", "--replace", cwd=tmp_path / "p")
    assert "Added 1 label, dropped 4 older." in newer.stderr


def test_quality_is_summarised_and_printed_whole(place):
    summary = json.loads(done("quality", "x", "--format", "json", cwd=place).stdout)
    areas = next(row for row in summary if row["metric"] == "object_area_absolute")
    assert (areas["rows"], areas["lowest"], areas["highest"]) == (3, 25, 300800)
    ran = done("quality", "x", "--rows", "--only", "object_count", "--format", "csv", cwd=place)
    assert ran.stdout.splitlines()[0] == "iteration,prediction_id,data_hash,frame,object_count"
    assert "entropy" in done("quality", "x", cwd=place).stderr  # no values of it here
    wrong = done("quality", "x", "--only", "object_cuont", cwd=place, code=2)
    assert "Did you mean 'object_count'?" in wrong.stderr


def test_images_are_measured_with_one_line_for_those_that_cannot_be(place, tmp_path):
    from PIL import Image

    Image.new("RGB", (100, 50)).save(tmp_path / "one.jpg")
    ran = done("quality", "--images", tmp_path, "--only", "brightness", cwd=place)
    assert "could not be" in ran.stderr
    assert "brightness" in ran.stdout


def test_drivers_are_ranked_and_plotted(place, tmp_path):
    ranked = json.loads(done("drivers", "x", "--format", "json", cwd=place).stdout)
    assert {row["target"] for row in ranked} == {"prediction", "label"}
    svg = tmp_path / "plot.svg"
    ran = done(
        *("drivers", "x", "--metric", "object_count", "--target", "prediction", "--svg", svg),
        cwd=place,
    )
    assert "precision of predictions" in ran.stdout
    assert svg.read_text().startswith("<svg")
    wrong = done("drivers", "x", "--metric", "nothing", cwd=place, code=2)
    assert "object_count" in wrong.stderr
    assert "--svg needs --metric" in done("drivers", "x", "--svg", svg, cwd=place, code=2).stderr


def test_a_metric_of_ones_own_is_added_listed_and_removed(place):
    sql = "confidence * object_count"
    done("quality-metrics", "add", "busy_and_sure", "--sql", sql, "--project", place, cwd="/")
    assert "busy_and_sure" in done("quality-metrics", cwd=place).stdout
    rows = done("quality", "x", "--only", "busy_and_sure", "--format", "json", cwd=place).stdout
    assert json.loads(rows)[0]["highest"] == pytest.approx(1.8)
    done("quality-metrics", "rm", "busy_and_sure", cwd=place)
    assert "busy_and_sure" not in done("quality-metrics", cwd=place).stdout
    wrong = done("quality-metrics", "add", "x y", "--sql", "1", cwd=place, code=2)
    assert "cannot name a metric" in wrong.stderr
