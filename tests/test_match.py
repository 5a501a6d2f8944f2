"""Hand-worked matches. The matching itself is compared with pycocotools under ``parity``."""

import numpy as np
import pyarrow as pa
import pytest

from ea_arrow import schema
from ea_arrow.candidates import ANY_OVERLAP, find_candidates
from ea_arrow.errors import SchemaError
from ea_arrow.evidence import matches
from ea_arrow.tide import BACKGROUND_IOU
from tests.parity.oracle import Case, Guess, Truth, to_tables

SQUARE = (0, 0, 10, 10)
HALF = (0, 0, 10, 5)  # IoU with SQUARE 0.5
MOST = (0, 0, 10, 8)  # 0.8
FAR = (300, 300, 10, 10)


def candidates_of(*tables, most=10**9):
    return find_candidates(*tables, lowest=ANY_OVERLAP, most=most, lowest_across=BACKGROUND_IOU)


def match_boxes(*tables, **options):
    return matches(candidates_of(*tables), *tables[2:], **options)


def match(case, iou_threshold=0.5, **options):
    tables = to_tables(case)
    table = match_boxes(*tables, iou_threshold=iou_threshold, iteration="run", **options)
    assert table.schema == schema.MATCHES.arrow
    return table.to_pylist()


def short(rows):
    return [(r["prediction_id"], r["label_id"], r["iou"], r["outcome"]) for r in rows]


def test_a_hit():
    (row,) = match(Case([Truth(SQUARE)], [Guess(MOST, 0.7)]))
    assert row == {
        "iteration": "run",
        "protocol": "coco",
        "iou_type": "bbox",
        "iou_threshold": 0.5,
        "subset": "all",
        "data_hash": "image-1",
        "frame": 0,
        "feature_hash": "class-1",
        "prediction_id": 0,
        "label_id": 0,
        "iou": 0.8,
        "confidence": 0.7,
        "outcome": "TP",
        "reason": "Matched label.",
        "error": None,
        "error_label_id": None,
        "error_feature_hash": None,
        "error_iou": None,
    }


def test_masks_say_so():
    (row,) = match(Case([Truth(SQUARE)], [Guess(MOST)]), iou_type="segm")
    assert row["iou_type"] == "segm"


def test_rows_are_predictions_in_order_then_missed_labels_in_order():
    case = Case(
        [Truth(FAR, 2), Truth(SQUARE, 1), Truth(FAR, 1), Truth(SQUARE, 2)],
        [Guess(SQUARE, 0.1, 2), Guess(SQUARE, 0.9, 1)],
        [1, 2],
    )
    rows = match(case)
    assert short(rows) == [
        (0, 3, 1.0, "TP"),
        (1, 1, 1.0, "TP"),
        (None, 0, None, "FN"),
        (None, 2, None, "FN"),
    ]
    assert [row["data_hash"] for row in rows] == ["image-2", "image-1", "image-2", "image-1"]
    assert rows[2]["confidence"] is None
    assert rows[2]["reason"] == "No prediction of this class reaches IoU 0.50."


def test_of_two_on_one_label_the_more_confident_hits():
    rows = match(Case([Truth(SQUARE)], [Guess(SQUARE, 0.4), Guess(MOST, 0.6)]))
    assert short(rows) == [(0, None, 1.0, "FP"), (1, 0, 0.8, "TP")]
    assert rows[0]["reason"] == (
        "A label this prediction overlaps is already matched by a more confident one."
    )


def test_best_iou_below_the_threshold():
    case = Case([Truth(SQUARE)], [Guess((0, 0, 10, 4.29))])
    rows = match(case)
    assert [row["outcome"] for row in rows] == ["FP", "FN"]
    assert rows[0]["iou"] == 42.9 / 100
    assert rows[0]["label_id"] is None
    assert rows[0]["reason"] == "Best IoU 0.42 with a label of this class is below 0.50."
    assert "is below 0.455." in match(case, 0.455)[0]["reason"]
    assert match(case, 0.42)[0]["outcome"] == "TP"


def test_nothing_overlaps():
    case = Case([Truth(SQUARE, category=2), Truth(FAR)], [Guess(SQUARE)], [1], [1, 2])
    hit, *_ = match(case)
    assert (hit["outcome"], hit["iou"]) == ("FP", 0.0)
    assert hit["reason"] == "No label of this class overlaps."
    alone, *_ = match(Case([Truth(SQUARE, category=2)], [Guess(SQUARE)], [1], [1, 2]))
    assert (alone["iou"], alone["reason"]) == (None, "No label of this class overlaps.")


def test_missed_label_whose_predictions_went_elsewhere():
    # Both predictions could take either label; the only one there is takes the better.
    rows = match(Case([Truth(SQUARE), Truth(MOST)], [Guess(SQUARE)]))
    assert short(rows) == [(0, 0, 1.0, "TP"), (None, 1, None, "FN")]
    assert rows[1]["reason"] == "Every prediction that reaches IoU 0.50 matched another label."


def test_crowds_and_ignored_labels_are_neither_hit_nor_miss():
    case = Case(
        [Truth((0, 0, 50, 50), crowd=True), Truth(FAR, ignored=True)],
        [Guess(SQUARE), Guess(HALF), Guess(FAR, 0.9), Guess(FAR, 0.8)],
    )
    rows = match(case)
    assert short(rows) == [
        (0, 0, 1.0, "ignored"),
        (1, 0, 1.0, "ignored"),
        (2, 1, 1.0, "ignored"),
        (3, None, 1.0, "FP"),
    ]
    assert [row["reason"] for row in rows[:3]] == [
        "Matched a crowd region.",
        "Matched a crowd region.",
        "Matched a label that is to be ignored.",
    ]


def test_more_than_100_predictions():
    rows = match(Case([Truth(SQUARE)], [Guess(SQUARE, 0.1), *[Guess(FAR, 0.9)] * 100]))
    assert rows[0]["outcome"] == "ignored"
    assert rows[0]["reason"] == "More than 100 predictions of the class in this data unit."
    assert (rows[0]["label_id"], rows[0]["iou"]) == (None, 1.0)
    assert [row["outcome"] for row in rows[1:]] == ["FP"] * 100 + ["FN"]


def test_best_iou_is_unknown_where_candidates_leave_it_out():
    tables = to_tables(Case([Truth(SQUARE)], [Guess(SQUARE, 0.1), *[Guess(FAR, 0.9)] * 100]))
    rows = matches(candidates_of(*tables, most=100), *tables[2:]).to_pylist()
    assert [row["iou"] for row in rows] == [None, *[0.0] * 100, None]
    assert rows[0]["reason"] == "More than 100 predictions of the class in this data unit."


def test_threshold_of_one_is_lowered_as_in_pycocotools():
    almost = (0, 0, 10, 10 * (1 - 1e-11))
    rows = match(Case([Truth(SQUARE)], [Guess(almost, 0.1), Guess(almost, 0.9)]), 1.0)
    assert [row["outcome"] for row in rows] == ["FP", "TP"]
    assert rows[0]["iou_threshold"] == 1.0
    assert rows[0]["error"] == "duplicate"
    assert "already matched" in rows[0]["reason"]


def test_area_outside_of_every_range():
    rows = match(Case([], [Guess((0, 0, 1e6, 1e6))]))
    assert rows[0]["outcome"] == "ignored"
    assert rows[0]["reason"] == "No match, and the area is outside of the range that counts."


def test_label_with_id_zero():
    case = Case([Truth(SQUARE, id=0)], [Guess(SQUARE)])
    rows = match(case)
    assert short(rows) == [(0, None, 1.0, "FP"), (None, 0, None, "FN")]
    assert "id is 0" in rows[0]["reason"]
    assert "id is 0" in rows[1]["reason"]
    assert short(match(case, annotation_id_zero_counts=True)) == [(0, 0, 1.0, "TP")]


def test_label_with_id_zero_under_a_prediction_of_an_area_that_does_not_count():
    huge = (0, 0, 1e6, 1e6)
    rows = match(Case([Truth(huge, area=100, id=0)], [Guess(huge)]))
    assert short(rows) == [(0, None, 1.0, "ignored"), (None, 0, None, "FN")]
    assert [row["error"] for row in rows] == [None, None]


@pytest.mark.parametrize(
    "case", [Case([], []), Case([], [], [], []), Case([Truth(SQUARE)], []), Case([], [Guess(FAR)])]
)
def test_empty_tables(case):
    assert len(match(case)) == len(case.truths) + len(case.guesses)


def test_any_set_of_whole_data_units_gives_its_share():
    rng = np.random.default_rng(3)

    def boxes(n):
        return [tuple(float(v) for v in b) for b in np.c_[rng.integers(0, 30, (n, 2)),
                                                          rng.integers(5, 30, (n, 2))]]  # fmt: skip

    truths = [Truth(b, int(i)) for b, i in zip(boxes(40), rng.integers(1, 4, 40), strict=True)]
    guesses = [
        Guess(b, float(s), int(i))
        for b, s, i in zip(boxes(90), rng.random(90), rng.integers(1, 4, 90), strict=True)
    ]
    predictions, labels, units, classes = to_tables(Case(truths, guesses, [1, 2, 3]))
    whole = match_boxes(predictions, labels, units, classes).to_pylist()
    parts = []
    for name in ("image-1", "image-2", "image-3"):
        only = pa.compute.field("data_hash") == name
        tables = [table.filter(only) for table in (predictions, labels, units)]
        parts += match_boxes(*tables, classes).to_pylist()

    def key(row):
        return str((row["prediction_id"], row["label_id"]))

    assert sorted(parts, key=key) == sorted(whole, key=key)
    assert {row["outcome"] for row in whole} == {"TP", "FP", "FN"}


def test_chunked_and_dictionary_columns():
    case = Case([Truth(SQUARE), Truth(FAR)], [Guess(SQUARE), Guess(FAR)])
    predictions, labels, units, classes = to_tables(case)
    chunked = pa.concat_tables([predictions.slice(0, 1), predictions.slice(1)])
    for name in ("data_hash", "feature_hash"):
        where = chunked.schema.get_field_index(name)
        chunked = chunked.set_column(where, name, chunked[name].dictionary_encode())
    expected = match_boxes(predictions, labels, units, classes)
    assert match_boxes(chunked, labels, units, classes).equals(expected)


def test_pairs_are_those_of_one_data_unit_and_class():
    case = Case(
        [Truth(SQUARE), Truth(HALF), Truth(SQUARE, 2)],
        [Guess(SQUARE, 0.5, 2), Guess(SQUARE, 0.5), Guess(MOST, 0.9)],
        [1, 2],
    )
    candidates = find_candidates(*to_tables(case), lowest=0.6)
    arranged, pairs = candidates.arranged, candidates.pairs
    rows = zip(arranged.row[pairs.prediction], arranged.label_row[pairs.label], strict=True)
    assert [(int(p), int(g)) for p, g in rows] == [(2, 0), (2, 1), (1, 0), (0, 2)]
    assert pairs.iou.tolist() == [0.8, 0.625, 1.0, 1.0]
    assert len(find_candidates(*to_tables(case), lowest=0.6, most=1).pairs) == 3


def test_unknown_class_is_refused():
    predictions, labels, units, classes = to_tables(Case([Truth(SQUARE)], [Guess(SQUARE)]))
    with pytest.raises(SchemaError, match="'class-1' first"):
        match_boxes(predictions, labels, units, classes.slice(1))
