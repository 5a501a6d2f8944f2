"""Iteration names: what they may look like."""

from __future__ import annotations

import re
from typing import Final

from ea_arrow.errors import IterationError

MAX_NAME: Final = 100
_VALID: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


def check_name(name: str) -> str:
    """Return the name if it is valid.

    Names end up in paths and partition values, so they hold only letters, digits, ``.``, ``_`` and
    ``-``.

    Raises:
        IterationError: It is not; the hint suggests the nearest valid name.

    >>> check_name("yolo-v8_epoch.3")
    'yolo-v8_epoch.3'
    """
    if is_valid(name):
        return name
    shown = name if len(name) <= MAX_NAME else f"{name[:40]}…"
    raise IterationError(
        f"{shown!r} is not a valid iteration name: expected 1 to {MAX_NAME} of A–Z a–z 0–9 . _ -",
        hint=f"Use for example --as {nearest_name(name)}",
    )


def is_valid(name: str) -> bool:
    """Whether a name can be part of a path."""
    return _VALID.fullmatch(name) is not None


def nearest_name(name: str) -> str:
    """The valid name nearest to any text.

    >>> nearest_name("my model / epoch 3")
    'my-model-epoch-3'
    """
    replaced = re.sub(r"[^A-Za-z0-9._]+", "-", name.encode("ascii", "ignore").decode())
    return replaced.strip("-")[:MAX_NAME] or "iteration-1"
