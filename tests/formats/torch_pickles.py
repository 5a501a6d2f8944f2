"""Pickles of torch tensors without torch: stand-ins that reduce to what torch's tensors reduce to.

A tensor's storage is pickled as the bytes of a file of its own, in the format that ``torch.save``
had before zip archives.
"""

import io
import pickle
import sys
from collections import OrderedDict
from contextlib import contextmanager
from types import ModuleType

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


def _function(module, name):
    made = type(name, (), {})
    made.__module__, made.__qualname__ = module, name
    return made


REBUILD = _function("torch._utils", "_rebuild_tensor_v2")
LOAD = _function("torch.storage", "_load_from_bytes")
KINDS = {name: _function("torch", name) for name in STORAGES.values()}


@contextmanager
def importable():
    """Put modules of torch's names in place, as the pickler looks its names up."""
    modules = {name: ModuleType(name) for name in ("torch", "torch._utils", "torch.storage")}
    modules["torch._utils"]._rebuild_tensor_v2 = REBUILD
    modules["torch.storage"]._load_from_bytes = LOAD
    for name, kind in KINDS.items():
        setattr(modules["torch"], name, kind)
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


class _Reference:
    """What the storage's own pickle refers to by a persistent id."""


class _LegacyPickler(pickle.Pickler):
    def __init__(self, file, reference):
        super().__init__(file, 2)
        self.reference = reference

    def persistent_id(self, value):
        return self.reference if isinstance(value, _Reference) else None


def storage_file(values, key="94107", kind=None):
    """The bytes of the file that a storage is pickled as."""
    file = io.BytesIO()
    kind = kind or KINDS[STORAGES[values.dtype.name]]
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    for header in (MAGIC, 1001, system):
        pickle.dump(header, file, 2)
    _LegacyPickler(file, ("storage", kind, key, "cpu", values.size, None)).dump(_Reference())
    pickle.dump([key], file, 2)
    file.write(values.size.to_bytes(8, "little"))
    file.write(values.tobytes())
    return file.getvalue()


class Storage:
    """A storage; its bytes are made when it is pickled, unless they are given."""

    def __init__(self, values, data=None):
        self.values, self.data = values, data

    def __reduce__(self):
        return LOAD, (storage_file(self.values) if self.data is None else self.data,)


class Tensor:
    """A tensor of the values of an array, or a part of a storage."""

    def __init__(self, values, shape=None, strides=None, offset=0, storage=None):
        values = np.ascontiguousarray(values)
        self.storage = storage or Storage(values.reshape(-1))
        self.shape = values.shape if shape is None else shape
        steps = tuple(step // values.itemsize for step in values.strides)
        self.strides = steps if strides is None else strides
        self.offset = offset

    def __reduce__(self):
        return REBUILD, (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())


def dumps(value, protocol=2):
    """Pickle as ``mmengine.dump`` does: with protocol 2."""
    with importable():
        return pickle.dumps(value, protocol)
