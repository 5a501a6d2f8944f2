"""COCO files for the benchmark of evaluation: forged, or a given set multiplied.

The forged set resembles COCO's val2017 with a mediocre model: few classes per image, Zipf's law
over classes, sizes spread over two decades, labels as polygons, one in eighty a crowd; three
quarters of the detections are labels found more or less well, the others noise.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.coco_files import (
    HUGE_DETECTIONS,
    HUGE_FILES,
    HUGE_IMAGES,
    HUGE_LABELS,
    Facts,
    found,
    truth,
)
from ea_arrow.rle import areas_and_boxes, decode_rle_strings, encode_rle_strings

if TYPE_CHECKING:
    from pathlib import Path

IMAGES, LABELS, DETECTIONS, CLASSES = 5_000, 36_000, 40_000, 80
SHAPES = np.array([(640, 480), (640, 427), (500, 375), (480, 640), (427, 640)])  # width, height
SHAPE_SHARES = (0.4, 0.2, 0.12, 0.2, 0.08)
CROWDS, HITS = 0.012, 0.75
AT_ONCE = 20_000


# -- a set -----------------------------------------------------------------------------------------


def make(folder: Path, given: Path | None) -> None:
    """Write the labels, in both forms, and the detections of both types; unless they are there."""
    if (folder / "facts.json").exists():
        return
    if given is None:
        labels, boxes, masks = forged()
    else:
        labels, boxes, masks = (_read(given, pattern) for pattern in ("gt", "dt*bbox", "dt*segm"))
    for path, content in (
        (truth(folder), labels),
        (found(folder, "bbox", 1), boxes),
        (found(folder, "segm", 1), masks),
        (truth(folder, masks=True), {**labels, "annotations": drawn(labels)}),
    ):
        path.write_text(json.dumps(content))
    names = {c["id"]: c["name"] for c in labels["categories"]}
    counts = Counter(a["category_id"] for a in labels["annotations"])
    frequent = [names[category] for category, _ in counts.most_common(20)]
    held = Facts(len(labels["images"]), len(labels["annotations"]), len(boxes), frequent)
    (folder / "facts.json").write_text(json.dumps(asdict(held)))


def _read(folder: Path, pattern: str):
    paths = sorted(folder.glob(f"{pattern}*.json*"))
    if len(paths) != 1:
        raise SystemExit(f"{folder}: expected one file {pattern}*.json or .json.gz, not {paths}")
    opened = gzip.open if paths[0].suffix == ".gz" else open
    with opened(paths[0]) as file:
        return json.load(file)


def drawn(labels) -> list[dict]:
    """The labels with every polygon drawn, as pycocotools draws it."""
    sizes = {i["id"]: (i["height"], i["width"]) for i in labels["images"]}
    done = []
    for label in labels["annotations"]:
        shape = label["segmentation"]
        if isinstance(shape, list):
            shape = coco_mask.merge(coco_mask.frPyObjects(shape, *sizes[label["image_id"]]))
            shape = {**shape, "counts": shape["counts"].decode()}
        done.append({**label, "segmentation": shape})
    return done


# -- forged ----------------------------------------------------------------------------------------


def forged():
    """Return the labels, boxes and masks of a set, as COCO's JSON has them."""
    rng = np.random.default_rng(7)
    sizes, image, klass, box = forged_boxes(rng, IMAGES, LABELS)
    outlines = [star(rng, *row) for row in box]
    crowd = rng.random(LABELS) < CROWDS
    annotations = [
        _annotation(row, int(image[row]), int(klass[row]), outlines[row], sizes[image[row]],
                    crowd=bool(crowd[row]))
        for row in range(LABELS)
    ]  # fmt: skip
    labels = {**_header(sizes), "annotations": annotations}
    boxes, masks = [], []
    source = np.sort(rng.integers(0, LABELS, DETECTIONS))
    hit = rng.random(DETECTIONS) < HITS
    score = np.where(hit, rng.beta(4, 2, DETECTIONS), rng.beta(1, 6, DETECTIONS)).round(5)
    jitter = rng.normal(0, 0.08, (DETECTIONS, 2, 2))
    for row, near, how in zip(source, hit, zip(score, jitter, strict=True), strict=True):
        size = sizes[image[row]]
        span = box[row, 2:]
        if near:
            middle = box[row, :2] + span / 2
            outline = (outlines[row] - middle) * (1 + how[1][0]) + middle + span * how[1][1]
        else:
            outline = star(rng, *(rng.uniform(0, 1, 2) * (size - span)), *span)
        outline = outline.clip(0, size)
        low, high = outline.min(axis=0), outline.max(axis=0)
        same = {"image_id": int(image[row]) + 1, "category_id": int(klass[row]) + 1}
        bbox = [*low.round(2).tolist(), *(high - low).clip(1).round(2).tolist()]
        boxes.append({**same, "bbox": bbox, "score": float(how[0])})
        mask = coco_mask.frPyObjects([outline.ravel().tolist()], int(size[1]), int(size[0]))[0]
        if coco_mask.area(mask):
            shape = {"size": mask["size"], "counts": mask["counts"].decode()}
            masks.append({**same, "segmentation": shape, "score": float(how[0])})
    return labels, boxes, masks


def forged_boxes(rng: np.random.Generator, n_images: int, n_labels: int):
    """Return the images' width and height, and image, class and box (x, y, w, h) of each label."""
    sizes = SHAPES[rng.choice(len(SHAPES), n_images, p=SHAPE_SHARES)]
    weights = 1 / np.arange(1, CLASSES + 1)
    choice = rng.choice(CLASSES, (n_images, 3), p=weights / weights.sum())
    image = np.sort(rng.integers(0, n_images, n_labels))
    klass = choice[image, rng.integers(0, 3, n_labels)]
    span = np.exp(rng.normal(3.7, 1.1, (n_labels, 1)) + rng.normal(0, 0.3, (n_labels, 2)))
    span = span.clip(4, sizes[image] * 0.98)
    corner = rng.uniform(0, 1, (n_labels, 2)) * (sizes[image] - span)
    return sizes, image, klass, np.concatenate([corner, span], axis=1).round(2)


def star(rng: np.random.Generator, x: float, y: float, w: float, h: float):
    """A blob of 20 to 40 points (n, 2) that fills a box."""
    n = int(rng.integers(20, 41))
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    radius = rng.uniform(0.7, 1, n)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    return ((points - low) / (high - low) * (w, h) + (x, y)).round(2)


def _annotation(row: int, image: int, klass: int, outline, size, *, crowd: bool) -> dict:
    ring, (width, height) = outline.ravel().tolist(), size.tolist()
    mask = coco_mask.frPyObjects([ring], height, width)[0]
    low, high = outline.min(axis=0), outline.max(axis=0)
    bbox = [*low.tolist(), *(high - low).round(2).tolist()]
    shape = [ring]
    if crowd:  # COCO has these as plain run lengths
        runs, _, _ = decode_rle_strings([mask["counts"]])
        shape = {"size": mask["size"], "counts": runs.tolist()}
    return {
        **{"id": row + 1, "image_id": image + 1, "category_id": klass + 1, "iscrowd": int(crowd)},
        **{"bbox": bbox, "area": float(coco_mask.area(mask)), "segmentation": shape},
    }


def _header(sizes) -> dict:
    images = [
        {"id": i, "width": w, "height": h, "file_name": f"{i}.jpg"}
        for i, (w, h) in enumerate(sizes.tolist(), 1)
    ]
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)]
    return {"info": {}, "images": images, "categories": categories}


# -- multiplied ------------------------------------------------------------------------------------


def multiply(folder: Path, iou_type: str, factor: int) -> None:
    """Write the detections ``factor`` times, each a little different; unless that is done."""
    path = found(folder, iou_type, factor)
    if path.exists():
        return
    rng = np.random.default_rng(factor)
    rows = json.loads(found(folder, iou_type, 1).read_text())
    differ = jittered_boxes if iou_type == "bbox" else shifted_masks
    with path.open("w") as file:
        for begin in range(0, len(rows), AT_ONCE // factor):
            some = [row for row in rows[begin : begin + AT_ONCE // factor] for _ in range(factor)]
            first = np.arange(len(some)) % factor == 0
            score = np.array([row["score"] for row in some])
            score = np.where(first, score, score * rng.uniform(0.3, 1, len(some))).round(5)
            shapes = differ(rng, some, first)
            made = [
                {**row, **shape, "score": s}
                for row, shape, s in zip(some, shapes, score.tolist(), strict=True)
            ]
            file.write(("," if begin else "[") + json.dumps(made)[1:-1])
        file.write("]")


def jittered_boxes(rng: np.random.Generator, rows: list[dict], keep) -> list[dict]:
    box = np.array([row["bbox"] for row in rows])
    moved = box + rng.normal(0, 0.12, box.shape) * np.tile(box[:, 2:], 2)
    moved[:, 2:] = moved[:, 2:].clip(1)
    box = np.where(keep[:, None], box, moved).round(2)
    return [{"bbox": row} for row in box.tolist()]


def shifted_masks(rng: np.random.Generator, rows: list[dict], keep) -> list[dict]:
    """Move masks by up to an eighth of their size, within the image.

    Pixels are counted down the columns, so a move only lengthens the first run and shortens the
    last by the same.
    """
    sizes = [row["segmentation"]["size"] for row in rows]
    height, width = np.array(sizes).T
    runs, counts, _ = decode_rle_strings([r["segmentation"]["counts"].encode() for r in rows])
    _, box = areas_and_boxes(runs, counts, height)
    corner, span, size = box[:, :2], box[:, 2:], np.stack([width, height], axis=1)
    move = (rng.uniform(-0.125, 0.125, span.shape) * span).round().astype(np.int64)
    move = np.clip(corner + move, 0, size - span) - corner
    by = move[:, 0] * height + move[:, 1]
    last = np.cumsum(counts) - 1
    first = last - counts + 1
    by[keep | (counts < 3) | (counts % 2 == 0) | (runs[last] <= by) | (runs[first] + by < 0)] = 0
    runs[first] += by
    runs[last] -= by
    text, lengths = encode_rle_strings(runs, counts)
    whole, ends = text.tobytes().decode(), np.cumsum(lengths)
    begins = (ends - lengths).tolist()
    return [
        {"segmentation": {"size": size, "counts": whole[begin:end]}}
        for size, begin, end in zip(sizes, begins, ends.tolist(), strict=True)
    ]


# -- huge ------------------------------------------------------------------------------------------


def make_huge_truth(folder: Path) -> None:
    """Write the labels, boxes only, of ``HUGE_IMAGES``, and what the detections are made from."""
    sizes, image, klass, box = forged_boxes(np.random.default_rng(7), HUGE_IMAGES, HUGE_LABELS)
    annotations = [
        {"id": n, "image_id": i + 1, "category_id": k + 1, "bbox": b, "area": b[2] * b[3],
         "iscrowd": 0}
        for n, (i, k, b) in enumerate(
            zip(image.tolist(), klass.tolist(), box.tolist(), strict=True), 1)
    ]  # fmt: skip
    truth(folder).write_text(json.dumps({**_header(sizes), "annotations": annotations}))
    np.savez(folder / "huge.npz", image=image, klass=klass, box=box)


def make_huge_part(folder: Path, part: int) -> None:
    """Write one of ``HUGE_FILES`` files of detections, of that many images."""
    with np.load(folder / "huge.npz") as labels:
        image, klass, box = labels["image"], labels["klass"], labels["box"]
    rng, n = np.random.default_rng(part), HUGE_DETECTIONS // HUGE_FILES
    ends = np.searchsorted(image, np.array([part, part + 1]) * (HUGE_IMAGES // HUGE_FILES))
    row = np.sort(rng.integers(*ends, n))
    span = np.tile(box[row, 2:], 2)
    spread = np.where(rng.random(n) < HITS, 0.1, 1.0)[:, None]
    moved = box[row] + rng.normal(0, 1, (n, 4)) * spread * span
    moved[:, 2:] = moved[:, 2:].clip(1)
    score = rng.beta(2, 3, n).round(5)
    columns = (image[row] + 1, klass[row] + 1, moved.round(2), score)
    form = '{"image_id": %d, "category_id": %d, "bbox": %s, "score": %r}'
    with found(folder, "bbox", 1).open("w") as file:
        rows = zip(*(c.tolist() for c in columns), strict=True)
        file.write("[" + ",\n".join(form % values for values in rows) + "]")
