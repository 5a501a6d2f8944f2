"""Times the writer beside a Python list and beside Encord Active's way, and takes its memory.

Each figure is the median of fresh processes, the ways in turn, so that ratios are of one run; peak
memory is the operating system's. 80 classes, 5,000 images of 640 × 480.

    python -m benchmarks.writer                  # the sizes below; 2 GB of disk
    python -m benchmarks.writer --scale 0.1 --runs 1

Encord Active's way is: make validated objects, gather them in a list, pickle it. Its classes are
rebuilt here on pydantic 1 as pydantic 2 ships it, in pure Python (Encord Active's own installation
may have the compiled one, about twice as fast), and, for comparison, ours on pydantic 2. What its
import would then still have to do is counted in only as far as reading the pickle.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.pickles import (
    HEIGHT,
    N_CLASSES,
    N_UNITS,
    ROOT,
    WIDTH,
    class_hashes,
    peak_megabytes,
    unit_hashes,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ea_arrow import Project

DISTINCT = 100_000  # predictions are repeated: their making is not what is measured
PER_IMAGE = 100


def boxes(count: int) -> list[tuple[str, str, float, float, float, float, float]]:
    """Data hash, class, score and relative sides."""
    rng = np.random.default_rng(7)
    units, classes = unit_hashes(), class_hashes()
    unit = np.sort(rng.integers(0, N_UNITS, count)).tolist()
    klass = rng.integers(0, N_CLASSES, count).tolist()
    rows = np.concatenate([rng.random((count, 1)), rng.uniform(0, 0.5, (count, 4))], axis=1)
    return [
        (units[u], classes[k], *row) for u, k, row in zip(unit, klass, rows.tolist(), strict=True)
    ]


# -- the ways, each in a process of its own; all return how many they took -------------------------


def as_list(project: Project, count: int) -> Callable[[], int]:
    """Append tuples to a list: the least a loop can do."""
    given = boxes(min(count, DISTINCT))

    def run() -> int:
        found = []
        for number in range(count // len(given)):
            for unit, klass, score, x, y, w, h in given:
                bbox = {"x": x, "y": y, "w": w, "h": h}
                found.append(
                    (unit, klass, score + number, bbox["x"], bbox["y"], bbox["w"], bbox["h"], 0)
                )
        return len(found)

    return run


def add_prediction(project: Project, count: int) -> Callable[[], int]:
    given = boxes(min(count, DISTINCT))

    def run() -> int:
        with project.writer() as writer:
            for number in range(count // len(given)):
                for unit, klass, score, x, y, w, h in given:
                    writer.add_prediction(
                        data_hash=unit,
                        class_uid=klass,
                        confidence_score=score + number,  # no two rows alike
                        bbox={"x": x, "y": y, "w": w, "h": h},
                        frame=0,
                    )
        return writer.ledger.kept

    return run


def add_batch(project: Project, count: int, size: int = DISTINCT) -> Callable[[], int]:
    rng = np.random.default_rng(7)
    units, classes = np.array(unit_hashes()), class_hashes()
    box, score = rng.uniform(1, 200, (size, 4)), rng.random(size)
    klass = rng.integers(0, N_CLASSES, size)
    unit = np.sort(rng.integers(0, N_UNITS, size))
    names = [str(name) for name in units]

    def run() -> int:
        with project.writer() as writer:
            for number in range(count // size):
                columns = {"bbox": box + number * 1e-6, "confidence": score, "class_index": klass}
                where: Any = names[number % N_UNITS] if size == PER_IMAGE else units[unit]
                writer.add_batch(columns, data_hash=where, classes=classes)
        return writer.ledger.kept

    return run


def add_batch_per_image(project: Project, count: int) -> Callable[[], int]:
    return add_batch(project, count, PER_IMAGE)


def masks(project: Project, count: int) -> Callable[[], int]:
    """Ellipses with a rough edge; a hundred of them, again and again."""
    rng = np.random.default_rng(7)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    shapes = []
    for row in range(100):
        cx, cy, rx, ry = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), *rng.uniform(10, 200, 2)
        rough = 0.05 * np.sin(x / 3 + row) * np.cos(y / 5)
        shapes.append((((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1 + rough).astype(np.uint8))
    units, classes = unit_hashes(), class_hashes()

    def run() -> int:
        with project.writer() as writer:
            for row in range(count):
                writer.add_prediction(
                    data_hash=units[row % N_UNITS],
                    class_uid=classes[row % N_CLASSES],
                    confidence_score=row / count,
                    polygon=shapes[row % 100],
                )
        return writer.ledger.kept

    return run


def running(project: Project, count: int) -> Callable[[], int]:
    """One call after ``count`` predictions, the first having been made long before."""
    found = add_batch(project, 0)  # loads what it needs
    rows = boxes(min(count, DISTINCT))
    writer = project.writer().__enter__()
    writer.running()
    for _ in range(count // len(rows)):
        for unit, klass, score, x, y, w, h in rows:
            writer.add_prediction(unit, klass, score, {"x": x, "y": y, "w": w, "h": h})
    writer.running()
    found()
    return lambda: int(writer.running().to_arrow()["n_predictions"][0].as_py())


def pydantic_1(project: Project, count: int) -> Callable[[], int]:
    given = boxes(min(count, DISTINCT))
    made = _their_models()
    return lambda: _pickled(project, given, count, *made)


def pydantic_2(project: Project, count: int) -> Callable[[], int]:
    from ea_arrow import BoundingBox, Format, ObjectDetection, Prediction

    given = boxes(min(count, DISTINCT))
    return lambda: _pickled(
        project, given, count, Prediction, ObjectDetection, BoundingBox, Format.BOUNDING_BOX
    )


def _pickled(
    project: Project,
    given: list[Any],
    count: int,
    prediction: Any,
    detection: Any,
    box: Any,
    form: Any,
) -> int:
    found = [
        prediction(
            data_hash=unit,
            confidence=score,
            object=detection(format=form, data=box(x=x, y=y, w=w, h=h), feature_hash=klass),
        )
        for _ in range(count // len(given))
        for unit, klass, score, x, y, w, h in given
    ]
    path = project.root / "predictions.pkl"
    with path.open("wb") as file:
        pickle.dump(found, file)
    del found
    with path.open("rb") as file:
        return len(pickle.load(file))


def _their_models() -> tuple[Any, Any, Any, Any]:
    """Models of Encord Active's fields and rules; global, so that they pickle."""
    from enum import Enum

    from pydantic.v1 import BaseModel, Field, root_validator

    class Format(str, Enum):  # noqa: UP042
        BOUNDING_BOX = "bounding-box"

    class BoundingBox(BaseModel):
        x: float = Field(ge=0, le=1)
        y: float = Field(ge=0, le=1)
        h: float = Field(ge=0, le=1)
        w: float = Field(ge=0, le=1)
        theta: float = Field(0.0, ge=0, le=360)

        @root_validator(skip_on_failure=True)
        def inside(cls, values):
            if values["x"] + values["w"] > 1 or values["y"] + values["h"] > 1:
                raise ValueError("outside")
            return values

    class ObjectDetection(BaseModel):
        format: Format
        data: BoundingBox
        feature_hash: str
        track_id: str | int | None = None

    class Prediction(BaseModel):
        data_hash: str
        frame: int | None = 0
        confidence: float
        object: ObjectDetection | None = None
        classification: dict | None = None

        @root_validator(skip_on_failure=True)
        def one(cls, values):
            if (values["object"] is None) == (values["classification"] is None):
                raise ValueError("exactly one")
            return values

    module = sys.modules[__name__]
    for model in (Format, BoundingBox, ObjectDetection, Prediction):
        model.__module__, model.__qualname__ = __name__, f"_v1_{model.__name__}"
        setattr(module, f"_v1_{model.__name__}", model)
    for model in (ObjectDetection, Prediction):
        model.update_forward_refs(**locals())
    return Prediction, ObjectDetection, BoundingBox, Format.BOUNDING_BOX


WAYS: dict[str, tuple[Callable[[Project, int], Callable[[], int]], int]] = {
    "list": (as_list, 1_000_000),
    "add_prediction": (add_prediction, 1_000_000),
    "add_batch": (add_batch, 10_000_000),
    "add_batch_per_image": (add_batch_per_image, 1_000_000),
    "masks": (masks, 20_000),
    "running": (running, 100_000),
    "pydantic_1": (pydantic_1, 100_000),
    "pydantic_2": (pydantic_2, 100_000),
}
TITLES = {
    "list": "append tuples to a list",
    "add_prediction": "add_prediction, boxes",
    "add_batch": f"add_batch, {DISTINCT:,} boxes a call",
    "add_batch_per_image": f"add_batch, {PER_IMAGE} boxes a call",
    "masks": f"add_prediction, masks {WIDTH} × {HEIGHT}",
    "running": "one call of running()",
    "pydantic_1": "pydantic 1, list, pickle",
    "pydantic_2": "pydantic 2, list, pickle",
}


def measure(way: str, count: int, root: Path) -> None:
    import ea_arrow

    assert ea_arrow.PredictionWriter  # loaded once per process, not per prediction
    run = WAYS[way][0](ea_arrow.open(root), count)
    start = time.perf_counter()
    rows = run()
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": rows, "seconds": seconds, "megabytes": peak_megabytes()}))


def measured(way: str, count: int, root: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.writer", "--measure", way, str(count), str(root)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def compare(scale: float, runs: int) -> None:
    import ea_arrow

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    counts = {way: max(int(count * scale), DISTINCT if count > DISTINCT else 1_000)
              for way, (_, count) in WAYS.items()}  # fmt: skip
    for _ in range(runs):
        for way, count in counts.items():
            with tempfile.TemporaryDirectory() as folder:
                write_labels(Path(folder) / "labels.json")
                ea_arrow.init(Path(folder) / "p", Path(folder) / "labels.json")
                found[way].append(measured(way, count, Path(folder) / "p"))
    middle = {
        way: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for way, each in found.items()
    }
    print(f"{'':<36}{'rows':>12}{'seconds':>9}{'rows/s':>12}{'µs/row':>9}{'peak MB':>9}")
    for way, row in middle.items():
        rate = row["rows"] / row["seconds"]
        print(
            f"{TITLES[way]:<36}{row['rows']:>12,.0f}{row['seconds']:>9.2f}{rate:>12,.0f}"
            f"{1e6 / rate:>9.2f}{row['megabytes']:>9,.0f}"
        )
    each = {way: row["seconds"] / row["rows"] for way, row in middle.items()}
    ours = each["add_prediction"]
    print(f"\nadd_prediction, stored, to a list of tuples: {ours / each['list']:.1f}×")
    for way in ("pydantic_1", "pydantic_2"):
        print(f"{TITLES[way]} to add_prediction, stored: {each[way] / ours:.1f}×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        way, count, root = given.measure
        measure(way, int(count), Path(root))
        return
    compare(given.scale, given.runs)


if __name__ == "__main__":
    main()
