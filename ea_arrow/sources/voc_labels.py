"""Pascal VOC ground truth: one XML file per image."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import cut
from ea_arrow.schema import BOX
from ea_arrow.sources.base import GroundTruth, RawBuilder, RowError
from ea_arrow.sources.formats import Files, LabelFormat, Option, Reading
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.unit_files import read_each
from ea_arrow.sources.xml_files import (
    box_of,
    children,
    parse_decimal,
    parse_flag,
    root_tag,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from xml.etree.ElementTree import Element

    import pyarrow as pa

    from ea_arrow.sources.samples import Sample

MOST_BYTES: Final = 1 << 26

_EXPECTED: Final = "VOC XML: an <annotation> of an image with its <object>s"
_DIFFICULT: Final = {
    True: "objects marked difficult, which metrics ignore (else: --option difficult=keep)",
    False: "objects marked difficult, which count as any other",
}
_SIDES: Final = ("xmin", "ymin", "xmax", "ymax")


def read_ground_truth(files: Files, reading: Reading) -> GroundTruth:
    """Read VOC XML files: every one is a data unit, with or without objects.

    Args:
        files: A directory of XML files, or some.
        reading: ``images`` is used where a file has no size; ``box``, ``relative`` and
            ``one_based`` say how the corners are meant.

    Raises:
        SourceError: A file is not VOC XML, or an image's size is unknown.
    """
    paths = files.listed(".xml")
    if not paths:
        raise SourceError(f"{files.root} has no .xml files; expected {_EXPECTED}.")
    return read_each(files, paths, _Reader(reading), reading)


class _Reader:
    """Collects data units, classes and labels, file by file."""

    def __init__(self, reading: Reading) -> None:
        self.units: list[dict[str, Any]] = []
        self.classes: set[str] = set()
        self.batches: list[pa.RecordBatch] = []
        self.notes: Counter[str] = Counter()
        self._builder = RawBuilder()
        self._reading = reading
        self._ignoring = reading.options.get("difficult", "ignore") == "ignore"

    def read(self, path: Path, name: str, source_id: str) -> None:
        title, width, height = None, None, None
        rows = count()
        for element in children(path, "annotation", _EXPECTED, MOST_BYTES):
            if element.tag == "filename":
                title = text_of(element)
            elif element.tag == "size":
                width = parse_side(text_of(element.find("width")))
                height = parse_side(text_of(element.find("height")))
            elif element.tag == "object":
                row = self._object(element)
                row |= {"source_row": next(rows), "source_file": name, "unit": source_id}
                self._builder.add(**row)
                if self._builder.full:
                    self.flush()
        if title is None:
            self.notes["files without <filename>, titled by their own names"] += 1
            title = source_id
        size = {"width": width, "height": height}
        self.units.append({"title": title, "source_id": source_id, **size})

    def flush(self) -> None:
        if len(self._builder):
            self.batches.append(self._builder.flush())

    def _object(self, element: Element) -> dict[str, Any]:
        name = text_of(element.find("name"))
        columns: dict[str, Any] = {"class_ref": name, "format": "bounding_box"}
        if name is not None:
            self.classes.add(name)
        if parse_flag(text_of(element.find("difficult"))):
            columns["is_ignored"] = self._ignoring
            self.notes[_DIFFICULT[self._ignoring]] += 1
        parts = len(element.findall("part"))
        if parts:
            self.notes["parts of objects (head, hand, foot), left out"] += parts
        try:
            columns |= self._geometry(element)
        except RowError as error:
            columns |= {"rule": error.rule, "message": error.message}
        return columns

    def _geometry(self, element: Element) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        ring = self._ring(element.find("polygon"))
        box = element.find("bndbox")
        if ring:
            columns |= {"format": "polygon", "polygon": [ring]}
        if box is None and not ring:
            found = ", ".join(f"<{child.tag}>" for child in list(element)[:8])
            rotated = element.find("robndbox") is not None
            rule = "unsupported_shape" if rotated else "invalid_box"
            message = f"The object has no <bndbox>; it has {cut(found)[1:-1] or 'nothing'}."
            raise RowError(rule, message)
        if box is not None:
            given = [parse_decimal(text_of(box.find(s)), "invalid_box", s) for s in _SIDES]
            columns |= zip(BOX, box_of(given, self._reading), strict=True)
            if not self._reading.one_based and self._reading.box is None:
                self.notes[
                    "boxes with corners taken as given; of files that count pixels from 1, as "
                    "VOC's own do, with --one-based"
                ] += 1
        return columns

    def _ring(self, polygon: Element | None) -> list[float] | None:
        """The points of a polygon; None if there is none, or one that is incomplete."""
        if polygon is None:
            return None
        points = list(_points(polygon))
        if len(points) < 3:
            self.notes["polygons of fewer than three points, of which the box is taken"] += 1
            return None
        shift = 1.0 if self._reading.one_based else 0.0
        return [
            parse_decimal(text, "invalid_polygon", "A polygon's point") - shift
            for point in points
            for text in point
        ]


def _points(polygon: Element) -> Iterator[tuple[str | None, str | None]]:
    """Points written as <x1><y1><x2><y2>…, or as <pt><x><y></pt>…."""
    for point in polygon.findall("pt"):
        yield text_of(point.find("x")), text_of(point.find("y"))
    texts = {child.tag: text_of(child) for child in polygon}
    for number in count(1):
        x, y = f"x{number}", f"y{number}"
        if x not in texts and y not in texts:
            return
        yield texts.get(x), texts.get(y)


def sniff(sample: Sample) -> bool:
    """Whether a file is VOC XML, or the XML files of a directory are."""
    found = sample.inner(".xml") if sample.is_dir else [sample]
    return bool(found) and all(_looks_like_voc(inner.head) for inner in found)


def _looks_like_voc(head: bytes) -> bool:
    marks = (b"<filename", b"<object", b"<size")
    return root_tag(head) == "annotation" and any(mark in head for mark in marks)


LABELS: Final = LabelFormat(
    name="voc",
    doc="Pascal VOC XML, one file per image",
    about="A directory of XML files, or one of them; every file is a data unit, also without "
    "objects.\n\n"
    "Data units are named by the stem of the XML file (source_id) and titled by its <filename>; "
    "classes are the <name>s of objects, in alphabetical order. Sizes come from <size>; where it "
    "is missing or 0, from the images (--images DIR).\n\n"
    "<bndbox> holds corners in pixels, which need not be whole numbers; the width of a box is "
    "xmax - xmin. The VOC devkit itself counts pixels from 1 and takes xmax and ymax as the last "
    "pixels that belong to the box: --one-based reads them so. Most tools that write VOC XML do "
    "not, hence the default.\n\n"
    "Objects with <difficult>1</difficult> are ignored in metrics, as VOC's own evaluation does, "
    "unless --option difficult=keep; converters to COCO often count them. A <polygon> of "
    "three points or more is kept beside the box. <part>s of objects are left out, as are pose, "
    "truncated and occluded.",
    example="<annotation><filename>2007_000027.jpg</filename>"
    "<size><width>486</width><height>500</height><depth>3</depth></size>"
    "<object><name>person</name><difficult>0</difficult>"
    "<bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox>"
    "</object></annotation>",
    options=(
        Option("difficult", "What objects marked difficult are.", ("ignore", "keep"), "ignore"),
    ),
    many=True,
    sniff=sniff,
    read=read_ground_truth,
)
