"""The life of a writer: from the first row to the commit, or to nothing."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow.compute as pc

from ea_arrow.errors import ParameterError, PredictionError, ProjectError, RejectedRowsError
from ea_arrow.intake import Intake
from ea_arrow.ledger import Ledger
from ea_arrow.progress import Progress, warning_of
from ea_arrow.publication import ImportResult
from ea_arrow.shards import (
    Part,
    PublishedError,
    Shards,
    WriterPublication,
    check_shard,
    is_published,
    merged,
)
from ea_arrow.store import Store
from ea_arrow.writer_options import MODES, WriterOptions, reserve, root_of

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from ea_arrow.live import Live
    from ea_arrow.normalise import Normalised
    from ea_arrow.publication import Mode

SOURCE: Final = "writer"


class Session:
    """What a writer does around its rows: open, write, publish; see :mod:`ea_arrow.writer`."""

    def __init__(self, project: Any, custom_object_map: Any = None, **options: Any) -> None:
        self._options = WriterOptions(**options)
        self._options.check()
        self._store = Store(root_of(project))
        is_map = hasattr(custom_object_map, "items")
        self._custom = custom_object_map if is_map else None
        self.name = self._options.name
        self.ledger = Ledger()
        self.result: ImportResult | None = None
        self.missing: list[int] = []
        self._part: Part | None = None
        self._reserved: Path | None = None
        self._published: list[WriterPublication] = []
        self._intake: Intake | None = None
        self._extend: Callable[[Any], None] = _outside
        self._waiting: Sequence[Any] = ()
        self._streamed: deque[pa.RecordBatch] | None = None
        self._live: Live | None = None
        self._formats: set[str] = set()
        self._unread = 0  # streams that were made and not begun
        self._ended = False
        self._stays = 0  # rows that are published

    def __repr__(self) -> str:
        return f"PredictionWriter({self.name!r}, {self.ledger.kept:,} predictions)"

    # -- the block -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._intake is not None or self.result is not None:
            raise PredictionError("A writer writes one iteration; make another one.")
        try:
            self._open()
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise ProjectError(
                "The table library failed. If this process was forked from one that had used a "
                "project: delta-rs does not survive that.",
                hint="Start processes with the 'spawn' or 'forkserver' method.",
            ) from error
        return self

    def _open(self) -> None:
        self._started = time.monotonic()
        if self.name is None:
            self.name, self._reserved = reserve(self._store)
        try:
            self._shards = self._start_shard()
            self._publication = self._new_publication(MODES[self._options.mode])
            self._publication.check_mode()
            self._file, self._refused = self._publication.open()
        except BaseException:
            self._release()
            raise
        first = 0 if self._shards else self._publication.first_id()
        self._intake = Intake(self._store, self._custom, self._take, first)
        self._waiting = self._intake.rows.values
        self._extend = self._waiting.extend
        self._progress = Progress(self.name, shown=self._options.progress)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, trace
        intake = self._inside()
        try:
            if error is None:
                self._finish(intake)
            elif self._options.partial:
                self._finish_partly(intake, error)
            else:
                self._publication.discard()
            if error is not None and not isinstance(error, RejectedRowsError):
                error.add_note(self._what_stays())
        finally:
            self._ended = True
            self._extend, self._waiting = _afterwards, ()
            intake.pipeline.close()
            self._progress.stop()
            self._release()
            self._intake = None
        told = warning_of(self.ledger, self.name or "")
        if told and error is None:
            warnings.warn(told, UserWarning, stacklevel=2)

    def _what_stays(self) -> str:
        """What an error in the loop left of the iteration, for its notes."""
        if not self._stays:
            return f"ea-arrow: nothing of '{self.name}' was written"
        stays = f"{self._stays:,} predictions of '{self.name}'"
        return f"ea-arrow: {stays} are written; any later ones are lost"

    def _finish(self, intake: Intake) -> None:
        """Publish what there is, or stage it for the other ranks."""
        with self._publication.or_nothing():
            self._check_whole(intake)
            self._check_streams()
            intake.flush()
        published = True
        if self._shards is not None:
            published = self._finish_shard(intake)
        elif self._published and intake.pipeline.ledger.read == 0:
            self._publication.discard()  # all of it was published at the last checkpoint
        else:
            self._publish(intake)
        self._conclude("Wrote" if published else "Staged", published=published)

    def _check_whole(self, intake: Intake) -> None:
        """Refuse to publish an iteration from which an error that was passed over took rows.

        Raises:
            PredictionError: One did.
        """
        if intake.failed is not None:
            raise PredictionError(
                f"Iteration '{self.name}' was not written: an error in the loop lost predictions: "
                f"{intake.failed}"
            ) from intake.failed

    def _check_streams(self) -> None:
        """Refuse to publish an iteration without what a stream was to write.

        Raises:
            PredictionError: A stream was made and never read.
        """
        if self._unread:
            raise PredictionError(
                f"A stream for iteration '{self.name}' was made and never read.",
                hint="Read it: for batch in writer.stream(predictions): …",
            )

    def _finish_partly(self, intake: Intake, error: BaseException) -> None:
        """Publish what was written before the error, marked so."""
        why = f"{type(error).__name__}: {error}"[:200]
        with self._publication.or_nothing():
            intake.flush()
        if intake.pipeline.ledger.kept == 0:
            self._publication.discard()
            return
        self._publication.note_partial(why)
        intake.pipeline.ledger.notes["partial: the loop ended with an error"] = (
            intake.pipeline.ledger.kept
        )
        self._publish(intake, check=False)
        self._conclude("Stopped by an error; wrote", published=True)

    def _publish(self, intake: Intake, *, check: bool = True) -> None:
        publication = self._publication
        ledger = intake.pipeline.finish()
        self.ledger.add(ledger)
        with publication.or_nothing():
            if check:
                publication.check_ledger(ledger)
        publication.finish()
        publication.publish(ledger)
        self._published.append(publication)
        self._stays = self.ledger.kept

    def _conclude(self, what: str, *, published: bool) -> None:
        name = self._publication.iteration
        seconds = time.monotonic() - self._started
        self.result = ImportResult(name, self.ledger, published, seconds)
        self._progress.summary(self.ledger, what)

    def checkpoint(self) -> int:
        """Publish what was written so far, and go on; what comes after is appended.

        An error later in the loop leaves what the last checkpoint published.

        Returns:
            How many predictions are published now.

        Raises:
            ParameterError: The writer is one of several ranks.
            RejectedRowsError: Rows were refused under ``strict``, or none could be kept.
        """
        intake = self._inside()
        self._check_whole(intake)
        if self._shards is not None:
            raise ParameterError("A rank cannot publish: the iteration appears when all are done.")
        intake.flush()
        if intake.pipeline.ledger.read:
            self._publish(intake)
            self._publication = self._new_publication("append")
            intake.pipeline.next_id = self._publication.first_id()
            self._file, self._refused = self._publication.open()
        return self.ledger.kept

    def _new_publication(self, mode: Mode) -> WriterPublication:
        options = self._options
        return WriterPublication(
            self._store,
            self.name or "",
            mode,
            model=options.model,
            parameters=options.parameters,
            strict=options.strict,
            after=tuple(p.import_id for p in self._published),
        )

    # -- ranks ---------------------------------------------------------------------------------

    def _start_shard(self) -> Shards | None:
        if self._options.shard is None:
            return None
        rank, world = check_shard(self._options.shard)
        shards = Shards(self._store, self.name or "", world, self._options.attempt)
        self._new_publication(MODES[self._options.mode]).check_mode()
        shards.start(rank)
        return shards

    def _finish_shard(self, intake: Intake) -> bool:
        """Stage this rank's part; if it is the last one, publish all of them."""
        shards, options = self._shards, self._options
        if shards is None or options.shard is None:
            return False
        ledger = intake.pipeline.finish()
        self.ledger.add(ledger)
        self._publication.finish()
        self._part = shards.stage(check_shard(options.shard)[0], self._publication, ledger)
        parts = shards.parts()
        self.missing = sorted(set(range(shards.world)) - parts.keys())
        if self.missing:
            # Another rank may have published all of them since this one was staged.
            published = is_published(self._store, [self._part.id])
            self.missing = [] if published else self.missing
            return published
        whole = merged(
            self._store,
            shards.name,
            MODES[options.mode],
            model=options.model,
            parameters=options.parameters,
            strict=options.strict,
        )
        with suppress(PublishedError):  # by a rank that finished at the same time
            shards.publish(whole, parts)
        return True

    def wait(self, timeout: float = 600.0) -> None:
        """After the block, wait until the other ranks are done and the iteration is published.

        Args:
            timeout: Seconds to wait.

        Raises:
            ShardError: Some are not done by then; they are named.
        """
        if self._part is not None and self._shards is not None:
            self._shards.wait(self._part, timeout)
            self.missing = []

    # -- rows that are done --------------------------------------------------------------------

    def _take(self, batch: Normalised) -> None:
        """Write a batch that the intake is done with."""
        ledger = self._inside().pipeline.ledger
        self._file.write(batch.rows)
        if batch.rejected.num_rows:
            self._publication.refuse(batch, SOURCE, ledger, self._refused)
            if self._options.strict:
                self._publication.check_ledger(ledger)
        self._formats |= set(pc.unique(batch.rows.column("format")).to_pylist())
        if self._live is not None:
            self._live.add(batch.rows)
        if self._streamed is not None and batch.rows.num_rows:
            self._streamed.append(batch.rows)
        self._progress.update(ledger)

    def _inside(self) -> Intake:
        if self._intake is None:
            raise _finished() if self._ended else _not_open()
        return self._intake

    def _release(self) -> None:
        """Give back a name that was taken for nothing."""
        if self._reserved is not None:
            with suppress(OSError):  # it holds files: it was used
                self._reserved.rmdir()


def _outside(row: object) -> None:
    raise _not_open()


def _afterwards(row: object) -> None:
    raise _finished()


def _finished() -> PredictionError:
    return PredictionError(
        "This writer has finished.", hint="To add predictions, open another with mode='append'."
    )


def _not_open() -> PredictionError:
    return PredictionError(
        "The writer is not open.", hint="Use it as 'with project.writer(…) as writer:'."
    )
