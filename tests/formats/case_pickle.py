"""The data set as a pickle of Prediction objects."""

import pickle

from ea_arrow import BoundingBox, Format, ObjectDetection, Prediction
from ea_arrow.ontology import Ontology
from ea_arrow.sources.truth import data_hash_of
from tests.formats.dataset import PREDICTIONS, UNITS, PredictionCase, coco_ground_truth

HASHES = [c.feature_hash for c in Ontology.from_coco(coco_ground_truth()["categories"]).classes]


def prediction(row):
    x, y, w, h = row.relative
    return Prediction(
        data_hash=data_hash_of(str(row.unit + 1), UNITS[row.unit].name),
        confidence=row.score,
        object=ObjectDetection(
            format=Format.BOUNDING_BOX,
            data=BoundingBox(x=x, y=y, w=w, h=h),
            feature_hash=HASHES[row.cls],
        ),
    )


def dumped(folder, rows):
    folder.mkdir(exist_ok=True)
    path = folder / "predictions.pkl"
    path.write_bytes(pickle.dumps(rows))
    return [path]


def _spoil(folder):
    rows = [prediction(row) for row in PREDICTIONS]
    unknown = rows[0].model_copy(update={"data_hash": "nowhere"})
    stray = rows[0].object.model_copy(update={"feature_hash": "none"})
    bad = [unknown, rows[0].model_copy(update={"object": stray})]
    rejects = {"unknown_data_unit": 1, "unknown_class": 1}
    return dumped(folder, [rows[0], *bad, *rows[1:]]), rejects


PREDICTION_CASES = (
    PredictionCase(
        format="pickle",
        write=lambda folder: dumped(folder, [prediction(row) for row in PREDICTIONS]),
        spoil=_spoil,
    ),
)
