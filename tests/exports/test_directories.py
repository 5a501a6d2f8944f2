"""YOLO and KITTI directories: names of files and classes, and what the formats cannot say."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import ea_arrow
from ea_arrow.exporting import export
from ea_arrow.exports.kitti import class_words
from ea_arrow.exports.units import unit_stems
from ea_arrow.exports.yolo import yaml_text
from tests.builders import GROUND_TRUTH, RESULTS, import_results, make_encord_project, make_project
from tests.exports.rows import mask_of, project_with
from tests.formats import dataset

SQUARE = [[10, 10, 30, 10, 30, 30]]
TWO_PARTS = [*SQUARE, [1, 1, 2, 1, 2, 2]]


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.txt")}


def project_of(tmp_path, *names, categories=("cat", "dog")):
    """A project with images of these names, each with a box as label and as prediction."""
    truth = {
        "images": [
            {"id": i, "file_name": name, "width": 100, "height": 50}
            for i, name in enumerate(names, 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, 1)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 20, 20]}
            for i in range(1, len(names) + 1)
        ],
    }
    project = make_project(tmp_path / "p", truth=truth)
    rows = [
        {"image_id": i, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.5}
        for i in range(1, len(names) + 1)
    ]
    import_results(project, rows, "base")
    return project


# -- YOLO --------------------------------------------------------------------------------------


def test_yolo_is_as_the_shared_data_set_has_it(tmp_path):
    project = make_project(tmp_path / "p", truth=dataset.coco_ground_truth())
    import_results(project, dataset.coco_results(), "base")
    found = export(project, "base", "yolo", tmp_path / "out")
    expected = {}
    for unit, rows in dataset.by_unit(dataset.PREDICTIONS).items():
        lines = [
            " ".join(
                f"{v:g}" if v == int(v) else repr(v) for v in (row.cls, *row.centred, row.score)
            )
            for row in rows
        ]
        expected[f"labels/{unit.stem}.txt"] = "".join(f"{line}\n" for line in lines)
    assert files_of(tmp_path / "out") == expected
    names = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["names"]
    assert names == dict(enumerate(dataset.CLASSES))
    assert (found.rows, found.files, found.notes) == (8, 4, {})
    assert found.reading == {"task": "detect", "columns": "conf"}


def test_yolo_labels_have_empty_files_for_images_without_any(tmp_path):
    project = make_project(tmp_path / "p", truth=dataset.coco_ground_truth())
    export(project, None, "yolo", tmp_path / "out")
    files = files_of(tmp_path / "out" / "labels")
    assert files["empty.txt"] == ""
    assert files["000004.txt"] == "0 0.5 0.5 0.5 0.5\n"
    assert len(files) == 5


def test_yolo_writes_polygons_where_most_are(tmp_path):
    row = RESULTS[0]
    rows = [
        row | {"segmentation": SQUARE},
        row | {"segmentation": SQUARE},
        row | {"segmentation": TWO_PARTS},
        row,
        row | {"segmentation": mask_of(1, 100, 50)},
    ]
    found = export(project_with(tmp_path / "p", rows), "base", "yolo", tmp_path / "out")
    corners = "0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6 0.9\n"
    triangle = "0 0.1 0.2 0.3 0.2 0.3 0.6 0.9\n"
    assert (tmp_path / "out/labels/one.txt").read_text() == triangle * 2 + corners * 3
    assert found.notes == {
        "boxes written as polygons of four corners": 1,
        "polygons written as their boxes": 1,
        "masks written as their boxes": 1,
    }
    assert found.reading["task"] == "segment"
    boxes = export(project_of(tmp_path / "o", "a.png"), "base", "yolo", tmp_path / "boxes",
                   options={"task": "segment"})  # fmt: skip
    assert list(boxes.notes) == ["boxes written as polygons of four corners"]


def test_yolo_writes_boxes_where_half_are(tmp_path):
    rows = [RESULTS[0], RESULTS[0] | {"segmentation": SQUARE}]
    found = export(project_with(tmp_path / "p", rows), "base", "yolo", tmp_path / "out")
    assert (tmp_path / "out/labels/one.txt").read_text() == "0 0.2 0.4 0.2 0.4 0.9\n" * 2
    assert found.notes == {"polygons written as their boxes": 1}


def test_yolo_counts_boxes_that_leave_the_image(tmp_path):
    rows = [RESULTS[0] | {"bbox": box} for box in ([-1, 0, 5, 5], [98, 0, 5, 5], [95, 0, 5, 50])]
    found = export(project_with(tmp_path / "p", rows), "base", "yolo", tmp_path / "out")
    assert found.notes["boxes that leave the image, which YOLO's readers refuse or cut"] == 2


def with_flags(tmp_path, **flags):
    """A project whose labels have other flags."""
    project = make_project(tmp_path / "flags")
    export(project, None, "parquet", tmp_path / "flags.parquet")
    path = tmp_path / "flags.parquet" / "labels.parquet"
    table = pq.read_table(path)
    for name, values in flags.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    pq.write_table(table, path)
    return ea_arrow.init(tmp_path / "flagged", tmp_path / "flags.parquet")


def test_yolo_leaves_out_what_is_to_be_ignored(tmp_path):
    project = with_flags(tmp_path, is_crowd=[True, False, False], is_ignored=[False, True, False])
    found = export(project, None, "yolo", tmp_path / "out")
    assert files_of(tmp_path / "out/labels") == {"one.txt": "", "two.txt": "0 0.5 0.5 1 1\n"}
    assert found.rows == 1
    assert list(found.left_out.values()) == [2]


@given(st.text())
def test_names_are_yaml(name):
    if not any("\ud800" <= c <= "\udfff" for c in name):
        assert yaml.safe_load(f"names:\n  0: {yaml_text(name)}\n") == {"names": {0: name}}


# -- KITTI -------------------------------------------------------------------------------------


def test_kitti_is_as_its_readers_have_it(tmp_path):
    project = project_with(tmp_path / "p", RESULTS)
    found = export(project, "base", "kitti", tmp_path / "out")
    rest = "-1 -1 -1 -1000 -1000 -1000 -10"
    assert files_of(tmp_path / "out") == {
        "one.txt": f"cat -1 -1 -10 10 10 30 30 {rest} 0.9\ndog -1 -1 -10 0 0 5 5 {rest} 0.8\n",
        "two.txt": f"cat -1 -1 -10 0 0 640 470 {rest} 0.7\n",
    }
    mapping = json.loads((tmp_path / "out" / "ontology_mapping.json").read_text())
    assert mapping == {row["feature_hash"]: row["name"] for row in project.classes}
    assert (found.files, found.notes) == (3, {})


def test_kitti_labels_to_be_ignored_are_dont_care(tmp_path):
    project = with_flags(tmp_path, is_crowd=[True, False, False], is_ignored=[False, True, False])
    found = export(project, None, "kitti", tmp_path / "out")
    lines = "".join(files_of(tmp_path / "out").values()).splitlines()
    assert [line.split()[0] for line in lines].count("DontCare") == 2
    assert all(len(line.split()) == 15 for line in lines)
    assert list(found.notes.values()) == [2, 1]  # the only dog is one of them


def test_kitti_classes_of_several_words_come_back_by_their_hash(tmp_path):
    names = ("traffic light", "traffic_light", "DontCare", "#1, x", "42", "nan")
    project = project_of(tmp_path, "a.png", categories=names)
    rows = [
        {"image_id": 1, "category_id": c, "bbox": [1, 1, 2, 2], "score": c / 10}
        for c in range(1, len(names) + 1)
    ]
    import_results(project, rows, "all")
    found = export(project, "all", "kitti", tmp_path / "out")
    words = [line.split()[0] for line in files_of(tmp_path / "out")["a.txt"].splitlines()]
    assert words[:3] == ["traffic_light_2", "traffic_light", "DontCare_2"]
    assert len(set(words)) == len(words)
    assert list(found.notes.values()) == [5]
    project.import_predictions(tmp_path / "out", "again", format="kitti", strict=True)
    first, later = (project.predictions(n).to_arrow()["feature_hash"] for n in ("all", "again"))
    assert first.equals(later)


@given(st.lists(st.text(max_size=5), max_size=6))
def test_class_words_are_single_and_different(names):
    words = class_words(names)
    assert len({*words, "DontCare"}) == len(names) + 1
    assert all(len(word.split()) == 1 and word[0].isalpha() for word in words)
    good = [n for n in names if n.isascii() and n.isalpha() and names.count(n) == 1]
    for name in good:
        if name.lower() not in ("nan", "inf", "infinity"):
            assert words[names.index(name)] == name


@pytest.mark.parametrize("to", ["yolo", "kitti"])
def test_labels_come_back_without_images_by_their_sizes(tmp_path, to):
    titles = ("a/x.png", "b/x.png", 'odd, "name".v2.jpg', "clip__12.png", "plain", "z\n.png")
    project = project_of(tmp_path, *titles)
    found = export(project, None, to, tmp_path / "out")
    sizes = tmp_path / "out" / "sizes.csv"
    lines = sizes.read_text().splitlines()
    assert lines[:3] == ["name,width,height", "a/x.png,100,50", "b/x.png,100,50"]
    assert lines[-1] == '.png",100,50'
    assert "clip__12__0,100,50" in lines  # as its file is called
    assert found.files == len(titles) + 2  # and the names of the classes
    again = ea_arrow.init(
        tmp_path / "again", tmp_path / "out", format=to, options={"sizes": str(sizes)}
    )
    assert sorted(unit["title"] for unit in again.data_units) == sorted(
        (*titles[:3], "clip__12__0", *titles[4:])
    )
    boxes = again.labels.to_arrow().select(["bbox_x", "bbox_y", "bbox_w", "bbox_h"]).to_pylist()
    assert [list(box.values()) for box in boxes] == [pytest.approx([10, 10, 20, 20])] * len(titles)


def test_predictions_have_no_sizes_beside_them(tmp_path):
    for to in ("yolo", "kitti"):
        export(project_of(tmp_path / to, "a.png"), "base", to, tmp_path / to / "out")
        assert not list((tmp_path / to).rglob("sizes.csv"))


@pytest.mark.parametrize("to", ["kitti", "csv"])
def test_classes_without_labels_are_counted_where_they_are_lost(tmp_path, to):
    project = project_of(tmp_path, "a.png", categories=("cat", "dog", "cow"))
    found = export(project, None, to, tmp_path / "out")
    assert found.notes["classes without labels, which it does not name (parquet does)"] == 2
    assert not export(project, "base", to, tmp_path / "predictions").notes
    for other in ("yolo", "coco", "parquet"):
        assert not export(project, None, other, tmp_path / other).notes


# -- names of files ----------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["yolo", "kitti"])
def test_directories_of_titles_stay(tmp_path, to):
    project = project_of(tmp_path, "a/x.png", "a/b.c.png", "/abs/y.png")
    export(project, "base", to, tmp_path / "out")
    folder = tmp_path / "out" / ("labels" if to == "yolo" else "")
    assert set(files_of(folder)) == {"a/x.txt", "a/b.c.txt", "abs/y.txt"}


@pytest.mark.parametrize("to", ["yolo", "kitti"])
def test_two_images_of_one_stem_are_an_error(tmp_path, to):
    project = project_of(tmp_path, "a/x.png", "a/x.jpg", "y.png")
    with pytest.raises(ea_arrow.EaArrowError, match=r"'a/x\.txt': 'a/x\.png' and 'a/x\.jpg'"):
        export(project, "base", to, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p"]


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", ".hidden.png", "a/.b/x.png", "x\0.png"]
)
def test_names_that_lead_elsewhere_are_an_error(tmp_path, name):
    project = project_of(tmp_path, name)
    with pytest.raises(ea_arrow.EaArrowError, match="cannot name a file"):
        export(project, "base", "yolo", tmp_path / "a" / "b" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p"]


def test_equal_names_in_two_directories_are_counted(tmp_path):
    found = export(project_of(tmp_path, "a/x.png", "b/x.png"), "base", "yolo", tmp_path / "out")
    assert found.notes == {"files of equal names in different directories": 2}


def test_frames_of_videos_have_numbers(tmp_path):
    project = make_encord_project(tmp_path / "p")
    export(project, None, "kitti", tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {"film__0.txt", "film__4.txt"}


def test_an_image_whose_name_ends_like_a_frame_is_told_from_one(tmp_path):
    project = project_of(tmp_path, "clip__12.png")
    export(project, "base", "kitti", tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {"clip__12__0.txt"}
    project.import_predictions(tmp_path / "out", "again", format="kitti", strict=True)
    assert len(project.predictions("again")) == 1


def test_units_without_titles_are_named_by_their_hash():
    units = pa.table(
        {"data_hash": ["h.1", "v", "v"], "frame": [0, 0, 1], "title": [None, "v.mp4", "v.mp4"]}
    )
    assert unit_stems(units) == ["h.1", "v__0", "v__1"]


def test_rows_in_any_order_are_appended(tmp_path, monkeypatch):
    monkeypatch.setattr("ea_arrow.exports.base.BATCH_ROWS", 3)
    rows = [
        {"image_id": 1 + i % 2, "category_id": 1, "bbox": [i, 0, 2, 2], "score": i / 64}
        for i in range(20)
    ]
    assert len(GROUND_TRUTH["images"]) == 2
    export(project_with(tmp_path / "p", rows), "base", "kitti", tmp_path / "out")
    scores = [
        float(line.split()[-1]) for line in files_of(tmp_path / "out")["two.txt"].splitlines()
    ]
    assert scores == [i / 64 for i in range(1, 20, 2)]
