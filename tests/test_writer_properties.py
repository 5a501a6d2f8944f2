"""Any sequence of predictions: every one is kept or refused, as a plain reference says."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ea_arrow
from ea_arrow import given_rows, intake, pipeline, spilled
from tests.builders import make_encord_project

WIDTH, HEIGHT, FRAMES = 200, 100, {0, 4}
NEAR = 5e-7  # within the tolerance of 1e-6


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_encord_project(tmp_path_factory.mktemp("project") / "p")


# -- the reference: one row at a time, from the documentation --------------------------------------


def number(value):
    """A value as a float; None if it is none."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float) or abs(value) > 10**308:
        return (
            value if isinstance(value, float) else None
        )  # infinity, NaN; too large a whole number
    return float(value)


def kept_box(sides):
    """A box in pixels, or None if it is refused."""
    if not isinstance(sides, dict):
        return None
    values = [number(sides.get(k)) for k in "xywh"]
    if any(v is None or not math.isfinite(v) for v in values):
        return None
    axes = (values[0::2], values[1::2])
    for start, size in axes:
        far = start < -1e-6 or start > 1 + 1e-6 or start + size > 1 + 1e-6
        if size < 0 or far:
            return None
    if any(start < 0 or start + size > 1 for start, size in axes):  # by float noise: cut it off
        axes = [onto_the_edge(start, size) for start, size in axes]
    (x, w), (y, h) = axes
    return (x * WIDTH, y * HEIGHT, w * WIDTH, h * HEIGHT)


def onto_the_edge(start, size):
    low, high = (min(max(v, 0.0), 1.0) for v in (start, start + size))
    return (low, high - low if low != start else min(size, 1 - low))


def kept_shape(polygon):
    """What a polygon or mask encloses in pixels, or None if it is refused."""
    if isinstance(polygon, np.ndarray) and polygon.shape != (4, 2):
        good = polygon.shape == (HEIGHT, WIDTH) and polygon.max() in (0, 1, 255)
        good = good and set(np.unique(polygon).tolist()) <= {0, int(polygon.max())}
        if not good:
            return None
        rows, columns = np.nonzero(polygon)
        if not rows.size:
            return (0, 0, 0, 0)
        x, y = columns.min(), rows.min()
        return (x, y, columns.max() - x + 1, rows.max() - y + 1)
    points = [[float(v) for v in point] for point in polygon]
    if len(points) < 3 or any(not -1e-6 <= v <= 1 + 1e-6 for p in points for v in p):
        return None
    xs = [min(max(x, 0.0), 1.0) * WIDTH for x, _ in points]
    ys = [min(max(y, 0.0), 1.0) * HEIGHT for _, y in points]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def reference(row):
    """(frame, class, confidence, box) of a row that is kept; None of one that is refused."""
    score, frame = number(row["confidence_score"]), row["frame"]
    frame = frame.item() if isinstance(frame, np.generic) else frame
    if row["data_hash"] != "film" or row["class_uid"] not in ("car", "road"):
        return None
    if score is None or not math.isfinite(score):
        return None
    if not (frame is None or (isinstance(frame, int) and frame in FRAMES)):
        return None
    shape = kept_box(row["bbox"]) if "bbox" in row else kept_shape(row["polygon"])
    return None if shape is None else (frame or 0, row["class_uid"], score, shape)


# -- predictions of all kinds ----------------------------------------------------------------------

odd = st.sampled_from([None, "0.5", math.nan, math.inf, -math.inf, 10**400, b"1", [0.5]])
inside = st.floats(0, 0.5)
edge = st.sampled_from([0.0, 0.25, 0.5, 1.0, -NEAR, 1 + NEAR, -0.01, 1.01, 0, 1, True])
side = st.one_of(inside, inside, inside, inside, edge, inside.map(np.float32), odd)
sides = st.fixed_dictionaries(dict.fromkeys("xywh", side))
boxes = st.one_of(
    sides,
    sides,
    sides.map(lambda box: {k: box[k] for k in "wxhy"}),
    sides.map(lambda box: {k: box[k] for k in "xyw"}),
    st.just([0.1, 0.1, 0.1, 0.1]),
)
point = st.lists(st.one_of(inside, inside, st.sampled_from([0.0, 1.0, 1 + NEAR, 1.5])),
                 min_size=2, max_size=2)  # fmt: skip
masks = st.builds(
    lambda shape, row, value, dtype: np.where(np.arange(shape[0])[:, None] == row,
                                              value, np.zeros(shape)).astype(dtype),
    st.sampled_from([(HEIGHT, WIDTH), (HEIGHT, WIDTH), (10, 20)]),
    st.integers(0, HEIGHT),
    st.sampled_from([1, 1, 255, 7]),
    st.sampled_from([np.uint8, np.int64, np.float64]),
)  # fmt: skip
polygons = st.one_of(
    st.lists(point, min_size=1, max_size=5),
    st.lists(point, min_size=4, max_size=4).map(np.array),
    masks,
)
common = {
    "data_hash": st.sampled_from(["film"] * 8 + ["other", None, 3, b"film", "\ud800"]),
    "class_uid": st.sampled_from(["car"] * 5 + ["road"] * 4 + ["other", None, 7]),
    "confidence_score": st.one_of(st.floats(0, 1), st.floats(0, 1), st.floats(), odd),
    "frame": st.sampled_from([None, 0, 4, np.int64(4), 0, 4, 0, 4, 3, -1, 1.5, "0", 2**70]),
}
rows = st.one_of(
    st.fixed_dictionaries(common | {"bbox": boxes}),
    st.fixed_dictionaries(common | {"bbox": boxes}),
    st.fixed_dictionaries(common | {"polygon": polygons}),
)
sequences = st.lists(rows, max_size=25)
sizes = st.sampled_from([1, 2, 3, 7, 1000])


def check(found, ledger, given):
    kept = [(number, row) for number, row in enumerate(map(reference, given)) if row is not None]
    assert ledger.read == len(given)
    assert ledger.kept == len(kept) == found.num_rows
    assert ledger.kept + ledger.rejected == len(given)
    assert found["source_row"].to_pylist() == [number for number, _ in kept]
    assert found["prediction_id"].to_pylist() == [*range(len(kept))]
    stored = [
        (row["frame"], row["feature_hash"], row["confidence"],
         tuple(row[f"bbox_{side}"] for side in "xywh"))
        for row in found.to_pylist()
    ]  # fmt: skip
    assert stored == [row for _, row in kept]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=sequences, few=sizes, more=sizes)
def test_accepted_and_refused_are_all(project, monkeypatch, given, few, more):
    monkeypatch.setattr(given_rows, "AT_ONCE", few)
    monkeypatch.setattr(intake, "BATCH_ROWS", more)
    batches = ea_arrow.to_batches(given, project)
    check(pa.table(batches), batches.ledger, given)
    assert sum(map(len, batches.rejects)) == batches.ledger.rejected


@pytest.mark.filterwarnings("ignore:.* refused:UserWarning")
@settings(
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(given=st.lists(rows, min_size=1, max_size=25), threads=st.sampled_from([1, 2]))
def test_what_is_stored_is_what_was_accepted(project, monkeypatch, given, threads):
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: threads)
    monkeypatch.setattr(intake, "BATCH_ROWS", 4)
    first = {"data_hash": "film", "class_uid": "car", "confidence_score": 1.0, "frame": 0,
             "bbox": {"x": 0, "y": 0, "w": 1, "h": 1}}  # fmt: skip
    given = [first, *given]  # an iteration of nothing but refused rows is an error
    with project.writer("any", mode="replace") as writer:
        for row in given:
            writer.add_prediction(**row)
    check(project.predictions("any").to_arrow(), writer.ledger, given)
    sql = "select source_row from rejects where iteration = 'any' order by all"
    refused = [row["source_row"] for row in project.sql(sql)]
    assert len(refused) == writer.ledger.rejected
    assert refused == [n for n, row in enumerate(given) if reference(row) is None]


# -- duplicates ------------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(0, 12), max_size=9), max_size=12),
    held=st.sampled_from([1, 4, 10_000]),
)
def test_duplicates_in_a_file_are_those_in_memory(tmp_path, monkeypatch, batches, held):
    monkeypatch.setattr(spilled, "MOST_ROWS", held)
    found = spilled.SpilledDuplicates(tmp_path)
    seen, repeated, row = set(), [], 0
    for keys in batches:
        spread = np.array(keys, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        found.add(spread, np.arange(row, row + len(keys)), None)
        for key in keys:
            if key in seen:
                repeated.append(row)
            seen.add(key)
            row += 1
    assert found.count(3) == (len(repeated), repeated[:3])
    assert found.count(3) == (len(repeated), repeated[:3])  # more may come
    found.close()
    assert not list(tmp_path.iterdir())
