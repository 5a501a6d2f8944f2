"""The confusion matrix by hand, against plain loops, and its diagonal against pycocotools."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ea_arrow import schema
from ea_arrow.candidates import find_candidates
from ea_arrow.errors import EaArrowError
from ea_arrow.metrics.coco import CocoParameters
from ea_arrow.metrics.confusion import confusion
from tests.parity.oracle import Case, Guess, Truth, run_pycocotools, to_tables

SQUARE = (0.0, 0.0, 10.0, 10.0)
MOST = (0.0, 0.0, 10.0, 8.0)  # IoU with SQUARE 0.8
MORE = (0.0, 0.0, 10.0, 9.0)  # 0.9
HALF = (0.0, 0.0, 10.0, 5.0)  # 0.5
FAR = (300.0, 300.0, 10.0, 10.0)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sought(case, lowest=0.1, most=100):
    tables = to_tables(case)
    return find_candidates(*tables, lowest=lowest, lowest_across=lowest, most=most), tables[3]


def cells(case, *arguments, lowest=0.1, **options):
    """The cells as {(label's class, predicted class): count}, in their order."""
    table = confusion(*sought(case, lowest), *arguments, **options)
    assert table.schema == schema.CONFUSION.arrow
    return cells_of(table)


def cells_of(table):
    def short(key):
        return key and int(key.removeprefix("class-"))

    rows = table.select(["label_hash", "predicted_hash", "count"]).to_pylist()
    found = {(short(r["label_hash"]), short(r["predicted_hash"])): r["count"] for r in rows}
    assert len(found) == len(rows)
    return found


# Plain loops.


def overlap(guess, truth):
    (x, y, w, h), (u, v, p, q) = guess.box, truth.box
    width, height = min(x + w, u + p) - max(x, u), min(y + h, v + q) - max(y, v)
    if width <= 0 or height <= 0:
        return 0.0
    inner = width * height
    return inner / (w * h if truth.crowd else w * h + p * q - inner)


def is_ignored(truth):
    return truth.crowd or truth.ignored or (truth.area is not None and truth.area > 1e10)


def by_confidence(case, some):
    return sorted(some, key=lambda g: (-case.guesses[g].score, g))


def match_by_hand(case, threshold, most, lowest=float("-inf")):
    """pycocotools' loop: {guess: truth or None} of the guesses that take part."""
    took = {}
    for image in case.images:
        for category in case.categories:
            here = [
                g
                for g, guess in enumerate(case.guesses)
                if (guess.image, guess.category) == (image, category)
            ]
            labels = [
                t
                for t, truth in enumerate(case.truths)
                if (truth.image, truth.category) == (image, category)
            ]
            labels.sort(key=lambda t: is_ignored(case.truths[t]))
            free = set(labels)
            for g in by_confidence(case, here)[:most]:
                if case.guesses[g].score < lowest:
                    continue
                best, mine = min(threshold, 1 - 1e-10), None
                for t in labels:
                    truth = case.truths[t]
                    if mine is not None and is_ignored(truth) and not is_ignored(case.truths[mine]):
                        break
                    iou = overlap(case.guesses[g], truth)
                    if (t in free or truth.crowd) and iou >= best:
                        best, mine = iou, t
                took[g] = mine
                free.discard(mine)
    return took


def confuse_by_hand(case, threshold, lowest, most):
    took = match_by_hand(case, threshold, most, lowest)
    count = Counter()
    for g, t in took.items():
        if t is not None and not is_ignored(case.truths[t]):
            count[case.truths[t].category, case.guesses[g].category] += 1
    alarms = [
        g
        for g, t in took.items()
        if t is None and case.guesses[g].box[2] * case.guesses[g].box[3] <= 1e10
    ]
    free = {t for t, truth in enumerate(case.truths) if not is_ignored(truth)} - set(took.values())
    for g in by_confidence(case, alarms):
        guess = case.guesses[g]
        near = [
            (overlap(guess, case.truths[t]), t)
            for t in free
            if case.truths[t].image == guess.image and case.truths[t].category != guess.category
        ]
        iou, t = max(near, default=(0.0, None))
        if t is not None and iou >= min(threshold, 1 - 1e-10):
            free.remove(t)
            count[case.truths[t].category, guess.category] += 1
        else:
            count[None, guess.category] += 1
    for t in free:
        count[case.truths[t].category, None] += 1
    return dict(count)


@st.composite
def crowded(draw):
    """Few places, few boxes, few scores: many equal IoUs, many claims to one label."""
    images = list(range(1, draw(st.integers(1, 3)) + 1))
    categories = list(range(1, draw(st.integers(1, 3)) + 1))
    corner, side = st.integers(0, 2), st.integers(1, 4)
    box = st.tuples(corner, st.just(0), side, st.integers(2, 3))
    box = box.map(lambda b: tuple(10.0 * v for v in b))
    place = {"image": st.sampled_from(images), "category": st.sampled_from(categories)}
    rarely = st.sampled_from([False] * 6 + [True])
    area = st.sampled_from([None] * 6 + [2e10])
    truth = st.builds(Truth, box=box, crowd=rarely, ignored=rarely, area=area, **place)
    huge = st.just((0.0, 0.0, 1e6, 1e6))
    score = st.sampled_from([-1.0, 0.0, -0.0, 0.25, 0.5, 0.75])
    guess = st.builds(Guess, box=st.one_of(*[box] * 9, huge), score=score, **place)
    truths = draw(st.lists(truth, max_size=12))
    guesses = draw(st.lists(guess, max_size=20))
    return Case(truths, guesses, images, categories)


THRESHOLDS = st.sampled_from([0.1, 1 / 3, 0.5, 0.75, 1.0])


@FUZZ
@given(
    crowded(),
    THRESHOLDS,
    st.sampled_from([None, -1.0, 0.0, 0.3, 0.5, 2.0]),
    st.sampled_from([1, 2, 100]),
)
def test_plain_loops_find_the_same(case, threshold, confidence, most):
    lowest = float("-inf") if confidence is None else confidence
    found = cells(case, threshold, confidence, max_detections=most)
    assert found == confuse_by_hand(case, threshold, lowest, most)


@FUZZ
@given(crowded(), THRESHOLDS, st.sampled_from([1, 3, 100]))
def test_the_diagonal_is_what_pycocotools_calls_true_positives(case, threshold, most):
    parameters = CocoParameters(
        iou_thresholds=(threshold,), areas={"all": (0, 1e10)}, max_detections=(most,)
    )
    run = run_pycocotools(case, parameters)
    true = Counter()
    for image in filter(None, run.evalImgs):
        hits = np.count_nonzero((image["dtMatches"] > 0) & ~image["dtIgnore"].astype(bool))
        true[image["category_id"]] += hits
    found = cells(case, threshold, max_detections=most)
    assert {a: n for (a, b), n in found.items() if a == b} == {k: n for k, n in true.items() if n}


@FUZZ
@given(crowded(), THRESHOLDS)
def test_rows_add_up_to_labels_and_columns_to_predictions(case, threshold):
    found = cells(case, threshold)
    rows, columns = Counter(), Counter()
    for (row, column), n in found.items():
        assert n > 0
        rows[row] += n
        columns[column] += n
    assert (None, None) not in found
    assert rows - Counter({None: rows[None]}) == Counter(
        t.category for t in case.truths if not is_ignored(t)
    )
    took = match_by_hand(case, threshold, 100)
    out = Counter(
        guess.category
        for g, guess in enumerate(case.guesses)
        if (guess.box[2] > 1e5 if took[g] is None else is_ignored(case.truths[took[g]]))
    )
    assert columns - Counter({None: columns[None]}) + out == Counter(
        g.category for g in case.guesses
    )


@FUZZ
@given(crowded(), st.integers(0, 7))
def test_matrices_of_data_units_add_up(case, chosen):
    candidates, classes = sought(case)
    units = np.array([bool(chosen >> i & 1) for i in range(len(case.images))])
    parts = [
        Counter(cells_of(confusion(candidates.within(some), classes))) for some in (units, ~units)
    ]
    assert parts[0] + parts[1] == Counter(cells(case))


# By hand.


def test_columns_and_order():
    case = Case(
        [
            Truth(SQUARE, category=3),
            Truth(SQUARE, image=2, category=1),
            Truth(FAR, category=1),
            Truth(FAR, image=2, category=3),
            Truth(FAR, image=2, category=3),
        ],
        [
            Guess(SQUARE, 0.9, 1, 3),
            Guess(MOST, 0.4, 2, 3),
            Guess(FAR, 0.4, 2, 1),
            Guess((100, 0, 5, 5), 0.5, 1, 1),
            Guess((100, 0, 5, 5), 0.6, 1, 3),
        ],
        [1, 2],
        [1, 2, 3],
    )
    table = confusion(*sought(case), 0.5, 0.4, iteration="run", iou_type="segm", subset="night")
    same = {
        "iteration": "run",
        "iou_type": "segm",
        "iou_threshold": 0.5,
        "confidence": 0.4,
        "max_detections": 100,
        "subset": "night",
        "attribute_hash": None,
    }
    named = {1: ("class-1", "name of 1"), 3: ("class-3", "name of 3"), None: (None, None)}
    assert table.to_pylist() == [
        same
        | dict(zip(("label_hash", "label_class"), named[label], strict=True))
        | dict(zip(("predicted_hash", "predicted_class"), named[predicted], strict=True))
        | {"count": 1}
        for label, predicted in [
            (1, 3),
            (1, None),
            (3, 1),
            (3, 3),
            (3, None),
            (None, 1),
            (None, 3),
        ]
    ]


def test_the_own_class_comes_first():
    # The surer guess of class 2 has the higher IoU, but class 1 finds its label itself.
    case = Case([Truth(SQUARE)], [Guess(SQUARE, 0.9, 1, 2), Guess(MOST, 0.2)], [1], [1, 2])
    assert cells(case) == {(1, 1): 1, (None, 2): 1}
    assert cells(case, 0.5, 0.5) == {(1, 2): 1}  # the one of class 1 no longer takes part
    assert cells(case, 0.85) == {(1, 2): 1, (None, 1): 1}  # nor reaches the label here
    assert cells(case, 0.5, 0.95) == {(1, None): 1}


def test_the_surest_of_any_class_takes_the_label_of_another():
    case = Case(
        [Truth(SQUARE)],
        [Guess(SQUARE, 0.5, 1, 2), Guess(MOST, 0.6, 1, 3), Guess(SQUARE, 0.4, 1, 2)],
        [1],
        [1, 2, 3],
    )
    assert cells(case) == {(1, 3): 1, (None, 2): 2}


def test_of_equal_scores_the_lower_prediction_id_goes_first():
    later = [Guess(SQUARE, 0.5, 1, 3), Guess(SQUARE, 0.5, 1, 2)]
    assert cells(Case([Truth(SQUARE)], later, [1], [1, 2, 3])) == {(1, 3): 1, (None, 2): 1}
    assert cells(Case([Truth(SQUARE)], later[::-1], [1], [1, 2, 3])) == {(1, 2): 1, (None, 3): 1}


def test_the_highest_iou_decides_between_labels():
    case = Case(
        [Truth(MORE, category=2), Truth(MOST, category=3)],
        [Guess(SQUARE, 0.9, 1, 1), Guess(HALF, 0.8, 1, 1)],
        [1],
        [1, 2, 3],
    )
    assert cells(case) == {(2, 1): 1, (3, 1): 1}
    assert cells(Case(case.truths, case.guesses[:1], [1], [1, 2, 3])) == {(2, 1): 1, (3, None): 1}


def test_of_equal_ious_the_later_label_whatever_its_class():
    truths = [Truth(SQUARE, category=3), Truth(SQUARE, category=2)]
    for some in (truths, truths[::-1]):
        last = some[-1].category
        found = cells(Case(some, [Guess(SQUARE)], [1], [1, 2, 3]))
        assert found == {(last, 1): 1, (5 - last, None): 1}


def test_ignored_labels_hide_what_matches_them():
    case = Case(
        [Truth((0, 0, 50, 50), crowd=True), Truth(FAR, ignored=True)],
        [Guess(SQUARE, 0.9), Guess(SQUARE, 0.8), Guess(FAR, 0.9), Guess(FAR, 0.8)],
    )
    assert cells(case) == {(None, 1): 1}  # the ignored label hides one, the crowd any number
    # Those of another class are nobody's mistake.
    other = [Guess(g.box, g.score, 1, 2) for g in case.guesses]
    assert cells(Case(case.truths, other, [1], [1, 2])) == {(None, 2): 4}


def test_an_unmatched_prediction_beyond_every_size_is_left_out():
    huge = (0.0, 0.0, 1e6, 1e6)
    assert cells(Case([], [Guess(huge)])) == {}
    case = Case([Truth(huge, category=2, area=100.0)], [Guess(huge)], [1], [1, 2])
    assert cells(case) == {(2, None): 1}
    assert cells(Case([Truth(huge, area=100.0)], [Guess(huge)])) == {(1, 1): 1}


def test_only_one_data_unit_is_looked_at():
    case = Case([Truth(SQUARE, 1, 1)], [Guess(SQUARE, 0.5, 2, 2)], [1, 2], [1, 2])
    assert cells(case) == {(1, None): 1, (None, 2): 1}


def test_a_label_with_id_zero_counts():
    assert cells(Case([Truth(SQUARE, id=0)], [Guess(SQUARE)])) == {(1, 1): 1}


def test_the_threshold_belongs_to_the_pairs_that_reach_it():
    case = Case([Truth(SQUARE)], [Guess(HALF, 0.5, 1, 2)], [1], [1, 2])
    assert cells(case, 0.5) == {(1, 2): 1}
    assert cells(case, np.nextafter(0.5, 1)) == {(1, None): 1, (None, 2): 1}


def test_predictions_beyond_the_cut_take_no_part():
    guesses = [Guess(FAR, 0.9), Guess(SQUARE, 0.8), Guess(SQUARE, 0.7, 1, 2)]
    case = Case([Truth(SQUARE)], guesses, [1], [1, 2])
    assert cells(case) == {(1, 1): 1, (None, 1): 1, (None, 2): 1}
    assert cells(case, max_detections=1) == {(1, 2): 1, (None, 1): 1}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case([], []), {}),
        (Case([], [], [], []), {}),
        (Case([Truth(SQUARE)], []), {(1, None): 1}),
        (Case([], [Guess(FAR)]), {(None, 1): 1}),
    ],
)
def test_empty_sides(case, expected):
    assert cells(case) == expected


def test_without_a_confidence_it_is_null():
    table = confusion(*sought(Case([Truth(SQUARE)], [Guess(SQUARE, -3.0)])))
    assert (table["confidence"].to_pylist(), table["count"].to_pylist()) == ([None], [1])


def test_classifications_among_the_classes_are_passed_over():
    candidates, classes = sought(Case([Truth(SQUARE, category=2)], [], [1], [1, 2]))
    at = classes.schema.get_field_index("kind")
    option = classes.slice(0, 1).set_column(at, "kind", pa.array(["classification"]))
    table = confusion(candidates, pa.concat_tables([option, classes]))
    assert table["label_hash"].to_pylist() == ["class-2"]


def test_candidates_must_suffice():
    case = Case([Truth(SQUARE)], [Guess(SQUARE)])
    candidates, classes = sought(case, 0.5, most=10)
    with pytest.raises(
        EaArrowError, match=r"from IoU 0\.5 and for 10 predictions; IoU 0\.3 and 10"
    ):
        confusion(candidates, classes, 0.3, max_detections=10)
    with pytest.raises(EaArrowError, match=r"IoU 0\.5 and 11 are needed"):
        confusion(candidates, classes, max_detections=11)
    assert cells_of(confusion(candidates, classes, max_detections=10)) == {(1, 1): 1}
    alone = find_candidates(*to_tables(case), lowest=0.5)
    with pytest.raises(EaArrowError, match="across classes"):
        confusion(alone, classes)
