"""Metrics of objects along tracks and in frames one after the other."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.quality import geometry
from ea_arrow.quality.moments import hu_moments
from ea_arrow.quality.sequences import (
    inconsistent_class_and_track,
    missing_objects_and_broken_tracks,
    occlusion_in_video,
    polygon_shape_similarity,
)
from tests.quality.test_geometry import SIZE, dense, made

BOX = (10, 10, 20, 20)


def film(rows, videos, tracks=None, shapes=None):
    return made(rows, [SIZE] * len(videos), videos=videos, tracks=tracks, shapes=shapes)


def frames(n, video=0):
    return [(video, place) for place in range(n)]


def cosine(one, other):
    return float(one @ other / math.sqrt((one @ one) * (other @ other)))


# -- shapes along tracks ---------------------------------------------------------------------------


def test_a_shape_is_compared_with_the_average_before_it():
    sizes = [(10, 10), (10, 30), (40, 10)]
    rows = [(i, 0, 0, 0, *size) for i, size in enumerate(sizes)]
    objects = film(rows, frames(3), [0, 0, 0])
    a, b, c = hu_moments(objects)
    expected = [1, cosine(b, a), cosine(c, (a + b) / 2)]
    found = polygon_shape_similarity(objects)
    assert found == pytest.approx(expected)
    assert found[1] < 0.99


def test_the_same_shape_is_like_itself():
    found = polygon_shape_similarity(
        film([(i, 0, *BOX) for i in range(200)], frames(200), [3] * 200)
    )
    assert found == pytest.approx(1)
    assert found.max() <= 1


def test_tracks_are_used_and_belong_to_one_video():
    """Encord Active gave every prediction a track of its own: all were the first of theirs."""
    rows = [(0, 0, 0, 0, 10, 10), (0, 0, 0, 0, 10, 40), (1, 0, 0, 0, 10, 40), (1, 0, 0, 0, 10, 10)]
    crossed = polygon_shape_similarity(film(rows, frames(2), [0, 1, 0, 1]))
    straight = polygon_shape_similarity(film(rows, frames(2), [0, 1, 1, 0]))
    apart = polygon_shape_similarity(film(rows, [(0, 0), (1, 0)], [0, 1, 0, 1]))
    assert straight.tolist() == pytest.approx([1, 1, 1, 1])
    assert crossed[:2].tolist() == [1, 1]
    assert (crossed[2:] < 0.99).all()
    assert apart.tolist() == [1, 1, 1, 1]


def test_without_track_or_area_there_is_no_similarity():
    rows = [(0, 0, *BOX), (1, 0, 0, 0, 5, 0), (2, 0, 0, 0, 5, 40), (3, 0, *BOX)]
    objects = film(rows, frames(4), [0, 0, 0, -1])
    hu = hu_moments(objects)
    found = polygon_shape_similarity(objects)
    assert found[[0, 2]].tolist() == pytest.approx([1, cosine(hu[2], hu[0])])
    assert np.isnan(found[[1, 3]]).all()


@given(st.integers(0, 2**32), st.integers(1, 150), st.integers(1, 4))
def test_long_tracks_as_a_plain_loop_follows_them(seed, n, n_tracks):
    rng = np.random.default_rng(seed)
    rows = [(i, 0, 0, 0, *rng.uniform(1, 50, 2).tolist()) for i in range(n)]
    tracks = rng.integers(0, n_tracks, n).tolist()
    order = rng.permutation(n)  # of places
    objects = film(rows, [(0, int(place)) for place in order], tracks)
    found, hu = polygon_shape_similarity(objects), hu_moments(objects)
    average = {}
    for i in np.argsort(order).tolist():
        before = average.get(tracks[i])
        assert found[i] == pytest.approx(1 if before is None else cosine(hu[i], before))
        average[tracks[i]] = hu[i] if before is None else (before + hu[i]) / 2


def test_masks_along_a_track_are_whole():
    """The second frame loses a small part, which Encord Active would not have seen."""
    shapes = {0: dense((0, 0, 20, 10), (60, 30, 10, 5)), 1: dense((0, 0, 20, 10))}
    objects = film([(0, 0, 0, 0, 70, 35), (1, 0, 0, 0, 20, 10)], frames(2), [0, 0], shapes)
    assert polygon_shape_similarity(objects)[1] < 0.9999


# -- missing objects -------------------------------------------------------------------------------


def missing(rows, videos, tracks=None):
    return missing_objects_and_broken_tracks(film(rows, videos, tracks)).tolist()


def test_an_object_missing_in_the_middle():
    assert missing([(0, 0, *BOX), (2, 0, *BOX)], frames(3)) == [1, 0]


def test_an_object_that_is_there_throughout():
    assert missing([(i, 0, *BOX) for i in range(4)], frames(4), [5] * 4) == [1, 1, 1, 1]


def test_only_its_class_counts_in_all_three_frames():
    assert missing([(0, 0, *BOX), (1, 1, *BOX), (2, 0, *BOX)], frames(3)) == [1, 1, 0]
    assert missing([(0, 1, *BOX), (1, 1, *BOX), (2, 0, *BOX)], frames(3)) == [1, 1, 1]


@pytest.mark.parametrize(
    ("tracks", "value"),
    [([1, 1, 1], 1), ([1, 1, 2], 0.5), ([1, 2, 1], 0.5), ([2, 1, 1], 0.5), ([-1, -1, -1], 1),
     ([1, -1, 1], 1), ([1, 1, -1], 1)],
)  # fmt: skip
def test_a_broken_track(tracks, value):
    """Encord Active gave every prediction a track of its own, and so flagged everything."""
    assert missing([(i, 0, *BOX) for i in range(3)], frames(3), tracks) == [1, 1, value]


def test_windows_stay_within_a_video():
    """Encord Active's ran on into the next video."""
    rows = [(i, 0, *BOX) for i in (0, 2)]
    assert missing(rows, [(0, 0), (0, 1), (1, 0), (1, 1)]) == [1, 1]
    assert missing(rows, [(0, 0), (1, 0), (0, 1), (1, 1)]) == [1, 1]
    assert missing(rows, [(0, 0), (1, 0), (0, 2), (0, 1)]) == [1, 0]


def test_images_are_no_frames():
    rows = [(i, 0, *BOX) for i in range(3)]
    assert np.isnan(missing(rows, [(0, 0), (1, 0), (2, 0)])).all()
    assert np.isnan(inconsistent_class_and_track(film(rows, [(0, 0), (1, 0), (2, 0)]))).all()


@pytest.mark.parametrize(
    ("back", "middle", "value"),
    [
        ((0, 0, 40, 10), (0, 0, 10, 10), 1),  # 0.25 is enough two frames back
        ((0, 0, 40.1, 10), None, 1),
        ((0, 0, 40, 10), (0, 0, 20, 10), 0),  # 0.5 is too little in the middle
        ((0, 0, 40, 10), (0, 0, 19.9, 10), 1),
    ],
)
def test_bounds(back, middle, value):
    rows = [(0, 0, *back), (1, 0, *(middle or (60, 30, 5, 5))), (2, 0, 0, 0, 10, 10)]
    assert missing(rows, frames(3))[2] == value


# -- inconsistent classes and tracks ---------------------------------------------------------------


def inconsistent(rows, videos, tracks=None):
    return inconsistent_class_and_track(film(rows, videos, tracks)).tolist()


def test_another_class_in_the_same_place():
    rows = [(0, 0, 0, 0, 10, 10), (1, 1, 0, 0, 10, 9), (2, 1, 0, 0, 10, 9)]
    assert inconsistent(rows, frames(3)) == pytest.approx([1, 0.1, 1])


def test_another_track_in_the_same_place():
    rows = [(0, 0, 0, 0, 10, 10), (1, 0, 0, 0, 10, 9), (2, 0, 0, 0, 10, 9)]
    assert inconsistent(rows, frames(3), [1, 2, 2]) == pytest.approx([1, 0.1, 1])
    assert inconsistent(rows, frames(3), [1, 1, 1]) == [1, 1, 1]
    assert inconsistent(rows, frames(3), [1, -1, 1]) == [1, 1, 1]


def test_it_takes_an_iou_above_the_bound_in_the_frame_before():
    assert inconsistent([(0, 0, 0, 0, 10, 10), (1, 1, 0, 0, 10, 8)], frames(2)) == [1, 1]
    assert inconsistent([(0, 0, *BOX), (2, 1, *BOX)], frames(3)) == [1, 1]
    assert inconsistent([(0, 0, *BOX), (1, 1, *BOX)], [(0, 1), (1, 0), (1, 1), (0, 0)]) == [1, 1]
    assert inconsistent([(0, 0, *BOX), (1, 1, *BOX)], [(0, 1), (0, 0), (1, 0), (1, 1)]) == [0, 1]


def test_the_highest_iou_counts():
    rows = [(0, 1, 0, 0, 10, 9), (0, 0, 0, 0, 10, 9.5), (0, 1, 0, 0, 10, 9.2), (1, 0, 0, 0, 10, 10)]
    assert inconsistent(rows, frames(2))[3] == pytest.approx(0.08)


# -- occlusion -------------------------------------------------------------------------------------


def occlusion(sizes, tracks=None, videos=None):
    rows = [(i, 0, 0, 0, *size) for i, size in enumerate(sizes)]
    objects = film(rows, videos or frames(len(sizes)), tracks or [0] * len(sizes))
    return occlusion_in_video(objects)


def test_occlusion_by_hand():
    """Both scaled are 1, 1, 1, 1, 0, their mean 0.8: the last is 0.8 √2 off."""
    found = occlusion([(20, 20)] * 4 + [(5, 20)])
    assert found.tolist() == pytest.approx([100] * 4 + [1 / (0.8 * math.sqrt(2))])


def test_larger_than_usual_is_not_occluded():
    assert occlusion([(20, 20)] * 4 + [(80, 20)]).tolist() == [100] * 5


def test_a_track_that_does_not_change_is_not_occluded():
    assert occlusion([(20, 20)] * 7).tolist() == [100] * 7


def test_short_tracks_and_none_have_no_value():
    assert np.isnan(occlusion([(20, 20)] * 4)).all()
    assert np.isnan(occlusion([(20, 20)] * 6, tracks=[-1] * 6)).all()
    flat = occlusion([(20, 20)] * 4 + [(20, 0)])
    assert np.isnan(flat).all()
    two = [(0, i) for i in range(4)] + [(1, i) for i in range(4)]
    assert np.isnan(occlusion([(20, 20)] * 8, videos=two)).all()


# -- everything, one object at a time --------------------------------------------------------------


def overlap(objects, i, j):
    def box(row):
        x, y, w, h = objects.box[row].tolist()
        return shapely.box(x, y, x + w, y + h)

    return box(i).intersection(box(j)).area / (box(i).union(box(j)).area or 1)


class Slow:
    """The definitions as they are written."""

    def __init__(self, objects):
        self.objects = objects
        units = objects.units
        self.frames = [(int(units.video[u]), int(units.place[u])) for u in objects.unit]
        videos = units.video.tolist()
        self.alone = {video for video in videos if videos.count(video) == 1}

    def before(self, i, back):
        video, place = self.frames[i]
        return [j for j, frame in enumerate(self.frames) if frame == (video, place - back)]

    def differ(self, i, j):
        one, other = self.objects.track[[i, j]].tolist()
        return one >= 0 and other >= 0 and one != other

    def best(self, i, back):
        klass = self.objects.klass
        mates = [j for j in self.before(i, back) if klass[j] == klass[i]]
        found = [(overlap(self.objects, i, j), -int(self.objects.ids[j]), j) for j in mates]
        iou, _, j = max(found, default=(0, 0, -1))
        return iou, j

    def missing(self, i):
        if self.frames[i][0] in self.alone:
            return math.nan
        iou, back = self.best(i, 2)
        middle_iou, middle = self.best(i, 1)
        if iou < 0.25:
            return 1
        if middle_iou <= 0.5:
            return 0
        return 0.5 if self.differ(i, back) or self.differ(i, middle) else 1

    def inconsistent(self, i):
        if self.frames[i][0] in self.alone:
            return math.nan
        klass = self.objects.klass
        others = [j for j in self.before(i, 1) if klass[j] != klass[i] or self.differ(i, j)]
        iou = max((overlap(self.objects, i, j) for j in others), default=0)
        return 1 - iou if iou > 0.8 else 1

    def occlusion(self):
        found = [math.nan] * len(self.frames)
        keys = [
            (frame[0], int(t)) for frame, t in zip(self.frames, self.objects.track, strict=True)
        ]
        for key in set(keys):
            rows = [i for i, k in enumerate(keys) if k == key]
            if key[1] < 0 or len(rows) < 5:
                continue
            w, h = self.objects.box[rows, 2], self.objects.box[rows, 3]
            measures = np.stack([w * h, w / h], axis=1)
            span = np.ptp(measures, axis=0)
            scaled = (measures - measures.min(axis=0)) / np.where(span > 0, span, 1)
            mean = scaled.mean(axis=0)
            for i, point in zip(rows, scaled, strict=True):
                d = math.dist(point, mean)
                found[i] = 1 / d if d > 0.3 and point[0] < mean[0] else 100
        return found


@given(st.integers(0, 2**32), st.sampled_from([1, 7, 1 << 17]))
def test_random_films_as_plain_loops_see_them(seed, at_once):
    rng = np.random.default_rng(seed)
    videos = [
        frame
        for video, n in enumerate(rng.integers(1, 6, 3).tolist())
        for frame in frames(n, video)
    ]
    videos = [videos[i] for i in rng.permutation(len(videos))]
    n = int(rng.integers(0, 40))
    sizes = rng.choice([16, 20, 21], (n, 2)).tolist()
    rows = [
        (
            int(rng.integers(len(videos))),
            int(rng.integers(2)),
            *rng.integers(0, 4, 2).tolist(),
            *size,
        )
        for size in sizes
    ]
    objects = film(rows, videos, rng.integers(-1, 2, n).tolist())
    slow = Slow(objects)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "OBJECTS_AT_ONCE", at_once)
        found = missing_objects_and_broken_tracks(objects), inconsistent_class_and_track(objects)
    expected = [slow.missing(i) for i in range(n)], [slow.inconsistent(i) for i in range(n)]
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
    np.testing.assert_allclose(occlusion_in_video(objects), slow.occlusion())
