"""Text files as columns of words."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources import text_files
from ea_arrow.sources.text_files import numbers, text_rows


def rows_of(*paths, **options):
    return [
        (int(file), int(line), words)
        for block in text_rows(paths, **options)
        for file, line, words in zip(block.file, block.line, block.words.to_pylist(), strict=True)
    ]


@pytest.fixture
def write(tmp_path):
    def _write(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return _write


def test_lines_keep_their_numbers_where_others_are_blank_or_comments(write):
    a = write("a.txt", "\n1 2\n  \n# no\n 3\t4  5 \n")
    b = write("b.txt", "6")
    assert rows_of(a, b) == [(0, 2, ["1", "2"]), (0, 5, ["3", "4", "5"]), (1, 1, ["6"])]


def test_an_empty_file_has_no_rows_and_those_after_it_keep_their_index(write):
    assert rows_of(write("a.txt", ""), write("b.txt", "1\n")) == [(1, 1, ["1"])]
    assert rows_of() == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(write, end):
    assert rows_of(write("a.txt", f"1 2{end}{end}3{end}")) == [(0, 1, ["1", "2"]), (0, 3, ["3"])]


def test_a_byte_order_mark_is_no_part_of_the_first_word(write):
    assert rows_of(write("a.txt", b"\xef\xbb\xbf7 8")) == [(0, 1, ["7", "8"])]


def test_another_separator_and_no_comments(write):
    assert rows_of(write("a.txt", "1,a b\n#,2"), separator=",", comment="") == [
        (0, 1, ["1", "a b"]),
        (0, 2, ["#", "2"]),
    ]


def test_blocks_follow_each_other_without_gap(write, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 4)
    paths = [write(f"{i}.txt", f"{i} x\n") for i in range(5)]
    blocks = list(text_rows(paths))
    assert len(blocks) == 5
    assert rows_of(*paths) == [(i, 1, [str(i), "x"]) for i in range(5)]


def test_words_by_place_are_null_where_a_line_is_shorter(write):
    (block,) = text_rows([write("a.txt", "1 2 3\n4\n5 6")])
    assert block.word(1).to_pylist() == ["2", None, "6"]
    assert block.take(np.array([2, 0])).word(0).to_pylist() == ["5", "1"]
    assert block.counts.tolist() == [3, 1, 2]


def test_files_that_are_no_text_are_named(write, tmp_path, monkeypatch):
    with pytest.raises(SourceError, match=r"a\.txt is not text: byte 2"):
        rows_of(write("a.txt", b"1 \xff"))
    with pytest.raises(SourceError, match=r"gone\.txt cannot be read"):
        rows_of(tmp_path / "gone.txt")
    monkeypatch.setattr(text_files, "MOST_BYTES", 3)
    with pytest.raises(SourceError, match=r"more than 3 bytes"):
        rows_of(write("a.txt", "1234"))


NUMBERS = {
    "1": 1,
    "+1.5": 1.5,
    "-.5e1": -5,
    ".5E-1": 0.05,
    "1.": 1,
    "2.e2": 200,
    "1e400": math.inf,
    "-INF": -math.inf,
    "Infinity": math.inf,
    "NAN": math.nan,
}
WORDS = ("x", "", "1_0", "0x10", "1e", "--1", "1,5", "٣", "1\0", ".", "e5", "nano")


def test_a_number_is_the_same_beside_a_word_and_without_one():
    alone, all_good = numbers(pa.array(list(NUMBERS)))
    mixed, good = numbers(pa.array([*NUMBERS, *WORDS]))
    expected = np.array(list(NUMBERS.values()), dtype=float)
    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_array_equal(mixed[: len(NUMBERS)], expected)
    assert all_good.all()
    assert good.tolist() == [True] * len(NUMBERS) + [False] * len(WORDS)
    assert np.isnan(mixed[len(NUMBERS) :]).all()


@given(st.lists(st.floats(allow_nan=False), max_size=20), st.booleans())
def test_numbers_are_read_to_the_last_bit(values, with_word):
    words = [repr(value) for value in values] + ["word"] * with_word
    parsed, good = numbers(pa.array(words, pa.string()))
    assert parsed[: len(values)].tolist() == values
    assert good.sum() == len(values)
