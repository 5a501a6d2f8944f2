"""Labels of whole images as a table: a data unit and its class in each row."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology
from ea_arrow.schema import RAW
from ea_arrow.sources.base import Coordinates, GroundTruth
from ea_arrow.sources.formats import Files, LabelFormat, Option, Reading
from ea_arrow.sources.own_labels import label_units, without_empty
from ea_arrow.sources.own_tables import note_left_out, plan_table, raw_batches
from ea_arrow.sources.table_base import ERRORS
from ea_arrow.sources.table_files import open_table, shape_of
from ea_arrow.sources.table_plan import plan_of
from ea_arrow.sources.table_survey import Survey, names_beside, ontology_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.sources.samples import Sample

_NAME: Final = "class"


def read(files: Files, reading: Reading) -> GroundTruth:
    """Read a table of a data unit and a class in each row.

    The ontology gets one classification with one radio attribute, whose options are the classes.

    Raises:
        SourceError: The file is no such table, or the sizes of data units are not known.
    """
    table = open_table(files.one)
    plan = plan_table(table, reading)
    if plan.unit is None or plan.class_ref is None or plan.has_shape:
        message = f"{files.one} is no table of a data unit and a class; it has "
        message += f"{', '.join(table.names[:20])}."
        raise SourceError(message, hint="See 'ea-arrow formats classification'.")
    notes: Counter[str] = Counter()
    if plan.confidence is not None:
        notes["columns of confidence, left out: labels have none"] += 1
    note_left_out(table, plan, notes, names_beside(table, plan))
    survey = Survey()
    survey.add(table, plan)
    objects, _ = ontology_of(survey, plan, files.root, notes)
    ontology = _classification(objects, reading.options.get("name", _NAME))
    units, unit_key, rename = label_units(files, plan, survey, reading, notes)
    named = {c.source_id or c.feature_hash: c.feature_hash for c in objects.classes}
    raw = raw_batches(table, plan, notes, reading, None)
    batches = (without_empty(batch, notes) for batch in raw)
    return GroundTruth(
        data_units=units,
        ontology=ontology,
        labels=_labels(batches, ontology, named, rename),
        coordinates=Coordinates(relative=False, unit_key=unit_key, class_key="feature_hash"),
        notes=notes,
    )


def _classification(objects: Ontology, name: str) -> Ontology:
    """Classes that were found as the options of one question; hashes stay what they are."""
    question, answers = (
        Ontology.from_coco([{"id": part, "name": name}]).classes[0].feature_hash
        for part in ("classification", "attribute")
    )
    options: list[dict[str, Any]] = [
        {
            "id": str(number),
            "featureNodeHash": found.feature_hash,
            "label": found.name,
            "value": found.name,
        }
        for number, found in enumerate(objects.classes, 1)
    ]
    attribute = {
        "id": "1.1",
        "featureNodeHash": answers,
        "name": name,
        "type": "radio",
        "options": options,
    }
    node = {"id": "1", "featureNodeHash": question, "attributes": [attribute]}
    return Ontology({"objects": [], "classifications": [node]})


def _labels(
    batches: Iterator[pa.RecordBatch],
    ontology: Ontology,
    named: dict[str, str],
    rename: Callable[[pa.Array], pa.Array],
) -> Iterator[pa.RecordBatch]:
    keys = pa.array(list(named), pa.string())
    hashes = pa.array(list(named.values()), pa.string())
    first = ontology.classes[0] if ontology.classes else None
    for batch in batches:
        known = batch.column("class_ref").is_valid()
        found = hashes.take(pc.index_in(batch.column("class_ref"), keys))
        columns = {
            "unit": rename(batch.column("unit")),
            "class_ref": _where(known, first.feature_hash if first else None),
            "attribute_hash": _where(known, first.attribute_hash if first else None),
            "option_hash": found,
            "format": pa.repeat("classification", batch.num_rows),
        }
        arrays = [columns.get(name, batch.column(name)) for name in RAW.names]
        yield pa.RecordBatch.from_arrays(arrays, schema=RAW.arrow)


def _where(known: pa.Array, value: str | None) -> pa.Array:
    return pc.if_else(known, pa.scalar(value, pa.string()), pa.scalar(None, pa.string()))


def _sniff(sample: Sample) -> bool:
    shape = None if sample.is_dir else shape_of(sample)
    if shape is None:
        return False
    try:
        plan = plan_of(shape.names)
    except (SourceError, *ERRORS):
        return False
    found = plan.unit is not None and plan.class_ref is not None
    return found and not plan.has_shape and plan.confidence is None


LABELS: Final = LabelFormat(
    name="classification",
    fixed=True,
    doc="Classes of whole images: a table of data unit and class",
    about="CSV, TSV, lines of JSON, Parquet or Arrow. A column of the data unit (data_hash, "
    "image_id, file_name, …) and one of the class (class, class_name, label, class_index, …). The "
    "project gets one classification, whose options are the classes that occur, in order of name "
    "or number.\n\nThe sizes of data units are columns image_width and image_height, or width and "
    "height, or come from --images, whose images are then the data units.",
    example="file_name,class\na.jpg,sunny\nb.jpg,rain",
    options=(
        Option("unit", "the column that names the data unit"),
        Option("class", "the column that names the class"),
        Option("name", "what the classification is called", default=_NAME),
    ),
    sniff=_sniff,
    read=read,
)
