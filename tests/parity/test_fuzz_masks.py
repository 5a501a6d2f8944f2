"""Masks, polygons and boxes among them: any small data, against pycocotools."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from ea_arrow.arranged import arrange
from ea_arrow.candidates import find_candidates
from ea_arrow.masks import MaskColumn, Masks
from ea_arrow.metrics.coco import CocoParameters, evaluate, evaluate_candidates
from ea_arrow.pairs import Pairs
from tests.parity.oracle import Case, Guess, Runs, Truth, assert_same, rle_of, to_tables
from tests.parity.test_fuzz import FUZZ, cases, parameters

SIZES = st.tuples(st.integers(1, 30), st.integers(1, 20))
FEW = settings(FUZZ, max_examples=70)
PARTS = ("iou_thresholds", "recall_thresholds", "max_detections", "areas")
THRESHOLDS = [1e-9, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.8, 1.0]


@st.composite
def rectangles(draw, size):
    """Rectangles with sides in proportions that make IoUs of 1/2, 3/4, 1 …"""
    width, height = size
    x, y = draw(st.sampled_from([0, 0, 1, width // 2])), draw(st.sampled_from([0, 0, 2, height]))
    w, h = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 30])), draw(st.sampled_from([1, 2, 4, 20]))
    pixels = np.zeros((height, width), bool)
    pixels[y : y + h, x : x + w] = True
    return pixels


@st.composite
def blobs(draw, size):
    width, height = size
    rng = np.random.default_rng(draw(st.integers(0, 50)))
    coarse = rng.random((height // 3 + 1, width // 3 + 1)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return np.kron(coarse, np.ones((3, 3), bool))[:height, :width]


@st.composite
def split_runs(draw, size):
    """Masks whose runs are interrupted by runs of length 0; of labels only, see below."""
    width, height = size
    n = width * height
    cuts = [0, *sorted(draw(st.lists(st.integers(0, n), max_size=6))), n]
    lengths = []
    for length in np.diff(cuts).tolist():
        lengths += [length // 2, 0, length - length // 2] if draw(st.booleans()) else [length]
    return Runs(height, width, tuple(lengths))


def masks(size):
    other = st.sampled_from([(size[0] + 1, size[1]), (size[1], size[0])])
    usual = st.one_of(rectangles(size), rectangles(size), blobs(size))
    return st.one_of(usual, usual, usual, other.flatmap(rectangles))


def label_masks(size):
    return st.one_of(masks(size), masks(size), masks(size), split_runs(size))


def without_empty_runs(mask):
    """Return the same pixels in the runs that pycocotools itself would write."""
    if not isinstance(mask, Runs):
        return mask
    pixels = np.repeat(np.arange(len(mask.lengths)) % 2 == 1, mask.lengths)
    return pixels.reshape(mask.width, mask.height).T


def polygons(size):
    coordinate = st.sampled_from([-3.0, 0.0, 0.1, 0.5, 1.0, 2.5, 4.0, 7.9, *map(float, size), 40.0])
    points = st.integers(3, 6).flatmap(lambda n: st.tuples(*[coordinate] * (2 * n)))
    return st.lists(points, min_size=1, max_size=3).map(tuple)


BOXES = st.tuples(
    st.sampled_from([-2.0, 0.0, 0.5, 3.0, 50.0]),
    st.sampled_from([-1.0, 0.0, 2.0]),
    st.sampled_from([0.0, 1.0, 4.0, 4.5, 32.0]),
    st.sampled_from([0.5, 2.0, 8.0, 32.0]),
)


@st.composite
def mask_cases(draw):
    as_text = draw(st.booleans())
    images = [str(i) if as_text else i for i in range(1, draw(st.integers(1, 3)) + 1)]
    categories = [str(c) if as_text else c for c in range(1, draw(st.integers(1, 3)) + 1)]
    sizes = {image: draw(SIZES) for image in images}
    with_boxes = draw(st.booleans())
    rarely = st.sampled_from([False, False, False, True])
    scores = st.sampled_from([0.0, 0.25, 0.5, 0.5 + 2**-53, 1.0])
    areas = st.sampled_from([None, None, 0.0, 12.0, 1024.0, 2e10])

    def place():
        return {
            "image": draw(st.sampled_from(images)),
            "category": draw(st.sampled_from(categories)),
        }

    def shape(image, kinds, some=masks):
        kind = draw(st.sampled_from(kinds))
        if kind == "mask":
            return {"mask": draw(some(sizes[image]))}
        return {"polygon": draw(polygons(sizes[image]))} if kind == "polygon" else {}

    truths = []
    for annotation_id in range(first := draw(st.integers(0, 1)), first + draw(st.integers(0, 7))):
        where = place()
        form = shape(where["image"], ("mask", "mask", "polygon", "box"), label_masks)
        box = None if "mask" in form else draw(BOXES)
        flags = {"crowd": draw(rarely), "ignored": draw(rarely), "area": draw(areas)}
        key = str(annotation_id) if as_text else annotation_id
        truths.append(Truth(box, id=key, **where, **form, **flags))
    guesses = []
    for _ in range(draw(st.integers(0, 8))):
        where = place()
        kinds = ("mask", "polygon", "box") if with_boxes else ("mask",)
        box = draw(BOXES) if with_boxes else None
        guesses.append(Guess(box, draw(scores), **where, **shape(where["image"], kinds)))
    for truth in draw(st.lists(st.sampled_from(truths), max_size=5)) if truths else []:
        if with_boxes or truth.mask is not None:
            box = draw(BOXES) if with_boxes else None
            form = {"mask": without_empty_runs(truth.mask), "polygon": truth.polygon}
            guesses.append(Guess(box, draw(scores), truth.image, truth.category, **form))
    return Case(truths, guesses, images, categories, sizes)


def chosen_parameters(iou_type):
    return st.builds(
        CocoParameters,
        iou_type=st.just(iou_type),
        iou_thresholds=st.lists(st.sampled_from(THRESHOLDS), min_size=1, max_size=4).map(sorted),
        recall_thresholds=st.just((0.0, 0.1, 1 / 3, 0.5, 1.0)),
        max_detections=st.lists(st.integers(1, 6), min_size=3, max_size=3, unique=True),
        areas=st.sampled_from(
            [{"all": (0, 1e10), "tiny": (0, 12), "some": (12, 64), "none": (5e9, 5e9)}]
        ),
    )


@FUZZ
@given(mask_cases())
def test_any_small_masks(case):
    assert_same(case, CocoParameters(iou_type="segm"))


@FUZZ
@given(mask_cases(), chosen_parameters("segm"))
def test_any_parameters_for_masks(case, chosen):
    assert_same(case, chosen)


@FEW
@given(mask_cases(), chosen_parameters("bbox"))
def test_boxes_of_masks(case, chosen):
    assert_same(case, chosen)


@pytest.mark.parametrize("seed", range(6))
def test_crowded_images_of_masks(seed, monkeypatch):
    """Hundreds of small masks over a few labels; cuts at 100, ties, and calls of many groups."""
    if seed % 2:
        monkeypatch.setattr("ea_arrow.masks._PREDICTIONS_AT_ONCE", 3)
        monkeypatch.setattr("ea_arrow.masks._BYTES_AT_ONCE", 64)
        monkeypatch.setattr("ea_arrow.pairs.PAIRS_AT_ONCE", 16)
    rng = np.random.default_rng(seed)

    def mask():
        x, y = rng.integers(0, 3, 2) * 2
        pixels = np.zeros((8, 9), bool)
        pixels[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = True
        return pixels

    truths = [
        Truth(None, int(rng.integers(1, 3)), int(rng.integers(1, 3)), crowd=rng.random() < 0.1,
              mask=mask())
        for _ in range(40)
    ]  # fmt: skip
    guesses = [
        Guess(None, round(rng.random(), 1), int(rng.integers(1, 3)), int(1 + rng.random() ** 4 * 2),
              mask=mask())
        for _ in range(300)
    ]  # fmt: skip
    case = Case(truths, guesses, [1, 2, 3], [1, 2, 3], dict.fromkeys((1, 2, 3), (9, 8)))
    evaluation = assert_same(case, CocoParameters(iou_type="segm"))
    assert not evaluation.evaluated.all()


def chunked(column, cuts):
    bounds = [0, *sorted(cut % (len(column) + 1) for cut in cuts), len(column)]
    column = column.combine_chunks()
    pieces = [column.slice(a, b - a) for a, b in pairwise(bounds)]
    return pa.chunked_array(pieces, column.type)


@st.composite
def crowds_of_masks(draw):
    """Masks only; often far more predictions in a group than one call of C takes at most."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    copies = draw(st.sampled_from([1, 1, 30, 70]))
    n_images, n_categories = draw(st.integers(1, 80)), draw(st.integers(1, 3))
    some = [draw(label_masks((5, 4))) for _ in range(4)]

    def one(kind, image, **more):
        category = int(rng.integers(1, n_categories + 1))
        mask = some[rng.integers(4)]
        mask = mask if kind is Truth else without_empty_runs(mask)
        return kind(image=image, category=category, mask=mask, **more)

    images = list(range(1, n_images + 1))
    busy = [1] * copies + images[: draw(st.integers(0, n_images))]
    guesses = [one(Guess, i, score=rng.integers(3) / 2) for i in busy]
    truths = [one(Truth, i, crowd=rng.random() < 0.2) for i in [1, 1, *images]]
    return Case(truths, guesses, images, list(range(1, n_categories + 1)))


@FUZZ
@given(
    case=crowds_of_masks(),
    across=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=4),
    at_once=st.sampled_from([(48, 1 << 30), (1, 1), (2, 40), (48, 1)]),
    drop=st.integers(0, 3),
)
def test_every_pair_has_the_iou_of_pycocotools_and_a_bound_above(case, across, cuts, at_once, drop):
    tables = to_tables(case)
    arranged = arrange(*tables)
    predictions, labels = (chunked(table["mask"], cuts) for table in tables[:2])
    shapes = Masks(arranged, MaskColumn.of(predictions), MaskColumn.of(labels))
    key, label_key = (
        (arranged.unit, arranged.label_unit) if across else (arranged.group, arranged.label_group)
    )
    same = key[:, None] == label_key
    same.ravel()[::4] &= drop != 0  # not all pairs of a group need be asked for
    prediction, label = np.nonzero(same)
    bound = shapes.bounds(prediction, label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ea_arrow.masks._PREDICTIONS_AT_ONCE", at_once[0])
        patch.setattr("ea_arrow.masks._BYTES_AT_ONCE", at_once[1])
        iou = shapes.exact(Pairs(prediction, label, bound))
    found = [rle_of(guess.mask) for guess in case.guesses]
    truth = [rle_of(truth.mask) for truth in case.truths]
    expected = np.array(
        [
            mask_utils.iou([found[arranged.row[p]]], [truth[arranged.label_row[q]]],
                           [int(arranged.is_crowd[q])])[0, 0]
            for p, q in zip(prediction.tolist(), label.tolist(), strict=True)
        ]
    )  # fmt: skip
    np.testing.assert_array_equal(np.maximum(iou, 0), np.maximum(expected, 0))
    assert (bound >= iou).all()
    assert (bound <= 1).all()


@FEW
@given(
    st.one_of(cases(), mask_cases()),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sampled_from(["bbox", "segm"]),
    parameters(),
)
def test_candidates_within_data_units_are_those_of_fewer_rows(case, chosen, iou_type, asked):
    predictions, labels, units, classes = to_tables(case)
    kept = np.array(chosen[: len(units)])
    hashes = units["data_hash"].filter(pa.array(kept))
    fewer = [
        table.filter(pa.compute.is_in(table["data_hash"], hashes.combine_chunks()))
        for table in (predictions, labels)
    ]
    options = {"iou_type": iou_type, "lowest": 1e-9, "most": 6, "lowest_across": 0.1}
    every = find_candidates(predictions, labels, units, classes, **options)
    within, expected = every.within(kept), find_candidates(*fewer, units, classes, **options)
    for name in ("pairs", "across"):
        mine, theirs = getattr(within, name), getattr(expected, name)
        for field in ("prediction", "label", "iou"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field), field)
    asked = CocoParameters(iou_type=iou_type, **{k: getattr(asked, k) for k in PARTS})
    one, two = evaluate_candidates(within, classes, asked), evaluate(*fewer, units, classes, asked)
    for name in ("precision", "recall", "scores", "n_labels", "n_predictions", "prediction_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), name, strict=True)
    np.testing.assert_array_equal(one.matched_labels(), two.matched_labels())
