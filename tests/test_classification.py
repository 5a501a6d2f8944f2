"""Metrics of classifications: worked by hand, and against a plain-Python reference."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.arranged import spread
from ea_arrow.errors import EaArrowError, SchemaError
from ea_arrow.metrics import classification
from ea_arrow.metrics.classification import evaluate
from ea_arrow.schema import CONFUSION, LABELS, METRICS, PREDICTIONS
from tests.builders import class_table, data_units, object_classes, option_classes

SUN, RAIN, SNOW = (("scene", "weather", option) for option in ("sun", "rain", "snow"))
DAY, NIGHT = (("scene", "time", option) for option in ("day", "night"))
# Equal hashes of an option and an attribute elsewhere are other options.
OTHER_SUN, OTHER_TIME = ("place", "weather", "sun"), ("place", "time", "sun")
OPTIONS = (SUN, DAY, RAIN, NIGHT, SNOW, OTHER_TIME, OTHER_SUN)  # attributes interleaved
UNITS = (("film", 0), ("film", 1), ("image", 0))
KEY = ("feature_hash", "attribute_hash", "option_hash")
EMPTY = {"n_labelled": 0, "n_answered": 0, "n_correct": 0, "n_missing": 0, "n_unlabelled": 0} | {
    "n_superseded": 0,
    "n_further_labels": 0,
    "n_unusable_probabilities": 0,
}


def row(unit, option, **columns):
    data_hash, frame = UNITS[unit]
    keys = dict(zip(KEY, option, strict=True))
    return {"data_hash": data_hash, "frame": frame, "format": "classification"} | keys | columns


def tables(guesses, truths, options=OPTIONS):
    """Of guesses (unit, option, confidence = 0.5, probabilities = None) and truths (unit, option).

    The predictions and labels of objects stand between them; ids count in the order given.
    """
    guesses = [
        (*guess, 0.5, None)[:4] if len(guess) < 3 else (*guess, None)[:4] for guess in guesses
    ]
    thing = {"data_hash": "image", "frame": 0, "format": "mask", "feature_hash": "car"}
    predictions = [thing | {"prediction_id": 1000, "confidence": 0.9}] + [
        row(unit, option, prediction_id=i, confidence=confidence, probabilities=probabilities)
        for i, (unit, option, confidence, probabilities) in enumerate(guesses)
    ]
    labels = [row(unit, option, label_id=i) for i, (unit, option) in enumerate(truths)]
    labels.append(thing | {"label_id": 1000})
    rows = object_classes(("car", "polygon", None)) + option_classes(*options)
    names = [r | {"name": f"name of {r['name']}"} for r in rows]
    return (
        pa.Table.from_pylist(predictions, schema=PREDICTIONS.arrow),
        pa.Table.from_pylist(labels, schema=LABELS.arrow),
        data_units(*((*unit, 10, 10) for unit in UNITS)),
        class_table(names),
    )


def numbers(evaluation):
    """METRICS as {(three hashes, metric): value}."""
    rows = evaluation.to_metrics("run", "print").to_pylist()
    found = {(*(r[k] for k in KEY), r["metric"]): r["value"] for r in rows}
    assert len(found) == len(rows)
    return found


def confusion(evaluation):
    """CONFUSION as [(attribute, label, prediction, count)]."""
    names = ("attribute_hash", "label_hash", "predicted_hash", "count")
    return [tuple(r[n] for n in names) for r in evaluation.to_confusion("run").to_pylist()]


def counts(evaluation, attribute=("scene", "weather")):
    """The counts of an attribute that are not 0."""
    (found,) = (
        r
        for r in evaluation.counts().to_pylist()
        if (r.pop("feature_hash"), r.pop("attribute_hash")) == attribute
    )
    assert found.keys() == EMPTY.keys()
    return {name: n for name, n in found.items() if n}


def test_all_metrics_of_one_attribute():
    """Two suns, one taken for rain; one rain, taken for rain."""
    case = tables([(0, SUN), (1, RAIN), (2, RAIN)], [(2, RAIN), (1, SUN), (0, SUN)])
    evaluation = evaluate(*case)
    weather = {
        "accuracy": 2 / 3,
        "precision_macro": (1 + 1 / 2) / 2,
        "recall_macro": (1 / 2 + 1) / 2,
        "F1_macro": 2 / 3,
        "precision_micro": 2 / 3,
        "recall_micro": 2 / 3,
        "F1_micro": 2 / 3,
    }
    expected = {(None, None, None, name): value for name, value in weather.items()}
    expected |= {("scene", "weather", None, name): value for name, value in weather.items()}
    for option, values in ((SUN, (1, 1 / 2)), (RAIN, (1 / 2, 1)), (SNOW, (None, None))):
        expected[*option, "precision"], expected[*option, "recall"] = values
        expected[*option, "F1"] = None if option == SNOW else 2 / 3
    assert numbers(evaluation) == pytest.approx(expected)
    assert list(numbers(evaluation)) == list(expected)
    assert confusion(evaluation) == [
        ("weather", "sun", "sun", 1),
        ("weather", "sun", "rain", 1),
        ("weather", "rain", "rain", 1),
    ]
    assert counts(evaluation) == {"n_labelled": 3, "n_answered": 3, "n_correct": 2}
    assert counts(evaluation, ("scene", "time")) == {}


def test_every_column_is_filled():
    evaluation = evaluate(*tables([(0, SUN)], [(0, RAIN), (1, RAIN)]))
    metrics = evaluation.to_metrics("run", "print", "night")
    assert metrics.schema == METRICS.arrow
    absent = ("iou_type", "area_range", "iou_threshold", "iou_thresholds", "max_detections")
    absent += ("area_low", "area_high")
    assert all(metrics[name].null_count == len(metrics) for name in absent)
    assert metrics.filter(pa.compute.equal(metrics["option_hash"], "rain")).to_pylist()[1] == {
        "iteration": "run",
        "protocol": "classification",
        "subset": "night",
        "metric": "recall",
        "feature_hash": "scene",
        "attribute_hash": "weather",
        "option_hash": "rain",
        "class": "name of rain",
        "value": 0.0,
        "n_labels": 2,
        "n_predictions": 0,
        "provenance": "print",
    } | dict.fromkeys(absent)
    matrix = evaluation.to_confusion("run", "night")
    assert matrix.schema == CONFUSION.arrow
    assert matrix.to_pylist()[0] == {
        "iteration": "run",
        "iou_type": None,
        "iou_threshold": None,
        "confidence": None,
        "max_detections": None,
        "subset": "night",
        "attribute_hash": "weather",
        "label_hash": "rain",
        "label_class": "name of rain",
        "predicted_hash": "sun",
        "predicted_class": "name of sun",
        "count": 1,
    }


def test_pairs_share_unit_and_attribute_whatever_their_position():
    guesses = [(0, SUN), (0, DAY), (1, RAIN), (1, OTHER_SUN)]
    evaluation = evaluate(*tables(guesses, [(1, OTHER_SUN), (1, RAIN), (0, DAY), (0, SUN)]))
    assert numbers(evaluation)[None, None, None, "accuracy"] == 1
    assert [count for *_, count in confusion(evaluation)] == [1, 1, 1, 1]
    # The same hashes shifted by one unit have nothing in common.
    evaluation = evaluate(*tables(guesses, [(2, SUN), (1, DAY), (0, OTHER_SUN)]))
    assert numbers(evaluation)[None, None, None, "accuracy"] == 0
    assert counts(evaluation) == {
        "n_labelled": 1,
        "n_answered": 2,
        "n_missing": 1,
        "n_unlabelled": 2,
    }


def test_attributes_and_options_keep_their_order():
    evaluation = evaluate(*tables([(0, option) for option in reversed(OPTIONS)], []))
    attributes = [("scene", "weather"), ("scene", "time"), ("place", "time"), ("place", "weather")]
    rows = evaluation.counts().to_pylist()
    assert [(r["feature_hash"], r["attribute_hash"]) for r in rows] == attributes
    keys = list(dict.fromkeys(key[:3] for key in numbers(evaluation)))
    options = [option for a in attributes for option in OPTIONS if option[:2] == a]
    assert keys == [(None, None, None), *((*a, None) for a in attributes), *options]
    assert len(evaluation.tp) == len(options)


def test_a_label_without_prediction_is_wrong_and_missing():
    evaluation = evaluate(*tables([(0, SUN)], [(0, SUN), (1, SUN), (2, RAIN)]))
    found = numbers(evaluation)
    assert found["scene", "weather", None, "accuracy"] == pytest.approx(1 / 3)
    assert (found[*SUN, "precision"], found[*SUN, "recall"]) == (1, 0.5)
    assert (found[*RAIN, "precision"], found[*RAIN, "recall"], found[*RAIN, "F1"]) == (None, 0, 0)
    assert confusion(evaluation)[1:] == [
        ("weather", "sun", None, 1),
        ("weather", "rain", None, 1),
    ]
    assert counts(evaluation) == {
        "n_labelled": 3,
        "n_answered": 1,
        "n_correct": 1,
        "n_missing": 2,
    }


def test_a_prediction_without_label_is_a_false_positive_that_accuracy_leaves_out():
    evaluation = evaluate(*tables([(0, SUN), (1, SUN)], [(0, SUN)]))
    found = numbers(evaluation)
    assert found["scene", "weather", None, "accuracy"] == 1
    assert (found[*SUN, "precision"], found[*SUN, "recall"]) == (0.5, 1)
    assert confusion(evaluation)[1:] == [("weather", None, "sun", 1)]
    assert counts(evaluation)["n_unlabelled"] == 1


@pytest.mark.parametrize(
    ("guesses", "truths", "defined"),
    [([(0, SUN)], [], "precision"), ([], [(0, SUN)], "recall")],
)
def test_what_no_option_defines_is_null(guesses, truths, defined):
    found = numbers(evaluate(*tables(guesses, truths)))
    other = {"precision": "recall", "recall": "precision"}[defined]
    for hashes in ((None, None), ("scene", "weather")):
        assert found[*hashes, None, "accuracy"] == (None if defined == "precision" else 0)
        for mean in ("macro", "micro"):
            assert found[*hashes, None, f"{defined}_{mean}"] == 0
            assert found[*hashes, None, f"{other}_{mean}"] is None
            assert found[*hashes, None, f"F1_{mean}"] == 0


def test_the_most_confident_answer_counts_and_the_others_are_superseded():
    guesses = [(0, RAIN, 0.6), (0, SUN, 0.7), (0, SNOW, -3.0), (1, RAIN, 0.2), (1, SUN, 0.2)]
    evaluation = evaluate(*tables(guesses, [(0, SUN), (1, RAIN)]))
    assert numbers(evaluation)[None, None, None, "accuracy"] == 1
    assert counts(evaluation) == {
        "n_labelled": 2,
        "n_answered": 2,
        "n_correct": 2,
        "n_superseded": 3,
    }
    # The id decides between equals, not the place in the table.
    case = tables(guesses[3:], [(1, RAIN)])
    turned = case[0].take(pa.array([2, 1, 0]))
    assert numbers(evaluate(turned, *case[1:]))[None, None, None, "accuracy"] == 1


def test_any_of_several_labels_may_be_answered():
    """The answer is right twice; where it is not, the label of the lowest id is the one missed."""
    truths = [(0, RAIN), (0, SUN), (1, SUN), (1, RAIN), (2, SNOW), (2, RAIN), (2, RAIN)]
    evaluation = evaluate(*tables([(0, SUN), (1, SUN), (2, SUN)], truths))
    assert confusion(evaluation) == [("weather", "sun", "sun", 2), ("weather", "snow", "sun", 1)]
    assert counts(evaluation) == {
        "n_labelled": 3,
        "n_answered": 3,
        "n_correct": 2,
        "n_further_labels": 4,
    }


def test_all_attributes_together_are_pooled():
    """Weather 1 of 1, time 0 of 2; the options that occur are sun, day and night."""
    evaluation = evaluate(
        *tables([(0, SUN), (0, DAY), (1, DAY)], [(0, SUN), (0, NIGHT), (1, NIGHT)])
    )
    found = numbers(evaluation)
    assert found["scene", "time", None, "accuracy"] == 0
    assert found[None, None, None, "accuracy"] == pytest.approx(1 / 3)
    assert found[None, None, None, "recall_macro"] == pytest.approx(1 / 3)
    row = evaluation.to_metrics("run", "print").to_pylist()[0]
    assert (row["n_labels"], row["n_predictions"]) == (3, 3)


def top(guesses, truths, k, options=OPTIONS, attribute=("scene", "weather")):
    evaluation = evaluate(*tables(guesses, truths, options), top_k=(k,))
    return numbers(evaluation).get((*attribute, None, f"top{k}_accuracy"), "no row")


def test_top_k_looks_for_the_label_among_the_likeliest_options():
    """The options of the weather are sun, rain, snow, with the time's in between."""
    guesses = [(0, SUN, 0.5, [0.5, 0.3, 0.2]), (1, SUN, 0.5, [0.5, 0.3, 0.2])]
    truths = [(0, RAIN), (1, SNOW)]
    assert top(guesses, truths, 2) == 0.5
    assert top(guesses, truths, 1) == 0
    assert top(guesses, truths, 3) == "no row"  # all options
    assert top(guesses, [(0, SUN), (1, SUN)], 1) == 1


def test_of_equal_probabilities_the_first_option_ranks_higher():
    guess = [(0, SUN, 0.5, [0.4, 0.2, 0.4])]
    assert top(guess, [(0, SUN)], 1) == 1
    assert top(guess, [(0, SNOW)], 1) == 0
    assert top(guess, [(0, SNOW)], 2) == 1
    assert top(guess, [(0, RAIN)], 2) == 0


def test_of_several_labels_the_likeliest_counts_for_top_k():
    guess = [(0, SNOW, 0.5, [0.5, 0.3, 0.2])]
    assert top(guess, [(0, SNOW), (0, RAIN)], 2) == 1
    assert top(guess, [(0, SNOW), (0, RAIN)], 1) == 0


def test_without_usable_probabilities_the_answer_counts():
    usable = (0, RAIN, 0.5, [0.5, 0.3, 0.2])
    others = [(1, SUN), (2, RAIN)]
    truths = [(0, SUN), (1, SUN), (2, SUN)]
    assert top([usable, *others], truths, 1) == pytest.approx(2 / 3)
    assert top(others, [*truths], 1) == "no row"
    assert top([usable], [*truths], 1) == pytest.approx(1 / 3)  # a missing prediction is wrong


@pytest.mark.parametrize("vector", [[0.5, 0.5], [], [0.1] * 4, [None, 0.1, 0.2], [0.9, np.nan, 0]])
def test_probabilities_that_do_not_fit_are_counted(vector):
    odd, fine = (0, SUN, 0.5, vector), (1, RAIN, 0.5, [0.5, 0.3, 0.2])
    assert top([odd], [(0, SUN)], 1) == "no row"
    assert top([odd, fine], [(0, SUN), (1, RAIN)], 1) == 0.5
    evaluation = evaluate(*tables([odd, fine, (0, RAIN, 0.1, vector)], []))
    assert counts(evaluation)["n_unusable_probabilities"] == 1  # of the answers only


def test_values_under_a_null_are_no_probabilities():
    predictions, *rest = tables([(0, SUN)], [(0, SUN)])
    hidden = pa.ListArray.from_arrays(
        pa.array([0, 3, 6], pa.int32()),
        pa.array([0, 1, 0] * 2, pa.float32()),
        mask=pa.array([True, True]),
    )
    place = predictions.column_names.index("probabilities")
    evaluation = evaluate(predictions.set_column(place, "probabilities", hidden), *rest, top_k=(1,))
    assert ("scene", "weather", None, "top1_accuracy") not in numbers(evaluation)
    assert counts(evaluation) == {"n_labelled": 1, "n_answered": 1, "n_correct": 1}


def test_only_the_vector_of_the_answer_counts():
    guesses = [(0, SUN, 0.1, [0.1, 0.2, 0.7]), (0, SUN, 0.9, [0.7, 0.2, 0.1]), (0, SUN, 0.2)]
    assert top(guesses, [(0, SUN)], 1) == 1


def test_top_k_in_order_and_once():
    case = tables([(0, SUN, 0.5, [1, 0, 0])], [(0, SUN)])
    evaluation = evaluate(*case, top_k=(2, 1, 2))
    names = [key[3] for key in numbers(evaluation) if key[:3] == ("scene", "weather", None)]
    assert names[7:] == ["top1_accuracy", "top2_accuracy"]
    assert "top5_accuracy" not in {key[3] for key in numbers(evaluate(*case))}
    with pytest.raises(EaArrowError, match="1 or more"):
        evaluate(*case, top_k=(1, 0))


def test_many_probabilities_are_ranked_block_by_block(monkeypatch):
    random = np.random.default_rng(0)
    size = random.integers(1, 9, 50)
    values = random.integers(0, 4, size.sum()).astype(np.float32)
    start, place = np.cumsum(size) - size, random.integers(0, size)
    expected = [
        sorted(range(n), key=lambda i, s=s: -values[s + i]).index(p)
        for s, n, p in zip(start, size, place, strict=True)
    ]
    for block in (1, 7, 1000):
        monkeypatch.setattr(classification, "_BLOCK", block)
        assert classification._places(values, start, size, place).tolist() == expected
    assert len(spread(start, size)) == len(values)


def test_dictionaries_and_chunks_change_nothing():
    guesses = [(0, SUN, 0.5, [1, 0, 0]), (1, RAIN), (1, NIGHT), (2, OTHER_SUN)]
    case = tables(guesses, [(0, SUN), (1, SUN), (2, SNOW), (1, NIGHT)])
    whole = evaluate(*case, top_k=(1,))

    def mixed(table):
        chunked = pa.concat_tables([table.slice(0, 2), table.slice(2, 0), table.slice(2)])
        for name in ("data_hash", "format", *KEY):
            column = chunked[name].dictionary_encode()
            chunked = chunked.set_column(chunked.column_names.index(name), name, column)
        return chunked

    parts = evaluate(mixed(case[0]), mixed(case[1]), *case[2:], top_k=(1,))
    assert parts.to_metrics("run", "print").equals(whole.to_metrics("run", "print"))
    assert parts.to_confusion("run").equals(whole.to_confusion("run"))
    assert parts.counts().equals(whole.counts())
    classes = mixed(
        case[3].append_column("data_hash", case[3]["name"]).append_column("format", case[3]["name"])
    )
    assert evaluate(*case[:3], classes).to_confusion("run").equals(whole.to_confusion("run"))


@pytest.mark.parametrize("n_options", [0, len(OPTIONS)])
def test_nothing_gives_no_rows(n_options):
    predictions, labels, units, classes = tables([], [], OPTIONS[:n_options])
    nothing = (
        (predictions, labels, units, classes),  # objects only
        (predictions.slice(0, 0), labels.slice(0, 0), units.slice(0, 0), classes),
        tuple(t.schema.empty_table() for t in (predictions, labels, units, classes)),
    )
    for case in nothing:
        evaluation = evaluate(*case)
        assert evaluation.to_metrics("run", "print").equals(METRICS.arrow.empty_table())
        assert evaluation.to_confusion("run").equals(CONFUSION.arrow.empty_table())
        attributes = 4 if n_options and case[3].num_rows else 0
        assert [counts_.keys() - EMPTY.keys() for counts_ in evaluation.counts().to_pylist()] == [
            {"feature_hash", "attribute_hash"}
        ] * attributes


@pytest.mark.parametrize(
    "option",
    [
        ("scene", "weather", "hail"),
        ("place", "weather", "hail"),
        ("scene", "climate", "sun"),
        ("else", "weather", "sun"),
        ("place", "weather", "rain"),  # every hash is known, but not together
        ("scene", "weather", None),
        ("car", None, None),  # an object
    ],
)
def test_an_unknown_option_is_an_error(option):
    with pytest.raises(SchemaError, match=rf"1 prediction\(s\) name an option.*'{option[2]}'"):
        evaluate(*tables([(0, SUN), (1, option)], []))
    with pytest.raises(SchemaError, match=rf"2 label\(s\) name an option.*'{option[1]}'"):
        evaluate(*tables([], [(0, SUN), (1, option), (0, option)]))
    with pytest.raises(SchemaError, match="1 label"):
        evaluate(*tables([], [(0, SUN)], []))


def test_an_unknown_data_unit_is_an_error():
    predictions, labels, units, classes = tables([(0, SUN), (1, SUN)], [(1, SUN)])
    with pytest.raises(
        SchemaError, match=r"1 prediction\(s\) .* unknown data unit: 'film' frame 1"
    ):
        evaluate(predictions, labels, units.filter(pa.array([True, False, True])), classes)
    with pytest.raises(SchemaError, match=r"1 label\(s\) .* unknown data unit"):
        evaluate(predictions.slice(0, 0), labels, units.slice(0, 1), classes)


# A reference from the published definitions (scikit-learn's user guide, "Classification metrics"):
# precision, recall and F-measure of each class over sets of (sample, class), exactly.


def divide(part, whole):
    return Fraction(part, whole) if whole else None


def reference(truth, answer):
    """All metrics of one set of classes; ``truth`` and ``answer`` are {sample: class}."""
    classes = sorted({*truth.values(), *answer.values()})
    each = {}
    for c in classes:
        true = {s for s in truth if truth[s] == c}
        said = {s for s in answer if answer[s] == c}
        both = len(true & said)
        each[c] = {"precision": divide(both, len(said)), "recall": divide(both, len(true))}
        each[c]["F1"] = divide(2 * both, len(true) + len(said))
    both = len(truth.items() & answer.items())
    pooled = {"precision": divide(both, len(answer)), "recall": divide(both, len(truth))}
    pooled["F1"] = divide(2 * both, len(truth) + len(answer))
    overall = {"accuracy": divide(both, len(truth))}
    for name, value in pooled.items():
        terms = [each[c][name] for c in classes]
        mean = sum(t or 0 for t in terms) / Fraction(len(terms))
        overall[f"{name}_macro"] = None if all(t is None for t in terms) else mean
        overall[f"{name}_micro"] = value
    return overall, each


def top_reference(k, truths, answers, attribute):
    """top-k accuracy of an attribute: from {sample: labels} and {sample: (option, vector)}."""
    options = [o for o in OPTIONS if o[:2] == attribute]
    mine = {s: labels for s, labels in truths.items() if s[1] == attribute}
    usable = {
        s for s, (_, v) in answers.items() if s[1] == attribute and v and len(v) == len(options)
    }
    if not usable or k >= len(options):
        return "no row"
    hits = 0
    for sample, labels in mine.items():
        if sample in usable:
            vector = answers[sample][1]
            order = sorted(range(len(options)), key=lambda i: -vector[i])
            best = {options[i] for i in order[:k]}
        else:
            best = {answers[sample][0]} if sample in answers else set()
        hits += bool(best & set(labels))
    return divide(hits, len(mine))


units = st.integers(0, len(UNITS) - 1)
vectors = st.none() | st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=3)
guessed = st.tuples(units, st.sampled_from(OPTIONS), st.sampled_from([0.1, 0.5, 2.0]), vectors)
labelled = st.tuples(units, st.sampled_from(OPTIONS))


def expected_numbers(truths, answers):
    """What numbers() is to find, from {sample: labels} and {sample: (option, vector)}.

    A sample is (unit, attribute).
    """
    said = {sample: option for sample, (option, _) in answers.items()}
    true = {s: said[s] if said.get(s) in found else found[0] for s, found in truths.items()}
    expected = {}
    for attribute in (None, *dict.fromkeys(o[:2] for o in OPTIONS)):
        mine = [{s: o for s, o in d.items() if attribute in (None, s[1])} for d in (true, said)]
        if not any(mine):
            continue
        overall, each = reference(*mine)
        hashes = attribute or (None, None)
        expected |= {(*hashes, None, name): value for name, value in overall.items()}
        for k in (1, 2) if attribute else ():
            value = top_reference(k, truths, answers, attribute)
            if value != "no row":
                expected[*hashes, None, f"top{k}_accuracy"] = value
        for option in (o for o in OPTIONS if o[:2] == attribute):
            of_option = each.get(option, dict.fromkeys(("precision", "recall", "F1")))
            expected |= {(*option, name): value for name, value in of_option.items()}
    return expected


def shuffled(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    return table.take(pa.array(order, pa.int64()))


@given(st.lists(guessed, max_size=15), st.lists(labelled, max_size=15), st.randoms())
def test_equal_to_the_reference(guesses, truths, random):
    predictions, labels, *rest = tables(guesses, truths)
    evaluation = evaluate(
        shuffled(predictions, random), shuffled(labels, random), *rest, top_k=(1, 2)
    )
    answers, answered_by = {}, defaultdict(list)
    for unit, option, _, vector in sorted(guesses, key=lambda g: -g[2]):
        answers.setdefault((unit, option[:2]), (option, vector))
    for unit, option in truths:
        answered_by[unit, option[:2]].append(option)
    expected, found = expected_numbers(answered_by, answers), numbers(evaluation)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (None if value is None else pytest.approx(float(value), abs=1e-15)), (
            key
        )


@given(st.lists(guessed, max_size=15), st.lists(labelled, max_size=15))
def test_confusion_holds_every_pair(guesses, truths):
    answers, found = {}, defaultdict(list)
    for unit, option, *_ in sorted(guesses, key=lambda g: -g[2]):
        answers.setdefault((unit, option[:2]), option)
    for unit, option in truths:
        found[unit, option[:2]].append(option)
    expected = Counter()
    for sample in {*answers, *found}:
        answer, label = answers.get(sample), (found.get(sample) or [None])[0]
        if answer in found[sample]:
            label = answer
        expected[sample[1][1], label and label[2], answer and answer[2]] += 1
    # "weather" and "time" are attributes of two classifications each.
    cells = Counter()
    for *cell, count in confusion(evaluate(*tables(guesses, truths))):
        cells[tuple(cell)] += count
    assert cells == expected


@given(st.lists(guessed, max_size=15), st.lists(labelled, max_size=15))
def test_every_prediction_and_label_is_counted(guesses, truths):
    evaluation = evaluate(*tables(guesses, truths))
    for row in evaluation.counts().to_pylist():
        mine = [
            [x for x in rows if x[1][:2] == (row["feature_hash"], row["attribute_hash"])]
            for rows in (guesses, truths)
        ]
        assert row["n_answered"] + row["n_superseded"] == len(mine[0])
        assert row["n_labelled"] + row["n_further_labels"] == len(mine[1])
        n_both = row["n_labelled"] - row["n_missing"]
        assert n_both == row["n_answered"] - row["n_unlabelled"]
        assert 0 <= row["n_correct"] <= n_both
    totals = evaluation.counts().drop_columns(["feature_hash", "attribute_hash"])
    pairs = {(x[0], x[1][:2]) for x in guesses} | {(x[0], x[1][:2]) for x in truths}
    assert sum(count for *_, count in confusion(evaluation)) == len(pairs)
    assert int(evaluation.tp.sum()) == pa.compute.sum(totals["n_correct"]).as_py()
