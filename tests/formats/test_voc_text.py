"""PASCAL VOC's detection files."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources import voc_text
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from tests.formats.dataset import write_text

UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"


def opened(path, **reading):
    return voc_text.PREDICTIONS.open(Files(path, (path,)), Reading(**reading))


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def box(row):
    return row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]


def test_a_file_is_a_class_and_a_line_names_the_image(tmp_path):
    write_text(tmp_path / "comp4_det_val_cat.txt", "2007_000027 0.983 174 101 349 351.5")
    write_text(tmp_path / "comp4_det_val_dog.txt", "", "000012 -1.25 45.5 30.0 120.25 99.0")
    source = opened(tmp_path)
    cat, dog = rows_of(source)
    assert (cat["unit"], cat["class_ref"], cat["confidence"]) == ("2007_000027", "cat", 0.983)
    assert (cat["format"], box(cat)) == ("bounding_box", (174.0, 101.0, 175.0, 250.5))
    assert (dog["unit"], dog["class_ref"], dog["confidence"]) == ("000012", "dog", -1.25)
    assert (dog["source_file"], dog["source_row"]) == ("comp4_det_val_dog.txt", 2)
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("stem", "name")
    assert source.notes == {"boxes taken as given; where pixels count from 1, give --one-based": 2}


def test_pixels_from_1_with_inclusive_corners(tmp_path):
    path = write_text(tmp_path / "cat.txt", "000012 0.5 1 1 10 20")
    source = opened(path, one_based=True)
    assert box(rows_of(source)[0]) == (0.0, 0.0, 10.0, 20.0)
    assert source.notes == {}
    assert box(rows_of(opened(path))[0]) == (1.0, 1.0, 9.0, 19.0)
    assert box(rows_of(opened(path, box="xywh"))[0]) == (1.0, 1.0, 10.0, 20.0)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("comp4_det_val_cat.txt", "cat"),
        ("comp3_det_test_dining_table.txt", "dining_table"),
        (f"comp4_{UUID}_det_test_aeroplane.txt", "aeroplane"),
        ("comp4_det_minival2014_traffic light.txt", "traffic light"),
        ("det_test_sofa.txt", "sofa"),
        ("Task2_ground-track-field.txt", "ground-track-field"),
        ("cat.txt", "cat"),
        ("traffic_light.txt", "traffic_light"),
        ("comp4_cls_val_cat.txt", "comp4_cls_val_cat"),
    ],
)
def test_the_class_is_in_the_files_name(name, cls):
    assert voc_text.class_of(Path(name)) == cls


def test_what_cannot_be_read_says_why_and_keeps_the_rest(tmp_path):
    path = write_text(
        tmp_path / "cat.txt",
        "000012 0.5 1 1 10",
        "000012 high 1 1 10 20",
        "000012 0.5 1 one 10 20",
        "000012 inf 1 1 10 20",
        "000012 0.5 1 1 10 20 30",
    )
    short, score, word, infinite, long = rows_of(opened(path))
    assert (short["rule"], short["message"]) == (
        "invalid_data",
        "The line has 5 words; expected 6.",
    )
    assert (short["unit"], short["class_ref"], short["confidence"]) == ("000012", "cat", 0.5)
    assert (score["rule"], score["message"]) == ("invalid_data", "Found 'high'; expected a score.")
    assert (word["rule"], word["bbox_y"]) == ("invalid_box", None)
    assert infinite["rule"] is None
    assert math.isinf(infinite["confidence"])
    assert long["rule"] == "invalid_data"


def test_an_empty_directory_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"no \.txt files"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("comp4_det_val_cat.txt", ["cat 0.5 1 1 10 20"]),  # whatever the image is called
        ("cat.txt", ["2007_000027 0.5 1 1 10 20", "street-3 0.5 1 1 10 20"]),
        ("cat.txt", ["000012 0.5 1 1 10 20"]),
        ("cat.txt", ["139000 -7.5 1 1 10 20"]),
    ],
)
def test_vocs_files_are_recognised(tmp_path, name, lines):
    assert voc_text.PREDICTIONS.sniff(Sample(write_text(tmp_path / name, *lines)))
    assert voc_text.PREDICTIONS.sniff(Sample(tmp_path))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("2007_000549.txt", "cat 0.94 12 44 332 437"),  # Darknet's, one file per image
        ("street.txt", "cat 0.94 12 44 332 437"),
        ("2007_000549.txt", "class1 0.94 12 44 332 437"),
        ("street.txt", "7 0.94 12 44 332 437"),
        ("street.txt", "0 0.94 0.475 0.525 0.885 0.874"),
        ("cat.txt", "000012 0.5 1 1 10"),
        ("cat.txt", "000012 0.5 1 1 10 x"),
        ("cat.txt", "1.5 0.5 1 1 10 20"),
        ("cat.csv", "000012 0.5 1 1 10 20"),
        ("cat.txt", ""),
    ],
)
def test_other_texts_are_not_vocs(tmp_path, name, line):
    assert not voc_text.PREDICTIONS.sniff(Sample(write_text(tmp_path / name, line)))


def test_a_directory_of_both_kinds_is_not_claimed(tmp_path):
    write_text(tmp_path / "cat.txt", "000012 0.5 1 1 10 20", "a bad line", "000012 1 1 1 10 20")
    assert voc_text.PREDICTIONS.sniff(Sample(tmp_path))
    write_text(tmp_path / "dog.txt", "person 0.5 1 1 10 20")
    assert not voc_text.PREDICTIONS.sniff(Sample(tmp_path))


@given(st.binary(max_size=200), st.integers(0, 60))
def test_whatever_a_file_holds_rows_or_an_error_come_out(tmp_path_factory, noise, at):
    path = tmp_path_factory.mktemp("v") / "cat.txt"
    good = b"000012 0.5 1 1 10 20\n2007_000027 0.983 174 101 349 351.5\n"
    path.write_bytes(good[:at] + noise + good[at:])
    voc_text.PREDICTIONS.sniff(Sample(path))
    try:
        rows = rows_of(opened(path))
    except SourceError:
        return
    assert all(row["rule"] is None or row["message"] for row in rows)
