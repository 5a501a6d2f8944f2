"""The ground truth as CVAT XML."""

from tests.formats.dataset import CLASSES, LABELS, UNITS, LabelCase, by_unit, write_text

META = "<version>1.1</version><meta><task><id>1</id><labels>{}</labels></task></meta>"


def box(name, corners, more=""):
    sides = zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)
    text = " ".join(f'{side}="{value}"' for side, value in sides)
    return f'<box label="{name}" occluded="0" {text} z_order="0"{more}></box>'


def _write(folder, bad=()):
    rows = by_unit(LABELS)
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = []
    for i, unit in enumerate(UNITS):
        shapes = [box(CLASSES[row.cls], row.corners) for row in rows.get(unit, ())]
        if i == 0:
            shapes = [*bad, *shapes]
        size = f'width="{unit.width}" height="{unit.height}"'
        images.append(f'<image id="{i}" name="{unit.name}" {size}>{"".join(shapes)}</image>')
    text = f"<annotations>{META.format(labels)}{''.join(images)}</annotations>"
    return write_text(folder / "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>', text)


def _spoil(folder):
    bad = [
        box("car", (1, "x", 3, 4)),
        box("dog", (1, 2, 3, 4)),
        '<box xtl="1" ytl="1" xbr="2" ybr="2"/>',
        '<points label="car" points="1,1;2,2"/>',
        '<polygon label="car" points="1,1;2,2"/>',
        '<mask label="car" rle="0,3" left="0" top="0" width="2" height="2"/>',
    ]
    rejects = {
        "invalid_box": 1,
        "unknown_class": 1,
        "missing_class": 1,
        "unsupported_shape": 1,
        "invalid_polygon": 1,
        "invalid_mask": 1,
    }
    return _write(folder, bad), rejects


LABEL_CASES = (LabelCase(format="cvat", write=_write, spoil=_spoil),)
