"""Builds the same small data for ea-arrow and for pycocotools, and compares every intermediate."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ea_arrow import schema
from ea_arrow.geometry import Rle, encode_dense
from ea_arrow.metrics.coco import CocoEvaluation, CocoParameters, evaluate
from ea_arrow.rle import mask_column

Box = tuple[float, float, float, float]
Rings = tuple[tuple[float, ...], ...]
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
Tables = tuple[pa.Table, pa.Table, pa.Table, pa.Table]


@dataclass(frozen=True)
class Runs:
    """A mask given by its run lengths, which need not be the shortest."""

    height: int
    width: int
    lengths: tuple[int, ...]


Mask = np.ndarray | Runs


@dataclass(frozen=True)
class Truth:
    """A label; ``area`` is that of the box, or of the mask without a box, unless given."""

    box: Box | None = None
    image: Any = 1
    category: Any = 1
    crowd: bool = False
    ignored: bool = False
    area: float | None = None
    id: Any = None
    mask: Mask | None = None
    polygon: Rings | None = None


@dataclass(frozen=True)
class Guess:
    """A prediction. In a data set all have a box, or all have a mask and none a box."""

    box: Box | None = None
    score: float = 0.5
    image: Any = 1
    category: Any = 1
    mask: Mask | None = None
    polygon: Rings | None = None


@dataclass(frozen=True)
class Case:
    """A small data set. Labels without an id get 1 … n; ``sizes`` are width and height."""

    truths: list[Truth]
    guesses: list[Guess]
    images: list[Any] = field(default_factory=lambda: [1])
    categories: list[Any] = field(default_factory=lambda: [1])
    sizes: dict[Any, tuple[int, int]] = field(default_factory=dict)

    def size(self, image: Any) -> tuple[int, int]:
        return self.sizes.get(image, (640, 480))

    def annotation_ids(self) -> list[Any]:
        return [i if t.id is None else t.id for i, t in enumerate(self.truths, 1)]


class IgnoringEval(COCOeval):
    """pycocotools overwrites ``ignore`` by ``iscrowd``; this one also honours ``is_ignored``."""

    def _prepare(self) -> None:
        super()._prepare()
        for group in self._gts.values():
            for truth in group:
                truth["ignore"] = truth["ignore"] or truth.get("is_ignored", False)


def rle_of(mask: Mask) -> dict[str, Any]:
    """Return a mask as pycocotools writes it."""
    if isinstance(mask, Runs):
        plain = {"size": [mask.height, mask.width], "counts": list(mask.lengths)}
        return mask_utils.frPyObjects(plain, mask.height, mask.width)
    return mask_utils.encode(np.asfortranarray(mask, np.uint8))


def box_of(shape: Truth | Guess) -> list[float]:
    """Return the given box, or else that of the mask."""
    if shape.box is not None:
        return list(shape.box)
    return mask_utils.toBbox(rle_of(shape.mask)).tolist()


def area_of(shape: Truth | Guess) -> float:
    """Return the area that size ranges use: of a box if it is given, else of the mask."""
    if getattr(shape, "area", None) is not None:
        return shape.area
    if shape.box is not None:
        return shape.box[2] * shape.box[3]
    return float(mask_utils.area(rle_of(shape.mask)))


def segmentation_of(shape: Truth | Guess) -> Any:
    if shape.mask is not None:
        return rle_of(shape.mask)
    if shape.polygon is not None:
        return [list(ring) for ring in shape.polygon]
    x, y, w, h = shape.box
    return [[x, y, x, y + h, x + w, y + h, x + w, y]]


def annotation(annotation_id: Any, truth: Truth) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "image_id": truth.image,
        "category_id": truth.category,
        "bbox": box_of(truth),
        "segmentation": segmentation_of(truth),
        "area": area_of(truth),
        "iscrowd": int(truth.crowd),
        "is_ignored": truth.ignored,
    }


def result(guess: Guess) -> dict[str, Any]:
    """Return a result with what was given, so that ``loadRes`` derives the rest."""
    found = {"image_id": guess.image, "category_id": guess.category, "score": guess.score}
    if guess.box is not None:
        found["bbox"] = list(guess.box)
    if guess.mask is not None or guess.polygon is not None:
        found["segmentation"] = segmentation_of(guess)
    return found


def run_pycocotools(case: Case, parameters: CocoParameters) -> COCOeval:
    dataset = {
        "images": [
            {"id": i, "width": case.size(i)[0], "height": case.size(i)[1]} for i in case.images
        ],
        "categories": [{"id": c, "name": str(c)} for c in case.categories],
        "annotations": [
            annotation(annotation_id, truth)
            for annotation_id, truth in zip(case.annotation_ids(), case.truths, strict=True)
        ],
    }
    return run_on(dataset, [result(guess) for guess in case.guesses], parameters)


def run_on(dataset: dict[str, Any], found: list[Any], parameters: CocoParameters) -> COCOeval:
    """Run pycocotools on documents, which it changes."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        results = truth.loadRes(found) if found else COCO()  # loadRes refuses an empty list
        run = IgnoringEval(truth, results, parameters.iou_type)
        run.params.iouThrs = np.array(parameters.iou_thresholds)
        run.params.recThrs = np.array(parameters.recall_thresholds)
        run.params.areaRng = [list(bounds) for bounds in parameters.areas.values()]
        run.params.areaRngLbl = list(parameters.areas)
        run.params.maxDets = list(parameters.max_detections)
        run.evaluate()
        run.accumulate()
    return run


def stats(run: COCOeval) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        run.summarize()
    return run.stats


def fill(spec: schema.TableSpec, n_rows: int, columns: dict[str, Any]) -> pa.Table:
    """Return a table in the shape of ``spec`` with null wherever ``columns`` says nothing."""
    arrays = [
        pa.array(columns[c.name], c.type) if c.name in columns else pa.nulls(n_rows, c.type)
        for c in spec.columns
    ]
    return pa.table(dict(zip(spec.names, arrays, strict=True)))


def masks_of(shapes: list[Any]) -> pa.Array:
    """Return the masks as an import stores them."""
    rles = [
        Rle(m.height, m.width, np.array(m.lengths)) if isinstance(m, Runs) else m
        for m in (shape.mask for shape in shapes)
    ]
    rles = [encode_dense(m) if isinstance(m, np.ndarray) else m for m in rles]
    masks, broken = mask_column(rles)
    assert not broken
    return masks


def to_tables(case: Case) -> Tables:
    """Return predictions, labels, data units and classes."""
    images, categories = sorted(case.images), sorted(case.categories)

    def shared(rows: list[Any]) -> dict[str, Any]:
        boxes = np.array([box_of(r) for r in rows], float).reshape(-1, 4).T
        return {
            "data_hash": [f"image-{r.image}" for r in rows],
            "frame": [0] * len(rows),
            "format": [
                "mask" if r.mask is not None else "polygon" if r.polygon else "bounding_box"
                for r in rows
            ],
            "mask": masks_of(rows),
            "polygon": [None if r.mask is not None else r.polygon for r in rows],
            "feature_hash": [f"class-{r.category}" for r in rows],
            **dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), boxes, strict=True)),
        }

    predictions = shared(case.guesses) | {
        "prediction_id": range(len(case.guesses)),
        "confidence": [g.score for g in case.guesses],
        "area": [area_of(g) for g in case.guesses],
    }
    labels = shared(case.truths) | {
        "label_id": range(len(case.truths)),
        "area": [area_of(t) for t in case.truths],
        "is_crowd": [t.crowd for t in case.truths],
        "is_ignored": [t.ignored for t in case.truths],
        "source_id": [str(i) for i in case.annotation_ids()],
    }
    units = {
        "unit_id": range(len(images)),
        "data_hash": [f"image-{i}" for i in images],
        "frame": [0] * len(images),
        "width": [case.size(i)[0] for i in images],
        "height": [case.size(i)[1] for i in images],
    }
    classes = {
        "kind": ["object"] * len(categories),
        "name": [f"name of {c}" for c in categories],
        "feature_hash": [f"class-{c}" for c in categories],
    }
    return (
        fill(schema.PREDICTIONS, len(case.guesses), predictions),
        fill(schema.LABELS, len(case.truths), labels),
        fill(schema.DATA_UNITS, len(images), units),
        fill(schema.CLASSES, len(categories), classes),
    )


def assert_same(case: Case, parameters: CocoParameters | None = None) -> CocoEvaluation:
    """Run both on ``case`` and compare every intermediate at zero tolerance."""
    parameters = parameters or CocoParameters()
    run = run_pycocotools(copy.deepcopy(case), parameters)
    ours = evaluate(*to_tables(case), parameters)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(ours, name), run.eval[name], name, strict=True)
    assert_same_matches(ours, run, case)
    if parameters.max_detections == (1, 10, 100):  # pycocotools prints no other
        theirs = dict(zip(NUMBERS, stats(run), strict=True))
        summary = ours.summary()
        assert "AP" in summary
        assert parameters != CocoParameters(parameters.iou_type) or list(summary) == list(theirs)
        for name in summary.keys() & theirs.keys():
            assert summary[name] == theirs[name], name
    return ours


def assert_same_matches(ours: CocoEvaluation, run: COCOeval, case: Case) -> None:
    """Compare ``evalImgs``: matches from both sides and ignore flags."""
    ids = np.array([float(i) for i in [*case.annotation_ids(), 0]])
    label_of = {annotation_id: row for row, annotation_id in enumerate(case.annotation_ids())}
    seen = np.zeros(len(case.guesses), bool)
    cells = iter(run.evalImgs)
    n_labels = np.zeros_like(ours.n_labels)
    for k in range(len(case.categories)):
        for a, area in enumerate(ours.parameters.areas):
            taken, ignored = ours.matched_labels(area), ours.ignored_predictions(area)
            for _ in case.images:
                cell = next(cells)
                if cell is None:
                    continue
                rows = np.array(cell["dtIds"], int) - 1
                seen[rows] = True
                np.testing.assert_array_equal(ids[taken[:, rows]], cell["dtMatches"], "dtMatches")
                np.testing.assert_array_equal(ignored[:, rows], cell["dtIgnore"], "dtIgnore")
                label = [label_of[i] for i in cell["gtIds"]]
                holder = _holders(taken[:, rows], rows, label)
                np.testing.assert_array_equal(holder, cell["gtMatches"], "gtMatches")
                n_labels[k, a] += np.count_nonzero(cell["gtIgnore"] == 0)
    np.testing.assert_array_equal(ours.evaluated, seen)
    np.testing.assert_array_equal(ours.n_labels, n_labels)


def _holders(taken: np.ndarray, rows: np.ndarray, labels: list[int]) -> np.ndarray:
    """Return the detection id (row + 1) that each label remembers: the last that took it."""
    holder = np.zeros((len(taken), len(labels)))
    for t, matches in enumerate(taken):
        for row, label in zip(rows, matches, strict=True):
            if label >= 0:
                holder[t, labels.index(label)] = row + 1
    return holder
