"""The pictures of the demo: boxes, discs and triangles on noisy backgrounds, written as PNG."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH: Final = 320
HEIGHT: Final = 240

_LIGHT, _DARK = 214, 42
_NOISE = 9
_COLORS: Final = (
    *((206, 66, 66), (58, 128, 210), (52, 156, 92)),
    *((226, 148, 44), (136, 90, 198), (28, 156, 168)),
)


@dataclass(frozen=True)
class Shape:
    """A drawn object: its class and its enclosing box in pixels.

    Attributes:
        kind: ``Box``, ``Disc`` or ``Triangle``.
        x: Left edge.
        y: Top edge.
        w: Width.
        h: Height.
        apex: Where the tip of a triangle is, as a fraction of its width.
    """

    kind: str
    x: float
    y: float
    w: float
    h: float
    apex: float = 0.5

    @property
    def corners(self) -> NDArray[np.float64]:
        """The corners of a triangle: its tip, then its base."""
        bottom = self.y + self.h
        tip = (self.x + self.apex * self.w, self.y)
        return np.array([tip, (self.x + self.w, bottom), (self.x, bottom)])

    def mask(self) -> NDArray[np.bool_]:
        """The pixels of an image that the object covers."""
        rows, columns = np.ogrid[0.5:HEIGHT, 0.5:WIDTH]  # centres of pixels
        down, right = (rows - self.y) / self.h, (columns - self.x) / self.w
        if self.kind == "Disc":
            covered = (2 * down - 1) ** 2 + (2 * right - 1) ** 2 <= 1
        else:
            covered = (down >= 0) & (down <= 1) & (right >= 0) & (right <= 1)
        if self.kind == "Triangle":
            left_side = self.apex * (1 - down)
            covered &= (right >= left_side) & (right <= left_side + down)
        return np.asarray(covered)


def draw(shapes: Sequence[Shape], dark: bool, random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw shapes on a noisy background.

    Args:
        shapes: What to draw; later shapes cover earlier ones.
        dark: Whether the background is dark.
        random: Where noise and colours come from.

    Returns:
        Pixels, of shape (height, width, 3).
    """
    pixels = np.full((HEIGHT, WIDTH, 3), _DARK if dark else _LIGHT, dtype=np.int64)
    for shape in shapes:
        pixels[shape.mask()] = _COLORS[random.integers(len(_COLORS))]
    noise = random.integers(-_NOISE, _NOISE + 1, (HEIGHT, WIDTH, 1))
    return (pixels + noise).astype(np.uint8)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write 8-bit RGB pixels of shape (height, width, 3) as a PNG file."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, 3 * width)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes())),
        (b"IEND", b""),
    )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            checksum = zlib.crc32(kind + data)
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))
