"""Where the benchmark of evaluation keeps its data; loads nothing, as peaks of memory need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HUGE_IMAGES, HUGE_LABELS, HUGE_DETECTIONS, HUGE_FILES = 100_000, 700_000, 5_000_000, 10


@dataclass(frozen=True)
class Facts:
    """What a set holds: how many of each, and the names of its most frequent classes."""

    images: int
    labels: int
    detections: int
    classes: list[str]


def truth(folder: Path, *, masks: bool = False) -> Path:
    """Where the labels are: as polygons, or all as masks."""
    return folder / ("truth_masks.json" if masks else "truth.json")


def found(folder: Path, iou_type: str, factor: int) -> Path:
    """Where the detections are."""
    return folder / f"{iou_type}_{factor}x.json"


def facts(folder: Path) -> Facts:
    return Facts(**json.loads((folder / "facts.json").read_text()))
