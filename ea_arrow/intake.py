"""Where predictions come in, one at a time or in batches, and leave as conforming rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ea_arrow.errors import PredictionError
from ea_arrow.given_classes import ClassNames
from ea_arrow.given_columns import Common, length_of, parts_of, raw_batch
from ea_arrow.given_rows import Given, Rows, plain, shape_of
from ea_arrow.lookup import UnitIndex
from ea_arrow.pipeline import Pipeline
from ea_arrow.sources.base import Coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ea_arrow.normalise import Normalised
    from ea_arrow.store import Store

BATCH_ROWS: Final = 32_768
"""Rows that are joined and checked together."""

BATCH_BYTES: Final = 1 << 22
"""Or fewer, with so many bytes of masks and polygons: checks take tens of times their size."""

RELATIVE: Final = Coordinates(
    relative=True, unit_key="data_hash", class_key="feature_hash", reach=0
)


class Intake:
    """Takes predictions and hands each batch that is done to ``done``, in order of arrival.

    Args:
        store: The project.
        custom_object_map: The model's classes, see :meth:`ClassNames.mapping`.
        done: Called with each batch.
        first_id: ``prediction_id`` of the first row kept.
    """

    def __init__(
        self,
        store: Store,
        custom_object_map: Mapping[Any, Any] | None,
        done: Callable[[Normalised], None],
        first_id: int = 0,
    ) -> None:
        self.classes = ClassNames(store.classes())
        self.custom = self.classes.mapping(custom_object_map)
        self.pipeline = Pipeline(store.data_units(), store.classes(), store.folder, first_id)
        self.rows = Rows()
        self.given = 0
        self.failed: BaseException | None = None  # rows were lost by it
        self._known: tuple[Any, dict[str, str]] | None = None
        self.empty_units: set[tuple[str, int]] = set()
        self._done = done
        self._parts: list[pa.RecordBatch] = []
        self._coordinates = RELATIVE
        self._part_rows = 0
        self._part_bytes = 0

    # -- one at a time -------------------------------------------------------------------------

    def add(self, prediction: Any) -> None:
        """Take an object like :class:`ea_arrow.Prediction`."""
        found = getattr(prediction, "object", None)
        flat = {
            name: getattr(prediction, name, None) for name in ("data_hash", "frame", "confidence")
        }
        answer = getattr(prediction, "classification", None)
        if (found is None) == (answer is None):
            has = "neither" if found is None else "both"
            message = f"A prediction has exactly one of object and classification; this one {has}."
            self.rows.add(flat | {"unreadable": ("not_a_prediction", message)})
            return
        if found is None:
            names = ("feature_hash", "attribute_hash", "option_hash")
            self.rows.add(flat | {name: getattr(answer, name, None) for name in names})
            return
        flat["feature_hash"] = self.class_of(getattr(found, "feature_hash", None))
        flat["track_id"] = getattr(found, "track_id", None)
        form, data = getattr(found, "format", None), getattr(found, "data", None)
        flat["format"] = getattr(form, "value", form)
        if flat["format"] == "bounding-box":
            data = _box(data)
        elif hasattr(data, "__array__"):
            data = Given(values=np.array(data) if flat["format"] == "polygon" else np.asarray(data))
        self.rows.add(flat | {"data": data})

    def add_fields(
        self, data_hash: Any, class_uid: Any, confidence: Any, bbox: Any, polygon: Any, frame: Any
    ) -> None:
        """Take the fields of a prediction with a box, a polygon or a mask.

        Raises:
            PredictionError: Not exactly one of ``bbox`` and ``polygon`` is given.
        """
        if (bbox is None) == (polygon is None):
            found = "neither" if bbox is None else "both"
            message = f"expected exactly one of bbox and polygon; found {found}."
            raise PredictionError(message)
        flat = {
            **{"data_hash": data_hash, "confidence": confidence, "frame": frame},
            "feature_hash": self.class_of(class_uid),
        }
        if polygon is None:
            self.rows.add(flat | {"format": "bounding-box", "data": _box(bbox)})
            return
        try:
            form, data = shape_of(polygon, lambda: self.size_of(data_hash, frame))
        except PredictionError as error:
            form, data = "polygon", None
            flat["unreadable"] = "invalid_polygon", error.message
        self.rows.add(flat | {"format": form, "data": data})

    def class_of(self, name: Any) -> Any:
        """The project's class for the model's."""
        name = plain(name)
        if not self.custom:
            return name
        return self.custom.get(name if isinstance(name, str) else str(name), name)

    def size_of(self, data_hash: Any, frame: Any) -> tuple[int, int] | None:
        """Height and width of a data unit; None if it is not known."""
        number = plain(frame) or 0
        if not isinstance(data_hash, str) or not isinstance(number, int):
            return None
        row = int(self._units.find(pa.array([data_hash]), np.array([number]))[0])
        return None if row < 0 else (int(self._units.height[row]), int(self._units.width[row]))

    @cached_property
    def _units(self) -> UnitIndex:
        return UnitIndex(self.pipeline.data_units, "data_hash")

    # -- batches -------------------------------------------------------------------------------

    def add_batch(
        self,
        output: Any,
        data_hash: Any,
        frame: Any,
        classes: Mapping[Any, Any] | Sequence[Any] | None,
        *,
        relative: bool,
    ) -> None:
        """Take columns or a framework's output, or a list of outputs with a list of units."""
        if isinstance(output, list | tuple):
            self._add_outputs(output, data_hash, frame, classes, relative=relative)
            return
        mapping = self.custom if classes is None else self._mapping(classes)
        common = Common(self.classes, mapping, data_hash, frame, relative)
        self.flush_rows()
        for part in parts_of(output):
            self._check_size(part, data_hash, frame)
            if length_of(part) == 0:
                self._note_empty(data_hash, frame)
                continue
            self._collect(*raw_batch(part, common, self.given))

    def _note_empty(self, data_hash: Any, frame: Any) -> None:
        """Remember a data unit in which nothing was found."""
        if isinstance(data_hash, str):
            self.empty_units.add((data_hash, plain(frame) or 0))

    def _add_outputs(
        self,
        outputs: Sequence[Any],
        units: Any,
        frames: Any,
        classes: Mapping[Any, Any] | Sequence[Any] | None,
        *,
        relative: bool,
    ) -> None:
        if isinstance(units, str) or not hasattr(units, "__len__") or len(units) != len(outputs):
            raise PredictionError(
                f"A list of {len(outputs)} outputs needs a list of as many data units.",
                hint="Give data_hash=[…], one for each output.",
            )
        single = frames is None or isinstance(frames, int)
        for number, (output, unit) in enumerate(zip(outputs, units, strict=True)):
            frame = frames if single else frames[number]
            self.add_batch(output, unit, frame, classes, relative=relative)

    def _mapping(self, classes: Mapping[Any, Any] | Sequence[Any]) -> dict[str, str]:
        """The mapping of classes; a loop gives the same ones again and again."""
        if self._known is None or self._known[0] != classes:
            self._known = copy.copy(classes), self.classes.checked(classes)
        return self._known[1]

    def _check_size(self, part: Mapping[str, Any], data_hash: Any, frame: Any) -> None:
        """Refuse coordinates in the pixels of another image, as of one that was resized.

        Raises:
            PredictionError: The output says its image's size, and the data unit has another.
        """
        told = part.get("height"), part.get("width")
        if not all(isinstance(side, int) for side in told):
            return
        size = self.size_of(data_hash, frame)
        if size is not None and size != told:
            raise PredictionError(
                f"The output is of an image of {told[0]} × {told[1]} pixels (height × width); data "
                f"unit '{data_hash}' is {size[0]} × {size[1]}.",
                hint="Scale the output to the original image before it is written.",
            )

    def flush_rows(self) -> None:
        """Turn the rows that came one at a time into a batch."""
        if self.rows.values:
            self._collect(self.rows.flush(self.given), RELATIVE)

    def _collect(self, raw: pa.RecordBatch, coordinates: Coordinates) -> None:
        """Gather small batches, and cut large ones."""
        if coordinates != self._coordinates:
            self._put()
            self._coordinates = coordinates
        self.given += raw.num_rows
        large = any(raw.column(n).null_count < raw.num_rows for n in ("mask", "polygon"))
        step = BATCH_ROWS
        if large:
            step = min(max(raw.num_rows * BATCH_BYTES // max(raw.nbytes, 1), 1), BATCH_ROWS)
        for start in range(0, raw.num_rows, step):
            part = raw.slice(start, step)
            self._parts.append(part)
            self._part_rows += part.num_rows
            self._part_bytes += part.nbytes if large else 0
            if self._part_rows >= BATCH_ROWS or self._part_bytes >= BATCH_BYTES:
                self._put()

    def _put(self) -> None:
        if not self._parts:
            return
        parts, self._parts = self._parts, []
        self._part_rows = self._part_bytes = 0
        whole = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        self.pipeline.put(whole, self._coordinates)
        self._hand_over(all=False)

    def flush(self) -> None:
        """Hand over everything that was taken."""
        self.flush_rows()
        self._put()
        self._hand_over(all=True)

    def _hand_over(self, *, all: bool) -> None:
        try:
            for batch in self.pipeline.take(all=all):
                self._done(batch)
        except BaseException as error:
            self.failed = error
            raise


def _box(data: Any) -> Any:
    """A box as a dictionary of plain numbers; what is none stays as it is."""
    if isinstance(data, Mapping):
        return {name: plain(value) for name, value in data.items()}
    if all(hasattr(data, side) for side in "xywh"):
        return {side: plain(getattr(data, side, None)) for side in (*"xywh", "theta")}
    return data
