"""FiftyOne's own export (``FiftyOneDataset``): samples.json with ground truth and predictions."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.ontology import Ontology, clean_text, cut, id_text
from ea_arrow.sources.base import Coordinates, GroundTruth, RowError, batches_of
from ea_arrow.sources.fiftyone_values import (
    LISTS,
    SINGLE,
    Size,
    class_of,
    columns_of,
    identity,
    labels_of,
    plain,
)
from ea_arrow.sources.formats import Files, LabelFormat, Option, PredictionFormat, Reading
from ea_arrow.sources.images import opened
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_records import (
    JsonSource,
    Row,
    file_name,
    refused,
    score_of,
)
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.samples import Sample
from ea_arrow.sources.truth import data_hash_of, unit_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME: Final = "samples.json"
_EXPECTED: Final = "the samples.json of a FiftyOne dataset"
_HINT: Final = "Export it as fiftyone.types.FiftyOneDataset."
_START: Final = re.compile(r'\{\s*"samples"\s*:\s*\[')
_FIELD: Final = re.compile(rf'"_cls"\s*:\s*"(?:{"|".join((*LISTS, *SINGLE))})"')
_SCORED: Final = re.compile(r'"confidence"\s*:\s*[\d.{-]')
_GROUND_TRUTH: Final = "ground_truth"
_SHOWN: Final = 5


class _Sample(NamedTuple):
    """A sample with the name, the id and the size of its image."""

    unit: str | None
    key: str | None
    size: Size | None
    record: Row


class _Document:
    """The samples of an export."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path = path / _NAME if path.is_dir() else path
        self.notes: Counter[str] = Counter()
        self._reading = reading
        document = read_json(self.path, _EXPECTED)
        listed = document.get("samples") if isinstance(document, dict) else None
        if not isinstance(listed, list) or not all(isinstance(s, dict) for s in listed):
            message = f"{self.path} holds {cut(document)}; expected {_EXPECTED}."
            raise SourceError(message, hint=_HINT)
        kinds = {str(sample.get("_media_type", "image")) for sample in listed}
        if kinds - {"image"}:
            found = ", ".join(clean_text(kind)[:20] for kind in sorted(kinds)[:_SHOWN])
            message = f"{self.path} has samples of {found}; only images can be read."
            raise SourceError(message, hint="Export the frames as images: dataset.to_frames().")
        self.samples = _with_sizes([_sample(record) for record in listed], reading)

    def fields(self) -> list[str]:
        """The fields that hold labels, in order of appearance."""
        kinds = (*LISTS, *SINGLE)
        return list(
            dict.fromkeys(
                key
                for sample in self.samples
                for key, value in sample.record.items()
                if class_of(value) in kinds
            )
        )

    def check(self, field: str, found: list[str]) -> str:
        """Return a field's name.

        Raises:
            SourceError: No sample has it.
        """
        if field not in found:
            named = clean_text(", ".join(found))[:200] or "none"
            message = f"{self.path} has no labels in '{field}'; fields with labels: {named}."
            near = did_you_mean(field, found)
            raise SourceError(message, hint=near or "Name one: --option field=NAME.")
        return field

    def rows(self, field: str, units: list[str | None], *, scored: bool) -> Iterator[Row]:
        """Yield the labels of a field as RAW columns."""
        for sample, unit in zip(self.samples, units, strict=True):
            value = sample.record.get(field)
            if value is None:
                continue
            try:
                labels = labels_of(value)
            except RowError as error:
                yield {"unit": unit} | refused(error)
                continue
            for label in labels:
                row: Row = {"unit": unit}
                try:
                    row |= identity(label) if isinstance(label, dict) else {}
                    row |= _confidence(label) if scored else {}
                    yield row | columns_of(label, sample.size, self._reading)
                except RowError as error:
                    yield row | refused(error)


def _confidence(label: object) -> Row:
    if not isinstance(label, dict):
        return {}
    return {"confidence": score_of({"confidence": plain(label.get("confidence"))}, "confidence")}


def _sample(record: Row) -> _Sample:
    path = record.get("filepath")
    unit = clean_text(file_name(path)) if isinstance(path, str) else None
    own = record.get("_id", record.get("id"))
    key = id_text(own.get("$oid") if isinstance(own, dict) else own)
    metadata = record.get("metadata")
    size = None
    if isinstance(metadata, dict):
        width = parse_side(plain(metadata.get("width")))
        height = parse_side(plain(metadata.get("height")))
        size = (width, height) if width and height else None
    return _Sample(unit or None, key or unit or None, size, record)


def _with_sizes(samples: list[_Sample], reading: Reading) -> list[_Sample]:
    """The samples, with sizes from the images where they have no metadata."""
    if reading.images is None or all(sample.size for sample in samples):
        return samples
    images = opened(reading.images)
    found = {
        index: path
        for index, sample in enumerate(samples)
        if sample.size is None and sample.unit and (path := images.find(sample.unit))
    }
    for index, size in zip(found, images.sizes(list(found.values())), strict=True):
        samples[index] = samples[index]._replace(size=size)
    return samples


# -- predictions -----------------------------------------------------------------------------------


def _open(files: Files, reading: Reading) -> JsonSource:
    document = _Document(files.paths[0], reading)
    field = _scored_field(document, reading.options.get("field"))
    units = [sample.unit for sample in document.samples]
    rows = partial(document.rows, field, units, scored=True)
    coordinates = Coordinates(
        relative=reading.relative is not False, unit_key="name", class_key="name"
    )
    return JsonSource(document.path, coordinates, rows, document.notes)


def _scored_field(document: _Document, given: str | None) -> str:
    """The field that holds predictions: the only one with confidences, or the one given."""
    found = document.fields()
    if given is not None:
        return document.check(given, found) if document.samples else given
    scored = [field for field in found if _has_scores(document, field)]
    if len(scored) == 1:
        return scored[0]
    if not document.samples:
        return "predictions"
    named = clean_text(", ".join(scored or found))[:200] or "none"
    what = "several fields with confidences" if scored else "no field with confidences; others"
    message = f"{document.path} has {what}: {named}."
    raise SourceError(message, hint="Name the field of the predictions: --option field=NAME.")


def _has_scores(document: _Document, field: str) -> bool:
    for sample in document.samples:
        try:
            labels = labels_of(sample.record.get(field)) if field in sample.record else []
        except RowError:
            continue
        if any(isinstance(x, dict) and x.get("confidence") is not None for x in labels):
            return True
    return False


# -- ground truth ----------------------------------------------------------------------------------


def _read(files: Files, reading: Reading) -> GroundTruth:
    document = _Document(files.paths[0], reading)
    field = reading.options.get("field", _GROUND_TRUTH)
    if document.samples:
        document.check(field, document.fields())
    _check(document)
    samples = document.samples
    units = [
        {
            "width": sample.size[0],
            "height": sample.size[1],
            "title": sample.unit,
            "source_id": sample.key,
            "data_hash": data_hash_of(sample.key, sample.unit),
        }
        for sample in samples
        if sample.size is not None
    ]
    keys = [sample.key for sample in samples]
    rows = (_label(row) for row in document.rows(field, keys, scored=False))
    return GroundTruth(
        data_units=unit_table(units),
        ontology=_classes(document, field),
        labels=batches_of(rows),
        coordinates=Coordinates(
            relative=reading.relative is not False, unit_key="source_id", class_key="source_id"
        ),
        notes=document.notes,
    )


def _label(row: Row) -> Row:
    if row.get("format") == "classification":
        message = "Classifications of whole images are not read as ground truth."
        return row | {"rule": "unsupported_answer", "message": message}
    return row


def _check(document: _Document) -> None:
    """Refuse samples without a size, or without an id of their own."""
    samples = document.samples
    unknown = [(sample.unit or "?")[:60] for sample in samples if sample.size is None]
    if unknown:
        message = (
            f"{document.path}: {len(unknown)} of {len(samples)} samples have no metadata with "
            f"width and height: {', '.join(unknown[:_SHOWN])}"
            f"{', …' if len(unknown) > _SHOWN else ''}."
        )
        hint = "Give the directory of the images: --images DIR. (Or dataset.compute_metadata().)"
        raise SourceError(message, hint=hint)
    keys = Counter(sample.key for sample in samples)
    repeated = [key for key, number in keys.items() if number > 1 or key is None]
    if repeated:
        message = f"{document.path}: samples have no _id of their own: {cut(repeated)}."
        raise SourceError(message, hint=_HINT)


def _classes(document: _Document, field: str) -> Ontology:
    names: set[str] = set()
    for sample in document.samples:
        try:
            labels: list[Any] = labels_of(sample.record.get(field))
        except RowError:
            continue
        for label in labels:
            name = label.get("label") if isinstance(label, dict) else None
            if isinstance(name, str) and name and class_of(label) != "Classification":
                names.add(clean_text(name))
    return Ontology.from_coco([{"id": name, "name": name} for name in sorted(names)])


def _sniff(sample: Sample) -> str:
    """The text of a samples.json; empty if it is none."""
    if sample.is_dir:
        path = sample.path / _NAME
        sample = Sample(path) if path.is_file() else sample
    good = _START.match(sample.text) and "filepath" in sample.keys and _FIELD.search(sample.text)
    return sample.text if good else ""


_ABOUT: Final = (
    "The directory that dataset.export(dataset_type=fiftyone.types.FiftyOneDataset) writes, or the "
    "samples.json in it. A sample's field of class Detections has label, bounding_box "
    "[left, top, width, height] as fractions of the image, and perhaps a mask, which covers the "
    "box only (a NumPy array, packed by zlib): it is placed into the image, whose size must be in "
    "metadata or come from --images DIR. A mask of another size than its box is refused. "
    "Polylines that are closed and filled are polygons; key points and heat maps cannot be read. "
    "Classes go by label, images by file name, videos cannot be read.\n\n"
)

PREDICTIONS: Final = PredictionFormat(
    name="fiftyone",
    doc="FiftyOne dataset (samples.json), a field of predictions",
    about=_ABOUT + "The field of the predictions is the only one whose labels have a confidence; "
    "where there are several, --option field=NAME names it. Classifications are read too.",
    example='{"samples": [{"filepath": "data/1.jpg", "metadata": {"width": 640, "height": 480}, '
    '"predictions": {"_cls": "Detections", "detections": [{"_cls": "Detection", "label": "cat", '
    '"bounding_box": [0.1, 0.2, 0.3, 0.4], "confidence": 0.87}]}}]}',
    options=(Option("field", "the field that holds the predictions"),),
    sniff=lambda sample: _SCORED.search(_sniff(sample)) is not None,
    open=_open,
)

LABELS: Final = LabelFormat(
    name="fiftyone",
    doc="FiftyOne dataset (samples.json), its ground truth",
    about=_ABOUT + "The labels are those of the field ground_truth, or the one that "
    "--option field=NAME names; iscrowd is kept. Classifications of whole images are refused.",
    example='{"samples": [{"filepath": "data/1.jpg", "metadata": {"width": 640, "height": 480}, '
    '"ground_truth": {"_cls": "Detections", "detections": [{"_cls": "Detection", "label": "cat", '
    '"bounding_box": [0.1, 0.2, 0.3, 0.4]}]}}]}',
    options=(Option("field", "the field that holds the labels", (), _GROUND_TRUTH),),
    sniff=lambda sample: _sniff(sample) != "",
    read=_read,
)
