"""SQL over a project: DuckDB in memory, over the live files, unable to write or look elsewhere."""

from __future__ import annotations

import json
import re
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import duckdb
import numpy as np
import pyarrow as pa

from ea_arrow import cache, derived
from ea_arrow.errors import QueryError
from ea_arrow.questions import Question
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
from ea_arrow.slices import Subset
from ea_arrow.sql_quality import QualityViews

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ea_arrow.quality.own import OwnMetric
    from ea_arrow.schema import TableSpec
    from ea_arrow.store import Iteration, Store

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
# Not by Hive partitioning: it would take an iteration called 007 for a number and one called
# __HIVE_DEFAULT_PARTITION__ for a null, and read the names of all directories above the project.
_PARTITION: Final = r"regexp_extract(filename, '[/\\]{name}=([^/\\]*)[/\\][^/\\]*$', 1) AS {name}"
_EXPLAIN: Final = re.compile(r"\s*explain(\s+analyze)?\s+", re.IGNORECASE)
_WRITES: Final = re.compile(
    "COPY|INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|ATTACH|EXPORT"
    "|EXECUTE_SERIALIZED",  # hides a plan of its own
    re.IGNORECASE,
)


def query(
    store: Store,
    sql: str,
    question: Question | None = None,
    *,
    only_named: bool = False,
    own: Sequence[OwnMetric] | None = None,
    measured: Sequence[str] | None = None,
) -> pa.Table:
    """Run one SELECT over the project's views.

    Views: ``predictions``, ``labels`` (and both with ``_details``: class name, title, size and
    relative box), ``data_units``, ``classes``, ``iterations``, ``rejects``, ``matches``,
    ``metrics``, ``quality`` (long), ``prediction_quality``, ``label_quality``, ``image_quality``.

    Args:
        store: The project.
        sql: One statement that reads.
        question: Protocol, IoU threshold and type of ``matches``.
        only_named: Open no view that the statement does not name: faster, but others are missing.
        own: Quality metrics of the user's own; by default those that the project keeps.
        measured: Iterations whose quality is asked for; by default all of them.

    Returns:
        The result.

    Raises:
        QueryError: The statement is wrong, or does anything but read from these views.
    """
    with TemporaryDirectory(prefix="ea-arrow-") as spill:
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,  # a Python variable is not a table
                "temp_directory": spill,  # by default .tmp in the working directory
            }
        )
        try:
            # Its late materialisation breaks on a filter of a column made from the file name.
            connection.execute("SET disabled_optimizers = 'late_materialization'")
            views = _Views(connection, store, question or Question(), only_named=only_named)
            views.quality = QualityViews(connection, store, views.results, own, measured)
            return _run(connection, views, sql)
        except (duckdb.Error, UnicodeError) as error:
            raise _failed(str(error)) from error
        except RuntimeError as error:
            if "interrupted" in str(error).lower():
                raise KeyboardInterrupt from error
            raise
        finally:
            connection.close()


def select_units(store: Store, where: str, name: str | None = None) -> Subset:
    """Find the data units for which a condition holds.

    Args:
        store: The project.
        where: An expression over ``data_units``; it may ask the other views too.
        name: What to call them; by default the condition itself.

    Raises:
        QueryError: It is wrong, or no condition.
    """
    if not where.strip():
        raise QueryError("The condition is empty.", hint='For example: --where "width > 1000"')
    sql = f"SELECT unit_id FROM data_units WHERE (\n{where}\n)"
    units = query(store, sql, only_named=True)
    if units.column_names != ["unit_id"]:
        raise QueryError(f"Not a condition: {where}", hint='For example: --where "width > 1000"')
    flags = np.zeros(sum(file.rows for file in store.table(DATA_UNITS).files()), bool)
    is_id = pa.types.is_integer(units.column(0).type) and not units.column(0).null_count
    found = units.column(0).to_numpy() if is_id else np.array([-1])
    in_range = ((found >= 0) & (found < len(flags))).all()
    if not in_range or len(np.unique(found)) < len(found):
        raise QueryError(f"Not a condition: {where}", hint='For example: --where "width > 1000"')
    flags[found] = True
    return Subset(one_line(where) if name is None else name, flags)


def one_line(where: str) -> str:
    """A condition on one line, unless that could change what it means."""
    text = where.strip()
    return text if re.search(r"--|/\*|['\"]", text) else " ".join(text.split())


def _run(connection: duckdb.DuckDBPyConnection, views: _Views, sql: str) -> pa.Table:
    selection = _selection(connection, sql)
    views.make(sql)
    named = {str(path) for path in views.files} | {_unglobbed(path) for path in views.files}
    connection.execute("SET allowed_paths = " + _literals(named))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    views.on_top(sql)
    _check_plan(connection, selection)
    return _whole_numbers(_distinct_names(connection.sql(sql).to_arrow_table()))


def _selection(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Let only a single SELECT through, or EXPLAIN of one; return the SELECT.

    Raises:
        QueryError: It is anything else.
    """
    selection = sql
    sql.encode()  # half a character is an error of the query, not of DuckDB's binding
    statements = connection.extract_statements(sql)
    explain = _EXPLAIN.match(sql)
    if explain and len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:
        selection = sql[explain.end() :]
        statements = connection.extract_statements(selection)
    if not statements:
        raise QueryError(
            "The query is empty.", hint="For example: select count(*) from predictions"
        )
    if len(statements) > 1:
        raise QueryError(f"Expected one statement; found {len(statements)}.")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise _not_a_selection(str(statements[0].type).rpartition(".")[2])
    return selection


def _check_plan(connection: duckdb.DuckDBPyConnection, selection: str) -> None:
    """Refuse what writes inside a SELECT: ``WITH x AS (COPY … TO 'file') …`` is one.

    Files that may be read may be overwritten too, as far as DuckDB is concerned.

    Raises:
        QueryError: A step of the plan is not one that reads.
    """
    try:
        explained = connection.execute(f"EXPLAIN (FORMAT JSON)\n{selection}").fetchall()
    except duckdb.Error as error:  # it counts our line
        text = re.sub(r"(?<=LINE )\d+", lambda found: str(int(found[0]) - 1), str(error))
        raise _failed(text) from error
    steps = [step for _, plan in explained for step in json.loads(plan)]
    while steps:
        step = steps.pop()
        if _WRITES.search(step["name"]):
            raise _not_a_selection(f"a SELECT with a step {step['name']}")
        steps += step["children"]


def _not_a_selection(found: str) -> QueryError:
    return QueryError(
        f"Only SELECT is allowed here; this is {found}.",
        hint="Queries cannot change a project. Use the import and rm commands for that.",
    )


class _Views:
    """Makes the views and remembers the files they read."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        store: Store,
        question: Question,
        *,
        only_named: bool,
    ) -> None:
        self.connection, self.store, self.question = connection, store, question
        self.only_named = only_named
        self.quality = QualityViews(connection, store, self.results)
        self.measured: dict[str, list[OwnMetric]] = {}
        self.files: list[Path] = []

    def make(self, sql: str) -> None:
        """Make all views; answers are computed only if the query names them."""
        self.measured = self.quality.named(sql)
        if self.measured:  # own expressions may use any view
            own = (metric.sql or "" for listed in self.measured.values() for metric in listed)
            sql = " ".join((sql, *own, "predictions_details labels_details data_units"))
            self.quality.built_in(self.measured, self._of_files, self._of_table)
        for spec in (PREDICTIONS, LABELS, DATA_UNITS):
            if self.only_named and not _names(sql, spec):
                continue
            table = self.store.table(spec)
            self._of_files(spec, [table.root / file.path for file in table.files()])
        self._of_table(CLASSES, self.store.classes())
        # Those below cost time or memory: only if the query names them.
        for spec in (ITERATIONS, REJECTS):
            named = _names(sql, spec)
            rows = self.store.live_rows(spec) if named else spec.arrow.empty_table()
            self._of_table(spec, rows)
        for spec in (MATCHES, METRICS):
            self._of_results(spec, compute=_names(sql, spec))
        for name in ("predictions", "labels"):
            if self.only_named and not re.search(rf"\b{name}_details\b", sql, re.IGNORECASE):
                continue
            self.connection.execute(_DETAILS.format(name=name))

    def on_top(self, sql: str) -> None:
        """Make the views that expressions of the user's own are a part of."""
        self.quality.on_top(self.measured, sql)

    def results(self) -> derived.Results:
        """The project's answers."""
        return derived.Results(self.store)

    def _of_files(self, spec: TableSpec, files: Sequence[Path]) -> None:
        if not files:
            self._of_table(spec, spec.arrow.empty_table())
            return
        self.files += files
        columns = ", ".join(
            _PARTITION.format(name=name) if name in spec.partition_by else f'"{name}"'
            for name in spec.names
        )
        self.connection.execute(
            f"CREATE VIEW {spec.name} AS SELECT {columns} FROM "
            f"read_parquet({_literals(map(_unglobbed, files))}, hive_partitioning = false)"
        )

    def _of_table(self, spec: TableSpec, table: pa.Table) -> None:
        self.connection.register(spec.name, table)

    def _of_results(self, spec: TableSpec, *, compute: bool) -> None:
        if not compute:
            self._of_table(spec, spec.arrow.empty_table())
            return
        iterations = self.store.iterations().values()
        results = self.results()
        found = [
            results.file_or_table(spec, iteration, question)
            for iteration in iterations
            for question in self._questions(spec, results, iteration)
        ]
        files = [result for result in found if not isinstance(result, pa.Table)]
        if len(files) == len(found):
            self._of_files(spec, files)
        else:  # the project cannot be written to
            self._of_table(spec, pa.concat_tables(cache.read(result) for result in found))

    def _questions(
        self, spec: TableSpec, results: derived.Results, iteration: Iteration
    ) -> list[Question]:
        if spec is MATCHES:
            return [self.question]
        asked = [Question()]
        if "classification" in results.formats(iteration):
            asked.append(Question(protocol="classification"))
        return asked


def _names(sql: str, spec: TableSpec) -> bool:
    return re.search(rf"\b{spec.name}(_details)?\b", sql, re.IGNORECASE) is not None


def _literals(texts: Iterable[str]) -> str:
    quoted = ("'" + text.replace("'", "''") + "'" for text in texts)
    return f"[{', '.join(quoted)}]"


def _unglobbed(path: Path) -> str:
    """The pattern that matches only this file, whatever its name holds."""
    return re.sub(r"[*?\[]", r"[\g<0>]", str(path))


def _distinct_names(table: pa.Table) -> pa.Table:
    """Number repeated names, as of a join: rows as dictionaries would lose all but the last."""
    given, names = set(table.schema.names), list[str]()
    for name in table.schema.names:
        new, number = name, 0
        while new in names or (number and new in given):
            number += 1
            new = f"{name}_{number}"
        names.append(new)
    return table.rename_columns(names)


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


def _failed(message: str) -> QueryError:
    return QueryError(f"The query failed: {message}".strip(), hint=_hint(message))


def _hint(message: str) -> str | None:
    if "Permission" in message:
        return "Queries read the project's views only: predictions, labels, matches, metrics, …"
    if "does not exist" in message and "Table" in message:
        return (
            "Views: predictions, predictions_details, labels, labels_details, data_units, classes, "
            "iterations, rejects, matches, metrics, quality, prediction_quality, label_quality, "
            "image_quality."
        )
    return None
