import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ea_arrow.metrics.coco import CocoParameters
from tests.parity.oracle import Case, Guess, Truth, assert_same

# Boxes on a coarse grid make equal IoUs, IoUs on a threshold, and areas on the ends of ranges.
SCALES = st.sampled_from([1, 8, 16, 32, 100])


@st.composite
def cases(draw):
    scale, as_text = draw(SCALES), draw(st.booleans())
    images = [str(i) if as_text else i for i in range(1, draw(st.integers(1, 3)) + 1)]
    categories = [str(c) if as_text else c for c in range(1, draw(st.integers(1, 3)) + 1)]
    corner, side = st.integers(-2, 5), st.integers(0, 5)
    boxes = st.tuples(corner, corner, side, side).map(lambda b: tuple(float(v * scale) for v in b))
    place = {"image": st.sampled_from(images), "category": st.sampled_from(categories)}
    rarely = st.sampled_from([False, False, False, True])
    areas = st.sampled_from([None, None, 0.0, 1024.0, 9216.0, 2e10])
    truth = st.builds(Truth, box=boxes, crowd=rarely, ignored=rarely, area=areas, **place)
    truths = draw(st.lists(truth, max_size=10))
    first_id = draw(st.integers(0, 1))
    truths = [Truth(**(vars(t) | {"id": i})) for i, t in enumerate(truths, first_id)]
    score = st.sampled_from([-1.0, 0.0, -0.0, 0.25, 0.5, 0.5 + 2**-53, 1.0, 7.0])
    guess = st.builds(Guess, box=boxes, score=score, **place)
    guesses = draw(st.lists(guess, max_size=14))
    if truths:
        copied = draw(st.lists(st.tuples(st.sampled_from(truths), score), max_size=8))
        guesses += [Guess(t.box, s, t.image, t.category) for t, s in copied]
    return Case(truths, guesses, images, categories)


def parameters():
    return st.builds(
        CocoParameters,
        iou_thresholds=st.lists(
            st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]), min_size=1, max_size=4
        ).map(sorted),
        recall_thresholds=st.lists(
            st.sampled_from([0.0, 0.1, 0.3, 1 / 3, 0.5, 1.0]), min_size=1, max_size=5
        ).map(sorted),
        max_detections=st.lists(st.integers(1, 6), min_size=3, max_size=3, unique=True),
        areas=st.just({"all": (0, 1e10), "some": (64, 1024), "none": (5e9, 5e9)}),
    )


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(cases())
def test_any_small_data(case):
    assert_same(case)


@FUZZ
@given(cases(), parameters())
def test_any_parameters(case, chosen):
    assert_same(case, chosen)


@pytest.mark.parametrize("seed", range(12))
def test_crowded_images(seed, monkeypatch):
    """Hundreds of predictions over a few labels: long chains, cuts, and many ties."""
    if seed % 2:
        monkeypatch.setattr("ea_arrow.match.PAIRS_AT_ONCE", 16)
        monkeypatch.setattr("ea_arrow.pairs.PAIRS_AT_ONCE", 16)
    rng = np.random.default_rng(seed)

    def box(jitter=0.0):
        x, y, w, h = rng.integers(0, 6, 4) * 20.0
        return (x, y, w + 20 + jitter * rng.random(), h + 20.0)

    truths = [
        Truth(box(), int(image), int(category), crowd=bool(crowd))
        for image, category, crowd in zip(
            rng.integers(1, 3, 60), rng.integers(1, 3, 60), rng.random(60) < 0.1, strict=True
        )
    ]
    decimals = int(rng.integers(1, 6))
    guesses = [
        Guess(box(seed % 3), round(float(score), decimals), int(image), int(category))
        for score, image, category in zip(
            rng.random(700), rng.integers(1, 4, 700), rng.integers(1, 4, 700), strict=True
        )
    ]
    assert_same(Case(truths, guesses, [1, 2, 3], [1, 2, 3]))
