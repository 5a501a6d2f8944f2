import re

import numpy as np
import pytest

from ea_arrow.metrics.coco import CocoParameters
from tests.parity.oracle import assert_same
from tests.parity.quirks import LARGE, REGISTER, Quirk
from tests.parity.quirks_masks import REGISTER_OF_MASKS
from tests.parity.test_documents import DOCUMENTS

EVERY = [*REGISTER, *REGISTER_OF_MASKS]
BEHAVIOURS = {
    *(f"L{i}" for i in range(1, 8)),
    "P",
    *("I1", "I2"),
    *(f"M{i}" for i in range(1, 5)),
    *(f"A{i}" for i in range(1, 6)),
}
"""The ids of the document on COCO semantics; P stands for its parameters."""


@pytest.mark.parametrize("quirk", EVERY, ids=lambda q: f"{q.id}-{q.name}")
def test_behaviour_is_that_of_pycocotools(quirk: Quirk):
    evaluation = assert_same(quirk.case, quirk.parameters)
    assert quirk.shows(evaluation)


def test_each_behaviour_has_a_fixture():
    assert {quirk.id for quirk in EVERY} | {document.id for document in DOCUMENTS} == BEHAVIOURS


def test_names_say_one_thing_each():
    names = [fixture.name for fixture in (*EVERY, *DOCUMENTS)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in names)


def test_defaults_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    theirs, ours = Params("bbox"), CocoParameters()
    assert ours.iou_thresholds == tuple(theirs.iouThrs)
    assert ours.recall_thresholds == tuple(theirs.recThrs)
    assert [list(bounds) for bounds in ours.areas.values()] == theirs.areaRng
    assert list(ours.areas) == theirs.areaRngLbl
    assert list(ours.areas)[LARGE] == "large"
    np.testing.assert_array_equal(ours.max_detections, theirs.maxDets)
