"""Projects and iterations through the public API."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

import ea_arrow
from ea_arrow.errors import (
    IterationError,
    IterationExistsError,
    IterationNotFoundError,
    ProjectError,
    ProjectExistsError,
    RejectedRowsError,
    SourceError,
)
from ea_arrow.names import check_name, nearest_name
from tests.builders import GROUND_TRUTH, RESULTS

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write(tmp_path / "gt.json", GROUND_TRUTH)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write(tmp_path / "epoch-1.json", RESULTS)


@pytest.fixture
def project(tmp_path: Path, truth: Path) -> ea_arrow.Project:
    return ea_arrow.init(tmp_path / "p", truth)


def ap(project: ea_arrow.Project, name: str) -> float:
    return next(r["value"] for r in project.metrics(name) if r["metric"] == "AP" and not r["class"])


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# -- init and open -----------------------------------------------------------------------------


def test_init_accounts_for_every_label(tmp_path: Path) -> None:
    stray = {"id": 9, "image_id": 77, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1}
    document = {**GROUND_TRUTH, "annotations": [*GROUND_TRUTH["annotations"], stray]}
    project = ea_arrow.init(tmp_path / "p", write(tmp_path / "gt.json", document))
    assert project.ledger is not None
    assert project.ledger.read == 4
    assert project.ledger.kept == 3
    assert project.ledger.rejects == {"unknown_data_unit": 1}
    kept = list(project.sql("select iteration, source_row, rules from rejects"))
    assert kept == [{"iteration": None, "source_row": 3, "rules": ["unknown_data_unit"]}]


def test_init_refuses_a_directory_that_has_a_project(
    project: ea_arrow.Project, truth: Path
) -> None:
    before = files_below(project.root)
    with pytest.raises(ProjectExistsError, match="there is a project already"):
        ea_arrow.init(project.root, truth)
    assert files_below(project.root) == before


def test_init_beside_other_files_touches_none_of_them(tmp_path: Path, truth: Path) -> None:
    (tmp_path / "data" / "labels").mkdir(parents=True)
    (tmp_path / "data" / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    ea_arrow.init(tmp_path / "data", truth)
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"labels", ".ea-arrow"}
    assert (tmp_path / "data" / "labels" / "a.txt").read_text() == "0 0.5 0.5 1 1"


def test_failed_init_leaves_no_directory(tmp_path: Path) -> None:
    broken = tmp_path / "gt.json"
    broken.write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    with pytest.raises(SourceError):
        ea_arrow.init(tmp_path / "a" / "b", broken)
    assert not (tmp_path / "a").exists()


def test_project_is_found_from_below(
    project: ea_arrow.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = project.root / "some" / "where"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert ea_arrow.open().root == project.root
    with pytest.raises(ProjectError, match="no ea-arrow project here"):
        ea_arrow.open(below)  # a directory that is named must be the one


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere", "no such directory"), ("gt.json", "is a file")]
)
def test_a_project_that_is_named_must_be_there(
    project: ea_arrow.Project, truth: Path, name: str, says: str
) -> None:
    with pytest.raises(ProjectError, match=says):
        ea_arrow.open(truth.parent / name)


def test_no_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="no ea-arrow project here") as caught:
        ea_arrow.open(tmp_path)
    assert "ea-arrow init" in str(caught.value)


def test_images_are_found_by_title(tmp_path: Path, truth: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "one.jpg").write_bytes(b"")
    project = ea_arrow.init(tmp_path / "p", truth, images=tmp_path / "images")
    uris = {u["title"]: u["uri"] for u in project.data_units}
    assert uris == {"one.jpg": (tmp_path / "images/deep/one.jpg").as_uri(), "two.jpg": None}
    assert project.ledger is not None
    note = "data units without an image of that name, or with several"
    assert project.ledger.notes[note] == 1
    (tmp_path / "images" / "one.jpg").write_bytes(b"")
    (tmp_path / "images" / "deep" / "two.jpg").write_bytes(b"")
    (tmp_path / "images" / "other").mkdir()
    (tmp_path / "images" / "other" / "two.jpg").write_bytes(b"")
    again = ea_arrow.init(tmp_path / "q", truth, images=tmp_path / "images")
    uris = {u["title"]: u["uri"] for u in again.data_units}
    assert uris == {"one.jpg": (tmp_path / "images/one.jpg").as_uri(), "two.jpg": None}


def test_images_must_be_a_directory(tmp_path: Path, truth: Path) -> None:
    with pytest.raises(SourceError, match="not a directory of images"):
        ea_arrow.init(tmp_path / "p", truth, images=tmp_path / "nowhere")


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["007", "1e3", "true", "2024-01-01", "null", "-", "..", "x" * 100])
def test_names_stay_what_they_are(project: ea_arrow.Project, results: Path, name: str) -> None:
    project.import_predictions(results, name)
    assert list(project.iterations) == [name]
    assert {r["iteration"] for r in project.predictions(name)} == {name}
    for view in ("predictions", "matches", "metrics"):
        rows = project.sql(f"select distinct iteration from {view}").to_arrow()
        assert rows.to_pydict() == {"iteration": [name]}
        assert str(rows.schema.field(0).type) == "string"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("my model", "my-model"),
        ("a/b", "a-b"),
        ("../x", "..-x"),
        ("", "iteration-1"),
        ("x" * 101, "x" * 100),
        ("épo que", "po-que"),
        ("a\n", "a"),
    ],
)
def test_other_names_are_refused_with_the_nearest_valid_one(
    project: ea_arrow.Project, results: Path, name: str, near: str
) -> None:
    with pytest.raises(IterationError, match="not a valid iteration name") as caught:
        project.import_predictions(results, name)
    assert caught.value.hint == f"Use for example --as {near}"
    assert check_name(nearest_name(name)) == near
    assert not project.iterations


def test_name_defaults_to_the_stem(
    project: ea_arrow.Project, tmp_path: Path, results: Path
) -> None:
    assert project.import_predictions(results).iteration == "epoch-1"
    dotted = write(tmp_path / "yolo.v8.json", RESULTS)
    assert project.import_predictions(dotted).iteration == "yolo.v8"


# -- import ------------------------------------------------------------------------------------


def test_an_existing_iteration_is_refused_unless_asked(
    project: ea_arrow.Project, results: Path
) -> None:
    project.import_predictions(results)
    with pytest.raises(IterationExistsError) as caught:
        project.import_predictions(results)
    assert "--append or --replace" in str(caught.value)
    assert len(project.predictions("epoch-1")) == 3


def test_append_numbers_on(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results)
    project.import_predictions(results, mode="append")
    rows = project.predictions("epoch-1").to_polars().sort("prediction_id")
    assert rows["prediction_id"].to_list() == [0, 1, 2, 3, 4, 5]
    assert rows["confidence"].to_list() == [0.9, 0.8, 0.7] * 2
    assert len(project.iterations["epoch-1"].imports) == 2


def test_several_files_make_one_iteration(project: ea_arrow.Project, tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{i}.json", [result]) for i, result in enumerate(RESULTS)]
    result = project.import_predictions(parts, "all")
    assert result.ledger.kept == 3
    rows = project.predictions("all").to_polars()
    assert rows["prediction_id"].to_list() == [0, 1, 2]
    assert rows["source_row"].to_list() == [0, 0, 0]
    [imported] = project.iterations["all"].imports
    assert [s["name"] for s in json.loads(imported["sources"])] == ["0.json", "1.json", "2.json"]


def test_replace_keeps_the_old_rows_in_history(
    project: ea_arrow.Project, results: Path, tmp_path: Path
) -> None:
    project.import_predictions(results)
    first = ap(project, "epoch-1")
    better = write(tmp_path / "better.json", [RESULTS[0], {**RESULTS[1], "bbox": [50, 10, 30, 30]}])
    project.import_predictions(better, "epoch-1", mode="replace")
    assert len(project.predictions("epoch-1")) == 2
    assert ap(project, "epoch-1") != first, "metrics of the old rows must not be served"
    now, then = project.history("epoch-1")
    assert (now["action"], then["action"]) == ("import (replace)", "import (create)")
    assert len(project.predictions("epoch-1", version=then["version"])) == 3


def test_dry_run_reads_everything_and_writes_nothing(
    project: ea_arrow.Project, results: Path
) -> None:
    before = files_below(project.root)
    result = project.import_predictions(results, dry_run=True)
    assert result.ledger.kept == 3
    assert not result.published
    assert files_below(project.root) == before


def test_rejects_are_kept_with_the_row(project: ea_arrow.Project, tmp_path: Path) -> None:
    rows = [RESULTS[0], {**RESULTS[1], "image_id": 99}, {**RESULTS[2], "score": None}]
    result = project.import_predictions(write(tmp_path / "mixed.json", rows))
    assert result.ledger.to_dict() == {
        "read": 3,
        "kept": 1,
        "rejects": {"unknown_data_unit": 1, "missing_confidence": 1},
        "notes": {},
        "examples": {"unknown_data_unit": [1], "missing_confidence": [2]},
        "messages": {
            "unknown_data_unit": "No data unit '99' with frame 0 in the project.",
            "missing_confidence": "No confidence.",
        },
        "choices": [],
        "proposals": [],
    }
    kept = list(project.sql("select source, source_row, rules from rejects order by source_row"))
    assert kept == [
        {"source": "mixed.json", "source_row": 1, "rules": ["unknown_data_unit"]},
        {"source": "mixed.json", "source_row": 2, "rules": ["missing_confidence"]},
    ]


def test_strict_writes_nothing_if_a_row_is_refused(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    source = write(tmp_path / "mixed.json", [*RESULTS, {**RESULTS[0], "image_id": 99}])
    before = files_below(project.root)
    with pytest.raises(RejectedRowsError, match="1 of 4 refused") as caught:
        project.import_predictions(source, strict=True)
    assert caught.value.ledger.kept == 3
    assert files_below(project.root) == before


def test_an_import_of_which_nothing_can_be_kept_is_refused(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    source = write(tmp_path / "alien.json", [{**RESULTS[0], "image_id": 99}])
    with pytest.raises(RejectedRowsError, match="No row could be kept"):
        project.import_predictions(source)
    assert not project.iterations


def test_an_iteration_without_predictions_is_one_too(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    project.import_predictions(write(tmp_path / "empty.json", []))
    assert len(project.predictions("empty")) == 0
    assert ap(project, "empty") == 0.0
    outcomes = list(project.sql("select outcome, count(*) as n from matches group by all"))
    assert outcomes == [{"outcome": "FN", "n": 3}]


def test_progress_counts_the_rows_read(project: ea_arrow.Project, results: Path) -> None:
    seen: list[int] = []
    project.import_predictions(results, progress=seen.append)
    assert seen[-1] == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.pkl", None, "no such file"),
        ("empty.pkl", b"", "empty"),
        ("model.pt", b"PK\x03\x04rest", "zip archive"),
        ("notes.txt", b"hello", "not a file of predictions"),
        ("gt.json", json.dumps(GROUND_TRUTH).encode(), "ea-arrow init"),
    ],
)
def test_other_files_are_refused_with_a_way_on(
    project: ea_arrow.Project, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        project.import_predictions(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_predictions_are_no_ground_truth(tmp_path: Path, results: Path) -> None:
    with pytest.raises(SourceError, match="looks like predictions"):
        ea_arrow.init(tmp_path / "p", results)


# -- remove, history, compact ------------------------------------------------------------------


def test_removed_iteration_stays_readable_until_compact(
    project: ea_arrow.Project, results: Path
) -> None:
    project.import_predictions(results)
    project.remove("epoch-1")
    assert not project.iterations
    with pytest.raises(IterationNotFoundError):
        project.predictions("epoch-1")
    removal, creation = project.history("epoch-1")
    assert removal["action"] == "rm"
    assert len(project.predictions("epoch-1", version=creation["version"])) == 3
    assert project.compact(keep_hours=0) >= 1
    assert not list((project.root / ".ea-arrow" / "predictions").rglob("*.parquet"))
    project.import_predictions(results)
    assert len(project.predictions("epoch-1")) == 3


def test_compact_spares_what_is_young(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results)
    project.remove("epoch-1")
    version = project.history("epoch-1")[-1]["version"]
    project.compact()
    assert len(project.predictions("epoch-1", version=version)) == 3


def test_compact_drops_results_of_what_is_gone(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results)
    project.metrics("epoch-1")
    project.matches("epoch-1")
    project.import_predictions(results, mode="append")
    kept = project.metrics("epoch-1").to_arrow()
    derived = project.root / ".ea-arrow" / "derived"
    kinds = sorted(path.name.partition("-")[0] for path in derived.iterdir())
    assert kinds == ["candidates_bbox", "candidates_bbox", "matches", "metrics", "metrics"]
    project.compact()
    kinds = sorted(path.name.partition("-")[0] for path in derived.iterdir())
    assert kinds == ["candidates_bbox", "metrics"]
    assert project.metrics("epoch-1").to_arrow() == kept


def test_unknown_iteration_names_the_others(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results)
    for ask in (project.remove, project.predictions, project.metrics, project.matches):
        with pytest.raises(IterationNotFoundError, match="no iteration 'epoch-2'") as caught:
            ask("epoch-2")
        assert "epoch-1" in str(caught.value)


def test_many_iterations_are_named_in_part_and_counted(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ea_arrow.store._MOST_NAMED", 2)
    for name in "abc":
        with pytest.raises(IterationNotFoundError) as caught:
            project.predictions("zz")
        project.import_predictions(results, name)
    assert caught.value.hint == "There are: a, b."
    with pytest.raises(IterationNotFoundError) as caught:
        project.predictions("zz")
    assert caught.value.hint == "There are: a, b, … (3 in all)."


# -- answers -----------------------------------------------------------------------------------


def test_metrics_are_kept_and_never_stale(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results)
    first = project.metrics("epoch-1").to_arrow()
    derived = project.root / ".ea-arrow" / "derived"
    [kept] = derived.glob("metrics-*")
    written = kept.stat().st_mtime_ns
    assert project.metrics("epoch-1").to_arrow() == first
    assert kept.stat().st_mtime_ns == written
    project.import_predictions(results, mode="append")
    assert project.metrics("epoch-1").to_arrow() != first


def test_project_that_cannot_be_written_still_answers(
    project: ea_arrow.Project, results: Path
) -> None:
    project.import_predictions(results)
    derived = project.root / ".ea-arrow" / "derived"
    derived.rmdir()
    derived.write_text("in the way: nothing can be kept here, not even by root")
    assert ap(project, "epoch-1") > 0
    outcomes = project.sql("select outcome, count(*) as n from matches group by all order by all")
    assert list(outcomes) == [
        {"outcome": "FN", "n": 1},
        {"outcome": "FP", "n": 1},
        {"outcome": "TP", "n": 2},
    ]


def test_matches_say_what_became_of_each(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results)
    rows = {(r["prediction_id"], r["label_id"]): r["outcome"] for r in project.matches("epoch-1")}
    assert rows == {(0, 0): "TP", (1, None): "FP", (2, 2): "TP", (None, 1): "FN"}


def test_label_with_id_zero_is_explained(tmp_path: Path, results: Path) -> None:
    annotations = [{**a, "id": a["id"] - 1} for a in GROUND_TRUTH["annotations"]]
    truth = write(tmp_path / "gt.json", {**GROUND_TRUTH, "annotations": annotations})
    project = ea_arrow.init(tmp_path / "p", truth)
    project.import_predictions(results)
    corrected = {
        r["metric"]: r["value"]
        for r in project.metrics("epoch-1", protocol="coco_id_zero_counts")
        if not r["class"]
    }
    assert corrected["AP"] > ap(project, "epoch-1")


def test_relative_path_project(
    tmp_path: Path, truth: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = ea_arrow.init("p", "gt.json")
    os.chdir("/")
    project.import_predictions(results)
    assert len(project.predictions("epoch-1")) == 3


@pytest.mark.parametrize(
    "name", ["späße 日本", "a#b?c", "quo'te\"s", "[x]", "x=3", "iteration=foo"]
)
def test_directories_may_have_any_name(
    tmp_path: Path, truth: Path, results: Path, name: str
) -> None:
    project = ea_arrow.init(tmp_path / name, truth)
    project.import_predictions(results)
    assert len(list(project.sql("select * from predictions where iteration = 'epoch-1'"))) == 3
    project.remove("epoch-1")
    assert project.compact(keep_hours=0) > 0


@pytest.mark.parametrize("name", ["back\\slash", "per%20cent"])
def test_directories_that_delta_misreads_are_refused(
    tmp_path: Path, truth: Path, name: str
) -> None:
    with pytest.raises(ProjectError, match="cannot be made here") as caught:
        ea_arrow.init(tmp_path / name, truth)
    assert "backslash" in str(caught.value)
    assert not (tmp_path / name).exists()
