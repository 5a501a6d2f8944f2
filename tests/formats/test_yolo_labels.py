"""YOLO ground truth: where images, labels and names are; YAML is read with care."""

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.yaml_files import names_of, read_yaml
from ea_arrow.sources.yolo_labels import LABELS

BOX = "0 0.5 0.5 0.5 0.25"


def draw(path, size=(64, 32)):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)


def label(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path


def truth(path, **reading):
    LABELS.check(reading.get("options", {}))
    found = LABELS.read(Files(path, (path,)), Reading(**reading))
    return found, [row for batch in found.labels for row in batch.to_pylist()]


def titles(found):
    return found.data_units["title"].to_pylist()


@pytest.fixture
def dataset(tmp_path):
    """Two splits, one image without labels, one label file without an image."""
    root = tmp_path / "set"
    draw(root / "images" / "train" / "t.png")
    draw(root / "images" / "val" / "a.jpg", (64, 32))
    draw(root / "images" / "val" / "b.png", (10, 20))
    label(root / "labels" / "train" / "t.txt", BOX)
    label(root / "labels" / "val" / "a.txt", BOX, "1 0 0 0.5 0 0.5 0.5")
    label(root / "labels" / "val" / "stray.txt", BOX)
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest:\nnames:\n  0: person\n  1: car\n"
    )
    return root


def test_a_split_of_a_data_set(dataset):
    found, labels = truth(dataset / "data.yaml")
    assert titles(found) == ["a.jpg", "b.png"]
    assert found.data_units["width"].to_pylist() == [64, 10]
    assert found.data_units["height"].to_pylist() == [32, 20]
    assert [c.name for c in found.ontology.classes] == ["person", "car"]
    assert [c.source_id for c in found.ontology.classes] == ["0", "1"]
    kinds = [(r["unit"], r["format"], r["class_ref"]) for r in labels]
    assert kinds[:2] == [("a", "bounding_box", "0"), ("a", "polygon", "1")]
    assert kinds[2][0] not in found.data_units["source_id"].to_pylist()  # the stray one
    assert labels[1]["polygon"] == [[0, 0, 0.5, 0, 0.5, 0.5]]
    assert found.notes["images without a label file, which have no labels"] == 1
    assert found.notes["label files without an image, whose rows are refused"] == 1
    assert found.notes["data units of the split val (option split takes others)"] == 2


def test_other_splits_and_all(dataset):
    assert titles(truth(dataset, options={"split": "train"})[0]) == ["t.png"]
    assert titles(truth(dataset, options={"split": "all"})[0]) == [
        "train/t.png",
        "val/a.jpg",
        "val/b.png",
    ]
    with pytest.raises(SourceError, match=r"no split 'test'; it has train, val"):
        truth(dataset, options={"split": "test"})


@pytest.mark.parametrize("root", ["/content/set", "../elsewhere", "."])
def test_paths_of_another_machine_are_found_below_the_yaml(dataset, root):
    (dataset / "data.yaml").write_text(
        f"path: {root}\nval: ../images/val\nnames: [person, car]\nnc: 2\n"
    )
    assert titles(truth(dataset)[0]) == ["a.jpg", "b.png"]


def test_a_description_of_everything_there_is_is_refused(dataset):
    (dataset / "data.yaml").write_text("val: /\nnames: [person]\n")
    with pytest.raises(SourceError, match="root of the file system"):
        truth(dataset)


def test_a_list_of_images_is_the_data_units(dataset):
    (dataset / "val.txt").write_text("./images/val/b.png\n./images/train/t.png\n\n")
    (dataset / "data.yaml").write_text("val: val.txt\nnames: [person, car]\n")
    found, labels = truth(dataset)
    assert titles(found) == ["train/t.png", "val/b.png"]
    assert [row["unit"] for row in labels] == ["t"]  # files not listed are other splits'
    (dataset / "val.txt").write_text("not an image\n")
    with pytest.raises(SourceError, match="expected the path of an image"):
        truth(dataset)


def test_without_images_both_ways_out_are_named(dataset, tmp_path):
    (dataset / "images").rename(tmp_path / "moved")
    with pytest.raises(SourceError) as caught:
        truth(dataset)
    assert "--images DIR" in caught.value.hint
    assert "--option sizes=FILE" in caught.value.hint
    found, labels = truth(dataset, images=tmp_path / "moved" / "val")
    assert titles(found) == ["a.jpg", "b.png"]
    assert [row["unit"] for row in labels][:2] == ["a", "a"]
    (tmp_path / "sizes.csv").write_text("name,width,height\nb.png,10,20\na.jpg,64,32\n")
    sized, same = truth(dataset, options={"sizes": str(tmp_path / "sizes.csv")})
    assert titles(sized) == ["a.jpg", "b.png"]
    assert sized.data_units["width"].to_pylist() == [64, 10]
    assert same == labels


@pytest.mark.parametrize(
    "text", ["", "name,width\na,1\n", "name,width,height\n", "name,width,height\na,0,1\n", "a\0"]
)
def test_a_table_of_sizes_is_checked(dataset, tmp_path, text):
    (tmp_path / "sizes.csv").write_text(text)
    with pytest.raises(SourceError, match=r"sizes\.csv"):
        truth(dataset, options={"sizes": str(tmp_path / "sizes.csv")})


def test_an_image_that_cannot_be_read_is_left_out_and_its_labels_with_it(dataset):
    (dataset / "images" / "val" / "a.jpg").write_bytes(b"none")
    found, labels = truth(dataset)
    assert titles(found) == ["b.png"]
    assert not {row["unit"] for row in labels} & {*found.data_units["source_id"].to_pylist()}
    assert found.notes["images that cannot be read, left out with their labels"] == 1


def test_bad_label_lines_are_refused(dataset):
    bad = (f"{BOX} 0.5", "2 0.5 0.5 0.5 0.5", "car 0.5 0.5 0.5 0.5", "0 0.5 0.5")
    bad += ("0 0.5 x 0.5 0.5", "0 0 0 0.5 0 0.5 x", "0")
    label(dataset / "labels" / "val" / "a.txt", *bad, BOX)
    _, labels = truth(dataset)
    assert [row["rule"] for row in labels][:8] == [
        "invalid_data",
        "unknown_class",
        "invalid_data",
        "invalid_data",
        "invalid_box",
        "invalid_polygon",
        "invalid_data",
        None,
    ]
    assert "no confidence" in labels[0]["message"]
    assert labels[0]["source_file"] == "labels/val/a.txt"


def test_of_a_pose_only_the_box_is_read(dataset):
    with (dataset / "data.yaml").open("a") as file:
        file.write("kpt_shape: [2, 3]\n")
    label(dataset / "labels" / "val" / "a.txt", f"{BOX} 0.5 0.5 2 0.25 0.25 1", BOX)
    _, labels = truth(dataset)
    assert [row["rule"] for row in labels][:2] == [None, "invalid_box"]
    assert [labels[0][f"bbox_{side}"] for side in "xywh"] == [0.25, 0.375, 0.5, 0.25]
    assert labels[0]["format"] == "bounding_box"


def test_a_directory_of_label_files_without_names(tmp_path):
    draw(tmp_path / "a.png")
    label(tmp_path / "a.txt", BOX, "2 0.5 0.5 0.5 0.5", "99999 0.5 0.5 0.5 0.5")
    found, labels = truth(tmp_path)
    assert [c.name for c in found.ontology.classes] == ["0", "1", "2"]
    assert [row["rule"] for row in labels] == [None, None, "unknown_class"]
    assert found.notes["classes without names, called by their index"] == 3


def test_images_and_labels_side_by_side_without_a_description(dataset):
    (dataset / "data.yaml").unlink()
    (dataset / "classes.txt").write_text("person\ncar\n")
    found, labels = truth(dataset)
    assert titles(found) == ["train/t.png", "val/a.jpg", "val/b.png"]
    assert [row["unit"] for row in labels][:3] == ["t", "a", "a"]
    assert [c.name for c in found.ontology.classes] == ["person", "car"]


def test_class_names_that_differ_are_for_the_caller_to_choose(dataset):
    labels, names = dataset / "labels" / "val", dataset / "labels" / "val" / "classes.txt"
    names.write_text("person\ncar\nbus\n")
    with pytest.raises(SourceError) as caught:
        truth(labels)
    assert f"{names} (3 classes)" in caught.value.message
    assert f"{dataset / 'data.yaml'} (2 classes)" in caught.value.message
    assert "--option names=FILE" in caught.value.hint
    assert f"give {dataset / 'data.yaml'} itself" in caught.value.hint
    for chosen, wanted in ((names, ["person", "car", "bus"]), (None, ["person", "car"])):
        path = chosen or dataset / "data.yaml"
        found, _ = truth(labels, options={"names": str(path)})
        assert [c.name for c in found.ontology.classes] == wanted
        assert found.notes[f"class names taken from {path}"] == len(wanted)
    assert [c.name for c in truth(dataset)[0].ontology.classes] == ["person", "car"]
    (dataset / "data.yaml").rename(dataset / "obj.names")
    (dataset / "obj.names").write_text("person\ncar\ndog")
    with pytest.raises(SourceError, match="differ") as caught:
        truth(labels)
    assert caught.value.hint == "Say which is right: --option names=FILE."
    (dataset / "obj.names").rename(dataset / "data.yaml")
    (dataset / "data.yaml").write_text("names: [cat]")  # which describes no images
    with pytest.raises(SourceError, match="differ") as caught:
        truth(labels)
    assert caught.value.hint == "Say which is right: --option names=FILE."
    (dataset / "data.yaml").write_text("names: [person, car, dog]")
    names.write_text("person\ncar\ndog")
    assert len(truth(labels)[0].ontology.classes) == 3


def test_the_names_given_are_those_of_a_described_data_set_too(dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("a\nb\nc\n")
    found, _ = truth(dataset, options={"names": str(tmp_path / "mine.txt")})
    assert [c.name for c in found.ontology.classes] == ["a", "b", "c"]
    with pytest.raises(SourceError, match=r"none\.txt"):
        truth(dataset, options={"names": str(tmp_path / "none.txt")})


def test_images_of_one_stem_in_two_directories_have_their_own_labels(tmp_path):
    for split, cls in (("one", 0), ("two", 1)):
        draw(tmp_path / "images" / split / "same.png")
        label(tmp_path / "labels" / split / "same.txt", f"{cls} 0.5 0.5 0.5 0.5")
    found, labels = truth(tmp_path)
    assert found.data_units["source_id"].to_pylist() == ["one/same.png", "two/same.png"]
    assert [(r["unit"], r["class_ref"]) for r in labels] == [
        ("one/same.png", "0"),
        ("two/same.png", "1"),
    ]


def test_what_is_claimed_as_ground_truth(dataset, tmp_path):
    assert LABELS.sniff(Sample(dataset))
    assert LABELS.sniff(Sample(dataset / "data.yaml"))
    assert LABELS.sniff(Sample(dataset / "labels"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text("name: x\nnames_of: y\n")
    assert not LABELS.sniff(Sample(other))
    assert not LABELS.sniff(Sample(other / "config.yaml"))
    assert not LABELS.sniff(Sample(label(other / "img.txt", f"{BOX} 0.5").parent))  # predictions
    assert not LABELS.sniff(Sample(other / "img.txt"))
    assert not LABELS.sniff(Sample(label(other / "img.txt", "0 10 20 30 40").parent))


# YAML


def test_scalars_stay_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("names: [no, 1.10, 2024-01-01, ~, 'a b']")
    assert names_of(path) == {"0": "no", "1": "1.10", "2": "2024-01-01", "3": "~", "4": "a b"}


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",
        "[" * 100,
        "a: [1",
        "a: b: c",
        "? [a]\n: b",
        "\t- a",
        "a: \1",
        'a: "\\ud83d"\n&' + "x" * 2_000_000,
        "- " * 5_000,
    ],
)
def test_yaml_that_is_none_or_too_much_ends_in_an_error(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"x\.yaml"):
        read_yaml(path)


@pytest.mark.parametrize(
    "text", ["", "names:", "names: a", "names: {a: b}", "names: [[a]]", "[names]", "names: {-1: a}"]
)
def test_names_have_to_be_names(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"x\.yaml"):
        names_of(path)
