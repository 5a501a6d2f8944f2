"""The packages that ea-arrow's evaluation is compared with; all have pycocotools' interface.

Run as ``python -m benchmarks.peers NAME LABELS DETECTIONS bbox|segm`` it evaluates with one.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = "pycocotools"
PEERS = {  # module of COCO, module and name of COCOeval
    "hotcoco": ("hotcoco", "hotcoco", "COCOeval"),
    "ultrafast-pycocotools": (
        "ultrafast_pycocotools.coco",
        "ultrafast_pycocotools.cocoeval",
        "COCOeval",
    ),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
    REFERENCE: ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
}


def installed() -> dict[str, str]:
    """Version by name of those that can be imported."""
    there = [n for n, (m, *_) in PEERS.items() if importlib.util.find_spec(m.partition(".")[0])]
    return {name: version(name) for name in there}


def classes(name: str) -> tuple[Any, Any]:
    """``COCO`` and ``COCOeval`` of a package."""
    coco_module, eval_module, eval_class = PEERS[name]
    coco = importlib.import_module(coco_module).COCO
    return coco, getattr(importlib.import_module(eval_module), eval_class)


class Peer:
    """A package with a set loaded.

    Args:
        name: Of the package.
        truths: The labels, as polygons and as masks.
        found: The detections.
        iou_type: ``bbox`` or ``segm``.
    """

    def __init__(self, name: str, truths: tuple[str, str], found: str, iou_type: str) -> None:
        warnings.simplefilter("ignore")  # hotcoco warns of thresholds that are not COCO's
        self._coco, self._eval = classes(name)
        self._truths, self._type = truths, iou_type
        self._polygons, self._masks = (self._coco(path) for path in truths)
        self._found = self._polygons.loadRes(found)

    def prepare(self, what: str, given: Any) -> Callable[[], list[float]]:
        """Return what is to be timed.

        Args:
            what: ``polygons`` or ``masks``: evaluate anew from labels in this form. ``threshold``,
                ``condition`` or ``class``: evaluate again with this changed.
            given: What it is changed to.
        """
        truth, changed = self._masks, {}
        if what == "polygons":
            # Afresh: pycocotools replaces the polygons by masks as it evaluates.
            truth = self._polygons = self._coco(self._truths[0])
        elif what == "threshold":
            changed["iouThrs"] = np.array([given])
        elif what == "condition":
            changed["imgIds"] = [
                i for i, image in truth.imgs.items() if image["height"] > image["width"] + given
            ]
        elif what == "class":
            changed["catIds"] = [i for i, c in truth.cats.items() if c["name"] == given]

        def run() -> list[float]:
            task = self._eval(truth, self._found, self._type)
            for name, value in changed.items():
                setattr(task.params, name, value)
            return numbers(task)

        return run


def numbers(task: Any) -> list[float]:
    """Evaluate and return the 12 numbers."""
    task.evaluate()
    task.accumulate()
    task.summarize()
    return [float(value) for value in task.stats[:12]]


def main(name: str, truth: str, found: str, iou_type: str) -> None:
    coco, evaluator = classes(name)
    labels = coco(truth)
    print(json.dumps(numbers(evaluator(labels, labels.loadRes(found), iou_type))))


if __name__ == "__main__":
    main(*sys.argv[1:])
