"""The ``encord`` protocol: worked out by hand, and against the definition in plain Python."""

import sys

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow import schema
from ea_arrow.candidates import ANY_OVERLAP, find_candidates
from ea_arrow.encord_match import MISSES, match, verdicts
from ea_arrow.errors import EaArrowError
from ea_arrow.metrics.encord import evaluate
from tests.parity.oracle import Case, Guess, Truth, to_tables

SQUARE = (0, 0, 10, 10)
HALF = (0, 0, 10, 5)  # IoU with SQUARE 0.5
MOST = (0, 0, 10, 8)  # 0.8
LITTLE = (0, 0, 10, 3)  # 0.3
FAR = (300, 300, 10, 10)

HIT = "Matched label."
TAKEN = "Prediction with higher confidence already matched label."
LOW = "IoU too low."

EPS = sys.float_info.epsilon
RECALLS = np.linspace(0, 1, 101).tolist()


def candidates_of(case, lowest=ANY_OVERLAP, most=10**9):
    return find_candidates(*to_tables(case), lowest=lowest, most=most)


def class_names(case):
    return [f"name of {c}" for c in sorted(case.categories)]


def judge(case, iou_threshold=0.5):
    """Return by prediction (label, IoU, reason), and by label why it was missed or None."""
    candidates = candidates_of(case)
    arranged, found = candidates.arranged, match(candidates, iou_threshold)
    texts = verdicts(class_names(case))
    predictions = {}
    for p, prediction_id in enumerate(arranged.prediction_id.tolist()):
        label = int(found.label[p])
        outcome, reason = texts[found.reason[p]]
        assert outcome == ("TP" if found.is_tp[p] else "FP")
        label_id = None if label < 0 else int(arranged.label_id[label])
        predictions[prediction_id] = (label_id, float(found.iou[p]), reason)
    labels = {
        int(label_id): None if found.is_found[g] else MISSES[found.miss[g]]
        for g, label_id in enumerate(arranged.label_id)
    }
    return [predictions[i] for i in sorted(predictions)], [labels[i] for i in sorted(labels)]


def reasons(case, iou_threshold=0.5):
    return [reason for _, _, reason in judge(case, iou_threshold)[0]]


def evaluation(case, iou_threshold=0.5, **options):
    return evaluate(candidates_of(case), to_tables(case)[3], iou_threshold, **options)


# The definition, one object at a time.


def overlap(guess, truth):
    (x, y, w, h), (left, top, width, height) = guess.box, truth.box
    across = min(x + w, left + width) - max(x, left)
    down = min(y + h, top + height) - max(y, top)
    if across <= 0 or down <= 0:
        return 0.0
    whole = w * h if truth.crowd else w * h + width * height - across * down
    return across * down / whole


def defined_matches(case, iou_threshold):
    """Return what ``judge`` returns, and the predictions in order."""
    order = sorted(range(len(case.guesses)), key=lambda p: -case.guesses[p].score)
    best = {}
    touched = set()
    for p in order:
        guess = case.guesses[p]
        best[p] = (None, 0.0)
        for g, truth in enumerate(case.truths):
            if (truth.image, truth.category) == (guess.image, guess.category):
                iou = overlap(guess, truth)
                if iou > 0:
                    touched.add(g)
                if iou > best[p][1]:
                    best[p] = (g, iou)
    verdict, missed = {}, []
    for p in order:
        if best[p][0] is None:
            verdict[p] = f"No overlapping label of class `name of {case.guesses[p].category}`."
    for g in range(len(case.truths)):
        found = False
        mine = [p for p in order if best[p][0] == g]
        for p in mine:
            if found:
                verdict[p] = TAKEN
            elif best[p][1] >= iou_threshold:
                verdict[p], found = HIT, True
            else:
                verdict[p] = LOW
        why = MISSES[2] if mine else MISSES[1] if g in touched else MISSES[0]
        missed.append(None if found else why)
    return [(*best[p], verdict[p]) for p in range(len(case.guesses))], missed, order


def defined_evaluation(case, iou_threshold, ignore_unmatched_frames):
    """Return (labels, predictions, hits, curve) of each class; the curve is None without labels."""
    judged, _, order = defined_matches(case, iou_threshold)
    images = {guess.image for guess in case.guesses}
    classes = []
    for category in sorted(case.categories):
        n_labels = sum(
            truth.category == category and (truth.image in images or not ignore_unmatched_frames)
            for truth in case.truths
        )
        hits = [judged[p][2] == HIT for p in order if case.guesses[p].category == category]
        precision, recall = [], []
        for i in range(1, len(hits) + 1):
            precision.append(sum(hits[:i]) / (i + EPS))
            recall.append(sum(hits[:i]) / (n_labels + EPS))
        curve = [
            next((max(precision[i:]) for i, r in enumerate(recall) if r >= wanted), 0.0)
            for wanted in RECALLS
        ]
        classes.append((n_labels, len(hits), sum(hits), curve if n_labels else None))
    return classes


@st.composite
def cases(draw):
    images = range(1, draw(st.integers(1, 3)) + 1)
    categories = range(1, draw(st.integers(1, 4)) + 1)
    corner, side = st.integers(0, 4), st.integers(0, 5)
    boxes = st.tuples(corner, corner, side, side).map(lambda b: tuple(float(v) for v in b))
    place = {"image": st.sampled_from(images), "category": st.sampled_from(categories)}
    rarely = st.sampled_from([False, False, False, True])
    truths = draw(
        st.lists(st.builds(Truth, box=boxes, crowd=rarely, ignored=rarely, **place), max_size=10)
    )
    scores = st.sampled_from([-1.0, 0.0, -0.0, 0.5, 0.5 + 2**-53, 7.0])
    guesses = draw(st.lists(st.builds(Guess, box=boxes, score=scores, **place), max_size=12))
    if truths:
        copies = draw(st.lists(st.tuples(st.sampled_from(truths), scores), max_size=8))
        guesses += [Guess(t.box, score, t.image, t.category) for t, score in copies]
        guesses = draw(st.permutations(guesses))
    return Case(truths, guesses, list(images), list(categories))


thresholds = st.sampled_from([1e-6, 0.25, 1 / 3, 0.5, 0.8, 1.0])


@given(cases(), thresholds)
def test_matches_are_those_of_the_definition(case, iou_threshold):
    predictions, labels = judge(case, iou_threshold)
    expected, missed, _ = defined_matches(case, iou_threshold)
    assert predictions == expected
    assert labels == missed


@given(cases(), thresholds, st.booleans())
def test_metrics_are_those_of_the_definition(case, iou_threshold, ignore):
    found = evaluation(case, iou_threshold, ignore_unmatched_frames=ignore)
    expected = defined_evaluation(case, iou_threshold, ignore)
    counts = np.stack([found.n_labels, found.n_predictions, found.n_tp], axis=1)
    assert counts.tolist() == [list(row[:3]) for row in expected]
    curves = [[-1.0] * 101 if curve is None else curve for *_, curve in expected]
    assert found.interpolated_precision.tolist() == curves
    ap = [sum(curve) / 101 for *_, curve in expected if curve]
    ar = [hits / (n + EPS) for n, _, hits, _ in expected if n]
    assert found.ap[found.n_labels > 0].tolist() == pytest.approx(ap, abs=1e-12)
    assert found.ar[found.n_labels > 0].tolist() == ar
    assert found.mean_ap == pytest.approx(sum(ap) / len(ap) if ap else -1, abs=1e-12)
    assert found.mean_ar == pytest.approx(sum(ar) / len(ar) if ar else -1, abs=1e-12)


@given(cases())
def test_a_subset_of_data_units_is_as_if_there_were_no_others(case):
    """Of a subset, ranks and ids have gaps."""
    predictions, labels, units, classes = to_tables(case)
    last = units["data_hash"][-1]
    inside = np.arange(len(units)) == len(units) - 1
    some = [table.filter(pc.equal(table["data_hash"], last)) for table in (predictions, labels)]
    alone = find_candidates(*some, units, classes, lowest=ANY_OVERLAP, most=10**9)
    part = evaluate(candidates_of(case).within(inside), classes)
    whole = evaluate(alone, classes)
    assert part.to_metrics("run", "", "last").equals(whole.to_metrics("run", "", "last"))
    np.testing.assert_array_equal(part.interpolated_precision, whole.interpolated_precision)


def test_a_subset_whose_ranks_exceed_its_size():
    scores = (0.9, 0.8, 0.7, 0.6, 0.4, 0.3)
    last = [Guess(SQUARE, 0.2, 2, 1), Guess(SQUARE, 0.5, 2, 2)]
    case = Case(
        [Truth(SQUARE, 2, 1), Truth(SQUARE, 2, 2)],
        [Guess(FAR, score, 1) for score in scores] + last,
        [1, 2],
        [1, 2],
    )
    part = candidates_of(case).within(np.array([False, True]))
    assert evaluate(part, to_tables(case)[3]).ap.tolist() == pytest.approx([100 / 101] * 2)


def test_reasons_by_precedence():
    case = Case(
        [Truth(SQUARE)],
        [
            Guess(LITTLE, 0.6),
            Guess(SQUARE, 0.7),
            Guess(MOST, 0.8),
            Guess(LITTLE, 0.9),
            Guess(FAR, 1.0),
        ],
    )
    predictions, labels = judge(case)
    assert predictions == [
        (0, 0.3, TAKEN),  # its IoU is too low as well
        (0, 1.0, TAKEN),  # more overlap does not help
        (0, 0.8, HIT),
        (0, 0.3, LOW),  # more confident than the hit
        (None, 0.0, "No overlapping label of class `name of 1`."),
    ]
    assert labels == [None]


def test_an_iou_on_the_threshold_reaches_it():
    case = Case([Truth(SQUARE)], [Guess(HALF)])
    assert reasons(case, 0.5) == [HIT]
    assert reasons(case, np.nextafter(0.5, 1)) == [LOW]
    assert reasons(Case([Truth(SQUARE)], [Guess(SQUARE)]), 1.0) == [HIT]
    # pycocotools would let this one match at 1.
    nearly = (0, 0, 1, 1 - 2**-40)
    assert reasons(Case([Truth((0, 0, 1, 1))], [Guess(nearly)]), 1.0) == [LOW]


def test_no_prediction_goes_to_its_second_best_label():
    case = Case([Truth(SQUARE), Truth(MOST)], [Guess(SQUARE, 0.9), Guess(SQUARE, 0.8)])
    predictions, labels = judge(case)
    assert predictions == [(0, 1.0, HIT), (0, 1.0, TAKEN)]
    assert labels == [None, MISSES[1]]


def test_of_equal_ious_the_first_label_counts_and_of_equal_scores_the_first_to_arrive():
    case = Case([Truth(SQUARE), Truth(SQUARE)], [Guess(SQUARE), Guess(SQUARE)])
    predictions, labels = judge(case)
    assert predictions == [(0, 1.0, HIT), (0, 1.0, TAKEN)]
    assert labels == [None, MISSES[1]]


def test_labels_are_missed_with_a_reason():
    case = Case(
        [Truth(SQUARE), Truth(FAR), Truth(SQUARE, category=2)],
        [Guess(HALF), Guess(LITTLE)],
        [1],
        [1, 2],
    )
    _, labels = judge(case, 0.6)
    # That of a class without predictions is missed too.
    assert labels == [MISSES[2], MISSES[0], MISSES[0]]


def test_classes_and_data_units_keep_apart():
    case = Case(
        [Truth(SQUARE, 1, 1), Truth(SQUARE, 2, 2)],
        [Guess(SQUARE, 0.9, 1, 2), Guess(SQUARE, 0.8, 2, 1), Guess(SQUARE, 0.7, 2, 2)],
        [1, 2],
        [1, 2],
    )
    assert reasons(case) == [
        "No overlapping label of class `name of 2`.",
        "No overlapping label of class `name of 1`.",
        HIT,
    ]


def test_crowds_and_ignored_labels_take_part():
    case = Case(
        [Truth((0, 0, 50, 50), crowd=True), Truth(FAR, ignored=True)],
        [Guess(SQUARE, 0.9), Guess(HALF, 0.8), Guess(FAR)],
    )
    predictions, labels = judge(case)
    assert predictions == [(0, 1.0, HIT), (0, 1.0, TAKEN), (1, 1.0, HIT)]
    assert labels == [None, None]
    assert evaluation(case).n_labels.tolist() == [2]


def test_there_is_no_limit_on_detections():
    case = Case([Truth(SQUARE)], [*[Guess(FAR, 0.9)] * 150, Guess(SQUARE, 0.1)])
    assert reasons(case)[-1] == HIT


def test_average_precision():
    spots = [(100.0 * i, 0, 10, 10) for i in range(4)]
    guesses = [Guess(spots[0], 0.9), Guess(FAR, 0.8), Guess(spots[1], 0.7), Guess(FAR, 0.6)]
    found = evaluation(Case([Truth(spot) for spot in spots], guesses))
    # Recall 1/4 at precision 1: 26 of the 101 recalls; 2/4 at 2/3: 25 more.
    assert found.ap.tolist() == pytest.approx([(26 + 25 * 2 / 3) / 101])
    assert found.ar.tolist() == [0.5]
    assert found.interpolated_precision[0, [0, 25, 26, 50, 51, 100]].tolist() == pytest.approx(
        [1, 1, 2 / 3, 2 / 3, 0, 0]
    )
    assert (found.n_tp.item(), found.n_fp.item(), found.n_fn.item()) == (2, 2, 2)
    assert (found.precision.item(), found.recall.item(), found.f1.item()) == (0.5, 0.5, 0.5)


def test_precision_is_the_highest_at_a_recall_or_beyond():
    spots = [(100.0 * i, 0, 10, 10) for i in range(2)]
    guesses = [Guess(FAR, 0.9), Guess(spots[0], 0.8), Guess(spots[1], 0.7)]
    found = evaluation(Case([Truth(spot) for spot in spots], guesses))
    assert found.interpolated_precision.tolist() == [[2 / 3] * 101]


def test_a_single_label_never_quite_reaches_recall_1():
    found = evaluation(Case([Truth(SQUARE)], [Guess(SQUARE)]))
    assert found.ap.tolist() == pytest.approx([100 / 101], abs=1e-15)
    assert found.ar.tolist() == [1 - 2**-52]
    assert found.recall.tolist() == [1.0]


def test_equal_scores_count_in_order_of_arrival_not_of_data_units():
    case = Case([Truth(SQUARE, 1)], [Guess(SQUARE, 0.5, 2), Guess(SQUARE, 0.5, 1)], [1, 2])
    assert evaluation(case).ap.tolist() == pytest.approx([0.5 * 100 / 101])
    case.guesses.reverse()
    assert evaluation(case).ap.tolist() == pytest.approx([100 / 101])


FOUR = Case(  # class 1: found, and missed; 2: no prediction; 3: no label; 4: neither
    [Truth(SQUARE), Truth(FAR), Truth(FAR, category=2)],
    [Guess(SQUARE), Guess(SQUARE, category=3)],
    [1],
    [1, 2, 3, 4],
)


def test_classes_without_labels_or_predictions():
    found = evaluation(FOUR)
    assert found.ap.tolist() == pytest.approx([51 / 101, 0, -1, -1])
    assert found.ar.tolist() == [0.5, 0, -1, -1]
    assert found.precision.tolist() == [1, -1, 0, -1]
    assert found.recall.tolist() == [0.5, 0, -1, -1]
    assert found.f1.tolist() == [2 / 3, 0, 0, -1]
    assert found.n_fn.tolist() == [1, 1, 0, 0]
    assert found.mean_ap == pytest.approx(51 / 202)
    assert found.mean_ar == 0.25
    assert found.overall_precision == 1 / 2
    assert found.overall_recall == 1 / 3
    assert found.overall_f1 == 2 / 5


def test_unmatched_frames_can_be_ignored():
    case = Case(
        [Truth(SQUARE, image, 1) for image in (1, 2, 3)] + [Truth(SQUARE, 3, 2)],
        [Guess(SQUARE, 0.9, 1, 1), Guess(SQUARE, 0.8, 2, 2)],
        [1, 2, 3],
        [1, 2],
    )
    every = evaluation(case)
    assert every.n_labels.tolist() == [3, 1]
    assert every.ar.tolist() == [1 / 3, 0]
    some = evaluation(case, ignore_unmatched_frames=True)
    # Image 2 has a prediction, of the other class; image 3 has none, so class 2 has no label left.
    assert some.n_labels.tolist() == [2, 0]
    assert some.ar.tolist() == [0.5, -1]
    assert some.ap.tolist() == pytest.approx([51 / 101, -1])
    assert some.mean_ar == 0.5
    assert some.n_predictions.tolist() == every.n_predictions.tolist() == [1, 1]
    assert some.n_tp.tolist() == every.n_tp.tolist() == [1, 0]


def test_metrics_table():
    table = evaluation(FOUR, 0.75).to_metrics("run", "print", "night", "segm")
    assert table.schema == schema.METRICS.arrow
    rows = table.to_pylist()
    assert rows[0] == {
        "iteration": "run",
        "protocol": "encord",
        "iou_type": "segm",
        "subset": "night",
        "metric": "mAP",
        "feature_hash": None,
        "attribute_hash": None,
        "option_hash": None,
        "class": None,
        "area_range": None,
        "area_low": None,
        "area_high": None,
        "iou_threshold": 0.75,
        "iou_thresholds": [0.75],
        "max_detections": None,
        "value": pytest.approx(51 / 202),
        "n_labels": 3,
        "n_predictions": 2,
        "provenance": "print",
    }
    short = [(r["feature_hash"], r["class"], r["metric"], r["value"]) for r in rows]
    assert short[1:5] == [
        (None, None, "mAR", 0.25),
        (None, None, "precision", 1 / 2),
        (None, None, "recall", 1 / 3),
        (None, None, "F1", 2 / 5),
    ]
    assert short[5:10] == [
        ("class-1", "name of 1", "AP", pytest.approx(51 / 101)),
        ("class-1", "name of 1", "AR", 0.5),
        ("class-1", "name of 1", "precision", 1.0),
        ("class-1", "name of 1", "recall", 0.5),
        ("class-1", "name of 1", "F1", 2 / 3),
    ]
    assert [value for *_, value in short[10:]] == [
        *(0, 0, None, 0, 0),
        *(None, None, 0, None, 0),
        *(None,) * 5,
    ]
    counts = [(r["n_labels"], r["n_predictions"]) for r in rows[5::5]]
    assert counts == [(2, 1), (1, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    ("case", "values"),
    [
        (Case([], []), [None] * 10),
        (Case([], [], [], []), [None] * 5),
        (Case([Truth(SQUARE)], []), [0, 0, None, 0, 0] * 2),
        (Case([], [Guess(SQUARE)]), [None, None, 0, None, 0] * 2),
    ],
)
def test_empty_tables(case, values):
    assert evaluation(case).to_metrics("run", "")["value"].to_pylist() == values
    assert len(judge(case)[0]) == len(case.guesses)


def test_incomplete_candidates_are_refused():
    case = Case([Truth(SQUARE)], [Guess(SQUARE), Guess(MOST)])
    with pytest.raises(EaArrowError, match=r"from IoU 0\.5 and .* needs every overlap and 2\."):
        match(candidates_of(case, lowest=0.5), 0.5)
    with pytest.raises(EaArrowError, match="for 1 predictions"):
        match(candidates_of(case, most=1), 0.5)
    assert match(candidates_of(case, most=2), 0.5).is_tp.tolist() == [True, False]
