"""The data set as supervision's CSVSink writes it."""

from tests.formats.dataset import CLASSES, PREDICTIONS, UNITS, PredictionCase, write_text

HEADER = "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,file_name"


def line(row):
    x1, y1, x2, y2 = map(float, row.corners)
    box = f"{x1},{y1},{x2},{y2}"
    return f"{box},{row.cls},{row.score},,{CLASSES[row.cls]},{UNITS[row.unit].name}"


def _spoil(folder):
    good = [line(row) for row in PREDICTIONS]
    bad = [
        "1.0,2.0,x,4.0,0,0.5,,person,000001.png",
        "1.0,2.0,0.0,4.0,0,0.5,,person,000001.png",
        "1.0,2.0,3.0,4.0,0,,,person,000001.png",
        "1.0,2.0,3.0,4.0,0,0.5,,person,",
    ]
    rejects = {"invalid_box": 2, "missing_confidence": 1, "missing_data_unit": 1}
    return [write_text(folder / "detections.csv", HEADER, *bad[:2], *good, *bad[2:])], rejects


PREDICTION_CASES = (
    PredictionCase(
        format="supervision",
        id="csv",
        write=lambda folder: [
            write_text(folder / "detections.csv", HEADER, *map(line, PREDICTIONS))
        ],
        spoil=_spoil,
    ),
)
LABEL_CASES = ()
