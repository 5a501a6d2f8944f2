"""The work behind a project's quality metrics: see :class:`ea_arrow.quality_answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.conform import conform
from ea_arrow.derived import Results
from ea_arrow.errors import ParameterError, ProjectError, QueryError, did_you_mean
from ea_arrow.quality.drivers import BINS, Drivers, drivers
from ea_arrow.quality.embeddings import Embeddings
from ea_arrow.quality.engine import PARTNER
from ea_arrow.quality.image_jobs import measure_images
from ea_arrow.quality.images import MEASURES, OF_LABELS
from ea_arrow.quality.own import OwnMetric, OwnMetrics
from ea_arrow.quality.registry import metrics
from ea_arrow.questions import Question
from ea_arrow.results import Result
from ea_arrow.schema import DRIVER_BINS, DRIVERS, MATCHES
from ea_arrow.sql import query
from ea_arrow.sql_quality import KEYS, expression, values_keys
from ea_arrow.tables import local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ea_arrow.quality.declared import Direction, Target
    from ea_arrow.quality.image_jobs import Measured
    from ea_arrow.store import Store

_NO_METRIC: Final = frozenset({"iteration", "prediction_id", "label_id", "unit_id", "data_hash"}
                              | {"frame", PARTNER, "error"})  # fmt: skip


class QualityWork:
    """Answers about quality, and changes to what is measured.

    Args:
        store: The project.
        functions: The user's functions that this process knows, by the names of their metrics.
    """

    def __init__(self, store: Store, functions: dict[str, Callable[[Any], Any]]) -> None:
        self._store, self._functions = store, functions

    def quality(
        self,
        name: str | None = None,
        *,
        target: Target | None = None,
        only: Sequence[str] | None = None,
    ) -> Result:
        """Quality metrics, a row per prediction, label or image and a column per metric."""
        target = target or "prediction"
        if name is not None:
            self._store.iteration(name)
        self._complete(target)
        known = [m["metric"] for m in self.quality_metrics() if target in m["targets"]]
        for metric in only or ():
            if metric not in known:
                near = did_you_mean(metric, known)
                raise ParameterError(f"There is no metric '{metric}' of a {target}.", hint=near)
        keys = [*dict.fromkeys([*KEYS[target], "data_hash", "frame"])]
        shown = ", ".join(f'"{column}"' for column in (*keys, *only)) if only else "*"
        where = f" WHERE iteration = {_literal(name)}" if name and target == "prediction" else ""
        sql = f"SELECT {shown} FROM {target}_quality{where}"
        return Result(query(self._store, sql, measured=None if name is None else [name]))

    def quality_metrics(self) -> Result:
        """Every metric there is: name, what it is about, what it needs, and what it means."""
        rows = [
            {
                "metric": m.name,
                "targets": [*m.targets, *(["image"] if m.name in OF_LABELS else [])],
                "needs": list(m.needs),
                "direction": m.direction,
                "doc": m.doc,
                "source": m.source,
                "title": m.title,
            }
            for m in metrics().values()
        ]
        for own in OwnMetrics(self._store).listed().values():
            source = own.sql if own.sql is not None else f"Python: {own.function}"
            rows.append(
                {
                    "metric": own.name,
                    "targets": [own.target],
                    "needs": [],
                    "direction": own.direction,
                    "doc": own.doc,
                    "source": source,
                    "title": own.name,
                }
            )
        text = pa.string()
        listed = pa.list_(text)
        schema = pa.schema(
            [
                *(("metric", text), ("targets", listed), ("needs", listed)),
                *((name, text) for name in ("direction", "doc", "source", "title")),
            ]
        )
        return Result(pa.Table.from_pylist(rows, schema=schema))

    def add_quality_metric(
        self,
        name: str,
        how: str | Callable[[Any], Any],
        *,
        target: Target = "prediction",
        doc: str = "",
        direction: Direction = "both",
        replace: bool = False,
    ) -> None:
        """Add a metric of your own: it is in SQL, in :meth:`drivers`, and stays in the project."""
        own = OwnMetrics(self._store)
        if isinstance(how, str):
            metric = OwnMetric(name, target, expression(how), None, doc, direction)
            self._bind(own.with_(metric, replace=replace), target, name)
            own.add(metric, replace=replace)
            return
        place = f"{how.__module__}.{getattr(how, '__qualname__', type(how).__qualname__)}"
        metric = OwnMetric(name, target, None, place, doc, direction)
        own.with_(metric, replace=replace)
        values = [
            (key, self._values(metric, how, self._frame(target, one)))
            for one, key in self._inputs(target)
        ]
        own.add(metric, replace=replace)
        for key, table in values:
            own.keep_values(metric, key, table)
        self._functions[name] = how

    def remove_quality_metric(self, name: str) -> None:
        """Forget a metric of your own."""
        own = OwnMetrics(self._store)
        target = own.listed()[name].target if name in own.listed() else "prediction"
        rest = own.without(name)
        try:
            self._bind(rest, target)
        except QueryError as error:
            raise ParameterError(
                f"Another metric uses '{name}': {error.message}", hint="Remove that one first."
            ) from error
        own.remove(name)
        self._functions.pop(name, None)

    def _bind(self, metrics: dict[str, OwnMetric], target: Target, name: str | None = None) -> None:
        """Try metrics of the user's own as they would be kept.

        Raises:
            QueryError: An expression is wrong, or has no number.
        """
        column = f'count("{name}")' if name else "count(*)"
        bound = f"SELECT {column}, any_value(q) FROM (SELECT * FROM {target}_quality) q"
        query(self._store, bound, own=list(metrics.values()))

    def add_embeddings(
        self, table: Any, *, target: Target = "image", iteration: str | None = None
    ) -> int:
        """Give embeddings: uniqueness, diversity and annotation quality are computed from them."""
        if (target == "prediction") != (iteration is not None):
            raise ParameterError("Embeddings of predictions, and of no other, are an iteration's.")
        found = None if iteration is None else self._store.iteration(iteration)
        results = Results(self._store)
        columns = ["data_hash", "frame"] if target == "image" else [f"{target}_id"]
        known = (
            results.reader.data_units.select(columns)
            if target == "image"
            else results.reader.rows(found, columns)
        )
        return Embeddings(self._store).add(target, results.rows_key(found), table, known)

    def measure_images(
        self,
        images: str | Path | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        workers: int | None = None,
    ) -> Measured:
        """Measure the pixels of every image."""
        units = self._store.data_units()
        uris = units["uri"].to_pylist()
        if images is not None:
            from ea_arrow.sources.images import Images

            found = Images(local(images))
            names = [
                found.find(title or "") or found.find(source or "")
                for title, source in zip(
                    units["title"].to_pylist(), units["source_id"].to_pylist(), strict=True
                )
            ]
            if not any(names):
                raise ProjectError(
                    f"{images}: none of its {len(found.paths):,} images is named as a data unit.",
                    hint="Names: ea-arrow query 'select title, source_id from data_units'",
                )
            uris = [found.uri(n) if n else u for n, u in zip(names, uris, strict=True)]
        if not any(uris):
            raise ProjectError(
                "No data unit says where its image is.", hint="Give the directory: --images DIR."
            )
        return measure_images(
            uris,
            units["data_hash"].to_pylist(),
            self._store.folder / MEASURES,
            progress,
            workers,
            frames=units["frame"].to_pylist(),
        )

    def drivers(
        self, name: str, *, bins: int = BINS, iou_threshold: float = 0.5
    ) -> tuple[Result, Result]:
        """What drives performance: quality metrics ranked by what they say about correctness."""
        question = Question(iou_thresholds=(iou_threshold,))
        matches = Results(self._store).answer(MATCHES, self._store.iteration(name), question)
        found = [self._driven(target, name, matches, bins) for target in ("prediction", "label")]
        tables = []
        for spec, parts in (
            (DRIVERS, [one.ranking for one in found]),
            (DRIVER_BINS, [one.bins for one in found]),
        ):
            table = pa.concat_tables(parts)
            iteration = pa.repeat(pa.scalar(name), len(table))
            tables.append(Result(conform(table.append_column("iteration", iteration), spec)))
        return tables[0], tables[1]

    def _driven(
        self, target: Literal["prediction", "label"], name: str, matches: pa.Table, bins: int
    ) -> Drivers:
        """Drivers of predictions' precision, or of labels' being missed."""
        key = f"{target}_id"
        self._complete(target)
        self._complete("image")
        where = f"WHERE q.iteration = {_literal(name)}" if target == "prediction" else ""
        extra = ", p.confidence" if target == "prediction" else ""
        beside = "JOIN predictions p USING (iteration, prediction_id)" if extra else ""
        table = query(
            self._store,
            f"SELECT q.*, i.* EXCLUDE (unit_id, data_hash, frame, error, object_count, "
            f"frame_object_density){extra} FROM {target}_quality q {beside} "
            f"LEFT JOIN image_quality i ON i.data_hash = q.data_hash AND i.frame = q.frame {where} "
            f"ORDER BY q.{key}",
            measured=[name],
        )
        outcome = matches.filter(matches[key].is_valid()).select([key, "outcome"])
        if target == "label":
            outcome = outcome.filter(pc.is_in(outcome["outcome"], pa.array(["TP", "FN"])))
        place = pc.index_in(table[key], value_set=outcome[key].combine_chunks())
        found = outcome["outcome"].combine_chunks().take(place).fill_null("ignored")
        values = {
            column: table[column].to_numpy().astype(np.float64)
            for column in table.schema.names
            if column not in _NO_METRIC and table[column].null_count < len(table)
        }
        counted = pc.not_equal(found, "ignored").to_numpy(zero_copy_only=False)
        correct = pc.equal(found, "TP").to_numpy(zero_copy_only=False)
        return drivers(values, correct, target=target, counted=counted, bins=bins)

    def _complete(self, target: Target) -> None:
        """Compute the values of functions that this process knows, where they are missing."""
        own = OwnMetrics(self._store)
        wanted = [m for m in own.listed().values() if m.function and m.target == target]
        wanted = [m for m in wanted if m.name in self._functions]
        for one, key in self._inputs(target) if wanted else ():
            missing = [m for m in wanted if not own.values_path(m, key).is_file()]
            frame = self._frame(target, one) if missing else None
            for metric in missing:
                values = self._values(metric, self._functions[metric.name], frame)
                own.keep_values(metric, key, values)

    def _values(self, metric: OwnMetric, function: Callable[[Any], Any], frame: Any) -> pa.Table:
        keys = frame.select(KEYS[metric.target]).to_arrow()
        return keys.append_column("value", _computed(metric, function, frame))

    def _inputs(self, target: Target) -> list[tuple[str | None, str]]:
        """What a function is called on: iterations, or everything; with what names the values."""
        return values_keys(self._store, Results(self._store), target)

    def _frame(self, target: Target, name: str | None) -> Any:
        """What a function sees: the target's rows with their built-in metrics."""
        import polars as pl

        beside = {"prediction": "predictions_details", "label": "labels_details"}
        keys = ", ".join(KEYS[target])
        drop = ", ".join(dict.fromkeys([*KEYS[target], "data_hash", "frame"]))
        drop += ", unit_id" if target == "image" else ""
        where = f" WHERE b.iteration = {_literal(name)}" if name is not None else ""
        table = query(
            self._store,
            f"SELECT b.*, m.* EXCLUDE ({drop}) FROM {target}_quality m "
            f"JOIN {beside.get(target, 'data_units')} b USING ({keys}){where} ORDER BY ALL",
            own=[],
            measured=None if name is None else [name],
        )
        return pl.DataFrame(table)


def _computed(metric: OwnMetric, function: Callable[[Any], Any], frame: Any) -> pa.Array:
    """Call a user's function and take what it returns as a column of numbers."""
    import polars as pl

    try:
        values = pl.Series("value", function(frame)).cast(pl.Float64)
    except Exception as error:  # whatever a user's function raises is told as its own
        raise ParameterError(
            f"The metric '{metric.name}' failed: {type(error).__name__}: {error}.",
            hint="It takes a Polars frame and returns a number per row.",
        ) from error
    if len(values) != frame.height:
        raise ParameterError(
            f"The metric '{metric.name}' returned {len(values)} values for {frame.height} rows."
        )
    column = values.to_arrow()
    numbers = column.to_numpy(zero_copy_only=False)
    return pa.array(numbers, mask=~np.isfinite(numbers.astype(np.float64)))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
