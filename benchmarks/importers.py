"""Times imports beside what the packages for COCO take to load the same file into memory.

Ours end validated, joined to the project's data units and classes, and stored; theirs end as
objects or arrays in memory. In one process what is timed is ``Project.import_predictions`` and
``COCO.loadRes``, the labels loaded before; in whole processes ``ea-arrow import --no-metrics``, and
a process that loads the labels and the detections. Measurements alternate between the packages.

    python -m benchmarks.importers                   # 500,000 boxes and 50,000 masks; medians of 5
    python -m benchmarks.importers --set boxes --skip pycocotools
    python -m benchmarks.importers --set kitti       # 8,000 files
    python -m benchmarks.importers --large           # only this: a file of 1 GB in 1 GB of memory

The peers are no dependencies: ``pip install hotcoco faster-coco-eval ultrafast-pycocotools``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import coco_files, peers
from benchmarks.evaluate import command
from benchmarks.timing import Measured, Report, apart, run_process, worker

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "ea-arrow"
SETS = {"boxes": ("bbox", 500_000), "masks": ("segm", 50_000)}
KITTI_FILES, KITTI_ROWS, KITTI_BOUND = 8_000, 8, 3.0
LARGE_BYTES, LARGE_BOUND = 2**30, 1024  # megabytes


# -- in one process --------------------------------------------------------------------------------


class Ours:
    """ea-arrow with a project open."""

    def __init__(self, project: str) -> None:
        import ea_arrow

        self._project = ea_arrow.open(project)

    def prepare(self, found: str, form: str | None) -> Callable[[], list[float]]:
        """Return what is to be timed: an import. It replaces the one before."""

        def run() -> list[float]:
            result = self._project.import_predictions(found, "timed", mode="replace", format=form)
            return [float(result.ledger.kept)]

        return run


class Peer:
    """A package with the labels loaded."""

    def __init__(self, name: str, truth: str) -> None:
        self._truth = peers.classes(name)[0](truth)

    def prepare(self, found: str, _: object) -> Callable[[], list[float]]:
        """Return what is to be timed: loading detections."""

        def run() -> list[float]:
            return [float(len(self._truth.loadRes(found).getAnnIds()))]

        return run


def load(name: str, truth: str, found: str) -> None:
    """Load labels and detections with a peer and print how many there are."""
    print(json.dumps(len(peers.classes(name)[0](truth).loadRes(found).getAnnIds())))


# -- what is measured ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Where files are, whom to compare, and how often to measure."""

    folder: Path
    peers: list[str]
    report: Report

    def project(self, truth: Path) -> Path:
        """Make a project."""
        path = self.folder / f"project {truth.stem}"
        if not path.exists():
            words = [sys.executable, "-m", "ea_arrow.cli", "init", str(path)]
            run_process([*words, "--labels", str(truth)])
        return path

    def compare(self, title: str, truth: Path, found: Path, form: str | None = None) -> float:
        """Measure imports of a source; return the median seconds of ours in one process."""
        project = self.project(truth)
        names = self.peers if form is None else []
        makes = {OURS: partial(Ours, str(project))}
        makes |= {name: partial(Peer, name, str(truth)) for name in names}
        tasks = {name: partial(self._in_process, make, found, form) for name, make in makes.items()}
        rows = self.report.measure(tasks)
        self.report.show(f"{title}, in one process", rows)
        tasks = {OURS: partial(_whole, import_words(project, found, form))}
        for name in names:
            words = [sys.executable, "-m", "benchmarks.importers", "load", name]
            tasks[name] = partial(_whole, [*words, str(truth), str(found)])
        self.report.show(f"{title}, whole processes", self.report.measure(tasks))
        return statistics.median(rows[OURS].seconds)

    def _in_process(self, make: Callable[[], Any], found: Path, form: str | None, _: int) -> Any:
        """The second time in a fresh process: nothing is loaded or opened for the first time."""
        with worker(make) as ask:
            ask(str(found), form)
            measured: Measured = ask(str(found), form)
        return measured[0], None


def _whole(words: list[str], _: int) -> tuple[float, None, float]:
    seconds, megabytes, _ = run_process(words)
    return seconds, None, megabytes


def import_words(project: Path, found: Path, form: str | None = None) -> list[str]:
    """The command of an import."""
    words = ("import", str(found), "--as", "timed", "--replace", "--no-metrics", "--no-quality")
    return command(*words, *(("--format", form) if form else ()), project=project)


def detections(bench: Bench, iou_type: str, n: int) -> None:
    """Compare imports of forged detections."""
    apart("benchmarks.coco_data", "make", bench.folder, None)
    apart("benchmarks.importers", "make_detections", bench.folder, iou_type, n)
    found = coco_files.found(bench.folder, iou_type, 0)
    kind = "boxes" if iou_type == "bbox" else "masks"
    title = f"{n:,} {kind} ({found.stat().st_size / 1e6:,.0f} MB)"
    bench.compare(title, coco_files.truth(bench.folder), found)


def kitti(bench: Bench) -> bool:
    """Import a directory of KITTI files; whether it took no longer than it may."""
    folder = bench.folder / "kitti"
    apart("benchmarks.importers", "make_kitti", folder)
    n = f"{KITTI_FILES:,} KITTI files, {KITTI_FILES * KITTI_ROWS:,} boxes"
    seconds = bench.compare(n, folder / "kitti truth.json", folder / "labels", "kitti")
    within = seconds <= KITTI_BOUND
    print(f"  {'within' if within else 'BEYOND'} the bound of {KITTI_BOUND} s")
    return within


def large(bench: Bench) -> bool:
    """Import a file of 1 GB; whether that stayed within bounds."""
    apart("benchmarks.coco_data", "make", bench.folder, None)
    apart("benchmarks.importers", "make_large", bench.folder)
    project = bench.project(coco_files.truth(bench.folder))
    good = True
    for path in sorted(bench.folder.glob("large_*.json")):
        seconds, megabytes, _ = run_process(import_words(project, path))
        good &= (within := megabytes <= LARGE_BOUND)
        print(f"  {path.stem} ({path.stat().st_size / 1e6:,.0f} MB): {seconds:.1f} s, "
              f"{megabytes:,.0f} MB; {'within' if within else 'BEYOND'} the bound of "
              f"{LARGE_BOUND:,} MB", flush=True)  # fmt: skip
    return good


# -- data ------------------------------------------------------------------------------------------


def make_detections(folder: Path, iou_type: str, n: int) -> None:
    """Write exactly ``n`` detections, from forged ones multiplied; unless that is done."""
    from benchmarks.coco_data import multiply

    path = coco_files.found(folder, iou_type, 0)
    if path.exists():
        return
    once = len(json.loads(coco_files.found(folder, iou_type, 1).read_text()))
    factor = -(-n // once)
    multiply(folder, iou_type, factor)
    rows = json.loads(coco_files.found(folder, iou_type, factor).read_text())
    path.write_text(json.dumps(rows[:n]))


def make_large(folder: Path) -> None:
    """Write forged detections of both types again and again, with other scores, up to 1 GB."""
    for iou_type in ("bbox", "segm"):
        path = folder / f"large_{iou_type}.json"
        if path.exists():
            continue
        rows = coco_files.found(folder, iou_type, 1).read_text()[1:-1]
        with path.open("w") as file:
            file.write("[")
            for turn in range(LARGE_BYTES // len(rows) + 1):
                score = f'"score": 0.{turn:04}'
                file.write((", " if turn else "") + rows.replace('"score": 0.', score))
            file.write("]")


def make_kitti(folder: Path) -> None:
    """Write a directory of KITTI files with scores, and the ground truth of as many images."""
    if folder.exists():
        return
    rng = np.random.default_rng(7)
    names = ("Car", "Pedestrian", "Cyclist")
    (folder / "labels").mkdir(parents=True)
    corner = rng.uniform(0, 1, (KITTI_FILES, KITTI_ROWS, 2)) * (1000, 300)
    box = np.concatenate([corner, corner + rng.uniform(5, 70, corner.shape)], axis=2).round(2)
    score, kind = rng.uniform(0, 1, box.shape[:2]).round(4), rng.integers(0, 3, box.shape[:2])
    for file in range(KITTI_FILES):
        lines = [
            f"{names[k]} 0 0 -10 {' '.join(map(str, b))} 1.5 1.6 3.9 1.0 1.5 20.0 -1.57 {s}\n"
            for k, b, s in zip(kind[file], box[file].tolist(), score[file].tolist(), strict=True)
        ]
        (folder / "labels" / f"{file:06}.txt").write_text("".join(lines))
    images = [
        {"id": i, "width": 1242, "height": 375, "file_name": f"{i:06}.png"}
        for i in range(KITTI_FILES)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    truth = {"images": images, "categories": categories, "annotations": []}
    (folder / "kitti truth.json").write_text(json.dumps(truth))


# -- the command -----------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    patience = "a task that took so long in all is not run again (default 60)"
    parser.add_argument("--patience", type=float, default=60, metavar="SECONDS", help=patience)
    parser.add_argument("--skip", action="append", default=[], choices=[*peers.PEERS])
    parser.add_argument("--set", action="append", choices=[*SETS, "kitti"])
    parser.add_argument("--work", type=Path, help="where to keep files made; by default nowhere")
    parser.add_argument("--large", action="store_true", help="only this, in 1 GB of memory")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    versions = {n: v for n, v in peers.installed().items() if n not in given.skip}
    report = Report(given.runs, given.patience, peers.REFERENCE)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(given.work or Path(temporary), list(versions), report)
        bench.folder.mkdir(parents=True, exist_ok=True)
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores;",
              ", ".join(f"{name} {version}" for name, version in versions.items()))  # fmt: skip
        chosen = [] if given.large else given.set or [*SETS, "kitti"]
        for name, (iou_type, n) in SETS.items():
            if name in chosen:
                detections(bench, iou_type, n)
        if "kitti" in chosen:
            good &= kitti(bench)
        if given.large:
            good &= large(bench)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(*sys.argv[2:])
    else:
        main()
