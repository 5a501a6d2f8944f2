"""A pickle interpreter that can build Encord Active's predictions and nothing else.

The machine runs one element of the top-level list at a time. The memo, in which a pickle keeps
everything it may refer to again, is what makes plain unpickling use kilobytes per prediction. Here
it may be emptied between elements: where each element starts and which memo numbers it assigns is
kept, so an entry that is asked for later is made again by running its element again.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.sources.pickle_operations import MAX_NESTING, Operations
from ea_arrow.sources.pickle_values import Dtype, FormatValue, Instance, Symbol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_OPERATIONS = 1 << 21  # of one element, which bounds its stack too
MAX_MEMO = 100_000
MAX_RUN = 1 << 25  # bytes run before the memo is emptied: it may hold masks
MAX_NAMES = 100_000  # that are kept then
MAX_KEPT_TEXT = 256

_COMPLETING: Final = frozenset(b"bhjg")  # BUILD, or a GET of a prediction seen before


class Machine(Operations):
    """Runs the elements of a pickled list of predictions.

    Args:
        buffer: The file: anything that can be indexed and sliced to bytes, such as an ``mmap``.
        path: For messages.
    """

    def __init__(self, buffer: Any, path: Path) -> None:
        super().__init__(buffer, path)
        self.starts = array("Q")
        self.bases = array("Q")
        self.matched_text: Callable[[int], str | None] = lambda _: None
        self.rerun_bytes = 0
        self.replaying = 0
        self.run_bytes = 0  # since the memo was emptied
        self.kept = 0  # entries that were not forgotten then

    def run_element(self, start: int) -> tuple[Instance, int]:
        """Run the element that starts at byte ``start``; return it and where it ends.

        Raises:
            UnsafePickleError: It asks for something outside the allow-list.
            SourceError: It is not a prediction, or the file is damaged.
        """
        if not self.replaying:
            self.starts.append(start)
            self.bases.append(self.next_memo)
            self.taken = 0
        buffer, operations, stack, marks = self.buffer, self.operations, self.stack, self.marks
        self.stack, self.marks = [], []
        position = start
        try:
            for _ in range(MAX_OPERATIONS):
                code = buffer[position]
                position = operations[code](position + 1)
                if code in _COMPLETING and not self.marks and len(self.stack) == 1:
                    value = self.stack[0]
                    if isinstance(value, Instance) and value.kind == "Prediction" and value.fields:
                        self.run_bytes += position - start
                        return value, position
            raise self.refuse(position, f"one element of over {MAX_OPERATIONS:,} operations")
        except IndexError:
            if position >= self.size:
                raise self.truncated(position) from None
            raise self.damaged(position, "an operation finds nothing to work on") from None
        except (ValueError, OverflowError, struct.error, UnicodeError) as error:
            raise self.damaged(position, str(error)) from error
        finally:
            self.stack, self.marks = stack, marks

    def forget(self) -> None:
        """Empty the memo if it has grown large; entries asked for later are made again.

        A file that keeps asking for what was forgotten would be run over and over: once as many
        bytes as twice the file were run again, nothing more is forgotten. Names stay, for each
        prediction may use a name that the one before it brought up, and making one again would
        mean to run all of them again. The first ones, that is: a file may bring up names forever.
        """
        large = len(self.memo) > self.kept + MAX_MEMO or self.run_bytes > MAX_RUN
        if large and self.rerun_bytes < 2 * self.size:
            first = self.bases[0]
            kept = ((i, v) for i, v in self.memo.items() if i < first or _is_name(v))
            self.memo = dict(islice(kept, MAX_NAMES))
            self.kept, self.run_bytes = len(self.memo), 0

    def recall(self, index: int, position: int) -> Any:
        """Return memo entry ``index``, running the element that assigned it again if need be."""
        try:
            return self.memo[index]
        except KeyError:
            pass
        element = bisect_right(self.bases, index) - 1
        if element < 0 or index >= self.next_memo:
            message = f"memo entry {index} is used before it is assigned"
            raise self.damaged(position, message)
        text = self.matched_text(index)
        if text is not None:
            return text
        if self.replaying >= MAX_NESTING:
            raise self.damaged(position, f"elements refer to each other over {MAX_NESTING} deep")
        saved = self.next_memo
        self.next_memo = self.bases[element]
        self.replaying += 1
        try:
            _, end = self.run_element(self.starts[element])
            self.rerun_bytes += end - self.starts[element]
        finally:
            self.replaying -= 1
            self.next_memo = saved
        if index not in self.memo:
            raise self.damaged(position, f"memo entry {index} is used before it is assigned")
        return self.memo[index]


def _is_name(value: Any) -> bool:
    """Whether a value is of the kind that a pickle brings up once and then refers to."""
    if isinstance(value, str):
        return len(value) <= MAX_KEPT_TEXT
    return isinstance(value, Symbol | FormatValue | Dtype)
