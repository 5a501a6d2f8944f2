"""Pascal VOC XML: every trap of the format, and XML that means harm."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.sources import xml_files
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.voc_labels import LABELS

SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"
BOX = "<bndbox><xmin>11</xmin><ymin>5.5</ymin><xmax>21</xmax><ymax>25</ymax></bndbox>"


def write(folder, name, *content, size=SIZE, filename="a.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    named = f"<filename>{filename}</filename>" if filename else ""
    path = folder / name
    path.write_text(f"<annotation>{named}{size}{''.join(content)}</annotation>")
    return path


def an_object(*content, name="dog"):
    return f"<object><name>{name}</name>{''.join(content)}</object>"


def read(path, **reading):
    truth = LABELS.read(Files(path, (path,)), Reading(**reading))
    rows = [row for batch in truth.labels for row in batch.to_pylist()]
    return truth, rows


def box_of(row):
    return tuple(row[f"bbox_{side}"] for side in "xywh")


def test_a_directory_is_one_data_unit_per_file_also_without_objects(tmp_path):
    write(tmp_path, "b.xml", filename="b.jpg")
    write(tmp_path, "a.xml", an_object(BOX), an_object(BOX, name="cat"))
    truth, rows = read(tmp_path)
    units = truth.data_units.to_pylist()
    assert [(u["source_id"], u["title"], u["width"], u["height"]) for u in units] == [
        ("a", "a.jpg", 100, 50),
        ("b", "b.jpg", 100, 50),
    ]
    assert [c.name for c in truth.ontology.classes] == ["cat", "dog"]
    assert [c.source_id for c in truth.ontology.classes] == ["cat", "dog"]
    assert [(r["source_row"], r["source_file"], r["unit"], r["class_ref"]) for r in rows] == [
        (0, "a.xml", "a", "dog"),
        (1, "a.xml", "a", "cat"),
    ]


def test_corners_are_taken_as_given_and_said_so(tmp_path):
    truth, (row,) = read(write(tmp_path, "a.xml", an_object(BOX)))
    assert box_of(row) == (11, 5.5, 10, 19.5)
    (note,) = truth.notes
    assert "--one-based" in note
    assert truth.notes[note] == 1


def test_one_based_corners_are_the_last_pixels(tmp_path):
    truth, (row,) = read(write(tmp_path, "a.xml", an_object(BOX)), one_based=True)
    assert box_of(row) == (10, 4.5, 11, 20.5)
    assert truth.notes == {}


def test_another_order_and_fractions_if_the_caller_says_so(tmp_path):
    path = write(tmp_path, "a.xml", an_object(BOX))
    truth, (row,) = read(path, box="xywh", relative=True)
    assert box_of(row) == (11, 5.5, 21, 25)
    assert truth.coordinates.relative


def test_the_boxes_of_parts_are_not_the_object_s(tmp_path):
    head = BOX.replace("11", "1")
    part = f"<part><name>head</name>{head}</part>"
    truth, (row,) = read(write(tmp_path, "a.xml", an_object(part, BOX, part)))
    assert box_of(row) == (11, 5.5, 10, 19.5)
    assert truth.notes["parts of objects (head, hand, foot), left out"] == 2
    assert [c.name for c in truth.ontology.classes] == ["dog"]


def test_a_part_s_box_does_not_stand_in_for_a_missing_one(tmp_path):
    _, (row,) = read(write(tmp_path, "a.xml", an_object(f"<part>{BOX}</part>")))
    assert row["rule"] == "invalid_box"
    assert "<part>" in row["message"]


def test_difficult_objects_are_ignored(tmp_path):
    objects = [an_object(f"<difficult>{d}</difficult>", BOX) for d in (1, 0, " 1 ", "")]
    truth, rows = read(write(tmp_path, "a.xml", *objects))
    assert [row["is_ignored"] for row in rows] == [True, None, True, None]
    assert [n for text, n in truth.notes.items() if "difficult=keep" in text] == [2]
    truth, rows = read(tmp_path, options={"difficult": "keep"})
    assert [row["is_ignored"] for row in rows] == [False, None, False, None]
    assert truth.notes["objects marked difficult, which count as any other"] == 2


def test_polygons_are_kept_beside_the_box(tmp_path):
    ring = (
        "<polygon>"
        + "".join(f"<x{i}>{i}</x{i}><y{i}>{i * i}</y{i}>" for i in (1, 2, 3))
        + "</polygon>"
    )
    _, (row,) = read(write(tmp_path, "a.xml", an_object(ring, BOX)))
    assert row["format"] == "polygon"
    assert row["polygon"] == [[1, 1, 2, 4, 3, 9]]
    assert box_of(row) == (11, 5.5, 10, 19.5)
    _, (row,) = read(write(tmp_path, "a.xml", an_object(ring, BOX)), one_based=True)
    assert row["polygon"] == [[0, 0, 1, 3, 2, 8]]
    points = "".join(f"<pt><x>{i}</x><y>{i * i}</y></pt>" for i in (1, 2, 3))
    _, (row,) = read(write(tmp_path, "a.xml", an_object(f"<polygon>{points}</polygon>")))
    assert row["polygon"] == [[1, 1, 2, 4, 3, 9]]
    assert row["bbox_x"] is None


def test_an_incomplete_polygon_is_refused_or_its_box_taken(tmp_path):
    two = "<polygon><x1>1</x1><y1>1</y1><x2>2</x2><y2>2</y2></polygon>"
    truth, (row,) = read(write(tmp_path, "a.xml", an_object(two, BOX)))
    assert (row["format"], row["polygon"]) == ("bounding_box", None)
    assert truth.notes["polygons of fewer than three points, of which the box is taken"] == 1
    missing = two.replace("</polygon>", "<x3>4</x3></polygon>")
    _, (row,) = read(write(tmp_path, "a.xml", an_object(missing, BOX)))
    assert row["rule"] == "invalid_polygon"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "invalid_box"),
        (BOX.replace("11", ""), "invalid_box"),
        (BOX.replace("11", "1_1"), "invalid_box"),
        (BOX.replace("11", "left"), "invalid_box"),
        (BOX.replace("11", "nan"), "not_finite"),
        (BOX.replace("11", "-inf"), "not_finite"),
        (BOX.replace("11", "-1e308").replace("21", "1e308"), "not_finite"),
        ("<robndbox><cx>1</cx></robndbox>", "unsupported_shape"),
    ],
)
def test_a_bad_object_is_a_row_that_says_why(tmp_path, content, rule):
    _, rows = read(write(tmp_path, "a.xml", an_object(content), an_object(BOX)))
    assert [row["rule"] for row in rows] == [rule, None]
    assert rows[0]["message"]
    assert (rows[0]["unit"], rows[0]["class_ref"]) == ("a", "dog")


@pytest.mark.parametrize("size", ["", "<size/>", SIZE.replace("100", "0"), SIZE.replace("50", "?")])
def test_a_missing_size_comes_from_the_images(tmp_path, size):
    path = write(tmp_path / "xml", "a.xml", an_object(BOX), size=size)
    with pytest.raises(SourceError, match=r"1 of 1 data units.*a\.jpg") as caught:
        read(path)
    assert "--images" in caught.value.hint
    (tmp_path / "images").mkdir()
    Image.new("L", (64, 32)).save(tmp_path / "images" / "b.jpg")
    with pytest.raises(SourceError, match="nor a readable image"):
        read(path, images=tmp_path / "images")
    Image.new("L", (64, 32)).save(tmp_path / "images" / "a.jpg")
    truth, _ = read(path, images=tmp_path / "images")
    assert truth.data_units.select(["width", "height"]).to_pylist() == [{"width": 64, "height": 32}]


def test_the_size_in_the_file_is_not_overruled_by_the_image(tmp_path):
    path = write(tmp_path, "a.xml")
    Image.new("L", (64, 32)).save(tmp_path / "a.jpg")
    truth, _ = read(path, images=tmp_path)
    assert truth.data_units["width"].to_pylist() == [100]


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path):
    write(tmp_path / "train", "1.xml", an_object(BOX))
    write(tmp_path / "val", "1.xml", an_object(BOX), filename=None)
    truth, rows = read(tmp_path)
    assert truth.data_units["source_id"].to_pylist() == ["train/1", "val/1"]
    assert truth.data_units["title"].to_pylist() == ["a.jpg", "val/1"]
    assert [row["unit"] for row in rows] == ["train/1", "val/1"]
    assert truth.notes["files without <filename>, titled by their own names"] == 1


def test_names_may_be_in_any_script_and_encoding(tmp_path):
    named = an_object(BOX, name="Fußgänger &amp; 犬")
    text = f'<?xml version="1.0" encoding="UTF-16"?><annotation>{SIZE}{named}</annotation>'
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode("utf-16"))
    _, (row,) = read(path)
    assert row["class_ref"] == "Fußgänger & 犬"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{}", "is not XML at line 1, column 1"),
        ("<annotation><object>", "no element found"),
        ("<annotations/>", "begins with <annotations>; expected <annotation>"),
        ("<annotation>\n<object></annotation>", "line 2.*mismatched tag"),
        ("<!DOCTYPE annotation><annotation/>", "document type"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "document type"),
        ("<annotation>&undefined;</annotation>", "undefined entity"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "is not XML"),
        ('<?xml version="1.0" encoding="utf-7"?><annotation/>', "is not XML"),
        ("<annotation>" + "<a>" * 100_000, "nested too deeply"),
        ("<annotation>\0</annotation>", "not well-formed"),
    ],
)
def test_what_is_no_voc_xml_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(SourceError, match=said) as caught:
        read(path)
    assert "a.xml" in caught.value.message


def test_a_billion_laughs_are_not_laughed(tmp_path):
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    path = tmp_path / "a.xml"
    path.write_text(
        f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{laughs}]><annotation>&l9;</annotation>'
    )
    with pytest.raises(SourceError, match="document type or an entity"):
        read(path)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, "a.xml", an_object(BOX))
    rows = xml_files.children(path, "annotation", "VOC XML", 100)
    with pytest.raises(SourceError, match="more than 100 bytes"):
        list(rows)
    monkeypatch.setattr(xml_files, "MOST_ELEMENTS", 3)
    with pytest.raises(SourceError, match="too large in one element"):
        read(path)


def test_a_directory_without_xml_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no \.xml files"):
        read(tmp_path)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.data())
def test_damaged_files_end_in_an_error_or_in_rows(tmp_path, data):
    good = write(tmp_path, "a.xml", an_object(BOX), an_object(BOX)).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    length = data.draw(st.integers(0, 20))
    put = data.draw(
        st.binary(max_size=20) | st.sampled_from([b"<", b"&", b"9" * 400, b"</object>"])
    )
    path = tmp_path / "x.xml"
    path.write_bytes(good[:at] + put + good[at + length :])
    try:
        _, rows = read(path)
    except SourceError:
        return
    assert all(row["rule"] or row["bbox_x"] is not None for row in rows)


@pytest.mark.parametrize(
    ("text", "is_voc"),
    [
        (f"<annotation>{SIZE}</annotation>", True),
        (f'\n<?xml version="1.0"?>\n<!-- made by -->\n<annotation verified="yes">{SIZE}', True),
        ("<annotation><object>", True),
        ("<annotations><image></annotations>", False),
        ("<annotation>nothing known</annotation>", False),
        ("<html><object></html>", False),
        ("", False),
        ("annotation size", False),
        ('{"annotation": "<size"}', False),
    ],
)
def test_the_sniff_looks_at_the_content(tmp_path, text, is_voc):
    path = tmp_path / "a.xml"
    path.write_text(text)
    assert LABELS.sniff(Sample(path)) is is_voc
    assert LABELS.sniff(Sample(tmp_path)) is is_voc
