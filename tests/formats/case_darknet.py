"""The data set as class, confidence and box."""

from tests.formats.dataset import CLASSES, PREDICTIONS, PredictionCase, by_unit, write_text


def line(row, numbers, *, name=False):
    words = (row.score, *numbers)
    head = CLASSES[row.cls] if name else str(row.cls)
    return " ".join((head, *(f"{word:.10g}" for word in words)))


def write(folder, numbers, *, name=False):
    for unit, rows in by_unit(PREDICTIONS).items():
        lines = (line(row, numbers(row), name=name) for row in rows)
        write_text(folder / "dets" / f"{unit.stem}.txt", *lines)
    return [folder / "dets"]


def spoil(folder):
    paths = write(folder, lambda row: row.box, name=True)
    bad = (
        "tree 0.5 1 2 3 4",
        "car high 1 2 3 4",
        "car 0.5 1 2 3",
        "police car 0.5 1 2 3 4",
        "car 0.5 1 2 3 x",
        "car 0.5 1 2 -3 4",
        "car nan 1 2 3 4",
    )
    file = folder / "dets" / "000001.txt"
    file.write_text("\n".join([*bad[:3], file.read_text(), *bad[3:]]))
    write_text(folder / "dets" / "unknown.txt", "car 0.5 1 2 3 4")
    return paths, {
        "unknown_data_unit": 1,
        "unknown_class": 1,
        "invalid_data": 3,
        "invalid_box": 2,
        "not_finite": 1,
    }


PREDICTION_CASES = (
    PredictionCase(
        format="darknet",
        write=lambda folder: write(folder, lambda row: row.centred),
        options={"classes": "index"},
    ),
    PredictionCase(
        format="darknet",
        id="xywh",
        write=lambda folder: write(folder, lambda row: row.box),
        options={"classes": "index", "box": "xywh"},
    ),
    PredictionCase(
        format="darknet",
        id="names",
        write=lambda folder: write(folder, lambda row: row.box, name=True),
        options={"box": "xywh"},
        spoil=spoil,
    ),
    PredictionCase(
        format="darknet",
        id="xyxy",
        write=lambda folder: write(folder, lambda row: row.corners),
        options={"classes": "index", "box": "xyxy"},
    ),
)
