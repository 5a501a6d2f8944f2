"""Classifications of whole images as tables: long, wide, or arrays of probabilities.

A row comes out for each data unit: the class of the highest score, with all scores beside it where
they are complete. Which option of which classification a class is, is found out later, by its name
or its place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import BATCH_ROWS, Coordinates, raw_batch
from ea_arrow.sources.classification_long import LongTable
from ea_arrow.sources.columns import Problems, floats, texts, whole
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.npz_files import BLOCK_BYTES, NpzFile
from ea_arrow.sources.own_tables import note_left_out, plan_table
from ea_arrow.sources.table_base import ERRORS, arrow_errors
from ea_arrow.sources.table_files import open_table, shape_of
from ea_arrow.sources.table_plan import OWN, SIZES, UNITS, notes_of, plan_of
from ea_arrow.sources.table_rows import with_broken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ea_arrow.sources.base import PredictionSource
    from ea_arrow.sources.samples import Sample
    from ea_arrow.sources.table_base import Block, TableFile
    from ea_arrow.sources.table_plan import Plan

PROBABILITIES: Final = ("probs", "probabilities", "scores")
MOST_CLASSES: Final = 100_000

_SUM_TOLERANCE: Final = 0.02
_LISTED: Final = 20
_NOT_CLASSES: Final = {*UNITS, "frame", *OWN, *(name for pair in SIZES for name in pair)}


class WideTable:
    """A table of one column per class.

    Args:
        table: The table.
        plan: What its columns mean.
        reading: The option ``prefix`` is taken off the names of classes.

    Raises:
        SourceError: It names no data unit, or there are no columns of classes.
    """

    def __init__(self, table: TableFile, plan: Plan, reading: Reading) -> None:
        self.path = table.path
        self.notes: Counter[str] = Counter()
        self._table, self._plan = table, plan
        self._columns = _class_columns(table.names, plan)
        if plan.unit is None or len(self._columns) < 2:
            message = f"{table.path} has no column of the data unit and columns of classes."
            raise SourceError(message, hint="See 'ea-arrow formats classification'.")
        prefix = reading.options.get("prefix", "")
        self._names = [name.removeprefix(prefix) for name in self._columns]
        others = [n for n in table.names if n not in (*self._columns, plan.unit)]
        others = [n for n in others if n != plan.others.get("frame") and n.lower() not in OWN]
        self.notes.update(notes_of(plan, [n for n in others if n not in (plan.size or ())]))
        self.notes[_order_note(self._names)] += len(self._names)
        self.coordinates = Coordinates(relative=False, unit_key=plan.unit_key, class_key="name")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield a row per data unit, in file order."""
        frame = self._plan.others.get("frame")
        names = [self._plan.unit or "", *self._columns, *([frame] if frame else [])]
        blocks = self._table.blocks(names)
        while True:
            with arrow_errors(self.path):
                block = next(blocks, None)
                if block is None:
                    return
                batches = list(self._batches(block, frame))
            yield from batches

    def _batches(self, block: Block, frame: str | None) -> Iterator[pa.RecordBatch]:
        problems = Problems()
        columns = [floats(name, block.columns[name], problems) for name in self._columns]
        missing = np.stack([c.is_null().to_numpy(zero_copy_only=False) for c in columns], axis=1)
        problems.add_all(
            np.asarray(missing.any(axis=1)),
            "missing_confidence",
            lambda i: f"{self._columns[int(missing[i].argmax())]} has no value; expected a number.",
        )
        matrix = np.stack([c.to_numpy(zero_copy_only=False) for c in columns], axis=1)
        rows = Scores(block.rows, matrix, self._names)
        rows.unit = texts("data unit", block.columns[self._plan.unit or ""], problems)
        if frame is not None:
            rows.frame = whole(frame, block.columns[frame], problems, "invalid_frame")
        batch = rows.raw(problems)
        yield with_broken(batch, block.broken) if block.broken else batch


@dataclass
class Scores:
    """Scores of all classes for some data units.

    Attributes:
        rows: Each one's row in the source, shape (n,).
        matrix: Its scores, shape (n, classes).
        classes: Names, or indices as text.
        unit: The data units.
        frame: Their frames.
    """

    rows: NDArray[np.int64]
    matrix: NDArray[np.float64]
    classes: Sequence[str]
    unit: pa.Array | None = None
    frame: pa.Array | None = None

    def raw(self, problems: Problems) -> pa.RecordBatch:
        """The class of the highest score of each data unit, and all scores, as ``RAW``."""
        n, width = self.matrix.shape
        infinite = ~np.isfinite(self.matrix)
        problems.add_all(
            np.asarray(infinite.any(axis=1)),
            "not_finite",
            lambda i: f"A score is {self.matrix[i][infinite[i]][0]}; expected a finite number.",
        )
        scores = np.where(infinite, -np.inf, self.matrix)
        best = scores.argmax(axis=1)
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(width))
        with np.errstate(over="ignore"):
            flat = self.matrix.astype(np.float32).reshape(-1)
        arrays = {
            "source_row": pa.array(self.rows),
            "unit": self.unit,
            "frame": self.frame,
            "class_ref": pa.array(self.classes, pa.string()).take(pa.array(best)),
            "format": pa.repeat("classification", n),
            "confidence": pa.array(self.matrix[np.arange(n), best]),
            "probabilities": pa.ListArray.from_arrays(offsets, pa.array(flat)),
            **problems.columns(n),
        }
        return raw_batch({k: v for k, v in arrays.items() if v is not None}, n)


class ProbabilityArrays:
    """A NumPy archive of probabilities (N, C), ids (N,) and, perhaps, classes (C,).

    Args:
        path: The file.
        reading: The option ``unit_key`` says what the ids are.

    Raises:
        SourceError: An array is missing, or does not fit the others.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path = path
        self.notes: Counter[str] = Counter()
        self._file = NpzFile(path)
        shapes = self._file.shapes
        self._name = next((name for name in PROBABILITIES if name in shapes), "")
        shape = shapes.get(self._name, ())
        if not self._name or len(shape) != 2 or not shape[1] or shape[1] > MOST_CLASSES:
            told = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
            message = f"{path} holds {told}; expected probs of shape (N, C)."
            raise SourceError(message, hint="Write numpy.savez(path, probs=…, ids=…, classes=…).")
        if shapes.get("ids") != shape[:1]:
            message = f"{path}: ids have shape {shapes.get('ids')}; expected {shape[:1]}."
            raise SourceError(message, hint="Save one id for each row of probs.")
        if (
            self._file.dtypes[self._name].kind not in "iuf"
            or self._file.dtypes["ids"].kind not in "iuUS"
        ):
            message = f"{path}: {self._name} are {self._file.dtypes[self._name]} and ids "
            message += f"{self._file.dtypes['ids']}; expected numbers, and numbers or texts."
            raise SourceError(message)
        self._classes = self._names(shape[1])
        key: Any = reading.options.get("unit_key", "data_hash")
        by: Literal["name", "index"] = "name" if "classes" in shapes else "index"
        self.coordinates = Coordinates(relative=False, unit_key=key, class_key=by)
        left = [name for name in shapes if name not in (self._name, "ids", "classes")]
        if left:
            self.notes[f"arrays of no known meaning, left out: {', '.join(left)}"] += len(left)
        self.notes[_order_note(self._classes)] += len(self._classes)

    def _names(self, number: int) -> list[str]:
        shape = self._file.shapes.get("classes")
        if shape is None:
            return [str(i) for i in range(number)]
        if shape != (number,) or self._file.dtypes["classes"].kind not in "iuUS":
            message = f"{self.path}: classes have shape {shape}; expected ({number},) texts."
            raise SourceError(message)
        return [_text(v) for block in self._file.rows("classes", number) for v in block.tolist()]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield a row per data unit, in the order of the arrays."""
        at_once = max(1, min(BATCH_ROWS, BLOCK_BYTES // (8 * len(self._classes))))
        start = 0
        blocks = zip(
            self._file.rows(self._name, at_once), self._file.rows("ids", at_once), strict=True
        )
        for matrix, ids in blocks:
            rows = np.arange(start, start + len(matrix))
            start += len(matrix)
            scores = Scores(rows, matrix.astype(np.float64), self._classes)
            scores.unit = pa.array([_text(v) for v in ids.tolist()], pa.string())
            yield scores.raw(Problems())


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else _clean(str(value))


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()


def _order_note(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _LISTED else ""
    return f"classes, whose probabilities are in this order: {', '.join(names[:_LISTED])}{more}"


def _class_columns(names: Sequence[str], plan: Plan) -> list[str]:
    """The columns that can be classes of a wide table."""
    return [
        name
        for name in names
        if name.strip().lower() not in _NOT_CLASSES
        and name.strip()
        and name not in (plan.unit, plan.class_ref)
    ]


def _open(files: Files, reading: Reading) -> PredictionSource:
    path = files.one
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head == b"PK\x03\x04":
        return ProbabilityArrays(path, reading)
    table = open_table(path)
    plan = plan_table(table, reading)
    if plan.class_ref is not None and plan.confidence is not None:
        found = LongTable(table, plan, reading)
        note_left_out(table, plan, found.notes)
        unused = [
            name for raw, name in plan.others.items() if raw != "frame" and name in table.names
        ]
        if plan.has_shape or unused:
            told = ", ".join([*plan.box, *unused])
            found.notes[f"columns that classifications do not have, left out: {told}"] += 1
        return found
    return WideTable(table, plan, reading)


def _sniff(sample: Sample) -> bool:
    if sample.is_dir:
        return False
    if sample.head.startswith(b"PK\x03\x04"):
        return _is_npz(sample)
    shape = shape_of(sample)
    if shape is None:
        return False
    try:
        plan = plan_of(shape.names)
        if plan.unit is None or plan.has_shape:
            return False
        if plan.class_ref is not None or plan.confidence is not None:
            return plan.class_ref is not None and plan.confidence is not None
        return _adds_up(sample, plan, shape.names)
    except (SourceError, *ERRORS):
        return False


def _is_npz(sample: Sample) -> bool:
    try:
        shapes = NpzFile(sample.path).shapes
    except SourceError:
        return False
    return "ids" in shapes and any(name in shapes for name in PROBABILITIES)


def _adds_up(sample: Sample, plan: Plan, names: Sequence[str]) -> bool:
    """Whether the first rows of a table are probabilities: whatever else, they add up to 1."""
    columns = _class_columns(names, plan)
    if len(columns) < 2 or sample.path.stat().st_size > 1 << 31:
        return False
    block = next(open_table(sample.path).blocks(columns), None)
    if block is None or not len(block.rows):
        return False
    problems = Problems()
    values = [floats(n, block.columns[n][:100], problems) for n in columns]
    matrix = np.stack([v.to_numpy(zero_copy_only=False) for v in values], axis=1)
    if problems.found or not np.isfinite(matrix).all():
        return False
    inside = bool(((matrix >= 0) & (matrix <= 1)).all())
    return inside and bool((np.abs(matrix.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())


PREDICTIONS: Final = PredictionFormat(
    name="classification",
    fixed=True,
    doc="Classes of whole images: a long or wide table, or an npz of probabilities",
    about="CSV, TSV, lines of JSON, Parquet or Arrow. Long: a column of the data unit (data_hash, "
    "image_id, file_name, …), one of the class (class, class_name, label, class_index, …) and "
    "one of the score (confidence, score, probability or prob). Wide: a column of the data "
    "unit, and one column per class with its probability.\n\n"
    "Or a NumPy archive (npz) of probs (N, C), ids (N,) and, perhaps, classes (C,): without "
    "those, classes go by their index. Arrays of objects are not read.\n\n"
    "A data unit gets the class of its highest score. If a table has a score of every class "
    "for every data unit, all are kept as probabilities, in the order that the notes tell; "
    "else the other scores are not kept, and counted. --option rows=all makes of each row of "
    "a long table a prediction of its own, as several attributes or labels need it.\n\n"
    "A wide table is recognised if its rows add up to 1; name the format for others.",
    example="file_name,class,score\na.jpg,sunny,0.81\nb.jpg,rain,0.64",
    options=(
        Option("unit", "the column that names the data unit"),
        Option("class", "the column that names the class, of a long table"),
        Option("rows", "of a long table: the best class, or all", ("best", "all"), "best"),
        Option("prefix", "what the names of a wide table's columns begin with, before the class"),
        Option(
            "unit_key",
            "what the ids of an npz are",
            ("data_hash", "source_id", "title", "name", "stem", "position"),
            "data_hash",
        ),
    ),
    sniff=_sniff,
    open=_open,
)
