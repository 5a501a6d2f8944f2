"""Times the import of Encord Active's pickles beside plain unpickling.

Each figure is the median of fresh processes, whose peak memory is the operating system's. The files
are forged as Encord Active writes them and lie in a temporary directory (1.6 GB) while it runs.

    python -m benchmarks.pickles              # 200,000 boxes and 5,000 masks of 640 × 480
    python -m benchmarks.pickles --boxes 20000 --masks 500 --runs 1
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
from typing import TYPE_CHECKING

import numpy as np

from tests.pickles import forge

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 640, 480
N_UNITS, N_CLASSES = 5_000, 80


# -- the files -------------------------------------------------------------------------------------


def write_boxes(path: Path, count: int) -> None:
    """Boxes whose coordinates were computed with NumPy, as most models' are."""
    rng = np.random.default_rng(7)
    corner, size = rng.uniform(0, 0.6, (count, 2)), rng.uniform(0.01, 0.4, (count, 2))
    scores = rng.beta(2, 5, count).tolist()
    units = np.sort(rng.integers(0, N_UNITS, count)).tolist()
    classes = rng.integers(0, N_CLASSES, count).tolist()
    names = unit_hashes(), class_hashes()
    with forge.encord_active() as module:
        found = [
            forge.detection(
                module,
                "BOUNDING_BOX",
                forge.box(module, *corner[row], *size[row]),
                data_hash=names[0][units[row]],
                feature_hash=names[1][classes[row]],
                confidence=scores[row],
            )
            for row in range(count)
        ]
        with path.open("wb") as file:
            pickle.dump(found, file, 4)


def write_masks(path: Path, count: int) -> None:
    """Ellipses with a rough edge."""
    rng = np.random.default_rng(7)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    units, classes = unit_hashes(), class_hashes()
    with forge.encord_active() as module:
        found = []
        for row in range(count):
            cx, cy = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
            rx, ry = rng.uniform(10, 200, 2)
            distance = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
            rough = 0.05 * np.sin(x / 3 + row) * np.cos(y / 5)
            mask = (distance < 1 + rough).astype(np.uint8)
            given = {"data_hash": units[row % N_UNITS], "feature_hash": classes[row % N_CLASSES]}
            found.append(forge.detection(module, "MASK", mask, **given))
        with path.open("wb") as file:
            pickle.dump(found, file, 4)


def write_labels(path: Path) -> None:
    """Ground truth without objects: the data units and the ontology."""
    objects = [
        {"id": str(i), "name": f"class {i}", "shape": "bitmask", "featureNodeHash": name}
        for i, name in enumerate(class_hashes())
    ]
    for entry in objects[::2]:
        entry["shape"] = "bounding_box"
    rows = [
        {
            "label_hash": f"label-{i}",
            "data_hash": name,
            "data_title": f"{i}.jpg",
            "data_type": "image",
            "data_units": {
                name: {
                    **{"data_hash": name, "data_title": f"{i}.jpg", "data_type": "image/jpeg"},
                    **{"data_sequence": 0, "width": WIDTH, "height": HEIGHT},
                    "labels": {"objects": [], "classifications": []},
                }
            },
            "classification_answers": {},
            "object_answers": {},
        }
        for i, name in enumerate(unit_hashes())
    ]
    ontology = {"objects": objects, "classifications": []}
    path.write_text(json.dumps({"ontology": ontology, "label_rows": rows}))


def unit_hashes() -> list[str]:
    return [f"{i:08x}-6869-4608-a4b8-644241fea10c" for i in range(N_UNITS)]


def class_hashes() -> list[str]:
    return [f"cls{i:05}" for i in range(N_CLASSES)]


# -- what is measured, each in a process of its own ------------------------------------------------


def unpickle(path: Path, _: Path) -> Callable[[], int]:
    """Load as Encord Active does, with classes like pydantic 1's."""

    def run() -> int:
        with forge.encord_active(), path.open("rb") as file:
            return len(pickle.load(file))

    return run


def read(path: Path, _: Path) -> Callable[[], int]:
    """Convert to Arrow batches, unchecked."""
    from ea_arrow.sources.pickles import PickleSource

    return lambda: sum(batch.num_rows for batch in PickleSource(path).batches())


def import_(path: Path, project: Path) -> Callable[[], int]:
    """Convert, check every row and write the project's tables; with what that loads, once."""
    import ea_arrow.project

    opened = ea_arrow.open(project)
    return lambda: opened.import_predictions(path, "bench", mode="replace").ledger.kept


WAYS = {"unpickle": unpickle, "read": read, "import": import_}


def peak_megabytes() -> float:
    # Not ru_maxrss: Linux starts it at what the parent process had.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def measure(way: str, path: Path, project: Path) -> None:
    run = WAYS[way](path, project)  # imports what it needs
    start = time.perf_counter()
    rows = run()
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": rows, "seconds": seconds, "megabytes": peak_megabytes()}))


def measured(way: str, path: Path, project: Path, runs: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.pickles", "--measure", way, str(path)]
    command += ["--project", str(project)]
    results = [
        json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(runs)
    ]
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=200_000)
    parser.add_argument("--masks", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--project", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure[0], Path(given.measure[1]), given.project)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), given.boxes, given.masks, given.runs)


def compare(folder: Path, boxes: int, masks: int, runs: int) -> None:
    import ea_arrow

    files = {f"{boxes:,} boxes": folder / "boxes.pkl", f"{masks:,} masks": folder / "masks.pkl"}
    write_boxes(folder / "boxes.pkl", boxes)
    write_masks(folder / "masks.pkl", masks)
    write_labels(folder / "labels.json")
    project = folder / "project"
    ea_arrow.init(project, folder / "labels.json")
    print(f"{'file':<16}{'MB':>8}  {'what':<10}{'seconds':>9}{'rows/s':>12}{'peak MB':>9}")
    for name, path in files.items():
        size = path.stat().st_size / 1e6
        for way in WAYS:
            found = measured(way, path, project, runs)
            rate = found["rows"] / found["seconds"]
            print(
                f"{name:<16}{size:>8,.0f}  {way:<10}{found['seconds']:>9.2f}{rate:>12,.0f}"
                f"{found['megabytes']:>9,.0f}"
            )


if __name__ == "__main__":
    main()
