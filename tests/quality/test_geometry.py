"""Areas, sides and counts; and the objects that the tests of other metrics are made of."""

import numpy as np
import pyarrow as pa
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.geometry import Rle, encode_dense, polygon_column
from ea_arrow.quality import density, duplicates, geometry, moments, sequences
from ea_arrow.quality.geometry import (
    METRICS,
    enclosing_boxes,
    object_area_absolute,
    object_area_relative,
    object_aspect_ratio,
    object_border_closeness,
    object_count,
    random_value,
)
from ea_arrow.quality.objects import Objects, Units
from ea_arrow.rle import mask_column
from ea_arrow.schema import FORMATS

SIZE = (100, 50)


def made(rows, sizes=(SIZE,), *, videos=None, tracks=None, shapes=None, theta=None, ids=None):
    """Objects from plain values.

    Args:
        rows: Data unit, class and box x, y, w, h of each.
        sizes: Width and height of each data unit.
        videos: Video and place of each data unit; one video each without.
        tracks: Track of each object.
        shapes: By row: a list of rings of interleaved x, y, or a dense mask, or an ``Rle``.
        theta: Rotation by row.
        ids: Id of each object.
    """
    n, shapes = len(rows), shapes or {}
    width, height = np.array(sizes, dtype=np.float64).reshape(-1, 2).T
    videos = videos or [(i, 0) for i in range(len(sizes))]
    video, place = np.array(videos, dtype=np.int64).reshape(-1, 2).T
    polygons = [shapes[i] if isinstance(shapes.get(i), list) else None for i in range(n)]
    masks = [
        encode_dense(shape) if isinstance(shape, np.ndarray) else shape
        for shape in (shapes.get(i) if polygons[i] is None else None for i in range(n))
    ]
    mask, broken = mask_column(masks)
    assert not broken
    angle = np.full(n, np.nan)
    for row, value in (theta or {}).items():
        angle[row] = value
    kinds = [
        "polygon" if polygons[i] is not None else "mask" if masks[i] is not None else "bounding_box"
        for i in range(n)
    ]
    box = np.array([row[2:] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Objects(
        units=Units(width, height, video, place),
        unit=np.array([row[0] for row in rows], dtype=np.int64),
        klass=np.array([row[1] for row in rows], dtype=np.int64),
        ids=np.arange(n) if ids is None else np.array(ids, dtype=np.int64),
        box=box,
        area=box[:, 2] * box[:, 3],
        format=np.array([FORMATS.index(kind) for kind in kinds], dtype=np.int64),
        track=np.full(n, -1) if tracks is None else np.array(tracks, dtype=np.int64),
        theta=angle,
        polygon=polygon_column(polygons),
        mask=mask,
        confidence=np.full(n, np.nan),
    )


def rectangle(x, y, w, h):
    """The ring of a box."""
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def dense(*boxes, size=SIZE):
    """A mask of any number of whole-pixel boxes x, y, w, h."""
    mask = np.zeros(size[::-1], bool)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = True
    return mask


whole = st.integers(-20, 120)
sides = st.integers(0, 60)
box_rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), whole, whole, sides, sides), max_size=14
)


def test_areas():
    objects = made([(0, 0, 0, 0, 10, 5), (1, 0, 0, 0, 20, 10)], [SIZE, (20, 10)])
    assert object_area_relative(objects).tolist() == [1, 100]
    assert object_area_absolute(objects).tolist() == [50, 200]


def test_nothing_is_relative_to_an_image_without_pixels():
    objects = made([(0, 0, 0, 0, 10, 5)], [(0, 50)])
    assert np.isnan(object_area_relative(objects)).all()
    assert np.isnan(object_border_closeness(objects)).all()
    assert object_aspect_ratio(objects).tolist() == [2]


def test_aspect_ratio():
    rows = [
        (0, 0, 0, 0, 10, 5),
        (0, 0, 0, 0, 0, 5),
        (0, 0, 0, 0, 10, 0),
        (0, 0, 0, 0, 1e300, 1e-300),
    ]
    ratio = object_aspect_ratio(made(rows))
    assert ratio[:2].tolist() == [2, 0]
    assert np.isnan(ratio[2:]).all()


@pytest.mark.parametrize(
    ("box", "closeness"),
    [
        ((45, 20, 10, 10), 0.6),  # its lower edge is 30 of 50 down, its upper one 20
        ((0, 20, 10, 10), 1),
        ((90, 20, 10, 10), 1),
        ((45, 0, 10, 10), 1),
        ((45, 40, 10, 10), 1),
        ((20, 20, 10, 10), 0.8),
        ((-10, 20, 30, 10), 1.1),
        ((50, 25, 0, 0), 0.5),
    ],
)
def test_border_closeness(box, closeness):
    assert object_border_closeness(made([(0, 0, *box)]))[0] == pytest.approx(closeness)


@given(box_rows)
def test_border_closeness_is_never_below_a_half(rows):
    objects = made(rows, [SIZE] * 3)
    assert (object_border_closeness(objects) >= 0.5).all()


def test_a_rotated_box_is_measured_as_it_stands():
    objects = made([(0, 0, 40, 20, 20, 10)], theta={0: 90})
    assert enclosing_boxes(objects)[0] == pytest.approx([45, 15, 10, 20])
    assert object_aspect_ratio(objects)[0] == pytest.approx(0.5)
    assert object_border_closeness(objects)[0] == pytest.approx(0.7)
    assert objects.box[0].tolist() == [40, 20, 20, 10]


@given(st.tuples(whole, whole, st.integers(1, 60), st.integers(1, 60)), st.floats(-400, 400))
def test_rotated_boxes_are_enclosed_as_shapely_does(box, theta):
    x, y, w, h = box
    turned = shapely.affinity.rotate(shapely.box(x, y, x + w, y + h), theta)
    left, top, right, bottom = turned.bounds
    found = enclosing_boxes(made([(0, 0, *box)], theta={0: theta}))[0]
    assert found == pytest.approx([left, top, right - left, bottom - top], abs=1e-9)


def test_count_has_a_row_for_every_data_unit():
    objects = made([(2, 0, 0, 0, 1, 1), (0, 1, 0, 0, 1, 1), (2, 1, 0, 0, 1, 1)], [SIZE] * 4)
    assert object_count(objects).tolist() == [1, 0, 2, 0]


def splitmix64(number):
    """The generator as its authors wrote it, in Python's integers."""
    mask = 2**64 - 1
    z = (number + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


@given(st.lists(st.integers(0, 2**53)))
def test_random_values_are_a_hash_of_the_id(ids):
    objects = made([(0, 0, 0, 0, 1, 1)] * len(ids), ids=ids)
    expected = [(splitmix64(number) >> 11) / 2**53 for number in ids]
    assert random_value(objects).tolist() == expected


def test_random_values_are_uniform():
    found = random_value(made([(0, 0, 0, 0, 1, 1)] * 20_000))
    counts, _ = np.histogram(found, 20, (0, 1))
    assert counts.sum() == 20_000
    assert abs(counts - 1000).max() < 150  # five standard deviations
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.03


MODULES = (geometry, duplicates, density, moments, sequences)
EVERY = [metric for module in MODULES for metric in module.METRICS]


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_every_metric_takes_no_objects_at_all(metric):
    for sizes in ([], [SIZE] * 2):
        found = metric.compute(made([], sizes))
        assert found.shape == (len(sizes) if metric.per_unit else 0,)
        assert found.dtype == np.float64


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_no_metric_depends_on_the_order_of_rows(metric):
    rng = np.random.default_rng(3)
    n = 60
    rows = [
        (
            unit,
            int(rng.integers(2)),
            *rng.integers(0, 40, 2).tolist(),
            *rng.integers(1, 30, 2).tolist(),
        )
        for unit in np.arange(n) % 6
    ]
    tracks = (np.arange(n) // 6).tolist()
    videos = [(0, 0), (0, 1), (0, 2), (1, 0), (0, 3), (0, 4)]
    shapes = {i: [rectangle(*rows[i][2:])] for i in range(0, n, 3)}
    shapes |= {i: dense(rows[i][2:]) for i in range(1, n, 3)}
    order = rng.permutation(n)
    given_order = made(rows, [SIZE] * 6, videos=videos, tracks=tracks, shapes=shapes)
    other = made(
        [rows[i] for i in order],
        [SIZE] * 6,
        videos=videos,
        tracks=[tracks[i] for i in order],
        shapes={at: shapes[i] for at, i in enumerate(order.tolist()) if i in shapes},
        ids=order,
    )
    expected, found = metric.compute(given_order), metric.compute(other)
    if not metric.per_unit:
        expected = expected[order]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.isfinite(found).any()


def test_names_are_unique():
    assert len({metric.name for metric in EVERY}) == len(EVERY) == 13
    assert {metric.name for metric in METRICS} == {
        "object_area_relative",
        "object_area_absolute",
        "object_aspect_ratio",
        "object_border_closeness",
        "object_count",
        "random_value",
    }


def test_masks_and_polygons_of_these_tests_are_what_they_say():
    objects = made([(0, 0, 1, 2, 3, 4)] * 3, shapes={0: [[0, 0, 1, 1]], 2: dense((1, 2, 3, 4))})
    assert objects.polygon.to_pylist() == [[[0, 0, 1, 1]], None, None]
    assert objects.mask.is_valid().to_pylist() == [False, False, True]
    assert objects.mask[2].as_py()["area"] == 12
    assert pa.types.is_struct(objects.mask.type)
    assert isinstance(encode_dense(dense()), Rle)
