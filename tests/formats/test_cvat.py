"""CVAT XML: images, videos, projects; boxes, polygons and masks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.sources import cvat_meta
from ea_arrow.sources.cvat import LABELS
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample

CORNERS = 'xtl="10.00" ytl="5.50" xbr="20.00" ybr="25.00"'
BOX = f'<box label="car" occluded="0" {CORNERS} z_order="0"/>'
LABEL_NAMES = (
    "<labels><label><name>car</name><color>#2080c0</color></label>"
    "<label><name>bus</name></label></labels>"
)
META = f"<meta><task><id>7</id><name>my task</name>{LABEL_NAMES}</task></meta>"


def an_image(*shapes, name="a.jpg", size='width="8" height="6"', more=""):
    return f'<image id="0" name="{name}" {size} {more}>{"".join(shapes)}</image>'


def write(folder, *content):
    path = folder / "annotations.xml"
    path.write_text(f"<annotations><version>1.1</version>{''.join(content)}</annotations>")
    return path


def read(path, **reading):
    truth = LABELS.read(Files(path, (path,)), Reading(**reading))
    return truth, [row for batch in truth.labels for row in batch.to_pylist()]


def rows_of(folder, *shapes, **reading):
    return read(write(folder, META, an_image(*shapes)), **reading)[1]


def box_of(row):
    return tuple(row[f"bbox_{side}"] for side in "xywh")


def pixels_of(mask):
    """A stored mask as pixels, by COCO's own definition of its string."""
    runs, at, text = [], 0, mask["counts"]
    while at < len(text):
        value = shift = 0
        while True:
            code = text[at] - 48
            at += 1
            value |= (code & 31) << shift
            shift += 5
            if not code & 32:
                break
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    flat = np.repeat(np.arange(len(runs)) & 1, runs)
    return flat.reshape(mask["width"], mask["height"]).T.tolist()


def test_images_are_data_units_also_without_labels(tmp_path):
    images = an_image(BOX), an_image(name="sub/b.jpg", size='width="640" height="480"')
    truth, (row,) = read(write(tmp_path, META, *images))
    units = truth.data_units.to_pylist()
    assert [(u["title"], u["source_id"], u["width"], u["height"]) for u in units] == [
        ("a.jpg", "a.jpg", 8, 6),
        ("sub/b.jpg", "sub/b.jpg", 640, 480),
    ]
    assert box_of(row) == (10, 5.5, 10, 19.5)
    assert (row["unit"], row["class_ref"], row["source_row"]) == ("a.jpg", "car", 0)
    assert (row["theta"], row["track_id"], row["frame"]) == (None, None, None)


def test_classes_are_those_of_meta_in_order_with_colours(tmp_path):
    truth, _ = read(write(tmp_path, META, an_image()))
    first, second = truth.ontology.classes
    assert (first.name, first.source_id, first.color) == ("car", "car", "#2080c0")
    assert (second.name, second.source_id) == ("bus", "bus")
    assert second.color


def test_joints_of_skeletons_are_no_classes(tmp_path):
    joint = "<label><name>elbow</name><parent>person</parent></label>"
    meta = META.replace("<label><name>bus", f"{joint}<label><name>bus")
    truth, _ = read(write(tmp_path, meta, an_image()))
    assert [c.name for c in truth.ontology.classes] == ["car", "bus"]


def test_without_meta_the_classes_are_those_that_occur(tmp_path):
    shapes = BOX, BOX.replace("car", "ant")
    truth, _ = read(write(tmp_path, an_image(*shapes)))
    assert [c.name for c in truth.ontology.classes] == ["ant", "car"]


@pytest.mark.parametrize(
    ("rotation", "theta"), [("30.5", 30.5), ("0.0", None), ("-90", 270), ("400", 40)]
)
def test_turned_boxes_keep_their_angle(tmp_path, rotation, theta):
    (row,) = rows_of(tmp_path, BOX.replace("z_order", f'rotation="{rotation}" z_order'))
    assert row["theta"] == theta
    assert row["format"] == ("bounding_box" if theta is None else "rotatable_bounding_box")
    assert box_of(row) == (10, 5.5, 10, 19.5)


def test_polygons(tmp_path):
    polygon = '<polygon label="car" points="1.5,2;3,4.25;5,6" z_order="0"/>'
    (row,) = rows_of(tmp_path, polygon)
    assert row["format"] == "polygon"
    assert row["polygon"] == [[1.5, 2, 3, 4.25, 5, 6]]


def test_masks_are_rows_of_their_box_put_into_the_image(tmp_path):
    # One background pixel, then 3, then 1, then 1 of the box of 3 columns and 2 rows.
    mask = '<mask label="car" rle="1, 3, 1, 1" left="4" top="2" width="3" height="2" z_order="0"/>'
    (row,) = rows_of(tmp_path, mask)
    expected = [[0] * 8 for _ in range(6)]
    expected[2][5] = expected[2][6] = expected[3][4] = expected[3][6] = 1
    assert row["format"] == "mask"
    assert (row["mask"]["height"], row["mask"]["width"]) == (6, 8)
    assert pixels_of(row["mask"]) == expected


@pytest.mark.parametrize(
    "change",
    [
        ('rle="1, 3, 1, 1"', 'rle="1, 3, 1"'),
        ('rle="1, 3, 1, 1"', 'rle="1, 3, -1, 3"'),
        ('rle="1, 3, 1, 1"', 'rle="PPP"'),
        ('rle="1, 3, 1, 1"', ""),
        ('left="4"', 'left="6"'),
        ('left="4"', 'left="-1"'),
        ('left="4"', ""),
        ('width="3"', 'width="2.5"'),
        ('width="3" height="2"', 'width="200000000" height="200000000"'),
    ],
)
def test_a_mask_that_cannot_be_is_refused(tmp_path, change):
    mask = '<mask label="car" rle="1, 3, 1, 1" left="4" top="2" width="3" height="2" z_order="0"/>'
    (row,) = rows_of(tmp_path, mask.replace(*change))
    assert (row["rule"], row["mask"]) == ("invalid_mask", None)
    assert row["class_ref"] == "car"


def test_a_mask_in_an_image_that_is_too_large_takes_no_memory(tmp_path):
    mask = '<mask label="car" rle="0,1" left="0" top="0" width="1" height="1"/>'
    image = an_image(mask, size='width="200000000" height="200000000"')
    _, (row,) = read(write(tmp_path, META, image))
    assert row["rule"] == "invalid_mask"
    assert "out of range" in row["message"]


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ('<points label="car" points="1,1"/>', "unsupported_shape"),
        ('<polyline label="car" points="1,1;2,2;3,3"/>', "unsupported_shape"),
        ('<ellipse label="car" cx="1" cy="2" rx="3" ry="4"/>', "unsupported_shape"),
        ('<cuboid label="car" xtl1="1"/>', "unsupported_shape"),
        ('<skeleton label="car"><points label="a" points="1,1"/></skeleton>', "unsupported_shape"),
        ('<tag label="car"></tag>', "unsupported_shape"),
        ('<polygon label="car" points="1,1;2,2"/>', "invalid_polygon"),
        ('<polygon label="car" points="1,1;2,2;3"/>', "invalid_polygon"),
        ('<polygon label="car" points="1,1;2,2;3,x"/>', "invalid_polygon"),
        ('<polygon label="car" points="1,1;2,2;3,1_0"/>', "invalid_polygon"),
        ('<polygon label="car"/>', "invalid_polygon"),
        ('<polygon label="car" points="1,1;2,2;3,inf"/>', "not_finite"),
        (BOX.replace("10.00", "x"), "invalid_box"),
        (BOX.replace("10.00", "nan"), "not_finite"),
        (BOX.replace("z_order", 'rotation="turn" z_order'), "invalid_box"),
        (f'<box label="car" {CORNERS[:-12]}/>', "invalid_box"),
    ],
)
def test_a_shape_that_is_no_label_is_refused_by_itself(tmp_path, shape, rule):
    rows = rows_of(tmp_path, shape, BOX)
    assert [row["rule"] for row in rows] == [rule, None]
    assert rows[0]["message"]
    assert [row["source_row"] for row in rows] == [0, 1]


def test_attributes_are_no_shapes(tmp_path):
    inner = BOX.replace("/>", '><attribute name="colour">red</attribute></box>')
    assert len(rows_of(tmp_path, inner, '<attribute name="x">y</attribute>')) == 1


VIDEO = (
    f"<meta><task><id>7</id><name>my task</name><size>3</size><start_frame>{{start}}</start_frame>"
    f"<frame_filter>{{step}}</frame_filter>{LABEL_NAMES}"
    "<original_size><width>640</width><height>480</height></original_size></task>"
    "<source>street.mp4</source></meta>"
)


def a_track(*shapes, more=""):
    return f'<track id="5" label="car" source="manual" {more}>{"".join(shapes)}</track>'


def in_frame(frame, outside=0):
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {CORNERS}/>'


def test_a_video_s_frames_are_data_units(tmp_path):
    meta = VIDEO.format(start=0, step="")
    track = a_track(in_frame(0), in_frame(1), in_frame(2, outside=1))
    truth, rows = read(write(tmp_path, meta, track))
    units = truth.data_units.to_pylist()
    assert [(u["title"], u["source_id"], u["frame"], u["width"], u["height"]) for u in units] == [
        ("street.mp4", "street.mp4", frame, 640, 480) for frame in range(3)
    ]
    assert len({unit["data_hash"] for unit in units}) == 1
    assert [(r["unit"], r["frame"], r["track_id"], r["class_ref"]) for r in rows] == [
        ("street.mp4", 0, "5", "car"),
        ("street.mp4", 1, "5", "car"),
    ]
    assert truth.notes["shapes of tracks outside of the picture, which are no labels"] == 1


def test_frames_are_numbered_as_in_the_video(tmp_path):
    meta = VIDEO.format(start=10, step="step=5")
    truth, _ = read(write(tmp_path, meta))
    assert truth.data_units["frame"].to_pylist() == [10, 15, 20]


@pytest.mark.parametrize("frame", ["", "x", "-1", "1.5", "99999999999"])
def test_a_shape_without_a_frame_is_refused(tmp_path, frame):
    meta = VIDEO.format(start=0, step="")
    _, (row,) = read(write(tmp_path, meta, a_track(in_frame(frame))))
    assert row["rule"] == "invalid_frame"


def test_frames_without_a_size_are_looked_for_among_the_images(tmp_path):
    meta = VIDEO.format(start=0, step="")
    meta = meta[: meta.index("<original_size>")] + meta[meta.index("</task>") :]
    path = write(tmp_path, meta, a_track(in_frame(1)))
    with pytest.raises(SourceError, match="3 of 3 data units have no width"):
        read(path)
    for frame in range(3):
        Image.new("L", (8 + frame, 6)).save(tmp_path / f"frame_00000{frame}.png")
    truth, _ = read(path, images=tmp_path)
    assert truth.data_units["width"].to_pylist() == [8, 9, 10]
    assert truth.data_units["frame"].to_pylist() == [0, 1, 2]


PROJECT = f"<meta><project><name>p</name><tasks>{{}}</tasks>{LABEL_NAMES}</project></meta>"
TASK = (
    "<task><id>{id}</id><name>{name}</name><size>2</size><original_size><width>64</width>"
    "<height>32</height></original_size></task>"
)


def test_tracks_of_a_project_belong_to_the_videos_of_their_tasks(tmp_path):
    tasks = TASK.format(id=3, name="a.mp4") + TASK.format(id=4, name="a.mp4")
    track = a_track(in_frame(1), more='task_id="4"')
    truth, (row,) = read(write(tmp_path, PROJECT.format(tasks), track))
    assert truth.data_units["source_id"].to_pylist() == ["a.mp4"] * 2 + ["a.mp4 (task 4)"] * 2
    assert (row["unit"], row["frame"]) == ("a.mp4 (task 4)", 1)
    assert len(set(truth.data_units["data_hash"].to_pylist())) == 2
    with pytest.raises(SourceError, match="task '9'"):
        read(write(tmp_path, PROJECT.format(tasks), a_track(more='task_id="9"')))
    with pytest.raises(SourceError, match="says nothing before it"):
        read(write(tmp_path, a_track()))


def test_images_of_one_name_in_several_tasks_are_told_apart(tmp_path):
    truth, rows = read(write(tmp_path, META, an_image(BOX), an_image(BOX)))
    assert truth.data_units["source_id"].to_pylist() == ["a.jpg", "a.jpg#2"]
    assert truth.data_units["title"].to_pylist() == ["a.jpg", "a.jpg"]
    assert [row["unit"] for row in rows] == ["a.jpg", "a.jpg#2"]
    assert sum(truth.notes.values()) == 1


def test_a_video_of_absurd_length_is_refused(tmp_path):
    meta = VIDEO.format(start=0, step="").replace("<size>3", f"<size>{cvat_meta.MOST_FRAMES + 1}")
    with pytest.raises(SourceError, match="frames; expected at most"):
        read(write(tmp_path, meta))


def test_the_caller_may_know_better(tmp_path):
    polygon = '<polygon label="car" points="1,2;3,4;5,6"/>'
    one, ring = rows_of(tmp_path, BOX, polygon, one_based=True)
    assert box_of(one) == (9, 4.5, 11, 20.5)
    assert ring["polygon"] == [[0, 1, 2, 3, 4, 5]]
    (row,) = rows_of(tmp_path, BOX, box="yxyx")
    assert box_of(row) == (5.5, 10, 19.5, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotations/>", "neither <meta> nor <image>"),
        ("<annotation/>", "begins with <annotation>"),
        ("<!DOCTYPE a><annotations/>", "document type"),
        ("<annotations><image>", "is not XML"),
        (f"<annotations>{an_image(size='')}</annotations>", "no width and height"),
    ],
)
def test_what_is_no_cvat_xml_is_refused(tmp_path, text, said):
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(SourceError, match=said):
        read(path)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.data())
def test_damaged_files_end_in_an_error_or_in_rows(tmp_path, data):
    mask = '<mask label="car" rle="1, 3, 1, 1" left="4" top="2" width="3" height="2"/>'
    track = a_track(in_frame(0))
    good = write(
        tmp_path, VIDEO.format(start=0, step="step=2"), an_image(BOX, mask), track
    ).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    length = data.draw(st.integers(0, 20))
    put = data.draw(st.binary(max_size=20) | st.sampled_from([b'"', b"9" * 30, b"-1", b"1e400"]))
    path = tmp_path / "x.xml"
    path.write_bytes(good[:at] + put + good[at + length :])
    try:
        _, rows = read(path)
    except SourceError:
        return
    assert all(row["rule"] or row["bbox_x"] is not None or row["mask"] for row in rows)


@pytest.mark.parametrize(
    ("text", "is_cvat"),
    [
        (f"<annotations>{META}</annotations>", True),
        (f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{an_image()}', True),
        ("<annotations></annotations>", False),
        ("<annotation><meta></annotation>", False),
        ('{"annotations": ["<image>"]}', False),
        ("", False),
    ],
)
def test_the_sniff_looks_at_the_content(tmp_path, text, is_cvat):
    path = tmp_path / "a.xml"
    path.write_text(text)
    assert LABELS.sniff(Sample(path)) is is_cvat
