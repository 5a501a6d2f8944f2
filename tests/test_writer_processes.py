"""Writers in processes: killed, raced, and several for one iteration."""

# ruff: noqa: PT012, PT031  the error of a whole block is what is tested

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

import ea_arrow
from ea_arrow import shards
from ea_arrow.errors import IterationExistsError, RejectedRowsError, ShardError
from tests.builders import make_encord_project, make_project

BOX = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
RANKS = 4


@pytest.fixture
def project(tmp_path):
    """One video, `film`, of 200 × 100 pixels with frames 0 and 4; classes `car` and `road`."""
    return make_encord_project(tmp_path / "p")


def box(**changes):
    given = {"data_hash": "film", "class_uid": "car", "confidence_score": 0.5, "bbox": BOX}
    return given | changes


def staged(project):
    return sorted(p.name for p in (project.root / ".ea-arrow" / "staging").rglob("*.json"))


def rank(project, number, *, scores=(0.5,), **options):
    """Run one rank to its end."""
    options = {"name": "v8", "shard": (number, RANKS)} | options
    with project.writer(**options) as writer:
        for score in scores:
            writer.add_prediction(**box(confidence_score=score))
    return writer


# -- killed ----------------------------------------------------------------------------------------

LOOP = """
import sys, time
import numpy as np
import ea_arrow
root, rows = sys.argv[1], int(sys.argv[2])
boxes = np.random.default_rng(0).uniform(1, 50, (1000, 4))
with ea_arrow.open(root).writer("victim") as writer:
    print("begun", flush=True)
    for start in range(0, rows, 1000):
        columns = {"bbox": boxes + start, "confidence": np.arange(1000.0)}
        writer.add_batch(columns | {"class_name": ["Car"] * 1000}, data_hash="film")
print("done", flush=True)
"""


def test_killed_at_any_moment(project):
    rows, draw, killed = 200_000, random.Random(4), 0
    command = [sys.executable, "-c", LOOP, str(project.root), str(rows)]
    for _ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        time.sleep(draw.uniform(0, 0.7))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += "victim" not in project.iterations
        if "victim" in project.iterations:
            assert len(project.predictions("victim")) == rows
            project.remove("victim")
        assert project.sql("select count(*) as n from rejects").to_arrow()["n"].to_pylist() == [0]
    assert killed >= 4, "most kills must have come before the end"
    assert project.compact(keep_hours=0) > 0
    left = list((project.root / ".ea-arrow" / "predictions").rglob("*.parquet"))
    assert not [path for path in left if "_delta_log" not in path.parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "begun\ndone\n"
    assert len(project.predictions("victim")) == rows


# -- ranks -----------------------------------------------------------------------------------------

RANK = """
import sys, time
import ea_arrow
root, number, world, rows, die = sys.argv[1], *map(int, sys.argv[2:6])
box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
with ea_arrow.open(root).writer("v8", shard=(number, world), model="m") as writer:
    for row in range(rows):
        if row == die: print("waiting", flush=True); time.sleep(600)
        writer.add_prediction("film", "car", number + row / rows, box)
    writer.add_prediction("film", "none", 1, box)
writer.wait(60)
print(writer.result.published, writer.missing)
"""


def start(project, number, rows=3000, die=-1):
    words = [str(n) for n in (number, RANKS, rows, die)]
    command = [sys.executable, "-c", RANK, str(project.root), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


READER = """
import sys, time
import ea_arrow
root, end = sys.argv[1], time.monotonic() + 60
seen = []
print("reading", flush=True)
while time.monotonic() < end:
    project = ea_arrow.open(root)
    rows = len(project.predictions("v8").to_arrow()) if "v8" in project.iterations else 0
    refused = len(project.sql("select * from rejects"))
    if [rows, refused] not in seen: seen.append([rows, refused])
    if rows: break
print(seen)
"""


def test_four_processes_write_one_iteration_while_a_fifth_reads(project):
    command = [sys.executable, "-c", READER, str(project.root)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert reader.stdout.readline() == "reading\n"
    processes = [start(project, number) for number in range(RANKS)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * RANKS, said
    assert any(out.startswith("True") for out, _ in said)
    seen = json.loads(reader.communicate(timeout=120)[0])
    # The rejects are asked for after the rows, so the publication may come in between.
    assert seen[-1] == [12_000, 4]
    assert seen[0] in ([0, 0], [0, 4])
    assert all(rows in (0, 12_000) and refused in (0, 4) for rows, refused in seen)
    found = project.predictions("v8").to_arrow()
    assert found["prediction_id"].to_pylist() == [*range(12_000)]
    scores = found["confidence"].to_pylist()
    assert scores == sorted(scores)  # in the order of the ranks
    (imported,) = project.iterations["v8"].imports
    assert (imported["rows_read"], imported["rows_kept"]) == (12_004, 12_000)
    assert (imported["mode"], imported["model"]) == ("create", "m")
    sources = project.sql("select source, rules from rejects order by source").to_arrow()
    assert sources["source"].to_pylist() == [f"rank {n} of 4" for n in range(RANKS)]
    assert len(project.history("v8")) == 1
    assert not staged(project)


def test_a_killed_rank_leaves_nothing_visible_and_a_second_attempt_completes(project):
    victim = start(project, 2, die=1500)
    assert victim.stdout.readline() == "waiting\n"
    others = [start(project, number) for number in (0, 1, 3)]
    deadline = time.monotonic() + 60
    while len(staged(project)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    victim.kill()
    victim.communicate(timeout=60)
    assert staged(project) == ["0.json", "1.json", "3.json"]
    assert not project.iterations
    assert len(project.sql("select * from rejects")) == 0
    again = start(project, 2)
    said = [process.communicate(timeout=120) for process in (again, *others)]
    assert [process.returncode for process in (again, *others)] == [0] * RANKS, said
    assert said[0][0] == "True []\n"
    assert len(project.predictions("v8")) == 12_000
    assert project.compact(keep_hours=0) > 0  # what the killed one left
    assert len(project.predictions("v8")) == 12_000


def test_a_missing_rank_is_named(project):
    assert rank(project, 0).missing == [1, 2, 3]
    writer = rank(project, 2)
    assert writer.missing == [1, 3]
    assert not writer.result.published
    with pytest.raises(ShardError, match="missing of 4 ranks: 1, 3"):
        writer.wait(0.2)
    assert not project.iterations


def test_parts_keep_the_order_of_ranks_whoever_is_last(project):
    for number in (3, 1, 0):
        rank(project, number, scores=(number + 0.1, number + 0.2))
    assert rank(project, 2, scores=()).result.published
    found = project.predictions("v8").to_arrow()
    assert found["confidence"].to_pylist() == [0.1, 0.2, 1.1, 1.2, 3.1, 3.2]
    assert found["prediction_id"].to_pylist() == [*range(6)]
    with pytest.raises(IterationExistsError):
        rank(project, 0)


def test_a_rank_that_runs_again_counts_once(project):
    for _ in range(2):
        for number in (0, 1, 3):
            rank(project, number, scores=(number,))
    rank(project, 2, scores=(2,))
    found = project.predictions("v8").to_arrow()
    assert found["confidence"].to_pylist() == [0, 1, 2, 3]


def test_a_rank_that_begins_again_is_not_there_until_it_ends(project):
    for number in (0, 1, 3):
        rank(project, number)
    with project.writer("v8", shard=(1, RANKS)) as writer:
        assert not rank(project, 2).result.published
        writer.add_prediction(**box())
    assert writer.result.published
    assert len(project.predictions("v8")) == 4


def test_an_error_in_a_rank_stages_nothing(project):
    with pytest.raises(ZeroDivisionError), project.writer("v8", shard=(0, RANKS)) as writer:
        writer.add_prediction(**box(confidence_score=1 / 0))
    assert not staged(project)


def test_attempts_are_not_mixed(project):
    for number in range(3):
        rank(project, number, attempt="first")
    for number in range(3):
        assert not rank(project, 3 - number, attempt="second").result.published
    assert rank(project, 0, scores=(0.9,), attempt="second").result.published
    assert project.predictions("v8").to_arrow()["confidence"].to_pylist() == [0.9, 0.5, 0.5, 0.5]
    assert staged(project) == ["0.json", "1.json", "2.json"]  # of the first
    assert project.compact(keep_hours=0) > 0
    assert not staged(project)


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_ranks_append_and_replace(project, mode):
    with project.writer("v8") as writer:
        writer.add_prediction(**box(confidence_score=0.1))
    for number in range(RANKS):
        rank(project, number, scores=(number,), mode=mode)
    found = project.predictions("v8").to_arrow()
    before = [0.1] if mode == "append" else []
    assert found["confidence"].to_pylist() == [*before, 0, 1, 2, 3]
    assert found["prediction_id"].to_pylist() == [*range(len(found))]


@pytest.mark.parametrize("mode", ["error", "append", "replace"])
def test_two_ranks_that_are_both_last_publish_once(project, monkeypatch, mode):
    """Another process publishes just before this one's commit."""
    for number in range(RANKS - 1):
        rank(project, number, scores=(number,))
    decide, others = shards._Merged._decide, []

    def second(self, metadata):
        if not others:
            others.append(1)
            here = shards.Shards(self.store, "v8", RANKS)
            whole = shards.merged(self.store, "v8", self.mode)
            here.publish(whole, here.parts())
        return decide(self, metadata)

    monkeypatch.setattr(shards._Merged, "_decide", second)
    assert rank(project, 3, scores=(3,), mode=mode).result.published
    found = project.predictions("v8").to_arrow()
    assert found["confidence"].to_pylist() == [0, 1, 2, 3]
    assert len(project.history("v8")) == 1


def test_ranks_that_keep_nothing_publish_nothing(project):
    for number in range(RANKS - 1):
        rank(project, number, scores=())
    with pytest.raises(RejectedRowsError), project.writer("v8", shard=(3, RANKS)) as writer:
        writer.add_prediction(**box(class_uid="nothing"))
    assert not project.iterations


KILL_AT = """
import json, os, signal, sys
import ea_arrow, ea_arrow.files as files, ea_arrow.tables as tables
stage, root, shard, mode = sys.argv[1:]
def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
commit, finish = tables.Table.commit, files.FileWriter._finish
def dying(self, *a, **k):
    if stage == "before " + self.spec.name: die()
    commit(self, *a, **k)
    if stage == "after " + self.spec.name: die()
def half_written(self):
    if stage == "unfinished file" and self.spec.name == "predictions": die()
    finish(self)
    if stage == "finished file" and self.spec.name == "predictions": die()
tables.Table.commit, files.FileWriter._finish = dying, half_written
box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
shard = json.loads(shard)
with ea_arrow.open(root).writer("v8", shard=shard, mode=mode) as writer:
    writer.add_prediction("film", "car", 3, box)
    writer.add_prediction("film", "nothing", 3, box)
"""
STAGES = [
    ("unfinished file", False),
    ("finished file", False),
    ("before rejects", False),
    ("after rejects", False),
    ("before iterations", False),
    ("after iterations", False),
    ("before predictions", False),
    ("after predictions", True),
]


@pytest.mark.parametrize("mode", ["error", "append", "replace"])
@pytest.mark.parametrize("ranks", [1, RANKS])
@pytest.mark.parametrize(("stage", "published"), STAGES)
def test_killed_at_each_stage(project, stage, published, ranks, mode):
    for number in range(ranks - 1):
        rank(project, number, scores=(number,), mode=mode)
    shard = json.dumps(None if ranks == 1 else [3, RANKS])
    command = [sys.executable, "-c", KILL_AT, stage, str(project.root), shard, mode]
    died = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    refused = len(project.sql("select * from rejects"))
    scores = [*map(float, range(ranks - 1)), 3.0]
    if published:
        found = project.predictions("v8").to_arrow()["confidence"].to_pylist()
        assert (found, refused) == (scores, 1)
    else:
        assert (list(project.iterations), refused) == ([], 0)
        again = rank(project, 3, scores=(3,), mode=mode, shard=None if ranks == 1 else (3, RANKS))
        assert again.result.published
        found = project.predictions("v8").to_arrow()
        assert found["confidence"].to_pylist() == scores
        assert found["prediction_id"].to_pylist() == [*range(ranks)]
    project.compact(keep_hours=0)
    assert not staged(project)
    left = (project.root / ".ea-arrow" / "predictions").rglob("*.parquet")
    assert len([path for path in left if "_delta_log" not in path.parts]) == 1


def test_parts_that_were_published_but_not_tidied_up_do_not_count_again(project, monkeypatch):
    monkeypatch.setattr(shards.Shards, "clear", lambda self, parts: None)
    for run in (0, 10):
        done = [
            rank(project, number, scores=(run + number,), mode="append").result.published
            for number in range(RANKS)
        ]
        assert done == [False, False, False, True]
    found = project.predictions("v8").to_arrow()
    assert found["confidence"].to_pylist() == [0, 1, 2, 3, 10, 11, 12, 13]


# -- races and views -------------------------------------------------------------------------------


def test_two_writers_of_one_name(project):
    with pytest.raises(IterationExistsError), project.writer("v8") as first:
        first.add_prediction(**box())
        with project.writer("v8") as second:
            second.add_prediction(**box(confidence_score=0.9))
    assert [r["confidence"] for r in project.predictions("v8")] == [0.9]


def test_running_metrics_are_those_of_the_images_so_far(tmp_path):
    project = make_project(tmp_path / "p")
    one, two = (u["data_hash"] for u in project.data_units)
    given = {"bbox": [[10, 10, 20, 20]], "score": [0.9], "class_name": ["cat"]}
    nothing = {"bbox": [], "score": [], "class_name": []}

    def ap(writer):
        rows = writer.running().to_arrow().to_pylist()
        found = [r for r in rows if r["metric"] == "AP"]
        return {r["class"]: (r["value"] and round(r["value"], 12), r["n_labels"]) for r in found}

    with project.writer("v8", mode="append") as writer:
        assert ap(writer)[None] == (None, 0)
        writer.add_batch(given, data_hash=one)
        assert ap(writer) == {None: (0.5, 2), "cat": (1, 1), "dog": (0, 1)}
        writer.checkpoint()
        writer.add_batch(nothing, data_hash=two)
        assert ap(writer)["cat"] == (round(51 / 101, 12), 2)
        writer.add_batch(given | {"bbox": [[0, 0, 640, 480]]}, data_hash=two)
        assert ap(writer) == {None: (0.5, 3), "cat": (1, 2), "dog": (0, 1)}
    metrics = project.metrics("v8").to_arrow().to_pylist()
    values = [r["value"] for r in metrics if r["metric"] == "AP"]
    assert values == pytest.approx([0.5, 1, 0])
    assert len(project.iterations["v8"].files) == 2


def test_running_metrics_asked_for_late_and_of_masks(project):
    with project.writer("v8") as writer:
        for score in (0.1, 0.2):
            writer.add_prediction(**box(confidence_score=score))
        writer.checkpoint()
        writer.add_prediction(**box(confidence_score=0.3, frame=4))
        boxes = writer.running().to_arrow().to_pylist()
        writer.add_prediction(**box(bbox=None, polygon=[[0, 0], [1, 0], [1, 1]]))
        masks = writer.running("segm").to_arrow().to_pylist()
    assert (boxes[0]["value"], boxes[0]["n_labels"], boxes[0]["n_predictions"]) == (1, 2, 3)
    assert masks[0]["iou_type"] == "segm"
    assert masks[0]["n_predictions"] == 4
    assert (
        masks[0]["value"] == project.metrics("v8", iou_type="segm").to_arrow()["value"][0].as_py()
    )


def test_a_rank_that_waited_misses_none(project):
    first = rank(project, 0, shard=(0, 2))
    assert first.missing == [1]
    rank(project, 1, shard=(1, 2))
    assert first.missing == [1]  # as it was when the first had finished
    first.wait(10)
    assert first.missing == []


FORKED = """
import multiprocessing, sys
import ea_arrow
from ea_arrow.errors import ProjectError

def child(root):
    try:
        with ea_arrow.open(root).writer("child") as writer:
            pass
    except ProjectError as error:
        print(error, flush=True)

if __name__ == "__main__":
    project = ea_arrow.open(sys.argv[1])
    with project.writer("parent"):
        pass
    process = multiprocessing.get_context("fork").Process(target=child, args=(sys.argv[1],))
    process.start()
    process.join(60)
    sys.exit(process.exitcode)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_writer_in_a_forked_process_says_what_to_do(project, tmp_path):
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    done = subprocess.run(
        [sys.executable, str(script), str(project.root)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "delta-rs does not survive that" in done.stdout
    assert "'spawn' or 'forkserver'" in done.stdout
    assert list(project.iterations) == ["parent"]


def test_progress_and_summary(project, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.warns(UserWarning, match="1 of 2"), project.writer(progress=True) as writer:
        writer.add_prediction(**box())
        writer.add_prediction(**box(class_uid="nothing"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "Wrote 1 predictions as 'run-001' in " in said.err
    assert "1 refused: class is not in the ontology" in said.err
    with project.writer():
        pass
    assert capsys.readouterr().err == ""


def test_the_project_is_as_before(project):
    """A writer is an import like any other: later ones see its rows."""
    rank(project, 0, shard=None)
    assert ea_arrow.open(project.root).iterations["v8"].rows == 1
