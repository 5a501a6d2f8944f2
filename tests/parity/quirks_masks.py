"""The register of what pycocotools 2.0.11 does with masks, polygons, and boxes drawn as masks."""

from __future__ import annotations

import numpy as np

from ea_arrow.metrics.coco import CocoParameters
from tests.parity.oracle import Case, Guess, Rings, Runs, Truth
from tests.parity.quirks import ALL, BIG, FAR, SQUARE, Quirk, ignored, took

SEGM = CocoParameters(iou_type="segm")
ANY = CocoParameters(iou_type="segm", iou_thresholds=(1e-9, 0.5))
BEST = [0] * 10  # label 0 at all thresholds
NONE = [-1] * 10


def mask(x: int, y: int, w: int, h: int, height: int = 20, width: int = 30) -> np.ndarray:
    """Draw a rectangle."""
    pixels = np.zeros((height, width), bool)
    pixels[y : y + h, x : x + w] = True
    return pixels


def ring(x: float, y: float, w: float, h: float) -> tuple[float, ...]:
    """Return a rectangle as the outline of a polygon."""
    return (x, y, x + w, y, x + w, y + h, x, y + h)


def small(truths: list[Truth], guesses: list[Guess]) -> Case:
    """Put everything on one image of 30 × 20 pixels."""
    return Case(truths, guesses, sizes={1: (30, 20)})


def drawn(polygon: Rings, pixels: np.ndarray) -> Case:
    """Compare a polygon to the pixels that it should cover."""
    x, y, w, h = SQUARE
    return small([Truth((x, y, w, h), polygon=polygon)], [Guess(mask=pixels)])


def taken(evaluation) -> list[int]:
    """Return what the first prediction takes at each threshold."""
    return evaluation.matched_labels()[:, 0].tolist()


FRAME = mask(0, 0, 12, 12) & ~mask(2, 2, 8, 8)
CHECKS = (np.indices((20, 30)).sum(axis=0) % 2).astype(bool)

IOU_OF_MASKS = [
    Quirk("I2", "given_boxes_play_no_part",
          small([Truth(SQUARE, mask=mask(3, 3, 5, 5))], [Guess(FAR, mask=mask(3, 3, 5, 5))]),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("I2", "pixels_decide_not_the_boxes_of_the_masks",
          small([Truth(mask=CHECKS)], [Guess(mask=CHECKS | mask(0, 0, 30, 10))]),
          lambda e: taken(e) == [0] * 4 + [-1] * 6, SEGM),  # 300 of 450 pixels
    Quirk("I2", "boxes_of_the_masks_overlap_but_no_pixel_is_shared",
          small([Truth(mask=FRAME)], [Guess(mask=mask(2, 2, 8, 8))]),
          lambda e: took(e) == [-1], ANY),
    Quirk("I2", "complements_share_nothing",
          small([Truth(mask=CHECKS)], [Guess(mask=~CHECKS)]),
          lambda e: took(e) == [-1], ANY),
    Quirk("I2", "masks_that_touch_share_nothing",
          small([Truth(mask=mask(0, 0, 5, 5))], [Guess(mask=mask(5, 0, 5, 5))]),
          lambda e: took(e) == [-1], ANY),
    Quirk("I2", "iou_of_exactly_the_threshold_matches_masks",
          small([Truth(mask=mask(0, 0, 4, 4))], [Guess(mask=mask(0, 0, 4, 3))]),
          lambda e: taken(e) == [0] * 6 + [-1] * 4, SEGM),
    Quirk("I2", "masks_of_another_size_never_match",
          small([Truth(mask=mask(3, 3, 5, 5))], [Guess(mask=mask(3, 3, 5, 5, width=31))]),
          lambda e: took(e) == [-1] and e.n_labels[0, ALL] == 1, ANY),
    Quirk("I2", "a_turned_size_never_matches",
          small([Truth(mask=mask(0, 0, 20, 20))],
                [Guess(mask=mask(0, 0, 20, 20, height=30, width=20))]),
          lambda e: took(e) == [-1], ANY),
    Quirk("I2", "masks_of_another_size_than_the_image_match_each_other",
          small([Truth(mask=mask(3, 3, 5, 5, width=99))], [Guess(mask=mask(3, 3, 5, 5, width=99))]),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("I2", "union_with_a_crowd_of_pixels_is_the_prediction",
          small([Truth(mask=mask(0, 0, 20, 20), crowd=True)],
                [Guess(mask=mask(18, 0, 4, 4), score=0.9), Guess(mask=mask(0, 0, 2, 2))]),
          lambda e: taken(e) == [0] + [-1] * 9 and took(e) == [0, 0] and ignored(e) == [True] * 2,
          SEGM),
    Quirk("I2", "a_crowd_that_shares_no_pixel_is_not_matched",
          small([Truth(mask=FRAME, crowd=True)], [Guess(mask=mask(2, 2, 8, 8))]),
          lambda e: took(e) == [-1] and ignored(e) == [False], ANY),
    Quirk("I2", "empty_masks_match_nothing",
          small([Truth(mask=mask(0, 0, 0, 0)), Truth(mask=mask(0, 0, 30, 20))],
                [Guess(mask=mask(0, 0, 0, 0))]),
          lambda e: took(e) == [-1] and e.n_labels[0, ALL] == 2, ANY),
    Quirk("I2", "an_empty_prediction_is_not_in_a_crowd",
          small([Truth(mask=mask(0, 0, 30, 20), crowd=True)], [Guess(mask=mask(0, 0, 0, 0))]),
          lambda e: took(e) == [-1] and ignored(e) == [False], ANY),
    Quirk("I2", "runs_of_length_zero_are_read_over",
          Case([Truth(mask=Runs(4, 4, (2, 3, 0, 3, 8)))], [Guess(mask=Runs(4, 4, (2, 6, 8)))]),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("I2", "a_mask_of_nothing_but_empty_runs_matches_nothing",
          Case([Truth(mask=Runs(4, 4, (5, 0, 11))), Truth(mask=Runs(4, 4, (0, 16)))],
               [Guess(mask=Runs(4, 4, (5, 0, 11))), Guess(mask=Runs(4, 4, (16,)))]),
          lambda e: took(e) == [-1, -1], ANY),
    Quirk("M3", "of_equal_masks_the_later_label_is_taken",
          small([Truth(mask=FRAME), Truth(mask=FRAME)],
                [Guess(mask=FRAME), Guess(mask=FRAME), Guess(mask=FRAME)]),
          lambda e: took(e) == [1, 0, -1], SEGM),
    Quirk("L5", "mask_with_id_zero_is_never_found",
          small([Truth(mask=FRAME, id=0)], [Guess(mask=FRAME)]),
          lambda e: e.summary()["AP"] == 0 and took(e) == [0], SEGM),
]  # fmt: skip

AREAS = [
    Quirk("L2", "a_box_beside_a_mask_gives_the_area",
          Case([Truth(mask=FRAME)], [Guess(BIG, mask=mask(20, 0, 3, 3))]),
          lambda e: ignored(e, "small") == [True] and ignored(e, "large") == [False], SEGM),
    Quirk("L2", "without_a_box_the_area_is_that_of_the_mask",
          Case([Truth(mask=FRAME)], [Guess(mask=mask(20, 0, 3, 3))]),
          lambda e: ignored(e, "small") == [False] and ignored(e, "large") == [True], SEGM),
    Quirk("L2", "the_area_of_a_box_decides_for_polygons_too",
          Case([Truth(mask=FRAME)], [Guess(BIG, polygon=(ring(20, 0, 3, 3),))]),
          lambda e: ignored(e, "small") == [True] and ignored(e, "large") == [False], SEGM),
    Quirk("L2", "a_box_alone_is_drawn_as_a_polygon",
          small([Truth(mask=mask(1, 0, 2, 4))], [Guess((0.5, 0, 2, 4))]),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("P", "the_area_of_a_label_is_its_own_not_that_of_its_mask",
          Case([Truth(mask=FRAME, area=5000)], [Guess(mask=FRAME)]),
          lambda e: e.n_labels.tolist() == [[1, 0, 1, 0]], SEGM),
]  # fmt: skip

DRAWING = [
    Quirk("L7", "parts_of_a_polygon_are_merged",
          drawn((ring(0, 0, 5, 5), ring(10, 0, 5, 5)), mask(0, 0, 5, 5) | mask(10, 0, 5, 5)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "parts_that_overlap_do_not_cancel_or_count_twice",
          drawn((ring(0, 0, 6, 6), ring(3, 3, 6, 6)), mask(0, 0, 6, 6) | mask(3, 3, 6, 6)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_hole_is_filled",
          drawn((ring(0, 0, 12, 12), ring(2, 2, 8, 8)), mask(0, 0, 12, 12)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_polygon_that_crosses_itself_is_even_odd",
          drawn(((*ring(0, 0, 10, 10), 0, 0, *ring(2, 2, 6, 6), 2, 2),),
                mask(0, 0, 10, 10) & ~mask(2, 2, 6, 6)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_polygon_ends_where_the_image_does",
          drawn((ring(-5, -5, 12, 12),), mask(0, 0, 7, 7)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_polygon_beyond_the_far_corner_ends_there",
          drawn((ring(25, 15, 90, 90),), mask(25, 15, 5, 5)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_polygon_around_the_image_fills_it",
          drawn((ring(-50, -50, 200, 200),), mask(0, 0, 30, 20)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_polygon_left_of_the_image_is_empty",
          drawn((ring(-9, 2, 8, 8),), mask(0, 0, 30, 20)),
          lambda e: took(e) == [-1] and e.n_labels[0, ALL] == 1, ANY),
    Quirk("L7", "a_polygon_above_the_image_is_empty",
          drawn((ring(2, -9, 8, 8),), mask(0, 0, 30, 20)),
          lambda e: took(e) == [-1], ANY),
    Quirk("L7", "a_tiny_polygon_draws_nothing",
          drawn((ring(3.1, 3.1, 0.1, 0.1),), mask(0, 0, 30, 20)),
          lambda e: took(e) == [-1] and e.n_labels[0, ALL] == 1, ANY),
    Quirk("L7", "half_pixels_round_to_the_right",
          drawn((ring(0.5, 0, 2, 4),), mask(1, 0, 2, 4)),
          lambda e: taken(e) == BEST, SEGM),
    Quirk("L7", "a_line_draws_nothing",
          drawn(((1, 1, 9, 9, 1, 1),), mask(0, 0, 30, 20)),
          lambda e: took(e) == [-1], ANY),
    Quirk("L7", "width_and_height_come_from_the_image",
          Case([Truth(SQUARE, i, polygon=(ring(0, 0, 9, 9),)) for i in (1, 2)],
               [Guess(mask=mask(0, 0, 9, 9), image=i) for i in (1, 2)], [1, 2],
               sizes={1: (30, 20), 2: (31, 20)}),
          lambda e: taken(e) == BEST and e.matched_labels()[:, 1].tolist() == NONE, SEGM),
]  # fmt: skip

REGISTER_OF_MASKS = [*IOU_OF_MASKS, *AREAS, *DRAWING]
