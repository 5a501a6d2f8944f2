"""The columnar home of computer-vision model predictions.

>>> import ea_arrow
>>> project = ea_arrow.open("my-project")  # doctest: +SKIP
>>> project.import_predictions("preds.pkl", "epoch-3")  # doctest: +SKIP
>>> project.sql("select outcome, count(*) from matches group by all").to_polars()  # doctest: +SKIP

Everything is loaded on first use: ``import ea_arrow`` costs a few milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ea_arrow.creation import init as init
    from ea_arrow.errors import EaArrowError
    from ea_arrow.predictions import (
        BoundingBox,
        Format,
        FrameClassification,
        ObjectDetection,
        Prediction,
    )
    from ea_arrow.project import Project as Project
    from ea_arrow.project import open as open
    from ea_arrow.streams import to_batches as to_batches
    from ea_arrow.writer import PredictionWriter as PredictionWriter

_HOME = {
    **dict.fromkeys(
        ("BoundingBox", "Format", "FrameClassification", "ObjectDetection", "Prediction"),
        "ea_arrow.predictions",
    ),
    "init": "ea_arrow.creation",
    **dict.fromkeys(("Project", "open"), "ea_arrow.project"),
    "EaArrowError": "ea_arrow.errors",
    "PredictionWriter": "ea_arrow.writer",
    "to_batches": "ea_arrow.streams",
}

__all__ = [
    "BoundingBox",
    "EaArrowError",
    "Format",
    "FrameClassification",
    "ObjectDetection",
    "Prediction",
    "PredictionWriter",
    "Project",
    "__version__",
    "init",  # open is left out: `import *` would hide the built-in one
    "to_batches",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ea_arrow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
