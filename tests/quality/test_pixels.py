"""Image metrics against values worked out by hand and against OpenCV."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps
from scipy.fft import dctn

from ea_arrow.quality import pixels as module
from ea_arrow.quality.pixels import METRICS, decode, examine, measure, open_image, perceptual_hash

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))
IMAGES = arrays.arrays(np.uint8, SHAPES)


def reference(pixels):
    """As Encord Active computes them, by OpenCV; sharpness of the grey image."""
    hue, saturation, value = np.moveaxis(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), 2, 0)
    vivid = (saturation >= 50) & (value >= 40)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    sharpness = cv2.Laplacian(grey, cv2.CV_64F).var()
    return {
        "brightness": pixels.mean() / 255,
        "contrast": pixels.std() / 255,
        "sharpness": sharpness,
        "blur": 1 - sharpness,
        "red": (vivid & ((hue <= 10) | (hue >= 170))).mean(),
        "green": (vivid & (hue >= 35) & (hue <= 75)).mean(),
        "blue": (vivid & (hue >= 90) & (hue <= 130)).mean(),
        "image_area": pixels.shape[0] * pixels.shape[1],
        "image_aspect_ratio": pixels.shape[1] / pixels.shape[0],
    }


def picture(seed=0, height=240, width=320):
    """A smooth picture with some noise."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + random.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def decoded(image, kind="PNG", **options):
    return decode(open_image(encoded(image, kind, **options)))


def bits_apart(one, other):
    return ((one ^ other) & (2**64 - 1)).bit_count()


# By hand


def test_a_checkerboard_by_hand():
    board = np.array([[0, 255], [255, 0]], np.uint8)[:, :, np.newaxis].repeat(3, axis=2)
    values = measure(board)
    # Reflected without its border, every black pixel has four white neighbours: ±4 · 255.
    assert values["sharpness"] == (4 * 255) ** 2
    assert values["blur"] == 1 - (4 * 255) ** 2
    assert values["brightness"] == 0.5
    assert values["contrast"] == 0.5
    assert values["red"] == values["green"] == values["blue"] == 0
    assert (values["image_area"], values["image_aspect_ratio"]) == (4, 1)


def test_a_single_line_by_hand():
    # Grey 0, 0, 90, 0: only its right and left matter, as above and below there is nothing else.
    line = np.zeros((1, 4, 3), np.uint8)
    line[0, 2] = 90
    # 0 + 0 − 0; 0 + 90; −180; 90 + 90 (reflected)
    assert measure(line)["sharpness"] == np.var([0, 90, -180, 180])


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((255, 0, 0), "red"),
        ((200, 0, 60), "red"),  # a hue below 180
        ((0, 255, 0), "green"),
        ((0, 0, 255), "blue"),
        ((0, 255, 255), "blue"),  # hue 90
        ((255, 255, 0), None),  # yellow, hue 30
        ((255, 0, 255), None),  # magenta, hue 150
        ((39, 0, 0), None),  # too dark
        ((255, 206, 206), None),  # too pale: S = 49
        ((255, 205, 205), "red"),  # S = 50
        ((128, 128, 128), None),
    ],
)
def test_colours_by_hand(colour, name):
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = colour
    values = measure(pixels)
    found = {key: values[key] for key in ("red", "green", "blue") if values[key]}
    assert found == ({name: pytest.approx(1 / 6)} if name else {})


# Against OpenCV


def test_every_hue_is_opencvs():
    """All colours with one channel at 0 to 5 or 250 to 255, where rounding is finest."""
    levels = np.arange(256, dtype=np.uint8)
    for fixed in (0, 1, 5, 77, 254, 255):
        one, other = (plane.ravel() for plane in np.meshgrid(levels, levels))
        rest = np.full_like(one, fixed)
        for planes in ((one, other, rest), (one, rest, other), (rest, one, other)):
            pixels = np.stack(planes, axis=1)[np.newaxis]
            hue, saturation, value = np.moveaxis(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), 2, 0)[
                :, 0
            ]
            vivid = (saturation >= 50) & (value >= 40)
            for first in range(0, 65_536, 4096):  # counts of small parts leave little to hide
                part = slice(first, first + 4096)
                expected = [
                    (vivid & ((hue <= 10) | (hue >= 170)))[part].sum(),
                    (vivid & (hue >= 35) & (hue <= 75))[part].sum(),
                    (vivid & (hue >= 90) & (hue <= 130))[part].sum(),
                ]
                counted = module._colours(np.ascontiguousarray(pixels[0, part].T))
                assert counted.tolist() == expected


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_one_colour_is_opencvs(red, green, blue):
    pixels = np.full((1, 1, 3), (red, green, blue), np.uint8)
    assert measure(pixels) == pytest.approx(reference(pixels), abs=1e-12)


@given(IMAGES)
def test_any_image_is_opencvs(pixels):
    assert measure(pixels) == pytest.approx(reference(pixels), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shape", [(480, 640), (1, 40_000), (40_000, 1), (33, 32_769), (200, 170)])
def test_blocks_change_nothing(shape):
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert measure(pixels) == pytest.approx(reference(pixels), rel=1e-9)


def test_pixels_need_not_be_contiguous():
    pixels = picture()
    turned = pixels[::-1, ::2]
    assert examine(turned) == examine(np.ascontiguousarray(turned))


def test_every_metric_is_measured():
    assert [metric.name for metric in METRICS] == list(measure(picture()))


# The hash


def plain_hash(pixels):
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(float)
    height, width = grey.shape
    small = grey.reshape(32, height // 32, 32, width // 32).mean(axis=(1, 3))
    waves = dctn(small - small.mean(), norm=None)[:8, :8] / 4
    # dctn's is twice the sum of cosines in each direction.
    bits = np.round(waves, 6) > np.median(np.round(waves, 6))
    number = int("".join("01"[int(bit)] for bit in bits.ravel()), 2)
    return number - 2**64 if number >= 2**63 else number


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_is_that_of_a_plain_transform(seed):
    pixels = picture(seed, 320, 640)
    assert perceptual_hash(pixels) == plain_hash(pixels)
    assert examine(pixels)[1] == plain_hash(pixels)


@pytest.mark.parametrize("shape", [(1, 1), (5, 90), (37, 91), (640, 3)])
def test_images_of_one_colour_have_one_hash(shape):
    hashes = {perceptual_hash(np.full((*shape, 3), level, np.uint8)) for level in (0, 77, 255)}
    assert hashes == {0}


@pytest.mark.parametrize("seed", range(8))
def test_few_bits_change_with_size_compression_and_brightness(seed):
    pixels = picture(seed)
    own = perceptual_hash(pixels)
    half = np.asarray(Image.fromarray(pixels).resize((161, 119), Image.Resampling.BILINEAR))
    brighter = (pixels.astype(int) + 15).clip(0, 255).astype(np.uint8)
    for altered in (half, brighter, decoded(pixels, "JPEG", quality=40)):
        assert bits_apart(own, perceptual_hash(altered)) <= 8


def test_different_images_differ_in_many_bits():
    hashes = [perceptual_hash(picture(seed)) for seed in range(30)]
    apart = [bits_apart(one, other) for one in hashes for other in hashes if one is not other]
    assert min(apart) > 8
    assert all(-(2**63) <= code < 2**63 for code in hashes)


def test_an_image_of_one_pixel_in_another_colour_is_hashed():
    tiny = np.zeros((3, 2, 3), np.uint8)
    tiny[1, 1] = 255
    assert perceptual_hash(tiny) != 0


# Decoding


def test_a_jpeg_is_decoded_as_opencv_does_at_full_size():
    file = encoded(picture(), "JPEG", quality=95)
    ours = decode(open_image(file)).astype(int)
    theirs = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 1  # their decoders may round differently


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    image = Image.fromarray(picture(0, 20, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(image, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert np.array_equal(decode(open_image(file)), expected)
    assert expected.shape == ((30, 20, 3) if orientation >= 5 else (20, 30, 3))
    jpeg = encoded(image, "JPEG", exif=exif)
    theirs = cv2.imdecode(np.frombuffer(jpeg.getvalue(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    ours = decode(open_image(jpeg))
    assert np.abs(ours.astype(int) - theirs).mean() < 1


def test_damaged_exif_costs_nothing():
    pixels = picture(0, 20, 30)
    assert np.array_equal(decoded(pixels, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), pixels)


def test_transparency_is_dropped_and_the_colours_beneath_stay():
    colours = picture(0, 20, 30)
    alpha = np.zeros((20, 30, 1), np.uint8)
    assert np.array_equal(decoded(np.concatenate([colours, alpha], axis=2)), colours)
    grey = Image.fromarray(colours[:, :, 0])
    clear = Image.merge("LA", (grey, Image.new("L", grey.size, 0)))
    assert np.array_equal(decoded(clear), np.asarray(grey)[:, :, np.newaxis].repeat(3, axis=2))


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 128, 255])])
def test_palettes_become_colours(transparency):
    image = Image.fromarray(picture(0, 20, 30)).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoded(image, "PNG", **options), expected)


def test_black_and_white_cmyk_and_the_first_page():
    board = Image.fromarray(np.eye(9, dtype=bool))
    assert sorted(np.unique(decoded(board)).tolist()) == [0, 255]
    cmyk = Image.fromarray(picture(0, 20, 30)).convert("CMYK")
    assert np.array_equal(decoded(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB")))
    pages = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    first = decoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert (first == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_sixteen_bits_the_upper_eight_are_kept(kind):
    levels = np.array([[0, 255, 256], [32_768, 65_279, 65_535]], np.uint16)
    pixels = decoded(Image.fromarray(levels), kind)
    assert pixels[:, :, 0].tolist() == [[0, 0, 1], [128, 254, 255]]
    assert (pixels == pixels[:, :, :1]).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_known_white_are_not_measured(mode):
    with pytest.raises(ValueError, match="no known white"):
        decoded(Image.new(mode, (4, 3), 7), "TIFF")


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(module, "MOST_PIXELS", 599)
    with pytest.raises(ValueError, match="30 × 20 pixels"):
        open_image(encoded(picture(0, 20, 30)))


def test_nothing_is_opened_that_would_start_a_program():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    assert Image.open(io.BytesIO(eps)).format == "EPS"
    with pytest.raises(OSError, match="cannot identify"):
        open_image(io.BytesIO(eps))
