"""The data set as Open Images has it."""

from tests.formats.dataset import (
    CLASSES,
    LABELS,
    PREDICTIONS,
    UNITS,
    LabelCase,
    PredictionCase,
    by_unit,
    write_text,
)

LABEL_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
HEADER = "ImageID,LabelName,Score,XMin,XMax,YMin,YMax"


def sides(row):
    x, y, w, h = row.relative
    return x, x + w, y, y + h


def comma(number):
    """A decimal comma, in quotation marks."""
    return f'"{number}"'.replace(".", ",")


def label(row, write=str):
    numbers = ",".join(map(write, sides(row)))
    return f"{UNITS[row.unit].stem},xclick,{CLASSES[row.cls]},1,{numbers},0,0,0,0,0"


def prediction(row):
    numbers = ",".join(map(str, sides(row)))
    return f"{UNITS[row.unit].stem},{CLASSES[row.cls]},{row.score},{numbers}"


def _challenge(folder):
    lines = []
    for unit, rows in by_unit(PREDICTIONS).items():
        words = []
        for row in rows:
            left, right, top, bottom = sides(row)
            words += [CLASSES[row.cls], row.score, left, top, right, bottom]
        lines.append(f"{unit.stem},{' '.join(map(str, words))}")
    return [write_text(folder / "submission.csv", "ImageId,PredictionString", *lines, "empty,")]


def _spoil(folder):
    good = [prediction(row) for row in PREDICTIONS]
    bad = [
        "000001,person,0.5,0,x,0,1",
        "000001,person,,0,1,0,1",
        "nowhere,person,0.5,0,1,0,1",
        "000001,zebra,0.5,0,1,0,1",
        "000001,person",
    ]
    rejects = {
        "invalid_box": 1,
        "missing_confidence": 1,
        "unknown_data_unit": 1,
        "unknown_class": 1,
        "invalid_data": 1,
    }
    return [write_text(folder / "boxes.csv", HEADER, *bad[:2], *good, *bad[2:])], rejects


def _labels(folder, write=str):
    return write_text(folder / "boxes.csv", LABEL_HEADER, *(label(row, write) for row in LABELS))


PREDICTION_CASES = (
    PredictionCase(
        format="open-images",
        write=lambda folder: [
            write_text(folder / "boxes.csv", HEADER, *(prediction(row) for row in PREDICTIONS))
        ],
        spoil=_spoil,
    ),
    PredictionCase(format="open-images", id="challenge", write=_challenge),
)
LABEL_CASES = (
    LabelCase(format="open-images", write=_labels, images=True),
    LabelCase(
        format="open-images",
        id="decimal commas",
        write=lambda folder: _labels(folder, comma),
        images=True,
    ),
)
