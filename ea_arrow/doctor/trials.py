"""Reading the rows in other ways, and finding the way under which they fit the labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.doctor.class_numbers import Renumbering, renumberings
from ea_arrow.doctor.layouts import BoxReading, other_readings
from ea_arrow.doctor.resized import resized_readings, sharpened
from ea_arrow.doctor.scoring import Detections, Score, Truth, score
from ea_arrow.doctor.shifts import try_closer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from ea_arrow.arranged import Bools
    from ea_arrow.doctor.case import Case

    _Way = TypeVar("_Way", BoxReading, Renumbering)

GAIN: Final = 0.05
FACTOR: Final = 1.3
"""A trial says something if AP50 rises by more than both."""

LOW: Final = 0.3
_LOW_RECALL: Final = 0.25
_LOW_FACTOR: Final = 3
"""Where AP50 stays below the first, far more labels have to be found than now: at random boxes hit
some large labels, and a class of few labels then has a high AP."""

_NEW_HITS: Final = {"boxes": 2, "classes": 3}


@dataclass(frozen=True)
class Mended:
    """The outcome of the trials.

    Attributes:
        now: As the rows are read now.
        boxes: The better reading of boxes, if there is one.
        classes: The better meaning of class numbers, if there is one.
        boxes_only: What the reading of boxes comes to alone.
        classes_only: What the meaning of class numbers comes to alone.
        then: What they come to together.
        found: The predictions, read so.
        rows: Which rows of the case they are (N).
        tried: How many trials there were.
    """

    now: Score
    boxes: BoxReading | None
    classes: Renumbering | None
    boxes_only: Score | None
    classes_only: Score | None
    then: Score
    found: Detections
    rows: Bools
    tried: int

    @property
    def changed(self) -> bool:
        """Whether anything is read differently."""
        return self.boxes is not None or self.classes is not None

    @property
    def once(self) -> str:
        """The end of a sentence on AP50, where it supposes that rows are read so."""
        return ", once the rest is read as above" if self.changed else ""


def clear(now: Score, then: Score, what: str) -> bool:
    """Whether a trial is no accident.

    Classes that fit by chance fit for one class; so more than one of them must be hit.
    """
    if now.ap50 is None or then.ap50 is None:
        return False
    better = then.ap50 - now.ap50 > GAIN and then.ap50 > FACTOR * now.ap50
    enough = then.hits - now.hits >= _NEW_HITS[what]
    if then.ap50 < LOW:
        enough &= then.recall >= _LOW_RECALL and then.hits >= _LOW_FACTOR * now.hits
    return better and enough and (what == "boxes" or then.classes > 1)


class Trials:
    """Trials on one case.

    Args:
        case: The iteration.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.tried = 0
        rows = case.rows
        known = rows.four & (rows.found.unit >= 0) & np.isfinite(rows.box).all(axis=1)
        numbers, unit = case.numbers[known], rows.found.unit[known]
        now, size = case.imported.reading, case.truth.size[unit, :2]
        self.readings = other_readings(now, numbers) + resized_readings(now, numbers, size)
        self.numberings = renumberings(case.references, case.reference_class, case.targets)

    def read(self, boxes: BoxReading | None, classes: Renumbering | None) -> Detections:
        """The predictions that an import would keep."""
        found, kept = self._read(boxes, classes)
        return found.take(kept)

    def read_alike(
        self, boxes: BoxReading | None, other: BoxReading | None, classes: Renumbering | None
    ) -> tuple[Detections, Detections]:
        """The rows that an import would keep under both of two readings."""
        (one, kept), (two, also) = (self._read(way, classes) for way in (boxes, other))
        self.tried += 1
        return one.take(kept & also), two.take(kept & also)

    def _read(
        self, boxes: BoxReading | None, classes: Renumbering | None
    ) -> tuple[Detections, Bools]:
        """All rows, and which of them an import would keep."""
        case, rows = self.case, self.case.rows
        found, fine = rows.found, rows.kept.copy()
        if classes is not None:
            klass = np.append(classes.klass, -1)[rows.reference]
            found = replace(found, klass=np.where(rows.reference < 0, found.klass, klass))
        reading = boxes or case.imported.reading
        if boxes is not None or not fine.all():
            box, read = reading.boxes(case.numbers, case.truth.size[found.unit])
            changed = rows.four if boxes is not None else ~fine
            fine = np.where(changed, read & rows.four, fine)
            box = np.where(changed[:, None], box, found.box)
            with np.errstate(over="ignore", invalid="ignore"):
                area = np.where(changed, box[:, 2] * box[:, 3], found.area)
            found = replace(found, box=box, area=area)
        return found, (found.unit >= 0) & (found.klass >= 0) & fine

    def run(self) -> Mended:
        """Try every way, alone and, where none helps alone, both together."""
        now = self._score(self.case.now)
        if now.ap50 is None or now.ap50 * FACTOR >= 1:
            return self._mended(now, None, None)
        boxes, boxes_score = self._best(self.readings, lambda way: self.read(way, None))
        classes, classes_score = self._best(self.numberings, lambda way: self.read(None, way))
        if not clear(now, boxes_score, "boxes") and not self._closer(now, boxes, boxes_score):
            boxes = None
        classes = classes if clear(now, classes_score, "classes") else None
        if boxes and classes and (classes_score.ap50 or 0) > (boxes_score.ap50 or 0):
            boxes = None
        if boxes is not None:
            classes = self._classes_upon(boxes, boxes_score)
        elif classes is not None:
            boxes = self._boxes_upon(classes, classes_score)
        else:
            boxes, classes = self._together(now)
        if boxes is not None and boxes.side:
            boxes, tried = sharpened(boxes, lambda way: self.read(way, classes), self.case.truth)
            self.tried += tried
        return self._mended(now, boxes, classes)

    def _closer(self, now: Score, boxes: BoxReading | None, then: Score) -> bool:
        """Whether boxes of images that were mostly left as they were fit more closely."""
        if boxes is None or not boxes.side or (then.ap50 or 0.0) - (now.ap50 or 0.0) <= GAIN:
            return False
        return try_closer(*self.read_alike(None, boxes, None), self.case.truth) is not None

    def _score(self, found: Detections, truth: Truth | None = None) -> Score:
        self.tried += 1
        return score(found, self.case.truth if truth is None else truth)

    def _best(
        self, ways: Sequence[_Way], read: Callable[[_Way], Detections], truth: Truth | None = None
    ) -> tuple[_Way | None, Score]:
        best, highest = None, Score(None, 0, 0)
        for way in ways:
            found = self._score(read(way), truth)
            if (found.ap50 or 0.0) > (highest.ap50 or 0.0):
                best, highest = way, found
        return best, highest

    def _classes_upon(self, boxes: BoxReading, now: Score) -> Renumbering | None:
        best, then = self._best(self.numberings, lambda way: self.read(boxes, way))
        return best if clear(now, then, "classes") else None

    def _boxes_upon(self, classes: Renumbering, now: Score) -> BoxReading | None:
        best, then = self._best(self.readings, lambda way: self.read(way, classes))
        return best if clear(now, then, "boxes") else None

    def _together(self, now: Score) -> tuple[BoxReading | None, Renumbering | None]:
        """Where both are wrong, neither helps alone: boxes are judged without classes first."""
        merged = self.case.truth.merged()

        def read(way: BoxReading | None) -> Detections:
            found = self.read(way, None)
            return replace(found, klass=np.zeros_like(found.klass))

        before = self._score(read(None), merged)
        boxes, after = self._best(self.readings, read, merged)
        if boxes is None or not clear(before, after, "boxes"):
            return None, None
        classes, then = self._best(self.numberings, lambda way: self.read(boxes, way))
        return (boxes, classes) if clear(now, then, "classes") else (None, None)

    def _mended(self, now: Score, boxes: BoxReading | None, classes: Renumbering | None) -> Mended:
        rows = self._read(boxes, classes)[1] if boxes or classes else self.case.rows.kept
        found = self.read(boxes, classes) if boxes or classes else self.case.now
        alone = [
            score(self.read(*ways), self.case.truth) if any(ways) else None
            for ways in ((boxes, None), (None, classes))
        ]
        then = score(found, self.case.truth) if boxes or classes else now
        return Mended(now, boxes, classes, alone[0], alone[1], then, found, rows, self.tried)
