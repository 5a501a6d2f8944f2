"""Embeddings that the user gives: a vector per image, label or prediction, kept in the project."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ea_arrow.errors import ParameterError
from ea_arrow.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.quality.declared import Target
    from ea_arrow.store import Store

FOLDER: Final = "embeddings"
_A: Final = {"image": "an image", "label": "a label", "prediction": "a prediction"}
_VECTORS: Final = pa.list_(pa.float32())


class Embeddings:
    """The embeddings of a project.

    Args:
        store: The project.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.folder / FOLDER

    def add(self, target: Target, inputs: str, table: Any, known: pa.Table) -> int:
        """Keep embeddings beside those there are; of a row that has one the new one counts.

        Args:
            target: What they are of.
            inputs: Name of the iteration's rows, for predictions.
            table: Anything with an Arrow stream: ``embedding``, a list of numbers, all of one
                length, and ``data_hash`` (and ``frame``), ``label_id`` or ``prediction_id``.
            known: The rows that there are, with these keys.

        Returns:
            How many of them are of rows that there are.

        Raises:
            ParameterError: A column is missing or of the wrong type, lengths differ, or none is of
                a row that is there.
        """
        rows = _checked(target, table)
        found = pc.is_in(_names(target, rows), value_set=_names(target, known).combine_chunks())
        number = int(pc.sum(found).as_py() or 0)
        if not number:
            raise ParameterError(f"None of the {len(rows):,} embeddings is of {_A[target]} here.")
        path = self._path(target, inputs)
        if path.is_file():
            rows = _merged(target, pq.read_table(path, partitioning=None), rows)
        write_whole(path, lambda staged: pq.write_table(rows, staged))
        return number

    def of(self, target: Target, inputs: str, rows: pa.Table) -> pa.Array | None:
        """Return the embedding of each of some rows, null without one; None if there are none."""
        path = self._path(target, inputs)
        if not path.is_file():
            return None
        known = pq.read_table(path, partitioning=None)
        place = pc.index_in(_names(target, rows), value_set=_names(target, known))
        return known["embedding"].combine_chunks().take(place)

    def stamp(self, target: Target, inputs: str) -> str:
        """Name the state of the embeddings: another after every change; empty without any."""
        try:
            stat = self._path(target, inputs).stat()
        except FileNotFoundError:
            return ""
        return hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]

    def _path(self, target: Target, inputs: str) -> Path:
        return self._folder / f"{target}{f'-{inputs}' if target == 'prediction' else ''}.parquet"


def _checked(target: Target, table: Any) -> pa.Table:
    try:
        given = pa.table(table)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise ParameterError(f"The embeddings are no table: {error}.") from error
    keys = {"image": ["data_hash"], "label": ["label_id"], "prediction": ["prediction_id"]}[target]
    missing = [name for name in (*keys, "embedding") if name not in given.schema.names]
    if missing:
        raise ParameterError(
            f"The embeddings have no column '{missing[0]}'; they have "
            f"{', '.join(given.schema.names) or 'none'}."
        )
    if target == "image":
        keys.append("frame")
        if "frame" not in given.schema.names:
            given = given.append_column("frame", pa.repeat(pa.scalar(0, pa.int64()), len(given)))
    try:
        kept = given.select([*keys, "embedding"])
        vectors = kept["embedding"].cast(_VECTORS)
        lengths = pc.unique(pc.list_value_length(vectors.drop_null())).to_pylist()
    except pa.ArrowException as error:
        raise ParameterError(f"'embedding' is no list of numbers: {error}.") from error
    if len(lengths) > 1:
        raise ParameterError(f"Embeddings have different lengths: {sorted(lengths)[:5]}.")
    flat = vectors.combine_chunks().flatten()
    if not pc.all(pc.is_finite(flat)).as_py() and len(flat):
        raise ParameterError("An embedding holds NaN or an infinite number.")
    if len(pc.unique(_names(target, kept))) < len(kept):
        raise ParameterError("Two embeddings are of the same row.")
    return kept.set_column(kept.schema.get_field_index("embedding"), "embedding", vectors)


def _merged(target: Target, old: pa.Table, new: pa.Table) -> pa.Table:
    """Old embeddings of other rows, and the new ones.

    Raises:
        ParameterError: They have another length.
    """
    again = pc.is_in(_names(target, old), value_set=_names(target, new).combine_chunks())
    rest = old.filter(pc.invert(again)).select(new.schema.names)
    lengths = [pc.max(pc.list_value_length(table["embedding"])).as_py() for table in (rest, new)]
    if None not in lengths and lengths[0] != lengths[1]:
        raise ParameterError(
            f"Embeddings of {lengths[0]} numbers are there already; these have {lengths[1]}."
        )
    return pa.concat_tables([rest.cast(new.schema), new])


def _names(target: Target, table: pa.Table) -> pa.Array:
    """One name for each row."""
    if target != "image":
        return table[f"{target}_id"].cast(pa.string())
    hashes = table["data_hash"].cast(pa.string())
    return pc.binary_join_element_wise(table["frame"].cast(pa.string()), hashes, " ")
