import numpy as np
import pytest

from ea_arrow.metrics.coco import CocoParameters
from tests.parity.oracle import assert_same
from tests.parity.quirks import LARGE, REGISTER, Quirk


@pytest.mark.parametrize("quirk", REGISTER, ids=lambda q: f"{q.id}-{q.name}")
def test_behaviour_is_that_of_pycocotools(quirk: Quirk):
    evaluation = assert_same(quirk.case, quirk.parameters)
    assert quirk.shows(evaluation)


def test_each_behaviour_of_the_document_has_a_fixture():
    wanted = {
        "L3",
        "L5",
        "P",
        "I1",
        *(f"M{i}" for i in range(1, 5)),
        *(f"A{i}" for i in range(1, 6)),
    }
    assert {quirk.id for quirk in REGISTER} == wanted
    assert len({quirk.name for quirk in REGISTER}) == len(REGISTER)


def test_defaults_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    theirs, ours = Params("bbox"), CocoParameters()
    assert ours.iou_thresholds == tuple(theirs.iouThrs)
    assert ours.recall_thresholds == tuple(theirs.recThrs)
    assert [list(bounds) for bounds in ours.areas.values()] == theirs.areaRng
    assert list(ours.areas) == theirs.areaRngLbl
    assert list(ours.areas)[LARGE] == "large"
    np.testing.assert_array_equal(ours.max_detections, theirs.maxDets)
