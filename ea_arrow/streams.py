"""Predictions on their way through: conforming batches, stored or not."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ea_arrow.conform import conform
from ea_arrow.intake import Intake
from ea_arrow.ledger import Ledger
from ea_arrow.names import check_name
from ea_arrow.publication import keep_messages
from ea_arrow.rejects import reject_rows
from ea_arrow.schema import PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ea_arrow.normalise import Normalised
    from ea_arrow.project import Project

_ROW: Final = {"data_hash", "class_uid", "confidence_score", "bbox", "polygon", "frame"}
_BATCH: Final = {"output", "data_hash", "frame", "classes", "relative"}


def add_any(intake: Intake, prediction: Any) -> None:
    """Add what :meth:`PredictionWriter.stream` may be given: a prediction, or a batch.

    A dictionary is the keywords of ``add_prediction`` or ``add_batch``, or columns.
    """
    if isinstance(prediction, Mapping) and "output" in prediction and prediction.keys() <= _BATCH:
        given = {"data_hash": None, "frame": None, "classes": None, "relative": False}
        intake.add_batch(**(given | dict(prediction)))
    elif isinstance(prediction, Mapping) and _is_row(prediction):
        names = ("data_hash", "class_uid", "confidence_score", "bbox", "polygon", "frame")
        intake.add_fields(*(prediction.get(name) for name in names))
    elif hasattr(prediction, "data_hash") and hasattr(prediction, "confidence"):
        intake.add(prediction)
    else:
        intake.add_batch(prediction, None, None, None, relative=False)
    if intake.rows.full:
        intake.flush_rows()


def _is_row(given: Mapping[Any, Any]) -> bool:
    score = given.get("confidence_score")
    shapes = not {"bbox", "polygon"}.isdisjoint(given)
    return given.keys() <= _ROW and shapes and getattr(score, "ndim", 0) == 0


def with_iteration(rows: pa.RecordBatch, name: str) -> pa.RecordBatch:
    """Rows as they are stored, with the column they are stored by."""
    column = pa.repeat(pa.scalar(name), rows.num_rows)
    return conform(rows.append_column("iteration", column), PREDICTIONS)


class Batches:
    """An iterator over conforming batches; nothing is stored.

    Anything that reads Arrow streams takes it as it is.

    Attributes:
        schema: The Arrow schema of the batches.
        ledger: The account of the rows so far; complete when all batches were taken.
        rejects: The rows refused so far, as ``REJECTS`` tables.
    """

    schema = PREDICTIONS.arrow

    def __init__(
        self, predictions: Iterable[Any], project: Project, name: str, custom_object_map: Any
    ) -> None:
        self.ledger = Ledger()
        self.rejects: list[pa.Table] = []
        self._done: deque[Normalised] = deque()
        self._name = check_name(name)
        self._intake = Intake(project._store, custom_object_map, self._done.append)
        self._batches = self._run(predictions)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def __next__(self) -> pa.RecordBatch:
        return next(self._batches)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self._batches)
        return reader.__arrow_c_stream__(requested_schema)

    def _run(self, predictions: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        intake = self._intake
        self.ledger = intake.pipeline.ledger
        try:
            for prediction in predictions:
                add_any(intake, prediction)
                yield from self._take()
            intake.flush()
            yield from self._take()
            intake.pipeline.finish()
        finally:
            intake.pipeline.close()

    def _take(self) -> Iterator[pa.RecordBatch]:
        while self._done:
            batch = self._done.popleft()
            if batch.rejected.num_rows:
                told = {"import_id": "", "iteration": self._name, "source": "to_batches"}
                rows = reject_rows(batch, **told)
                keep_messages(batch, rows, self.ledger)
                self.rejects.append(rows)
            if batch.rows.num_rows:
                yield with_iteration(batch.rows, self._name)


def to_batches(
    predictions: Iterable[Any],
    project: Project,
    *,
    name: str = "unnamed",
    custom_object_map: Mapping[Any, Any] | None = None,
) -> Batches:
    """Turn predictions into conforming Arrow batches without storing them.

    Args:
        predictions: Each as :meth:`ea_arrow.PredictionWriter.add_prediction` takes it (a
            :class:`ea_arrow.Prediction` or its keywords as a dictionary), or a batch as
            ``add_batch`` takes it.
        project: Whose data units and classes they name.
        name: What the column ``iteration`` says.
        custom_object_map: From the model's names of classes to feature hashes.

    Returns:
        An iterator of batches of the ``PREDICTIONS`` schema; its ``ledger`` accounts for every row,
        and its ``rejects`` hold those that were refused.
    """
    return Batches(predictions, project, name, custom_object_map)
