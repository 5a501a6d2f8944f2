"""Encord ground truth: projects of every version and label rows, read as Encord means them."""

import json
import sqlite3
import warnings
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as pycocotools_mask

from ea_arrow.errors import SourceError
from ea_arrow.ledger import REJECTS
from ea_arrow.schema import DATA_UNITS, RAW
from ea_arrow.sources.encord import read_ground_truth, sniff_ground_truth
from ea_arrow.sources.samples import Sample

ONTOLOGY = {
    "objects": [
        {"id": "1", "name": "Car", "shape": "bounding_box", "featureNodeHash": "car+/hash"},
    ],
    "classifications": [
        {
            "id": "2",
            "featureNodeHash": "clf",
            "attributes": [
                {
                    "name": "Weather",
                    "type": "radio",
                    "featureNodeHash": "weather",
                    "options": [{"label": "Sun", "featureNodeHash": "sun"}],
                },
                {"name": "Note", "type": "text", "featureNodeHash": "note"},
                {
                    "name": "Seen",
                    "type": "checklist",
                    "featureNodeHash": "seen",
                    "options": [{"label": "Dog", "featureNodeHash": "dog"}],
                },
            ],
        }
    ],
}
BOX = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
POINTS = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.8), (0.1, 0.8)]
FLAT = [0.1, 0.1, 0.9, 0.1, 0.9, 0.8, 0.1, 0.8]


def box(object_hash="obj1", **more):
    return {
        "name": "Car",
        "shape": "bounding_box",
        "objectHash": object_hash,
        "featureHash": "car+/hash",
        "boundingBox": BOX,
    } | more


def thing(shape, **more):
    entry = box(shape=shape)
    del entry["boundingBox"]
    return entry | more


def labels(*objects, classifications=()):
    return {"objects": list(objects), "classifications": list(classifications)}


def image_row(*objects, data_hash="unit1", label_hash="label1", classifications=(), **more):
    return {
        "label_hash": label_hash,
        "data_hash": "row-" + data_hash,
        "data_title": "row title",
        "data_type": "image",
        "data_units": {
            data_hash: {
                "data_hash": data_hash,
                "data_title": f"{data_hash}.jpg",
                "data_link": f"https://host/{data_hash}.jpg?X-Signature=secret",
                "data_type": "image/jpeg",
                "data_sequence": "0",
                "width": 6,
                "height": 4,
                "labels": labels(*objects, classifications=classifications),
            }
        },
    } | more


def video_row(frames, label_hash="label2", **more):
    return {
        "label_hash": label_hash,
        "data_hash": "video1",
        "data_title": "film.mp4",
        "data_type": "video",
        "data_units": {
            "video1": {
                "data_hash": "video1",
                "data_title": "film.mp4",
                "data_type": "video/mp4",
                "data_sequence": 0,
                "data_fps": 25,
                "width": 6,
                "height": 4,
                "labels": frames,
            }
        },
    } | more


def group_row():
    row = image_row(data_hash="g", label_hash="label3", data_type="img_group")
    unit = row["data_units"].pop("g")
    for sequence, data_hash in (("10", "unitC"), ("2", "unitB"), ("0", "unitA")):
        row["data_units"][data_hash] = unit | {
            "data_hash": data_hash,
            "data_sequence": sequence,
            "labels": labels(box("shared")),
        }
    return row


@pytest.fixture
def read(tmp_path):
    def read(*label_rows, ontology=ONTOLOGY):
        path = tmp_path / "labels.json"
        path.write_text(json.dumps({"ontology": ontology, "label_rows": label_rows}))
        return rows_of(read_ground_truth(path))

    return read


def rows_of(truth):
    batches = list(truth.labels)
    assert all(batch.schema.equals(RAW.arrow) for batch in batches)
    assert truth.data_units.schema.equals(DATA_UNITS.arrow)
    return truth, pa.Table.from_batches(batches, RAW.arrow).to_pylist()


def given(row):
    return {key: value for key, value in row.items() if value is not None}


# Objects


def test_a_box_is_read_as_given_relative(read):
    truth, [row] = read(image_row(box()))
    assert given(row) == {
        "source_row": 0,
        "unit": "unit1",
        "frame": 0,
        "class_ref": "car+/hash",
        "format": "bounding_box",
        "bbox_x": 0.1,
        "bbox_y": 0.2,
        "bbox_w": 0.3,
        "bbox_h": 0.4,
        "source_id": "obj1",
    }
    assert truth.coordinates.relative
    assert truth.coordinates.unit_key == "data_hash"
    assert truth.coordinates.class_key == "feature_hash"


def test_a_rotated_box_keeps_its_angle(read):
    entry = thing("rotatable_bounding_box", rotatableBoundingBox=BOX | {"theta": 30})
    _, [row] = read(image_row(entry))
    assert (row["format"], row["theta"], row["bbox_h"]) == ("rotatable_bounding_box", 30, 0.4)


@pytest.mark.parametrize(
    "polygon",
    [
        {str(i): {"x": x, "y": y} for i, (x, y) in enumerate(POINTS)},
        [{"x": x, "y": y} for x, y in POINTS],
        FLAT,
    ],
)
def test_every_form_of_a_polygon_is_the_same_ring(read, polygon):
    _, [row] = read(image_row(thing("polygon", polygon=polygon)))
    assert row["format"] == "polygon"
    assert row["polygon"] == [FLAT]


def test_points_of_a_polygon_are_sorted_by_number_not_by_text(read):
    points = {str(i): {"x": i / 20, "y": 0.5} for i in range(12)}
    shuffled = dict(sorted(points.items()))
    assert list(shuffled) != list(points)
    _, [row] = read(image_row(thing("polygon", polygon=shuffled)))
    assert row["polygon"][0][0::2] == [i / 20 for i in range(12)]


def test_polygons_of_many_parts_win_over_the_first_part_and_their_holes_are_filled(read):
    hole = [0.2, 0.2, 0.3, 0.2, 0.3, 0.3]
    other = [0.0, 0.0, 0.05, 0.0, 0.05, 0.05]
    entry = thing("polygon", polygon={"0": {"x": 0, "y": 0}}, polygons=[[FLAT, hole], [other]])
    truth, [row] = read(image_row(entry))
    assert row["polygon"] == [FLAT, other]
    assert truth.notes["holes of polygons, filled"] == 1


# A bitmask of 2 rows and 3 columns, runs row by row 1, 3, 2:   0 1 1
#                                                               1 0 0
CROP = {"height": 2, "width": 3, "rleString": "132"}


def dense(row):
    mask = row["mask"]
    rle = {"size": [mask["height"], mask["width"]], "counts": mask["counts"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools under numpy 2
        return pycocotools_mask.decode(rle)


def test_a_bitmask_of_its_frames_size_is_turned_column_major(read):
    unit_row = image_row(thing("bitmask", bitmask=CROP | {"top": 0, "left": 0}))
    unit_row["data_units"]["unit1"] |= {"width": 3, "height": 2}
    _, [row] = read(unit_row)
    # Column by column: 0 1 | 1 0 | 1 0, runs 1, 2, 1, 1, 1; from the fourth on, COCO's string
    # holds the difference to the run before last: −1 and 0.
    assert row["format"] == "mask"
    assert row["mask"]["counts"] == b"121O0"
    assert dense(row).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_a_bitmask_of_a_part_is_placed_into_the_frame(read):
    _, [row] = read(image_row(thing("bitmask", bitmask=CROP | {"top": 1, "left": 2})))
    expected = np.zeros((4, 6), dtype=np.uint8)
    expected[1, 3] = expected[1, 4] = expected[2, 2] = 1
    assert dense(row).tolist() == expected.tolist()
    assert row["mask"] == {
        "height": 4,
        "width": 6,
        "counts": b":120103",
        "area": 3,
        "x": 2,
        "y": 1,
        "w": 3,
        "h": 2,
    }


def test_random_bitmasks_agree_with_pycocotools(read):
    random = np.random.default_rng(0)
    pixels = [random.random((4, 6)) < p for p in (0, 0.2, 0.5, 0.9, 1)]
    entries = [
        thing(
            "bitmask",
            # Row-major runs are the column-major runs of the transpose.
            bitmask={
                "top": 0,
                "left": 0,
                "height": 4,
                "width": 6,
                "rleString": pycocotools_mask.encode(np.asfortranarray(p.T, dtype=np.uint8))[
                    "counts"
                ].decode(),
            },
        )
        for p in pixels
    ]
    _, rows = read(image_row(*entries))
    assert [dense(row).astype(bool).tolist() for row in rows] == [p.tolist() for p in pixels]


@pytest.mark.parametrize(
    ("entry", "rule", "found"),
    [
        (thing("polyline", polyline={}), "unsupported_shape", "'polyline'"),
        (thing("skeleton"), "unsupported_shape", "'skeleton'"),
        (thing("point", point={"0": {"x": 0, "y": 0}}), "unsupported_shape", "'point'"),
        (thing(None), "unsupported_shape", "None"),
        (thing("bounding_box"), "invalid_box", "boundingBox is None"),
        (box(boundingBox={"x": 0, "y": 0, "w": 1}), "invalid_box", "boundingBox.h has None"),
        (box(boundingBox=BOX | {"x": "0"}), "invalid_box", "'0'"),
        (box(boundingBox=BOX | {"x": float("nan")}), "not_finite", "nan"),
        (
            thing("rotatable_bounding_box", rotatableBoundingBox=BOX),
            "invalid_box",
            "theta has None",
        ),
        (thing("polygon"), "invalid_polygon", "None"),
        (thing("polygon", polygon={"0": {"x": 0, "y": 1}}), "invalid_polygon", "three points"),
        (thing("polygon", polygon={"a": {}}), "invalid_polygon", "['a']"),
        (thing("polygon", polygon=[{"x": 0}] * 3), "invalid_polygon", "None"),
        (thing("polygon", polygons=[[]]), "invalid_polygon", "[[]]"),
        (thing("polygon", polygons=7), "invalid_polygon", "7"),
        (thing("bitmask"), "invalid_mask", "bitmask is None"),
        (thing("bitmask", bitmask=CROP | {"top": -1, "left": 0}), "invalid_mask", "-1"),
        (thing("bitmask", bitmask=CROP | {"top": 3, "left": 0}), "invalid_mask", "leaves"),
        (
            thing("bitmask", bitmask=CROP | {"top": 0, "left": 0, "rleString": "133"}),
            "invalid_mask",
            "7 pixels",
        ),
        (
            thing("bitmask", bitmask=CROP | {"top": 0, "left": 0, "rleString": "~"}),
            "invalid_mask",
            "COCO",
        ),
        ("text", "invalid_data", "'text'"),
    ],
)
def test_what_cannot_be_stored_is_a_reject_that_says_what_was_found(read, entry, rule, found):
    _, [bad, good] = read(image_row(entry, box("good")))
    assert bad["rule"] == rule
    assert rule in REJECTS
    assert found in bad["message"]
    assert (good["rule"], good["source_id"], good["source_row"]) == (None, "good", 1)


def test_a_shape_that_is_not_named_is_told_from_the_geometry(read):
    entry = box()
    del entry["shape"]
    _, [row] = read(image_row(entry))
    assert row["format"] == "bounding_box"


# Classifications


def classified(*answers, **more):
    entry = {"featureHash": "clf", "classificationHash": "c1", "name": "Weather"}
    return image_row(
        classifications=[entry],
        classification_answers={"c1": {"classifications": list(answers)}},
        **more,
    )


def test_a_radio_answer_is_a_classification_with_three_hashes(read):
    truth, [row] = read(classified({"featureHash": "weather", "answers": [{"featureHash": "sun"}]}))
    assert given(row) == {
        "source_row": 0,
        "unit": "unit1",
        "frame": 0,
        "format": "classification",
        "class_ref": "clf",
        "attribute_hash": "weather",
        "option_hash": "sun",
        "source_id": "c1",
    }
    assert truth.notes == {"text attributes, which hold no classes": 1}


@pytest.mark.parametrize(
    "answer",
    [
        {"featureHash": "note", "answers": "some text"},
        {"featureHash": "note", "answers": 4.5},
        {"featureHash": "seen", "answers": [{"featureHash": "dog"}]},
        {"featureHash": "weather", "answers": []},
        {"featureHash": "weather", "answers": [{"featureHash": "a"}, {"featureHash": "b"}]},
        {"featureHash": "weather"},
        "text",
    ],
)
def test_other_answers_are_counted_as_unsupported(read, answer):
    _, [row] = read(classified(answer))
    assert (row["rule"], row["class_ref"]) == ("unsupported_answer", "clf")
    assert row["message"]


def test_a_classification_without_an_answer_is_counted(read):
    _, [row] = read(classified())
    assert row["rule"] == "unsupported_answer"
    _, [row] = read(classified() | {"classification_answers": None})
    assert row["rule"] == "unsupported_answer"


def test_nested_answers_are_rows_of_their_own(read):
    _, rows = read(
        classified(
            {"featureHash": "weather", "answers": [{"featureHash": "sun"}]},
            {"featureHash": "deeper", "answers": [{"featureHash": "x"}]},
        )
    )
    assert [row["option_hash"] for row in rows] == ["sun", "x"]


def test_answers_on_no_frame_are_noted(read):
    truth, rows = read(image_row(classification_answers={"c9": {"classifications": []}}))
    assert rows == []
    assert truth.notes["classification answers on no image or frame"] == 1


# Data units


def test_an_image_goes_by_its_units_hash_not_its_rows(read):
    truth, _ = read(image_row())
    assert given(truth.data_units.to_pylist()[0]) == {
        "unit_id": 0,
        "data_hash": "unit1",
        "frame": 0,
        "width": 6,
        "height": 4,
        "title": "unit1.jpg",
        "uri": "https://host/unit1.jpg",
        "metadata": '{"label_hash": "label1"}',
    }


def test_a_video_has_a_unit_per_labelled_frame_and_tracks(read):
    frames = {"10": labels(box("a")), "9": labels(box("a"), box("b")), "100": labels()}
    truth, rows = read(video_row(frames))
    assert truth.data_units["frame"].to_pylist() == [9, 10, 100]
    assert set(truth.data_units["group"].to_pylist()) == {"video1"}
    assert [(row["unit"], row["frame"], row["track_id"]) for row in rows] == [
        ("video1", 9, "a"),
        ("video1", 9, "b"),
        ("video1", 10, "a"),
    ]


def test_a_video_without_labels_has_no_known_frames(read):
    truth, rows = read(video_row({}))
    assert (truth.data_units.num_rows, rows) == (0, [])
    assert truth.notes["videos without labels"] == 1


def test_an_image_without_labels_is_a_unit(read):
    row = image_row()
    row["data_units"]["unit1"]["labels"] = {}
    truth, rows = read(row)
    assert (truth.data_units.num_rows, rows) == (1, [])


def test_an_image_group_is_in_the_order_of_its_sequence(read):
    truth, rows = read(group_row())
    assert truth.data_units["data_hash"].to_pylist() == ["unitA", "unitB", "unitC"]
    assert truth.data_units["frame"].to_pylist() == [0, 0, 0]
    assert set(truth.data_units["group"].to_pylist()) == {"label3"}
    assert {row["track_id"] for row in rows} == {"shared"}


def test_a_unit_listed_twice_is_one_unit(read):
    truth, rows = read(image_row(box("a")), image_row(box("b"), label_hash="other"))
    assert truth.data_units.num_rows == 1
    assert len(rows) == 2
    assert truth.notes["data units listed more than once"] == 1


@pytest.mark.parametrize("size", [{"width": None}, {"height": 0}, {"width": -1, "height": -1}])
def test_unknown_sizes_are_an_error_with_the_fix(read, size):
    row = image_row()
    row["data_units"]["unit1"] |= size
    with pytest.raises(SourceError, match="1 of 2 data units have no width and height") as caught:
        read(row, image_row(data_hash="fine"))
    assert "Data hashes: unit1." in caught.value.message
    assert "Give sizes" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_units": []}, r"data_units \[\]; expected an object"),
        ({"data_units": {"u": 1}}, "data unit 'u' is 1"),
        ({"data_units": {"u": {"labels": [1]}}}, r"labels of u are \[1\]"),
        ({"data_units": {"u": {"labels": {"x": {}}}}}, "labels under 'x'; expected a frame"),
    ],
)
def test_a_broken_label_row_is_an_error_that_names_it(read, change, message):
    with pytest.raises(SourceError, match=message) as caught:
        read(image_row(), image_row() | change)
    assert "labels.json: label row 1" in caught.value.message


# Files of label rows


def test_label_rows_come_as_a_list_or_alone_with_the_ontology_beside(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([image_row(box()), video_row({"3": labels(box())})]))
    with pytest.raises(SourceError, match="There is no ontology at") as caught:
        read_ground_truth(path)
    assert "ontology.json" in caught.value.hint
    (tmp_path / "ontology.json").write_text(json.dumps(ONTOLOGY))
    assert len(rows_of(read_ground_truth(path))[1]) == 2
    path.write_text(json.dumps(image_row(box())))
    assert len(rows_of(read_ground_truth(str(path)))[1]) == 1


def test_an_ontology_given_by_path_wins(tmp_path):
    path, other = tmp_path / "labels.json", tmp_path / "other.json"
    path.write_text(json.dumps({"ontology": ONTOLOGY, "label_rows": []}))
    other.write_text(json.dumps({"objects": [], "classifications": []}))
    assert len(read_ground_truth(path).ontology) == 3
    assert len(read_ground_truth(path, other).ontology) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("7", "holds 7; expected Encord label rows"),
        ('{"label_rows": 7}', "holds 7"),
        ('{"images": []}', "label row 0 is {'images': .*}; expected Encord label rows"),
        ('{"ontology": [], "label_rows": []}', "labels.json: This is not an Encord ontology"),
        ("{", "ends in the middle"),
    ],
)
def test_a_file_of_another_kind_ends_in_an_error_that_helps(tmp_path, content, message):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_ground_truth(path)
    assert caught.value.hint


# Projects on disk


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "project one"
    path.mkdir()
    (path / "ontology.json").write_text(json.dumps(ONTOLOGY))
    (path / "project_meta.yaml").write_text("project_title: one\n")
    return path


def write_files(project, *label_rows, images=()):
    meta = {}
    for row in label_rows:
        directory = project / "data" / row["label_hash"]
        (directory / "images").mkdir(parents=True)
        (directory / "label_row.json").write_text(json.dumps(row))
        meta[row["label_hash"]] = {"data_hash": row["data_hash"]}
    for name in images:
        (project / "data" / name).touch()
    (project / "label_row_meta.json").write_text(json.dumps(meta | {"gone": {}}))


def test_a_project_of_files_is_read_in_the_order_of_its_meta_file(project):
    write_files(
        project,
        image_row(box("z"), label_hash="zzz", data_hash="unitZ"),
        image_row(box("a"), label_hash="aaa", data_hash="unitA"),
        images=["zzz/images/unitZ.png"],
    )
    truth, rows = rows_of(read_ground_truth(project))
    assert [row["source_id"] for row in rows] == ["z", "a"]
    assert [row["source_row"] for row in rows] == [0, 1]
    uris = truth.data_units["uri"].to_pylist()
    assert uris[0] == (project / "data/zzz/images/unitZ.png").resolve().as_uri()
    assert uris[1] == "https://host/unitA.jpg"


def test_frames_whose_images_are_there_are_units_of_their_video(project):
    names = [f"label2/images/video1_{i}.png" for i in (0, 7, 11)]
    write_files(project, video_row({"7": labels(box()), "9": labels()}), images=names)
    truth, _ = rows_of(read_ground_truth(project))
    units = truth.data_units
    assert units["frame"].to_pylist() == [0, 7, 9, 11]
    assert [bool(uri) for uri in units["uri"].to_pylist()] == [True, True, False, True]


def test_without_the_meta_file_label_rows_come_in_the_order_of_their_names(project):
    write_files(project, image_row(data_hash="b", label_hash="b"), image_row(label_hash="a"))
    (project / "label_row_meta.json").unlink()
    assert sniff_ground_truth(Sample(project))
    assert read_ground_truth(project).data_units["data_hash"].to_pylist() == ["unit1", "b"]


def test_a_directory_of_another_kind_is_refused(tmp_path, project):
    with pytest.raises(SourceError, match=r"is not an Encord Active project: it has no prisma.db"):
        read_ground_truth(tmp_path)
    assert not sniff_ground_truth(Sample(tmp_path))
    assert not sniff_ground_truth(Sample(project))
    write_files(project, image_row())
    (project / "ontology.json").unlink()
    with pytest.raises(SourceError, match="There is no ontology"):
        read_ground_truth(project)


NEW = """
CREATE TABLE LabelRow (id INTEGER PRIMARY KEY, label_hash TEXT, data_hash TEXT, data_title TEXT,
  data_type TEXT, label_row_json TEXT);
CREATE TABLE DataUnit (id INTEGER PRIMARY KEY, data_hash TEXT, data_title TEXT, frame INTEGER,
  data_uri TEXT, lr_data_hash TEXT, width INTEGER DEFAULT -1, height INTEGER DEFAULT -1);
"""
OLD = """
CREATE TABLE LabelRow (id INTEGER PRIMARY KEY, label_hash TEXT, data_hash TEXT, data_title TEXT,
  data_type TEXT, location TEXT);
CREATE TABLE DataUnit (id INTEGER PRIMARY KEY, data_hash TEXT, data_title TEXT, frame INTEGER,
  location TEXT, lr_data_hash TEXT);
"""


def write_database(project, label_rows, units, *, script=NEW, link="data_uri", wal=False):
    connection = sqlite3.connect(project / "prisma.db")
    if wal:
        connection.execute("PRAGMA journal_mode = wal")
    connection.executescript(script)
    column = "label_row_json" if script is NEW else "location"
    for row in label_rows:
        connection.execute(
            f"INSERT INTO LabelRow (label_hash, data_hash, data_title, data_type, {column}) "
            "VALUES (?, ?, ?, ?, ?)",
            [row[k] for k in ("label_hash", "data_hash", "data_title", "data_type")]
            + [row.get("stored", json.dumps(row))],
        )
    for unit in units:
        unit = {("data_uri" if k == "uri" else k): v for k, v in unit.items()}
        unit = {(link if k == "data_uri" else k): v for k, v in unit.items()}
        marks = ", ".join("?" * len(unit))
        connection.execute(
            f"INSERT INTO DataUnit ({', '.join(unit)}) VALUES ({marks})", list(unit.values())
        )
    connection.commit()
    connection.close()


def unit_record(data_hash, frame, lr_data_hash, uri=None, **size):
    return {
        "data_hash": data_hash,
        "data_title": f"{data_hash}.png",
        "frame": frame,
        "uri": uri,
        "lr_data_hash": lr_data_hash,
    } | size


SIZE = {"width": 6, "height": 4}


def test_the_database_names_every_frame_and_its_size(project):
    video = video_row({"1": labels(box("a"))})
    video["data_units"]["video1"] |= {"width": None}
    write_database(
        project,
        [video, image_row(thing("bitmask", bitmask=CROP | {"top": 1, "left": 2}))],
        [unit_record("unit1", 0, "row-unit1", "relative://images/unit1.png", **SIZE)]
        + [unit_record("video1", i, "video1", "absolute:///data/v.mp4", **SIZE) for i in (2, 0, 1)],
    )
    truth, rows = rows_of(read_ground_truth(project))
    units = truth.data_units.to_pylist()
    assert [(u["data_hash"], u["frame"], u["group"]) for u in units] == [
        ("video1", 0, "video1"),
        ("video1", 1, "video1"),
        ("video1", 2, "video1"),
        ("unit1", 0, None),
    ]
    assert units[0]["uri"] == "file:///data/v.mp4"
    assert units[3]["uri"] == (project / "images/unit1.png").resolve().as_uri()
    assert [row["frame"] for row in rows] == [1, 0]
    assert rows[1]["mask"]["counts"] == b":120103"
    assert rows_of(read_ground_truth(project / "prisma.db"))[1] == rows


def test_in_the_database_an_image_groups_sequence_is_no_frame(project):
    row = group_row()
    units = [
        unit_record(h, i, row["data_hash"], **SIZE)
        for i, h in enumerate(["unitA", "unitB", "unitC"])
    ]
    write_database(project, [row], units)
    truth, rows = rows_of(read_ground_truth(project))
    assert truth.data_units["frame"].to_pylist() == [0, 0, 0]
    assert set(truth.data_units["group"].to_pylist()) == {"label3"}
    assert [row["unit"] for row in rows] == ["unitA", "unitB", "unitC"]


def test_sizes_that_the_database_lacks_come_from_the_label_rows(project):
    write_database(
        project,
        [image_row(box())],
        [unit_record("unit1", 0, "row-unit1", width=-1, height=-1)],
    )
    truth, _ = rows_of(read_ground_truth(project))
    assert truth.data_units.select(["width", "height"]).to_pylist() == [SIZE]


def test_a_database_between_the_versions_points_to_files(project):
    row = image_row(box())
    write_files(project, row)
    unit = unit_record("unit1", 0, "row-unit1", "/old/place/unit1.png")
    write_database(project, [row | {"stored": "/old"}], [unit], script=OLD, link="location")
    truth, rows = rows_of(read_ground_truth(project))
    assert len(rows) == 1
    assert truth.data_units.to_pylist()[0]["uri"] == "file:///old/place/unit1.png"
    assert truth.data_units["width"].to_pylist() == [6]


def test_an_empty_database_beside_files_is_passed_over(project):
    write_files(project, image_row(box()))
    write_database(project, [], [])
    truth, rows = rows_of(read_ground_truth(project))
    assert (truth.data_units.num_rows, len(rows)) == (1, 1)


def test_a_label_row_without_labels_in_the_database_has_units_only(project):
    write_database(
        project,
        [image_row() | {"stored": None}],
        [unit_record("unit1", 0, "row-unit1", **SIZE)],
    )
    truth, rows = rows_of(read_ground_truth(project))
    assert (truth.data_units.num_rows, rows) == (1, [])


def test_the_database_is_not_written_to(project):
    write_database(project, [image_row(box())], [unit_record("unit1", 0, "x", **SIZE)])
    before = (project / "prisma.db").read_bytes()
    rows_of(read_ground_truth(project))
    assert (project / "prisma.db").read_bytes() == before
    assert not list(project.glob("prisma.db-*"))


def test_a_database_in_wal_mode_is_read_and_nothing_left_beside_it(project):
    write_database(project, [image_row(box())], [unit_record("u", 0, "x", **SIZE)], wal=True)
    before = sorted(project.iterdir())
    assert len(rows_of(read_ground_truth(project))[1]) == 1
    assert sorted(project.iterdir()) == before


def test_changes_in_the_log_of_a_database_in_use_are_read_too(project):
    write_database(project, [image_row(box())], [unit_record("u", 0, "x", **SIZE)], wal=True)
    with closing(sqlite3.connect(project / "prisma.db")) as connection:
        connection.execute("UPDATE DataUnit SET width = 60")
        connection.commit()
        assert (project / "prisma.db-wal").stat().st_size
        assert read_ground_truth(project).data_units["width"].to_pylist() == [60]


@pytest.mark.parametrize(
    ("stored", "message"),
    [("{", "label row label1 is not JSON"), ("[]", r"label row label1 is \[\]; expected")],
)
def test_a_broken_label_row_in_the_database_is_an_error_that_names_it(project, stored, message):
    write_database(
        project,
        [image_row() | {"stored": stored}],
        [unit_record("unit1", 0, "x", **SIZE)],
    )
    with pytest.raises(SourceError, match=message):
        rows_of(read_ground_truth(project))


def test_a_file_that_is_no_database_is_refused(project):
    (project / "prisma.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SourceError, match="file is not a database") as caught:
        read_ground_truth(project)
    assert caught.value.hint
    (project / "prisma.db").unlink()
    sqlite3.connect(project / "prisma.db").close()
    (project / "prisma.db").touch()
    with pytest.raises(SourceError, match="no such table"):
        read_ground_truth(project)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps([image_row()]), True),
        (json.dumps(image_row()), True),
        ('{"ontology": {"objects": [{"id": "1", "featureNodeHash": "', True),
        ('{"label_hash": "a", "data_hash": "b", "data_title": "', True),
        ('{"ontology": {"terms": [', False),
        ('[{"label_hash": "a", "score": 0.5}]', False),
        ('{"images": [], "annotations": [], "categories": []}', False),
        ('[{"image_id": 1}]', False),
        ("", False),
    ],
)
def test_label_rows_are_told_from_the_first_bytes(tmp_path, content, expected):
    (tmp_path / "x.json").write_text(content)
    assert sniff_ground_truth(Sample(tmp_path / "x.json")) == expected


def test_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("ea_arrow.sources.base.BATCH_ROWS", 2)
    path = tmp_path / "labels.json"
    rows = [image_row(box("a"), box("b"), box("c")), image_row(box("d"), data_hash="u2")]
    path.write_text(json.dumps({"ontology": ONTOLOGY, "label_rows": rows}))
    batches = list(read_ground_truth(path).labels)
    assert [batch["source_row"].to_pylist() for batch in batches] == [[0, 1], [2, 3]]
