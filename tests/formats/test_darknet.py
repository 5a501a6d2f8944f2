"""Class, confidence and box: orders and units are told or asked for, never guessed."""

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.darknet import PREDICTIONS, sniff
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.yolo import sniff as sniff_yolo


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "a" / "b" / "dets"
    made.mkdir(parents=True)
    return made


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def opened(path, **reading):
    return PREDICTIONS.open(Files(path, (path,)), Reading(**reading))


def rows(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def boxes(source):
    return [tuple(row[f"bbox_{side}"] for side in "xywh") for row in rows(source)]


def test_fractions_are_centre_and_size(folder):
    source = opened(write(folder, img="6 0.75 0.5 0.25 0.5 0.25\n\n14 1 0.5 0.5 1 1"))
    first, second = rows(source)
    assert source.coordinates.relative
    assert source.coordinates.unit_key == "stem"
    assert source.coordinates.class_key == "index"
    assert (first["unit"], first["class_ref"], first["confidence"]) == ("img", "6", 0.75)
    assert (first["source_row"], second["source_row"]) == (1, 3)
    assert boxes(source) == [(0.25, 0.125, 0.5, 0.25), (0, 0, 1, 1)]
    assert source.notes == {"boxes read as cxcywh in fractions": 2}


@pytest.mark.parametrize(
    ("box", "expected"),
    [("xywh", (10, 20, 30, 50)), ("xyxy", (10, 20, 20, 30)), ("cxcywh", (-5, -5, 30, 50))],
)
def test_pixels_are_read_in_the_order_given(folder, box, expected):
    source = opened(write(folder, img="0 0.5 10 20 30 50"), box=box)
    assert not source.coordinates.relative
    assert boxes(source) == [expected]


def test_one_based_corners_are_inclusive(folder):
    source = opened(write(folder, img="0 0.5 1 1 10 20"), box="xyxy", one_based=True)
    assert boxes(source) == [(0, 0, 10, 20)]


def test_the_order_of_pixels_is_asked_for(folder):
    with pytest.raises(SourceError, match="cannot be told") as caught:
        opened(write(folder, img="0 0.5 10 20 30 50"))
    assert "--box xywh" in caught.value.hint
    assert "--box xyxy" in caught.value.hint
    assert "In all 1 rows they may be two corners" in caught.value.message


def test_rows_that_cannot_be_corners_are_named_as_evidence(folder):
    with pytest.raises(SourceError, match="not two corners: in 1 of 2 rows") as caught:
        opened(write(folder, a="0 0.5 10 20 30 50", b="\n0 0.5 30 20 10 50"))
    assert "b.txt, line 2" in caught.value.message
    assert "xyxy" not in caught.value.hint


def test_a_little_beyond_one_is_asked_for(folder):
    write(folder, img="0 0.5 0.5 0.5 1.2 0.5")
    with pytest.raises(SourceError, match=r"reach 1\.2") as caught:
        opened(folder, box="xywh")
    assert "--relative" in caught.value.hint
    assert opened(folder, relative=True).coordinates.relative
    assert boxes(opened(folder, relative=True)) == [(0.5 - 0.6, 0.25, 1.2, 0.5)]
    assert not opened(folder, relative=False, box="xywh").coordinates.relative
    with pytest.raises(SourceError, match="order"):
        opened(folder, relative=False)


def test_names_of_classes_and_indices(folder):
    source = opened(write(folder, img="cat 0.5 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5 0.5"))
    assert source.coordinates.class_key == "name"
    assert [row["class_ref"] for row in rows(source)] == ["cat", "7"]
    (folder.parent / "obj.names").write_text("a\nb\n")
    source = opened(write(folder, img="1 0.5 0.5 0.5 0.5 0.5"))
    assert source.coordinates.class_names == (("0", "a"), ("1", "b"))


def test_lines_of_other_lengths_are_refused_in_their_place(folder):
    source = opened(
        write(folder, a="0 0.5 0.5 0.5 0.5 0.5", b="police car 0.5 0.5 0.5 0.5 0.5\n0 1")
    )
    refused = [row for row in rows(source) if row["rule"]]
    assert [(row["source_file"], row["source_row"], row["rule"]) for row in refused] == [
        ("b.txt", 1, "invalid_data"),
        ("b.txt", 2, "invalid_data"),
    ]
    assert "no spaces" in refused[0]["message"]
    assert "2 words" in refused[1]["message"]


def test_words_that_are_no_numbers_are_refused(folder):
    source = opened(write(folder, a="0 high 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 wide 0.5\n"))
    assert [(row["rule"], row["confidence"]) for row in rows(source)] == [
        ("invalid_data", None),
        ("invalid_box", 0.5),
    ]


def test_nothing_but_empty_files_is_no_prediction_and_no_file_an_error(folder):
    with pytest.raises(SourceError, match=r"no \.txt files"):
        opened(folder)
    assert rows(opened(write(folder, a="", b="\n"))) == []


@pytest.mark.parametrize(
    ("text", "darknet", "yolo"),
    [
        ("0 0.9 0.5 0.5 0.2 0.2\n", True, False),  # as YOLO, 0.9 ± 0.25 leaves the image
        ("0 0.5 0.5 0.2 0.2 0.9\n", False, True),  # as Darknet, 0.2 ± 0.45
        ("0 0.5 0.5 0.5 0.5 0.5\n", True, True),  # neither leaves it
        ("0 0.5 10 20 30 40\n", True, False),
        ("0 0.5 0.5 0.2 0.2 17\n", False, True),  # a track id
        ("cat 0.5 0.5 0.5 0.5 0.5\n", True, False),
        ("cat 0.5 10 20 30 40\n", True, False),
        ("0 0.5 0.5 0.5 0.5\n", False, True),
        ("0 0.5 0.5 0.5 0.5 0.5 3\n", False, True),
        ("2007_000515 0.5 10 20 30 40\n", False, False),  # VOC's detections name images
        ("000012 0.5 10 20 30 40\n", False, False),
        ("img_0001 0.5 10 20 30 40\n", False, False),
        ("0 5.5 10 20 30 40\n", False, False),
        ("0,0.5,10,20,30,40\n", False, False),
        ("0 0.5 10 20 30 high\n", False, False),
        ("", False, False),
    ],
)
def test_yolo_and_darknet_are_told_apart_by_the_boxes(folder, text, darknet, yolo):
    sample = Sample(write(folder, img=text))
    assert (sniff(sample), sniff_yolo(sample)) == (darknet, yolo)
    sample = Sample(folder / "img.txt")
    assert (sniff(sample), sniff_yolo(sample)) == (darknet, yolo)


def test_a_few_boxes_that_leave_the_image_do_not_hide_the_format(folder):
    good = "0 0.9 0.5 0.5 0.2 0.2\n" * 9
    sample = Sample(write(folder, img=f"{good}0 0.9 0.9 0.9 0.5 0.5\nbroken line\n"))
    assert (sniff(sample), sniff_yolo(sample)) == (True, False)
