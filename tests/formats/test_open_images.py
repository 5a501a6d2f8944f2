"""Open Images: corners as fractions, decimal commas, packed predictions, and ids of classes."""

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.open_images import LABELS, PREDICTIONS
from ea_arrow.sources.samples import Sample
from tests.formats.case_open_images import HEADER, LABEL_HEADER
from tests.formats.table_reading import box, read, rows_of, source, text


def labels(path, **reading):
    return LABELS.read(Files(path, (path,)), Reading(**reading))


@pytest.fixture
def sizes(tmp_path):
    return text(tmp_path / "sizes.csv", "name,width,height", "a.jpg,64,32", "b.jpg,128,128")


def test_columns_go_by_their_name(tmp_path):
    path = text(
        tmp_path / "a.csv", "XMax,YMax,LabelName,Score,XMin,YMin,ImageID", "0.5,1,cat,0.25,0,0.5,a"
    )
    assert PREDICTIONS.sniff(Sample(path))
    (row,) = read(PREDICTIONS, path)
    assert (row["unit"], row["class_ref"], row["confidence"]) == ("a", "cat", 0.25)
    assert box(row) == (0, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("0.25", 0.25),
        ('"0,25"', 0.25),
        ("0", 0.0),
        ('"-0,25"', -0.25),
        ('"0,2,5"', None),
        ('"1.000,25"', None),
        ('",25"', None),
    ],
)
def test_a_decimal_comma_is_a_point_if_nothing_else_is_odd(tmp_path, number, expected):
    path = text(tmp_path / "a.csv", HEADER, f"a,cat,0.5,{number},1,0,1")
    opened = source(PREDICTIONS, path)
    (row,) = rows_of(opened.batches())
    assert row["rule"] == (None if expected is not None else "invalid_box")
    if expected is not None:
        assert row["bbox_x"] == expected
        assert opened.notes["numbers with a decimal comma"] == (1 if "," in number else 0)


def test_flags_and_what_is_not_kept(tmp_path, sizes):
    lines = [f"a,xclick,/m/0{i},,0,0.5,0,1,1,0,{flag},0,1" for i, flag in enumerate((1, 0, -1))]
    path = text(tmp_path / "a.csv", LABEL_HEADER, *lines)
    assert LABELS.sniff(Sample(path))
    assert not PREDICTIONS.sniff(Sample(path))
    truth = labels(path, options={"sizes": str(sizes)})
    assert [row["is_crowd"] for row in rows_of(truth.labels)] == [True, False, None]
    told = "Source, Confidence, IsOccluded, IsTruncated, IsDepiction, IsInside"
    assert truth.notes[f"columns that are not kept: {told}"] == 6


def test_sizes_from_a_table_name_images_with_or_without_suffix(tmp_path, sizes):
    path = text(tmp_path / "a.csv", LABEL_HEADER, "a,x,cat,1,0,1,0,1,0,0,0,0,0")
    truth = labels(path, options={"sizes": str(sizes)})
    assert truth.data_units.select(["title", "source_id", "width", "height"]).to_pylist() == [
        {"title": "a.jpg", "source_id": "a", "width": 64, "height": 32},
        {"title": "b.jpg", "source_id": "b", "width": 128, "height": 128},
    ]
    assert [row["unit"] for row in rows_of(truth.labels)] == ["a.jpg"]


def test_corners_are_rounded_to_whole_pixels_only_if_asked_for(tmp_path, sizes):
    lines = [  # 7, 2, 10, 5 of 64 × 32 with four decimals; half a pixel; no image
        "a,x,cat,1,0.1094,0.1563,0.0625,0.1563,0,0,0,0,0",
        "a,x,cat,1,0,0.5078125,0,1,0,0,0,0,0",
        "a,x,cat,1,x,1,0,1,0,0,0,0,0",
    ]
    path = text(tmp_path / "a.csv", LABEL_HEADER, *lines)
    given = labels(path, options={"sizes": str(sizes)})
    assert given.coordinates.relative
    assert rows_of(given.labels)[0]["bbox_x"] == 0.1094
    whole = labels(path, options={"sizes": str(sizes), "pixels": "whole"})
    assert not whole.coordinates.relative
    rows = rows_of(whole.labels)
    assert [box(row) for row in rows[:2]] == [(7, 2, 3, 3), (0, 0, 32, 32)]
    assert rows[2]["rule"] == "invalid_box"
    assert whole.notes["boxes more than 0.01 pixels off whole ones, rounded"] == 1


def test_an_image_without_a_size_is_named(tmp_path, sizes):
    path = text(tmp_path / "a.csv", LABEL_HEADER, "c,x,cat,1,0,1,0,1,0,0,0,0,0")
    with pytest.raises(SourceError, match="lacks 1 images: c"):
        labels(path, options={"sizes": str(sizes)})
    with pytest.raises(SourceError, match="does not say the sizes") as caught:
        labels(path)
    assert "--images DIR" in str(caught.value.hint)


@pytest.mark.parametrize("line", ["a.jpg,0,4", "a.jpg,x,4", ",4,4"])
def test_a_size_that_is_none_is_refused(tmp_path, line):
    path = text(tmp_path / "a.csv", LABEL_HEADER, "a,x,cat,1,0,1,0,1,0,0,0,0,0")
    table = text(tmp_path / "sizes.csv", "name,width,height", line)
    with pytest.raises(SourceError, match="in pixels"):
        labels(path, options={"sizes": str(table)})


@pytest.mark.parametrize("header", [(), ("LabelName,DisplayName",)])
def test_ids_of_classes_get_their_names(tmp_path, sizes, header):
    names = text(tmp_path / "names.csv", *header, "/m/01g317,Person", '/m/0k4j,"Car, red"')
    path = text(
        tmp_path / "a.csv",
        LABEL_HEADER,
        "a,x,/m/0k4j,1,0,1,0,1,0,0,0,0,0",
        "a,x,/m/zzz,1,0,1,0,1,0,0,0,0,0",
    )
    truth = labels(path, options={"sizes": str(sizes), "names": str(names)})
    assert [(c.source_id, c.name) for c in truth.ontology.classes] == [
        ("/m/0k4j", "Car, red"),
        ("/m/zzz", "/m/zzz"),
    ]
    assert truth.notes["classes that the file of names does not have, called by their id"] == 1
    scored = text(tmp_path / "p.csv", HEADER, "a,/m/0k4j,0.5,0,1,0,1")
    found = source(PREDICTIONS, scored, options={"names": str(names)}).coordinates
    assert found.class_key == "source_id"
    assert dict(found.class_names) == {"/m/01g317": "Person", "/m/0k4j": "Car, red"}


def test_a_file_of_names_of_another_kind_is_refused(tmp_path):
    names = text(tmp_path / "names.csv", "a,b,c")
    path = text(tmp_path / "p.csv", HEADER, "a,/m/0k4j,0.5,0,1,0,1")
    with pytest.raises(SourceError, match="expected an id and a name"):
        source(PREDICTIONS, path, options={"names": str(names)})
    with pytest.raises(SourceError, match="cannot be read"):
        source(PREDICTIONS, path, options={"names": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("name", "key"), [("a.jpg", "name"), ("a.JPEG", "name"), ("a", "stem"), ("a.b", "stem")]
)
def test_images_go_by_name_or_stem(tmp_path, name, key):
    path = text(tmp_path / "p.csv", HEADER, f"{name},cat,0.5,0,1,0,1")
    assert source(PREDICTIONS, path).coordinates.unit_key == key


def test_the_challenges_format_has_a_prediction_every_six_words(tmp_path):
    path = text(
        tmp_path / "s.csv",
        "ImageId,PredictionString",
        "a,/m/1 0.5 0 0.25 1 0.75 /m/2 0.25  0 0 1 1 ",
        "b,",
        "c,/m/1 0.5 0 0 1",
        "d,/m/1 high 0 0 1 1",
        "e",
    )
    assert PREDICTIONS.sniff(Sample(path))
    assert not LABELS.sniff(Sample(path))
    opened = source(PREDICTIONS, path)
    rows = rows_of(opened.batches())
    assert [(row["source_row"], row["rule"]) for row in rows] == [
        (0, None),
        (0, None),
        (2, "invalid_data"),
        (3, "invalid_data"),
        (4, "invalid_data"),
    ]
    assert [(r["unit"], r["class_ref"], r["confidence"], box(r)) for r in rows[:2]] == [
        ("a", "/m/1", 0.5, (0, 0.25, 1, 0.5)),
        ("a", "/m/2", 0.25, (0, 0, 1, 1)),
    ]
    assert opened.notes == {"images without predictions": 1}
    assert "5 words" in rows[2]["message"]


@pytest.mark.parametrize(
    "header",
    [
        "ImageID,Source,LabelName,Confidence",
        "image_id,label,score,xmin,ymin,xmax,ymax",
        "ImageID,LabelName,XMin,XMax,YMin,YMax",
        "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,file_name",
        "ImageId,PredictionString,Usage",
    ],
)
def test_other_tables_are_not_taken_for_open_images(tmp_path, header):
    sample = Sample(text(tmp_path / "a.csv", header, "1,2,3,4,5,6,7"))
    assert not PREDICTIONS.sniff(sample)
    assert not LABELS.sniff(sample)


def test_a_column_that_is_missing_is_named(tmp_path):
    path = text(tmp_path / "a.csv", "ImageID,LabelName,Score,XMin,XMax,YMin", "a,b,1,0,1,0")
    with pytest.raises(SourceError, match="no column ymax"):
        source(PREDICTIONS, path)
    path = text(tmp_path / "a.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax", "a,b,0,1,0,1")
    with pytest.raises(SourceError, match="no column Score or Confidence"):
        source(PREDICTIONS, path)
