"""MMDetection's pickled results: version 3's ``DumpDetResults`` and version 2's ``--out``.

Nothing in the file is executed, and neither torch nor MMDetection is needed: see
:mod:`ea_arrow.sources.pickle_tensors`.
"""

from __future__ import annotations

import mmap
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.sources.base import BATCH_ROWS, Coordinates, RowError, batches_of, raw_batch
from ea_arrow.sources.boxes import box_columns, to_xywh
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.json_records import Row, file_name, name_text, refused
from ea_arrow.sources.json_values import parse_rle
from ea_arrow.sources.pickle_sniff import is_mmdetection
from ea_arrow.sources.pickle_tensors import ResultList, Tensor
from ea_arrow.sources.pickle_values import Array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ea_arrow.geometry import Rle

_EMPTY: Final = "images without detections"
_KEYS: Final = ("img_id", "img_path")


class _Image(NamedTuple):
    """The detections of one image: n boxes, scores and labels, perhaps masks, of equal length."""

    unit: str | None
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    masks: list[Any] | None

    def __len__(self) -> int:
        return len(self.boxes)


class MMDetectionSource:
    """A pickle of MMDetection's results, opened.

    Args:
        files: The file.
        reading: What the caller knows.

    Attributes:
        path: The file.
        coordinates: Pixels; classes go by their place in the model's list.
        notes: Counted peculiarities; complete when the batches have been read to the end.

    Raises:
        UnsafePickleError: The file asks for something that results do not need.
        SourceError: The file cannot be read, is damaged, or does not hold results.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.one
        self.notes: Counter[str] = Counter()
        self._reading = reading
        self._mask_bytes = 0
        self._key = reading.options.get("unit", "img_id")
        self._buffer = self._mapped()
        first = next(self._elements(), None)
        self._by_image = isinstance(first, dict)
        if not isinstance(first, dict | list | tuple | None):
            message = f"{self.path} holds a list of {type(first).__name__}; expected results."
            raise SourceError(message, hint="Dump results with DumpDetResults, or test.py --out.")
        self.coordinates = Coordinates(
            relative=bool(reading.relative),
            unit_key=("source_id" if self._key == "img_id" else "name")
            if self._by_image
            else "position",
            class_key="index",
        )

    def _mapped(self) -> Any:
        try:
            with self.path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise SourceError(f"{self.path}: the file is empty; expected a pickle.") from error
        except OSError as error:
            message = f"{self.path} cannot be read: {error.strerror or error}."
            raise SourceError(message) from error

    def _elements(self) -> Iterator[Any]:
        return ResultList(self._buffer, self.path).elements()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the detections as ``RAW`` batches, image by image.

        Raises:
            UnsafePickleError: The file asks for something that results do not need.
            SourceError: It is damaged.
        """
        images: list[_Image] = []
        start = rows = 0
        for place, element in enumerate(self._elements()):
            found = self._image(place, element)
            plain = isinstance(found, _Image) and found.masks is None
            if images and (not plain or rows >= BATCH_ROWS):
                yield self._batch(images, start)
                start, images, rows = start + rows, [], 0
            if isinstance(found, _Image) and plain:
                images.append(found)
                rows += len(found)
            else:
                for batch in self._one_by_one(found, start):
                    yield batch
                    start += batch.num_rows
            self._check_size(start + rows)
        if images:
            yield self._batch(images, start)

    def _check_size(self, rows: int) -> None:
        """Refuse a small file that spells out large results by reference: none repeats itself."""
        if max(rows, self._mask_bytes) > len(self._buffer):
            message = f"{self.path} has more results than its {len(self._buffer):,} bytes can hold."
            raise SourceError(message, hint="It repeats results by reference: write it again.")

    def _image(self, place: int, element: Any) -> _Image | Row:
        """The detections of an element of the list; a reject if it is no such thing."""
        unit: str | None = None if self._by_image else str(place)
        try:
            if self._by_image:
                unit = self._unit(element)
                image = _of_sample(unit, element)
            else:
                image = _of_classes(unit, element, self._check_size)
        except RowError as error:
            return {"unit": unit} | refused(error)
        if not len(image):
            self.notes[_EMPTY] += 1
        return image

    def _unit(self, element: Any) -> str | None:
        if not isinstance(element, dict):
            message = f"Element is a {type(element).__name__}; expected a dictionary."
            raise RowError("invalid_data", message)
        unit = name_text(element.get(self._key), self._key)
        return file_name(unit) if unit and self._key == "img_path" else unit

    def _batch(self, images: list[_Image], start: int) -> pa.RecordBatch:
        lengths = [len(image) for image in images]
        rows = sum(lengths)
        owner = np.repeat(np.arange(len(images)), lengths)
        boxes = np.concatenate([image.boxes for image in images])
        units = pa.array([image.unit for image in images], pa.string())
        columns = {
            "source_row": pa.array(np.arange(start, start + rows)),
            "unit": units.take(pa.array(owner)),
            "class_ref": pa.array(np.concatenate([i.labels for i in images])).cast(pa.string()),
            "confidence": pa.array(np.concatenate([image.scores for image in images])),
            "format": pa.repeat(pa.scalar("bounding_box", pa.string()), rows),
            **box_columns(self._xywh(boxes)),
        }
        return raw_batch(columns, rows)

    def _xywh(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        layout = self._reading.box or "xyxy"
        return to_xywh(boxes, layout, one_based=self._reading.one_based)

    def _one_by_one(self, found: _Image | Row, start: int) -> Iterator[pa.RecordBatch]:
        return batches_of(self._rows(found), start)

    def _rows(self, found: _Image | Row) -> Iterator[Row]:
        if isinstance(found, dict):
            yield found
            return
        boxes = self._xywh(found.boxes).tolist()
        details = zip(found.scores.tolist(), found.labels.tolist(), strict=True)
        for box, (score, label), mask in zip(boxes, details, found.masks or [], strict=True):
            row: Row = {"unit": found.unit, "class_ref": str(label), "confidence": score}
            row |= dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True))
            try:
                rle = _rle(mask)
                self._mask_bytes += len(rle.counts)
                self._check_size(0)
                yield row | {"format": "mask", "mask": rle}
            except RowError as error:
                yield row | refused(error)


def _of_sample(unit: str | None, element: dict[str, Any]) -> _Image:
    """Version 3: one dictionary for each image.

    Raises:
        RowError: It is malformed.
    """
    found = element.get("pred_instances")
    if not isinstance(found, dict):
        message = f"pred_instances is {cut(found)}; expected bboxes, scores and labels."
        raise RowError("invalid_data", message)
    boxes = _numbers(found.get("bboxes"), "bboxes", 2)
    scores = _numbers(found.get("scores"), "scores", 1)
    labels = _numbers(found.get("labels"), "labels", 1)
    _check_boxes(boxes, 4)
    masks = found.get("masks")
    if masks is not None and not isinstance(masks, list):
        message = f"masks is a {type(masks).__name__}; expected a list of RLEs (DumpDetResults)."
        raise RowError("invalid_mask", message)
    lengths = {len(boxes), len(scores), len(labels)} | (
        {len(masks)} if masks is not None else set()
    )
    if len(lengths) != 1 or labels.dtype.kind not in "iu":
        message = (
            f"bboxes, scores and labels have lengths {sorted(lengths)}, {labels.dtype} labels."
        )
        raise RowError("invalid_data", message)
    wide = boxes.astype(np.float64), scores.astype(np.float64), labels.astype(np.int64)
    return _Image(unit, *wide, masks)


def _of_classes(unit: str | None, element: Any, check: Callable[[int], None]) -> _Image:
    """Version 2: for each class an array of boxes with their score, and perhaps a list of masks.

    Raises:
        RowError: It is malformed.
    """
    boxes, segments = (
        element if isinstance(element, tuple) and len(element) == 2 else (element, None)
    )
    if not isinstance(boxes, list) or not isinstance(segments, list | None):
        message = f"The result is a {type(boxes).__name__}; expected one array for each class."
        raise RowError("invalid_data", message)
    arrays = [_numbers(value, f"class {label}", 2) for label, value in enumerate(boxes)]
    for array in arrays:
        _check_boxes(array, 5)
    lengths = [len(array) for array in arrays]
    check(sum(lengths))
    masks = None
    if segments is not None:
        if not all(isinstance(s, list) for s in segments) or [len(s) for s in segments] != lengths:
            message = "The masks are not lists of as many RLEs as there are boxes of each class."
            raise RowError("invalid_mask", message)
        masks = list(chain.from_iterable(segments))
    rows = np.concatenate([np.zeros((0, 5)), *arrays]).astype(np.float64)
    labels = np.repeat(np.arange(len(arrays)), lengths)
    return _Image(unit, rows[:, :4], rows[:, 4], labels, masks)


def _numbers(value: Any, what: str, dimensions: int) -> NDArray[Any]:
    if not isinstance(value, Array | Tensor):
        message = f"{what} is a {type(value).__name__}; expected an array or a tensor."
        raise RowError("invalid_data", message)
    values: NDArray[Any] = value.numpy()
    if values.ndim != dimensions or values.dtype.kind not in "fiu":
        message = f"{what} has shape {values.shape}, {values.dtype}; expected numbers."
        raise RowError("invalid_data", message)
    return values


def _check_boxes(boxes: NDArray[Any], columns: int) -> None:
    found = boxes.shape[1]
    if found == columns:
        return
    if found == columns + 1:
        raise RowError(
            "unsupported_shape", f"Boxes have {found} numbers: rotated ones are not read."
        )
    raise RowError("invalid_box", f"Boxes have {found} numbers; expected {columns}.")


def _rle(mask: Any) -> Rle:
    if not isinstance(mask, dict):
        message = f"The mask is a {type(mask).__name__}; expected an RLE {{size, counts}}."
        raise RowError("invalid_mask", message)
    counts = mask.get("counts")
    if isinstance(counts, memoryview):
        counts = bytes(counts).decode("latin-1")  # what is not ASCII is refused as such
    size = mask.get("size")
    return parse_rle({"size": list(size) if isinstance(size, tuple) else size, "counts": counts})


def _sniff(sample: Any) -> bool:
    return is_mmdetection(sample.head)


PREDICTIONS: Final = PredictionFormat(
    name="mmdetection",
    box="xyxy",
    doc="MMDetection results as a pickle: DumpDetResults (3.x), test.py --out (2.x)",
    about="Version 3: a list with one dictionary for each image (img_id, img_path, "
    "pred_instances with bboxes, scores, labels and perhaps masks), whose arrays are torch tensors "
    "or NumPy arrays. Version 2: for each image a list with one array of n boxes and scores for "
    "each class, and perhaps masks beside. Boxes are [left, top, right, bottom] in pixels of the "
    "original image, masks compressed RLE. Nothing in the file is executed, and torch is not "
    "needed.\n\n"
    "Classes go by index, from 0, in the model's own list. Images go by img_id (in COCO data sets "
    "the image's id), or by file name with --option unit=img_path. Version 2 does not name its "
    "images: they are in the order of the data set, which must be confirmed with --match position. "
    "Rotated boxes (MMRotate) are refused.",
    example="[{'img_id': 139, 'img_path': 'val2017/000000000139.jpg', 'ori_shape': (426, 640), "
    "'pred_instances': {'bboxes': tensor([[7.5, 167.1, 149.2, 261.9]]), 'scores': tensor([0.95]), "
    "'labels': tensor([62])}}]",
    options=(Option("unit", "what names an image", _KEYS, "img_id"),),
    sniff=_sniff,
    open=MMDetectionSource,
)
