"""Mutual information by hand, against scikit-learn, and where its true value is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score

from ea_arrow.quality.drivers import drivers
from ea_arrow.quality.mutual_information import corrected, miller_madow, mutual_information

tables = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12
).filter(lambda rows: any(map(sum, rows)))


def of_rows(table):
    """The rows that a table counts: their bin, and whether they are correct."""
    x = [i for i, row in enumerate(table) for count in row for _ in range(count)]
    y = [j for row in table for j, count in enumerate(row) for _ in range(count)]
    return x, y


@pytest.mark.parametrize(
    ("table", "nats"),
    [
        ([[3, 0], [0, 3]], math.log(2)),
        ([[2, 4], [1, 2]], 0.0),
        ([[7, 5]], 0.0),
        ([[0, 5], [0, 7]], 0.0),
        ([[1, 0], [0, 1], [0, 0]], math.log(2)),
        # 1/4·ln(1/4 / (1/4·1/2)) + 1/4·ln(1/4 / (3/4·1/2)) + 1/2·ln(1/2 / (3/4·1/2))
        ([[1, 0], [1, 2]], math.log(2) / 4 + math.log(2 / 3) / 4 + math.log(4 / 3) / 2),
    ],
)
def test_plug_in_by_hand(table, nats):
    assert mutual_information(np.array(table)) == pytest.approx(nats, abs=1e-15)


@given(tables)
def test_plug_in_against_scikit_learn(table):
    expected = mutual_info_score(*of_rows(table))
    assert mutual_information(np.array(table)) == pytest.approx(expected, abs=1e-12)


def test_plug_in_of_many_rows_against_scikit_learn():
    table = np.array([[400_000_000, 3], [123_456_789, 999_999_999]])
    expected = mutual_info_score(None, None, contingency=table)
    assert mutual_information(table) == pytest.approx(expected, abs=1e-12)


@given(tables)
def test_it_is_never_negative_and_never_above_an_entropy(table):
    counts = np.array(table)
    shares = counts.sum(axis=0) / counts.sum()
    entropy = -sum(p * math.log(p) for p in shares if p)
    assert 0 <= mutual_information(counts) <= entropy + 1e-12
    assert corrected(counts) >= 0


@pytest.mark.parametrize(
    ("table", "bias"),
    [
        ([[5, 5], [5, 5]], 1 / 40),
        ([[5, 5], [5, 5], [5, 5]], 2 / 60),
        ([[5, 5], [0, 0], [5, 5]], 1 / 40),  # an empty bin is none
        ([[10, 0], [10, 0]], 0.0),  # nothing to tell
        ([[10, 0], [0, 10]], -1 / 40),
    ],
)
def test_bias_by_hand(table, bias):
    assert miller_madow(np.array(table)) == pytest.approx(bias, abs=1e-15)


def test_a_table_without_rows_says_nothing():
    for table in (np.zeros((0, 2), int), np.zeros((3, 2), int)):
        assert math.isnan(mutual_information(table))
        assert math.isnan(miller_madow(table))
        assert math.isnan(corrected(table))


def test_the_correction_takes_off_what_chance_alone_adds():
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        x, y = random.integers(0, 10, 500), random.random(500) < 0.7
        table = np.stack([np.bincount(x[y == flag], minlength=10) for flag in (0, 1)], axis=1)
        found.append((mutual_information(table), mutual_information(table) - miller_madow(table)))
    plug_in, without_bias = np.mean(found, axis=0)
    assert plug_in == pytest.approx(9 / 1000, rel=0.1)
    assert abs(without_bias) < 0.001


def test_near_the_true_value_and_near_the_estimate_by_nearest_neighbours():
    random = np.random.default_rng(0)
    metric = random.random(20_000)
    correct = random.random(20_000) < metric
    truth = math.log(2) - 0.5  # H(Y) − ∫ H(Y | x) dx of P(correct | x) = x
    neighbours = mutual_info_classif(metric[:, None], correct, random_state=0)[0]
    ranking = drivers({"metric": metric}, correct, bins=20).ranking
    found = ranking["mutual_information"][0].as_py()
    assert found == pytest.approx(truth, abs=0.01)
    assert found == pytest.approx(neighbours, abs=0.02)
