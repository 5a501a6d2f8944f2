"""Ultralytics' predictions.json: COCO results with names, or with rotated boxes."""

import math

import numpy as np
import pyarrow as pa
import pytest

from ea_arrow.ledger import REJECTS
from ea_arrow.sources import json_stream
from ea_arrow.sources.coco_results import PREDICTIONS
from ea_arrow.sources.json_columns import JsonColumns
from ea_arrow.sources.samples import Sample
from tests.formats.case_ultralytics import records, rotated_records
from tests.formats.dataset import write_json
from tests.formats.json_reading import opened, rows_of


def rotated(rbox, **more):
    return {
        "image_id": "street-3",
        "file_name": "street-3.png",
        "category_id": 1,
        "score": 0.5,
        "rbox": rbox,
        "poly": [0.0] * 8,
    } | more


@pytest.fixture(params=["by column", "one by one"])
def way(request, monkeypatch):
    """Rows are read in both ways: all but the first by column, or none."""
    monkeypatch.setattr(json_stream, "FIRST_BYTES", 1)
    monkeypatch.setattr(json_stream, "_TAIL", 10)
    if request.param == "one by one":
        monkeypatch.setattr(JsonColumns, "parse", lambda *_: None)


@pytest.fixture
def read(tmp_path, way):
    return lambda *given, **reading: rows_of(
        PREDICTIONS, write_json(tmp_path / "predictions.json", list(given)), **reading
    )


def test_a_plain_file_holds_coco_results(tmp_path, way):
    rows = rows_of(PREDICTIONS, write_json(tmp_path / "predictions.json", records()))
    assert len(rows) == 8
    assert rows[0] == {
        "source_row": 0,
        "unit": "1",
        "class_ref": "1",
        "format": "bounding_box",
        "confidence": 0.875,
        "bbox_x": 4.0,
        "bbox_y": 4.0,
        "bbox_w": 16.0,
        "bbox_h": 14.0,
        "area": 224.0,
    }


def test_the_stem_of_a_file_names_its_data_unit(read):
    record = records()[0]
    rows = read(*[record | {"image_id": name} for name in ("P0003", "street-3", 7, "007")])
    assert [row["unit"] for row in rows] == ["P0003", "street-3", "7", "007"]


def test_a_rotated_box_is_kept_unrotated_with_its_angle(read):
    box = [50.0, 40.0, 20.0, 10.0, math.pi / 6]
    rows = read(*[rotated(box)] * 3)
    assert rows == [
        {
            "source_row": index,
            "unit": "street-3",
            "class_ref": "1",
            "format": "rotatable_bounding_box",
            "confidence": 0.5,
            "bbox_x": 40.0,
            "bbox_y": 35.0,
            "bbox_w": 20.0,
            "bbox_h": 10.0,
            "theta": math.degrees(math.pi / 6),
        }
        for index in range(3)
    ]


@pytest.mark.parametrize(
    ("radians", "degrees"), [(0, 0), (1.5, 85.943669), (-0.5, 331.352110), (7, 41.070457)]
)
def test_the_angle_is_from_0_to_360_degrees(read, radians, degrees):
    for row in read(*[rotated([5, 5, 2, 2, radians])] * 3):
        assert row["theta"] == pytest.approx(degrees, abs=1e-6)


def test_the_angle_turns_clockwise_as_the_corners_do(read):
    # A box of 20 × 10 turned by 30 degrees: Ultralytics' corners, from its centre along both sides.
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    along, across = np.array([10 * c, 10 * s]), np.array([-5 * s, 5 * c])
    poly = [(50, 40) + a * along + b * across for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    assert poly[0] == pytest.approx([56.160254, 49.330127])
    record = rotated([50, 40, 20, 10, math.pi / 6], poly=np.ravel(poly).tolist())
    for row in read(*[record] * 2):
        # Clockwise as images are drawn, y down: the right end of the x axis goes down.
        turn = np.deg2rad(row["theta"])
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        x, y, w, h = (row[f"bbox_{side}"] for side in "xywh")
        middle = np.array([x + w / 2, y + h / 2])
        corners = np.array([[x + w, y + h], [x + w, y], [x, y], [x, y + h]]) - middle
        assert np.allclose(corners @ matrix.T + middle, poly, atol=1e-9)


@pytest.mark.parametrize(
    ("rbox", "rule"),
    [
        ([1, 2, 3, 4], "invalid_box"),
        ([1, 2, 3, 4, 5, 6], "invalid_box"),
        ([1, 2, 3, 4, "5"], "invalid_box"),
        ([1, 2, 3, 4, None], "invalid_box"),
        ([1, 2, 3, 4, float("nan")], "not_finite"),
        ([1, 2, 3, 10**400, 0], "not_finite"),
        (None, "invalid_box"),
        ({}, "invalid_box"),
    ],
)
def test_a_broken_rotated_box_is_a_reject_beside_good_ones(read, rbox, rule):
    good = rotated([5, 5, 2, 2, 0.5])
    rows = read(good, good, rotated(rbox), good)
    assert [row.get("rule") for row in rows] == [None, None, rule, None]
    assert rule in REJECTS
    assert rows[2]["unit"] == "street-3"


def test_a_box_or_mask_beside_a_rotated_box_is_what_counts(tmp_path, way):
    both = rotated([5, 5, 2, 2, 0.5], bbox=[1, 2, 3, 4])
    source = opened(PREDICTIONS, write_json(tmp_path / "x.json", [both] * 3))
    rows = pa.Table.from_batches(list(source.batches())).to_pylist()
    assert [(row["format"], row["bbox_x"], row["theta"]) for row in rows] == [
        ("bounding_box", 1, None)
    ] * 3
    assert source.notes == {"rotated boxes (rbox) beside a bbox or segmentation, left out": 3}


def test_an_empty_box_beside_a_rotated_one_is_none(read):
    rows = read(*[rotated([5, 5, 2, 2, 0.5], bbox=[], segmentation=None)] * 2)
    assert [row["format"] for row in rows] == ["rotatable_bounding_box"] * 2


def test_files_of_both_kinds_are_recognised(tmp_path):
    for given in (records(), rotated_records()):
        assert PREDICTIONS.sniff(Sample(write_json(tmp_path / "predictions.json", given)))
