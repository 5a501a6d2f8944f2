"""What readers of ground truth share: data units as a table, and hashes for those without."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from ea_arrow.schema import DATA_UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence


def data_hash_of(*parts: Any) -> str:
    """Return the hash of a data unit whose source has none, from what names it there.

    >>> data_hash_of("1", "one.jpg") == data_hash_of("1", "one.jpg")
    True
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return str(UUID(bytes=digest[:16], version=5))


def unit_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return data units as ``DATA_UNITS``, in the order given, which is that of evaluation.

    Args:
        rows: ``width``, ``height``, ``title``, ``source_id`` and, where they are known, the other
            columns; ``unit_id``, ``frame`` (0) and ``data_hash`` are filled in.
    """
    filled = [
        {
            "unit_id": index,
            "frame": 0,
            "data_hash": data_hash_of(row.get("source_id"), row["title"]),
        }
        | row
        for index, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(filled, schema=DATA_UNITS.arrow)
