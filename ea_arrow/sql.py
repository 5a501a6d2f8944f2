"""SQL over a project: DuckDB in memory, over the live files, unable to write or look elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import duckdb
import pyarrow as pa

from ea_arrow import derived
from ea_arrow.errors import QueryError
from ea_arrow.schema import (
    CLASSES,
    DATA_UNITS,
    ITERATIONS,
    LABELS,
    MATCHES,
    METRICS,
    PREDICTIONS,
    REJECTS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ea_arrow.schema import TableSpec
    from ea_arrow.store import Store

_DETAILS: Final = """
CREATE VIEW {name}_details AS
SELECT t.*, c.name AS class, u.title, u.source_id AS unit_source_id, u.width, u.height,
       t.bbox_x / u.width AS relative_x, t.bbox_y / u.height AS relative_y,
       t.bbox_w / u.width AS relative_w, t.bbox_h / u.height AS relative_h
FROM {name} t
LEFT JOIN data_units u USING (data_hash, frame)
LEFT JOIN classes c ON c.feature_hash = t.feature_hash
      AND c.option_hash IS NOT DISTINCT FROM t.option_hash
"""
_EXPLAIN: Final = re.compile(r"\s*explain(\s+analyze)?\s+", re.IGNORECASE)


def query(store: Store, sql: str) -> pa.Table:
    """Run one SELECT over the project's views.

    Views: ``predictions``, ``labels`` (and both with ``_details``: class name, title, size and
    relative box), ``data_units``, ``classes``, ``iterations``, ``rejects``, ``matches``,
    ``metrics``.

    Args:
        store: The project.
        sql: One statement that reads.

    Returns:
        The result.

    Raises:
        QueryError: The statement is wrong, or does anything but read from these views.
    """
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,  # a Python variable is not a table
        }
    )
    try:
        _check_reads(connection, sql)
        views = _Views(connection, store)
        views.make(sql)
        connection.execute("SET allowed_paths = " + _literals(views.files))
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return _whole_numbers(connection.sql(sql).to_arrow_table())
    except duckdb.Error as error:
        raise QueryError(f"The query failed: {error}".strip(), hint=_hint(str(error))) from error
    finally:
        connection.close()


def _check_reads(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let only a single SELECT through, or EXPLAIN of one.

    Raises:
        QueryError: It is anything else.
    """
    explained = _EXPLAIN.sub("", sql, count=1)
    statements = connection.extract_statements(explained)
    if not statements:
        raise QueryError(
            "The query is empty.", hint="For example: select count(*) from predictions"
        )
    if len(statements) > 1:
        raise QueryError(f"Expected one statement; found {len(statements)}.")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise QueryError(
            f"Only SELECT is allowed here; this is {kind}.",
            hint="Queries cannot change a project. Use the import and rm commands for that.",
        )


class _Views:
    """Makes the views and remembers the files they read."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, store: Store) -> None:
        self.connection, self.store = connection, store
        self.files: list[Path] = []

    def make(self, sql: str) -> None:
        """Make all views; matches and metrics are computed only if the query names them."""
        for spec in (PREDICTIONS, LABELS, DATA_UNITS):
            table = self.store.table(spec)
            self._of_files(spec, [table.root / file.path for file in table.files()])
        self._of_table(CLASSES, self.store.classes())
        self._of_table(ITERATIONS, self.store.live_rows(ITERATIONS))
        self._of_table(REJECTS, self.store.live_rows(REJECTS))
        for spec in (MATCHES, METRICS):
            named = re.search(rf"\b{spec.name}\b", sql, re.IGNORECASE)
            self._of_results(spec, compute=named is not None)
        for name in ("predictions", "labels"):
            self.connection.execute(_DETAILS.format(name=name))

    def _of_files(self, spec: TableSpec, files: Sequence[Path]) -> None:
        if not files:
            self._of_table(spec, spec.arrow.empty_table())
            return
        self.files += files
        # Without the type, an iteration called 007 or 1e3 would be read as a number.
        hive = ", ".join(f"'{name}': VARCHAR" for name in spec.partition_by)
        options = (
            f"hive_partitioning = true, hive_types = {{{hive}}}"
            if hive
            else "hive_partitioning = false"
        )
        columns = ", ".join(f'"{name}"' for name in spec.names)
        self.connection.execute(
            f"CREATE VIEW {spec.name} AS SELECT {columns} "
            f"FROM read_parquet({_literals(files)}, {options})"
        )

    def _of_table(self, spec: TableSpec, table: pa.Table) -> None:
        self.connection.register(f"{spec.name}_rows", table)
        self.connection.execute(f"CREATE VIEW {spec.name} AS FROM {spec.name}_rows")

    def _of_results(self, spec: TableSpec, *, compute: bool) -> None:
        iterations = self.store.iterations().values() if compute else ()
        found = [derived.file_or_table(self.store, iteration, spec) for iteration in iterations]
        files = [result for result in found if not isinstance(result, pa.Table)]
        if len(files) == len(found):
            self._of_files(spec, files)
        else:  # the project cannot be written to
            self._of_table(spec, pa.concat_tables(derived.read(result) for result in found))


def _literals(paths: Sequence[Path]) -> str:
    quoted = ("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"[{', '.join(quoted)}]"


def _whole_numbers(table: pa.Table) -> pa.Table:
    """DuckDB's sum of integers is a 128-bit number; give back int64 where it fits."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = table.column(index).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, field.name, column)
    return table


def _hint(message: str) -> str | None:
    if "Permission" in message:
        return "Queries read the project's views only: predictions, labels, matches, metrics, …"
    if "does not exist" in message and "Table" in message:
        return (
            "Views: predictions, predictions_details, labels, labels_details, data_units, classes, "
            "iterations, rejects, matches, metrics."
        )
    return None
