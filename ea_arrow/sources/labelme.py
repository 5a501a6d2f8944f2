"""LabelMe's JSON: one file per image, with shapes drawn by hand."""

from __future__ import annotations

import base64
import binascii
import io
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut, id_text
from ea_arrow.schema import BOX
from ea_arrow.sources.base import GroundTruth, RawBuilder, RowError
from ea_arrow.sources.formats import Files, LabelFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_values import parse_number, parse_side
from ea_arrow.sources.mask_files import read_png
from ea_arrow.sources.mask_runs import placed
from ea_arrow.sources.unit_files import read_each

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from ea_arrow.sources.samples import Sample

MOST_BYTES: Final = 1 << 28

_EXPECTED: Final = "LabelMe JSON: an object with imagePath and a list of shapes"
_MARKS: Final = frozenset(
    ("version", "flags", "points", "shape_type", "imagePath", "imageData", "imageHeight")
)
_FLAT: Final = ("polygon", "rectangle")

Shape = dict[str, Any]
Point = tuple[float, float]


def read_ground_truth(files: Files, reading: Reading) -> GroundTruth:
    """Read LabelMe JSON files: every one is a data unit, with or without shapes.

    Args:
        files: A directory of JSON files, or some.
        reading: ``images`` is used where a file has no size.

    Raises:
        SourceError: A file is not LabelMe JSON, or an image's size is unknown.
    """
    paths = files.listed(".json")
    if not paths:
        raise SourceError(f"{files.root} has no .json files; expected {_EXPECTED}.")
    return read_each(files, paths, _Reader(), reading)


class _Reader:
    """Collects data units, classes and labels, file by file."""

    def __init__(self) -> None:
        self.units: list[dict[str, Any]] = []
        self.classes: set[str] = set()
        self.batches: list[pa.RecordBatch] = []
        self.notes: Counter[str] = Counter()
        self._builder = RawBuilder()

    def read(self, path: Path, name: str, source_id: str) -> None:
        document = _document(path)
        title = document.get("imagePath")
        if not isinstance(title, str) or not title:
            self.notes["files without imagePath, titled by their own names"] += 1
            title = source_id
        width, height = (parse_side(document.get(f"image{side}")) for side in ("Width", "Height"))
        size = {"width": width, "height": height}
        title = clean_text(title).replace("\\", "/")
        self.units.append({"title": title, "source_id": source_id, **size})
        for row, shapes in self._objects(document["shapes"]):
            columns = self._columns(shapes, width, height)
            self._builder.add(source_row=row, source_file=name, unit=source_id, **columns)
            if self._builder.full:
                self.flush()

    def flush(self) -> None:
        if len(self._builder):
            self.batches.append(self._builder.flush())

    def _objects(self, shapes: list[Any]) -> list[tuple[int, list[Any]]]:
        """Shapes by object, with the first one's place: a group of one label is one object."""
        groups: dict[tuple[str, str], list[Any]] = {}
        objects: list[tuple[int, list[Any]]] = []
        for row, shape in enumerate(shapes):
            key = _group(shape)
            if key is not None and key in groups:
                self.notes["shapes that are further parts of an object, by their group_id"] += 1
                groups[key].append(shape)
                continue
            objects.append((row, [shape]))
            if key is not None:
                groups[key] = objects[-1][1]
        return objects

    def _columns(self, shapes: list[Any], width: int | None, height: int | None) -> dict[str, Any]:
        first = shapes[0]
        if not isinstance(first, dict):
            message = f"The shape is {cut(first)}; expected an object."
            return {"rule": "invalid_data", "message": message}
        label = id_text(first.get("label"))
        columns: dict[str, Any] = {"class_ref": label, "format": "bounding_box"}
        if label is not None:
            self.classes.add(label)
        if any(shape.get("difficult") is True for shape in shapes):
            columns["is_ignored"] = True
            self.notes["shapes marked difficult, which are ignored in metrics"] += 1
        try:
            if len(shapes) > 1:
                rings = [ring for shape in shapes for ring in _rings(shape)]
                return columns | {"format": "polygon", "polygon": rings}
            return columns | self._geometry(first, width, height)
        except RowError as error:
            return columns | {"rule": error.rule, "message": error.message}

    def _geometry(self, shape: Shape, width: int | None, height: int | None) -> dict[str, Any]:
        kind = _kind(shape)
        if kind == "polygon":
            return {"format": "polygon", "polygon": _rings(shape)}
        if kind == "rectangle":
            left, top, right, bottom = _rectangle(shape)
            return dict(zip(BOX, (left, top, right - left, bottom - top), strict=True))
        if kind == "mask":
            return {"format": "mask", "mask": self._mask(shape, width, height)}
        message = f"The shape is a {cut(kind)[1:-1]}; expected a polygon, a rectangle or a mask."
        raise RowError("unsupported_shape", message)

    def _mask(self, shape: Shape, width: int | None, height: int | None) -> Any:
        """A PNG within a box, of which the first corner says where it begins."""
        text = shape.get("mask")
        if not isinstance(text, str):
            raise RowError("invalid_mask", f"mask is {cut(text)}; expected a PNG as base64.")
        if width is None or height is None:
            raise RowError("invalid_mask", "The mask's image has no imageWidth and imageHeight.")
        corners = _extent(shape, _points(shape, "invalid_mask"), "invalid_mask")
        left, top, right, bottom = map(round, corners)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RowError("invalid_mask", f"mask is not base64: {error}.") from error
        pixels = read_png(io.BytesIO(data))
        rows, columns = pixels.shape
        if columns - (right - left) not in (0, 1) or rows - (bottom - top) not in (0, 1):
            message = f"The mask has {columns} × {rows} pixels; its box is {right - left} × "
            raise RowError("invalid_mask", f"{message}{bottom - top}.")
        if left < 0 or top < 0 or left + columns > width or top + rows > height:
            self.notes["masks that reach outside of their image, cut off there"] += 1
        return placed(pixels, left, top, height, width)


def _document(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise SourceError(message) from error
    if size > MOST_BYTES:
        message = f"{path} has {size:,} bytes; expected {_EXPECTED}, of one image."
        raise SourceError(message)
    document = read_json(path, _EXPECTED)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        found = f"the keys {cut(list(document))}" if isinstance(document, dict) else cut(document)
        message = f"{path} is not LabelMe JSON: found {found}; expected {_EXPECTED}."
        hint = "Give the directory of LabelMe's files, without other JSON files in it."
        raise SourceError(message, hint=hint)
    return document


def _group(shape: Any) -> tuple[str, str] | None:
    """What parts of one object share: label and group; None if the shape is an object of its own.

    A shape that cannot be read must be refused by itself, not with its group.
    """
    if not isinstance(shape, dict) or _kind(shape) not in _FLAT:
        return None
    label, group = id_text(shape.get("label")), id_text(shape.get("group_id"))
    if label is None or group is None:
        return None
    try:
        _rings(shape)
    except RowError:
        return None
    return label, group


def _kind(shape: Shape) -> str:
    kind = shape.get("shape_type")
    return "polygon" if kind is None else str(kind)  # as LabelMe before 3.3 had it


def _rings(shape: Shape) -> list[list[float]]:
    if _kind(shape) == "rectangle":
        left, top, right, bottom = _rectangle(shape)
        return [[left, top, right, top, right, bottom, left, bottom]]
    points = _points(shape, "invalid_polygon")
    if len(points) < 3:
        message = f"points are {cut(shape.get('points'))}; a polygon needs three or more."
        raise RowError("invalid_polygon", message)
    return [[value for point in points for value in point]]


def _rectangle(shape: Shape) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of two opposite corners, or of all four, in any order."""
    points = _points(shape, "invalid_box")
    if len(points) == 4:
        low, high = (
            (min(x for x, _ in points), min(y for _, y in points)),
            (
                max(x for x, _ in points),
                max(y for _, y in points),
            ),
        )
        on_edges = all(x in (low[0], high[0]) and y in (low[1], high[1]) for x, y in points)
        if not on_edges or not {low, high} <= set(points):
            message = f"The corners {cut(shape.get('points'))} are those of a turned rectangle."
            raise RowError("unsupported_shape", message)
        points = [low, high]
    return _extent(shape, points, "invalid_box")


def _extent(shape: Shape, points: list[Point], rule: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of two corners."""
    if len(points) != 2:
        message = f"points are {cut(shape.get('points'))}; expected two corners [x, y]."
        raise RowError(rule, message)
    (ax, ay), (bx, by) = points
    return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)


def _points(shape: Shape, rule: str) -> list[Point]:
    points = shape.get("points")
    if not isinstance(points, list) or any(
        not isinstance(point, list) or len(point) != 2 for point in points
    ):
        raise RowError(rule, f"points are {cut(points)}; expected pairs [x, y].")
    return [(parse_number(x, rule, "A point"), parse_number(y, rule, "A point")) for x, y in points]


def sniff(sample: Sample) -> bool:
    """Whether a file is LabelMe JSON, or the JSON files of a directory are."""
    found = sample.inner(".json") if sample.is_dir else [sample]
    return bool(found) and all(_looks_like_labelme(inner) for inner in found)


def _looks_like_labelme(sample: Sample) -> bool:
    # Which keys the beginning of the file shows depends on how long shapes and imageData are.
    keys = sample.keys
    pictured = {"imagePath", "imageData"} <= keys
    return sample.head.startswith(b"{") and (
        pictured or ("shapes" in keys and len(keys & _MARKS) >= 2)
    )


LABELS: Final = LabelFormat(
    name="labelme",
    fixed=True,
    doc="LabelMe JSON, one file per image",
    about="A directory of JSON files as LabelMe (and X-AnyLabeling) saves them, or one of them; "
    "every file is a data unit, also without shapes. Images may lie beside them.\n\n"
    "Data units are named by the stem of the JSON file (source_id) and titled by imagePath; "
    "classes are the labels of shapes, in alphabetical order. Sizes are imageWidth and "
    "imageHeight; where they are missing, they come from the images (--images DIR).\n\n"
    "Coordinates are pixels, from 0. A rectangle is two opposite corners in any order and becomes "
    "a box; polygons stay polygons; a mask is a PNG within its box. Polygons and rectangles with "
    "one label and one group_id are the parts of one object, as in LabelMe's own conversion to "
    "COCO. Circles, lines, line strips, points and turned rectangles are refused one by one "
    "(unsupported_shape). Flags, descriptions and imageData are not kept.",
    example='{"version": "5.5.0", "flags": {}, "shapes": [{"label": "car", "points": '
    '[[258.0, 41.0], [606.0, 284.0]], "group_id": null, "shape_type": "rectangle", "flags": {}}], '
    '"imagePath": "42.jpg", "imageData": null, "imageHeight": 480, "imageWidth": 640}',
    many=True,
    sniff=sniff,
    read=read_ground_truth,
)
