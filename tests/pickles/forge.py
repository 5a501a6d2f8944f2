"""Makes pickles as Encord Active makes them, without Encord Active.

``encord_active()`` puts stand-ins for its modules in place for as long as the context lasts:
classes of the same names, fields and pickled state (pydantic 1's). ``dumps()`` pickles with NumPy 1
or 2's module names. So a forged file has the opcodes of a real one.
"""

from __future__ import annotations

import enum
import io
import pickle
import sys
import warnings
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = {
    "new": "encord_active.lib.db.predictions",  # from 0.1.33
    "old": "encord_active.lib.db.predictions",  # 0.1.17 to 0.1.32
    "app": "encord_active.app.db.predictions",  # 0.1.13 to 0.1.16
}
FORMATS = {"BOUNDING_BOX": "bounding-box", "MASK": "mask", "POLYGON": "polygon"}
REQUIRED = object()
PEAK = """
def peak():
    # Not ru_maxrss, which begins at what the parent process had.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
"""
"""Source of a function that returns this process's peak memory in MB; Linux only."""


class Model:
    """What pydantic 1's ``BaseModel`` pickles as, and how it is restored."""

    FIELDS: ClassVar[dict[str, Any]]
    __slots__ = ("__dict__", "__fields_set__")

    def __init__(self, **given: Any) -> None:
        missing = [k for k, v in self.FIELDS.items() if v is REQUIRED and k not in given]
        if missing or given.keys() - self.FIELDS.keys():
            raise TypeError(f"{type(self).__name__} lacks {missing} or has others: {list(given)}")
        self._set(given)

    def _set(self, given: dict[str, Any]) -> None:
        values = {k: given.get(k, v) for k, v in self.FIELDS.items()}
        values = {k: v for k, v in values.items() if v is not REQUIRED}
        object.__setattr__(self, "__dict__", values)
        object.__setattr__(self, "__fields_set__", set(given))

    @classmethod
    def construct(cls, **given: Any) -> Model:
        """Make one without any check, as pydantic 1's method of this name."""
        made = cls.__new__(cls)
        made._set(given)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {
            "__dict__": self.__dict__,
            "__fields_set__": self.__fields_set__,
            "__private_attribute_values__": {},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "__dict__", state["__dict__"])
        object.__setattr__(self, "__fields_set__", state["__fields_set__"])
        for name, value in state.get("__private_attribute_values__", {}).items():
            object.__setattr__(self, name, value)


_DETECTION = {"format": REQUIRED, "data": REQUIRED, "feature_hash": REQUIRED, "track_id": None}
_HASHES = ("feature_hash", "attribute_hash", "option_hash")
FIELDS_NEW: dict[str, dict[str, Any]] = {
    "BoundingBox": {**dict.fromkeys(("x", "y", "h", "w"), REQUIRED), "theta": 0.0},
    "ObjectDetection": _DETECTION,
    "FrameClassification": dict.fromkeys(_HASHES, REQUIRED),
    "Prediction": {
        **{"data_hash": REQUIRED, "frame": 0, "confidence": REQUIRED},
        **{"object": None, "classification": None},
    },
}
FIELDS_OLD: dict[str, dict[str, Any]] = {
    "BoundingBox": dict.fromkeys(("x", "y", "h", "w"), REQUIRED),
    "Prediction": {
        **{"data_hash": REQUIRED, "frame": 0, "class_id": REQUIRED, "confidence": REQUIRED},
        **{"format": REQUIRED, "data": REQUIRED, "track_id": None},
    },
}


def _format(module: str, *, by_name: bool) -> type[enum.Enum]:
    members = enum.Enum("Format", FORMATS, type=str, module=module)  # type: ignore[misc]
    if by_name:  # early CPython 3.11
        members.__reduce_ex__ = lambda self, _: (getattr, (type(self), self.name))
    return members


@contextmanager
def _importable(modules: dict[str, Any]) -> Iterator[None]:
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def encord_active(generation: str = "new", *, enum_by_name: bool = False) -> Iterator[Any]:
    """A module with the classes of a generation, importable under its name for as long."""
    name = MODULES[generation]
    module: Any = ModuleType(name)
    module.Format = _format(name, by_name=enum_by_name)
    for kind, fields in (FIELDS_NEW if generation == "new" else FIELDS_OLD).items():
        body = {"FIELDS": fields, "__module__": name, "__slots__": ()}
        setattr(module, kind, type(kind, (Model,), body))
    module.generation = generation
    parts = name.split(".")
    parents = {".".join(parts[:n]): ModuleType(parts[n - 1]) for n in range(1, len(parts))}
    with _importable(parents | {name: module}):
        yield module


def detection(module: Any, form: str, data: Any, **given: Any) -> Any:
    """An object prediction of either generation.

    Args:
        module: From ``encord_active()``.
        form: Name of a ``Format`` member.
        data: Its data.
        given: Fields that differ from the defaults here.
    """
    fields = {"data_hash": "du-0", "feature_hash": "cat", "confidence": 0.5, "frame": 0} | given
    shape = {"format": module.Format[form], "data": data}
    if "track_id" in given:
        shape["track_id"] = fields.pop("track_id")
    if module.generation == "new":
        found = module.ObjectDetection(feature_hash=fields.pop("feature_hash"), **shape)
        return module.Prediction(object=found, **fields)
    return module.Prediction(class_id=fields.pop("feature_hash"), **shape, **fields)


def box(module: Any, x: Any = 0.25, y: Any = 0.5, w: Any = 0.125, h: Any = 0.375) -> Any:
    """A box."""
    return module.BoundingBox(x=x, y=y, w=w, h=h)


# -- NumPy 1 ---------------------------------------------------------------------------------------


class _Pickler1(pickle.Pickler):
    """Pickles arrays and scalars by the names that NumPy 1 gave to their constructors."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.protocol = protocol

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray | np.generic):
            return NotImplemented
        function, *rest = value.__reduce_ex__(self.protocol)
        module = function.__module__.replace("numpy._core", "numpy.core")
        return getattr(sys.modules[module], function.__name__), *rest


@contextmanager
def _numpy_1() -> Iterator[None]:
    names = {"multiarray": ("_reconstruct", "scalar"), "numeric": ("_frombuffer",)}
    fakes: dict[str, Any] = {}
    for module, functions in names.items():
        path = f"numpy.core.{module}"
        fakes[path] = ModuleType(path)
        for name in functions:
            function = type(name, (), {"__module__": path})
            setattr(fakes[path], name, function)
    with _importable(fakes):
        yield


def dumps(value: Any, protocol: int = 4, *, numpy: int = 2) -> bytes:
    """Pickle as with the given NumPy generation; like ``pickle.dumps`` for NumPy 2."""
    if numpy == 2:
        return pickle.dumps(value, protocol)
    file = io.BytesIO()
    with _numpy_1():
        _Pickler1(file, protocol).dump(value)
    return file.getvalue()


def loads(data: bytes) -> Any:
    """Unpickle what ``dumps`` made, inside ``encord_active()``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 1's module names
        return pickle.loads(data)
