"""MOTChallenge results and ground truth."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ea_arrow
from ea_arrow.errors import SourceError
from ea_arrow.sources import mot, mot_labels, mot_sequences, registry
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample
from tests.formats.dataset import write_text

RESULTS = (
    "1,3,10.5,20.25,40,30,0.93,-1,-1,-1",
    "1, -1, 1, 2, 3, 4, -1, -1, -1, -1",
    "3,3,12,20,40,30,0.5,-1,-1,-1",
)
TRUTH = (
    "1,1,10,20,40,30,1,1,0.98",
    "3,1,12,20,40,30,1,1,1",
    "1,2,0,0,5,6,0,7,0.5",
)
CAR = {"class": "Car"}


def opened(path, options=CAR, **reading):
    return mot.PREDICTIONS.open(Files(path, (path,)), Reading(options=options, **reading))


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def box(row):
    return row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]


def truth(path, **reading):
    return mot_labels.LABELS.read(Files(path, (path,)), Reading(**reading))


def labels_of(found):
    return [row for batch in found.labels for row in batch.to_pylist()]


def seqinfo(folder, length=3, **other):
    values = {"name": "S", "frameRate": 30, "seqLength": length, "imWidth": 64, "imHeight": 48}
    return write_text(
        folder / "seqinfo.ini",
        "[Sequence]",
        *(f"{key}={value}" for key, value in (values | other).items()),
    )


def sequence(root, name, *lines, length=3):
    write_text(root / name / "gt" / "gt.txt", *lines)
    seqinfo(root / name, length)
    return root / name


def image(path, width=64, height=48):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


# -- predictions ---------------------------------------------------------------------------------


def test_frames_and_tracks_of_a_sequence(tmp_path):
    source = opened(write_text(tmp_path / "MOT17-02.txt", *RESULTS))
    first, second, third = rows_of(source)
    assert (first["unit"], first["frame"], first["track_id"]) == ("MOT17-02", 0, "3")
    assert (first["class_ref"], first["confidence"], first["format"]) == (
        "Car",
        0.93,
        "bounding_box",
    )
    assert box(first) == (10.5, 20.25, 40.0, 30.0)
    assert (second["track_id"], second["confidence"], box(second)) == (None, -1.0, (1, 2, 3, 4))
    assert (third["frame"], third["source_row"], third["source_file"]) == (2, 3, "MOT17-02.txt")
    assert (source.coordinates.unit_key, source.coordinates.class_key) == ("title", "name")
    assert source.notes == {
        "boxes taken as given; where pixels count from 1, give --one-based": 3,
        "confidences of −1, which MOT writes where there is none (kept)": 1,
    }


def test_pixels_from_1(tmp_path):
    source = opened(write_text(tmp_path / "a.txt", *RESULTS), one_based=True)
    assert box(rows_of(source)[0]) == (9.5, 19.25, 40.0, 30.0)
    assert list(source.notes) == ["confidences of −1, which MOT writes where there is none (kept)"]


def test_the_class_must_be_given(tmp_path):
    path = write_text(tmp_path / "a.txt", *RESULTS)
    with pytest.raises(SourceError, match="which class") as raised:
        opened(path, {})
    assert "class=NAME" in raised.value.hint
    assert opened(path, {"class": "3"}).coordinates.class_key == "source_id"


def test_the_class_of_the_8th_column(tmp_path):
    path = write_text(
        tmp_path / "a.txt", "1,1,1,2,3,4,0.5,3", "1,1,1,2,3,4,0.5,3.0,-1", "1,1,1,2,3,4,0.5"
    )
    source = opened(path, {"class": "column"})
    assert [row["class_ref"] for row in rows_of(source)] == ["3", "3", None]
    assert source.coordinates.class_key == "source_id"


def test_frames_that_are_images_of_their_own(tmp_path):
    path = write_text(tmp_path / "a.txt", *RESULTS)
    source = opened(path, CAR | {"units": "images"})
    rows = rows_of(source)
    assert [(row["unit"], row["frame"]) for row in rows] == [
        ("000001", None),
        ("000001", None),
        ("000003", None),
    ]
    assert source.coordinates.unit_key == "number"


def test_frames_from_0(tmp_path):
    path = write_text(tmp_path / "a.txt", RESULTS[0].replace("1,3", "0,3"), RESULTS[0])
    zero, one = rows_of(opened(path))
    assert (zero["rule"], zero["frame"]) == ("invalid_frame", None)
    assert zero["message"] == "Found '0'; expected a whole number from 1 as the frame."
    assert (one["rule"], one["frame"]) == (None, 0)
    both = rows_of(opened(path, CAR | {"first_frame": "0"}))
    assert [(row["rule"], row["frame"]) for row in both] == [(None, 0), (None, 1)]


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        ("1,1,1,2,3,4", "invalid_data", "The line has 6 values; expected 7 to 10"),
        ("1,1,1,2,3,4,0.5,1,1,1,1", "invalid_data", "The line has 11 values"),
        ("1.5,1,1,2,3,4,0.5", "invalid_frame", "Found '1.5'; expected a whole number from 1"),
        ("1e99,1,1,2,3,4,0.5", "invalid_frame", "Found '1e99'"),
        ("x,1,1,2,3,4,0.5", "invalid_frame", "Found 'x'"),
        ("1,a,1,2,3,4,0.5", "invalid_data", "Found 'a'; expected a whole number as the track's id"),
        ("1,1,1,,3,4,0.5", "invalid_box", "Found ''; expected four numbers of a box."),
        ("1,1,1,2,3,4,much", "invalid_data", "Found 'much'; expected a confidence."),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, line, rule, message):
    bad, good = rows_of(opened(write_text(tmp_path / "a.txt", line, RESULTS[0])))
    assert (bad["rule"], good["rule"]) == (rule, None)
    assert bad["message"].startswith(message)
    assert (bad["unit"], bad["class_ref"]) == ("a", "Car")


def test_ground_truth_beside_detections_is_passed_over(tmp_path):
    for name in ("A", "B"):
        write_text(sequence(tmp_path, name, *TRUTH) / "det" / "det.txt", RESULTS[0])
    assert mot.PREDICTIONS.sniff(Sample(tmp_path))
    source = opened(tmp_path)
    rows = rows_of(source)
    assert [(row["unit"], row["source_file"]) for row in rows] == [
        ("A", "A/det/det.txt"),
        ("B", "B/det/det.txt"),
    ]
    assert source.notes["files of ground truth (gt.txt, labels.txt) passed over"] == 2
    alone = opened(tmp_path / "A" / "gt" / "gt.txt")
    assert [row["unit"] for row in rows_of(alone)] == ["A", "A", "A"]


def test_a_directory_without_results_is_an_error(tmp_path):
    sequence(tmp_path, "A", *TRUTH)
    with pytest.raises(SourceError, match=r"no \.txt files"):
        opened(tmp_path)


# -- labels --------------------------------------------------------------------------------------


def test_ground_truth_of_sequences(tmp_path):
    sequence(tmp_path, "B", *TRUTH)
    sequence(tmp_path, "A", TRUTH[0], length=2)
    image(tmp_path / "B" / "img1" / "000002.jpg")
    found = truth(tmp_path)
    units = found.data_units.to_pylist()
    assert [(u["unit_id"], u["title"], u["frame"]) for u in units] == [
        (0, "A", 0),
        (1, "A", 1),
        (2, "B", 0),
        (3, "B", 1),
        (4, "B", 2),
    ]
    assert {(u["width"], u["height"]) for u in units} == {(64, 48)}
    assert len({u["data_hash"] for u in units}) == 2
    uri = (tmp_path / "B" / "img1" / "000002.jpg").as_uri()
    assert [u["uri"] for u in units] == [None, None, None, uri, None]
    assert json.loads(units[2]["metadata"]) == {"name": "S", "frameRate": "30"}
    rows = labels_of(found)
    assert [(r["unit"], r["frame"], r["track_id"], r["class_ref"]) for r in rows] == [
        ("A", 0, "1", "1"),
        ("B", 0, "1", "1"),
        ("B", 2, "1", "1"),
        ("B", 0, "2", "7"),
    ]
    assert [r["is_ignored"] for r in rows] == [False, False, False, True]
    assert box(rows[3]) == (0.0, 0.0, 5.0, 6.0)
    assert found.notes == {
        "rows with the flag 0, kept as ignored labels": 1,
        "boxes taken as given; where pixels count from 1, give --one-based": 4,
    }


def test_the_classes_are_mots_own(tmp_path):
    classes = truth(sequence(tmp_path, "A", *TRUTH)).ontology.classes
    named = {c.source_id: c.name for c in classes}
    assert len(named) == 13
    assert (named["1"], named["3"], named["7"], named["8"], named["12"]) == (
        "Pedestrian",
        "Car",
        "Static person",
        "Distractor",
        "Reflection",
    )


def test_classes_named_beside_the_ground_truth(tmp_path):
    folder = sequence(tmp_path, "A", *TRUTH)
    write_text(folder / "gt" / "labels.txt", "cat", "dog")
    found = truth(tmp_path)
    assert [(c.source_id, c.name) for c in found.ontology.classes] == [("1", "cat"), ("2", "dog")]
    sequence(tmp_path, "B", *TRUTH)
    with pytest.raises(SourceError, match="its classes"):
        truth(tmp_path)
    write_text(folder / "gt" / "labels.txt", "cat", "", "dog")
    with pytest.raises(SourceError, match="a name on each line"):
        truth(folder)


def test_ground_truth_without_classes_needs_one(tmp_path):
    folder = sequence(tmp_path, "A", "1,1,10,20,40,30,1,-8.1,-8.3,0")
    with pytest.raises(SourceError, match="10 values") as raised:
        truth(folder)
    assert "class=NAME" in raised.value.hint
    found = truth(folder, options={"class": "Pedestrian"})
    assert [c.name for c in found.ontology.classes] == ["Pedestrian"]
    assert [r["class_ref"] for r in labels_of(found)] == [found.ontology.classes[0].source_id]
    with pytest.raises(SourceError, match="name their classes"):
        truth(sequence(tmp_path, "B", *TRUTH), options={"class": "Pedestrian"})


def test_a_row_without_class_among_others(tmp_path):
    rows = labels_of(truth(sequence(tmp_path, "A", TRUTH[0], "1,1,1,2,3,4,1")))
    assert [(r["rule"], r["class_ref"]) for r in rows] == [(None, "1"), ("missing_class", None)]


def test_sizes_and_frames_from_images(tmp_path):
    write_text(tmp_path / "S" / "gt" / "gt.txt", *TRUTH)
    for number in (1, 2, 4):
        image(tmp_path / "S" / "img1" / f"{number:06d}.jpg", 60 + number, 40)
    found = truth(tmp_path / "S")
    units = found.data_units.to_pylist()
    assert [(u["title"], u["frame"], u["width"], u["height"]) for u in units] == [
        ("S", 0, 61, 40),
        ("S", 1, 62, 40),
        ("S", 3, 64, 40),
    ]
    assert units[2]["uri"] == (tmp_path / "S" / "img1" / "000004.jpg").as_uri()


@pytest.mark.parametrize("where", ["S/img1", "S", "img1", "."])
def test_sizes_and_frames_from_images_elsewhere(tmp_path, where):
    path = write_text(tmp_path / "labels" / "S.txt", *TRUTH)
    for number in (1, 2):
        image(tmp_path / "images" / where / f"{number:08d}.png")
    units = truth(path, images=tmp_path / "images").data_units.to_pylist()
    assert [(u["title"], u["frame"], u["width"], u["height"]) for u in units] == [
        ("S", 0, 64, 48),
        ("S", 1, 64, 48),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no ini",
        "[Other]\nimWidth=1",
        "[Sequence]\nimWidth=1\nimHeight=1",
        "[Sequence]\nimWidth=x\nimHeight=1\nseqLength=1",
        "[Sequence]\nimWidth=0\nimHeight=1\nseqLength=1",
        "[Sequence]\nimWidth=1\nimHeight=1\nseqLength=99999999999",
        f"[Sequence]\nimWidth=1\nimHeight=1\nseqLength={mot_sequences.MOST_FRAMES + 1}",
        "[Sequence]\nimWidth=1\nimHeight=1\nseqLength=1\nimWidth=%(x)s",
        "x" * 100_000,
    ],
)
def test_a_seqinfo_that_is_none_is_an_error(tmp_path, text):
    folder = sequence(tmp_path, "A", *TRUTH)
    (folder / "seqinfo.ini").write_text(text)
    with pytest.raises(SourceError, match=r"seqinfo\.ini"):
        truth(folder)


def test_sequences_need_a_size_names_of_their_own_and_frames_by_number(tmp_path):
    path = write_text(tmp_path / "a" / "S" / "gt" / "gt.txt", *TRUTH)
    with pytest.raises(SourceError, match="not known") as raised:
        truth(tmp_path)
    assert "--images DIR" in raised.value.hint
    image(path.parents[1] / "img1" / "first.jpg")
    with pytest.raises(SourceError, match="not named by a frame's number"):
        truth(tmp_path)
    sequence(tmp_path / "b", "S", *TRUTH)
    seqinfo(tmp_path / "a" / "S")
    with pytest.raises(SourceError, match="another sequence named S"):
        truth(tmp_path)


# -- recognition ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["684,8,273,116,0,0,0,0", "406,119,265,70,0,0,0,0", "255,22,119,128,0,0,0,0"],  # VisDrone
        ["1 3 10 20 40 30 0.9 -1 -1 -1"],
        ["1,0.5,10,20,40,30,0.9"],
        ["1,3,10,20,40,30"],
        ["1,3,10,20,40,30,x"],
        ["-1,3,10,20,40,30,1"],
        ["frame,id,left,top,w,h,conf", RESULTS[0]],
        [],
    ],
)
def test_other_texts_are_not_mot(tmp_path, lines):
    sample = Sample(write_text(tmp_path / "a.txt", *lines))
    assert not mot.PREDICTIONS.sniff(sample)
    assert not mot_labels.LABELS.sniff(sample)


def test_results_and_ground_truth_are_told_apart_by_their_place(tmp_path):
    folder = sequence(tmp_path, "A", *TRUTH)
    write_text(folder / "gt" / "labels.txt", "cat")
    assert mot_labels.LABELS.sniff(Sample(tmp_path))
    assert not mot.PREDICTIONS.sniff(Sample(tmp_path))
    assert not mot.PREDICTIONS.sniff(Sample(folder / "gt" / "gt.txt"))
    path = write_text(folder / "det" / "det.txt", *RESULTS)
    assert mot.PREDICTIONS.sniff(Sample(path))
    assert not mot_labels.LABELS.sniff(Sample(path))
    assert mot_labels.LABELS.sniff(Sample(folder))


@given(st.binary(max_size=300), st.integers(0, 100))
def test_whatever_a_file_holds_rows_or_an_error_come_out(tmp_path_factory, noise, at):
    folder = sequence(tmp_path_factory.mktemp("m"), "A")
    path = folder / "gt" / "gt.txt"
    good = "\n".join(TRUTH).encode()
    path.write_bytes(good[:at] + noise + good[at:])
    mot_labels.LABELS.sniff(Sample(path))
    for read in (lambda: rows_of(opened(path)), lambda: labels_of(truth(path))):
        try:
            rows = read()
        except SourceError:
            continue
        assert all(row["rule"] is None or row["message"] for row in rows)


# -- a project -----------------------------------------------------------------------------------


@pytest.fixture
def _registered(monkeypatch):
    """So that the tests pass before and after the formats are in the registry."""
    monkeypatch.setitem(registry.PREDICTIONS, "mot", mot.PREDICTIONS)
    monkeypatch.setitem(registry.LABELS, "mot", mot_labels.LABELS)


@pytest.mark.usefixtures("_registered")
def test_results_meet_the_ground_truth_of_their_sequence(tmp_path):
    sequence(tmp_path / "train", "A", *TRUTH)
    sequence(tmp_path / "train", "B", TRUTH[0], length=1)
    project = ea_arrow.init(tmp_path / "p", tmp_path / "train")
    assert (project.ledger.read, project.ledger.kept) == (4, 4)
    write_text(
        tmp_path / "results" / "A.txt",
        "1,5,10,20,40,30,0.9,-1,-1,-1",
        "3,5,12,20,40,30,0.8,-1,-1,-1",
        "4,5,12,20,40,30,0.7,-1,-1,-1",  # a frame the sequence has not
    )
    write_text(tmp_path / "results" / "B.txt", "1,1,30,20,10,10,0.5,-1,-1,-1")
    write_text(tmp_path / "results" / "C.txt", "1,1,30,20,10,10,0.5,-1,-1,-1")
    result = project.import_predictions(tmp_path / "results", "x", options={"class": "Pedestrian"})
    assert result.ledger.rejects == {"unknown_data_unit": 2}
    query = """
        select title, frame, track_id, bbox_x, confidence
        from predictions join data_units using (data_hash, frame) order by prediction_id
    """
    assert [tuple(row.values()) for row in project.sql(query).to_arrow().to_pylist()] == [
        ("A", 0, "5", 10.0, 0.9),
        ("A", 2, "5", 12.0, 0.8),
        ("B", 0, "1", 30.0, 0.5),
    ]
    # Of three labels that count two are found before anything else: precision 1 up to recall 2/3,
    # which covers 67 of COCO's 101 points.
    rows = project.metrics("x", protocol="coco").to_arrow().to_pylist()
    values = {row["metric"]: row["value"] for row in rows if row["class"] is None}
    assert values["AP50"] == pytest.approx(67 / 101)
