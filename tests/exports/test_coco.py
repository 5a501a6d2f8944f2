"""COCO files: ids, ground truth beside results, areas, and what pycocotools makes of them."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import ea_arrow
from ea_arrow.exporting import export
from ea_arrow.exports.coco import Ids
from tests.builders import GROUND_TRUTH, RESULTS, import_results, make_encord_project, make_project
from tests.exports.rows import again, mask_of, project_with, rows_of, same


def loaded(truth, document, folder):
    """What pycocotools makes of results."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(document))
    results = COCO(folder / "truth.json").loadRes(str(folder / "results.json"))
    return list(results.anns.values())


def written(project, tmp_path, name="base"):
    found = export(project, name, "coco", tmp_path / "out.json", overwrite=True)
    return found, json.loads(found.path.read_text())


def test_results_are_as_they_were(tmp_path):
    project = project_with(tmp_path / "p", RESULTS)
    found, document = written(project, tmp_path)
    assert document == RESULTS
    assert type(document[0]["image_id"]) is int
    assert (found.rows, found.files, found.left_out, found.notes) == (3, 1, {}, {})


def test_labels_are_as_they_were(tmp_path):
    _, document = written(make_project(tmp_path / "p"), tmp_path, None)
    full = [a | {"iscrowd": 0} for a in GROUND_TRUTH["annotations"]]
    assert document == GROUND_TRUTH | {"annotations": full}


def test_the_backslash_of_an_rle_is_escaped(tmp_path):
    """COCO's characters go up to ``o`` and include the backslash, which JSON minds."""
    masks = [mask_of(seed, 640, 480) for seed in range(200)]
    assert any("\\" in mask["counts"] for mask in masks)
    rows = [
        {"image_id": 2, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1], "segmentation": mask}
        for mask in masks
    ]
    _, document = written(project_with(tmp_path / "p", rows), tmp_path)
    assert document == rows


@pytest.mark.parametrize(
    ("given", "texts", "own"),
    [
        (["7", "42"], ["7", "42"], True),
        (["9", "10"], ["9", "10"], True),  # not by text
        (["10", "9"], ['"10"', '"9"'], True),  # which were texts: "10" < "9"
        (["007", "a"], ['"007"', '"a"'], True),
        (["3", "a"], ["3", '"a"'], True),  # numbers come first
        (["-5", "0"], ["-5", "0"], True),
        (["b", "a"], ["1", "2"], False),
        (["1", None], ["1", "2"], False),
        (["1" * 30, "2"], [f'"{"1" * 30}"', '"2"'], True),
        ([], [], False),
    ],
)
def test_ids_keep_the_order_that_coco_gives_them(given, texts, own):
    found = Ids.of(given)
    assert found.texts == texts
    assert found.own == own or not given


def test_a_project_without_ids_gets_numbers_and_ground_truth_with_them(tmp_path):
    project = make_encord_project(tmp_path / "p")
    with project.writer("base") as writer:
        for frame in (4, 0):
            box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
            writer.add_prediction(
                data_hash="film", frame=frame, class_uid="car", confidence_score=0.5, bbox=box
            )
    found = export(project, "base", "coco", tmp_path / "res.json")
    results = json.loads((tmp_path / "res.json").read_text())
    truth = json.loads((tmp_path / "res.ground_truth.json").read_text())
    assert [row["image_id"] for row in results] == [2, 1]
    assert truth["images"][1] == {
        "id": 2,
        "metadata": '{"label_hash": "row"}',
        "width": 200,
        "height": 100,
        "data_hash": "film",
        "frame": 4,
        "file_name": "film__4.mp4",
    }
    assert truth["categories"] == [{"id": 1, "name": "Car"}, {"id": 2, "name": "Road"}]
    assert [a["image_id"] for a in truth["annotations"]] == [1, 2]
    assert found.files == 2
    assert found.notes == {
        "labels written beside, as res.ground_truth.json: the ids are new": 2,
    }
    other = ea_arrow.init(tmp_path / "again", tmp_path / "res.ground_truth.json")
    other.import_predictions(tmp_path / "res.json", "base", strict=True)
    ap = [p.metrics("base").to_arrow()["value"][0].as_py() for p in (project, other)]
    assert ap[0] == ap[1] == 1


def test_ground_truth_beside_is_not_overwritten(tmp_path):
    project = make_encord_project(tmp_path / "p")
    box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
    with project.writer("base") as writer:
        writer.add_prediction(data_hash="film", class_uid="car", confidence_score=1, bbox=box)
    mine = tmp_path / "res.ground_truth.json"
    mine.write_text("mine")
    with pytest.raises(ea_arrow.EaArrowError, match=r"res\.ground_truth\.json: is there already"):
        export(project, "base", "coco", tmp_path / "res.json")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "res.json").exists()


def test_answers_are_left_out_and_counted(tmp_path):
    project = make_encord_project(tmp_path / "p")
    answer = ea_arrow.FrameClassification(
        feature_hash="scene", attribute_hash="weather", option_hash="sun"
    )
    box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
    with project.writer("base") as writer:
        writer.add_prediction(
            ea_arrow.Prediction(data_hash="film", confidence=1, classification=answer)
        )
        writer.add_prediction(data_hash="film", class_uid="car", confidence_score=1, bbox=box)
    found, document = written(project, tmp_path)
    assert len(document) == found.rows == 1
    assert found.left_out == {"classifications: the format holds objects": 1}


def test_masks_of_their_own_area_have_no_boxes(tmp_path):
    """pycocotools takes the area of a result with a box to be the box's."""
    rows = [
        {"image_id": 2, "category_id": 1, "score": 0.5, "segmentation": mask_of(seed, 640, 480)}
        for seed in (2, 3)
    ]
    project = project_with(tmp_path / "p", rows)
    stored = rows_of(project, "base")
    assert all(row["area"] < row["bbox_w"] * row["bbox_h"] for row in stored)
    _, document = written(project, tmp_path)
    assert document == rows
    found = loaded(GROUND_TRUTH, document, tmp_path)
    assert [a["area"] for a in found] == [row["area"] for row in stored]


def test_areas_that_results_cannot_say_are_counted(tmp_path):
    rows = [
        {"image_id": 2, "category_id": 1, "score": 0.5, "segmentation": mask_of(2, 640, 480)},
        {"image_id": 2, "category_id": 1, "score": 0.4, "bbox": [1, 2, 3, 4]},
    ]
    found, document = written(project_with(tmp_path / "p", rows), tmp_path)
    assert all("bbox" in row for row in document)
    (note,) = found.notes.items()
    assert note[1] == 1
    assert "whose area other programs take to be their box's" in note[0]


def test_labels_to_be_ignored_are_marked_and_counted(tmp_path):
    project = make_project(tmp_path / "p")
    folder = tmp_path / "parquet"
    export(project, None, "parquet", folder)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "labels.parquet")
    place = table.schema.get_field_index("is_ignored")
    flags = pa.array([True, False, False])
    table = table.set_column(place, table.schema.field(place), flags)
    pq.write_table(table, folder / "labels.parquet")
    other = ea_arrow.init(tmp_path / "other", folder)
    found, document = written(other, tmp_path, None)
    assert [a.get("ignore") for a in document["annotations"]] == [1, None, None]
    assert list(found.notes.values()) == [1]


def test_annotations_without_whole_ids_are_numbered(tmp_path):
    truth = json.loads(json.dumps(GROUND_TRUTH))
    truth["annotations"][1]["id"] = "b"
    found, document = written(make_project(tmp_path / "p", truth=truth), tmp_path, None)
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3]
    assert list(found.notes.values()) == [3]


def test_an_empty_iteration_is_an_empty_list(tmp_path):
    project = make_project(tmp_path / "p")
    with project.writer("base"):
        pass
    found, document = written(project, tmp_path)
    assert (document, found.rows) == ([], 0)


def test_pycocotools_finds_the_same_numbers(tmp_path):
    random = np.random.default_rng(5)
    rows = [
        {"image_id": i, "category_id": c, "bbox": list(random.random(4) * 40), "score": s}
        for i in (1, 2)
        for c in (1, 2)
        for s in random.random(20)
    ]
    project = project_with(tmp_path / "p", rows + RESULTS)
    export(project, None, "coco", tmp_path / "gt.json")
    export(project, "base", "coco", tmp_path / "res.json")
    truth = COCO(tmp_path / "gt.json")
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "res.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == project.metrics("base").to_arrow()["value"][0].as_py()


def test_more_rows_than_a_piece_has_are_one_list(tmp_path, monkeypatch):
    monkeypatch.setattr("ea_arrow.exports.base.BATCH_ROWS", 7)
    rows = [RESULTS[i % 3] | {"score": i / 100} for i in range(50)]
    project = make_project(tmp_path / "p")
    import_results(project, rows, "base")
    _, document = written(project, tmp_path)
    assert document == rows
    again(project, "coco")
    assert same(rows_of(project, "base"), rows_of(project, "again"))
