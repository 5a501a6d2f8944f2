"""The register of what pycocotools 2.0.11 does, each with the smallest data that shows it.

``shows`` keeps agreement from being vacuous: it says what the behaviour does to the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ea_arrow.metrics.coco import CocoEvaluation, CocoParameters
from tests.parity.oracle import Box, Case, Guess, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

ALL, SMALL, MEDIUM, LARGE = range(4)
SQUARE: Box = (0, 0, 10, 10)
HALF: Box = (0, 0, 10, 5)  # IoU with SQUARE is 0.5 exactly
MOST: Box = (0, 0, 10, 8)  # 0.8
FAR: Box = (300, 300, 10, 10)
BIG: Box = (0, 0, 100, 100)


@dataclass(frozen=True)
class Quirk:
    """One behaviour; ``id`` as in docs on COCO semantics."""

    id: str
    name: str
    case: Case
    shows: Callable[[CocoEvaluation], bool]
    parameters: CocoParameters = field(default_factory=CocoParameters)


def took(evaluation: CocoEvaluation, area: str = "all") -> list[int]:
    """Labels taken at IoU 0.5."""
    return evaluation.matched_labels(area)[0].tolist()


def ignored(evaluation: CocoEvaluation, area: str = "all") -> list[bool]:
    """Predictions ignored at IoU 0.5."""
    return evaluation.ignored_predictions(area)[0].tolist()


LOADING = [
    Quirk(
        "L5",
        "label_with_id_zero_is_never_found",
        Case([Truth(SQUARE, id=0)], [Guess(SQUARE)]),
        lambda e: e.labels_with_id_zero and e.summary()["AP"] == 0 and took(e) == [0],
    ),
    Quirk(
        "L5",
        "label_with_id_zero_is_taken_all_the_same",
        Case([Truth(SQUARE, id=0)], [Guess(SQUARE, 0.9), Guess(SQUARE, 0.8)]),
        lambda e: took(e) == [0, -1],
    ),
    Quirk(
        "L5",
        "ignored_label_with_id_zero_still_ignores_its_prediction",
        Case([Truth(SQUARE, crowd=True, id=0)], [Guess(SQUARE)]),
        lambda e: ignored(e) == [True],
    ),
    Quirk(
        "L5",
        "prediction_out_of_range_on_id_zero_is_ignored",
        Case([Truth(SQUARE, id=0, area=2000)], [Guess(SQUARE)]),
        lambda e: ignored(e, "medium") == [True] and ignored(e) == [False],
    ),
    Quirk(
        "L3",
        "numeric_string_ids_load",
        Case([Truth(SQUARE, image="b", category="y", id="7")], [Guess(SQUARE, 0.5, "b", "y")],
             ["b", "a"], ["y", "x"]),
        lambda e: took(e) == [0] and e.feature_hashes == ["class-x", "class-y"],
    ),
]  # fmt: skip

PARAMETERS = [
    Quirk(
        "P",
        "both_ends_of_an_area_range_belong_to_it",
        Case([Truth((0, 0, 32, 32)), Truth((50, 0, 96, 96))], [Guess((0, 0, 32, 32))]),
        lambda e: e.n_labels.tolist() == [[2, 1, 2, 1]],
    ),
    Quirk(
        "P",
        "images_are_visited_in_sorted_order",
        Case([Truth(SQUARE, 10)], [Guess(SQUARE, 0.5, 10), Guess(SQUARE, 0.5, 2)], [10, 2]),
        lambda e: e.precision[0, 0, 0, ALL, 2] == 0.5,
    ),
    Quirk(
        "P",
        "predictions_in_images_without_labels_are_false",
        Case([Truth(SQUARE, 1)], [Guess(SQUARE, 0.5, 1), Guess(SQUARE, 0.9, 2)], [1, 2]),
        lambda e: e.precision[0, 0, 0, ALL, 2] == 0.5,
    ),
    Quirk(
        "P",
        "label_area_decides_its_size_not_its_box",
        Case([Truth(SQUARE, area=5000)], [Guess(SQUARE)]),
        lambda e: e.n_labels.tolist() == [[1, 0, 1, 0]],
    ),
    Quirk(
        "P",
        "threshold_of_one_is_lowered_by_1e_10",
        Case([Truth((0, 0, 1e6, 1e6), area=1)], [Guess((0, 0, 1e6, 1e6 - 5e-5))]),
        lambda e: took(e) == [0],
        CocoParameters(iou_thresholds=(1.0,)),
    ),
]

IOU = [
    Quirk(
        "I1",
        "iou_of_exactly_the_threshold_matches",
        Case([Truth(SQUARE)], [Guess(HALF)]),
        lambda e: e.matched_labels()[:, 0].tolist() == [0] + [-1] * 9,
    ),
    Quirk(
        "I1",
        "boxes_that_touch_do_not_overlap",
        Case([Truth(SQUARE)], [Guess((10, 0, 10, 10))]),
        lambda e: took(e) == [-1],
    ),
    Quirk(
        "I1",
        "box_without_size_matches_nothing",
        Case([Truth((5, 5, 0, 0)), Truth((0, 0, 0, 9))], [Guess((5, 5, 0, 0))]),
        lambda e: took(e) == [-1] and e.n_labels[0, ALL] == 2,
    ),
    Quirk(
        "I1",
        "union_with_a_crowd_is_the_prediction",
        Case([Truth(BIG, crowd=True)], [Guess(SQUARE), Guess(FAR)]),
        lambda e: took(e) == [0, -1],
    ),
    Quirk(
        "I1",
        "boxes_may_leave_the_image",
        Case([Truth((-5, -5, 10, 10))], [Guess((-5, -5, 10, 9))]),
        lambda e: took(e) == [0],
    ),
]

MATCHING = [
    Quirk(
        "M1",
        "equal_scores_keep_their_order",
        Case([Truth(SQUARE)], [Guess(MOST), Guess(SQUARE)]),
        lambda e: took(e) == [0, -1],
    ),
    Quirk(
        "M1",
        "only_the_first_100_take_part",
        Case([Truth(SQUARE)], [*(Guess(FAR, 0.9) for _ in range(100)), Guess(SQUARE, 0.1)]),
        lambda e: took(e)[-1] == -1 and e.evaluated.tolist() == [True] * 100 + [False],
    ),
    Quirk(
        "M1",
        "ignored_labels_come_last",
        Case([Truth(SQUARE, crowd=True), Truth(HALF)], [Guess(SQUARE)]),
        lambda e: took(e) == [1],
    ),
    Quirk(
        "M1",
        "labels_out_of_range_come_last",
        Case([Truth(SQUARE, area=2000), Truth(MOST)], [Guess(SQUARE)]),
        lambda e: took(e) == [0] and took(e, "small") == [1] and took(e, "medium") == [0],
    ),
    Quirk(
        "M2",
        "a_crowd_takes_any_number",
        Case([Truth(BIG, crowd=True)], [Guess(SQUARE), Guess(SQUARE), Guess(HALF)]),
        lambda e: took(e) == [0, 0, 0] and ignored(e) == [True] * 3,
    ),
    Quirk(
        "M2",
        "an_ignored_label_that_is_no_crowd_takes_one",
        Case([Truth(SQUARE, ignored=True)], [Guess(SQUARE), Guess(SQUARE)]),
        lambda e: took(e) == [0, -1] and ignored(e) == [True, False],
    ),
    Quirk(
        "M3",
        "of_equal_ious_the_later_label_is_taken",
        Case([Truth(SQUARE), Truth(SQUARE), Truth(SQUARE)], [Guess(SQUARE), Guess(MOST)]),
        lambda e: took(e) == [2, 1],
    ),
    Quirk(
        "M3",
        "a_prediction_that_lost_its_best_takes_the_next",
        Case([Truth(SQUARE), Truth(MOST)], [Guess(SQUARE, 0.9), Guess(SQUARE, 0.8)]),
        lambda e: took(e) == [0, 1],
    ),
    Quirk(
        "M3",
        "thresholds_are_matched_apart",
        Case([Truth(SQUARE)], [Guess(HALF, 0.9), Guess(SQUARE, 0.8)]),
        lambda e: e.matched_labels()[:2].tolist() == [[0, -1], [-1, 0]],
    ),
    Quirk(
        "M3",
        "a_long_chain_of_lost_bests",
        Case(
            [Truth((i, 0, 10, 10)) for i in range(6)],
            [Guess((i / 2, 0, 10, 10), 0.9 - i / 100) for i in range(10)],
        ),
        lambda e: sorted(took(e))[-6:] == list(range(6)),
    ),
    Quirk(
        "M4",
        "matched_to_an_ignored_label_is_ignored",
        Case([Truth(SQUARE, area=2000)], [Guess(SQUARE)]),
        lambda e: ignored(e, "small") == [True] and took(e, "small") == [0],
    ),
    Quirk(
        "M4",
        "unmatched_and_out_of_range_is_ignored",
        Case([Truth(FAR)], [Guess(SQUARE), Guess(BIG)]),
        lambda e: ignored(e, "small") == [False, True] and ignored(e) == [False, False],
    ),
    Quirk(
        "M4",
        "matched_and_out_of_range_counts",
        Case([Truth(SQUARE, area=2000)], [Guess(SQUARE)]),
        lambda e: ignored(e, "medium") == [False] and e.recall[0, 0, MEDIUM, 2] == 1,
    ),
]

ACCUMULATION = [
    Quirk(
        "A1",
        "the_cut_comes_before_the_order",
        Case([Truth(SQUARE), Truth(FAR), Truth(SQUARE, 2)],
             [Guess(SQUARE, 0.9), Guess(FAR, 0.8), Guess(SQUARE, 0.1, 2)], [1, 2]),
        lambda e: e.recall[0, 0, ALL].tolist() == [2 / 3, 1, 1],
    ),
    Quirk(
        "A2",
        "a_class_of_ignored_labels_drops_out",
        Case([Truth(SQUARE, crowd=True), Truth(SQUARE, category=2)], [Guess(SQUARE)], [1], [1, 2]),
        lambda e: bool((e.precision[:, :, 0] == -1).all()) and e.n_labels[0, ALL] == 0,
    ),
    Quirk(
        "A3",
        "the_smallest_float_keeps_one_hit_from_precision_one",
        Case([Truth(SQUARE)], [Guess(SQUARE)]),
        lambda e: e.precision[0, 0, 0, ALL, 2] == 1 / (1 + 2**-52),
    ),
    Quirk(
        "A3",
        "precision_never_rises_with_recall",
        Case([Truth(SQUARE), Truth(FAR)],
             [Guess(BIG, 0.9), Guess(SQUARE, 0.8), Guess(FAR, 0.7)]),
        lambda e: e.precision[0, [0, 50, 100], 0, ALL, 2].tolist() == [2 / 3] * 3,
    ),
    Quirk(
        "A3",
        "beyond_the_last_recall_is_zero",
        Case([Truth(SQUARE), Truth(FAR)], [Guess(SQUARE)]),
        lambda e: e.precision[0, 51:, 0, ALL, 2].max() == 0 < e.precision[0, 50, 0, ALL, 2],
    ),
    Quirk(
        "A3",
        "recall_zero_has_the_score_of_the_first_prediction_even_if_ignored",
        Case([Truth(BIG, crowd=True), Truth(FAR)], [Guess(SQUARE, 0.9), Guess(FAR, 0.5)]),
        lambda e: e.scores[0, :2, 0, ALL, 2].tolist() == [0.9, 0.5],
    ),
    Quirk(
        "A4",
        "a_class_without_predictions_is_zero_not_missing",
        Case([Truth(SQUARE)], [Guess(SQUARE, category=2)], [1], [1, 2]),
        lambda e: e.summary()["AP"] == 0 and e.recall[0, :, ALL, 2].tolist() == [0, -1],
    ),
    Quirk(
        "A4",
        "no_predictions_at_all",
        Case([Truth(SQUARE)], []),
        lambda e: e.summary()["AP"] == 0,
    ),
    Quirk(
        "A5",
        "without_labels_every_number_is_minus_one",
        Case([], [Guess(SQUARE)]),
        lambda e: set(e.summary().values()) == {-1.0},
    ),
    Quirk(
        "A5",
        "a_size_without_labels_is_minus_one",
        Case([Truth(SQUARE)], [Guess(SQUARE)]),
        lambda e: e.summary()["APl"] == -1 and e.summary()["APs"] > 0.99,
    ),
]  # fmt: skip

REGISTER = [*LOADING, *PARAMETERS, *IOU, *MATCHING, *ACCUMULATION]
