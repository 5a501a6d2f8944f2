"""TIDE's kinds of error: cases worked out by hand, and a plain reading of the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow import schema
from ea_arrow.candidates import ANY_OVERLAP, find_candidates
from ea_arrow.evidence import Verdicts, matches, table
from ea_arrow.tide import BACKGROUND_IOU, find_errors
from tests.parity.oracle import Case, Guess, Truth, to_tables

SQUARE = (0, 0, 10, 10)
FAR = (300, 300, 10, 10)
PART_FAR = (300, 300, 10, 3)  # IoU with FAR 0.3
NOTHING = (None, None, None, None)


def part(tenths):
    """A box whose IoU with SQUARE is this many tenths."""
    return (0, 0, 10, tenths)


def candidates_of(tables, lowest=ANY_OVERLAP, lowest_across=BACKGROUND_IOU):
    return find_candidates(*tables, lowest=lowest, most=10**9, lowest_across=lowest_across)


def match(case, iou_threshold=0.5, **options):
    tables = to_tables(case)
    return matches(candidates_of(tables), *tables[2:], iou_threshold, **options).to_pylist()


def error(row):
    return row["error"], row["error_label_id"], row["error_feature_hash"], row["error_iou"]


def errors(truths, guesses, iou_threshold=0.5, **options):
    """The errors of predictions, then those of missed labels by label; classes are 1 to 3."""
    rows = match(Case(truths, guesses, [1], [1, 2, 3]), iou_threshold, **options)
    missed = [row for row in rows if row["outcome"] == "FN"]
    assert all(error(row)[1:] == NOTHING[1:] for row in missed)
    return (
        [error(row) for row in rows if row["prediction_id"] is not None],
        {row["label_id"]: row["error"] for row in missed},
    )


def test_localisation():
    assert errors([Truth(SQUARE)], [Guess(part(4))]) == (
        [("localisation", 0, "class-1", 0.4)],
        {0: "localisation"},
    )


def test_localisation_on_a_label_that_is_taken():
    found = errors([Truth(SQUARE)], [Guess(part(4), 0.3), Guess(SQUARE, 0.9)])
    assert found == ([("localisation", 0, "class-1", 0.4), NOTHING], {})


def test_class_confusion():
    assert errors([Truth(SQUARE)], [Guess(part(8), category=2)]) == (
        [("class confusion", 0, "class-1", 0.8)],
        {0: "class confusion"},
    )


def test_class_confusion_with_a_label_that_is_taken():
    found = errors([Truth(SQUARE)], [Guess(SQUARE), Guess(SQUARE, 0.9, category=2)])
    assert found == ([NOTHING, ("class confusion", 0, "class-1", 1.0)], {})


def test_duplicate():
    found = errors([Truth(SQUARE)], [Guess(SQUARE, 0.3), Guess(part(8), 0.9)])
    assert found == ([("duplicate", 0, "class-1", 1.0), NOTHING], {})


def test_background():
    background = ("background", None, None, None)
    assert errors([], [Guess(SQUARE)]) == ([background], {})
    found = errors(
        [Truth(SQUARE), Truth(SQUARE, category=2)],
        [Guess(FAR), Guess(part(0.5)), Guess(part(0.5), category=3)],
    )
    assert found == ([background] * 3, {0: "missed", 1: "missed"})


def test_both():
    assert errors([Truth(SQUARE)], [Guess(part(4), category=2)]) == (
        [("both", 0, "class-1", 0.4)],
        {0: "missed"},
    )


def test_both_with_too_little_overlap_in_its_own_class():
    found = errors([Truth(part(0.5)), Truth(part(4), category=2)], [Guess(SQUARE)])
    assert found == ([("both", 1, "class-2", 0.4)], {0: "missed", 1: "missed"})


def test_localisation_comes_before_class_confusion():
    found = errors([Truth(part(2)), Truth(SQUARE, category=2)], [Guess(SQUARE)])
    assert found == ([("localisation", 0, "class-1", 0.2)], {0: "localisation", 1: "missed"})


def test_class_confusion_comes_before_duplicate():
    found = errors(
        [Truth(SQUARE), Truth(part(6), category=2)], [Guess(SQUARE, 0.9), Guess(SQUARE, 0.3)]
    )
    assert found == ([NOTHING, ("class confusion", 1, "class-2", 0.6)], {1: "class confusion"})


def test_iou_of_exactly_the_background_bound():
    own, _ = errors([Truth(SQUARE)], [Guess(part(1))])
    assert own == [("localisation", 0, "class-1", 0.1)]
    other, _ = errors([Truth(SQUARE)], [Guess(part(1), category=2)])
    assert other == [("background", None, None, None)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_iou_of_exactly_the_threshold(threshold):
    exact = Guess(part(threshold * 10), 0.3)
    own, _ = errors([Truth(SQUARE)], [exact, Guess(SQUARE, 0.9)], threshold)
    assert own == [("duplicate", 0, "class-1", threshold), NOTHING]
    other, _ = errors([Truth(SQUARE, category=2)], [exact], threshold)
    assert other == [("class confusion", 0, "class-2", threshold)]


def test_the_best_label_explains_of_equal_ones_the_first():
    truths = [
        Truth(part(3)),
        Truth(part(4)),
        Truth(part(4)),
        Truth(part(7), category=3),
        Truth(part(9), category=3),
        Truth(part(9), category=2),
    ]
    guesses = [Guess(SQUARE, category=1), Guess((0, 0, 10, 40), category=1)]
    found, _ = errors(truths, guesses)
    assert found == [("localisation", 1, "class-1", 0.4), ("localisation", 1, "class-1", 0.1)]
    found, _ = errors(truths[3:], guesses)
    assert found == [
        ("class confusion", 1, "class-3", 0.9),
        ("both", 1, "class-3", 90 / 400),
    ]


def test_the_best_taken_label_explains_a_duplicate():
    truths = [Truth(part(6)), Truth(SQUARE)]
    found, missed = errors(
        truths, [Guess(SQUARE, 0.9), Guess(part(6), 0.8), Guess(SQUARE, 0.7), Guess(part(7), 0.6)]
    )
    assert found[2:] == [("duplicate", 1, "class-1", 1.0), ("duplicate", 0, "class-1", 60 / 70)]
    assert missed == {}


@pytest.mark.parametrize("kind", [{"ignored": True}, {"crowd": True}, {"area": 2e10}])
def test_labels_that_do_not_count_explain_nothing(kind):
    background = ("background", None, None, None)
    # Below the threshold with the class, at it with another class.
    for guess in (Guess(part(4)), Guess(SQUARE, category=2)):
        outside = Guess((0, 0, 10, 25)) if "crowd" in kind and guess.category == 1 else guess
        assert errors([Truth(SQUARE, **kind)], [outside]) == ([background], {})


def test_a_second_prediction_on_an_ignored_label_is_no_duplicate():
    found = errors([Truth(SQUARE, ignored=True)], [Guess(SQUARE, 0.9), Guess(SQUARE, 0.3)])
    assert found == ([NOTHING, ("background", None, None, None)], {})


def test_an_ignored_label_does_not_hide_one_that_counts():
    truths = [Truth(SQUARE, ignored=True, category=2), Truth(part(4), category=3)]
    assert errors(truths, [Guess(SQUARE)]) == ([("both", 1, "class-3", 0.4)], {1: "missed"})


def test_a_label_with_id_zero_is_no_error_but_its_duplicate_is():
    truths = [Truth(SQUARE, id=0)]
    guesses = [Guess(SQUARE, 0.9), Guess(SQUARE, 0.3), Guess(part(3), 0.2)]
    duplicate, localisation = (
        ("duplicate", 0, "class-1", 1.0),
        ("localisation", 0, "class-1", 0.3),
    )
    assert errors(truths, guesses) == ([NOTHING, duplicate, localisation], {0: None})
    found = errors(truths, guesses, annotation_id_zero_counts=True)
    assert found == ([NOTHING, duplicate, localisation], {})
    assert errors(truths, [Guess(FAR)])[1] == {0: "missed"}


def test_the_more_confident_decides_what_hides_a_label():
    localisation, confusion = Guess(part(4), 0.6), Guess(SQUARE, 0.5, category=2)
    assert errors([Truth(SQUARE)], [localisation, confusion])[1] == {0: "localisation"}
    assert errors([Truth(SQUARE)], [confusion, localisation])[1] == {0: "localisation"}
    localisation = Guess(part(4), 0.4)
    assert errors([Truth(SQUARE)], [localisation, confusion])[1] == {0: "class confusion"}
    assert errors([Truth(SQUARE)], [confusion, localisation])[1] == {0: "class confusion"}


@pytest.mark.parametrize("category", [1, 3])  # before and after class 2 in group order
def test_of_equally_confident_ones_the_first_decides(category):
    truths = [Truth(SQUARE, category=2)]
    confusion, localisation = Guess(SQUARE, category=category), Guess(part(4), category=2)
    assert errors(truths, [confusion, localisation])[1] == {0: "class confusion"}
    assert errors(truths, [localisation, confusion])[1] == {0: "localisation"}


def test_only_the_best_label_of_a_false_positive_is_hidden_by_it():
    truths = [Truth(part(2)), Truth(part(4))]
    assert errors(truths, [Guess(SQUARE)])[1] == {0: "missed", 1: "localisation"}


def test_a_label_of_class_confusion_that_is_taken_hides_nothing():
    truths = [Truth(SQUARE), Truth(part(9))]
    found, missed = errors(truths, [Guess(SQUARE, 0.3), Guess(SQUARE, 0.9, category=2)])
    assert found == [NOTHING, ("class confusion", 0, "class-1", 1.0)]
    assert missed == {1: "missed"}


def test_predictions_beyond_the_first_hundred_have_no_error_and_hide_nothing():
    found, missed = errors([Truth(SQUARE)], [Guess(part(4), 0.1), *[Guess(FAR, 0.9)] * 100])
    assert found == [NOTHING, *[("background", None, None, None)] * 100]
    assert missed == {0: "missed"}


@pytest.mark.parametrize("threshold", [0.05, 0.1])
def test_thresholds_as_low_as_background(threshold):
    own, _ = errors([Truth(SQUARE)], [Guess(part(1), 0.3), Guess(SQUARE, 0.9)], threshold)
    assert own == [("duplicate", 0, "class-1", 0.1), NOTHING]
    other, _ = errors([Truth(SQUARE)], [Guess(part(1), category=2)], threshold)
    assert other == [("class confusion", 0, "class-1", 0.1)]
    tables = to_tables(Case([Truth(SQUARE)], [Guess(part(0.7), category=2)], [1], [1, 2]))
    for lowest_across in (BACKGROUND_IOU, ANY_OVERLAP):
        candidates = candidates_of(tables, lowest_across=lowest_across)
        less = matches(candidates, *tables[2:], threshold)
        assert less["error"].to_pylist() == ["background", "missed"]


def test_candidates_without_the_pairs_needed_are_refused():
    tables = to_tables(Case([Truth(SQUARE)], [Guess(SQUARE)]))
    for options in ({"lowest_across": None}, {"lowest": 0.5}):
        with pytest.raises(ValueError, match="with lowest and lowest_across of at most"):
            matches(candidates_of(tables, **options), *tables[2:])


def test_of_equal_labels_the_one_that_is_taken_explains_a_duplicate():
    # As after a matching in which each prediction knows one label only.
    candidates = candidates_of(to_tables(Case([Truth(SQUARE)] * 2, [Guess(SQUARE)] * 2)))
    some = np.array([False, True])
    found = find_errors(candidates, some, some, np.ones(2, bool), 0.5)
    assert found.kind.tolist() == [-1, schema.ERRORS.index("duplicate")]
    assert found.label.tolist() == [-1, 1]
    np.testing.assert_array_equal(found.iou, [np.nan, 1.0])
    assert found.label_kind.tolist() == [schema.ERRORS.index("missed"), -1]


def test_reaching_only_labels_that_nobody_took_is_both():
    candidates = candidates_of(to_tables(Case([Truth(SQUARE)], [Guess(SQUARE)])))
    found = find_errors(candidates, *np.array([[True], [False], [True]]), 0.5)
    assert found.kind.tolist() == [schema.ERRORS.index("both")]
    assert found.label.tolist() == [-1]
    assert np.isnan(found.iou).all()
    assert found.label_kind.tolist() == [schema.ERRORS.index("missed")]


def test_rows_of_another_protocol():
    tables = to_tables(
        Case(
            [Truth(SQUARE), Truth(FAR), Truth(FAR, 2)],
            [Guess(PART_FAR, 0.3, 2), Guess(part(4), 0.4), Guess(SQUARE, 0.2), Guess(FAR, 0.1, 3)],
            [1, 2, 3],
        )
    )
    candidates = candidates_of(tables)
    # In group order: the predictions 1, 2, 0, 3. Say that 2 has label 0.
    label = np.array([-1, 0, -1, -1])
    is_taken = np.array([True, False, False])
    counts = np.ones(3, bool)
    found = Verdicts(
        protocol="encord",
        iou_type="segm",
        iou_threshold=0.5,
        label=label,
        iou=np.array([0.4, 1.0, 0.3, np.nan]),
        verdict=np.array([1, 0, 2, 2]),
        verdicts=[("TP", "Yes."), ("FP", "Low."), ("FP", "No.")],
        is_missed=counts & ~is_taken,
        miss=np.array([0, 0, 1]),
        misses=["Nobody came.", "Nobody stayed."],
        errors=find_errors(candidates, label < 0, is_taken, counts, 0.5),
    )
    rows = table(found, candidates.arranged, *tables[2:], iteration="run")
    assert rows.schema == schema.MATCHES.arrow
    rows = rows.to_pylist()
    shared = ("iteration", "protocol", "iou_type", "iou_threshold", "frame", "feature_hash")
    assert {tuple(row[name] for name in shared) for row in rows} == {
        ("run", "encord", "segm", 0.5, 0, "class-1")
    }
    told = ("data_hash", "prediction_id", "label_id", "iou", "confidence", "outcome", "reason")
    assert [tuple(row[name] for name in told) for row in rows] == [
        ("image-2", 0, None, 0.3, 0.3, "FP", "No."),
        ("image-1", 1, None, 0.4, 0.4, "FP", "Low."),
        ("image-1", 2, 0, 1.0, 0.2, "TP", "Yes."),
        ("image-3", 3, None, None, 0.1, "FP", "No."),
        ("image-1", None, 1, None, None, "FN", "Nobody came."),
        ("image-2", None, 2, None, None, "FN", "Nobody stayed."),
    ]
    assert [error(row)[:2] for row in rows] == [
        ("localisation", 2),
        ("localisation", 0),
        (None, None),
        ("background", None),
        ("missed", None),
        ("localisation", None),
    ]


# The reference: loops over boxes, written from the definitions.


def iou(guess, truth):
    x, y, w, h = guess.box
    left, top, width, height = truth.box
    across = min(x + w, left + width) - max(x, left)
    down = min(y + h, top + height) - max(y, top)
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    return both / (w * h if truth.crowd else w * h + width * height - both)


def by_confidence(case):
    """Positions of predictions: the most confident first, of equal ones the first given."""
    return sorted(range(len(case.guesses)), key=lambda g: -case.guesses[g].score)


def greedy(case, threshold):
    """The label that each prediction takes, as pycocotools does."""
    labels = range(len(case.truths))
    ignored = [t.crowd or t.ignored for t in case.truths]
    took = {}
    for g in by_confidence(case):
        guess = case.guesses[g]
        choices = [
            (not ignored[t], iou(guess, case.truths[t]), t)
            for t in labels
            if (case.truths[t].image, case.truths[t].category) == (guess.image, guess.category)
            and (case.truths[t].crowd or t not in took.values())
            and iou(guess, case.truths[t]) >= threshold
        ]
        if choices:
            took[g] = max(choices)[2]
    return took


def explain(case, took, g, threshold):
    """Kind, label, class and IoU for one false positive."""
    guess = case.guesses[g]
    usable = [
        (iou(guess, t), -number)
        for number, t in enumerate(case.truths)
        if t.image == guess.image and not (t.crowd or t.ignored)
    ]
    own = [u for u in usable if case.truths[-u[1]].category == guess.category]
    other = [u for u in usable if u not in own]
    used = [u for u in own if -u[1] in took.values()]

    def said(kind, explaining):
        best, label = max(explaining)
        return kind, -label, f"class-{case.truths[-label].category}", best

    if own and 0.1 <= max(own)[0] < threshold:
        return said("localisation", own)
    if other and max(other)[0] >= max(threshold, 0.1):
        return said("class confusion", other)
    if used and max(used)[0] >= threshold:
        return said("duplicate", used)
    if all(u[0] <= 0.1 for u in usable):
        return "background", None, None, None
    return said("both", other)


def reference(case, threshold):
    """Errors of all predictions, and of the labels that count and that no prediction took."""
    threshold = min(threshold, 1 - 1e-10)
    took = greedy(case, threshold)
    of_guess = [
        NOTHING if g in took else explain(case, took, g, threshold)
        for g in range(len(case.guesses))
    ]
    of_label = {}
    for number, truth in enumerate(case.truths):
        if truth.crowd or truth.ignored or number in took.values():
            continue
        hiding = [
            of_guess[g][0]
            for g in by_confidence(case)
            if of_guess[g][0] in ("localisation", "class confusion") and of_guess[g][1] == number
        ]
        of_label[number] = hiding[0] if hiding else "missed"
    return of_guess, of_label


BOXES = st.tuples(
    st.integers(0, 4),
    st.integers(0, 1),
    st.sampled_from([1, 2, 5, 9, 10]),
    st.sampled_from([5, 10]),
)
PLACES = {"image": st.integers(1, 2), "category": st.integers(1, 3)}
ODD = st.sampled_from([False] * 6 + [True])
CASES = st.builds(
    Case,
    st.lists(st.builds(Truth, BOXES, **PLACES, crowd=ODD, ignored=ODD), max_size=7),
    st.lists(
        st.builds(Guess, BOXES, score=st.sampled_from([0.2, 0.5, 0.5, 0.7, 0.9]), **PLACES),
        max_size=12,
    ),
    st.just([1, 2]),
    st.just([1, 2, 3]),
)
THRESHOLDS = st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.5, 0.5, 0.75, 0.9, 1.0])


@given(CASES, THRESHOLDS, st.sampled_from([ANY_OVERLAP, BACKGROUND_IOU]))
def test_errors_are_those_of_the_definitions(case, threshold, lowest_across):
    tables = to_tables(case)
    candidates = candidates_of(tables, lowest_across=lowest_across)
    rows = matches(candidates, *tables[2:], threshold).to_pylist()
    of_guess, of_label = reference(case, threshold)
    assert [error(row) for row in rows[: len(of_guess)]] == of_guess
    missed = rows[len(of_guess) :]
    assert {row["label_id"]: row["error"] for row in missed} == of_label


@given(CASES, THRESHOLDS, st.booleans())
def test_errors_stay_within_the_bounds_of_their_kind(case, threshold, first_has_id_zero):
    if first_has_id_zero:
        case.truths[:1] = [Truth(t.box, t.image, t.category, id=0) for t in case.truths[:1]]
    bounds = {
        "localisation": (0.1, threshold),
        "class confusion": (max(0.1, threshold), 1.0),
        "duplicate": (threshold, 1.0),
        "both": (0.1, threshold),
    }
    for row in match(case, threshold):
        kind, label, klass, overlap = error(row)
        if row["outcome"] in ("TP", "ignored") or "id is 0" in row["reason"]:
            assert error(row) == NOTHING
        elif row["outcome"] == "FN":
            assert kind in ("missed", "localisation", "class confusion")
            assert error(row)[1:] == NOTHING[1:]
        elif kind == "background":
            assert error(row)[1:] == NOTHING[1:]
        else:
            low, high = bounds[kind]
            assert low <= overlap <= high
            assert (kind in ("localisation", "both")) == (overlap < threshold)
            assert (klass == row["feature_hash"]) == (kind in ("localisation", "duplicate"))
            truth = case.truths[label]
            assert klass == f"class-{truth.category}"
            assert overlap == iou(case.guesses[row["prediction_id"]], truth)
            assert not truth.crowd
            assert not truth.ignored
