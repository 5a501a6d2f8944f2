"""What pycocotools does when it loads files, through an import and to the last number."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ea_arrow.metrics.coco import CocoEvaluation, CocoParameters, evaluate
from tests.builders import make_project
from tests.parity.oracle import rle_of, run_on, stats
from tests.parity.quirks_masks import mask, ring

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycocotools.cocoeval import COCOeval

Record = dict[str, Any]
IMAGES = [{"id": 1, "width": 30, "height": 20, "file_name": "a"}]
CATEGORIES = [{"id": 1, "name": "one"}]
OUTLINE = list(ring(2, 2, 10, 10))
MASK = rle_of(mask(2, 2, 10, 10)) | {"counts": rle_of(mask(2, 2, 10, 10))["counts"].decode()}
PLAIN = {"size": [20, 30], "counts": [42, *[10, 10] * 9, 10, 368]}  # as MASK, not compressed
ELSEWHERE = rle_of(mask(20, 5, 4, 4)) | {"counts": rle_of(mask(20, 5, 4, 4))["counts"].decode()}


def label(**more: Any) -> Record:
    """Return an annotation of a square."""
    shape = {"bbox": [2, 2, 10, 10], "segmentation": [OUTLINE], "area": 100, "iscrowd": 0}
    return {"id": 1, "image_id": 1, "category_id": 1} | shape | more


def found(**more: Any) -> Record:
    """Return a result of the same square; None takes something away."""
    given = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "score": 0.5} | more
    return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class Document:
    """Files, what they show, and of what kind of IoU; ``id`` as in docs on COCO semantics.

    ``readable`` are the results that pycocotools can be given, if it refuses them as they are.
    """

    id: str
    name: str
    annotations: list[Record]
    results: list[Record]
    shows: Callable[[CocoEvaluation], bool]
    images: list[Record] = field(default_factory=lambda: IMAGES)
    categories: list[Record] = field(default_factory=lambda: CATEGORIES)
    iou_types: tuple[str, ...] = ("bbox", "segm")
    readable: list[Record] | None = None


def ap(value: float) -> Callable[[CocoEvaluation], bool]:
    return lambda e: abs(e.summary()["AP"] - value) < 1e-12


def small_false_positives(count: int) -> Callable[[CocoEvaluation], bool]:
    """Say how many of two results, the first of which hits nothing, count as small."""
    return lambda e: (~e.ignored_predictions("small")[0]).sum() == count


DOCUMENTS = [
    Document("L1", "results_of_unknown_images_are_left_out", [label()],
             [found(image_id=9, score=0.9), found()], ap(1), readable=[found()]),
    Document("L2", "box_first_then_box_areas", [label()],
             [found(bbox=[0, 0, 100, 100], segmentation=ELSEWHERE),
              found(segmentation=MASK)], small_false_positives(1), iou_types=("segm",)),
    Document("L2", "mask_first_then_mask_areas", [label()],
             [found(bbox=None, segmentation=ELSEWHERE),
              found(bbox=[0, 0, 100, 100], segmentation=MASK)], small_false_positives(2)),
    Document("L2", "empty_box_first_then_mask_areas", [label()],
             [found(bbox=[], segmentation=ELSEWHERE), found(segmentation=MASK)],
             small_false_positives(2), iou_types=("segm",)),
    Document("L2", "boxes_without_segmentation_are_drawn", [label()],
             [found(bbox=[2, 2, 10, 8])], lambda e: (e.recall[:, 0, 0, 2] > 0).sum() == 7),
    Document("L2", "boxes_from_masks_are_those_of_the_pixels", [label(bbox=[2, 2, 10, 8])],
             [found(bbox=None, segmentation=MASK)], lambda e: e.recall[0, 0, 0, 2] == 1),
    Document("L3", "file_order_breaks_ties", [label()],
             [found(bbox=[2, 2, 10, 9]), found()], lambda e: 0 < e.summary()["AP"] < 1),
    Document("L4", "ignore_of_an_annotation_has_no_effect",
             [label(ignore=1), label(id=2, ignore=1, bbox=[20, 5, 4, 4], area=16,
                                     segmentation=ELSEWHERE)],
             [found()], lambda e: e.n_labels[0, 0] == 2),
    Document("L4", "a_crowd_is_ignored_whatever_ignore_says", [label(iscrowd=1, ignore=0)],
             [found()], ap(-1)),
    Document("L5", "annotation_id_zero_in_a_file", [label(id=0)], [found()], ap(0)),
    Document("L6", "of_annotations_with_equal_ids_the_last_counts_each_time",
             [label(bbox=[20, 5, 4, 4], segmentation=ELSEWHERE), label()], [found(), found()],
             lambda e: e.n_labels[0, 0] == 2 and e.recall[0, 0, 0].tolist() == [0.5, 1, 1]),
    Document("L6", "annotations_of_unlisted_categories_are_left_out",
             [label(), label(id=2, category_id=7)], [found()], ap(1)),
    Document("L6", "category_names_that_are_no_strings", [label()], [found()], ap(1),
             categories=[{"id": 1, "name": 7}]),
    Document("L6", "string_ids", [label(id="7", image_id="b", category_id="y")],
             [found(image_id="b", category_id="y"), found(image_id="a", category_id="x")], ap(1),
             images=[IMAGES[0] | {"id": i} for i in "ba"],
             categories=[{"id": i, "name": i} for i in "yx"]),
    Document("L7", "uncompressed_masks_of_labels", [label(segmentation=PLAIN)],
             [found(bbox=None, segmentation=MASK)], ap(1), iou_types=("segm",)),
    Document("L7", "polygons_of_several_parts",
             [label(segmentation=[list(ring(2, 2, 10, 5)), list(ring(2, 7, 10, 5))])],
             [found(bbox=None, segmentation=MASK)], ap(1), iou_types=("segm",)),
    Document("L7", "polygons_of_results", [label(segmentation=MASK)],
             [found(segmentation=[OUTLINE])], ap(1)),
    Document("L7", "polygons_partly_outside",
             [label(bbox=[20, 10, 30, 30], segmentation=[list(ring(20, 10, 30, 30))], area=900)],
             [found(bbox=[20, 10, 10, 10])], ap(1), iou_types=("segm",)),
]  # fmt: skip
CASES = [
    pytest.param(document, iou_type, id=f"{document.id}-{document.name}-{iou_type}")
    for document in DOCUMENTS
    for iou_type in document.iou_types
]


def run_ours(folder: Any, document: Document, parameters: CocoParameters) -> CocoEvaluation:
    project = make_project(folder, truth=truth_of(document), results=document.results)
    tables = project.predictions("base"), project.labels, project.data_units, project.classes
    return evaluate(*(table.to_arrow() for table in tables), parameters)


def run_theirs(document: Document, parameters: CocoParameters) -> COCOeval:
    results = document.results if document.readable is None else document.readable
    return run_on(truth_of(document), copy.deepcopy(results), parameters)


def truth_of(document: Document) -> Record:
    dataset = {
        "images": document.images,
        "categories": document.categories,
        "annotations": document.annotations,
    }
    return copy.deepcopy(dataset)


@pytest.mark.parametrize(("document", "iou_type"), CASES)
def test_files_are_evaluated_as_pycocotools_does(tmp_path, document, iou_type):
    parameters = CocoParameters(iou_type=iou_type)
    ours, run = run_ours(tmp_path, document, parameters), run_theirs(document, parameters)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(ours, name), run.eval[name], name, strict=True)
    np.testing.assert_array_equal(list(ours.summary().values()), stats(run), strict=True)
    assert document.shows(ours)


def test_pycocotools_refuses_results_of_unknown_images():
    document = DOCUMENTS[0]
    with pytest.raises(AssertionError, match="do not correspond"):
        run_on(truth_of(document), copy.deepcopy(document.results), CocoParameters())
