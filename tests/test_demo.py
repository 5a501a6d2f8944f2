"""The demo, run as a newcomer runs it: what it makes, what it prints, whether the story is true."""

import json
import os
import pickle
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

import ea_arrow
from ea_arrow.demo_data import EPOCHS
from ea_arrow.sources.pickles import PickleSource

HEIGHT, WIDTH = 240, 320
AWKWARD = "it's a demo"
FILLED = {"Box": 1.0, "Disc": np.pi / 4, "Triangle": 0.5}  # the share of its enclosing box


def shell(command, directory):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def demo(directory, *arguments):
    done = shell(shlex.join(["ea-arrow", "demo", *arguments]), directory)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """Where the demo was started, and what it printed."""
    directory = tmp_path_factory.mktemp("start")
    return directory, demo(directory)


@pytest.fixture(scope="module")
def made(tour):
    return tour[0] / "ea-arrow-demo"


@pytest.fixture(scope="module")
def project(made):
    return ea_arrow.open(made / "project")


@pytest.fixture(scope="module")
def truth(made):
    return json.loads((made / "labels.json").read_text())


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """Another run, in a directory that has to be quoted."""
    directory = tmp_path_factory.mktemp("again")
    return directory, demo(directory, AWKWARD)


def commands(printed):
    """The commands of a tour; one goes on over lines until its quotes are closed."""
    lines = iter(printed.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ")
        while True:
            try:
                shlex.split(command)
            except ValueError:
                command += "\n" + next(lines)
            else:
                break
        yield command


def decode_png(data):
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    position, chunks = 8, {}
    while position < len(data):
        (size,) = struct.unpack_from(">I", data, position)
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + size)
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        position += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(HEIGHT, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(HEIGHT, WIDTH, 3).astype(int)


def precision(project, iteration, name=None):
    (row,) = (r for r in project.metrics(iteration) if r["metric"] == "AP" and r["class"] == name)
    return row["value"]


def one(project, query):
    (row,) = project.sql(query)
    return row


# -- what it makes ---------------------------------------------------------------------------------


def test_the_directory_holds_images_labels_pickles_and_a_project(made):
    assert sorted(path.name for path in made.iterdir()) == [
        *("epoch-1.pkl", "epoch-2.pkl", "images", "labels.json", "project")
    ]
    assert len(list((made / "images").iterdir())) == 40


def test_every_image_shows_what_its_labels_say(made, project):
    objects = project.sql("select * from labels_details where format <> 'classification'")
    pixels = {path.name: decode_png(path.read_bytes()) for path in (made / "images").iterdir()}
    for row in objects:
        left, top, w, h = (round(row[f"bbox_{side}"]) for side in "xywh")
        part = pixels[row["title"]][top : top + h, left : left + w]
        colored = np.ptp(part, axis=2) > 0  # backgrounds are grey
        assert colored.mean() == pytest.approx(FILLED[row["class"]], abs=0.03)
    for row in project.sql("select * from labels_details where format = 'classification'"):
        grey = pixels[row["title"]][np.ptp(pixels[row["title"]], axis=2) == 0]
        assert (grey.mean() < 128) == (row["class"] == "dark")


def test_no_image_shows_more_than_its_labels_say(made, project):
    areas = project.sql("select title, sum(area) as area from labels_details group by all")
    for row in areas:
        pixels = decode_png((made / "images" / row["title"]).read_bytes())
        assert np.count_nonzero(np.ptp(pixels, axis=2)) == pytest.approx(row["area"], rel=0.02)


def test_images_are_found_from_the_project(project):
    assert all(Path(unquote(urlparse(row["uri"]).path)).is_file() for row in project.data_units)


def test_every_shape_is_in_labels_and_in_both_iterations(truth, project):
    assert [o["shape"] for o in truth["ontology"]["objects"]] == [
        *("bounding_box", "bitmask", "polygon")
    ]
    expected = {"bounding_box", "mask", "polygon", "classification"}
    for rows in (project.labels, project.predictions("epoch-1"), project.predictions("epoch-2")):
        assert {row["format"] for row in rows} == expected


def test_the_pickles_hold_the_public_objects(made):
    for name in ("epoch-1.pkl", "epoch-2.pkl"):
        data = (made / name).read_bytes()
        found = pickle.loads(data)
        assert {type(p) for p in found} == {ea_arrow.Prediction}
        assert sum(b.num_rows for b in PickleSource(made / name).batches()) == len(found)


def test_two_runs_make_the_same(made, project, again):
    other = again[0] / AWKWARD
    assert (other / "labels.json").read_bytes() == (made / "labels.json").read_bytes()
    for path in (made / "images").iterdir():
        assert (other / "images" / path.name).read_bytes() == path.read_bytes()
    other_project = ea_arrow.open(other / "project")
    for name in ("epoch-1", "epoch-2"):
        assert other_project.predictions(name).to_arrow() == project.predictions(name).to_arrow()


# -- what it prints --------------------------------------------------------------------------------


def test_every_printed_command_works_and_prints_what_the_tour_shows(again):
    start, printed = again
    shutil.rmtree(start / AWKWARD / "project")  # as the tour says
    directory, ran = start, []
    for command in commands(printed):
        words = shlex.split(command)
        if words[0] == "cd":
            directory = directory / words[1]
            continue
        done = shell(command, directory)
        assert done.returncode == 0, (command, done.stderr)
        if directory == start:
            assert done.stdout in printed
        ran.append(words[1])
    assert ran == [
        *("init", "import", "import", "metrics", "metrics", "query", "query", "query"),
        *("ls", "show", "query", "query"),
    ]


def test_ledgers_are_in_the_tour(tour):
    assert "  refused         3  class is not in the ontology" in tour[1]
    assert tour[1].count("  kept ") == 3


def test_a_directory_that_begins_with_a_dash_or_is_the_current_one(tmp_path):
    first = next(commands(demo(tmp_path, "--", "-x")))
    assert first == "ea-arrow init ./-x/project --labels ./-x/labels.json --images ./-x/images"
    (tmp_path / "empty").mkdir()
    first = next(commands(demo(tmp_path / "empty", ".")))
    assert first == "ea-arrow init project --labels labels.json --images images"


def test_a_directory_that_is_not_empty_is_refused(tour):
    start = tour[0]
    before = sorted(start.rglob("*"))
    done = shell("ea-arrow demo", start)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ea-arrow-demo is not empty; nothing was changed." in done.stderr
    assert "ea-arrow demo DIRECTORY" in done.stderr
    assert sorted(start.rglob("*")) == before


@pytest.mark.parametrize(
    ("where", "said"),
    [("file", "is not a directory; nothing was changed."), ("file/x", "cannot be written: Not a")],
)
def test_a_file_in_the_way_is_refused(tmp_path, where, said):
    (tmp_path / "file").write_text("mine")
    done = shell(f"ea-arrow demo {where}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


# -- the story -------------------------------------------------------------------------------------


def test_epoch_2_is_better_but_for_triangles(tour, project):
    first, last = precision(project, "epoch-1"), precision(project, "epoch-2")
    assert last > first + 0.1
    assert f"AP went from {first:.2f} to {last:.2f}. So it seems." in tour[1]
    for name in ("Box", "Disc"):
        assert precision(project, "epoch-2", name) > precision(project, "epoch-1", name) + 0.2
    first, last = (precision(project, name, "Triangle") for name in ("epoch-1", "epoch-2"))
    assert last < first - 0.1
    assert f"No: AP of Triangle fell from {first:.2f} to {last:.2f}." in tour[1]
    assert tour[1].count("No: AP of") == 1


def test_only_triangles_have_more_false_alarms_and_more_misses(tour, project):
    counts = {
        (row["iteration"], row["name"], row["outcome"]): row["n"]
        for row in project.sql(
            "select m.iteration, c.name, outcome, count(*) as n from matches m "
            "join classes c using (feature_hash) group by all"
        )
    }
    more = [
        name
        for name in FILLED
        if all(
            counts["epoch-2", name, outcome] > counts["epoch-1", name, outcome]
            for outcome in ("FP", "FN")
        )
    ]
    assert more == ["Triangle"]
    assert "Only Triangles have more of both." in tour[1]


def test_most_of_what_broke_are_triangles(tour, project):
    hits = {
        row["label_id"] for row in project.matches("epoch-1") if row["outcome"] == "TP"
    }  # each label at most once
    missed = {row["label_id"] for row in project.matches("epoch-2") if row["outcome"] == "FN"}
    classes = {row["label_id"]: row["class"] for row in project.sql("from labels_details")}
    broken = [classes[label_id] for label_id in hits & missed]
    triangles = broken.count("Triangle")
    assert triangles > 0.7 * len(broken)
    assert f"{triangles} of the {len(broken)} are Triangles." in tour[1]


def test_the_last_query_finds_the_shift(tour):
    said = re.search(r"puts them (\d+) pixels too far right and (\d+) too far down", tour[1])
    assert [int(pixels) for pixels in said.groups()] == pytest.approx(EPOCHS[1].shift, abs=1)


def test_classifications_get_better_too(project):
    right = (
        "select count(*) filter (where p.option_hash = l.option_hash) as n from predictions p "
        "join labels l using (data_hash, frame, feature_hash, attribute_hash) "
        "where p.iteration = '{}'"
    )
    first, last = (one(project, right.format(name))["n"] for name in ("epoch-1", "epoch-2"))
    assert 20 < first < last <= 40


def test_the_refused_rows_are_of_the_unknown_class(project):
    rows = list(project.sql("select iteration, rules from rejects"))
    assert rows == [{"iteration": "epoch-1", "rules": ["unknown_class"]}] * 3
