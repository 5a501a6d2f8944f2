"""From the prediction loop straight into the store.

>>> with project.writer("epoch-3", model="yolo-v8") as writer:  # doctest: +SKIP
...     for image in images:
...         writer.add_batch(model(image.path), data_hash=image.hash, classes=model.names)

Nothing is visible until the block ends without an error; then all of it is, at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from ea_arrow.given_rows import AT_ONCE, FIELDS
from ea_arrow.results import Result
from ea_arrow.session import Session
from ea_arrow.streams import add_any, with_iteration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from ea_arrow.candidates import IouType
_FULL: Final = AT_ONCE * FIELDS


class PredictionWriter(Session):
    """Writes one iteration from a prediction loop; a context manager, for one thread.

    Encord Active's ways to make one are ``PredictionWriter(data_dir, project)`` and
    ``PredictionWriter(project, custom_object_map)``; :meth:`ea_arrow.Project.writer` is ours.

    At the end of the block a ``UserWarning`` tells of rows that were refused, or look wrong.

    Args:
        project: An :class:`ea_arrow.Project`, or the directory of one.
        custom_object_map: From the model's names of classes to feature hashes. After a directory,
            Encord Active's project, which is not needed here, is taken and passed over.
        options: See :meth:`ea_arrow.Project.writer`.

    Attributes:
        name: The iteration; without a name given, the next free one of ``run-001``, ``run-002``, …
        ledger: The account of the rows written so far.
        result: What was done, once the block has ended.
        missing: With ``shard``, the ranks that had not finished when this one had; none after
            :meth:`wait`.
    """

    # -- predictions ---------------------------------------------------------------------------

    def add_prediction(
        self,
        data_hash: Any = None,
        class_uid: Any = None,
        confidence_score: Any = None,
        bbox: Any = None,
        polygon: Any = None,
        frame: Any = None,
        *,
        prediction: Any = None,
    ) -> None:
        """Add one prediction: an :class:`ea_arrow.Prediction`, or its parts.

        A row that breaks a rule is refused and counted, as on import.

        Args:
            data_hash: The image or video; or a :class:`ea_arrow.Prediction` and nothing else.
            class_uid: The class: a feature hash, or a key of the custom object map.
            confidence_score: Score; higher is surer.
            bbox: ``x``, ``y``, ``w``, ``h`` as fractions of the image, top left corner first.
            polygon: A list of points ``[x, y]``, fractions of the image; or a mask of the image's
                size. An array with two columns is a list of points, unless it holds truth values,
                or whole numbers and the image is just two pixels wide; any other is a mask.
            frame: Frame of a video, from 0.
            prediction: The same as a prediction given first.

        Raises:
            PredictionError: Not exactly one of ``bbox`` and ``polygon`` is given.
        """
        if type(bbox) is dict and polygon is None and len(bbox) == 4 and not self._custom:
            try:  # what most calls are: nothing here is dearer than it must be
                self._extend(
                    (data_hash, class_uid, confidence_score, frame,
                     bbox["x"], bbox["y"], bbox["w"], bbox["h"])
                )  # fmt: skip
            except KeyError:
                self._inside().add_fields(data_hash, class_uid, confidence_score, bbox, None, frame)
            if len(self._waiting) >= _FULL:
                self._inside().flush_rows()
            return
        intake = self._inside()
        given = data_hash if prediction is None else prediction
        if hasattr(given, "confidence"):
            intake.add(given)
        else:
            intake.add_fields(data_hash, class_uid, confidence_score, bbox, polygon, frame)
        if intake.rows.full:
            intake.flush_rows()

    def add_batch(
        self,
        output: Any,
        *,
        data_hash: Any = None,
        frame: Any = None,
        classes: Mapping[Any, Any] | Sequence[Any] | None = None,
        relative: bool = False,
    ) -> None:
        """Add many predictions at once.

        Args:
            output: Columns: a mapping of NumPy, Arrow or Polars columns or tensors, or anything
                with an Arrow stream; see below. Or what Ultralytics, supervision, torchvision,
                Hugging Face, Detectron2 or MMDetection return for an image; or a list of these
                with a list of data units.
            data_hash: The image or video they belong to, or one per row; unless a column says it.
            frame: Frame of a video, or one per row.
            classes: From the model's class indices or names to the project's names or feature
                hashes, or a list of these by index. All must be classes of the project, and all
                indices predicted must be among them.
            relative: Coordinates are fractions of the image, else pixels.

        Columns are named as in the table of predictions, or:

        - the data unit: ``data_hash`` or ``unit``; by the source's id, ``source_id`` or
          ``image_id``;
        - the class: ``feature_hash``, ``class_ref`` or ``class_uid``; ``class_name``,
          ``class_index`` or ``class``; by the source's id, ``category_id``;
        - the score: ``confidence``, ``confidence_score``, ``score`` or ``scores``;
        - the box: ``bbox`` or ``bboxes`` of shape (n, 4): left, top, width, height; or
          ``bbox_x``, ``bbox_y``, ``bbox_w`` and ``bbox_h``;
        - the shape: ``mask`` or ``masks``, ``polygon`` or ``polygons``;
        - a mapping of ``boxes``, ``labels`` and ``scores`` is torchvision's output: its boxes are
          corners, left, top, right, bottom, and its labels are indices of ``classes``.

        Raises:
            PredictionError: A column is missing, unknown, or not what it should be; ``classes``
                names a class that the project does not have, or lacks an index.
        """
        self._inside().add_batch(output, data_hash, frame, classes, relative=relative)

    def stream(self, predictions: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        """Write predictions, and yield each conforming batch as it is written.

        Args:
            predictions: Each as :meth:`add_prediction` or :meth:`add_batch` takes it; keywords of
                either as a dictionary.

        Returns:
            An iterator over batches of the ``PREDICTIONS`` schema; rows that were refused are not
            among them. Predictions are written as it is read: one that is never read is an error
            at the end of the block.
        """
        self._inside()
        self._unread += 1
        return self._run_stream(predictions)

    def _run_stream(self, predictions: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        self._unread -= 1
        intake = self._inside()
        intake.flush()
        streamed = self._streamed = deque()
        try:
            for prediction in predictions:
                add_any(intake, prediction)
                while streamed:
                    yield with_iteration(streamed.popleft(), self.name or "")
            intake.flush()
            while streamed:
                yield with_iteration(streamed.popleft(), self.name or "")
        finally:
            self._streamed = None

    def running(self, iou_type: IouType | None = None) -> Result:
        """The COCO metrics of what was written so far, over the data units seen so far.

        A data unit is seen when something was predicted in it, or when it was named with an empty
        output. From the first call on, what an evaluation needs is kept in memory.

        Args:
            iou_type: Compare boxes (``bbox``) or masks (``segm``); by default masks, if all shapes
                so far and some labels have one.

        Returns:
            Rows like those of :meth:`ea_arrow.Project.metrics`.
        """
        from ea_arrow.live import Live

        intake = self._inside()
        intake.flush()
        kind = iou_type or self._shape()
        if self._live is None or self._live.iou_type != kind:
            live = Live(self._store, kind)
            if intake.pipeline.ledger.kept:
                self._file = self._publication.rotate()
            earlier = [f for p in self._published for f in (*p.earlier, *p.files()[:1])]
            live.read(file.path for file in (*earlier, *self._publication.earlier))
            self._live = live
        self._live.see(intake.empty_units)
        return Result(self._live.metrics(self.name or ""))

    def _shape(self) -> IouType:
        shaped = {"mask", "polygon"}
        found = self._formats - {"classification"}
        labels = set(pc.unique(self._store.labels()["format"]).to_pylist()) if found else set()
        return "segm" if found and found <= shaped and labels & shaped else "bbox"
