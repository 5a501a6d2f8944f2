"""What ground truth of one label file per image shares: ids from file names, sizes from images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, clean_text
from ea_arrow.sources.base import Coordinates, GroundTruth
from ea_arrow.sources.images import Images, opened
from ea_arrow.sources.truth import unit_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from ea_arrow.sources.formats import Files, Reading

_SHOWN: Final = 3
HINT: Final = "Give the directory of the images: --images DIR."


def source_ids(paths: Sequence[str]) -> list[str]:
    """Name data units by their label files: the stem where it is unique, else the path.

    Args:
        paths: The files' paths below the root, all different.

    >>> source_ids(["a/1.xml", "b/1.xml", "b/2.xml"])
    ['a/1', 'b/1', '2']
    """
    whole = [path.rpartition(".")[0] or path for path in paths]
    # Two files may differ in nothing but the suffix.
    whole = [name if n == 1 else path for name, path, n in _counted(whole, paths)]
    stems = [name.rpartition("/")[2] for name in whole]
    taken = Counter(stems) + Counter(set(whole) - set(stems))
    return [stem if taken[stem] == 1 else name for stem, name in zip(stems, whole, strict=True)]


class UnitReader(Protocol):
    """Reads files of one data unit each.

    Attributes:
        units: What is known of each data unit, as for ``truth.unit_table``.
        classes: The names of the classes met.
        batches: The labels.
        notes: Counted peculiarities.
    """

    units: list[dict[str, Any]]
    classes: set[str]
    batches: list[pa.RecordBatch]
    notes: Counter[str]

    def read(self, path: Path, name: str, source_id: str) -> None:
        """Read a file.

        Args:
            path: The file.
            name: Its path below the root.
            source_id: What its data unit is called.
        """

    def flush(self) -> None:
        """Make a batch of what is held back."""


def read_each(
    files: Files, paths: Sequence[Path], reader: UnitReader, reading: Reading
) -> GroundTruth:
    """Read ground truth of which every file is a data unit, and classes have only names.

    Args:
        files: What was given.
        paths: The files.
        reader: What reads them.
        reading: ``images`` is used where a file has no size.

    Raises:
        SourceError: A file is not what it should be, or an image's size is unknown.
    """
    names = [clean_text(files.name_of(path)) for path in paths]
    for path, name, source_id in zip(paths, names, source_ids(names), strict=True):
        reader.read(path, name, source_id)
    reader.flush()
    return GroundTruth(
        data_units=sized_units(files.root, reader.units, reading.images),
        ontology=Ontology.from_coco([{"id": n, "name": n} for n in sorted(reader.classes)]),
        labels=iter(reader.batches),
        coordinates=Coordinates(
            relative=bool(reading.relative), unit_key="source_id", class_key="source_id"
        ),
        notes=reader.notes,
    )


def sized_units(where: Path, rows: list[dict[str, Any]], images: Path | Images | None) -> pa.Table:
    """Make data units of rows, the sizes that are missing taken from image files.

    Args:
        where: What was read, for messages.
        rows: As for ``truth.unit_table``; ``width`` and ``height`` are None where they are missing.
        images: The directory of the images; looked into only if a size is missing.

    Raises:
        SourceError: A size is missing and cannot be found.
    """
    missing = [row for row in rows if not (row["width"] and row["height"])]
    if not missing:
        return unit_table(rows)
    if images is None:
        message = f"{where}: {len(missing)} of {len(rows)} data units have no width and height"
        raise SourceError(f"{message}: {_some(missing)}.", hint=HINT)
    directory = opened(images)
    found = [directory.find(row["title"]) or directory.find(row["source_id"]) for row in missing]
    sizes = iter(directory.sizes([path for path in found if path is not None]))
    unknown = []
    for row, path in zip(missing, found, strict=True):
        size = next(sizes) if path is not None else None
        if size is None:
            unknown.append(row)
        else:
            row["width"], row["height"] = size
    if unknown:
        message = (
            f"{where}: {len(unknown)} of {len(rows)} data units have no width and height, nor a "
            f"readable image of their name below {images}: {_some(unknown)}."
        )
        raise SourceError(message, hint="Give the directory with these images: --images DIR.")
    return unit_table(rows)


def _counted(names: list[str], paths: Sequence[str]) -> list[tuple[str, str, int]]:
    number = Counter(names)
    return [(name, path, number[name]) for name, path in zip(names, paths, strict=True)]


def _some(rows: list[dict[str, Any]]) -> str:
    names = ", ".join(str(row["title"]) for row in rows[:_SHOWN])
    return names + (", …" if len(rows) > _SHOWN else "")
