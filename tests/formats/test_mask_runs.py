"""Runs of pixels: values, connected pieces and placed masks against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ea_arrow.sources import mask_runs

IMAGES = st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32 - 1)
)


def an_image(drawn):
    height, width, classes, seed = drawn
    random = np.random.default_rng(seed)
    return random.integers(0, classes + 1, (height, width)) * (random.random((height, width)) < 0.7)


def dense(mask):
    runs = np.repeat(np.arange(len(mask.counts)) & 1, mask.counts)
    return runs.reshape(mask.width, mask.height).T


def pieces(pixels):
    """Connected pieces by flooding, in column-major order of their first pixels."""
    found, seen = [], set()
    for x in range(pixels.shape[1]):
        for y in range(pixels.shape[0]):
            if not pixels[y, x] or (y, x) in seen:
                continue
            piece, waiting = set(), [(y, x)]
            while waiting:
                at = waiting.pop()
                if at in piece:
                    continue
                piece.add(at)
                waiting += [
                    (a, b)
                    for a in range(max(at[0] - 1, 0), min(at[0] + 2, pixels.shape[0]))
                    for b in range(max(at[1] - 1, 0), min(at[1] + 2, pixels.shape[1]))
                    if pixels[a, b] == pixels[y, x]
                ]
            seen |= piece
            found.append((int(pixels[y, x]), piece))
    return sorted(found, key=lambda item: item[0])


@settings(max_examples=200, deadline=None)
@given(IMAGES, st.integers(1, 40))
def test_runs_make_up_the_values_and_the_pieces(drawn, block):
    pixels = an_image(drawn)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mask_runs, "_BLOCK_PIXELS", block)
        runs = mask_runs.runs_of(pixels)
    whole = list(mask_runs.objects(runs, runs.values))
    assert [value for value, _ in whole] == [v for v in np.unique(pixels).tolist() if v]
    assert all((dense(mask) == (pixels == value)).all() for value, mask in whole)
    assert all((mask.counts[1:] > 0).all() for _, mask in whole)
    single = list(mask_runs.objects(runs, mask_runs.connected(runs)))
    found = [
        (value, set(zip(*map(list, np.nonzero(dense(mask))), strict=True)))
        for value, mask in single
    ]
    assert [(v, {(int(y), int(x)) for y, x in at}) for v, at in found] == pieces(pixels)


@settings(max_examples=200, deadline=None)
@given(IMAGES, st.integers(-10, 12), st.integers(-10, 12), st.integers(1, 12), st.integers(1, 12))
def test_a_mask_is_put_where_it_belongs(drawn, left, top, height, width):
    small = an_image(drawn)
    expected = np.zeros((height, width), int)
    for y, x in zip(*np.nonzero(small), strict=True):
        if 0 <= y + top < height and 0 <= x + left < width:
            expected[y + top, x + left] = 1
    assert (dense(mask_runs.placed(small, left, top, height, width)) == expected).all()
