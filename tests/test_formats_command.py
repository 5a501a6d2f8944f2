"""The command ``formats``: what is said of each direction, as text and as data."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ea_arrow.cli.formats import formats
from ea_arrow.exports.registry import TARGETS
from ea_arrow.sources.registry import LABELS, PREDICTIONS


def told(*arguments):
    ran = CliRunner().invoke(formats, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def plain(*arguments):
    """What is printed, with the lines of paragraphs put together."""
    return " ".join(told(*arguments).split())


def test_the_list_says_of_each_direction_what_it_is():
    rows = json.loads(told("--format", "json"))
    for column, known in (("import", PREDICTIONS), ("init --labels", LABELS), ("export", TARGETS)):
        said = {row["format"]: row["what"] for row in rows if row[column]}
        assert said == {name: entry.doc for name, entry in known.items()}
    assert len({(row["format"], row["what"]) for row in rows}) == len(rows)
    assert all(row["import"] or row["init --labels"] or row["export"] for row in rows)
    encord = [row for row in rows if row["format"] == "encord" and row["export"]]
    assert "label rows" not in encord[0]["what"]
    assert not encord[0]["import"]


@pytest.mark.parametrize("name", TARGETS)
def test_an_export_is_explained_with_its_options_and_command(name):
    target, text = TARGETS[name], plain(name)
    assert f"Export to '{name}': {target.doc}" in text
    labels = "[NAME]" if target.labels else "NAME"
    assert f"ea-arrow export {labels} --to {name} --out " in text
    for option in target.options:
        assert f"{option.name} ({' | '.join(option.choices)}): {option.doc}" in text
    if target.format is None:
        assert "It is not read again." in text
    elif target.format != name:
        assert f"It is read as format '{target.format}': ea-arrow formats {target.format}" in text


def test_a_format_names_the_exports_it_reads():
    assert "ea-arrow export [NAME] --to parquet" in told("table")
    assert "ea-arrow export [NAME] --to csv" in told("table")
    assert "Export" not in told("labelme")


def test_an_explanation_is_data_too():
    rows = json.loads(told("yolo", "--format", "json"))
    assert [row["direction"] for row in rows] == ["import", "init --labels", "export"]
    assert [row["doc"] for row in rows] == [
        PREDICTIONS["yolo"].doc,
        LABELS["yolo"].doc,
        TARGETS["yolo"].doc,
    ]
    assert rows[0]["about"] == PREDICTIONS["yolo"].about
    assert rows[0]["options"][0] == {
        "name": "task",
        "doc": "What the lines hold; by default told from the columns.",
        "choices": ["detect", "segment", "obb"],
        "default": None,
    }
    assert rows[0]["command"] == "ea-arrow import DIR --format yolo"
    lines = told("yolo", "--format", "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == rows
    cells = list(csv.DictReader(io.StringIO(told("yolo", "--format", "csv"))))
    assert [json.loads(row["options"]) for row in cells] == [row["options"] for row in rows]


def test_an_explanation_as_parquet():
    ran = CliRunner().invoke(formats, ["csv", "--format", "parquet"], catch_exceptions=False)
    (row,) = pq.read_table(io.BytesIO(ran.stdout_bytes)).to_pylist()
    assert (row["format"], row["direction"], row["options"]) == ("csv", "export", [])


def test_a_name_that_is_nearly_one_of_an_export():
    ran = CliRunner().invoke(formats, ["parquett"])
    assert ran.exit_code
    assert "Did you mean 'parquet'?" in str(ran.exception)
