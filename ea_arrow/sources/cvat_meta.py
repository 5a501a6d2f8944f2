"""What CVAT's XML says of a task before its labels: classes, and the videos."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology
from ea_arrow.sources.json_values import parse_side
from ea_arrow.sources.xml_files import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from xml.etree.ElementTree import Element

MOST_FRAMES: Final = 5_000_000
"""A video of more frames (at 25 a second, 55 hours) is refused before memory is taken for it."""

_STEP: Final = re.compile(r"step\s*=\s*([1-9]\d{0,5})\b")


class Video(NamedTuple):
    """A task whose frames are data units.

    Attributes:
        task: The task's id, as tracks of a project name it.
        name: File name of the video, or the task's name.
        width: Of a frame, in pixels; None if the file does not say.
        height: Likewise.
        frames: The numbers of its frames.
    """

    task: str | None
    name: str
    width: int | None
    height: int | None
    frames: range


def ontology_of(meta: Element | None, found: Iterable[str]) -> Ontology:
    """Make the classes of the labels that a task declares, in its order and with its colours.

    Args:
        meta: CVAT's ``<meta>``; None if the file has none.
        found: The labels that shapes have, which stand in where none are declared.
    """
    colours: dict[str, str | None] = {}
    for label in () if meta is None else meta.iterfind("./*/labels/label"):
        name = text_of(label.find("name"))
        if name is not None and label.find("parent") is None:  # else a joint of a skeleton
            colours.setdefault(name, text_of(label.find("color")))
    names = list(colours) or sorted(found)
    ontology = Ontology.from_coco([{"id": name, "name": name} for name in names])
    nodes = {node["name"]: node for node in ontology.document["objects"]}
    objects = [
        nodes[name] | ({"color": colour} if (colour := colours.get(name)) else {}) for name in names
    ]
    return Ontology({"objects": objects, "classifications": []})


def videos_of(path: Path, meta: Element) -> list[Video]:
    """The tasks of a file as videos, frame by frame.

    Raises:
        SourceError: A task has more frames than can be.
    """
    names: set[str] = set()
    videos = []
    for task in _tasks(meta):
        key = text_of(task.find("id"))
        name = _text(task, meta, "source") or text_of(task.find("name")) or f"task {key or 0}"
        if name in names:
            name = f"{name} (task {key or len(names)})"
        names.add(name)
        size = task.find("original_size")
        size = size if size is not None else meta.find("original_size")
        width, height = (
            parse_side(text_of(size.find(side))) if size is not None else None
            for side in ("width", "height")
        )
        videos.append(Video(key, name, width, height, _frames(path, task)))
    return videos


def _tasks(meta: Element) -> Iterator[Element]:
    yield from meta.iterfind("./project/tasks/task")
    yield from meta.iterfind("./task")
    yield from meta.iterfind("./job")


def _frames(path: Path, task: Element) -> range:
    """Frames are numbered as in the video, of which a task may have every so many."""
    size = parse_side(text_of(task.find("size"))) or 0
    if size > MOST_FRAMES:
        message = f"{path}: a task has {size:,} frames; expected at most {MOST_FRAMES:,}."
        raise SourceError(message)
    start = parse_side(text_of(task.find("start_frame"))) or 0
    step = _STEP.search(text_of(task.find("frame_filter")) or "")
    by = int(step[1]) if step else 1
    return range(start, start + size * by, by)


def _text(task: Element, meta: Element, tag: str) -> str | None:
    return text_of(task.find(tag)) or text_of(meta.find(tag))
