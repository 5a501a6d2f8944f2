"""Masks drawn from polygons and boxes, and masks as columns."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from ea_arrow import masks, rasterise
from ea_arrow.arranged import arrange
from ea_arrow.errors import GeometryError, SchemaError
from ea_arrow.geometry import Rle, encode_dense
from ea_arrow.masks import MaskColumn, Masks
from ea_arrow.pairs import Pairs
from ea_arrow.rasterise import with_masks
from ea_arrow.rle import decode_rle_string, mask_column
from ea_arrow.schema import CLASSES, DATA_UNITS, LABELS, MASK, PREDICTIONS
from tests.builders import class_table, data_units, object_classes

SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]  # columns 2 … 5, rows 1 … 3
UNITS = data_units(("a", 0, 10, 8), ("b", 0, 20, 5))


def table(*rows):
    """LABELS of (unit, columns)."""
    columns = ["label_id", "data_hash", "frame", "format"]
    values = [
        dict(zip(columns, (i, unit, 0, "polygon"), strict=True)) | more
        for i, (unit, more) in enumerate(rows)
    ]
    return pa.Table.from_pylist(values, schema=LABELS.arrow)


def polygon(*rings, unit="a"):
    return unit, {"polygon": list(rings)}


def box(x, y, w, h, unit="a", theta=None):
    sides = dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), (x, y, w, h), strict=True))
    return unit, sides | {"theta": theta}


def given_mask(pixels, unit="a"):
    return unit, {"mask": mask_column([encode_dense(pixels)])[0][0].as_py()}


def drawn(*rows, units=UNITS):
    """Return the masks of rows as dictionaries."""
    return with_masks(table(*rows), units)["mask"].to_pylist()


def pixels(mask):
    runs = decode_rle_string(mask["counts"])
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(mask["width"], mask["height"]).T


def rectangle(x, y, w, h, height=8, width=10):
    dense = np.zeros((height, width), bool)
    dense[y : y + h, x : x + w] = True
    return dense


def in_pycocotools(rings, width, height):
    return mask_utils.merge(mask_utils.frPyObjects([list(ring) for ring in rings], height, width))


# Drawing


def test_a_polygon_covers_its_pixels():
    (mask,) = drawn(polygon(SQUARE))
    np.testing.assert_array_equal(pixels(mask), rectangle(2, 1, 4, 3))
    numbers = {name: mask[name] for name in ("height", "width", "area", "x", "y", "w", "h")}
    assert numbers == {"height": 8, "width": 10, "area": 12, "x": 2, "y": 1, "w": 4, "h": 3}


def test_a_box_is_drawn_as_its_corners_on_its_own_data_unit():
    one, other = drawn(box(2, 1, 4, 3), box(2, 1, 4, 3, unit="b"))
    assert one == drawn(polygon(SQUARE))[0]
    np.testing.assert_array_equal(pixels(other), rectangle(2, 1, 4, 3, 5, 20))


def test_parts_are_merged():
    hole = [3.0, 2.0, 5.0, 2.0, 5.0, 3.0, 3.0, 3.0]
    apart = [8.0, 6.0, 10.0, 6.0, 10.0, 8.0, 8.0, 8.0]
    (mask,) = drawn(polygon(SQUARE, hole, apart))
    np.testing.assert_array_equal(pixels(mask), rectangle(2, 1, 4, 3) | rectangle(8, 6, 2, 2))


def test_a_box_turned_by_90_degrees_swaps_its_sides():
    (mask,) = drawn(box(2, 3, 6, 2, theta=90.0))  # about (5, 4)
    np.testing.assert_array_equal(pixels(mask), rectangle(4, 1, 2, 6))


def test_a_turned_box_turns_clockwise_as_y_points_down():
    """By 45° about (5, 4) the longer axis goes from the upper left to the lower right."""
    (mask,) = drawn(box(1, 3, 8, 2, theta=45.0))
    dense = pixels(mask)
    assert dense[2, 3]
    assert dense[5, 6]
    assert not dense[2, 6]
    assert not dense[5, 3]


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(-40, 80).map(lambda v: v / 8)] * 2),
    st.tuples(*[st.integers(0, 80).map(lambda v: v / 8)] * 2),
    st.sampled_from([0.0, 1.0, 30.0, -75.5, 180.0, 359.0, 1000.0]),
)
def test_a_turned_box_is_drawn_as_the_turned_polygon(corner, sides, theta):
    (x, y), (w, h) = corner, sides
    middle = complex(x + w / 2, y + h / 2)
    turn = np.exp(1j * np.deg2rad(theta))
    corners = [complex(x, y), complex(x, y + h), complex(x + w, y + h), complex(x + w, y)]
    turned = [middle + (c - middle) * turn for c in corners]
    ring = [value for point in turned for value in (point.real, point.imag)]
    upsampled = np.array(ring) * 5 + 0.5
    if theta and (np.abs(upsampled - np.round(upsampled)) < 1e-9).any():
        return  # on the edge between two pixels the last bit decides
    assert drawn(box(x, y, w, h, theta=theta)) == drawn(polygon(ring))


COORDINATE = st.one_of(
    st.integers(-40, 120).map(lambda v: v / 10), st.floats(-30, 60), st.sampled_from([0.0, 1e4])
)
RING = st.integers(1, 7).flatmap(lambda n: st.lists(COORDINATE, min_size=2 * n, max_size=2 * n))
SHAPE = st.one_of(
    st.lists(RING, min_size=1, max_size=3).map(lambda rings: {"polygon": rings}),
    st.tuples(COORDINATE, COORDINATE, *[st.integers(0, 90).map(lambda v: v / 10)] * 2).map(
        lambda sides: dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), sides, strict=True))
    ),
    st.integers(0, 3).map(lambda side: given_mask(rectangle(1, 1, side, 2))[1]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), SHAPE), max_size=12),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=3, max_size=3),
    st.sampled_from([(1024, 200), (1, 1), (2, 3)]),
)
def test_any_mixture_is_drawn_as_in_pycocotools(rows, sizes, at_once):
    units = data_units(*((str(i), 0, w, h) for i, (w, h) in enumerate(sizes)))
    labels = table(*((str(unit), shape) for unit, shape in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasterise, "_RINGS_AT_ONCE", at_once[0])
        patch.setattr(rasterise, "_AREAS_AT_ONCE", at_once[1])
        result = with_masks(labels, units)
    assert result.drop_columns("mask").equals(labels.drop_columns("mask"))
    assert result.schema == labels.schema
    for (unit, shape), mask in zip(rows, result["mask"].to_pylist(), strict=True):
        if "mask" in shape:
            assert mask == shape["mask"]
            continue
        if "polygon" in shape:
            # Their frPyObjects takes rings of up to two points for something else.
            rings = [ring if len(ring) > 4 else ring + ring[-2:] * 2 for ring in shape["polygon"]]
        else:
            x, y, w, h = shape.values()
            rings = [[x, y, x, y + h, x + w, y + h, x + w, y]]
        rle = in_pycocotools(rings, *sizes[unit])
        assert (mask["counts"], [mask["height"], mask["width"]]) == (rle["counts"], rle["size"])
        assert mask["area"] == mask_utils.area(rle)
        assert [mask[side] for side in "xywh"] == mask_utils.toBbox(rle).tolist()


def test_masks_that_are_there_stay_and_keep_their_place():
    rows = [polygon(SQUARE), given_mask(rectangle(0, 0, 1, 1, 3, 3)), box(2, 1, 4, 3),
            given_mask(rectangle(1, 1, 1, 1, 3, 3))]  # fmt: skip
    found = drawn(*rows)
    assert [mask["area"] for mask in found] == [12, 1, 12, 1]
    assert found[1] == rows[1][1]["mask"]
    assert [mask["height"] for mask in found] == [8, 3, 8, 3]


def test_a_mask_beside_a_polygon_is_taken():
    both = "a", {"polygon": [SQUARE], **given_mask(rectangle(0, 0, 1, 1))[1]}
    assert [mask["area"] for mask in drawn(both, polygon(SQUARE))] == [1, 12]


def test_a_column_in_pieces_is_drawn_like_one():
    rows = [polygon(SQUARE), box(0, 0, 3, 3), given_mask(rectangle(1, 1, 2, 2)), polygon(SQUARE)]
    whole = table(*rows)
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    assert with_masks(pieces, UNITS)["mask"].to_pylist() == drawn(*rows)
    assert with_masks(pieces.slice(2), UNITS)["mask"].to_pylist() == drawn(*rows)[2:]


def test_a_table_of_masks_alone_is_returned_as_it_is():
    labels = table(given_mask(rectangle(1, 1, 2, 2)))
    assert with_masks(labels, UNITS) is labels
    assert len(with_masks(table(), UNITS)) == 0


# What draws nothing

NOTHING = dict.fromkeys(("area", "x", "y", "w", "h"), 0)
EMPTY = [
    pytest.param(polygon(), id="no_ring"),
    pytest.param(polygon([]), id="empty_ring"),
    pytest.param(polygon([], []), id="empty_rings"),
    pytest.param(polygon([3.0, 3.0]), id="point"),
    pytest.param(polygon([1.0, 1.0, 5.0, 5.0]), id="line"),
    pytest.param(polygon([1.0, 1.0, 3.0, 3.0, 5.0, 5.0]), id="three_points_in_line"),
    pytest.param(polygon([3.1, 3.1, 3.2, 3.1, 3.1, 3.2]), id="within_a_pixel"),
    pytest.param(polygon([-9.0, 1.0, -2.0, 1.0, -2.0, 9.0]), id="left"),
    pytest.param(polygon([11.0, 1.0, 19.0, 1.0, 12.0, 9.0]), id="right"),
    pytest.param(polygon([1.0, -9.0, 9.0, -9.0, 5.0, -1.0]), id="above"),
    pytest.param(polygon([1.0, 9.0, 9.0, 9.0, 5.0, 19.0]), id="below"),
    pytest.param(box(3, 3, 0, 0), id="box_without_size"),
    pytest.param(box(3, 0, 0, 8), id="box_without_width"),
]


@pytest.mark.parametrize("row", EMPTY)
def test_what_covers_no_pixel_is_an_empty_mask(row):
    empty = {"height": 8, "width": 10} | NOTHING
    background = mask_utils.encode(np.asfortranarray(np.zeros((8, 10), np.uint8)))["counts"]
    square = drawn(polygon(SQUARE))[0]
    assert drawn(row) == [empty | {"counts": background}]
    assert drawn(polygon(SQUARE), row, polygon(SQUARE)) == [square, *drawn(row), square]
    assert drawn(row, polygon(SQUARE), row) == [*drawn(row), square, *drawn(row)]


@pytest.mark.parametrize("size", [(0, 8), (10, 0), (0, 0)])
def test_on_a_data_unit_without_pixels_every_mask_is_empty(size):
    """pycocotools writes beyond its memory there, so it must not be asked."""
    units = data_units(("a", 0, *size), ("b", 0, 20, 5))
    found = drawn(polygon(SQUARE), polygon(SQUARE, SQUARE), box(-2, -2, 9, 9),
                  polygon(SQUARE, unit="b"), units=units)  # fmt: skip
    empty = {"height": size[1], "width": size[0], "counts": b"0"} | NOTHING
    assert found[:3] == [empty] * 3
    assert found[3]["area"] == 12


# What is refused


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (polygon(SQUARE, [0.0, 0.0, 2e6, 0.0, 2e6, 5.0]), "has a corner at 2e\\+06"),
        (polygon([0.0, 0.0, 1.0, float("nan"), 2.0, 5.0]), "has a corner at nan"),
        (polygon([0.0, 0.0, 1.0, float("-inf"), 2.0, 5.0]), "has a corner at -inf"),
        (polygon([-1e6, 0.0, 1e6, 0.0] * 20), "points; at most"),
        (box(1e300, 0, 1, 1), "has a corner at 1e\\+300"),
        (box(0, 0, 1, 1e9), "has a corner at 1e\\+09"),
        (polygon([0.0, 0.0, 1.0, 0.0, 1.0]), "half a point"),
        (polygon([0.0, 0.0, None, 0.0, 1.0, 1.0]), "holds nulls"),
        (polygon(None, SQUARE), "holds nulls"),
        (("a", {}), "has a corner at nan"),
    ],
)
def test_outlines_that_cannot_be_drawn_are_refused(row, message):
    with pytest.raises(GeometryError, match=message):
        drawn(polygon(SQUARE), row, polygon(SQUARE))


def test_the_message_says_which_outline():
    far = polygon(SQUARE, [0.0, 0.0, 2e6, 0.0, 2e6, 5.0])
    with pytest.raises(GeometryError, match="label_id 2 "):
        drawn(polygon(SQUARE, SQUARE), box(0, 0, 1, 1), far, polygon(SQUARE))
    long = polygon(SQUARE, [-1e6, 0.0, 1e6, 0.0] * 20)
    with pytest.raises(GeometryError, match="label_id 1 "):
        drawn(polygon(SQUARE, SQUARE), long, polygon(SQUARE))
    with pytest.raises(GeometryError, match="label_id 1 "):
        drawn(polygon(SQUARE), polygon([], [1.0]))


def test_many_short_outlines_together_are_not_too_long(monkeypatch):
    monkeypatch.setattr(rasterise, "_LONGEST", 60)  # around SQUARE: 4 + 3 + 4 pixels, fivefold
    assert len(drawn(*[polygon(SQUARE, [], SQUARE)] * 9, polygon([]), polygon(SQUARE))) == 11
    monkeypatch.setattr(rasterise, "_LONGEST", 54)
    with pytest.raises(GeometryError, match="outline of 55 points"):
        drawn(polygon(SQUARE))


@pytest.mark.parametrize("size", [(200_000, 200_000), (2**20, 2**9), (-5, 10), (10, -5)])
def test_data_units_too_large_to_draw_on_are_refused(size):
    units = data_units(("a", 0, *size), ("b", 0, 20, 5))
    with pytest.raises(GeometryError, match="at most 268,435,456 can be drawn on"):
        drawn(polygon(SQUARE, SQUARE), units=units)
    assert drawn(polygon(SQUARE, unit="b"), units=units)[0]["area"] == 12


def test_a_data_unit_may_be_as_large_as_a_mask():
    (mask,) = drawn(polygon(SQUARE, SQUARE), units=data_units(("a", 0, 2**26, 4)))
    assert (mask["area"], mask["width"]) == (12, 2**26)


def test_an_unknown_data_unit_is_refused():
    with pytest.raises(SchemaError, match="'c' frame 0"):
        drawn(polygon(SQUARE, unit="c"))


# Masks as columns


def column(*shapes):
    return pa.chunked_array([mask_column(list(shapes))[0]], MASK)


def test_a_column_knows_sizes_areas_and_boxes():
    shapes = [encode_dense(rectangle(1, 2, 3, 4)), encode_dense(rectangle(0, 0, 0, 0, 5, 6))]
    pieces = pa.chunked_array([column(*shapes).chunk(0).slice(i, 1) for i in (0, 1)])
    for masks_of in (MaskColumn.of(column(*shapes)), MaskColumn.of(pieces)):
        assert masks_of.height.tolist() == [8, 5]
        assert masks_of.width.tolist() == [10, 6]
        assert masks_of.area.tolist() == [12, 0]
        assert masks_of.box.tolist() == [[1, 0], [2, 0], [3, 0], [4, 0]]
        counts = [value.as_py() for part in masks_of.counts() for value in part]
        assert counts == column(*shapes).chunk(0).field("counts").to_pylist()
    nothing = MaskColumn.of(pa.chunked_array([], MASK))
    assert nothing.box.shape == (4, 0)
    assert list(nothing.counts()) == []


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_values_of_binary_in_pieces_are_sliced(kind):
    values = [b"", b"a", b"bc", b"", b"def", b"g"]
    parts = [pa.array([b"not this", *values[:2]], kind).slice(1), pa.array([], kind),
             pa.array(values[2:], kind)]  # fmt: skip
    counts = pa.chunked_array(parts)
    assert masks._slices(counts, np.arange(6)) == values
    assert masks._slices(counts, np.array([5, 0, 2, 2])) == [b"g", b"", b"bc", b"bc"]
    assert masks._slices(counts, np.array([4, 2])) == [b"def", b"bc"]
    assert masks._slices(counts, np.zeros(0, np.int64)) == []
    only_empty = pa.chunked_array([pa.array([b"", b""], kind)])
    assert masks._slices(only_empty, np.array([1, 0])) == [b"", b""]


def side(spec, key, shapes, **more):
    """A table of objects of one class on one data unit, with masks."""
    rows = [{key: i, "data_hash": "a", "frame": 0, "format": "mask"} for i in range(len(shapes))]
    rows = [row | {"feature_hash": "cat", "area": 1.0} | more for row in rows]
    made = pa.Table.from_pylist(rows, schema=spec.arrow)
    return made.set_column(made.schema.get_field_index("mask"), "mask", column(*shapes))


def compared(predictions, labels, crowd=False):
    """Return Masks, with every pair and its bound."""
    found = side(PREDICTIONS, "prediction_id", predictions, confidence=0.5)
    truth = side(LABELS, "label_id", labels, is_crowd=crowd, is_ignored=False)
    classes = class_table(object_classes(("cat", "bitmask", "1")))
    assert classes.schema == CLASSES.arrow
    assert UNITS.schema == DATA_UNITS.arrow
    shapes = Masks(
        arrange(found, truth, UNITS, classes),
        MaskColumn.of(found["mask"]),
        MaskColumn.of(truth["mask"]),
    )
    prediction, label = (i.ravel() for i in np.indices((len(predictions), len(labels))))
    return shapes, Pairs(prediction, label, shapes.bounds(prediction, label))


def test_ious_by_hand():
    shapes, pairs = compared(
        [encode_dense(rectangle(0, 0, 4, 4)), encode_dense(np.indices((8, 10)).sum(0) % 2 == 0)],
        [encode_dense(rectangle(0, 0, 4, 2)), encode_dense(rectangle(4, 4, 4, 4))],
    )
    assert pairs.iou.tolist() == [8 / 16, 0, 8 / 40, 16 / 40]
    assert shapes.exact(pairs).tolist() == [8 / 16, 0, 4 / 44, 8 / 48]


def test_ious_with_crowds_by_hand():
    shapes, pairs = compared(
        [encode_dense(rectangle(0, 0, 4, 4)), encode_dense(rectangle(0, 0, 0, 0))],
        [encode_dense(rectangle(0, 0, 3, 8)), encode_dense(rectangle(4, 4, 4, 4))],
        crowd=True,
    )
    assert pairs.iou.tolist() == [12 / 16, 0, 0, 0]
    assert shapes.exact(pairs).tolist() == [12 / 16, 0, 0, 0]


def test_masks_of_other_sizes_have_no_iou():
    one, turned = encode_dense(rectangle(0, 0, 4, 4)), encode_dense(rectangle(0, 0, 4, 4, 10, 8))
    shapes, pairs = compared([one, turned], [one, turned])
    assert pairs.iou.tolist() == [1, 0, 0, 1]
    assert (shapes.exact(pairs) > 0).tolist() == [True, False, False, True]


def test_only_pairs_asked_for_are_compared():
    shape = encode_dense(rectangle(0, 0, 4, 4))
    shapes, pairs = compared([shape] * 3, [shape] * 3)
    some = pairs.take(np.array([1, 2, 7]))
    assert shapes.exact(some).tolist() == [1, 1, 1]
    assert shapes.exact(pairs.take(np.zeros(0, np.int64))).tolist() == []


def test_counts_are_read_again_for_each_use_and_in_parts(monkeypatch):
    shape = encode_dense(rectangle(0, 0, 4, 4))
    shapes, pairs = compared([shape] * 4, [shape] * 2)
    reads = []
    counts = column(*[shape] * 4).chunk(0).field("counts")

    def parts():
        reads.append("once")
        yield counts.slice(0, 1)
        yield counts.slice(1, 0)
        yield counts.slice(1)

    given_apart = MaskColumn.of(column(*[shape] * 4), parts)
    shapes = Masks(shapes._arranged, given_apart, shapes._labels)
    monkeypatch.setattr(masks, "_BYTES_AT_ONCE", 1)
    for _ in range(2):
        assert shapes.exact(pairs).tolist() == [1] * 8
    assert len(reads) == 2


def test_a_call_of_c_compares_whole_groups():
    key = np.array([0, 0, 0, 4, 4, 7, 9, 9, 9, 9, 9, 9])
    assert masks._calls(key, 4) == [(0, 5), (5, 12)]
    assert masks._calls(key, 1) == [(0, 3), (3, 5), (5, 6), (6, 12)]
    assert masks._calls(key, 99) == [(0, 12)]


def test_groups_of_a_call_differ_in_width_so_that_c_skips_what_lies_across():
    one = MaskColumn.of(column(*[encode_dense(rectangle(0, 0, 4, 4))] * 3))
    tagged = masks._dictionaries(one, np.arange(3), [b"a", b"b", b"c"], np.array([0, 11, 22]))
    assert [(mask["size"], mask["counts"]) for mask in tagged] == [
        ((8, 10), b"a"), ((8, 21), b"b"), ((8, 32), b"c")
    ]  # fmt: skip


def test_a_full_mask_and_an_empty_one_share_nothing():
    shapes, pairs = compared([Rle(2, 2, np.array([0, 4]))], [Rle(2, 2, np.array([4]))])
    assert shapes.exact(pairs).tolist() == [0]
