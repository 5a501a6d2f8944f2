"""The prediction models: what a user builds one prediction of, and what a pickle of them holds.

Names, fields and rules are Encord Active's, so code written for it works with the import changed::

    from ea_arrow import BoundingBox, Format, FrameClassification, ObjectDetection, Prediction

Where Encord Active refused float noise, these models allow ``TOLERANCE`` beyond an edge and move
the value onto the edge. A field name that no model has is an error, not ignored. Coordinates are
fractions of the image's width and height, origin at the top left, x to the right, y down.

>>> box = BoundingBox(x=0.1, y=0.2, w=0.3, h=0.4)
>>> found = ObjectDetection(format=Format.BOUNDING_BOX, data=box, feature_hash="OTk2MzM3")
>>> Prediction(data_hash="c115344f", confidence=0.8, object=found).frame
0
>>> ObjectDetection(format=Format.MASK, data=[[0, 255], [0, 255]], feature_hash="OTk2MzM3").data
array([[0, 1],
       [0, 1]], dtype=uint8)
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import SerializationInfo, SerializerFunctionWrapHandler

TOLERANCE: Final = 1e-6
"""How far beyond an edge of the image, as a fraction of it, a coordinate may be by float noise."""


def _scalar(value: Any) -> Any:
    """The Python value of a NumPy scalar (or of any array of no dimensions, such as a tensor)."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _fraction(value: float) -> float:
    if not -TOLERANCE <= value <= 1 + TOLERANCE:
        message = f"expected a fraction of the image, from 0 to 1; found {value}"
        raise ValueError(message)
    return min(max(value, 0.0), 1.0)


def _fits(value: float, size: float, names: tuple[str, str]) -> float:
    """The size, cut at the far edge of the image."""
    if value + size > 1 + TOLERANCE:
        start, extent = names
        message = (
            f"expected {start} + {extent} to be at most 1, a box inside the image; found "
            f"{start} = {value} and {extent} = {size}, together {value + size}"
        )
        raise ValueError(message)
    return size if value + size <= 1 else 1 - value


_Text = Annotated[str, BeforeValidator(_scalar)]
_Index = Annotated[int, Field(ge=0)]
_Number = Annotated[float, BeforeValidator(_scalar), Field(allow_inf_nan=False)]
_Fraction = Annotated[
    _Number,
    AfterValidator(_fraction),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]


class Format(str, Enum):  # noqa: UP042  str() of a StrEnum's member is not what theirs is
    """What shape an object detection has."""

    BOUNDING_BOX = "bounding-box"
    MASK = "mask"
    POLYGON = "polygon"


class BoundingBox(BaseModel):
    """A box, given by its top left corner and its size."""

    model_config = ConfigDict(extra="forbid")

    x: _Fraction = Field(description="Left edge, as a fraction of the image's width.")
    y: _Fraction = Field(description="Top edge, as a fraction of the image's height.")
    h: _Fraction = Field(description="Height, as a fraction of the image's; y + h ≤ 1.")
    w: _Fraction = Field(description="Width, as a fraction of the image's; x + w ≤ 1.")
    theta: _Number = Field(
        default=0.0,
        ge=0,
        le=360,
        description="Rotation about the centre of the box, clockwise, in degrees.",
    )

    @model_validator(mode="after")
    def _inside(self) -> BoundingBox:
        self.w = _fits(self.x, self.w, ("x", "w"))
        self.h = _fits(self.y, self.h, ("y", "h"))
        return self


if TYPE_CHECKING:
    Data = BoundingBox | NDArray[Any]
else:
    # What the JSON schema shows; importing NumPy for the annotation would double the import time.
    Data = BoundingBox | list[list[float]]


class ObjectDetection(BaseModel):
    """An object found: its class and its shape.

    ``data`` may be given as a :class:`BoundingBox`, a dictionary, an array, nested lists, or as
    JSON text of one. Masks become ``uint8`` arrays of 0 and 1, polygons ``float64`` arrays.

    An array of whole numbers with other than two columns cannot be a polygon. Files exist in which
    masks are called polygons; so such an array is taken for the mask it is, and ``format`` says so.
    """

    model_config = ConfigDict(extra="forbid")

    format: Annotated[Format, BeforeValidator(_scalar)] = Field(
        description="What shape the data is."
    )
    data: Data = Field(
        description="bounding-box: a box. mask: rows of pixels, top to bottom, 1 where the object "
        "is and 0 elsewhere, as high and wide as the image. polygon: at least 3 points [x, y], as "
        "fractions of the image's width and height.",
    )
    feature_hash: _Text = Field(description="The class: featureNodeHash of an ontology object.")
    track_id: Annotated[str | int | None, BeforeValidator(_scalar)] = Field(
        default=None, description="The same for one object over the frames of a video."
    )

    @field_validator("data", mode="plain", json_schema_input_type=Data)
    @classmethod
    def _of_format(cls, value: Any, info: ValidationInfo) -> Data:
        form = info.data.get("format")
        return value if form is None else _data(form, value)

    @model_validator(mode="after")
    def _mask_called_polygon(self) -> ObjectDetection:
        if self.format is Format.POLYGON and getattr(self.data, "dtype", None) == "uint8":
            self.format = Format.MASK
        return self

    @field_serializer("data", mode="wrap")
    def _nested_lists(
        self, value: Any, default: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> Any:
        if isinstance(value, BoundingBox):
            return default(value)
        return value.tolist() if info.mode == "json" else value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectDetection):
            return NotImplemented
        mine, theirs = dict(self), dict(other)
        data, others_data = mine.pop("data"), theirs.pop("data")
        if mine != theirs:
            return False
        if isinstance(data, BoundingBox) or isinstance(others_data, BoundingBox):
            return bool(data == others_data)
        import numpy as np

        return np.array_equal(data, others_data)


class FrameClassification(BaseModel):
    """A class given to a whole image or frame: one option of one question. Immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature_hash: _Text = Field(
        description="The classification: featureNodeHash of an ontology classification."
    )
    attribute_hash: _Text = Field(description="The question: featureNodeHash of its attribute.")
    option_hash: _Text = Field(description="The answer: featureNodeHash of the option.")


def _one_of(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


class Prediction(BaseModel):
    """One thing a model predicts: an object detection or a frame classification, never both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [_one_of("object"), _one_of("classification")]},
    )

    data_hash: _Text = Field(description="The image or video.")
    frame: Annotated[_Index | None, BeforeValidator(_scalar)] = Field(
        default=0, description="Frame of a video, from 0; 0 or null for an image."
    )
    confidence: _Number = Field(description="Score; higher is surer. Any finite number.")
    object: ObjectDetection | None = Field(
        default=None, description="The object; null for a classification."
    )
    classification: FrameClassification | None = Field(
        default=None, description="The classification; null for an object."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Prediction:
        if (self.object is None) == (self.classification is None):
            found = "neither" if self.object is None else "both"
            message = f"expected exactly one of object and classification; found {found}"
            raise ValueError(message)
        return self


# -- from what users hand over to what the models hold --------------------------------------------


def _data(form: Format, value: Any) -> Data:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            message = f"expected data, or JSON text of it; found text that is not JSON: {error}"
            raise ValueError(message) from error
    if form is Format.BOUNDING_BOX:
        return _box(value)
    values = _array(form, value)
    integers_not_points = values.ndim == 2 and values.shape[1] != 2 and values.dtype.kind in "biu"
    return _mask(values) if form is Format.MASK or integers_not_points else _polygon(values)


def _box(value: Any) -> BoundingBox:
    if isinstance(value, BoundingBox):
        return value
    if not isinstance(value, dict):
        message = f"expected a BoundingBox or a dictionary of x, y, w and h; found {_kind(value)}"
        raise ValueError(message)  # noqa: TRY004  pydantic reports ValueErrors only
    try:
        return BoundingBox.model_validate(value)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors()]
        raise ValueError("not a bounding box: " + "; ".join(found)) from error


def _array(form: Format, value: Any) -> NDArray[Any]:
    if not isinstance(value, list | tuple) and not hasattr(value, "__array__"):
        message = f"expected an array or nested lists for a {form.value}; found {_kind(value)}"
        raise ValueError(message)
    import numpy as np

    try:
        values = np.asarray(value)
    except ValueError as error:
        message = f"expected rows of numbers, all of one length, for a {form.value}: {error}"
        raise ValueError(message) from error
    if values.dtype.kind not in "biuf":
        message = f"expected numbers for a {form.value}; found values of type {values.dtype}"
        raise ValueError(message)
    return values


def _mask(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim != 2 or values.size == 0:
        message = f"expected a mask of shape (height, width); found shape {values.shape}"
        raise ValueError(message)
    low, high = values.min(), values.max()
    if high not in (0, 1, 255) or not ((values == 0) | (values == high)).all():
        message = f"expected a mask of 0 and 1, or 0 and 255; found values from {low} to {high}"
        raise ValueError(message)
    pixels: NDArray[Any] = (values != 0).astype("uint8")
    return pixels


def _polygon(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind == "b":
        message = (
            f"expected a polygon of shape (points, 2); found {values.dtype} of shape {values.shape}"
        )
        raise ValueError(message)
    if len(values) < 3:
        message = f"expected a polygon of at least 3 points; found {len(values)}"
        raise ValueError(message)
    low, high = float(values.min()), float(values.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        message = (
            "expected a polygon of fractions of the image, from 0 to 1; found values from "
            f"{low} to {high}"
        )
        raise ValueError(message)
    points: NDArray[Any] = values.astype("float64").clip(0.0, 1.0)
    return points


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
