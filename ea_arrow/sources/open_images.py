"""Open Images: boxes as CSV, relative corners, of predictions and of ground truth."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology
from ea_arrow.schema import RAW
from ea_arrow.sources.base import Coordinates, GroundTruth
from ea_arrow.sources.columns import Problems, plain, texts
from ea_arrow.sources.formats import Files, LabelFormat, Option, PredictionFormat, Reading
from ea_arrow.sources.open_images_extras import Sizes, descriptions, expanded, whole_pixels
from ea_arrow.sources.own_labels import label_units
from ea_arrow.sources.table_base import ERRORS, Block, TableFile, arrow_errors
from ea_arrow.sources.table_files import open_table, shape_of
from ea_arrow.sources.table_plan import Plan
from ea_arrow.sources.table_rows import raw_of
from ea_arrow.sources.table_survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ea_arrow.sources.base import ClassKey, UnitKey
    from ea_arrow.sources.samples import Sample

_BOX: Final = ("xmin", "ymin", "xmax", "ymax")
_NEEDED: Final = {"imageid", "labelname", *_BOX}
_OF_LABELS: Final = {
    *("source", "isoccluded", "istruncated", "isgroupof", "isdepiction", "isinside"),
}
_CHALLENGE: Final = ("imageid", "predictionstring")
_SUFFIX: Final = r"(?i)\.(jpe?g|png|webp|bmp|tiff?|gif)$"
_ID: Final = r"^/[mg]/"
_DECIMAL_COMMA: Final = r"^([+-]?\d+),(\d+)$"
_LISTED: Final = 20


class OpenImages:
    """A table of Open Images, opened: what both kinds have in common.

    Args:
        table: The table.
        reading: What the caller knows about it.
        score: The columns that may hold the confidence, first the best.

    Attributes:
        path: The file.
        plan: What its columns mean.
        notes: Counted peculiarities.

    Raises:
        SourceError: A column is missing.
    """

    def __init__(self, table: TableFile, reading: Reading, score: tuple[str, ...]) -> None:
        self.path = table.path
        self.notes: Counter[str] = Counter()
        self.table, self._reading = table, reading
        known = {name.strip().lower(): name for name in table.names}
        self._packed = set(_CHALLENGE) <= known.keys()
        if self._packed:
            self._string = known["predictionstring"]
            known = {n: n for n in (*_NEEDED, "score")} | {"imageid": known["imageid"]}
        if lacking := _NEEDED - known.keys():
            message = f"{table.path} has no column {', '.join(sorted(lacking))} (in any case); "
            message += f"it has {', '.join(table.names[:_LISTED])}."
            raise SourceError(message, hint="See 'ea-arrow formats open-images'.")
        confidence = next((known[name] for name in score if name in known), None)
        others = {"is_crowd": known["isgroupof"]} if not score and "isgroupof" in known else {}
        box = tuple(known[side] for side in _BOX)
        used = {known["imageid"], known["labelname"], confidence, *box, *others.values()}
        left = [n for n in table.names if n not in used and not self._packed]
        if left:
            self.notes[f"columns that are not kept: {', '.join(left)}"] += len(left)
        self.plan = Plan(
            unit=known["imageid"],
            unit_key="stem",
            class_ref=known["labelname"],
            class_key="name",
            box=box,
            layout=reading.box or "xyxy",
            others=others,
            confidence=confidence,
            size=None,
            relative=True if reading.relative is None else reading.relative,
            left_out=(),
        )

    def keys(self) -> tuple[UnitKey, ClassKey]:
        """How the first row names its image and class: with a suffix or without, by id or name."""
        for block in self.blocks(Counter()):
            with arrow_errors(self.path):
                unit, label = (
                    texts("id", block.columns[name or ""][:1], Problems())
                    for name in (self.plan.unit, self.plan.class_ref)
                )
                if len(unit):
                    has_suffix = pc.match_substring_regex(unit, _SUFFIX)[0].as_py()
                    has_id = pc.match_substring_regex(label, _ID)[0].as_py()
                    return "name" if has_suffix else "stem", "source_id" if has_id else "name"
        return "stem", "name"

    def blocks(self, notes: Counter[str]) -> Iterator[Block]:
        """The rows; of the challenge's format one for each box, and a note of images without."""
        if not self._packed:
            yield from self.table.blocks(self.plan.columns)
            return
        unit = self.plan.unit or ""
        for block in self.table.blocks([unit, self._string]):
            with arrow_errors(self.path):
                found = expanded(block, unit, self._string, notes)
            yield found

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as batches of the ``RAW`` schema, in file order."""
        blocks = self.blocks(self.notes)
        while True:
            with arrow_errors(self.path):
                block = next(blocks, None)
                if block is None:
                    return
                for name in (*self.plan.box, self.plan.confidence):
                    if name is not None:
                        block.columns[name] = self._points(block.columns[name])
                for name in self.plan.others.values():
                    block.columns[name] = _known_only(block.columns[name])
                raw = raw_of(block, self.plan, self.notes, one_based=self._reading.one_based)
            yield raw

    def _points(self, cells: Any) -> Any:
        """Numbers with a decimal comma (and nothing else that is odd) with a point."""
        cells = plain(cells)
        if isinstance(cells, list) or not pa.types.is_string(cells.type):
            return cells
        commas = pc.match_substring(cells, ",")
        if not pc.any(commas).as_py():
            return cells
        found = pc.replace_substring_regex(cells, _DECIMAL_COMMA, r"\1.\2")
        self.notes["numbers with a decimal comma"] += int(
            pc.sum(pc.not_equal(found, cells).cast(pa.int64())).as_py() or 0
        )
        return found


def _known_only(cells: Any) -> Any:
    """Flags in which −1 means that it is not known."""
    cells = plain(cells)
    if isinstance(cells, list):
        return [None if cell in (-1, "-1") else cell for cell in cells]
    unknown = pc.equal(cells.cast(pa.string()), "-1")
    return pc.if_else(unknown, pa.scalar(None, cells.type), cells)


class Predictions(OpenImages):
    """Predictions: the columns of the dataset with Score, or those of the challenge.

    Attributes:
        coordinates: Relative, unless the caller says otherwise.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        super().__init__(open_table(files.one), reading, ("score", "confidence"))
        if self.plan.confidence is None:
            message = f"{self.path} has no column Score or Confidence; expected predictions."
            raise SourceError(message, hint="See 'ea-arrow formats open-images'.")
        unit_key, class_key = self.keys()
        names = tuple(descriptions(reading).items())
        self.coordinates = Coordinates(self.plan.relative, unit_key, class_key, names)


def read(files: Files, reading: Reading) -> GroundTruth:
    """Read the boxes of Open Images' ground truth.

    Raises:
        SourceError: The file is no such table, or the sizes of images are not known.
    """
    source = OpenImages(open_table(files.one), reading, ())
    survey = Survey()
    for block in source.blocks(Counter()):
        with arrow_errors(source.path):
            survey.look(block, source.plan, source.path)
    names = descriptions(reading)
    labels = sorted(survey.classes)
    ontology = Ontology.from_coco([{"id": n, "name": names.get(n, n)} for n in labels])
    unnamed = sum(name not in names for name in labels)
    if names and unnamed:
        source.notes["classes that the file of names does not have, called by their id"] += unnamed
    sizes = reading.options.get("sizes")
    rename: Callable[[pa.Array], pa.Array]
    unit_key: UnitKey = "title"
    if sizes is not None:
        listed = Sizes(sizes)
        units, rename = listed.data_units(survey), listed.rename
    elif reading.images is None:
        message = f"{files.one}: Open Images does not say the sizes of images."
        hint = "Give the directory of the images: --images DIR. Or --option sizes=FILE."
        raise SourceError(message, hint=hint)
    else:
        units, unit_key, rename = label_units(files, source.plan, survey, reading, source.notes)
    batches = _renamed(source.batches(), rename)
    relative = source.plan.relative
    if relative and reading.options.get("pixels") == "whole":
        columns = (units[name].to_pylist() for name in ("title", "width", "height"))
        known = {title: (w, h) for title, w, h in zip(*columns, strict=True)}
        batches = (whole_pixels(batch, known, source.notes) for batch in batches)
        relative = False
    return GroundTruth(
        data_units=units,
        ontology=ontology,
        labels=batches,
        coordinates=Coordinates(relative, unit_key, "source_id"),
        notes=source.notes,
    )


def _renamed(
    batches: Iterator[pa.RecordBatch], rename: Callable[[pa.Array], pa.Array]
) -> Iterator[pa.RecordBatch]:
    place = RAW.names.index("unit")
    for batch in batches:
        units = rename(batch.column(place))
        yield batch.set_column(place, RAW.arrow.field(place), units)


def _names(sample: Sample) -> set[str]:
    try:
        shape = None if sample.is_dir else shape_of(sample)
    except (SourceError, *ERRORS):
        return set()
    return {name.strip().lower() for name in shape.names} if shape else set()


def _sniff_predictions(sample: Sample) -> bool:
    names = _names(sample)
    if names == set(_CHALLENGE):
        return True
    scored = "score" in names or ("confidence" in names and not names & _OF_LABELS)
    return names >= _NEEDED and scored


def _sniff_labels(sample: Sample) -> bool:
    names = _names(sample)
    return names >= _NEEDED and "score" not in names and bool(names & _OF_LABELS)


_NAMES: Final = Option("names", "Open Images' class-descriptions CSV: ids of classes and names")
_ABOUT: Final = (
    "A CSV of ImageID, LabelName and the corners XMin, XMax, YMin, YMax, as fractions of the "
    "image's width and height; columns go by their name, in any case and order. ImageID is the "
    "file name of the image, mostly without suffix. LabelName is an id (/m/01g317) or a name; "
    "--option names=class-descriptions.csv tells the names of ids. Decimal commas in quotation "
    'marks ("0,358") are read as points, and counted. '
)

PREDICTIONS: Final = PredictionFormat(
    name="open-images",
    box="xyxy",
    doc="Open Images CSV: boxes with a score, or the challenge's PredictionString",
    about=_ABOUT + "The confidence is Score, or Confidence where there is none.\n\nOr ImageId and "
    "PredictionString, as the challenges have it: label confidence XMin YMin XMax YMax, again and "
    "again; source rows are then those of images.",
    example="ImageID,LabelName,Score,XMin,XMax,YMin,YMax\n"
    "000026e7ee790996,/m/07j7r,0.83,0.0719,0.1453,0.2062,0.3917",
    options=(_NAMES,),
    sniff=_sniff_predictions,
    open=Predictions,
)

LABELS: Final = LabelFormat(
    name="open-images",
    doc="Open Images CSV: annotated boxes",
    about=_ABOUT + "IsGroupOf 1 becomes is_crowd (−1: not known); the other flags, Source and "
    "Confidence are not kept. Sizes come from --images, whose images are then the data units, or "
    "from --option sizes=FILE, a CSV of name, width and height in pixels.\n\nFractions with few "
    "decimals are not quite the pixels they were, and an overlap that was just enough may not be "
    "any more: --option pixels=whole rounds corners to whole pixels.",
    example="ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
    "IsGroupOf,IsDepiction,IsInside\n"
    "000026e7ee790996,xclick,/m/07j7r,1,0.0719,0.1453,0.2062,0.3917,0,1,1,0,0",
    options=(
        _NAMES,
        Option("sizes", "a CSV of the images' name, width and height"),
        Option(
            "pixels", "corners as they are given, or in whole pixels", ("given", "whole"), "given"
        ),
    ),
    sniff=_sniff_labels,
    read=read,
)
