"""CSV files of supervision's ``CSVSink``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.schema import RAW
from ea_arrow.sources.base import Coordinates
from ea_arrow.sources.formats import Files, Option, PredictionFormat, Reading
from ea_arrow.sources.own_tables import raw_batches
from ea_arrow.sources.table_base import ERRORS
from ea_arrow.sources.table_files import open_table, shape_of
from ea_arrow.sources.table_plan import UNITS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ea_arrow.sources.base import UnitKey
    from ea_arrow.sources.samples import Sample

COLUMNS: Final = ("x_min", "y_min", "x_max", "y_max", "class_id", "confidence", "tracker_id")
_UNITS: Final[dict[str, UnitKey]] = {
    **dict.fromkeys(("file_name", "image_name"), "title"),
    "image_id": "source_id",
    **dict.fromkeys(("image", "source_name"), "title"),
    "data_hash": "data_hash",
}


class SupervisionCsv:
    """What a ``CSVSink`` wrote, opened: a source of predictions.

    Args:
        files: The file.
        reading: What the caller knows about it.

    Attributes:
        path: The file.
        coordinates: Pixels; classes by name where a column class_name has it, else by index.
        notes: Counted peculiarities.

    Raises:
        SourceError: A column is missing, or none names the data unit.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        self.path = files.one
        self.notes: Counter[str] = Counter()
        self._table, self._reading = open_table(self.path), reading
        names = self._table.names
        if lacking := [name for name in COLUMNS if name not in names]:
            message = f"{self.path} has no column {', '.join(lacking)}; it has {', '.join(names)}."
            raise SourceError(message, hint="See 'ea-arrow formats supervision'.")
        self._name = reading.options.get("name")
        unit, unit_key = self._unit(names)
        frame = self._column(names, "frame")
        class_ref = self._column(names, "class") or next(
            name for name in ("class_name", "class_id") if name in names
        )
        others = {"track_id": "tracker_id"} | ({"frame": frame} if frame else {})
        used = {*COLUMNS, unit, class_ref, frame}
        left = tuple(name for name in names if name not in used)
        if left:
            self.notes[f"columns of no known meaning, left out: {', '.join(left)}"] += len(left)
        relative = bool(reading.relative)
        self._plan = Plan(
            unit=unit,
            unit_key=unit_key,
            class_ref=class_ref,
            class_key="index" if class_ref == "class_id" else "name",
            box=COLUMNS[:4],
            layout=reading.box or "xyxy",
            others=others,
            confidence="confidence",
            size=None,
            relative=relative,
            left_out=left,
        )
        self.coordinates = Coordinates(relative, unit_key, self._plan.class_key)

    def _column(self, names: list[str], option: str) -> str | None:
        found = self._reading.options.get(option)
        if found is not None and found not in names:
            message = f"{self.path} has no column '{found}'; it has {', '.join(names)}."
            raise SourceError(message, hint=did_you_mean(found, names))
        return found

    def _unit(self, names: list[str]) -> tuple[str | None, UnitKey]:
        """The column that names the data unit, and how; none if the caller names it."""
        chosen = self._column(names, "unit")
        if self._name is not None and chosen is None:
            return None, "title"
        found = chosen or next((name for name in _UNITS if name in names), None)
        if found is None:
            message = f"{self.path} does not say which image each row is of; it has the columns "
            raise SourceError(
                f"{message}{', '.join(names)}.",
                hint="Name one: --option unit=COLUMN; or a video: --option name=NAME. supervision "
                "writes one with custom_data={'file_name': …}.",
            )
        return found, (_UNITS | dict(UNITS)).get(found, "title")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema, in file order."""
        place = RAW.names.index("unit")
        for batch in raw_batches(self._table, self._plan, self.notes, self._reading, None):
            if self._plan.unit is None:
                named = pa.array([self._name] * batch.num_rows, pa.string())
                yield batch.set_column(place, RAW.arrow.field(place), named)
            else:
                yield batch


def _sniff(sample: Sample) -> bool:
    try:
        shape = None if sample.is_dir else shape_of(sample)
    except (SourceError, *ERRORS):
        return False
    return shape is not None and shape.kind == "csv" and set(COLUMNS) <= set(shape.names)


PREDICTIONS: Final = PredictionFormat(
    name="supervision",
    box="xyxy",
    doc="CSV of supervision's CSVSink",
    about="The columns x_min, y_min, x_max, y_max (corners in pixels), class_id, confidence and "
    "tracker_id, and whatever the detections' data and custom_data had. CSVSink does not say "
    "which image a row is of: that is the column of option unit, else the first of file_name, "
    "image_name, image_id, image, source_name and data_hash that is there. Of a video, name "
    "it by option name and the column of its frames, from 0, by option frame.\n\n"
    "The class is class_name where that is a column, as Ultralytics' models give it, else "
    "class_id, the index in the model's own list. Images without detections do not occur in "
    "such a file.",
    example="x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,file_name\n"
    "10.5,20.0,110.25,220.0,2,0.87,,car,000042.jpg",
    options=(
        Option("unit", "the column that names the data unit"),
        Option("name", "the data unit that all rows are of, as a video is"),
        Option("frame", "the column of frames, from 0"),
        Option("class", "the column that names the class"),
    ),
    sniff=_sniff,
    open=SupervisionCsv,
)
