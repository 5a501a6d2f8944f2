"""What a model found in one image, as columns, out of the objects its framework returns.

Objects are recognised by the attributes and keys they have; none of the frameworks is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import PredictionError
from ea_arrow.geometry import encode_dense
from ea_arrow.tensors import (
    array_of,
    boxes_of_corners,
    column,
    corners_to_boxes,
    masks_of,
    rotated_boxes,
    size_of,
    table,
    texts,
    whole_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Columns = dict[str, Any]

_ONCE: Final = ("height", "width", "probability_names")  # not one value per object

_DETECTION: Final = frozenset(
    ("boxes", "labels", "scores", "masks", "text_labels", "keypoints", "keypoints_scores")
)
_TARGET: Final = frozenset(
    ("boxes", "labels", "masks", "keypoints", "image_id", "area", "iscrowd")
)  # torchvision's ground truth

_RETINA: Final = "Predict with retina_masks=True, so that masks have the size of the image."
_PASTE: Final = "Use the model's output after detector_postprocess, with masks pasted in the image."
_RESCALE: Final = "Predict with rescale=True, so that masks have the size of the image."


def columns_of(output: Any) -> dict[str, Any] | None:
    """Return the objects that a framework's output for one image holds, as columns.

    Taken for an output are: Ultralytics ``Results``; supervision ``Detections``; Detectron2
    ``Instances``, also as ``{"instances": …}``; MMDetection ``DetDataSample``; dictionaries of
    ``boxes`` (or ``masks``), ``labels`` and ``scores`` (torchvision, Hugging Face); and Hugging
    Face's ``{"segmentation": …, "segments_info": …}``. Numbers become float64 exactly: what was
    float32 is not rounded again. Values are not checked: NaN stays NaN.

    Args:
        output: Any object.

    Returns:
        None if it is none of these; otherwise those of the following that it tells, each with one
        value per object, n of them (0 if nothing was found):

        - ``bbox``: float64 (n, 4), left, top, width, height in pixels; of a rotated object, the box
          before rotation;
        - ``theta``: float64 (n,), clockwise rotation of the box about its centre, 0 to 360 degrees;
        - ``masks``: list of :class:`~ea_arrow.geometry.Rle`, of the image's size;
        - ``polygons``: list of lists of rings; a ring is float64, interleaved x, y in pixels;
        - ``confidence``: float64 (n,), always given;
        - ``class_index``: int64 (n,), the model's own number of the class;
        - ``class_name``: list of str, None where the output names no such class;
        - ``track_id``: list of str, None where an object is on no track;
        - ``probabilities``: float64 (1, number of classes), of a classified image, whose class is
          the most probable one.

        And of the image: ``height`` and ``width``, where they are known; ``probability_names``, the
        names of the classes that ``probabilities`` is about, where they are known.

        Ultralytics' masks are given as ``polygons`` and, where they have the image's size, as
        ``masks`` too: polygons of it have no holes.

    Raises:
        PredictionError: It is one of these, and no columns can be made of it: a part has the wrong
            shape, length or type, a mask not the image's size, or confidences are missing.

    >>> found = columns_of({"boxes": [[1, 2, 4, 8]], "scores": [0.5], "labels": [3]})
    >>> found["bbox"], found["class_index"]
    (array([[1., 2., 3., 6.]]), array([3]))
    >>> columns_of({"bbox_x": [0.1], "confidence": [0.5]}) is None
    True
    """
    for recognised, read in _READERS:
        if recognised(output):
            columns = read(output)
            _check_lengths(output, columns)
            return columns
    return None


def _check_lengths(output: Any, columns: Columns) -> None:
    lengths = {name: len(values) for name, values in columns.items() if name not in _ONCE}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        message = f"A {type(output).__name__} has parts of different lengths: {found}."
        raise PredictionError(f"{message} Expected one value per object in each.")


def _has(output: Any, *names: str) -> bool:
    # A data frame has its columns for attributes.
    frame = hasattr(output, "__arrow_c_stream__") or hasattr(output, "__dataframe__")
    return not frame and all(hasattr(output, name) for name in names)


def _confidence(value: Any, n: int, what: str, hint: str) -> Floats:
    if value is not None:
        return column(value, what)
    if n:
        message = f"{what} is missing; expected one number for each of {n} objects."
        raise PredictionError(message, hint=hint)
    return np.zeros(0)


def _size(size: tuple[int, int] | None) -> Columns:
    return {} if size is None else {"height": size[0], "width": size[1]}


def _masks(
    value: Any, what: str, size: tuple[int, int] | None = None, hint: str | None = None
) -> Columns:
    """The columns ``masks``, ``height`` and ``width``; ``size`` as in :func:`masks_of`."""
    if value is None:
        return _size(size)
    masks, found = masks_of(value, what, size, hint)
    return {"masks": masks} | _size(found)


# -- Ultralytics -----------------------------------------------------------------------------------


def _is_ultralytics(output: Any) -> bool:
    return _has(output, "orig_shape", "names", "boxes", "masks", "probs")


def _ultralytics(results: Any) -> Columns:
    size = size_of(results.orig_shape, "Results.orig_shape")
    names = _names(results.names)
    rotated = getattr(results, "obb", None)
    if results.probs is not None:
        return _size(size) | _classified(results.probs, names)
    if rotated is not None:
        box, *rest = _rows(rotated, ("xywhr", 5), "Results.obb")
        columns = rotated_boxes(box[:, :4], np.rad2deg(box[:, 4]))
    elif results.boxes is not None:
        box, *rest = _rows(results.boxes, ("xyxy", 4), "Results.boxes")
        columns = {"bbox": corners_to_boxes(box)}
    else:
        raise PredictionError("Results holds no boxes; expected one of boxes, obb and probs.")
    conf, cls, track = rest
    hint = "Give Results.boxes.conf; use 1.0 where the model has none."
    columns["confidence"] = _confidence(conf, len(box), "Results.boxes.conf", hint)
    if cls is not None:
        columns["class_index"] = whole_numbers(cls, "Results.boxes.cls")
        columns |= _named(names, columns["class_index"])
    if track is not None:
        columns["track_id"] = texts(track, "Results.boxes.id")
    return columns | _size(size) | _segmented(results.masks, size)


def _rows(found: Any, box: tuple[str, int], what: str) -> tuple[Floats, Any, Any, Any]:
    """Coordinates, confidences, classes and tracks of ``Boxes`` or ``OBB``."""
    name, width = box
    if getattr(found, "data", None) is None:
        conf, cls, track = (getattr(found, part, None) for part in ("conf", "cls", "id"))
        return table(getattr(found, name, None), [width], f"{what}.{name}"), conf, cls, track
    rows = table(found.data, [width + 2, width + 3], f"{what}.data")
    track = rows[:, width] if rows.shape[1] == width + 3 else None
    return rows[:, :width], rows[:, -2], rows[:, -1], track


def _segmented(masks: Any, size: tuple[int, int]) -> Columns:
    if masks is None:
        return {}
    data, outlines = getattr(masks, "data", None), getattr(masks, "xy", None)
    columns: Columns = {}
    if outlines is not None:
        columns["polygons"] = [_rings(outline) for outline in outlines]
    if data is not None and (outlines is None or np.shape(data)[-2:] == size):
        columns |= _masks(data, "Results.masks.data", size, _RETINA)
    return columns


def _rings(outline: Any) -> list[Floats]:
    points = table(outline, [2], "An outline in Results.masks.xy")
    return [points.ravel()] if len(points) else []


def _names(names: Any) -> dict[int, str]:
    pairs: Iterable[Any] = names.items() if isinstance(names, Mapping) else enumerate(names or ())
    return {index: str(name) for index, name in pairs}


def _named(names: dict[int, str], classes: NDArray[np.int64]) -> Columns:
    return {"class_name": [names.get(index) for index in classes.tolist()]} if names else {}


def _classified(probs: Any, names: dict[int, str]) -> Columns:
    probabilities = column(probs.data, "Results.probs.data")
    if probabilities.size == 0:
        raise PredictionError("Results.probs.data is empty; expected one number per class.")
    best = np.array([probabilities.argmax()], dtype=np.int64)
    columns: Columns = {"class_index": best, "confidence": probabilities[best]}
    columns |= _named(names, best) | {"probabilities": probabilities[None]}
    if names:
        columns["probability_names"] = [names.get(index) for index in range(probabilities.size)]
    return columns


# -- supervision -----------------------------------------------------------------------------------


def _is_supervision(output: Any) -> bool:
    return _has(output, "xyxy", "mask", "confidence", "class_id", "tracker_id")


def _supervision(detections: Any) -> Columns:
    corners = table(detections.xyxy, [4], "Detections.xyxy")
    data = getattr(detections, "data", None) or {}
    if data.get("xyxyxyxy") is None:
        columns: Columns = {"bbox": corners_to_boxes(corners)}
    else:
        columns = boxes_of_corners(data["xyxyxyxy"], "Detections.data['xyxyxyxy']")
    hint = "Set detections.confidence; use numpy.ones(len(detections)) if the model has none."
    columns["confidence"] = _confidence(
        detections.confidence, len(corners), "Detections.confidence", hint
    )
    if detections.class_id is not None:
        columns["class_index"] = whole_numbers(detections.class_id, "Detections.class_id")
    if data.get("class_name") is not None:
        columns["class_name"] = texts(data["class_name"], "Detections.data['class_name']")
    if detections.tracker_id is not None:
        columns["track_id"] = texts(detections.tracker_id, "Detections.tracker_id")
    return columns | _masks(detections.mask, "Detections.mask")


# -- dictionaries: torchvision, Hugging Face -------------------------------------------------------


def _is_detection(output: Any) -> bool:
    if not isinstance(output, Mapping):
        return False
    keys = set(output)
    scored = {"labels", "scores"} <= keys <= _DETECTION and keys & {"boxes", "masks"}
    return bool(scored) or {"boxes", "labels"} <= keys <= _TARGET


def _detection(output: Mapping[str, Any]) -> Columns:
    columns: Columns = {}
    if "boxes" in output:
        corners = table(output["boxes"], [4], "'boxes'")
        _check_pixels(corners)
        columns["bbox"] = corners_to_boxes(corners)
    labels = array_of(output["labels"], "'labels'")
    hint = "Give 'scores', one per object. A dictionary without is ground truth to torchvision."
    columns["confidence"] = _confidence(output.get("scores"), labels.size, "'scores'", hint)
    if labels.dtype.kind == "U":
        columns["class_name"] = texts(labels, "'labels'")
    else:
        columns["class_index"] = whole_numbers(labels, "'labels'")
    if output.get("text_labels") is not None:
        columns["class_name"] = texts(output["text_labels"], "'text_labels'")
    return columns | _masks(output.get("masks"), "'masks'")


def _check_pixels(corners: Floats) -> None:
    """Refuse boxes in fractions of the image, which Hugging Face gives without ``target_sizes``.

    Boxes in pixels that all lie within the image's first pixel are none that a model finds.
    """
    if corners.size and 0 < corners.max() <= 1 and (corners != np.floor(corners)).any():
        message = f"'boxes' reaches no further than {corners.max()}; expected pixels."
        hint = "Give the image's size to the processor's post_process method, as target_sizes."
        raise PredictionError(message, hint=hint)


def _is_segmentation(output: Any) -> bool:
    return isinstance(output, Mapping) and {"segmentation", "segments_info"} <= set(output)


def _segmentation(output: Mapping[str, Any]) -> Columns:
    segments = list(output["segments_info"])
    scores = [_part(segment, "score") for segment in segments]
    labels = [_part(segment, "label_id") for segment in segments]
    columns: Columns = {
        "confidence": column(scores, "The segments' score"),
        "class_index": whole_numbers(labels, "The segments' label_id"),
    }
    return columns | _segments(output["segmentation"], segments)


def _segments(given: Any, segments: list[Any]) -> Columns:
    """The masks of a map of ids, shape (height, width), or of one map per segment."""
    if given is None or isinstance(given, list | tuple):
        if not segments:
            return {"masks": []}
        message = f"'segmentation' is {type(given).__name__}; expected an array of pixels."
        raise PredictionError(message, hint="Leave return_coco_annotation at False.")
    pixels = array_of(given, "'segmentation'")
    if pixels.ndim == 2:
        height, width = pixels.shape
        masks = [encode_dense(pixels == _part(segment, "id")) for segment in segments]
        return {"masks": masks, "height": height, "width": width}
    return _masks(pixels, "'segmentation'")


def _part(segment: Any, name: str) -> Any:
    if not isinstance(segment, Mapping) or segment.get(name) is None:
        found = sorted(segment) if isinstance(segment, Mapping) else type(segment).__name__
        message = f"A segment in 'segments_info' has no {name}: {found}."
        raise PredictionError(f"{message} Expected id, label_id and score in each.")
    return segment[name]


# -- Detectron2 ------------------------------------------------------------------------------------


def _is_detectron2(output: Any) -> bool:
    names = ("get_fields", "pred_boxes", "pred_masks")
    return _has(output, "image_size") and any(hasattr(output, name) for name in names)


def _is_wrapped_detectron2(output: Any) -> bool:
    return isinstance(output, Mapping) and _is_detectron2(output.get("instances"))


def _detectron2(instances: Any) -> Columns:
    names = ("pred_boxes", "pred_masks", "pred_classes", "scores")
    boxes, masks, classes, scores = (getattr(instances, name, None) for name in names)
    if boxes is None and masks is None:
        fields = ", ".join(instances.get_fields() if hasattr(instances, "get_fields") else ())
        message = f"Instances has the fields {fields or 'none'}; expected pred_boxes or pred_masks."
        raise PredictionError(message)
    size = size_of(instances.image_size, "Instances.image_size")
    columns = _masks(masks, "Instances.pred_masks", size, _PASTE)
    if boxes is not None:
        columns |= _detectron2_boxes(boxes)
    n = len(columns["masks" if boxes is None else "bbox"])
    hint = "Set instances.scores; use 1.0 where the model has none."
    columns["confidence"] = _confidence(scores, n, "Instances.scores", hint)
    if classes is not None:
        columns["class_index"] = whole_numbers(classes, "Instances.pred_classes")
    return columns


def _detectron2_boxes(boxes: Any) -> Columns:
    rows = table(getattr(boxes, "tensor", boxes), [4, 5], "Instances.pred_boxes")
    if rows.shape[1] == 4:
        return {"bbox": corners_to_boxes(rows)}
    return rotated_boxes(rows[:, :4], -rows[:, 4])  # RotatedBoxes turn counter-clockwise


# -- MMDetection -----------------------------------------------------------------------------------


def _is_mmdetection(output: Any) -> bool:
    return _has(output, "pred_instances") and _has(output.pred_instances, "bboxes", "labels")


def _mmdetection(sample: Any) -> Columns:
    found = sample.pred_instances
    boxes = getattr(found.bboxes, "tensor", found.bboxes)
    corners = table(boxes, [4], "pred_instances.bboxes")
    columns: Columns = {"bbox": corners_to_boxes(corners)}
    hint = "Set pred_instances.scores; use 1.0 where the model has none."
    scores = getattr(found, "scores", None)
    columns["confidence"] = _confidence(scores, len(corners), "pred_instances.scores", hint)
    columns["class_index"] = whole_numbers(found.labels, "pred_instances.labels")
    shape = getattr(sample, "ori_shape", None)
    size = None if shape is None else size_of(shape, "DetDataSample.ori_shape")
    masks = getattr(found, "masks", None)
    pixels = getattr(masks, "masks", masks)  # those of BitmapMasks
    return columns | _masks(pixels, "pred_instances.masks", size, _RESCALE)


_READERS: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any], Columns]], ...]] = (
    (_is_wrapped_detectron2, lambda output: _detectron2(output["instances"])),
    (_is_detection, _detection),
    (_is_segmentation, _segmentation),
    (_is_ultralytics, _ultralytics),
    (_is_supervision, _supervision),
    (_is_detectron2, _detectron2),
    (_is_mmdetection, _mmdetection),
)
