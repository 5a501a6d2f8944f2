"""The data set as PASCAL VOC's detection files, which go class by class."""

from tests.formats.dataset import CLASSES, PREDICTIONS, UNITS, PredictionCase, write_text


def line(row):
    return f"{UNITS[row.unit].stem} {row.score} {' '.join(map(str, row.corners))}"


def _writer(name, one_based=False):
    def write(folder):
        for index, cls in enumerate(CLASSES):
            rows = [row for row in PREDICTIONS if row.cls == index]
            if one_based:
                moved = [
                    (x + 1, y + 1, right, bottom)
                    for x, y, right, bottom in (r.corners for r in rows)
                ]
                lines = [
                    f"{UNITS[row.unit].stem} {row.score} {' '.join(map(str, corners))}"
                    for row, corners in zip(rows, moved, strict=True)
                ]
            else:
                lines = map(line, rows)
            write_text(folder / "results" / name.format(cls), *lines)
        return [folder / "results"]

    return write


def _spoil(folder):
    paths = _writer("comp4_det_val_{}.txt")(folder)
    good = line(PREDICTIONS[0])
    write_text(folder / "results" / "comp4_det_val_zebra.txt", good)
    with (folder / "results" / "comp4_det_val_person.txt").open("a") as file:
        file.write(
            "999999 0.5 1 2 3 4\n000001 0.5 1 2 3\n000001 high 1 2 3 4\n000001 0.5 1 2 x 4\n"
            "000001 nan 1 2 3 4\n000001 0.5 3 2 1 4\n"
        )
    return paths, {
        "unknown_class": 1,
        "unknown_data_unit": 1,
        "invalid_data": 2,
        "invalid_box": 2,
        "not_finite": 1,
    }


PREDICTION_CASES = (
    PredictionCase(
        format="voc-text", write=_writer("comp4_det_val_{}.txt"), spoil=_spoil, ordered=False
    ),
    PredictionCase(format="voc-text", id="plain", write=_writer("{}.txt"), ordered=False),
    PredictionCase(
        format="voc-text",
        id="one-based",
        write=_writer("comp4_det_test_{}.txt", one_based=True),
        options={"one_based": True},
        ordered=False,
    ),
)
