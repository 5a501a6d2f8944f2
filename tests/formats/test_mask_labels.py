"""Masks as labels: data units, classes and their names."""

import numpy as np
import pytest

import ea_arrow
from ea_arrow.errors import SourceError
from tests.formats.dataset import write_json, write_text
from tests.formats.test_mask_png import CLASSES, labels, predictions, save


def test_every_index_image_is_a_data_unit_also_without_objects(tmp_path):
    save(tmp_path / "a.png", CLASSES)
    save(tmp_path / "b" / "b.png", np.zeros((2, 3), np.uint8))
    truth, rows = labels(tmp_path)
    units = truth.data_units.to_pylist()
    assert [(u["source_id"], u["title"], u["width"], u["height"]) for u in units] == [
        ("a", "a.png", 5, 4),
        ("b", "b/b.png", 3, 2),
    ]
    assert [(c.source_id, c.name) for c in truth.ontology.classes] == [("1", "1"), ("2", "2")]
    assert [(row["unit"], row["class_ref"]) for row in rows] == [("a", "1"), ("a", "2")]
    assert truth.coordinates.class_key == "source_id"


@pytest.mark.parametrize("form", ["lines", "object", "list"])
def test_names_of_values_come_from_a_file(tmp_path, form):
    save(tmp_path / "masks" / "a.png", CLASSES)
    names = tmp_path / "names.txt"
    if form == "lines":
        write_text(names, "background", "person", "car", "", "bus")
    else:
        listed = ["background", "person", "car"]
        write_json(
            names,
            {"0": "background", "1": "person", "2": "car", "4": "bus"}
            if form == "object"
            else listed,
        )
    truth, rows = labels(tmp_path / "masks", names=str(names))
    expected = [("1", "person"), ("2", "car")] + ([("4", "bus")] if form != "list" else [])
    assert [(c.source_id, c.name) for c in truth.ontology.classes] == expected
    assert [row["class_ref"] for row in rows] == ["1", "2"]
    source, _ = predictions(tmp_path / "masks", names=str(names))
    assert dict(source.coordinates.class_names)["2"] == "car"


@pytest.mark.parametrize("text", ['{"one": "car"}', '{"1": 2}', "[", b"\xff\xfe\xff"])
def test_names_that_cannot_be_read_are_refused(tmp_path, text):
    path = save(tmp_path / "masks" / "a.png", CLASSES)
    names = tmp_path / "names.txt"
    names.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=r"names\.txt"):
        labels(path, names=str(names))
    with pytest.raises(SourceError, match="cannot be read"):
        labels(path, names=str(tmp_path / "nowhere"))


def test_instances_as_labels(tmp_path):
    for name in ("a__10__1.png", "a__9__1.png", "b__9.png"):
        save(tmp_path / name, CLASSES == 1)
    truth, rows = labels(tmp_path, layout="instances")
    assert [(u["source_id"], u["width"]) for u in truth.data_units.to_pylist()] == [
        ("a", 5),
        ("b", 5),
    ]
    assert [c.name for c in truth.ontology.classes] == ["9", "10"]
    assert [(row["unit"], row["class_ref"]) for row in rows] == [
        ("a", "10"),
        ("a", "9"),
        ("b", "9"),
    ]


def test_with_images_every_image_is_a_data_unit(tmp_path):
    save(tmp_path / "masks" / "a.png", CLASSES)
    save(tmp_path / "masks" / "lost.png", CLASSES)
    for name in ("a.jpg", "z.jpg"):
        save(tmp_path / "images" / "train" / name, CLASSES)
    (tmp_path / "images" / "broken.jpg").write_bytes(b"")
    truth, rows = labels(tmp_path / "masks", images=tmp_path / "images")
    assert truth.data_units["title"].to_pylist() == ["train/a.jpg", "train/z.jpg"]
    assert [row["unit"] for row in rows] == ["a", "a", "lost", "lost"]
    assert truth.notes["images that cannot be read, which are no data units"] == 1


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    save(tmp_path / "masks" / "a.png", CLASSES)
    save(tmp_path / "images" / "a.jpg", np.zeros((8, 10), np.uint8))
    truth, rows = labels(tmp_path / "masks", images=tmp_path / "images")
    assert truth.data_units["width"].to_pylist() == [10]
    assert {row["mask"]["width"] for row in rows} == {5}


def test_labels_and_predictions_of_the_same_masks_agree(tmp_path):
    save(tmp_path / "masks" / "a.png", CLASSES)
    project = ea_arrow.init(tmp_path / "project", tmp_path / "masks")
    result = project.import_predictions(tmp_path / "masks", "x")
    assert (result.ledger.kept, result.ledger.rejects) == (2, {})
    truth, found = (t.to_arrow().to_pylist() for t in (project.labels, project.predictions("x")))
    for column in ("feature_hash", "data_hash", "bbox_x", "bbox_w", "area"):
        assert [row[column] for row in truth] == [row[column] for row in found]
    assert [row["mask"]["counts"] for row in truth] == [row["mask"]["counts"] for row in found]
    assert [row["area"] for row in truth] == [4, 3]
