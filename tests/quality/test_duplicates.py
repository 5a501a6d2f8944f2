"""The highest IoU with another object of the class, and which object that is."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from ea_arrow.quality import density, duplicates, geometry
from ea_arrow.quality.duplicates import duplicate_partners, object_duplicates
from tests.quality.test_geometry import SIZE, box_rows, dense, made, rectangle


def both(objects):
    return object_duplicates(objects).tolist(), duplicate_partners(objects).tolist()


def test_by_hand():
    rows = [
        (0, 0, 0, 0, 10, 10),
        (0, 0, 5, 0, 10, 10),  # 50 of 150 with the first
        (0, 0, 14, 0, 10, 10),  # 10 of 190 with the second
        (0, 0, 60, 0, 10, 10),  # alone
        (0, 1, 0, 0, 10, 10),  # the first again, of another class
        (1, 0, 0, 0, 10, 10),  # and in another data unit
    ]
    iou, partner = both(made(rows, [SIZE] * 2, ids=[10, 11, 12, 13, 14, 15]))
    assert iou == pytest.approx([1 / 3, 1 / 3, 1 / 19, 0, 0, 0])
    assert partner == [11, 10, 11, -1, -1, -1]


def test_both_objects_keep_their_partner():
    """Encord Active lost the second of two duplicates."""
    assert both(made([(0, 0, 3, 3, 9, 9)] * 2, ids=[7, 4])) == ([1, 1], [4, 7])


def test_of_equal_ious_the_partner_of_lowest_id_counts():
    objects = made([(0, 0, 3, 3, 9, 9)] * 3, ids=[7, 4, 9])
    assert duplicate_partners(objects).tolist() == [4, 7, 4]


def test_touching_is_not_overlapping():
    assert both(made([(0, 0, 0, 0, 9, 9), (0, 0, 9, 0, 9, 9)])) == ([0, 0], [-1, -1])


def test_masks_are_whole():
    """Encord Active compared the largest part only: here those lie apart."""
    shapes = {
        0: dense((0, 0, 10, 10), (40, 0, 5, 5)),
        1: dense((20, 0, 10, 10), (40, 0, 5, 5)),
    }
    rows = [(0, 0, 0, 0, 45, 10), (0, 0, 20, 0, 25, 10)]
    assert both(made(rows, shapes=shapes)) == (pytest.approx([25 / 225] * 2), [1, 0])


def test_polygons_are_compared_by_pixels_with_all_parts():
    shapes = {
        0: [rectangle(0, 0, 10, 10), rectangle(40, 0, 5, 5)],
        1: dense((20, 0, 10, 10), (40, 0, 5, 5)),
    }
    drawn = coco_mask.merge(coco_mask.frPyObjects(shapes[0], 50, 100))
    truth = coco_mask.encode(np.asfortranarray(shapes[1].astype(np.uint8)))
    expected = coco_mask.iou([drawn], [truth], [0])[0, 0]
    rows = [(0, 0, 0, 0, 45, 10), (0, 0, 20, 0, 25, 10)]
    assert both(made(rows, shapes=shapes)) == ([expected] * 2, [1, 0])
    assert 0.1 < expected < 0.12


def test_a_mask_and_a_box_are_compared_by_boxes():
    shapes = {0: dense((0, 0, 10, 10), (40, 0, 10, 10))}
    rows = [(0, 0, 0, 0, 50, 10), (0, 0, 0, 0, 25, 10)]
    assert both(made(rows, shapes=shapes)) == ([0.5, 0.5], [1, 0])


def test_masks_whose_boxes_overlap_need_not():
    shapes = {0: dense((0, 0, 20, 1), (0, 0, 1, 20)), 1: dense((5, 5, 10, 10))}
    rows = [(0, 0, 0, 0, 20, 20), (0, 0, 5, 5, 10, 10)]
    assert both(made(rows, shapes=shapes)) == ([0, 0], [-1, -1])


def test_rotated_boxes_are_compared_by_pixels():
    rows = [(0, 0, 20, 20, 20, 4), (0, 0, 20, 20, 20, 4)]
    iou, partner = both(made(rows, theta={0: 90, 1: 0.001}))
    assert partner == [1, 0]
    assert iou[0] == pytest.approx(16 / 144, abs=0.02)
    assert both(made(rows, theta={0: 180}))[0] == pytest.approx([1, 1])  # with a box: by boxes


def test_what_cannot_be_drawn_is_compared_by_its_box():
    far = [[0.0, 0.0, 2.0**21, 0.0, 2.0**21, 10.0, 0.0, 10.0]]
    long = [[0.0, 0.0, 1e6, 10.0] * 40]
    rows = [
        (0, 0, 0, 0, 2**21, 10),
        (0, 0, 0, 0, 2**20, 10),
        (1, 0, 0, 0, 1e6, 10),
        (1, 0, 0, 0, 1e6, 10),
        (1, 1, 0, 0, 10, 10),
        (1, 1, 0, 0, 10, 5),
    ]
    shapes = {0: far, 1: [rectangle(0, 0, 2**20, 10)], 2: long, 3: long}
    shapes |= {4: dense((0, 0, 10, 10)), 5: dense((0, 0, 10, 5))}
    iou, partner = both(made(rows, [SIZE] * 2, shapes=shapes))
    assert iou == [0.5, 0.5, 1, 1, 0.5, 0.5]
    assert partner == [1, 0, 3, 2, 5, 4]


def reference(objects, shapes):
    """Every pair, one at a time."""
    best = [(0.0, -1)] * len(objects)
    for i in range(len(objects)):
        for j in range(len(objects)):
            same = objects.unit[i] == objects.unit[j] and objects.klass[i] == objects.klass[j]
            if i == j or not same:
                continue
            iou = compared(shapes[i], shapes[j])
            if iou > best[i][0] + 1e-12:
                best[i] = (iou, int(objects.ids[j]))
    return best


def compared(one, other):
    if isinstance(one, np.ndarray):
        union = (one | other).sum()
        return (one & other).sum() / union if union else 0.0
    union = one.union(other).area
    return one.intersection(other).area / union if union else 0.0


@given(box_rows, st.sampled_from([2, 1 << 17]))
def test_boxes_as_shapely_compares_them(rows, at_once):
    objects = made(rows, [SIZE] * 3)
    expected = reference(objects, [shapely.box(x, y, x + w, y + h) for *_, x, y, w, h in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "OBJECTS_AT_ONCE", at_once)
        iou, partner = both(objects)
    assert iou == pytest.approx([value for value, _ in expected])
    close = [value > 0 for value, _ in expected]
    assert [p >= 0 for p in partner] == close
    ties = [sum(abs(v - value) < 1e-9 for v, _ in expected) for value, _ in expected]
    assert all(p == mate or n > 2 for p, (_, mate), n in zip(partner, expected, ties, strict=True))


def test_masks_as_pixels_compare_them(monkeypatch):
    rng = np.random.default_rng(5)
    for at_once in (3, 1 << 16):
        monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", at_once)
        monkeypatch.setattr(density, "_DRAWN_AT_ONCE", at_once)
        corner, span = rng.integers(0, 20, (40, 2)), rng.integers(1, 15, (40, 2))
        masks = [
            dense((*c, *s)) & (rng.random(SIZE[::-1]) < 0.7)
            for c, s in zip(corner.tolist(), span.tolist(), strict=True)
        ]
        rows = [
            (i % 3, i % 2, *c, *s)
            for i, (c, s) in enumerate(zip(corner.tolist(), span.tolist(), strict=True))
        ]
        objects = made(rows, [SIZE] * 3, shapes=dict(enumerate(masks)))
        expected = reference(objects, masks)
        iou, partner = both(objects)
        assert iou == pytest.approx([value for value, _ in expected])
        assert partner == [mate for _, mate in expected]
        assert max(iou) > 0.2
