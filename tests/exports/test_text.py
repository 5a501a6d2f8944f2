"""Rows as text: numbers, polygons and masks come back as they were."""

import json
import math
import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.errors import SchemaError
from ea_arrow.exports.text import append, joined, listed, number_texts, ring_texts

finite = st.floats(allow_nan=False, allow_infinity=False)


def bits(value):
    return struct.pack(">d", value)


@given(st.lists(finite, max_size=50))
def test_numbers_come_back_to_the_last_bit(values):
    texts = number_texts(np.array(values, dtype=np.float64)).to_pylist()
    assert [bits(float(json.loads(t))) for t in texts] == [bits(v) for v in values]
    assert [bits(v) for v in pa.array(texts, pa.string()).cast(pa.float64()).to_pylist()] == [
        bits(v) for v in values
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-7, "1e-7"),
        (1e300, "1e+300"),
        (-0.0, "-0.0"),
        (10.0, "10"),
        (2.0**53 + 2, "9.007199254740994e+15"),
        (5e-324, "5e-324"),
    ],
)
def test_numbers_are_short_and_json(value, text):
    assert number_texts(np.array([value])).to_pylist() == [text]
    assert math.copysign(1, json.loads(text)) == math.copysign(1, value)


@given(st.lists(st.none() | st.lists(st.lists(finite, max_size=8), max_size=3), max_size=8))
def test_polygons_come_back(polygons):
    column = pa.array(polygons, pa.list_(pa.list_(pa.float64())))
    for start in range(len(polygons) + 1):  # slices have offsets of their own
        found = [json.loads(t) for t in ring_texts(column.slice(start)).to_pylist()]
        assert found == [p or [] for p in polygons[start:]]


def test_a_missing_value_is_an_error_not_a_missing_row():
    with pytest.raises(SchemaError, match="1 rows lack a value"):
        joined("a", pa.array(["b", None]))


@given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=5))
def test_runs_of_texts_are_joined(runs):
    flat = pa.array([t for run in runs for t in run], pa.string())
    counts = np.array([len(run) for run in runs], dtype=np.int64)
    assert listed(flat, counts, "|").to_pylist() == ["|".join(run) for run in runs]


def test_texts_are_appended_with_separators(tmp_path):
    path = tmp_path / "file"
    append(path, pa.array(["a", "b"]), before=b"[", separator=", ")
    append(path, pa.array([], pa.string()), before=b"]")
    assert path.read_text() == "[a, b]"


def test_sliced_columns_are_joined():
    column = pa.array(["x", "a", "b"]).slice(1)
    assert joined(column, pc.binary_length(column).cast(pa.string())).to_pylist() == ["a1", "b1"]
