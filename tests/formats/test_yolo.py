"""YOLO txt: what columns are is told from all rows or asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources import yolo_rows
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.yolo import PREDICTIONS, sniff


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "a" / "b" / "labels"
    made.mkdir(parents=True)
    return made


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def opened(path, *, paths=None, **reading):
    PREDICTIONS.check(reading.get("options", {}))
    return PREDICTIONS.open(Files(path, paths or (path,)), Reading(**reading))


def rows(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def ends(source):
    return [(row["confidence"], row["track_id"]) for row in rows(source)]


BOX = "0 0.5 0.5 0.5 0.25"
SQUARE = "0 0 0 0.5 0 0.5 0.5 0 0.5"
TRIANGLE = "0 0 0 0.5 0 0.5 0.5"


def test_boxes_are_centre_and_size_in_fractions(folder):
    source = opened(write(folder, img=f"\n{BOX} 0.75\n"))
    (row,) = rows(source)
    assert source.coordinates.relative
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("stem", "index")
    assert (row["unit"], row["class_ref"], row["source_row"]) == ("img", "0", 2)
    assert [row[f"bbox_{side}"] for side in "xywh"] == [0.25, 0.375, 0.5, 0.25]
    assert (row["confidence"], row["format"]) == (0.75, "bounding_box")


def test_stems_keep_their_dots_and_files_of_one_stem_are_counted(folder):
    (folder / "x").mkdir()
    write(folder / "x", **{"a.b": f"{BOX} 0.5"})
    source = opened(write(folder, **{"a.b": f"{BOX} 0.25"}))
    assert [(r["unit"], r["source_file"]) for r in rows(source)] == [
        ("a.b", "a.b.txt"),
        ("a.b", "x/a.b.txt"),
    ]
    assert source.notes["files that have the stem of another, and with it its data unit"] == 1


def test_several_files_are_one_source(folder):
    write(folder, a=f"{BOX} 0.5", b=f"{BOX} 0.5", c=f"{BOX} 0.5")
    source = opened(folder, paths=(folder / "a.txt", folder / "c.txt"))
    assert [row["unit"] for row in rows(source)] == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BOX} 0.5\n{BOX} 1\n", [(0.5, None), (1.0, None)]),
        (f"{BOX} 1\n{BOX} 17\n", [(None, "1"), (None, "17")]),
        (f"{BOX} 0.5 1\n{BOX} 0.25 2\n{BOX} 0.75\n", [(0.5, "1"), (0.25, "2"), (0.75, None)]),
        (f"{BOX} 0.5 1e+06\n", [(0.5, "1000000")]),
        (f"{BOX}\n", [(None, None)]),
    ],
)
def test_the_columns_of_boxes_are_told_from_all_rows(folder, text, expected):
    source = opened(write(folder, img=text))
    assert ends(source) == expected
    rules = [None if score is not None else "missing_confidence" for score, _ in expected]
    assert [row["rule"] for row in rows(source)] == rules


@pytest.mark.parametrize(
    "text",
    [
        f"{BOX} 1\n{BOX} 0\n",  # certain, or tracks 0 and 1
        f"{BOX} 0.5\n{BOX} 17\n",
        f"{BOX} 0.5\n{BOX} -0.5\n",
        f"{BOX} 0.5 1\n",  # a track id, or a triangle that ends at the lower edge
        f"{TRIANGLE} 0.5 1\n{TRIANGLE} 0.5 0\n",
        f"{BOX} 0.5\n{SQUARE} 0.5\n",
    ],
)
def test_what_cannot_be_told_is_asked_for(folder, text):
    with pytest.raises(SourceError) as caught:
        opened(write(folder, img=text))
    assert "--option" in caught.value.hint


def test_options_say_what_the_columns_are(folder):
    write(folder, img=f"{BOX} 1\n{BOX} 0\n")
    assert ends(opened(folder, options={"columns": "conf"})) == [(1.0, None), (0.0, None)]
    assert ends(opened(folder, options={"columns": "track"})) == [(None, "1"), (None, "0")]
    write(folder, img=f"{BOX} 0.5 1\n{BOX} 0.5\n{BOX}\n")
    both = opened(folder, options={"columns": "conf,track"})
    assert ends(both) == [(0.5, "1"), (0.5, None), (None, None)]
    rules = [row["rule"] for row in rows(opened(folder, options={"columns": "none"}))]
    assert rules == ["invalid_data", "invalid_data", "missing_confidence"]
    with pytest.raises(SourceError, match="expected one of"):
        opened(folder, options={"columns": "confidence"})


def test_option_confidence_fills_only_what_is_missing(folder):
    write(folder, img=f"{BOX}\n{BOX} 0.5\n")
    source = opened(folder, options={"confidence": "0.875"})
    assert ends(source) == [(0.875, None), (0.5, None)]
    assert source.notes["rows without confidence, given that of option confidence"] == 1
    for wrong in ("high", "nan", "inf"):
        with pytest.raises(SourceError, match="expected a number"):
            opened(folder, options={"confidence": wrong})


@pytest.mark.parametrize(
    ("text", "expected", "score", "track"),
    [
        (f"{SQUARE} 0.75", [0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5], 0.75, None),
        (f"{TRIANGLE} 0.75", [0, 0, 0.5, 0, 0.5, 0.5], 0.75, None),
        (f"{SQUARE} 0.75 12", [0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5], 0.75, "12"),
        (f"{TRIANGLE} 0.75 12", [0, 0, 0.5, 0, 0.5, 0.5], 0.75, "12"),
        (f"{SQUARE} 12", [0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5], None, "12"),
        (SQUARE, [0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5], None, None),
        (TRIANGLE, [0, 0, 0.5, 0, 0.5, 0.5], None, None),
    ],
)
def test_polygons_with_and_without_ends(folder, text, expected, score, track):
    (row,) = rows(opened(write(folder, img=text)))
    assert row["polygon"] == [expected]
    assert (row["format"], row["bbox_x"]) == ("polygon", None)
    assert (row["confidence"], row["track_id"]) == (score, track)
    assert row["rule"] == (None if score is not None else "missing_confidence")


def test_oriented_boxes_are_polygons_and_the_ledger_says_so(folder):
    corners = "3 0.5 -0.02 0.75 0.25 0.5 0.5 0.25 0.25 0.5"
    source = opened(write(folder, img=corners), options={"task": "obb"})
    (row,) = rows(source)
    assert row["polygon"] == [[0.5, -0.02, 0.75, 0.25, 0.5, 0.5, 0.25, 0.25]]
    told = opened(folder)
    assert rows(told) == [row]
    assert told.notes["polygons of four points, which oriented boxes are read as"] == 1
    (folder / "img.txt").write_text(f"{TRIANGLE} 0.5 0.25 0.5 0.25 0.75")
    (row,) = rows(opened(folder, options={"task": "obb", "columns": "conf"}))
    assert row["rule"] == "invalid_data"


def test_polygons_of_fewer_than_three_points_are_refused(folder):
    many = f"{SQUARE} 0.5\n" * 19
    source = opened(write(folder, img=f"{many}0 0.5 0.5 0.25 0.25 0.5\n0 0.5\n"))
    found = rows(source)
    assert [row["rule"] for row in found[19:]] == ["invalid_polygon", "invalid_polygon"]
    assert [row["message"][:17] for row in found[19:]] == ["The line has 2 po", "The line has 0 po"]
    assert found[19]["polygon"] is None
    assert found[18]["polygon"] == [[0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5]]


def test_key_points_are_not_taken_for_polygons(folder):
    pose = " ".join(["0", *["0.5"] * 55, "0.25"])
    write(folder, img=f"{pose}\n" * 3)
    with pytest.raises(SourceError, match="key points") as caught:
        opened(folder)
    assert "task=segment" in caught.value.hint


def test_bad_words_are_refused_with_what_was_found(folder):
    bad = ("cat 0.5 0.5 0.5 0.5 0.5", "-1 0.5 0.5 0.5 0.5 0.5", "0.5 0.5 0.5 0.5 0.5 0.5")
    bad += ("0 0.5 x 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5 high", "0 0.5 0.5", f"{BOX} 0.5 7 7")
    write(folder, img="\n".join([f"{BOX} 0.5", *bad]))
    source = opened(folder, options={"task": "detect"})
    found = rows(source)
    rules = ["invalid_data"] * 3 + ["invalid_box"] + ["invalid_data"] * 3
    assert [row["rule"] for row in found] == [None, *rules]
    assert "'cat 0.5" in found[1]["message"]
    assert "3 columns" in found[6]["message"]
    assert found[4]["class_ref"] == "0"


def test_a_class_may_be_written_as_a_whole_float(folder):
    assert rows(opened(write(folder, img="16.0 0.5 0.5 0.5 0.5 0.5")))[0]["class_ref"] == "16"


def test_class_names_are_found_nearby_where_one_file_has_them(folder):
    write(folder, img=f"{BOX} 0.5")
    assert opened(folder).coordinates.class_names == ()
    (folder.parents[1] / "data.yaml").write_text("names: {0: no, 1: car}")
    source = opened(folder)
    assert source.coordinates.class_names == (("0", "no"), ("1", "car"))
    assert source.notes[f"class names taken from {folder.parents[1] / 'data.yaml'}"] == 2
    (folder / "classes.txt").write_text("no\ncar\n")
    source = opened(folder)  # which says the same, and is no prediction
    assert source.coordinates.class_names == (("0", "no"), ("1", "car"))
    assert len(rows(source)) == 1
    (folder / "classes.txt").write_text("car\n")
    source = opened(folder)
    assert source.coordinates.class_names == ()
    assert any("files differ" in note for note in source.notes)


def test_rows_without_confidence_say_how_to_give_one(folder):
    write(folder, img="\n".join([BOX, f"{BOX} 0.5", f"7 {BOX[2:]} x"]))
    refused, kept, odd = rows(opened(folder))
    assert refused["rule"] == "missing_confidence"
    assert refused["message"] == (
        "No confidence; save it (Ultralytics: save_conf=True), or give one with "
        "--option confidence=VALUE."
    )
    assert refused["bbox_w"] == kept["bbox_w"]
    assert (kept["rule"], odd["rule"]) == (None, "invalid_data")
    assert [r["rule"] for r in rows(opened(folder, options={"confidence": "1"}))][:2] == [
        None,
        None,
    ]


def test_large_sources_are_read_again_rather_than_held(folder, monkeypatch):
    write(folder, a=f"{BOX} 0.5", b=f"{BOX} 0.25")
    held = rows(opened(folder))
    monkeypatch.setattr(yolo_rows, "HELD_BYTES", 1)
    monkeypatch.setattr(yolo_rows, "BATCH_ROWS", 1)
    source = opened(folder)
    assert [batch.num_rows for batch in source.batches()] == [1, 1]
    assert rows(source) == held


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        (BOX, True),
        (f"{BOX} 0.5 3", True),
        (f"{SQUARE} 0.5", True),
        ("0 0.5 -0.2 0.75 0.25 0.5 0.5 0.25 0.25 0.5 12", True),  # corners out of the image
        ("Car 0 0 0 1 2 3 4 1 1 1 1 1 1 1", False),  # KITTI
        ("0 10 20 30 40", False),  # pixels
        ("1,2,0.5,0.5,0.5,0.5", False),
        ("0.9 cat", False),
        ("0 0.5 0.5 0.5", False),
        ("0 0.5 0.5 0.5 0.5 nan", False),
        ("0 0.5 0.5 0.5 0.5 1e999", False),
        ("\0\1", False),
    ],
)
def test_what_is_claimed(folder, text, claimed):
    assert sniff(Sample(write(folder, img=text))) is claimed
    other = folder / "img.csv"
    (folder / "img.txt").rename(other)
    assert not sniff(Sample(other))


polygons = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.lists(st.floats(0, 1).map(lambda x: round(x, 6)), min_size=6, max_size=20),
        st.floats(0.01, 0.99),
    ),
    min_size=1,
    max_size=8,
)


@given(polygons)
def test_polygons_come_back_to_the_last_bit(tmp_path_factory, given_rows):
    folder = tmp_path_factory.mktemp("polygons")
    given_rows = [(c, p[: len(p) // 2 * 2], s) for c, p, s in given_rows]
    lines = [" ".join(map(repr, (c, *p, s))) for c, p, s in given_rows]
    write(folder, img="\n".join(lines))
    source = opened(folder, options={"task": "segment"})
    assert [(int(r["class_ref"]), r["polygon"][0], r["confidence"]) for r in rows(source)] == [
        (c, p, s) for c, p, s in given_rows
    ]
