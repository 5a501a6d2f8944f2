"""Tables in files: damaged ones, those of another kind, many, and large ones."""

import contextlib
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.own_labels import LABELS
from ea_arrow.sources.own_tables import PREDICTIONS
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.table_files import open_table
from tests.formats.table_reading import read, rows_of, source, text

HEADER = "image_id,class_name,score,bbox_x,bbox_y,bbox_w,bbox_h"


def labels(path, **reading):
    return LABELS.read(Files(path, (path,)), Reading(**reading))


@pytest.mark.parametrize("line", [b"1,d\xfcg,0.5,1,2,3,4", b"1,d\xfcg", b"1,dog,0.5,1,2,3,4,\xfc"])
def test_a_file_that_is_not_utf_8_is_refused_whichever_row_it_is_in(tmp_path, line):
    # Arrow passes over a row of the wrong length without a word if it is not UTF-8.
    path = tmp_path / "a.csv"
    path.write_bytes(b"\n".join([HEADER.encode(), b"1,dog,0.5,1,2,3,4", line, b""]))
    with pytest.raises(SourceError, match=r"not text in UTF-8: .* near byte"):
        read(PREDICTIONS, path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n1,dog,0.5,1,2,3,4\r\n".encode())
    assert PREDICTIONS.sniff(Sample(path))
    assert [row["unit"] for row in read(PREDICTIONS, path)] == ["1"]


def test_a_damaged_footer_does_not_end_the_process(tmp_path):
    """Arrow's metadata of a column chunk aborts on some; every byte of a footer is tried."""
    data = good_file("parquet", tmp_path).read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    path = tmp_path / "x.parquet"
    refused = 0
    for place in range(len(data) - 8 - size, len(data) - 8):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            read(PREDICTIONS, path)
        except SourceError:
            refused += 1
    assert refused > 10


def test_a_text_repeated_without_end_is_refused(tmp_path):
    long = "x" * (1 << 17)
    table = pa.table(
        {
            "image_id": pa.DictionaryArray.from_arrays(
                np.zeros(100_000, np.int32), pa.array([long])
            ),
            "label": ["a"] * 100_000,
            "score": [0.5] * 100_000,
            "bbox_x": [1.0] * 100_000,
            "bbox_y": [1.0] * 100_000,
            "bbox_w": [1.0] * 100_000,
            "bbox_h": [1.0] * 100_000,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    before = pa.total_allocated_bytes()
    with pytest.raises(SourceError, match="131,072 bytes"):
        read(PREDICTIONS, tmp_path / "a.parquet")
    assert pa.total_allocated_bytes() - before < 1 << 28


def good_file(kind, folder):
    rows = [
        {"image_id": i, "label": "a", "score": 0.5, "bbox": [1.5, 2.0, 3.0, 4.0]} for i in range(50)
    ]
    path = folder / f"good.{kind}"
    table = pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    elif kind == "arrows":
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table)
    elif kind == "csv.gz":
        lines = ["image_id,label,score,bbox", *(f'{i},a,0.5,"[1.5,2,3,4]"' for i in range(50))]
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows", "csv.gz", "jsonl"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_ends_in_an_error_or_in_rows(tmp_path_factory, kind, seed):
    folder = tmp_path_factory.mktemp("damaged")
    path = good_file(kind, folder)
    random = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 6)):
        data[random.integers(len(data))] = random.integers(256)
    cut = random.integers(len(data)) if random.random() < 0.3 else len(data)
    path.write_bytes(bytes(data[:cut]))
    PREDICTIONS.sniff(Sample(path))
    LABELS.sniff(Sample(path))
    with contextlib.suppress(SourceError):
        read(PREDICTIONS, path)
    with contextlib.suppress(SourceError):
        labels(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"PAR1PAR1PAR1",
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff\0\0\0\0",
        b"{",
        b"\0" * 100,
        b"\xff\xfea\0",
    ],
)
def test_what_is_no_table_is_refused(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    assert not PREDICTIONS.sniff(Sample(tmp_path / "x"))
    with pytest.raises(SourceError):
        source(PREDICTIONS, tmp_path / "x")


@pytest.mark.parametrize(
    "header",
    [
        "image_id,category_id,bbox",  # no confidence: labels
        "image_id,score,bbox",
        "label,score,bbox",
        "image_id,label,score",  # a classification
        "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,file_name",
        "ImageID,LabelName,Score,XMin,XMax,YMin,YMax",
        "name,width,height",
    ],
)
def test_other_tables_are_not_taken_for_predictions(tmp_path, header):
    assert not PREDICTIONS.sniff(Sample(text(tmp_path / "a.csv", header, "1,2,3")))


def test_a_table_that_lacks_a_column_says_which(tmp_path):
    with pytest.raises(SourceError, match="no column of the confidence; it has image_id"):
        source(PREDICTIONS, text(tmp_path / "a.csv", "image_id,label,bbox", "1,a,[]"))


def test_tables_of_one_source_must_agree(tmp_path):
    text(tmp_path / "a.csv", HEADER, "1,dog,0.5,1,2,3,4")
    text(tmp_path / "b.csv", HEADER.replace("image_id", "file_name"), "1,dog,0.5,1,2,3,4")
    files = Files(tmp_path, (tmp_path / "a.csv", tmp_path / "b.csv"))
    with pytest.raises(SourceError, match=r"b\.csv names data units or classes"):
        PREDICTIONS.open(files, Reading())


def test_rows_of_several_files_are_told_with_their_file(tmp_path):
    for name in ("a", "b"):
        text(tmp_path / f"{name}.csv", HEADER, "1,dog,0.5,1,2,3,4", "1,dog,0.5,x,2,3,4", "1,2")
    files = Files(tmp_path, (tmp_path / "a.csv", tmp_path / "b.csv"))
    rows = rows_of(PREDICTIONS.open(files, Reading()).batches())
    places = [(row["source_file"], row["source_row"]) for row in rows]
    assert places == [(f"{name}.csv", row) for name in "ab" for row in range(3)]


def test_memory_is_bounded_by_blocks(tmp_path):
    n = 400_000
    table = pa.table(
        {
            "image_id": np.arange(n) // 20,
            "label": pa.array(["a"] * n),
            "score": np.linspace(0, 1, n),
            **{name: np.ones(n) for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")},
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    del table
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for batch in source(PREDICTIONS, tmp_path / "a.parquet").batches():
        most = max(most, pa.total_allocated_bytes() - before)
        seen += batch.num_rows
    assert seen == n
    assert most < 1 << 26


def test_a_table_may_be_read_twice(tmp_path):
    table = open_table(text(tmp_path / "a.csv", HEADER, "1,dog,0.5,1,2,3,4"))
    for _ in range(2):
        assert [b.columns["score"].to_pylist() for b in table.blocks(["score"])] == [["0.5"]]
