"""An import: sources in, one published iteration out, or nothing."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.class_numbers import References
from ea_arrow.joining import Joining, choose, sampled
from ea_arrow.ledger import EXAMPLES, Ledger
from ea_arrow.names import check_name
from ea_arrow.normalise import Normaliser
from ea_arrow.publication import ImportResult as ImportResult
from ea_arrow.publication import Mode as Mode
from ea_arrow.publication import Publication
from ea_arrow.publication import new_import_id as new_import_id
from ea_arrow.row_keys import Duplicates, Seen
from ea_arrow.sources.formats import Reading
from ea_arrow.sources.registry import check_paths, open_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ea_arrow.files import FileWriter
    from ea_arrow.sources.base import Coordinates
    from ea_arrow.sources.formats import PredictionFormat
    from ea_arrow.store import Store

_HASHED_BYTES: Final = 1 << 18
MOST_SOURCES: Final = 100
"""With more files than this the record of an import describes them together."""


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
        match: What names data units, one of ``joining.UNIT_KEYS``; found by trial by default.
        classes: Which class of the project each class of the sources is, as ``--map`` takes it.
        reading: What is known about the files' numbers.
        dedupe: Drop rows that repeat an earlier one exactly.
    """

    mode: Mode = "create"
    strict: bool = False
    dry_run: bool = False
    model: str | None = None
    parameters: dict[str, Any] | None = None
    format: str | None = None
    match: str | None = None
    classes: str | Path | Mapping[Any, Any] | None = None
    reading: Reading = field(default_factory=Reading)
    dedupe: bool = False

    @property
    def map_text(self) -> str | None:
        """The mapping as a word, or as a file's whole path; None if it is neither."""
        if not isinstance(self.classes, str | Path):
            return None
        path = Path(self.classes)
        return str(path.absolute()) if path.is_file() else str(self.classes)

    def words(self) -> list[str]:
        """The options of ``ea-arrow import`` that say how the files were read."""
        reading = self.reading
        words = [] if self.format is None else ["--format", self.format]
        words += [] if self.match is None else ["--match", self.match]
        words += [] if self.map_text is None else ["--map", self.map_text]
        words += [] if reading.box is None else ["--box", reading.box]
        if reading.relative is not None:
            words.append("--relative" if reading.relative else "--pixels")
        words += ["--one-based"] if reading.one_based else []
        words += ["--dedupe"] if self.dedupe else []
        for name, value in reading.options.items():
            words += ["--option", f"{name}={value}"]
        return words


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
        check_paths(sources)  # a pipe would be waited for
        with _hashing() as (hashing, stop):
            groups = _grouped(sources)
            described = [hashing.submit(describe_source, paths, stop) for paths in groups]
            ledger = run.write(sources)
            run.publish(
                ledger,
                lambda: [
                    source.result() | {"read": run.read_as.get(paths[0])}
                    for source, paths in zip(described, groups, strict=True)
                ],
            )
    return ImportResult(iteration, ledger, not options.dry_run, time.monotonic() - started)


@contextmanager
def _hashing() -> Iterator[tuple[ThreadPoolExecutor, Event]]:
    """A thread that hashes while the files are read, and does not go on when that has failed."""
    stop = Event()
    with ThreadPoolExecutor(1) as hashing:
        try:
            yield hashing, stop
        except BaseException:
            stop.set()
            raise


def describe_source(paths: Sequence[Path], stop: Event | None = None) -> dict[str, Any]:
    """Name, size, SHA-256 and path of a source; of a directory or many files, of all together."""
    stop = stop or Event()
    first = paths[0]
    if len(paths) == 1 and not first.is_dir():
        digest = _digest(first, stop).hex()
        size = first.stat().st_size
        return {"name": first.name, "bytes": size, "sha256": digest, "path": str(first)}
    root = first if len(paths) == 1 else first.parent
    inner = paths if len(paths) > 1 else sorted(p for p in root.rglob("*") if p.is_file())
    total, size = hashlib.sha256(), 0
    for path in inner:
        if path.is_dir():
            continue
        own = _digest(path, stop)
        total.update(path.name.encode(errors="replace") + b"\0" + own)
        size += path.stat().st_size
    files = len(inner)
    described = {"name": root.name, "bytes": size, "sha256": total.hexdigest()}
    return described | {"files": files, "path": str(root)}


def _digest(path: Path, stop: Event) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while not stop.is_set() and (data := file.read(_HASHED_BYTES)):
            digest.update(data)
    return digest.digest()


def _grouped(sources: Sequence[Path]) -> list[list[Path]]:
    """Each source by itself, for its description; very many of them together."""
    return [[path] for path in sources] if len(sources) <= MOST_SOURCES else [list(sources)]


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
        self.read_as: dict[Path, dict[str, Any]] = {}
        """How each of the sources was read, for the record."""

    def read(
        self, sources: Sequence[Path], writer: FileWriter | None, rejects: FileWriter | None
    ) -> Ledger:
        """Read all sources, write what is kept and what is refused, and count both."""
        units, classes = self.store.data_units(), self.store.classes()
        total, duplicates = Ledger(), Duplicates()
        seen = Seen() if self.options.dedupe else None
        next_id = self.first_id()
        several = len(sources) > 1
        references = References(classes)
        for form, files, source in open_predictions(
            sources, self.options.format, self.options.reading
        ):
            sample, rest = sampled(source.batches())
            given = self.options.match, self.options.classes
            joining = choose(sample, source.coordinates, units, classes, *given)
            record = self._record(form, source.coordinates, joining)
            self.read_as |= dict.fromkeys(files.paths, record)
            name = files.root.name if several else None
            normalise = Normaliser(
                units, classes, joining.coordinates, "predictions", next_id, duplicates, name, seen
            )
            for raw in chain(sample, rest):
                batch = normalise(joining.apply(raw))
                references.add(raw)
                if writer is not None:
                    writer.write(batch.rows)
                if batch.rejected.num_rows:
                    self.refuse(batch, files.root.name, normalise.ledger, rejects)
                if self.progress:
                    self.progress(total.read + normalise.ledger.read)
            next_id = normalise.next_id
            total.add(normalise.ledger, name)
            self._note(total, source.notes, joining.notes)
        number, rows = duplicates.count(EXAMPLES)
        total.count("duplicate", rows, number, reject=False)
        if "unknown_class" in total.rejects:
            total.proposals += references.proposals()
        return total

    def _record(
        self, form: PredictionFormat, coordinates: Coordinates, joining: Joining
    ) -> dict[str, Any]:
        reading = self.options.reading
        return {
            "format": form.name,
            "box": reading.box or form.box,
            "relative": joining.coordinates.relative,
            "one_based": reading.one_based,
            "unit_key": joining.coordinates.unit_key,
            "class_key": (coordinates if joining.classes else joining.coordinates).class_key,
            "map": self.options.map_text,
            "options": self.options.words(),
        }

    def _note(self, ledger: Ledger, notes: Mapping[str, int], chosen: Sequence[str]) -> None:
        for note, number in notes.items():
            ledger.count(note, [], number, reject=False)
        for note in chosen:
            if note not in ledger.choices:
                ledger.choices.append(note)

    def write(self, sources: Sequence[Path]) -> Ledger:
        """Write the files of the import; on any error they are gone again."""
        with self.stage() as (writer, refused):
            ledger = self.read(sources, writer, refused)
            self.check_ledger(ledger)
        return ledger
