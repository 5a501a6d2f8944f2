"""Metrics of objects in frames one after the other: tracks, and what appears and disappears.

Frames are the data units of one video or image group, in order; neighbours are those next to each
other there, whatever their frame numbers. Nothing is compared across videos, and a track belongs to
one video. Objects in different frames are compared by their enclosing boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ea_arrow.arranged import run_starts, stable_order
from ea_arrow.pairs import best_labels
from ea_arrow.quality.declared import Metric
from ea_arrow.quality.geometry import Side, object_aspect_ratio, overlapping
from ea_arrow.quality.moments import hu_moments

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.quality.objects import Objects, Units

DECAY = 0.5
SAME_PLACE, STILL_THERE, OVER = 0.25, 0.5, 0.8  # IoU
SHORTEST_TRACK, FAR = 5, 0.3
NOT_OCCLUDED = 100.0


def polygon_shape_similarity(objects: Objects) -> Floats:
    """Return how like an object's shape is to those before it on its track, shape (n,).

    The cosine of its Hu moments (see :func:`~ea_arrow.quality.moments.hu_moments`) with their
    exponential moving average (decay 0.5) over the frames before; 1 for the first of a track. NaN
    without a track, or without area: such a shape does not enter the average either.
    """
    similarity = np.full(len(objects), np.nan)
    hu = hu_moments(objects)
    rows, is_first = _along_tracks(objects, np.isfinite(hu[:, 0]))
    if not len(rows):
        return similarity
    mine = hu[rows]
    average = np.roll(_moving_average(mine, is_first), 1, axis=0)
    lengths = np.sqrt((mine**2).sum(axis=1) * (average**2).sum(axis=1))
    cosine = (mine * average).sum(axis=1) / lengths
    similarity[rows] = np.where(is_first, 1, np.minimum(cosine, 1))
    return similarity


def missing_objects_and_broken_tracks(objects: Objects) -> Floats:
    """Return 0 where an object may be missing, 0.5 where a track may be broken, else 1; (n,).

    Of an object, let there be one of its class two frames back, IoU 0.25 or more (the one of
    highest IoU). If no object of the class in the frame between has an IoU above 0.5 with it, that
    one may be missing: 0. If the three have tracks and these differ, a track may be broken: 0.5.
    NaN in a data unit that is no frame of several.
    """
    between = _best(objects, _before(objects.units, 1), np.nextafter(STILL_THERE, 1))
    back = _best(objects, _before(objects.units, 2), SAME_PLACE)
    value = np.ones(len(objects))
    value[(back >= 0) & (between < 0)] = 0
    both = np.flatnonzero((back >= 0) & (between >= 0))
    broken = _tracks_differ(objects, both, back[both]) | _tracks_differ(
        objects, both, between[both]
    )
    value[both[broken]] = 0.5
    return _in_sequences(objects, value)


def inconsistent_class_and_track(objects: Objects) -> Floats:
    """Return 1 − IoU with an object of the frame before whose class or track is another; (n,).

    Only an IoU above 0.8 counts, the highest one of several; 1 without. Where either object has no
    track, tracks do not differ. NaN in a data unit that is no frame of several.
    """
    before = _before(objects.units, 1)[objects.unit]
    rows = np.flatnonzero(before >= 0)
    n_units = len(objects.units)
    first = _side(rows, before[rows], n_units)
    second = _side(np.arange(len(objects)), objects.unit, n_units)
    value = np.ones(len(objects))
    for joined in overlapping(objects, first, second, np.nextafter(OVER, 1)):
        one, other = joined.first, joined.second
        differ = objects.klass[one] != objects.klass[other]
        differ |= _tracks_differ(objects, one, other)
        best, iou = best_labels(joined.pairs.take(differ), joined.arranged)
        found = best >= 0
        value[joined.arranged.row[found]] = 1 - iou[found]
    return _in_sequences(objects, value)


def occlusion_in_video(objects: Objects) -> Floats:
    """Return a low value where an object is much smaller than along its track, shape (n,).

    Along a track of 5 or more objects, area and aspect ratio are scaled to 0 … 1 (0 where they do
    not change). d is the distance to the mean of the two; 1 / d where d > 0.3 and the area is
    below its mean, else 100. NaN without such a track, or for a box of height 0, which does not
    enter the means either.
    """
    value = np.full(len(objects), np.nan)
    aspect = object_aspect_ratio(objects)
    rows, is_first = _along_tracks(objects, np.isfinite(aspect))
    starts = np.flatnonzero(is_first)
    lengths = np.diff(starts, append=len(rows))
    rows = rows[np.repeat(lengths >= SHORTEST_TRACK, lengths)]
    lengths = lengths[lengths >= SHORTEST_TRACK]
    if not len(rows):
        return value
    starts = np.cumsum(lengths) - lengths
    offsets = []
    for measure in (objects.area[rows], aspect[rows]):
        low = np.minimum.reduceat(measure, starts)
        span = np.maximum.reduceat(measure, starts) - low
        scaled = (measure - np.repeat(low, lengths)) / np.repeat(
            np.where(span > 0, span, 1), lengths
        )
        mean = np.add.reduceat(scaled, starts) / lengths
        offsets.append(scaled - np.repeat(mean, lengths))
    distance = np.hypot(*offsets)
    occluded = (distance > FAR) & (offsets[0] < 0)
    value[rows] = NOT_OCCLUDED
    value[rows[occluded]] = 1 / distance[occluded]
    return value


# -- along tracks ----------------------------------------------------------------------------------


def _along_tracks(objects: Objects, usable: Bools) -> tuple[Ints, Bools]:
    """Return usable rows that have a track, by track and frame, and which is its first."""
    rows = np.flatnonzero((objects.track >= 0) & usable)
    units = objects.units
    unit, track = objects.unit[rows], objects.track[rows]
    video, place = units.video[unit], units.place[unit]
    sizes = [int(values.max(initial=0)) + 1 for values in (video, track, place)]
    order = stable_order((video, sizes[0]), (track, sizes[1]), (place, sizes[2]))
    is_first = np.zeros(len(rows), bool)
    is_first[run_starts(video[order] * sizes[1] + track[order])] = True
    return rows[order], is_first


def _moving_average(values: Floats, is_first: Bools) -> Floats:
    """Return the exponential moving average within each run, shape (n, k).

    It is a recurrence, average = kept · average before + added; recurrences over 1, 2, 4, … steps
    are put together from two of half as many, until nothing of what lies farther back is left.
    """
    kept = np.where(is_first, 0.0, DECAY)
    added = np.where(is_first, 1.0, 1 - DECAY)[:, None] * values
    steps = 1
    while steps < len(values) and kept.max() > 1e-30:
        added[steps:] += kept[steps:, None] * added[:-steps]
        kept[steps:] *= kept[:-steps].copy()  # as they were
        steps *= 2
    return added


# -- frames before ---------------------------------------------------------------------------------


def _before(units: Units, back: int) -> Ints:
    """Return the data unit ``back`` places earlier in the same video (U,), −1 where none is."""
    before = np.full(len(units), -1)
    if len(units) > back:
        order = np.lexsort((units.place, units.video))
        later, earlier = order[back:], order[:-back]
        same = units.video[later] == units.video[earlier]
        before[later[same]] = earlier[same]
    return before


def _in_sequences(objects: Objects, value: Floats) -> Floats:
    """Return values, NaN where the data unit is the only one of its video."""
    alone = np.bincount(objects.units.video, minlength=1)[objects.units.video] < 2
    value[alone[objects.unit]] = np.nan
    return value


def _tracks_differ(objects: Objects, one: Ints, other: Ints) -> Bools:
    """Return which pairs of rows have two tracks."""
    mine, theirs = objects.track[one], objects.track[other]
    differ: Bools = (mine >= 0) & (theirs >= 0) & (mine != theirs)
    return differ


def _best(objects: Objects, before: Ints, lowest: float) -> Ints:
    """Return the row of each object's match in another frame, −1 without, shape (n,).

    Args:
        objects: The objects.
        before: The data unit to look in, of each data unit, −1 for none, shape (U,).
        lowest: A match is of the same class and of at least this IoU; the highest is taken, and of
            several the lowest id.
    """
    n_classes = int(objects.klass.max(initial=-1)) + 2
    n_keys = len(objects.units) * n_classes
    at = before[objects.unit]
    rows = np.flatnonzero(at >= 0)
    klass = objects.klass + 1
    first = _side(rows, at[rows] * n_classes + klass[rows], n_keys)
    second = _side(np.arange(len(objects)), objects.unit * n_classes + klass, n_keys)
    match = np.full(len(objects), -1)
    for joined in overlapping(objects, first, second, lowest):
        best, _ = best_labels(joined.pairs, joined.arranged)
        found = best >= 0
        match[joined.arranged.row[found]] = joined.arranged.label_row[best[found]]
    return match


def _side(rows: Ints, key: Ints, n_keys: int) -> Side:
    order = stable_order((key, n_keys))
    return Side(rows[order], key[order])


METRICS: Final = (
    Metric(
        "polygon_shape_similarity",
        "Polygon Shape Similarity",
        ("prediction", "label"),
        ("geometry", "shape", "order", "track"),
        "How like the object's shape is to those before it on its track: 1 is alike.",
        "Cosine of Hu moments with their exponential moving average, decay 0.5: Encord Active",
        "low",
        polygon_shape_similarity,
    ),
    Metric(
        "missing_objects_and_broken_tracks",
        "Missing Objects and Broken Tracks",
        ("prediction", "label"),
        ("geometry", "order", "track"),
        "0: an object may be missing in the frame before; 0.5: a track may be broken; else 1.",
        "Window of 3 frames, IoU ≥ 0.25 and > 0.5: Encord Active",
        "low",
        missing_objects_and_broken_tracks,
    ),
    Metric(
        "inconsistent_class_and_track",
        "Inconsistent Object Classification and Track IDs",
        ("prediction", "label"),
        ("geometry", "order", "track"),
        "Below 1 where an object of the frame before is in the same place (IoU > 0.8) with another "
        "class or track.",
        "1 − IoU: Encord Active",
        "low",
        inconsistent_class_and_track,
    ),
    Metric(
        "occlusion_in_video",
        "Detect Occlusion in Video",
        ("prediction", "label"),
        ("geometry", "order", "track"),
        "Below 100 where an object is smaller, and shaped otherwise, than along its track.",
        "1 / distance to the mean of scaled area and aspect ratio: Encord Active",
        "low",
        occlusion_in_video,
    ),
)
