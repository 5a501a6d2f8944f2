"""Acquisition scores by hand, against SciPy, and next to lists that are no distributions."""

import math

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow import schema
from ea_arrow.errors import ParameterError
from ea_arrow.quality import acquisition
from ea_arrow.quality.acquisition import METRICS, SCORES, acquisition_scores
from ea_arrow.quality.objects import Objects, Units

NAN = math.nan
ORDER = ("entropy", "least_confidence", "margin", "variance")

# Exact in float32; entropy, least confidence, margin, variance worked out by hand.
BY_HAND = [
    ([0.5, 0.5], (1, 0.5, 0, 0)),
    ([1, 0], (0, 0, 1, 0.25)),
    ([0, 0, 1, 0], (0, 0, 1, 3 / 16)),
    ([0.25] * 4, (2, 0.75, 0, 0)),
    ([0.25, 0.5, 0.25], (1.5, 0.5, 0.25, 1 / 72)),
    ([0.75, 0.25], (0.75 * math.log2(4 / 3) + 0.5, 0.25, 0.5, 1 / 16)),
    ([1], (0, 0, NAN, 0)),  # one class: no runner-up
]
UNDEFINED = [
    None,
    [],
    [0.5, 0.4],
    [0.6, 0.5],
    [-0.25, 1.25],
    [NAN, 1],
    [None, 1],
    [math.inf, 0],
    [-math.inf, math.inf],
    [0, 0],
    [4.5, -3.5],
]

probabilities = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6).filter(
    lambda p: sum(p) > 0.01
)
columns = st.lists(
    st.one_of(
        probabilities.map(lambda p: [value / sum(p) for value in p]),
        st.sampled_from(UNDEFINED),
    ),
    max_size=12,
)


def column(lists, kind=None):
    return pa.array(lists, kind or schema.PREDICTIONS.arrow.field("probabilities").type)


def rows(lists, **options):
    scores = acquisition_scores(lists, **options)
    return np.stack([scores[name] for name in ORDER], axis=1)


def objects(unit, confidence, lists=None, units=3):
    n = len(unit)
    zero, none = np.zeros(n, np.int64), np.full(n, np.nan)
    size = np.full(units, 10.0)
    return Objects(
        units=Units(size, size, np.arange(units), np.zeros(units, np.int64)),
        unit=np.array(unit, np.int64),
        klass=zero,
        ids=np.arange(n),
        box=np.zeros((n, 4)),
        area=none,
        format=zero,
        track=zero - 1,
        theta=none,
        polygon=None,
        mask=None,
        confidence=np.array(confidence, np.float64),
        probabilities=None if lists is None else column(lists),
    )


@pytest.mark.parametrize(("values", "expected"), BY_HAND, ids=str)
def test_scores_by_hand(values, expected):
    np.testing.assert_allclose(rows(column([values]))[0], expected, atol=1e-15)


@pytest.mark.parametrize("values", UNDEFINED, ids=str)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_distribution_has_no_score_and_leaves_its_neighbours_alone(values, place):
    lists = [[0.5, 0.5], [0.25, 0.5, 0.25]]
    expected = [(1, 0.5, 0, 0), (1.5, 0.5, 0.25, 1 / 72)]
    lists.insert(place, values)
    expected.insert(place, (NAN,) * 4)
    np.testing.assert_allclose(rows(column(lists)), expected, atol=1e-15)


def test_nothing_and_only_undefined_lists():
    assert rows(column([])).shape == (0, 4)
    assert np.isnan(rows(column(UNDEFINED))).all()
    assert np.isnan(rows(column([[], None, []]))).all()


def test_a_rounded_distribution_is_divided_by_its_sum():
    thirds, over = rows(column([[0.333] * 3, [0.0, 1.0005]]))
    np.testing.assert_allclose(thirds, (math.log2(3), 2 / 3, 0, 0), atol=1e-15)
    np.testing.assert_allclose(over, (0, 0, 1, 0.25), atol=0)


@pytest.mark.parametrize(("total", "is_one"), [(0.9991, True), (0.9989, False), (1.0011, False)])
def test_how_far_off_a_sum_may_be(total, is_one):
    assert np.isnan(rows(column([[total / 2] * 2]))).any() != is_one


def test_no_score_is_minus_zero():
    assert not np.signbit(rows(column([[1, 0], [0.5, 0.5]]))).any()


@given(columns)
def test_against_scipy(lists):
    found = rows(column(lists, pa.list_(pa.float64())))
    for given_list, scores in zip(lists, found, strict=True):
        if any(given_list is other or given_list == other for other in UNDEFINED):
            assert np.isnan(scores).all()
            continue
        ranked = sorted(given_list, reverse=True)
        margin = ranked[0] - ranked[1] if len(ranked) > 1 else NAN
        expected = [scipy.stats.entropy(given_list, base=2), 1 - ranked[0], margin]
        expected.append(np.var(given_list))
        np.testing.assert_allclose(scores, expected, atol=1e-12)


@given(columns, st.integers(1, 5))
def test_blocks_do_not_show(lists, size):
    whole = rows(column(lists))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acquisition, "_BLOCK", size)
        np.testing.assert_array_equal(rows(column(lists)), whole)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)],
    ids=str,
)
def test_any_kind_of_list(kind):
    lists = [[1, 0], None, [0.5, 0.5], [0.25, 0.75]]
    expected = rows(column(lists))
    np.testing.assert_array_equal(rows(column(lists, kind)), expected)
    np.testing.assert_array_equal(rows(column(lists, kind)[2:]), expected[2:])
    chunks = pa.chunked_array([column(lists[:1], kind), column(lists[1:], kind)])
    np.testing.assert_array_equal(rows(chunks), expected)


def test_values_under_a_null_do_not_count():
    offsets = pa.array([0, 2, 4, 6], pa.int32())
    values = pa.array([1.0, 0.0, 0.5, 0.5, 0.25, 0.75])
    hidden = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    scores = acquisition_scores(hidden)
    np.testing.assert_array_equal(scores["least_confidence"], [0, NAN, 0.25])


def test_the_input_is_left_as_it_was():
    given_values = pa.array([[0.333] * 3, [-1.0, 2.0]], pa.list_(pa.float64()))
    before = given_values.to_pylist()
    acquisition_scores(given_values)
    assert given_values.to_pylist() == before


def test_only_some_scores():
    scores = acquisition_scores(column([[0.75, 0.25]]), ["margin"])
    assert {name: values.tolist() for name, values in scores.items()} == {"margin": [0.5]}
    with pytest.raises(ParameterError, match="'gini' is not one of entropy, "):
        acquisition_scores(column([]), ["gini"])


def test_metrics_of_objects():
    lists = [[0.5, 0.5], None, [0.25, 0.5, 0.25]]
    given_objects = objects([0, 0, 2], [0.5, 0.5, 0.5], lists)
    by_name = {metric.name: metric for metric in METRICS}
    assert list(by_name) == [*ORDER, "mean_object_confidence"]
    assert list(SCORES) == list(ORDER)
    for place, name in enumerate(ORDER):
        found = by_name[name].compute(given_objects)
        np.testing.assert_array_equal(found, rows(column(lists))[:, place])
        assert not by_name[name].per_unit
        assert by_name[name].needs == ("probabilities",)


@pytest.mark.parametrize("name", ORDER)
def test_objects_without_probabilities_have_no_scores(name):
    metric = next(metric for metric in METRICS if metric.name == name)
    np.testing.assert_array_equal(metric.compute(objects([0, 1], [0.5, 0.5])), [NAN, NAN])


def test_mean_object_confidence_is_one_value_per_data_unit():
    metric = METRICS[-1]
    assert metric.per_unit
    found = metric.compute(objects([2, 0, 2, 2], [0.25, 0.5, 1, 0.25]))
    np.testing.assert_array_equal(found, [0.5, NAN, 0.5])  # Encord Active said 0 for none
    np.testing.assert_array_equal(metric.compute(objects([], [])), [NAN] * 3)
    assert metric.compute(objects([], [], units=0)).shape == (0,)
    np.testing.assert_array_equal(metric.compute(objects([0, 0], [NAN, 0.5])), [0.5, NAN, NAN])


def test_directions_point_to_the_unsure():
    unsure, sure = [0.5, 0.5], [0.9, 0.1]
    for metric in METRICS[:-1]:
        low, high = metric.compute(objects([0, 0], [1, 1], [unsure, sure]))
        assert (low > high) == (metric.direction == "high"), metric.name
