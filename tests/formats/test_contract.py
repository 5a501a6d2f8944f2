"""What every format must do: be recognised, read exactly, account for every row."""

from pathlib import Path

import pytest

import ea_arrow
from ea_arrow.sources.registry import LABELS as LABEL_FORMATS
from ea_arrow.sources.registry import PREDICTIONS as PREDICTION_FORMATS
from ea_arrow.sources.samples import Sample
from tests.formats.conftest import cases
from tests.formats.dataset import (
    CLASSES,
    LABELS,
    PREDICTIONS,
    UNITS,
    coco_ground_truth,
    coco_results,
    write_json,
)


@pytest.fixture
def project(tmp_path):
    truth = write_json(tmp_path / "truth" / "gt.json", coco_ground_truth())
    return ea_arrow.init(tmp_path / "project", truth)


def rows_of(project, table):
    """What is stored: file name, class name, box, score."""
    stems = {
        row["data_hash"]: Path(row["title"] or row["source_id"]).name.removesuffix(".png")
        for row in project.data_units.to_arrow().to_pylist()
    }
    names = {row["feature_hash"]: row["name"] for row in project.classes.to_arrow().to_pylist()}
    return [
        (
            stems[row["data_hash"]],
            names[row["feature_hash"]],
            (row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]),
            row.get("confidence"),
        )
        for row in table.to_pylist()
    ]


def expected(rows):
    return [(UNITS[row.unit].stem, CLASSES[row.cls], row.box, row.score) for row in rows]


def made(folder):
    folder.mkdir()
    return folder


def draw_images(folder):
    from PIL import Image

    folder.mkdir()
    for unit in UNITS:
        Image.new("RGB", (unit.width, unit.height)).save(folder / unit.name)
    return folder


def ap(project):
    metrics = project.metrics("x", protocol="coco").to_arrow().to_pylist()
    found = {
        (m["metric"], m["area_range"], m["max_detections"]): m["value"]
        for m in metrics
        if m["feature_hash"] is None
    }
    assert 0 < found["AP", "all", 100] < 1
    return found


def given_options(case, folder):
    options = case.options(folder) if callable(case.options) else dict(case.options)
    return options if case.detected else {"format": case.format} | options


def test_predictions_are_recognised_as_this_format_alone(prediction, tmp_path):
    paths = prediction.write(tmp_path)
    sample = Sample(paths[0])
    claimed = [known.name for known in PREDICTION_FORMATS.values() if known.sniff(sample)]
    if prediction.detected:
        assert claimed == [prediction.format]
    else:
        assert claimed != [] or prediction.format in PREDICTION_FORMATS


def test_predictions_are_read_exactly_and_give_the_same_metrics(prediction, tmp_path, project):
    paths = prediction.write(made(tmp_path / "in"))
    result = project.import_predictions(paths, "x", **given_options(prediction, tmp_path / "in"))
    rows = rows_of(project, project.predictions("x").to_arrow())
    assert (rows if prediction.ordered else sorted(rows)) == (
        expected(PREDICTIONS) if prediction.ordered else sorted(expected(PREDICTIONS))
    )
    ledger = result.ledger
    assert (ledger.read, ledger.kept, ledger.rejects) == (8, 8, {})
    assert ap(project) == pytest.approx(reference_ap(tmp_path), abs=0)


def reference_ap(folder):
    truth = write_json(folder / "reference" / "gt.json", coco_ground_truth())
    project = ea_arrow.init(folder / "reference" / "project", truth)
    results = write_json(folder / "reference" / "x.json", coco_results())
    project.import_predictions(results, "x")
    return ap(project)


def test_bad_rows_are_refused_with_their_place_and_the_others_kept(prediction, tmp_path, project):
    if prediction.spoil is None:
        pytest.skip("the format has no rows that could be bad one by one")
    paths, rejects = prediction.spoil(made(tmp_path / "in"))
    options = given_options(prediction, tmp_path / "in")
    result = project.import_predictions(paths, "x", **options)
    assert result.ledger.rejects == rejects
    assert result.ledger.read == 8 + sum(rejects.values())
    assert result.ledger.kept == 8
    kept = project.sql("select rules[1] as rule, count(*) as n from rejects group by all")
    assert {row["rule"]: row["n"] for row in kept.to_arrow().to_pylist()} == rejects
    places = project.sql("select source, source_row, message from rejects").to_arrow().to_pylist()
    assert len({(row["source"], row["source_row"]) for row in places}) == len(places)
    assert all(row["message"] for row in places)


def test_ground_truth_is_recognised_as_this_format_alone(label, tmp_path):
    sample = Sample(label.write(tmp_path))
    claimed = [known.name for known in LABEL_FORMATS.values() if known.sniff(sample)]
    assert claimed == [label.format]


def init_with(label, path, folder):
    options = label.options(folder) if callable(label.options) else dict(label.options)
    if label.images:
        options["images"] = draw_images(folder / "drawn")
    return ea_arrow.init(folder / "made", path, **options)


def test_ground_truth_is_read_exactly_and_gives_the_same_metrics(label, tmp_path):
    project = init_with(label, label.write(made(tmp_path / "in")), tmp_path)
    rows = rows_of(project, project.labels.to_arrow())
    assert sorted(rows) == sorted(expected(LABELS))
    assert project.ledger.kept == project.ledger.read == len(LABELS)
    units = {
        Path(row["title"] or row["source_id"]).name.removesuffix(".png"): (
            row["width"],
            row["height"],
        )
        for row in project.data_units.to_arrow().to_pylist()
    }
    wanted = {unit.stem: (unit.width, unit.height) for unit in UNITS}
    if not label.empty_units:
        del wanted["empty"]
    assert units == wanted
    results = write_json(tmp_path / "x.json", by_file_name(coco_results()))
    project.import_predictions(results, "x", classes={"1": "person", "2": "car", "3": "bus"})
    assert ap(project) == pytest.approx(reference_ap(tmp_path), abs=0)


def by_file_name(results):
    return [row | {"image_id": UNITS[row["image_id"] - 1].name} for row in results]


def test_bad_labels_are_refused_and_the_others_kept(label, tmp_path):
    if label.spoil is None:
        pytest.skip("the format has no rows that could be bad one by one")
    path, rejects = label.spoil(made(tmp_path / "in"))
    project = init_with(label, path, tmp_path)
    assert project.ledger.rejects == rejects
    assert project.ledger.kept == len(LABELS)
    assert project.ledger.read == len(LABELS) + sum(rejects.values())


def test_every_format_has_a_case():
    predictions = {case.format for _, case in cases("PREDICTION_CASES")}
    labels = {case.format for _, case in cases("LABEL_CASES")}
    assert set(PREDICTION_FORMATS) - predictions == NO_BOXES
    assert set(LABEL_FORMATS) - labels == NO_BOX_LABELS


NO_BOXES = {"classification", "mot"}  # which cannot hold this data set, tested on their own
NO_BOX_LABELS = {"classification", "mot"}
