"""Predictions in Label Studio's JSON, as its ML backends make them."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import id_text
from ea_arrow.sources.base import Coordinates, RowError
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.json_records import JsonSource, Row, refused, score_of
from ea_arrow.sources.label_studio_tasks import (
    ABOUT,
    IMAGE_OPTION,
    PREFIX_OPTION,
    Document,
    is_export,
    results_in,
)
from ea_arrow.sources.label_studio_values import Scale, columns_of, identity

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREDICTED: Final = re.compile(r'"predictions"\s*:\s*\[\s*\{')
_SHOWN: Final = 5
_FRACTIONS: Final = "results without original_width and original_height: coordinates are fractions"
_OTHER_MODEL: Final = "predictions of other model versions, left out"


def _open(files: Files, reading: Reading) -> JsonSource:
    document = Document(files.one, reading)
    chosen = _model_version(document, reading.options.get("model"))
    scales, relative = _scales(document, chosen)
    coordinates = Coordinates(relative=relative, unit_key="name", class_key="name")
    rows = partial(_predictions, document, chosen, scales)
    return JsonSource(files.one, coordinates, rows, document.notes)


def _version(prediction: Row) -> str:
    return id_text(prediction.get("model_version")) or "undefined"


def _model_version(document: Document, given: str | None) -> str | None:
    """The one model version to read; None if there are no predictions."""
    versions = Counter(
        _version(p) for task in document.tasks for p in document.entries(task, "predictions")
    )
    listed = ", ".join(
        f"'{version[:60]}' ({n} tasks)" for version, n in versions.most_common(_SHOWN)
    )
    if given is not None:
        if versions and given not in versions:
            raise SourceError(f"{document.path} has no predictions of '{given}'; it has {listed}.")
        return given
    if len(versions) > 1:
        message = f"{document.path} has predictions of {len(versions)} model versions: {listed}."
        raise SourceError(message, hint="Choose one: --option model=VERSION.")
    return next(iter(versions), None)


def _scales(document: Document, chosen: str | None) -> tuple[list[Scale], bool]:
    """The scale of each task, and whether coordinates are fractions.

    They are pixels, as only that keeps boxes that reach out of the image, and turns boxes rightly;
    unless the size of a single image is unknown.
    """
    sizes = document.sizes()
    unknown = 0
    for task, size in zip(document.tasks, sizes, strict=True):
        if size is None:
            predictions = document.entries(task, "predictions")
            mine = (p for p in predictions if _version(p) == chosen)
            unknown += sum(len(results_in(p)) for p in mine)
    if unknown:
        document.notes[_FRACTIONS] = unknown
    return [Scale(size, bool(unknown)) for size in sizes], bool(unknown)


def _predictions(document: Document, chosen: str | None, scales: list[Scale]) -> Iterator[Row]:
    for task, scale in zip(document.tasks, scales, strict=True):
        for prediction in document.entries(task, "predictions"):
            if _version(prediction) != chosen:
                document.notes[_OTHER_MODEL] += 1
                continue
            for result in document.results(task, prediction):
                row: Row = {"unit": task.unit}
                try:
                    row |= identity(result)
                    row["confidence"] = _score(result, prediction)
                    yield row | columns_of(result, scale, document.notes)
                except RowError as error:
                    yield row | refused(error)


def _score(result: Row, prediction: Row) -> float | None:
    own = score_of(result, "score")
    return score_of(prediction, "score") if own is None else own


PREDICTIONS: Final = PredictionFormat(
    name="label-studio",
    fixed=True,
    doc="Label Studio JSON export or import, its predictions",
    about=ABOUT.replace("{which}", "predictions")
    + "A result's score counts, else that of its prediction. Where there are predictions of "
    "several model versions, --option model=VERSION chooses one. Choices for a whole image are "
    "classifications. If the size of an image is unknown (--images DIR gives it) all coordinates "
    "are taken as fractions, and boxes that reach out of their image are refused.",
    example='[{"id": 1, "data": {"image": "/data/upload/1/a1b2c3d4-cat.jpg"}, "predictions": '
    '[{"model_version": "v1", "score": 0.9, "result": [{"id": "r1", "type": "rectanglelabels", '
    '"original_width": 640, "original_height": 480, "score": 0.87, "value": {"x": 10.5, "y": 20, '
    '"width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}}]}]}]',
    options=(
        Option("model", "the model_version to read, where there are several"),
        IMAGE_OPTION,
        PREFIX_OPTION,
    ),
    sniff=lambda sample: is_export(sample) and bool(_PREDICTED.search(sample.text)),
    open=_open,
)
