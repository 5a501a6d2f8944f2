"""Metrics of the user's own: SQL expressions, and values of Python functions, kept in the project.

An expression is kept as text and computed wherever it is asked for. A function cannot be kept
without trusting whoever made the project with running code: its values are kept, and the function
is needed again for iterations that come later.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ea_arrow.errors import ParameterError, ProjectError
from ea_arrow.files import write_whole
from ea_arrow.quality.engine import PARTNER
from ea_arrow.quality.registry import metrics
from ea_arrow.schema import DATA_UNITS, LABELS, MATCHES, PREDICTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.quality.declared import Direction, Target
    from ea_arrow.store import Store

FOLDER: Final = "quality"
FILE: Final = "metrics.json"
TARGETS: Final = ("prediction", "label", "image")
DIRECTIONS: Final = ("high", "low", "both", "none")

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TAKEN: Final = frozenset(
    {
        *PREDICTIONS.names,
        *LABELS.names,
        *DATA_UNITS.names,
        *MATCHES.names,
        PARTNER,
        "error",
        "value",
        "metric",
    }
    | {"target", "target_id", "perceptual_hash", "class", "unit_source_id"}
    | {f"relative_{side}" for side in "xywh"}
)
"""Columns of the views that an expression sees: a metric of that name would hide or be hidden."""


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own.

    Attributes:
        name: As in ``quality.metric`` and as a column of the wide view.
        target: What it is about.
        sql: An expression over the columns of the target's view, or None.
        function: Where the Python function is, ``module.name``, or None.
        doc: What it measures.
        direction: Which values are suspicious.
    """

    name: str
    target: Target
    sql: str | None = None
    function: str | None = None
    doc: str = ""
    direction: Direction = "both"


class OwnMetrics:
    """The metrics that users have added to a project.

    Args:
        store: The project.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.folder / FOLDER

    def listed(self) -> dict[str, OwnMetric]:
        """All of them by name, in the order in which they were added.

        Raises:
            ProjectError: The file that holds them is damaged.
        """
        path = self._folder / FILE
        try:
            found = [OwnMetric(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
            for metric in found:
                _check(metric)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, ParameterError) as error:
            raise ProjectError(f"{path}: cannot be read: {error}.") from error
        return {metric.name: metric for metric in found}

    def add(self, metric: OwnMetric, *, replace: bool = False) -> None:
        """Keep a metric.

        Raises:
            ParameterError: The name is invalid, or taken and ``replace`` is not given.
        """
        self._save(self.with_(metric, replace=replace))

    def with_(self, metric: OwnMetric, *, replace: bool = False) -> dict[str, OwnMetric]:
        """Return what :meth:`add` would keep, one that is replaced in its place; errors are its."""
        _check(metric)
        known = self.listed()
        if metric.name in known and not replace:
            hint = "Replace it, or remove it first."
            raise ParameterError(f"There is a metric '{metric.name}' already.", hint=hint)
        return {**known, metric.name: metric}

    def without(self, name: str) -> dict[str, OwnMetric]:
        """Return what :meth:`remove` would leave.

        Raises:
            ParameterError: There is none of that name.
        """
        known = self.listed()
        if name not in known:
            listed = f"There are: {', '.join(known)}." if known else "There are none."
            raise ParameterError(f"There is no metric '{name}' of your own.", hint=listed)
        del known[name]
        return known

    def remove(self, name: str) -> None:
        """Forget a metric and its values.

        Raises:
            ParameterError: There is none of that name.
        """
        self._save(self.without(name))
        for path in self._folder.glob(f"{name}-*.parquet"):
            path.unlink(missing_ok=True)

    def values_path(self, metric: OwnMetric, inputs: str) -> Path:
        """Where the values of a function for some inputs are kept."""
        return self._folder / f"{metric.name}-{inputs}.parquet"

    def keep_values(self, metric: OwnMetric, inputs: str, table: pa.Table) -> None:
        """Keep the values of a function: the target's key and ``value``."""
        write_whole(self.values_path(metric, inputs), lambda path: pq.write_table(table, path))

    def _save(self, known: dict[str, OwnMetric]) -> None:
        text = json.dumps([asdict(metric) for metric in known.values()], indent=2)
        write_whole(self._folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))


def _check(metric: OwnMetric) -> None:
    if not isinstance(metric.name, str) or not _NAME.fullmatch(metric.name):
        raise ParameterError(
            f"'{metric.name}' cannot name a metric.",
            hint="Names are small letters, digits and underscores: small_and_dark.",
        )
    if metric.name in _TAKEN or metric.name in metrics():
        raise ParameterError(f"The name '{metric.name}' is taken.")
    if metric.target not in TARGETS:
        raise ParameterError(f"target is '{metric.target}'; expected one of {', '.join(TARGETS)}.")
    if metric.direction not in DIRECTIONS:
        raise ParameterError(
            f"direction is '{metric.direction}'; expected one of {', '.join(DIRECTIONS)}."
        )
    texts = (metric.sql, metric.function, metric.doc)
    if not all(text is None or isinstance(text, str) for text in texts):
        raise ParameterError(f"The metric '{metric.name}' is not described by texts.")
    if (metric.sql is None) == (metric.function is None):
        raise ParameterError("A metric is either an SQL expression or a function.")
