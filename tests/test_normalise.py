"""Normalisation: every rule and note on rows worked by hand, and properties over any stream."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.checks import TOLERANCE
from ea_arrow.errors import SchemaError
from ea_arrow.geometry import Rle
from ea_arrow.ledger import NOTES, REJECTS
from ea_arrow.normalise import Normaliser
from ea_arrow.schema import LABELS, PREDICTIONS, RAW
from ea_arrow.sources.base import Coordinates
from tests.builders import (
    PIXELS,
    RELATIVE,
    class_table,
    data_units,
    object_classes,
    option_classes,
    raw_batch,
)

UNITS = data_units(("a", 0, 100, 50), ("v", 0, 640, 480), ("v", 3, 640, 480), ("tiny", 0, 4, 3))
CLASSES = class_table(
    [
        *object_classes(
            ("any", "any", "1"),
            ("box", "bounding_box", "2"),
            ("rotated", "rotatable_bounding_box", "3"),
            ("polygon", "polygon", "4"),
            ("bitmask", "bitmask", "5"),
            ("polyline", "polyline", None),
        ),
        *option_classes(("scene", "weather", "sun"), ("scene", "weather", "rain")),
    ]
)
BOX = {
    "unit": "a",
    "class_ref": "any",
    "format": "bounding_box",
    "bbox_x": 0.1,
    "bbox_y": 0.2,
    "bbox_w": 0.3,
    "bbox_h": 0.4,
}
POLYGON = {
    "unit": "a",
    "class_ref": "any",
    "format": "polygon",
    "polygon": [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]],
}
MASK = {
    "unit": "tiny",
    "class_ref": "any",
    "format": "mask",
    # 3 rows × 4 columns; columns 1 and 2, rows 1 and 2
    "mask": Rle(3, 4, np.array([4, 2, 1, 2, 3])),
}
CLASSIFICATION = {
    "unit": "a",
    "class_ref": "scene",
    "attribute_hash": "weather",
    "option_hash": "sun",
    "format": "classification",
}
BOX_COLUMNS = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


@dataclass
class Outcome:
    """What became of some rows."""

    rows: list
    ledger: object
    rejected: pa.RecordBatch
    broken: dict

    @property
    def row(self):
        (row,) = self.rows
        return row

    @property
    def box(self):
        return tuple(self.row[name] for name in BOX_COLUMNS)


def normalise(*rows, coordinates=RELATIVE, kind="predictions", units=UNITS, classes=CLASSES):
    """Normalise one batch."""
    normaliser = Normaliser(units, classes, coordinates, kind)
    batch = rows[0] if isinstance(rows[0], pa.RecordBatch) else raw_batch(list(rows))
    result = normaliser(batch)
    ledger = normaliser.finish()
    assert ledger.read == ledger.kept + ledger.rejected == batch.num_rows
    assert ledger.kept == result.rows.num_rows
    assert ledger.rejected == result.rejected.num_rows
    spec = PREDICTIONS if kind == "predictions" else LABELS
    assert result.rows.schema.equals(spec.arrow_stored, check_metadata=True)
    return Outcome(result.rows.to_pylist(), ledger, result.rejected, result.broken)


def refused(*rows, **options):
    """The rules that a single row breaks, and the one under which it is counted."""
    outcome = normalise(*rows, **options)
    assert outcome.rows == []
    (counted,) = outcome.ledger.rejects
    assert next(iter(outcome.broken)) == counted
    return list(outcome.broken)


# -- pixels -------------------------------------------------------------------------------------


def test_a_relative_box_becomes_pixels():
    outcome = normalise(BOX)
    assert outcome.box == (0.1 * 100, 0.2 * 50, 0.3 * 100, 0.4 * 50)
    assert outcome.row["area"] == (0.3 * 100) * (0.4 * 50)
    assert (outcome.row["prediction_id"], outcome.row["source_row"]) == (0, 0)
    assert outcome.row["feature_hash"] == "any"
    assert outcome.row["theta"] is None
    assert outcome.ledger.rejects == outcome.ledger.notes == {}


def test_a_pixel_box_stays_as_given_to_the_last_bit():
    box = {"bbox_x": 0.1, "bbox_y": 1 / 3, "bbox_w": 10.000000000000002, "bbox_h": 7.1}
    outcome = normalise(BOX | box | {"unit": "1", "class_ref": "1"}, coordinates=PIXELS)
    assert outcome.box == (0.1, 1 / 3, 10.000000000000002, 7.1)
    assert outcome.row["data_hash"] == "a"
    assert outcome.row["feature_hash"] == "any"


def test_a_pixel_box_may_leave_the_data_unit():
    box = BOX | {"unit": "1", "class_ref": "1", "bbox_x": -5.0, "bbox_w": 500.0}
    outcome = normalise(box, coordinates=PIXELS)
    assert outcome.box == (-5.0, 0.2, 500.0, 0.4)
    assert outcome.ledger.notes == {"outside": 1}
    assert outcome.ledger.examples == {"outside": [0]}


def test_a_pixel_box_that_ends_on_the_edge_is_inside():
    box = {"bbox_x": 0.0, "bbox_y": 0.0, "bbox_w": 100.0, "bbox_h": 50.0}
    row = BOX | box | {"unit": "1", "class_ref": "1"}
    assert normalise(row, coordinates=PIXELS).ledger.notes == {}


def test_frames_of_a_video_are_data_units_of_their_own():
    rows = [BOX | {"unit": "v", "frame": frame} for frame in (3, 0, None, 1, -1, 2**62)]
    outcome = normalise(*rows)
    assert [row["frame"] for row in outcome.rows] == [3, 0, 0]
    assert outcome.ledger.rejects == {"unknown_data_unit": 3}
    assert outcome.ledger.examples["unknown_data_unit"] == [3, 4, 5]


def test_the_frame_of_an_image_is_0():
    assert refused(BOX | {"frame": 3}) == ["unknown_data_unit"]


def test_coordinates_say_which_columns_name_units_and_classes():
    mixed = Coordinates(relative=False, unit_key="data_hash", class_key="source_id")
    outcome = normalise(BOX | {"class_ref": "4"}, coordinates=mixed)
    assert outcome.row["feature_hash"] == "polygon"
    assert outcome.box == (0.1, 0.2, 0.3, 0.4)


# -- units and classes --------------------------------------------------------------------------


def test_names_that_are_missing_or_unknown():
    assert refused(BOX | {"unit": None}) == ["missing_data_unit"]
    assert refused(BOX | {"unit": "A"}) == ["unknown_data_unit"]
    assert refused(BOX | {"unit": ""}) == ["unknown_data_unit"]
    assert refused(BOX | {"class_ref": None}) == ["missing_class"]
    assert refused(BOX | {"class_ref": "Any"}) == ["unknown_class"]
    assert refused(BOX | {"format": None}) == ["bad_format"]
    assert refused(BOX | {"format": "bounding-box"}) == ["bad_format"]


def test_an_object_cannot_name_a_classification_nor_the_other_way_round():
    assert refused(BOX | {"class_ref": "scene"}) == ["unknown_class"]
    assert refused(CLASSIFICATION | {"class_ref": "any"}) == ["unknown_class"]


def test_a_class_without_the_key_of_the_source_is_not_found_by_another():
    numbered = class_table(object_classes(("x", "any", None), ("y", "any", "2"), ("z", "any", "3")))
    rows = [BOX | {"unit": "1", "class_ref": ref} for ref in ("3", "2", "1", None)]
    outcome = normalise(*rows, coordinates=PIXELS, classes=numbered)
    assert [row["feature_hash"] for row in outcome.rows] == ["z", "y"]
    assert outcome.ledger.rejects == {"missing_class": 1, "unknown_class": 1}


def test_no_class_at_all_has_the_key_of_the_source():
    none = class_table(object_classes(("x", "any", None)))
    row = BOX | {"unit": "1", "class_ref": "1"}
    assert refused(row, coordinates=PIXELS, classes=none) == ["unknown_class"]


def test_no_data_unit_at_all_has_the_key_of_the_source():
    index = UNITS.schema.get_field_index("source_id")
    nulls = UNITS.set_column(index, UNITS.field(index), pa.nulls(len(UNITS), pa.string()))
    row = BOX | {"unit": "1", "class_ref": "1"}
    assert refused(row, coordinates=PIXELS, units=nulls) == ["unknown_data_unit"]


def test_an_empty_project_refuses_everything():
    nothing = {"units": UNITS.slice(0, 0), "classes": CLASSES.slice(0, 0)}
    rules = ["unknown_data_unit", "unknown_class"]
    for row in (BOX, POLYGON, MASK, CLASSIFICATION):
        assert refused(row, **nothing) == rules


def test_a_classification_joins_by_three_hashes():
    rows = [
        CLASSIFICATION,
        CLASSIFICATION | {"option_hash": "rain"},
        CLASSIFICATION | {"option_hash": "snow"},
        CLASSIFICATION | {"option_hash": None},
        CLASSIFICATION | {"attribute_hash": "sun", "option_hash": "weather"},
        CLASSIFICATION | {"attribute_hash": None},
        CLASSIFICATION | {"class_ref": "scene\nweather", "attribute_hash": "sun"},
        CLASSIFICATION | {"class_ref": None},
    ]
    outcome = normalise(*rows)
    keys = ("feature_hash", "attribute_hash", "option_hash")
    assert [tuple(row[k] for k in keys) for row in outcome.rows] == [
        ("scene", "weather", "sun"),
        ("scene", "weather", "rain"),
    ]
    assert outcome.ledger.rejects == {"missing_class": 1, "unknown_class": 5}
    for row in outcome.rows:
        absent = (*BOX_COLUMNS, "theta", "area", "mask", "polygon")
        assert [row[name] for name in absent] == [None] * len(absent)


def test_objects_and_classifications_mix_in_one_batch():
    outcome = normalise(CLASSIFICATION, BOX, CLASSIFICATION | {"option_hash": "rain"}, POLYGON)
    assert [row["feature_hash"] for row in outcome.rows] == ["scene", "any", "scene", "any"]
    assert [row["option_hash"] for row in outcome.rows] == ["sun", None, "rain", None]


# -- confidence ---------------------------------------------------------------------------------


def test_predictions_need_a_finite_confidence():
    assert refused(BOX | {"confidence": None}) == ["missing_confidence"]
    for value in (math.nan, math.inf, -math.inf):
        assert refused(BOX | {"confidence": value}) == ["not_finite"]
    kept = normalise(*(BOX | {"confidence": value} for value in (-3.5, 0.0, 1e300)))
    assert [row["confidence"] for row in kept.rows] == [-3.5, 0.0, 1e300]


def test_labels_need_no_confidence():
    outcome = normalise(BOX | {"confidence": None, "source_id": "id"}, kind="labels")
    assert outcome.row["label_id"] == 0
    assert outcome.row["source_id"] == "id"
    assert outcome.row["is_crowd"] is outcome.row["is_ignored"] is False
    assert "confidence" not in outcome.row


def test_flags_of_labels_are_kept():
    outcome = normalise(BOX | {"is_crowd": True, "is_ignored": True}, kind="labels")
    assert outcome.row["is_crowd"] is outcome.row["is_ignored"] is True


# -- boxes --------------------------------------------------------------------------------------

BEYOND = math.nextafter(TOLERANCE, 1)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"bbox_x": -TOLERANCE, "bbox_w": 0.5}, (0.0, 0.5 - TOLERANCE)),
        ({"bbox_x": -TOLERANCE / 2, "bbox_w": 0.5}, (0.0, 0.5 - TOLERANCE / 2)),
        ({"bbox_x": 0.0, "bbox_w": 1 + TOLERANCE}, (0.0, 1.0)),
        ({"bbox_x": 0.25, "bbox_w": 0.75 + TOLERANCE / 2}, (0.25, 0.75)),
        ({"bbox_x": -TOLERANCE, "bbox_w": 1 + 1.5 * TOLERANCE}, (0.0, 1.0)),
        ({"bbox_x": 1 + TOLERANCE, "bbox_w": 0.0}, (1.0, 0.0)),
        ({"bbox_x": -TOLERANCE, "bbox_w": 0.0}, (0.0, 0.0)),
    ],
)
def test_float_noise_is_clipped_and_counted(given, stored):
    outcome = normalise(BOX | given)
    assert outcome.ledger.notes == {"clipped": 1}
    x, y, w, h = outcome.box
    assert (x, w) == pytest.approx((stored[0] * 100, stored[1] * 100), rel=1e-15)
    assert (y, h) == (0.2 * 50, 0.4 * 50)
    assert x + w <= 100


@pytest.mark.parametrize("axis", ["xw", "yh"])
def test_more_than_float_noise_is_refused(axis):
    start, extent = (f"bbox_{c}" for c in axis)
    for values in (
        {start: -BEYOND},
        {start: 0.0, extent: math.nextafter(1 + TOLERANCE, 2)},
        {start: math.nextafter(1 + TOLERANCE, 2), extent: 0.0},
        {start: 0.5, extent: 0.6},
        {start: 20.0, extent: 30.0},
    ):
        assert refused(BOX | values) == ["box_out_of_range"]


def test_a_box_inside_by_a_hair_is_not_touched():
    box = {"bbox_x": 0.7, "bbox_w": 0.3, "bbox_y": 0.0, "bbox_h": 1.0}
    outcome = normalise(BOX | box)
    assert outcome.box == (0.7 * 100, 0.0, 0.3 * 100, 50.0)
    assert outcome.ledger.notes == {}


def test_only_the_clipped_rows_change():
    outcome = normalise(BOX, BOX | {"bbox_x": -TOLERANCE}, BOX)
    assert [row["bbox_x"] for row in outcome.rows] == [0.1 * 100, 0.0, 0.1 * 100]
    assert outcome.ledger.examples["clipped"] == [1]


def test_labels_that_leave_the_data_unit_are_kept_as_given():
    outcome = normalise(BOX | {"bbox_x": -0.5, "bbox_w": 2.0}, kind="labels")
    assert outcome.box == (-0.5 * 100, 0.2 * 50, 2.0 * 100, 0.4 * 50)
    assert outcome.ledger.notes == {"outside": 1}


@pytest.mark.parametrize("name", BOX_COLUMNS)
def test_an_incomplete_box_is_no_box(name):
    assert refused(BOX | {name: None}) == ["invalid_box"]


@pytest.mark.parametrize("name", BOX_COLUMNS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_box_has_finite_numbers(name, value):
    assert refused(BOX | {name: value}) == ["not_finite"]
    pixels = BOX | {"unit": "1", "class_ref": "1", name: value}
    assert refused(pixels, coordinates=PIXELS) == ["not_finite"]


def test_a_box_of_nothing_but_nan_is_given():
    assert refused(BOX | dict.fromkeys(BOX_COLUMNS, math.nan)) == ["not_finite"]
    assert refused(BOX | dict.fromkeys(BOX_COLUMNS)) == ["invalid_box"]


def test_a_box_may_be_empty_but_not_negative():
    empty = normalise(BOX | {"bbox_w": 0.0, "bbox_h": 0.0})
    assert empty.row["area"] == 0.0
    assert refused(BOX | {"bbox_w": -0.1}) == ["invalid_box"]
    assert refused(BOX | {"bbox_h": -1e-300}) == ["invalid_box"]


def test_a_box_beside_a_mask_or_polygon_must_be_whole_too():
    assert refused(POLYGON | {"bbox_x": 0.1}) == ["invalid_box"]
    assert refused(MASK | {"bbox_x": math.inf, "bbox_y": 0.0, "bbox_w": 0.0, "bbox_h": 0.0}) == [
        "not_finite"
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"bbox_w": 1e200, "bbox_h": 1e200},
        {"bbox_x": 1e308, "bbox_w": 1e308, "bbox_h": 1e10},
        {"format": "polygon", "polygon": [[0.0, 0.0, 1e200, 0.0, 1e200, 1e200]]}
        | dict.fromkeys(BOX_COLUMNS),
    ],
)
def test_numbers_whose_area_is_no_number_are_refused(given):
    row = BOX | {"unit": "1", "class_ref": "1"} | given
    assert refused(row, coordinates=PIXELS) == ["not_finite"]
    assert refused(BOX | given, kind="labels") == ["not_finite"]


def test_theta():
    rows = [BOX | {"theta": value} for value in (None, 0.0, -0.0, 30.0, 360.0)]
    outcome = normalise(*rows)
    assert [row["theta"] for row in outcome.rows] == [None, None, None, 30.0, 360.0]
    formats = [row["format"] for row in outcome.rows]
    assert formats == ["bounding_box"] * 3 + ["rotatable_bounding_box"] * 2
    assert outcome.rows[3]["bbox_x"] == 0.1 * 100
    assert refused(BOX | {"theta": math.nan}) == ["not_finite"]
    assert refused(BOX | {"theta": math.inf}) == ["not_finite"]


def test_a_rotatable_box_that_is_not_turned_keeps_its_format():
    outcome = normalise(BOX | {"format": "rotatable_bounding_box", "theta": 0.0})
    assert (outcome.row["format"], outcome.row["theta"]) == ("rotatable_bounding_box", None)


# -- areas --------------------------------------------------------------------------------------


def test_the_area_of_the_source_wins():
    assert normalise(BOX | {"area": 7.5}).row["area"] == 7.5
    assert normalise(MASK | {"area": 7.5}).row["area"] == 7.5
    assert normalise(POLYGON | {"area": 0.0}).row["area"] == 0.0
    for value in (math.nan, math.inf):
        assert refused(BOX | {"area": value}) == ["not_finite"]


def test_the_area_is_of_the_finest_geometry():
    box = dict.fromkeys(BOX_COLUMNS, 0.5)
    assert normalise(POLYGON | box).row["area"] == pytest.approx(40 * 20 / 2)
    assert normalise(POLYGON | box).box == (50.0, 25.0, 50.0, 25.0)
    both = normalise(MASK | {"polygon": POLYGON["polygon"]} | box)
    assert both.row["area"] == 4.0
    assert both.box == (2.0, 1.5, 2.0, 1.5)


# -- polygons -----------------------------------------------------------------------------------


def test_a_polygon_gets_its_box_and_area():
    outcome = normalise(POLYGON | {"polygon": [[0.25, 0.5, 0.75, 0.5, 0.75, 1.0]]})
    assert outcome.row["polygon"] == [[25.0, 25.0, 75.0, 25.0, 75.0, 50.0]]
    assert outcome.box == (25.0, 25.0, 50.0, 25.0)
    assert outcome.row["area"] == 50 * 25 / 2


def test_the_rings_of_a_polygon_are_one_object():
    rings = [[0.0, 0.0, 0.5, 0.0, 0.5, 0.5], [0.75, 0.5, 1.0, 0.5, 1.0, 1.0, 0.75, 1.0]]
    outcome = normalise(POLYGON | {"polygon": rings}, POLYGON)
    row = outcome.rows[0]
    assert row["polygon"] == [
        [0.0, 0.0, 50.0, 0.0, 50.0, 25.0],
        [75.0, 25.0, 100.0, 25.0, 100.0, 50.0, 75.0, 50.0],
    ]
    assert [row[name] for name in BOX_COLUMNS] == [0.0, 0.0, 100.0, 50.0]
    assert row["area"] == 50 * 25 / 2 + 25 * 25


def test_the_order_of_a_rings_points_does_not_change_its_area():
    x_y = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.8], [0.1, 0.8]])
    areas = [
        normalise(POLYGON | {"polygon": [points.ravel().tolist()]}).row["area"]
        for points in (x_y, x_y[::-1], np.roll(x_y, 1, axis=0))
    ]
    assert areas == pytest.approx([80 * 35] * 3)


@pytest.mark.parametrize("rings", [None, [], [[]], [[], []], [[0.1, 0.1]], [[0.1, 0.1, 0.2, 0.2]]])
def test_a_polygon_has_at_least_three_points(rings):
    assert refused(POLYGON | {"polygon": rings}) == ["invalid_polygon"]


@pytest.mark.parametrize("rings", [[[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]], [[0.1], [0.1] * 6]])
def test_half_a_point_spoils_only_its_own_row(rings):
    alone = normalise(POLYGON).row
    outcome = normalise(POLYGON, POLYGON | {"polygon": rings}, POLYGON | {"unit": "v"})
    assert outcome.ledger.rejects == {"invalid_polygon": 1}
    assert outcome.rows[0] == alone
    assert outcome.rows[1]["polygon"] == [[64.0, 96.0, 320.0, 96.0, 320.0, 288.0]]
    assert outcome.ledger.notes == {}


def test_half_a_point_beside_a_mask_is_refused_too():
    assert refused(MASK | {"polygon": [[0.1, 0.2, 0.3]]}) == ["invalid_polygon"]


def test_a_polygon_has_finite_numbers():
    for value in (math.nan, math.inf):
        rings = [[0.1, 0.2, 0.5, value, 0.5, 0.6]]
        rules = refused(POLYGON | {"polygon": rings})
        assert rules[0] == "not_finite"
        row = POLYGON | {"polygon": rings, "unit": "1", "class_ref": "1"}
        assert refused(row, coordinates=PIXELS) == ["not_finite"]


def test_a_polygon_by_float_noise_outside_is_clipped_and_counted():
    rings = [[-TOLERANCE, 0.0, 1 + TOLERANCE, 0.0, 0.5, 1.0]]
    outcome = normalise(POLYGON | {"polygon": rings})
    assert outcome.row["polygon"] == [[0.0, 0.0, 100.0, 0.0, 50.0, 50.0]]
    assert outcome.box == (0.0, 0.0, 100.0, 50.0)
    assert outcome.ledger.notes == {"clipped": 1}


def test_a_polygon_further_outside_is_refused():
    for value in (-BEYOND, math.nextafter(1 + TOLERANCE, 2), 17.0):
        rings = [[0.1, 0.1, 0.2, 0.1, 0.2, value]]
        assert refused(POLYGON | {"polygon": rings}) == ["polygon_out_of_range"]


def test_polygons_in_pixels_and_of_labels_may_leave_the_data_unit():
    rings = [[-10.0, 0.0, 200.0, 0.0, 50.0, 50.0]]
    row = POLYGON | {"polygon": rings, "unit": "1", "class_ref": "1"}
    outcome = normalise(row, coordinates=PIXELS)
    assert outcome.row["polygon"] == rings
    assert outcome.ledger.notes == {"outside": 1}
    edge = POLYGON | {"polygon": [[0.0, 0.0, 100.0, 0.0, 50.0, 50.0]]}
    inside = normalise(edge | {"unit": "1", "class_ref": "1"}, coordinates=PIXELS)
    assert inside.ledger.notes == {}
    label = normalise(POLYGON | {"polygon": [[-0.5, 0.0, 2.0, 0.0, 0.5, 1.0]]}, kind="labels")
    assert label.row["polygon"] == [[-50.0, 0.0, 200.0, 0.0, 50.0, 50.0]]
    assert label.ledger.notes == {"outside": 1}


# -- masks --------------------------------------------------------------------------------------


def test_a_mask_gets_its_box_and_area():
    outcome = normalise(MASK)
    assert outcome.box == (1.0, 1.0, 2.0, 2.0)
    assert outcome.row["area"] == 4.0
    mask = outcome.row["mask"]
    numbers = [mask[k] for k in ("height", "width", "area", "x", "y", "w", "h")]
    assert numbers == [3, 4, 4, 1, 1, 2, 2]


def test_a_mask_without_a_pixel_has_an_empty_box():
    outcome = normalise(MASK | {"mask": Rle(3, 4, np.array([12]))})
    assert outcome.box == (0.0, 0.0, 0.0, 0.0)
    assert outcome.row["area"] == 0.0


def test_a_mask_is_as_large_as_its_data_unit():
    turned = MASK | {"mask": Rle(4, 3, np.array([12]))}
    assert refused(turned) == ["mask_size"]
    assert refused(MASK | {"unit": "a"}) == ["mask_size"]
    assert refused(MASK | {"unit": "nobody"}) == ["unknown_data_unit"]
    assert refused(MASK | {"mask": None}) == ["invalid_mask"]


def test_runs_that_do_not_cover_the_mask_are_refused():
    assert refused(MASK | {"mask": Rle(3, 4, np.array([4, 2]))}) == ["invalid_mask"]


# -- shapes and duplicates ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "fitting"),
    [
        (BOX, {"box", "rotated"}),
        (BOX | {"theta": 5.0}, {"rotated"}),
        (POLYGON, {"polygon"}),
        (MASK, {"bitmask"}),
    ],
)
def test_a_format_that_is_not_the_shape_of_the_class_is_noted(row, fitting):
    shapes = ("any", "box", "rotated", "polygon", "bitmask", "polyline")
    outcome = normalise(*(row | {"class_ref": name} for name in shapes))
    assert len(outcome.rows) == 6
    differ = [i for i, name in enumerate(shapes) if name not in fitting | {"any"}]
    assert outcome.ledger.notes == {"shape_differs": len(differ)}
    assert outcome.ledger.examples["shape_differs"] == differ[:3]


KINDS = {"box": BOX, "polygon": POLYGON, "mask": MASK, "classification": CLASSIFICATION}
NEAR = {
    "confidence": (BOX, {"confidence": math.nextafter(0.5, 1)}),
    "last bit": (BOX, {"bbox_x": math.nextafter(0.1, 1)}),
    "theta": (BOX, {"theta": 1.0}),
    "track": (BOX, {"track_id": "t"}),
    "class": (BOX, {"class_ref": "box"}),
    "data unit": (BOX, {"unit": "v"}),
    "frame": (BOX | {"unit": "v"}, {"frame": 3}),
    "option": (CLASSIFICATION, {"option_hash": "rain"}),
    "pixels": (MASK, {"mask": Rle(3, 4, np.array([3, 2, 2, 2, 3]))}),
    "points": (POLYGON, {"polygon": [[0.5, 0.2, 0.5, 0.6, 0.1, 0.2]]}),
    "rings": (
        POLYGON | {"polygon": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2], [0.5, 0.5, 0.6, 0.5, 0.6, 0.6]]},
        {"polygon": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2, 0.5, 0.5, 0.6, 0.5, 0.6, 0.6]]},
    ),
}


def duplicates(*batches, kind="predictions"):
    """How many duplicates are counted over some batches of rows, and where."""
    normaliser = Normaliser(UNITS, CLASSES, RELATIVE, kind)
    first = 0
    for rows in batches:
        normaliser(raw_batch(rows, first))
        first += len(rows)
    ledger = normaliser.finish()
    return ledger.notes.get("duplicate", 0), ledger.examples.get("duplicate", [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_duplicates_are_found_whatever_else_is_in_their_batches(kind, other):
    row, company = KINDS[kind], KINDS[other] | {"confidence": 0.75, "track_id": "x"}
    assert duplicates([row], [company, row]) == (1, [2])
    assert duplicates([company, row], [row]) == (1, [2])
    assert duplicates([row, row, row]) == (2, [1, 2])
    assert duplicates([row], [row], [row], [row], [row]) == (4, [1, 2, 3])


@pytest.mark.parametrize(("row", "change"), NEAR.values(), ids=NEAR)
def test_what_differs_in_anything_is_no_duplicate(row, change):
    assert duplicates([row, row | change]) == (0, [])
    company = MASK | {"confidence": 0.75, "track_id": "x"}
    assert duplicates([row], [row | change, company]) == (0, [])


def test_labels_that_differ_in_a_flag_are_no_duplicates():
    assert duplicates([BOX, BOX | {"is_crowd": True}], kind="labels") == (0, [])
    assert duplicates([BOX, BOX | {"is_crowd": False}], kind="labels") == (1, [1])


def test_no_rotation_equals_a_rotation_of_0():
    assert duplicates([BOX, BOX | {"theta": 0.0}]) == (1, [1])


def test_refused_rows_are_no_duplicates():
    bad = BOX | {"confidence": math.nan}
    assert duplicates([bad, bad, bad]) == (0, [])


# -- several rules, rules of readers ------------------------------------------------------------


def test_a_row_that_breaks_several_rules_is_counted_once_under_the_first():
    worst = {"unit": None, "class_ref": "nothing", "confidence": math.nan, "bbox_w": -1.0}
    outcome = normalise(BOX | worst, BOX | {"class_ref": "nothing"})
    assert outcome.ledger.rejects == {"missing_data_unit": 1, "unknown_class": 1}
    assert {rule: flags.tolist() for rule, flags in outcome.broken.items()} == {
        "missing_data_unit": [True, False],
        "unknown_class": [True, True],
        "not_finite": [True, False],
        "invalid_box": [True, False],
    }
    assert list(outcome.broken) == [rule for rule in REJECTS if rule in outcome.broken]


@pytest.mark.parametrize("rule", REJECTS)
def test_what_a_reader_found_is_all_that_is_said_of_a_row(rule):
    read = {"rule": rule, "message": "so it was"}
    outcome = normalise(read, BOX, BOX | read | {"unit": None, "confidence": math.nan})
    assert outcome.ledger.rejects == {rule: 2}
    assert outcome.ledger.examples == {rule: [0, 2]}
    assert list(outcome.broken) == [rule]
    assert [row["source_row"] for row in outcome.rows] == [1]


def test_a_reader_must_not_invent_rules():
    with pytest.raises(SchemaError, match=r"does not list.*hungry"):
        normalise({"rule": "hungry"})


def test_notes_are_of_kept_rows_only():
    noted = BOX | {"class_ref": "polygon", "bbox_x": -TOLERANCE}
    assert normalise(noted).ledger.notes == {"clipped": 1, "shape_differs": 1}
    assert normalise(noted | {"confidence": None}).ledger.notes == {}
    assert set(normalise(noted).ledger.notes) <= set(NOTES)


def test_ids_go_on_from_the_first_and_skip_the_refused():
    normaliser = Normaliser(UNITS, CLASSES, RELATIVE, "predictions", 100)
    bad = BOX | {"confidence": None}
    first = normaliser(raw_batch([bad, BOX, bad, POLYGON]))
    second = normaliser(raw_batch([bad, MASK], 4))
    ids = [*first.rows["prediction_id"].to_pylist(), *second.rows["prediction_id"].to_pylist()]
    assert ids == [100, 101, 102]
    assert second.rows["source_row"].to_pylist() == [5]
    assert normaliser.next_id == 103


def test_what_goes_through_unchanged():
    extra = {"track_id": "t", "probabilities": [0.25, 0.5]}
    outcome = normalise(BOX | extra, BOX)
    assert outcome.rows[0]["track_id"] == "t"
    assert outcome.rows[0]["probabilities"] == [0.25, 0.5]
    assert outcome.rows[1]["track_id"] is outcome.rows[1]["probabilities"] is None


# -- batches as Arrow makes them ----------------------------------------------------------------

MIXED = [
    POLYGON,
    BOX | {"track_id": "t"},
    MASK,
    CLASSIFICATION,
    POLYGON | {"unit": "v", "frame": 3, "polygon": [[0.0] * 6, [0.5, 0.5, 0.6, 0.5, 0.6, 0.6]]},
    MASK | {"mask": Rle(3, 4, np.array([0, 12]))},
    BOX,
    POLYGON | {"polygon": [[0.5, 0.5, 0.6]]},
    MASK,
    POLYGON,
    BOX | {"track_id": "t"},
]


@pytest.mark.parametrize("start", range(len(MIXED)))
def test_a_slice_is_read_like_a_batch_of_its_own(start):
    for stop in range(start, len(MIXED) + 1):
        part = raw_batch(MIXED).slice(start, stop - start)
        whole = raw_batch(MIXED[start:stop], start)
        sliced, own = normalise(part), normalise(whole)
        assert sliced.rows == own.rows
        assert sliced.ledger == own.ledger
        assert sliced.rejected.to_pylist() == own.rejected.to_pylist()


def test_a_filtered_batch_is_read_like_a_batch_of_its_own():
    keep = [i % 3 != 0 for i in range(len(MIXED))]
    filtered = normalise(raw_batch(MIXED).filter(pa.array(keep)))
    kept = [row | {"source_row": i} for i, row in enumerate(MIXED) if keep[i]]
    own = normalise(raw_batch(kept))
    assert (filtered.rows, filtered.ledger) == (own.rows, own.ledger)


def test_values_under_a_null_list_are_not_read():
    batch = raw_batch([POLYGON, BOX, POLYGON])
    column = batch.column("polygon")
    rings = raw_batch([POLYGON] * 3).column("polygon")
    hidden = pa.ListArray.from_arrays(
        rings.offsets, rings.values, type=rings.type, mask=pa.array([False, True, False])
    )
    assert hidden.equals(column)
    index = batch.schema.get_field_index("polygon")
    outcome = normalise(batch.set_column(index, RAW.arrow.field("polygon"), hidden))
    assert outcome.rows == normalise(batch).rows


def test_an_empty_batch():
    outcome = normalise(raw_batch([]))
    assert outcome.rows == []
    assert outcome.ledger.to_dict()["read"] == 0
    assert normalise(raw_batch([]), kind="labels", coordinates=PIXELS).rows == []


def test_finish_without_a_batch():
    assert Normaliser(UNITS, CLASSES, RELATIVE, "labels").finish().read == 0


# -- properties ---------------------------------------------------------------------------------

fractions = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0.0, 1.0, -TOLERANCE, 1 + TOLERANCE, -TOLERANCE / 3, -0.1, 1.5]),
    st.sampled_from([math.nan, math.inf, None]),
)
boxes = st.fixed_dictionaries(dict.fromkeys(BOX_COLUMNS, fractions))
some_box = boxes.map(lambda values: BOX | values)
good_box = st.tuples(*[st.floats(0, 0.5)] * 4).map(
    lambda v: BOX | dict(zip(BOX_COLUMNS, v, strict=True))
)
some_polygon = st.lists(st.lists(fractions.filter(lambda v: v is not None), max_size=9), max_size=3)
changes = st.fixed_dictionaries(
    {},
    optional={
        "unit": st.sampled_from(["a", "v", "tiny", "none", None]),
        "frame": st.sampled_from([0, 3, 1, None]),
        "class_ref": st.sampled_from(["any", "box", "none", None]),
        "confidence": st.sampled_from([0.5, 0.25, math.nan, None]),
        "track_id": st.sampled_from(["t", None]),
        "theta": st.sampled_from([0.0, 10.0, None, math.nan]),
    },
)
rows = st.one_of(
    good_box,
    some_box,
    st.just(MASK),
    st.just(CLASSIFICATION),
    st.just(POLYGON),
    some_polygon.map(lambda rings: POLYGON | {"polygon": rings}),
    st.just({"rule": "invalid_data", "message": "no"}),
)
streams = st.lists(st.tuples(rows, changes).map(lambda pair: pair[0] | pair[1]), max_size=12)
SIZES = {("a", 0): (100, 50), ("v", 0): (640, 480), ("v", 3): (640, 480)}


def in_batches(stream, cuts, kind="predictions"):
    """The kept rows and the ledger of a stream that comes in batches."""
    normaliser = Normaliser(UNITS, CLASSES, RELATIVE, kind)
    kept, whole = [], raw_batch(stream)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in pairwise(bounds):
        kept += normaliser(whole.slice(start, stop - start)).rows.to_pylist()
    return kept, normaliser.finish()


@given(streams, st.lists(st.integers(0, 12), max_size=4))
def test_however_a_stream_is_cut_the_rows_and_the_ledger_are_the_same(stream, cuts):
    for kind in ("predictions", "labels"):
        kept, ledger = in_batches(stream, cuts, kind)
        again, account = in_batches(stream, [], kind)
        assert kept == again
        assert ledger.read == len(stream) == ledger.kept + ledger.rejected
        assert [row[f"{kind[:-1]}_id"] for row in kept] == list(range(len(kept)))
        assert ledger == account


@given(st.lists(some_box, max_size=8))
def test_boxes_equal_a_plain_python_reference(stream):
    outcome = normalise(raw_batch(stream))
    kept = {row["source_row"]: row for row in outcome.rows}
    for number, given_row in enumerate(stream):
        values = [given_row[name] for name in BOX_COLUMNS]
        good = all(v is not None and math.isfinite(v) for v in values) and min(values[2:]) >= 0
        low, high = -TOLERANCE, 1 + TOLERANCE
        good = good and all(
            low <= values[i] <= high and values[i] + values[i + 2] <= high for i in (0, 1)
        )
        assert (number in kept) == good
        if not good:
            continue
        stored = [kept[number][name] for name in BOX_COLUMNS]
        noise = any(values[i] < 0 or values[i] + values[i + 2] > 1 for i in (0, 1))
        width, height = SIZES["a", 0]
        exact = [v * side for v, side in zip(values, (width, height) * 2, strict=True)]
        if noise:
            assert stored == pytest.approx(exact, abs=2.1 * TOLERANCE * width)
            assert 0 <= stored[0] <= width
            assert stored[0] + stored[2] <= width * (1 + 1e-15)
        else:
            assert stored == exact
        assert kept[number]["area"] == stored[2] * stored[3]


@given(some_polygon.map(lambda rings: POLYGON | {"polygon": rings}))
def test_polygons_equal_a_plain_python_reference(given_row):
    rings = given_row["polygon"]
    flat = [v for ring in rings for v in ring]
    good = (
        all(len(ring) % 2 == 0 for ring in rings)
        and len(flat) >= 6
        and all(-TOLERANCE <= v <= 1 + TOLERANCE for v in flat)
    )
    outcome = normalise(raw_batch([BOX, given_row, POLYGON]))
    assert len(outcome.rows) == 2 + good
    assert outcome.rows[-1] == normalise(POLYGON).row | {
        "prediction_id": 1 + good,
        "source_row": 2,
    }
    if not good:
        return
    row = outcome.rows[1]
    clipped = [[min(max(v, 0.0), 1.0) for v in ring] for ring in rings]
    pixels = [[v * (50 if i % 2 else 100) for i, v in enumerate(ring)] for ring in clipped]
    assert row["polygon"] == pixels
    x = [v for ring in pixels for v in ring[0::2]]
    y = [v for ring in pixels for v in ring[1::2]]
    box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    assert [row[name] for name in BOX_COLUMNS] == box
    area = 0.0
    for ring in pixels:
        points = list(zip(ring[0::2], ring[1::2], strict=True))
        following = points[1:] + points[:1]
        area += abs(sum(a * d - c * b for (a, b), (c, d) in zip(points, following, strict=True)))
    assert row["area"] == pytest.approx(area / 2, abs=1e-9)


REACHING = Coordinates(relative=True, unit_key="data_hash", class_key="feature_hash", reach=1)


def test_where_a_format_has_boxes_beyond_the_image_they_are_kept_as_given():
    def boxed(x, w):
        row = {"unit": "a", "class_ref": "any", "format": "bounding_box", "confidence": 0.5}
        return row | {"bbox_x": x, "bbox_y": 0.0, "bbox_w": w, "bbox_h": 0.5}

    rows = [boxed(-0.25, 0.5), boxed(0.75, 0.5), boxed(-1e-7, 0.5), boxed(-1.5, 0.5), boxed(64, 32)]
    normaliser = Normaliser(UNITS, CLASSES, REACHING, "predictions")
    kept = normaliser(raw_batch(rows)).rows
    assert kept["bbox_x"].to_pylist() == [-25.0, 75.0, 0.0]
    assert kept["bbox_w"].to_pylist() == [50.0, 50.0, pytest.approx(50.0)]
    ledger = normaliser.finish()
    assert ledger.rejects == {"box_out_of_range": 2}
    assert ledger.notes == {"outside": 2, "clipped": 1}


def test_probabilities_that_are_no_distribution_are_noted_and_kept():
    given = [[0.5, 0.5], [0.7, 0.7], [1.5, -0.5], [math.nan, 1], None, [], [0.2, 0.8004]]
    rows = [BOX | {"probabilities": p} for p in given]
    normaliser = Normaliser(UNITS, CLASSES, PIXELS, "predictions")
    normaliser(raw_batch([row | {"unit": "1", "class_ref": "1"} for row in rows]))
    ledger = normaliser.finish()
    assert ledger.notes["no_distribution"] == 4
    assert ledger.examples["no_distribution"] == [1, 2, 3]
    assert ledger.kept == 7
