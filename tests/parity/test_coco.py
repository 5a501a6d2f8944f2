import copy

import numpy as np
import pyarrow as pa
import pytest

from ea_arrow import schema
from ea_arrow.errors import EaArrowError, SchemaError
from ea_arrow.metrics.coco import CocoParameters, evaluate
from ea_arrow.metrics.curves import _hits_needed
from tests.parity.oracle import (
    NUMBERS,
    Case,
    Guess,
    Truth,
    assert_same,
    assert_same_matches,
    run_pycocotools,
    to_tables,
)
from tests.parity.quirks import BIG, FAR, HALF, MOST, SQUARE

BOXES = [(x, y, 40 * s, 40 * s) for x in (0, 150, 300) for y, s in ((0, 0.5), (100, 1), (200, 3))]
TWO_CLASSES = Case(
    [Truth(box, image, category) for box in BOXES for image in (1, 2) for category in (1, 2)],
    [Guess(box, 0.5, image, category) for box in BOXES for image in (1, 2) for category in (1, 2)],
    [1, 2],
    [1, 2],
)


def test_perfect_predictions_score_one():
    assert_same(TWO_CLASSES)
    summary = evaluate(*to_tables(TWO_CLASSES)).summary()
    assert [summary[name] for name in ("AP", "AP50", "APs", "APl", "AR100", "ARm")] == [1.0] * 6


def test_wrong_predictions_score_zero():
    guesses = [Guess((900, 900, 5, 5), 0.5, g.image, g.category) for g in TWO_CLASSES.guesses]
    wrong = Case(TWO_CLASSES.truths, guesses, [1, 2], [1, 2])
    assert set(assert_same(wrong).summary().values()) == {0.0}


def test_comparison_can_fail():
    """Negative control: the same check refuses data that differs in one box or one score."""
    run = run_pycocotools(TWO_CLASSES, CocoParameters())
    for change in ({"box": FAR}, {"category": 2}):
        case = copy.deepcopy(TWO_CLASSES)
        case.guesses[0] = Guess(**(vars(case.guesses[0]) | change))
        with pytest.raises(AssertionError, match="dtMatches"):
            assert_same_matches(evaluate(*to_tables(case)), run, TWO_CLASSES)
    case.guesses[0] = Guess(BOXES[0], 0.5 + 2**-53)
    scores = evaluate(*to_tables(case)).scores
    assert not np.array_equal(scores, run.eval["scores"])


@pytest.mark.parametrize(
    "case",
    [
        Case([], [], [], []),
        Case([], []),
        Case([], [], [1, 2], [1, 2]),
        Case([Truth(SQUARE)], []),
        Case([], [Guess(SQUARE)]),
        Case([Truth(SQUARE)], [Guess(SQUARE, image=2, category=2)], [1, 2], [1, 2]),
    ],
    ids=["nothing", "no_rows", "no_rows_two_classes", "no_predictions", "no_labels", "disjoint"],
)
def test_empty_tables(case):
    if case.images:
        assert_same(case)
    evaluation = evaluate(*to_tables(case))
    assert evaluation.precision.shape == (10, 101, len(case.categories), 4, 3)
    metrics = evaluation.to_metrics("i", "p")
    assert len(metrics) == 12 * (1 + len(case.categories))


def test_id_zero_can_be_corrected():
    case = Case([Truth(SQUARE, id=0), Truth(FAR)], [Guess(SQUARE), Guess(FAR)])
    ours = assert_same(case)
    assert ours.labels_with_id_zero
    assert ours.summary()["AR100"] == 0.5
    corrected = evaluate(*to_tables(case), CocoParameters(annotation_id_zero_counts=True))
    assert corrected.labels_with_id_zero
    assert corrected.summary()["AP"] == 1.0
    assert set(corrected.to_metrics("i", "p")["protocol"].to_pylist()) == {"coco_id_zero_counts"}
    shifted = Case([Truth(t.box, id=i) for i, t in enumerate(case.truths, 1)], case.guesses)
    np.testing.assert_array_equal(corrected.precision, assert_same(shifted).precision)


def test_ap_is_read_at_the_largest_cut():
    case = Case([Truth(SQUARE), Truth(FAR)], [Guess(SQUARE, 0.9), Guess(FAR, 0.8)])
    assert_same(case, CocoParameters(max_detections=(300, 1, 10)))
    for cuts in ((300, 1, 10), (1, 2, 3, 2), (5,)):
        evaluation = evaluate(*to_tables(case), CocoParameters(max_detections=cuts))
        summary = evaluation.summary()
        assert summary["AP"] == summary[f"AR{max(cuts)}"] == 1.0
        most = evaluation.to_metrics("i", "p").filter(pa.compute.field("metric") == "AP")
        assert set(most["max_detections"].to_pylist()) == {max(cuts)}
    assert "AR1" not in summary


def test_per_class_numbers_are_means_of_pycocotools_cells():
    rng = np.random.default_rng(5)
    guesses = [
        Guess((g.box[0], g.box[1], g.box[2] * f, g.box[3]), score, g.image, g.category)
        for g, f, score in zip(
            TWO_CLASSES.guesses, rng.uniform(0.4, 1, 36), rng.uniform(size=36), strict=True
        )
    ]
    case = Case([*TWO_CLASSES.truths, Truth(BIG, crowd=True)], guesses, [1, 2], [1, 2, 3])
    evaluation = assert_same(case)
    table = evaluation.to_metrics("run", "print", subset="night")
    assert table.schema == schema.METRICS.arrow
    rows = table.to_pylist()
    assert [row["value"] for row in rows[:12]] == list(evaluation.summary().values())
    assert {(r["iteration"], r["provenance"], r["subset"], r["protocol"]) for r in rows} == {
        ("run", "print", "night", "coco")
    }
    run = run_pycocotools(case, CocoParameters())
    for k, name in enumerate(["name of 1", "name of 2"]):
        values = {row["metric"]: row for row in rows if row["class"] == name}
        for metric, cells in {
            "AP": run.eval["precision"][:, :, k, 0, 2],
            "AP75": run.eval["precision"][5, :, k, 0, 2],
            "APm": run.eval["precision"][:, :, k, 2, 2],
            "AR10": run.eval["recall"][:, k, 0, 1],
            "ARl": run.eval["recall"][:, k, 3, 2],
        }.items():
            assert values[metric]["value"] == np.mean(cells[cells > -1]), metric
        assert values["AP"]["n_predictions"] == 18
        assert [values[m]["n_labels"] for m in ("AP", "APs", "APm", "APl")] == [18, 6, 6, 6]
        assert values["AP75"]["iou_threshold"] == 0.75
        assert values["AR1"]["max_detections"] == 1
    assert {row["value"] for row in rows if row["class"] == "name of 3"} == {None}


def test_classifications_take_no_part():
    predictions, labels, units, classes = to_tables(
        Case([Truth(SQUARE), Truth(FAR)], [Guess(MOST, 0.9), Guess(SQUARE, 0.8), Guess(FAR, 0.7)])
    )
    where = predictions.schema.get_field_index("format")
    formats = pa.array(["classification", "bounding_box", "bounding_box"])
    predictions = predictions.set_column(where, "format", formats)
    option = classes.set_column(0, "kind", pa.array(["classification"]))
    evaluation = evaluate(predictions, labels, units, pa.concat_tables([option, classes]))
    assert evaluation.summary()["AP"] == 1.0
    assert evaluation.n_predictions.tolist() == [2]
    assert evaluation.prediction_ids.tolist() == [1, 2]
    assert evaluation.matched_labels()[0].tolist() == [0, 1]


def test_frames_of_a_video_are_data_units():
    case = Case([Truth(SQUARE, i) for i in (1, 2, 3)], [Guess(SQUARE, 0.5, i) for i in (2, 3)],
                [1, 2, 3])  # fmt: skip
    expected = evaluate(*to_tables(case))
    predictions, labels, units, classes = to_tables(case)

    def as_frames(table):
        hashes = table["data_hash"].to_pylist()
        videos = [{"image-1": "b", "image-2": "b", "image-3": "a"}[name] for name in hashes]
        frames = [{"image-1": 7, "image-2": 0, "image-3": 7}[name] for name in hashes]
        for name, values in (("data_hash", pa.array(videos)), ("frame", pa.array(frames))):
            table = table.set_column(table.schema.get_field_index(name), name, values)
        return table

    moved = [as_frames(table) for table in (predictions, labels, units)]
    np.testing.assert_array_equal(evaluate(*moved, classes).precision, expected.precision)
    where = moved[0].schema.get_field_index("frame")
    lost = moved[0].set_column(where, "frame", pa.array([7, 8]))
    with pytest.raises(SchemaError, match="'a' frame 8"):
        evaluate(lost, *moved[1:], classes)


@pytest.mark.parametrize(("guess", "message"), [
    (Guess(SQUARE, image=9), "1 prediction.* unknown data unit: 'image-9' frame 0"),
    (Guess(SQUARE, category=9), "1 prediction.* 'class-9' first"),
])  # fmt: skip
def test_unknown_data_units_and_classes_are_refused(guess, message):
    with pytest.raises(SchemaError, match=message):
        evaluate(*to_tables(Case([Truth(HALF)], [Guess(HALF), guess])))


def test_parameters_are_checked():
    with pytest.raises(EaArrowError, match="iou_thresholds must ascend"):
        CocoParameters(iou_thresholds=(0.9, 0.5))
    with pytest.raises(EaArrowError, match="areas is empty"):
        CocoParameters(areas={})
    with pytest.raises(EaArrowError, match="above 0 and at most 1, got 0"):
        CocoParameters(iou_thresholds=(0.0, 0.5))


def test_order_survives_keys_too_wide_to_pack(monkeypatch):
    from ea_arrow.arranged import stable_order

    keys = np.array([3, 1, 3, 1]), np.array([0, 2, 0, 1])
    narrow = stable_order((keys[0], 4), (keys[1], 3))
    wide = stable_order((keys[0], 2**40), (keys[1], 2**40))
    assert narrow.tolist() == wide.tolist() == [3, 1, 0, 2]


def test_every_metric_of_the_schema_is_there():
    names = list(evaluate(*to_tables(Case([], []))).summary())
    assert tuple(names) == NUMBERS
    doc = next(column.doc for column in schema.METRICS.columns if column.name == "metric")
    assert doc.startswith(f"`coco`: {', '.join(names)}. ")


def test_hits_needed_are_where_searchsorted_finds_each_recall():
    """Quotients of floats round either way; a hit too early or late moves a whole step."""
    rng = np.random.default_rng(0)
    halves = np.nextafter(np.arange(1, 8) / np.arange(2, 9), [0, 1, 0, 1, 0, 1, 0])
    recalls = np.sort(np.concatenate([np.linspace(0, 1, 101), rng.random(100), halves]))
    n_labels = np.arange(1, 1500)
    needed = _hits_needed(n_labels, recalls)
    for n, row in zip(n_labels, needed, strict=True):
        by_search = np.searchsorted(np.arange(1, n + 1) / n, recalls, side="left") + 1
        np.testing.assert_array_equal(row, by_search)
