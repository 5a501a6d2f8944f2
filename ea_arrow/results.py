"""What queries and readers return: rows that go anywhere Arrow goes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import EaArrowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl
    import pyarrow as pa

_SHOWN: Final = 20


class Result:
    """A table of rows.

    Anything that reads the Arrow C stream interface takes it as it is:
    ``polars.DataFrame(result)``, ``pyarrow.table(result)``, DuckDB.

    Attributes:
        notes: What to know about the numbers, in sentences.

    Args:
        table: The rows.
        notes: Such sentences.
    """

    def __init__(self, table: pa.Table, notes: Iterable[str] = ()) -> None:
        self._table = table
        self.notes = list(notes)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries."""
        for batch in self._table.to_batches():
            yield from batch.to_pylist()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface."""
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"Result({len(self):,} rows: {', '.join(self.columns)})"

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return list(self._table.schema.names)

    def to_arrow(self) -> pa.Table:
        """The rows as a ``pyarrow.Table``."""
        return self._table

    def to_polars(self) -> pl.DataFrame:
        """The rows as a ``polars.DataFrame``."""
        import polars as pl

        return pl.DataFrame(self._table)

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            EaArrowError: pandas is not installed; ea-arrow does not need it otherwise.
        """
        try:
            return self._table.to_pandas()
        except ModuleNotFoundError as error:
            raise EaArrowError("pandas is not installed.", hint="pip install pandas") from error

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row.values()) + "</tr>"
            for row in self._table.slice(0, _SHOWN).to_pylist()
        )
        more = f"<caption>{len(self):,} rows</caption>"
        return f"<table>{more}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
