"""The formats ea-arrow reads, and which of them a file is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.sources import coco, coco_labels, encord
from ea_arrow.sources.coco_results import CocoResults
from ea_arrow.sources.pickles import PickleSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ea_arrow.sources.base import GroundTruth, PredictionSource


@dataclass(frozen=True)
class PredictionFormat:
    """A format of predictions: how to recognise a file of it and how to open one."""

    doc: str
    sniff: Callable[[Path], bool]
    open: Callable[[Path], PredictionSource]


@dataclass(frozen=True)
class LabelFormat:
    """A format of ground truth: how to recognise a file or directory of it and how to read one."""

    doc: str
    sniff: Callable[[Path], bool]
    read: Callable[[Path, Path | None], GroundTruth]


def _sniff_pickle(path: Path) -> bool:
    # Protocols 2 to 5 announce themselves; 0 and 1 begin with the list or tuple.
    with path.open("rb") as file:
        head = file.read(2)
    return head[:1] == b"\x80" or head in (b"(l", b"]q", b"](", b"].", b"(c", b"(t", b").")


def _read_coco_labels(path: Path, ontology: Path | None) -> GroundTruth:
    if ontology is not None:
        raise SourceError(f"{path}: COCO ground truth has its classes in it; leave out {ontology}.")
    return coco_labels.read_ground_truth(path)


PREDICTIONS: Final = {
    "pickle": PredictionFormat(
        "pickled list of Encord Active or ea-arrow Prediction objects", _sniff_pickle, PickleSource
    ),
    "coco": PredictionFormat(
        "COCO results JSON: boxes, RLE masks, polygons", coco.sniff_results, CocoResults
    ),
}
LABELS: Final = {
    "coco": LabelFormat("COCO instances JSON", coco.sniff_ground_truth, _read_coco_labels),
    "encord": LabelFormat(
        "Encord Active project directory, or Encord label rows as JSON",
        encord.sniff_ground_truth,
        encord.read_ground_truth,
    ),
}


def open_predictions(path: Path, name: str | None = None) -> PredictionSource:
    """Open a file of predictions.

    Args:
        path: The file.
        name: Its format; found from its content by default.

    Raises:
        SourceError: There is no such file, or it is of no format known.
    """
    _check_exists(path)
    if name is not None:
        _check_name(name, list(PREDICTIONS))
        return PREDICTIONS[name].open(path)
    if path.is_dir():
        raise SourceError(f"{path}: is a directory; expected a file of predictions.")
    for known in PREDICTIONS.values():
        if known.sniff(path):
            return known.open(path)
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty; expected predictions.")
    hint = f"Known are {_listed(PREDICTIONS)}. If it is one of these, name it with --format."
    if any(known.sniff(path) for known in LABELS.values()):
        hint = f"It looks like ground truth: 'ea-arrow init DIR --labels {path}' makes a project."
    elif coco.read_head(path).startswith((b"\x80", b"(l", b"]q")):
        hint = "It looks like a compressed pickle: unpack it first."
    elif coco.read_head(path).startswith(b"PK\x03\x04"):
        hint = "It is a zip archive, such as torch.save writes. Dump a list of Prediction objects."
    raise SourceError(f"{path}: is not a file of predictions in a known format.", hint=hint)


def read_ground_truth(
    path: Path, name: str | None = None, ontology: Path | None = None
) -> GroundTruth:
    """Read ground truth.

    Args:
        path: The file or directory.
        name: Its format; found from its content by default.
        ontology: The ontology of Encord label rows, where it is a file of its own.

    Raises:
        SourceError: There is no such path, or it is of no format known.
    """
    _check_exists(path)
    if name is not None:
        _check_name(name, list(LABELS))
        return LABELS[name].read(path, ontology)
    for known in LABELS.values():
        if known.sniff(path):
            return known.read(path, ontology)
    hint = f"Known are {_listed(LABELS)}. If it is one of these, name it with --format."
    if not path.is_dir() and any(known.sniff(path) for known in PREDICTIONS.values()):
        hint = "It looks like predictions: make a project from ground truth first, then import it."
    raise SourceError(f"{path}: is not ground truth in a known format.", hint=hint)


def _check_exists(path: Path) -> None:
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*")][:1000])
        raise SourceError(f"{path}: no such file or directory.", hint=near)


def _check_name(name: str, known: list[str]) -> None:
    if name not in known:
        raise SourceError(f"Format '{name}' is not one of {', '.join(known)}.")


def _listed(formats: dict[str, PredictionFormat] | dict[str, LabelFormat]) -> str:
    return "; ".join(f"{name} ({known.doc})" for name, known in formats.items())
