"""LabelMe JSON: shapes of all kinds, groups, masks, missing sizes."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.sources import labelme
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.labelme import LABELS
from ea_arrow.sources.samples import Sample
from tests.formats.case_labelme import document, shape
from tests.formats.dataset import Unit, write_json
from tests.formats.test_cvat import box_of, pixels_of

UNIT = Unit("a.jpg", 8, 6)
TRIANGLE = [[1, 2], [3, 4.5], [5, 0]]


def png(rows):
    file = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(folder, *shapes, name="a.json", **more):
    return write_json(folder / name, document(UNIT, list(shapes)) | more)


def read(path, **reading):
    truth = LABELS.read(Files(path, (path,)), Reading(**reading))
    return truth, [row for batch in truth.labels for row in batch.to_pylist()]


def only(folder, *shapes, **more):
    _, (row,) = read(write(folder, *shapes, **more))
    return row


def test_a_directory_is_one_data_unit_per_file_also_without_shapes(tmp_path):
    write(tmp_path, shape("dog", TRIANGLE, "polygon"), shape("cat", TRIANGLE, "polygon"))
    write(tmp_path, name="b.json", imagePath="..\\images\\b.png", imageData="A" * 100_000)
    truth, rows = read(tmp_path)
    units = truth.data_units.to_pylist()
    assert [(u["source_id"], u["title"], u["width"], u["height"]) for u in units] == [
        ("a", "a.jpg", 8, 6),
        ("b", "../images/b.png", 8, 6),
    ]
    assert [c.name for c in truth.ontology.classes] == ["cat", "dog"]
    assert [(r["source_row"], r["source_file"], r["unit"], r["class_ref"]) for r in rows] == [
        (0, "a.json", "a", "dog"),
        (1, "a.json", "a", "cat"),
    ]


@pytest.mark.parametrize(
    "points", [[[1, 2], [5, 4.5]], [[5, 4.5], [1, 2]], [[1, 4.5], [5, 2]], [[5, 2], [1, 4.5]]]
)
def test_a_rectangle_is_two_corners_in_any_order(tmp_path, points):
    row = only(tmp_path, shape("dog", points))
    assert (row["format"], box_of(row)) == ("bounding_box", (1, 2, 4, 2.5))


def test_a_rectangle_may_be_four_corners_unless_it_is_turned(tmp_path):
    corners = [[1, 2], [5, 2], [5, 4.5], [1, 4.5]]
    assert box_of(only(tmp_path, shape("dog", corners))) == (1, 2, 4, 2.5)
    turned = [[3, 0], [5, 2], [3, 4], [1, 2]]
    assert only(tmp_path, shape("dog", turned))["rule"] == "unsupported_shape"
    folded = [[1, 2], [5, 2], [1, 2], [5, 2]]
    assert box_of(only(tmp_path, shape("dog", folded))) == (1, 2, 4, 0)


@pytest.mark.parametrize("kind", ["polygon", None])
def test_a_polygon_stays_one(tmp_path, kind):
    row = only(tmp_path, shape("dog", TRIANGLE, kind))
    assert row["format"] == "polygon"
    assert row["polygon"] == [[1, 2, 3, 4.5, 5, 0]]


def test_shapes_of_one_group_and_label_are_parts_of_one_object(tmp_path):
    shapes = [
        shape("dog", TRIANGLE, "polygon", group_id=1),
        shape("cat", TRIANGLE, "polygon", group_id=1),
        shape("dog", [[5, 4], [1, 2]], group_id=1),
        shape("dog", TRIANGLE, "polygon", group_id=2),
        shape("dog", TRIANGLE, "polygon"),
        shape("dog", TRIANGLE, "polygon"),
    ]
    truth, rows = read(write(tmp_path, *shapes))
    ring = [1, 2, 3, 4.5, 5, 0]
    assert [(row["source_row"], row["class_ref"]) for row in rows] == [
        (0, "dog"),
        (1, "cat"),
        (3, "dog"),
        (4, "dog"),
        (5, "dog"),
    ]
    assert rows[0]["polygon"] == [ring, [1, 2, 5, 2, 5, 4, 1, 4]]
    assert all(row["polygon"] == [ring] for row in rows[1:])
    assert truth.notes == {"shapes that are further parts of an object, by their group_id": 1}


def test_a_bad_part_is_refused_by_itself_and_groups_end_with_their_file(tmp_path):
    good = shape("dog", TRIANGLE, "polygon", group_id=1)
    bad = shape("dog", TRIANGLE[:2], "polygon", group_id=1)
    write(tmp_path, good, bad, good)
    write(tmp_path, good, name="b.json")
    _, rows = read(tmp_path)
    assert [(r["unit"], r["source_row"], r["rule"]) for r in rows] == [
        ("a", 0, None),
        ("a", 1, "invalid_polygon"),
        ("b", 0, None),
    ]
    assert len(rows[0]["polygon"]) == 2


@pytest.mark.parametrize("second", [[4, 2], [5, 3]])
def test_a_mask_is_a_png_at_the_first_corner(tmp_path, second):
    # LabelMe took the second corner for the last pixel, and later for the end of the mask.
    text = png([[1, 0], [1, 1]])
    row = only(tmp_path, shape("dog", [[3, 1], second], "mask", mask=text))
    expected = [[0] * 8 for _ in range(6)]
    expected[1][3] = expected[2][3] = expected[2][4] = 1
    assert row["format"] == "mask"
    assert pixels_of(row["mask"]) == expected


def test_what_of_a_mask_is_outside_of_the_image_is_cut_off_and_counted(tmp_path):
    path = write(tmp_path, shape("dog", [[-1, 5], [1, 7]], "mask", mask=png([[1, 1], [1, 1]])))
    truth, (row,) = read(path)
    expected = [[0] * 8 for _ in range(6)]
    expected[5][0] = 1
    assert pixels_of(row["mask"]) == expected
    assert truth.notes == {"masks that reach outside of their image, cut off there": 1}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mask": None}, "expected a PNG"),
        ({"mask": "no base64!"}, "not base64"),
        ({"mask": "caf\u00e9"}, "not base64"),
        ({"mask": "AAAA"}, "cannot be read"),
        ({"mask": png([[1] * 5])}, "its box is"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(tmp_path, more, said):
    row = only(tmp_path, shape("dog", [[3, 1], [5, 3]], "mask", **more))
    assert row["rule"] == "invalid_mask"
    assert said in row["message"]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (None, "invalid_data"),
        (shape("dog", [[1, 2]]), "invalid_box"),
        (shape("dog", [[1, 2], [3]]), "invalid_box"),
        (shape("dog", "points"), "invalid_box"),
        (shape("dog", [[1, 2], [3, None]]), "invalid_box"),
        (shape("dog", [[1, 2], [3, True]]), "invalid_box"),
        (shape("dog", [[1, 2], [3, float("nan")]]), "not_finite"),
        (shape("dog", [[1, 2], [3, 10**400]]), "not_finite"),
        (shape("dog", TRIANGLE[:2], "polygon"), "invalid_polygon"),
        (shape("dog", [[1, 2], [3, 4]], "circle"), "unsupported_shape"),
        (shape("dog", [[1, 2]], "point"), "unsupported_shape"),
        (shape("dog", [[1, 2], [3, 4]], "line"), "unsupported_shape"),
        (shape("dog", TRIANGLE, "linestrip"), "unsupported_shape"),
        (shape("dog", TRIANGLE, ["polygon"]), "unsupported_shape"),
    ],
)
def test_a_bad_shape_is_a_row_that_says_why(tmp_path, bad, rule):
    _, rows = read(write(tmp_path, bad, shape("dog", [[1, 2], [3, 4]])))
    assert [row["rule"] for row in rows] == [rule, None]
    assert rows[0]["message"]


def test_labels_that_are_no_text(tmp_path):
    shapes = [shape(label, [[1, 2], [3, 4]]) for label in (7, None, "half \ud83d", {"a": 1})]
    truth, rows = read(write(tmp_path, *shapes))
    assert [row["class_ref"] for row in rows] == ["7", None, "half ?", None]
    assert [c.name for c in truth.ontology.classes] == ["7", "half ?"]


def test_shapes_marked_difficult_are_ignored(tmp_path):
    shapes = [shape("dog", [[1, 2], [3, 4]], difficult=d) for d in (True, False)]
    truth, rows = read(write(tmp_path, *shapes))
    assert [row["is_ignored"] for row in rows] == [True, None]
    assert sum(truth.notes.values()) == 1


@pytest.mark.parametrize("size", [None, 0, "wide", -4])
def test_a_missing_size_comes_from_the_images(tmp_path, size):
    path = write(tmp_path, shape("dog", TRIANGLE, "polygon"), imageWidth=size)
    with pytest.raises(SourceError, match=r"1 of 1 data units.*a\.jpg"):
        read(path)
    Image.new("L", (64, 32)).save(tmp_path / "a.jpg")
    truth, _ = read(path, images=tmp_path)
    assert truth.data_units.select(["width", "height"]).to_pylist() == [{"width": 64, "height": 32}]


def test_a_file_without_imagepath_is_titled_by_its_name(tmp_path):
    truth, _ = read(write(tmp_path, imagePath=None))
    assert truth.data_units["title"].to_pylist() == ["a"]
    assert truth.notes == {"files without imagePath, titled by their own names": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("[]", "is not LabelMe JSON"),
        ('{"images": []}', "the keys"),
        ('{"shapes": {}}', "is not LabelMe JSON"),
        ('{"shapes": [', "cut off"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_labelme_json_is_refused(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=said) as caught:
        read(tmp_path)
    assert "a.json" in caught.value.message


def test_a_directory_without_json_and_a_file_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SourceError, match=r"no \.json files"):
        read(tmp_path)
    path = write(tmp_path)
    monkeypatch.setattr(labelme, "MOST_BYTES", 10)
    with pytest.raises(SourceError, match="of one image"):
        read(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.sampled_from(["label", "points", "group_id", "shape_type", "mask", "difficult"]),
    JSON,
    st.sampled_from(["polygon", "rectangle", "mask"]),
    st.sampled_from(["imagePath", "version", "imageHeight"]),
    JSON,
)
def test_any_value_anywhere_is_a_row_or_an_error(tmp_path, key, value, kind, top, other):
    good = shape("dog", [[1, 2], [3, 4]], kind, group_id=1, mask=png([[1, 1], [1, 1]]))
    path = write(tmp_path, good, good | {key: value}, **{top: other})
    if top == "imageHeight" and parse_side(other) in (None, 0):
        with pytest.raises(SourceError, match="no width and height"):
            read(path)
    else:
        _, rows = read(path)
        assert rows


@pytest.mark.parametrize(
    ("text", "is_labelme"),
    [
        (json.dumps(document(UNIT, [])), True),
        (json.dumps(document(UNIT, [shape("a", [[0, 1]] * 9000)])), True),
        ('{"imagePath": "a.jpg", "imageData": "' + "/9j/" * 50_000, True),
        ('{"imagePath": "a.jpg", "imageData": null, "shapes": ["', True),
        ('{"imageHeight": 1, "flags": {}, "points": []}', False),
        ('{"shapes": []}', False),
        ('{"images": [], "annotations": [], "categories": []}', False),
        ('[{"shapes": [], "imagePath": "", "flags": {}}]', False),
        ("", False),
    ],
)
def test_the_sniff_looks_at_the_content(tmp_path, text, is_labelme):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert LABELS.sniff(Sample(path)) is is_labelme
    assert LABELS.sniff(Sample(tmp_path)) is is_labelme
