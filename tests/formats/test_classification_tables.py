"""Classifications as tables: which score a data unit gets, and what becomes of the others."""

import contextlib
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources.classification_labels import LABELS
from ea_arrow.sources.classification_tables import PREDICTIONS
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from tests.formats.table_reading import read, rows_of, source, text


def short(rows):
    """Data unit, class, score and probabilities of each row; the rule of those refused."""
    return [
        row["rule"] or (row["unit"], row["class_ref"], row["confidence"], row["probabilities"])
        for row in rows
    ]


# -- long ------------------------------------------------------------------------------------------


def test_one_row_a_data_unit_is_a_prediction_each(tmp_path):
    path = text(tmp_path / "a.csv", "file_name,class,score", "b.jpg,sun,0.75", "a.jpg,rain,0.5")
    assert PREDICTIONS.sniff(Sample(path))
    opened = source(PREDICTIONS, path)
    assert (opened.coordinates.unit_key, opened.coordinates.class_key) == ("title", "name")
    rows = rows_of(opened.batches())
    assert short(rows) == [("b.jpg", "sun", 0.75, None), ("a.jpg", "rain", 0.5, None)]
    assert {row["format"] for row in rows} == {"classification"}
    assert opened.notes == {}


def test_scores_of_every_class_are_kept_as_probabilities(tmp_path):
    lines = [
        "a,sun,0.25",
        "b,rain,0.5",
        "a,rain,0.125",
        "b,sun,0.25",
        "a,snow,0.625",
        "b,snow,0.25",
    ]
    opened = source(PREDICTIONS, text(tmp_path / "a.csv", "image_id,label,prob", *lines))
    rows = rows_of(opened.batches())
    assert short(rows) == [
        ("a", "snow", 0.625, [0.25, 0.125, 0.625]),
        ("b", "rain", 0.5, [0.25, 0.5, 0.25]),
    ]
    assert [row["source_row"] for row in rows] == [4, 1]
    assert opened.notes == {
        "classes, whose probabilities are in this order: sun, rain, snow": 3,
        "scores of further classes, kept as probabilities": 4,
    }


def test_of_some_classes_the_best_is_kept_and_the_others_counted(tmp_path):
    lines = ["a,sun,0.25", "a,rain,0.5", "b,snow,0.125"]
    opened = source(PREDICTIONS, text(tmp_path / "a.csv", "image_id,label,score", *lines))
    assert short(rows_of(opened.batches())) == [
        ("a", "rain", 0.5, None),
        ("b", "snow", 0.125, None),
    ]
    assert opened.notes == {"scores below the highest of a data unit, not kept": 1}


def test_all_rows_are_kept_if_asked_for(tmp_path):
    lines = ["a,sun,0.25", "a,night,0.5"]
    path = text(tmp_path / "a.csv", "image_id,label,score", *lines)
    rows = read(PREDICTIONS, path, options={"rows": "all"})
    assert short(rows) == [("a", "sun", 0.25, None), ("a", "night", 0.5, None)]


def test_of_equal_scores_the_first_counts(tmp_path):
    lines = ["a,sun,0.5", "a,rain,0.5", "b,rain,0.5", "b,sun,0.5"]
    rows = read(PREDICTIONS, text(tmp_path / "a.csv", "image_id,label,score", *lines))
    assert [row["class_ref"] for row in rows] == ["sun", "rain"]


def test_bad_rows_are_refused_and_the_others_of_the_data_unit_kept(tmp_path):
    lines = [
        "a,sun,0.5",
        "a,rain,high",
        "a,snow,",
        ",sun,0.5",
        "a,,0.5",
        "a,fog,inf",
        "a,hail",
        "a,sun,0.75",  # again
        "b,sun,0.25",
    ]
    rows = read(PREDICTIONS, text(tmp_path / "a.csv", "image_id,label,score", *lines))
    assert {row["source_row"]: row["rule"] for row in rows} == {
        0: None,
        1: "invalid_data",
        2: "missing_confidence",
        3: "missing_data_unit",
        4: "missing_class",
        5: "not_finite",
        6: "invalid_data",
        7: "invalid_data",
        8: None,
    }
    assert len(rows) == len(lines)
    kept = [row for row in rows if row["rule"] is None]
    assert short(kept) == [("a", "sun", 0.5, None), ("b", "sun", 0.25, None)]


def test_frames_are_data_units_of_their_own(tmp_path):
    lines = ["v,0,sun,0.5", "v,1,rain,0.25", "v,1,sun,0.75", "v,-1,sun,1"]
    rows = read(PREDICTIONS, text(tmp_path / "a.csv", "data_hash,frame,class,score", *lines))
    found = [(r["source_row"], r["frame"], r["class_ref"], r["rule"]) for r in rows]
    assert found == [
        (3, 0, "sun", "invalid_frame"),
        (0, 0, "sun", None),
        (2, 1, "sun", None),
    ]


def test_numbers_of_classes_are_indices(tmp_path):
    opened = source(PREDICTIONS, text(tmp_path / "a.csv", "image_id,class,score", "a,3,0.5"))
    assert opened.coordinates.class_key == "index"


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvw")),
        st.floats(0, 1),
        min_size=1,
    )
)
def test_the_best_of_each_data_unit_as_a_loop_finds_it(tmp_path_factory, scores):
    lines = [f"{unit},{label},{score!r}" for (unit, label), score in scores.items()]
    folder = tmp_path_factory.mktemp("long")
    rows = read(PREDICTIONS, text(folder / "a.csv", "image_id,class,score", *lines))
    best = {}
    for (unit, label), score in scores.items():
        if unit not in best or score > best[unit][1]:
            best[unit] = (label, score)
    assert {row["unit"]: (row["class_ref"], row["confidence"]) for row in rows} == best
    classes = list(dict.fromkeys(label for _, label in scores))
    complete = len(scores) == len(best) * len(classes) and len(classes) > 1
    for row in rows:
        expected = [np.float32(scores[row["unit"], c]) for c in classes] if complete else None
        assert row["probabilities"] == expected


# -- wide ------------------------------------------------------------------------------------------

WIDE = ("file_name,sun,rain,snow", "a.jpg,0.25,0.5,0.25", "b.jpg,0.75,0.125,0.125")


def test_a_column_per_class(tmp_path):
    path = text(tmp_path / "a.csv", *WIDE)
    assert PREDICTIONS.sniff(Sample(path))
    opened = source(PREDICTIONS, path)
    assert short(rows_of(opened.batches())) == [
        ("a.jpg", "rain", 0.5, [0.25, 0.5, 0.25]),
        ("b.jpg", "sun", 0.75, [0.75, 0.125, 0.125]),
    ]
    assert opened.notes == {"classes, whose probabilities are in this order: sun, rain, snow": 3}


def test_a_column_of_text_is_no_class_and_refuses_its_rows(tmp_path):
    path = text(tmp_path / "a.csv", "image_id,p_a,p_b,split", "7,0.5,0.5,test")
    assert not PREDICTIONS.sniff(Sample(path))
    (row,) = read(PREDICTIONS, path)
    assert (row["rule"], row["unit"]) == ("invalid_data", "7")
    assert row["message"] == "split is 'test'; expected a number."


def test_rows_that_lack_a_score_are_refused(tmp_path):
    path = text(tmp_path / "a.csv", "image_id,p_a,p_b", "7,2.5,-1", "8,,1", "9,z,1", "9", "1,nan,1")
    assert not PREDICTIONS.sniff(Sample(path))  # its rows do not add up to 1
    rows = read(PREDICTIONS, path, options={"prefix": "p_"})
    assert short(rows) == [
        ("7", "a", 2.5, [2.5, -1.0]),
        *("missing_confidence", "invalid_data", "invalid_data", "not_finite"),
    ]


def test_a_table_of_numbers_about_images_is_no_prediction(tmp_path):
    header = "image_id,brightness,sharpness"
    assert not PREDICTIONS.sniff(Sample(text(tmp_path / "a.csv", header, "1,0.9,0.8", "2,0.1,0.3")))


def test_wide_parquet(tmp_path):
    table = pa.table({"data_hash": ["x", "y"], "a": [0.25, 1.0], "b": [0.75, 0.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert PREDICTIONS.sniff(Sample(tmp_path / "a.parquet"))
    opened = source(PREDICTIONS, tmp_path / "a.parquet")
    assert opened.coordinates.unit_key == "data_hash"
    assert short(rows_of(opened.batches())) == [
        ("x", "b", 0.75, [0.25, 0.75]),
        ("y", "a", 1.0, [1.0, 0.0]),
    ]


# -- arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_probabilities(tmp_path, save, order):
    probs = np.asarray([[0.25, 0.75], [0.5, 0.5], [1, 0]], np.float32, order=order)
    path = tmp_path / "a.npz"
    save(path, probs=probs, ids=np.array(["a", "bé", "c"]), classes=np.array(["sun", "rain"]))
    assert PREDICTIONS.sniff(Sample(path))
    opened = source(PREDICTIONS, path, options={"unit_key": "stem"})
    assert (opened.coordinates.unit_key, opened.coordinates.class_key) == ("stem", "name")
    assert short(rows_of(opened.batches())) == [
        ("a", "rain", 0.75, [0.25, 0.75]),
        ("bé", "sun", 0.5, [0.5, 0.5]),
        ("c", "sun", 1.0, [1.0, 0.0]),
    ]


def test_columns_of_a_wide_table_that_are_no_classes_are_named(tmp_path):
    header = "image_id,file_name,label,width,height,sun,rain"
    path = text(tmp_path / "a.csv", header, "1,a.jpg,sun,640,480,0.75,0.25")
    opened = source(PREDICTIONS, path)
    assert short(rows_of(opened.batches())) == [("1", "sun", 0.75, [0.75, 0.25])]
    assert opened.notes == {
        "columns not read, as image_id names the data unit: file_name": 1,
        "columns of no known meaning, left out: label": 1,
        "classes, whose probabilities are in this order: sun, rain": 2,
    }


def test_arrays_without_classes_go_by_index(tmp_path):
    np.savez(tmp_path / "a.npz", scores=np.eye(3), ids=np.arange(3), extra=np.ones(1))
    opened = source(PREDICTIONS, tmp_path / "a.npz")
    assert opened.coordinates.class_key == "index"
    assert [(r["unit"], r["class_ref"]) for r in rows_of(opened.batches())] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    ]
    assert opened.notes["arrays of no known meaning, left out: extra"] == 1


def test_a_score_that_is_not_finite_refuses_its_row(tmp_path):
    probs = np.array([[0.5, np.nan], [0.25, 0.75]])
    np.savez(tmp_path / "a.npz", probs=probs, ids=np.array([1, 2]))
    assert short(read(PREDICTIONS, tmp_path / "a.npz")) == [
        "not_finite",
        ("2", "1", 0.75, [0.25, 0.75]),
    ]


def write_npz(path, **arrays):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def claiming(shape, dtype="<f8"):
    """The header of an array that is larger than what follows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": npy(np.arange(2))}, "expected probs of shape"),
        ({"probs": npy(np.ones(2)), "ids": npy(np.arange(2))}, "expected probs of shape"),
        ({"probs": npy(np.ones((2, 2))), "ids": npy(np.arange(3))}, r"ids have shape \(3,\)"),
        ({"probs": npy(np.ones((2, 2)))}, "ids have shape None"),
        ({"probs": npy(np.ones((1, 2))), "ids": npy(np.array([b"a"], "O"))}, "object"),
        ({"probs": claiming((10**12, 10)), "ids": claiming((10**12,), "<i8")}, "claims"),
        ({"probs": npy(np.ones((2, 2))) + b"", "ids": b"nothing"}, "cannot be read"),
        (
            {"probs": npy(np.ones((1, 2))), "ids": npy(np.arange(1)), "classes": npy(np.arange(3))},
            "classes have shape",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    path = write_npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(SourceError, match=message):
        read(PREDICTIONS, path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    from ea_arrow.sources import npz_files

    monkeypatch.setattr(npz_files, "MAX_UNPACKED", 1 << 20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, probs=np.zeros((100_000, 100)), ids=np.zeros(100_000, np.int8))
    with pytest.raises(SourceError, match="unpacks to more"):
        source(PREDICTIONS, path)
    assert not PREDICTIONS.sniff(Sample(path))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_archive_ends_in_an_error_or_in_rows(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    random = np.random.default_rng(seed)
    save = np.savez if seed % 2 else np.savez_compressed
    save(path, probs=random.random((5, 3)), ids=np.array(list("abcde")))
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 5)):
        data[random.integers(len(data))] = random.integers(256)
    path.write_bytes(bytes(data[: random.integers(len(data))] if seed % 5 == 0 else data))
    PREDICTIONS.sniff(Sample(path))
    with contextlib.suppress(SourceError):
        read(PREDICTIONS, path)


# -- what it is not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "image_id,label,score,bbox",
        "image_id,label",
        "data_hash,feature_hash,attribute_hash,option_hash,confidence",
        "ImageID,Source,LabelName,Confidence",
        "ImageID,LabelName,Score,XMin,XMax,YMin,YMax",
        "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,file_name",
    ],
)
def test_other_tables_are_not_taken_for_classifications(tmp_path, header):
    assert not PREDICTIONS.sniff(Sample(text(tmp_path / "a.csv", header, "1,0.5,0.5")))


# -- labels ----------------------------------------------------------------------------------------


def labels(path, **reading):
    return LABELS.read(Files(path, (path,)), Reading(**reading))


def test_classes_become_the_options_of_one_classification(tmp_path):
    lines = ["b.jpg,sun,64,32", "a.jpg,rain,32,32", "a.jpg,,32,32"]
    path = text(tmp_path / "a.csv", "file_name,class,width,height", *lines)
    assert LABELS.sniff(Sample(path))
    truth = labels(path, options={"name": "weather"})
    assert truth.data_units["title"].to_pylist() == ["a.jpg", "b.jpg"]
    assert [c.path for c in truth.ontology.classes] == ["weather > rain", "weather > sun"]
    assert truth.ontology == labels(path, options={"name": "weather"}).ontology
    keys = {c.name: c.key for c in truth.ontology.classes}
    rows = rows_of(truth.labels)
    assert truth.notes["rows of data units without labels"] == 1
    assert [(r["unit"], (r["class_ref"], r["attribute_hash"], r["option_hash"])) for r in rows] == [
        ("b.jpg", keys["sun"]),
        ("a.jpg", keys["rain"]),
    ]
    assert {row["format"] for row in rows} == {"classification"}


def test_sizes_may_come_from_images(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 4)).save(tmp_path / "images" / name)
    path = text(tmp_path / "a.jsonl", json.dumps({"image_id": "a", "label": 3}))
    truth = labels(path, images=tmp_path / "images")
    assert truth.data_units.select(["title", "width"]).to_pylist() == [
        {"title": "a.png", "width": 8},
        {"title": "b.png", "width": 8},
    ]
    assert [row["unit"] for row in rows_of(truth.labels)] == ["a.png"]
    with pytest.raises(SourceError, match="size of 1 data units"):
        labels(path)


@pytest.mark.parametrize("header", ["file_name,class,score", "file_name,class,bbox", "name,class"])
def test_other_tables_are_not_taken_for_labels(tmp_path, header):
    assert not LABELS.sniff(Sample(text(tmp_path / "a.csv", header, "a,b,1")))
