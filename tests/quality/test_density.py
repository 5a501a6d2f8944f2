"""How much of a frame its objects cover together."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from ea_arrow.quality import density
from ea_arrow.quality.density import drawn, frame_object_density
from ea_arrow.schema import FORMATS
from tests.quality.test_geometry import SIZE, box_rows, dense, made, rectangle


def test_by_hand():
    rows = [
        (0, 0, 0, 0, 10, 10),
        (0, 1, 5, 5, 10, 10),  # 25 pixels twice, whatever the class
        (2, 0, 0, 0, 100, 50),
        (2, 0, 10, 10, 5, 5),
        (3, 0, 90, 40, 20, 20),  # a quarter of it in the image
        (3, 0, 200, 200, 20, 20),
    ]
    objects = made(rows, [SIZE] * 4)
    assert frame_object_density(objects).tolist() == [3.5, 0, 100, 2]


def test_an_image_without_pixels_has_none():
    found = frame_object_density(made([(0, 0, 0, 0, 5, 5)], [(0, 0), SIZE]))
    assert np.isnan(found[0])
    assert found[1] == 0


@given(box_rows, st.sampled_from([1, 40, 1 << 18]))
def test_boxes_as_shapely_unites_them(rows, at_once):
    objects = made(rows, [SIZE] * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density, "_CELLS_AT_ONCE", at_once)
        found = frame_object_density(objects)
    for unit in range(3):
        boxes = [shapely.box(x, y, x + w, y + h) for u, _, x, y, w, h in rows if u == unit]
        union = shapely.union_all(boxes).intersection(shapely.box(0, 0, *SIZE))
        assert found[unit] == pytest.approx(union.area / 50, abs=1e-9)


def test_many_boxes_in_one_frame():
    rng = np.random.default_rng(1)
    for n in (17, 33, 300):
        boxes = np.concatenate([rng.uniform(-5, 95, (n, 2)), rng.uniform(0, 15, (n, 2))], axis=1)
        x, y, w, h = boxes.T
        union = shapely.union_all(shapely.box(x, y, x + w, y + h))
        expected = union.intersection(shapely.box(0, 0, *SIZE)).area / 50
        rows = [(0, 0, *box) for box in boxes.tolist()]
        found = frame_object_density(made([*rows, (1, 0, 0, 0, 100, 50)], [SIZE] * 2))
        assert found.tolist() == pytest.approx([expected, 100])


def test_masks_are_whole():
    """Encord Active counted the largest part only."""
    objects = made([(0, 0, 0, 0, 60, 10)], shapes={0: dense((0, 0, 10, 10), (50, 0, 10, 5))})
    assert frame_object_density(objects)[0] == 3


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_masks_as_pixels_unite_them(monkeypatch, at_once):
    monkeypatch.setattr(density, "_CHARACTERS_AT_ONCE", at_once)
    monkeypatch.setattr(density, "_DRAWN_AT_ONCE", min(at_once, 1 << 13))
    rng = np.random.default_rng(2)
    sizes = [(7, 5), (4, 9), (6, 6), (3, 3)]
    units = [3, 0, 1, 1, 0, 1, 0, 0]
    masks = [rng.random(sizes[unit][::-1]) < rng.choice([0.1, 0.6, 1]) for unit in units]
    objects = made(
        [(unit, i % 2, 0, 0, 3, 3) for i, unit in enumerate(units)],
        sizes,
        shapes=dict(enumerate(masks)),
    )
    found = frame_object_density(objects)
    for unit in range(4):
        mine = [mask for mask, u in zip(masks, units, strict=True) if u == unit]
        assert found[unit] == pytest.approx(100 * np.any(mine, axis=0).mean() if mine else 0)


def test_with_a_mask_or_polygon_all_is_counted_in_pixels():
    rows = [(0, 0, 0, 0, 10.4, 10), (0, 0, 5, 5, 12, 12), (0, 0, 50, 20, 20, 20)]
    shapes = {1: [[5.0, 5.0, 17.0, 5.0, 11.0, 17.0]]}
    rings = [[0, 0, 0, 10, 10.4, 10, 10.4, 0], shapes[1][0], rectangle(50, 20, 20, 20)]
    union = coco_mask.merge(coco_mask.frPyObjects(rings, 50, 100))
    found = frame_object_density(made(rows, shapes=shapes))
    assert found[0] == pytest.approx(coco_mask.area(union) / 50)


def test_a_rotated_box_is_drawn_rotated():
    found = frame_object_density(made([(0, 0, 40, 20, 20, 10)], theta={0: 90}))
    assert found[0] == pytest.approx(4, abs=0.1)
    sticking_out = frame_object_density(made([(0, 0, 40, 20, 80, 2)], theta={0: 90}))
    assert sticking_out[0] == pytest.approx(2, abs=0.1)


def test_what_cannot_be_drawn_costs_its_data_unit_only():
    far = [[0.0, 0.0, 2.0**21, 0.0, 2.0**21, 10.0]]
    long = [[0.0, 0.0, 1e6, 10.0] * 40]
    rows = [
        (0, 0, 0, 0, 2**21, 10),
        (1, 0, 0, 0, 10, 10),
        (1, 0, 0, 0, 10, 10),
        (2, 0, 0, 0, 1e6, 10),
        (3, 0, 0, 0, 10, 10),
        (4, 0, 0, 0, 10, 10),
    ]
    shapes = {0: far, 1: dense((0, 0, 10, 10)), 3: long, 4: [rectangle(0, 0, 10, 10)]}
    objects = made(rows, [SIZE] * 5, shapes=shapes)
    found = frame_object_density(objects)
    assert np.isnan(found).tolist() == [True, False, True, False, False]
    assert found[[1, 3, 4]].tolist() == [2, 2, 2]
    masks, is_drawn = drawn(objects, np.array([0, 4, 3, 1]))
    assert is_drawn.tolist() == [False, True, False, True]
    assert masks.field("area").to_pylist() == [0, 100, 0, 100]


def test_what_was_not_read_is_unknown():
    objects = made([(0, 0, 0, 0, 10, 10), (1, 0, 0, 0, 10, 10)], [SIZE] * 2)
    objects.format[0] = FORMATS.index("mask")
    found = frame_object_density(objects)
    assert np.isnan(found[0])
    assert found[1] == 2
    masks, is_drawn = drawn(objects, np.array([1, 0]))
    assert is_drawn.tolist() == [True, False]
    assert masks.field("area").to_pylist() == [100, 0]


@pytest.mark.parametrize("size", [(100, 40), (90, 50)])
def test_a_mask_of_another_size_is_unknown(size):
    objects = made([(0, 0, 0, 0, 5, 5)], [size], shapes={0: dense((0, 0, 5, 5))})
    assert np.isnan(frame_object_density(objects)).all()
