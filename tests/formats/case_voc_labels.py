"""The ground truth as Pascal VOC XML."""

from tests.formats.dataset import CLASSES, LABELS, UNITS, LabelCase, by_unit, write_text


def an_object(name, corners):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def annotation(unit, *objects):
    size = f"<size><width>{unit.width}</width><height>{unit.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{unit.name}</filename>{size}{''.join(objects)}</annotation>"


def _write(folder, bad=()):
    rows = by_unit(LABELS)
    for unit in UNITS:
        objects = [an_object(CLASSES[row.cls], row.corners) for row in rows.get(unit, ())]
        if unit == UNITS[0]:
            objects = [*bad, *objects]
        write_text(folder / "Annotations" / f"{unit.stem}.xml", annotation(unit, *objects))
    return folder / "Annotations"


def _spoil(folder):
    bad = [
        "<object><name>car</name></object>",
        "<object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object>",
        an_object("car", (1, "two", 3, 4)),
        an_object("car", (9, 9, 3, 14)),
        an_object("car", (1, 2, "nan", 4)),
    ]
    return _write(folder, bad), {"invalid_box": 3, "missing_class": 1, "not_finite": 1}


LABEL_CASES = (LabelCase(format="voc", write=_write, spoil=_spoil),)
