"""The data set as YOLO txt, predictions and ground truth."""

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


def line(row, *, conf=False, track=None):
    words = [row.cls, *row.centred]
    words += [row.score] if conf else []
    words += [track] if track is not None else []
    return " ".join(f"{word:.10g}" for word in words)


def write_predictions(folder, *, tracks=False, names=False):
    number = 0
    for unit, rows in by_unit(PREDICTIONS).items():
        lines = []
        for row in rows:
            number += 1
            lines.append(line(row, conf=True, track=number if tracks else None))
        write_text(folder / "labels" / f"{unit.stem}.txt", *lines)
    if names:
        write_text(folder / "data.yaml", "train: images", f"names: [{', '.join(CLASSES)}]")
    return [folder / "labels"]


def write_segments(folder):
    """The boxes as polygons of four corners."""
    for unit, rows in by_unit(PREDICTIONS).items():
        lines = []
        for row in rows:
            x, y, w, h = row.relative
            points = (x, y, x + w, y, x + w, y + h, x, y + h)
            lines.append(" ".join(f"{n:.10g}" for n in (row.cls, *points, row.score)))
        write_text(folder / "labels" / f"{unit.stem}.txt", *lines)
    return [folder / "labels"]


def spoil_predictions(folder):
    paths = write_predictions(folder)
    good = line(PREDICTIONS[0])
    write_text(folder / "labels" / "unknown.txt", f"{good} 0.5")
    bad = (
        good,
        f"7 {good[2:]} 0.5",
        f"cat {good[2:]} 0.5",
        f"{good} high",
        "0 0.5 0.5 wide 0.5 0.5",
        "0 0.5 0.5 -0.5 0.5 0.5",
        "0 0.5 0.5 0.5",
        "0 0.9 1.9 0.5 0.5 0.5",
        "0 nan 0.5 0.5 0.5 0.5",
    )
    file = folder / "labels" / "000001.txt"
    file.write_text("\n".join([*bad[:4], file.read_text(), *bad[4:]]))
    return paths, {
        "unknown_data_unit": 1,
        "missing_confidence": 1,
        "unknown_class": 1,
        "invalid_data": 3,
        "invalid_box": 2,
        "box_out_of_range": 1,
        "not_finite": 1,
    }


def write_labels(folder):
    """A directory of label files with classes.txt; the images are elsewhere."""
    for unit, rows in by_unit(LABELS).items():
        write_text(folder / f"{unit.stem}.txt", *(line(row) for row in rows))
    write_text(folder / "classes.txt", *CLASSES)
    return folder


def write_dataset(folder):
    """A data.yaml, images and labels."""
    from PIL import Image

    images, labels = folder / "images" / "val", folder / "labels" / "val"
    images.mkdir(parents=True)
    for unit, rows in by_unit(LABELS).items():
        write_text(labels / f"{unit.stem}.txt", *(line(row) for row in rows))
    for unit in UNITS:
        Image.new("L", (unit.width, unit.height)).save(images / unit.name)
    names = [f"  {index}: {name}" for index, name in enumerate(CLASSES)]
    return write_text(folder / "data.yaml", "path: .", "val: images/val", "names:", *names)


def write_obj_data(folder):
    """Darknet's description, as CVAT exports it, without images."""
    for unit in UNITS:
        rows = by_unit(LABELS).get(unit, [])
        write_text(folder / "obj_train_data" / f"{unit.stem}.txt", *(line(row) for row in rows))
    write_text(folder / "obj.names", *CLASSES)
    write_text(folder / "train.txt", *(f"data/obj_train_data/{unit.name}" for unit in UNITS))
    write_text(
        folder / "sizes.csv",
        "name,width,height",
        *(f"{u.name},{u.width},{u.height}" for u in UNITS),
    )
    write_text(
        folder / "obj.data", "classes = 3", "train = data/train.txt", "names = data/obj.names"
    )
    return folder


def _spoil_labels(folder):
    write_labels(folder)
    good = line(LABELS[0])
    bad = (
        f"3 {good[2:]}",
        f"{good} 0.5",
        "0 0.5 0.5 wide 0.5",
        "0 0.5 0.5 0.5 -0.5",
        "0 0 0 0.5 0.5 0.5 low",
        "person 0.5 0.5 0.5 0.5",
        "0 0.5 nan 0.5 0.5",
    )
    file = folder / "000001.txt"
    file.write_text("\n".join([*bad[:3], file.read_text(), *bad[3:]]))
    write_text(folder / "no-image.txt", good)
    return folder, {
        "unknown_class": 1,
        "invalid_data": 2,
        "invalid_box": 2,
        "invalid_polygon": 1,
        "not_finite": 1,
        "unknown_data_unit": 1,
    }


_INDEX = {"classes": "index"}

PREDICTION_CASES = (
    PredictionCase(format="yolo", write=write_predictions, options=_INDEX, spoil=spoil_predictions),
    PredictionCase(
        format="yolo",
        id="tracks",
        write=lambda folder: write_predictions(folder, tracks=True),
        options=_INDEX,
    ),
    PredictionCase(
        format="yolo", id="names", write=lambda folder: write_predictions(folder, names=True)
    ),
    PredictionCase(format="yolo", id="corners", write=write_segments, options=_INDEX),
)
LABEL_CASES = (
    LabelCase(format="yolo", write=write_labels, images=True, spoil=_spoil_labels),
    LabelCase(format="yolo", id="yaml", write=write_dataset),
    LabelCase(
        format="yolo",
        id="darknet",
        write=write_obj_data,
        options=lambda folder: {"options": {"sizes": str(folder / "in" / "sizes.csv")}},
    ),
)
