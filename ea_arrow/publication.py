"""One iteration on its way into the store: staged in files nobody sees, published by one commit.

The importer and the writer both go through here: what they write is visible as a whole or not.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ea_arrow.conform import conform
from ea_arrow.errors import (
    EaArrowError,
    IterationError,
    IterationExistsError,
    ProjectError,
    RejectedRowsError,
)
from ea_arrow.files import FileWriter
from ea_arrow.rejects import reject_rows
from ea_arrow.schema import ITERATIONS, LABELS, PREDICTIONS
from ea_arrow.schema import REJECTS as REJECT_ROWS
from ea_arrow.store import import_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.ledger import Ledger
    from ea_arrow.normalise import Normalised
    from ea_arrow.store import Store
    from ea_arrow.tables import DataFile

Mode = Literal["create", "append", "replace"]
MODES: Final = ("create", "append", "replace")


@dataclass(frozen=True)
class ImportResult:
    """What an import or a writer did.

    Attributes:
        iteration: The iteration.
        ledger: The account of every row.
        published: Whether it was written (not on a dry run).
        seconds: How long it took.
    """

    iteration: str
    ledger: Ledger
    published: bool
    seconds: float


def new_import_id() -> str:
    """A unique id; ids sort by time."""
    return f"{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[:16]}"


_HINTS: Final = {
    "unknown_data_unit": "Data units of the project: "
    "ea-arrow query 'select data_hash, frame, source_id, title from data_units'",
    "unknown_class": "Classes of the project: ea-arrow ontology",
}


def _as_json(parameters: dict[str, Any]) -> str:
    try:
        return json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"The parameters cannot be stored as JSON: {error}.") from error


def keep_messages(batch: Normalised, rows: pa.Table, ledger: Ledger) -> None:
    """Keep the first message of each rule; ``rows`` are the batch's ``REJECTS``."""
    for rule, flags in batch.broken.items():
        if rule in ledger.rejects and rule not in ledger.messages:
            ledger.messages[rule] = rows["message"][int(flags.argmax())].as_py()


class Publication:
    """The steps from rows to a published iteration.

    Args:
        store: The project.
        iteration: The iteration's name.
        mode: Whether it is new, grows, or is replaced.
        model: The model, for the record.
        parameters: Anything else, for the record.
        strict: Whether a refused row is an error.
        after: Earlier publications of the same writer, by import id; they must still be live.
    """

    action = "import"
    exists_hint = "Give another name with --as, or use --append or --replace."
    strict_words = "--strict is given"

    def __init__(
        self,
        store: Store,
        iteration: str,
        mode: Mode,
        *,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        strict: bool = False,
        after: tuple[str, ...] = (),
    ) -> None:
        self.store, self.iteration, self.mode = store, iteration, mode
        self.model, self.strict, self.after = model, strict, after
        self.parameters = _as_json(parameters or {})
        self.predictions = store.table(PREDICTIONS)
        self.import_id = new_import_id()
        self.created_at = datetime.now(UTC)
        self.written: FileWriter | None = None
        self.refused: FileWriter | None = None
        self.earlier: list[FileWriter] = []
        self._files = 0

    def live_files(self) -> list[DataFile]:
        """The iteration's files in the newest version seen."""
        return self.predictions.files({"iteration": self.iteration})

    def first_id(self) -> int:
        """The ``prediction_id`` of the first new row, as far as can be told now."""
        return sum(file.rows for file in self.live_files()) if self.mode == "append" else 0

    def check_mode(self) -> None:
        """Refuse to create an iteration that is there.

        Raises:
            IterationExistsError: It is there.
            IterationError: The mode is none.
        """
        if self.mode not in MODES:
            raise IterationError(f"mode must be one of {', '.join(MODES)}; this is {self.mode!r}.")
        if self.mode == "create" and self.live_files():
            raise IterationExistsError(
                f"Iteration '{self.iteration}' is already there; nothing was written.",
                hint=self.exists_hint,
            )

    def check_ledger(self, ledger: Ledger) -> None:
        """Refuse to publish what is not worth it.

        Raises:
            RejectedRowsError: Rows were refused under ``strict``, or none could be kept.
        """
        if ledger.rejected and (self.strict or not ledger.kept):
            what = "No row could be kept"
            if ledger.kept:
                what = f"Rows were refused and {self.strict_words}"
            first = next(iter(ledger.rejects))
            why = ledger.messages.get(first)
            refused = f"{ledger.rejected:,} of {ledger.read:,} refused"
            raise RejectedRowsError(
                f"{what}: {refused}{f': {why}' if why else '.'} "
                f"Iteration '{self.iteration}' was not written.",
                ledger=ledger,
                hint=_HINTS.get(first),
            )

    @contextmanager
    def stage(self) -> Iterator[tuple[FileWriter, FileWriter]]:
        """Files for the rows kept and refused; if the block raises they are gone again."""
        files = self.open()
        with self.or_nothing():
            yield files
        self.finish()

    @contextmanager
    def or_nothing(self) -> Iterator[None]:
        """Delete the files if the block raises."""
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def open(self) -> tuple[FileWriter, FileWriter]:
        """Open the files for the rows kept and refused; see :meth:`finish` and :meth:`discard`."""
        rejects = self.store.table(REJECT_ROWS)
        self.written = self._new_file()
        try:
            self.refused = FileWriter(rejects.root, REJECT_ROWS, {}, self.import_id)
        except BaseException:
            self.written.discard()
            raise
        return self.files()

    def rotate(self) -> FileWriter:
        """Finish the file of the rows kept, so that it can be read, and open the next one."""
        written, _ = self.files()
        written.close()
        self.earlier.append(written)
        self.written = self._new_file()
        return self.written

    def finish(self) -> None:
        """Finish the files; if that fails they are gone."""
        with self.or_nothing():
            for file in self.files():
                file.close()
            if self.earlier and self.written is not None and not self.written.rows:
                self.written.discard()
                self.written = self.earlier.pop()

    def discard(self) -> None:
        """Delete the files."""
        for file in (*self.earlier, *self.files()):
            file.discard()

    def _new_file(self) -> FileWriter:
        self._files += 1
        partition, name = {"iteration": self.iteration}, f"{self.import_id}-{self._files - 1}"
        return FileWriter(self.predictions.root, PREDICTIONS, partition, name)

    def refuse(
        self, batch: Normalised, source: str, ledger: Ledger, rejects: FileWriter | None
    ) -> None:
        """Write refused rows, if to anything, and keep the first message of each rule."""
        if rejects is None and batch.broken.keys() <= ledger.messages.keys():
            return
        rows = reject_rows(batch, import_id=self.import_id, iteration=self.iteration, source=source)
        keep_messages(batch, rows, ledger)
        if rejects is not None:
            rejects.write_all(rows)

    def publish(
        self,
        ledger: Ledger,
        describe: Callable[[], list[dict[str, Any]]] = list,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Make the rows visible with one commit on the predictions, the last of the commits.

        Args:
            ledger: The account of the rows.
            describe: Returns the source files: name, size and SHA-256.
            more: Also to be kept in the history.

        Raises:
            IterationExistsError: Another process published an iteration of this name first.
            ConflictError: Other processes keep changing the iteration.
        """
        _, refused = self.files()
        metadata = {"import_id": self.import_id, "iteration": self.iteration, **ledger.to_dict()}
        metadata |= more or {}
        try:
            sources = describe()
            self._note_known(ledger, sources)
            if refused.rows:
                self.store.table(REJECT_ROWS).commit([refused.action()], metadata=metadata)
            else:
                refused.discard()
            self.store.table(ITERATIONS).append(self._row(ledger, sources), metadata)
            self.predictions.commit_decided(
                lambda: self._decide(metadata), f"iteration '{self.iteration}'"
            )
        except BaseException:
            # The error may have come after the commit, as an interruption can: then it is done.
            if not self.published():
                for file in (*self.earlier, self.files()[0]):
                    file.discard()
            raise

    def files(self) -> tuple[FileWriter, FileWriter]:
        """The files of the rows kept and refused, finished."""
        if self.written is None or self.refused is None:
            raise RuntimeError("publish comes after write")
        return self.written, self.refused

    def published(self) -> bool:
        """Whether it is visible. Where that cannot be told its file is left to compact."""
        try:
            live = self.store.table(PREDICTIONS).files({"iteration": self.iteration})
        except EaArrowError:
            return True
        return any(import_id_of(file) == self.import_id for file in live)

    def _note_known(self, ledger: Ledger, sources: list[dict[str, Any]]) -> None:
        """Note which files are in the project already, but for the iteration that is replaced."""
        known = {
            source["sha256"]: iteration.name
            for iteration in self.store.iterations(self.predictions).values()
            if self.mode != "replace" or iteration.name != self.iteration
            for imported in iteration.imports
            for source in json.loads(imported["sources"])
        }
        for source in sources:
            if source["sha256"] in known:
                where, files = known[source["sha256"]], source.get("files", 1)
                what = (
                    f"files of {source['name']} that are" if files > 1 else f"{source['name']} is"
                )
                ledger.notes[f"{what} already in iteration '{where}'"] = files

    def _decide(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """What to commit, given what is there now.

        Raises:
            IterationExistsError: The iteration is to be created and is there.
            IterationError: What this writer published before is no longer there.
        """
        self.check_mode()
        live = self.live_files()
        if not {import_id_of(file) for file in live}.issuperset(self.after):
            raise IterationError(
                f"Iteration '{self.iteration}' was removed or replaced while it was written.",
                hint="What was written since the last checkpoint was not published.",
            )
        self._number_after(live)
        written = [*self.earlier, self.files()[0]]
        for file in written:
            if not file.path.exists():
                raise ProjectError(f"{file.path}: was deleted while it was written.")
        return {
            "add": [file.action() for file in written],
            "remove": live if self.mode == "replace" else (),
            "transaction": (self.iteration, self.predictions.transaction(self.iteration) + 1),
            "metadata": {"action": f"{self.action} ({self.mode})", **metadata},
        }

    def _number_after(self, live: list[DataFile]) -> None:
        """On append, let prediction ids follow those of a file that another process appended."""
        if self.mode != "append" or self.written is None:
            return
        first = sum(file.rows for file in live)
        numbered = []
        for file in (*self.earlier, self.written):
            numbered.append(self._numbered(file, first))
            first += file.rows
        *self.earlier, self.written = numbered

    def _numbered(self, old: FileWriter, first: int) -> FileWriter:
        """A file whose ids begin at ``first``: the same one, if they do."""
        if not old.rows:
            return old
        source = pq.ParquetFile(old.path)
        was = source.metadata.row_group(0).column(0).statistics.min
        if was == first:
            return old
        with self._new_file() as writer:
            for batch in source.iter_batches():
                ids = batch.column("prediction_id").to_numpy() + (first - was)
                columns = {n: batch.column(n) for n in batch.schema.names}
                columns["prediction_id"] = pa.array(ids)
                writer.write(pa.RecordBatch.from_pydict(columns))
        old.path.unlink()
        return writer

    def _row(self, ledger: Ledger, described: list[dict[str, Any]]) -> pa.Table:
        row = {
            "import_id": self.import_id,
            "name": self.iteration,
            "created_at": self.created_at,
            "model": self.model,
            "parameters": self.parameters,
            "sources": json.dumps(described),
            "rows_read": ledger.read,
            "rows_kept": ledger.kept,
            "ledger": json.dumps(ledger.to_dict()),
            "labels_version": self.store.table(LABELS).version,
            "mode": self.mode,
        }
        return conform(pa.Table.from_pylist([row], schema=ITERATIONS.arrow), ITERATIONS)
