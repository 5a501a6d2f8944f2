"""Encord Active's directory: the files it read, and the numbers it computed from them."""

import ast
import csv
import json

import numpy as np
import pytest

import ea_arrow
from ea_arrow.exporting import export
from tests.builders import GROUND_TRUTH, RESULTS, import_results, make_encord_project, make_project
from tests.exports.rows import mask_of, project_with

PREDICTION_COLUMNS = [
    *("identifier", "url", "img_id", "class_id", "x1", "y1", "x2", "y2"),
    *("rle", "theta", "confidence", "iou"),
]


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(folder):
    """The four files."""
    documents = [json.loads((folder / f"{n}.json").read_text())
                 for n in ("ground_truths_matched", "class_idx")]  # fmt: skip
    return table(folder / "predictions.csv"), table(folder / "labels.csv"), *documents


def written(project, folder, name="base"):
    found = export(project, name, "encord", folder / "out", overwrite=True)
    return found, *read(folder / "out")


def test_the_files_are_as_encord_active_had_them(tmp_path):
    rows = [
        RESULTS[2],
        RESULTS[0],
        RESULTS[0] | {"score": 0.2, "bbox": [12, 10, 20, 20]},
        RESULTS[1],
    ]
    found, predictions, labels, matched, classes = written(
        project_with(tmp_path / "p", rows), tmp_path
    )
    assert found.files == 4
    assert list(predictions[0]) == ["", *PREDICTION_COLUMNS]
    assert list(labels[0]) == ["", *PREDICTION_COLUMNS[:-2]]
    assert [row[""] for row in predictions] == ["0", "1", "2", "3"]
    assert [float(row["confidence"]) for row in predictions] == [0.9, 0.8, 0.7, 0.2]
    ious = [float(row["iou"]) for row in predictions]
    assert ious == [1, 0, 470 / 480, 18 * 20 / (2 * 400 - 18 * 20)]
    assert [predictions[3][k] for k in ("x1", "y1", "x2", "y2")] == ["12", "10", "32", "30"]
    assert matched == {
        "0": {"0": [{"lidx": 0, "pidxs": [0, 3]}], "1": [{"lidx": 2, "pidxs": [2]}]},
        "1": {"0": [{"lidx": 1, "pidxs": []}]},
    }
    assert classes["1"]["name"] == "dog"
    assert set(classes["0"]) == {"featureHash", "name", "color"}
    assert [row["img_id"] for row in predictions] == ["0", "0", "1", "0"]
    assert [row["class_id"] for row in labels] == ["0", "1", "0"]


def test_identifiers_are_of_label_row_data_unit_frame_and_object(tmp_path):
    project = make_encord_project(tmp_path / "p")
    box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
    with project.writer("base") as writer:
        for frame in (0, 4):
            writer.add_prediction(
                data_hash="film", frame=frame, class_uid="car", confidence_score=0.5, bbox=box
            )
    _, predictions, labels, *_ = written(project, tmp_path)
    assert [row["identifier"] for row in labels] == ["row_film_00000_track", "row_film_00004_track"]
    first, second = (row["identifier"].split("_") for row in predictions)
    assert first[:3] == ["row", "film", "00000"]
    assert second[:3] == ["row", "film", "00004"]
    assert len({first[3], second[3]}) == 2


def test_masks_are_runs_of_rows(tmp_path):
    truth = json.loads(json.dumps(GROUND_TRUTH))
    truth["annotations"][2]["segmentation"] = [[0, 0, 2, 0, 2, 2, 0, 2]]
    rows = [
        {
            "image_id": 2,
            "category_id": 1,
            "score": 0.9 - seed / 10,
            "segmentation": mask_of(seed, 640, 480),
        }
        for seed in range(4)
    ]
    project = make_project(tmp_path / "p", truth=truth)
    import_results(project, rows, "base")
    found, predictions, labels, *_ = written(project, tmp_path)
    square = ast.literal_eval(labels[2]["rle"])
    assert square == {"size": [480, 640], "counts": [0, 2, 638, 2, 480 * 640 - 642]}
    stored = project.predictions("base").to_arrow()["mask"].to_pylist()
    for row, mask in zip(predictions, stored, strict=True):
        rle = ast.literal_eval(row["rle"])
        pixels = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"]).reshape(rle["size"])
        assert pixels.sum() == mask["area"]
        ys, xs = np.nonzero(pixels)
        assert (xs.min(), ys.min()) == (mask["x"], mask["y"])
    assert found.notes == {"labels written beside, as labels.csv": 3}


def outcomes(predictions, labels, matched, threshold):
    """What Encord Active made of the files: true positives, and labels that were not found."""
    is_tp, missed = [False] * len(predictions), set(range(len(labels)))
    for images in matched.values():
        for entries in images.values():
            for entry in entries:
                reached = [p for p in entry["pidxs"] if float(predictions[p]["iou"]) >= threshold]
                if reached:
                    is_tp[reached[0]] = True
                    missed.discard(entry["lidx"])
    return is_tp, missed


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.75])
def test_its_true_positives_are_those_of_our_protocol(tmp_path, threshold, monkeypatch):
    monkeypatch.setattr("ea_arrow.exports.base.BATCH_ROWS", 40)
    monkeypatch.setattr("ea_arrow.exports.encord._LINES", 30)
    random = np.random.default_rng(7)
    truth = json.loads(json.dumps(GROUND_TRUTH))
    truth["annotations"] = [
        {
            "id": i,
            "image_id": int(random.integers(1, 3)),
            "category_id": int(random.integers(1, 3)),
            "bbox": (random.random(4) * 30 + 10).tolist(),
        }
        for i in range(1, 41)
    ]
    boxes = [a["bbox"] for a in truth["annotations"]]
    rows = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": (np.array(boxes[i]) + random.normal(0, 3, 4)).clip(0.1).tolist(),
            "score": round(float(random.random()), 1),  # many are equal
        }
        for _ in range(5)
        for i, a in enumerate(truth["annotations"])
    ]
    project = make_project(tmp_path / "p", truth=truth)
    import_results(project, rows, "base")
    _, predictions, labels, matched, _ = written(project, tmp_path)
    is_tp, missed = outcomes(predictions, labels, matched, threshold)
    ours = (
        project.matches("base", protocol="encord", iou_threshold=threshold).to_arrow().to_pylist()
    )
    of_predictions = [row for row in ours if row["prediction_id"] is not None]
    order = sorted(of_predictions, key=lambda row: (-row["confidence"], row["prediction_id"]))
    assert is_tp == [row["outcome"] == "TP" for row in order]
    assert 0 < sum(is_tp) < len(is_tp)
    assert missed == {row["label_id"] for row in ours if row["prediction_id"] is None}
    found = [float(row["iou"]) for row in predictions]
    assert found == [row["iou"] or 0 for row in order]


def test_texts_are_quoted(tmp_path):
    truth = json.loads(json.dumps(GROUND_TRUTH))
    truth["images"][0]["file_name"] = 'a "b", c.jpg'
    project = make_project(tmp_path / "p", truth=truth)
    import_results(project, RESULTS, "base")
    _, predictions, *_ = written(project, tmp_path)
    assert predictions[0]["url"] == 'a "b", c.jpg'


def test_an_empty_iteration_has_headers(tmp_path):
    project = make_project(tmp_path / "p")
    with project.writer("base"):
        pass
    _, predictions, labels, matched, _ = written(project, tmp_path)
    assert (len(predictions), len(labels)) == (0, 3)
    assert matched["1"] == {"0": [{"lidx": 1, "pidxs": []}]}
    assert (tmp_path / "out/predictions.csv").read_text().count("\n") == 1


def test_a_project_without_labels_of_objects_has_no_matches(tmp_path):
    truth = GROUND_TRUTH | {"annotations": []}
    project = make_project(tmp_path / "p", truth=truth)
    import_results(project, RESULTS, "base")
    _, predictions, labels, matched, _ = written(project, tmp_path)
    assert (len(predictions), labels, matched) == (3, [], {})


def test_labels_alone_are_refused(tmp_path):
    with pytest.raises(ea_arrow.EaArrowError, match="labels alone cannot be written"):
        export(make_project(tmp_path / "p"), None, "encord", tmp_path / "out")
