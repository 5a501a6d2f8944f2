"""What drives performance: bins and intervals by hand, SciPy and scikit-learn as references."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from ea_arrow.errors import ParameterError
from ea_arrow.quality.drivers import Drivers, drivers, wilson

NAN = math.nan

# Few distinct values, so that ties are many; some undefined.
values = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-100, 100, width=32),
    st.sampled_from([NAN, math.inf, -math.inf]),
)
rows = st.lists(st.tuples(values, st.booleans()), max_size=60)
bin_numbers = st.integers(1, 12)
targets = st.sampled_from(["prediction", "label"])


def split(pairs):
    metric = np.array([value for value, _ in pairs], np.float64)
    return metric, np.array([flag for _, flag in pairs], bool)


def of(metric, correct, **options) -> Drivers:
    return drivers({"m": np.array(metric, float)}, np.array(correct, bool), **options)


def short(found):
    """Bins as (low, high, n, rate)."""
    return [(b["low"], b["high"], b["n"], b["rate"]) for b in found.bins.to_pylist()]


def bounds(found):
    return [(low, high, n) for low, high, n, _ in short(found)]


# Newcombe, Statistics in Medicine 17 (1998), table I: method 3, the score without continuity.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(hits, n, low, high):
    found = wilson(np.array([hits]), np.array([n]))
    assert [round(float(bound[0]), 4) for bound in found] == [low, high]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=9))
def test_wilson_against_scipy(pairs):
    hits = np.array([min(pair) for pair in pairs])
    n = np.array([max(pair) for pair in pairs])
    low, high = wilson(hits, n)
    assert (low >= 0).all()
    assert (low <= hits / n).all()
    assert (hits / n <= high).all()
    assert (high <= 1).all()
    for place in range(len(n)):
        test = scipy.stats.binomtest(int(hits[place]), int(n[place]))
        expected = test.proportion_ci(method="wilson")
        np.testing.assert_allclose([low[place], high[place]], expected, atol=1e-9)


def test_wilson_of_none_of_all_and_of_no_rows():
    low, high = wilson(np.array([0, 7, 0]), np.array([7, 7, 0]))
    np.testing.assert_array_equal(low == 0, [True, False, False])
    np.testing.assert_array_equal(high == 1, [False, True, False])
    assert math.isnan(low[2])
    assert math.isnan(high[2])


def test_bins_by_hand():
    found = of([4, 1, 3, 2, 6, 5], [1, 0, 1, 1, 1, 1], bins=3)
    assert short(found) == [(1, 2, 2, 0.5), (3, 4, 2, 1.0), (5, 6, 2, 1.0)]
    assert found.bins["bin"].to_pylist() == [0, 1, 2]
    low, high = wilson(np.array([1, 2, 2]), np.array([2, 2, 2]))
    np.testing.assert_array_equal(found.bins["rate_low"], low)
    np.testing.assert_array_equal(found.bins["rate_high"], high)


@pytest.mark.parametrize(
    ("metric", "bins", "expected"),
    [
        ([1, 2, 3], 10, [(1, 1, 1), (2, 2, 1), (3, 3, 1)]),
        ([7, 7, 7], 10, [(7, 7, 3)]),
        ([7], 1, [(7, 7, 1)]),
        ([1, 1, 1, 1, 1, 2], 2, [(1, 1, 5), (2, 2, 1)]),  # cut at 3 moves to 5, the nearer end
        ([1, 2, 2, 2, 2, 2], 2, [(1, 1, 1), (2, 2, 5)]),  # cut at 3 moves to 1
        ([1, 1, 2, 2], 2, [(1, 1, 2), (2, 2, 2)]),
        ([1, 2, 2, 3], 2, [(1, 1, 1), (2, 3, 3)]),  # in the middle: the lower end
        # The value of most rows has a bin of its own.
        ([1, 2, *[5] * 6, 8, 9], 5, [(1, 2, 2), (5, 5, 6), (8, 9, 2)]),
        ([0.0, -0.0, 1.0], 3, [(0, 0, 2), (1, 1, 1)]),
    ],
)
def test_equal_values_stay_together(metric, bins, expected):
    assert bounds(of(metric, [True] * len(metric), bins=bins)) == expected


def test_ten_bins_by_default_of_as_many_rows_each():
    found = of(np.arange(1003), np.arange(1003) % 2)
    assert sorted({n for *_, n in bounds(found)}) == [100, 101]
    assert len(bounds(found)) == 10


def test_undefined_values_have_a_bin_of_their_own():
    found = of([NAN, 1, math.inf, 2, -math.inf], [1, 1, 0, 0, 0], bins=2)
    assert short(found) == [(1, 1, 1, 1.0), (2, 2, 1, 0.0), (None, None, 3, 1 / 3)]
    assert found.bins["bin"].to_pylist() == [0, 1, None]
    ranking = found.ranking.to_pylist()[0]
    assert (ranking["n"], ranking["undefined"], ranking["overall_rate"]) == (2, 3, 0.4)
    assert (ranking["worst_low"], ranking["worst_high"], ranking["worst_rate"]) == (2, 2, 0)


def test_a_metric_without_values_comes_last_with_nulls():
    metrics = {"a": np.full(4, NAN), "b": np.array([1.0, 2, 3, 4])}
    found = drivers(metrics, np.array([True, False, True, False]))
    assert found.ranking["metric"].to_pylist() == ["b", "a"]
    last = found.ranking.to_pylist()[1]
    assert (last["n"], last["undefined"], last["overall_rate"]) == (0, 4, 0.5)
    numbers = ("mutual_information", "correlation", "direction", "worst_rate", "spread", "is_clear")
    assert all(last[name] is None for name in numbers)


def test_labels_are_measured_by_their_false_negative_rate():
    found = of([1, 2, 3, 4], [1, 1, 1, 0], target="label", bins=2)
    assert short(found) == [(1, 2, 2, 0.0), (3, 4, 2, 0.5)]
    row = found.ranking.to_pylist()[0]
    assert row["target"] == "label"
    assert (row["worst_low"], row["worst_high"], row["worst_rate"]) == (3, 4, 0.5)
    assert (row["overall_rate"], row["spread"]) == (0.25, 0.5)


def test_ignored_rows_do_not_count():
    found = of([9, 1, 2, NAN], [1, 1, 0, 0], counted=np.array([False, True, True, False]))
    assert short(found) == [(1, 1, 1, 1.0), (2, 2, 1, 0.0)]
    assert found.ranking["undefined"].to_pylist() == [0]


def test_the_worst_bin_is_bad_for_certain():
    """One wrong row of its own value is no finding beside a hundred of which 90 are wrong."""
    metric = [1] * 100 + [2] * 100 + [3]
    correct = [1] * 10 + [0] * 90 + [1] * 100 + [0]
    for target, rates in (("prediction", [0.1, 1, 0]), ("label", [0.9, 0, 1])):
        found = of(metric, correct, target=target)
        assert [rate for *_, rate in short(found)] == rates
        row = found.ranking.to_pylist()[0]
        assert (row["worst_low"], row["worst_rate"], row["spread"]) == (1, rates[0], 1)


@pytest.mark.parametrize(
    ("metric", "correct", "direction"),
    [
        (np.arange(100), np.arange(100) < 50, "high"),
        (np.arange(100), np.arange(100) >= 50, "low"),
        (np.arange(4), np.arange(4) % 2, None),  # 0.45 of four rows may be chance
        (np.arange(100), np.ones(100), None),
        (np.ones(100), np.arange(100) < 50, None),
    ],
)
def test_direction_says_where_errors_gather(metric, correct, direction):
    for target in ("prediction", "label"):
        row = of(metric, correct, target=target).ranking.to_pylist()[0]
        assert row["direction"] == direction


def test_what_explains_most_comes_first_and_equals_by_name():
    random = np.random.default_rng(0)
    correct = random.random(2000) < 0.5
    metrics = {
        "noise": random.random(2000),
        "b_truth": correct * 1.0,
        "weak": correct + 2 * random.normal(size=2000),
        "a_truth": -1.0 * correct,
        "constant": np.ones(2000),
        "bent": np.where(correct, random.normal(size=2000), random.choice([-3.0, 3.0], 2000)),
    }
    found = drivers(metrics, correct)
    names = found.ranking["metric"].to_pylist()
    assert names[:4] == ["a_truth", "b_truth", "bent", "weak"]  # correlation would not see "bent"
    assert found.ranking["rank"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert list(dict.fromkeys(found.bins["metric"].to_pylist())) == names
    clear = dict(zip(names, found.ranking["is_clear"].to_pylist(), strict=True))
    assert clear == {name: name not in ("noise", "constant") for name in names}
    exact = found.ranking["mutual_information"][0].as_py()
    assert exact == pytest.approx(math.log(2), abs=1e-3)


def test_a_metric_that_few_rows_have_cannot_lead():
    random = np.random.default_rng(0)
    correct = random.random(2000) < 0.5
    metrics = {
        "rare": np.where(np.arange(2000) < 20, correct * 1.0, NAN),
        "common": correct + random.normal(size=2000),
    }
    assert drivers(metrics, correct).ranking["metric"].to_pylist() == ["common", "rare"]


@pytest.mark.parametrize("bins", [2, 10, 50])
def test_chance_is_seldom_taken_for_clear(bins):
    random = np.random.default_rng(0)
    metrics = {str(i): random.random(3000) for i in range(400)}
    found = drivers(metrics, random.random(3000) < 0.7, bins=bins)
    assert 0.01 < np.mean(found.ranking["is_clear"].to_pylist()) < 0.07


@given(rows, bin_numbers, targets)
def test_bins_part_the_rows(pairs, number, target):
    metric, correct = split(pairs)
    found = of(metric, correct, bins=number, target=target)
    defined = np.isfinite(metric)
    seen = 0
    last = -math.inf
    for row in found.bins.to_pylist():
        if row["bin"] is None:
            inside = ~defined
        else:
            assert last < row["low"] <= row["high"]
            last = row["high"]
            assert {row["low"], row["high"]} <= set(metric[defined].tolist())
            inside = (metric >= row["low"]) & (metric <= row["high"])
        hits = correct[inside] if target == "prediction" else ~correct[inside]
        assert row["n"] == inside.sum() > 0
        assert row["rate"] == hits.sum() / inside.sum()
        assert 0 <= row["rate_low"] <= row["rate"] <= row["rate_high"] <= 1
        seen += row["n"]
    assert seen == len(metric)
    assert sum(b is not None for b in found.bins["bin"].to_pylist()) <= number
    assert found.ranking["n"].to_pylist() == [defined.sum()]


@given(rows, bin_numbers)
def test_correlation_and_mutual_information_against_references(pairs, number):
    metric, correct = split(pairs)
    found = of(metric, correct, bins=number)
    row = found.ranking.to_pylist()[0]
    defined = np.isfinite(metric)
    x, y = metric[defined], correct[defined]
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert row["correlation"] is None
    else:
        expected = np.corrcoef(x, y)[0, 1]
        assert row["correlation"] == pytest.approx(expected, abs=1e-7)
    if not len(x):
        assert row["mutual_information"] is None
        return
    edges = [b["low"] for b in found.bins.to_pylist() if b["bin"] is not None]
    code = np.searchsorted(edges, x, side="right")
    cells, bins, kinds = len(set(zip(code, y, strict=True))), len(edges), len(set(y))
    exact = mutual_info_score(code, y) - (cells - bins - kinds + 1) / (2 * len(x))
    expected = max(exact, 0) * len(x) / len(metric)
    assert row["mutual_information"] == pytest.approx(expected, abs=1e-12)


@given(rows, st.randoms(use_true_random=False), bin_numbers, targets)
def test_the_order_of_rows_changes_nothing(pairs, random, number, target):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    first, second = (of(*split(some), bins=number, target=target) for some in (pairs, shuffled))
    assert first.ranking.equals(second.ranking)
    assert first.bins.equals(second.bins)


@given(st.lists(st.tuples(st.integers(-20, 20), st.booleans()), max_size=60), bin_numbers)
def test_another_rising_scale_changes_only_bounds_and_correlation(pairs, number):
    metric, correct = split(pairs)
    first, second = (of(some, correct, bins=number) for some in (metric, np.exp(metric)))
    told = ["metric", "bin", "n", "rate", "rate_low", "rate_high"]
    assert first.bins.select(told).equals(second.bins.select(told))
    told = ["n", "mutual_information", "worst_rate", "overall_rate", "spread", "is_clear"]
    assert first.ranking.select(told).equals(second.ranking.select(told))
    np.testing.assert_array_equal(np.exp(first.bins["low"]), second.bins["low"])


def test_zeros_of_both_signs_are_one_value_whatever_their_order():
    for metric in ([-0.0, 0.0, 1], [0.0, -0.0, 1]):
        assert not np.signbit(of(metric, [True] * 3).bins["low"]).any()


@pytest.mark.parametrize("scale", [1e-320, 1e300])
def test_huge_and_tiny_values_overflow_nowhere(scale):
    metric = np.array([-1.0, 1, -1, 1, 1, -1, 1, -1])
    row = of(metric * scale, metric > 0).ranking.to_pylist()[0]
    assert row["correlation"] == pytest.approx(1)


def test_numbers_of_any_type_are_read():
    correct = np.array([True, False, True, False])
    expected = of([1, 2, 3, 4], correct)
    for kind in (np.int64, np.float32, np.uint8):
        found = drivers({"m": np.array([1, 2, 3, 4], kind)}, correct)
        assert found.ranking.equals(expected.ranking)
        assert found.bins.equals(expected.bins)


def test_nothing_at_all():
    empty = drivers({}, np.zeros(0, bool))
    assert (len(empty.ranking), len(empty.bins)) == (0, 0)
    found = of([], [])
    assert (len(found.ranking), len(found.bins)) == (1, 0)
    assert found.ranking["overall_rate"].to_pylist() == [None]
    assert found.bins.schema == empty.bins.schema == of([1], [True]).bins.schema


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_a_number_of_bins_that_cannot_be(number):
    with pytest.raises(ParameterError, match=f"^{number} bins were asked for"):
        of([1], [True], bins=number)


def test_columns_of_another_length():
    with pytest.raises(ParameterError, match="'m' has 2 values, but there are 1 rows"):
        of([1, 2], [True])
    with pytest.raises(ParameterError, match="'counted' has 3 values"):
        of([1], [True], counted=np.ones(3, bool))
