"""Bringing a table to exactly the schema that is declared for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ea_arrow.errors import SchemaError

if TYPE_CHECKING:
    from ea_arrow.schema import TableSpec


def conform(table: Any, spec: TableSpec, *, stored: bool = False) -> Any:
    """Return ``table`` with exactly the columns, types and nullability that ``spec`` declares.

    Polars and DuckDB lose nullability, metadata and nested names, and Arrow accepts nulls in
    non-null fields until a cast; so every table passes here before it is written and after it
    leaves an engine.

    Args:
        table: A ``pyarrow.Table`` or ``RecordBatch``.
        spec: The schema to conform to.
        stored: Leave out partition columns, as inside the Parquet files.

    Raises:
        SchemaError: A column is missing, cannot be cast, or has nulls where none may be.
    """
    target = spec.arrow_stored if stored else spec.arrow
    missing = [name for name in target.names if name not in table.schema.names]
    if missing:
        extra = [name for name in table.schema.names if name not in target.names]
        message = f"Table '{spec.name}' lacks {len(missing)} column(s): {', '.join(missing)}"
        raise SchemaError(message + (f"; it has instead: {', '.join(extra)}." if extra else "."))
    if len(set(table.schema.names)) < len(table.schema.names):
        raise SchemaError(f"Table '{spec.name}' has columns of the same name.")
    columns = []
    for wanted in target:
        column = table.column(wanted.name)
        if not wanted.nullable and column.null_count:
            message = (
                f"Column '{wanted.name}' of table '{spec.name}' has {column.null_count} null(s); "
                "none are allowed."
            )
            raise SchemaError(message)
        if column.type != wanted.type:
            try:
                column = column.cast(wanted.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                message = (
                    f"Column '{wanted.name}' of table '{spec.name}' is {column.type}, which does "
                    f"not convert to {wanted.type}: {error}"
                )
                raise SchemaError(message) from error
        columns.append(column)
    return type(table).from_arrays(columns, schema=target)
