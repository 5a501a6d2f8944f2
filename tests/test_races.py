"""What happens in between: interruptions inside a commit, other processes, damaged results.

Other processes are played by a second project object: they meet only in the files.
"""

from __future__ import annotations

import gzip
import json
import pickle
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import ea_arrow
from ea_arrow import derived, importing
from ea_arrow.errors import (
    ConflictError,
    IterationError,
    IterationNotFoundError,
    ProjectError,
    SourceError,
)
from ea_arrow.questions import Question
from ea_arrow.schema import METRICS, PREDICTIONS
from ea_arrow.tables import Table
from tests.builders import GROUND_TRUTH, RESULTS, make_encord_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def project(tmp_path: Path) -> ea_arrow.Project:
    return ea_arrow.init(tmp_path / "p", write(tmp_path / "gt.json", GROUND_TRUTH))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write(tmp_path / "results.json", RESULTS)


def around_commits(
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Table], None] | None = None,
    after: Callable[[Table], None] | None = None,
) -> None:
    """Call something just before or after each commit on the predictions."""
    commit = Table.commit

    def wrapped(self: Table, *arguments: Any, **options: Any) -> None:
        if before and self.spec is PREDICTIONS:
            before(self)
        commit(self, *arguments, **options)
        if after and self.spec is PREDICTIONS:
            after(self)

    monkeypatch.setattr(Table, "commit", wrapped)


def once(action: Callable[[], Any]) -> Callable[[Table], None]:
    done: list[bool] = []

    def act(_: Table) -> None:
        if not done:
            done.append(True)
            action()

    return act


def fails_with(error: BaseException) -> Callable[[Table], None]:
    def fail(_: Table) -> None:
        raise error

    return fail


def confidences(project: ea_arrow.Project, name: str) -> list[float]:
    return [row["confidence"] for row in project.predictions(name)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_interrupted_after_the_commit_it_is_published(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        around_commits(patch, after=fails_with(error))
        with pytest.raises(type(error)):
            project.import_predictions(results, "x")
    assert confidences(project, "x") == [0.9, 0.8, 0.7]
    assert len(project.sql("select * from predictions")) == 3


def test_interrupted_before_the_commit_nothing_is_left(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        around_commits(patch, before=fails_with(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            project.import_predictions(results, "x")
    assert not project.iterations
    assert not list((project.root / ".ea-arrow" / "predictions").rglob("*.parquet"))
    project.import_predictions(results, "x")


def test_a_disk_that_fails_after_the_commit_does_not_take_it_back(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        if path.name == "_delta_log" and "predictions" in str(path):
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("ea_arrow.tables.sync", broken)
        with pytest.raises(ProjectError, match="is published, but the disk could not confirm"):
            project.import_predictions(results, "x")
    assert confidences(project, "x") == [0.9, 0.8, 0.7]


def test_raced_appends_are_read_in_the_order_of_their_numbers(
    project: ea_arrow.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (
        write(tmp_path / f"{i}.json", [{**RESULTS[i], "score": score}])
        for i, score in enumerate((0.1, 0.2, 0.3))
    )
    project.import_predictions(first, "x")
    other = ea_arrow.open(project.root)
    with monkeypatch.context() as patch:
        # The append that began earlier, and whose file is named earlier, is published later.
        around_commits(
            patch, before=once(lambda: other.import_predictions(third, "x", mode="append"))
        )
        project.import_predictions(second, "x", mode="append")
    rows = list(project.predictions("x"))
    assert [row["prediction_id"] for row in rows] == [0, 1, 2]
    assert [row["confidence"] for row in rows] == [0.1, 0.3, 0.2]


def test_an_unknown_mode_is_refused(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results, "x")
    with pytest.raises(IterationError, match="mode must be one of create, append, replace"):
        project.import_predictions(results, "x", mode="apend")  # type: ignore[arg-type]
    assert len(project.predictions("x")) == 3


def test_parameters_that_are_not_json_are_refused_before_anything_is_written(
    project: ea_arrow.Project, results: Path
) -> None:
    with pytest.raises(ProjectError, match="parameters cannot be stored"):
        project.import_predictions(results, "x", parameters={"device": object()})
    assert not list((project.root / ".ea-arrow" / "predictions").rglob("*.parquet"))


def test_compact_does_not_round_hours_down(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results, "x")
    project.remove("x")
    project.compact(keep_hours=0.9)
    assert len(project.predictions("x", version=1)) == 3


def test_what_compact_deleted_is_said_to_be(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results, "x")
    project.remove("x")
    project.compact(keep_hours=0)
    with pytest.raises(IterationNotFoundError, match="deleted by compact"):
        project.predictions("x", version=1)


@pytest.mark.parametrize("version", [-1, 99])
def test_versions_out_of_range(project: ea_arrow.Project, results: Path, version: int) -> None:
    project.import_predictions(results, "x")
    with pytest.raises(ProjectError, match=f"no version {version}"):
        project.predictions("x", version=version)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"not parquet at all"])
def test_a_damaged_result_is_computed_again(
    project: ea_arrow.Project, results: Path, damage: bytes
) -> None:
    project.import_predictions(results, "x")
    good = project.metrics("x").to_arrow()
    kept = list((project.root / ".ea-arrow" / "derived").iterdir())
    assert len(kept) == 2  # candidates and metrics
    for path in kept:
        path.write_bytes(damage)
    assert project.metrics("x").to_arrow() == good
    for path in kept:
        path.write_bytes(damage)
    assert len(project.sql("select * from metrics")) == good.num_rows


def test_results_are_of_the_files_they_are_named_for(
    project: ea_arrow.Project, results: Path
) -> None:
    project.import_predictions(results, "x")
    seen = project.iterations["x"]
    project.import_predictions(results, "x", mode="append")
    answers = derived.Results(project._store)
    counted = answers.answer(METRICS, seen, Question())
    assert max(counted["n_predictions"].to_pylist()) == 3


def test_rm_succeeds_beside_an_import(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.import_predictions(results, "x")
    other = ea_arrow.open(project.root)
    with monkeypatch.context() as patch:
        around_commits(patch, before=once(lambda: other.import_predictions(results, "y")))
        project.remove("x")
    assert list(project.iterations) == ["y"]


def test_rm_of_what_is_removed_meanwhile(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.import_predictions(results, "x")
    other = ea_arrow.open(project.root)
    with monkeypatch.context() as patch:
        around_commits(patch, before=once(lambda: other.remove("x")))
        with pytest.raises(IterationNotFoundError):
            project.remove("x")


def test_endless_conflicts_end(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        around_commits(patch, before=fails_with(ConflictError("again")))
        with pytest.raises(ConflictError, match="50 times"):
            project.import_predictions(results, "x")
    assert not project.iterations


def test_a_file_that_is_deleted_under_the_import(
    project: ea_arrow.Project, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = importing._Import._decide

    def deleting(self: Any, metadata: dict[str, Any]) -> dict[str, Any]:
        self.written.path.unlink(missing_ok=True)
        return decide(self, metadata)

    monkeypatch.setattr(importing._Import, "_decide", deleting)
    with pytest.raises(ProjectError, match="was deleted while it was written"):
        project.import_predictions(results, "x")
    assert not project.iterations


def test_duplicates_are_found_over_files(project: ea_arrow.Project, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.json", RESULTS[:2]) for name in "ab"]
    ledger = project.import_predictions(files, "x").ledger
    assert ledger.notes["duplicate"] == 2
    assert ledger.examples["duplicate"] == ["b.json:0", "b.json:1"]


def test_a_file_imported_before_is_named(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results, "x")
    ledger = project.import_predictions(results, "y").ledger
    assert ledger.notes == {"results.json is already in iteration 'x'": 1}
    ledger = project.import_predictions(results, "x", mode="append").ledger
    assert "results.json is already in iteration 'y'" in ledger.notes


def test_what_is_replaced_is_not_said_to_be_there(project: ea_arrow.Project, results: Path) -> None:
    project.import_predictions(results, "x")
    assert not project.import_predictions(results, "x", mode="replace").ledger.notes
    project.import_predictions(results, "y")
    ledger = project.import_predictions(results, "x", mode="replace").ledger
    assert ledger.notes == {"results.json is already in iteration 'y'": 1}


def test_files_of_a_directory_imported_before_are_counted(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    folder = tmp_path / "kitti"
    folder.mkdir()
    for name in ("one", "two"):
        line = "cat -1 -1 -10 10 10 30 30 -1 -1 -1 -1000 -1000 -1000 -10 0.5\n"
        (folder / f"{name}.txt").write_text(line * 5)
    project.import_predictions(folder, "x")
    ledger = project.import_predictions(folder, "y").ledger
    assert ledger.notes["files of kitti that are already in iteration 'x'"] == 2


def test_results_that_look_relative_or_like_percent_are_noted(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    odd = {**RESULTS[0], "bbox": [0.1, 0.1, 0.3, 0.4], "score": 90}
    ledger = project.import_predictions(write(tmp_path / "odd.json", [odd, RESULTS[1]])).ledger
    assert ledger.notes == {"within_one_pixel": 1, "beyond_one": 1}


def test_compressed_pickles_are_named(project: ea_arrow.Project, tmp_path: Path) -> None:
    packed = tmp_path / "preds.pkl.gz"
    packed.write_bytes(gzip.compress(pickle.dumps([])))
    with pytest.raises(SourceError) as caught:
        project.import_predictions(packed)
    assert "unpack it first" in str(caught.value)


def test_label_rows_without_labels_are_counted(tmp_path: Path) -> None:
    source = make_encord_project(tmp_path / "made")
    assert source.ledger is not None
    folder = tmp_path / "encord"
    folder.mkdir()
    (folder / "ontology.json").write_text(json.dumps({"objects": [], "classifications": []}))
    with sqlite3.connect(folder / "prisma.db") as database:
        database.executescript(
            """
            CREATE TABLE LabelRow (id INTEGER PRIMARY KEY, label_hash TEXT, data_hash TEXT,
                data_title TEXT, data_type TEXT, label_row_json TEXT);
            CREATE TABLE DataUnit (id INTEGER PRIMARY KEY, data_hash TEXT, data_title TEXT,
                frame INTEGER, data_uri TEXT, width INTEGER, height INTEGER, lr_data_hash TEXT);
            INSERT INTO LabelRow VALUES (1, 'a', 'd', 't', 'image', NULL);
            INSERT INTO DataUnit VALUES (1, 'd', 't', 0, NULL, 4, 4, 'd');
            """
        )
    database.close()
    ledger = ea_arrow.init(tmp_path / "p", folder).ledger
    assert ledger is not None
    assert ledger.notes == {"label rows without labels, neither stored nor on disk": 1}


def test_a_project_is_not_made_inside_another_ones_files(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    with pytest.raises(ProjectError, match="inside of a project's own files"):
        ea_arrow.init(project.root / ".ea-arrow" / "q", tmp_path / "gt.json")


def test_import_predictions_beside_a_directory_of_that_name(
    project: ea_arrow.Project, results: Path
) -> None:
    (results.parent / "predictions").mkdir()
    command = [sys.executable, "-m", "ea_arrow.cli", "import", "predictions", "results.json"]
    subprocess.run([*command, "--project", "p"], cwd=results.parent, check=True)
    assert list(project.iterations) == ["results"]
