"""One iteration written by several processes: each stages a part, the last one publishes them all.

A part is a file of predictions and one of rejects that no version names, and a small note on them
in ``staging``. Notes appear in one step, so a process that is killed leaves files that ``compact``
deletes and no note; when it runs again, its new note completes the iteration.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ea_arrow.errors import ParameterError, ShardError
from ea_arrow.files import writing
from ea_arrow.ledger import Ledger
from ea_arrow.publication import Publication
from ea_arrow.schema import PREDICTIONS, REJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ea_arrow.files import FileWriter
    from ea_arrow.store import Store

STAGING: Final = "staging"
_POLL: Final = 0.1  # seconds


class WriterPublication(Publication):
    """A publication whose rows come from a prediction loop."""

    action = "write"
    exists_hint = 'Give another name, or mode="append" or mode="replace".'
    strict_words = "strict=True is given"

    def note_partial(self, why: str) -> None:
        """Mark the iteration as what was there when an error ended the loop."""
        self.parameters = json.dumps({**json.loads(self.parameters), "partial": why})


class PublishedError(Exception):
    """Another process published the same parts."""


class _Merged(WriterPublication):
    """A publication of parts: once, whichever process comes first."""

    parts: tuple[str, ...] = ()

    def _decide(self, metadata: dict[str, Any]) -> dict[str, Any]:
        if is_published(self.store, self.parts):
            raise PublishedError
        return super()._decide(metadata)


@dataclass(frozen=True)
class Part:
    """What one rank wrote."""

    rank: int
    id: str
    predictions: list[str]
    rejects: list[str]
    ledger: dict[str, Any] = field(default_factory=dict)


def check_shard(shard: Any) -> tuple[int, int]:
    """Return rank and number of ranks.

    Raises:
        ParameterError: They are none.
    """
    try:
        rank, world = (int(number) for number in shard)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"shard is (rank, world); found {shard!r}.") from error
    if not 0 <= rank < world:
        raise ParameterError(f"shard is (rank, world), 0 ≤ rank < world; found {shard!r}.")
    return rank, world


class Shards:
    """The parts of one iteration.

    Args:
        store: The project.
        name: The iteration.
        world: How many ranks write it.
        attempt: A name that the ranks of one run share, to keep apart those of another.
    """

    def __init__(self, store: Store, name: str, world: int, attempt: str | None = None) -> None:
        self.store, self.name, self.world = store, name, world
        run = f"{world}" if attempt is None else f"{world}-{attempt}"
        self.folder = store.folder / STAGING / name / run

    def start(self, rank: int) -> None:
        """Begin a rank: what it staged in an earlier run does not count any more."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._note(rank).unlink(missing_ok=True)

    def stage(self, rank: int, publication: Publication, ledger: Ledger) -> Part:
        """Note what a rank wrote; its files must be finished."""
        written, refused = publication.files()
        names = [file.name for file in (*publication.earlier, written)]
        rejects = [refused.name] if refused.rows else []
        part = Part(rank, publication.import_id, names, rejects, ledger.to_dict())
        unfinished = self._note(rank).with_suffix(".unfinished")
        with writing(self.folder):
            unfinished.write_text(json.dumps(part.__dict__))
            os.replace(unfinished, self._note(rank))  # noqa: PTH105  one step
        return part

    def parts(self) -> dict[int, Part]:
        """The parts that are there and not published yet, by rank."""
        found = {}
        done = _published_parts(self.store)
        for rank in range(self.world):
            try:
                part = Part(**json.loads(self._note(rank).read_text()))
            except FileNotFoundError:
                continue
            if part.id not in done:  # else whoever published it was killed before it tidied up
                found[rank] = part
        return found

    def missing(self) -> list[int]:
        """Ranks that have not finished."""
        return sorted(set(range(self.world)) - self.parts().keys())

    def publish(self, publication: _Merged, parts: dict[int, Part]) -> Ledger:
        """Write the parts in the order of their ranks as one iteration, and delete them.

        Raises:
            PublishedError: Another process did.
        """
        publication.parts = tuple(part.id for part in parts.values())
        total = Ledger()
        try:
            with publication.stage() as files:
                self._merge(parts.values(), publication, files)
                for rank, part in parts.items():
                    total.add(Ledger(**part.ledger), f"rank {rank}")
                publication.check_ledger(total)
        except FileNotFoundError as error:
            if is_published(self.store, publication.parts):
                raise PublishedError from error
            raise ShardError(
                f"A file that a rank of iteration '{self.name}' staged is gone: {error.filename}.",
                hint="Run all ranks again.",
            ) from error
        publication.publish(total, more={"parts": list(publication.parts), "shards": self.world})
        self.clear(parts.values())
        return total

    def clear(self, parts: Iterable[Part]) -> None:
        """Delete parts."""
        for part in parts:
            self._note(part.rank).unlink(missing_ok=True)
            for path in self._paths(part):
                path.unlink(missing_ok=True)

    def wait(self, part: Part, timeout: float) -> None:
        """Wait until the iteration with this part is published.

        Raises:
            ShardError: It is not after ``timeout`` seconds; ranks that have not finished are named.
        """
        end = time.monotonic() + timeout
        while not is_published(self.store, [part.id]):
            if time.monotonic() > end:
                missing = self.missing()
                names = ", ".join(map(str, missing))
                raise ShardError(
                    f"Iteration '{self.name}' is not complete after {timeout:g} s: missing of "
                    f"{self.world} ranks: {names or 'none, it is being published'}.",
                    hint="Run these ranks again; those that finished are kept.",
                )
            time.sleep(_POLL)

    def _merge(
        self, parts: Iterable[Part], publication: Publication, files: tuple[FileWriter, FileWriter]
    ) -> None:
        written, refused = files
        first = publication.first_id()
        for part in parts:
            source = f"rank {part.rank} of {self.world}"
            for name in part.predictions:
                for batch in _batches(publication.predictions.root / name):
                    ids = pa.array(np.arange(first, first + batch.num_rows))
                    first += batch.num_rows
                    written.write(_replaced(batch, "prediction_id", ids))
            for name in part.rejects:
                for batch in _batches(self.store.table(REJECTS).root / name):
                    told = pa.repeat(publication.import_id, batch.num_rows)
                    named = _replaced(batch, "import_id", told)
                    refused.write(_replaced(named, "source", pa.repeat(source, batch.num_rows)))

    def _paths(self, part: Part) -> list[Path]:
        roots = ((PREDICTIONS, part.predictions), (REJECTS, part.rejects))
        return [self.store.folder / spec.name / name for spec, names in roots for name in names]

    def _note(self, rank: int) -> Path:
        return self.folder / f"{rank}.json"


def merged(store: Store, name: str, mode: Any, **options: Any) -> _Merged:
    """A publication for :meth:`Shards.publish`."""
    return _Merged(store, name, mode, **options)


def is_published(store: Store, parts: Iterable[str]) -> bool:
    """Whether a commit on the predictions names one of these parts."""
    return not _published_parts(store).isdisjoint(parts)


def _published_parts(store: Store) -> set[str]:
    return {
        part
        for commit in store.table(PREDICTIONS).history()
        if "ea_arrow" in commit
        for part in json.loads(commit["ea_arrow"]).get("parts", ())
    }


def abandoned(store: Store, keep_hours: float) -> list[Path]:
    """Notes of parts that are older than ``keep_hours``: their files are about to be deleted."""
    oldest = time.time() - keep_hours * 3600
    notes = (store.folder / STAGING).rglob("*.*")
    return [path for path in notes if path.is_file() and path.stat().st_mtime < oldest]


def _batches(path: Path) -> Iterable[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches()


def _replaced(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    place = batch.schema.get_field_index(name)
    return batch.set_column(place, batch.schema.field(place), column)
