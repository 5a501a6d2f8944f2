"""Processes to measure in, and tables of what was measured."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]

Measured = tuple[float, list[float]]  # seconds, the 12 numbers


# -- processes -------------------------------------------------------------------------------------


def serve(pipe: Any, make: Callable[[], Any]) -> None:
    """Measure what is asked for through a pipe, silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    contender = make()
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        run = contender.prepare(*asked)
        gc.collect()
        start = time.perf_counter()
        numbers = run()
        pipe.send((time.perf_counter() - start, numbers))


@contextmanager
def worker(make: Callable[[], Any]) -> Iterator[Callable[[str, Any], Measured]]:
    """A process with a package and its data, so that packages do not share a heap."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, make))
    process.start()
    there.close()
    here.recv()

    def measure(what: str, given: Any = None) -> Measured:
        here.send((what, given))
        return here.recv()

    yield measure
    here.send(None)
    process.join()


def apart(module: str, function: str, *given: Any) -> None:
    """Run a function in a process of its own: this one stays small, see :func:`run_process`."""
    task = (module, function, given)
    process = multiprocessing.get_context("spawn").Process(target=_call, args=task)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{module}.{function} failed.")


def _call(module: str, function: str, given: tuple[Any, ...]) -> None:
    getattr(importlib.import_module(module), function)(*given)


def run_process(words: list[str]) -> tuple[float, float, str]:
    """Return a process's seconds, its peak memory in megabytes, and what it printed.

    Linux begins a child's peak at what its parent had, so a small peak can be this process's own.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.PIPE)
        errors = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{errors}")
        output.seek(0)
        per_megabyte = 2**20 if sys.platform == "darwin" else 2**10
        return seconds, usage.ru_maxrss / per_megabyte, output.read()


# -- tables ----------------------------------------------------------------------------------------


@dataclass
class Row:
    """The measurements of one contender: seconds, megabytes and, per variation, 12 numbers."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    numbers: dict[int, list[float]] = field(default_factory=dict)


class Report:
    """Prints tables, and remembers where ea-arrow differs from pycocotools.

    Args:
        runs: How often to measure.
        patience: Seconds in all after which a task is not run again.
        reference: Name of the row whose numbers those of ea-arrow must equal.
    """

    def __init__(self, runs: int, patience: float, reference: str) -> None:
        self._runs, self._patience, self._reference = runs, patience, reference
        self.wrong: list[str] = []
        self.compared = 0

    def measure(self, tasks: dict[str, Callable[[int], Any]]) -> dict[str, Row]:
        """Run all tasks in turn, again and again; each is given the number of the variation.

        A task that has taken as long as patience lasts is not run again.
        """
        rows = {name: Row() for name in tasks}
        for run in range(self._runs):
            for name, task in tasks.items():
                row = rows[name]
                if sum(row.seconds) > self._patience:
                    continue
                seconds, numbers, *megabytes = task(run)
                row.seconds.append(seconds)
                row.megabytes += megabytes
                if numbers is not None:
                    row.numbers[run] = numbers
        return rows

    def show(self, title: str, rows: dict[str, Row]) -> None:
        """Print a table; ratios are to its first row, ea-arrow's."""
        print(f"\n{title}")
        print(f"  {'':<40}{'median':>9}{'min – max, s':>18}{'ratio':>9}{'MB':>7}  runs  AP")
        base = next(iter(rows))
        ours = statistics.median(rows[base].seconds)
        expected = rows.get(self._reference, Row()).numbers
        for name, row in rows.items():
            median = statistics.median(row.seconds)
            spread = f"{min(row.seconds):.3f} – {max(row.seconds):.3f}"
            memory = f"{statistics.median(row.megabytes):,.0f}" if row.megabytes else ""
            ap = f"{row.numbers[0][0]:.16f}" if row.numbers else ""
            far = self._difference(name, row, expected, base)
            if far:
                ap += f"  differs by up to {far:.1g}"
                if name.startswith(base):
                    self.wrong.append(f"{title}: {name} differs by up to {far:g}")
            print(
                f"  {name:<40}{median:>9.3f}{spread:>18}{median / ours:>8.2f}×{memory:>7}"
                f"{len(row.seconds):>6}  {ap}",
                flush=True,
            )

    def _difference(
        self, name: str, row: Row, expected: dict[int, list[float]], base: str
    ) -> float:
        far = 0.0
        for run in row.numbers.keys() & expected.keys():
            pairs = list(zip(row.numbers[run], expected[run], strict=True))
            far = max(far, *(abs(one - other) for one, other in pairs))
            self.compared += name.startswith(base)
        return far
