"""Operating points by hand, against plain loops, and their recall against pycocotools."""

from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow import schema
from ea_arrow.candidates import find_candidates
from ea_arrow.errors import EaArrowError
from ea_arrow.metrics.coco import CocoParameters
from ea_arrow.metrics.operating import at, best, operating_points
from tests.parity.oracle import Case, Guess, Truth, run_pycocotools, to_tables
from tests.test_confusion import FUZZ, THRESHOLDS, crowded, is_ignored, match_by_hand

SQUARE = (0.0, 0.0, 10.0, 10.0)
FAR = (300.0, 300.0, 10.0, 10.0)
OTHER = (100.0, 0.0, 10.0, 10.0)
CUTS = st.sampled_from([1, 2, 100])


def points_of(case, threshold=0.5, **options):
    tables = to_tables(case)
    candidates = find_candidates(*tables, lowest=min(threshold, 0.1))
    table = operating_points(candidates, tables[3], threshold, **options)
    assert table.schema == schema.OPERATING_POINTS.arrow
    return table


def short(table):
    """Rows of (class or None for all, confidence, tp, fp, fn)."""
    rows = table.to_pylist()
    return [(key_of(r), r["confidence"], r["tp"], r["fp"], r["fn"]) for r in rows]


def key_of(row):
    return row["feature_hash"] and int(row["feature_hash"].removeprefix("class-"))


def cut_by_hand(case, threshold, most, category, lowest):
    """(tp, fp, fn) of a class, or of all, if only scores of at least ``lowest`` counted."""
    took = match_by_hand(case, threshold, most, lowest)
    tp = fp = 0
    for g, t in took.items():
        guess = case.guesses[g]
        if category not in (None, guess.category):
            continue
        tp += t is not None and not is_ignored(case.truths[t])
        fp += t is None and guess.box[2] * guess.box[3] <= 1e10
    labels = sum(not is_ignored(t) and category in (None, t.category) for t in case.truths)
    return tp, fp, labels - tp


def points_by_hand(case, threshold, most):
    taking_part = match_by_hand(case, threshold, most)
    rows = []
    for category in (None, *case.categories):
        scores = {
            case.guesses[g].score
            for g in taking_part
            if category in (None, case.guesses[g].category)
        }
        rows += [
            (category, score, *cut_by_hand(case, threshold, most, category, score))
            for score in sorted(scores, reverse=True)
        ]
        tp, fp, fn = cut_by_hand(case, threshold, most, category, float("inf"))
        if not scores and fn:
            rows.append((category, None, tp, fp, fn))
    return rows


def ratio(part, whole):
    return float(Fraction(part, whole)) if whole else None


@FUZZ
@given(crowded(), THRESHOLDS, CUTS)
def test_plain_loops_find_the_same(case, threshold, most):
    table = points_of(case, threshold, max_detections=most)
    expected = points_by_hand(case, threshold, most)
    assert short(table) == expected
    for row in table.to_pylist():
        tp, fp, fn = row["tp"], row["fp"], row["fn"]
        assert row["precision"] == ratio(tp, tp + fp)
        assert row["recall"] == ratio(tp, tp + fn)
        assert row["f1"] == ratio(2 * tp, 2 * tp + fp + fn)


@FUZZ
@given(crowded(), THRESHOLDS, CUTS)
def test_the_best_has_the_highest_f1_then_the_highest_confidence(case, threshold, most):
    expected = {}
    for category, score, tp, fp, fn in points_by_hand(case, threshold, most):
        if score is not None and tp + fp + fn:
            f1 = Fraction(2 * tp, 2 * tp + fp + fn)
            expected[category] = max(expected.get(category, (-1, 0)), (f1, score))
    found = best(points_of(case, threshold, max_detections=most)).to_pylist()
    assert [(key_of(row), row["confidence"]) for row in found] == [
        (category, score) for category, (_, score) in expected.items()
    ]


@FUZZ
@given(crowded(), THRESHOLDS, CUTS, st.sampled_from([-2.0, -1.0, 0.0, 0.1, 0.5, 0.6, 0.8]))
def test_a_cut_is_an_evaluation_without_the_rest(case, threshold, most, cut):
    """Predictions below a confidence change nothing for those above it."""
    rest = [g for g in case.guesses if g.score >= cut]
    alone = points_of(
        Case(case.truths, rest, case.images, case.categories), threshold, max_detections=most
    )
    lowest = {row[0]: row[2:] for row in short(alone)}  # the last of each class
    points = points_of(case, threshold, max_detections=most)
    for category, confidence, *counts in short(at(points, cut)):
        assert confidence >= cut
        assert tuple(counts) == lowest.get(category, (0, 0, 0))


@FUZZ
@given(crowded(), THRESHOLDS, CUTS)
def test_the_last_recall_is_that_of_pycocotools(case, threshold, most):
    parameters = CocoParameters(
        iou_thresholds=(threshold,), areas={"all": (0, 1e10)}, max_detections=(most,)
    )
    theirs = run_pycocotools(case, parameters).eval["recall"][0, :, 0, 0]
    points = points_of(case, threshold, max_detections=most).to_pylist()
    last = {key_of(row): row["recall"] for row in points}
    for category, recall in zip(case.categories, theirs, strict=True):
        assert last.get(category) == (None if recall == -1 else recall)


# By hand.

MIXED = Case(
    [Truth(SQUARE), Truth(FAR), Truth(SQUARE, 2), Truth(FAR, 1, 3), Truth(SQUARE, 1, 4)],
    [
        Guess(SQUARE, 0.9),
        Guess(OTHER, 0.8),
        Guess(SQUARE, 0.5, 2),
        Guess(FAR, 0.5, 2),
        Guess(OTHER, 0.7, 1, 2),
        Guess(FAR, 0.8, 1, 3),
    ],
    [1, 2],
    [1, 2, 3, 4, 5],
)


def test_columns():
    (row,) = points_of(
        Case([Truth(SQUARE)], [Guess(SQUARE, 0.7)]), iteration="run", iou_type="segm", subset="s"
    ).to_pylist()[1:]
    assert row == {
        "iteration": "run",
        "protocol": "coco",
        "iou_type": "segm",
        "iou_threshold": 0.5,
        "max_detections": 100,
        "subset": "s",
        "feature_hash": "class-1",
        "class": "name of 1",
        "confidence": 0.7,
        "tp": 1,
        "fp": 0,
        "fn": 0,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "is_best": True,
    }


def test_all_classes_then_each_by_falling_confidence():
    points = points_of(MIXED)
    assert short(points) == [
        (None, 0.9, 1, 0, 4),
        (None, 0.8, 2, 1, 3),  # two classes share this confidence
        (None, 0.7, 2, 2, 3),
        (None, 0.5, 3, 3, 2),
        (1, 0.9, 1, 0, 2),
        (1, 0.8, 1, 1, 2),
        (1, 0.5, 2, 2, 1),  # a hit and a miss share this one
        (2, 0.7, 0, 1, 0),  # no labels
        (3, 0.8, 1, 0, 0),
        (4, None, 0, 0, 1),  # no predictions; class 5 has neither
    ]
    assert points["precision"].to_pylist() == [1, 2 / 3, 0.5, 0.5, 1, 0.5, 0.5, 0, 1, None]
    assert points["recall"].to_pylist() == [0.2, 0.4, 0.4, 0.6, 1 / 3, 1 / 3, 2 / 3, None, 1, 0]
    f1 = [2 / 6, 4 / 8, 4 / 9, 6 / 11, 2 / 4, 2 / 5, 4 / 7, 0, 1, 0]
    assert points["f1"].to_pylist() == f1


def test_the_best_of_each():
    assert short(best(points_of(MIXED))) == [
        (None, 0.5, 3, 3, 2),
        (1, 0.5, 2, 2, 1),
        (2, 0.7, 0, 1, 0),
        (3, 0.8, 1, 0, 0),
    ]  # class 4 has no confidence to choose


def test_of_equal_f1_the_highest_confidence_is_best():
    # 2 · 1 / (2 + 0 + 2) = 2 · 2 / (4 + 3 + 1) = 1 / 2
    guesses = [Guess(SQUARE, 0.9), *[Guess(OTHER, 0.6)] * 3, Guess(FAR, 0.5)]
    points = points_of(Case([Truth(SQUARE), Truth(FAR), Truth(SQUARE, 2)], guesses, [1, 2]))
    assert points["f1"].to_pylist() == [1 / 2, 2 / 7, 1 / 2] * 2
    assert points["is_best"].to_pylist() == [True, False, False] * 2


def test_at_a_confidence():
    points = points_of(MIXED)
    assert short(at(points, 0.75)) == [
        (None, 0.8, 2, 1, 3),
        (1, 0.8, 1, 1, 2),
        (2, 0.75, 0, 0, 0),
        (3, 0.8, 1, 0, 0),
        (4, 0.75, 0, 0, 1),
    ]
    assert at(points, 0.75)["is_best"].to_pylist() == [False, False, False, True, False]
    assert short(at(points, 0.5)) == [
        (None, 0.5, 3, 3, 2),
        (1, 0.5, 2, 2, 1),
        (2, 0.7, 0, 1, 0),
        (3, 0.8, 1, 0, 0),
        (4, 0.5, 0, 0, 1),
    ]
    assert at(points, 0.5)["is_best"].to_pylist() == [True, True, True, True, False]


def test_above_every_confidence_nothing_is_predicted():
    rows = at(points_of(MIXED), 2)
    assert rows.schema == schema.OPERATING_POINTS.arrow
    assert short(rows) == [
        (k, 2.0, 0, 0, n) for k, n in [(None, 5), (1, 3), (2, 0), (3, 1), (4, 1)]
    ]
    assert rows["precision"].to_pylist() == [None] * 5
    assert rows["recall"].to_pylist() == [0, 0, None, 0, 0]
    assert rows["f1"].to_pylist() == [0, 0, None, 0, 0]
    assert rows["is_best"].to_pylist() == [False] * 5


def test_at_takes_points_of_several_iterations_in_any_order():
    one, two = (
        points_of(Case([Truth(SQUARE)], [Guess(SQUARE, s), Guess(FAR, s / 2)]), iteration=name)
        for s, name in [(0.8, "one"), (0.6, "two")]
    )
    rows = at(pa.concat_tables([one, two]).sort_by("confidence"), 0.4).sort_by("iteration")
    assert rows["iteration"].to_pylist() == ["one", "one", "two", "two"]
    assert rows["confidence"].to_pylist() == [0.4, 0.4, 0.6, 0.6]
    assert rows["fp"].to_pylist() == [1, 1, 0, 0]


def test_ignored_predictions_count_in_neither():
    case = Case(
        [Truth((0, 0, 50, 50), crowd=True), Truth(FAR)],
        [Guess(SQUARE, 0.9), Guess(SQUARE, 0.8), Guess(FAR, 0.7), Guess((0, 0, 1e6, 1e6), 0.6)],
    )
    points = points_of(case)
    assert short(points)[4:] == [
        (1, 0.9, 0, 0, 1),
        (1, 0.8, 0, 0, 1),
        (1, 0.7, 1, 0, 0),
        (1, 0.6, 1, 0, 0),
    ]
    assert points["precision"].to_pylist()[4:] == [None, None, 1, 1]
    assert points["is_best"].to_pylist()[4:] == [False, False, True, False]


def test_where_nothing_counts_nothing_is_best():
    points = points_of(Case([Truth(SQUARE, crowd=True)], [Guess(SQUARE)]))
    assert short(points) == [(None, 0.5, 0, 0, 0), (1, 0.5, 0, 0, 0)]
    for name in ("precision", "recall", "f1"):
        assert points[name].to_pylist() == [None, None]
    assert points["is_best"].to_pylist() == [False, False]


def test_a_label_with_id_zero_is_found():
    assert short(points_of(Case([Truth(SQUARE, id=0)], [Guess(SQUARE)])))[1:] == [(1, 0.5, 1, 0, 0)]


def test_minus_zero_is_zero():
    points = points_of(Case([Truth(SQUARE)], [Guess(SQUARE, 0.0), Guess(FAR, -0.0)]))
    assert short(points)[1:] == [(1, 0.0, 1, 1, 0)]
    assert [str(value) for value in points["confidence"].to_pylist()] == ["0.0", "0.0"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case([], []), []),
        (Case([], [], [], []), []),
        (Case([Truth(SQUARE)], []), [(None, None, 0, 0, 1), (1, None, 0, 0, 1)]),
        (Case([], [Guess(FAR)]), [(None, 0.5, 0, 1, 0), (1, 0.5, 0, 1, 0)]),
    ],
)
def test_empty_sides(case, expected):
    points = points_of(case)
    assert short(points) == expected
    assert len(at(points, 0.1)) == len(best(points)) + expected.count((1, None, 0, 0, 1)) * 2


def test_candidates_must_suffice():
    tables = to_tables(Case([Truth(SQUARE)], [Guess(SQUARE)]))
    candidates = find_candidates(*tables, lowest=0.5, most=10)
    for options in ({"iou_threshold": 0.3, "max_detections": 10}, {"max_detections": 11}):
        with pytest.raises(EaArrowError, match="are needed"):
            operating_points(candidates, tables[3], **options)
    assert len(operating_points(candidates, tables[3], max_detections=10)) == 2
