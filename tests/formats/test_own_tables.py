"""Predictions in our own columns: nothing in them is changed or lost."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources import table_base
from ea_arrow.sources.own_tables import PREDICTIONS
from tests.formats.table_reading import box, read, rows_of, source, text

HEADER = "image_id,class_name,score,bbox_x,bbox_y,bbox_w,bbox_h"


def test_ids_in_csv_stay_what_they_are(tmp_path):
    ids = ["007", "1e5", "0x10", "1.0", "NA", "null", "nan", "True", " a"]
    lines = [f"{name},dog,0.5,1,2,3,4" for name in ids]
    rows = read(PREDICTIONS, text(tmp_path / "a.csv", HEADER, *lines))
    assert [row["unit"] for row in rows] == ids
    assert [row["rule"] for row in rows] == [None] * len(ids)


def test_whole_numbers_are_ids_without_a_point(tmp_path):
    table = pa.table(
        {
            "image_id": [7.0, 2.5, float("nan")],
            "label": ["a"] * 3,
            "score": [1, 2, 3],
            "bbox": [[1, 2, 3, 4]] * 3,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(PREDICTIONS, tmp_path / "a.parquet")
    assert [row["unit"] for row in rows] == ["7", "2.5", None]


def test_whole_numbers_in_a_column_of_classes_are_indices(tmp_path):
    line = "a.jpg,{},0.5,1,2,3,4"
    header = HEADER.replace("image_id", "file_name")
    numbers = text(tmp_path / "a.csv", header, line.format("0"), line.format("12.0"))
    opened = source(PREDICTIONS, numbers)
    assert opened.coordinates.class_key == "index"
    assert [row["class_ref"] for row in rows_of(opened.batches())] == ["0", "12"]
    names = text(tmp_path / "b.csv", header, line.format("0"), line.format("dog"))
    assert source(PREDICTIONS, names).coordinates.class_key == "name"


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("x", "invalid_box"),
        ("1,5", "invalid_box"),
        ("0x10", "invalid_box"),
        ("1_0", "invalid_box"),
        ("", None),  # incomplete: refused by the checks
        (" 2 ", None),
        ("+2", None),
        ("2e0", None),
    ],
)
def test_a_number_that_is_none_refuses_its_row_alone(tmp_path, number, rule):
    cell = f'"{number}"'
    rows = read(
        PREDICTIONS,
        text(tmp_path / "a.csv", HEADER, f"1,dog,0.5,{cell},2,3,4", "1,dog,0.5,1,2,3,4"),
    )
    assert [row["rule"] for row in rows] == [rule, None]
    assert rows[0]["unit"] == "1"
    if rule:
        assert repr(number) in rows[0]["message"]
    elif number:
        assert rows[0]["bbox_x"] == 2


def test_rows_of_other_lengths_are_refused_with_their_number(tmp_path, monkeypatch):
    good = "1,dog,0.5,1,2,3,4"
    lines = [good if i % 5 else f"{good},more" for i in range(200)]
    monkeypatch.setattr(table_base, "BLOCK_BYTES", 256)
    path = text(tmp_path / "a.csv", "", HEADER, lines[0], "", *lines[1:])
    rows = read(PREDICTIONS, path)
    assert [row["source_row"] for row in rows] == list(range(200))
    assert [row["rule"] for row in rows] == [None if i % 5 else "invalid_data" for i in range(200)]
    assert "8 values; expected 7" in rows[0]["message"]


def test_a_quotation_mark_that_is_never_closed_loses_no_rows_silently(tmp_path):
    header = HEADER + ",remark"
    lines = ["1,dog,0.5,1,2,3,4,fine", '1,dog,0.5,1,2,3,4,"odd', "1,dog,0.5,1,2,3,4,fine"]
    with pytest.raises(SourceError, match="never closed"):
        read(PREDICTIONS, text(tmp_path / "a.csv", header, *lines))


@pytest.mark.parametrize(
    ("header", "options", "notes"),
    [
        ("data_hash,title,feature_hash,class_name,score,bbox", {}, []),  # as an export has them
        ("image_id,file_name,label,score,bbox", {},
         ["columns not read, as image_id names the data unit: file_name"]),
        ("image,category_id,class_name,label,score,bbox", {},
         ["columns not read, as category_id names the class: class_name, label"]),
        ("image,feature_hash,class_name,Confidence,score,bbox", {},
         ["columns not read, as Confidence is the confidence: score"]),
        ("image,label,score,bbox,x1,y1,x2,y2,x", {"box": "bbox"},
         ["columns not read, as bbox is the box: x1, y1, x2, y2, x"]),
        ("image,label,score,bbox,width,height,remark,time", {},
         ["columns of no known meaning, left out: remark, time"]),
    ],
)  # fmt: skip
def test_what_is_said_of_columns_that_are_not_read(tmp_path, header, options, notes):
    cells = ['"[1, 2, 3, 4]"' if name == "bbox" else "1" for name in header.split(",")]
    opened = source(PREDICTIONS, text(tmp_path / "a.csv", header, ",".join(cells)), options=options)
    list(opened.batches())
    assert list(opened.notes) == notes
    assert sum(opened.notes.values()) == sum(note.count(",", note.index(":")) + 1 for note in notes)


def test_lines_of_json_may_differ_in_their_keys(tmp_path):
    first = {"image_id": 1, "label": "a", "score": 0.5, "bbox": [1, 2, 3, 4]}
    lines = [
        first,
        first | {"track_id": 9, "polygon": [[0, 0, 4, 0, 4, 4]]},
        first | {"colour": "red", "frame": 3},
    ]
    # The first lines are those of the first megabyte.
    padding = [json.dumps(first | {"pad": "x" * 1000})] * 1100
    path = text(tmp_path / "a.ndjson", json.dumps(first), *padding, *map(json.dumps, lines))
    opened = source(PREDICTIONS, path)
    rows = rows_of(opened.batches())
    assert rows[-2]["track_id"] == "9"
    assert (rows[-2]["format"], rows[-2]["polygon"]) == ("polygon", [[0, 0, 4, 0, 4, 4]])
    assert rows[-1]["frame"] == 3
    assert opened.notes["values of 'colour', which the first lines do not have, left out"] == 1
    assert opened.notes["columns of no known meaning, left out: pad"] == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"frame": -1}, "invalid_frame"),
        ({"frame": 0.5}, "invalid_frame"),
        ({"score": "high"}, "invalid_data"),
        ({"score": True}, "invalid_data"),
        ({"score": 10**400}, "not_finite"),
        ({"bbox": [1, 2, 3]}, "invalid_box"),
        ({"bbox": [1, 2, 3, "4"]}, "invalid_box"),
        ({"bbox": {"x": 1}}, "invalid_box"),
        ({"mask": {"size": [2, 2], "counts": [1, 2]}}, "invalid_mask"),
        ({"mask": {"size": [2], "counts": "04"}}, "invalid_mask"),
        ({"mask": [[0, 1]]}, "invalid_mask"),
        ({"polygon": [[0, 0, 1, 1]]}, "invalid_polygon"),
        ({"polygon": [[0, 0, 1, 1, 2, "x"]]}, "invalid_polygon"),
        ({"probabilities": 0.5}, "invalid_data"),
        ({"track_id": ["a"]}, "invalid_data"),
        ({"image_id": [1]}, "invalid_data"),
    ],
)
def test_a_value_of_the_wrong_kind_refuses_its_row(tmp_path, change, rule):
    row = {"image_id": 1, "label": "a", "score": 0.5, "bbox": [1, 2, 3, 4]}
    lines = map(json.dumps, [row, row | change, row])
    rows = read(PREDICTIONS, text(tmp_path / "a.jsonl", *lines))
    assert [found["rule"] for found in rows] == [None, rule, None]
    assert rows[1]["message"]
    assert box(rows[2]) == (1, 2, 3, 4)


def test_half_a_surrogate_pair_is_no_reason_to_stop(tmp_path):
    line = r'{"image_id": "\ud83d", "label": "a", "score": 0.5, "bbox": [1, 2, 3, 4], "\udc00": 1}'
    assert read(PREDICTIONS, text(tmp_path / "a.jsonl", line))[0]["unit"] == "?"


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=30, deadline=None)
def test_boxes_come_back_bit_by_bit(tmp_path_factory, boxes):
    folder = tmp_path_factory.mktemp("bits")
    lines = [f"1,a,{b[0]!r},{','.join(map(repr, b))}" for b in boxes]
    rows = read(PREDICTIONS, text(folder / "a.csv", HEADER, *lines))
    assert [box(row) for row in rows] == boxes
    assert [row["confidence"] for row in rows] == [b[0] for b in boxes]


# -- shapes ----------------------------------------------------------------------------------------

MASK = {"size": [4, 5], "counts": "52203"}  # 5, 2, 2, 2, 5 … pads to 20 below
POLYGON = [[0.0, 0.0, 4.0, 0.0, 4.0, 3.0]]


def shaped(tmp_path, name, value, column):
    row = {"image_id": 1, "label": "a", "score": 0.5, column: value}
    path = tmp_path / name
    if name.endswith(".csv"):
        text(path, ",".join(row), '1,a,0.5,"' + json.dumps(value).replace('"', '""') + '"')
    elif name.endswith(".jsonl"):
        text(path, json.dumps(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    "value",
    [
        {"size": [4, 4], "counts": [5, 2, 2, 2, 5]},
        {"size": [4, 4], "counts": "52203"},
        {"height": 4, "width": 4, "counts": "52203"},
    ],
)
def test_a_mask_is_read_wherever_it_stands(tmp_path, name, value):
    (row,) = read(PREDICTIONS, shaped(tmp_path, name, value, "mask"))
    assert (row["rule"], row["format"]) == (None, "mask")
    assert row["mask"]["counts"] == b"52203"
    assert (row["mask"]["area"], row["mask"]["height"], row["mask"]["width"]) == (4, 4, 4)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    "value",
    [POLYGON, POLYGON[0], [[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]]],
    ids=["rings", "flat", "points"],
)
def test_a_polygon_is_read_as_rings_a_list_or_points(tmp_path, name, value):
    (row,) = read(PREDICTIONS, shaped(tmp_path, name, value, "polygon"))
    assert (row["rule"], row["format"], row["polygon"]) == (None, "polygon", POLYGON)


def test_relative_coordinates_are_told_by_metadata_names_or_the_caller(tmp_path):
    table = pa.table(
        {"image_id": [1], "label": ["a"], "score": [0.5], "bbox": [[0.1, 0.2, 0.3, 0.4]]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert source(PREDICTIONS, tmp_path / "a.parquet").coordinates.relative is False
    assert source(PREDICTIONS, tmp_path / "a.parquet", relative=True).coordinates.relative is True
    told = table.replace_schema_metadata({"coordinates": "relative"})
    pq.write_table(told, tmp_path / "b.parquet")
    assert source(PREDICTIONS, tmp_path / "b.parquet").coordinates.relative is True
    assert source(PREDICTIONS, tmp_path / "b.parquet", relative=False).coordinates.relative is False
    pq.write_table(told.replace_schema_metadata({"coordinates": "mm"}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match="coordinates are 'mm'"):
        source(PREDICTIONS, tmp_path / "c.parquet")


def test_large_and_dictionary_encoded_columns_are_read(tmp_path):
    table = pa.table(
        {
            "image_id": pa.array(["x", "y", "x"]).dictionary_encode(),
            "label": pa.array(["a", None, "a"], pa.large_string()),
            "score": pa.array([1, 2, 3], pa.float16()),
            "bbox": pa.array([[1, 2, 3, 4]] * 3, pa.list_(pa.int16(), 4)),
        }
    )
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table)
    rows = read(PREDICTIONS, tmp_path / "a.arrow")
    assert [(r["unit"], r["class_ref"], r["confidence"]) for r in rows] == [
        ("x", "a", 1.0),
        ("y", None, 2.0),
        ("x", "a", 3.0),
    ]
    assert {box(row) for row in rows} == {(1, 2, 3, 4)}
