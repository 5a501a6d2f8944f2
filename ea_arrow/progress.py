"""What a long loop shows of itself: a line that moves on a terminal, and an account at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.ledger import NOTES, REJECTS

if TYPE_CHECKING:
    from ea_arrow.ledger import Ledger

_SUSPICIOUS: Final = ("within_one_pixel",)


def warning_of(ledger: Ledger, name: str) -> str | None:
    """What the author of a loop must hear of its rows; None if all is well.

    Args:
        ledger: The account of the rows written.
        name: The iteration.
    """
    told = []
    if ledger.rejected:
        rules = "; ".join(_refusal(ledger, rule) for rule in ledger.rejects)
        told.append(
            f"{ledger.rejected:,} of {ledger.read:,} predictions of '{name}' refused: {rules}. "
            f"select * from rejects where iteration = '{name}'"
        )
    notes = [f"{ledger.notes[n]:,} × {NOTES[n]}" for n in _SUSPICIOUS if ledger.notes.get(n)]
    if notes:
        told.append(f"Of the predictions of '{name}': {'; '.join(notes)}")
    return ". ".join(told) or None


def _refusal(ledger: Ledger, rule: str) -> str:
    first = ledger.messages.get(rule, "").rstrip(".")
    told = f"{ledger.rejects[rule]:,}, first: {first}" if first else f"{ledger.rejects[rule]:,}"
    return f"{REJECTS.get(rule, rule)} ({told})"


class Progress:
    """Shows how many predictions were written. Everything goes to standard error.

    Args:
        name: The iteration.
        shown: Whether to show anything.
    """

    def __init__(self, name: str, *, shown: bool) -> None:
        self._name, self._shown = name, shown
        self._started = time.monotonic()
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(f"Writing '{name}' …")
            self._bar.start()

    def update(self, ledger: Ledger) -> None:
        """Show how far it is."""
        if self._bar is not None:
            refused = f", {ledger.rejected:,} refused" if ledger.rejected else ""
            told = f"Writing '{self._name}': {ledger.kept:,} predictions{refused}"
            self._bar.update(self._task, description=told)

    def stop(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def summary(self, ledger: Ledger, what: str) -> None:
        """Say what was done, and account for every row."""
        self.stop()
        if not self._shown:
            return
        seconds = time.monotonic() - self._started
        lines = [f"{what} {ledger.kept:,} predictions as '{self._name}' in {seconds:.2f} s"]
        for counts, meanings, word in (
            (ledger.rejects, REJECTS, "refused"),
            (ledger.notes, NOTES, "noted"),
        ):
            lines += [f"  {n:,} {word}: {meanings.get(k, k)}" for k, n in counts.items()]
        sys.stderr.write("\n".join(lines) + "\n")
