"""Annotations in Label Studio's JSON export, as ground truth."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, cut, id_text
from ea_arrow.sources.base import Coordinates, GroundTruth, RowError, batches_of
from ea_arrow.sources.formats import Files, LabelFormat, Option, Reading
from ea_arrow.sources.json_records import Row, refused
from ea_arrow.sources.label_studio_tasks import (
    ABOUT,
    IMAGE_OPTION,
    PREFIX_OPTION,
    Document,
    Task,
    is_export,
)
from ea_arrow.sources.label_studio_values import (
    Scale,
    Size,
    columns_of,
    identity,
    is_labelled,
    label_of,
)
from ea_arrow.sources.truth import data_hash_of, unit_table

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANNOTATED: Final = re.compile(r'"(?:annotations|completions)"\s*:\s*\[\s*\{')
_SHOWN: Final = 5
_CANCELLED: Final = "cancelled annotations, left out"
_SEVERAL: Final = "annotations beside the one that was taken of their task, left out"


def _read(files: Files, reading: Reading) -> GroundTruth:
    document = Document(files.one, reading)
    taken = reading.options.get("annotation", "last")
    annotations = [_annotations(document, task, taken) for task in document.tasks]
    sizes = _known_sizes(document)
    keys = [id_text(task.record.get("id")) or task.unit for task in document.tasks]
    _check_keys(document, keys)
    units = [
        {
            "width": size[0],
            "height": size[1],
            "title": task.unit,
            "source_id": key,
            "data_hash": data_hash_of(key, task.unit),
        }
        for task, key, size in zip(document.tasks, keys, sizes, strict=True)
    ]
    scales = [Scale(size, relative=False) for size in sizes]
    return GroundTruth(
        data_units=unit_table(units),
        ontology=_classes(annotations),
        labels=batches_of(_labels(document, keys, annotations, scales)),
        coordinates=Coordinates(relative=False, unit_key="source_id", class_key="source_id"),
        notes=document.notes,
    )


def _annotations(document: Document, task: Task, taken: str) -> list[Row]:
    """The annotations of a task that count, with only results of their own."""
    found = document.entries(task, "annotations", "completions")
    kept = [entry for entry in found if not entry.get("was_cancelled")]
    if len(kept) < len(found):
        document.notes[_CANCELLED] += len(found) - len(kept)
    if taken != "all" and len(kept) > 1:
        document.notes[_SEVERAL] += len(kept) - 1
        kept = [kept[0 if taken == "first" else -1]]
    return [{"result": document.results(task, entry)} for entry in kept]


def _known_sizes(document: Document) -> list[Size]:
    sizes = document.sizes()
    unknown = [
        (task.unit or task.where)[:60]
        for task, size in zip(document.tasks, sizes, strict=True)
        if size is None
    ]
    if unknown:
        message = (
            f"{document.path}: of {len(unknown)} of {len(sizes)} tasks no result says "
            f"original_width and original_height: {', '.join(unknown[:_SHOWN])}"
            f"{', …' if len(unknown) > _SHOWN else ''}."
        )
        raise SourceError(message, hint="Give the directory of the images: --images DIR.")
    return [size for size in sizes if size is not None]


def _check_keys(document: Document, keys: list[str | None]) -> None:
    repeated = [key for key, number in Counter(keys).items() if number > 1 or key is None]
    if repeated:
        message = f"{document.path}: tasks have no id of their own: {cut(repeated)}."
        raise SourceError(message, hint="Give every task an 'id', as Label Studio's export has it.")


def _classes(annotations: list[list[Row]]) -> Ontology:
    names: set[str] = set()
    for kept in annotations:
        for entry in kept:
            for result in entry["result"]:
                if isinstance(result, dict) and is_labelled(result):
                    try:
                        name = label_of(result, Counter())
                    except RowError:
                        continue
                    names |= {name} if name else set()
    return Ontology.from_coco([{"id": name, "name": name} for name in sorted(names)])


def _labels(
    document: Document,
    keys: list[str | None],
    annotations: list[list[Row]],
    scales: list[Scale],
) -> Iterator[Row]:
    for key, kept, scale in zip(keys, annotations, scales, strict=True):
        for entry in kept:
            for result in entry["result"]:
                row: Row = {"unit": key}
                try:
                    row |= identity(result)
                    row |= columns_of(result, scale, document.notes)
                    if row["format"] == "classification":
                        message = "Choices for whole images are not read as ground truth."
                        row |= {"rule": "unsupported_answer", "message": message}
                    yield row
                except RowError as error:
                    yield row | refused(error)


LABELS: Final = LabelFormat(
    name="label-studio",
    fixed=True,
    doc="Label Studio JSON export, its annotations",
    about=ABOUT.replace("{which}", "annotations")
    + "Every task is a data unit, also one without annotations, which then needs --images DIR for "
    "its size. Cancelled annotations are left out; of several annotations of a task the last one "
    "is taken, or as --option annotation says. Choices for whole images are refused.",
    example='[{"id": 1, "data": {"image": "/data/upload/1/a1b2c3d4-cat.jpg"}, "annotations": '
    '[{"was_cancelled": false, "result": [{"id": "r1", "type": "rectanglelabels", '
    '"original_width": 640, "original_height": 480, "value": {"x": 10.5, "y": 20, "width": 30, '
    '"height": 40, "rotation": 0, "rectanglelabels": ["cat"]}}]}]}]',
    options=(
        Option("annotation", "which annotation of a task counts", ("first", "last", "all"), "last"),
        IMAGE_OPTION,
        PREFIX_OPTION,
    ),
    sniff=lambda sample: is_export(sample) and bool(_ANNOTATED.search(sample.text)),
    read=_read,
)
