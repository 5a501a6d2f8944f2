"""Parquet files are written by a thread, row group by row group: whole, or not at all."""

from __future__ import annotations

import errno
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ea_arrow import files
from ea_arrow.errors import ProjectError
from ea_arrow.files import FileWriter
from ea_arrow.schema import DATA_UNITS

ROWS = 10


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    monkeypatch.setattr(files, "ROW_GROUP_ROWS", ROWS)


@pytest.fixture
def writer(tmp_path):
    return FileWriter(tmp_path, DATA_UNITS, {}, "file")


def batch(first: int, rows: int) -> pa.RecordBatch:
    """Data units whose numbers follow each other."""
    columns = {
        field.name: pa.nulls(rows, field.type)
        if field.nullable
        else pa.array([first + i if pa.types.is_integer(field.type) else "x" for i in range(rows)])
        for field in DATA_UNITS.arrow_stored
    }
    return pa.RecordBatch.from_pydict(columns)


def fill(writer: FileWriter) -> None:
    with writer:
        for first in range(0, 95, 5):
            writer.write(batch(first, 5))


def failing(writer: FileWriter, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full once so many row groups are written."""
    write, done = writer._writer.write_table, []

    def write_table(*given, **named):
        if len(done) == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(write(*given, **named))

    monkeypatch.setattr(writer._writer, "write_table", write_table)


def threads() -> int:
    return sum(thread.name.startswith("ThreadPool") for thread in threading.enumerate())


def test_rows_come_in_the_order_in_which_they_were_given(writer):
    fill(writer)
    found = pq.ParquetFile(writer.path)
    assert found.read()["unit_id"].to_pylist() == list(range(95))
    assert found.metadata.num_row_groups == 10
    assert writer.rows == 95
    assert threads() == 0


def test_a_file_of_one_row_group_needs_no_thread(writer, monkeypatch):
    monkeypatch.setattr(files, "ThreadPoolExecutor", None)
    with writer:
        writer.write(batch(0, ROWS - 1))
    assert pq.read_metadata(writer.path).num_rows == ROWS - 1


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_a_full_disk_is_told_by_a_later_call(writer, after, monkeypatch):
    failing(writer, after, monkeypatch)
    with pytest.raises(ProjectError, match=r"file\.parquet.*the disk is full"):
        fill(writer)
    assert not writer.path.exists()
    assert threads() == 0


def test_a_file_is_gone_though_a_row_group_was_being_written(writer, monkeypatch):
    write = writer._writer.write_table
    began = threading.Event()

    def slow(*given, **named):
        began.set()
        time.sleep(0.2)
        write(*given, **named)

    monkeypatch.setattr(writer._writer, "write_table", slow)
    writer.write(batch(0, ROWS))
    assert began.wait(10)
    writer.discard()
    assert not writer.path.exists()
    assert threads() == 0
    writer.discard()  # which may come twice
