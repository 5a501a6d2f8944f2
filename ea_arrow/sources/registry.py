"""The formats ea-arrow reads, and which of them a file is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.sources import (
    classification_labels,
    classification_tables,
    coco_labels,
    coco_results,
    cvat,
    darknet,
    encord,
    encord_predictions,
    fiftyone,
    huggingface,
    kitti,
    kitti_labels,
    label_studio,
    label_studio_labels,
    labelme,
    mask_png,
    mmdetection,
    mot,
    mot_labels,
    open_images,
    own_labels,
    own_tables,
    pickles,
    supervision_csv,
    supervision_json,
    voc_labels,
    voc_text,
    yolo,
    yolo_labels,
)
from ea_arrow.sources.formats import Files, Format, LabelFormat, PredictionFormat, Reading
from ea_arrow.sources.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ea_arrow.sources.base import GroundTruth, PredictionSource

PREDICTIONS: Final[Mapping[str, PredictionFormat]] = {
    module.PREDICTIONS.name: module.PREDICTIONS
    for module in (
        *(pickles, coco_results, yolo, darknet, kitti, voc_text, mask_png, encord_predictions),
        *(own_tables, classification_tables, open_images, mot, supervision_csv, supervision_json),
        *(huggingface, mmdetection, label_studio, fiftyone),
    )
}
LABELS: Final[Mapping[str, LabelFormat]] = {
    module.LABELS.name: module.LABELS
    for module in (
        *(coco_labels, encord, yolo_labels, kitti_labels, voc_labels, cvat, labelme, mask_png),
        *(
            own_labels,
            classification_labels,
            open_images,
            mot_labels,
            label_studio_labels,
            fiftyone,
        ),
    )
}

_Format = TypeVar("_Format", bound=Format)


_MOST_INSIDE: Final = 20
"""How many files of a directory that is of no format are looked at, for a hint."""


def open_predictions(
    paths: Sequence[Path], name: str | None = None, reading: Reading | None = None
) -> Iterator[tuple[PredictionFormat, Files, PredictionSource]]:
    """Open files of predictions, in the order given.

    Files that follow each other in one directory and are of a format that is made of many files
    are one source.

    Args:
        paths: The files and directories.
        name: Their format; found from their content by default.
        reading: What the caller knows about them.

    Yields:
        Each source, with its format and its files.

    Raises:
        SourceError: There is no such file, it is of no format known, or of several.
    """
    check_paths(paths)
    reading = reading or Reading()
    rest = list(paths)
    while rest:
        first = rest.pop(0)
        found = _named(PREDICTIONS, name) if name is not None else _detect_predictions(first)
        files = Files(first, (first,))
        if found.many and first.is_file():
            alike = [p for p in rest if p.suffix == first.suffix and p.parent == first.parent]
            together = {first, *alike}
            if alike:
                files = Files(first.parent, tuple(sorted(together)))
            rest = [p for p in rest if p not in together]
        found.check_reading(reading)
        source = found.open(files, reading)
        _check_one_based(first, reading, relative=source.coordinates.relative)
        yield found, files, source


def check_paths(paths: Sequence[Path]) -> None:
    """Check files that are given together, before one of them is opened.

    Args:
        paths: The files and directories.

    Raises:
        SourceError: There is no such file, it is a pipe, or its rows would be read twice.
    """
    seen: dict[tuple[int, int], Path] = {}
    folders: set[str] = set()
    for path in paths:
        found = _check_exists(path)
        key = found.st_dev, found.st_ino
        if key in seen:
            first = seen[key]
            raise _twice(
                path, "is given twice" if first == path else f"is the same file as {first}"
            )
        seen[key] = path
        if stat.S_ISDIR(found.st_mode):
            folders.add(os.path.realpath(path))
    for path in paths if folders else ():
        above = next(
            (str(p) for p in Path(os.path.realpath(path)).parents if str(p) in folders), ""
        )
        if above:
            raise _twice(path, f"lies in {above}, which is given too")


def _twice(path: Path, why: str) -> SourceError:
    return SourceError(f"{path}: {why}; nothing was read.", hint="Give each file once.")


def read_ground_truth(
    path: Path, name: str | None = None, reading: Reading | None = None
) -> GroundTruth:
    """Read ground truth.

    Args:
        path: The file or directory.
        name: Its format; found from its content by default.
        reading: What the caller knows about it.

    Raises:
        SourceError: There is no such path, or it is of no format known, or of several.
    """
    _check_exists(path)
    reading = reading or Reading()
    found = _named(LABELS, name) if name is not None else _detect_labels(path)
    found.check_reading(reading)
    truth = found.read(Files(path, (path,)), reading)
    _check_one_based(path, reading, relative=truth.coordinates.relative)
    return truth


def _check_one_based(path: Path, reading: Reading, *, relative: bool) -> None:
    if reading.one_based and relative:
        raise SourceError(
            f"{path}: its coordinates are fractions, and --one-based is of pixels.",
            hint="Leave it out, or say --pixels if they are.",
        )


def _detect_predictions(path: Path) -> PredictionFormat:
    sample = Sample(path)
    fitting = [known for known in PREDICTIONS.values() if known.sniff(sample)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise _ambiguous(path, fitting)
    if not sample.is_dir and path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty; expected predictions.")
    hint = "See 'ea-arrow formats' for what can be read. If it is one of these, give --format."
    inside = _inside(sample, PREDICTIONS)
    if inside:
        hint = inside
    elif any(known.sniff(sample) for known in LABELS.values()):
        hint = f"It looks like ground truth: 'ea-arrow init DIR --labels {path}' makes a project."
    elif sample.head.startswith((b"\x80", b"(l", b"]q")):
        hint = "It looks like a compressed pickle: unpack it first."
    elif sample.head.startswith(b"PK\x03\x04"):
        hint = "It is a zip archive, such as torch.save writes. Dump a list of Prediction objects."
    what = "a directory" if sample.is_dir else "a file"
    raise SourceError(f"{path}: is not {what} of predictions in a known format.", hint=hint)


def _detect_labels(path: Path) -> LabelFormat:
    sample = Sample(path)
    fitting = [known for known in LABELS.values() if known.sniff(sample)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise _ambiguous(path, fitting)
    hint = "See 'ea-arrow formats' for what can be read. If it is one of these, give --format."
    inside = _inside(sample, LABELS)
    if inside:
        hint = inside
    elif any(known.sniff(sample) for known in PREDICTIONS.values()):
        hint = "It looks like predictions: make a project from ground truth first, then import it."
    raise SourceError(f"{path}: is not ground truth in a known format.", hint=hint)


def _inside(sample: Sample, formats: Mapping[str, _Format]) -> str | None:
    """What to do with a directory that is of no format itself, but holds files that are."""
    found = [
        path
        for path in sample.files[:_MOST_INSIDE]
        if path.is_file() and any(known.sniff(Sample(path)) for known in formats.values())
    ]
    if not found:
        return None
    which = "the file" if len(found) == 1 else "one of the files"
    return f"Name {which} inside: {', '.join(map(str, found))}."


def _ambiguous(path: Path, fitting: Sequence[Format]) -> SourceError:
    named = "; ".join(f"{known.name} ({known.doc})" for known in fitting)
    options = " or ".join(f"--format {known.name}" for known in fitting)
    return SourceError(
        f"{path}: could be of {len(fitting)} formats: {named}.",
        hint=f"Name the right one: {options}. 'ea-arrow formats NAME' tells more.",
    )


def _named(known: Mapping[str, _Format], name: str) -> _Format:
    if name not in known:
        near = did_you_mean(name, known)
        hint = f"{near} See 'ea-arrow formats'." if near else "See 'ea-arrow formats'."
        raise SourceError(f"Format '{name}' is not one of {', '.join(known)}.", hint=hint)
    return known[name]


def _check_exists(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        near = None
        if path.parent.is_dir():
            near = did_you_mean(path.name, [p.name for p in path.parent.glob("*")][:1000])
        raise SourceError(f"{path}: no such file or directory.", hint=near) from error
    except OSError as error:  # a name that is too long, or links in a circle
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        # It would be waited for, or read more than once.
        message = f"{path}: is a pipe or device; expected a file or a directory."
        raise SourceError(message, hint="Write what it gives to a file first.")
    return found
