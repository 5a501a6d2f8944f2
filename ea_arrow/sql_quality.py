"""The views of quality metrics: built-in values from files, metrics of the user's own on top."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from ea_arrow import cache
from ea_arrow.errors import QueryError
from ea_arrow.quality.engine import PARTNER, quality, wide_spec
from ea_arrow.quality.images import image_quality, image_spec, measured_as
from ea_arrow.quality.own import OwnMetrics
from ea_arrow.quality.registry import metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ea_arrow.derived import Results
    from ea_arrow.quality.declared import Target
    from ea_arrow.quality.own import OwnMetric
    from ea_arrow.schema import TableSpec
    from ea_arrow.store import Store

LONG: Final = "quality"
WIDE: Final[dict[str, Target]] = {
    "prediction_quality": "prediction",
    "label_quality": "label",
    "image_quality": "image",
}
KEYS: Final[dict[Target, tuple[str, ...]]] = {
    "prediction": ("iteration", "prediction_id"),
    "label": ("label_id",),
    "image": ("data_hash", "frame"),
}
_BESIDE: Final = {  # what an own expression may use besides the metrics
    "prediction": "predictions_details",
    "label": "labels_details",
    "image": "data_units",
}
_DOUBLED: Final = ("iteration", "prediction_id", "label_id", "unit_id", "data_hash", "frame")
_VOLATILE: Final = (
    "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
)
_OF_IMAGES: Final = "unit_id, data_hash, frame, error, object_count, frame_object_density"
_TEXTS: Final = (PARTNER, "error")  # columns of the wide views that are no metrics


class QualityViews:
    """Makes the views that a statement names.

    Args:
        connection: Where.
        store: The project.
        results: Its answers.
        own: Metrics of the user's own; by default those that the project keeps.
        only: Iterations to look at; by default all of them.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        store: Store,
        results: Callable[[], Results],
        own: Sequence[OwnMetric] | None = None,
        only: Sequence[str] | None = None,
    ) -> None:
        self.connection, self.store, self._results = connection, store, results
        self._given, self._only = own, only

    def named(self, sql: str) -> dict[str, list[OwnMetric]]:
        """The wide views that a statement needs, each with the metrics of the user's own."""
        everything = _is_named(LONG, sql)
        names = [name for name in WIDE if everything or _is_named(name, sql)]
        if not names:
            return {}
        own = list(OwnMetrics(self.store).listed().values()) if self._given is None else self._given
        if "image_quality" not in names and _names_images(own):
            names.append("image_quality")
        return {name: [m for m in own if m.target == WIDE[name]] for name in names}

    def built_in(
        self,
        names: dict[str, list[OwnMetric]],
        of_files: Callable[[TableSpec, list[Path]], None],
        of_table: Callable[[TableSpec, pa.Table], None],
    ) -> None:
        """Make the tables under the views: built-in values, and those of functions.

        Args:
            names: What :meth:`named` returned.
            of_files: Makes a view of Parquet files.
            of_table: Makes one of a table.
        """
        for name, own in names.items():
            spec, found = self._values(WIDE[name])
            files = [result for result in found if not isinstance(result, pa.Table)]
            if files and len(files) == len(found):
                of_files(spec, files)
            else:
                tables = [cache.read(result) for result in found]
                of_table(spec, pa.concat_tables(tables) if tables else spec.arrow.empty_table())
            for metric in own:
                if metric.function is not None:
                    self.connection.register(f"own_{metric.name}", self._kept(metric))

    def on_top(self, names: dict[str, list[OwnMetric]], sql: str) -> None:
        """Make the views themselves; their expressions are bound here, with files locked away.

        Raises:
            QueryError: An expression of the user's own is wrong.
        """
        for name, own in names.items():
            self.connection.execute(f"CREATE VIEW {name} AS {self._select(WIDE[name], own)}")
        if names and _is_named(LONG, sql):
            self.connection.execute(f"CREATE VIEW {LONG} AS {self._long()}")

    def _values(self, target: Target) -> tuple[TableSpec, list[Any]]:
        results = self._results()
        if target == "image":
            spec, found = image_spec(), [image_quality(self.store, results)]
        elif target == "label":
            spec, found = wide_spec(target), [quality(results, None)]
        else:
            live = self.store.iterations().values()
            wanted = [one for one in live if self._only is None or one.name in self._only]
            spec, found = wide_spec(target), [quality(results, one) for one in wanted]
        renamed = type(spec)(f"measured_{target}", spec.doc, spec.columns)
        return renamed, found

    def _kept(self, metric: OwnMetric) -> pa.Table:
        """The values of a function, of all iterations that it was computed for."""
        own = OwnMetrics(self.store)
        inputs = values_keys(self.store, self._results(), metric.target)
        keys = [(k, pa.int64() if k in ("prediction_id", "label_id", "frame") else pa.string())
                for k in KEYS[metric.target]]  # fmt: skip
        schema = pa.schema([*keys, ("value", pa.float64())])
        paths = (own.values_path(metric, key) for _, key in inputs)
        tables = [cache.readable(path) for path in paths if path.is_file()]
        found = [table.cast(schema) for table in tables if table is not None]
        return pa.concat_tables(found) if found else schema.empty_table()

    def _select(self, target: Target, own: Sequence[OwnMetric]) -> str:
        keys = ", ".join(KEYS[target])
        source = f"measured_{target}"
        if not own:
            return f"SELECT * FROM {source}"
        spec = image_spec() if target == "image" else wide_spec(target)
        shown = [f'"{name}"' for name in spec.names]
        beside = _BESIDE[target]
        doubled = ", ".join(n for n in spec.names if n in _DOUBLED)
        inner = (
            f"SELECT b.*, m.* EXCLUDE ({doubled}) FROM {source} m JOIN {beside} b USING ({keys})"
        )
        if target != "image" and _names_images(own):
            inner = (
                f"SELECT o.*, i.* EXCLUDE ({_OF_IMAGES}) FROM ({inner}) o "
                "LEFT JOIN measured_image i ON i.data_hash = o.data_hash AND i.frame = o.frame"
            )
        for metric in own:
            shown.append(f'"{metric.name}"')
            if metric.sql is not None:
                number = f"CAST(({expression(metric.sql)}) AS DOUBLE)"
                value = f'CASE WHEN isfinite({number}) THEN {number} END AS "{metric.name}"'
                inner = f"SELECT *, {value} FROM ({inner})"
            else:
                value = f'o.value AS "{metric.name}"'
                inner = (
                    f"SELECT i.*, {value} FROM ({inner}) i "
                    f"LEFT JOIN own_{metric.name} o USING ({keys})"
                )
        return f"SELECT {', '.join(shown)} FROM ({inner})"

    def _long(self) -> str:
        parts = []
        for name, target in WIDE.items():
            iteration = "iteration" if target == "prediction" else "NULL::VARCHAR"
            key = "unit_id" if target == "image" else f"{target}_id"
            keys = [*dict.fromkeys([*KEYS[target], key, "data_hash", "frame"])]
            drop = [text for text in _TEXTS if text != ("error" if target != "image" else PARTNER)]
            parts.append(
                f"SELECT '{target}' AS target, {iteration} AS iteration, {key} AS target_id, "
                f"data_hash, frame, metric, value FROM (UNPIVOT (SELECT * EXCLUDE "
                f"({', '.join(drop)}) FROM {name}) ON COLUMNS(* EXCLUDE ({', '.join(keys)})) "
                "INTO NAME metric VALUE value)"
            )
        return " UNION ALL ".join(parts)


def values_keys(store: Store, results: Results, target: Target) -> list[tuple[str | None, str]]:
    """What a function of the user's is called on, and what names the rows that it saw.

    Args:
        store: The project.
        results: Its answers.
        target: What the metric is about.

    Returns:
        Each iteration by name, or None for all labels or images, with the name of its rows.
    """
    if target == "prediction":
        return [(name, results.rows_key(one)) for name, one in store.iterations().items()]
    if target == "image":
        return [(None, f"{results.fingerprint(None)}-{measured_as(store)}")]
    return [(None, results.fingerprint(None))]


def expression(sql: str) -> str:
    """Return an SQL expression as DuckDB understands it; comments are gone.

    Raises:
        QueryError: It is not one expression.
    """
    try:
        text = str(duckdb.SQLExpression(sql))
        with duckdb.connect() as connection:
            [(tree,)] = connection.execute(
                "SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT {text}"]
            ).fetchall()
            volatile = connection.execute(_VOLATILE).fetchall()
    except duckdb.Error as error:
        raise QueryError(
            f"'{sql}' is not an SQL expression: {error}",
            hint="For example: relative_w * relative_h * confidence",
        ) from error
    used = set(re.findall(r'"function_name":"([^"]+)"', tree))
    if '"class":"WINDOW"' in tree:
        raise QueryError(
            f"'{sql}' looks at other rows (OVER): its values would depend on what is asked for.",
            hint="Compute it in a query, or as a function: project.add_quality_metric(name, f).",
        )
    chance = sorted(used & {name for (name,) in volatile})
    if chance:
        raise QueryError(f"'{sql}' has another value each time: {', '.join(chance)}.")
    return text


def _names_images(own: Sequence[OwnMetric]) -> bool:
    """Whether metrics of objects use any of their image."""
    names = "|".join(metrics_of("image"))
    return any(
        m.sql is not None and m.target != "image" and re.search(rf"\b({names})\b", m.sql)
        for m in own
    )


def _is_named(name: str, sql: str) -> bool:
    return re.search(rf"\b{name}\b", sql, re.IGNORECASE) is not None
