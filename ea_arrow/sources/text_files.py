"""Many small text files of whitespace-separated words, read as columns.

The files are read in blocks; a block becomes one list column of words, with the file and the line
of every row, by Arrow's kernels: there is no Python loop over lines.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_BYTES: Final = 1 << 22
MOST_BYTES: Final = 1 << 28
"""A text file of more than this is refused before it is read: 4 million boxes of an image."""

_BLOCK_FILES: Final = 2_000


@dataclass(frozen=True)
class TextRows:
    """Lines of several files.

    Attributes:
        words: One list of words per line that has any.
        file: The index of each line's file in the list that was given, shape (n,).
        line: Each line's number in its file, from 1, shape (n,).
    """

    words: pa.ListArray
    file: NDArray[np.int64]
    line: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.line)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many words each line has, shape (n,)."""
        counts: NDArray[np.int64] = self.words.value_lengths().to_numpy().astype(np.int64)
        return counts

    def take(self, rows: NDArray[np.int64]) -> TextRows:
        """Some of the lines."""
        return TextRows(self.words.take(pa.array(rows)), self.file[rows], self.line[rows])

    def word(self, index: int) -> pa.StringArray:
        """The word at a place of every line, from 0; null where a line is shorter."""
        enough = pa.array(self.counts > index)
        padded = pc.if_else(enough, self.words, pa.scalar([""] * (index + 1), self.words.type))
        return pc.if_else(enough, pc.list_element(padded, index), pa.scalar(None, pa.string()))


def text_rows(
    paths: Sequence[Path], *, separator: str | None = None, comment: str = "#"
) -> Iterator[TextRows]:
    """Read text files as words.

    Args:
        paths: The files; an empty one has no rows.
        separator: What stands between words; whitespace by default.
        comment: Lines that begin with this are passed over.

    Yields:
        Blocks of whole files, in order.

    Raises:
        SourceError: A file cannot be read, is too large, or is not UTF-8 text.
    """
    start = 0
    with ThreadPoolExecutor(4) as pool:
        for block in _blocks(paths):
            data = list(pool.map(_read, block, chunksize=64))
            yield _rows(block, data, start, separator, comment)
            start += len(block)


def numbers(words: pa.StringArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Parse words as numbers.

    Returns:
        The numbers, NaN where a word is none, and which words are numbers (NaN and infinity are),
        both of shape (n,).

    >>> values, good = numbers(pa.array(["1.5", "x", "-2e3"]))
    >>> values.tolist(), good.tolist()
    ([1.5, nan, -2000.0], [True, False, True])
    """
    try:
        values = words.cast(pa.float64())
        good = values.is_valid()
    except pa.ArrowInvalid:
        pattern = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:nan|inf|infinity))$"
        good = pc.match_substring_regex(words, pattern).fill_null(False)
        text = pc.replace_substring_regex(pc.if_else(good, words, "nan"), r"^\+", "")
        values = text.cast(pa.float64())
    parsed: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    return parsed, good.to_numpy(zero_copy_only=False)


def _blocks(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Runs of files whose sizes add up to a block, one file at least."""
    block: list[Path] = []
    size = 0
    for path in paths:
        try:
            size += path.stat().st_size
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
        block.append(path)
        if size >= BLOCK_BYTES or len(block) >= _BLOCK_FILES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > MOST_BYTES else file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    if max(size, len(data)) > MOST_BYTES:
        message = f"{path} has more than {MOST_BYTES:,} bytes; expected the rows of one data unit."
        raise SourceError(message, hint="Name its format with --format, if it is another.")
    return data


def _rows(
    paths: Sequence[Path], data: list[bytes], first: int, separator: str | None, comment: str
) -> TextRows:
    texts = pa.array([_text(p, d) for p, d in zip(paths, data, strict=True)], pa.string())
    lines = pc.split_pattern(texts, "\n")
    counts = lines.value_lengths().to_numpy().astype(np.int64)
    file = np.repeat(np.arange(first, first + len(data)), counts)
    begins = np.repeat(np.cumsum(counts) - counts, counts)
    line = np.arange(len(file)) - begins + 1
    text = pc.utf8_trim_whitespace(lines.flatten())
    blank = pc.or_(
        pc.equal(text, ""), pc.starts_with(text, comment) if comment else pa.scalar(False)
    )
    kept = np.flatnonzero(~blank.to_numpy(zero_copy_only=False))
    text = text.take(pa.array(kept))
    words = (
        pc.utf8_split_whitespace(text) if separator is None else pc.split_pattern(text, separator)
    )
    return TextRows(words, file[kept], line[kept])


def _text(path: Path, data: bytes) -> str:
    try:
        # Windows and old Mac line ends; a byte-order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path} is not text: byte {error.start:,} is not UTF-8."
        raise SourceError(message, hint="Save it as UTF-8, or name its format.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
