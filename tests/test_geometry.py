"""Masks and polygons in bulk agree with pycocotools and with plain Python, mask by mask."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import (
    MAX_MASK_PIXELS,
    Rle,
    check_mask_size,
    encode_dense,
    polygon_areas_and_boxes,
    polygon_column,
    row_major_to_rle,
)
from ea_arrow.rle import (
    areas_and_boxes,
    compressed_column,
    decode_rle_string,
    decode_rle_strings,
    encode_rle_strings,
    mask_column,
)
from ea_arrow.schema import MASK, POLYGON

# -- oracles ---------------------------------------------------------------------------------------


def runs_of(pixels: np.ndarray) -> list[int]:
    """Run lengths of a mask in column-major order, background first."""
    column_major = [bool(v) for v in np.asarray(pixels).flatten(order="F")]
    runs = [(value, len(list(group))) for value, group in itertools.groupby(column_major)]
    if runs and runs[0][0]:
        runs.insert(0, (False, 0))
    return [length for _, length in runs]


def coco_rle(pixels: np.ndarray) -> dict[str, Any]:
    return coco.encode(np.asfortranarray(np.asarray(pixels) != 0).astype(np.uint8))


def coco_row(rle: dict[str, Any]) -> dict[str, Any]:
    """The mask column's row; one mask at a time, for coco.area overflows on lists over 255."""
    height, width = rle["size"]
    box = dict(zip("xywh", map(int, coco.toBbox(rle)), strict=True))
    size = {"height": height, "width": width, "counts": rle["counts"]}
    return size | {"area": int(coco.area(rle))} | box


# -- masks -----------------------------------------------------------------------------------------


@st.composite
def masks(draw, max_side: int = 24) -> np.ndarray:
    height = draw(st.integers(1, max_side))
    width = draw(st.integers(1, max_side))
    style = draw(st.sampled_from(["empty", "full", "noise", "sparse", "rectangle", "pixel"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = np.zeros((height, width), dtype=np.uint8)
    if style == "full":
        pixels[:] = 1
    elif style == "noise":
        pixels = random.integers(0, 2, (height, width)).astype(np.uint8)
    elif style == "sparse":
        pixels = (random.random((height, width)) < 0.05).astype(np.uint8)
    elif style == "rectangle":
        top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
        pixels[top : draw(st.integers(0, height)), left : draw(st.integers(0, width))] = 1
    elif style == "pixel":
        pixels[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = 1
    return pixels


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every second row": lambda pixels: np.repeat(pixels, 2, axis=0)[::2],
    "every second column": lambda pixels: np.repeat(pixels, 2, axis=1)[:, ::2],
    "upside down": lambda pixels: pixels[::-1].copy()[::-1],
    "transposed twice": lambda pixels: np.asfortranarray(pixels.T).T,
    "a window": lambda pixels: np.pad(pixels, 3, constant_values=1)[3:-3, 3:-3],
    "read-only": lambda pixels: np.frombuffer(pixels.tobytes(), pixels.dtype).reshape(pixels.shape),
}
VALUES = {
    "bool": lambda pixels: pixels.astype(bool),
    "int8": lambda pixels: pixels.astype(np.int8),
    "0 and 255": lambda pixels: pixels * np.uint8(255),
    "int64": lambda pixels: pixels.astype(np.int64),
    "int64 beyond 8 bits": lambda pixels: pixels.astype(np.int64) * 256,
    "big-endian": lambda pixels: pixels.astype(">u2"),
    "float32": lambda pixels: pixels.astype(np.float32),
    "fractions": lambda pixels: pixels * 0.5,
}


@given(masks(), st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(VALUES)))
def test_encode_dense(pixels, layout, values):
    made = encode_dense(LAYOUTS[layout](VALUES[values](pixels)))
    assert (made.height, made.width) == pixels.shape
    assert made.counts.tolist() == runs_of(pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (8, 8), (7, 9), (480, 640)])
@pytest.mark.parametrize("fill", [0, 1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_encode_uniform(shape, fill, order):
    counts = encode_dense(np.full(shape, fill, dtype=np.uint8, order=order)).counts
    pixels = shape[0] * shape[1]
    assert counts.tolist() == ([0, pixels] if fill else [pixels])


def test_every_mask_of_three_by_three():
    for bits in itertools.product([0, 1], repeat=9):
        pixels = np.array(bits, dtype=np.uint8).reshape(3, 3)
        assert encode_dense(pixels).counts.tolist() == runs_of(pixels)
        assert encode_dense(np.asfortranarray(pixels)).counts.tolist() == runs_of(pixels)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_encode_nothing(shape):
    height, width, counts = encode_dense(np.zeros(shape, dtype=np.uint8))
    assert (height, width, counts.tolist()) == (*shape, [])


@pytest.mark.parametrize("shape", [(), (4,), (2, 2, 2)])
def test_only_two_dimensions(shape):
    with pytest.raises(GeometryError, match=f"this one has {len(shape)}"):
        encode_dense(np.zeros(shape))


def test_sizes_are_checked_before_memory_is_taken():
    check_mask_size(2**14, 2**14)
    wide = np.broadcast_to(np.uint8(1), (1, MAX_MASK_PIXELS + 1))
    with pytest.raises(GeometryError, match=r"1 × 268435457 pixels is out of range"):
        encode_dense(wide)
    for size in [(-1, 5), (5, -1), (2**20, 2**20)]:
        with pytest.raises(GeometryError, match="out of range"):
            row_major_to_rle(*size, np.array([1]))


@given(masks())
def test_row_major(pixels):
    made = row_major_to_rle(*pixels.shape, np.array(runs_of(pixels.T), dtype=np.int64))
    assert (made.height, made.width) == pixels.shape
    assert made.counts.tolist() == runs_of(pixels)


@pytest.mark.parametrize("runs", [[5], [3, 4], [-1, 7], [], [2, -2, 6]])
def test_row_major_runs_cover_the_mask(runs):
    with pytest.raises(GeometryError, match=r"expected 2 × 3"):
        row_major_to_rle(2, 3, np.array(runs, dtype=np.int64))


# -- COCO's compressed strings ---------------------------------------------------------------------


@given(st.lists(masks(), min_size=1, max_size=6))
def test_strings_are_those_of_coco(made):
    runs = [encode_dense(pixels).counts for pixels in made]
    counts = np.array([r.size for r in runs])
    data, lengths = encode_rle_strings(np.concatenate(runs), counts)
    ends = np.cumsum(lengths)
    strings = [data[end - n : end].tobytes() for end, n in zip(ends, lengths, strict=True)]
    assert strings == [coco_rle(pixels)["counts"] for pixels in made]
    decoded, sizes, broken = decode_rle_strings(strings)
    assert not broken
    np.testing.assert_array_equal(decoded, np.concatenate(runs))
    np.testing.assert_array_equal(sizes, counts)
    for string, expected in zip(strings, runs, strict=True):
        np.testing.assert_array_equal(decode_rle_string(string), expected)


@given(st.lists(st.lists(st.integers(0, MAX_MASK_PIXELS), max_size=12), max_size=6))
def test_strings_of_any_runs_come_back(lists):
    """Also with masks that have no runs among them, and runs of any size."""
    counts = np.array([len(runs) for runs in lists], dtype=np.int64)
    flat = np.array([run for runs in lists for run in runs], dtype=np.int64)
    data, lengths = encode_rle_strings(flat, counts)
    assert lengths.sum() == data.size
    ends = np.cumsum(lengths)
    strings = [data[end - n : end].tobytes() for end, n in zip(ends, lengths, strict=True)]
    decoded, sizes, broken = decode_rle_strings(strings)
    assert not broken
    assert decoded.tolist() == flat.tolist()
    assert sizes.tolist() == counts.tolist()


GOOD, GOOD_RUNS = b"52203", [5, 2, 2, 2, 5]


@pytest.mark.parametrize(
    "bad",
    [
        b"5220P",  # its last number goes on
        b"52 03",  # below the characters used
        b"52203\x00",
        b"5220p",  # above them
        b"52203\xff",
        b"PPPPPPP1",  # a number of eight digits
        b"N",  # a negative run
        b"111N",  # negative once the run before last is added
    ],
)
def test_malformed_strings(bad):
    with pytest.raises(GeometryError, match="RLE string"):
        decode_rle_string(bad)
    runs, counts, broken = decode_rle_strings([GOOD, bad, b"", bad, GOOD])
    assert sorted(broken) == [1, 3]
    kept = [runs[end - n : end].tolist() for end, n in zip(np.cumsum(counts), counts, strict=True)]
    assert (kept[0], kept[2], kept[4]) == (GOOD_RUNS, [], GOOD_RUNS)


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_any_bytes_are_decoded_or_refused(strings):
    runs, counts, broken = decode_rle_strings(strings)
    assert counts.size == len(strings)
    assert counts.sum() == runs.size
    column, why = mask_column([Rle(3, 4, string) for string in strings])
    assert broken.keys() <= why.keys()
    assert [row is None for row in column.to_pylist()] == [i in why for i in range(len(strings))]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([3, 2, 2**40, -3]),
            st.sampled_from([GOOD, b"", b"<", b"0<", b"1;0", b"60", b"l0", b"PPPPPPP1"])
            | st.binary(max_size=9),
        )
    ),
    st.integers(0, 3),
    st.sampled_from([1, 20, 1 << 17]),
)
def test_columns_give_the_masks_that_rows_give(given_, skipped, block):
    shapes = np.array([height for height, _ in given_], np.int64), np.full(len(given_), 4)
    strings = pa.array([string for _, string in given_] + [b"no", b"mask"], pa.binary())
    strings = pa.concat_arrays([strings.slice(len(given_)), strings]).slice(2, len(given_))
    skipped = min(skipped, len(given_))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ea_arrow.rle._BLOCK", block)
        column, broken = compressed_column(
            *(side[skipped:] for side in shapes), strings.slice(skipped)
        )
    rows = [Rle(height, 4, string) for height, string in given_[skipped:]]
    expected, why = mask_column(rows)
    column.validate(full=True)
    assert column.equals(expected)
    assert broken == why
    for row, rle in zip(column.to_pylist(), rows, strict=True):
        if row is not None:
            assert row == coco_row({"size": [rle.height, rle.width], "counts": row["counts"]})


@given(st.lists(st.text("0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmno")))
def test_numbers_decode_as_in_plain_python(strings):
    def plain(string: str) -> list[int] | None:
        runs: list[int] = []
        number, shift = 0, 0
        for character in string:
            code = ord(character) - 48
            number |= (code & 31) << shift
            shift += 5
            if code & 32:
                continue
            number -= (1 << shift) if code & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            if shift > 35 or runs[-1] < 0:
                return None
            number, shift = 0, 0
        return None if shift else runs

    expected = [plain(string) for string in strings]
    runs, counts, broken = decode_rle_strings([string.encode() for string in strings])
    assert sorted(broken) == [i for i, found in enumerate(expected) if found is None]
    for end, count, found in zip(np.cumsum(counts), counts, expected, strict=True):
        if found is not None:
            assert runs[end - count : end].tolist() == found


# -- columns of masks ------------------------------------------------------------------------------


@given(st.lists(st.tuples(masks(), st.sampled_from(["none", "runs", "string"])), max_size=8))
def test_mask_column(made):
    given_, expected = [], []
    for pixels, kind in made:
        rle = coco_rle(pixels)
        counts = rle["counts"] if kind == "string" else np.array(runs_of(pixels))
        given_.append(None if kind == "none" else Rle(*pixels.shape, counts))
        expected.append(None if kind == "none" else coco_row(rle))
    column, broken = mask_column(given_)
    column.validate(full=True)
    assert (column.type, broken) == (MASK, {})
    assert column.to_pylist() == expected


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Rle(2, 3, b"N"), "negative run"),
        (Rle(2, 3, np.array([7, -1])), "negative run"),
        (Rle(2, 3, b"5"), "runs cover 5 pixels; its size is 2 × 3"),
        (Rle(2, 3, np.array([2, 2])), "runs cover 4 pixels; its size is 2 × 3"),
        (Rle(2, 3, b"\xff"), "not COCO's compressed format"),
        (Rle(-2, -3, b"6"), "its size is -2 × -3"),
        (Rle(2**20, 2**20, b"6"), "its size is 1048576 × 1048576"),
        (Rle(2**40, 2**40, b"6"), "its size is"),
    ],
)
def test_a_broken_mask_leaves_the_others_alone(broken, why):
    good = np.array([[0, 1], [1, 1]])
    rle = encode_dense(good)
    column, found = mask_column([rle, broken, None, Rle(2, 2, coco_rle(good)["counts"])])
    assert list(found) == [1]
    assert why in found[1]
    expected = coco_row(coco_rle(good))
    assert column.to_pylist() == [expected, None, None, expected]


def test_mask_columns_without_masks():
    for given_ in ([], [None], [None, None]):
        column, broken = mask_column(given_)
        assert (column.type, column.to_pylist(), broken) == (MASK, given_, {})


def test_masks_without_pixels():
    column, broken = mask_column([Rle(0, 5, np.array([], dtype=np.int64)), Rle(0, 0, b"")])
    assert not broken
    assert [row["area"] for row in column.to_pylist()] == [0, 0]
    assert [row["counts"] for row in column.to_pylist()] == [b"", b""]


@given(st.lists(masks(), max_size=6))
def test_areas_and_boxes(made):
    runs = [np.array(runs_of(pixels), dtype=np.int64) for pixels in made]
    counts = np.array([r.size for r in runs], dtype=np.int64)
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *runs])
    heights = np.array([pixels.shape[0] for pixels in made], dtype=np.int64)
    area, box = areas_and_boxes(flat, counts, heights)
    assert area.tolist() == [int(pixels.sum()) for pixels in made]
    assert box.tolist() == [coco.toBbox(coco_rle(pixels)).astype(int).tolist() for pixels in made]


def test_runs_of_no_length():
    """Writers other than COCO's may split a run in two by one of no length."""
    given_ = np.array([0, 0, 2, 1, 0, 2, 1, 0, 0])
    column, broken = mask_column([Rle(2, 3, given_)])
    plain, _ = mask_column([Rle(2, 3, np.array([2, 3, 1]))])
    assert not broken
    area_and_box = ["area", "x", "y", "w", "h"]
    made, expected = column.to_pylist()[0], plain.to_pylist()[0]
    assert [made[k] for k in area_and_box] == [expected[k] for k in area_and_box]


# -- polygons --------------------------------------------------------------------------------------

numbers = st.floats(-1000, 1000, allow_subnormal=False)
rings = st.lists(st.tuples(numbers, numbers), max_size=6).map(
    lambda points: [value for point in points for value in point]
)
polygons = st.none() | st.lists(rings, max_size=3)


@given(st.lists(polygons, max_size=8))
def test_polygon_column(made):
    column = polygon_column(made)
    column.validate(full=True)
    assert column.type == POLYGON
    assert column.to_pylist() == made
    arrays = [None if p is None else [np.array(ring) for ring in p] for p in made]
    assert polygon_column(arrays).to_pylist() == made


def shoelace(ring: list[float]) -> float:
    points = list(zip(ring[::2], ring[1::2], strict=True))
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


@given(st.lists(polygons, max_size=8))
def test_polygon_areas_and_boxes(made):
    area, box = polygon_areas_and_boxes(pa.array(made, POLYGON))
    assert area.shape == (len(made),)
    assert box.shape == (len(made), 4)
    for number, polygon in enumerate(made):
        filled = [ring for ring in polygon or [] if ring]
        assert area[number] == pytest.approx(sum(map(shoelace, filled)), rel=1e-9, abs=1e-6)
        xs = [x for ring in filled for x in ring[::2]]
        ys = [y for ring in filled for y in ring[1::2]]
        expected = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)] if xs else [0] * 4
        assert box[number].tolist() == expected


def test_areas_of_a_slice():
    column = polygon_column([[[0, 0, 4, 0, 4, 4]], None, [[0, 0, 2, 0, 2, 2, 0, 2]], [[]]])
    area, box = polygon_areas_and_boxes(column.slice(1))
    assert area.tolist() == [0, 4, 0]
    assert box.tolist() == [[0, 0, 0, 0], [0, 0, 2, 2], [0, 0, 0, 0]]


def test_an_area_is_that_of_coco_for_a_square():
    ring = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]
    area, _ = polygon_areas_and_boxes(polygon_column([[ring]]))
    [rle] = coco.frPyObjects([ring], 40, 40)
    assert area[0] == int(coco.area(rle)) == 100
