"""Encord Active's pickled predictions, read without executing anything.

The file is a pickled list (or tuple) of ``Prediction`` objects. It is mapped, not loaded, and read
in batches: memory does not grow with the file beyond a few bytes per prediction.
"""

from __future__ import annotations

import mmap
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.sources.base import BATCH_ROWS, Coordinates, RawBuilder, RowError
from ea_arrow.sources.formats import PredictionFormat
from ea_arrow.sources.pickle_bytes import opcode
from ea_arrow.sources.pickle_columns import Columns
from ea_arrow.sources.pickle_machine import Machine
from ea_arrow.sources.pickle_rows import extent, flatten, row_of
from ea_arrow.sources.pickle_sniff import is_mmdetection, is_pickle
from ea_arrow.sources.pickle_templates import template_of
from ea_arrow.sources.pickle_values import Symbol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ea_arrow.sources.samples import Sample

MAX_TEMPLATES: Final = 48
MAX_TRIES: Final = 4
RELEASE_BYTES: Final = 1 << 25  # how much of the file may be in memory behind the reader
MAX_GEOMETRY_PER_BYTE: Final = 256
FREE_GEOMETRY: Final = 1 << 26

_PROTO, _FRAME, _STOP = 0x80, 0x95, ord(".")
_STARTS: Final = frozenset(b"c\x8cX\x8dhjg")  # what a prediction begins with: its class, or a GET
_TUPLES: Final = {0x85: 1, 0x86: 2, 0x87: 3}
_MEMO_SIZES: Final = {0x94: 1, ord("q"): 2, ord("r"): 5}
_RUN = 0  # the form of elements that the machine ran; templates count from 1


class PickleSource:
    """A pickle of Encord Active predictions.

    Args:
        path: The file.

    Raises:
        SourceError: The file is empty or cannot be read.
    """

    coordinates = Coordinates(
        relative=True, unit_key="data_hash", class_key="feature_hash", reach=0
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: dict[str, int] = {}
        try:
            with path.open("rb") as file:
                self._buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise SourceError(f"{path}: the file is empty; expected a pickle.") from error
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}.") from error

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the predictions as ``RAW`` batches, in list order.

        Raises:
            UnsafePickleError: The file asks for something a prediction does not need.
            SourceError: The file is damaged, or not a list of predictions.
        """
        reader = _Reader(self._buffer, self.path)
        try:
            yield from reader.batches()
        except IndexError:
            raise reader.machine.truncated(len(self._buffer)) from None


class _Reader:
    """Walks the top-level list; its elements go to the templates, or to the machine."""

    def __init__(self, buffer: mmap.mmap, path: Path) -> None:
        self.buffer = buffer
        self.machine = Machine(buffer, path)
        self.forms = array("B")  # per element: which template it matched, or _RUN
        self.columns = Columns(self.machine, self.forms)
        self.machine.matched_text = self.columns.text
        self.candidates: list[int] = []
        self.tries: Counter[int] = Counter()
        self.builder = RawBuilder()
        self.first = 0  # element at which the current batch begins
        self.geometry = 0  # bytes of geometry converted

    # -- the list ------------------------------------------------------------------------------

    def batches(self) -> Iterator[pa.RecordBatch]:
        position, in_list, marked = self._open()
        pending, released = 0, 0
        while True:
            code = self.buffer[position]
            if code in _STARTS:
                before = len(self.forms)
                position = self._elements(position)
                pending += len(self.forms) - before
            elif code == _FRAME:
                position += 9
            elif in_list and code == ord("(") and not marked and not pending:
                position, marked = position + 1, True
            elif in_list and code == ord("e" if marked else "a") and pending >= (not marked):
                position, marked, pending = position + 1, False, 0
            else:
                break
            if self.builder.full or len(self.forms) - self.first >= BATCH_ROWS:
                yield self._flush()
            if position - released > RELEASE_BYTES:
                released = self._release(released, position)
        self._close(position, in_list, marked, pending)
        if len(self.forms) > self.first or not self.forms:
            yield self._flush()

    def _open(self) -> tuple[int, bool, bool]:
        """Read up to the first element: its byte, whether this is a list, whether after a mark."""
        position = self._skip_frame(2 if self.buffer[0] == _PROTO else 0)
        code = self.buffer[position]
        if code == ord("(") and self.buffer[position + 1] in b"lt":
            in_list = self.buffer[position + 1] == ord("l")
            return self._memo(position + 2), in_list, False
        if code == ord("]"):
            return self._memo(position + 1), True, False
        if code == ord("("):
            return position + 1, False, True
        if code == ord(")") or code in _STARTS:
            return position + (code == ord(")")), False, False
        raise self.machine.damaged(position, f"it begins with {opcode(code)}, not with a list")

    def _close(self, position: int, in_list: bool, marked: bool, pending: int) -> None:
        code = self.buffer[position]
        if not in_list:
            if marked and code == ord("t"):
                position, marked, pending = self._memo(position + 1), False, 0
            elif code in _TUPLES and _TUPLES[code] == pending:
                position, pending = self._memo(position + 1), 0
            elif code == _STOP and pending == 1 and not marked:
                raise self.machine.damaged(0, "it holds one Prediction, not a list of them")
        if self.buffer[position] != _STOP or marked or pending:
            kind = opcode(self.buffer[position])
            row = len(self.forms)
            what = f"element {row} of the list is not a Prediction (it begins with {kind})"
            raise self.machine.damaged(position, what)
        if position + 1 != len(self.buffer):
            what = f"{len(self.buffer) - position - 1:,} bytes follow the end of the pickle"
            raise self.machine.damaged(position + 1, what)

    def _skip_frame(self, position: int) -> int:
        return position + 9 if self.buffer[position] == _FRAME else position

    def _memo(self, position: int) -> int:
        """Skip the memo number given to the list itself, if one is."""
        code = self.buffer[position]
        if code == ord("p"):
            _, end = self.machine.line(position + 1)
        elif code in _MEMO_SIZES:
            end = position + _MEMO_SIZES[code]
        else:
            return position
        self.machine.stack.append(Symbol("list"))
        self.machine.operations[code](position + 1)
        self.machine.stack.clear()
        return self._skip_frame(end)

    # -- its elements --------------------------------------------------------------------------

    def _elements(self, position: int) -> int:
        """Take as many elements as match templates, or else run one; return the byte after."""
        position, matched = self._match(position)
        if matched:
            return position
        machine, row = self.machine, len(self.forms)
        base = machine.next_memo
        prediction, end = machine.run_element(position)
        self.forms.append(_RUN)
        try:
            flat = flatten(prediction)
            self._count(flat, position)
            self.builder.add(source_row=row, **row_of(flat))
        except RowError as error:
            self.builder.add(source_row=row, rule=error.rule, message=error.message)
        self._learn(position, end, base)
        machine.forget()
        return end

    def _count(self, flat: dict[str, Any], position: int) -> None:
        """Refuse a small file that repeats large geometry by reference."""
        self.geometry += extent(flat.get("data"))
        if self.geometry > FREE_GEOMETRY + MAX_GEOMETRY_PER_BYTE * len(self.buffer):
            what = f"geometry of over {MAX_GEOMETRY_PER_BYTE} times the file's size"
            raise self.machine.refuse(position, what)

    def _match(self, position: int) -> tuple[int, int]:
        buffer, machine, templates = self.buffer, self.machine, self.columns.templates
        candidates = self.candidates
        starts, bases, forms, memo = machine.starts, machine.bases, self.forms, machine.next_memo
        room = BATCH_ROWS - (len(forms) - self.first)
        count = 0
        while count < room:
            for form in candidates:
                template = templates[form]
                match = template.pattern.match(buffer, position)
                if match is not None:
                    break
            else:
                break
            if form != candidates[0]:
                candidates.remove(form)
                candidates.insert(0, form)
            starts.append(position)
            bases.append(memo)
            forms.append(form)
            memo += template.memos
            position = match.end()
            count += 1
        machine.next_memo = memo
        return position, count

    def _learn(self, start: int, end: int, base: int) -> None:
        """Make a template of an element when others as long as it were seen before."""
        length = end - start
        self.tries[length] += 1
        if 1 < self.tries[length] <= MAX_TRIES and len(self.columns.templates) <= MAX_TEMPLATES:
            template = template_of(self.machine, start, end, base)
            if template is not None:
                self.columns.templates.append(template)
                self.candidates.insert(0, len(self.columns.templates) - 1)

    def _flush(self) -> pa.RecordBatch:
        first, forms = self.first, np.frombuffer(self.forms[self.first :], dtype=np.uint8)
        self.first = len(self.forms)
        parts, rows = [], []
        for form in np.unique(forms).tolist():
            if form != _RUN:
                mine = np.flatnonzero(forms == form) + first
                parts.append(self.columns.batch(form, mine))
                rows.append(mine)
        if len(self.builder) or not parts:
            parts.append(self.builder.flush())
            rows.append(np.flatnonzero(forms == _RUN) + first)
        self.machine.forget()
        if len(parts) == 1:
            return parts[0]
        return pa.concat_batches(parts).take(pa.array(np.argsort(np.concatenate(rows))))

    def _release(self, start: int, end: int) -> int:
        """Give back the pages of the file that were read; they count as this process's memory."""
        whole = end - end % mmap.PAGESIZE
        if whole > start and hasattr(mmap, "MADV_DONTNEED"):
            self.buffer.madvise(mmap.MADV_DONTNEED, start, whole - start)
        return max(whole, start)


def _sniff(sample: Sample) -> bool:
    return is_pickle(sample.head) and not is_mmdetection(sample.head) and not sample.is_packed


PREDICTIONS: Final = PredictionFormat(
    name="pickle",
    fixed=True,
    doc="pickled list of Encord Active or ea-arrow Prediction objects",
    about="A list or tuple of Prediction objects, of any pickle protocol, as Encord Active wrote "
    "them. Nothing in the file is executed. Coordinates are fractions of the data unit; data units "
    "go by data_hash, classes by feature_hash.",
    example="predictions = [Prediction(data_hash=…, confidence=0.9, object=ObjectDetection(…))]\n"
    "pickle.dump(predictions, file)",
    sniff=_sniff,
    open=lambda files, reading: PickleSource(files.one),
)
