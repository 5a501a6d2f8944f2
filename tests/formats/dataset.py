"""One small data set, to be written in every format: whichever is read, the rows are the same.

Sizes are powers of two and boxes whole pixels, so that relative coordinates and centres have short
exact decimals: formats must agree to the last bit, not nearly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Unit(NamedTuple):
    name: str
    width: int
    height: int

    @property
    def stem(self):
        return self.name.rpartition(".")[0]


class Row(NamedTuple):
    unit: int
    cls: int
    box: tuple[int, int, int, int]  # left, top, width, height in pixels
    score: float | None = None

    @property
    def corners(self):
        x, y, w, h = self.box
        return x, y, x + w, y + h

    @property
    def relative(self):
        """Left, top, width, height as fractions."""
        x, y, w, h = self.box
        unit = UNITS[self.unit]
        return x / unit.width, y / unit.height, w / unit.width, h / unit.height

    @property
    def centred(self):
        """Centre x, centre y, width, height as fractions."""
        x, y, w, h = self.relative
        return x + w / 2, y + h / 2, w, h


UNITS = (
    Unit("000001.png", 64, 32),
    Unit("000002.png", 128, 64),
    Unit("street-3.png", 256, 128),
    Unit("000004.png", 64, 64),  # has labels, but no predictions
    Unit("empty.png", 32, 32),  # has neither
)
CLASSES = ("person", "car", "bus")
LABELS = (
    Row(0, 0, (4, 4, 16, 16)),
    Row(0, 1, (32, 8, 24, 16)),
    Row(1, 1, (10, 20, 40, 30)),
    Row(1, 2, (64, 0, 64, 64)),
    Row(2, 0, (100, 50, 20, 60)),
    Row(2, 2, (0, 0, 90, 100)),
    Row(3, 0, (16, 16, 32, 32)),
)
PREDICTIONS = (  # in order of the data units, as formats of one file per image have them
    Row(0, 0, (4, 4, 16, 14), 0.875),
    Row(0, 1, (30, 8, 26, 16), 0.75),
    Row(0, 0, (40, 2, 8, 8), 0.25),
    Row(1, 1, (10, 20, 40, 30), 0.9375),
    Row(1, 2, (60, 0, 68, 60), 0.5),
    Row(1, 2, (64, 0, 60, 64), 0.625),
    Row(2, 0, (90, 60, 20, 60), 0.4375),
    Row(2, 2, (0, 0, 90, 90), 0.8125),
)


@dataclass(frozen=True, kw_only=True)
class PredictionCase:
    """The predictions of this data set in one format.

    Attributes:
        format: The format's name.
        write: Writes them below a folder; returns what is given to ``import``.
        id: Told apart from other cases of the same format.
        options: Further arguments of ``import_predictions``.
        spoil: Writes the same with bad rows among the good ones; returns what is given to
            ``import`` and how many rows each rule refuses.
        ordered: Whether the rows come back in the order of ``PREDICTIONS``.
        detected: Whether the format is found from the content.
    """

    format: str
    write: Callable[[Path], list[Path]]
    id: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    spoil: Callable[[Path], tuple[list[Path], dict[str, int]]] | None = None
    ordered: bool = True
    detected: bool = True


@dataclass(frozen=True, kw_only=True)
class LabelCase:
    """The ground truth of this data set in one format.

    Attributes:
        format: The format's name.
        write: Writes it below a folder; returns what is given to ``init --labels``.
        id: Told apart from other cases of the same format.
        options: Further arguments of ``init``; a callable gets the folder.
        spoil: As for predictions.
        empty_units: Whether the format can name a data unit that has no labels.
        images: Whether sizes must come from images, which the suite then draws and gives.
    """

    format: str
    write: Callable[[Path], Path]
    id: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    spoil: Callable[[Path], tuple[Path, dict[str, int]]] | None = None
    empty_units: bool = True
    images: bool = False


def coco_ground_truth() -> dict[str, Any]:
    """The ground truth as COCO, image and category ids from 1."""
    return {
        "images": [
            {"id": i, "file_name": u.name, "width": u.width, "height": u.height}
            for i, u in enumerate(UNITS, 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
        "annotations": [
            {
                "id": i,
                "image_id": row.unit + 1,
                "category_id": row.cls + 1,
                "bbox": list(row.box),
                "area": row.box[2] * row.box[3],
                "iscrowd": 0,
            }
            for i, row in enumerate(LABELS, 1)
        ],
    }


def coco_results() -> list[dict[str, Any]]:
    """The predictions as COCO results."""
    return [
        {
            "image_id": row.unit + 1,
            "category_id": row.cls + 1,
            "bbox": list(row.box),
            "score": row.score,
        }
        for row in PREDICTIONS
    ]


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def by_unit(rows: tuple[Row, ...]) -> dict[Unit, list[Row]]:
    """The rows of each data unit that has any."""
    found: dict[Unit, list[Row]] = {}
    for row in rows:
        found.setdefault(UNITS[row.unit], []).append(row)
    return found
