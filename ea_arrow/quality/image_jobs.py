"""Measures images in parallel, each decoded once, and goes on where a killed run stopped.

Threads do the work: Pillow and NumPy let others run while they compute, and unlike processes they
start at once and need nothing of the caller's script. Memory: an image takes about 10 bytes per
pixel while it is measured, one per thread; of large ones there is one at a time.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ea_arrow.files import sync, writing
from ea_arrow.parallel import MOST_THREADS
from ea_arrow.quality.image_files import VIDEO, load_stores, locate
from ea_arrow.quality.pixels import METRICS, decode, examine, open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    Row: TypeAlias = dict[str, Any]

PART_IMAGES: Final = 256
PART_SECONDS: Final = 2.0
"""A part is written after this many images or seconds: what a killed run loses."""

REMOTE_THREADS: Final = 16
"""Images of an object store are waited for most of the time."""

_LARGE_PIXELS: Final = 2**26
_TOGETHER: Final = 8  # images to one piece of work: handing one over costs more than a look at it
_MOST_TEXT: Final = 300
_LEFT_SECONDS: Final = 3600
_VERSION: Final = {b"ea_arrow.image_measures": b"1"}  # rises when any value changes
_one_large = threading.Lock()

MEASURES: Final = pa.schema(
    [
        pa.field("data_hash", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        *(pa.field(metric.name, pa.float64()) for metric in METRICS),
        pa.field("perceptual_hash", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("stamp", pa.string()),
    ],
    metadata=_VERSION,
)
"""One row per image: its metrics and hash, or an error and nulls. ``stamp`` says which state of the
file was measured; it is null where the file could not be read, so that the next run tries again."""


@dataclass(frozen=True)
class Measured:
    """What :func:`measure_images` found.

    Attributes:
        table: In the shape of ``MEASURES``, one row per image asked for, in their order.
        decoded: How many images this run read or tried to read.
        reused: How many an earlier run had measured.
        failed: How many rows have an error instead of values.
    """

    table: pa.Table
    decoded: int
    reused: int
    failed: int


class _Job(NamedTuple):
    key: str
    frame: int
    uri: str | None
    stamp: str | None


class _Undecodable(Exception):
    """The file of an image was read and will never be an image, until it changes."""


def measure_images(
    uris: Sequence[str | None],
    keys: Sequence[str],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    *,
    frames: Sequence[int] | None = None,
) -> Measured:
    """Measure images, each decoded once, and keep the results.

    Every few hundred images, or seconds, the results are written as one more Parquet file; a run
    that is killed loses no more than that. An image is not decoded again while its key and the
    state of its file (size and time of change, or the object store's ETag) are the same. An image
    that cannot be read or decoded costs its own row.

    Args:
        uris: Where each image is: a path, ``file://``, or what fsspec opens (``s3://``, ``gs://``,
            ``az://``, ``https://``); None where it is not known.
        keys: ``data_hash`` of each.
        folder: Where the results are kept; made if needed. One run at a time writes there.
        progress: Called with how many are done, and of how many.
        workers: How many threads; by default one per processor core, at most 8, and 16 where an
            object store is read.
        frames: Frame of each; 0 if not given.

    Raises:
        EaArrowError: A package that reads one of the object stores is missing.
        ProjectError: The folder cannot be written.
    """
    remote = load_stores(uris)
    kept = _kept(folder)
    frames = [0] * len(keys) if frames is None else frames
    table, stamps = _known(kept, keys, frames)
    jobs = [_Job(*each) for each in zip(keys, frames, uris, stamps, strict=True)]
    workers = workers or (REMOTE_THREADS if remote else min(os.cpu_count() or 1, MOST_THREADS))
    parts = _Parts(folder, kept)
    done = 0
    with closing(_results(jobs, workers)) as found, parts:
        for rows in found:
            parts.add([row for row in rows if row is not None])
            done += len(rows)
            if progress is not None:
                progress(done, len(jobs))
    table = parts.join(table)
    rows = pc.index_in(_wanted(keys, frames), value_set=_names(table["data_hash"], table["frame"]))
    table = table.take(rows).drop_columns(["stamp"])
    failed = len(table) - table["error"].null_count
    return Measured(table, parts.rows, len(keys) - parts.rows, failed)


def _names(hashes: Any, frames: Any) -> Any:
    """One name for each image."""
    return pc.binary_join_element_wise(frames.cast(pa.string()), hashes, " ")


def _wanted(keys: Sequence[str], frames: Sequence[int]) -> Any:
    return _names(pa.array(keys, pa.string()), pa.array(frames, pa.int64()))


def known_images(folder: Path, keys: Sequence[str], frames: Sequence[int]) -> pa.Table:
    """What earlier runs kept of images, in the order asked for; null for those not measured yet.

    Args:
        folder: Where the results are kept; it need not be there.
        keys: ``data_hash`` of each.
        frames: Frame of each.
    """
    table, _ = _known(_parts_of(folder), keys, frames)
    names = _names(table["data_hash"], table["frame"])
    place = pc.index_in(_wanted(keys, frames), value_set=names)
    return table.drop_columns(["stamp"]).take(place)


# What earlier runs kept


def _kept(folder: Path) -> list[Path]:
    """The parts in a folder, the oldest first."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".part-*"):  # by a run that was killed while it wrote
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                left.unlink(missing_ok=True)
    return _parts_of(folder)


def _parts_of(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"part-{'[0-9]' * 8}-*.parquet"))


def _known(
    kept: list[Path], keys: Sequence[str], frames: Sequence[int]
) -> tuple[pa.Table, list[str | None]]:
    """Read parts, the newest rows first, and which state of each image asked for was measured."""
    tables = [table for path in reversed(kept) if (table := _read(path)) is not None]
    table = pa.concat_tables([*tables, MEASURES.empty_table()])
    rows = pc.index_in(_wanted(keys, frames), value_set=_names(table["data_hash"], table["frame"]))
    return table, table["stamp"].take(rows).to_pylist()


def _read(path: Path) -> pa.Table | None:
    """Read a part; None if it is of another version or damaged: its images are measured again."""
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
    except (OSError, pa.ArrowException):
        return None
    return table if table.schema.equals(MEASURES, check_metadata=True) else None


class _Parts:
    """Writes rows as Parquet files that are there whole or not at all.

    Args:
        folder: Where.
        kept: The parts that are there, the oldest first.

    Attributes:
        rows: How many rows were added.
        written: The parts written, the oldest first.
    """

    def __init__(self, folder: Path, kept: list[Path]) -> None:
        self.rows = 0
        self.written: list[pa.Table] = []
        self._folder, self._there = folder, list(kept)
        self._number = int(kept[-1].name[5:13]) + 1 if kept else 0
        self._pending: list[Row] = []
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()  # also what an interrupted run has found

    def add(self, rows: list[Row]) -> None:
        """Add rows and write a part when it is time."""
        self.rows += len(rows)
        self._pending += rows
        late = time.monotonic() - self._since > PART_SECONDS
        if len(self._pending) >= PART_IMAGES or late:
            self._flush()

    def join(self, known: pa.Table) -> pa.Table:
        """Put one part in the place of all, if there are several.

        Args:
            known: The rows that were there, the newest first.

        Returns:
            The newest row of each image.
        """
        table = pa.concat_tables([*self.written, known])
        names = _names(table["data_hash"], table["frame"])
        table = table.take(pc.index_in(names.unique(), value_set=names))
        old = self._there.copy()
        if self.written and len(old) > 1:
            self._write(table)
            for path in old:
                path.unlink(missing_ok=True)
        return table

    def _flush(self) -> None:
        self._since = time.monotonic()
        if self._pending:
            table = pa.Table.from_pylist(self._pending, schema=MEASURES)
            self._write(table)
            self.written.append(table)
            self._pending = []

    def _write(self, table: pa.Table) -> None:
        name = f"part-{self._number:08d}-{uuid4().hex[:8]}.parquet"
        hidden, path = self._folder / f".{name}", self._folder / name
        with writing(path):
            try:
                pq.write_table(table, hidden, compression="zstd")
                sync(hidden)
                hidden.rename(path)
            finally:
                hidden.unlink(missing_ok=True)
            sync(self._folder)
        self._number += 1
        self._there.append(path)


# What threads do


def _results(jobs: Sequence[_Job], workers: int) -> Generator[list[Row | None]]:
    """Yield the rows of images, in order, None for each that an earlier run measured."""
    pieces = (jobs[first : first + _TOGETHER] for first in range(0, len(jobs), _TOGETHER))
    waiting: deque[Future[list[Row | None]]] = deque()
    pool = ThreadPoolExecutor(workers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, of large images
        try:
            for piece in pieces:
                waiting.append(pool.submit(_piece, piece))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _piece(jobs: Sequence[_Job]) -> list[Row | None]:
    return [_row(job) for job in jobs]


def _row(job: _Job) -> Row | None:
    """Measure one image; None if that was done before."""
    row: Row = {"data_hash": job.key, "frame": job.frame}
    try:
        source = locate(job.uri)
        row["stamp"] = source.stamp
        if source.stamp is not None and source.stamp == job.stamp:
            return None
        if source.open is None:
            return row | {"error": source.stamp}
        with source.open() as file:
            return row | _values(file)
    except _Undecodable as error:
        return row | {"error": _text(str(error))}
    except Exception as error:  # noqa: BLE001 - one image never ends the run
        return row | {"error": _text(_reason(error)), "stamp": None}


def _values(file: IO[bytes]) -> Row:
    """Decode and measure an image."""
    try:
        image = open_image(file)
        large = image.width * image.height > _LARGE_PIXELS
        with _one_large if large else nullcontext():
            values, code = examine(decode(image))
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk or the network, not the image
        raise _Undecodable(_fault(error, file)) from error
    return {**values, "perceptual_hash": code}


def _fault(error: Exception, file: IO[bytes]) -> str:
    """What is wrong with an image, from what Pillow raised."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        file.seek(0)
        head = file.read(12)
        video = head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or head[8:] == b"AVI "
        return VIDEO if video else "is not an image of a known format"
    if isinstance(error, OSError | ValueError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _reason(error: Exception) -> str:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {type(error).__name__}: {error}"


def _text(message: str) -> str:
    """One line that Parquet can hold."""
    return " ".join(message.encode("utf-8", "replace").decode().split())[:_MOST_TEXT]
