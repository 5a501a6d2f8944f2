"""Hu's moments of boxes, polygons and masks, and shapes far from those of their class."""

import math

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import assume, given
from hypothesis import strategies as st
from skimage import measure

from ea_arrow.quality import density, moments
from ea_arrow.quality.moments import hu_moments, shape_outlier
from ea_arrow.schema import FORMATS
from tests.quality.test_geometry import SIZE, dense, made, rectangle


def hu_of(shape, size=SIZE):
    return hu_moments(made([(0, 0, 0, 0, 9, 9)], [size], shapes={0: shape}))[0]


def by_pixels(mask):
    """scikit-image's, whose pixels are points: as squares each has moments of its own."""
    central = measure.moments_central(mask.astype(float))
    central[2, 0] += central[0, 0] / 12  # ∫ t² of a side of 1; third moments of a square are 0
    central[0, 2] += central[0, 0] / 12
    swapped = central.T  # rows and columns to x and y
    return measure.moments_hu(measure.moments_normalized(swapped))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


def test_a_square_and_a_rectangle():
    hu = hu_moments(made([(0, 0, 5, 5, 20, 20), (0, 0, 5, 5, 40, 10)], theta={1: 30}))
    close(hu[0], [1 / 6, 0, 0, 0, 0, 0, 0])
    close(hu[1], [4 / 12 + 1 / 48, (4 / 12 - 1 / 48) ** 2, 0, 0, 0, 0, 0])


def test_a_circle():
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    ring = np.stack([1e5 + 7 * np.cos(angle), -3e4 + 7 * np.sin(angle)], axis=1).ravel().tolist()
    found = hu_of([ring])
    assert found[0] == pytest.approx(1 / (2 * math.pi), rel=1e-5)
    assert np.abs(found[1:]).max() < 1e-12


def test_a_right_triangle():
    """For legs of 1: central x² and y² are 1/36, xy −1/72, of area 1/2 each (tables)."""
    found = hu_of([[0, 0, 1, 0, 0, 1]])
    assert found[0] == pytest.approx(2 * (1 / 36) / (1 / 4) / 1)
    assert found[1] == pytest.approx(4 * (1 / 72 / (1 / 4)) ** 2)


def test_box_polygon_and_mask_are_the_same_shape():
    box = hu_moments(made([(0, 0, 10, 5, 30, 12)]))[0]
    close(hu_of([rectangle(10, 5, 30, 12)]), box)
    close(hu_of(dense((10, 5, 30, 12))), box)
    assert (hu_of(dense((10, 5, 30, 12)))[2:] == 0).all()  # symmetry, not its rounding


pixels = st.builds(
    lambda seed, h, w, share: np.random.default_rng(seed).random((h, w)) < share,
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.2, 0.6, 0.95, 1.1]),
)


@given(pixels)
def test_masks_as_scikit_image_has_them(mask):
    found = hu_of(mask, mask.shape[::-1])
    if mask.any():
        close(found, by_pixels(mask))
    else:
        assert np.isnan(found).all()


def test_runs_over_many_columns():
    """A run that begins in one column, fills others and ends in a last one."""
    mask = np.zeros((6, 9), bool)
    mask.T.reshape(-1)[4:40] = True
    down = mask.T.copy().reshape(-1)
    down[4:40] = True
    mask = down.reshape(9, 6).T
    close(hu_of(mask, (9, 6)), by_pixels(mask))


@given(pixels)
def test_polygons_of_pixels_are_those_of_the_mask(mask):
    """Every pixel a part of its own, every other one the other way round."""
    assume(mask.any())
    rows, columns = np.nonzero(mask)
    squares = [rectangle(x, y, 1, 1) for y, x in zip(rows.tolist(), columns.tolist(), strict=True)]
    rings = [
        np.array(ring).reshape(-1, 2)[:: 1 if i % 2 else -1].ravel().tolist()
        for i, ring in enumerate(squares)
    ]
    close(hu_of(rings), by_pixels(mask))


def test_all_parts_count():
    """Encord Active took the largest part of a mask only."""
    parts = [(0, 0, 20, 10), (60, 30, 10, 5)]
    expected = by_pixels(dense(*parts))
    close(hu_of(dense(*parts)), expected)
    close(hu_of([rectangle(*part) for part in parts]), expected)
    assert abs(expected[0] - by_pixels(dense(parts[0]))[0]) > 0.1


@given(
    st.integers(0, 2**32), st.floats(0, 360), st.floats(0.01, 1000), st.floats(-1e4, 1e4),
)  # fmt: skip
def test_moving_scaling_and_turning_changes_nothing(seed, angle, scale, by):
    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radius = rng.uniform(0.3, 1, 9)
    outline = shapely.Polygon(np.stack([radius * np.cos(turns), radius * np.sin(turns)], axis=1))
    assume(outline.area > 0.1)
    moved = shapely.affinity.rotate(outline, angle)
    moved = shapely.affinity.translate(shapely.affinity.scale(moved, scale, scale), by, -by)
    mirrored = shapely.affinity.scale(outline, -1, 1)
    rings = [
        [shapely.get_coordinates(shape)[:-1].ravel().tolist()]
        for shape in (outline, moved, mirrored)
    ]
    hu, same, mirror = (hu_of(ring) for ring in rings)
    # A small shape far away has lost digits before it comes here.
    np.testing.assert_allclose(same, hu, rtol=1e-5, atol=1e-6)
    close(mirror, hu * [1, 1, 1, 1, 1, 1, -1])


@pytest.mark.parametrize(
    "shape",
    [
        *([], [[]], [[3.0, 3.0]], [[0.0, 0.0, 9.0, 9.0]], [[0.0, 0.0, 5.0, 0.0, 9.0, 0.0]]),
        [[0.1, 0.3, 0.2, 0.6, 0.7, 2.1, 0.3, 0.9]],  # on a line, but for rounding
        dense(),
    ],
)
def test_without_area_there_are_none(shape):
    assert np.isnan(hu_of(shape)).all()


def test_boxes_without_area_and_shapes_not_read_have_none():
    objects = made([(0, 0, 0, 0, 0, 5), (0, 0, 0, 0, 5, 0), (0, 0, 0, 0, 5, 5)])
    objects.format[2] = FORMATS.index("polygon")
    assert np.isnan(hu_moments(objects)).all()


def test_each_ring_is_of_its_own_object():
    some = [
        [],
        [rectangle(0, 0, 9, 3)],
        [[], rectangle(0, 0, 7, 3), []],
        [[]],
        [[0, 0, 9, 0, 3, 3]],
    ]
    objects = made([(0, 0, 0, 0, 9, 9)] * 5, shapes=dict(enumerate(some)))
    np.testing.assert_array_equal(hu_moments(objects), [hu_of(shape) for shape in some])


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(4)
    shapes = {i: rng.random((50, 100)) < 0.3 for i in range(6)}
    shapes |= {i: [rng.uniform(0, 9, 12).tolist() for _ in range(2)] for i in range(6, 12)}
    rows = [(0, 0, 0, 0, 9, 9)] * 13
    whole = hu_moments(made(rows, shapes=shapes))
    monkeypatch.setattr(moments, "_MASKS_AT_ONCE", 4)
    monkeypatch.setattr(moments, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(density, "_CHARACTERS_AT_ONCE", 1)
    assert hu_moments(made(rows, shapes=shapes)).tolist() == whole.tolist()
    assert np.isfinite(whole).all()


# -- outliers --------------------------------------------------------------------------------------


def test_an_outlier_by_hand():
    """Of a square, a square and a long box: both moments that vary are z-scored alike."""
    objects = made([(0, 0, 0, 0, 10, 10), (0, 0, 0, 0, 20, 20), (0, 0, 0, 0, 90, 10)])
    # Two values of −1/√2 and one of √2, twice; their mean is 0.
    expected = [1 / math.sqrt(2 * 0.5)] * 2 + [1 / math.sqrt(2 * 2)]
    assert shape_outlier(objects) == pytest.approx(expected)


def test_outliers_as_plain_loops_find_them():
    rng = np.random.default_rng(6)
    n = 30
    shapes = {i: rng.random((12, 15)) < 0.5 for i in range(n - 1)}
    klass = rng.integers(0, 3, n).tolist()
    objects = made([(0, k, 0, 0, 9, 9) for k in klass], [(15, 12)], shapes=shapes)
    hu = hu_moments(objects)
    scored = (hu - hu.mean(axis=0)) / hu.std(axis=0)
    found = shape_outlier(objects)
    for i in range(n):
        mates = [scored[j] for j in range(n) if klass[j] == klass[i]]
        assert found[i] == pytest.approx(1 / math.dist(scored[i], np.mean(mates, axis=0)))


def test_no_distance_is_no_value():
    alone = made([(0, 0, 0, 0, 9, 9), (0, 1, 0, 0, 9, 4), (0, 2, 0, 0, 9, 0)])
    assert np.isnan(shape_outlier(alone)).all()
    alike = made([(0, 0, 0, 0, w, w) for w in (3, 9, 0.1, 1e6)])
    assert np.isnan(shape_outlier(alike)).all()


def test_rounding_is_no_distance():
    outline = np.array([[0, 0], [7, 1], [9, 8], [2, 5]])
    rings = [
        (outline * scale + by).ravel().tolist() for scale, by in ((1, 0.3), (3.3, 7), (0.7, 11))
    ]
    shapes = {i: [ring] for i, ring in enumerate(rings)}
    objects = made([(0, 0, 0, 0, 9, 9)] * 3, shapes=shapes)
    assert len({tuple(hu) for hu in hu_moments(objects).tolist()}) > 1
    assert np.isnan(shape_outlier(objects)).all()
    rows = [(0, 0, 0, 0, 9, 9)] * 3 + [(0, 1, 0, 0, w, 9) for w in (1, 2)]
    found = shape_outlier(made(rows, shapes=shapes))
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3:]).all()
