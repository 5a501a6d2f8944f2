"""Names and sizes of images from their headers."""

import os
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from ea_arrow.errors import SourceError
from ea_arrow.sources.images import Images

SIZE = (37, 21)


def draw(path, size=SIZE, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 10, 30)).save(path, **more)
    return path


def one_size(folder, name):
    return Images(folder).sizes([name])[0]


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "jpeg", "JPG", "bmp", "tif", "tiff", "gif", "webp"]
)
def test_every_format_gives_its_size(tmp_path, suffix):
    draw(tmp_path / f"a.{suffix}")
    assert one_size(tmp_path, f"a.{suffix}") == SIZE


@pytest.mark.parametrize(
    "more",
    [
        {"lossless": True},
        {"quality": 10},
        {"save_all": True, "append_images": [Image.new("RGB", SIZE)]},
    ],
)
def test_all_kinds_of_webp(tmp_path, more):
    draw(tmp_path / "a.webp", (300, 5), **(more if "save_all" not in more else {}))
    draw(tmp_path / "b.webp", **more)
    Image.new("RGBA", SIZE, (1, 2, 3, 4)).save(tmp_path / "c.webp", **more)
    assert Images(tmp_path).sizes(["a.webp", "b.webp", "c.webp"]) == [(300, 5), SIZE, SIZE]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_on_its_side_has_the_size_it_is_shown_with(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    draw(tmp_path / "a.jpg", exif=exif)
    images = Images(tmp_path)
    turned = orientation in (5, 6, 7, 8)
    assert images.sizes(["a.jpg"]) == [SIZE[::-1] if turned else SIZE]
    assert images.rotated == turned


def test_the_content_counts_and_not_the_suffix(tmp_path):
    draw(tmp_path / "a.jpg", format="PNG")
    assert one_size(tmp_path, "a.jpg") == SIZE


def test_images_too_large_to_decode_have_a_size_without_a_warning(tmp_path):
    path = tmp_path / "large.png"
    draw(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (30_000).to_bytes(4) + (20_000).to_bytes(4)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one_size(tmp_path, "large.png") == (30_000, 20_000)


def test_what_is_no_image_has_no_size_and_does_not_hang(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(draw(tmp_path / "a.png").read_bytes()[:20])
    (tmp_path / "cut.webp").write_bytes(b"RIFF\0\0\0\0WEBPVP8 ")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    images = Images(tmp_path)
    assert [
        path for path, size in zip(images.paths, images.sizes(images.paths), strict=True) if size
    ] == ["a.png"]
    units = images.data_units()
    assert units["title"].to_pylist() == ["a.png"]
    assert images.unreadable == [
        "cut.png",
        "cut.webp",
        "empty.jpg",
        "gone.png",
        "pipe.png",
        "text.png",
    ]


def test_directories_are_walked_in_order_hidden_and_linked_ones_are_not(tmp_path):
    for name in ("b.png", "a/z.png", "a/c/y.PNG", ".hidden.png", ".git/x.png", "a.txt"):
        draw(tmp_path / name, format="PNG")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    assert Images(tmp_path).paths == ["a/c/y.PNG", "a/z.png", "b.png"]


def test_an_image_is_found_by_path_name_or_stem(tmp_path):
    for name in ("train/1.png", "val/1.png", "val/2.jpg", "val/3.v2.png"):
        draw(tmp_path / name)
    images = Images(tmp_path)
    assert images.find("val/1.png") == "val/1.png"
    assert images.find("2.jpg") == "val/2.jpg"
    assert images.find("2") == "val/2.jpg"
    assert images.find("C:\\data\\2.jpg") == "val/2.jpg"
    assert images.find("../images/2.png") == "val/2.jpg"  # converted since
    assert images.find("3.v2") == "val/3.v2.png"
    assert images.find("/data/train/1.png") == "train/1.png"
    assert images.find("1.png") is None
    assert images.ambiguous("1.png")
    assert images.ambiguous("1")
    assert images.find("4.png") is None
    assert not images.ambiguous("4.png")
    assert images.find("") is None


def test_data_units_are_the_images(tmp_path):
    draw(tmp_path / "train" / "1.png", (4, 2))
    draw(tmp_path / "val" / "1.png", (2, 4))
    draw(tmp_path / "2 é.png", (8, 4))
    rows = Images(tmp_path).data_units().to_pylist()
    found = [(r["unit_id"], r["title"], r["source_id"], r["width"], r["height"]) for r in rows]
    assert found == [
        (0, "2 é.png", "2 é", 8, 4),
        (1, "train/1.png", "train/1.png", 4, 2),
        (2, "val/1.png", "val/1.png", 2, 4),
    ]
    assert rows[0]["uri"] == (tmp_path / "2 é.png").as_uri()
    assert len({row["data_hash"] for row in rows}) == 3


def test_names_that_are_not_utf_8_are_shown_and_still_read(tmp_path):
    data = draw(tmp_path / "a.png").read_bytes()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).write_bytes(data)
    except OSError:
        pytest.skip("the file system takes no such name")
    images = Images(tmp_path)
    assert images.paths == ["a.png", "b?.png"]
    assert images.sizes(images.paths) == [SIZE, SIZE]
    assert images.data_units()["uri"].to_pylist()[1].endswith("/b%FF.png")


def test_what_is_no_directory_of_images_is_refused(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        Images(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="has no images"):
        Images(tmp_path)
    with pytest.raises(SourceError, match="is not a directory"):
        Images(draw(tmp_path / "a.png"))
