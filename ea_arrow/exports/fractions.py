"""Pixels as fractions of an image's sides, such that they come back as they were, if they can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from ea_arrow.arranged import Floats

_STEPS: Final = 3
"""How many places up and down are tried."""


def fractions(pixels: Floats, size: Floats) -> Floats:
    """Fractions that give the pixels back exactly when multiplied by the size, where there are any.

    >>> fractions(np.array([64.1]), np.array([640.0])) * 640
    array([64.1])
    """
    found = pixels / size
    down = up = found
    for _ in range(_STEPS):
        down, up = np.nextafter(down, -np.inf), np.nextafter(up, np.inf)
        for other in (down, up):
            better = (found * size != pixels) & (other * size == pixels)
            found = np.where(better, other, found)
    return found


def box_fractions(pixels: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Corner and size of boxes as fractions whose sums, if possible, are not above 1.

    Args:
        pixels: Boxes, shape (n, 4).
        size: Width and height of their data units, shape (n, 2).
    """
    low, extent = fractions(pixels[:, :2], size), fractions(pixels[:, 2:], size)
    for _ in range(_STEPS):
        for values, wanted in ((extent, pixels[:, 2:]), (low, pixels[:, :2])):
            less = np.nextafter(values, -1)
            fits = (low + extent > 1) & (less * size == wanted)
            values[fits] = less[fits]
    return low, extent


def centre_fractions(pixels: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Centre and size of boxes as fractions.

    Args:
        pixels: Boxes, shape (n, 4).
        size: Width and height of their data units, shape (n, 2).

    Returns:
        Both of shape (n, 2). ``(centre - extent / 2) * size`` is the corner, exactly where that is
        possible.
    """
    extent = fractions(pixels[:, 2:], size)
    wanted = pixels[:, :2]
    centre = down = up = (wanted + pixels[:, 2:] / 2) / size
    for _ in range(_STEPS):
        down, up = np.nextafter(down, -np.inf), np.nextafter(up, np.inf)
        for other in (down, up):
            better = (centre - extent / 2) * size != wanted
            better &= (other - extent / 2) * size == wanted
            centre = np.where(better, other, centre)
    return centre, extent
