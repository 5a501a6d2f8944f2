"""What tables of every kind of file have in common."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from ea_arrow.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ea_arrow.sources.columns import Cells

BLOCK_BYTES: Final = 1 << 23
"""How much of a text is read at once; no row may be longer."""

MOST_NAMES: Final = 10_000
"""A table of more columns than this is refused."""

ERRORS: Final = (
    *(pa.ArrowException, OSError, EOFError, ValueError, MemoryError, OverflowError, KeyError),
    *(zlib.error, RecursionError, TypeError),
)


@contextmanager
def arrow_errors(path: Path) -> Iterator[None]:
    """Turn whatever Arrow raises about a file into an error that names it.

    Raises:
        SourceError: In place of any other.
    """
    try:
        yield
    except ERRORS as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        message = f"{path} cannot be read as a table: {told[0][:300]}"
        raise SourceError(
            message, hint="Copy or write the file again, or name its format."
        ) from error


class Block(NamedTuple):
    """Some rows of a table.

    Attributes:
        columns: The columns asked for, by name.
        rows: Each row's number in the file, from 0, shape (n,).
        broken: Rows that could not be split into columns: number, rule, message.
    """

    columns: dict[str, Cells]
    rows: NDArray[np.int64]
    broken: list[tuple[int, str, str]]


class TableFile(ABC):
    """A table in a file. It may be read several times.

    Args:
        path: The file.

    Attributes:
        path: The file.
        kind: ``parquet``, ``arrow``, ``csv`` or ``ndjson``.
        names: The columns, as named in the file.
        types: Their Arrow types, by name; none where values have no types.
        metadata: What the file says of itself, by key.
        unseen: Lines of JSON: keys that the first lines do not have and that were not asked for,
            with how often they occur; of the last reading, complete at its end.

    Raises:
        SourceError: The file is no such table.
    """

    kind: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.types: dict[str, pa.DataType] = {}
        self.metadata: dict[str, str] = {}
        self.unseen: Counter[str] = Counter()
        with arrow_errors(path):
            self._look()

    @abstractmethod
    def _look(self) -> None:
        """Find out the columns."""

    @abstractmethod
    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Read columns, block by block, in file order.

        Raises:
            SourceError: The file is damaged.
        """

    def _set_schema(self, schema: pa.Schema) -> None:
        if len(schema) > MOST_NAMES:
            raise SourceError(f"{self.path} has {len(schema):,} columns; at most {MOST_NAMES:,}.")
        self.names = list(schema.names)
        self.types = dict(zip(schema.names, schema.types, strict=True))
        self.metadata = {
            key.decode(errors="replace"): value.decode(errors="replace")
            for key, value in (schema.metadata or {}).items()
        }
