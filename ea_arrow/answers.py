"""What can be asked of a project's iterations."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.derived import Results
from ea_arrow.errors import ParameterError
from ea_arrow.metric_notes import metric_notes
from ea_arrow.questions import MATCH_THRESHOLD, Question
from ea_arrow.recent import Recent
from ea_arrow.results import Result
from ea_arrow.schema import CONFUSION, CURVES, MATCHES, METRICS, OPERATING_POINTS
from ea_arrow.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ea_arrow.candidates import IouType
    from ea_arrow.questions import AnyProtocol, Protocol
    from ea_arrow.schema import TableSpec
    from ea_arrow.slices import Subset
    from ea_arrow.store import Iteration, Store

_Answer = TypeVar("_Answer")


class Answers:
    """The part of a project that answers.

    Args:
        store: The project's files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent = Recent()
        self._now: dict[Any, Any] | None = None

    def metrics(
        self,
        name: str,
        *,
        protocol: AnyProtocol = "coco",
        iou_type: IouType | None = None,
        iou_thresholds: Sequence[float] | float | None = None,
        areas: Mapping[str, tuple[float, float]] | None = None,
        max_detections: Sequence[int] | int | None = None,
        ignore_unmatched_frames: bool = False,
        where: str | None = None,
        slice: str | None = None,
        cache: bool = True,
    ) -> Result:
        """Metrics of an iteration, over all classes and for each, as ``METRICS``.

        Args:
            name: The iteration.
            protocol: ``coco`` equals pycocotools, which never counts a label with the id 0 as
                found; ``coco_id_zero_counts`` does, and has rows only where there is one.
                ``encord`` is Encord Active's; ``classification`` scores frame classifications.
            iou_type: Compare boxes (``bbox``) or masks (``segm``); by default masks if all objects
                of the iteration are masks or polygons and some labels are.
            iou_thresholds: Ascending; by default 0.50, 0.55, …, 0.95, of ``encord`` 0.5.
            areas: Name → (lowest, highest) area in pixels²; COCO's by default.
            max_detections: Predictions per data unit and class that count; 1, 10, 100 by default.
            ignore_unmatched_frames: ``encord``: recall over data units with predictions only.
            where: Only data units for which this SQL condition holds.
            slice: Only data units of this named slice.
            cache: If False, compute again and keep nothing.

        Raises:
            IterationNotFoundError: There is none of that name.
            ParameterError: A parameter is unknown or out of range.
            QueryError: The condition is wrong.
            SliceError: There is no such slice.
        """
        asked = "coco" if protocol == "coco_id_zero_counts" else protocol
        question = Question(
            protocol=asked,
            iou_type=iou_type,
            iou_thresholds=_tuple(iou_thresholds),
            areas=areas,
            max_detections=_tuple(max_detections),
            ignore_unmatched_frames=ignore_unmatched_frames,
            subset=self._subset(where, slice),
        )
        question.check_effect()

        def ask(results: Results, iteration: Iteration) -> Result:
            table = results.answer(METRICS, iteration, question)
            settled = results.settled(iteration, question)
            notes = metric_notes(table, settled, results.formats(iteration), results.formats(None))
            return Result(_of_protocol(table, protocol), notes)

        return self._ask(name, cache, ask)

    def known_metrics(self) -> dict[str, pa.Table]:
        """The metrics of those live iterations for which they have been computed."""
        results = Results(self._store)
        iterations = self._store.iterations().items()
        found = {name: results.known_metrics(iteration) for name, iteration in iterations}
        return {
            name: _of_protocol(table, "coco") for name, table in found.items() if table is not None
        }

    def matches(
        self,
        name: str,
        *,
        protocol: Protocol = "coco",
        iou_type: IouType | None = None,
        iou_threshold: float = MATCH_THRESHOLD,
        where: str | None = None,
        slice: str | None = None,
        cache: bool = True,
    ) -> Result:
        """What became of every prediction and label of an iteration, as ``MATCHES``.

        Args and errors are those of :meth:`metrics`.
        """
        question = Question(
            protocol=protocol,
            iou_type=iou_type,
            iou_thresholds=(iou_threshold,),
            subset=self._subset(where, slice),
        )
        return Result(self._answer(MATCHES, name, question, cache))

    def curves(
        self,
        name: str,
        *,
        iou_type: IouType | None = None,
        iou_thresholds: Sequence[float] | None = None,
        areas: Mapping[str, tuple[float, float]] | None = None,
        max_detections: Sequence[int] | None = None,
        where: str | None = None,
        slice: str | None = None,
        cache: bool = True,
    ) -> Result:
        """Precision and score against recall, for each class with labels, as ``CURVES``.

        Args and errors are those of :meth:`metrics`.
        """
        question = Question(
            iou_type=iou_type,
            iou_thresholds=_tuple(iou_thresholds),
            areas=areas,
            max_detections=_tuple(max_detections),
            subset=self._subset(where, slice),
        )
        return Result(self._answer(CURVES, name, question, cache))

    def operating_points(
        self,
        name: str,
        *,
        iou_type: IouType | None = None,
        iou_threshold: float = MATCH_THRESHOLD,
        max_detections: int = 100,
        where: str | None = None,
        slice: str | None = None,
        cache: bool = True,
    ) -> Result:
        """Precision, recall and F1 against confidence, as ``OPERATING_POINTS``.

        Of each class, and of all together, the row with the highest F1 is marked ``is_best``. Args
        and errors are those of :meth:`metrics`.
        """
        question = Question(
            iou_type=iou_type,
            iou_thresholds=(iou_threshold,),
            max_detections=(max_detections,),
            subset=self._subset(where, slice),
        )
        return Result(self._answer(OPERATING_POINTS, name, question, cache))

    def confusion(
        self,
        name: str,
        *,
        protocol: Protocol = "coco",
        iou_type: IouType | None = None,
        iou_threshold: float = MATCH_THRESHOLD,
        confidence: float | None = None,
        max_detections: int = 100,
        where: str | None = None,
        slice: str | None = None,
        cache: bool = True,
    ) -> Result:
        """Which classes are taken for which, with a background, as ``CONFUSION``.

        Args:
            name: The iteration.
            protocol: ``coco`` for objects, ``classification`` for answers.
            iou_type: Compare boxes or masks.
            iou_threshold: IoU from which a pair can match.
            confidence: Only predictions of at least this score take part.
            max_detections: Predictions per data unit and class that count.
            where: Only data units for which this SQL condition holds.
            slice: Only data units of this named slice.
            cache: If False, compute again and keep nothing.
        """
        if protocol == "classification":
            if iou_type or confidence is not None or iou_threshold != MATCH_THRESHOLD:
                raise ParameterError(
                    "Answers have no IoU, and all count: iou_type, iou_threshold and confidence "
                    "say nothing to protocol classification."
                )
            question = Question(protocol=protocol, subset=self._subset(where, slice))
            return Result(self._answer(CONFUSION, name, question, cache))
        question = Question(
            protocol=protocol,
            iou_type=iou_type,
            iou_thresholds=(iou_threshold,),
            max_detections=(max_detections,),
            confidence=confidence,
            subset=self._subset(where, slice),
        )
        return Result(self._answer(CONFUSION, name, question, cache))

    def iou_type(self, name: str) -> IouType:
        """What of an iteration is compared unless something else is asked for."""
        return self._ask(name, True, lambda results, iteration: results.iou_type(iteration))

    def sql(
        self,
        query: str,
        *,
        protocol: Protocol = "coco",
        iou_type: IouType | None = None,
        iou_threshold: float = MATCH_THRESHOLD,
    ) -> Result:
        """Run one SELECT over the project's views (see ``ea-arrow query --help``).

        Args:
            query: The statement.
            protocol: Of the view ``matches``.
            iou_type: Of the view ``matches``.
            iou_threshold: Of the view ``matches``.

        Raises:
            QueryError: It is wrong, or does anything but read.
        """
        from ea_arrow.sql import query as run  # DuckDB: only those who ask pay for loading it

        question = Question(protocol=protocol, iou_type=iou_type, iou_thresholds=(iou_threshold,))
        return Result(run(self._store, query, question))

    # -- slices --------------------------------------------------------------------------------

    @property
    def slices(self) -> dict[str, str]:
        """Named subsets of data units: name → SQL condition."""
        return Slices(self._store).all()

    def add_slice(self, name: str, where: str, *, replace: bool = False) -> int:
        """Store a condition over data units under a name; return how many meet it now.

        Args:
            name: The name.
            where: An SQL condition over ``data_units``, as ``width > 1000``.
            replace: Replace the slice of that name.

        Raises:
            QueryError: The condition is wrong.
            SliceError: The name is invalid or taken.
        """
        from ea_arrow.sql import select_units

        count = int(select_units(self._store, where).units.sum())
        Slices(self._store).add(name, where, replace=replace)
        return count

    def remove_slice(self, name: str) -> None:
        """Forget a named slice.

        Raises:
            SliceError: There is none of that name.
        """
        Slices(self._store).remove(name)

    def _subset(self, where: str | None, name: str | None) -> Subset | None:
        if where is None and name is None:
            return None
        return self._read_once((where, name), lambda: self._select(where, name))

    def _select(self, where: str | None, name: str | None) -> Subset:
        from ea_arrow.sql import one_line, select_units

        if name is None:
            return select_units(self._store, where or "")
        condition = Slices(self._store).where(name)
        if where is None:
            return select_units(self._store, condition, name)
        both = f"({condition}\n) AND ({where}\n)"
        return select_units(self._store, both, f"{name} and {one_line(where)}")

    def _answer(self, spec: TableSpec, name: str, question: Question, cache: bool) -> pa.Table:
        return self._ask(name, cache, lambda *where: where[0].answer(spec, where[1], question))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Ask several questions of the project as it is now: it is read once, not for each."""
        self._now = {}
        try:
            yield
        finally:
            self._now = None

    def _read_once(self, key: Any, read: Callable[[], _Answer]) -> _Answer:
        """What ``read`` returns, within :meth:`at_once` the first time only."""
        if self._now is None:
            return read()
        if key not in self._now:
            self._now[key] = read()
        found: _Answer = self._now[key]
        return found

    def _ask(self, name: str, cache: bool, ask: Callable[[Results, Iteration], _Answer]) -> _Answer:
        """Ask, and once more if the iteration was replaced and compacted away meanwhile."""

        def once() -> _Answer:
            make = partial(Results, self._store, cache=cache, recent=self._recent)
            results = self._read_once(("results", cache), make)
            known = self._read_once("iterations", self._store.iterations)
            if name not in known:
                raise self._store.no_iteration(name)
            return ask(results, known[name])

        try:
            return once()
        except FileNotFoundError:
            self._now = None if self._now is None else {}
            return once()


def _tuple(values: Sequence[Any] | float | None) -> tuple[Any, ...] | None:
    if values is None:
        return None
    try:
        return tuple(values)  # type: ignore[arg-type]
    except TypeError:
        return (values,)  # one threshold need not be a list


def _of_protocol(table: pa.Table, protocol: str) -> pa.Table:
    return table.filter(pc.equal(table["protocol"], protocol))
