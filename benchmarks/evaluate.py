"""Times COCO evaluation beside pycocotools and three packages made to be faster than it.

Boxes and masks; the whole process and in memory; at first and again with a changed threshold,
subset of images or class. Measurements alternate between the packages, so that a busy moment hits
all of them, and every number of ea-arrow must equal pycocotools' bit by bit: the exit code is 1 if
one does not.

    python -m benchmarks.evaluate                    # forged data; medians of 5; about an hour,
    python -m benchmarks.evaluate --set small        # most of it pycocotools' on the large set
    python -m benchmarks.evaluate --type segm --skip pycocotools
    python -m benchmarks.evaluate --data FOLDER      # with gt*.json, dt*bbox*.json, dt*segm*.json
    python -m benchmarks.evaluate --huge             # 5 million detections within 4 GB

The peers are no dependencies: ``pip install hotcoco faster-coco-eval ultrafast-pycocotools``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import coco_files, peers
from benchmarks.timing import Measured, Report, Row, apart, run_process, worker

if TYPE_CHECKING:
    from collections.abc import Callable

SETS = {"small": 1, "large": 12}  # times the detections
SCALES = (1, 3, 12)
TYPES = ("bbox", "segm")
BOUND = 4 * 1024  # megabytes that evaluating the huge set may take
OURS = "ea-arrow"
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


# -- ea-arrow, by its public face ------------------------------------------------------------------


def iteration(iou_type: str, factor: int) -> str:
    return f"{iou_type}-{factor}x"


def command(*words: str, project: Path) -> list[str]:
    return [sys.executable, "-m", "ea_arrow.cli", *words, "--project", str(project)]


def forget_drawn(project: Path) -> None:
    """Delete the masks that ea-arrow drew from the labels' polygons."""
    for path in project.rglob("masks-*.arrow"):
        path.unlink()


def overall(rows: list[dict[str, Any]], name: str | None = None) -> list[float]:
    """The 12 numbers of a class, or over all, among rows of ``METRICS``; −1 where not defined."""
    values = {row["metric"]: row["value"] for row in rows if row["class"] == name}
    return [-1.0 if values.get(metric) is None else values[metric] for metric in NAMES]


class Ours:
    """ea-arrow with an iteration loaded; like :class:`benchmarks.peers.Peer`."""

    def __init__(self, project: str, name: str, iou_type: str) -> None:
        import ea_arrow
        from ea_arrow.arranged import objects
        from ea_arrow.metrics.coco import CocoParameters
        from ea_arrow.rasterise import with_masks

        self._project, self._name, self._type = ea_arrow.open(project), name, iou_type
        self._parameters = CocoParameters(iou_type=iou_type)
        predictions = self._project.predictions(name).to_arrow()
        labels, units, classes = (
            result.to_arrow()
            for result in (self._project.labels, self._project.data_units, self._project.classes)
        )
        labels = objects(labels)
        self._polygons = predictions, labels, units, classes
        if iou_type == "segm":
            labels = with_masks(labels, units)
        self._masks = predictions, labels, units, classes

    def prepare(self, what: str, given: Any) -> Callable[[], list[float]]:
        """Return what is to be timed; ``again`` changes nothing."""
        if what in ("polygons", "masks"):
            from ea_arrow.metrics.coco import evaluate

            tables = self._polygons if what == "polygons" else self._masks
            return lambda: list(evaluate(*tables, self._parameters).summary().values())
        changed: dict[str, Any] = {}
        if what == "threshold":
            changed["iou_thresholds"] = (given,)
        elif what == "condition":
            changed["where"] = f"height > width + {given}"
        klass = given if what == "class" else None

        def run() -> list[float]:
            result = self._project.metrics(self._name, iou_type=self._type, **changed)
            return overall(result.to_arrow().to_pylist(), klass)

        return run


# -- what is measured ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A set of data, in files and as a project of ea-arrow, and whom to compare."""

    folder: Path
    facts: coco_files.Facts
    peers: list[str]
    report: Report

    @property
    def project(self) -> Path:
        """Where ea-arrow's project is."""
        return self.folder / "project"

    def title(self, what: str, iou_type: str, factor: int) -> str:
        """Head a table."""
        kind = "boxes" if iou_type == "bbox" else "masks"
        return f"{what}: {self.facts.detections * factor:,} {kind}"

    def imported(self, iou_type: str, factor: int) -> Row:
        """Write the detections if need be and import them; what that took."""
        apart("benchmarks.coco_data", "multiply", self.folder, iou_type, factor)
        path = coco_files.found(self.folder, iou_type, factor)
        words = ("import", str(path), "--as", iteration(iou_type, factor), "--replace")
        seconds, megabytes, _ = run_process(command(*words, "--no-metrics", project=self.project))
        return Row([seconds], [megabytes])

    def ours(self, iou_type: str, factor: int) -> Callable[[], Ours]:
        """What loads a set into ea-arrow."""
        return partial(Ours, str(self.project), iteration(iou_type, factor), iou_type)

    def peer(self, name: str, iou_type: str, factor: int) -> Callable[[], peers.Peer]:
        """What loads a set into a peer."""
        truths = [str(coco_files.truth(self.folder, masks=masks)) for masks in (False, True)]
        found = str(coco_files.found(self.folder, iou_type, factor))
        return partial(peers.Peer, name, (truths[0], truths[1]), found, iou_type)


def in_memory(bench: Bench, iou_type: str, factor: int) -> None:
    """Everything that starts from loaded data; one package's process at a time is busy."""
    makes = {OURS: bench.ours(iou_type, factor)}
    makes |= {name: bench.peer(name, iou_type, factor) for name in bench.peers}
    with ExitStack() as stack:
        ask = {name: stack.enter_context(worker(make)) for name, make in makes.items()}
        evaluated(bench, iou_type, factor, ask)
        for what, change, givens in (
            ("another IoU threshold", "threshold", [0.6 + run / 100 for run in range(100)]),
            ("a part of the images", "condition", list(range(100))),
            ("one class", "class", bench.facts.classes),
        ):
            ask[OURS]("again")  # what it keeps of an iteration is there from now on

            def task(one: Callable[[str, Any], Measured], run: int, change=change, givens=givens):
                return one(change, givens[run % len(givens)])

            rows = bench.report.measure({name: partial(task, one) for name, one in ask.items()})
            title = bench.title(f"In one process, again with {what}", iou_type, factor)
            bench.report.show(title, rows)
        print(
            "  ea-arrow keeps an iteration's pairs and answers; it is never asked the same twice,"
        )
        print("  but answers all classes at once. The peers evaluate again what they have loaded.")
        if iou_type == "segm":
            print("  They have the labels as masks here.")


def evaluated(bench: Bench, iou_type: str, factor: int, ask: dict[str, Any]) -> None:
    """From loaded data to the 12 numbers."""

    def task(one: Callable[[str], Measured], what: str, _: int) -> Measured:
        return one(what)

    tasks = {OURS: partial(task, ask[OURS], "masks")}
    if iou_type == "segm":
        tasks[f"{OURS}, polygons drawn too"] = partial(task, ask[OURS], "polygons")
    for name in bench.peers:
        tasks[name] = partial(task, ask[name], "polygons")
    if iou_type == "segm":
        for name in bench.peers:
            if name != peers.REFERENCE:
                tasks[f"{name}, labels as masks"] = partial(task, ask[name], "masks")
    title = bench.title("In memory, from loaded data to the 12 numbers", iou_type, factor)
    bench.report.show(title, bench.report.measure(tasks))
    if iou_type == "segm":
        print("  ea-arrow draws the labels' polygons once for a project and keeps the masks; the")
        print("  peers draw them in each evaluation, unless they are given the labels as masks.")


def whole_processes(bench: Bench, iou_type: str, factor: int, taken: Row) -> None:
    """A fresh process from what is on disk to printed numbers; files are in the page cache."""
    words = ("metrics", iteration(iou_type, factor), "--type", iou_type)
    ours = partial(command, *words, project=bench.project)
    paths = (coco_files.truth(bench.folder), coco_files.found(bench.folder, iou_type, factor))

    def printing(extra: tuple[str, ...], _: int, *, forget: bool = False) -> Any:
        if forget:
            forget_drawn(bench.project)
        seconds, megabytes, text = run_process([*ours(), *extra])
        numbers = overall(json.loads(text)) if "json" in extra else None
        return seconds, numbers, megabytes

    def peer(name: str, _: int) -> Any:
        words = [sys.executable, "-m", "benchmarks.peers", name, *map(str, paths), iou_type]
        seconds, megabytes, text = run_process(words)
        return seconds, json.loads(text.splitlines()[-1]), megabytes

    printing((), 0)  # so that labels are drawn and results kept before anything is timed
    cold, as_json = "--no-cache", ("--format", "json")
    tasks: dict[str, Any] = {
        OURS: partial(printing, (cold,)),
        f"{OURS}, as JSON": partial(printing, (cold, *as_json)),
        f"{OURS}, again": partial(printing, as_json),
    }
    if iou_type == "segm":
        tasks[f"{OURS}, polygons drawn too"] = partial(printing, (cold, *as_json), forget=True)
    tasks |= {name: partial(peer, name) for name in bench.peers}
    rows = bench.report.measure(tasks)
    rows[f"{OURS}, import, once before"] = taken
    title = bench.title("Whole processes, from files to printed numbers", iou_type, factor)
    bench.report.show(title, rows)
    print("  ea-arrow reads its store, filled by the import; the peers read JSON. MB: peak memory.")


def scaling(bench: Bench, iou_type: str) -> None:
    """ea-arrow in memory, on more and more detections for the same labels."""
    print(f"\n{bench.title('In memory, growth with the detections', iou_type, 1)} and more")
    first = None
    for factor in SCALES:
        bench.imported(iou_type, factor)
        with worker(bench.ours(iou_type, factor)) as ask:
            rows = bench.report.measure({OURS: lambda _, ask=ask: ask("masks")})
        n, median = bench.facts.detections * factor, statistics.median(rows[OURS].seconds)
        rate = median / (n * math.log(n))
        first = first or rate
        print(f"  {n:>9,} detections {median:>8.3f} s   seconds per n log n, to the first: "
              f"{rate / first:.2f}", flush=True)  # fmt: skip


def huge(folder: Path) -> bool:
    """Evaluate 5 million boxes in a fresh process; whether that stayed within bounds."""
    project, path = folder / "project", coco_files.found(folder, "bbox", 1)
    apart("benchmarks.coco_data", "make_huge_truth", folder)
    words = ["init", str(project), "--labels", str(coco_files.truth(folder))]
    seconds, megabytes, _ = run_process([sys.executable, "-m", "ea_arrow.cli", *words])
    n = f"{coco_files.HUGE_LABELS:,} labels of {coco_files.HUGE_IMAGES:,} images"
    print(f"\nHuge: {n}\n  init   {seconds:8.1f} s {megabytes:8,.0f} MB", flush=True)
    coco_files.truth(folder).unlink()
    total, peak = 0.0, 0.0
    for part in range(coco_files.HUGE_FILES):
        apart("benchmarks.coco_data", "make_huge_part", folder, part)
        words = ["import", str(path), "--as", "huge", "--no-metrics"]
        words += ["--append"] if part else []
        seconds, megabytes, _ = run_process(command(*words, project=project))
        total, peak = total + seconds, max(peak, megabytes)
        path.unlink()
    print(f"  import {total:8.1f} s {peak:8,.0f} MB, in {coco_files.HUGE_FILES} files", flush=True)
    words = ["metrics", "huge", "--type", "bbox", "--no-cache", "--format", "json"]
    seconds, megabytes, text = run_process(command(*words, project=project))
    rows = json.loads(text)
    counted = next(row["n_predictions"] for row in rows if row["metric"] == "AP")
    within = megabytes <= BOUND
    print(
        f"  metrics, {counted:,} boxes: {seconds:.1f} s, {megabytes:,.0f} MB; "
        f"{'within' if within else 'BEYOND'} the bound of {BOUND:,} MB; AP {overall(rows)[0]:.16f}"
    )
    return within and counted == coco_files.HUGE_DETECTIONS


# -- the command -----------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    patience = "a task that took so long in all is not run again (default 120)"
    parser.add_argument("--patience", type=float, default=120, metavar="SECONDS", help=patience)
    parser.add_argument("--skip", action="append", default=[], choices=[*peers.PEERS])
    parser.add_argument("--set", action="append", choices=[*SETS, "scaling"])
    parser.add_argument("--type", action="append", choices=TYPES)
    parser.add_argument("--data", type=Path, help="a folder of COCO files; by default forged")
    parser.add_argument("--work", type=Path, help="where to keep files made; by default nowhere")
    parser.add_argument("--huge", action="store_true", help="only this, in 4 GB of memory")
    return parser.parse_args()


def compare(given: argparse.Namespace, folder: Path) -> Report:
    report = Report(given.runs, given.patience, peers.REFERENCE)
    versions = {n: v for n, v in peers.installed().items() if n not in given.skip}
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores;",
          ", ".join(f"{name} {version}" for name, version in versions.items()))  # fmt: skip
    apart("benchmarks.coco_data", "make", folder, given.data)
    bench = Bench(folder, coco_files.facts(folder), list(versions), report)
    shutil.rmtree(bench.project, ignore_errors=True)
    words = ["init", str(bench.project), "--labels", str(coco_files.truth(folder))]
    seconds, megabytes, _ = run_process([sys.executable, "-m", "ea_arrow.cli", *words])
    print(f"{bench.facts.images:,} images, {bench.facts.labels:,} labels; "
          f"ea-arrow init: {seconds:.2f} s, {megabytes:,.0f} MB")  # fmt: skip
    chosen = given.set or [*SETS, "scaling"]
    for iou_type in given.type or TYPES:
        for factor in (SETS[name] for name in SETS if name in chosen):
            taken = bench.imported(iou_type, factor)
            in_memory(bench, iou_type, factor)
            whole_processes(bench, iou_type, factor, taken)
        if "scaling" in chosen:
            scaling(bench, iou_type)
    return report


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.huge:
            with tempfile.TemporaryDirectory(dir=folder) as inside:
                sys.exit(0 if huge(Path(inside)) else 1)
        report = compare(given, folder)
    if not report.compared:
        print("\nNothing was compared with pycocotools.")
    elif report.wrong:
        sys.exit("\nea-arrow differs from pycocotools.\n" + "\n".join(report.wrong))
    else:
        print(f"\nea-arrow equalled pycocotools bit by bit, {report.compared} times 12 numbers.")


if __name__ == "__main__":
    main()
