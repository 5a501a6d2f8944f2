"""Label Studio's JSON export: its tasks, the names and sizes of their images, and their results."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text, cut, id_text
from ea_arrow.sources.formats import Option, Reading
from ea_arrow.sources.images import SUFFIXES, opened
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.label_studio_values import (
    Size,
    image_name,
    is_labelled,
    size_of,
    without_prefix,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.sources.json_records import Row
    from ea_arrow.sources.samples import Sample

_EXPECTED: Final = "Label Studio's JSON export: a list of tasks with data, annotations, predictions"
_HINT: Final = "Export the project as JSON, not JSON-MIN or CSV."
_TASK: Final = re.compile(r'"data"\s*:\s*\{')
_LISTS: Final = ("annotations", "completions", "predictions")

_PREFIXED: Final = (
    "image names that begin with 8 hexadecimal digits, as uploading adds them; "
    "--option prefix=strip leaves these out"
)
_TWICE: Final = "regions given twice, with and without their label, read once"
_RELATIONS: Final = "relations between regions, left out"

IMAGE_OPTION: Final = Option("image", "the key of data that has the image's URL or path")
PREFIX_OPTION: Final = Option(
    "prefix", "what to do with eight hexadecimal digits before names", ("keep", "strip"), "keep"
)


class Task(NamedTuple):
    """A task with its place for messages and the name of its image."""

    where: str
    unit: str | None
    record: Row


class Document:
    """The tasks of an export.

    Args:
        path: The file.
        reading: What the caller knows: the directory of the images, and the options.

    Attributes:
        path: The file.
        notes: Counted peculiarities.
        tasks: The tasks, in the order of the file.
        images: The images, where their directory is known.

    Raises:
        SourceError: It is not an export, or no key of ``data`` names the images.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path = path
        self.notes: Counter[str] = Counter()
        records = read_json(path, _EXPECTED)
        records = [records] if isinstance(records, dict) else records
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            message = f"{path} holds {cut(records)}; expected {_EXPECTED}."
            raise SourceError(message, hint=_HINT)
        key = _image_key(path, records, reading.options.get("image"))
        strip = reading.options.get("prefix") == "strip"
        self.tasks = [
            Task(f"task {index}", self._name(record, key, strip=strip), record)
            for index, record in enumerate(records)
        ]
        self.images = opened(reading.images) if reading.images is not None else None

    def _name(self, record: Row, key: str, *, strip: bool) -> str | None:
        data = record.get("data")
        url = data.get(key) if isinstance(data, dict) else None
        if not isinstance(url, str) or not url:
            return None
        name = image_name(url)
        short = without_prefix(name)
        if short != name and not strip:
            self.notes[_PREFIXED] += 1
        return (short if strip else name) or None

    def entries(self, task: Task, *keys: str) -> list[Row]:
        """The annotations or predictions of a task.

        Raises:
            SourceError: They are not a list of objects.
        """
        found: Any = next((task.record[key] for key in keys if task.record.get(key)), [])
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            message = f"{self.path}: {keys[0]} of {task.where} is {cut(found)}; expected objects."
            raise SourceError(message, hint=_HINT)
        return found

    def results(self, task: Task, entry: Row) -> list[Any]:
        """The results of an annotation or prediction that say something of their own."""
        results = entry.get("result")
        if results is None:
            return []
        if not isinstance(results, list):
            message = f"{self.path}: a result of {task.where} is {cut(results)}; expected a list."
            raise SourceError(message, hint=_HINT)
        labelled = {
            id_text(r.get("id")) for r in results if isinstance(r, dict) and is_labelled(r)
        } - {None}
        kept = []
        for result in results:
            kind = result.get("type") if isinstance(result, dict) else None
            if kind == "relation":
                self.notes[_RELATIONS] += 1
            elif (
                kind in ("rectangle", "polygon", "brush") and id_text(result.get("id")) in labelled
            ):
                self.notes[_TWICE] += 1
            else:
                kept.append(result)
        return kept

    def sizes(self) -> list[Size | None]:
        """The size of each task's image, as any of its results says, else of the image itself."""
        sizes = [self._said(task) for task in self.tasks]
        if self.images is None:
            return sizes
        found = {
            index: path
            for index, (task, size) in enumerate(zip(self.tasks, sizes, strict=True))
            if size is None and task.unit and (path := self.images.find(task.unit))
        }
        read = self.images.sizes(list(found.values()))
        for index, size in zip(found, read, strict=True):
            sizes[index] = size
        return sizes

    def _said(self, task: Task) -> Size | None:
        for key in _LISTS:
            for entry in self.entries(task, key):
                for result in results_in(entry):
                    size = size_of(result) if isinstance(result, dict) else None
                    if size is not None:
                        return size
        return None


def results_in(entry: Row) -> list[Any]:
    """The results of an annotation or prediction; none if they are not a list."""
    results = entry.get("result")
    return results if isinstance(results, list) else []


def _image_key(path: Path, records: list[Row], given: str | None) -> str:
    """The key of ``data`` that has the image."""
    data = [record["data"] for record in records if isinstance(record.get("data"), dict)]
    known: list[str] = list(dict.fromkeys(key for values in data for key in values))
    wanted: str = given or "image"
    if wanted in known or not known:
        return wanted
    found: list[str] = []
    if given is None:
        found = [key for key in known if any(_is_image(values.get(key)) for values in data)]
    if len(found) == 1:
        return found[0]
    named = clean_text(", ".join(known))[:200]
    message = f"{path}: the tasks' data has no '{wanted}'; it has {named}."
    raise SourceError(message, hint="Name the key of the image: --option image=KEY.")


def _is_image(value: object) -> bool:
    return isinstance(value, str) and image_name(value).lower().endswith(SUFFIXES)


def is_export(sample: Sample) -> bool:
    """Whether a file looks like an export of tasks that have results."""
    if not sample.head.startswith((b"[", b"{")) or "result" not in sample.keys:
        return False
    return _TASK.search(sample.text) is not None


ABOUT: Final = (
    "A list of tasks: data names the image, {which} has results. Coordinates are percent, 0 to "
    "100, of the image's width and height; with original_width and original_height, which results "
    "carry, they become pixels. Boxes (rectanglelabels), polygons (polygonlabels) and brushes "
    "(brushlabels, Label Studio's own run-length code, of which the alpha channel counts) are "
    "read; ellipses, key points, lines and videos are refused one by one. Label Studio turns a box "
    "about its top left corner; it is stored as the same box turned about its centre.\n\n"
    "Classes go by the label's name, images by the file name at the end of the URL or path. "
    "Uploading puts eight hexadecimal digits before a file's name (a1b2c3d4-cat.jpg): a note says "
    "so, and --option prefix=strip leaves them out.\n\n"
)
