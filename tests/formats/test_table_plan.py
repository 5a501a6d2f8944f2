"""What the columns of a table mean, by their names."""

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Reading
from ea_arrow.sources.table_plan import plan_of


def plan(*names, **reading):
    return plan_of(names, reading=Reading(**reading))


@pytest.mark.parametrize(
    ("names", "layout", "relative"),
    [
        (("bbox_x", "bbox_y", "bbox_w", "bbox_h"), "xywh", False),
        (("bbox_x", "bbox_y", "bbox_width", "bbox_height"), "xywh", False),
        (("x", "y", "w", "h"), "xywh", False),
        (("X", "Y", "W", "H"), "xywh", False),
        (("left", "top", "width", "height"), "xywh", False),
        (("xmin", "ymin", "xmax", "ymax"), "xyxy", False),
        (("xmax", "ymax", "xmin", "ymin"), "xyxy", False),
        (("x_min", "y_min", "x_max", "y_max"), "xyxy", False),
        (("x1", "y1", "x2", "y2"), "xyxy", False),
        (("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), "xyxy", False),
        (("left", "top", "right", "bottom"), "xyxy", False),
        (("cx", "cy", "w", "h"), "cxcywh", False),
        (("x_center", "y_center", "width", "height"), "cxcywh", False),
        (("bbox",), "xywh", False),
        (("bbox_rel",), "xywh", True),
        (("x1_rel", "y1_rel", "x2_rel", "y2_rel"), "xyxy", True),
    ],
)
def test_the_names_of_a_box_say_its_layout(names, layout, relative):
    found = plan("image_id", "label", "score", *names)
    assert set(found.box) == set(names)
    assert (found.layout, found.relative) == (layout, relative)
    assert found.left_out == ()


@pytest.mark.parametrize(
    "names",
    [
        ("xmin", "ymin", "x2", "y2"),
        ("x", "y", "right", "bottom"),
        ("xmin", "ymin", "xmax"),
        ("bbox", "x1", "y1", "x2", "y2"),
        ("left", "top", "width", "height", "right", "bottom"),
        ("x", "y", "w_rel", "h_rel"),
        ("bbox_rel", "polygon"),
        ("bbox", "polygon_rel"),
    ],
)
def test_a_mixture_of_layouts_is_refused(names):
    with pytest.raises(SourceError, match="box"):
        plan("image_id", "label", "score", *names)


def test_the_size_of_the_image_is_not_the_side_of_a_box():
    found = plan("image_id", "x", "y", "w", "h", "width", "height")
    assert found.box == ("x", "y", "w", "h")
    assert found.size == ("width", "height")
    assert plan("image_id", "x", "y", "width", "height").size is None


def test_options_choose_among_several_columns():
    names = ("id", "image_id", "kind", "label", "bbox", "x1", "y1", "x2", "y2")
    found = plan(*names, options={"unit": "id", "class": "KIND", "box": "x1,y1,x2,y2"})
    assert (found.unit, found.class_ref, found.layout) == ("id", "kind", "xyxy")
    assert found.left_out == ("image_id", "label", "bbox")
    with pytest.raises(SourceError, match="no column 'imag'"):
        plan(*names, options={"unit": "imag"})
    with pytest.raises(SourceError, match="order of its numbers is unknown"):
        plan(*names, options={"box": "id,image_id,kind,label"})
    assert plan(*names, options={"box": "x1,y1,x2,y2"}, box="yxyx").layout == "yxyx"


@pytest.mark.parametrize(
    ("names", "unit", "unit_key"),
    [
        (("data_hash", "image_id"), "data_hash", "data_hash"),
        (("file_name", "image_id"), "image_id", "source_id"),
        (("title", "file_name"), "file_name", "title"),
    ],
)
def test_the_data_unit_is_named_by_the_surest_column(names, unit, unit_key):
    found = plan(*names, "label", "bbox")
    assert (found.unit, found.unit_key) == (unit, unit_key)


def test_beside_a_data_hash_the_source_id_is_that_of_the_row():
    assert plan("data_hash", "source_id").others["source_id"] == "source_id"
    assert "source_id" not in plan("source_id").others


def test_columns_of_the_same_name_are_refused():
    with pytest.raises(SourceError, match="two columns 'score'"):
        plan("image_id", "score", "Score")
