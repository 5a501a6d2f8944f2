"""Masks as PNG files: layouts, values, pieces, void, sizes and damage."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.sources import mask_png
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.mask_png import LABELS, PREDICTIONS
from ea_arrow.sources.samples import Sample
from tests.formats.dataset import write_json, write_text
from tests.formats.test_cvat import pixels_of

CLASSES = np.array(
    [
        [1, 1, 0, 0, 2],
        [0, 0, 1, 0, 2],
        [255, 0, 0, 0, 0],
        [1, 0, 0, 0, 2],
    ],
    np.uint8,
)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("P")
        image.putdata(pixels.reshape(-1).tolist())
        image.putpalette([7 * i % 256 for i in range(768)])
    image.save(path)
    return path


def predictions(path, images=None, **options):
    source = PREDICTIONS.open(Files(path, (path,)), Reading(options=options))
    return source, [row for batch in source.batches() for row in batch.to_pylist()]


def labels(path, images=None, **options):
    truth = LABELS.read(Files(path, (path,)), Reading(images=images, options=options))
    return truth, [row for batch in truth.labels for row in batch.to_pylist()]


def shapes(rows):
    return [(row["class_ref"], pixels_of(row["mask"])) for row in rows]


def where(value, pixels=CLASSES):
    return (pixels == value).astype(int).tolist()


def test_every_value_is_an_object_void_and_background_are_none(tmp_path):
    path = save(tmp_path / "a.png", CLASSES).parent
    source, rows = predictions(path)
    assert shapes(rows) == [("1", where(1)), ("2", where(2))]
    assert [(r["source_row"], r["source_file"], r["unit"]) for r in rows] == [
        (0, "a.png", "a"),
        (1, "a.png", "a"),
    ]
    assert {row["format"] for row in rows} == {"mask"}
    assert {row["confidence"] for row in rows} == {1.0}
    assert source.coordinates.class_key == "source_id"
    assert source.notes == {
        "masks taken with confidence 1, since a PNG holds none": 2,
        "masks with pixels of value 255, left out as void (else: --option ignore=none)": 1,
    }


def test_the_rows_can_be_read_again(tmp_path):
    path = save(tmp_path / "a.png", CLASSES).parent
    source, rows = predictions(path)
    notes = dict(source.notes)
    again = [row for batch in source.batches() for row in batch.to_pylist()]
    assert again == rows
    assert dict(source.notes) == notes


def test_background_and_void_may_be_other_values(tmp_path):
    path = save(tmp_path / "a.png", CLASSES).parent
    _, rows = predictions(path, background="1", ignore="2")
    assert shapes(rows) == [("0", where(0)), ("255", where(255))]
    _, rows = predictions(path, ignore="none")
    assert [row["class_ref"] for row in rows] == ["1", "2", "255"]
    for name in ("background", "ignore"):
        with pytest.raises(SourceError, match=f"Option {name} is 'one'"):
            predictions(path, **{name: "one"})


def test_components_are_pieces_that_do_not_touch_even_at_a_corner(tmp_path):
    path = save(tmp_path / "a.png", CLASSES).parent
    _, rows = predictions(path, objects="components")
    upper = np.zeros((4, 5), int)
    upper[0, :2] = upper[1, 2] = 1
    lower = np.zeros((4, 5), int)
    lower[3, 0] = 1
    first, second = np.zeros((2, 4, 5), int)
    first[:2, 4] = second[3, 4] = 1
    assert shapes(rows) == [
        ("1", upper.tolist()),
        ("1", lower.tolist()),
        ("2", first.tolist()),
        ("2", second.tolist()),
    ]


@pytest.mark.parametrize("kind", ["L", "P", "1", "16", "RGB", "RGBA"])
def test_all_kinds_of_png_give_the_same_numbers(tmp_path, kind):
    pixels = (CLASSES == 1).astype(np.uint8) if kind == "1" else CLASSES
    given = {
        "L": pixels,
        "P": pixels,
        "1": pixels.astype(bool),
        "16": pixels.astype(np.uint16),
        "RGB": np.repeat(pixels[..., None], 3, axis=2),
        "RGBA": np.dstack([*[pixels] * 3, np.full_like(pixels, 255)]),
    }[kind]
    path = save(tmp_path / "a.png", given, kind)
    _, rows = predictions(path)
    assert shapes(rows)[0] == ("1", where(1))
    assert len(rows) == (1 if kind == "1" else 2)


def test_sixteen_bits_keep_their_values(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 300], [65535, 300]], np.uint16))
    _, rows = predictions(path)
    assert shapes(rows) == [("300", [[0, 1], [0, 1]]), ("65535", [[0, 0], [1, 0]])]


def test_an_image_of_colours_is_refused(tmp_path):
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = 1, 2, 3
    _, (row,) = predictions(save(tmp_path / "a.png", pixels))
    assert (row["rule"], row["unit"]) == ("invalid_mask", "a")
    assert "colours (RGB)" in row["message"]


def test_frames_are_named_as_encord_does(tmp_path):
    for name in ("video__12.png", "a__b.png.png", "still.png"):
        save(tmp_path / name, CLASSES)
    source, rows = predictions(tmp_path, layout="index")
    assert {(row["unit"], row["frame"]) for row in rows} == {
        ("a__b.png", None),
        ("still", None),
        ("video", 12),
    }
    assert (
        source.notes["files named title__frame, read as frames (else: --option frames=none)"] == 1
    )
    _, rows = predictions(tmp_path, layout="index", frames="none")
    assert {row["unit"] for row in rows} == {"a__b.png", "still", "video__12"}


def test_instances_are_named_by_unit_and_class(tmp_path):
    for name in ("s/my__cat__car__1.png", "s/my__cat__car__2.png", "s/a__traffic light.png"):
        save(tmp_path / name, (CLASSES == 1).astype(np.uint8) * 200)
    source, rows = predictions(tmp_path)
    found = [(row["unit"], row["class_ref"], row["source_file"]) for row in rows]
    assert found == [
        ("s/a", "traffic light", "s/a__traffic light.png"),
        ("s/my__cat", "car", "s/my__cat__car__1.png"),
        ("s/my__cat", "car", "s/my__cat__car__2.png"),
    ]
    assert all(pixels_of(row["mask"]) == where(1) for row in rows)
    assert source.coordinates.class_key == "name"
    note = "files read as one instance each, unit__class__n.png (else: --option layout=index)"
    assert source.notes[note] == 3


def test_names_of_both_layouts_must_be_told(tmp_path):
    save(tmp_path / "a.png", CLASSES)
    save(tmp_path / "b__car__1.png", CLASSES)
    with pytest.raises(SourceError, match=r"1 of 2 masks are named as instances.*'a' is not"):
        predictions(tmp_path)
    _, rows = predictions(tmp_path, layout="instances")
    assert [(row["unit"], row["class_ref"]) for row in rows] == [("a", None), ("b", "car")]


def test_classes_of_instances_may_be_numbers(tmp_path):
    save(tmp_path / "a__7__1.png", CLASSES == 1)
    source, (row,) = predictions(tmp_path)
    assert (row["unit"], row["class_ref"]) == ("a", "7")
    assert source.coordinates.class_key == "source_id"


def test_an_instance_of_several_values_is_refused_and_an_empty_one_kept(tmp_path):
    save(tmp_path / "a__car__1.png", CLASSES)
    save(tmp_path / "a__car__2.png", np.zeros((4, 5), np.uint8))
    _, rows = predictions(tmp_path)
    assert [row["rule"] for row in rows] == ["mask_not_binary", None]
    assert pixels_of(rows[1]["mask"]) == np.zeros((4, 5), int).tolist()


def test_confidences_are_given_for_all_or_for_each_file(tmp_path):
    for name in "abc":
        save(tmp_path / "masks" / f"{name}.png", CLASSES == 1)
    _, rows = predictions(tmp_path / "masks", confidence="0.25")
    assert [row["confidence"] for row in rows] == [0.25] * 3
    scores = write_json(tmp_path / "scores.json", {"a.png": 0.5, "b.png": "high"})
    source, rows = predictions(tmp_path / "masks", scores=str(scores))
    assert [(row["confidence"], row["rule"]) for row in rows] == [
        (0.5, None),
        (None, "invalid_data"),
        (None, None),  # refused later: no confidence
    ]
    assert source.notes == {}
    for bad in ("high", "nan", ""):
        with pytest.raises(SourceError, match="Option confidence"):
            predictions(tmp_path / "masks", confidence=bad)
    with pytest.raises(SourceError, match="expected scores by file name"):
        predictions(tmp_path / "masks", scores=str(write_json(tmp_path / "list.json", [1])))


def test_encord_s_mapping_says_which_class_a_value_is(tmp_path):
    save(tmp_path / "a.png", CLASSES)
    write_json(tmp_path / "ontology_mapping.json", {"OTk2MzM3": 1})
    source, rows = predictions(tmp_path)
    assert [row["class_ref"] for row in rows] == ["OTk2MzM3", "2"]
    assert source.coordinates.class_key == "feature_hash"
    assert source.notes["classes named by ontology_mapping.json"] == 1
    assert PREDICTIONS.sniff(Sample(tmp_path))
    for bad, said in (
        ({"a": 1, "b": "1"}, "as another class"),
        ([1], "expected"),
        ({"a": {}}, "{}"),
    ):
        write_json(tmp_path / "ontology_mapping.json", bad)
        with pytest.raises(SourceError, match=said):
            predictions(tmp_path)


def test_too_many_objects_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", CLASSES)
    monkeypatch.setattr(mask_png, "MOST_OBJECTS", 3)
    _, rows = predictions(path)
    assert len(rows) == 2
    _, (row,) = predictions(path, objects="components")
    assert row["rule"] == "invalid_mask"
    assert "4 objects" in row["message"]


def png_of_size(width, height):
    """A small file that claims to be large."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = width.to_bytes(4) + height.to_bytes(4)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png_of_size(2**31 - 1, 2**31 - 1), "out of range"),
        (png_of_size(20_000, 20_000), "out of range"),
        (png_of_size(2_000, 2_000), "cannot be read"),
        (png_of_size(1, 1)[:45], "cannot be read"),
        (b"", "cannot be read"),
        (b"GIF89a", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_reject_of_predictions(tmp_path, data, said):
    save(tmp_path / "b.png", CLASSES == 1)
    (tmp_path / "a.png").write_bytes(data)
    _, rows = predictions(tmp_path)
    assert [(row["unit"], row["rule"]) for row in rows] == [("a", "invalid_mask"), ("b", None)]
    assert said in rows[0]["message"]


def test_a_label_without_a_size_is_an_error(tmp_path):
    for data in (b"", png_of_size(0, 5), png_of_size(20_000, 20_000)):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(SourceError, match=r"a\.png"):
            labels(tmp_path)


def test_a_directory_without_masks_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no \.png files"):
        predictions(tmp_path)
    with pytest.raises(SourceError, match=r"no \.png files"):
        labels(tmp_path)


@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.data())
def test_damaged_files_end_in_an_error_or_in_rows(tmp_path, data):
    good = save(tmp_path / "good" / "a.png", CLASSES).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    put = data.draw(st.binary(max_size=8))
    path = tmp_path / "x.png"
    path.write_bytes(good[:at] + put + good[at + data.draw(st.integers(0, 8)) :])
    _, rows = predictions(path)
    assert all(row["rule"] == "invalid_mask" or row["mask"] for row in rows)
    try:
        truth, rows = labels(path)
    except SourceError:
        return
    assert all(row["rule"] == "invalid_mask" or row["mask"] for row in rows)
    assert len(truth.data_units) == 1


def test_the_sniff_knows_masks_from_pictures(tmp_path):
    def claimed(path):
        assert PREDICTIONS.sniff(Sample(path)) == LABELS.sniff(Sample(path))
        return LABELS.sniff(Sample(path))

    masks = tmp_path / "masks"
    assert claimed(save(masks / "a.png", CLASSES))
    assert claimed(save(masks / "b.png", CLASSES, "P"))
    assert claimed(save(masks / "sub" / "c.png", CLASSES.astype(np.uint16)))
    assert claimed(masks)
    write_text(masks / "classes.txt", "background", "car")
    assert claimed(masks)
    write_text(masks / "a.txt", "0 0.5 0.5 0.1 0.1")
    assert not claimed(masks)
    pictures = tmp_path / "pictures"
    assert not claimed(save(pictures / "a.png", np.zeros((2, 2, 3), np.uint8)))
    assert not claimed(pictures)
    assert not claimed(write_json(tmp_path / "json" / "a.json", {}))
    assert not claimed(tmp_path / "json")
    (tmp_path / "empty").mkdir()
    assert not claimed(tmp_path / "empty")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert not claimed(tmp_path / "a.png")
