"""Times COCO box evaluation in memory: ea-arrow beside pycocotools and whichever peers are there.

Everybody starts from loaded data (ea-arrow: Arrow tables; the others: their ``COCO`` objects) and
ends with the 12 numbers. Runs alternate between packages, so that a busy moment hits all of them.

    python benchmarks/evaluate.py            # three synthetic sets, medians of 5
    python benchmarks/evaluate.py --runs 3 --skip pycocotools

The peers are never dependencies: ``pip install hotcoco faster-coco-eval ultrafast-pycocotools``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ea_arrow import schema
from ea_arrow.metrics.coco import evaluate

PEERS = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "hotcoco": ("hotcoco", "hotcoco", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
    "ultrafast-pycocotools": (
        "ultrafast_pycocotools.coco",
        "ultrafast_pycocotools.cocoeval",
        "COCOeval",
    ),
}
N_CLASSES = 80
SETS = {  # images, labels, detections
    "val2017-like": (5_000, 36_000, 40_000),
    "12x the detections": (5_000, 36_000, 480_000),
    "12x of everything": (60_000, 432_000, 480_000),
}


def synthetic(n_images: int, n_labels: int, n_detections: int, seed: int = 7):
    """Return labels and detections as columns: Zipf classes, lognormal sizes, jittered hits."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, N_CLASSES + 1)
    image = np.sort(rng.integers(0, n_images, n_labels))
    # A few classes per image, as in photographs.
    choice = rng.choice(N_CLASSES, (n_images, 3), p=weights / weights.sum())
    klass = choice[image, rng.integers(0, 3, n_labels)]
    size = np.exp(rng.normal(4, 1, (n_labels, 2))).clip(4, 600)
    box = np.concatenate([rng.uniform(0, 640, (n_labels, 2)) - size / 2, size], axis=1)
    labels = {"image": image, "class": klass, "box": box.round(2), "crowd": rng.random(n_labels)}
    labels["crowd"] = labels["crowd"] < 0.012

    # 0.8 of the labels are hit, in 12x detections up to twice; all else is noise.
    n_hits = min(int(n_detections * 0.75), int(n_labels * 1.6))
    source = rng.permutation(np.arange(n_hits) % n_labels)
    noise = n_detections - n_hits
    jitter = rng.normal(0, 0.1, (n_hits, 4)) * box[source][:, [2, 3, 2, 3]]
    hits = box[source] + jitter
    size = np.exp(rng.normal(4, 1, (noise, 2))).clip(4, 600)
    other = np.concatenate([rng.uniform(0, 640, (noise, 2)) - size / 2, size], axis=1)
    where = rng.integers(0, n_images, noise)
    found = np.concatenate([hits, other]).round(2)
    found[:, 2:] = found[:, 2:].clip(1)
    image = np.concatenate([image[source], where])
    klass = np.concatenate([klass[source], choice[where, rng.integers(0, 3, noise)]])
    score = np.concatenate([rng.beta(4, 2, n_hits), rng.beta(1, 6, noise)]).round(5)
    order = np.argsort(image, kind="stable")
    columns = {"image": image, "class": klass, "box": found, "score": score}
    return labels, {name: values[order] for name, values in columns.items()}


def to_tables(labels, detections, n_images):
    """Return predictions, labels, data units and classes as Arrow tables."""

    def table(spec, n, columns):
        arrays = [
            pa.array(columns[c.name], c.type) if c.name in columns else pa.nulls(n, c.type)
            for c in spec.columns
        ]
        return pa.table(dict(zip(spec.names, arrays, strict=True)))

    images = pa.array([f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(n_images)])
    hashes = pa.array([f"{k:08x}" for k in range(N_CLASSES)])

    def shared(rows):
        n = len(rows["image"])
        return {
            "data_hash": images.take(pa.array(rows["image"])),
            "frame": np.zeros(n, np.int64),
            "format": pa.repeat("bounding_box", n),
            "feature_hash": hashes.take(pa.array(rows["class"])),
            **dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), rows["box"].T, strict=True)),
            "area": rows["box"][:, 2] * rows["box"][:, 3],
        }

    n_labels, n_detections = len(labels["image"]), len(detections["image"])
    truth = {
        "label_id": np.arange(n_labels),
        "is_crowd": labels["crowd"],
        "is_ignored": np.zeros(n_labels, bool),
        "source_id": [str(i + 1) for i in range(n_labels)],
    }
    found = {"prediction_id": np.arange(n_detections), "confidence": detections["score"]}
    units = {
        "unit_id": np.arange(n_images),
        "data_hash": images,
        "frame": np.zeros(n_images, np.int64),
    }
    classes = {
        "kind": ["object"] * N_CLASSES,
        "name": [str(k) for k in range(N_CLASSES)],
        "feature_hash": hashes,
    }
    return (
        table(schema.PREDICTIONS, n_detections, shared(detections) | found),
        table(schema.LABELS, n_labels, shared(labels) | truth),
        table(schema.DATA_UNITS, n_images, units),
        table(schema.CLASSES, N_CLASSES, classes),
    )


def write_json(labels, detections, n_images, folder: Path):
    """Write the same data as COCO files."""
    truth = {
        "info": {},
        "images": [
            {"id": i, "width": 640, "height": 640, "file_name": str(i)} for i in range(n_images)
        ],
        "categories": [{"id": k, "name": str(k)} for k in range(N_CLASSES)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": b, "area": b[2] * b[3],
             "iscrowd": int(c)}
            for n, (i, k, b, c) in enumerate(
                zip(*(labels[name].tolist() for name in ("image", "class", "box", "crowd")),
                    strict=True), 1)
        ],
    }  # fmt: skip
    found = [
        {"image_id": i, "category_id": k, "bbox": b, "score": s}
        for i, k, b, s in zip(
            *(detections[name].tolist() for name in ("image", "class", "box", "score")), strict=True
        )
    ]
    paths = folder / "gt.json", folder / "dt.json"
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    return paths


def peer(name: str, truth: Path, found: Path):
    """Return a function that evaluates with a peer, or ``None`` where it is not installed."""
    coco_module, eval_module, eval_class = PEERS[name]
    try:
        coco = importlib.import_module(coco_module).COCO
        evaluator = getattr(importlib.import_module(eval_module), eval_class)
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        gt = coco(str(truth))
        dt = gt.loadRes(str(found))

    def run():
        with contextlib.redirect_stdout(io.StringIO()):
            task = evaluator(gt, dt, "bbox")
            task.evaluate()
            task.accumulate()
            task.summarize()
        return float(task.stats[0])

    return run


def compare(title: str, sizes: tuple[int, int, int], runs: int, skip: list[str]):
    labels, detections = synthetic(*sizes)
    tables = to_tables(labels, detections, sizes[0])
    tasks = {"ea-arrow": lambda: evaluate(*tables).summary()["AP"]}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_json(labels, detections, sizes[0], Path(folder))
        for name in PEERS:
            if name not in skip and (task := peer(name, *paths)):
                tasks[name] = task
    times: dict[str, list[float]] = {name: [] for name in tasks}
    values = {}
    for _ in range(runs):
        for name, task in tasks.items():
            start = time.perf_counter()
            values[name] = task()
            times[name].append(time.perf_counter() - start)
    print(f"\n{title}: {sizes[0]:,} images, {sizes[1]:,} labels, {sizes[2]:,} detections")
    ours = statistics.median(times["ea-arrow"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(
            f"  {name:22s} {median:8.3f} s  ({min(taken):.3f} – {max(taken):.3f})  "
            f"{median / ours:7.2f} × ea-arrow   AP {values[name]:.15f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skip", action="append", default=[], choices=[*PEERS])
    parser.add_argument("--set", action="append", choices=[*SETS], help="only these sets")
    arguments = parser.parse_args()
    for title, sizes in SETS.items():
        if not arguments.set or title in arguments.set:
            compare(title, sizes, arguments.runs, arguments.skip)


if __name__ == "__main__":
    main()
