"""Detections that supervision's ``JSONSink`` wrote."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.ontology import clean_text, cut
from ea_arrow.sources.base import Coordinates, RowError, UnitKey
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_records import (
    JsonSource,
    Row,
    box_row,
    file_name,
    loose_number,
    name_text,
    refused,
    score_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ea_arrow.sources.samples import Sample

_EXPECTED: Final = "the list that supervision's JSONSink writes"
_CORNERS: Final = ("x_min", "y_min", "x_max", "y_max")
_OWN: Final = {*_CORNERS, "class_id", "confidence", "tracker_id"}
_UNITS: Final[Mapping[str, UnitKey]] = {
    "file_name": "name",
    "image_name": "name",
    "image_id": "source_id",
    "image": "name",
    "source_name": "name",
    "data_hash": "data_hash",
}
_SHOWN: Final = 8


def _open(files: Files, reading: Reading) -> JsonSource:
    path = files.one
    records = read_json(path, _EXPECTED)
    if not isinstance(records, list):
        message = f"{path} holds {cut(records)}; expected {_EXPECTED}."
        raise SourceError(message, hint="Give the file as JSONSink wrote it.")
    good = [record for record in records if isinstance(record, dict)]
    unit = _unit_column(path, good, reading.options.get("unit"))
    frame = _frame_column(path, good, reading.options.get("frame"))
    named = bool(good) and all(_is_name(record.get("class_name")) for record in good)
    coordinates = Coordinates(
        relative=bool(reading.relative),
        unit_key=_unit_key(unit, good),
        class_key="name" if named else "index",
        class_names=() if named else _class_names(good),
    )
    columns = unit, frame, "class_name" if named else "class_id"
    notes: Counter[str] = Counter()
    if good and not named and any(_is_name(record.get("class_name")) for record in good):
        notes["detections without class_name: all go by class_id"] = sum(
            not _is_name(record.get("class_name")) for record in good
        )
    return JsonSource(path, coordinates, partial(_rows, records, columns, reading), notes)


def _unit_column(path: Path, records: list[Row], given: str | None) -> str:
    known = list(dict.fromkeys(key for record in records for key in record))
    if given is not None:
        if given not in known and known:
            near = did_you_mean(given, known)
            raise SourceError(f"{path}: no detection has the key '{given}'.", hint=near)
        return given
    found = next((key for key in _UNITS if key in known), None)
    if found is None and records:
        custom = ", ".join(clean_text(key) for key in known if key not in _OWN) or "none"
        message = (
            f"{path}: no detection says which image it is of: there is none of "
            f"{', '.join(_UNITS)}. Other keys: {custom[:200]}."
        )
        hint = (
            "Name the key: --option unit=KEY; or write it again with "
            "sink.append(detections, custom_data={'file_name': …})."
        )
        raise SourceError(message, hint=hint)
    return found or "file_name"


def _frame_column(path: Path, records: list[Row], given: str | None) -> str | None:
    if given is not None and records and not any(given in record for record in records):
        raise SourceError(f"{path}: no detection has the key '{given}'.")
    return given


def _unit_key(column: str, records: list[Row]) -> UnitKey:
    if column in _UNITS:
        return _UNITS[column]
    values = (record.get(column) for record in records)
    return "name" if any(isinstance(v, str) and "." in v for v in values) else "source_id"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _class_names(records: list[Row]) -> tuple[tuple[str, str], ...]:
    """The names that the detections give to class numbers, where each has one name only."""
    names: dict[str, str | None] = {}
    for record in records:
        number, name = record.get("class_id"), record.get("class_name")
        if isinstance(number, int) and not isinstance(number, bool) and _is_name(name):
            text = clean_text(str(name))
            known = names.setdefault(str(number), text)
            if known != text:
                names[str(number)] = None
    return tuple((number, name) for number, name in names.items() if name is not None)


def _rows(
    records: list[Any], columns: tuple[str, str | None, str], reading: Reading
) -> Iterator[Row]:
    for record in records:
        row: Row = {}
        try:
            for part in _parts(record, columns):
                row |= part
            numbers = [loose_number(record.get(k), "invalid_box", k) for k in _CORNERS]
            yield row | {"format": "bounding_box"} | box_row(numbers, reading, "xyxy")
        except RowError as error:
            yield row | refused(error)


def _parts(record: object, columns: tuple[str, str | None, str]) -> Iterator[Row]:
    """Yield the columns but the box one by one: those before a wrong one are known."""
    if not isinstance(record, dict):
        raise RowError("invalid_data", f"The detection is {cut(record)}; expected an object.")
    unit_column, frame_column, class_column = columns
    unit = name_text(record.get(unit_column), unit_column)
    is_name = _UNITS.get(unit_column, "name") == "name"
    yield {"unit": file_name(unit) if unit and is_name else unit}
    yield {"class_ref": name_text(record.get(class_column), class_column)}
    yield {"track_id": name_text(record.get("tracker_id"), "tracker_id")}
    if frame_column is not None:
        yield {"frame": _frame(record.get(frame_column), frame_column)}
    yield {"confidence": score_of(record, "confidence")}


def _frame(value: object, what: str) -> int:
    number = loose_number(value, "invalid_frame", what)
    if not number.is_integer() or not 0 <= number < 2**31:
        message = f"{what} is {cut(value)}; expected a whole number from 0."
        raise RowError("invalid_frame", message)
    return int(number)


def _sniff(sample: Sample) -> bool:
    return sample.head.startswith(b"[") and sample.keys >= _OWN


PREDICTIONS: Final = PredictionFormat(
    name="supervision-json",
    box="xyxy",
    doc="detections that supervision's JSONSink wrote",
    about="A list of detections: x_min, y_min, x_max, y_max in pixels, class_id, confidence and "
    "tracker_id (an empty text where the model gave none), the detections' own data such as "
    "class_name as text, and whatever was given as custom_data. Masks are not written by "
    "supervision.\n\n"
    "JSONSink itself does not say which image a detection is of: custom_data must. The first of "
    "file_name, image_name, image_id, image, source_name and data_hash that occurs names it; "
    "--option unit=KEY names another one. Of a video --option frame=KEY (such as frame_index) "
    "gives the frame, counted from 0. Classes go by class_name where every detection has one, else "
    "by class_id, a number from 0 in the model's own list.",
    example='[{"x_min": 13.5, "y_min": 52.0, "x_max": 314.2, "y_max": 470.9, "class_id": 15, '
    '"confidence": 0.91, "tracker_id": "", "class_name": "cat", "file_name": "000001.jpg"}]',
    options=(
        Option("unit", "the key that names the image"),
        Option("frame", "the key that has the frame of a video, from 0"),
    ),
    sniff=_sniff,
    open=_open,
)
