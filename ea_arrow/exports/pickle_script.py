"""The bytes of a pickled list of predictions, written without making an object of each.

A :class:`Script` knows which names the pickle has brought up already: the first prediction of a
kind spells them out, all later ones refer back, as the pickles of Python do. What differs from row
to row are slots, filled for many rows at once.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from ea_arrow.arranged import Floats, Ints

Part = bytes | str
"""Bytes as they are, or the name of a slot."""

HEAD: Final = b"\x80\x04]\x94"  # protocol 4, an empty list
TAIL: Final = b"."

OBJECT_KINDS: Final = {"box": "bounding-box", "mask": "mask", "polygon": "polygon"}
MODULES: Final = {
    "ea_arrow": "ea_arrow.predictions",
    "encord_active": "encord_active.lib.db.predictions",
}

_NONE, _REDUCE, _BUILD, _NEW = b"N", b"R", b"b", b")\x81"
_DTYPES: Final = {"u1": "|", "f8": "<"}


class Script:
    """Writes predictions of one flavour.

    Args:
        flavour: ``ea_arrow``, or ``encord_active`` for its own classes.
    """

    def __init__(self, flavour: str) -> None:
        self._module = MODULES[flavour]
        self._theirs = flavour == "encord_active"
        self._memo: dict[object, int] = {"the list": 0}
        self._known: set[str] = set()

    def is_known(self, kind: str) -> bool:
        """Whether a prediction of the kind was written: all its names are known then."""
        return kind in self._known

    def prediction(self, kind: str) -> list[Part]:
        """The parts of a prediction: ``box``, ``mask``, ``polygon`` or ``classification``."""
        self._known.add(kind)
        klass = self._global(self._module, "Prediction")
        fields: dict[str, Callable[[], list[Part]]] = {
            "data_hash": lambda: ["data_hash"],
            "frame": lambda: ["frame"],
            "confidence": lambda: ["confidence"],
            "object": lambda: self._object(kind) if kind in OBJECT_KINDS else [_NONE],
            "classification": lambda: [_NONE] if kind in OBJECT_KINDS else self._answer(),
        }
        return [klass, *self._state(fields)]

    def _object(self, kind: str) -> list[Part]:
        make = {"box": self._box, "mask": self._mask, "polygon": self._polygon}[kind]
        klass = self._global(self._module, "ObjectDetection")
        fields: dict[str, Callable[[], list[Part]]] = {
            "format": lambda: [self._format(OBJECT_KINDS[kind])],
            "data": make,
            "feature_hash": lambda: ["feature_hash"],
            "track_id": lambda: ["track_id"],
        }
        return [klass, *self._state(fields)]

    def _answer(self) -> list[Part]:
        names = ("feature_hash", "attribute_hash", "option_hash")
        return [self._global(self._module, "FrameClassification"), *self._state(_slots(names))]

    def _box(self) -> list[Part]:
        names = ("x", "y", "h", "w", "theta")
        return [self._global(self._module, "BoundingBox"), *self._state(_slots(names))]

    def _mask(self) -> list[Part]:
        return self._array("u1")

    def _polygon(self) -> list[Part]:
        return self._array("f8")

    # -- values --------------------------------------------------------------------------------

    def _state(self, fields: Mapping[str, Callable[[], list[Part]]]) -> list[Part]:
        """An instance and the state that pydantic gives it, 1 for Encord Active, 2 for ours."""
        parts: list[Part] = [_NEW, b"}(", self._text("__dict__"), b"}("]
        for name, make in fields.items():
            parts += [self._text(name), *make()]
        parts.append(b"u")
        names = b"".join(self._text(name) for name in fields)
        given: list[Part] = [b"\x8f(", names, b"\x90"]
        if self._theirs:
            parts += [self._text("__fields_set__"), *given]
            parts += [self._text("__private_attribute_values__"), b"}"]
        else:
            parts += [self._text("__pydantic_extra__"), _NONE]
            parts += [self._text("__pydantic_fields_set__"), *given]
            parts += [self._text("__pydantic_private__"), _NONE]
        return [*parts, b"u", _BUILD]

    def _format(self, value: str) -> bytes:
        def make() -> bytes:
            return self._global(self._module, "Format") + self._text(value) + b"\x85" + _REDUCE

        return self._once(("format", value), make)

    def _array(self, dtype: str) -> list[Part]:
        # The module's name before NumPy 2, which NumPy 2 still finds.
        make = self._global("numpy.core.multiarray", "_reconstruct")
        empty = make + self._global("numpy", "ndarray") + b"K\x00\x85C\x01b\x87" + _REDUCE
        return [
            empty,
            b"(K\x01",
            "shape",
            b"\x86",
            self._dtype(dtype),
            b"\x89",
            "bytes",
            b"t",
            _BUILD,
        ]

    def _dtype(self, code: str) -> bytes:
        def make() -> bytes:
            new = self._global("numpy", "dtype") + self._text(code) + b"\x89\x88\x87" + _REDUCE
            order = self._text(_DTYPES[code])
            return new + b"(K\x03" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t" + _BUILD

        return self._once(("dtype", code), make)

    def _global(self, module: str, name: str) -> bytes:
        return self._once((module, name), lambda: f"c{module}\n{name}\n".encode())

    def _text(self, text: str) -> bytes:
        return self._once(text, lambda: text_code(text))

    def _once(self, key: object, make: Callable[[], bytes]) -> bytes:
        """A value, kept in the memo the first time and fetched from it then."""
        if key in self._memo:
            index = self._memo[key]
            return b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)
        code = make()
        self._memo[key] = len(self._memo)
        return code + b"\x94"


def _slots(names: Iterable[str]) -> dict[str, Callable[[], list[Part]]]:
    return {name: lambda name=name: [name] for name in names}  # type: ignore[misc]


# -- slots ---------------------------------------------------------------------------------------


def text_code(text: str) -> bytes:
    """A text."""
    data = text.encode()
    short = len(data) < 256
    return (b"\x8c" + bytes([len(data)]) if short else b"X" + struct.pack("<I", len(data))) + data


def text_slot(texts: pa.Array) -> pa.Array:
    """A column of texts; None for nulls."""
    coded = texts.dictionary_encode()
    codes = [*map(text_code, coded.dictionary.to_pylist()), _NONE]
    return pa.array(codes, pa.binary()).take(coded.indices.fill_null(len(codes) - 1))


def float_slot(values: Floats) -> pa.Array:
    """A column of numbers."""
    rows = np.zeros(len(values), dtype=[("code", "S1"), ("value", ">f8")])
    rows["code"], rows["value"] = b"G", values
    return _binary(rows)


def int_slot(*columns: Ints) -> pa.Array:
    """Columns of whole numbers, one value after the other in each row."""
    wide = any(len(c) and (c.max() >= 2**31 or c.min() < -(2**31)) for c in columns)
    code, kind = (b"\x8a\x08", "<i8") if wide else (b"J", "<i4")
    rows = np.zeros(
        (len(columns[0]), len(columns)), dtype=[("code", f"S{len(code)}"), ("value", kind)]
    )
    for index, column in enumerate(columns):
        rows["code"][:, index], rows["value"][:, index] = code, column
    return _binary(rows)


def bytes_code(data: bytes) -> bytes:
    """Bytes."""
    wide = len(data) >= 2**32
    return (
        b"\x8e" + struct.pack("<Q", len(data)) if wide else b"B" + struct.pack("<I", len(data))
    ) + data


def _binary(rows: NDArray[np.void]) -> pa.Array:
    flat = np.ascontiguousarray(rows)
    size = flat.nbytes // max(len(flat), 1)
    offsets = np.arange(len(flat) + 1, dtype=np.int32) * np.int32(size)
    return pa.Array.from_buffers(
        pa.binary(), len(flat), [None, pa.py_buffer(offsets), pa.py_buffer(flat.tobytes())]
    )
