"""Refused rows as data."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.geometry import Rle
from ea_arrow.ledger import REJECTS as RULES
from ea_arrow.normalise import Normaliser
from ea_arrow.rejects import MAX_PAYLOAD, reject_rows
from ea_arrow.schema import RAW, REJECTS
from tests.builders import RELATIVE, class_table, data_units, object_classes, raw_batch

UNITS = data_units(("a", 0, 100, 50), ("v", 7, 640, 480))
CLASSES = class_table(object_classes(("car", "any", "1")))
BOX = {
    "unit": "a",
    "class_ref": "car",
    "format": "bounding_box",
    "bbox_x": 0.1,
    "bbox_y": 0.2,
    "bbox_w": 0.3,
    "bbox_h": 0.4,
}


def refuse(*rows, iteration="it", batch=None):
    """The rejects of some rows."""
    normaliser = Normaliser(UNITS, CLASSES, RELATIVE, "predictions")
    normalised = normaliser(raw_batch(list(rows)) if batch is None else batch)
    table = reject_rows(normalised, import_id="id", iteration=iteration, source="preds.pkl")
    assert table.schema.equals(REJECTS.arrow, check_metadata=True)
    table.validate(full=True)
    assert table.num_rows == normaliser.finish().rejected
    return table.to_pylist()


def test_a_refused_row_says_what_was_found_and_where():
    (reject,) = refuse(BOX, BOX | {"unit": "b"}, BOX)
    payload = json.loads(reject.pop("payload"))
    assert reject == {
        "import_id": "id",
        "iteration": "it",
        "source": "preds.pkl",
        "source_row": 1,
        "rules": ["unknown_data_unit"],
        "message": "No data unit 'b' with frame 0 in the project.",
    }
    assert payload == {"source_row": 1, "confidence": 0.5} | BOX | {"unit": "b"}


def test_labels_have_no_iteration():
    (reject,) = refuse(BOX | {"unit": "b"}, iteration=None)
    assert reject["iteration"] is None


def test_no_refused_row_gives_no_rows():
    assert refuse(BOX) == []
    assert refuse() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": None}, "Names no data unit."),
        ({"unit": "v"}, "No data unit 'v' with frame 0 in the project."),
        ({"unit": "v", "frame": 8}, "No data unit 'v' with frame 8 in the project."),
        ({"class_ref": None}, "Names no class."),
        ({"class_ref": "bus"}, "No class 'bus' in the ontology."),
        ({"format": "blob"}, "Format is unknown."),
        ({"confidence": None}, "No confidence."),
        (
            {"confidence": math.nan},
            "A number is NaN or infinite: confidence=NaN, box x=0.1, y=0.2, w=0.3, h=0.4.",
        ),
        (
            {"bbox_w": math.inf},
            "A number is NaN or infinite: confidence=0.5, box x=0.1, y=0.2, w=inf, h=0.4.",
        ),
        ({"bbox_w": -0.25}, "Box x=0.1, y=0.2, w=-0.25, h=0.4 is not a box."),
        ({"bbox_w": None}, "Box x=0.1, y=0.2, w=null, h=0.4 is not a box."),
        ({"bbox_w": 0.95}, "Box x=0.1, y=0.2, w=0.95, h=0.4 leaves [0, 1]."),
        ({"format": "mask"}, "Mask is not a valid two-dimensional mask."),
    ],
)
def test_messages(change, message):
    (reject,) = refuse(BOX | change)
    assert reject["message"] == message


def test_every_rule_has_a_message():
    for rule in RULES:
        (reject,) = refuse({"rule": rule})
        assert reject["rules"] == [rule]
        (told,) = refuse(BOX | {"rule": rule, "message": "The reader's words."})
        assert told["message"] == "The reader's words."
        payload = json.loads(told["payload"])
        assert not {"rule", "message"} & set(payload)


def test_all_rules_of_a_row_in_the_order_of_the_ledger():
    worst = {"unit": None, "class_ref": "bus", "confidence": None, "bbox_w": -1.0}
    (reject,) = refuse(BOX | worst)
    rules = ["missing_data_unit", "unknown_class", "missing_confidence", "invalid_box"]
    assert reject["rules"] == rules
    assert reject["message"] == (
        "Names no data unit. No class 'bus' in the ontology. No confidence. "
        "Box x=0.1, y=0.2, w=-1.0, h=0.4 is not a box."
    )


def test_each_row_has_its_own_rules():
    rejects = refuse(BOX | {"unit": "b"}, BOX | {"class_ref": "bus"}, BOX | {"confidence": None})
    assert [r["rules"] for r in rejects] == [
        ["unknown_data_unit"],
        ["unknown_class"],
        ["missing_confidence"],
    ]
    assert [r["source_row"] for r in rejects] == [0, 1, 2]


def test_a_mask_is_told_by_its_size():
    mask = {"format": "mask", "mask": Rle(3, 4, np.array([4, 2, 1, 2, 3]))}
    (reject,) = refuse({"unit": "a", "class_ref": "car"} | mask)
    assert reject["rules"] == ["mask_size"]
    assert json.loads(reject["payload"])["mask"] == {"height": 3, "width": 4, "area": 4}


def test_a_payload_is_cut():
    ring = np.linspace(0, 1, 200_000)
    long = {"unit": "a", "class_ref": "car", "format": "polygon", "polygon": [ring]}
    cut, words, short = refuse(
        long | {"confidence": math.nan}, BOX | {"unit": "é" * 5000}, BOX | {"unit": "b"}
    )
    assert len(cut["payload"]) == len(words["payload"]) == MAX_PAYLOAD
    assert cut["payload"].startswith('{"source_row":0,"unit":"a"')
    assert json.loads(short["payload"])["unit"] == "b"


def test_a_payload_is_json_whatever_the_text():
    text = 'quote " back\\slash\nline\ttab\x00nul \u2028 日本'
    (reject,) = refuse(BOX | {"unit": text})
    assert json.loads(reject["payload"])["unit"] == text
    assert text in reject["message"]


def test_slices_of_batches():
    batch = raw_batch([BOX, BOX | {"unit": "b"}, BOX | {"class_ref": "bus"}]).slice(2)
    (reject,) = refuse(batch=batch)
    assert (reject["source_row"], reject["rules"]) == (2, ["unknown_class"])


anything = {
    pa.string(): st.text(max_size=5),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.list_(pa.float32()): st.lists(st.floats(width=32), max_size=3),
    RAW.arrow.field("polygon").type: st.lists(st.lists(st.floats(), max_size=8), max_size=3),
    RAW.arrow.field("mask").type: st.fixed_dictionaries(
        {
            "height": st.integers(0, 100),
            "width": st.integers(0, 100),
            "counts": st.binary(max_size=5),
            "area": st.integers(0, 2**63 - 1),
        }
        | {name: st.integers(0, 2**31 - 1) for name in "xywh"}
    ),
}
rows = st.fixed_dictionaries(
    {"source_row": st.integers(0, 2**62)},
    optional={
        field.name: st.none() | anything[field.type]
        for field in RAW.arrow
        if field.name not in ("source_row", "rule")
    }
    | {
        "unit": st.sampled_from(["a", "v", "?"]),
        "class_ref": st.sampled_from(["car", "?"]),
        "format": st.sampled_from(["bounding_box", "polygon", "mask", "?"]),
        "rule": st.none() | st.sampled_from(list(RULES)),
    },
)


@given(st.lists(rows, max_size=6))
def test_whatever_a_row_holds_it_is_kept_or_told(given_rows):
    batch = pa.RecordBatch.from_pylist(given_rows, schema=RAW.arrow)
    for reject in refuse(batch=batch):
        assert reject["rules"]
        assert set(reject["rules"]) <= set(RULES)
        assert len(reject["payload"]) <= MAX_PAYLOAD
