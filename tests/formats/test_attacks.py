"""Bad input by hand, each found by trying: pipes, holes, files given twice, options without use."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ea_arrow
from ea_arrow.errors import SourceError
from ea_arrow.sources import json_files
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.registry import LABELS, PREDICTIONS, open_predictions, read_ground_truth
from ea_arrow.sources.samples import Sample
from tests.formats.conftest import cases
from tests.formats.dataset import coco_ground_truth, coco_results, write_json, write_text


@pytest.fixture
def project(tmp_path):
    truth = write_json(tmp_path / "truth" / "gt.json", coco_ground_truth())
    return ea_arrow.init(tmp_path / "project", truth)


def command(*arguments, folder):
    words = [sys.executable, "-m", "ea_arrow.cli", *map(str, arguments)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)


# -- what is no file -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(SourceError, match="is a pipe or device; expected a file"):
        next(open_predictions([tmp_path / "x.json"]))
    with pytest.raises(SourceError, match="is a pipe or device"):
        read_ground_truth(tmp_path / "x.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("suffix", [".json", ".txt", ".csv", ".xml", ".png", ".npz"])
def test_a_pipe_in_a_directory_is_passed_over(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a{suffix}")
    for known in (*PREDICTIONS.values(), *LABELS.values()):
        assert not known.sniff(Sample(tmp_path))


# -- holes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"[", b'{"samples": ['])
def test_a_hole_in_a_json_file_is_found_before_it_is_in_memory(tmp_path, start):
    path = tmp_path / "x.json"
    path.write_bytes(start)
    os.truncate(path, 1 << 36)  # it takes no room on disk
    for name in ("coco", "huggingface", "fiftyone", "label-studio", "supervision-json", "encord"):
        with pytest.raises(SourceError, match="is not JSON: it holds zeros from byte"):
            [list(source.batches()) for _, _, source in open_predictions([path], name)]
    for name in ("coco", "encord", "fiftyone", "label-studio"):
        with pytest.raises(SourceError, match="is not JSON: it holds zeros from byte"):
            list(read_ground_truth(path, name).labels)


def test_what_packs_too_well_is_refused_where_it_is_read_whole(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(gzip.compress(b"[" + b" " * (json_files.MAX_WHOLE + (1 << 24)), 1))
    with pytest.raises(SourceError, match=r"unpacks from .* to more than 1"):
        read_json(path, "samples")


def test_json_in_other_encodings_is_still_read(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "x.json").write_bytes('["é", "a"]'.encode(encoding))
        assert read_json(tmp_path / "x.json", "samples") == ["é", "a"]


# -- the same rows twice ---------------------------------------------------------------------------


def test_a_file_given_twice_is_refused_under_whatever_name(project, tmp_path):
    path = write_json(tmp_path / "x.json", coco_results())
    (tmp_path / "link.json").symlink_to(path)
    for again in (path, tmp_path / "truth" / ".." / "x.json", tmp_path / "link.json"):
        with pytest.raises(SourceError, match=r"given twice|is the same file as"):
            project.import_predictions([path, again], "x")
    assert list(project.iterations) == []
    write_json(tmp_path / "copy.json", coco_results())
    kept = project.import_predictions([path, tmp_path / "copy.json"], "x").ledger
    assert (kept.kept, kept.notes["duplicate"]) == (16, 8)  # a copy is counted, as it was


def test_a_file_of_a_directory_that_is_given_too_is_refused(tmp_path):
    folder = tmp_path / "labels"
    write_text(folder / "000001.txt", "0 0.5 0.5 0.5 0.5 0.9")
    for paths in ([folder, folder / "000001.txt"], [folder / "000001.txt", folder]):
        with pytest.raises(SourceError, match=r"lies in .*labels, which is given too"):
            next(open_predictions(paths, "yolo"))
    with pytest.raises(SourceError, match="given twice"):
        next(open_predictions([folder, folder], "yolo"))


# -- options without use ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pickle", "encord", "masks", "label-studio", "classification"])
@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"box": "xyxy"}, "--box"),
        ({"relative": False}, "--pixels"),
        ({"one_based": True}, "--one-based"),
    ],
)
def test_saying_how_boxes_are_meant_is_refused_where_it_would_change_nothing(
    project, tmp_path, name, option, named
):
    (tmp_path / "x").touch()
    with pytest.raises(SourceError, match=f"{named}.* cannot be given for '{name}'"):
        project.import_predictions(tmp_path / "x", "x", format=name, **option)


RELATIVE = {
    "yolo": ("labels/000001.txt", "0 1.0 0.5 0.5 0.5 0.9\n", {"classes": "index"}),
    "huggingface": (
        "x.json",
        '{"000001.png": [{"label": "person", "score": 0.9, "box": '
        '{"xmin": 0.75, "ymin": 0.25, "xmax": 1.25, "ymax": 0.75}}]}',
        {"relative": True},
    ),
    "coco": (
        "x.json",
        '[{"image_id": 1, "category_id": 1, "bbox": [0.75, 0.25, 0.5, 0.5], "score": 0.9}]',
        {"relative": True},
    ),
    "table": ("x.csv", "image,class,score,x,y,w,h\n000001.png,person,0.9,0.75,0.25,0.5,0.5\n",
              {"relative": True}),
    "open-images": ("x.csv", "ImageID,LabelName,Score,XMin,XMax,YMin,YMax\n"
                    "000001,person,0.9,0.75,1.25,0.25,0.75\n", {}),
    "supervision": ("x.csv", "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,"
                    "file_name\n0.75,0.25,1.25,0.75,0,0.9,,person,000001.png\n",
                    {"relative": True, "options": {}}),
}  # fmt: skip
"""A box that reaches a quarter of the image beyond its right edge, by format."""


@pytest.mark.parametrize("name", RELATIVE)
def test_a_relative_box_that_reaches_out_of_its_image_is_kept_and_noted(project, tmp_path, name):
    where, text, options = RELATIVE[name]
    path = tmp_path / "in" / where
    path.parent.mkdir(parents=True)
    path.write_text(text)
    given = path.parent if name == "yolo" else path
    ledger = project.import_predictions(given, "x", format=name, **options).ledger
    assert (ledger.read, ledger.kept, ledger.notes["outside"]) == (1, 1, 1)
    (row,) = project.predictions("x").to_arrow().to_pylist()
    assert [row[f"bbox_{side}"] for side in "xywh"] == [48, 8, 32, 16]


# -- masks of nothing but void ---------------------------------------------------------------------


def test_masks_of_0_and_255_alone_are_an_error_not_an_import_of_nothing(project, tmp_path):
    pixels = np.zeros((32, 64), np.uint8)
    pixels[4:9, 4:9] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "masks" / "000001.png")
    with pytest.raises(SourceError, match="hold nothing but 0 and 255") as caught:
        project.import_predictions(tmp_path / "masks", "x")
    assert "--option ignore=none" in caught.value.hint
    with pytest.raises(SourceError, match="hold nothing but 0 and 255"):
        ea_arrow.init(tmp_path / "other", tmp_path / "masks")
    kept = project.import_predictions(
        tmp_path / "masks", "x", options={"ignore": "none"}, classes={"255": "person"}
    ).ledger
    assert (kept.read, kept.kept) == (1, 1)
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(tmp_path / "masks" / "000001.png")
    assert project.import_predictions(tmp_path / "masks", "empty").ledger.read == 0


def test_an_import_of_nothing_says_so(project, tmp_path):
    write_json(tmp_path / "x.json", [])
    done = command("import", "x.json", "--format", "coco", "--project", "project", folder=tmp_path)
    assert done.returncode == 0
    assert "Nothing was read" in done.stderr


# -- Encord ----------------------------------------------------------------------------------------


def test_a_label_hash_alone_is_not_taken_for_encord(tmp_path):
    for text in ('[{"label_hash": "a", "x": 1}]', '{"ontology": {"terms": []}}'):
        (tmp_path / "x.json").write_text(text)
        assert not LABELS["encord"].sniff(Sample(tmp_path / "x.json"))


def test_no_case_is_claimed_by_the_formats_of_the_other_kind_as_well(tmp_path):
    """Predictions given to init, and labels given to import, end in a hint, not in a reading."""
    for name, case in cases("PREDICTION_CASES"):
        folder = tmp_path / name
        folder.mkdir()
        (path, *_) = case.write(folder)
        assert [known.name for known in LABELS.values() if known.sniff(Sample(path))] in (
            [], [case.format]
        ), name  # fmt: skip


# -- which class is which --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"1": "person", "2": "bus", "1": "car"}', "'1' is mapped twice"),
        ("names.txt", "person\n\ncar\nbus\n", "line 2 is blank, and the lines are counted"),
        ("names.txt", "\nperson\n", "line 1 is blank"),
        ("names.txt", "\n \n", "maps no class"),
    ],
)
def test_a_mapping_of_classes_that_can_be_meant_otherwise_is_refused(
    project, tmp_path, name, text, message
):
    (tmp_path / name).write_text(text)
    path = write_json(tmp_path / "x.json", coco_results())
    with pytest.raises(SourceError, match=message):
        project.import_predictions(path, "x", classes=tmp_path / name)


def test_a_mapping_counts_names_by_lines_alone(project, tmp_path):
    (tmp_path / "names.txt").write_text("no\u2028one\r\nperson\r\ncar\r\nbus\r\n\r\n")
    path = write_json(tmp_path / "x.json", coco_results())
    ledger = project.import_predictions(path, "x", classes=tmp_path / "names.txt").ledger
    assert (ledger.kept, ledger.rejects) == (8, {})


def test_a_key_that_is_a_number_and_a_text_is_one_class_or_none(project, tmp_path):
    path = write_json(tmp_path / "x.json", coco_results())
    with pytest.raises(SourceError, match="maps a class twice"):
        project.import_predictions(path, "x", classes={1: "person", "1": "car"})


def test_a_number_that_is_the_id_of_one_class_and_the_name_of_another_is_asked_about(tmp_path):
    truth = coco_ground_truth()
    truth["categories"] = [{"id": 1, "name": "2"}, {"id": 2, "name": "1"}, {"id": 3, "name": "3"}]
    project = ea_arrow.init(tmp_path / "project", write_json(tmp_path / "gt.json", truth))
    path = write_json(tmp_path / "x.json", coco_results())
    with pytest.raises(SourceError, match="'1' is the source id of one class and the name of"):
        project.import_predictions(path, "x", classes={"1": "1", "2": "2", "3": "3"})
    by_id = project.import_predictions(path, "x").ledger  # a category_id is an id
    assert (by_id.kept, by_id.choices) == (8, [])
    by_name = project.import_predictions(path, "y", classes="name").ledger
    assert by_name.kept == 8
    kept = [project.predictions(name).to_arrow()["feature_hash"][0].as_py() for name in "xy"]
    assert kept[0] != kept[1]


# -- places ----------------------------------------------------------------------------------------


def test_a_name_that_is_too_long_is_an_error_like_any_other(project, tmp_path):
    long = "y" * 300
    path = write_json(tmp_path / "x.json", coco_results())
    with pytest.raises(SourceError, match="cannot be read: File name too long"):
        project.import_predictions(tmp_path / long, "x")
    with pytest.raises(SourceError, match="there is no such file"):
        project.import_predictions(path, "x", classes=long)
    project.import_predictions(path, "x")
    with pytest.raises(ea_arrow.errors.ProjectError, match="File name too long"):
        project.export("x", "csv", tmp_path / long)


def test_links_in_a_circle_are_an_error(project, tmp_path):
    (tmp_path / "x.json").symlink_to("x.json")
    with pytest.raises(SourceError, match="cannot be read: Too many levels"):
        project.import_predictions(tmp_path / "x.json", "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_an_export_never_takes_the_place_of_a_pipe_or_device(project, tmp_path):
    project.import_predictions(write_json(tmp_path / "x.json", coco_results()), "x")
    os.mkfifo(tmp_path / "pipe")
    for target in ("csv", "yolo"):
        with pytest.raises(ea_arrow.errors.ExportError, match="is a pipe or device"):
            project.export("x", target, tmp_path / "pipe", overwrite=True)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("at", range(3))
def test_a_hundred_thousand_empty_files_are_no_predictions_and_are_told_fast(tmp_path, at):
    suffix = (".txt", ".json", ".png")[at]
    for number in range(100_000 if suffix == ".txt" else 5_000):
        os.mknod(tmp_path / f"{number}{suffix}")
    with pytest.raises(SourceError, match="is not a directory of predictions"):
        next(open_predictions([tmp_path]))


def test_a_hole_behind_a_gzip_file_is_not_passed_over_byte_by_byte(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b'["a"]') + bytes(100_000))
    assert read_json(path, "samples") == ["a"]  # as tapes pad it
    os.truncate(path, 1 << 36)
    assert not [known for known in PREDICTIONS.values() if known.sniff(Sample(path))]
    for name in ("coco", "huggingface", "table", "open-images"):
        with pytest.raises(SourceError, match="zeros follow its end"):
            [list(source.batches()) for _, _, source in open_predictions([path], name)]


def test_a_key_of_a_record_that_is_no_text_is_passed_over(project, tmp_path):
    """Half a surrogate pair, which JSON can spell and Arrow cannot hold."""
    text = json.dumps([row | {"\ud800": 1, "\udfffx": {"\ud800": 1}} for row in coco_results()])
    (tmp_path / "x.json").write_text(text)
    ledger = project.import_predictions(tmp_path / "x.json", "x").ledger
    assert (ledger.kept, ledger.rejects) == (8, {})


@pytest.mark.parametrize("start", ["", "image,label,score,x,y,w,h\n", '{"image": "a"}\n'])
def test_a_hole_in_a_table_is_found_before_it_is_in_memory(tmp_path, start):
    (tmp_path / "x.csv").write_text(start)
    os.truncate(tmp_path / "x.csv", 1 << 36)
    with pytest.raises(SourceError, match=r"x\.csv"):
        [list(source.batches()) for _, _, source in open_predictions([tmp_path / "x.csv"], "table")]


def renumbered(tmp_path):
    """Two images of which each has the other's number as its id."""
    truth = coco_ground_truth()
    for image, name in zip(truth["images"], ("2.png", "1.png", "a.png", "b.png", "c.png"),
                           strict=True):  # fmt: skip
        image["file_name"] = name
    return ea_arrow.init(tmp_path / "p", write_json(tmp_path / "renumbered.json", truth))


def test_names_that_mean_other_data_units_than_ids_are_asked_about(tmp_path):
    project = renumbered(tmp_path)
    rows = [row | {"image_id": unit} for row in coco_results()[:1] for unit in ("1", "2", "a.png")]
    path = write_json(tmp_path / "x.json", rows)
    with pytest.raises(SourceError, match=r"and source id, but .*: 3 and 2 of the first 3"):
        project.import_predictions(path, "x")
    titles = {}
    for match in ("stem", "source_id"):
        project.import_predictions(path, match, match=match)
        found = project.predictions(match).to_arrow()["data_hash"].to_pylist()
        units = project.data_units.to_arrow().to_pylist()
        titles[match] = [u["title"] for hash in found for u in units if u["data_hash"] == hash]
    assert titles == {"stem": ["1.png", "2.png", "a.png"], "source_id": ["2.png", "1.png"]}
