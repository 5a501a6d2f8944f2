"""The single source of truth for table and column names, types, units and meanings.

Each :class:`TableSpec` declares one table. From it derive the Arrow schema, the Parquet encodings,
the JSON files under ``schemas/`` (``python -m ea_arrow.schema_docs schemas`` writes them) and the
documentation. ``SCHEMA_VERSION`` is stored with every project and every Parquet file, and rises
whenever a stored table changes.

Coordinates are pixels of the data unit, float64, origin at the top left, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
VERSION_KEY = "ea_arrow.schema_version"

FORMATS = ("bounding_box", "rotatable_bounding_box", "polygon", "mask", "classification")
OUTCOMES = ("TP", "FP", "FN", "ignored")
ERRORS = ("localisation", "class confusion", "duplicate", "background", "both", "missed")
IOU_TYPES = ("bbox", "segm")

BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
"""The columns of a box: left, top, width, height."""

Encoding = Literal["plain", "delta", "split", "dictionary"]

MASK = pa.struct(
    [
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("counts", pa.binary()),
        pa.field("area", pa.int64()),
        pa.field("x", pa.int32()),
        pa.field("y", pa.int32()),
        pa.field("w", pa.int32()),
        pa.field("h", pa.int32()),
    ]
)
POLYGON = pa.list_(pa.list_(pa.float64()))


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, whether it may be null, its unit and its meaning."""

    name: str
    type: pa.DataType
    doc: str
    unit: str | None = None
    nullable: bool = True
    encoding: Encoding = "plain"


@dataclass(frozen=True)
class TableSpec:
    """One table: its columns and, where it is stored by partition, the partition columns."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    order_by: str | None = None  # the row number; files are read in its order

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of a full row, partition columns included."""
        return self._schema(self.columns)

    @property
    def arrow_stored(self) -> pa.Schema:
        """The Arrow schema inside the Parquet files: without the partition columns."""
        return self._schema(tuple(c for c in self.columns if c.name not in self.partition_by))

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [c.name for c in self.columns]

    def _schema(self, columns: tuple[Column, ...]) -> pa.Schema:
        fields = [pa.field(c.name, c.type, nullable=c.nullable) for c in columns]
        return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION)})


_HASH = pa.string()


def _unit_key() -> tuple[Column, Column]:
    return (
        Column("data_hash", _HASH, "The data unit.", nullable=False, encoding="dictionary"),
        Column(
            "frame",
            pa.int64(),
            "Frame of a video, from 0; 0 for an image.",
            nullable=False,
            encoding="dictionary",
        ),
    )


def _class_key(*, nullable: bool = False) -> tuple[Column, ...]:
    return (
        Column(
            "feature_hash",
            _HASH,
            "The class: an ontology object's featureNodeHash, or a classification's.",
            nullable=nullable,
            encoding="dictionary",
        ),
        Column(
            "attribute_hash",
            _HASH,
            "Classifications only: the attribute (the question).",
            encoding="dictionary",
        ),
        Column(
            "option_hash",
            _HASH,
            "Classifications only: the option (the answer).",
            encoding="dictionary",
        ),
    )


def _geometry() -> tuple[Column, ...]:
    box = (
        "of the box, as the source gives it (unrotated, where `theta` is given) or enclosing the "
        "mask or polygon."
    )
    return (
        Column("bbox_x", pa.float64(), f"Left edge {box}", "pixel", encoding="split"),
        Column("bbox_y", pa.float64(), f"Top edge {box}", "pixel", encoding="split"),
        Column("bbox_w", pa.float64(), f"Width {box}", "pixel", encoding="split"),
        Column("bbox_h", pa.float64(), f"Height {box}", "pixel", encoding="split"),
        Column(
            "theta",
            pa.float64(),
            "Rotation of the box about its centre, clockwise; null unless rotated.",
            "degree",
            encoding="split",
        ),
        Column(
            "mask",
            MASK,
            "COCO compressed RLE (column-major) with its own area and box.",
            "pixel",
        ),
        Column(
            "polygon",
            POLYGON,
            "Rings of interleaved x, y; several rings are the parts of one object.",
            "pixel",
            encoding="split",
        ),
    )


DATA_UNITS = TableSpec(
    "data_units",
    "One row per image or video frame: what predictions and labels belong to.",
    (
        Column(
            "unit_id",
            pa.int64(),
            "0 … n−1, the order in which evaluation visits data units (COCO: sorted image ids).",
            nullable=False,
            encoding="delta",
        ),
        Column("data_hash", _HASH, "Key of the image or video.", nullable=False),
        Column("frame", pa.int64(), "Frame of a video, from 0; 0 for an image.", nullable=False),
        Column("width", pa.int32(), "Width.", "pixel", nullable=False),
        Column("height", pa.int32(), "Height.", "pixel", nullable=False),
        Column("title", pa.string(), "File name or title in the source."),
        Column("uri", pa.string(), "Where the pixels are, if known."),
        Column("source_id", pa.string(), "The source's own id: the COCO image id."),
        Column("group", pa.string(), "The video or image group it belongs to."),
        Column("tags", pa.list_(pa.string()), "Free tags."),
        Column("metadata", pa.string(), "Anything else the source says, as JSON."),
    ),
)

CLASSES = TableSpec(
    "classes",
    "One row per ontology class: every object, and every option of every classification.",
    (
        Column("kind", pa.string(), "`object` or `classification`.", nullable=False),
        Column("name", pa.string(), "Name of the object or label of the option.", nullable=False),
        Column(
            "shape",
            pa.string(),
            "Shape of an object (`bounding_box`, `polygon`, `bitmask`, …; `any` where the source "
            "does not restrict it); null for classifications.",
        ),
        *_class_key(),
        Column("path", pa.string(), "Names from the ontology's root to here.", nullable=False),
        Column("color", pa.string(), "Display colour, `#RRGGBB`."),
        Column("source_id", pa.string(), "The source's own id: the COCO category id."),
    ),
)

LABELS = TableSpec(
    "labels",
    "Ground truth: one row per object or classification answer.",
    (
        Column(
            "label_id",
            pa.int64(),
            "From 0, in source order; labels added later follow.",
            nullable=False,
            encoding="delta",
        ),
        *_unit_key(),
        Column(
            "format",
            pa.string(),
            f"One of {', '.join(FORMATS)}.",
            nullable=False,
            encoding="dictionary",
        ),
        *_class_key(),
        *_geometry(),
        Column(
            "area",
            pa.float64(),
            "The source's own area where it gives one (COCO size ranges use it), else that of the "
            "mask, polygon or box.",
            "pixel²",
            encoding="split",
        ),
        Column("is_crowd", pa.bool_(), "COCO `iscrowd`.", nullable=False),
        Column(
            "is_ignored",
            pa.bool_(),
            "Neither a hit nor a miss (VOC difficult, DontCare).",
            nullable=False,
        ),
        Column("track_id", pa.string(), "The same object over frames."),
        Column("source_id", pa.string(), "The source's own id: COCO annotation id, objectHash."),
    ),
    order_by="label_id",
)

PREDICTIONS = TableSpec(
    "predictions",
    "Model output: one row per predicted object or classification.",
    (
        Column(
            "iteration", pa.string(), "The named set of predictions it belongs to.", nullable=False
        ),
        Column(
            "prediction_id",
            pa.int64(),
            "0 … n−1 within the iteration, in arrival order; equal scores keep this order.",
            nullable=False,
            encoding="delta",
        ),
        *_unit_key(),
        Column(
            "format",
            pa.string(),
            f"One of {', '.join(FORMATS)}.",
            nullable=False,
            encoding="dictionary",
        ),
        *_class_key(),
        Column(
            "confidence",
            pa.float64(),
            "Model score; higher is surer. Any finite number.",
            nullable=False,
            encoding="split",
        ),
        *_geometry(),
        Column(
            "area",
            pa.float64(),
            "Area that COCO size ranges use: of the given box where the source gives one beside a "
            "mask (as pycocotools does), else of the mask, polygon or box.",
            "pixel²",
            encoding="split",
        ),
        Column("track_id", pa.string(), "The same object over frames."),
        Column("probabilities", pa.list_(pa.float32()), "Class probabilities, if given."),
        Column(
            "source_row",
            pa.int64(),
            "Row in the source, from 0; a line of text from 1.",
            nullable=False,
            encoding="delta",
        ),
    ),
    partition_by=("iteration",),
    order_by="prediction_id",
)

ITERATIONS = TableSpec(
    "iterations",
    "One row per import or writer: where an iteration came from and what was kept of it.",
    (
        Column(
            "import_id", pa.string(), "Unique id of the import that wrote this row.", nullable=False
        ),
        Column("name", pa.string(), "The iteration.", nullable=False),
        Column(
            "created_at", pa.timestamp("us", tz="UTC"), "When the import began.", nullable=False
        ),
        Column("model", pa.string(), "The model, as the user names it."),
        Column("parameters", pa.string(), "Free parameters, as JSON.", nullable=False),
        Column(
            "sources", pa.string(), "Source files with size and SHA-256, as JSON.", nullable=False
        ),
        Column("rows_read", pa.int64(), "Rows read from the sources.", nullable=False),
        Column("rows_kept", pa.int64(), "Rows stored as predictions.", nullable=False),
        Column(
            "ledger",
            pa.string(),
            "Counts of each kind of reject and of each note, as JSON.",
            nullable=False,
        ),
        Column("labels_version", pa.int64(), "Version of the labels at import.", nullable=False),
        Column("mode", pa.string(), "`create`, `append` or `replace`.", nullable=False),
    ),
)

REJECTS = TableSpec(
    "rejects",
    "Rows that were read but not kept, with every rule they broke.",
    (
        Column("import_id", pa.string(), "The import that refused the row.", nullable=False),
        Column("iteration", pa.string(), "The iteration; null for labels."),
        Column("source", pa.string(), "Source file.", nullable=False),
        Column(
            "source_row",
            pa.int64(),
            "Row in the source, from 0; a line of text from 1.",
            nullable=False,
        ),
        Column("rules", pa.list_(pa.string()), "Rules broken.", nullable=False),
        Column("message", pa.string(), "What was found and what was expected.", nullable=False),
        Column("payload", pa.string(), "The row as read, as JSON, cut to 1,000 characters."),
    ),
)


def _iteration() -> Column:
    return Column("iteration", pa.string(), "The iteration.", nullable=False)


def _protocol(*names: str) -> Column:
    doc = f"How predictions and labels were paired: {', '.join(f'`{name}`' for name in names)}."
    return Column("protocol", pa.string(), doc, nullable=False)


def _iou_type(*, nullable: bool = False) -> Column:
    doc = "What was compared: boxes (`bbox`) or masks (`segm`)."
    doc = f"{doc[:-1]}; null for classifications." if nullable else doc
    return Column("iou_type", pa.string(), doc, nullable=nullable)


def _subset() -> Column:
    doc = "The data units it covers: `all`, the name of a slice, or the condition given."
    return Column("subset", pa.string(), doc, nullable=False)


def _confidence(doc: str) -> Column:
    return Column("confidence", pa.float64(), doc)


def _count(name: str, doc: str) -> Column:
    return Column(name, pa.int64(), doc, nullable=False)


def _area_bounds() -> tuple[Column, Column]:
    return (
        Column("area_low", pa.float64(), "Lowest area in the range; null without one.", "pixel²"),
        Column("area_high", pa.float64(), "Highest area in the range; null without one.", "pixel²"),
    )


def _max_detections() -> Column:
    return Column(
        "max_detections",
        pa.int64(),
        "Most confident predictions counted per data unit and class; null for all.",
    )


MATCHES = TableSpec(
    "matches",
    "One row per prediction and per unmatched label under a protocol and IoU threshold.",
    (
        _iteration(),
        _protocol("coco", "encord"),
        _iou_type(),
        Column("iou_threshold", pa.float64(), "IoU from which a pair can match.", nullable=False),
        _subset(),
        *_unit_key(),
        Column("feature_hash", _HASH, "The class.", nullable=False, encoding="dictionary"),
        Column("prediction_id", pa.int64(), "The prediction; null for a label nobody found."),
        Column("label_id", pa.int64(), "The label matched or missed; null for a false positive."),
        Column(
            "iou",
            pa.float64(),
            "IoU with the matched label, or with the best label of the class; null without one.",
        ),
        _confidence("The prediction's score; null for a missed label."),
        Column("outcome", pa.string(), f"One of {', '.join(OUTCOMES)}.", nullable=False),
        Column("reason", pa.string(), "Why, in one sentence.", nullable=False),
        Column(
            "error",
            pa.string(),
            "Kind of error as TIDE defines them, one of "
            f"{', '.join(ERRORS)}. For a missed label: the kind of the false positive that would "
            "have found it, else `missed`. Null for TP and ignored, and where only the id 0 of a "
            "label makes pycocotools count it as missed.",
        ),
        Column(
            "error_label_id",
            pa.int64(),
            "For a false positive: the label that explains the error (badly located, of another "
            "class, found already); null for `background`.",
        ),
        Column(
            "error_feature_hash",
            _HASH,
            "The class of `error_label_id`.",
            encoding="dictionary",
        ),
        Column("error_iou", pa.float64(), "IoU with `error_label_id`."),
    ),
)

METRICS = TableSpec(
    "metrics",
    "One row per number, in long form, with everything needed to interpret it.",
    (
        _iteration(),
        _protocol("coco", "coco_id_zero_counts", "encord", "classification"),
        _iou_type(nullable=True),
        _subset(),
        Column(
            "metric",
            pa.string(),
            "`coco`: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl. `encord`: AP, "
            "AR, precision, recall, F1; over all classes mAP, mAR and precision, recall, F1. "
            "`classification`: accuracy, top<k>_accuracy, precision, recall, F1; over all options "
            "with _macro and _micro.",
            nullable=False,
        ),
        Column("feature_hash", _HASH, "The class; null for the mean over classes."),
        Column("attribute_hash", _HASH, "Classifications: the attribute (the question)."),
        Column("option_hash", _HASH, "Classifications: the option; null for all of them."),
        Column("class", pa.string(), "Name of the class or option; null for the mean over them."),
        Column(
            "area_range", pa.string(), "`all`, `small`, `medium`, `large` or as named by the user."
        ),
        *_area_bounds(),
        Column(
            "iou_threshold",
            pa.float64(),
            "The one IoU threshold; null for the mean over several and for classifications.",
        ),
        Column(
            "iou_thresholds",
            pa.list_(pa.float64()),
            "All IoU thresholds that it is the mean over; null for classifications.",
        ),
        _max_detections(),
        Column(
            "value", pa.float64(), "The number, 0 … 1; null where it is not defined (no labels)."
        ),
        _count("n_labels", "Labels that count in this cell."),
        _count("n_predictions", "Predictions of the class or classes."),
        Column(
            "provenance",
            pa.string(),
            "Fingerprint of the inputs it was computed from.",
            nullable=False,
        ),
    ),
)

CURVES = TableSpec(
    "curves",
    "Precision against recall: one row per class, IoU threshold, area range and recall (`coco`).",
    (
        _iteration(),
        _iou_type(),
        _subset(),
        Column("feature_hash", _HASH, "The class.", nullable=False),
        Column("class", pa.string(), "Name of the class.", nullable=False),
        Column("iou_threshold", pa.float64(), "IoU from which a pair can match.", nullable=False),
        Column("area_range", pa.string(), "Name of the area range.", nullable=False),
        *_area_bounds(),
        _max_detections(),
        Column("recall", pa.float64(), "0 … 1.", nullable=False),
        Column("precision", pa.float64(), "Highest at this recall or beyond; 0 if never reached."),
        _confidence("Score at which the recall is reached; 0 if it never is."),
    ),
)

OPERATING_POINTS = TableSpec(
    "operating_points",
    "Precision, recall and F1 if only predictions of at least a confidence counted.",
    (
        _iteration(),
        _protocol("coco"),
        _iou_type(),
        Column("iou_threshold", pa.float64(), "IoU from which a pair can match.", nullable=False),
        _max_detections(),
        _subset(),
        Column("feature_hash", _HASH, "The class; null for all classes counted together."),
        Column("class", pa.string(), "Name of the class; null for all."),
        _confidence("Lowest score that counts; null where there is no prediction."),
        _count("tp", "Predictions that match a label."),
        _count("fp", "Predictions that match none."),
        _count("fn", "Labels that no prediction of at least this confidence matches."),
        Column("precision", pa.float64(), "Share `tp / (tp + fp)`; null without predictions."),
        Column("recall", pa.float64(), "Share `tp / (tp + fn)`; null without labels."),
        Column(
            "f1",
            pa.float64(),
            "Mean `2 tp / (2 tp + fp + fn)`; null without predictions and labels.",
        ),
        Column("is_best", pa.bool_(), "The highest F1 of the class.", nullable=False),
    ),
)

CONFUSION = TableSpec(
    "confusion",
    "One row per pair of a label's class and a prediction's class that occurs.",
    (
        _iteration(),
        _iou_type(nullable=True),
        Column("iou_threshold", pa.float64(), "IoU that a pair reaches; null: classifications."),
        _confidence("Predictions of at least this score are counted; null for all."),
        _max_detections(),
        _subset(),
        Column("attribute_hash", _HASH, "Classifications: the attribute; null for objects."),
        Column(
            "label_hash",
            _HASH,
            "Class (or option) of the label; null: no label, the background row.",
        ),
        Column("label_class", pa.string(), "Its name."),
        Column(
            "predicted_hash",
            _HASH,
            "Class (or option) of the prediction; null: no prediction, the background column.",
        ),
        Column("predicted_class", pa.string(), "Its name."),
        _count("count", "How often."),
    ),
)

_TARGETS = "`prediction`, `label` or `image`"

QUALITY = TableSpec(
    "quality",
    "Values of quality metrics in long form; the views `prediction_quality`, `label_quality` and "
    "`image_quality` have a column per metric instead.",
    (
        Column("target", pa.string(), f"What the value is about: {_TARGETS}.", nullable=False),
        Column("iteration", pa.string(), "The iteration; null for labels and images."),
        Column(
            "target_id", pa.int64(), "`prediction_id`, `label_id` or `unit_id`.", nullable=False
        ),
        *_unit_key(),
        Column(
            "metric", pa.string(), "The metric: see `ea-arrow quality-metrics`.", nullable=False
        ),
        Column("value", pa.float64(), "Its value; rows whose value is not defined are left out."),
    ),
)

DRIVERS = TableSpec(
    "drivers",
    "What quality metrics say about correctness, one row per metric, the most telling first.",
    (
        _iteration(),
        Column(
            "target",
            pa.string(),
            "What is right or wrong: `prediction` or `label`.",
            nullable=False,
        ),
        Column("metric", pa.string(), "The quality metric.", nullable=False),
        _count("rank", "Place by mutual information, from 1; equal ones by name."),
        _count("n", "Rows with a value."),
        _count("undefined", "Rows without one."),
        Column(
            "mutual_information",
            pa.float64(),
            "Of the metric's bins and correctness, less its bias (Miller–Madow), per row: rows "
            "without a value say nothing; null without values.",
            "nat",
        ),
        Column(
            "correlation",
            pa.float64(),
            "Pearson's, of value and correctness; null if either is constant.",
        ),
        Column(
            "direction",
            pa.string(),
            "Where errors gather: at `high` or `low` values; null if that may be chance.",
        ),
        Column("worst_low", pa.float64(), "Lowest value of the worst bin."),
        Column("worst_high", pa.float64(), "Highest value of the worst bin."),
        Column(
            "worst_rate",
            pa.float64(),
            "Its rate; the worst bin is the one whose interval shows it to be bad.",
        ),
        Column(
            "overall_rate",
            pa.float64(),
            "Precision of predictions, or false-negative rate of labels, over all rows.",
        ),
        Column("spread", pa.float64(), "Highest less lowest rate of the bins with values."),
        Column(
            "is_clear",
            pa.bool_(),
            "Two bins differ more than chance would make any two (95 %, corrected for the number "
            "of pairs).",
        ),
    ),
)

DRIVER_BINS = TableSpec(
    "driver_bins",
    "How often the model is right over the range of a quality metric, one row per bin.",
    (
        _iteration(),
        Column(
            "target",
            pa.string(),
            "What is right or wrong: `prediction` or `label`.",
            nullable=False,
        ),
        Column("metric", pa.string(), "The quality metric.", nullable=False),
        Column("bin", pa.int64(), "From 0 by rising values; null: rows without a value."),
        Column("low", pa.float64(), "Lowest value in it."),
        Column("high", pa.float64(), "Highest value in it."),
        _count("n", "Rows in it."),
        Column(
            "rate",
            pa.float64(),
            "Precision of predictions, or false-negative rate of labels.",
            nullable=False,
        ),
        Column("rate_low", pa.float64(), "Lower end of Wilson's 95 % interval.", nullable=False),
        Column("rate_high", pa.float64(), "Upper end.", nullable=False),
    ),
)

RAW = TableSpec(
    "raw",
    "What a source reader yields: rows as the source gives them, before any check against the "
    "project. Not stored. Coordinates are in the unit that the source declares.",
    (
        Column(
            "source_row", pa.int64(), "Row in the source, from 0; a line from 1.", nullable=False
        ),
        Column("source_file", pa.string(), "Its file, where the source is made of several."),
        Column("unit", pa.string(), "The data unit as the source names it."),
        Column("frame", pa.int64(), "Frame; null means 0."),
        Column("class_ref", pa.string(), "The class as the source names it."),
        Column("attribute_hash", _HASH, "Classifications: the attribute."),
        Column("option_hash", _HASH, "Classifications: the option."),
        Column("format", pa.string(), f"One of {', '.join(FORMATS)}."),
        Column("confidence", pa.float64(), "Score; null if missing."),
        Column("bbox_x", pa.float64(), "Left edge."),
        Column("bbox_y", pa.float64(), "Top edge."),
        Column("bbox_w", pa.float64(), "Width."),
        Column("bbox_h", pa.float64(), "Height."),
        Column("theta", pa.float64(), "Rotation.", "degree"),
        Column("mask", MASK, "Always in pixels."),
        Column("polygon", POLYGON, "Rings of interleaved x, y."),
        Column("area", pa.float64(), "The source's own area, if it gives one."),
        Column("is_crowd", pa.bool_(), "COCO `iscrowd`; null means no."),
        Column("is_ignored", pa.bool_(), "Null means no."),
        Column("track_id", pa.string(), "Track."),
        Column("source_id", pa.string(), "The source's own id of the row."),
        Column("probabilities", pa.list_(pa.float32()), "Class probabilities."),
        Column("rule", pa.string(), "A rule the reader already found broken: the row is a reject."),
        Column("message", pa.string(), "What the reader found, where `rule` is set."),
    ),
)

STORED = (DATA_UNITS, LABELS, PREDICTIONS, ITERATIONS, REJECTS)
ON_QUALITY = (QUALITY, DRIVERS, DRIVER_BINS)
DERIVED = (CLASSES, MATCHES, METRICS, CURVES, OPERATING_POINTS, CONFUSION, *ON_QUALITY)
TABLES: Mapping[str, TableSpec] = {t.name: t for t in (*STORED, *DERIVED)}
