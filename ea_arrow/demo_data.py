"""The data set of the demo: images, ground truth and the predictions of two epochs.

Everything is drawn from seeded random numbers: each run makes the same data set. The second epoch
is the better one, but for its triangles, which all lie beside where they should.
"""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.demo_images import HEIGHT, WIDTH, Shape, draw, write_png
from ea_arrow.geometry import encode_dense
from ea_arrow.predictions import (
    BoundingBox,
    Format,
    FrameClassification,
    ObjectDetection,
    Prediction,
)
from ea_arrow.rle import encode_rle_strings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES: Final = "images"
LABELS: Final = "labels.json"
N_IMAGES: Final = 40

_SEED = 6
_SHAPES: Final = {"Box": "bounding_box", "Disc": "bitmask", "Triangle": "polygon"}
_UNKNOWN: Final = "Star"
_HASHES: Final = {
    "Box": "Qm94MDAx",
    "Disc": "RGlzYzAx",
    "Triangle": "VHJpYW5n",
    _UNKNOWN: "U3RhcjAx",
}
_COLORS: Final = {"Box": "#CE4242", "Disc": "#3A80D2", "Triangle": "#349C5C"}
_BACKGROUND, _QUESTION = "QmFja2dy", "SXNJdERh"
_OPTIONS: Final = {"light": "TGlnaHQw", "dark": "RGFyazAw"}
_GAP = 6
_SMALLEST, _LARGEST = 26, 116


@dataclass(frozen=True)
class Scene:
    """What is on one image."""

    data_hash: str
    title: str
    dark: bool
    shapes: list[Shape]


@dataclass(frozen=True)
class Epoch:
    """How well a model does.

    Attributes:
        name: Name of its file of predictions, without the extension.
        jitter: How far boxes are off, as a share of their size.
        missed: Share of the objects that it does not see.
        doubled: Share of the objects that it finds twice.
        confused: Share of the objects that it takes for another class.
        invented: Objects that it sees where there are none.
        unknown: Predictions of a class that the ontology does not have.
        shift: How far triangles are beside where they should be, in pixels.
        background: Share of the backgrounds that it gets right.
    """

    name: str
    jitter: float
    missed: float
    doubled: float
    confused: float
    invented: int
    unknown: int
    shift: tuple[float, float]
    background: float


EPOCHS: Final = (
    Epoch("epoch-1", 0.085, 0.14, 0.12, 0.08, 14, 3, (0, 0), 0.8),
    Epoch("epoch-2", 0.03, 0.03, 0.03, 0.01, 5, 0, (12, 8), 0.95),
)


def make(directory: Path) -> None:
    """Write images, ground truth and predictions into a directory, which must be there.

    Args:
        directory: Gets ``images/``, ``labels.json`` and one pickle per epoch.
    """
    random = np.random.default_rng(_SEED)
    scenes = [_scene(number, random) for number in range(1, N_IMAGES + 1)]
    (directory / IMAGES).mkdir()
    for scene in scenes:
        write_png(directory / IMAGES / scene.title, draw(scene.shapes, scene.dark, random))
    truth = {"ontology": _ontology(), "label_rows": [_label_row(s, random) for s in scenes]}
    (directory / LABELS).write_text(json.dumps(truth, indent=1))
    for epoch in EPOCHS:
        predictions = list(_predictions(scenes, epoch, random))
        with (directory / f"{epoch.name}.pkl").open("wb") as file:
            pickle.dump(predictions, file)


def _scene(number: int, random: np.random.Generator) -> Scene:
    kinds = ["Box"] * int(random.integers(1, 3)) + ["Disc"] * int(random.integers(0, 3))
    if number % 4:
        kinds.append("Triangle")
    shapes: list[Shape] = []
    for kind in kinds:
        for _ in range(60):  # where it does not fit, it is left out
            shape = _somewhere(kind, random)
            if not any(_near(shape, other) for other in shapes):
                shapes.append(shape)
                break
    data_hash = str(uuid.UUID(bytes=random.bytes(16), version=4))
    return Scene(data_hash, f"scene-{number:02}.png", bool(random.random() < 0.5), shapes)


def _somewhere(kind: str, random: np.random.Generator) -> Shape:
    w, h = (int(side) for side in random.integers(_SMALLEST, _LARGEST + 1, 2))
    if kind == "Disc":
        h = w
    x, y = int(random.integers(0, WIDTH - w)), int(random.integers(0, HEIGHT - h))
    return Shape(kind, x, y, w, h, apex=float(random.uniform(0.2, 0.8)))


def _near(one: Shape, other: Shape) -> bool:
    return (
        one.x < other.x + other.w + _GAP
        and other.x < one.x + one.w + _GAP
        and one.y < other.y + other.h + _GAP
        and other.y < one.y + one.h + _GAP
    )


# -- ground truth, as Encord's label rows ----------------------------------------------------------


def _ontology() -> dict[str, Any]:
    objects = [
        {
            "id": str(number),
            "name": name,
            "color": _COLORS[name],
            "shape": shape,
            "featureNodeHash": _HASHES[name],
        }
        for number, (name, shape) in enumerate(_SHAPES.items(), 1)
    ]
    options = [
        {"id": f"4.1.{number}", "label": name, "value": name, "featureNodeHash": feature_hash}
        for number, (name, feature_hash) in enumerate(_OPTIONS.items(), 1)
    ]
    question = {
        "id": "4.1",
        "name": "Background",
        "type": "radio",
        "required": True,
        "featureNodeHash": _QUESTION,
        "options": options,
    }
    background = {"id": "4", "featureNodeHash": _BACKGROUND, "attributes": [question]}
    return {"objects": objects, "classifications": [background]}


def _label_row(scene: Scene, random: np.random.Generator) -> dict[str, Any]:
    classification_hash = _short_hash(random)
    answer = "dark" if scene.dark else "light"
    chosen = {"name": answer, "value": answer, "featureHash": _OPTIONS[answer]}
    background = {"name": "Background", "value": "background"}
    unit = {
        "data_hash": scene.data_hash,
        "data_title": scene.title,
        "data_type": "image/png",
        "data_sequence": 0,
        "width": WIDTH,
        "height": HEIGHT,
        "labels": {
            "objects": [_label(shape, random) for shape in scene.shapes],
            "classifications": [
                background | {"featureHash": _BACKGROUND, "classificationHash": classification_hash}
            ],
        },
    }
    answers = [background | {"featureHash": _QUESTION, "answers": [chosen]}]
    return {
        "label_hash": str(uuid.UUID(bytes=random.bytes(16), version=4)),
        "data_hash": scene.data_hash,
        "data_title": scene.title,
        "data_type": "image",
        "data_units": {scene.data_hash: unit},
        "classification_answers": {classification_hash: {"classifications": answers}},
    }


def _label(shape: Shape, random: np.random.Generator) -> dict[str, Any]:
    label = {
        "name": shape.kind,
        "value": shape.kind.lower(),
        "shape": _SHAPES[shape.kind],
        "objectHash": _short_hash(random),
        "featureHash": _HASHES[shape.kind],
    }
    if shape.kind == "Box":
        return label | {"boundingBox": _box(shape).model_dump(include={"x", "y", "w", "h"})}
    if shape.kind == "Disc":
        return label | {"bitmask": _bitmask(shape)}
    points = (shape.corners / (WIDTH, HEIGHT)).tolist()
    return label | {"polygon": {str(i): {"x": x, "y": y} for i, (x, y) in enumerate(points)}}


def _bitmask(shape: Shape) -> dict[str, Any]:
    """The mask within its box, in runs along the rows."""
    top, left, height, width = (int(v) for v in (shape.y, shape.x, shape.h, shape.w))
    part = shape.mask()[top : top + height, left : left + width]
    runs = np.asarray(encode_dense(np.ascontiguousarray(part.T)).counts)
    string = encode_rle_strings(runs, np.array([runs.size]))[0].tobytes().decode()
    return {"top": top, "left": left, "height": height, "width": width, "rleString": string}


def _short_hash(random: np.random.Generator) -> str:
    return base64.b64encode(random.bytes(6)).decode()


# -- predictions, as Encord Active's objects -------------------------------------------------------


def _predictions(
    scenes: list[Scene], epoch: Epoch, random: np.random.Generator
) -> Iterator[Prediction]:
    for scene in scenes:
        for shape in scene.shapes:
            yield from _attempts(scene, shape, epoch, random)
        right = random.random() < epoch.background
        answer = "dark" if scene.dark == right else "light"
        yield Prediction(
            data_hash=scene.data_hash,
            confidence=_score(0.6, 1.0, random),
            classification=FrameClassification(
                feature_hash=_BACKGROUND, attribute_hash=_QUESTION, option_hash=_OPTIONS[answer]
            ),
        )
    kinds = [*random.choice(list(_SHAPES), epoch.invented), *[_UNKNOWN] * epoch.unknown]
    for kind in kinds:
        scene = scenes[random.integers(len(scenes))]
        yield _found(scene, _somewhere(str(kind), random), _score(0.1, 0.7, random))


def _attempts(
    scene: Scene, shape: Shape, epoch: Epoch, random: np.random.Generator
) -> Iterator[Prediction]:
    """What a model makes of one object: nothing, one prediction or two."""
    if random.random() < epoch.missed:
        return
    guess = _jittered(shape, epoch, random)
    if random.random() < epoch.confused:
        others = [kind for kind in _SHAPES if kind != shape.kind]
        guess = replace(guess, kind=str(random.choice(others)))
    confidence = _score(0.5, 1.0, random)
    yield _found(scene, guess, confidence)
    if random.random() < epoch.doubled:
        again = _jittered(shape, epoch, random)
        yield _found(scene, again, round(confidence * 0.7, 4))


def _jittered(shape: Shape, epoch: Epoch, random: np.random.Generator) -> Shape:
    noise = random.normal(0, epoch.jitter, 4)
    w, h = shape.w * np.exp(noise[0]), shape.h * np.exp(noise[1])
    x, y = shape.x + shape.w * noise[2], shape.y + shape.h * noise[3]
    if shape.kind == "Triangle":
        x, y = x + epoch.shift[0], y + epoch.shift[1]
    x, y = np.clip(x, 0, WIDTH - w), np.clip(y, 0, HEIGHT - h)
    return replace(shape, x=float(x), y=float(y), w=float(w), h=float(h))


def _found(scene: Scene, shape: Shape, confidence: float) -> Prediction:
    data: Any
    if shape.kind == "Disc":
        form, data = Format.MASK, shape.mask().astype(np.uint8)
    elif shape.kind == "Triangle":
        form, data = Format.POLYGON, shape.corners / (WIDTH, HEIGHT)
    else:
        form, data = Format.BOUNDING_BOX, _box(shape)
    detection = ObjectDetection(format=form, data=data, feature_hash=_HASHES[shape.kind])
    return Prediction(data_hash=scene.data_hash, confidence=confidence, object=detection)


def _box(shape: Shape) -> BoundingBox:
    return BoundingBox(x=shape.x / WIDTH, y=shape.y / HEIGHT, w=shape.w / WIDTH, h=shape.h / HEIGHT)


def _score(low: float, high: float, random: np.random.Generator) -> float:
    return round(float(random.uniform(low, high)), 4)
