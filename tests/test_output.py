"""What is printed: every format keeps the numbers, and nothing in the data reaches the terminal."""

import base64
import csv
import html.parser
import io
import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import click
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ea_arrow.cli import output
from ea_arrow.cli.options import FORMATS
from ea_arrow.ledger import Ledger
from ea_arrow.results import Result

EXACT = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 123456789.12345679, -0.0]
HOSTILE = "\x1b[31mred\x1b[0m\x07 \r\n \u202edrowssap\x9b5m"


def printed(table, form):
    """What ``emit`` writes to stdout, as bytes."""

    @click.command()
    def command():
        output.emit(table, form)

    done = CliRunner().invoke(command, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout_bytes


def text(table, form):
    return printed(table, form).decode()


def read_json(table, form="json"):
    found = text(table, form)

    def refuse(constant):
        raise AssertionError(constant)

    if form == "ndjson":
        return [json.loads(line, parse_constant=refuse) for line in found.splitlines()]
    return json.loads(found, parse_constant=refuse)


def read_csv(table):
    return list(csv.reader(io.StringIO(text(table, "csv"))))


def column(*values, kind=None):
    return pa.table({"x": pa.array(values, kind)})


# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_json_has_every_bit_of_a_number(form):
    found = [row["x"] for row in read_json(column(*EXACT), form)]
    assert [value.hex() for value in found] == [value.hex() for value in EXACT]


def test_csv_has_every_bit_of_a_number():
    found = [float(row[0]) for row in read_csv(column(*EXACT))[1:]]
    assert [value.hex() for value in found] == [value.hex() for value in EXACT]


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_numbers_that_json_lacks_are_null(form):
    table = column(math.nan, math.inf, -math.inf, None, 1.0)
    assert [row["x"] for row in read_json(table, form)] == [None, None, None, None, 1.0]
    nested = column([math.nan, 1.0], kind=pa.list_(pa.float64()))
    assert read_json(nested, form) == [{"x": [None, 1.0]}]


def test_csv_of_numbers_that_are_none_is_empty():
    assert read_csv(column(math.nan, None, 1.5)) == [["x"], [""], [""], ["1.5"]]


def test_whole_numbers_keep_every_digit():
    for form in ("json", "ndjson"):
        assert read_json(column(2**63 - 1, -(2**63)), form)[0] == {"x": 2**63 - 1}
        big = column(Decimal(2**100), kind=pa.decimal128(38, 0))
        assert read_json(big, form) == [{"x": 2**100}]
    assert read_csv(column(Decimal(2**100), kind=pa.decimal128(38, 0)))[1] == [str(2**100)]


def test_decimals_are_numbers():
    table = column(Decimal("1.25"), Decimal("-3.00"), kind=pa.decimal128(10, 2))
    assert [row["x"] for row in read_json(table)] == [1.25, -3]
    assert "1.25" in text(table, "table")


# -- other types --------------------------------------------------------------------------------

NESTED = pa.table(
    {
        "tags": pa.array([["a", "b"], None, []], pa.list_(pa.string())),
        "mask": pa.array(
            [{"size": [2, 3], "counts": b"04"}, None, {"size": None, "counts": b"\xff\x00"}],
            pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.binary())]),
        ),
    }
)


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_nested_values_stay_nested_in_json(form):
    assert read_json(NESTED, form) == [
        {"tags": ["a", "b"], "mask": {"size": [2, 3], "counts": "04"}},
        {"tags": None, "mask": None},
        {
            "tags": [],
            "mask": {"size": None, "counts": base64.b64encode(b"\xff\x00").decode()},
        },
    ]


def test_nested_values_are_json_in_csv():
    rows = read_csv(NESTED)
    assert rows[0] == ["tags", "mask"]
    assert json.loads(rows[1][0]) == ["a", "b"]
    assert json.loads(rows[1][1]) == {"size": [2, 3], "counts": "04"}
    assert rows[2] == ["", ""]


def test_binary_is_text_or_base64():
    table = column(b"plain", b"\x80\x00", None)
    values = ["plain", base64.b64encode(b"\x80\x00").decode(), None]
    assert [row["x"] for row in read_json(table)] == values
    assert [row[0] for row in read_csv(table)[1:]] == [v or "" for v in values]


def test_times():
    moment = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
    table = pa.table(
        {
            "at": pa.array([moment], pa.timestamp("us", tz="UTC")),
            "day": pa.array([date(2026, 11, 23)]),
            "took": pa.array([timedelta(seconds=1.5)]),
        }
    )
    (row,) = read_json(table)
    assert datetime.fromisoformat(row["at"]) == moment
    assert row["day"] == "2026-11-23"
    assert row["took"] == "0:00:01.500000"
    assert "2026-11-23 01:02" in text(table, "table")
    assert read_csv(table)[1][0] == row["at"]


@pytest.mark.parametrize("form", FORMATS)
def test_times_that_python_cannot_hold_are_printed(form):
    with duckdb.connect() as connection:
        table = connection.sql(
            "select timestamp_ns '2024-01-01 00:00:00.123456789' as t, "
            "date 'infinity' as d, date '290000-01-01' as e"
        ).to_arrow_table()
    found = printed(table, form)
    if form in ("json", "ndjson", "csv"):
        assert b"2024-01-01 00:00:00.123456789" in found
        assert b"value out of range" in found  # as Arrow has it, and not another date


def test_booleans():
    table = column(True, False, None)
    assert [row["x"] for row in read_json(table)] == [True, False, None]
    assert read_csv(table) == [["x"], ["true"], ["false"], [""]]
    beside = table.append_column("n", pa.array([1, 2, 3]))
    assert pl.read_csv(printed(beside, "csv"))["x"].to_list() == [True, False, None]
    assert text(table, "md").splitlines()[2:] == ["| yes |", "| no |", "| – |"]


# -- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "md"])
@pytest.mark.parametrize("place", ["value", "name", "nested"])
def test_nothing_in_the_data_reaches_the_terminal(form, place):
    table = {
        "value": column(HOSTILE),
        "name": pa.table({HOSTILE: [1]}),
        "nested": column([HOSTILE], kind=pa.list_(pa.string())),
    }[place]
    found = text(table, form)
    assert all(c.isprintable() or c == "\n" for c in found)
    assert len(found.splitlines()) == 3
    assert "red" in found


@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_text_for_programs_is_not_changed(form):
    table = column(HOSTILE, 'a "quoted", word', "日本", "")
    values = [HOSTILE, 'a "quoted", word', "日本", ""]
    if form == "csv":
        reader = csv.reader(io.StringIO(text(table, form), newline=""))
        assert [row[0] for row in reader][1:] == values
    else:
        assert [row["x"] for row in read_json(table, form)] == values
        assert "\x1b" not in text(table, form)


def test_cells_that_look_like_formulas_are_left_as_they_are():
    values = ["=1+1", "+1", "-1", "@x", "'"]
    assert [row[0] for row in read_csv(column(*values))[1:]] == values


def test_pipes_do_not_end_a_cell_of_markdown():
    lines = text(pa.table({"a|b": ["c|d"], "e": ["f"]}), "md").splitlines()
    assert lines == ["| a\\|b | e |", "|---|---|", "| c\\|d | f |"]


def test_markup_of_rich_is_text():
    found = text(column("[bold]x[/bold]", "[/]", ":smile:"), "table")
    assert [line.strip() for line in found.splitlines()][2:] == ["[bold]x[/bold]", "[/]", ":smile:"]


def test_long_text_is_cut_on_a_terminal_only(monkeypatch, capsys):
    table = column("x" * 5000)
    assert len(text(table, "table").splitlines()[-1].strip()) == 5000
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.emit(table, "table")
    last = capsys.readouterr().out.splitlines()[-1].strip()
    assert len(last) == output.MAX_CELL
    assert last.endswith("…")


def test_rows_wider_than_the_terminal_stand_one_value_a_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    output.emit(pa.table({f"column {i}": ["a" * 10, "b"] for i in range(4)}), "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["row 1", "  column 0  aaaaaaaaaa"]
    assert lines[5] == "row 2"
    assert len(lines) == 10


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0.0000"),
        (0.5, "0.5000"),
        (-0.25, "-0.2500"),
        (0.00002, "2e-05"),  # and not 0.0000
        (-0.0000123456789, "-1.23457e-05"),
        (9999.5, "9999.5000"),
        (123456.789, "123457"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (True, "yes"),
        (12345678, "12345678"),
        (Decimal("1.50"), "1.5"),
        (["a", 1], '["a", 1]'),
    ],
)
def test_cells(value, shown):
    assert output.cell(value) == shown


# -- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_no_rows(form):
    table = pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})
    if form == "parquet":
        assert pq.read_table(io.BytesIO(printed(table, form))).equals(table)
        return
    found = text(table, form)
    assert (
        found
        == {
            "json": "[]\n",
            "ndjson": "",
            "csv": "a,b\n",
            "md": "| a | b |\n|---|---|\n",
            "table": found,
        }[form]
    )
    if form == "table":
        assert found.split()[:2] == ["a", "b"]


def test_batches_follow_each_other():
    table = pa.Table.from_batches([*column(1, 2).to_batches(), *column(3).to_batches()])
    for form in ("json", "ndjson"):
        assert read_json(table, form) == [{"x": 1}, {"x": 2}, {"x": 3}]
    assert read_csv(table) == [["x"], ["1"], ["2"], ["3"]]
    for form in ("table", "md"):
        found = text(table, form).translate({ord("|"): " "}).split()
        assert [word for word in found if word in "123"] == ["1", "2", "3"]


def test_a_table_shows_its_first_rows_and_says_so():
    table = pa.table({"x": range(output.MAX_ROWS + 1)})
    assert len(text(table, "table").splitlines()) == output.MAX_ROWS + 2
    assert len(read_csv(table)) == output.MAX_ROWS + 2


def test_numbers_stand_to_the_right_and_text_to_the_left():
    lines = text(pa.table({"n": [1, 100], "t": ["a", "bbb"]}), "table").splitlines()
    assert [line.rstrip() for line in lines[2:]] == ["  1  a", "100  bbb"]


def test_many_columns_are_all_printed():
    table = pa.table({f"column_{i}": [f"value_{i}"] for i in range(60)})
    found = text(table, "table")
    assert all(f"column_{i}" in found and f"value_{i}" in found for i in range(60))


def test_parquet_comes_back_as_it_was():
    assert pq.read_table(io.BytesIO(printed(NESTED, "parquet"))).equals(NESTED)


def test_a_ledger_names_what_it_counts(capsys):
    ledger = Ledger(read=1234, kept=1200)
    ledger.count("unknown_class", [3, 5, 8], 30, reject=True)
    ledger.count("mask_size", [9], 4, reject=True)
    ledger.count("duplicate", [], 7, reject=False)
    ledger.count("annotations without id", [], 2, reject=False)
    output.print_ledger(ledger)
    streams = capsys.readouterr()
    assert streams.out == ""
    lines = [" ".join(line.split()) for line in streams.err.splitlines()]
    assert lines == [
        "read 1,234",
        "kept 1,200",
        "refused 30 class is not in the ontology (rows 3, 5, 8, …)",
        "refused 4 mask has another size than its data unit (rows 9, …)",
        "note 7 exact duplicates of an earlier row of this import (kept)",
        "note 2 annotations without id",
    ]


# -- Result -------------------------------------------------------------------------------------

ROWS = pa.table({"id": pa.array([1, 2, 3]), "name": ["a", None, "<b>&"], "p": [[0.5], [], None]})


def test_a_result_goes_wherever_arrow_goes():
    result = Result(ROWS)
    assert pa.table(result).equals(ROWS)
    assert pl.DataFrame(result).equals(pl.DataFrame(ROWS))
    assert result.to_polars().equals(pl.DataFrame(ROWS))
    assert result.to_arrow() is ROWS
    with duckdb.connect() as connection:
        connection.register("given", pa.RecordBatchReader.from_stream(result))
        assert connection.sql("select sum(id) from given").fetchall() == [(6,)]


def test_a_result_can_be_read_again():
    result = Result(ROWS)
    assert pa.table(result).equals(pa.table(result))
    assert list(result) == list(result) == ROWS.to_pylist()


def test_a_result_knows_its_size_and_columns():
    assert len(Result(ROWS)) == 3
    assert Result(ROWS).columns == ["id", "name", "p"]
    assert repr(Result(ROWS)) == "Result(3 rows: id, name, p)"
    assert not Result(ROWS.slice(0, 0))
    assert list(Result(ROWS.slice(0, 0))) == []


class Cells(html.parser.HTMLParser):
    """Collects the cells of a table, and the tags that are there."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_escaped():
    hostile = '<script>alert("x")</script>'
    parser = Cells()
    parser.feed(Result(pa.table({hostile: [hostile, "&amp;"]}))._repr_html_())
    assert parser.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert parser.texts == ["2 rows", hostile, hostile, "&amp;"]


def test_html_shows_the_first_rows_and_counts_all():
    found = Result(pa.table({"x": range(10_000)}))._repr_html_()
    assert found.count("<td>") == 20
    assert "10,000 rows" in found
