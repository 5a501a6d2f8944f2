"""More labels for a project, and newer ones."""

import json
import multiprocessing
from pathlib import Path

import pytest

import ea_arrow
from ea_arrow.errors import ConflictError, ProjectError, RejectedRowsError, SourceError
from ea_arrow.schema import LABELS
from ea_arrow.tables import Table
from tests.builders import GROUND_TRUTH, RESULTS


def write(path, document):
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def project(tmp_path):
    made = ea_arrow.init(tmp_path / "project", write(tmp_path / "gt.json", GROUND_TRUTH))
    made.import_predictions(write(tmp_path / "x.json", RESULTS), "x")
    return made


def labels_of(project):
    names = {c["feature_hash"]: c["name"] for c in project.classes}
    titles = {u["data_hash"]: u["title"] for u in project.data_units}
    return [
        (row["label_id"], titles[row["data_hash"]], names[row["feature_hash"]], row["bbox_x"])
        for row in project.labels
    ]


OLD = [(0, "one.jpg", "cat", 10), (1, "one.jpg", "dog", 50), (2, "two.jpg", "cat", 0)]


def truth(*annotations, images=GROUND_TRUTH["images"], categories=GROUND_TRUTH["categories"]):
    rows = [
        {"id": i, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} | a
        for i, a in enumerate(annotations, 10)
    ]
    return {"images": images, "categories": categories, "annotations": rows}


MORE = {"image_id": 2, "category_id": 2, "bbox": [5, 5, 10, 10]}


def test_labels_are_added_behind_those_there_are(project, tmp_path):
    result = project.add_labels(write(tmp_path / "more.json", truth(MORE)))
    assert labels_of(project) == [*OLD, (3, "two.jpg", "dog", 5)]
    assert (result.ledger.kept, result.replaced) == (1, 0)
    assert (result.new_data_units, result.new_classes) == (0, 0)


def test_newer_labels_replace_those_of_the_same_data_units(project, tmp_path):
    newer = truth(MORE, images=[GROUND_TRUTH["images"][1]])
    result = project.add_labels(write(tmp_path / "more.json", newer), replace=True)
    assert labels_of(project) == [*OLD[:2], (3, "two.jpg", "dog", 5)]
    assert result.replaced == 1


def test_metrics_follow_the_labels(project, tmp_path):
    def ap():
        found = project.metrics("x").to_arrow().to_pylist()
        return next(m["value"] for m in found if m["metric"] == "AP" and not m["feature_hash"])

    before = ap()
    missed = {"image_id": 1, "category_id": 1, "bbox": [60, 1, 3, 3]}
    project.add_labels(write(tmp_path / "more.json", truth(missed)))
    assert ap() < before


def test_data_units_are_found_by_name_where_ids_mean_others(project, tmp_path):
    # The ids of another data set: 1 is two.jpg there.
    images = [
        {"id": 1, "width": 640, "height": 480, "file_name": "val/two.jpg"},
        {"id": 2, "width": 30, "height": 40, "file_name": "val/three.jpg"},
    ]
    rows = [MORE | {"image_id": 1}, MORE | {"image_id": 2}]
    result = project.add_labels(write(tmp_path / "more.json", truth(*rows, images=images)))
    assert labels_of(project)[3:] == [(3, "two.jpg", "dog", 5), (4, "val/three.jpg", "dog", 5)]
    assert result.new_data_units == 1
    assert result.ledger.choices == ["data units matched by file name"]
    assert [u["unit_id"] for u in project.data_units] == [0, 1, 2]


def test_classes_are_found_by_name_and_new_ones_added(project, tmp_path):
    categories = [{"id": 1, "name": "dog"}, {"id": 7, "name": "owl"}]
    rows = [MORE | {"category_id": 1}, MORE | {"category_id": 7}]
    result = project.add_labels(write(tmp_path / "more.json", truth(*rows, categories=categories)))
    assert [row[2] for row in labels_of(project)[3:]] == ["dog", "owl"]
    assert result.new_classes == 1
    by_name = {c["name"]: c["source_id"] for c in project.classes}
    assert by_name == {"cat": "1", "dog": "2", "owl": "7"}


def test_a_new_class_does_not_take_the_id_of_another(project, tmp_path):
    newer = truth(MORE | {"category_id": 1}, categories=[{"id": 1, "name": "owl"}])
    project.add_labels(write(tmp_path / "more.json", newer))
    assert [row[2] for row in labels_of(project)[3:]] == ["owl"]
    assert {c["name"]: c["source_id"] for c in project.classes} == {
        "cat": "1",
        "dog": "2",
        "owl": None,
    }


def test_a_data_unit_of_another_size_is_refused(project, tmp_path):
    images = [GROUND_TRUTH["images"][0] | {"width": 50, "height": 25}]
    with pytest.raises(SourceError, match=r"'one.jpg' is 100 × 50 there and 50 × 25"):
        project.add_labels(write(tmp_path / "more.json", truth(images=images)))
    assert labels_of(project) == OLD


def test_strict_changes_nothing_if_a_label_is_refused(project, tmp_path):
    rows = [MORE, MORE | {"image_id": 99}]
    categories = [*GROUND_TRUTH["categories"], {"id": 9, "name": "owl"}]
    path = write(tmp_path / "more.json", truth(*rows, categories=categories))
    with pytest.raises(RejectedRowsError, match="1 of 2 labels were refused"):
        project.add_labels(path, strict=True)
    assert labels_of(project) == OLD
    assert len(project.classes) == 2
    assert not list(project.sql("select * from rejects"))
    project.add_labels(path)
    rejects = list(project.sql("select iteration, source, source_row, rules from rejects"))
    assert rejects == [
        {"iteration": None, "source": "more.json", "source_row": 1, "rules": ["unknown_data_unit"]}
    ]


def test_a_project_of_images_alone_gets_its_labels_later(tmp_path):
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    Image.new("L", (100, 50)).save(images / "one.jpg")
    Image.new("L", (640, 480)).save(images / "two.jpg")
    project = ea_arrow.init(tmp_path / "project", images=images)
    assert [(u["title"], u["width"], u["height"]) for u in project.data_units] == [
        ("one.jpg", 100, 50),
        ("two.jpg", 640, 480),
    ]
    assert len(project.labels) == len(project.classes) == 0
    result = project.add_labels(write(tmp_path / "gt.json", GROUND_TRUTH))
    assert labels_of(project) == OLD
    assert (result.new_data_units, result.new_classes) == (0, 2)
    assert [c["name"] for c in project.classes] == ["cat", "dog"]


def test_neither_labels_nor_images_is_an_error(tmp_path):
    with pytest.raises(ProjectError, match="Give labels, or images"):
        ea_arrow.init(tmp_path / "project")
    assert not (tmp_path / "project").exists()


def add(root, path, barrier, results):
    project = ea_arrow.open(root)
    barrier.wait()
    try:
        results.put(project.add_labels(path).ledger.kept)
    except ConflictError:
        results.put("conflict")


def test_of_two_that_add_at_once_none_is_lost_without_a_word(project, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    paths = [write(tmp_path / f"{i}.json", truth(MORE | {"bbox": [i, 0, 5, 5]})) for i in range(3)]
    workers = [
        context.Process(target=add, args=(project.root, path, barrier, results)) for path in paths
    ]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    ids = [row[0] for row in labels_of(ea_arrow.open(project.root))]
    assert ids == list(range(3 + told.count(1)))
    assert set(told) <= {1, "conflict"}
    assert told.count(1) >= 1


def test_labels_stay_readable_as_the_iteration_saw_them(project, tmp_path):
    version = next(iter(project.sql("select labels_version from iterations")))["labels_version"]
    project.add_labels(write(tmp_path / "more.json", truth(MORE)), replace=True)
    old = Table(Path(project.root) / ".ea-arrow" / "labels", LABELS, version=version)
    assert len(old.read()) == 3


def test_labels_that_are_there_already_are_not_added_again(project, tmp_path):
    again = truth(*GROUND_TRUTH["annotations"], MORE)
    result = project.add_labels(write(tmp_path / "again.json", again))
    assert labels_of(project) == [*OLD, (3, "two.jpg", "dog", 5)]
    assert result.ledger.rejects == {"repeated": 3}
    twice = project.add_labels(write(tmp_path / "twice.json", truth(MORE, MORE)))
    assert twice.ledger.rejects == {"repeated": 2}


def test_masks_and_polygons_that_are_there_are_known_again(tmp_path):
    shapes = [
        {"segmentation": [[0, 0, 8, 0, 8, 8]], "bbox": [0, 0, 8, 8]},
        {"segmentation": {"size": [50, 100], "counts": [10, 20, 4970]}, "bbox": [0, 10, 1, 20]},
    ]
    rows = [{"image_id": 1, "category_id": 1} | shape for shape in shapes]
    path = write(tmp_path / "gt.json", truth(*rows))
    project = ea_arrow.init(tmp_path / "p", path)
    assert project.add_labels(path).ledger.rejects == {"repeated": 2}
    assert len(project.labels) == 2


@pytest.fixture
def corrected(tmp_path):
    """YOLO labels of one.jpg alone, and that two.jpg has none: the file is there, and empty."""
    folder = tmp_path / "corrected"
    folder.mkdir()
    (folder / "one.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def test_sizes_are_those_the_project_knows(project, corrected):
    result = project.add_labels(corrected)
    assert labels_of(project) == [*OLD, (3, "one.jpg", "cat", 40)]
    assert (result.new_data_units, result.new_classes) == (0, 0)


def test_labels_of_data_units_that_a_source_does_not_speak_of_stay(project, corrected):
    result = project.add_labels(corrected, replace=True)
    assert labels_of(project) == [OLD[2], (3, "one.jpg", "cat", 40)]
    assert result.replaced == 2


def test_an_empty_label_file_says_that_there_is_nothing(project, corrected):
    (corrected / "two.txt").write_text("")
    result = project.add_labels(corrected, replace=True)
    assert labels_of(project) == [(3, "one.jpg", "cat", 40)]
    assert result.replaced == 3


def test_a_table_of_images_replaces_the_labels_of_those_with_rows(project, tmp_path):
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    Image.new("L", (100, 50)).save(images / "one.jpg")
    Image.new("L", (640, 480)).save(images / "two.jpg")
    path = tmp_path / "labels.csv"
    path.write_text("file_name,class_name,x,y,w,h\none.jpg,dog,1,2,3,4\n")
    project.add_labels(path, replace=True, images=images)
    assert labels_of(project) == [OLD[2], (3, "one.jpg", "dog", 1)]


# -- found by review: what a second process, an error or an id of another data set may break -------


def test_two_that_bring_new_classes_and_images_both_keep_them(project, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    paths = []
    for i, name in enumerate(("owl", "fox", "elk")):
        images = [{"id": 70 + i, "width": 10, "height": 10, "file_name": f"{name}.jpg"}]
        row = {"image_id": 70 + i, "category_id": 50 + i, "bbox": [0, 0, 5, 5]}
        more = truth(row, images=images, categories=[{"id": 50 + i, "name": name}])
        paths.append(write(tmp_path / f"{name}.json", more))
    workers = [
        context.Process(target=add, args=(project.root, path, barrier, results)) for path in paths
    ]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [1, 1, 1]
    for worker in workers:
        worker.join()
    opened = ea_arrow.open(project.root)
    assert sorted(row[1:3] for row in labels_of(opened)[3:]) == [
        ("elk.jpg", "elk"),
        ("fox.jpg", "fox"),
        ("owl.jpg", "owl"),
    ]
    assert [unit["unit_id"] for unit in opened.data_units] == [0, 1, 2, 3, 4]
    assert opened.metrics("x")


@pytest.mark.parametrize("replace", [False, True])
def test_an_error_after_the_commit_takes_nothing_away(project, tmp_path, monkeypatch, replace):
    from ea_arrow import tables

    def full(path):
        if "labels" in str(path):
            raise OSError("no")

    monkeypatch.setattr(tables, "sync", full)
    path = write(tmp_path / "more.json", truth(MORE, MORE | {"image_id": 99}))
    with pytest.raises(ProjectError, match="is published"):
        project.add_labels(path, replace=replace)
    monkeypatch.undo()
    opened = ea_arrow.open(project.root)
    assert labels_of(opened)[-1] == (3, "two.jpg", "dog", 5)
    assert len(list(opened.sql("select * from rejects"))) == 1


def test_an_error_before_the_commit_leaves_no_rejects(project, tmp_path, monkeypatch):
    def crash(self, *arguments, **more):
        if self.spec is LABELS:
            raise KeyboardInterrupt
        return commit(self, *arguments, **more)

    commit = Table.commit
    monkeypatch.setattr("ea_arrow.tables.Table.commit", crash)
    path = write(tmp_path / "more.json", truth(MORE, MORE | {"image_id": 99}))
    with pytest.raises(KeyboardInterrupt):
        project.add_labels(path)
    monkeypatch.undo()
    opened = ea_arrow.open(project.root)
    assert labels_of(opened) == OLD
    assert not list(opened.sql("select * from rejects"))
    opened.add_labels(path)
    assert len(list(opened.sql("select * from rejects"))) == 1


def test_ids_that_two_data_sets_share_find_neither(project, tmp_path):
    images = [{"id": 1, "width": 10, "height": 10, "file_name": "other.jpg"}]
    row = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    project.add_labels(write(tmp_path / "other.json", truth(row, images=images)))
    result = project.import_predictions(write(tmp_path / "y.json", RESULTS), "y")
    assert result.ledger.rejects == {"unknown_data_unit": 2}  # of image 1, which two are


def test_two_images_of_one_name_do_not_become_one(project, tmp_path):
    images = [
        {"id": 11 + i, "width": 100, "height": 50, "file_name": f"{folder}/one.jpg"}
        for i, folder in enumerate(("train", "val"))
    ]
    rows = [{"image_id": 11 + i, "category_id": 1, "bbox": [i, 0, 5, 5]} for i in range(2)]
    path = write(tmp_path / "two.json", truth(*rows, images=images))
    with pytest.raises(SourceError, match="several data units of the file are the same"):
        project.add_labels(path, match="name")
    assert project.add_labels(path).new_data_units == 2


def test_label_ids_are_never_given_again(project, tmp_path):
    newer = truth(MORE, images=[GROUND_TRUTH["images"][1]])
    project.add_labels(write(tmp_path / "a.json", newer), replace=True)
    assert [row[0] for row in labels_of(project)] == [0, 1, 3]
    empty = truth(images=[GROUND_TRUTH["images"][1]])
    project.add_labels(write(tmp_path / "b.json", empty), replace=True)
    project.add_labels(write(tmp_path / "c.json", newer))
    assert [row[0] for row in labels_of(project)] == [0, 1, 4]


def test_classes_without_an_id_and_new_options_of_a_question(tmp_path):
    from tests.builders import LABEL_ROWS, ONTOLOGY

    document = {"ontology": ONTOLOGY, "label_rows": LABEL_ROWS}
    project = ea_arrow.init(tmp_path / "p", write(tmp_path / "rows.json", document))
    tree = {"id": "9", "name": "Tree", "shape": "polygon", "featureNodeHash": "tree"}
    more = document | {"ontology": ONTOLOGY | {"objects": [*ONTOLOGY["objects"], tree]}}
    result = project.add_labels(write(tmp_path / "more.json", more))
    assert result.new_classes == 1
    question = ONTOLOGY["classifications"][0]
    attribute = question["attributes"][0]
    snow = {"id": "3.1.3", "label": "Snow", "featureNodeHash": "snow"}
    asked = question | {"attributes": [attribute | {"options": [*attribute["options"], snow]}]}
    newer = document | {"ontology": ONTOLOGY | {"classifications": [asked]}}
    with pytest.raises(SourceError, match="'Weather > Snow' is new"):
        project.add_labels(write(tmp_path / "newer.json", newer))
