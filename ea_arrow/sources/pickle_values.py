"""The stand-ins a pickle of predictions is made of, and the complete list of names it may use.

Nothing here is what its name says: a :class:`Symbol` is only compared, and "calling" it looks up
one of the functions below, which checks the arguments and makes a stand-in or says no. Sizes are
checked against the bytes that are there before any memory is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import SourceError
from ea_arrow.geometry import MAX_MASK_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_ENCORD = ("encord_active.lib.db.predictions", "encord_active.app.db.predictions")
_OWN = ("ea_arrow", "ea_arrow.predictions")
_NUMPY = ("numpy.core", "numpy._core")
MODELS = ("Prediction", "ObjectDetection", "FrameClassification", "BoundingBox")


class Symbol:
    """An allow-listed name, standing for itself: it can be compared, not called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


SYMBOLS: Final = {
    name: Symbol(name)
    for name in (
        *MODELS,
        *("Format", "_reconstruct", "scalar", "_frombuffer", "ndarray", "dtype"),
        *("encode", "bytes", "set", "object", "getattr", "_reconstructor"),
    )
}

ALLOWED: Final[dict[tuple[str, str], Symbol]] = {
    **{(m, n): SYMBOLS[n] for m in (*_ENCORD, *_OWN) for n in (*MODELS, "Format")},
    **{(f"{m}.multiarray", n): SYMBOLS[n] for m in _NUMPY for n in ("_reconstruct", "scalar")},
    **{(f"{m}.numeric", "_frombuffer"): SYMBOLS["_frombuffer"] for m in _NUMPY},
    **{("numpy", n): SYMBOLS[n] for n in ("ndarray", "dtype")},
    ("_codecs", "encode"): SYMBOLS["encode"],
    **{
        (m, n): SYMBOLS[n]
        for m in ("builtins", "__builtin__")
        for n in ("bytes", "set", "object", "getattr")
    },
    **{(m, "_reconstructor"): SYMBOLS["_reconstructor"] for m in ("copyreg", "copy_reg")},
}

FORMAT_VALUES: Final = ("bounding-box", "mask", "polygon")
_FORMAT_NAMES: Final = {"BOUNDING_BOX": "bounding-box", "MASK": "mask", "POLYGON": "polygon"}

FIELDS: Final[dict[str, set[str]]] = {
    "Prediction": {"data_hash", "frame", "confidence", "object", "classification"}
    | {"class_id", "format", "data", "track_id"},  # up to 0.1.32
    "ObjectDetection": {"format", "data", "feature_hash", "track_id"},
    "FrameClassification": {"feature_hash", "attribute_hash", "option_hash"},
    "BoundingBox": {"x", "y", "w", "h", "theta"},
}
_STATE_KEYS: Final = {
    *("__dict__", "__fields_set__", "__private_attribute_values__"),  # pydantic 1
    *("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"),  # pydantic 2
}


@dataclass(slots=True, eq=False)
class Instance:
    """A stand-in for one of the four models: its kind and, once built, its fields."""

    kind: str
    fields: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class FormatValue:
    """A stand-in for a member of ``Format``."""

    value: str


@dataclass(slots=True, eq=False)
class Dtype:
    """A stand-in for a plain NumPy dtype."""

    code: str
    order: str | None = None

    def numpy(self) -> np.dtype[Any]:
        """The dtype itself: a bool, integer, float or fixed-size string type."""
        return np.dtype((self.order or "") + self.code)


@dataclass(slots=True, eq=False)
class Array:
    """A stand-in for a NumPy array whose bytes stay where they are in the file."""

    dtype: Dtype | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    data: Any = None
    cache: Any = field(default=None)  # what the reader made of it, if it is shared

    def numpy(self) -> NDArray[Any]:
        """A read-only view of the bytes."""
        if self.dtype is None:
            message = "An array in the pickle was never given its contents."
            raise SourceError(message)
        flat = np.frombuffer(self.data, dtype=self.dtype.numpy())
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


def name_of(value: Any) -> str:
    """What a value is called in messages."""
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, Instance):
        return value.kind
    return type(value).__name__


# -- what the allowed names make: a value, or None where the arguments are not theirs ------------


def _make_format(arguments: tuple[Any, ...]) -> FormatValue | None:
    match arguments:
        case (str(value),) if value in FORMAT_VALUES:
            return FormatValue(value)
    return None


def _make_getattr(arguments: tuple[Any, ...]) -> FormatValue | None:
    match arguments:
        case (Symbol(name="Format"), str(name)) if name in _FORMAT_NAMES:
            return FormatValue(_FORMAT_NAMES[name])
    return None


def _make_instance(arguments: tuple[Any, ...]) -> Instance | None:
    match arguments:
        case (Symbol(name=name), Symbol(name="object"), None) if name in MODELS:
            return Instance(name)
    return None


def _make_set(arguments: tuple[Any, ...]) -> set[str] | None:
    match arguments:
        case () | ([],):
            return set()
        case (list(values),) if all(isinstance(v, str) for v in values):
            return set(values)
    return None


def _make_no_bytes(arguments: tuple[Any, ...]) -> memoryview | None:
    """What protocols 0 to 2 write for the contents of an empty array."""
    return memoryview(b"") if arguments == () else None


def _make_bytes(arguments: tuple[Any, ...]) -> memoryview | None:
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            return memoryview(text.encode("latin-1"))
    return None


_PLAIN = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def _make_dtype(arguments: tuple[Any, ...]) -> Dtype | None:
    match arguments:
        case (str(code), bool() | 0 | 1, bool() | 0 | 1):
            text = re.fullmatch("U[0-9]{1,4}", code)
            return Dtype(code) if text or code in _PLAIN else None
    return None


def _make_array(arguments: tuple[Any, ...]) -> Array | None:
    match arguments:
        case (Symbol(name="ndarray"), (0,), memoryview() as code) if bytes(code) == b"b":
            return Array()
    return None


def _make_from_buffer(arguments: tuple[Any, ...]) -> Array | None:
    match arguments:
        case (memoryview() as data, Dtype() as dtype, tuple(shape), "C" | "F" as order, *rest):
            if rest not in ([], [None]):
                return None
            return _fill(Array(), dtype, shape, order, data)
        case (memoryview() as data, Dtype() as dtype, tuple(shape), "K", tuple()):
            # Only arrays of over two dimensions have such an order, and no prediction holds them:
            # its row will be refused, whatever the order.
            return _fill(Array(), dtype, shape, "C", data) if len(shape) > 2 else None
    return None


def _make_scalar(arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (Dtype() as dtype, memoryview() as data):
            plain = dtype.numpy()
            if len(data) != plain.itemsize:
                return None
            if plain.kind == "U":  # NumPy would not check that these are characters
                order = "utf-32-be" if plain.str[0] == ">" else "utf-32-le"
                return str(data, order).rstrip("\0")
            return np.frombuffer(data, plain)[0].item()
    return None


CALLS: Final[dict[str, Callable[[tuple[Any, ...]], Any]]] = {
    "Format": _make_format,
    "getattr": _make_getattr,
    "_reconstructor": _make_instance,
    "set": _make_set,
    "encode": _make_bytes,
    "bytes": _make_no_bytes,
    "dtype": _make_dtype,
    "_reconstruct": _make_array,
    "_frombuffer": _make_from_buffer,
    "scalar": _make_scalar,
}


# -- what BUILD may give to a stand-in: True, or False where the state is not theirs -------------


def _fill(
    target: Array, dtype: Dtype, shape: tuple[Any, ...], order: str, data: memoryview
) -> Array | None:
    sizes = [n for n in shape if type(n) is int and 0 <= n <= MAX_MASK_PIXELS]
    if len(sizes) != len(shape) or len(shape) > 8:
        return None
    count = 1
    for n in sizes:
        count *= n
    itemsize = dtype.numpy().itemsize
    if itemsize == 0 or count * itemsize != len(data):
        return None
    target.dtype, target.shape, target.order, target.data = dtype, shape, order, data
    return target


def _build_array(target: Array, state: Any) -> bool:
    match state:
        case (1, tuple(shape), Dtype() as dtype, bool(fortran), memoryview() as data):
            unfilled = target.dtype is None
            return unfilled and bool(_fill(target, dtype, shape, "F" if fortran else "C", data))
    return False


def _build_dtype(target: Dtype, state: Any) -> bool:
    match state:
        case (3, "<" | ">" | "|" | "=" as order, None, None, None, int(), int(), int()):
            unbuilt = target.order is None
            target.order = order
            return unbuilt
    return False


def _build_instance(target: Instance, state: Any) -> bool:
    if target.fields is not None or not isinstance(state, dict) or not state.keys() <= _STATE_KEYS:
        return False
    fields = state.get("__dict__")
    hidden = [state.get("__private_attribute_values__"), state.get("__pydantic_extra__")]
    hidden.append(state.get("__pydantic_private__"))
    if not isinstance(fields, dict) or any(hidden) or not fields.keys() <= FIELDS[target.kind]:
        return False
    target.fields = fields
    return True


STATES: Final[dict[type, Callable[[Any, Any], bool]]] = {
    Array: _build_array,
    Dtype: _build_dtype,
    Instance: _build_instance,
}
