"""The data set as KITTI text files, as Encord Active's csv, and as KITTI labels."""

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

AFTER = "1.5 1.6 3.9 1.0 2.0 30.5 -1.57"


def line(row):
    box = " ".join(map(str, row.corners))
    score = "" if row.score is None else f" {row.score}"
    return f"{CLASSES[row.cls]} 0.00 0 -1.57 {box} {AFTER}{score}"


def _write(folder):
    for unit, rows in by_unit(PREDICTIONS).items():
        write_text(folder / "pred" / f"{unit.stem}.txt", *map(line, rows))
    return [folder / "pred"]


def _write_files(folder):
    _write(folder)
    return sorted((folder / "pred").iterdir())


def _write_csv(folder):
    for unit, rows in by_unit(PREDICTIONS).items():
        commas = [line(row).replace(" ", ",") for row in rows]
        write_text(folder / "pred" / f"{unit.stem}.csv", *commas)
    return [folder / "pred"]


def _spoil(folder):
    _write(folder)
    first = line(PREDICTIONS[0])
    write_text(folder / "pred" / "999999.txt", first)
    write_text(
        folder / "pred" / "empty.txt",
        first.replace("person", "DontCare"),
        first.rpartition(" ")[0],  # no score
        "person 0.00 0 -1.57 4 4 20",
        first.replace(" 4 4 20 ", " 4 four 20 "),
        first.replace(" 4 4 20 ", " 4 nan 20 "),
        first.replace(" 4 4 20 ", " 40 4 20 "),
        f"{first}x",
    )
    return [folder / "pred"], {
        "unknown_data_unit": 1,
        "unknown_class": 1,
        "missing_confidence": 1,
        "invalid_data": 2,
        "invalid_box": 2,
        "not_finite": 1,
    }


def _write_labels(folder):
    by_name = by_unit(LABELS)
    for unit in UNITS:
        write_text(folder / "label_2" / f"{unit.stem}.txt", *map(line, by_name.get(unit, ())))
    return folder / "label_2"


def _spoil_labels(folder):
    path = _write_labels(folder)
    good = line(LABELS[0])
    write_text(path / "empty.txt", "person 0.00 0", good.replace(" 4 4 20 ", " 4 x 20 "))
    write_text(path / "no-image.txt", good)
    return path, {"invalid_data": 1, "invalid_box": 1, "unknown_data_unit": 1}


PREDICTION_CASES = (
    PredictionCase(format="kitti", write=_write, spoil=_spoil),
    PredictionCase(format="kitti", id="files", write=_write_files),
    PredictionCase(format="kitti", id="csv", write=_write_csv),
)
LABEL_CASES = (LabelCase(format="kitti", write=_write_labels, spoil=_spoil_labels, images=True),)
