"""Pickles made to do harm are refused with one clear error, at once, and leave no trace."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ea_arrow.errors import EaArrowError, SourceError, UnsafePickleError
from ea_arrow.sources import pickles
from ea_arrow.sources.pickles import PickleSource
from tests.pickles import forge

ROOT = Path(__file__).parents[2]
MODULE = "encord_active.lib.db.predictions"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
SECONDS = 3.0  # under 1 s on an idle machine
MEGABYTES = 200


# -- an assembler ----------------------------------------------------------------------------------


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def binary(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


def mapping(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def model(kind: str, **fields: bytes) -> bytes:
    return named(MODULE, kind) + b")\x81" + mapping({"__dict__": mapping(fields)}) + b"b"


def element(**changed: bytes) -> bytes:
    """A prediction; ``data`` and ``format`` go to its object, the rest to itself."""
    box = model("BoundingBox", x=b"K\x00", y=b"K\x00", h=b"K\x01", w=b"K\x01")
    form = call(MODULE, "Format", text("bounding-box"))
    shape = {"format": form, "data": box, "feature_hash": text("cat")}
    shape |= {k: v for k, v in changed.items() if k in shape}
    top = {"data_hash": text("d"), "confidence": b"K\x01"}
    top |= {k: v for k, v in changed.items() if k not in shape}
    return model("Prediction", object=model("ObjectDetection", **shape), **top)


def whole(*elements: bytes) -> bytes:
    return b"\x80\x02](" + b"".join(elements) + b"e."


def data(value: bytes) -> bytes:
    return whole(element(data=value))


DTYPE_U1 = call("numpy", "dtype", text("u1"), b"\x89", b"\x88")
NEW_ARRAY = call(
    "numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), b"K\x00\x85", binary(b"b")
)


def array(shape: bytes, dtype: bytes = DTYPE_U1, contents: bytes = b"") -> bytes:
    return NEW_ARRAY + b"(K\x01" + shape + dtype + b"\x89" + binary(contents) + b"tb"


# -- what asks for more than it may ----------------------------------------------------------------


class Reduced:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def reduced(protocol: int, function: Any, *arguments: Any) -> bytes:
    with forge.encord_active() as module:
        found = forge.detection(module, "MASK", Reduced(function, *arguments))
        return pickle.dumps([found], protocol)


@cache
def unsafe(trace: str) -> dict[str, tuple[bytes, str]]:
    """Name: the pickle, and what the error must say."""
    touch, python = text(f"touch {trace}"), text(f"open({trace!r}, 'w')")
    no, system = b"N", named("os", "system")
    f_cls, new_box = named(MODULE, "Format"), named(MODULE, "BoundingBox") + b")\x81"
    dict_state = mapping({"__dict__": mapping({})})
    cases = {
        "os.system": (data(call("os", "system", touch)), "'os.system'"),
        "posix.system": (data(call("posix", "system", touch)), "'posix.system'"),
        "nt.system": (data(call("nt", "system", touch)), "'nt.system'"),
        "subprocess.Popen": (data(call("subprocess", "Popen", touch)), "'subprocess.Popen'"),
        "eval": (data(call("builtins", "eval", python)), "'builtins.eval'"),
        "exec": (data(call("__builtin__", "exec", python)), "'__builtin__.exec'"),
        "compile": (data(call("builtins", "compile", python)), "'builtins.compile'"),
        "__import__": (data(call("builtins", "__import__", text("os"))), "__import__"),
        "open": (data(call("builtins", "open", text(trace), text("w"))), "'builtins.open'"),
        "import_module": (data(call("importlib", "import_module", text("os"))), "importlib"),
        "runpy": (data(call("runpy", "run_path", text(trace))), "'runpy.run_path'"),
        "pickle.loads": (data(call("pickle", "loads", binary(b"N."))), "'pickle.loads'"),
        "numpy.load": (data(call("numpy", "load", text(trace))), "'numpy.load'"),
        "numpy fromfile": (
            data(call("numpy._core.multiarray", "fromfile", text(trace))),
            "fromfile",
        ),
        "operator": (data(call("operator", "attrgetter", text("system"))), "attrgetter"),
        "getattr of builtins": (
            data(call("builtins", "getattr", named("os", "system"), text("x"))),
            "'os.system'",
        ),
        "getattr(Format, '__class__')": (
            data(call("builtins", "getattr", f_cls, text("__class__"))),
            "getattr(Format, '__class__')",
        ),
        "getattr(Format, value)": (
            data(call("builtins", "getattr", f_cls, text("mask"))),
            "getattr(Format, 'mask')",
        ),
        "getattr(Prediction, 'MASK')": (
            data(call("builtins", "getattr", named(MODULE, "Prediction"), text("MASK"))),
            "getattr(Prediction, 'MASK')",
        ),
        "getattr of text": (data(call("builtins", "getattr", text("a"), text("b"))), "getattr("),
        "a module below": (data(named(f"{MODULE}.os", "system")), f"'{MODULE}.os.system'"),
        "a name below": (
            data(text(MODULE) + text("Prediction.__init__") + b"\x93"),
            "Prediction.__init__",
        ),
        "a name with dots": (data(text("builtins") + text("getattr.x") + b"\x93"), "getattr.x"),
        "another name of our module": (data(named("ea_arrow.predictions", "json")), ".json'"),
        "another name of theirs": (data(named(MODULE, "os")), f"'{MODULE}.os'"),
        "a global that is no text": (data(b"K\x01K\x02\x93"), "a global whose name is not a str"),
        "a very long name": (data(named("a" * 100_000, "b" * 100_000)), "aaaaaaaa"),
        "calling a string": (data(text("os") + b")R"), "calling a str"),
        "calling a prediction": (whole(element(data=element() + b")R")), "calling a Prediction"),
        "calling Prediction": (data(call(MODULE, "Prediction", no)), "calling Prediction("),
        "calling object": (data(call("builtins", "object")), "calling object()"),
        "calling ndarray": (data(call("numpy", "ndarray", b"K\x05")), "calling ndarray(int)"),
        "Format of another value": (data(call(MODULE, "Format", text("x"))), "Format('x')"),
        "Format of a number": (data(call(MODULE, "Format", b"K\x01")), "Format(int)"),
        "set of text": (data(call("builtins", "set", text("ab"))), "calling set('ab')"),
        "set of numbers": (data(call("builtins", "set", b"](K\x01e")), "calling set(list)"),
        "set items of numbers": (data(b"\x8f(K\x01\x90"), "a set of anything but field names"),
        "bytes of a length": (data(call("builtins", "bytes", b"J\0\0\0\x7f")), "bytes(int)"),
        "encode to UTF-8": (
            data(call("_codecs", "encode", text("a"), text("utf-8"))),
            "encode('a', 'utf-8')",
        ),
        "encode by a codec": (
            data(call("_codecs", "encode", text("a"), text("zlib"))),
            "encode('a', 'zlib')",
        ),
        "decode": (data(call("_codecs", "decode", binary(b"a"), text("zlib"))), "_codecs.decode"),
        "_reconstructor of a dict": (
            data(call("copyreg", "_reconstructor", named(MODULE, "Prediction"), b"}", b"N")),
            "_reconstructor(Prediction, dict, NoneType)",
        ),
        "_reconstructor with state": (
            data(
                call(
                    *("copy_reg", "_reconstructor", named(MODULE, "Prediction")),
                    *(named("builtins", "object"), b"K\x01"),
                )
            ),
            "_reconstructor(Prediction, object, int)",
        ),
        "_reconstructor of an array": (
            data(
                call(
                    *("copyreg", "_reconstructor", named("numpy", "ndarray")),
                    *(named("builtins", "object"), b"N"),
                )
            ),
            "_reconstructor(ndarray, object, NoneType)",
        ),
        "__newobj__": (data(call("copyreg", "__newobj__", f_cls)), "'copyreg.__newobj__'"),
        "NEWOBJ with arguments": (
            data(named(MODULE, "BoundingBox") + b"K\x01\x85\x81"),
            "creating a BoundingBox",
        ),
        "NEWOBJ of an array": (data(named("numpy", "ndarray") + b")\x81"), "creating a ndarray"),
        "NEWOBJ of text": (data(text("os") + b")\x81"), "creating a str"),
        "NEWOBJ_EX": (data(named(MODULE, "BoundingBox") + b")}\x92"), "NEWOBJ_EX (0x92)"),
        "INST": (data(b"(ios\nsystem\n"), "INST (0x69)"),
        "OBJ": (data(b"(" + system + touch + b"o"), "'os.system'"),
        "OBJ of a model": (data(b"(" + named(MODULE, "Prediction") + b"o"), "OBJ (0x6f)"),
        "EXT1": (data(b"\x82\x01"), "EXT1 (0x82)"),
        "EXT4": (data(b"\x84\x01\x00\x00\x00"), "EXT4 (0x84)"),
        "PERSID": (data(b"Pos.system\n"), "PERSID (0x50)"),
        "BINPERSID": (data(text("os") + b"Q"), "BINPERSID (0x51)"),
        "NEXT_BUFFER": (data(b"\x97"), "NEXT_BUFFER (0x97)"),
        "DUP": (data(b"N2"), "DUP (0x32)"),
        "POP": (data(b"NN0"), "POP (0x30)"),
        "FROZENSET": (data(b"(\x91"), "FROZENSET (0x91)"),
        "an unknown opcode": (data(b"\xff"), "unknown (0xff)"),
        "BUILD on a class": (data(named(MODULE, "Prediction") + dict_state + b"b"), "Prediction"),
        "BUILD on Format": (data(f_cls + dict_state + b"b"), "giving a Format a state"),
        "BUILD on a member": (
            data(call(MODULE, "Format", text("mask")) + dict_state + b"b"),
            "giving a FormatValue a state",
        ),
        "BUILD on getattr": (
            data(named("builtins", "getattr") + dict_state + b"b"),
            "giving a getattr a state",
        ),
        "BUILD on a list": (data(b"]" + dict_state + b"b"), "giving a list a state"),
        "BUILD on a dictionary": (data(b"}" + dict_state + b"b"), "giving a dict a state"),
        "BUILD twice": (
            data(model("BoundingBox", x=b"N") + dict_state + b"b"),
            "giving a BoundingBox a state",
        ),
        "BUILD with __setstate__": (
            data(new_box + mapping({"__setstate__": system}) + b"b"),
            "'os.system'",
        ),
        "BUILD with another key": (
            data(new_box + mapping({"__class__": no}) + b"b"),
            "giving a BoundingBox a state",
        ),
        "BUILD with another field": (
            data(model("BoundingBox", __class__=no)),
            "giving a BoundingBox a state",
        ),
        "BUILD with private attributes": (
            data(
                new_box
                + mapping({"__dict__": b"}", "__private_attribute_values__": mapping({"a": no})})
                + b"b"
            ),
            "giving a BoundingBox a state",
        ),
        "BUILD with slots": (
            data(new_box + b"N" + dict_state + b"\x86b"),
            "giving a BoundingBox a state",
        ),
        "object dtype": (
            data(call("numpy", "dtype", text("O8"), b"\x89", b"\x88")),
            "dtype('O8', bool, bool)",
        ),
        "structured dtype": (
            data(call("numpy", "dtype", text("V16"), b"\x89", b"\x88")),
            "dtype('V16', bool, bool)",
        ),
        "dtype of fields": (
            data(DTYPE_U1 + b"(K\x03" + text("|") + b"N" + text("a") + b"}K\x00K\x00K\x00tb"),
            "giving a Dtype a state",
        ),
        "dtype with metadata": (
            data(DTYPE_U1 + b"(K\x04" + text("|") + b"NNNK\x00K\x00K\x00}tb"),
            "giving a Dtype a state",
        ),
        "dtype built twice": (
            data(DTYPE_U1 + 2 * (b"(K\x03" + text("|") + b"NNNK\x00K\x00K\x00tb")),
            "giving a Dtype a state",
        ),
        "dtype in other digits": (
            data(call("numpy", "dtype", text("U٣"), b"\x89", b"\x88")),
            "dtype('U\\u0663'",
        ),
        "scalar of objects": (
            data(
                call(
                    *("numpy.core.multiarray", "scalar"),
                    *(call("numpy", "dtype", text("O8"), b"\x89", b"\x88"), binary(b"\0" * 8)),
                )
            ),
            "dtype('O8', bool, bool)",
        ),
        "scalar of too many bytes": (
            data(call("numpy.core.multiarray", "scalar", DTYPE_U1, binary(b"ab"))),
            "scalar(Dtype, memoryview)",
        ),
        "ndarray subclass": (
            data(
                call(
                    *("numpy.core.multiarray", "_reconstruct", named("numpy", "matrix")),
                    *(b"K\x00\x85", binary(b"b")),
                )
            ),
            "'numpy.matrix'",
        ),
        "_reconstruct of a model": (
            data(
                call(
                    *("numpy.core.multiarray", "_reconstruct", named(MODULE, "Prediction")),
                    *(b"K\x00\x85", binary(b"b")),
                )
            ),
            "_reconstruct(Prediction, tuple, memoryview)",
        ),
        "_reconstruct of a size": (
            data(
                call(
                    *("numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray")),
                    *(b"J\0\0\0\x7f\x85", binary(b"b")),
                )
            ),
            "_reconstruct(ndarray, tuple, memoryview)",
        ),
        "array built twice": (
            data(array(b"K\x01\x85", contents=b"a") + b"(K\x01K\x01\x85" + DTYPE_U1 + b"\x89Ntb"),
            "giving a Array a state",
        ),
        "array of a huge shape": (
            data(array(b"J\0\0\0\x0fJ\0\0\0\x0f\x86")),
            "giving a Array a state",
        ),
        "array of a negative shape": (
            data(array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", contents=b"a")),
            "giving a Array a state",
        ),
        "array of no items": (
            data(array(b"J\0\0\0\x0f\x85", call("numpy", "dtype", text("U0"), b"\x89", b"\x88"))),
            "giving a Array a state",
        ),
        "array of objects": (
            data(array(b"K\x01\x85", text("O8"), b"\0" * 8)),
            "giving a Array a state",
        ),
        "array of a list": (
            data(NEW_ARRAY + b"(K\x01K\x01\x85" + DTYPE_U1 + b"\x89]tb"),
            "giving a Array a state",
        ),
        "_frombuffer of text": (
            data(
                call(
                    *("numpy.core.numeric", "_frombuffer", text("abc"), DTYPE_U1),
                    *(b"K\x03\x85", text("C")),
                )
            ),
            "_frombuffer('abc', Dtype, tuple, 'C')",
        ),
        "_frombuffer of too few bytes": (
            data(
                call(
                    *("numpy._core.numeric", "_frombuffer", binary(b"abc"), DTYPE_U1),
                    *(b"J\0\0\0\x0f\x85", text("C")),
                )
            ),
            "calling _frombuffer(",
        ),
        "appending to text": (data(text("a") + b"Na"), "appending to a str"),
        "items of a list": (data(b"]NNs"), "setting items of a list"),
        "keys that are no text": (data(b"}K\x01K\x02s"), "keys that are not strings"),
        "a million marks": (data(b"(" * 1_000_000), "nested more than 64 deep"),
        "three million values": (data(b"N" * 3_000_000), "over 2,097,152 operations"),
        "a million lists": (data(b"]" * 1_000_000), "takes far more memory"),
        "a million sets": (data(b"\x8f" * 1_000_000), "takes far more memory"),
        "a million views": (data(b"C\x00" * 1_000_000), "takes far more memory"),
        "two million memo entries": (data(b"N" + b"\x94" * 2_000_000), "takes far more memory"),
        "lists a million deep": (data(b"]" * 1_000_000 + b"a" * 999_999), "far more memory"),
        "one text encoded a thousand times": (
            data(
                text("x" * 1_000_000)
                + b"q\x00"
                + named("_codecs", "encode")
                + b"q\x01"
                + 1_000 * (b"h\x01h\x00" + text("latin1") + b"\x86R")
            ),
            "takes far more memory",
        ),
        "one set made a thousand times": (
            data(
                b"]q\x00("
                + 100_000 * b"\x8c\x01a"
                + b"e"
                + 1_000 * (named("builtins", "set") + b"h\x00\x85R")
            ),
            "takes far more memory",
        ),
    }
    for protocol in range(6):
        for function, argument in ((os.system, f"touch {trace}"), (exec, f"open({trace!r}, 'w')")):
            name = f"{function.__name__} at protocol {protocol}"
            cases[name] = (reduced(protocol, function, argument), function.__name__)
    return cases


# -- what no pickler writes ------------------------------------------------------------------------


@cache
def damaged() -> dict[str, tuple[bytes, str]]:
    def put(name: str, number: int) -> bytes:
        return text(name) + b"r" + struct.pack("<I", number)

    def get(number: int) -> bytes:
        return b"j" + struct.pack("<I", number)

    names = [element(data_hash=put(f"unit-{number}", number)) for number in range(6)]
    uses = [element(data_hash=get(number)) for number in range(6)]
    numbered = element(frame=b"K\x05r" + struct.pack("<I", 6))
    mask = call(MODULE, "Format", text("mask"))
    rows = b"]q\x00(]q\x01(" + b"K\x01" * 1_000 + b"e" + b"h\x01" * 999 + b"e"
    million = element(format=mask, data=rows)
    million_again = element(format=mask, data=b"h\x00")
    with forge.encord_active() as module:
        found = forge.detection(module, "BOUNDING_BOX", forge.box(module))
        good = pickle.dumps([found])
        single = pickle.dumps(found)
        dictionary = pickle.dumps({"a": found})
        nested = pickle.dumps([[found]])
    return {
        "garbage": (bytes(random.Random(0).randbytes(1_000)), ""),
        "text": (b"data_hash,confidence\nabc,0.5\n", ""),
        "JSON": (b'[{"image_id": 1}]', "begins with unknown (0x5b)"),
        "a zip archive": (b"PK\x03\x04" + b"\0" * 60, "begins with PERSID"),
        "a NumPy file": (b"\x93NUMPY\x01\x00", "begins with STACK_GLOBAL"),
        "one protocol byte": (b"\x80", "ends at byte 1"),
        "only a stop": (b"\x80\x04.", "begins with STOP"),
        "None": (pickle.dumps(None), "begins with NONE"),
        "a number": (pickle.dumps(5), "begins with BININT1"),
        "a dictionary": (dictionary, "begins with EMPTY_DICT"),
        "a dictionary of protocol 0": (pickle.dumps({"a": 1}, 0), "not a Prediction"),
        "a set": (pickle.dumps({"a"}), "begins with EMPTY_SET"),
        "text pickled": (pickle.dumps("abc"), "ends inside a prediction"),
        "an array": (pickle.dumps(np.zeros(3)), "ends inside a prediction"),
        "one prediction": (single, "one Prediction, not a list"),
        "a list of numbers": (pickle.dumps([1, 2]), "element 0 of the list is not a Prediction"),
        "a list of one number": (pickle.dumps([1]), "element 0 of the list is not a Prediction"),
        "a list of dictionaries": (pickle.dumps([{"a": 1}]), "element 0 of the list is not"),
        "a list of lists": (nested, "element 0 of the list is not a Prediction"),
        "a list of Nones": (pickle.dumps([None] * 3), "element 0 of the list is not a Prediction"),
        "a list of texts": (pickle.dumps(["a", "b"]), ""),
        "a number after predictions": (
            whole(element(), b"K\x01"),
            "element 1 of the list is not a Prediction (it begins with BININT1",
        ),
        "two pickles": (good + good, "follow the end of the pickle"),
        "a byte too many": (good + b"\n", "1 bytes follow the end"),
        "a mark never closed": (b"\x80\x02](" + element() + b".", "not a Prediction"),
        "no append": (b"\x80\x02]" + element() + b".", "not a Prediction"),
        "append without a value": (b"\x80\x02]a.", "element 0 of the list is not"),
        "appends without a mark": (b"\x80\x02]" + element() + b"e.", "not a Prediction"),
        "unknown memo entry": (data(b"h\x05"), "memo entry 5 is used before it is assigned"),
        "unknown memo entry as an element": (whole(b"h\x05"), "memo entry 5 is used before"),
        # These are like enough to those before them to be read by a template.
        "memo entry of a later element": (
            whole(*names[:5], *uses[:5], element(data_hash=get(5)), names[5]),
            "memo entry 5 is used before it is assigned",
        ),
        "memo entry of no element": (
            whole(*names, *uses, element(data_hash=get(999))),
            "memo entry 999 is used before it is assigned",
        ),
        "memo entry that is no name": (
            whole(*names, numbered, *uses, element(data_hash=get(6))),
            "a int is no value for a column",
        ),
        "memo entries numbered twice": (
            whole(*names, names[3]),
            "memo entr",
        ),
        "memo entry of a name, as a number": (
            whole(*names, *(element(confidence=get(number)) for number in range(6))),
            "a str is no value for a column",
        ),
        "huge memo entry": (data(b"j\xff\xff\xff\xff"), "memo entry 4294967295 is used before"),
        "memo entry of itself": (whole(element(data=b"h\x03"), element()), "memo entry 3"),
        "memo number that is text": (data(b"gabc\n"), "a memo number that is not one"),
        "negative memo number": (data(b"Np-5\n"), "a memo number that is not one"),
        "memo number of 30 digits": (data(b"Np" + b"9" * 30 + b"\n"), "a memo number that is not"),
        "list's memo number is text": (b"(lpabc\n.", "a memo number that is not one"),
        "memo entry assigned twice": (data(b"Nq\x07Nq\x07"), "memo entry 7 is assigned twice"),
        "text longer than the file": (data(b"X\xff\xff\xff\xffabc"), "ends at byte"),
        "text of 2**63 bytes": (data(b"\x8d" + b"\xff" * 8), "ends at byte"),
        "bytes of 2**63": (data(b"\x8e" + b"\xff" * 8), "ends at byte"),
        "bytearray of 2**63": (data(b"\x96" + b"\xff" * 8), "ends at byte"),
        "LONG1 longer than the file": (data(b"\x8a\xff"), "ends at byte"),
        "LONG4 of 2 GB": (data(b"\x8b\xff\xff\xff\x7f"), "LONG4 (0x8b)"),
        "a number of a million digits": (data(b"L" + b"1" * 1_000_000 + b"L\n"), "not a valid"),
        "a line that never ends": (data(b"L" + b"1" * 3_000_000), "ends at byte"),
        "text that is not UTF-8": (data(b"X\x02\0\0\0\xff\xff"), "not a valid pickle"),
        "half a surrogate pair": (data(b"X\x03\0\0\0\xed\xa0\x80"), "not a valid pickle"),
        "half a pair, escaped": (data(b"V\\ud800\n"), "not a valid pickle"),
        "module name with a surrogate": (
            data(b"X\x03\0\0\0\xed\xa0\x80" + text("x") + b"\x93"),
            "not a valid pickle",
        ),
        "module name that is not UTF-8": (data(b"c\xff\xfe\nx\n"), "not a valid pickle"),
        "characters beyond Unicode": (
            data(
                call(
                    *("numpy.core.multiarray", "scalar"),
                    call("numpy", "dtype", text("U1"), b"\x89", b"\x88"),
                    binary(b"\xff\xff\xff\xff"),
                )
            ),
            "not a valid pickle",
        ),
        "an empty stack": (whole(b"cnumpy\ndtype\nR"), "finds nothing to work on"),
        "an operation with no mark": (whole(b"cnumpy\ndtype\ne"), "finds nothing to work on"),
        "a shared list of a million, two thousand times": (
            whole(million, *([million_again] * 2_000)),
            "geometry of over 256 times the file's size",
        ),
    }


# -- each of them ----------------------------------------------------------------------------------

SCRIPT = f"""{forge.PEAK}
import json, resource, sys, time, warnings
from pathlib import Path
warnings.simplefilter("error")
import ea_arrow.errors
from ea_arrow.sources.pickles import PickleSource

limit = 4 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
list(PickleSource(Path(sys.argv[1]) / "good.pkl").batches())
for path in sorted(Path(sys.argv[1]).glob("*.hostile")):
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before, start = peak(), time.perf_counter()
    try:
        rows = sum(batch.num_rows for batch in PickleSource(path).batches())
        kind, message = "read", str(rows) + " rows"
    except BaseException as error:
        kind, message = type(error).__name__, str(error)
    seconds = time.perf_counter() - start
    print(json.dumps([path.stem, kind, message, seconds, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def outcomes(folder) -> dict[str, tuple[str, str, float, float]]:
    """What became of each file, all read by one process."""
    cases = {**unsafe(str(folder / "trace")), **damaged(), **HARMLESS}
    names = list(cases)
    for number, name in enumerate(names):
        (folder / f"{number:04}.hostile").write_bytes(cases[name][0])
    (folder / "good.pkl").write_bytes(whole(element()))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {names[int(stem)]: (*rest,) for stem, *rest in found}


HARMLESS = {
    "a gap in the memo": (data(b"}r\xff\xff\xff\x7fh\xff"[:-2] + b""), "1 rows"),
    "a list that holds itself": (data(b"]q\x00(h\x00h\x00e"), "1 rows"),
    "a billion laughs": (
        data(
            b"".join(b"]" + struct.pack("<BI", ord("r"), n) + b"(" for n in range(30))
            + b"K\x01"
            + b"e"
            + b"".join(struct.pack("<BI", ord("j"), n) * 10 + b"e" for n in range(29, 0, -1))
        ),
        "1 rows",
    ),
    "a name of a megabyte, many times": (
        whole(
            element(data_hash=text("d" * 1_000_000) + b"q\x00"),
            *([element(data_hash=b"h\x00")] * 5_000),
        ),
        "5001 rows",
    ),
    "JSON a megabyte deep": (data(text("[" * 1_000_000)), "1 rows"),
    "a shape of 2**28 by 0": (data(array(b"J\0\0\0\x10K\x00\x86")), "1 rows"),
}


@pytest.mark.parametrize("name", unsafe(""))
def test_unsafe(name, folder, outcomes):
    kind, message, seconds, megabytes = outcomes[name]
    _, said = unsafe(str(folder / "trace"))[name]
    assert (kind, said in message) == (UnsafePickleError.__name__, True), message
    assert re.search(r"refused at byte [\d,]+: ", message)
    assert "Nothing in the file was executed." in message
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
    assert len(message) < 1_000


@pytest.mark.parametrize("name", damaged())
def test_damaged(name, outcomes):
    kind, message, seconds, megabytes = outcomes[name]
    _, said = damaged()[name]
    assert kind in (SourceError.__name__, UnsafePickleError.__name__)
    assert said in message
    assert re.search(r"byte [\d,]+", message)
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
    assert len(message) < 1_000


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name, outcomes):
    kind, message, seconds, megabytes = outcomes[name]
    assert (kind, message) == ("read", HARMLESS[name][1])
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


def test_no_trace_is_left(folder, outcomes):
    assert len(outcomes) > 150
    assert not (folder / "trace").exists()


def test_the_payloads_work(tmp_path):
    """Plain unpickling of what is refused here does leave the trace."""
    trace = tmp_path / "trace"
    payload = unsafe(str(trace))["os.system"][0]
    with forge.encord_active(), pytest.raises(KeyError):  # the rest of it is not complete
        pickle.loads(payload)
    assert trace.exists()


def test_empty_and_missing_files(tmp_path):
    path = tmp_path / "empty.pkl"
    path.write_bytes(b"")
    with pytest.raises(SourceError, match="the file is empty"):
        PickleSource(path)
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        PickleSource(tmp_path / "missing.pkl")
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        PickleSource(tmp_path)


# -- damage to good files --------------------------------------------------------------------------


def good(protocol: int) -> dict[str, bytes]:
    """Files that read well, together with every opcode that a good file may have."""
    random_ = np.random.default_rng(0)
    with forge.encord_active() as module:
        hashes = {"attribute_hash": "a", "option_hash": "o"}
        answer = module.FrameClassification(feature_hash="f", **hashes)
        box = forge.box(module, np.float64(0.25), np.float32(0.5))
        kinds = [
            forge.detection(module, "BOUNDING_BOX", box, data_hash=np.str_("du"), track_id=5),
            forge.detection(module, "MASK", random_.integers(0, 2, (3, 4)).astype(np.uint8)),
            forge.detection(module, "POLYGON", random_.random((3, 2))),
            forge.detection(module, "POLYGON", random_.random((3, 2)).tolist()),
            module.Prediction(data_hash="du", confidence=1, classification=answer, frame=None),
        ]
        boxes = [
            forge.detection(
                module,
                "BOUNDING_BOX",
                forge.box(module, *random_.random(4).tolist()),
                data_hash=f"du-{number // 3}",
                feature_hash=f"class-{number // 5}",
                frame=number * 7_000,
                confidence=np.float64(number) if number % 2 else 0.5,
            )
            for number in range(30)
        ]
        files = {"kinds": [*kinds, kinds[0]], "boxes": boxes, "tuple": tuple(kinds[:3])}
        dumped = {name: forge.dumps(found, protocol) for name, found in files.items()}
    with forge.encord_active("app", enum_by_name=True) as module:
        found = [forge.detection(module, "BOUNDING_BOX", forge.box(module))]
        return dumped | {"old": forge.dumps(found, protocol, numpy=1)}


def rows(path: Path, contents: bytes) -> list[dict[str, Any]]:
    path.write_bytes(contents)
    return [row for batch in PickleSource(path).batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("protocol", range(6))
def test_cut_at_every_byte(tmp_path, protocol):
    path = tmp_path / "cut.pkl"
    files = good(protocol)
    assert len(rows(path, files["boxes"])) == 30
    for name in ("kinds", "old"):
        contents = files[name]
        assert rows(path, contents)
        for length in range(len(contents)):
            with pytest.raises(SourceError):
                rows(path, contents[:length])
    for length in random.Random(0).sample(range(len(files["boxes"])), 100):
        with pytest.raises(SourceError):
            rows(path, files["boxes"][:length])


def mutated(contents: bytes, random_: random.Random) -> bytes:
    changed = bytearray(contents)
    for _ in range(random_.choice([1, 1, 1, 2, 5])):
        at = random_.randrange(len(changed))
        how = random_.randrange(4)
        if how == 0:
            changed[at] ^= 1 << random_.randrange(8)
        elif how == 1:
            changed[at] = random_.choice(contents)  # more often an opcode than a random byte
        elif how == 2:
            del changed[at : at + random_.choice([1, 1, 2, 9])]
        else:
            other = random_.randrange(len(contents))
            changed[at:at] = contents[other : other + random_.choice([1, 2, 9, 40])]
    return bytes(changed)


def outcome(path: Path, contents: bytes) -> list[dict[str, Any]] | type[Exception]:
    try:
        return rows(path, contents)
    except EaArrowError as error:
        return type(error) if str(path) in str(error) else AssertionError


def test_mutations_are_refused_or_read(tmp_path, monkeypatch):
    random_ = random.Random(20)
    path = tmp_path / "mutated.pkl"
    files = [contents for protocol in range(6) for contents in good(protocol).values()]
    read = 0
    for number in range(2_000):
        contents = mutated(files[number % len(files)], random_)
        fast = outcome(path, contents)
        assert fast is not AssertionError, "an error that does not name the file"
        with monkeypatch.context() as patch:
            patch.setattr(pickles, "MAX_TEMPLATES", -1)
            slow = outcome(path, contents)
        if isinstance(fast, list) and isinstance(slow, list):
            assert repr(fast) == repr(slow)  # as text: NaN differs from itself
            read += 1
    assert 100 < read < 1_900
