"""COCO results: the areas of pycocotools, and the same rows from both ways of reading."""

import io
import json
from contextlib import redirect_stdout

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from ea_arrow.errors import SourceError
from ea_arrow.ledger import REJECTS
from ea_arrow.schema import RAW
from ea_arrow.sources import json_stream
from ea_arrow.sources.coco import sniff_results
from ea_arrow.sources.coco_results import CocoResults
from ea_arrow.sources.formats import Reading
from ea_arrow.sources.json_columns import JsonColumns
from ea_arrow.sources.json_stream import JsonRecords
from ea_arrow.sources.samples import Sample

RLE = {"size": [4, 6], "counts": ":120103"}


def result(**more):
    return {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4.5], "score": 0.5} | more


@pytest.fixture
def read(tmp_path):
    def read(rows, reading=None):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(rows))
        source = CocoResults(path, reading)
        batches = list(source.batches())
        assert all(batch.schema.equals(RAW.arrow) for batch in batches)
        return source, pa.Table.from_batches(batches, RAW.arrow).to_pylist()

    return read


def test_a_box_is_read_as_given(read):
    source, [row] = read([result()])
    assert {k: v for k, v in row.items() if v is not None} == {
        "source_row": 0,
        "unit": "1",
        "class_ref": "2",
        "format": "bounding_box",
        "confidence": 0.5,
        "bbox_x": 1.0,
        "bbox_y": 2.0,
        "bbox_w": 3.0,
        "bbox_h": 4.5,
        "area": 13.5,
    }
    assert source.coordinates.unit_key == source.coordinates.class_key == "source_id"


def test_with_a_box_first_every_area_is_that_of_the_given_box(read):
    _, rows = read([result(), result(segmentation=RLE, bbox=[0, 0, 0.1, 0.3])])
    assert [row["area"] for row in rows] == [13.5, 0.1 * 0.3]
    assert [row["area"] for row in rows] == areas_in_pycocotools(
        [result(), result(segmentation=RLE, bbox=[0, 0, 0.1, 0.3])]
    )
    assert rows[1]["mask"]["area"] == 3
    assert rows[1]["format"] == "mask"


@pytest.mark.parametrize("box", [None, []])
def test_with_a_mask_first_areas_are_left_to_the_masks(read, box):
    first = result(segmentation=RLE, bbox=box)
    _, rows = read([first, result(segmentation=RLE, bbox=[0, 0, 9, 9])])
    assert [row["area"] for row in rows] == [None, None]
    assert [row["bbox_w"] for row in rows] == [None, 9]


def test_with_a_mask_first_plain_boxes_get_no_area_either(read):
    first = {"image_id": 1, "category_id": 2, "segmentation": RLE, "score": 1}
    _, rows = read([first, result()])
    assert [row["area"] for row in rows] == [None, None]
    assert areas_in_pycocotools([first]) == [3]


def areas_in_pycocotools(results):
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": [{"id": 1}], "categories": [], "annotations": []}
        truth.createIndex()
        found = truth.loadRes(json.loads(json.dumps(results)))
    return [float(found.anns[i + 1]["area"]) for i in range(len(results))]


def test_an_object_with_annotations_is_read_too(read):
    _, rows = read({"annotations": [result(image_id="a"), result(image_id="b")], "info": {}})
    assert [row["unit"] for row in rows] == ["a", "b"]
    _, rows = read({"images": [], "annotations": [result()]})
    assert len(rows) == 1


def test_polygons_and_uncompressed_masks_are_read(read):
    ring = [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]
    source, rows = read(
        [
            result(segmentation=[ring, [1, 1]]),
            result(segmentation={"size": [4, 6], "counts": [10, 1, 2, 1, 3, 1, 6]}),
        ]
    )
    assert rows[0]["polygon"] == [ring]
    assert rows[1]["mask"]["counts"] == b":120103"
    assert source.notes == {"polygon parts of fewer than three points left out": 1}


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"score": None}, None),
        ({"score": "0.5"}, "invalid_data"),
        ({"score": float("nan")}, "not_finite"),
        ({"score": True}, "invalid_data"),
        ({"bbox": ["1", 2, 3, 4]}, "invalid_box"),
        ({"bbox": [1, 2, 3]}, "invalid_box"),
        ({"bbox": [1, 2, 3, 4, 5]}, "invalid_box"),
        ({"bbox": [1, 2, 3, float("-inf")]}, "not_finite"),
        ({"bbox": [1, 2, 1e300, 1e300]}, "not_finite"),
        ({"bbox": [1, 2, 3, 10**400]}, "not_finite"),
        ({"bbox": [1, 2, [3], 4]}, "invalid_box"),
        ({"bbox": None}, "invalid_box"),
        ({"bbox": []}, "invalid_box"),
        ({"image_id": [1]}, "invalid_data"),
        ({"category_id": True}, "invalid_data"),
        ({"segmentation": {"size": [4, 6], "counts": "12"}}, "invalid_mask"),
        ({"segmentation": [[1, 2, 3, 4]]}, "invalid_polygon"),
    ],
)
def test_a_broken_result_is_a_reject_beside_good_ones(read, broken, rule):
    _, rows = read([result(), result() | broken, result()])
    assert [row["rule"] for row in rows] == [None, rule, None]
    assert rule is None or rule in REJECTS
    assert [row["source_row"] for row in rows] == [0, 1, 2]
    assert (rows[1]["message"] is None) == (rule is None)
    assert rows[0]["area"] == rows[2]["area"] == 13.5


def test_a_missing_score_or_id_is_null(read):
    _, rows = read([{"image_id": 1, "bbox": [1, 2, 3, 4]}, result(), "x"])
    assert (rows[0]["confidence"], rows[0]["class_ref"]) == (None, None)
    assert rows[2]["rule"] == "invalid_data"


# Both ways of reading


@pytest.fixture
def small(monkeypatch):
    """Pieces of a few rows: all but the first row can be read by column."""
    shrink(monkeypatch)
    return monkeypatch


def shrink(monkeypatch):
    for name, size in (("FIRST_BYTES", 1), ("PIECE_BYTES", 300), ("_TAIL", 100)):
        monkeypatch.setattr(json_stream, name, size)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"image_id": "a", "category_id": "é\\"},
        {"segmentation": RLE},
        {"segmentation": RLE, "bbox": None},
        {"segmentation": {"size": [4, 6], "counts": "h00"}},
        {"id": 7, "area": 3.5, "iscrowd": 0, "file_name": "x/é.jpg", "track": {"a": [[1.5]]}},
        {"segmentation": [], "x": None, "y": {}, "z": []},
        {"segmentation": {}},
        {"segmentation": RLE, "bbox": []},
        {"rbox": [50, 40, 20, 10, 0.5], "poly": [1, 2, 3, 4, 5, 6, 7, 8.5], "bbox": None},
        {"bbox": [-0.0, 1e-5, 1e200, 12345678901234567890]},
    ],
)
def test_plain_results_are_read_by_column(read, small, change):
    rows = [result(score=i / 7) | change for i in range(30)]
    rows = [{key: v for key, v in row.items() if v is not None} for row in rows]
    taken = []
    small.setattr(CocoResults, "_row", lambda self, row: taken.append(row) or row_of(self, row))
    _, fast = read(rows)
    assert len(taken) == 1
    assert [row["source_row"] for row in fast] == list(range(30))
    assert repr(fast) == repr(one_by_one(read, rows, small))


row_of = CocoResults._row


def one_by_one(read, rows, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(JsonColumns, "parse", lambda *_: None)
        return read(rows)[1]


NUMBER = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -0.0, 1, 7.0, 2**63, 10**400, True, None, "1", [1], 1e308, 5e-324]),
)
BOX = st.one_of(
    st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    st.lists(NUMBER, min_size=4, max_size=4),
    st.lists(NUMBER, max_size=6),
    st.sampled_from([None, [], {}, "1234"]),
)
SIZE = st.sampled_from([[4, 6], [4.0, 6], [6, 4], ["4", 6], [4], [2**40, 2**40], None, [None, 6]])
COUNTS = st.sampled_from([":120103", "H0", "\\x", "é", "", "12", None, [10, 14], [24], [25], [-1]])
SHAPE = st.one_of(
    st.just(RLE),
    st.fixed_dictionaries({"size": SIZE, "counts": COUNTS}),
    st.sampled_from(
        [None, [], {}, [[0, 0, 1, 1, 2, 0]], [0, 0, 1, 1, 2, 0], "x", {"size": [1, 1]}]
    ),
)
ID = st.one_of(
    st.integers(0, 9), NUMBER, st.text(max_size=3), st.sampled_from(["\ud83d", "\u0000", "é"])
)
CHANGE = st.one_of(
    st.fixed_dictionaries({"image_id": ID}),
    st.fixed_dictionaries({"category_id": ID}),
    st.fixed_dictionaries({"score": NUMBER}),
    st.fixed_dictionaries({"bbox": BOX}),
    st.fixed_dictionaries({"segmentation": SHAPE}),
    st.fixed_dictionaries({"rbox": st.one_of(BOX, st.lists(NUMBER, min_size=5, max_size=5))}),
    st.fixed_dictionaries({"extra": NUMBER}),
    st.sampled_from(["image_id", "score", "bbox"]),  # left out
)
LIKE = st.sampled_from(
    [
        result(),
        result(image_id="a"),
        result(segmentation=RLE),
        result(segmentation=[], extra=None),
        result(segmentation=RLE, bbox=[], extra={}),
        result(bbox=[], rbox=[5, 5, 2, 2, 0.5]),
    ]
)
SCORES = ["-0", "-0.0", "1e400", "1e-400", "NaN", "-Infinity", '"x", "score": 0.5', "1e-0"]
ODD = st.sampled_from(
    [
        *(('"score": 0.5}', f'"score": {text}}}') for text in SCORES),
        *(('"image_id": 1,', f'"image_id": {text},') for text in ("-0", "1e0", "9007199254740993")),
        ('"image_id": 1,', '"image_id": 1, "x": {},'),
        ('"bbox"', '"\\u0062box"'),
        (', "', ',\n\t"'),
        ("[1, 2,", "[1, 2.00000000000000011102230246251565404236316680908203125,"),
    ]
)


def changed(like, change):
    if isinstance(change, str):
        return {key: value for key, value in like.items() if key != change}
    return like | change


@given(
    LIKE, st.lists(st.tuples(st.integers(1, 11), st.none() | CHANGE, st.none() | ODD), max_size=4)
)
def test_both_ways_of_reading_give_the_same_rows(tmp_path_factory, like, changes):
    rows = [json.dumps(like) for _ in range(12)]
    for at, change, odd in changes:
        if change is not None:
            rows[at] = json.dumps(changed(like, change))
        if odd is not None:
            rows[at] = rows[at].replace(*odd)
    path = tmp_path_factory.mktemp("both") / "results.json"
    path.write_text("[" + ", ".join(rows) + "]", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        fast = rows_and_notes(path)
        patch.setattr(JsonColumns, "parse", lambda *_: None)
        assert rows_and_notes(path) == fast
        assert fast[0].count("'source_row'") == 12


def rows_and_notes(path):
    source = CocoResults(path)
    return repr([row for batch in source.batches() for row in batch.to_pylist()]), source.notes


@pytest.mark.parametrize(
    "odd",
    [
        {"image_id": None},
        {"category_id": None},
        {"score": None},
        {"score": -0.0},
        {"bbox": None},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, None, 3, 4]},
        {"bbox": [1e200, 1, 1e200, 1e200]},
        {"bbox": [[1, 2, 3, 4]]},
        {"bbox": {}},
        {"segmentation": None},
        {"segmentation": []},
        {"segmentation": {}},
        {"segmentation": [None]},
        {"segmentation": [[0, 0, 4, 0, 4, 4]]},
        {"segmentation": RLE | {"size": None}},
        {"segmentation": RLE | {"size": [4, None]}},
        {"segmentation": RLE | {"size": [4, 6, 1]}},
        {"segmentation": RLE | {"size": [6, 4]}},
        {"segmentation": RLE | {"size": [2**33, 2**33]}},
        {"segmentation": RLE | {"counts": None}},
        {"segmentation": RLE | {"counts": "é"}},
        {"segmentation": RLE | {"counts": [10, 14]}},
        {"rbox": [1, 2, 3, 4, 5]},
    ],
)
@pytest.mark.parametrize(
    "like",
    [{}, {"segmentation": RLE}, {"segmentation": []}, {"segmentation": RLE, "bbox": None},
     {"segmentation": RLE, "bbox": {}}, {"bbox": [], "rbox": [5, 5, 2, 2, 0.5]}],
)  # fmt: skip
def test_one_odd_result_leaves_the_others_as_they_are(read, small, like, odd):
    rows = [result(**like) for _ in range(9)]
    rows[5] |= odd
    assert repr(read(rows)[1]) == repr(one_by_one(read, rows, small))


def test_records_of_another_kind_are_read_by_column_once_they_are_seen(read, small):
    taken = []
    small.setattr(CocoResults, "_row", lambda self, row: taken.append(row) or row_of(self, row))
    first = [result(image_id=i) for i in range(20)]
    _, rows = read([*first, *(result(image_id=str(i)) for i in range(20, 200))])
    assert [row["unit"] for row in rows] == [str(i) for i in range(200)]
    assert len(taken) < 40


@pytest.mark.parametrize("box_first", [True, False])
def test_the_first_result_decides_in_every_piece(read, small, box_first):
    first = result() if box_first else result(segmentation=RLE, bbox=[])
    _, rows = read([first, *[result(bbox=[0, 0, 2, i]) for i in range(40)]])
    expected = [2.0 * i for i in range(40)] if box_first else [None] * 40
    assert [row["area"] for row in rows[1:]] == expected


def test_a_file_can_be_read_again(read, small):
    ring = [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]
    source, rows = read([result(segmentation=[ring, [1, 1]]), *[result()] * 20])
    again = [row for batch in source.batches() for row in batch.to_pylist()]
    assert again == rows
    assert source.notes == {"polygon parts of fewer than three points left out": 1}


def test_batches_are_bounded_and_number_rows_through(read, small):
    for module in ("base",):
        small.setattr(f"ea_arrow.sources.{module}.BATCH_MASKS", 2)
    rows = [result(segmentation=RLE) for _ in range(5)] + [result() for _ in range(60)]
    source, found = read(rows)
    assert [row["source_row"] for row in found] == list(range(65))
    assert max(b.num_rows for b in source.batches()) <= 6


# What the caller knows about boxes


@pytest.mark.parametrize(
    ("layout", "one_based", "expected"),
    [
        (None, False, [1, 2, 3, 4.5]),
        ("xywh", False, [1, 2, 3, 4.5]),
        ("xyxy", False, [1, 2, 2, 2.5]),
        ("xyxy", True, [0, 1, 3, 3.5]),
        (None, True, [0, 1, 3, 4.5]),
        ("cxcywh", False, [-0.5, -0.25, 3, 4.5]),
        ("yxhw", False, [2, 1, 4.5, 3]),
        ("yxyx", False, [2, 1, 2.5, 2]),
    ],
)
def test_boxes_are_read_as_the_caller_says(read, small, layout, one_based, expected):
    reading = Reading(box=layout, one_based=one_based)
    source, rows = read([result()] * 9, reading)
    boxes = [[row[f"bbox_{side}"] for side in "xywh"] for row in rows]
    assert boxes == [expected] * 9
    assert [row["area"] for row in rows] == [expected[2] * expected[3]] * 9
    assert not source.coordinates.relative
    _, [row] = read([result(bbox=[1e308, 0, -1e308, 1])], Reading(box="xyxy"))
    assert row["rule"] == "not_finite"


def test_relative_boxes_have_no_area_of_their_own(read, small):
    source, rows = read([result(bbox=[0.1, 0.2, 0.3, 0.4])] * 9, Reading(relative=True))
    assert source.coordinates.relative
    assert [row["bbox_w"] for row in rows] == [0.3] * 9
    assert [row["area"] for row in rows] == [None] * 9


# What is no results


def test_no_results_are_no_batches(read):
    assert read([])[1] == []
    assert read({"annotations": []})[1] == []


def test_ground_truth_is_told_from_results(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1}]}))
    with pytest.raises(SourceError, match="holds COCO ground truth, without scores") as caught:
        CocoResults(path)
    assert "ea-arrow init" in caught.value.hint
    for other in ({"a": 1}, [1, 2], "text", None, {"annotations": [1]}):
        path.write_text(json.dumps(other))
        with pytest.raises(SourceError, match="is not COCO results"):
            CocoResults(path)


@pytest.mark.parametrize("order", [("images", "annotations"), ("annotations", "images")])
def test_ground_truth_is_told_from_results_however_large(tmp_path, small, order):
    lists = {"images": [{"id": i} for i in range(50)], "annotations": [{"image_id": 1}] * 50}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({key: lists[key] for key in order}))
    with pytest.raises(SourceError, match="holds COCO ground truth, without scores"):
        list(CocoResults(path).batches())
    lists["annotations"][-1] = result()
    path.write_text(json.dumps({key: lists[key] for key in order}))
    rows = [row for batch in CocoResults(path).batches() for row in batch.to_pylist()]
    assert [row["rule"] for row in rows] == ["invalid_box"] * 49 + [None]


def test_a_result_may_come_late(read, small):
    _, rows = read([5] * 40 + [result()] * 40)
    assert [row["rule"] for row in rows] == ["invalid_data"] * 40 + [None] * 40
    with pytest.raises(SourceError, match=r"is not COCO results: found \[5.*; expected COCO"):
        read([5] * 80)


def test_a_large_file_that_breaks_off_says_so_when_it_is_read(tmp_path, small):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([result()] * 80)[:-1])
    source = CocoResults(path)
    with pytest.raises(SourceError, match=r"ends in the middle, at line 1, column .*: it is cut"):
        list(source.batches())


@pytest.mark.parametrize("rows", [[result()] * 500, [{"x": 5}] * 500 + [result()]])
def test_a_file_is_not_read_before_its_batches_are(tmp_path, small, rows):
    cuts = []
    cut = JsonRecords._cut
    small.setattr(JsonRecords, "_cut", lambda self, text: cuts.append(text) or cut(self, text))
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{}, {}, {}, *rows]))
    source = CocoResults(path)
    assert len(cuts) < 8
    assert sum(len(batch) for batch in source.batches()) == len(rows) + 3


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"images": [{"id": i} for i in range(20_000)], "annotations": [result()]}, True),
        ({"images": [{"id": i} for i in range(20_000)], "annotations": [{"image_id": 1}]}, False),
        ({"objects": [{"id": i} for i in range(20_000)], "annotations": [result()]}, False),
        ({"images": [{"id": i} for i in range(20_000)], "x": [{"score": 1}]}, False),
        ([result()], True),
        ({"annotations": [result()]}, True),
        ([{"label": "cat", "score": 0.5, "box": {"xmin": 1}}], False),
        ({"score": 1, "image_id": 2}, False),
    ],
)
def test_results_are_recognised_by_their_scores(tmp_path, document, expected):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    assert sniff_results(Sample(path)) == expected
    assert not sniff_results(Sample(tmp_path))


def test_an_object_says_what_its_own_ids_are_called(tmp_path):
    document = {
        "annotations": [result(image_id=0, category_id=0)],
        "images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1}, {"file_name": "b.jpg"}],
        "categories": [{"id": 0, "name": "cat"}, {"id": "1", "name": "dog"}, None],
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    coordinates = CocoResults(path).coordinates
    assert coordinates.unit_names == (("0", "a.jpg"),)
    assert coordinates.class_names == (("0", "cat"), ("1", "dog"))
