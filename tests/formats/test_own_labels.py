"""Ground truth in our own columns, and what a project has written of itself."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ea_arrow
from ea_arrow.errors import SourceError
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.own_labels import LABELS
from ea_arrow.sources.own_tables import PREDICTIONS
from ea_arrow.sources.samples import Sample
from tests.formats.dataset import coco_ground_truth, write_json
from tests.formats.table_reading import rows_of, source, text


@pytest.fixture
def project(tmp_path):
    truth = coco_ground_truth()
    truth["annotations"][0] |= {"segmentation": [[4, 4, 20, 4, 20, 20]], "iscrowd": 1, "area": 77}
    truth["annotations"][1] |= {"segmentation": {"size": [32, 64], "counts": [1024, 64, 960]}}
    project = ea_arrow.init(tmp_path / "project", write_json(tmp_path / "gt.json", truth))
    results = [
        {"image_id": 1, "category_id": 1, "score": 0.1 + 0.2, "bbox": [1 / 3, 2, 3, 4]},
        {
            "image_id": 2,
            "category_id": 2,
            "score": 0.5,
            "segmentation": {"size": [64, 128], "counts": [4096, 64, 4032]},
        },
        {"image_id": 3, "category_id": 3, "score": 0.5, "segmentation": [[0, 0, 9.5, 0, 9, 9]]},
    ]
    project.import_predictions(write_json(tmp_path / "results.json", results), "x")
    return project


def as_text(value):
    if isinstance(value, bytes):
        return value.decode()
    return {k: as_text(v) for k, v in value.items()} if isinstance(value, dict) else value


def write_like_query(table, path):
    """As ``ea-arrow query … --format`` prints tables."""
    rows = [{k: as_text(v) for k, v in row.items()} for row in table.to_pylist()]
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".ndjson":
        text(path, *map(json.dumps, rows))
    else:
        cells = [
            '"' + (json.dumps(v) if isinstance(v, dict | list) else str(v)).replace('"', '""') + '"'
            if v is not None
            else ""
            for row in rows
            for v in row.values()
        ]
        width = len(table.schema.names)
        lines = [",".join(cells[i : i + width]) for i in range(0, len(cells), width)]
        text(path, ",".join(table.schema.names), *lines)
    return path


SAME = (
    *("data_hash", "frame", "format", "feature_hash", "bbox_x", "bbox_y", "bbox_w", "bbox_h"),
    *("theta", "mask", "polygon", "area"),
)


def stored(project, table):
    names = {row["feature_hash"]: row["name"] for row in project.classes.to_arrow().to_pylist()}
    titles = {row["data_hash"]: row["title"] for row in project.data_units.to_arrow().to_pylist()}
    return [
        {name: row[name] for name in SAME[2:] if name != "feature_hash"}
        | {"class": names[row["feature_hash"]], "title": titles[row["data_hash"]]}
        | {name: row[name] for name in ("confidence", "is_crowd", "track_id") if name in row}
        for row in table.to_arrow().to_pylist()
    ]


@pytest.mark.parametrize("name", ["p.csv", "p.ndjson", "p.parquet"])
def test_a_projects_predictions_are_read_back_as_they_were(project, tmp_path, name):
    path = write_like_query(project.predictions("x").to_arrow(), tmp_path / name)
    assert PREDICTIONS.sniff(Sample(path))
    opened = source(PREDICTIONS, path)
    rows = rows_of(opened.batches())
    assert opened.notes == {}
    given = project.predictions("x").to_arrow().to_pylist()
    for row, own in zip(rows, given, strict=True):
        assert row["rule"] is None
        assert {name: row[name] for name in SAME[4:]} == {name: own[name] for name in SAME[4:]}
        assert (row["unit"], row["class_ref"], row["frame"], row["format"], row["confidence"]) == (
            *(own["data_hash"], own["feature_hash"], own["frame"]),
            *(own["format"], own["confidence"]),
        )


def test_an_export_of_labels_makes_the_same_project(project, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    pq.write_table(project.labels.to_arrow(), folder / "labels.parquet")
    pq.write_table(project.data_units.to_arrow(), folder / "data_units.parquet")
    pq.write_table(project.classes.to_arrow(), folder / "classes.parquet")
    assert LABELS.sniff(Sample(folder))
    assert not PREDICTIONS.sniff(Sample(folder))
    truth = LABELS.read(Files(folder, (folder,)), Reading())
    assert truth.data_units.to_pylist() == project.data_units.to_arrow().to_pylist()
    assert truth.ontology.to_table().to_pylist() == project.classes.to_arrow().to_pylist()
    rows = rows_of(truth.labels)
    for row, own in zip(rows, project.labels.to_arrow().to_pylist(), strict=True):
        names = (*SAME[4:], "is_crowd", "is_ignored", "source_id", "track_id")
        assert {name: row[name] for name in names} == {name: own[name] for name in names}
        assert (row["unit"], row["class_ref"]) == (own["data_hash"], own["feature_hash"])


def test_nested_classifications_come_back_with_their_hashes(tmp_path):
    from ea_arrow.ontology import Ontology
    from ea_arrow.sources.own_exports import read_classes

    def option(name, **more):
        return {"id": "1", "featureNodeHash": f"o-{name}", "label": name, "value": name} | more

    def attribute(name, *options):
        return {
            "id": "1",
            "featureNodeHash": f"a-{name}",
            "name": name,
            "type": "radio",
            "options": list(options),
        }

    inner = attribute("How much > really?", option("a little"), option("much"))
    outer = attribute("Rain?", option("yes", options=[inner]), option("no"))
    second = attribute("Night?", option("dark"))
    nodes = [
        {"id": "1", "featureNodeHash": "c-1", "attributes": [outer]},
        {"id": "2", "featureNodeHash": "c-2", "attributes": [second]},
    ]
    ontology = Ontology({"objects": [], "classifications": nodes})
    pq.write_table(ontology.to_table(), tmp_path / "classes.parquet")
    assert read_classes(tmp_path / "classes.parquet").classes == ontology.classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "pixels"),
        ({"data_hash": None}, "missing values"),
        ({"data_hash": "same"}, "of another"),
    ],
)
def test_damaged_data_units_are_refused(project, tmp_path, change, message):
    from ea_arrow.sources.own_exports import read_units

    rows = [row | change for row in project.data_units.to_arrow().to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data_units.parquet")
    with pytest.raises(SourceError, match=message):
        read_units(tmp_path / "data_units.parquet")


# -- labels ----------------------------------------------------------------------------------------


def labels(path, **reading):
    return LABELS.read(Files(path, (path,)), Reading(**reading))


def test_labels_without_sizes_ask_for_images(tmp_path):
    path = text(tmp_path / "a.csv", "file_name,label,x,y,w,h", "a.png,dog,1,2,3,4")
    with pytest.raises(SourceError, match=r"size of 1 data units is not known: a\.png") as caught:
        labels(path)
    assert "--images DIR" in str(caught.value.hint)


def test_a_data_unit_of_two_sizes_is_refused(tmp_path):
    header = "file_name,label,x,y,w,h,image_width,image_height"
    path = text(tmp_path / "a.csv", header, "a,dog,1,2,3,4,9,9", "a,dog,1,2,3,4,9,8")
    with pytest.raises(SourceError, match=r"\(9, 9\) pixels, and elsewhere \(9, 8\)"):
        labels(path)


def test_data_units_and_classes_are_in_order_of_their_numbers(tmp_path):
    header = "image_id,category_id,category_name,x,y,w,h,width,height,file_name"
    lines = [f"{i},{i},name {i},1,2,3,4,64,32,{i}.jpg" for i in (10, 9, 100)]
    truth = labels(text(tmp_path / "a.csv", header, *lines))
    assert truth.data_units["source_id"].to_pylist() == ["9", "10", "100"]
    assert truth.data_units["title"].to_pylist() == ["9.jpg", "10.jpg", "100.jpg"]
    assert [(c.source_id, c.name) for c in truth.ontology.classes] == [
        ("9", "name 9"),
        ("10", "name 10"),
        ("100", "name 100"),
    ]


def test_feature_hashes_are_kept(tmp_path):
    header = "data_hash,feature_hash,class_name,x,y,w,h,width,height,is_crowd"
    truth = labels(text(tmp_path / "a.csv", header, "u,Ab+/=,dog,1,2,3,4,64,32,true"))
    (found,) = truth.ontology.classes
    assert (found.feature_hash, found.name) == ("Ab+/=", "dog")
    assert truth.data_units["data_hash"].to_pylist() == ["u"]
    (row,) = rows_of(truth.labels)
    assert (row["unit"], row["class_ref"], row["is_crowd"]) == ("u", "Ab+/=", True)


def test_frames_of_a_video_are_data_units(tmp_path):
    header = "data_hash,frame,label,x,y,w,h,width,height,track_id"
    lines = [f"v,{frame},dog,1,2,3,4,64,32,t" for frame in (2, 0)]
    truth = labels(text(tmp_path / "a.csv", header, *lines))
    units = truth.data_units.select(["data_hash", "frame"]).to_pylist()
    assert units == [{"data_hash": "v", "frame": 0}, {"data_hash": "v", "frame": 2}]


def test_columns_that_only_name_what_others_hold_are_no_riddle(tmp_path):
    lines = ("7,a.jpg,a,10,10,3,dog,hound,0,0,5,5", "7,a.jpg,a,10,10,4,cat,puss,0,0,5,5")
    header = "image_id,file_name,image,width,height,category_id,category_name,label,x,y,w,h"
    path = text(tmp_path / "a.csv", header, *lines)
    found = LABELS.read(Files(path, (path,)), Reading())
    list(found.labels)
    assert [c.name for c in found.ontology.classes] == ["dog", "cat"]
    assert found.data_units["title"].to_pylist() == ["a.jpg"]
    assert found.notes == {
        "columns not read, as image_id names the data unit: image": 1,
        "columns not read, as category_id names the class: label": 1,
    }


def test_an_export_of_labels_as_csv_is_read_without_remark(project, tmp_path):
    project.export(None, "csv", tmp_path / "labels.csv")
    found = LABELS.read(Files(tmp_path / "labels.csv", (tmp_path / "labels.csv",)), Reading())
    list(found.labels)
    assert not [note for note in found.notes if "columns" in note]
