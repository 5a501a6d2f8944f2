"""One Encord label row: the data units it lists and the labels on them.

Coordinates stay relative, as Encord gives them; masks are placed into the full frame, in pixels.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ea_arrow.errors import GeometryError, SourceError
from ea_arrow.geometry import Rle, check_mask_size, encode_dense, row_major_to_rle
from ea_arrow.ontology import clean_text, cut, id_text
from ea_arrow.rle import decode_rle_string
from ea_arrow.sources.base import RowError
from ea_arrow.sources.json_values import parse_number, parse_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ea_arrow.ontology import Ontology

GEOMETRY_KEYS = {
    "bounding_box": "boundingBox",
    "rotatable_bounding_box": "rotatableBoundingBox",
    "polygon": "polygon",
    "bitmask": "bitmask",
}
"""The shapes that can be stored, and the key under which an object has each."""

_CONFIDENCE = "invalid_data", "confidence"  # the rule it breaks, and what it is called
_HINT = "Export the label rows again with the Encord SDK (LabelRowV2.to_encord_dict)."

Json = dict[str, Any]


class Unit(NamedTuple):
    """An image or video frame; a width or height of 0 is unknown."""

    data_hash: str
    frame: int
    width: int
    height: int
    title: str | None
    uri: str | None
    group: str | None
    metadata: str | None


class Place(NamedTuple):
    """A data unit within a label row, with the frames that are labelled."""

    data_hash: str
    data_unit: Json
    is_video: bool
    frames: dict[int, Json]


def places(label_row: Json, where: str) -> list[Place]:
    """Return the data units of a label row, in the order of its sequence.

    Args:
        label_row: The label row.
        where: Where it stands, for error messages.

    Raises:
        SourceError: The label row does not have the structure of one.
    """
    data_units = label_row.get("data_units")
    if not isinstance(data_units, dict):
        message = f"{where} has data_units {cut(data_units)}; expected an object by data hash."
        raise SourceError(message, hint=_HINT)
    found = []
    for key, data_unit in data_units.items():
        if not isinstance(data_unit, dict):
            message = f"{where}: data unit {cut(key)} is {cut(data_unit)}; expected an object."
            raise SourceError(message, hint=_HINT)
        # The key is the label row's own name for the unit; where they differ the field is right.
        data_hash = id_text(data_unit.get("data_hash")) or clean_text(key)
        labels = data_unit.get("labels") or {}
        if not isinstance(labels, dict):
            message = f"{where}: labels of {data_hash} are {cut(labels)}; expected an object."
            raise SourceError(message, hint=_HINT)
        is_video = _is_video(label_row, data_unit, labels)
        frames = _frames(labels, f"{where}: {data_hash}") if is_video else {0: labels}
        found.append(Place(data_hash, data_unit, is_video, frames))
    return sorted(found, key=lambda place: parse_side(place.data_unit.get("data_sequence")) or 0)


def is_group(label_row: Json, members: list[Place]) -> bool:
    """Whether a label row is a group of images: they share objects, as frames of a video do."""
    return label_row.get("data_type") == "img_group" or len(members) > 1


def units(
    label_row: Json, where: str, images: Mapping[str, Mapping[int, str]] | None = None
) -> Iterator[Unit]:
    """Yield the data units of a label row: images, and the known frames of videos.

    Args:
        label_row: The label row. Of a video it names the labelled frames only.
        where: Where it stands, for error messages.
        images: Links to images by data hash and frame, where there are some: they win over the
            label row's own, and tell the other frames of videos.

    Raises:
        SourceError: The label row does not have the structure of one.
    """
    members = places(label_row, where)
    label_hash = id_text(label_row.get("label_hash"))
    grouped = is_group(label_row, members)
    metadata = json.dumps({"label_hash": label_hash}) if label_hash else None
    for place in members:
        width, height = size_of(place.data_unit)
        title = place.data_unit.get("data_title") or label_row.get("data_title")
        group = place.data_hash if place.is_video else label_hash if grouped else None
        links = (images or {}).get(place.data_hash, {})
        frames = sorted({*place.frames, *links}) if place.is_video else [0]
        for frame in frames:
            yield Unit(
                data_hash=place.data_hash,
                frame=frame,
                width=width,
                height=height,
                title=id_text(title),
                uri=links.get(frame) or public_uri(place.data_unit.get("data_link")),
                group=group,
                metadata=metadata,
            )


def size_of(data_unit: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height; 0, 0 where either is missing or not positive."""
    width, height = parse_side(data_unit.get("width")), parse_side(data_unit.get("height"))
    return (width, height) if width and height else (0, 0)


def public_uri(link: object) -> str | None:
    """Return a link without its query: a signed URL's signature is a secret, and expires."""
    if not isinstance(link, str) or not link:
        return None
    link = clean_text(link)
    if not link.startswith(("http://", "https://")):
        return link
    return link.partition("?")[0]


class LabelParser:
    """Turns label rows into rows of the ``RAW`` schema.

    Args:
        ontology: Tells radio from checklist attributes; without it any question that has one
            option as its answer counts as radio.
        sizes: Width and height by data hash, for placing masks.
        predictions: The rows are predictions, and have confidences.

    Attributes:
        notes: Counted peculiarities.
    """

    def __init__(
        self,
        ontology: Ontology | None,
        sizes: Mapping[str, tuple[int, int]],
        *,
        predictions: bool = False,
    ) -> None:
        self.notes: Counter[str] = Counter()
        self._types = ontology.attribute_types if ontology is not None else {}
        self._sizes = sizes
        self._predictions = predictions

    def rows(self, label_row: Json, where: str) -> Iterator[Json]:
        """Yield one row per object and per classification answer, in the order of the source.

        Raises:
            SourceError: The label row does not have the structure of one.
        """
        answers = label_row.get("classification_answers")
        answers = answers if isinstance(answers, dict) else {}
        used: set[str] = set()
        members = places(label_row, where)
        for place in members:
            size = self._sizes.get(place.data_hash) or size_of(place.data_unit)
            if place.is_video and not place.frames:
                self.notes["videos without labels"] += 1
            tracked = place.is_video or is_group(label_row, members)
            for frame, labels in place.frames.items():
                at = {"unit": place.data_hash, "frame": frame}
                for entry in _entries(labels, "objects"):
                    yield at | self._object(entry, size, tracked=tracked)
                for entry in _entries(labels, "classifications"):
                    if isinstance(entry, dict):
                        used.add(str(entry.get("classificationHash")))
                    for row in self._classification(entry, answers):
                        yield at | row
        unused = len(set(answers) - used)
        if unused:
            self.notes["classification answers on no image or frame"] += unused

    def _object(self, entry: object, size: tuple[int, int], *, tracked: bool) -> Json:
        if not isinstance(entry, dict):
            message = f"The object is {cut(entry)}; expected an object."
            return {"rule": "invalid_data", "message": message}
        object_hash = id_text(entry.get("objectHash"))
        row: Json = {"class_ref": id_text(entry.get("featureHash")), "source_id": object_hash}
        if tracked:
            row["track_id"] = object_hash
        try:
            row |= self._confidence(entry)
            return row | self._geometry(entry, size)
        except RowError as error:
            return row | {"rule": error.rule, "message": error.message}
        except GeometryError as error:
            return row | {"rule": "invalid_mask", "message": error.message}

    def _confidence(self, entry: Json) -> Json:
        """The confidence of a prediction; nothing of a label, or where it is missing."""
        value = entry.get("confidence") if self._predictions else None
        return {} if value is None else {"confidence": parse_number(value, *_CONFIDENCE)}

    def _geometry(self, entry: Json, size: tuple[int, int]) -> Json:
        shape = entry.get("shape")
        if shape is None:
            shape = next((s for s, key in GEOMETRY_KEYS.items() if key in entry), None)
        if shape == "bounding_box":
            return {"format": "bounding_box", **_box(entry, "boundingBox")}
        if shape == "rotatable_bounding_box":
            box = _box(entry, "rotatableBoundingBox")
            theta = entry["rotatableBoundingBox"].get("theta")
            theta = parse_number(theta, "invalid_box", "rotatableBoundingBox.theta")
            return {"format": "rotatable_bounding_box", **box, "theta": theta}
        if shape == "polygon":
            return {"format": "polygon", "polygon": self._polygon(entry)}
        if shape == "bitmask":
            return {"format": "mask", "mask": _mask(entry.get("bitmask"), size)}
        message = (
            f"Objects of shape {cut(shape)} cannot be stored; only {', '.join(GEOMETRY_KEYS)}."
        )
        raise RowError("unsupported_shape", message)

    def _polygon(self, entry: Json) -> list[list[float]]:
        """Return the outer rings: several are the parts of one object.

        ``polygons`` lists, for each part, its outline and then its holes. Stored polygons have no
        holes: they are filled (as Encord's own ``polygon`` does), and counted.
        """
        parts = entry.get("polygons")
        if not parts:
            return [_ring(entry.get("polygon"))]
        if not isinstance(parts, list) or not all(isinstance(p, list) and p for p in parts):
            message = f"polygons is {cut(parts)}; expected lists of rings of x, y, x, y, …"
            raise RowError("invalid_polygon", message)
        holes = sum(len(rings) - 1 for rings in parts)
        if holes:
            self.notes["holes of polygons, filled"] += holes
        return [_ring(rings[0]) for rings in parts]

    def _classification(self, entry: object, answers: Json) -> Iterator[Json]:
        if not isinstance(entry, dict):
            message = f"The classification is {cut(entry)}; expected an object."
            yield {"rule": "invalid_data", "message": message}
            return
        classification_hash = id_text(entry.get("classificationHash"))
        row = {
            "class_ref": id_text(entry.get("featureHash")),
            "source_id": classification_hash,
            "format": "classification",
        }
        try:
            row |= self._confidence(entry)
        except RowError as error:
            yield row | {"rule": error.rule, "message": error.message}
            return
        given = answers.get(str(classification_hash))
        listed = given.get("classifications") if isinstance(given, dict) else None
        if not isinstance(listed, list) or not listed:
            message = "The classification has no answer in classification_answers."
            yield row | {"rule": "unsupported_answer", "message": message}
            return
        for answer in listed:
            yield row | self._answer(answer)

    def _answer(self, answer: object) -> Json:
        attribute = answer.get("featureHash") if isinstance(answer, dict) else None
        options = answer.get("answers") if isinstance(answer, dict) else None
        kind = self._types.get(str(attribute), "radio")
        columns: Json = {"attribute_hash": id_text(attribute)}
        is_one = isinstance(options, list) and len(options) == 1 and isinstance(options[0], dict)
        if kind == "radio" and is_one and isinstance(options, list):
            return columns | {"option_hash": id_text(options[0].get("featureHash"))}
        asked = kind if kind != "radio" else "radio question"
        message = f"The answer to a {asked} is {cut(options)}; only one option of a radio counts."
        return columns | {"rule": "unsupported_answer", "message": message}


def _is_video(label_row: Json, data_unit: Json, labels: Json) -> bool:
    if labels:
        return not {"objects", "classifications"} & set(labels)
    kind = str(data_unit.get("data_type") or "")
    return label_row.get("data_type") == "video" or kind.startswith("video")


def _frames(labels: Json, where: str) -> dict[int, Json]:
    frames = {}
    for key, value in labels.items():
        frame = parse_side(key)
        if frame is None or not isinstance(value, dict):
            message = f"{where} has labels under {cut(key)}; expected a frame number."
            raise SourceError(message, hint=_HINT)
        frames[frame] = value
    return dict(sorted(frames.items()))


def _entries(labels: Json, key: str) -> list[Any]:
    entries = labels.get(key)
    return entries if isinstance(entries, list) else [entries] if entries else []


def _box(entry: Json, key: str) -> dict[str, float]:
    box = entry.get(key)
    if not isinstance(box, dict):
        message = f"{key} is {cut(box)}; expected x, y, w and h."
        raise RowError("invalid_box", message)
    return {f"bbox_{k}": parse_number(box.get(k), "invalid_box", f"{key}.{k}") for k in "xywh"}


def _ring(points: object) -> list[float]:
    """Return a ring as x, y, x, y, … from any of the forms in which Encord writes it."""
    if isinstance(points, dict):
        try:
            points = [points[key] for key in sorted(points, key=int)]
        except ValueError as error:
            message = f"polygon has the keys {cut(list(points))}; expected numbers."
            raise RowError("invalid_polygon", message) from error
    if not isinstance(points, list):
        message = f"polygon is {cut(points)}; expected points."
        raise RowError("invalid_polygon", message)
    values: list[Any] = []
    for point in points:
        values += (point.get("x"), point.get("y")) if isinstance(point, dict) else (point,)
    if len(values) < 6 or len(values) % 2:
        message = f"polygon is {cut(points)}; expected at least three points x, y."
        raise RowError("invalid_polygon", message)
    return [parse_number(value, "invalid_polygon", "polygon") for value in values]


def _mask(bitmask: object, size: tuple[int, int]) -> Rle:
    """Place a bitmask, whose runs are row by row, into its frame."""
    given = bitmask if isinstance(bitmask, dict) else {}
    string = given.get("rleString")
    sides = [parse_side(given.get(key)) for key in ("top", "left", "height", "width")]
    if None in sides or not isinstance(string, str) or not string.isascii():
        message = f"bitmask is {cut(bitmask)}; expected top, left, height, width and rleString."
        raise RowError("invalid_mask", message)
    top, left, height, width = (side or 0 for side in sides)
    frame_width, frame_height = size if all(size) else (left + width, top + height)
    if left + width > frame_width or top + height > frame_height:
        message = (
            f"The bitmask of {width} × {height} at {left}, {top} leaves its frame of "
            f"{frame_width} × {frame_height} pixels."
        )
        raise RowError("invalid_mask", message)
    check_mask_size(frame_height, frame_width)
    rle = row_major_to_rle(height, width, decode_rle_string(string.encode()))
    if (frame_height, frame_width) == (height, width):
        return rle
    runs = np.asarray(rle.counts)
    part = np.repeat((np.arange(runs.size) & 1).astype(np.uint8), runs).reshape(width, height).T
    frame = np.zeros((frame_height, frame_width), dtype=np.uint8)
    frame[top : top + height, left : left + width] = part
    return encode_dense(frame)
