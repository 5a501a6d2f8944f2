"""CVAT's own XML, version 1.1: tasks and projects of images, and of videos."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ea_arrow.errors import GeometryError, SourceError
from ea_arrow.geometry import check_mask_size
from ea_arrow.ontology import cut
from ea_arrow.schema import BOX
from ea_arrow.sources.base import Coordinates, GroundTruth, RawBuilder, RowError
from ea_arrow.sources.cvat_meta import Video, ontology_of, videos_of
from ea_arrow.sources.formats import Files, LabelFormat, Reading
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.mask_runs import placed
from ea_arrow.sources.truth import data_hash_of
from ea_arrow.sources.unit_files import sized_units
from ea_arrow.sources.xml_files import box_of, children, parse_decimal, parse_flag, root_tag

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

    import pyarrow as pa

    from ea_arrow.geometry import Rle
    from ea_arrow.sources.samples import Sample

MOST_BYTES: Final = 1 << 32

_EXPECTED: Final = "CVAT XML: <annotations> with <meta> and <image>s or <track>s"
_CORNERS: Final = ("xtl", "ytl", "xbr", "ybr")
_CONTENTS: Final = (b"<image", b"<track", b"<meta")
_RUNS: Final = re.compile(r"\s*\d{1,10}\s*(?:,\s*\d{1,10}\s*)*")

Size = tuple[int | None, int | None]


def read_ground_truth(files: Files, reading: Reading) -> GroundTruth:
    """Read CVAT XML, of images or of videos.

    Args:
        files: The XML file.
        reading: ``images`` is used where the file does not say how large an image is.

    Raises:
        SourceError: It is not CVAT XML, or an image's size is unknown.
    """
    path = files.one
    reader = _Reader(path, reading)
    for element in children(path, "annotations", _EXPECTED, MOST_BYTES):
        reader.read(element)
    reader.flush()
    if reader.meta is None and not reader.units:
        message = f"{path} has neither <meta> nor <image>s; expected {_EXPECTED}."
        raise SourceError(message)
    return GroundTruth(
        data_units=sized_units(path, reader.data_units(), reading.images),
        ontology=ontology_of(reader.meta, reader.classes),
        labels=iter(reader.batches),
        coordinates=Coordinates(
            relative=bool(reading.relative), unit_key="source_id", class_key="source_id"
        ),
        notes=reader.notes,
    )


class _Reader:
    """Collects data units, classes and labels, element by element."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.meta: Element | None = None
        self.units: dict[str, dict[str, Any]] = {}
        self.classes: set[str] = set()
        self.batches: list[pa.RecordBatch] = []
        self.notes: Counter[str] = Counter()
        self._videos: list[Video] = []
        self._builder = RawBuilder()
        self._row = 0
        self._path, self._reading = path, reading

    def read(self, element: Element) -> None:
        """Take one element below the root."""
        if element.tag == "meta":
            self.meta = element
            self._videos = videos_of(self._path, element)
        elif element.tag == "image":
            self._image(element)
        elif element.tag == "track":
            self._track(element)

    def flush(self) -> None:
        if len(self._builder):
            self.batches.append(self._builder.flush())

    def data_units(self) -> list[dict[str, Any]]:
        """The images; of a file without any, the frames of its videos."""
        if self.units:
            return list(self.units.values())
        return [
            {
                # Frames without a size are looked for as the files that CVAT exports.
                "title": video.name if video.width else f"frame_{frame:06d}",
                "source_id": video.name,
                "data_hash": data_hash_of(video.task, video.name),
                "frame": frame,
                "group": video.name,
                "width": video.width,
                "height": video.height,
            }
            for video in self._videos
            for frame in video.frames
        ]

    def _image(self, element: Element) -> None:
        name = element.get("name") or element.get("id") or str(len(self.units))
        source_id, number = name, 1
        while source_id in self.units:
            number += 1
            source_id = f"{name}#{number}"
        if number > 1:
            self.notes["images of the same name as an earlier one, as in projects of tasks"] += 1
        size = parse_side(element.get("width")), parse_side(element.get("height"))
        unit = {"title": name, "source_id": source_id, "width": size[0], "height": size[1]}
        self.units[source_id] = unit
        for shape in element:
            if shape.tag != "attribute":
                self._add(shape, size, unit=source_id, class_ref=shape.get("label"))

    def _track(self, element: Element) -> None:
        video = self._video(element)
        for shape in element:
            if shape.tag == "attribute":
                continue
            if parse_flag(shape.get("outside")):
                self.notes["shapes of tracks outside of the picture, which are no labels"] += 1
                continue
            frame = parse_side(shape.get("frame"))
            columns = {"unit": video.name, "frame": frame, "track_id": element.get("id")}
            columns |= {"class_ref": element.get("label")}
            if frame is None:
                message = f"frame is {cut(shape.get('frame'))}; expected a whole number from 0."
                columns |= {"rule": "invalid_frame", "message": message}
            self._add(shape, (video.width, video.height), **columns)

    def _video(self, track: Element) -> Video:
        task = track.get("task_id")
        for video in self._videos:
            if task == video.task or (task is None and len(self._videos) == 1):
                return video
        if len(self._videos) == 1:
            return self._videos[0]
        message = (
            f"{self._path}: track {cut(track.get('id'))} is of task {cut(task)}, of which <meta> "
            f"says nothing before it."
        )
        raise SourceError(message, hint="Export it again as 'CVAT for video 1.1'.")

    def _add(self, shape: Element, size: Size, **columns: Any) -> None:
        if columns["class_ref"] is not None:
            self.classes.add(columns["class_ref"])
        if "rule" not in columns:
            try:
                columns |= _geometry(shape, size, self._reading)
            except RowError as error:
                columns |= {"rule": error.rule, "message": error.message}
        self._builder.add(source_row=self._row, **columns)
        self._row += 1
        if self._builder.full:
            self.flush()


def _geometry(shape: Element, size: Size, reading: Reading) -> dict[str, Any]:
    if shape.tag == "box":
        given = [parse_decimal(shape.get(side), "invalid_box", side) for side in _CORNERS]
        columns: dict[str, Any] = dict(zip(BOX, box_of(given, reading), strict=True))
        angle = 0.0
        if shape.get("rotation") is not None:
            angle = parse_decimal(shape.get("rotation"), "invalid_box", "rotation")
        if angle == 0:
            return {"format": "bounding_box"} | columns
        return {"format": "rotatable_bounding_box", "theta": angle % 360} | columns
    if shape.tag == "polygon":
        return {"format": "polygon", "polygon": [_ring(shape.get("points") or "", reading)]}
    if shape.tag == "mask":
        return {"format": "mask", "mask": _mask(shape, size)}
    message = f"The shape is a {shape.tag}; expected a box, a polygon or a mask."
    raise RowError("unsupported_shape", message)


def _ring(points: str, reading: Reading) -> list[float]:
    pairs = [point.split(",") for point in points.split(";")] if points else []
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        message = f"points are {cut(points)}; expected three points or more, x,y;x,y;…."
        raise RowError("invalid_polygon", message)
    shift = 1.0 if reading.one_based else 0.0
    texts = [text for pair in pairs for text in pair]
    try:
        ring = [float(text) - shift for text in texts]
    except ValueError:
        ring = []
    if not ring or not all(map(math.isfinite, ring)) or "_" in points:
        for text in texts:  # says which
            parse_decimal(text, "invalid_polygon", "A coordinate")
    return ring


def _mask(shape: Element, size: Size) -> Rle:
    """A mask within its box, run by run along the rows, background first."""
    box = {side: parse_side(shape.get(side)) for side in ("left", "top", "width", "height")}
    left, top, columns, rows = box.values()
    width, height = size
    if left is None or top is None or columns is None or rows is None:
        message = f"The mask's box is {cut(dict(shape.items()))}; expected whole pixels."
        raise RowError("invalid_mask", message)
    if width is None or height is None:
        raise RowError("invalid_mask", "The mask's image has no width and height.")
    text = shape.get("rle") or ""
    if left + columns > width or top + rows > height:
        message = f"The mask reaches to {left + columns}, {top + rows}; the image has {width} × "
        raise RowError("invalid_mask", f"{message}{height} pixels.")
    try:
        check_mask_size(height, width)
    except GeometryError as error:
        raise RowError("invalid_mask", error.message) from error
    if not _RUNS.fullmatch(text):
        raise RowError("invalid_mask", f"rle is {cut(text)}; expected whole numbers.")
    runs = np.array(text.split(","), dtype=np.int64)
    if int(runs.sum()) != rows * columns:
        message = (
            f"The runs cover {int(runs.sum()):,} pixels; the mask's box has {rows * columns:,}."
        )
        raise RowError("invalid_mask", message)
    pixels = np.repeat((np.arange(runs.size) & 1).astype(bool), runs).reshape(rows, columns)
    return placed(pixels, left, top, height, width)


def sniff(sample: Sample) -> bool:
    """Whether a file is CVAT's XML."""
    head = sample.head
    return root_tag(head) == "annotations" and any(mark in head for mark in _CONTENTS)


LABELS: Final = LabelFormat(
    name="cvat",
    doc="CVAT XML 1.1, for images and for videos",
    about="The annotations.xml of an export as 'CVAT for images 1.1' or 'CVAT for video 1.1', of "
    "a job, a task or a project.\n\n"
    "Every <image> is a data unit, also without labels, named (source_id and title) by its name; "
    "of a video, every frame is one, from <start_frame> on, named by the video's file and the "
    "frame's number. Sizes stand in the file; where they do not, as in an export of single images "
    "for video, they come from the images (--images DIR).\n\n"
    "Boxes are corners in pixels, from 0: the width is xbr - xtl. A rotation is kept as theta, "
    "clockwise in degrees. Polygons and masks are kept as such. Shapes of tracks are labels of "
    "their frames with a track_id; where outside is 1 there is no label. Classes are the labels "
    "of <meta> in its order and with its colours.\n\n"
    "Points, polylines, ellipses, cuboids, skeletons and tags are refused one by one "
    "(unsupported_shape); attributes, groups and occluded are not kept.",
    example="<annotations><version>1.1</version><meta><task><labels><label><name>car</name>"
    '<color>#2080c0</color></label></labels></task></meta><image id="0" name="a.jpg" width="640" '
    'height="480"><box label="car" occluded="0" xtl="10.00" ytl="20.00" xbr="110.50" '
    'ybr="95.00" z_order="0"></box></image></annotations>',
    sniff=sniff,
    read=read_ground_truth,
)
