"""A data set made for the doctor: ground truth, good predictions, and ways to damage them."""

from __future__ import annotations

import json

import numpy as np

import ea_arrow

NAMES = ("zebra", "ant", "mole", "cow", "bee", "yak")
SIZES = ((640, 480), (300, 500), (1000, 400))


def truth(seed=0, images=12, names=NAMES, ids=None, per_image=4, sizes=SIZES, sides=(0.1, 0.4)):
    """COCO ground truth: each image has labels of ``per_image`` classes.

    Their sides are such parts of the images' as ``sides`` says.
    """
    rng = np.random.default_rng(seed)
    ids = list(ids or range(1, len(names) + 1))
    annotations = []
    for image in range(1, images + 1):
        width, height = sizes[image % len(sizes)]
        for number in range(per_image):
            side = rng.uniform(*sides, 2)
            corner = rng.uniform(0, 1 - side)
            box = [corner[0] * width, corner[1] * height, side[0] * width, side[1] * height]
            box = [float(round(value)) for value in box]
            klass = ids[(image + number) % len(ids)]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": klass, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": 0}
            )
    return {
        "images": [
            {
                "id": i,
                "width": sizes[i % len(sizes)][0],
                "height": sizes[i % len(sizes)][1],
                "file_name": f"{i:04}.jpg",
            }
            for i in range(1, images + 1)
        ],
        "categories": [{"id": k, "name": n} for k, n in zip(ids, names, strict=True)],
        "annotations": annotations,
    }


def good(ground_truth, seed=1, off=0.03):
    """Results as of a good model: each label found, a little off, within the image; and noise."""
    rng = np.random.default_rng(seed)
    sizes = {i["id"]: (i["width"], i["height"]) for i in ground_truth["images"]}
    ids = [c["id"] for c in ground_truth["categories"]]
    results = []
    for label in ground_truth["annotations"]:
        x, y, w, h = label["bbox"]
        dx, dy, dw, dh = rng.normal(0, off, 4)
        width, height = sizes[label["image_id"]]
        left, right = np.clip([x + dx * w, x + dx * w + w * (1 + dw)], 0, width)
        top, bottom = np.clip([y + dy * h, y + dy * h + h * (1 + dh)], 0, height)
        box = [left, top, right - left, bottom - top]
        results.append(result(label["image_id"], label["category_id"], box, rng.uniform(0.3, 1)))
        noise = [rng.uniform(0, width / 2), rng.uniform(0, height / 2), width / 3, height / 3]
        score = rng.uniform(0.001, 0.4)
        results.append(result(label["image_id"], ids[rng.integers(len(ids))], noise, score))
    results[-1]["score"] = 0.001
    return results


def result(image, category, box, score):
    """A row of COCO results."""
    return {"image_id": image, "category_id": category, "bbox": [float(v) for v in box]} | {
        "score": float(score)
    }


def boxes(ground_truth, results, change):
    """Results with their boxes changed by ``change(x, y, w, h, width, height)``."""
    sizes = {i["id"]: (i["width"], i["height"]) for i in ground_truth["images"]}
    return [{**r, "bbox": change(*r["bbox"], *sizes[r["image_id"]])} for r in results]


def classes(results, change):
    """Results with their category ids changed."""
    return [{**r, "category_id": change(r["category_id"])} for r in results]


def project(folder, ground_truth):
    """A project of ground truth in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "gt.json"
    source.write_text(json.dumps(ground_truth))
    return ea_arrow.init(folder / "p", source)


def give(made, results, name="x", **options):
    """Import results from a file called like the iteration."""
    path = made.root.parent / f"{name}.json"
    path.write_text(json.dumps(results))
    made.import_predictions(path, name, **options)
    return path


def ap50(made, name):
    """AP50 of boxes, by the public way."""
    rows = made.metrics(name, iou_type="bbox").to_arrow().to_pylist()
    return next(r["value"] for r in rows if r["metric"] == "AP50" and r["feature_hash"] is None)


def follow(made, finding):
    """Do what a fix says, through the public API; return AP50 afterwards."""
    words = list(finding.fix)
    assert words[:2] == ["ea-arrow", "import"]
    name = words[words.index("--as") + 1]
    given = {}
    for flag, key in (("--box", "box"), ("--map", "classes"), ("--match", "match")):
        if flag in words:
            given[key] = words[words.index(flag) + 1]
    if finding.file is not None:
        given["classes"] = made.root.parent / finding.file[0]
        given["classes"].write_text(finding.file[1])
    given |= {key: True for key in ("dedupe", "one_based") if f"--{key.replace('_', '-')}" in words}
    if "--relative" in words or "--pixels" in words:
        given["relative"] = "--relative" in words
    assert "--replace" in words
    made.import_predictions(made.root.parent / words[2], name, mode="replace", **given)
    return ap50(made, name)
