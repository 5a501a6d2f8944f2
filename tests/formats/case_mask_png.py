"""The data set as masks: every box is a filled rectangle in a PNG of its own."""

import json
from collections import Counter

import numpy as np

from tests.formats.dataset import (
    CLASSES,
    LABELS,
    PREDICTIONS,
    UNITS,
    LabelCase,
    PredictionCase,
    write_json,
)


def save(path, pixels):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def rectangle(unit, box, value=255):
    x, y, w, h = box
    pixels = np.zeros((unit.height, unit.width), np.uint8)
    pixels[y : y + h, x : x + w] = value
    return pixels


def _write(folder, rows):
    numbers = Counter()
    scores = {}
    for row in rows:
        unit, name = UNITS[row.unit], CLASSES[row.cls]
        numbers[unit, name] += 1
        file = f"{unit.stem}__{name}__{numbers[unit, name]}.png"
        save(folder / "masks" / file, rectangle(unit, row.box))
        scores[file] = row.score
    write_json(folder / "scores.json", scores)
    return folder / "masks"


def _options(folder):
    return {"options": {"scores": str(folder / "scores.json")}}


def _spoil(folder):
    masks = _write(folder, PREDICTIONS)
    unit = UNITS[0]
    good = rectangle(unit, (1, 1, 3, 3))
    scores = {
        "nowhere__car__1.png": (good, 0.5),
        "000001__dog__1.png": (good, 0.5),
        "000001__car__7.png": (good[:-1], 0.5),  # a row less than the image
        "000001__car__8.png": (good + rectangle(unit, (2, 2, 1, 1), 7), 0.5),
        "000001__car__9.png": (good, None),
        "street-3__bus__9.png": (np.zeros((128, 256, 3), np.uint8) + np.uint8([1, 2, 3]), 0.5),
    }
    for name, (pixels, _) in scores.items():
        save(masks / name, pixels)
    known = json.loads((folder / "scores.json").read_text())
    write_json(folder / "scores.json", known | {name: score for name, (_, score) in scores.items()})
    return [masks], {
        "unknown_data_unit": 1,
        "unknown_class": 1,
        "mask_size": 1,
        "mask_not_binary": 1,
        "missing_confidence": 1,
        "invalid_mask": 1,
    }


PREDICTION_CASES = (
    PredictionCase(
        format="masks",
        write=lambda folder: [_write(folder, PREDICTIONS)],
        options=_options,
        spoil=_spoil,
        ordered=False,
    ),
)
LABEL_CASES = (
    LabelCase(
        format="masks",
        write=lambda folder: _write(folder, LABELS),
        empty_units=False,
    ),
)
