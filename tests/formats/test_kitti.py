"""KITTI predictions and labels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources import kitti, kitti_labels
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from tests.formats.dataset import write_json, write_text

CAR = "Car 0.00 0 -1.57 10.5 20.25 110.5 60.75 1.5 1.6 3.9 1.0 2.0 30.5 -1.57"
MAN = "Pedestrian -1 -1 -10 4 8 20 40 -1 -1 -1 -1000 -1000 -1000 -10 97.85"


def opened(path, **reading):
    return kitti.PREDICTIONS.open(Files(path, (path,)), Reading(**reading))


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def read(path, **reading):
    return rows_of(opened(path, **reading))


def box(row):
    return row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]


def image(path, width, height):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def truth(path, images, **reading):
    return kitti_labels.LABELS.read(Files(path, (path,)), Reading(images=images, **reading))


def labels_of(found):
    return [row for batch in found.labels for row in batch.to_pylist()]


# -- predictions ---------------------------------------------------------------------------------


def test_corners_become_boxes_and_scores_stay_unbounded(tmp_path):
    path = write_text(tmp_path / "000007.txt", f"{CAR} 0.5", "", "# a comment", MAN)
    car, man = read(path)
    assert (car["unit"], car["frame"], car["class_ref"]) == ("000007", None, "Car")
    assert (car["format"], car["confidence"], car["source_row"]) == ("bounding_box", 0.5, 1)
    assert box(car) == (10.5, 20.25, 100.0, 40.5)
    assert box(man) == (4.0, 8.0, 16.0, 32.0)
    assert (man["confidence"], man["source_row"], man["source_file"]) == (97.85, 4, "000007.txt")
    source = opened(path)
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("stem", "name")
    assert source.coordinates.relative is False


def test_lines_without_a_score_have_no_confidence_and_no_rule_of_the_reader(tmp_path):
    row = read(write_text(tmp_path / "a.txt", CAR))[0]
    assert row["confidence"] is None
    assert row["rule"] is None
    assert box(row) == (10.5, 20.25, 100.0, 40.5)


def test_what_cannot_be_read_says_why_and_keeps_the_rest(tmp_path):
    path = write_text(
        tmp_path / "a.txt",
        "Car 0.00 0 -1.57 10 20",
        f"{CAR} 0.5 extra",
        CAR.replace("20.25", "twenty") + " 0.5",
        f"{CAR} high",
        f"{CAR} nan",
    )
    short, long, word, score, nan = read(path)
    assert (short["rule"], short["class_ref"], short["unit"]) == ("invalid_data", "Car", "a")
    assert short["message"] == "The line has 6 words; expected 15, or 16 with a score."
    assert long["message"] == "The line has 17 words; expected 15, or 16 with a score."
    assert (word["rule"], word["bbox_x"], word["confidence"]) == ("invalid_box", None, 0.5)
    assert word["message"] == "Found 'twenty'; expected four numbers of a box."
    assert (score["rule"], score["message"]) == ("invalid_data", "Found 'high'; expected a score.")
    assert box(score) == (10.5, 20.25, 100.0, 40.5)
    assert nan["rule"] is None
    assert math.isnan(nan["confidence"])


def test_the_first_reason_counts(tmp_path):
    bad = CAR.replace("20.25", "twenty") + " high"
    assert read(write_text(tmp_path / "a.txt", bad))[0]["rule"] == "invalid_box"


@pytest.mark.parametrize("name", ["traffic light", "a b c d e"])
def test_names_of_several_words_are_taken_as_a_whole(tmp_path, name):
    path = write_text(tmp_path / "a.txt", f"{CAR} 0.5".replace("Car", name), f"{CAR} 0.25")
    source = opened(path)
    several, one = rows_of(source)
    assert (several["class_ref"], several["confidence"], several["rule"]) == (name, 0.5, None)
    assert box(several) == (10.5, 20.25, 100.0, 40.5)
    assert (one["class_ref"], one["confidence"]) == ("Car", 0.25)
    assert source.notes == {"rows whose class is named by several words": 1}


def test_a_name_of_two_words_without_a_score_does_not_shift_the_columns(tmp_path):
    row = read(write_text(tmp_path / "a.txt", CAR.replace("Car", "traffic light")))[0]
    assert (row["class_ref"], row["confidence"]) == ("traffic light", None)
    assert box(row) == (10.5, 20.25, 100.0, 40.5)


@pytest.mark.parametrize("between", [",", ", ", " , ", '","'])
def test_csv_with_commas(tmp_path, between):
    header = "type truncated occluded alpha left top right bottom h w l x y z rotation_y score"
    lines = [header, f"{CAR} 0.5", MAN]
    quote = '"' if '"' in between else ""
    path = write_text(
        tmp_path / "a.csv", *(quote + between.join(line.split()) + quote for line in lines)
    )
    source = opened(path)
    car, man = rows_of(source)
    assert (car["class_ref"], box(car), car["confidence"]) == (
        "Car",
        (10.5, 20.25, 100.0, 40.5),
        0.5,
    )
    assert (man["class_ref"], man["source_row"], man["confidence"]) == ("Pedestrian", 3, 97.85)
    assert source.notes == {"lines of column names": 1}
    assert kitti.PREDICTIONS.sniff(Sample(path))


def test_a_name_with_a_space_between_commas(tmp_path):
    line = f"{CAR} 0.5".replace(" ", ",").replace("Car", "traffic light")
    row = read(write_text(tmp_path / "a.csv", line))[0]
    assert (row["class_ref"], row["confidence"], row["rule"]) == ("traffic light", 0.5, None)
    nameless = read(write_text(tmp_path / "b.csv", line.replace("traffic light", "")))[0]
    assert nameless["rule"] == "missing_class"


@pytest.mark.parametrize(
    ("name", "unit", "frame"),
    [
        ("video__12.txt", "video", 12),
        ("a__1__007.csv", "a__1", 7),
        ("video_12.txt", "video_12", None),
        ("video__x.txt", "video__x", None),
        ("__3.txt", "__3", None),
        ("clip.mp4__0.txt", "clip.mp4", 0),
        ("a__" + "9" * 19 + ".txt", "a__" + "9" * 19, None),
    ],
)
def test_encord_names_frames_after_two_underscores(tmp_path, name, unit, frame):
    row = read(write_text(tmp_path / name, f"{CAR} 0.5"))[0]
    assert (row["unit"], row["frame"]) == (unit, frame)


def test_frames_are_noted_and_can_be_turned_off(tmp_path):
    path = write_text(tmp_path / "a__2.txt", f"{CAR} 0.5")
    source = opened(path)
    rows_of(source)
    assert list(source.notes.values()) == [1]
    assert read(path, options={"frames": "none"})[0]["unit"] == "a__2"
    with pytest.raises(SourceError, match="frames"):
        kitti.PREDICTIONS.check({"frames": "some"})


@pytest.mark.parametrize("where", ["pred", "."])
def test_encords_mapping_gives_feature_hashes(tmp_path, where):
    write_json(tmp_path / where / "ontology_mapping.json", {"abc123": "Car", "def456": "Bus"})
    write_text(tmp_path / "pred" / "a.txt", f"{CAR} 0.5", MAN)
    source = opened(tmp_path / "pred")
    assert [row["class_ref"] for row in rows_of(source)] == ["abc123", "Pedestrian"]
    assert source.coordinates.class_key == "feature_hash"
    assert source.coordinates.class_names == (("abc123", "Car"), ("def456", "Bus"))
    assert source.notes == {
        "classes named by ontology_mapping.json": 2,
        "rows of a class that ontology_mapping.json does not name": 1,
    }
    one = opened(tmp_path / "pred" / "a.txt")
    assert rows_of(one)[0]["class_ref"] == "abc123"


@pytest.mark.parametrize(
    "mapping", [[], {}, {"a": 1}, {"a": "Car", "b": "Car"}, {"a" * 300: "Car"}, "x"]
)
def test_a_mapping_that_is_none_is_an_error(tmp_path, mapping):
    write_json(tmp_path / "ontology_mapping.json", mapping)
    path = write_text(tmp_path / "a.txt", CAR)
    with pytest.raises(SourceError, match=r"ontology_mapping\.json"):
        opened(path)


def test_dont_care_among_predictions_is_counted(tmp_path):
    path = write_text(tmp_path / "a.txt", MAN.replace("Pedestrian", "DontCare"))
    source = opened(path)
    assert rows_of(source)[0]["class_ref"] == "DontCare"
    assert source.notes == {"DontCare rows, which are no predictions of a class": 1}


def test_files_of_one_data_unit_are_counted(tmp_path):
    for name in ("x/a.txt", "y/a.txt", "y/b.txt"):
        write_text(tmp_path / name, f"{CAR} 0.5")
    source = opened(tmp_path)
    assert [row["source_file"] for row in rows_of(source)] == ["x/a.txt", "y/a.txt", "y/b.txt"]
    assert source.notes == {"files of a data unit that an earlier file has too": 1}


def test_the_callers_knowledge_of_the_box_wins(tmp_path):
    path = write_text(tmp_path / "a.txt", MAN)
    assert box(read(path, box="xywh")[0]) == (4.0, 8.0, 20.0, 40.0)
    assert box(read(path, one_based=True)[0]) == (3.0, 7.0, 17.0, 33.0)
    assert opened(path, relative=True).coordinates.relative is True


def test_batches_are_cut_and_stay_in_order(tmp_path, monkeypatch):
    from ea_arrow.sources import text_columns

    monkeypatch.setattr(text_columns, "BATCH_ROWS", 2)
    write_text(tmp_path / "a.txt", *[f"{CAR} {i}" for i in range(5)])
    write_text(tmp_path / "b.txt", "Car 1", f"{CAR} 5")
    batches = list(opened(tmp_path).batches())
    assert [batch.num_rows for batch in batches] == [2, 2, 2, 1]
    scores = [row["confidence"] for batch in batches for row in batch.to_pylist()]
    assert scores == [0, 1, 2, 3, 4, None, 5]
    lines = [row["source_row"] for batch in batches for row in batch.to_pylist()]
    assert lines == [1, 2, 3, 4, 5, 1, 2]


def test_an_empty_directory_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no files"):
        opened(tmp_path)


# -- labels --------------------------------------------------------------------------------------


def test_labels_take_sizes_from_the_images_of_their_name(tmp_path):
    write_text(tmp_path / "label_2" / "b.txt", CAR, MAN)
    write_text(tmp_path / "label_2" / "a.txt")
    for name, size in (("a.png", (30, 20)), ("b.jpg", (200, 100)), ("c.png", (5, 5))):
        image(tmp_path / "image_2" / name, *size)
    found = truth(tmp_path / "label_2", tmp_path / "image_2")
    units = found.data_units.to_pylist()
    assert [(u["title"], u["width"], u["height"], u["unit_id"]) for u in units] == [
        ("a.png", 30, 20, 0),
        ("b.jpg", 200, 100, 1),
    ]
    assert units[0]["uri"] == (tmp_path / "image_2" / "a.png").as_uri()
    assert [c.name for c in found.ontology.classes] == ["Car", "Pedestrian"]
    car, man = labels_of(found)
    assert (car["unit"], car["class_ref"], box(car)) == ("b.jpg", "Car", (10.5, 20.25, 100.0, 40.5))
    assert (car["is_ignored"], man["confidence"]) == (False, None)
    assert found.coordinates.unit_key == "title"
    assert found.notes == {
        "images without a label file, which are left out": 1,
        "labels with a score, which is left out": 1,
    }


def test_dont_care_is_an_ignored_label_of_a_class_of_its_own(tmp_path):
    write_text(tmp_path / "l" / "a.txt", CAR, CAR.replace("Car", "DontCare"))
    image(tmp_path / "i" / "a.png", 200, 100)
    found = truth(tmp_path / "l", tmp_path / "i")
    assert [c.name for c in found.ontology.classes] == ["Car", "DontCare"]
    assert [(r["class_ref"], r["is_ignored"]) for r in labels_of(found)] == [
        ("Car", False),
        ("DontCare", True),
    ]
    text = "DontCare regions kept as ignored labels of a class of their own"
    assert found.notes == {text: 1}


def test_lines_that_cannot_be_read_name_no_class(tmp_path):
    write_text(
        tmp_path / "l" / "a.txt",
        CAR,
        "Zebra 1 2",
        CAR.replace("Car 0.00 0 -1.57 10.5", "Yak 0 0 0 x"),
    )
    image(tmp_path / "i" / "a.png", 200, 100)
    found = truth(tmp_path / "l", tmp_path / "i")
    assert [c.name for c in found.ontology.classes] == ["Car"]
    assert [r["rule"] for r in labels_of(found)] == [None, "invalid_data", "invalid_box"]


def test_labels_in_directories_find_images_in_the_like(tmp_path):
    for name, size in (("x", (30, 20)), ("y", (200, 100))):
        write_text(tmp_path / "l" / name / "0.txt", CAR)
        image(tmp_path / "i" / name / "0.png", *size)
    found = truth(tmp_path / "l", tmp_path / "i")
    assert found.data_units["title"].to_pylist() == ["x/0.png", "y/0.png"]
    assert [r["unit"] for r in labels_of(found)] == ["x/0.png", "y/0.png"]


def test_labels_without_an_image_are_accounted_for(tmp_path):
    write_text(tmp_path / "l" / "a.txt", CAR)
    write_text(tmp_path / "l" / "b.txt", CAR)
    image(tmp_path / "i" / "a.png", 30, 20)
    (tmp_path / "i" / "b.png").write_bytes(b"no image")
    found = truth(tmp_path / "l", tmp_path / "i")
    assert found.data_units["title"].to_pylist() == ["a.png"]
    assert [r["unit"] for r in labels_of(found)] == ["a.png", "b"]
    assert found.notes == {"images whose size cannot be read": 1}


def test_labels_need_images(tmp_path):
    path = write_text(tmp_path / "l" / "a.txt", CAR).parent
    with pytest.raises(SourceError, match="how large") as raised:
        truth(path, None)
    assert "--images DIR" in raised.value.hint
    image(tmp_path / "i" / "z.png", 30, 20)
    with pytest.raises(SourceError, match="no image for any"):
        truth(path, tmp_path / "i")


def test_labels_take_sizes_from_a_table(tmp_path):
    write_text(tmp_path / "l" / "x" / "0.txt", CAR)
    write_text(tmp_path / "l" / "y" / "0.txt")
    write_text(tmp_path / "l" / "clip__3.txt", MAN)
    lines = ("x/0.png,200,100", "y/0.png,30,20", "clip__3,300,50", "z.png,5,5")
    table = write_text(tmp_path / "l" / "sizes.csv", "name,width,height", *lines)
    found = truth(tmp_path / "l", None, options={"sizes": str(table)})
    units = [(u["title"], u["width"], u["height"], u["uri"]) for u in found.data_units.to_pylist()]
    assert units == [
        ("clip__3", 300, 50, None),
        ("x/0.png", 200, 100, None),
        ("y/0.png", 30, 20, None),
    ]
    assert [r["unit"] for r in labels_of(found)] == ["clip__3", "x/0.png"]
    assert found.notes["images without a label file, which are left out"] == 1
    with pytest.raises(SourceError, match="either the images or option sizes"):
        truth(tmp_path / "l", tmp_path, options={"sizes": str(table)})
    write_text(table, "name,width,height")
    with pytest.raises(SourceError, match="has no row"):
        truth(tmp_path / "l", None, options={"sizes": str(table)})


def test_a_table_of_sizes_among_the_files_is_none_of_them(tmp_path):
    write_text(tmp_path / "a.txt", f"{CAR} 0.5")
    write_text(tmp_path / "sizes.csv", "name,width,height", "a.png,200,100")
    assert kitti.PREDICTIONS.sniff(Sample(tmp_path))
    assert [row["unit"] for row in read(tmp_path)] == ["a"]
    write_text(tmp_path / "sizes.csv", f"{MAN}")  # of a data unit that is called so
    assert [row["unit"] for row in read(tmp_path)] == ["a", "sizes"]
    write_text(tmp_path / "sizes.csv", "name,width,height", "a.png,200,100")
    assert len(read(tmp_path / "sizes.csv")) == 2  # asked for by name: both lines are told


# -- recognition ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["cat 0.94 12 44 332 437"],
        ["0 " + " ".join(["0.5"] * 14)],
        ["Car 0.00 0.5 " + " ".join(["1"] * 12)],
        [f"{CAR} 0.5", "something else"],
        [f"{CAR} 0.5 0.5"],
        ["a.jpg," + ",".join(["0.125"] * 14)],
        ["1," * 9 + "1"],
        ["# nothing"],
        [],
        ['{"a": 1}'],
    ],
)
def test_other_texts_are_not_kitti(tmp_path, lines):
    path = write_text(tmp_path / "a.txt", *lines)
    assert not kitti.PREDICTIONS.sniff(Sample(path))
    assert not kitti_labels.LABELS.sniff(Sample(path))


def test_kitti_is_recognised_with_empty_files_beside(tmp_path):
    write_text(tmp_path / "a.txt")
    write_text(tmp_path / "b.txt", MAN, CAR, CAR.replace("Car", "traffic light"))
    assert kitti.PREDICTIONS.sniff(Sample(tmp_path))
    assert not kitti.PREDICTIONS.sniff(Sample(tmp_path / "a.txt"))
    write_text(tmp_path / "c.txt", "a bad line", "and another")
    assert kitti.PREDICTIONS.sniff(Sample(tmp_path))
    write_text(tmp_path / "c.txt", "more", "bad lines", "than good", "ones")
    assert not kitti.PREDICTIONS.sniff(Sample(tmp_path))
    assert not kitti.PREDICTIONS.sniff(Sample(write_text(tmp_path / "x" / "b.json", MAN)))


@given(st.binary(max_size=300), st.integers(0, 200))
def test_whatever_a_file_holds_rows_or_an_error_come_out(tmp_path_factory, noise, at):
    path = tmp_path_factory.mktemp("k") / "a.txt"
    good = f"{CAR} 0.5\n{MAN}\n".encode()
    path.write_bytes(good[:at] + noise + good[at:])
    kitti.PREDICTIONS.sniff(Sample(path))
    try:
        rows = read(path)
    except SourceError:
        return
    assert all(row["rule"] is None or row["message"] for row in rows)
