"""An import: sources in, one published iteration out, or nothing."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
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
from ea_arrow.ledger import EXAMPLES, Ledger
from ea_arrow.names import check_name
from ea_arrow.normalise import Normaliser
from ea_arrow.rejects import reject_rows
from ea_arrow.row_keys import Duplicates
from ea_arrow.schema import ITERATIONS, LABELS, PREDICTIONS
from ea_arrow.schema import REJECTS as REJECT_ROWS
from ea_arrow.sources.registry import open_predictions
from ea_arrow.store import import_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ea_arrow.normalise import Normalised
    from ea_arrow.store import Store
    from ea_arrow.tables import DataFile

Mode = Literal["create", "append", "replace"]
MODES: Final = ("create", "append", "replace")


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        mode: Whether the iteration is new, grows, or is replaced.
        strict: Refuse to write anything if any row is refused.
        dry_run: Read and check everything, write nothing.
        model: The model, for the record.
        parameters: Anything else about the run, for the record.
        format: Format of the sources; found from their content by default.
    """

    mode: Mode = "create"
    strict: bool = False
    dry_run: bool = False
    model: str | None = None
    parameters: dict[str, Any] | None = None
    format: str | None = None


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

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


def import_predictions(
    store: Store,
    sources: Sequence[Path],
    iteration: str,
    options: ImportOptions,
    progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Import files of predictions as one iteration.

    Args:
        store: The project.
        sources: The files, in order.
        iteration: The iteration's name.
        options: How.
        progress: Called with the number of rows read so far.

    Raises:
        IterationExistsError: The iteration is there already and the mode is ``create``.
        RejectedRowsError: Rows were refused under ``strict``, or none could be kept.
        SourceError: A file cannot be read.
    """
    started = time.monotonic()
    check_name(iteration)
    run = _Import(store, iteration, options, progress)
    run.check_mode()
    if options.dry_run:
        ledger = run.read(sources, None, None)
        _check_ledger(ledger, iteration, options)
    else:
        with ThreadPoolExecutor(1) as hashing:
            described = [hashing.submit(describe_source, path) for path in sources]
            ledger = run.write(sources)
            run.publish(ledger, described)
    return ImportResult(iteration, ledger, not options.dry_run, time.monotonic() - started)


def describe_source(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a source file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _as_json(parameters: dict[str, Any]) -> str:
    try:
        return json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"The parameters cannot be stored as JSON: {error}.") from error


def _check_ledger(ledger: Ledger, iteration: str, options: ImportOptions) -> None:
    if ledger.rejected and (options.strict or not ledger.kept):
        what = "Rows were refused and --strict is given" if ledger.kept else "No row could be kept"
        first = next(iter(ledger.rejects))
        raise RejectedRowsError(
            f"{what}: {ledger.rejected:,} of {ledger.read:,} refused. "
            f"Iteration '{iteration}' was not written.",
            ledger=ledger,
            hint=_HINTS.get(first, ledger.messages.get(first)),
        )


_HINTS: Final = {
    "unknown_data_unit": "Those of the project: "
    "ea-arrow query 'select data_hash, frame, source_id, title from data_units'",
    "unknown_class": "Those of the project: ea-arrow ontology",
}


class _Import:
    """The steps of one import."""

    def __init__(
        self,
        store: Store,
        iteration: str,
        options: ImportOptions,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.store, self.iteration, self.options = store, iteration, options
        self.progress = progress
        self.predictions = store.table(PREDICTIONS)
        self.parameters = _as_json(options.parameters or {})
        self.import_id = new_import_id()
        self.created_at = datetime.now(UTC)
        self.written: FileWriter | None = None
        self.refused: FileWriter | None = None

    def live_files(self) -> list[DataFile]:
        """The iteration's files in the newest version seen."""
        return self.predictions.files({"iteration": self.iteration})

    def check_mode(self) -> None:
        """Refuse to create an iteration that is there.

        Raises:
            IterationExistsError: It is there.
            IterationError: The mode is none.
        """
        if self.options.mode not in MODES:
            raise IterationError(
                f"mode must be one of {', '.join(MODES)}; this is {self.options.mode!r}."
            )
        if self.options.mode == "create" and self.live_files():
            raise IterationExistsError(
                f"Iteration '{self.iteration}' is already there; nothing was written.",
                hint="Give another name with --as, or use --append or --replace.",
            )

    def read(
        self, sources: Sequence[Path], writer: FileWriter | None, rejects: FileWriter | None
    ) -> Ledger:
        """Read all sources, write what is kept and what is refused, and count both."""
        units, classes = self.store.data_units(), self.store.classes()
        appended = self.live_files() if self.options.mode == "append" else []
        next_id = sum(file.rows for file in appended)
        total, duplicates = Ledger(), Duplicates()
        for path in sources:
            name = path.name if len(sources) > 1 else None
            source = open_predictions(path, self.options.format)
            normalise = Normaliser(
                units, classes, source.coordinates, "predictions", next_id, duplicates, name
            )
            for raw in source.batches():
                batch = normalise(raw)
                if writer is not None:
                    writer.write(batch.rows)
                if batch.rejected.num_rows:
                    self._refuse(batch, path, normalise.ledger, rejects)
                if self.progress:
                    self.progress(total.read + normalise.ledger.read)
            next_id = normalise.next_id
            total.add(normalise.ledger, name)
            for note, number in source.notes.items():
                total.count(note, [], number, reject=False)
        number, rows = duplicates.count(EXAMPLES)
        total.count("duplicate", rows, number, reject=False)
        return total

    def _refuse(
        self, batch: Normalised, path: Path, ledger: Ledger, rejects: FileWriter | None
    ) -> None:
        """Write refused rows, if to anything, and keep the first message of each rule."""
        if rejects is None and batch.broken.keys() <= ledger.messages.keys():
            return
        rows = reject_rows(
            batch, import_id=self.import_id, iteration=self.iteration, source=path.name
        )
        for rule, flags in batch.broken.items():
            if rule in ledger.rejects and rule not in ledger.messages:
                ledger.messages[rule] = rows["message"][int(flags.argmax())].as_py()
        if rejects is not None:
            rejects.write_all(rows)

    def write(self, sources: Sequence[Path]) -> Ledger:
        """Write the files of the import; on any error they are gone again."""
        partition = {"iteration": self.iteration}
        name = f"{self.import_id}-0"
        rejects = self.store.table(REJECT_ROWS)
        with (
            FileWriter(self.predictions.root, PREDICTIONS, partition, name) as writer,
            FileWriter(rejects.root, REJECT_ROWS, {}, self.import_id) as refused,
        ):
            ledger = self.read(sources, writer, refused)
            _check_ledger(ledger, self.iteration, self.options)
        self.written, self.refused = writer, refused
        return ledger

    def publish(self, ledger: Ledger, described: list[Future[dict[str, Any]]]) -> None:
        """Make the import visible with one commit on the predictions, the last of its commits.

        Raises:
            IterationExistsError: Another process published an iteration of this name first.
            ConflictError: Other processes keep changing the iteration.
        """
        _, refused = self._files()
        metadata = {"import_id": self.import_id, "iteration": self.iteration, **ledger.to_dict()}
        try:
            sources = [source.result() for source in described]
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
            if not self._published():
                self._files()[0].discard()
            raise

    def _files(self) -> tuple[FileWriter, FileWriter]:
        if self.written is None or self.refused is None:
            raise RuntimeError("publish comes after write")
        return self.written, self.refused

    def _published(self) -> bool:
        """Whether the import is visible. Where that cannot be told its file is left to compact."""
        try:
            live = self.store.table(PREDICTIONS).files({"iteration": self.iteration})
        except EaArrowError:
            return True
        return any(import_id_of(file) == self.import_id for file in live)

    def _note_known(self, ledger: Ledger, sources: list[dict[str, Any]]) -> None:
        """Note which files are in the project already."""
        known = {
            source["sha256"]: iteration.name
            for iteration in self.store.iterations(self.predictions).values()
            for imported in iteration.imports
            for source in json.loads(imported["sources"])
        }
        for source in sources:
            if source["sha256"] in known:
                where = known[source["sha256"]]
                ledger.notes[f"{source['name']} is already in iteration '{where}'"] = ledger.kept

    def _decide(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """What to commit, given what is there now.

        Raises:
            IterationExistsError: The iteration is to be created and is there.
        """
        self.check_mode()
        live = self.live_files()
        self._number_after(live)
        written, _ = self._files()
        if not written.path.exists():
            raise ProjectError(f"{written.path}: was deleted while it was written.")
        return {
            "add": [written.action()],
            "remove": live if self.options.mode == "replace" else (),
            "transaction": (self.iteration, self.predictions.transaction(self.iteration) + 1),
            "metadata": {"action": f"import ({self.options.mode})", **metadata},
        }

    def _number_after(self, live: list[DataFile]) -> None:
        """On append, let prediction ids follow those of a file that another process appended."""
        if self.options.mode != "append" or self.written is None or not self.written.rows:
            return
        source = pq.ParquetFile(self.written.path)
        first = sum(file.rows for file in live)
        was = source.metadata.row_group(0).column(0).statistics.min
        if was == first:
            return
        old = self.written
        retry = int(old.path.stem.partition("-")[2]) + 1
        name = f"{self.import_id}-{retry}"
        with FileWriter(self.predictions.root, PREDICTIONS, old.partition, name) as writer:
            for batch in source.iter_batches():
                ids = batch.column("prediction_id").to_numpy() + (first - was)
                columns = {n: batch.column(n) for n in batch.schema.names}
                columns["prediction_id"] = pa.array(ids)
                writer.write(pa.RecordBatch.from_pydict(columns))
        self.written = writer
        old.path.unlink()

    def _row(self, ledger: Ledger, described: list[dict[str, Any]]) -> pa.Table:
        row = {
            "import_id": self.import_id,
            "name": self.iteration,
            "created_at": self.created_at,
            "model": self.options.model,
            "parameters": self.parameters,
            "sources": json.dumps(described),
            "rows_read": ledger.read,
            "rows_kept": ledger.kept,
            "ledger": json.dumps(ledger.to_dict()),
            "labels_version": self.store.table(LABELS).version,
            "mode": self.options.mode,
        }
        return conform(pa.Table.from_pylist([row], schema=ITERATIONS.arrow), ITERATIONS)
