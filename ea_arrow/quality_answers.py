"""What can be asked of a project's quality metrics, and what can be added to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ea_arrow.quality.declared import BINS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ea_arrow.quality.declared import Direction, Target
    from ea_arrow.quality.image_jobs import Measured
    from ea_arrow.quality_work import QualityWork
    from ea_arrow.results import Result
    from ea_arrow.store import Store


class QualityAnswers:
    """The part of a project that measures quality."""

    _store: Store
    _functions: dict[str, Callable[[Any], Any]]

    def _quality_work(self) -> QualityWork:
        from ea_arrow.quality_work import QualityWork  # DuckDB, and every metric

        return QualityWork(self._store, self._functions)

    def quality(
        self,
        name: str | None = None,
        *,
        target: Target | None = None,
        only: Sequence[str] | None = None,
    ) -> Result:
        """Quality metrics, a row per prediction, label or image and a column per metric.

        Args:
            name: The iteration, for predictions; all of them by default.
            target: ``prediction``, ``label`` or ``image``; predictions by default.
            only: Some of the metrics.

        Raises:
            IterationNotFoundError: There is none of that name.
            ParameterError: There is no such metric.
        """
        return self._quality_work().quality(name, target=target, only=only)

    def quality_metrics(self) -> Result:
        """Every metric there is: name, what it is about, what it needs, and what it means."""
        return self._quality_work().quality_metrics()

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
        """Add a metric of your own: it is in SQL, in :meth:`drivers`, and stays in the project.

        Args:
            name: Small letters, digits and underscores.
            how: An SQL expression over the metrics and columns of the target (those of
                ``predictions_details``, ``labels_details`` or ``data_units``), such as
                ``relative_w * relative_h * confidence``; or a function that takes a Polars frame of
                these columns and returns a number per row, in their order. The values of a function
                are kept, not the function: later iterations need it again.
            target: What it is about.
            doc: What it measures.
            direction: Which values ask for a look: ``high``, ``low``, ``both`` or ``none``.
            replace: Put it in the place of one of that name.

        Raises:
            ParameterError: The name is invalid or taken, or the function's values do not fit.
            QueryError: The expression is wrong.
        """
        self._quality_work().add_quality_metric(
            name, how, target=target, doc=doc, direction=direction, replace=replace
        )

    def remove_quality_metric(self, name: str) -> None:
        """Forget a metric of your own.

        Raises:
            ParameterError: There is none of that name.
        """
        self._quality_work().remove_quality_metric(name)

    def add_embeddings(
        self, table: Any, *, target: Target = "image", iteration: str | None = None
    ) -> int:
        """Give embeddings: uniqueness, diversity and annotation quality are computed from them.

        Args:
            table: Anything with an Arrow stream: a column ``embedding`` of lists of one length, and
                ``data_hash`` (and ``frame``), ``label_id`` or ``prediction_id``.
            target: What they are of.
            iteration: The iteration, for predictions.

        Returns:
            How many there are.

        Raises:
            ParameterError: A column is missing or does not fit.
        """
        return self._quality_work().add_embeddings(table, target=target, iteration=iteration)

    def measure_images(
        self,
        images: str | Path | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        workers: int | None = None,
    ) -> Measured:
        """Measure the pixels of every image: brightness, contrast, sharpness, colours, and a hash.

        Each image is decoded once; a run that was killed goes on where it stopped.

        Args:
            images: The directory of the images; by default where ``data_units.uri`` says.
            progress: Called with how many are done, and of how many.
            workers: How many threads.

        Returns:
            What was measured, and how many images could not be.

        Raises:
            ProjectError: No data unit says where its image is.
        """
        return self._quality_work().measure_images(images, progress=progress, workers=workers)

    def drivers(
        self, name: str, *, bins: int = BINS, iou_threshold: float = 0.5
    ) -> tuple[Result, Result]:
        """What drives performance: quality metrics ranked by what they say about correctness.

        Args:
            name: The iteration.
            bins: Into how many quantile bins each metric is cut.
            iou_threshold: IoU from which a prediction can match a label, protocol ``coco``.

        Returns:
            The ranking, as ``DRIVERS``, and the bins, as ``DRIVER_BINS``.

        Raises:
            IterationNotFoundError: There is none of that name.
            ParameterError: The number of bins is out of range.
        """
        return self._quality_work().drivers(name, bins=bins, iou_threshold=iou_threshold)
