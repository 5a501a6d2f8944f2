"""Killed, out of disk, raced: the project is as it was, and the next import succeeds."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ea_arrow

IMAGES, LABELS, ROWS = 200, 1000, 30_000
EA_ARROW = str(Path(sys.executable).with_name("ea-arrow"))


def box(draw: random.Random) -> list[float]:
    return [draw.uniform(0, 400), draw.uniform(0, 300), draw.uniform(5, 200), draw.uniform(5, 150)]


def write_results(path: Path, rows: int, seed: int) -> Path:
    draw = random.Random(seed)
    results = [
        {
            "image_id": draw.randrange(IMAGES),
            "category_id": draw.randrange(1, 6),
            "bbox": box(draw),
            "score": draw.random(),
        }
        for _ in range(rows)
    ]
    path.write_text(json.dumps(results))
    return path


@pytest.fixture
def project(tmp_path: Path) -> ea_arrow.Project:
    """A project with one iteration, `small`, whose metrics are known."""
    draw = random.Random(0)
    truth = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 640, "height": 480} for i in range(IMAGES)
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 6)],
        "annotations": [
            {
                "id": i + 1,
                "image_id": draw.randrange(IMAGES),
                "category_id": draw.randrange(1, 6),
                "bbox": (b := box(draw)),
                "area": b[2] * b[3],
                "iscrowd": 0,
            }
            for i in range(LABELS)
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    project = ea_arrow.init(tmp_path / "p", tmp_path / "gt.json")
    project.import_predictions(write_results(tmp_path / "small.json", 500, seed=1))
    project.metrics("small")
    return project


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file whose import takes a while."""
    return write_results(tmp_path / "large.json", ROWS, seed=2)


def run(project: ea_arrow.Project, *arguments: str, **options: Any) -> Any:
    command = [EA_ARROW, *arguments, "--project", str(project.root)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )


def answers(project: ea_arrow.Project) -> list[str]:
    """What `metrics` and then `ls`, which shows the APs known, print."""
    printed = [run(project, c, "--format", "json") for c in ("metrics", "ls")]
    assert [p.returncode for p in printed] == [0, 0], [p.stderr for p in printed]
    return [p.stdout for p in printed]


def rows_of(project: ea_arrow.Project, name: str) -> int:
    return len(project.predictions(name))


def test_killed_at_thirty_random_moments(project: ea_arrow.Project, large: Path) -> None:
    before = answers(project)
    command = [EA_ARROW, "import", str(large), "--project", str(project.root), "--as", "victim"]
    started = time.monotonic()
    subprocess.run([*command, "--dry-run"], capture_output=True, check=True, timeout=120)
    duration = time.monotonic() - started
    draw, killed = random.Random(30), 0
    for _ in range(30):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.1, 1.1) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        if "victim" in project.iterations:  # the kill came after the commit: all of it is there
            assert rows_of(project, "victim") == ROWS
            project.remove("victim")
        else:
            assert [i["name"] for i in project.sql("select name from iterations")] == ["small"]
    assert killed >= 15, "most kills must have come before the end"
    assert answers(project) == before
    assert run(project, "import", str(large), "--as", "victim").returncode == 0
    assert rows_of(project, "victim") == ROWS
    assert project.compact(keep_hours=0) > 0
    assert rows_of(project, "victim") == ROWS


KILL_AT = """
import os, signal, sys
import ea_arrow, ea_arrow.files as files, ea_arrow.tables as tables
stage, root, source = sys.argv[1:]
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
ea_arrow.open(root).import_predictions(source, "victim", mode="replace")
"""


@pytest.mark.parametrize("mode", ["new", "replacing"])
@pytest.mark.parametrize(
    ("stage", "published"),
    [
        ("unfinished file", False),
        ("finished file", False),
        ("before rejects", False),
        ("after rejects", False),
        ("before iterations", False),
        ("after iterations", False),
        ("before predictions", False),
        ("after predictions", True),
    ],
)
def test_killed_at_each_stage(
    project: ea_arrow.Project, large: Path, tmp_path: Path, stage: str, published: bool, mode: str
) -> None:
    good = json.loads(large.read_text())[:100]
    source = tmp_path / "with-reject.json"
    source.write_text(json.dumps([*good, {**good[0], "image_id": -1}]))
    if mode == "replacing":
        project.import_predictions(write_results(tmp_path / "old.json", 50, seed=3), "victim")
    before = answers(project)
    arguments = [sys.executable, "-c", KILL_AT, stage, str(project.root), str(source)]
    died = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    shown = project.sql("select count(*) as n from rejects").to_arrow()["n"][0].as_py()
    if published:
        assert rows_of(project, "victim") == 100
        assert shown == 1
    else:
        assert answers(project) == before
        assert shown == 0
    again = project.import_predictions(source, "victim", mode="replace")
    assert again.ledger.kept == 100
    assert rows_of(project, "victim") == 100


def limited(bytes_: int) -> Any:
    def limit() -> None:
        # Python ignores SIGXFSZ, so a write beyond the limit fails with EFBIG: a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

    return limit


@pytest.mark.parametrize("limit", [0, 100, 1000, 4_000, 100_000, 400_000])
def test_no_room_to_write(project: ea_arrow.Project, large: Path, limit: int) -> None:
    before = answers(project)
    failed = run(project, "import", str(large), "--as", "victim", preexec_fn=limited(limit))
    assert failed.returncode == 2
    assert "Nothing was published" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert answers(project) == before
    assert run(project, "import", str(large), "--as", "victim").returncode == 0
    assert rows_of(project, "victim") == ROWS


def test_full_disk(project: ea_arrow.Project, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        on_disk = ea_arrow.init(disk / "p", tmp_path / "gt.json")
        on_disk.import_predictions(tmp_path / "small.json")
        on_disk.metrics("small")
        before = answers(on_disk)
        places, leave = set(), 0
        while True:  # a little more room each time: first the files have none, then the log
            status = os.statvfs(disk)
            filler = disk / "filler"
            filler.write_bytes(b"x" * max(status.f_bavail * status.f_bsize - leave, 0))
            tried = run(
                on_disk, "import", str(tmp_path / "small.json"), "--as", "next", "--no-metrics"
            )
            filler.unlink()
            if tried.returncode == 0:
                break
            assert tried.returncode == 2
            assert "the disk is full. Nothing was published." in tried.stderr
            places.add("parquet:" in tried.stderr)
            assert answers(on_disk) == before
            leave += 4096
        assert places == {True, False}
        assert rows_of(on_disk, "next") == 500
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def start(project: ea_arrow.Project, source: Path, *options: str) -> subprocess.Popen[str]:
    command = [EA_ARROW, "import", str(source), "--project", str(project.root), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_import_two_iterations_at_once(
    project: ea_arrow.Project, large: Path
) -> None:
    processes = [start(project, large, "--as", name) for name in ("left", "right")]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert {name: rows_of(project, name) for name in ("left", "right")} == {
        "left": ROWS,
        "right": ROWS,
    }


def test_two_processes_create_the_same_iteration(project: ea_arrow.Project, large: Path) -> None:
    processes = [start(project, large, "--as", "same") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], said
    assert "Iteration 'same' is already there" in said[codes.index(2)]
    assert rows_of(project, "same") == ROWS


def test_processes_append_at_once_and_nothing_is_lost(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    parts = [write_results(tmp_path / f"part-{i}.json", 1000 + i, seed=10 + i) for i in range(4)]
    processes = [
        start(project, part, "--as", "grown", "--append", "--no-metrics") for part in parts
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    ids = project.predictions("grown").to_polars()["prediction_id"].sort().to_list()
    assert ids == list(range(4006))


def test_processes_replace_at_once_and_one_of_them_stays(
    project: ea_arrow.Project, tmp_path: Path
) -> None:
    parts = [write_results(tmp_path / f"part-{i}.json", 1000 + i, seed=20 + i) for i in range(4)]
    processes = [start(project, part, "--as", "one", "--replace", "--no-metrics") for part in parts]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert rows_of(project, "one") in range(1000, 1004)
    assert len(project.iterations["one"].files) == 1


def test_two_processes_make_the_same_project(project: ea_arrow.Project, tmp_path: Path) -> None:
    command = [EA_ARROW, "init", str(tmp_path / "new"), "--labels", str(tmp_path / "gt.json")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], said
    assert "there is a project already" in said[codes.index(2)]
    assert len(ea_arrow.open(tmp_path / "new").labels) == LABELS
    assert [p.name for p in (tmp_path / "new").iterdir()] == [".ea-arrow"]


@pytest.mark.parametrize("after", [0.2, 0.3, 0.4, 0.5])
def test_interrupted_import_is_all_or_nothing(
    project: ea_arrow.Project, large: Path, after: float
) -> None:
    before = answers(project)
    process = start(project, large, "--as", "victim")
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    files = list((project.root / ".ea-arrow" / "predictions").glob("iteration=victim/*"))
    if "victim" in project.iterations:  # it was done, or printing metrics
        assert rows_of(project, "victim") == ROWS
        assert len(files) == 1
    else:
        assert answers(project) == before
        assert not files
