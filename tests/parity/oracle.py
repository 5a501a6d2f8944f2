"""Builds the same small data for ea-arrow and for pycocotools, and compares every intermediate."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ea_arrow import schema
from ea_arrow.metrics.coco import CocoEvaluation, CocoParameters, evaluate

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Truth:
    """A label; ``area`` is that of the box unless given."""

    box: Box
    image: Any = 1
    category: Any = 1
    crowd: bool = False
    ignored: bool = False
    area: float | None = None
    id: Any = None


@dataclass(frozen=True)
class Guess:
    """A prediction."""

    box: Box
    score: float = 0.5
    image: Any = 1
    category: Any = 1


@dataclass(frozen=True)
class Case:
    """A small data set. Labels without an id get 1 … n."""

    truths: list[Truth]
    guesses: list[Guess]
    images: list[Any] = field(default_factory=lambda: [1])
    categories: list[Any] = field(default_factory=lambda: [1])

    def annotation_ids(self) -> list[Any]:
        return [i if t.id is None else t.id for i, t in enumerate(self.truths, 1)]


class IgnoringEval(COCOeval):
    """pycocotools overwrites ``ignore`` by ``iscrowd``; this one also honours ``is_ignored``."""

    def _prepare(self) -> None:
        super()._prepare()
        for group in self._gts.values():
            for truth in group:
                truth["ignore"] = truth["ignore"] or truth["is_ignored"]


def run_pycocotools(case: Case, parameters: CocoParameters) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i, "width": 640, "height": 480} for i in case.images],
            "categories": [{"id": c, "name": str(c)} for c in case.categories],
            "annotations": [
                {
                    "id": annotation_id,
                    "image_id": t.image,
                    "category_id": t.category,
                    "bbox": list(t.box),
                    "area": t.box[2] * t.box[3] if t.area is None else t.area,
                    "iscrowd": int(t.crowd),
                    "is_ignored": t.ignored,
                }
                for annotation_id, t in zip(case.annotation_ids(), case.truths, strict=True)
            ],
        }
        truth.createIndex()
        found = [
            {"image_id": g.image, "category_id": g.category, "bbox": list(g.box), "score": g.score}
            for g in case.guesses
        ]
        results = truth.loadRes(found) if found else COCO()  # loadRes refuses an empty list
        run = IgnoringEval(truth, results, "bbox")
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


def to_tables(case: Case) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """Return predictions, labels, data units and classes."""
    images, categories = sorted(case.images), sorted(case.categories)

    def shared(rows: list[Any]) -> dict[str, Any]:
        boxes = np.array([r.box for r in rows], float).reshape(-1, 4).T
        return {
            "data_hash": [f"image-{r.image}" for r in rows],
            "frame": [0] * len(rows),
            "format": ["bounding_box"] * len(rows),
            "feature_hash": [f"class-{r.category}" for r in rows],
            **dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), boxes, strict=True)),
        }

    predictions = shared(case.guesses) | {
        "prediction_id": range(len(case.guesses)),
        "confidence": [g.score for g in case.guesses],
        "area": [g.box[2] * g.box[3] for g in case.guesses],
    }
    labels = shared(case.truths) | {
        "label_id": range(len(case.truths)),
        "area": [t.box[2] * t.box[3] if t.area is None else t.area for t in case.truths],
        "is_crowd": [t.crowd for t in case.truths],
        "is_ignored": [t.ignored for t in case.truths],
        "source_id": [str(i) for i in case.annotation_ids()],
    }
    units = {
        "unit_id": range(len(images)),
        "data_hash": [f"image-{i}" for i in images],
        "frame": [0] * len(images),
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
    if len(parameters.max_detections) == 3 and parameters.max_detections[2] == 100:
        np.testing.assert_array_equal(list(ours.summary().values()), stats(run), strict=True)
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
