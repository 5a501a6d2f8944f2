"""Label Studio: percent, rotation about a corner, brushes in its own code, versions and names."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.rle import decode_rle_string
from ea_arrow.sources.label_studio import PREDICTIONS
from ea_arrow.sources.label_studio_labels import LABELS
from ea_arrow.sources.label_studio_values import Scale, brush_mask, rectangle
from tests.formats.json_reading import (
    claimed,
    filled,
    opened,
    read,
    rows_of,
    sniffs,
    survives,
    written,
)

SIZE = {"original_width": 200, "original_height": 100}
VALUE = {"x": 10, "y": 20, "width": 30.5, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
BOX = {"id": "r1", "type": "rectanglelabels", "value": VALUE, "score": 0.75} | SIZE
BOX_ROW = {
    "source_id": "r1",
    "class_ref": "cat",
    "confidence": 0.75,
    "format": "bounding_box",
    "bbox_x": 20.0,
    "bbox_y": 20.0,
    "bbox_w": 61.0,
    "bbox_h": 40.0,
}


def task(*results, image="photos/1.jpg", number=1, **prediction):
    predictions = [{"model_version": "v1", "result": list(results)} | prediction]
    return {"id": number, "data": {"image": image}, "predictions": predictions}


def annotated(*annotations, number=1, image="photos/1.jpg"):
    listed = [{"id": i, "result": results} for i, results in enumerate(annotations)]
    return {"id": number, "data": {"image": image}, "annotations": listed}


def brush(mask, sizes=(3, 4, 8, 16), *, literal=False, word=8):
    """Encode a mask in Label Studio's code, from its description: one run for each pixel's four
    channels, as values of a run, or repeated.
    """
    height, width = mask.shape
    bits = f"{4 * height * width:032b}{word - 1:05b}" + "".join(f"{s - 1:04b}" for s in sizes)
    choice = len(sizes) - 1
    for value in mask.reshape(-1).tolist():
        if literal:
            bits += f"0{choice:02b}{3:0{sizes[choice]}b}" + f"{value:0{word}b}" * 4
        else:
            bits += f"1{choice:02b}{3:0{sizes[choice]}b}{value:0{word}b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_percent_become_pixels(tmp_path):
    path = written(tmp_path / "a.json", [task(BOX)])
    source = opened(PREDICTIONS, path)
    assert not source.coordinates.relative
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("name", "name")
    assert filled(source.batches()) == [{"source_row": 0, "unit": "1.jpg"} | BOX_ROW]
    assert sniffs(PREDICTIONS, path)
    assert not sniffs(LABELS, path)


@given(st.integers(1, 4096), st.data())
def test_whole_pixels_come_back_within_a_rounding(width, data):
    x = data.draw(st.integers(0, width))
    (back,) = Scale((width, width), relative=False).of([100 * x / width])
    assert abs(back - x) <= 2 * math.ulp(x)


@pytest.mark.parametrize("power", range(13))
def test_whole_pixels_of_sizes_that_are_powers_of_two_come_back_exactly(power):
    width = 2**power
    percent = [100 * x / width for x in range(0, width + 1, max(width // 64, 1))]
    values = [Scale((width, 1), relative=False).of([p])[0] for p in percent]
    assert values == list(range(0, width + 1, max(width // 64, 1)))


def test_the_predictions_score_stands_in(tmp_path):
    bare = {key: value for key, value in BOX.items() if key != "score"}
    path = written(tmp_path / "a.json", [task(BOX, bare, score=0.5), task(bare)])
    assert [row.get("confidence") for row in rows_of(PREDICTIONS, path)] == [0.75, 0.5, None]


def test_a_box_is_turned_about_its_corner():
    # 200 × 100 pixels; a box of 40 × 20 at (100, 50), turned a quarter clockwise about (100, 50):
    # its width now points down, its height to the left. So it covers x 80 … 100 and y 50 … 90,
    # whose centre is (90, 70); unturned about that centre it begins at (70, 60).
    value = {"x": 50, "y": 50, "width": 20, "height": 20, "rotation": 90}
    row = rectangle(value, Scale((200, 100), relative=False))
    assert row == {
        "format": "rotatable_bounding_box",
        "theta": 90.0,
        "bbox_x": 70.0,
        "bbox_y": 60.0,
        "bbox_w": 40.0,
        "bbox_h": 20.0,
    }


@pytest.mark.parametrize("theta", [30.0, 90.0, 123.5, 180.0, 270.0, 359.0, -45.0])
@pytest.mark.parametrize("relative", [False, True])
def test_turned_corners_stay_where_they_are(theta, relative):
    width, height = 200, 100
    value = {"x": 50, "y": 40, "width": 20, "height": 30, "rotation": theta}
    row = rectangle(value, Scale((width, height), relative=relative))
    unit = np.array([width, height]) if relative else 1
    low = np.array([row["bbox_x"], row["bbox_y"]]) * unit
    side = np.array([row["bbox_w"], row["bbox_h"]]) * unit
    angle = np.deg2rad(row["theta"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = [low + side / 2 + turn @ (side * at) for at in ((-0.5, -0.5), (0.5, -0.5))]
    assert corners[0] == pytest.approx([100, 40])  # the corner about which it turns
    along = np.deg2rad(theta)
    assert corners[1] == pytest.approx([100 + 40 * np.cos(along), 40 + 40 * np.sin(along)])
    assert 0 <= row["theta"] < 360


def test_polygons(tmp_path):
    value = {"points": [[0, 0], [50, 0], [50, 100]], "polygonlabels": ["cat"], "closed": True}
    polygon = BOX | {"type": "polygonlabels", "value": value}
    opened_one = polygon | {"value": value | {"closed": False}}
    path = written(tmp_path / "a.json", [task(polygon, opened_one)])
    first, second = rows_of(PREDICTIONS, path)
    assert first["format"] == "polygon"
    assert first["polygon"] == [[0, 0, 100, 0, 100, 100]]
    assert second["rule"] == "unsupported_shape"


MASKS = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.sampled_from([0, 1, 255]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    ).map(lambda values: np.array(values, dtype=np.uint8).reshape(shape))
)


@given(MASKS, st.booleans(), st.sampled_from([(3, 4, 8, 16), (2, 2, 2, 2), (5, 1, 1, 9)]))
def test_brushes_are_decoded(mask, literal, sizes):
    rle = brush_mask(brush(mask, sizes, literal=literal), mask.shape[::-1])
    runs = np.asarray(rle.counts)
    pixels = np.repeat(np.arange(runs.size) % 2, runs).reshape(mask.shape[1], mask.shape[0]).T
    assert pixels.tolist() == (mask != 0).astype(int).tolist()


def test_a_brush_written_out_by_hand():
    # 2 × 1 pixels, so 8 values of 8 bits; run lengths of 3, 4, 8 or 16 bits. Five values of 0, the
    # last of which is the second pixel's red, then two of 9, then alpha: a single 255.
    bits = f"{8:032b}" + f"{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}"
    bits += "1" + "00" + f"{4:03b}" + f"{0:08b}"
    bits += "1" + "01" + f"{1:04b}" + f"{9:08b}"
    bits += "0" + "00" + f"{0:03b}" + f"{255:08b}"
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert np.asarray(brush_mask(code, (2, 1)).counts).tolist() == [1, 1]


def test_brushes_in_a_file(tmp_path):
    mask = np.array([[0, 0, 1], [0, 1, 1]], dtype=np.uint8)
    value = {"format": "rle", "rle": brush(mask), "brushlabels": ["cat"]}
    good = {"id": "b", "type": "brushlabels", "value": value, "score": 1}
    good |= {"original_width": 3, "original_height": 2}
    short = good | {"value": value | {"rle": value["rle"][:-3]}}
    other = good | {"original_width": 4}
    words = good | {"value": value | {"rle": ["a"]}}
    large = good | {"value": value | {"rle": [300]}}
    path = written(tmp_path / "a.json", [task(good, short, other, words, large)])
    rows = rows_of(PREDICTIONS, path)
    assert [row.get("rule") for row in rows] == [None, *["invalid_mask"] * 4]
    assert rows[0]["format"] == "mask"
    assert decode_rle_string(rows[0]["mask"]["counts"]).tolist() == [3, 3]
    assert rows[0]["mask"]["width"] == 3


def test_choices_are_classifications(tmp_path):
    choice = {"id": "c", "type": "choices", "value": {"choices": ["day"]}}
    several = choice | {"value": {"choices": ["day", "sunny"]}}
    of_region = choice | {"value": VALUE | {"choices": ["red"]}}
    number = {"id": "n", "type": "number", "value": {"number": 3}}
    path = written(tmp_path / "a.json", [task(BOX, choice, several, of_region, number, score=0.5)])
    rows = rows_of(PREDICTIONS, path)
    assert [row.get("rule") for row in rows] == [None, None, *["unsupported_answer"] * 3]
    assert rows[1] == {
        "source_row": 1,
        "unit": "1.jpg",
        "source_id": "c",
        "format": "classification",
        "class_ref": "day",
        "confidence": 0.5,
    }


@pytest.mark.parametrize(
    ("image", "unit", "stripped"),
    [
        ("/data/upload/3/a1b2c3d4-cat.jpg", "a1b2c3d4-cat.jpg", "cat.jpg"),
        ("https://host/x/my%20cat.jpg?X-Signature=a/b", "my cat.jpg", "my cat.jpg"),
        ("/data/local-files/?d=set/one/cat.jpg", "cat.jpg", "cat.jpg"),
        ("s3://bucket/deadbeef-cat.jpg", "deadbeef-cat.jpg", "cat.jpg"),
        ("C:\\photos\\cat#1.jpg", "cat#1.jpg", "cat#1.jpg"),
        ("http://[broken/cat.jpg", "cat.jpg", "cat.jpg"),
    ],
)
def test_images_go_by_file_name(tmp_path, image, unit, stripped):
    path = written(tmp_path / "a.json", [task(BOX, image=image)])
    source = opened(PREDICTIONS, path)
    assert [row["unit"] for row in filled(source.batches())] == [unit]
    assert [n for note, n in source.notes.items() if "hexadecimal" in note] == (
        [1] if unit != stripped else []
    )
    short = opened(PREDICTIONS, path, options={"prefix": "strip"})
    assert [row["unit"] for row in filled(short.batches())] == [stripped]
    assert not short.notes


def test_the_key_of_the_image(tmp_path):
    other = task(BOX) | {"data": {"text": "a cat", "img": "/photos/1.jpg"}}
    assert [r["unit"] for r in rows_of(PREDICTIONS, written(tmp_path / "a.json", [other]))] == [
        "1.jpg"
    ]
    two = written(tmp_path / "b.json", [task(BOX) | {"data": {"a": "1.jpg", "b": "2.jpg"}}])
    with pytest.raises(SourceError, match="it has a, b"):
        opened(PREDICTIONS, two)
    assert [r["unit"] for r in rows_of(PREDICTIONS, two, options={"image": "b"})] == ["2.jpg"]


def test_one_model_version_is_read(tmp_path):
    path = written(tmp_path / "a.json", [task(BOX), task(BOX, BOX, model_version="v2")])
    with pytest.raises(SourceError, match=r"'v1' \(1 tasks\), 'v2'"):
        opened(PREDICTIONS, path)
    source = opened(PREDICTIONS, path, options={"model": "v2"})
    assert len(filled(source.batches())) == 2
    assert source.notes == {"predictions of other model versions, left out": 1}
    with pytest.raises(SourceError, match="no predictions of 'v3'"):
        opened(PREDICTIONS, path, options={"model": "v3"})


def test_sizes_come_from_other_results_or_images_else_coordinates_are_fractions(tmp_path):
    bare = {key: value for key, value in BOX.items() if key not in SIZE}
    shared = written(tmp_path / "a.json", [task(bare, BOX)])
    assert [row["bbox_w"] for row in rows_of(PREDICTIONS, shared)] == [61, 61]
    alone = written(tmp_path / "b.json", [task(bare)])
    source = opened(PREDICTIONS, alone)
    (row,) = filled(source.batches())
    assert source.coordinates.relative
    assert [row[f"bbox_{side}"] for side in "xywh"] == [0.1, 0.2, 0.305, 0.4]
    assert [n for note, n in source.notes.items() if "fractions" in note] == [1]
    (tmp_path / "images").mkdir()
    Image.new("L", (200, 100)).save(tmp_path / "images" / "1.jpg")
    source = opened(PREDICTIONS, alone, images=tmp_path / "images")
    assert not source.coordinates.relative
    assert [row["bbox_w"] for row in filled(source.batches())] == [61]
    turned = bare | {"value": VALUE | {"rotation": 10}}
    (row,) = rows_of(PREDICTIONS, written(tmp_path / "c.json", [task(turned)]))
    assert row["rule"] == "invalid_data"


def test_regions_given_twice_are_read_once(tmp_path):
    region = {"id": "r1", "type": "rectangle", "value": {k: VALUE[k] for k in ("x", "y")}}
    label = BOX | {"type": "labels", "value": {**VALUE, "labels": ["cat"]}}
    del label["value"]["rectanglelabels"]
    relation = {"type": "relation", "from_id": "r1", "to_id": "r2", "direction": "right"}
    source = opened(PREDICTIONS, written(tmp_path / "a.json", [task(region, label, relation)]))
    assert filled(source.batches()) == [{"source_row": 0, "unit": "1.jpg"} | BOX_ROW]
    assert sorted(source.notes.values()) == [1, 1]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"score": "high"}, "invalid_data"),
        ({"value": None}, "invalid_data"),
        ({"value": VALUE | {"x": "left"}}, "invalid_box"),
        ({"value": VALUE | {"rotation": "left"}}, "invalid_box"),
        ({"value": VALUE | {"rectanglelabels": "cat"}}, "invalid_data"),
        ({"type": "ellipselabels", "value": {"x": 1, "y": 1, "radiusX": 2}}, "unsupported_shape"),
        ({"type": "keypointlabels", "value": {"x": 1, "y": 1, "width": 1}}, "unsupported_shape"),
        ({"type": {}, "value": {"points": 3}}, "unsupported_shape"),
    ],
)
def test_bad_results_are_refused_one_by_one(tmp_path, change, rule):
    rows = rows_of(PREDICTIONS, written(tmp_path / "a.json", [task(BOX, BOX | change, BOX)]))
    assert [row.get("rule") for row in rows] == [None, rule, None]
    assert rows[1]["unit"] == "1.jpg"


# -- ground truth ----------------------------------------------------------------------------------


def test_tasks_are_data_units_and_annotations_labels(tmp_path):
    dog = BOX | {"id": "r2", "value": VALUE | {"rectanglelabels": ["dog"]}}
    path = written(tmp_path / "a.json", [annotated([BOX, dog], number=7)])
    truth = read(LABELS, path)
    (unit,) = truth.data_units.to_pylist()
    assert (unit["source_id"], unit["title"], unit["width"], unit["height"]) == (
        ("7", "1.jpg", 200, 100)
    )
    assert [known.source_id for known in truth.ontology.classes] == ["cat", "dog"]
    rows = filled(truth.labels)
    expected = {key: value for key, value in BOX_ROW.items() if key != "confidence"}
    assert rows[0] == {"source_row": 0, "unit": "7"} | expected
    assert [row["class_ref"] for row in rows] == ["cat", "dog"]
    assert truth.coordinates.unit_key == truth.coordinates.class_key == "source_id"
    assert sniffs(LABELS, path)
    assert not sniffs(PREDICTIONS, path)


def test_which_annotation_counts(tmp_path):
    one, two, three = ([BOX | {"id": name}] for name in ("one", "two", "three"))
    record = annotated(one, two, three)
    record["annotations"][2]["was_cancelled"] = True
    path = written(tmp_path / "a.json", [record])

    def ids(**options):
        truth = read(LABELS, path, options=options)
        return [row["source_id"] for row in filled(truth.labels)], dict(truth.notes)

    cancelled = {"cancelled annotations, left out": 1}
    beside = {"annotations beside the one that was taken of their task, left out": 1}
    assert ids() == (["two"], cancelled | beside)
    assert ids(annotation="first") == (["one"], cancelled | beside)
    assert ids(annotation="all") == (["one", "two"], cancelled)


def test_sizes_that_nothing_says(tmp_path):
    path = written(tmp_path / "a.json", [annotated([BOX]), annotated([], number=2, image="2.png")])
    with pytest.raises(SourceError, match=r"1 of 2 tasks.*2\.png") as caught:
        read(LABELS, path)
    assert "--images DIR" in (caught.value.hint or "")
    Image.new("L", (7, 5)).save(tmp_path / "2.png")
    truth = read(LABELS, path, images=tmp_path)
    assert truth.data_units["width"].to_pylist() == [200, 7]


def test_choices_and_repeated_tasks(tmp_path):
    choice = {"id": "c", "type": "choices", "value": {"choices": ["day"]}}
    truth = read(LABELS, written(tmp_path / "a.json", [annotated([BOX, choice])]))
    assert [row.get("rule") for row in filled(truth.labels)] == [None, "unsupported_answer"]
    with pytest.raises(SourceError, match="no id of their own"):
        read(LABELS, written(tmp_path / "b.json", [annotated([BOX]), annotated([BOX])]))


@pytest.mark.parametrize(
    "document", [7, ["a"], [{"data": {"a": 1}}], [task(5) | {"predictions": 5}]]
)
def test_what_is_no_export(tmp_path, document):
    path = written(tmp_path / "a.json", document)
    with pytest.raises(SourceError):
        rows_of(PREDICTIONS, path)


def test_claims_no_other_format(tmp_path):
    assert claimed(PREDICTIONS, tmp_path) == []
    assert claimed(LABELS, tmp_path) == []


def test_damaged_files_end_in_one_error(tmp_path):
    mask = BOX | {"type": "brushlabels", "value": {"rle": brush(np.eye(2, dtype=np.uint8))}}
    mask |= {"original_width": 2, "original_height": 2}
    turned = BOX | {"value": VALUE | {"rotation": 33}}
    data = json.dumps([task(BOX, turned), task(mask)]).encode()
    assert survives(PREDICTIONS, tmp_path / "a.json", data) > 10
    data = json.dumps([annotated([BOX, turned]), annotated([mask], number=2)]).encode()
    assert survives(LABELS, tmp_path / "b.json", data) > 10
