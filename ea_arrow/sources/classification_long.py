"""Classifications as a long table: a data unit, a class and its score in each row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.sources.base import BATCH_ROWS, Coordinates, raw_batch
from ea_arrow.sources.columns import Problems, floats, texts, whole
from ea_arrow.sources.own_tables import with_class_key
from ea_arrow.sources.table_base import arrow_errors
from ea_arrow.sources.table_rows import broken_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Reading
    from ea_arrow.sources.table_base import Block, TableFile
    from ea_arrow.sources.table_plan import Plan

    Ints = NDArray[np.int64]

_LISTED: Final = 20
_TWICE: Final = "The class has a score for this data unit already; expected one."


@dataclass
class _Rows:
    """Rows of a table as codes: of the data unit (with its frame), and of the class."""

    row: Ints
    unit: Ints
    label: Ints
    score: NDArray[np.float64]


class _Codes:
    """Texts as numbers, in order of appearance."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def of(self, column: pa.Array) -> Ints:
        """The code of each text; −1 of a null."""
        coded = column.dictionary_encode()
        codes = [self.known.setdefault(t, len(self.known)) for t in coded.dictionary.to_pylist()]
        places = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        found: Ints = np.array([*codes, -1], dtype=np.int64)[places]
        return found


class LongTable:
    """A long table, opened: a source.

    It is held as codes and scores, 32 bytes a row, for the rows of a data unit may stand anywhere.

    Args:
        table: The table.
        plan: What its columns mean.
        reading: The option ``rows`` says whether a data unit keeps its best class or all.
    """

    def __init__(self, table: TableFile, plan: Plan, reading: Reading) -> None:
        self.path = table.path
        self.notes: Counter[str] = Counter()
        plan = with_class_key(table, plan)
        self._table, self._plan = table, plan
        self._all = reading.options.get("rows") == "all"
        self._units, self._classes = _Codes(), _Codes()
        self.coordinates = Coordinates(
            relative=False, unit_key=plan.unit_key, class_key=plan.class_key
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield rows that cannot be read, then a row per data unit in order of appearance."""
        parts: list[_Rows] = []
        blocks = self._table.blocks(self._plan.columns)
        while True:
            with arrow_errors(self.path):
                block = next(blocks, None)
                if block is None:
                    break
                rows, refused = self._coded(block)
            parts.append(rows)
            if refused.num_rows:
                yield refused
        if not parts:
            return
        whole_ = _Rows(
            np.concatenate([p.row for p in parts]),
            np.concatenate([p.unit for p in parts]),
            np.concatenate([p.label for p in parts]),
            np.concatenate([p.score for p in parts]),
        )
        del parts
        yield from self._rows(whole_) if self._all else self._best(whole_)

    def _coded(self, block: Block) -> tuple[_Rows, pa.RecordBatch]:
        """The rows as codes, and those that are refused."""
        plan, problems, n = self._plan, Problems(), len(block.rows)
        unit = texts("data unit", block.columns[plan.unit or ""], problems)
        label = texts("class", block.columns[plan.class_ref or ""], problems)
        score = floats("score", block.columns[plan.confidence or ""], problems)
        frame = pa.repeat(pa.scalar(0, pa.int64()), n)
        if "frame" in plan.others:
            cells = block.columns[plan.others["frame"]]
            frame = whole("frame", cells, problems, "invalid_frame").fill_null(0)
        values = _check(unit, label, score, problems)
        bad = np.zeros(n, dtype=bool)
        bad[list(problems.found)] = True
        columns = {
            "source_row": pa.array(block.rows),
            "unit": unit,
            "frame": frame,
            "class_ref": label,
            **problems.columns(n),
        }
        refused = raw_batch(columns, n).filter(pa.array(bad))
        if block.broken:
            refused = pa.concat_batches([refused, broken_rows(block.broken)])
        names = pc.binary_join_element_wise(
            frame.cast(pa.string()), unit, "\n", null_handling="replace"
        )
        good = pa.array(~bad)
        rows = _Rows(
            block.rows[~bad],
            self._units.of(names.filter(good)),
            self._classes.of(label.filter(good)),
            values[~bad],
        )
        return rows, refused

    def _best(self, rows: _Rows) -> Iterator[pa.RecordBatch]:
        order = np.lexsort((rows.row, rows.label, rows.unit))
        same = np.zeros(len(order), dtype=bool)
        same[1:] = (np.diff(rows.unit[order]) == 0) & (np.diff(rows.label[order]) == 0)
        again = np.sort(order[same])
        if len(again):
            yield from self._batches(rows, again, None, (_TWICE, "invalid_data"))
        kept = np.setdiff1d(np.arange(len(order)), again, assume_unique=True)
        # The highest score of each data unit, the first of equals.
        ranked = kept[np.lexsort((rows.row[kept], -rows.score[kept], rows.unit[kept]))]
        first = np.ones(len(ranked), dtype=bool)
        first[1:] = np.diff(rows.unit[ranked]) != 0
        best = ranked[first]
        width = len(self._classes.known)
        matrix = None
        if len(kept) == len(best) * width and width > 1:
            matrix = np.zeros((len(best), width))
            matrix[np.searchsorted(rows.unit[best], rows.unit[kept]), rows.label[kept]] = (
                rows.score[kept]
            )
            names = list(self._classes.known)
            more = ", …" if width > _LISTED else ""
            told = f"{', '.join(names[:_LISTED])}{more}"
            self.notes[f"classes, whose probabilities are in this order: {told}"] += width
            self.notes["scores of further classes, kept as probabilities"] += len(kept) - len(best)
        elif len(kept) > len(best):
            self.notes["scores below the highest of a data unit, not kept"] += len(kept) - len(best)
        yield from self._batches(rows, best, matrix, None)

    def _rows(self, rows: _Rows) -> Iterator[pa.RecordBatch]:
        yield from self._batches(rows, np.arange(len(rows.row)), None, None)

    def _batches(
        self,
        rows: _Rows,
        chosen: Ints,
        matrix: NDArray[np.float64] | None,
        refused: tuple[str, str] | None,
    ) -> Iterator[pa.RecordBatch]:
        units = [name.split("\n", 1) for name in self._units.known]
        frames = pa.array([int(frame) for frame, _ in units], pa.int64())
        names = pa.array([name for _, name in units], pa.string())
        classes = pa.array(list(self._classes.known), pa.string())
        for start in range(0, len(chosen), BATCH_ROWS):
            part = chosen[start : start + BATCH_ROWS]
            n = len(part)
            unit = pa.array(rows.unit[part])
            arrays = {
                "source_row": pa.array(rows.row[part]),
                "unit": names.take(unit),
                "frame": frames.take(unit),
                "class_ref": classes.take(pa.array(rows.label[part])),
                "format": pa.repeat("classification", n),
                "confidence": pa.array(rows.score[part]),
            }
            if refused is not None:
                message, rule = refused
                arrays |= {"rule": pa.repeat(rule, n), "message": pa.repeat(message, n)}
            if matrix is not None:
                block = matrix[start : start + BATCH_ROWS]
                offsets = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(block.shape[1]))
                flat = pa.array(block.astype(np.float32).reshape(-1))
                arrays["probabilities"] = pa.ListArray.from_arrays(offsets, flat)
            yield raw_batch(arrays, n)


def _check(
    unit: pa.Array, label: pa.Array, score: pa.Array, problems: Problems
) -> NDArray[np.float64]:
    """The scores; rows that lack something are remembered."""
    for rule, column, what in (
        ("missing_data_unit", unit, "data unit"),
        ("missing_class", label, "class"),
        ("missing_confidence", score, "score"),
    ):
        for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            problems.add(row, rule, f"The row has no {what}.")
    values: NDArray[np.float64] = score.to_numpy(zero_copy_only=False)
    problems.add_all(
        ~np.isfinite(values),
        "not_finite",
        lambda i: f"The score is {values[i]}; expected a finite number.",
    )
    return values
