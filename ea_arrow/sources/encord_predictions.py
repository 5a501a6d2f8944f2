"""Predictions as Encord label rows: objects and classifications with a confidence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ea_arrow.sources.encord import COORDINATES, EXPECTED, label_rows_of, read_ontology
from ea_arrow.sources.encord_rows import LabelParser
from ea_arrow.sources.formats import Files, PredictionFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.json_records import JsonSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ea_arrow.sources.encord_project import LabelRow
    from ea_arrow.sources.json_records import Row
    from ea_arrow.sources.samples import Sample

_NEEDED: Final = (b'"data_units"', b'"labels"', b'"confidence"')
_ALL_ONE: Final = "confidences are all 1, as Encord writes for labels: are these predictions?"


def _sniff(sample: Sample) -> bool:
    head = sample.head
    return head.startswith((b"{", b"[")) and all(mark in head for mark in _NEEDED)


def _open(files: Files, reading: Reading) -> JsonSource:
    path = files.one
    listed = label_rows_of(path, read_json(path, EXPECTED))
    ontology = read_ontology(reading.ontology) if reading.ontology else None
    parser = LabelParser(ontology, {}, predictions=True)
    return JsonSource(path, COORDINATES, partial(_rows, listed, parser), parser.notes)


def _rows(listed: list[LabelRow], parser: LabelParser) -> Iterator[Row]:
    scored, others = 0, 0
    for label_row in listed:
        for row in parser.rows(label_row.document, label_row.where):
            score = row.get("confidence")
            scored += score == 1
            others += score not in (None, 1)
            yield row
    if scored and not others:
        parser.notes[_ALL_ONE] = scored


PREDICTIONS: Final = PredictionFormat(
    name="encord",
    fixed=True,
    doc="Encord label rows as JSON, with confidences",
    about="Label rows as the Encord SDK writes them (LabelRowV2.to_encord_dict): one, a list of "
    "them, or an object with label_rows; each object and classification has a confidence. "
    "Coordinates are fractions of the data unit; bitmasks are placed into the width and height of "
    "their data unit. Data units go by data_hash and frame, classes by featureHash, answers of "
    "radio questions by their three hashes; objects of videos and image groups are tracks by "
    "objectHash.\n\n"
    "Encord writes the confidence 1 for labels that people made: where all are 1 a note asks "
    "whether these are labels. Without an ontology (--ontology) any answer of a single option "
    "counts as radio; checklists of several options, text and numbers are refused.",
    example='{"label_hash": "…", "data_units": {"d41d…": {"data_hash": "d41d…", "width": 640, '
    '"height": 480, "labels": {"objects": [{"featureHash": "Rk3x", "objectHash": "a1", '
    '"shape": "bounding_box", "confidence": 0.83, "boundingBox": {"x": 0.1, "y": 0.2, "w": 0.3, '
    '"h": 0.4}}], "classifications": []}}}}',
    sniff=_sniff,
    open=_open,
)
