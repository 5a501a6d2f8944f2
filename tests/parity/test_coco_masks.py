"""Anchors and negative controls of the comparison with pycocotools for masks."""

import copy

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from ea_arrow.errors import GeometryError, SchemaError
from ea_arrow.metrics.coco import CocoParameters, evaluate
from tests.parity.oracle import (
    Case,
    Guess,
    Runs,
    Truth,
    assert_same,
    assert_same_matches,
    rle_of,
    run_pycocotools,
    to_tables,
)
from tests.parity.quirks_masks import SEGM, mask, ring

SIDES = (20, 50, 100)  # small, medium and large
PLACES = [(i, c, side) for i in (1, 2) for c in (1, 2) for side in SIDES]


def blot(side, x=0):
    """A disc, which no box equals."""
    y, x = np.indices((150, 300)) - np.array([60, 60 + x])[:, None, None]
    return y**2 + x**2 <= (side * 0.56) ** 2


TWO_CLASSES = Case(
    [Truth(None, i, c, mask=blot(side)) for i, c, side in PLACES],
    [Guess(None, 0.5, i, c, mask=blot(side)) for i, c, side in PLACES],
    [1, 2],
    [1, 2],
    {1: (300, 150), 2: (300, 150)},
)


def test_perfect_masks_score_one():
    summary = assert_same(TWO_CLASSES, SEGM).summary()
    assert len(summary) == 12
    assert {k: v for k, v in summary.items() if k != "AR1"} == pytest.approx(
        dict.fromkeys(summary.keys() - {"AR1"}, 1.0), abs=1e-12
    )
    assert summary["AR1"] == pytest.approx(1 / 3)


def test_perfect_polygons_and_boxes_score_one():
    box = (3.0, 4.0, 40.0, 50.0)
    drawn = ((7.0, 7.0, 140.5, 20.2, 30.0, 90.0), ring(150, 20, 40, 40))
    case = Case(
        [Truth(box, polygon=drawn), Truth(box, category=2)],
        [Guess(box, polygon=drawn), Guess(box, category=2)],
        categories=[1, 2],
    )
    assert assert_same(case, SEGM).summary()["AP"] == pytest.approx(1.0, abs=1e-12)


def test_wrong_masks_score_zero():
    guesses = [
        Guess(None, 0.5, g.image, g.category, mask=mask(290, 0, 5, 5, 150, 300))
        for g in TWO_CLASSES.guesses
    ]
    wrong = Case(TWO_CLASSES.truths, guesses, [1, 2], [1, 2], TWO_CLASSES.sizes)
    assert set(assert_same(wrong, SEGM).summary().values()) == {0.0}
    none = Case(TWO_CLASSES.truths, [], [1, 2], [1, 2], TWO_CLASSES.sizes)
    assert set(assert_same(none, SEGM).summary().values()) == {0.0}


def test_masks_and_their_boxes_give_other_numbers():
    """The masks are looked at: equal boxes around other pixels score 1 only as boxes."""
    full, half = np.ones((12, 12), bool), np.tri(12, dtype=bool)
    half[0, -1] = True
    case = Case([Truth(mask=full)], [Guess(mask=half)], sizes={1: (12, 12)})
    assert assert_same(case).summary()["AP"] == pytest.approx(1.0, abs=1e-12)
    assert assert_same(case, SEGM).summary()["AP"] == pytest.approx(0.1)  # 79 of 144 pixels
    with pytest.raises(AssertionError, match="dtMatches"):
        assert_same_matches(
            evaluate(*to_tables(case), SEGM), run_pycocotools(case, CocoParameters()), case
        )


@pytest.mark.parametrize("change", [{"mask": blot(20, x=9)}, {"category": 2}])
def test_comparison_of_masks_can_fail(change):
    """Negative control: the same check refuses data that differs in one mask or class."""
    run = run_pycocotools(TWO_CLASSES, SEGM)
    case = copy.deepcopy(TWO_CLASSES)
    case.guesses[0] = Guess(**(vars(case.guesses[0]) | change))
    with pytest.raises(AssertionError, match="dtMatches"):
        assert_same_matches(evaluate(*to_tables(case), SEGM), run, TWO_CLASSES)


def test_comparison_sees_one_pixel():
    """At a threshold between the IoU with and without one pixel more."""
    whole = mask(0, 0, 10, 10)
    less = whole.copy()
    less[0, 0] = False
    parameters = CocoParameters(iou_type="segm", iou_thresholds=(0.985, 0.99, 0.995))
    for other, reached in ((less, 2), (whole, 3)):
        case = Case([Truth(mask=whole)], [Guess(mask=other)], sizes={1: (30, 20)})
        assert (assert_same(case, parameters).matched_labels() >= 0).sum() == reached


@pytest.mark.parametrize(
    "case",
    [
        Case([], [], [], []),
        Case([], [], [1, 2], [1, 2]),
        Case([Truth(mask=mask(0, 0, 3, 3))], []),
        Case([], [Guess(mask=mask(0, 0, 3, 3))]),
        Case([Truth((0, 0, 3, 3))], []),
        Case([], [Guess((0, 0, 3, 3))]),
        Case([Truth(mask=mask(0, 0, 3, 3))], [Guess(mask=mask(0, 0, 3, 3), category=2)],
             [1], [1, 2]),
    ],
)  # fmt: skip
def test_empty_tables_of_masks(case):
    if case.images:
        assert_same(case, SEGM)
    assert evaluate(*to_tables(case), SEGM).precision.shape == (10, 101, len(case.categories), 4, 3)


def test_masks_without_pixels_are_compared():
    """0 rows or 0 columns: pycocotools finds no IoU; such masks match nothing."""
    flat, thin, none = Runs(0, 7, ()), Runs(7, 0, (0,)), Runs(0, 0, (0, 0, 0))
    background = Runs(3, 3, (9,))
    shapes = [flat, thin, none, background]
    case = Case([Truth(mask=m) for m in shapes], [Guess(mask=m) for m in shapes])
    lowest = CocoParameters(iou_type="segm", iou_thresholds=(1e-300, 0.5))
    evaluation = assert_same(case, lowest)
    assert evaluation.matched_labels()[0].tolist() == [-1] * 4
    assert evaluation.n_labels[0, 0] == 4


@pytest.mark.parametrize("width", [2**26 - 2, 2**26 - 1, 2**26, 2**27])
def test_masks_wider_than_groups_can_be_told_apart_by(width):
    """The width carries the group, and C has 32 bits for both; beyond 2²⁶ it does not fit."""
    images, categories = list(range(1, 71)), [1, 2]
    runs = [Runs(2, width, (2 * start, 8, 2 * width - 2 * start - 8)) for start in range(3)]
    places = [(i, 1 + i % 2, runs[i % 3]) for i in images]
    case = Case(
        [Truth(None, i, c, mask=shape) for i, c, shape in places],
        [Guess(None, 0.5, i, c, mask=runs[0]) for i, c, _ in places],
        images,
        categories,
    )
    evaluation = assert_same(case, SEGM)
    assert (evaluation.matched_labels() >= 0).sum(axis=1).tolist() == [
        sum(iou[i % 3] >= t for i in images) for iou in [(1, 3 / 5, 1 / 3)]
        for t in SEGM.iou_thresholds
    ]  # fmt: skip


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(GeometryError, match="has a corner at 1e\\+07"):
        evaluate(*to_tables(Case([Truth((0, 0, 1e7, 5))], [Guess((0, 0, 5, 5))])), SEGM)
    lost = Case([Truth((0, 0, 5, 5))], [Guess((0, 0, 5, 5), image=9)])
    with pytest.raises(SchemaError, match="'image-9' frame 0"):
        evaluate(*to_tables(lost), SEGM)


def test_boxes_are_evaluated_where_masks_could_not_be_drawn():
    case = Case([Truth((0, 0, 1e7, 5))], [Guess((0, 0, 1e7, 5))], sizes={1: (10**6, 10**6)})
    assert assert_same(case).summary()["APl"] == pytest.approx(1.0, abs=1e-12)


def test_where_both_masks_have_an_empty_run_pycocotools_stops_counting():
    """A known difference: its loop ends where two runs of length 0 meet, whatever follows.

    Of 2 pixels in 20 that are shared it has seen both, but only 4 of the union. What is stored of
    the masks says that their IoU is at most 4 in 18, so they are not compared.
    """
    found, truth = Runs(4, 5, (0, 1, 1, 0, 1, 17)), Runs(4, 5, (0, 2, 0, 2, 16))
    assert mask_utils.iou([rle_of(found)], [rle_of(truth)], [0]).item() == 0.5
    pixels = [
        np.repeat(np.arange(len(runs.lengths)) % 2, runs.lengths).reshape(5, 4).T
        for runs in (found, truth)
    ]
    assert (pixels[0] & pixels[1]).sum() / (pixels[0] | pixels[1]).sum() == 2 / 20
    case = Case([Truth(mask=truth)], [Guess(mask=found)])
    assert evaluate(*to_tables(case), SEGM).matched_labels()[0].tolist() == [-1]
    case = Case([Truth(mask=pixels[1])], [Guess(mask=pixels[0])])
    assert assert_same(case, SEGM).matched_labels()[0].tolist() == [-1]
