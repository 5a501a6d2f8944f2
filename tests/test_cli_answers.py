"""The commands that answer, through the real entry point: every line that they print.

Most run in this process, which saves loading everything each time; the last test shows that it
makes no difference.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
import subprocess
import unittest.mock
from typing import TYPE_CHECKING, Any

import pytest

import ea_arrow
from ea_arrow import cli
from tests.builders import GROUND_TRUTH, RESULTS, import_results, make_project
from tests.test_answers import weather_project
from tests.test_cli import done as really_done
from tests.test_cli import run as really_run

CUT = "at most 100 predictions per data unit and class."
COMPUTED_AT = f"Boxes compared (bbox), protocol coco, IoU 0.50:0.95, {CUT}"

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call what the entry point calls."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        unittest.mock.patch("signal.signal"),
    ):
        try:
            cli.main(list(arguments))
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def done(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    ran = run(*arguments, cwd=cwd)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two images; iteration ``one`` is RESULTS, ``two`` finds the dog as a cat.

    In ``two`` the dog's box is predicted as a cat, and the cat in image 1 twice.
    """
    home = tmp_path_factory.mktemp("home")
    project = make_project(home, results=RESULTS, name="one")
    twice = {**RESULTS[0], "score": 0.5}
    taken_for_cat = {**RESULTS[0], "bbox": [50, 10, 30, 30], "score": 0.6}
    import_results(project, [RESULTS[0], twice, taken_for_cat, RESULTS[2]], "two")
    return home


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of classifications and objects; see ``test_answers``."""
    return weather_project(tmp_path_factory.mktemp("skies"), "mixed").root


def table(text: str) -> list[list[str]]:
    """The rows of a printed table; columns stand two or more spaces apart."""
    lines = [line for line in text.splitlines() if line.strip("─ ")]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


# -- metrics ---------------------------------------------------------------------------------------


def test_metrics_say_at_what_each_number_was_computed(home: Path) -> None:
    ran = done("metrics", "one", "--iou", "0.5,0.9", "--area", "tiny=0:500", cwd=home)
    assert table(ran.stdout) == [
        ["one", "value", "IoU", "area", "max detections", "labels"],
        ["AP", "0.500000", "0.50, 0.90", "all", "100", "3"],
        ["AP50", "0.500000", "0.50", "all", "100", "3"],
        ["AP90", "0.500000", "0.90", "all", "100", "3"],
        ["AP_tiny", "1.000000", "0.50, 0.90", "tiny", "100", "1"],
        ["AR1", "0.500000", "0.50, 0.90", "all", "1", "3"],
        ["AR10", "0.500000", "0.50, 0.90", "all", "10", "3"],
        ["AR100", "0.500000", "0.50, 0.90", "all", "100", "3"],
        ["AR_tiny", "1.000000", "0.50, 0.90", "tiny", "100", "1"],
    ]
    assert ran.stderr == COMPUTED_AT.replace("0.50:0.95", "0.50, 0.90") + "\n"


def test_every_option_of_metrics_reaches_the_answer(home: Path) -> None:
    arguments = ["--protocol", "coco", "--type", "segm", "--iou", "0.3:0.5:0.1"]
    arguments += ["--area", "tiny=0:500", "--max-detections", "7", "--max-detections", "2"]
    arguments += ["--where", "width < 200", "--no-cache", "--format", "json"]
    found = json.loads(done("metrics", "two", *arguments, cwd=home).stdout)
    wanted = ea_arrow.open(home).metrics(
        "two",
        iou_type="segm",
        iou_thresholds=(0.3, 0.4, 0.5),
        areas={"all": (0.0, 1e10), "tiny": (0.0, 500.0)},
        max_detections=(2, 7),
        where="width < 200",
    )
    assert found == [row for row in wanted if row["class"] is None]
    assert {row["subset"] for row in found} == {"width < 200"}
    assert [row["metric"] for row in found if row["metric"].startswith("AR")] == [
        *("AR2", "AR7", "AR_tiny")
    ]


def test_thresholds_are_put_in_order(home: Path) -> None:
    ran = [
        done("metrics", "one", "--iou", iou, "--format", "csv", cwd=home)
        for iou in ("0.9,0.5", "0.5,0.9")
    ]
    assert ran[0].stdout == ran[1].stdout != ""


def test_a_tiny_threshold_is_not_printed_as_zero(home: Path) -> None:
    ran = done("metrics", "one", "--iou", "0.0001", "--no-cache", cwd=home)
    assert {row[2] for row in table(ran.stdout)[1:]} == {"0.0001"}


def test_encord_metrics_at_several_thresholds_stand_side_by_side(home: Path) -> None:
    """The cat in image 2 has IoU 470/480 = 0.979; so at 0.99 one of three predictions is right."""
    asked = ["metrics", "--protocol", "encord", "--iou", "0.5,0.99"]
    heading, *rows = table(done(*asked, cwd=home).stdout)
    assert heading == [
        "iteration",
        *(f"{m} @0.50" for m in ("mAP", "mAR", "precision", "recall", "F1")),
        *(f"{m} @0.99" for m in ("mAP", "mAR", "precision", "recall", "F1")),
    ]
    one = dict(zip(heading, rows[0], strict=True))
    assert (one["precision @0.50"], one["precision @0.99"]) == ("0.667", "0.333")
    assert (one["recall @0.50"], one["recall @0.99"]) == ("0.667", "0.333")
    heading, *rows = table(done(*asked, "--by", "class", cwd=home).stdout)
    cat = dict(zip(heading, rows[0], strict=True))
    assert (cat["precision @0.50"], cat["precision @0.99"]) == ("1.000", "0.500")
    heading, cat, *_ = table(done("metrics", "one", "--protocol", "encord", cwd=home).stdout)
    assert heading == ["one", "value", "IoU", "labels"]


def test_metrics_by_class(home: Path) -> None:
    found = table(done("metrics", "one", "--by", "class", cwd=home).stdout)
    heading = ["one", "labels", "predictions", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"]
    assert found == [
        heading,
        ["cat", "2", "2", "1.000", "1.000", "1.000", "1.000", "–", "1.000", "1.000"],
        ["dog", "1", "1", "0.000", "0.000", "0.000", "0.000", "–", "–", "0.000"],
    ]
    text = done("metrics", "one", "--by", "class", "--format", "csv", cwd=home).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["class"], r["value"]) for r in rows if r["metric"] == "AR1"] == [
        ("cat", "1.0"),
        ("dog", "0.0"),
    ]


def test_metrics_by_slice(tmp_path: Path) -> None:
    make_project(tmp_path, results=RESULTS, name="one")
    none = run("metrics", "--by", "slice", cwd=tmp_path)
    assert (none.returncode, none.stdout) == (2, "")
    assert "There are no slices yet. See 'ea-arrow slices --help'." in none.stderr
    done("slices", "large", "--where", "width > 200", cwd=tmp_path)
    done("slices", "nothing", "--where", "false", cwd=tmp_path)
    ran = done("metrics", "--by", "slice", cwd=tmp_path)
    assert [row[:3] for row in table(ran.stdout)] == [
        ["iteration", "AP", "AP50"],
        ["one all", "0.500", "0.500"],
        ["one large", "1.000", "1.000"],
        ["one nothing", "–", "–"],
    ]
    assert ran.stderr.splitlines() == [
        "one nothing: No data unit is in (nothing): nothing to score.",
        COMPUTED_AT,
    ]
    rows = json.loads(done("metrics", "--by", "slice", "--format", "json", cwd=tmp_path).stdout)
    assert [(r["subset"], r["value"]) for r in rows if r["metric"] == "AP"] == [
        ("all", 0.5),
        ("large", pytest.approx(1)),
        ("nothing", None),
    ]


def test_classifications_stand_beside_objects(skies: Path) -> None:
    ran = done("metrics", cwd=skies)
    objects, answers = ran.stdout.split("\n\n")
    assert [row[:2] for row in table(objects)] == [
        ["iteration", "AP"],
        ["cars", "1.000"],
        ["skies", "0.000"],
        ["both", "1.000"],
        ["empty", "0.000"],
    ]
    assert [row[:5] for row in table(answers)] == [
        ["iteration", "question", "labels", "predictions", "accuracy"],
        ["skies", "Weather", "3", "2", "0.333"],
        ["both", "Weather", "3", "2", "0.333"],
    ]
    assert ran.stderr.splitlines() == [
        "skies: The iteration holds classifications only; see --protocol classification.",
        "empty: The iteration holds no predictions.",
        COMPUTED_AT,
    ]
    rows = json.loads(done("metrics", "--format", "json", cwd=skies).stdout)
    assert {r["protocol"] for r in rows} == {"coco", "classification"}


# -- matches and errors ----------------------------------------------------------------------------


def test_matches(home: Path) -> None:
    text = done("matches", "two", "--format", "csv", cwd=home).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = ("prediction_id", "label_id", "outcome", "error")
    assert [tuple(r[c] for c in columns) for r in rows] == [
        ("0", "0", "TP", ""),
        ("1", "", "FP", "duplicate"),
        ("2", "", "FP", "class confusion"),
        ("3", "2", "TP", ""),
        ("", "1", "FN", "class confusion"),
    ]
    shown = table(done("matches", "two", "--where", "width > 200", cwd=home).stdout)
    assert len(shown) == 2
    assert shown[0][:4] == ["iteration", "protocol", "iou_type", "iou_threshold"]
    text = done("matches", "one", "--iou", "0.99", "--protocol", "encord", cwd=home).stdout
    assert table(text)[1][:4] == ["one", "encord", "bbox", "0.9900"]


def test_errors_and_the_command_they_suggest(home: Path) -> None:
    ran = done("errors", "two", cwd=home)
    assert table(ran.stdout) == [
        ["outcome", "error", "count"],
        ["TP", "–", "2"],
        ["FP", "duplicate", "1"],
        ["FP", "class confusion", "1"],
        ["FN", "class confusion", "1"],
    ]
    said, suggestion = ran.stderr.splitlines()
    assert said == "Boxes compared (bbox), protocol coco, IoU from 0.5."
    assert suggestion == "The objects, a row each: ea-arrow matches two"
    asked = ["--iou", "0.99", "--protocol", "encord", "--type", "segm", "--where", "title > 'a'"]
    ran = done("errors", "two", *asked, cwd=home)
    said, suggestion = ran.stderr.splitlines()
    compared = "Masks compared (segm), protocol encord, IoU from 0.99."
    assert said == f"{compared} Only data units in (title > 'a')."
    command = shlex.split(suggestion.partition(": ")[2])
    assert command[:3] == ["ea-arrow", "matches", "two"]
    objects = json.loads(done(*command[1:], "--format", "json", cwd=home).stdout)
    counted = json.loads(done("errors", "two", *asked, "--format", "json", cwd=home).stdout)
    for row in counted:
        found = [o for o in objects if (o["outcome"], o["error"]) == (row["outcome"], row["error"])]
        assert len(found) == row["count"]
    assert {(o["iou_threshold"], o["protocol"], o["iou_type"]) for o in objects} == {
        (0.99, "encord", "segm")
    }


def test_errors_by_class_count_every_prediction(tmp_path: Path) -> None:
    """A prediction on a crowd is ignored; it has a column where there is one, and only there."""
    crowd = {"id": 4, "image_id": 2, "category_id": 2, "bbox": [0, 0, 99, 99], "iscrowd": 1}
    crowd |= {"area": 9801, "segmentation": {"size": [480, 640], "counts": [0, 307200]}}
    truth = {**GROUND_TRUTH, "annotations": [*GROUND_TRUTH["annotations"], crowd]}
    on_crowd = {"image_id": 2, "category_id": 2, "bbox": [5, 5, 20, 20], "score": 0.4}
    make_project(tmp_path, truth=truth, results=[*RESULTS, on_crowd], name="one")
    arguments = ["errors", "one", "--by", "class", "--format", "json"]
    cat, dog = json.loads(done(*arguments, cwd=tmp_path).stdout)
    assert {k: v for k, v in cat.items() if v} == {"class": "cat", "TP": 2}
    assert {k: v for k, v in dog.items() if v} == {
        **{"class": "dog", "FP background": 1, "FN missed": 1, "ignored": 1}
    }
    cat, dog = json.loads(done(*arguments, "--where", "width < 200", cwd=tmp_path).stdout)
    assert "ignored" not in dog
    assert sum(v for k, v in dog.items() if k != "class") == 2


# -- confusion, operating points, curves -----------------------------------------------------------


def test_confusion(home: Path) -> None:
    ran = done("confusion", "two", cwd=home)
    assert table(ran.stdout) == [
        ["label", "cat", "dog", "(background)"],
        ["cat", "2", "0", "0"],
        ["dog", "1", "0", "0"],
        ["(background)", "1", "0", "0"],
    ]
    assert ran.stderr.splitlines() == [
        "Rows are labels, columns predictions; any confidence.",
        "Boxes compared (bbox), protocol coco, IoU from 0.5.",
    ]
    ran = done("confusion", "two", "--confidence", "0.65", "--iou", "0.98", cwd=home)
    assert table(ran.stdout) == [
        ["label", "cat", "dog", "(background)"],
        ["cat", "1", "0", "1"],
        ["dog", "0", "0", "1"],
        ["(background)", "1", "0", "0"],
    ]
    assert (
        "confidence from 0.65.\nBoxes compared (bbox), protocol coco, IoU from 0.98." in ran.stderr
    )
    rows = json.loads(done("confusion", "two", "--format", "json", cwd=home).stdout)
    assert [(r["label_class"], r["predicted_class"], r["count"]) for r in rows] == [
        ("cat", "cat", 2),
        ("dog", "cat", 1),
        (None, "cat", 1),
    ]


def test_confusion_of_classifications(skies: Path) -> None:
    ran = done("confusion", "skies", "--protocol", "classification", cwd=skies)
    assert table(ran.stdout) == [
        ["label", "Sun", "Rain", "(background)"],
        ["Sun", "1", "0", "1"],
        ["Rain", "1", "0", "0"],
        ["(background)", "0", "0", "0"],
    ]
    assert "IoU" not in ran.stderr


def test_confusion_of_what_an_iteration_holds(skies: Path) -> None:
    asked = done("confusion", "skies", "--protocol", "classification", cwd=skies)
    assert done("confusion", "skies", cwd=skies).stdout == asked.stdout
    both = done("confusion", "both", cwd=skies)
    assert both.stdout == done("confusion", "both", "--protocol", "coco", cwd=skies).stdout
    assert both.stderr.splitlines()[-1] == (
        "It holds classifications too: ea-arrow confusion both --protocol classification"
    )
    assert "too:" not in asked.stderr
    of_objects = done("confusion", "skies", "--iou", "0.75", cwd=skies)
    assert of_objects.stdout != asked.stdout


def test_operating_points(home: Path) -> None:
    """Of ``one``: cats at 0.9 and 0.7 are right, a dog at 0.8 is wrong, one label is missed."""
    ran = done("operating-points", "one", cwd=home)
    heading = ["class", "confidence", "precision", "recall", "f1", "tp", "fp", "fn"]
    best = ["all classes", "0.7000", "0.6667", "0.6667", "0.6667", "2", "1", "1"]
    assert table(ran.stdout) == [heading, best]
    assert ran.stderr.splitlines() == [
        f"At the highest F1; {CUT}",
        "Boxes compared (bbox), protocol coco, IoU from 0.5.",
    ]
    assert table(done("operating-points", "one", "--by", "class", cwd=home).stdout) == [
        heading,
        ["cat", "0.7000", "1.0000", "1.0000", "1.0000", "2", "0", "0"],
        ["dog", "0.8000", "0.0000", "0.0000", "0.0000", "0", "1", "1"],
    ]
    assert table(done("operating-points", "one", "--curve", cwd=home).stdout) == [
        heading,
        ["all classes", "0.9000", "1.0000", "0.3333", "0.5000", "1", "0", "2"],
        ["all classes", "0.8000", "0.5000", "0.3333", "0.4000", "1", "1", "2"],
        best,
    ]
    at = table(done("operating-points", "one", "--confidence", "0.85", cwd=home).stdout)
    assert at[1:] == [["all classes", "0.9000", "1.0000", "0.3333", "0.5000", "1", "0", "2"]]
    beyond = table(done("operating-points", "one", "--confidence", "2", cwd=home).stdout)
    assert beyond[1:] == [["all classes", "2.0000", "–", "0.0000", "0.0000", "0", "0", "3"]]


def test_operating_points_without_predictions_say_so(skies: Path) -> None:
    ran = done("operating-points", "skies", cwd=skies)
    assert len(table(ran.stdout)) == 1
    assert ran.stderr.splitlines()[1:] == [
        "Nothing to count: no prediction and no label is there.",
        "No predictions of objects: there is no confidence to choose.",
    ]


def test_curves(home: Path) -> None:
    text = done("curves", "one", "--iou", "0.5,0.99", "--format", "csv", cwd=home).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * 2 * 101  # classes, thresholds, recalls
    cat = {
        (r["iou_threshold"], r["recall"]): (float(r["precision"]), float(r["confidence"]))
        for r in rows
        if r["class"] == "cat"
    }
    assert cat["0.5", "0.5"] == (pytest.approx(1), 0.9)
    assert cat["0.5", "1.0"] == (pytest.approx(1), 0.7)
    assert cat["0.99", "0.5"] == (pytest.approx(1), 0.9)
    assert cat["0.99", "1.0"] == (0, 0)


# -- slices and SQL --------------------------------------------------------------------------------


def test_slices(tmp_path: Path) -> None:
    make_project(tmp_path / "p", results=RESULTS, name="one")

    def slices(*arguments: str) -> Any:
        return really_run("slices", *arguments, "--project", "p", cwd=tmp_path)

    empty = slices()
    assert (empty.returncode, table(empty.stdout)) == (0, [["slice", "where"]])
    assert empty.stderr == "No slices yet. See 'ea-arrow slices --help'.\n"
    assert json.loads(slices("--format", "json").stdout) == []
    made = slices("large", "--where", "title = 'two.jpg' -- that")
    assert (made.returncode, made.stdout) == (0, "")
    said, following = made.stderr.splitlines()
    assert said == "Slice 'large': 1 data unit now."
    assert following == "Next: ea-arrow metrics --slice large --project p"
    found = done(*shlex.split(following)[2:], "--format", "json", cwd=tmp_path)
    assert {row["subset"] for row in json.loads(found.stdout)} == {"large"}
    again = slices("large", "--where", "true")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        "Error: There is a slice 'large' already: title = 'two.jpg' -- that\n"
        "Replace it with --replace (replace=True).\n"
    )
    assert "2 data units now" in slices("large", "--where", "true", "--replace").stderr
    assert json.loads(slices("--format", "json").stdout) == [{"slice": "large", "where": "true"}]
    assert slices("large", "--remove").stderr == "Removed slice 'large'.\n"
    gone = slices("large", "--remove")
    assert (gone.returncode, gone.stderr) == (
        2,
        "Error: There is no slice 'large'.\nThere are none yet.\n",
    )


def test_the_view_of_matches_is_that_of_the_options(home: Path) -> None:
    sql = (
        "select protocol, iou_type, iou_threshold, count(*) filter (outcome = 'TP') as tp "
        "from matches where iteration = 'one' group by all"
    )
    for arguments, wanted in (
        ([], ("coco", "bbox", "0.5", "2")),
        (["--iou", "0.99"], ("coco", "bbox", "0.99", "1")),
        (["--protocol", "encord", "--type", "segm"], ("encord", "segm", "0.5", "2")),
    ):
        text = done("query", sql, *arguments, "--format", "csv", cwd=home).stdout
        assert text == f"protocol,iou_type,iou_threshold,tp\n{','.join(wanted)}\n"


# -- what every command keeps to -------------------------------------------------------------------

COMMANDS = ("metrics", "matches", "errors", "confusion", "operating-points", "curves")


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document_and_the_only_thing_on_stdout(home: Path, command: str) -> None:
    ran = really_done(command, "one", "--type", "segm", "--format", "json", cwd=home)
    assert json.loads(ran.stdout)
    assert ran.stderr == ""
    assert "NaN" not in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["matches", "nope"], "There is no iteration 'nope'.\nThere are: one, two."),
        (["errors", "one", "--iou", "0"], "An IoU threshold is above 0 and at most 1, got 0."),
        (["metrics", "--iou", "0.5,1.5"], "An IoU threshold is above 0 and at most 1, got 1.5."),
        (["metrics", "--iou", "half"], "'half': expected 0.5, 0.5,0.75 or 0.5:0.95:0.05"),
        (["metrics", "--max-detections", "0"], "0 is not in the range x>=1."),
        (["metrics", "--area", "x=5:1"], "Area range 'x' goes from 5 to 1"),
        (["metrics", "--area", "x=a:1"], "'x=a:1': expected NAME=LOW:HIGH, as tiny=0:256"),
        (["metrics", "--protocol", "coca"], "'coca' is not one of 'coco', 'encord'"),
        (["metrics", "--type", "box"], "'box' is not one of 'bbox', 'segm'"),
        (["metrics", "--slice", "nope"], "There is no slice 'nope'.\nThere are none yet."),
        (["metrics", "--where", "nope > 1"], 'Referenced column "nope" not found'),
        (["confusion", "one", "--confidence", "nan"], "A confidence is a number, got NaN."),
        (["operating-points", "one", "--confidence", "nan"], "A confidence is a number, got nan."),
        (["operating-points", "one", "--curve", "--confidence", "1"], "either --curve or --conf"),
        (["slices", "all", "--where", "true"], "'all' is not a valid name of a slice"),
        (["slices", "x", "--where", "width >"], "syntax error"),
        (["slices", "x"], "Give the condition with --where, or --remove."),
        (["slices", "--where", "true"], "Name the slice."),
        (["slices", "x", "--where", "true", "--remove"], "--remove stands alone."),
    ],
)
def test_errors_of_use_end_with_two_and_a_sentence(
    home: Path, arguments: list[str], says: str
) -> None:
    failed = run(*arguments, cwd=home)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert says in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Internal error" not in failed.stderr


def test_a_process_of_its_own_prints_the_same(home: Path) -> None:
    for arguments in (["metrics"], ["errors", "one"], ["metrics", "--slice", "nope"]):
        here, there = run(*arguments, cwd=home), really_run(*arguments, cwd=home)
        assert (here.returncode, here.stdout, here.stderr) == (
            *(there.returncode, there.stdout, there.stderr),
        )
