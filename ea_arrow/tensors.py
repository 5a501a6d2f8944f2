"""Arrays, boxes and masks out of the tensors of any framework; none of them is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import PredictionError
from ea_arrow.geometry import Rle, encode_dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Size = tuple[int, int]

THRESHOLD: Final = 0.5
"""From this probability on a pixel of a soft mask is foreground.

Torchvision documents ``mask >= 0.5``, and Detectron2 and MMDetection compare so as well.
"""

_NOISE: Final = 1e-3  # how far outside [0, 1] interpolation may leave a probability
_ON_CPU: Final = "Move it to the CPU first: .detach().cpu()."
_FAILURES: Final = (TypeError, ValueError, RuntimeError, BufferError, AttributeError)


def array_of(value: Any, what: str) -> NDArray[Any]:
    """Return a tensor as a NumPy array.

    The methods ``detach``, ``cpu`` and ``numpy`` come first, for they also serve tensors that
    require a gradient or lie on another device; then ``__array__``, then ``__dlpack__``. Lists of
    numbers or of tensors will do too.

    Args:
        value: The tensor.
        what: How an error names it.

    Raises:
        PredictionError: It cannot be read, or is not an array.
    """
    try:
        return _array(value)
    except _FAILURES as error:
        message = (
            f"{what} is a {type(value).__name__} that cannot be read as an array: {error} "
            "Expected an array, a tensor or a list of numbers."
        )
        raise PredictionError(message, hint=_ON_CPU) from error


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list | tuple):
        return np.asarray([_array(v) if _is_tensor(v) else v for v in value])
    if hasattr(value, "numpy"):
        return _by_methods(value)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    raise TypeError("it has neither numpy() nor __array__ nor __dlpack__.")


def _is_tensor(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("numpy", "__array__", "__dlpack__"))


def _by_methods(value: Any) -> NDArray[Any]:
    for name in ("detach", "cpu"):
        if hasattr(value, name):
            value = getattr(value, name)()
    try:
        return np.asarray(value.numpy())
    except TypeError:
        # NumPy has no bfloat16; every value of it is one of float32.
        if not hasattr(value, "float"):
            raise
        return np.asarray(value.float().numpy())


def numbers(value: Any, what: str) -> Floats:
    """Return a tensor of numbers as float64, exactly.

    Args:
        value: The tensor.
        what: How an error names it.

    Raises:
        PredictionError: It cannot be read, or does not hold numbers.
    """
    array = array_of(value, what)
    if array.dtype.kind not in "biuf":
        message = f"{what} holds {array.dtype}; expected numbers."
        raise PredictionError(message)
    return array.astype(np.float64)


def column(value: Any, what: str) -> Floats:
    """Return one number per object as float64, shape (n,).

    Raises:
        PredictionError: It is not one-dimensional, or does not hold numbers.
    """
    array = numbers(value, what)
    if array.ndim != 1:
        raise PredictionError(f"{what} has shape {array.shape}; expected one number per object.")
    return array


def table(value: Any, widths: Sequence[int], what: str) -> Floats:
    """Return so many numbers per object as float64, shape (n, one of ``widths``).

    Raises:
        PredictionError: The shape is another, or it does not hold numbers.
    """
    array = numbers(value, what)
    if array.shape == (0,):
        return array.reshape(0, widths[0])  # what an empty list becomes
    if array.ndim != 2 or array.shape[1] not in widths:
        expected = " or ".join(f"(n, {width})" for width in widths)
        raise PredictionError(f"{what} has shape {array.shape}; expected {expected}.")
    return array


def whole_numbers(value: Any, what: str) -> NDArray[np.int64]:
    """Return one whole number per object as int64, shape (n,); floats that are whole will do.

    Raises:
        PredictionError: One is not whole, or it is not one number per object.
    """
    array = array_of(value, what)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array.astype(np.int64)
    floats = column(array, what)
    broken = ~(np.abs(floats) < 2.0**63) | (floats != np.floor(floats))
    if broken.any():
        raise PredictionError(f"{what} holds {floats[broken][0]}; expected whole numbers.")
    return floats.astype(np.int64)


def texts(value: Any, what: str) -> list[str | None]:
    """Return one text per object, None where there is none (or NaN); 7 and 7.0 become ``"7"``.

    Raises:
        PredictionError: It is not one value per object.
    """
    array = array_of(value, what)
    if array.ndim != 1:
        raise PredictionError(f"{what} has shape {array.shape}; expected one value per object.")
    return [_text(v) for v in array.tolist()]


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def size_of(shape: Any, what: str) -> Size:
    """Return an image's (height, width); more dimensions after these two are ignored.

    Raises:
        PredictionError: It is not a pair of whole numbers.
    """
    values = whole_numbers(shape, what)
    if values.size < 2:
        raise PredictionError(f"{what} is {values.tolist()}; expected (height, width).")
    return int(values[0]), int(values[1])


def corners_to_boxes(corners: Floats) -> Floats:
    """Turn left, top, right, bottom into left, top, width, height; both have shape (n, 4).

    >>> corners_to_boxes(np.array([[1.0, 2.0, 4.0, 8.0]]))
    array([[1., 2., 3., 6.]])
    """
    boxes = corners.copy()
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is left to the check of the rows
        boxes[:, 2:] -= corners[:, :2]
    return boxes


def rotated_boxes(centred: Floats, degrees: Floats) -> dict[str, Any]:
    """Return the columns of rotated boxes.

    Args:
        centred: Centre x, centre y, width and height before rotation, shape (n, 4).
        degrees: Clockwise, shape (n,).

    Returns:
        ``bbox``, the boxes before rotation: left, top, width, height, shape (n, 4); and ``theta``,
        from 0 up to 360, shape (n,).
    """
    boxes = centred.copy()
    with np.errstate(invalid="ignore"):
        boxes[:, :2] -= centred[:, 2:] / 2
        theta = np.mod(degrees, 360.0)
    theta[theta == 360.0] = 0.0  # what np.mod makes of −1e-20
    return {"bbox": boxes, "theta": np.where(np.isfinite(degrees), theta, degrees)}


def boxes_of_corners(value: Any, what: str) -> dict[str, Any]:
    """Return the columns of rotated boxes that are given by their corners.

    Args:
        value: Shape (n, 4, 2), in order around each box. Ultralytics begins with the two at the far
            end of its width: the width runs from the third to the second corner, the height from
            the second to the first.
        what: How an error names it.

    Returns:
        As :func:`rotated_boxes`.

    Raises:
        PredictionError: The shape is another, or it does not hold numbers.
    """
    corners = numbers(value, what)
    if corners.shape == (0,):
        corners = corners.reshape(0, 4, 2)
    if corners.shape[1:] != (4, 2):
        raise PredictionError(f"{what} has shape {corners.shape}; expected (n, 4, 2).")
    with np.errstate(invalid="ignore"):
        along, down = corners[:, 1] - corners[:, 2], corners[:, 0] - corners[:, 1]
        centre = corners.mean(axis=1)
        sides = np.stack([np.hypot(*along.T), np.hypot(*down.T)], axis=1)
        degrees = np.rad2deg(np.arctan2(along[:, 1], along[:, 0]))
    return rotated_boxes(np.concatenate([centre, sides], axis=1), degrees)


def masks_of(
    value: Any, what: str, size: Size | None = None, hint: str | None = None
) -> tuple[list[Rle], Size | None]:
    """Encode one mask per object.

    Args:
        value: Shape (n, height, width) or (n, 1, height, width): booleans; integers of 0 and 1 (or
            255); or probabilities, foreground from ``THRESHOLD`` on. Or a list of COCO's RLEs.
        what: How an error names it.
        size: The image's (height, width), if known: the masks must have it.
        hint: The next step where they have not.

    Returns:
        The masks, and their (height, width), if that is known.

    Raises:
        PredictionError: The shape, the size or the values are others.
        GeometryError: A mask is too large.
    """
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        masks = [_encoded(rle, what) for rle in value]
        found = {(mask.height, mask.width) for mask in masks}
    else:
        dense = array_of(value, what)
        if dense.ndim < 3 and dense.size == 0:
            return [], size
        if dense.ndim == 4 and dense.shape[1] == 1:
            dense = dense[:, 0]
        if dense.ndim != 3:
            message = f"{what} has shape {dense.shape}; expected (n, height, width)."
            raise PredictionError(message)
        found = {(dense.shape[1], dense.shape[2])} if len(dense) else {size or dense.shape[1:]}
        soft = _is_soft(dense, what)
        masks = [] if size and found != {size} else _encode_all(dense, soft=soft)
    if size and found != {size}:
        wrong = " and ".join(f"{h} × {w}" for h, w in sorted(found))
        message = f"{what} is of {wrong} pixels; expected the image's {size[0]} × {size[1]}."
        raise PredictionError(message, hint=hint)
    return masks, size or (found.pop() if len(found) == 1 else None)


def _encode_all(dense: NDArray[Any], *, soft: bool) -> list[Rle]:
    return [encode_dense(mask >= THRESHOLD if soft else mask) for mask in dense]


def _is_soft(dense: NDArray[Any], what: str) -> bool:
    """Whether masks are probabilities, not binary.

    Raises:
        PredictionError: They are neither.
    """
    if dense.dtype.kind not in "biuf":
        raise PredictionError(f"{what} holds {dense.dtype}; expected booleans or numbers.")
    soft = dense.dtype.kind == "f"
    if dense.dtype.kind == "b" or dense.size == 0:
        return soft
    with np.errstate(invalid="ignore"):
        low, high = dense.min(), dense.max()
    wrong = low < -_NOISE or high > 1 + _NOISE if soft else low < 0 or high not in (0, 1, 255)
    if wrong:
        expected = "probabilities from 0 to 1" if soft else "0 and 1, or 0 and 255"
        raise PredictionError(f"{what} ranges from {low} to {high}; expected {expected}.")
    return soft


def _encoded(rle: Any, what: str) -> Rle:
    """One of COCO's RLEs, compressed or not; its runs are checked later, in bulk."""
    counts = rle.get("counts") if isinstance(rle, Mapping) else None
    if counts is None or rle.get("size") is None:
        found = sorted(rle) if isinstance(rle, Mapping) else type(rle).__name__
        message = f"{what} holds {found}; expected COCO's RLE, {{size, counts}}."
        raise PredictionError(message)
    height, width = size_of(rle["size"], f"The size in {what}")
    if isinstance(counts, str):
        counts = counts.encode(
            "utf-8"
        )  # what is not ASCII is refused with the string's other faults
    if not isinstance(counts, bytes):
        counts = whole_numbers(counts, f"The counts in {what}")
    return Rle(height, width, counts)
