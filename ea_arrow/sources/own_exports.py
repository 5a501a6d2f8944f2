"""Data units and classes as a project exports them: read back with hashes, sizes and order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import SOURCE_ID, Ontology, cut
from ea_arrow.schema import CLASSES, DATA_UNITS, TableSpec
from ea_arrow.sources.columns import plain
from ea_arrow.sources.table_base import arrow_errors
from ea_arrow.sources.table_files import open_table

if TYPE_CHECKING:
    from pathlib import Path

UNITS_FILE: Final = "data_units.parquet"
CLASSES_FILE: Final = "classes.parquet"

_ARROW: Final = " > "
_HINT: Final = "Export the labels again: ea-arrow export --to parquet."


def read_units(path: Path) -> pa.Table:
    """Read data units.

    Args:
        path: A table of the columns of ``DATA_UNITS``.

    Returns:
        A ``DATA_UNITS`` table in the order of ``unit_id``.

    Raises:
        SourceError: A column is missing, or is not what it should be.
    """
    table = _read(path, DATA_UNITS)
    table = table.take(pc.sort_indices(table, sort_keys=[("unit_id", "ascending")]))
    sides = np.stack([table[name].to_numpy() for name in ("width", "height")])
    if (sides <= 0).any():
        row = int(np.flatnonzero((sides <= 0).any(axis=0))[0])
        unit = table["data_hash"][row].as_py()
        raise SourceError(f"{path}: data unit '{unit}' is {sides[:, row].tolist()} pixels.")
    pairs = table.group_by(["data_hash", "frame"]).aggregate([]).num_rows
    if pairs < table.num_rows:
        message = f"{path}: {table.num_rows - pairs} data units have the hash and frame of another."
        raise SourceError(message, hint=_HINT)
    ids = pa.array(np.arange(table.num_rows))
    return table.set_column(0, DATA_UNITS.arrow.field("unit_id"), ids)


def read_classes(path: Path) -> Ontology:
    """Read classes, and make the ontology of them.

    What an ontology says beyond its classes is not in the table: attributes become radio
    attributes.

    Args:
        path: A table of the columns of ``CLASSES``.

    Raises:
        SourceError: A column is missing, or two classes share their hashes.
    """
    rows = _read(path, CLASSES).to_pylist()
    objects: list[dict[str, Any]] = []
    classifications: dict[str, dict[str, Any]] = {}
    options: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in enumerate(rows):
        if row["kind"] == "object":
            objects.append(_object(row, len(objects) + 1))
        elif row["kind"] == "classification" and row["attribute_hash"] and row["option_hash"]:
            _add_option(row, classifications, options)
        else:
            message = f"{path}: row {number} is {cut(row)}; expected an object or an option."
            raise SourceError(message, hint=_HINT)
    return Ontology({"objects": objects, "classifications": list(classifications.values())})


def _object(row: dict[str, Any], number: int) -> dict[str, Any]:
    node = {
        "id": str(number),
        "name": row["name"],
        "color": row["color"],
        "shape": row["shape"] or "any",
        "featureNodeHash": row["feature_hash"],
        SOURCE_ID: row["source_id"],
    }
    return {key: value for key, value in node.items() if value is not None}


def _add_option(
    row: dict[str, Any],
    classifications: dict[str, dict[str, Any]],
    options: dict[tuple[str, str], dict[str, Any]],
) -> None:
    """Put an option where its path says: below a classification, or below another option."""
    feature, path = row["feature_hash"], row["path"]
    above = path.removesuffix(f"{_ARROW}{row['name']}")
    parents = [
        known
        for owner, known in options
        if owner == feature and above.startswith(f"{known}{_ARROW}")
    ]
    if parents:
        longest = max(parents, key=len)
        parent, question = options[feature, longest], above[len(longest) + len(_ARROW) :]
        siblings = parent.setdefault("options", [])
    else:
        new = {"id": "1", "featureNodeHash": feature, "attributes": []}
        siblings, question = classifications.setdefault(feature, new)["attributes"], above
    attribute = next((a for a in siblings if a["featureNodeHash"] == row["attribute_hash"]), None)
    if attribute is None:
        attribute = {
            "id": str(len(siblings) + 1),
            "featureNodeHash": row["attribute_hash"],
            "name": question,
            "type": "radio",
            "options": [],
        }
        siblings.append(attribute)
    option = {
        "id": str(len(attribute["options"]) + 1),
        "featureNodeHash": row["option_hash"],
        "label": row["name"],
        "value": row["name"],
    }
    attribute["options"].append(option)
    options[feature, path] = option


def _read(path: Path, spec: TableSpec) -> pa.Table:
    """A small table whole, in the columns of a spec; those that may be null may be missing."""
    table = open_table(path)
    lacking = [c.name for c in spec.columns if not c.nullable and c.name not in table.names]
    if lacking:
        message = f"{path} has no column {', '.join(lacking)}; expected a table '{spec.name}'."
        raise SourceError(message, hint=_HINT)
    names = [name for name in spec.names if name in table.names]
    batches = []
    with arrow_errors(path):
        for block in table.blocks(names):
            n = len(block.rows)
            columns = [
                _cast(block.columns[field.name], field.type)
                if field.name in names
                else pa.nulls(n, field.type)
                for field in spec.arrow
            ]
            batches.append(pa.RecordBatch.from_arrays(columns, names=spec.names))
        found = pa.Table.from_batches(
            batches, pa.schema(list(zip(spec.names, spec.arrow.types, strict=True)))
        )
        for column in spec.columns:
            if not column.nullable and found[column.name].null_count:
                message = f"{path}: column '{column.name}' has missing values."
                raise SourceError(message, hint=_HINT)
        return found.cast(spec.arrow)


def _cast(cells: Any, kind: pa.DataType) -> pa.Array:
    found = plain(cells)
    if isinstance(found, list):
        return pa.array(found, kind)
    return pa.nulls(len(found), kind) if found.null_count == len(found) else found.cast(kind)
