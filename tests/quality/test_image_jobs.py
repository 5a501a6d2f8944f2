"""Images are measured once, in parallel, whatever happens to the run and to single images."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ea_arrow.errors import EaArrowError, ProjectError
from ea_arrow.quality import image_files, image_jobs
from ea_arrow.quality.image_jobs import MEASURES, measure_images
from ea_arrow.quality.pixels import METRICS, examine

NAMES = [metric.name for metric in METRICS]


def pixels(seed, height=10, width=12):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder, n):
    folder.mkdir(exist_ok=True)
    for seed in range(n):
        Image.fromarray(pixels(seed)).save(folder / f"{seed}.png")
    return [str(folder / f"{seed}.png") for seed in range(n)], [f"hash {i}" for i in range(n)]


@pytest.fixture
def decoded(monkeypatch):
    """Count the images that are decoded, by size: they are told apart by nothing else."""
    seen = []
    lock = threading.Lock()
    original = image_jobs.decode

    def counting(image):
        with lock:
            seen.append(image.size)
        return original(image)

    monkeypatch.setattr(image_jobs, "decode", counting)
    return seen


def parts(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith("part-"))


def error_of(tmp_path, uri):
    """Measure one bad image between two good ones, and return its error."""
    uris, keys = write_images(tmp_path / "good", 2)
    found = measure_images([uris[0], uri, uris[1]], [keys[0], "bad", keys[1]], tmp_path / "kept")
    rows = found.table.to_pylist()
    assert [row["data_hash"] for row in rows] == [keys[0], "bad", keys[1]]
    assert found.failed == 1
    for row, seed in ((rows[0], 0), (rows[2], 1)):
        assert row["error"] is None
        assert row["brightness"] == examine(pixels(seed))[0]["brightness"]
    assert all(rows[1][name] is None for name in [*NAMES, "perceptual_hash"])
    return rows[1]["error"]


# What is measured


@pytest.mark.parametrize("workers", [1, 3, None])
def test_every_image_has_its_own_values_in_the_order_asked_for(tmp_path, workers):
    uris, keys = write_images(tmp_path / "images", 50)
    backwards = list(range(49, -1, -1))
    found = measure_images(
        [uris[i] for i in backwards],
        [keys[i] for i in backwards],
        tmp_path / "kept",
        workers=workers,
        frames=[3 * i for i in backwards],
    )
    assert (found.decoded, found.reused, found.failed) == (50, 0, 0)
    assert found.table.schema.names == [name for name in MEASURES.names if name != "stamp"]
    for row, i in zip(found.table.to_pylist(), backwards, strict=True):
        values, code = examine(pixels(i))
        assert row == {
            "data_hash": keys[i],
            "frame": 3 * i,
            **values,
            "perceptual_hash": code,
            "error": None,
        }


def test_paths_uris_and_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "50% of # a ü?.png"
    Image.fromarray(pixels(1)).save(odd)
    uris = [str(odd), odd.as_uri(), odd.name]
    found = measure_images(uris, ["path", "uri", "relative"], tmp_path / "kept")
    assert found.failed == 0
    assert len(set(found.table["perceptual_hash"].to_pylist())) == 1


def test_no_images(tmp_path):
    found = measure_images([], [], tmp_path / "kept")
    assert (len(found.table), found.decoded, found.reused, found.failed) == (0, 0, 0, 0)


def test_progress_counts_every_image(tmp_path):
    uris, keys = write_images(tmp_path / "images", 30)
    told = []
    measure_images(uris, keys, tmp_path / "kept", lambda done, of: told.append((done, of)))
    assert told[-1] == (30, 30)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    told.clear()
    measure_images(uris, keys, tmp_path / "kept", lambda done, of: told.append((done, of)))
    assert told[-1] == (30, 30)


# One bad image


def test_a_missing_file(tmp_path):
    assert error_of(tmp_path, str(tmp_path / "none.png")) == "does not exist"


def test_no_uri(tmp_path):
    assert error_of(tmp_path, None) == "has no uri"


def test_a_truncated_image(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(pixels(0, 200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "truncated" in error_of(tmp_path, str(path))


@pytest.mark.parametrize("content", [b"", b"<html>no image</html>", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path, content):
    path = tmp_path / "page.jpg"
    path.write_bytes(content)
    assert error_of(tmp_path, str(path)) == "is not an image of a known format"


def test_a_directory_and_a_pipe_which_nobody_writes_to(tmp_path):
    assert error_of(tmp_path, str(tmp_path)) == "cannot be read: is not a file"
    os.mkfifo(tmp_path / "pipe.png")
    assert error_of(tmp_path, str(tmp_path / "pipe.png")) == "cannot be read: is not a file"


def test_text_that_can_be_no_uri(tmp_path):
    assert "null byte" in error_of(tmp_path, "a\0b.png")
    assert error_of(tmp_path, "a\udcffb.png") == "does not exist"
    assert "cannot be read" in error_of(tmp_path, "nowhere://there/a.png")
    assert "cannot be read" in error_of(tmp_path, "file://[a.png")


@pytest.mark.parametrize(
    "name", ["a.mp4", "A.MOV", "file:///x/a.webm", "https://h/a.avi?key=b.png"]
)
def test_a_video_by_name(tmp_path, name):
    assert error_of(tmp_path, name) == "is a video"


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3 matroska", b"RIFF\0\0\0\0AVI LIST"]
)
def test_a_video_by_content(tmp_path, head):
    path = tmp_path / "frame"
    path.write_bytes(head + bytes(100))
    assert error_of(tmp_path, str(path)) == "is a video"


def test_a_decompression_bomb(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.fromarray(pixels(0)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    assert "decompression bomb" in error_of(tmp_path, str(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path.touch()
    assert "20000 × 20000 pixels are more than 268,435,456" in error_of(tmp_path, str(path))


def test_what_pillow_warns_of_is_no_error(tmp_path, monkeypatch):
    uris, keys = write_images(tmp_path / "images", 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # 120: a warning; warnings are errors here
    assert measure_images(uris, keys, tmp_path / "kept").failed == 0


def test_whatever_a_decoder_raises_costs_one_row(tmp_path, monkeypatch):
    uris, keys = write_images(tmp_path / "images", 3)
    original = image_jobs.decode

    def failing(image):
        if image.filename == "" and image.fp.name == uris[1]:
            raise IndexError("no\nsuch \udcff code" + "x" * 1000)
        return original(image)

    monkeypatch.setattr(image_jobs, "decode", failing)
    found = measure_images(uris, keys, tmp_path / "kept")
    assert found.table["error"].is_null().to_pylist() == [True, False, True]
    error = found.table["error"][1].as_py()
    assert error.startswith("IndexError: no such ? code")
    assert len(error) == 300


def test_large_images_are_measured_one_at_a_time(tmp_path, monkeypatch):
    uris, keys = write_images(tmp_path / "images", 24)
    inside, most = [], []
    original = image_jobs.decode

    def watching(image):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return original(image)

    monkeypatch.setattr(image_jobs, "decode", watching)
    monkeypatch.setattr(image_jobs, "_LARGE_PIXELS", 119)
    assert measure_images(uris, keys, tmp_path / "kept", workers=4).failed == 0
    assert max(most) == 1


# Going on


def test_nothing_is_decoded_twice(tmp_path, decoded):
    uris, keys = write_images(tmp_path / "images", 40)
    first = measure_images(uris[:25], keys[:25], tmp_path / "kept")
    assert len(decoded) == 25
    second = measure_images(uris, keys, tmp_path / "kept")
    assert len(decoded) == 40
    assert (second.decoded, second.reused) == (15, 25)
    third = measure_images(uris, keys, tmp_path / "kept")
    assert len(decoded) == 40
    assert (third.decoded, third.reused) == (0, 40)
    assert third.table.equals(second.table)
    assert third.table.slice(0, 25).equals(first.table)
    assert len(parts(tmp_path / "kept")) == 1


def test_what_changed_is_measured_again(tmp_path, decoded):
    uris, keys = write_images(tmp_path / "images", 5)
    measure_images(uris, keys, tmp_path / "kept")
    decoded.clear()
    Image.fromarray(pixels(99, 7, 9)).save(uris[2])
    os.utime(uris[3], ns=(1, 1))
    found = measure_images(uris, keys, tmp_path / "kept")
    assert sorted(decoded) == [(9, 7), (12, 10)]
    assert found.table["image_area"].to_pylist() == [120, 120, 63, 120, 120]
    # The key is the image: at another place it is the same one, and another frame is another.
    moved = tmp_path / "moved.png"
    Path(uris[0]).rename(moved)
    decoded.clear()
    assert measure_images([str(moved)], keys[:1], tmp_path / "kept").reused == 1
    assert measure_images([str(moved)], keys[:1], tmp_path / "kept", frames=[1]).reused == 0
    assert len(decoded) == 1


def test_a_damaged_image_is_decoded_once_and_a_missing_one_sought_again(tmp_path, decoded):
    broken = tmp_path / "broken.jpg"
    Image.fromarray(pixels(0, 100, 100)).save(broken)
    broken.write_bytes(broken.read_bytes()[:1500])
    later = tmp_path / "later.png"
    uris, keys = [str(broken), str(later), None, "a.mp4"], ["broken", "later", "none", "video"]
    assert measure_images(uris, keys, tmp_path / "kept").failed == 4
    assert len(decoded) == 1
    Image.fromarray(pixels(1)).save(later)
    found = measure_images(uris, keys, tmp_path / "kept")
    assert decoded == [(100, 100), (12, 10)]
    assert (found.failed, found.decoded, found.reused) == (3, 1, 3)
    uris[2] = str(later)
    assert measure_images(uris, keys, tmp_path / "kept").failed == 2


def test_other_images_stay_known(tmp_path, decoded):
    uris, keys = write_images(tmp_path / "images", 6)
    for part in (slice(0, 2), slice(2, 4), slice(4, 6)):
        assert len(measure_images(uris[part], keys[part], tmp_path / "kept").table) == 2
    assert measure_images(uris, keys, tmp_path / "kept").reused == 6
    assert len(decoded) == 6


def test_a_part_that_is_damaged_or_of_another_version_is_measured_again(tmp_path, decoded):
    uris, keys = write_images(tmp_path / "images", 3)
    kept = tmp_path / "kept"
    measure_images(uris, keys, kept)
    (part,) = parts(kept)
    table = pq.read_table(part)
    assert table.schema.equals(MEASURES, check_metadata=True)
    pq.write_table(table.replace_schema_metadata({"ea_arrow.image_measures": "0"}), part)
    assert measure_images(uris, keys, kept).decoded == 3
    (part,) = parts(kept)
    part.write_bytes(part.read_bytes()[:-100])
    assert measure_images(uris, keys, kept).decoded == 3
    assert measure_images(uris, keys, kept).decoded == 0
    assert len(decoded) == 9


def test_an_interrupted_run_keeps_what_it_found(tmp_path, decoded):
    uris, keys = write_images(tmp_path / "images", 60)

    def stop(done, _):
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_images(uris, keys, tmp_path / "kept", stop, workers=1)
    found = measure_images(uris, keys, tmp_path / "kept")
    assert found.reused == 24
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_the_newest_of_several_parts_counts(tmp_path, decoded):
    uris, keys = write_images(tmp_path / "images", 3)
    kept = tmp_path / "kept"

    def stop(*_):
        raise KeyboardInterrupt

    for seed in (7, 8, 9):
        Image.fromarray(pixels(seed)).save(uris[1])
        with pytest.raises(KeyboardInterrupt):
            measure_images(uris, keys, kept, stop)
    assert len(parts(kept)) == 3
    decoded.clear()
    found = measure_images(uris, keys, kept)
    assert not decoded
    assert found.table["perceptual_hash"][1].as_py() == examine(pixels(9))[1]


def test_a_disk_that_failed_is_asked_again(tmp_path, monkeypatch):
    uris, keys = write_images(tmp_path / "images", 2)

    def failing(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(image_jobs, "decode", failing)
        found = measure_images(uris, keys, tmp_path / "kept")
    assert found.table["error"].to_pylist() == ["cannot be read: Input/output error"] * 2
    assert measure_images(uris, keys, tmp_path / "kept").failed == 0


KILLED = """
import sys, time
from pathlib import Path
from ea_arrow.quality import image_jobs

original = image_jobs.decode
def slow(image):
    time.sleep(0.01)
    return original(image)

image_jobs.decode = slow
image_jobs.PART_IMAGES = 16
folder = Path(sys.argv[1])
uris = [str(folder / f"{i}.png") for i in range(400)]
image_jobs.measure_images(uris, [f"hash {i}" for i in range(400)], Path(sys.argv[2]), workers=2)
"""


@pytest.mark.parametrize("least", [1, 3, 6])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, decoded, least):
    uris, keys = write_images(tmp_path / "images", 400)
    kept = tmp_path / "kept"
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "images"), str(kept)]
    )
    try:
        deadline = time.monotonic() + 60
        while not kept.exists() or len(parts(kept)) < least:
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    rows = sum(pq.read_metadata(part).num_rows for part in parts(kept))
    assert 16 * least <= rows < 400
    found = measure_images(uris, keys, kept)
    assert len(decoded) == found.decoded == 400 - rows
    assert (found.reused, found.failed) == (rows, 0)
    whole = measure_images(uris, keys, tmp_path / "at once")
    assert found.table.equals(whole.table)
    assert len(parts(kept)) == 1


def test_what_a_killed_run_left_half_written_is_not_read_and_goes_in_time(tmp_path):
    uris, keys = write_images(tmp_path / "images", 2)
    kept = tmp_path / "kept"
    kept.mkdir()
    fresh, old = kept / ".part-00000000-aa.parquet", kept / ".part-00000000-bb.parquet"
    for path in (fresh, old):
        path.write_bytes(b"PAR1 half")
    os.utime(old, (1, 1))
    assert measure_images(uris, keys, kept).decoded == 2
    assert fresh.exists()  # another run may be writing it
    assert not old.exists()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    uris, keys = write_images(tmp_path / "images", 2)

    def full(_, path, **__):
        path.write_bytes(b"PAR1 half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_jobs.pq, "write_table", full)
    with pytest.raises(ProjectError, match="the disk is full"):
        measure_images(uris, keys, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


# Object stores


@pytest.fixture
def store():
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def put(store, path, seed):
    with store.open(path, "wb") as file:
        Image.fromarray(pixels(seed)).save(file, "PNG")


def test_images_of_an_object_store(tmp_path, store, decoded):
    for seed in range(3):
        put(store, f"/bucket/{seed}.png", seed)
    uris = [f"memory://bucket/{seed}.png" for seed in (0, 1, 2, 3)]
    found = measure_images(uris, ["a", "b", "c", "d"], tmp_path / "kept")
    assert found.table["error"].to_pylist() == [None, None, None, "does not exist"]
    assert found.table["perceptual_hash"].to_pylist()[:3] == [
        examine(pixels(seed))[1] for seed in range(3)
    ]
    time.sleep(0.001)
    put(store, "/bucket/1.png", 7)
    found = measure_images(uris, ["a", "b", "c", "d"], tmp_path / "kept")
    assert (len(decoded), found.reused) == (4, 2)
    assert found.table["perceptual_hash"][1].as_py() == examine(pixels(7))[1]


def test_an_object_that_is_too_large_is_not_fetched(tmp_path, store, monkeypatch):
    put(store, "/bucket/a.png", 0)
    monkeypatch.setattr(image_files, "MOST_BYTES", 10)
    monkeypatch.setattr(type(store), "cat_file", None)
    assert "are more than 10" in error_of(tmp_path, "memory://bucket/a.png")


@pytest.mark.parametrize("missing", ["fsspec", "s3fs"])
def test_a_missing_package_is_named_before_anything_is_decoded(
    tmp_path, monkeypatch, decoded, missing
):
    uris, keys = write_images(tmp_path / "images", 2)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EaArrowError, match=r"Images at s3:// cannot be read: .*" + missing) as told:
        measure_images([*uris, "s3://bucket/a.png"], [*keys, "far"], tmp_path / "kept")
    assert "ea-arrow[object-store]" in told.value.hint
    assert not decoded
    assert measure_images(uris, keys, tmp_path / "kept").failed == 0  # local images need none
