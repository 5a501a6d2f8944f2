"""Encord ground truth: Encord Active projects on disk and label rows from the Encord SDK."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, cut
from ea_arrow.schema import DATA_UNITS
from ea_arrow.sources.base import Coordinates, GroundTruth, batches_of
from ea_arrow.sources.encord_project import DATABASE, META, ONTOLOGY, LabelRow, ProjectDirectory
from ea_arrow.sources.encord_rows import LabelParser, Unit, units
from ea_arrow.sources.formats import Files, LabelFormat, Reading
from ea_arrow.sources.json_files import read_json
from ea_arrow.sources.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

COORDINATES = Coordinates(relative=True, unit_key="data_hash", class_key="feature_hash", reach=0)

EXPECTED = "Encord label rows: JSON with a label row, a list of them, or {ontology, label_rows}"
_MARKS = (b'"label_rows"',), (b'"data_units"',), (b'"label_hash"', b'"data_hash"')
_WRAPPED = b'"ontology"', b'"featureNodeHash"'
"""What a file of label rows has in its head: all of one of these; or it begins with an ontology."""
_SHOWN = 5


def sniff_ground_truth(sample: Sample) -> bool:
    """Whether a path looks like an Encord Active project or a file of label rows."""
    path = sample.path
    if sample.is_dir:
        return any((path / name).is_file() for name in (DATABASE, META)) or (
            (path / ONTOLOGY).is_file() and (path / "data").is_dir()
        )
    head = sample.head
    if not head.startswith((b"{", b"[")):
        return False
    wrapped = head[1:].lstrip().startswith(_WRAPPED[0]) and _WRAPPED[1] in head
    return wrapped or any(all(mark in head for mark in marks) for marks in _MARKS)


def read_ground_truth(path: Path | str, ontology: Path | str | None = None) -> GroundTruth:
    """Read an Encord Active project directory, or a JSON file of label rows (``.gz`` too).

    Args:
        path: The directory or file.
        ontology: The ontology's JSON file; by default the one in the document, else
            ``ontology.json`` in the directory or beside the file.

    Returns:
        The ground truth. Its notes are complete when its labels have been read to the end.

    Raises:
        SourceError: It is neither, has no ontology, or the sizes of data units are unknown.
    """
    path = Path(path)
    if path.name == DATABASE and path.is_file():
        path = path.parent
    if path.is_dir():
        _check_directory(path)
        project = ProjectDirectory(path)
        classes = read_ontology(Path(ontology) if ontology else path / ONTOLOGY)

        def label_rows() -> Iterator[LabelRow]:
            yield from project.label_rows()
            if project.without_labels:
                truth.notes["label rows without labels, neither stored nor on disk"] = len(
                    project.without_labels
                )

        truth = _ground_truth(path, classes, project.units(), label_rows)
        return truth
    document = read_json(path, EXPECTED)
    listed = label_rows_of(path, document)
    if ontology is None and isinstance(document, dict) and "ontology" in document:
        classes = _wrapped(path, document["ontology"])
    else:
        classes = read_ontology(Path(ontology) if ontology else path.with_name(ONTOLOGY))
    found = (unit for row in listed for unit in units(row.document, row.where))
    return _ground_truth(path, classes, found, lambda: listed)


def _check_directory(path: Path) -> None:
    if not sniff_ground_truth(Sample(path)):
        message = (
            f"{path} is not an Encord Active project: it has no {DATABASE}, no {META}, nor "
            f"{ONTOLOGY} with a directory data."
        )
        raise SourceError(message, hint="Give the directory of one project.")


def _ground_truth(
    path: Path,
    ontology: Ontology,
    found: Iterable[Unit],
    label_rows: Callable[[], Iterable[LabelRow]],
) -> GroundTruth:
    distinct: dict[tuple[str, int], Unit] = {}
    repeated = 0
    for unit in found:
        first = distinct.setdefault((unit.data_hash, unit.frame), unit)
        repeated += first is not unit
    listed = list(distinct.values())
    _check_sizes(path, listed)
    sizes = {unit.data_hash: (unit.width, unit.height) for unit in listed}
    parser = LabelParser(ontology, sizes)
    parser.notes.update(ontology.notes)
    if repeated:
        parser.notes["data units listed more than once"] = repeated
    return GroundTruth(
        data_units=_data_units(listed),
        ontology=ontology,
        labels=_labels(label_rows, parser),
        coordinates=COORDINATES,
        notes=parser.notes,
    )


def _labels(
    label_rows: Callable[[], Iterable[LabelRow]], parser: LabelParser
) -> Iterator[pa.RecordBatch]:
    return batches_of(
        row
        for label_row in label_rows()
        for row in parser.rows(label_row.document, label_row.where)
    )


def label_rows_of(path: Path, document: object) -> list[LabelRow]:
    """Return the label rows of a document: a single one, a list, or an object with ``label_rows``.

    Args:
        path: The file, for error messages.
        document: What it holds.

    Raises:
        SourceError: It is none of these.
    """
    if isinstance(document, dict) and "label_rows" in document:
        rows = document["label_rows"]
    else:
        rows = [document] if isinstance(document, dict) else document
    if not isinstance(rows, list):
        message = f"{path} holds {cut(rows)}; expected {EXPECTED}."
        raise SourceError(message, hint="`ea-arrow init --help` says what can be read.")
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or "data_units" not in row:
            message = f"{path}: label row {index} is {cut(row)}; expected {EXPECTED}."
            hint = "Write the label rows with the Encord SDK's LabelRowV2.to_encord_dict()."
            raise SourceError(message, hint=hint)
    return [LabelRow(f"{path}: label row {index}", row) for index, row in enumerate(rows)]


def read_ontology(path: Path) -> Ontology:
    """Read an Encord ontology from its JSON file.

    Raises:
        SourceError: There is none, or it is not one.
    """
    if not path.is_file():
        message = f"There is no ontology at {path}; labels name their classes by its hashes."
        hint = f"Put the project's {ONTOLOGY} there, or give its path."
        raise SourceError(message, hint=hint)
    return _wrapped(path, read_json(path, "an Encord ontology"))


def _wrapped(path: Path, document: object) -> Ontology:
    try:
        return Ontology.from_encord(document)
    except SourceError as error:
        message = f"{path}: {error.message}"
        raise SourceError(message, hint=error.hint) from error


def _check_sizes(path: Path, listed: list[Unit]) -> None:
    unknown = [unit.data_hash for unit in listed if not unit.width]
    if not unknown:
        return
    names = list(dict.fromkeys(unknown))
    message = (
        f"{path}: {len(unknown)} of {len(listed)} data units have no width and height. Data "
        f"hashes: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}."
    )
    hint = (
        "Give sizes: export the label rows with a current Encord SDK, or add 'width' and "
        "'height', in pixels, to these data units."
    )
    raise SourceError(message, hint=hint)


def _data_units(listed: list[Unit]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        name: [getattr(unit, name) for unit in listed] for name in Unit._fields
    }
    columns["unit_id"] = list(range(len(listed)))
    schema = DATA_UNITS.arrow
    empty = [None] * len(listed)
    arrays = [pa.array(columns.get(field.name, empty), type=field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _read(files: Files, reading: Reading) -> GroundTruth:
    return read_ground_truth(files.paths[0], reading.ontology)


LABELS: Final = LabelFormat(
    name="encord",
    fixed=True,
    doc="Encord Active project directory, or Encord label rows as JSON",
    about="A project directory (project_meta.yaml or prisma.db), or the JSON of label rows as the "
    "Encord SDK writes them, with ontology.json beside.",
    example='{"label_hash": "…", "data_title": "a.jpg", "data_units": {"…": {"width": 640, '
    '"height": 480, "labels": {"objects": [], "classifications": []}}}}',
    sniff=sniff_ground_truth,
    read=_read,
)
