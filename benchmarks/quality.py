"""Times the geometry and sequence metrics: ``python -m benchmarks.quality``.

Sets, each measured in a process of its own, several times: 1 million boxes, 8 per image and 80
classes, as images and as videos with tracks; 100,000 masks (ellipses); and each with half as many
images, to show that cost grows linearly. Prints medians, the slowest metrics and peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ea_arrow.geometry import Rle
from ea_arrow.quality import density, duplicates, geometry, moments, sequences
from ea_arrow.quality.objects import Objects, Units
from ea_arrow.rle import mask_column
from ea_arrow.schema import FORMATS

PER_IMAGE, CLASSES, FRAMES = 8, 80, 100
WIDTH, HEIGHT = 640, 480
AT_ONCE = 20_000
METRICS = tuple(
    metric
    for module in (geometry, duplicates, density, moments, sequences)
    for metric in module.METRICS
)


def boxes(n: int, *, video: bool, crowded: bool = False) -> Objects:
    """Boxes in images, or in videos of 100 frames in which each object moves on its track.

    Args:
        n: How many.
        video: Whether images are frames.
        crowded: Few classes per image, as detectors give them: many pairs to compare.
    """
    rng = np.random.default_rng(7)
    unit = np.arange(n) // PER_IMAGE
    n_units = int(unit[-1]) + 1
    source = np.arange(n)
    if video:  # the same boxes in every frame, moved a little
        source = unit // FRAMES * PER_IMAGE + np.arange(n) % PER_IMAGE
    span = np.exp(rng.normal(3.7, 1.1, (n, 1)) + rng.normal(0, 0.3, (n, 2)))
    span = span.clip(4, (WIDTH * 0.98, HEIGHT * 0.98))[source]
    corner = rng.uniform(0, 1, (n, 2))[source] * ((WIDTH, HEIGHT) - span)
    if video:
        corner += rng.normal(0, 0.05, (n, 2)) * span
    klass = rng.integers(0, CLASSES, n)[source]
    if crowded:
        klass = rng.integers(0, CLASSES, n_units)[unit]
    frame = np.arange(n_units)
    units = Units(
        np.full(n_units, float(WIDTH)),
        np.full(n_units, float(HEIGHT)),
        frame // FRAMES if video else frame,
        frame % FRAMES if video else np.zeros(n_units, np.int64),
    )
    return Objects(
        units,
        unit,
        klass,
        np.arange(n),
        np.concatenate([corner, span], axis=1),
        span.prod(axis=1),
        np.zeros(n, np.int64),
        np.arange(n) % PER_IMAGE if video else np.full(n, -1),
        np.full(n, np.nan),
        None,
        None,
        rng.uniform(0, 1, n),
    )


def masks(n: int) -> Objects:
    """Ellipses that fill such boxes, as masks; every image has one class."""
    given = boxes(n, video=False, crowded=True)
    parts = [_ellipses(given.box[i : i + AT_ONCE]) for i in range(0, n, AT_ONCE)]
    column = pa.concat_arrays(parts)
    sides = [column.field(name).to_numpy().astype(np.float64) for name in "xywh"]
    kind = np.full(n, FORMATS.index("mask"))
    area = column.field("area").to_numpy().astype(np.float64)
    own = {"box": np.stack(sides, axis=1), "area": area, "format": kind, "mask": column}
    return Objects(**{**vars(given), **own})


def _ellipses(box: np.ndarray) -> pa.StructArray:
    """Each column of pixels that an ellipse crosses is one run."""
    x, y, w, h = box.T
    first, last = np.ceil(x).astype(int), np.maximum(np.floor(x + w), np.ceil(x) + 1).astype(int)
    last = np.minimum(last, WIDTH)
    wide = last - first
    owner = np.repeat(np.arange(len(box)), wide)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(wide) - wide, wide) + first[owner]
    across = ((column + 0.5 - (x + w / 2)[owner]) / (w / 2)[owner]).clip(-1, 1)
    half = np.sqrt(1 - across**2) * (h / 2)[owner]
    middle = (y + h / 2)[owner]
    top = np.floor(middle - half).clip(0, HEIGHT - 2).astype(int)
    low = np.maximum(np.ceil(middle + half).clip(0, HEIGHT - 1).astype(int), top + 1)
    edges = np.stack([column * HEIGHT + top, column * HEIGHT + low], axis=1)
    ends = np.cumsum(wide) * 2
    given = [
        Rle(HEIGHT, WIDTH, np.diff(part, prepend=0, append=HEIGHT * WIDTH))
        for part in np.split(edges.ravel(), ends[:-1])
    ]
    made, broken = mask_column(given)
    assert not broken
    return made


SETS = {
    "1,000,000 boxes": lambda: boxes(1_000_000, video=False),
    "500,000 boxes": lambda: boxes(500_000, video=False),
    "1,000,000 boxes, a class per image": lambda: boxes(1_000_000, video=False, crowded=True),
    "1,000,000 boxes in videos": lambda: boxes(1_000_000, video=True),
    "500,000 boxes in videos": lambda: boxes(500_000, video=True),
    "100,000 masks": lambda: masks(100_000),
    "50,000 masks": lambda: masks(50_000),
}


def measure(name: str) -> dict:
    """Return seconds by metric and peak memory in megabytes, with the set and without metrics."""
    objects = SETS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    for metric in METRICS:
        start = time.perf_counter()
        metric.compute(objects)
        seconds[metric.name] = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "before": before / 1024, "after": after / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--set", help="measure one set, once, and print JSON")
    options = parser.parse_args()
    if options.set:
        print(json.dumps(measure(options.set)))
        return
    print(f"{'all metrics':<36}{'median s':>9}{'min – max':>15}{'peak MB':>9}{'of it data':>11}")
    for name in SETS:
        words = [sys.executable, "-m", "benchmarks.quality", "--set", name]
        root = Path(__file__).parents[1]
        found = [
            json.loads(subprocess.run(words, cwd=root, capture_output=True, check=True).stdout)
            for _ in range(options.runs)
        ]
        totals = [sum(run["seconds"].values()) for run in found]
        peak = max(run["after"] for run in found)
        data = max(run["before"] for run in found)
        spread = f"{min(totals):.2f} – {max(totals):.2f}"
        print(f"{name:<36}{statistics.median(totals):>9.2f}{spread:>15}{peak:>9,.0f}{data:>11,.0f}")
        each = {m.name: statistics.median(r["seconds"][m.name] for r in found) for m in METRICS}
        slowest = sorted(each, key=each.__getitem__, reverse=True)[:4]
        print("    " + ", ".join(f"{metric} {each[metric]:.2f}" for metric in slowest), flush=True)


if __name__ == "__main__":
    main()
