"""PNG files of masks: their sizes, their pixels as they are stored, and what is wrong with them."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import GeometryError
from ea_arrow.geometry import check_mask_size
from ea_arrow.ontology import cut
from ea_arrow.sources.base import RowError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_GREY: Final = 0
_PALETTE: Final = 3


def png_kind(head: bytes) -> int | None:
    """The colour type in a PNG's header (0 grey, 2 RGB, 3 palette, …); None if it is no PNG."""
    if not head.startswith(MAGIC) or head[12:16] != b"IHDR" or len(head) < 26:
        return None
    return head[25]


def looks_like_index(head: bytes) -> bool:
    """Whether a file is a PNG of one number per pixel: grey, or numbers of a palette."""
    return png_kind(head) in (_GREY, _PALETTE)


def png_size(path: Path) -> tuple[int, int] | None:
    """Width and height in a PNG's header; None if it is no PNG, or has no pixels."""
    try:
        with path.open("rb") as file:
            head = file.read(26)
    except OSError:
        return None
    width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    return (width, height) if png_kind(head) is not None and width and height else None


def read_png(file: IO[bytes] | Path) -> NDArray[np.generic]:
    """Read the numbers that a PNG stores, one per pixel: of a palette its indices, not its colours.

    An RGB image of which all channels are equal is grey, and read as such.

    Returns:
        Shape (height, width), bool, uint8, uint16 or int32.

    Raises:
        RowError: It cannot be read, is too large, or is of colours (``invalid_mask``).
    """
    # Image.open would warn of large images; their size is checked here before a pixel is read.
    from PIL.PngImagePlugin import PngImageFile

    try:
        with PngImageFile(file) as image:
            width, height = image.size
            check_mask_size(height, width)
            pixels = np.asarray(image)
            mode = image.mode
    except GeometryError as error:
        raise RowError("invalid_mask", error.message) from error
    except Exception as error:
        message = f"The mask cannot be read: {cut(str(error) or type(error).__name__)}."
        raise RowError("invalid_mask", message) from error
    return _single(pixels, mode)


def _single(pixels: NDArray[Any], mode: str) -> NDArray[np.generic]:
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., : pixels.shape[-1] - (mode in ("RGBA", "LA", "PA"))]
    first: NDArray[np.generic] = colours[..., 0]
    if all((colours[..., i] == first).all() for i in range(1, colours.shape[-1])):
        return first
    message = (
        f"The mask is an image of colours ({mode}); expected one number per pixel: grey, or "
        f"indices of a palette. Panoptic PNGs, whose colours are ids, are not read."
    )
    raise RowError("invalid_mask", message)
