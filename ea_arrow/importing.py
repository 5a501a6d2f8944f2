"""An import: sources in, one published iteration out, or nothing."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ea_arrow.ledger import EXAMPLES, Ledger
from ea_arrow.names import check_name
from ea_arrow.normalise import Normaliser
from ea_arrow.publication import ImportResult as ImportResult
from ea_arrow.publication import Mode as Mode
from ea_arrow.publication import Publication
from ea_arrow.publication import new_import_id as new_import_id
from ea_arrow.row_keys import Duplicates
from ea_arrow.sources.registry import open_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ea_arrow.files import FileWriter
    from ea_arrow.store import Store


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
        run.check_ledger(ledger)
    else:
        with ThreadPoolExecutor(1) as hashing:
            described = [hashing.submit(describe_source, path) for path in sources]
            ledger = run.write(sources)
            run.publish(ledger, lambda: [source.result() for source in described])
    return ImportResult(iteration, ledger, not options.dry_run, time.monotonic() - started)


def describe_source(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a source file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


class _Import(Publication):
    """The steps of one import."""

    def __init__(
        self,
        store: Store,
        iteration: str,
        options: ImportOptions,
        progress: Callable[[int], None] | None,
    ) -> None:
        super().__init__(
            store,
            iteration,
            options.mode,
            model=options.model,
            parameters=options.parameters,
            strict=options.strict,
        )
        self.options = options
        self.progress = progress

    def read(
        self, sources: Sequence[Path], writer: FileWriter | None, rejects: FileWriter | None
    ) -> Ledger:
        """Read all sources, write what is kept and what is refused, and count both."""
        units, classes = self.store.data_units(), self.store.classes()
        next_id = self.first_id()
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
                    self.refuse(batch, path.name, normalise.ledger, rejects)
                if self.progress:
                    self.progress(total.read + normalise.ledger.read)
            next_id = normalise.next_id
            total.add(normalise.ledger, name)
            for note, number in source.notes.items():
                total.count(note, [], number, reject=False)
        number, rows = duplicates.count(EXAMPLES)
        total.count("duplicate", rows, number, reject=False)
        return total

    def write(self, sources: Sequence[Path]) -> Ledger:
        """Write the files of the import; on any error they are gone again."""
        with self.stage() as (writer, refused):
            ledger = self.read(sources, writer, refused)
            self.check_ledger(ledger)
        return ledger
