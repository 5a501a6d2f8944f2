"""supervision's CSVSink: corners in pixels, and which column names the image."""

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.supervision_csv import PREDICTIONS
from tests.formats.table_reading import box, read, rows_of, source, text

HEADER = "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id"
LINE = "10.5,20.0,110.25,220.0,2,0.875,17"


def test_corners_become_sides(tmp_path):
    path = text(tmp_path / "a.csv", f"{HEADER},file_name", f"{LINE},a.jpg")
    assert PREDICTIONS.sniff(Sample(path))
    opened = source(PREDICTIONS, path)
    assert (opened.coordinates.relative, opened.coordinates.class_key) == (False, "index")
    (row,) = rows_of(opened.batches())
    assert box(row) == (10.5, 20.0, 99.75, 200.0)
    assert (row["unit"], row["class_ref"], row["confidence"]) == ("a.jpg", "2", 0.875)
    assert row["track_id"] == "17"


def test_the_name_of_the_class_is_surer_than_its_index(tmp_path):
    path = text(
        tmp_path / "a.csv",
        f"{HEADER},class_name,image_id,time",
        f"{LINE},car,7,0.1",
        "1,2,3,4,,0.5,,truck,7,0.1",
    )
    opened = source(PREDICTIONS, path)
    assert (opened.coordinates.unit_key, opened.coordinates.class_key) == ("source_id", "name")
    rows = rows_of(opened.batches())
    assert [(row["class_ref"], row["track_id"]) for row in rows] == [("car", "17"), ("truck", None)]
    assert opened.notes == {"columns of no known meaning, left out: time": 1}


def test_without_a_column_of_the_image_the_columns_are_named(tmp_path):
    path = text(tmp_path / "a.csv", f"{HEADER},frame_number", f"{LINE},3")
    with pytest.raises(SourceError, match="tracker_id, frame_number") as caught:
        source(PREDICTIONS, path)
    assert "--option unit=COLUMN" in str(caught.value.hint)
    (row,) = read(PREDICTIONS, path, options={"unit": "frame_number"})
    assert row["unit"] == "3"


def test_a_video_is_named_by_the_caller(tmp_path):
    path = text(tmp_path / "a.csv", f"{HEADER},frame_number", f"{LINE},3", f"{LINE},x")
    rows = read(PREDICTIONS, path, options={"name": "v.mp4", "frame": "frame_number"})
    assert [(row["unit"], row["frame"], row["rule"]) for row in rows] == [
        ("v.mp4", 3, None),
        ("v.mp4", None, "invalid_frame"),
    ]
    with pytest.raises(SourceError, match="no column 'frames'"):
        source(PREDICTIONS, path, options={"name": "v", "frame": "frames"})


def test_scores_may_be_missing(tmp_path):
    path = text(tmp_path / "a.csv", f"{HEADER},image", "1,2,3,4,0,,,a", "1,2,3,,0,1,,a")
    rows = read(PREDICTIONS, path)
    assert rows[0]["confidence"] is None
    assert [row["rule"] for row in rows] == [None, "invalid_box"]


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("tracker_id", "track_id") + ",image_id",
        "image_id,label,score,x_min,y_min,x_max,y_max",
    ],
)
def test_other_tables_are_not_taken_for_it(tmp_path, header):
    path = text(tmp_path / "a.csv", header, LINE)
    assert not PREDICTIONS.sniff(Sample(path))
    with pytest.raises(SourceError, match="no column"):
        source(PREDICTIONS, path)
