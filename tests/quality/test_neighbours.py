"""Near duplicates and neighbours against a comparison of every pair."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from ea_arrow.errors import SchemaError
from ea_arrow.quality import near_duplicates as hashing
from ea_arrow.quality import neighbours as module
from ea_arrow.quality.near_duplicates import (
    image_near_duplicates,
    image_uniqueness,
    near_duplicates,
)
from ea_arrow.quality.neighbours import (
    METRICS,
    annotation_quality,
    image_diversity,
    image_singularity,
    nearest,
)


def column(codes):
    return pa.array([code - 2**64 if code >= 2**63 else code for code in codes], pa.int64())


def apart(codes):
    """Bits in which every pair of codes differs."""
    return np.array([[(one ^ other).bit_count() for other in codes] for one in codes])


def check(codes, most):
    """Compare with all pairs."""
    found = near_duplicates(column(codes), most)
    distances = apart(codes).reshape(len(codes), len(codes))
    for i, row in enumerate(distances):
        others = [(bits, j) for j, bits in enumerate(row) if j != i and bits <= most]
        assert (found.distance[i], found.partner[i]) == min(others, default=(-1, -1))
        assert found.count[i] == len(others)
        assert found.others[i] == min((bits for bits, _ in others if bits), default=-1)
        assert found.is_first[i] == (0 not in row[:i])
    assert found.hashed.all()


@st.composite
def families(draw):
    """Codes of which some differ from others in few bits, anywhere."""
    codes = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    for _ in range(draw(st.integers(0, 25))):
        code = draw(st.sampled_from(codes))
        for bit in draw(st.lists(st.integers(0, 63), max_size=10)):
            code ^= 1 << bit
        codes.append(code)
    return codes


# Near duplicates by hash


@given(families(), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_near_duplicates_are_those_of_all_pairs(codes, most):
    check(codes, most)


@pytest.mark.parametrize("most", [0, 1, 3, 4, 7, 8, 9, 11])
@pytest.mark.parametrize("many", [0, 1 << 19])
def test_no_pattern_of_bits_is_missed(most, many, monkeypatch):
    """Pairs as far apart as allowed, with their bits spread over the bands in many ways."""
    monkeypatch.setattr(hashing, "_MANY", many)
    random = np.random.default_rng(most)
    codes = [int(code) for code in random.integers(0, 2**64, 150, dtype=np.uint64)]
    for code in codes[:150]:
        low, high = sorted(random.integers(0, 65, 2).tolist())
        bits = range(low, high) if high - low > most else range(64)
        far = random.choice(list(bits), min(most, len(bits)), replace=False).tolist()
        codes.append(code ^ sum(1 << bit for bit in far))
        codes.append(codes[-1] ^ (1 << int(random.integers(64))))
    check(codes, most)


def test_by_hand():
    base = 0x0123456789ABCDEF
    codes = [base, base ^ 0b111, 0, base, base ^ (0xFF << 40), base ^ (0x1FF << 50), base]
    found = near_duplicates(column(codes))
    assert found.distance.tolist() == [0, 3, -1, 0, 8, -1, 0]
    assert found.partner.tolist() == [3, 0, -1, 0, 0, -1, 0]
    assert found.count.tolist() == [4, 3, 0, 4, 3, 0, 4]
    # The first of the three alike keeps its distance from others; the rest are 0.
    assert image_uniqueness(found).tolist() == [3 / 9, 3 / 9, 1, 0, 8 / 9, 1, 0]
    assert image_near_duplicates(found).tolist() == [4, 3, 0, 4, 3, 0, 4]


def test_images_without_a_hash_have_no_values_and_are_nobodys_duplicates():
    hashes = pa.chunked_array([pa.array([None, 7], pa.int64()), pa.array([7, None], pa.int64())])
    found = near_duplicates(hashes)
    assert found.partner.tolist() == [-1, 2, 1, -1]
    assert found.count.tolist() == [0, 1, 1, 0]
    assert np.isnan(image_uniqueness(found)).tolist() == [True, False, False, True]
    assert image_uniqueness(found)[1:3].tolist() == [1, 0]
    assert np.isnan(image_near_duplicates(found)).tolist() == [True, False, False, True]


@pytest.mark.parametrize("hashes", [[], [None], [None, None]])
def test_no_hashes(hashes):
    found = near_duplicates(pa.array(hashes, pa.int64()))
    assert found.partner.tolist() == [-1] * len(hashes)
    assert np.isnan(image_uniqueness(found)).all()


def test_one_hash_is_unique():
    assert image_uniqueness(near_duplicates(column([5]))).tolist() == [1]


def test_many_images_alike_are_one_comparison(monkeypatch):
    monkeypatch.setattr(hashing, "_PAIRS_AT_ONCE", 8)
    n = 30_000
    found = near_duplicates(pa.array(np.full(n, 12345)))
    assert (found.count == n - 1).all()
    assert found.partner.tolist() == [1] + [0] * (n - 1)


def test_few_pairs_of_many_are_compared(monkeypatch):
    compared = []
    original = hashing._sharing

    def counting(key, mask, starts):
        for left, right in original(key, mask, starts):
            compared.append(len(left))
            yield left, right

    monkeypatch.setattr(hashing, "_sharing", counting)
    n = 30_000
    near_duplicates(pa.array(np.random.default_rng(0).integers(-(2**63), 2**63 - 1, n)))
    assert 0 < sum(compared) < 60 * n  # all pairs are 15,000 · n


def test_blocks_of_pairs_change_nothing(monkeypatch):
    random = np.random.default_rng(0)
    codes = [int(code) ^ 1 << 40 for code in random.integers(0, 1 << 10, 200)]
    monkeypatch.setattr(hashing, "_PAIRS_AT_ONCE", 5)
    check(codes, 8)


# Neighbours by embedding


def vectors(seed, n, d, kinds=None):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)) if kinds is None else random.integers(-2, 3, (n, d)) * 1.0


def embeddings(values, kind=None):
    return pa.array(list(values), kind or pa.list_(pa.float64()))


@pytest.mark.parametrize("n", [12, 137])
@pytest.mark.parametrize("at_once", [1, 1000, 1 << 24])
def test_neighbours_are_scikit_learns(n, at_once, monkeypatch):
    monkeypatch.setattr(module, "_COSINES_AT_ONCE", at_once)
    values = vectors(n, n, 8)
    found = nearest(embeddings(values))
    search = NearestNeighbors(n_neighbors=11, metric="cosine", algorithm="brute").fit(values)
    distances, index = search.kneighbors(values)
    assert np.array_equal(index[:, 0], np.arange(n))
    assert np.array_equal(found.index, index[:, 1:])
    assert found.cosine == pytest.approx(1 - distances[:, 1:], abs=1e-6)
    assert found.other == pytest.approx(found.cosine[:, 0])
    assert found.is_first.all()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32(), 4),
        pa.list_(pa.float64(), 4),
        pa.list_(pa.float16(), 4),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
    ],
)
def test_any_list_of_floats_will_do_and_undefined_vectors_are_nobodys(kind):
    values = [
        [1, 0, 0, 0],
        None,
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [np.nan, 1, 0, 0],
        [np.inf, 1, 0, 0],
        [2, 0, 0, 0],
    ]
    plain = pa.array(
        [None if v is None else [np.float16(x) for x in v] for v in values],
        pa.list_(pa.float16()),
    )
    array = plain.cast(pa.list_(kind.value_type)).cast(kind)
    split = pa.chunked_array([array.slice(0, 2), array.slice(2)])
    for given_column in (array, split):
        found = nearest(given_column, 2)
        assert found.index.tolist() == [
            [6, 3],
            [-1, -1],
            [-1, -1],
            [0, 6],
            [-1, -1],
            [-1, -1],
            [0, 3],
        ]
        assert found.is_first.tolist() == [True, False, False, True, False, False, False]
        singularity = image_singularity(found)
        half = (1 - 0.5**0.5) / 2
        assert singularity[[0, 3, 6]] == pytest.approx([half, half, 0])
        assert np.isnan(singularity[[1, 2, 4, 5]]).all()
        diversity = image_diversity(found)
        assert diversity[[0, 3, 6]] == pytest.approx([half / 2, half, half / 2], abs=1e-6)
        assert np.isnan(diversity[[1, 2, 4, 5]]).all()


def test_vectors_of_any_length_have_a_direction():
    found = nearest(embeddings([[1e300, 0], [1e-300, 1e-300], [0, 1e-320]]), 2)
    assert found.cosine == pytest.approx(np.array([[0.5**0.5, 0], [0.5**0.5] * 2, [0.5**0.5, 0]]))


def test_repeated_vectors_leave_one_of_each():
    """More copies than neighbours are sought, of two vectors at right angles."""
    values = np.array([[3.0, 0], [0, 1]])[[0, 1, 0, 0, 1] * 12]
    found = nearest(embeddings(values * np.linspace(1, 2, 60)[:, np.newaxis]))
    assert found.cosine == pytest.approx(1)
    expected = np.zeros(60)
    expected[:2] = 0.5
    assert image_singularity(found) == pytest.approx(expected)
    assert image_diversity(found) == pytest.approx(np.zeros(60), abs=1e-6)


def test_only_copies():
    found = nearest(embeddings([[1.0, 2]] * 4))
    singularity = image_singularity(found)
    assert np.isnan(singularity[0])  # there is nothing else to compare it with
    assert singularity[1:].tolist() == [0, 0, 0]
    assert found.index[:, :3].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert (found.index[:, 3:] == -1).all()


@pytest.mark.parametrize("values", [[], [None], [[1.0, 2]], [[], []]])
def test_nobody_near(values):
    found = nearest(embeddings(values))
    assert (found.index == -1).all()
    assert np.isnan(image_singularity(found)).all()
    assert np.isnan(image_diversity(found)).all()
    assert np.isnan(annotation_quality(found, np.zeros(len(values), np.int64))).all()


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_ties_go_to_the_first(seed, n, d):
    """Small whole numbers: many vectors are alike, opposite or at right angles."""
    values = vectors(seed, n, d, kinds=True)
    values = values[np.abs(values).max(axis=1) > 0]
    found = nearest(embeddings(values))
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosine = unit @ unit.T
    for i, row in enumerate(cosine):
        others = sorted(np.delete(row, i), reverse=True)[:10]
        assert found.cosine[i, : len(others)] == pytest.approx(others, abs=1e-6)
        same = np.flatnonzero(row >= 1 - 1e-5)
        assert found.is_first[i] == (same[0] == i)
        different = row[row < 1 - 1e-5]
        if len(different) and same[0] == i:
            assert image_singularity(found)[i] == pytest.approx((1 - different.max()) / 2, abs=1e-6)
        chosen = found.index[i][found.index[i] >= 0]
        assert i not in chosen
        assert len(set(chosen.tolist())) == len(others)


def test_equally_near_are_taken_in_their_order():
    values = [[1.0, 0]] + [[0, 1.0]] * 20
    found = nearest(embeddings(values))
    assert found.index[0].tolist() == list(range(1, 11))
    assert found.index[20].tolist() == list(range(1, 11))


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (pa.array([[1.0, 2], [1.0]]), "lengths from 1 to 2"),
        (pa.array([1.0, 2]), "got a column of double"),
        (pa.array([["a"]]), "got a column of list"),
    ],
)
def test_columns_that_hold_no_embeddings(array, told):
    with pytest.raises(SchemaError, match=told):
        nearest(array)


# Annotation quality


def test_annotation_quality_by_hand():
    # Ten along one direction of class 0, one among them of class 1; ten along another of class 1.
    angles = np.concatenate([np.linspace(0, 0.1, 11), np.linspace(2, 2.1, 10)])
    klass = np.array([0] * 5 + [1] + [0] * 5 + [1] * 10)
    found = nearest(embeddings(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    quality = annotation_quality(found, klass)
    assert quality[5] == 0
    assert quality[[4, 6]].tolist() == [8 / 9, 8 / 9]
    assert quality[11:].tolist() == [1] * 10  # exactly nine others


@pytest.mark.parametrize("n", [5, 80])
def test_annotation_quality_is_a_plain_share(n):
    random = np.random.default_rng(n)
    values, klass = vectors(n, n, 6), random.integers(-1, 3, n)
    quality = annotation_quality(nearest(embeddings(values)), klass)
    search = NearestNeighbors(n_neighbors=min(n, 10), metric="cosine", algorithm="brute")
    _, index = search.fit(values).kneighbors(values)
    for i in range(n):
        votes = [klass[j] for j in index[i] if j != i and klass[j] >= 0]
        expected = np.mean([vote == klass[i] for vote in votes]) if klass[i] >= 0 else np.nan
        assert quality[i] == pytest.approx(expected, nan_ok=True)


def test_metrics_are_declared_with_what_computes_them():
    named = {metric.name: metric for metric in METRICS}
    near, found = near_duplicates(column([1, 1])), nearest(embeddings([[1.0, 0], [0, 1.0]]))
    assert named["image_uniqueness"].compute(near).tolist() == [1, 0]
    assert named["image_near_duplicates"].compute(near).tolist() == [1, 1]
    assert named["image_singularity"].compute(found).tolist() == [0.5, 0.5]
    assert named["image_diversity"].compute(found).tolist() == [0.5, 0.5]
    klass = np.array([4, 4])
    for name in ("object_annotation_quality", "image_annotation_quality"):
        assert named[name].compute(found, klass).tolist() == [1, 1]
