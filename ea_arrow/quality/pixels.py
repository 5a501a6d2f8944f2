"""Image metrics: how bright, contrasty, sharp and colourful an image is, from its pixels.

All sums are sums of integers, taken block by block: exact, and the same on every machine.
"""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from itertools import product
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.quality.declared import Direction, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    Bytes: TypeAlias = NDArray[np.uint8]
    Floats: TypeAlias = NDArray[np.float64]

MOST_PIXELS: Final = 2**28
"""An image of more pixels is not decoded."""

BLOCK_PIXELS: Final = 32_768
"""Pixels at a time: small enough for everything about them to stay in the processor's cache."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
"""What may be decoded. EPS, for one, would start another program."""

_ORIENTATION: Final = 0x0112
_SIDE: Final = 32  # of the small image that is hashed
_KEPT: Final = 8  # frequencies of it, in each direction


def open_image(file: IO[bytes]) -> Any:
    """Open an image without decoding it.

    Args:
        file: The file, seekable.

    Returns:
        Pillow's image.

    Raises:
        ValueError: It has too many pixels.
        OSError: It is none, or of a format that is not decoded; Pillow raises others for damaged
            files.
    """
    from PIL import Image

    Image.init()
    image = Image.open(file, formats=[known for known in _FORMATS if known in Image.OPEN])
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"{image.width} × {image.height} pixels are more than {MOST_PIXELS:,}: not decoded"
        )
    return image


def decode(image: Any) -> Bytes:
    """Decode an image to 8-bit RGB as OpenCV's ``imread`` and model pipelines see it.

    EXIF orientation is applied. Transparency is dropped: the colours beneath it stay as they are.
    Of 16 bits the upper 8 are kept; palettes, grey and CMYK become RGB. Of an animation or of
    several pages the first is taken. A JPEG is decoded at its full size.

    Args:
        image: As :func:`open_image` returns it; it is closed.

    Returns:
        Pixels, shape (height, width, 3).

    Raises:
        ValueError: Its numbers have no known white (32 bits, floats).
        OSError: It is truncated; Pillow raises others for damaged files.
    """
    with closing(image):  # it holds 4 bytes per pixel
        image.load()
        if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
            raise ValueError(f"pixels of mode {image.mode} have no known white: not measured")
        if image.mode.startswith("I"):  # 16 bits; a PGM's are scaled to them
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            pixels = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        else:
            pixels = np.asarray(_rgb(image))
        return np.ascontiguousarray(_upright(pixels, _orientation(image)))


def _rgb(image: Any) -> Any:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow looks for a colour that is transparent
    if image.mode in ("RGBA", "RGBX"):
        image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged metadata of a sound image
        return 1


def _upright(pixels: Bytes, orientation: int) -> Bytes:
    """Turn pixels as EXIF's orientation (1 to 8) says they are to be shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def examine(pixels: Bytes) -> tuple[dict[str, float], int]:
    """Measure an image and hash it: :func:`measure` and :func:`perceptual_hash` in one pass.

    Args:
        pixels: RGB, shape (height, width, 3).
    """
    height, width, _ = pixels.shape
    size = height * width
    grey = np.empty(size, np.uint8)
    total = squares = 0
    shares = np.zeros(3, np.int64)
    for part, block in _blocks(pixels):
        total += int(block.sum(dtype=np.uint64))
        squares += int(np.square(block, dtype=np.uint16).sum(dtype=np.uint64))
        grey[part] = _grey(block)
        shares += _colours(block)
    sharpness = _variance(*_laplacian_sums(grey.reshape(height, width)), size)
    red, green, blue = (shares / size).tolist()
    return {
        "brightness": total / (3 * size) / 255,
        "contrast": math.sqrt(_variance(total, squares, 3 * size)) / 255,
        "sharpness": sharpness,
        "blur": 1 - sharpness,
        "red": red,
        "green": green,
        "blue": blue,
        "image_area": float(size),
        "image_aspect_ratio": width / height,
    }, _hash(grey.reshape(height, width))


def measure(pixels: Bytes) -> dict[str, float]:
    """Measure an image.

    Args:
        pixels: RGB, shape (height, width, 3).

    Returns:
        The value of every metric of ``METRICS``, by name.
    """
    return examine(pixels)[0]


def perceptual_hash(pixels: Bytes) -> int:
    """Hash an image to 64 bits, few of which change when it is scaled, compressed or brightened.

    pHash: the grey image is averaged to 32 × 32; a bit for each of the 8 × 8 lowest frequencies of
    its discrete cosine transform says whether it is above their median. Images of one colour only
    have nothing to tell them apart: their hash is one and the same.

    Args:
        pixels: RGB, shape (height, width, 3).

    Returns:
        The 64 bits as a signed integer, as an int64 column holds them.
    """
    height, width, _ = pixels.shape
    grey = np.empty(height * width, np.uint8)
    for part, block in _blocks(pixels):
        grey[part] = _grey(block)
    return _hash(grey.reshape(height, width))


def _blocks(pixels: Bytes) -> Iterator[tuple[slice, Bytes]]:
    """Cut pixels into blocks; yield where each is, and its three channels, shape (3, n)."""
    flat = pixels.reshape(-1, 3)
    for first in range(0, len(flat), BLOCK_PIXELS):
        part = slice(first, first + BLOCK_PIXELS)
        yield part, np.ascontiguousarray(flat[part].T)


def _grey(planes: Bytes) -> Bytes:
    """OpenCV's ``COLOR_RGB2GRAY`` in its own fixed-point numbers: 0.299, 0.587 and 0.114."""
    red, green, blue = planes.astype(np.uint32)
    grey: Bytes = ((9798 * red + 19235 * green + 3735 * blue + 16384) >> 15).astype(np.uint8)
    return grey


def _colours(planes: Bytes) -> NDArray[np.int64]:
    """Count the red, green and blue of pixels, shape (3, n).

    The hue is OpenCV's of 8-bit ``COLOR_RGB2HSV``: (x · round(180·4096 / 6d) + 2048) >> 12 with d
    the range of the channels and x ≤ 5d. All these integers are below 2²⁴, so that float32 holds
    them exactly; so S ≥ 50 is 170·d ≥ 33·V for every colour.
    """
    red, green, blue = planes
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    vivid = (value >= 40) & (np.uint16(170) * spread >= np.uint16(33) * value)
    is_red = value == red
    is_green = (value == green) & ~is_red
    r, g, b = planes.astype(np.float32)
    d = np.maximum(spread, 1).astype(np.float32)
    x = np.where(is_red, g - b, np.where(is_green, b - r + 2 * d, r - g + 4 * d))
    hue = x * np.rint(np.float32(30 * 4096) / d) + 2048

    def count(low: int, high: int) -> int:
        return int(np.count_nonzero(vivid & (hue >= low * 4096) & (hue < (high + 1) * 4096)))

    # A hue below 0, which only red gives, is one below 180.
    return np.array([count(-10, 10), count(35, 75), count(90, 130)])


def _laplacian_sums(grey: Bytes) -> tuple[int, int]:
    """Sum and sum of squares of the Laplacian of a grey image, shape (height, width).

    Kernel 0 1 0, 1 −4 1, 0 1 0, as ``cv2.Laplacian`` with aperture 1: beyond its border the image
    is reflected without repeating the border itself.
    """
    height, width = grey.shape
    padded = np.pad(grey, 1, mode="reflect")
    wide = min(width, BLOCK_PIXELS)
    high = max(1, BLOCK_PIXELS // wide)
    total = squares = 0
    for top, left in product(range(0, height, high), range(0, width, wide)):
        part = padded[top : top + high + 2, left : left + wide + 2].astype(np.int16)
        edges = part[:-2, 1:-1] + part[2:, 1:-1] + part[1:-1, :-2] + part[1:-1, 2:]
        edges -= 4 * part[1:-1, 1:-1]
        total += int(edges.sum(dtype=np.int64))
        squares += int(np.square(edges, dtype=np.int32).sum(dtype=np.int64))
    return total, squares


def _variance(total: int, squares: int, n: int) -> float:
    return (n * squares - total * total) / (n * n)


def _hash(grey: Bytes) -> int:
    wide = grey.shape[0] < grey.shape[1]
    small = _averages(grey.T).T if wide else _averages(grey)
    waves = _cosines()
    # Less its mean, an image that is only brighter has the same hash. Rounding takes away what
    # would be 0 but for the order in which a machine adds.
    found = np.round(waves @ (small - small.mean()) @ waves.T, 6).ravel()
    bits = np.packbits(found > np.median(found))
    return int(bits.view(">i8")[0])


def _averages(grey: Bytes) -> Floats:
    """Average a grey image to 32 × 32; where it is smaller, pixels are repeated."""
    rows, columns = (np.arange(_SIDE + 1) * length // _SIDE for length in grey.shape)
    high, wide = (np.maximum(np.diff(edges), 1) for edges in (rows, columns))
    strips = zip(rows.tolist(), high.tolist(), strict=False)
    sums = np.stack([grey[top : top + n].sum(axis=0, dtype=np.float64) for top, n in strips])
    small: Floats = np.add.reduceat(sums, columns[:-1], axis=1) / np.outer(high, wide)
    return small


def _cosines() -> Floats:
    """The lowest frequencies of the discrete cosine transform (type II), shape (8, 32)."""
    at = np.pi * (np.arange(_SIDE) + 0.5) / _SIDE
    return np.cos(np.arange(_KEPT)[:, np.newaxis] * at)


def _column(name: str, measured: Any) -> Floats:
    """Values of a metric from the table of measured images, NaN where an image has none."""
    values: Floats = measured[name].to_numpy().astype(np.float64)
    return values


def _metric(name: str, title: str, doc: str, source: str, direction: Direction) -> Metric:
    return Metric(
        name=name,
        title=title,
        targets=("image",),
        needs=("pixels",),
        doc=doc,
        source=source,
        direction=direction,
        compute=partial(_column, name),
        per_unit=True,
    )


_HUE: Final = (
    "Share of pixels with hue in {}, saturation in [50, 255] and value in [40, 255], in OpenCV's "
    "8-bit HSV (hue 0 … 179); 0 … 1."
)

METRICS: Final = (
    _metric(
        "brightness",
        "Brightness",
        "Mean of all values of all three channels / 255; 0 (black) … 1 (white).",
        "Encord Active: image.mean() / 255",
        "both",
    ),
    _metric(
        "contrast",
        "Contrast",
        "Standard deviation (of the population) of all values of all three channels / 255; 0 … ½.",
        "Encord Active: image.std() / 255",
        "low",
    ),
    _metric(
        "sharpness",
        "Sharpness",
        "Variance of the Laplacian of the grey image (3 × 3, four neighbours, reflected beyond "
        "the border), in grey levels²; 0 … about 10⁶.",
        "Encord Active: cv2.Laplacian(image, cv2.CV_64F).var(), here of cv2.COLOR_RGB2GRAY",
        "low",
    ),
    _metric(
        "blur",
        "Blur",
        "1 − sharpness, which is not normalised: 1 or less, mostly far below 0.",
        "Encord Active: 1 − Sharpness",
        "high",
    ),
    _metric(
        "red",
        "Red Values",
        _HUE.format("[0, 10] or [170, 179]"),
        "Encord Active: cv2.inRange of HSV",
        "high",
    ),
    _metric(
        "green",
        "Green Values",
        _HUE.format("[35, 75]"),
        "Encord Active: cv2.inRange of HSV",
        "high",
    ),
    _metric(
        "blue",
        "Blue Values",
        _HUE.format("[90, 130]"),
        "Encord Active: cv2.inRange of HSV",
        "high",
    ),
    _metric(
        "image_area",
        "Area",
        "Width × height of the image as it is shown, in pixels.",
        "Encord Active: W · H",
        "both",
    ),
    _metric(
        "image_aspect_ratio",
        "Aspect Ratio",
        "Width / height of the image as it is shown (EXIF orientation applied).",
        "Encord Active: W / H",
        "both",
    ),
)
