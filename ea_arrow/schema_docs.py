"""The files under ``schemas/``, generated from the schema module and the prediction model.

``python -m ea_arrow.schema_docs DIR`` writes them; a test fails when they have drifted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ea_arrow.predictions import Prediction
from ea_arrow.schema import SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    from ea_arrow.schema import TableSpec


def describe(spec: TableSpec) -> dict[str, Any]:
    """Return the JSON document that ``schemas/<table>.json`` holds."""
    return {
        "table": spec.name,
        "schema_version": SCHEMA_VERSION,
        "description": spec.doc,
        "partition_by": list(spec.partition_by),
        "columns": [
            {
                "name": c.name,
                "type": str(c.type),
                "nullable": c.nullable,
                "unit": c.unit,
                "description": c.doc,
            }
            for c in spec.columns
        ],
    }


def documents() -> dict[str, str]:
    """Return the content of every generated file by its name."""
    contents = {f"{name}.json": describe(spec) for name, spec in TABLES.items()}
    contents["prediction.schema.json"] = Prediction.model_json_schema()
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for name, document in contents.items()
    }


if __name__ == "__main__":
    for file_name, text in documents().items():
        (Path(sys.argv[1]) / file_name).write_text(text, encoding="utf-8")
