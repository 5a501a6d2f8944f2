"""Columns of text lines: words by their place, boxes, and what is wrong with a line.

A line that cannot be read becomes a reject with what could be read of it; lines are never looped
over, not even those.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.ontology import clean_text
from ea_arrow.schema import BOX
from ea_arrow.sources.base import BATCH_ROWS
from ea_arrow.sources.boxes import to_xywh
from ea_arrow.sources.text_files import TextRows, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ea_arrow.sources.formats import Layout

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ONE_BASED: Final = "boxes taken as given; where pixels count from 1, give --one-based"
"""The note of formats that count pixels from 1, though most of those who write them do not."""

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SHOWN: Final = 60
_EXACT: Final = 2.0**53


def is_number(word: str) -> bool:
    """Whether a word is a finite number, for a first look at a file.

    >>> is_number("-1.5e3"), is_number("nan"), is_number("2007_000027")
    (True, False, False)
    """
    return _NUMBER.fullmatch(word) is not None


def is_whole(word: str) -> bool:
    """Whether a word is a whole number, for a first look at a file.

    >>> is_whole("-1"), is_whole("3.00"), is_whole("3.5"), is_whole("1e999")
    (True, True, False, False)
    """
    return is_number(word) and float(word).is_integer()


def mostly(fitting: Sequence[bool]) -> bool:
    """Whether more than half of some lines fit: a file of a format may have bad lines in it.

    >>> mostly([True, False, True]), mostly([True, False]), mostly([])
    (True, False, False)
    """
    return 2 * sum(fitting) > len(fitting)


def parts(rows: TextRows) -> Iterator[TextRows]:
    """Cut rows into blocks that make a batch each."""
    for start in range(0, len(rows), BATCH_ROWS):
        end = start + BATCH_ROWS
        yield TextRows(rows.words[start:end], rows.file[start:end], rows.line[start:end])


def word(rows: TextRows, place: int | Ints) -> pa.StringArray:
    """One word of every line.

    Args:
        rows: The lines.
        place: The word's place from 0, of all lines or of each, shape (n,).

    Returns:
        The words; null where a line is shorter.
    """
    offsets = rows.words.offsets.to_numpy()
    at = offsets[:-1] + place
    return rows.words.values.take(pa.array(at, mask=at >= offsets[1:]))


def of_files(texts: Sequence[str], rows: TextRows) -> pa.StringArray:
    """What belongs to each line's file, such as its name."""
    return pa.array([clean_text(text) for text in texts], pa.string()).take(pa.array(rows.file))


class Refusals:
    """The lines of a block that cannot be read, and why; of several reasons the first counts.

    Args:
        rows: How many lines the block has.
    """

    def __init__(self, rows: int) -> None:
        self._at = np.full(rows, -1)
        self._rules: list[pa.StringArray] = []
        self._messages: list[pa.StringArray] = []
        self._size = 0

    @property
    def refused(self) -> Flags:
        """Which lines these are, shape (n,)."""
        refused: Flags = self._at >= 0
        return refused

    def add(self, wrong: Flags, rule: str, message: Callable[[Ints], pa.StringArray]) -> None:
        """Refuse lines.

        Args:
            wrong: Which, shape (n,).
            rule: The rule they break.
            message: What was found in some lines, given their indices.
        """
        rows = np.flatnonzero(wrong & (self._at < 0))
        if not len(rows):
            return
        self._at[rows] = self._size + np.arange(len(rows))
        self._size += len(rows)
        self._rules.append(pa.array([rule]).take(pa.array(np.zeros(len(rows), np.int64))))
        self._messages.append(message(rows))

    def add_words(self, wrong: Flags, rule: str, words: pa.StringArray, what: str) -> None:
        """Refuse lines for a word of theirs; ``what`` says what was expected of which."""
        self.add(wrong, rule, lambda rows: _quoted(words.take(pa.array(rows)), what))

    def add_counts(
        self, wrong: Flags, counts: Ints, unit: str, expected: str, rule: str = "invalid_data"
    ) -> None:
        """Refuse lines for the number of their words (``unit``)."""

        def message(rows: Ints) -> pa.StringArray:
            some, which = np.unique(counts[rows], return_inverse=True)
            texts = [f"The line has {n} {unit}; expected {expected}." for n in some.tolist()]
            return pa.array(texts).take(pa.array(which))

        self.add(wrong, rule, message)

    def columns(self) -> dict[str, pa.Array]:
        """The RAW columns ``rule`` and ``message``; nothing if all lines are good."""
        if not self._size:
            return {}
        at = pa.array(self._at, mask=self._at < 0)
        return {
            "rule": pa.concat_arrays(self._rules).take(at),
            "message": pa.concat_arrays(self._messages).take(at),
        }


def box_of(
    words: Sequence[pa.StringArray], refusals: Refusals, layout: Layout, *, one_based: bool
) -> dict[str, pa.Array]:
    """The four RAW columns of boxes.

    Args:
        words: The four numbers, as words.
        refusals: Gets the lines in which one of them is no number.
        layout: The order of the four.
        one_based: Pixels count from 1, and corners are inclusive.
    """
    columns = []
    readable = np.ones(len(words[0]), dtype=bool)
    for given in words:
        values, good = numbers(given)
        refusals.add_words(~good, "invalid_box", given, "four numbers of a box")
        columns.append(values)
        readable &= good
    xywh = to_xywh(np.stack(columns, axis=1), layout, one_based=one_based)
    mask = None if readable.all() else ~readable
    return {name: pa.array(xywh[:, i], mask=mask) for i, name in enumerate(BOX)}


def number_of(
    words: pa.StringArray, refusals: Refusals, what: str, missing: Flags | None = None
) -> pa.DoubleArray:
    """A column of numbers, null where a word is none.

    Args:
        words: The words.
        refusals: Gets the lines whose word is no number, under ``invalid_data``.
        what: What was expected, for the message.
        missing: The lines that need none.
    """
    values, good = numbers(words)
    wrong = ~good if missing is None else ~good & ~missing
    refusals.add_words(wrong, "invalid_data", words, what)
    return pa.array(values, mask=None if good.all() else ~good)


def whole(words: pa.StringArray) -> tuple[Ints, Flags]:
    """Parse words as whole numbers (``3`` and ``3.00``).

    Returns:
        The numbers, 0 where a word is none, and which words are whole numbers, of shape (n,).

    >>> values, good = whole(pa.array(["3", "4.0", "1.5", "nan", "1e300"]))
    >>> values.tolist(), good.tolist()
    ([3, 4, 0, 0, 0], [True, True, False, False, False])
    """
    values, _ = numbers(words)
    good: Flags = (np.abs(values) < _EXACT) & (np.floor(values) == values)
    return np.where(good, values, 0).astype(np.int64), good


def _quoted(words: pa.StringArray, what: str) -> pa.StringArray:
    found = pc.utf8_slice_codeunits(pc.fill_null(words, ""), 0, _SHOWN)
    return pc.binary_join_element_wise("Found '", found, f"'; expected {what}.", "")
