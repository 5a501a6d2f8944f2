"""What a project answers: equal to the evaluation itself, however it is asked and what is kept."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

import ea_arrow
from ea_arrow import (
    BoundingBox,
    Format,
    FrameClassification,
    ObjectDetection,
    Prediction,
    cache,
)
from ea_arrow.errors import EaArrowError, IterationNotFoundError, ParameterError, QueryError
from ea_arrow.metrics.coco import CocoParameters, evaluate
from tests.builders import ONTOLOGY, RESULTS, import_results, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

WIDTH, HEIGHT, IMAGES, CATEGORIES = 100, 80, 6, 4
CROWDED = 130  # predictions of one class in one image: more than COCO's 100


# -- a small data set with boxes, polygons and masks, in which much overlaps ----------------------


def polygon(box: list[float]) -> list[list[float]]:
    """A box with a notch in its lower edge."""
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x + w / 2, y + h / 2, x, y + h]]


def rle(box: list[float]) -> dict[str, Any]:
    """A box without its first two rows."""
    x, y, w, h = map(int, box)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    pixels[y + 2 : y + h, x : x + w] = 1
    found = mask_utils.encode(pixels)
    return {"size": found["size"], "counts": found["counts"].decode()}


def near(box: list[float], draw: random.Random) -> list[float]:
    x, y = max(0, box[0] + draw.randint(-4, 4)), max(0, box[1] + draw.randint(-3, 3))
    return [x, y, min(box[2], WIDTH - x), min(box[3], HEIGHT - y)]


def data(seed: int = 3) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth, half polygons and half masks, and results with boxes. Category 4 has no label.

    Scores have one digit, so there are ties. In image 1 the cats are found, but by predictions
    beyond the first 100. The last image has no predictions.
    """
    draw = random.Random(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number in range(IMAGES * 4):
        image = number // 4 + 1
        box = [draw.randint(0, 60), draw.randint(0, 50), draw.randint(8, 38), draw.randint(8, 28)]
        category = draw.randint(1, CATEGORIES - 1)
        shape = rle(box) if number % 2 else polygon(box)
        annotations.append(
            {"id": number + 1, "image_id": image, "category_id": category, "bbox": box}
            | {"area": box[2] * box[3], "segmentation": shape, "iscrowd": int(number == 7)}
        )
        for _ in range(3 * (image < IMAGES)):
            found = category if draw.random() < 0.8 else draw.randint(1, CATEGORIES)
            results.append(
                {"image_id": image, "category_id": found, "bbox": near(box, draw)}
                | {"score": round(draw.random(), 1)}
            )
    far = {"image_id": 1, "category_id": 1, "bbox": [98, 78, 2, 2], "score": 1.0}
    truth = {
        "images": [
            {"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f"{'night' * (i % 2)}{i}.jpg"}
            for i in range(1, IMAGES + 1)
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CATEGORIES + 1)],
        "annotations": annotations,
    }
    return truth, [*results, *([far] * CROWDED)]


def as_masks(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**r, "segmentation": rle(r["bbox"])} for r in results]


def as_polygons(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**r, "segmentation": polygon(r["bbox"])} for r in results]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ea_arrow.Project:
    """Iterations ``boxes`` and ``shapes``; no test changes them."""
    truth, results = data()
    project = make_project(tmp_path_factory.mktemp("answers"), truth=truth)
    import_results(project, results, "boxes")
    # The far predictions come last, so both files hold some of every image.
    import_results(project, as_masks(results[::2]), "shapes")
    import_results(project, as_polygons(results[1::2]), "shapes", mode="append")
    project.add_slice("night", "title like 'night%'")
    project.add_slice("nothing", "false")
    return project


@pytest.fixture
def fresh(project: ea_arrow.Project, tmp_path: Path) -> ea_arrow.Project:
    """A copy in which nothing is kept yet."""
    shutil.copytree(project.root / ".ea-arrow", tmp_path / "p" / ".ea-arrow")
    clear(ea_arrow.open(tmp_path / "p"))
    return ea_arrow.open(tmp_path / "p")


def derived(project: ea_arrow.Project) -> Path:
    return project.root / ".ea-arrow" / "derived"


def clear(project: ea_arrow.Project, pattern: str = "*") -> None:
    for path in derived(project).glob(pattern):
        path.unlink()


def kept(project: ea_arrow.Project) -> dict[str, int]:
    """What is kept, with the time it was written."""
    return {path.name: path.stat().st_mtime_ns for path in derived(project).iterdir()}


def numbers(result: Any) -> dict[tuple[Any, ...], Any]:
    """Metrics as {(class, metric): value, labels, predictions}."""
    return {
        (r["class"], r["metric"]): (r["value"], r["n_labels"], r["n_predictions"]) for r in result
    }


def overall(result: Any) -> dict[str, float | None]:
    return {r["metric"]: r["value"] for r in result if r["class"] is None}


# -- every answer, however it is asked -------------------------------------------------------------

FINE = tuple(np.linspace(0.1, 0.9, 9).tolist())
TINY = {"all": (0.0, 1e10), "tiny": (0.0, 256.0), "other": (256.0, 1e5)}
METRIC_QUESTIONS: list[dict[str, Any]] = [
    {},
    {"iou_thresholds": (0.5,)},
    {"iou_thresholds": (0.75, 0.9)},
    {"iou_thresholds": FINE},  # below what is kept for COCO's
    {"iou_thresholds": (0.02, 1.0)},
    {"max_detections": (1, 10, 200)},  # beyond what is kept for COCO's
    {"max_detections": (2,)},
    {"max_detections": (150, 3)},
    {"areas": TINY},
    {"areas": TINY, "max_detections": (500,), "iou_thresholds": (0.3, 0.6)},
    {"where": "title like 'night%'"},
    {"where": "unit_id >= 2", "max_detections": (1, 10, 200)},
    {"where": "unit_id >= 2", "iou_thresholds": FINE},
    {"slice": "night"},
    {"slice": "night", "where": "unit_id > 0", "areas": TINY},
    {"slice": "nothing"},
    {"protocol": "encord"},
    {"protocol": "encord", "iou_thresholds": (0.3, 0.7), "slice": "night"},
    {"protocol": "encord", "ignore_unmatched_frames": True},
    {"protocol": "classification"},
]
OTHER_QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("curves", {}),
    ("curves", {"iou_thresholds": FINE, "max_detections": (7,), "where": "unit_id < 4"}),
    ("curves", {"max_detections": (120,), "areas": TINY}),
    ("operating_points", {}),
    ("operating_points", {"iou_threshold": 0.2, "max_detections": 120}),
    ("operating_points", {"iou_threshold": 0.9, "slice": "night"}),
    ("matches", {}),
    ("matches", {"iou_threshold": 0.05, "protocol": "encord"}),
    ("matches", {"iou_threshold": 0.8, "slice": "night"}),
    ("confusion", {}),
    ("confusion", {"confidence": 0.5, "iou_threshold": 0.3, "max_detections": 150}),
    ("confusion", {"protocol": "classification"}),
]
ASKED = [("metrics", question) for question in METRIC_QUESTIONS] + OTHER_QUESTIONS
EVERY = [("boxes", method, question) for method, question in ASKED]
EVERY += [("shapes", method, question) for method, question in ASKED[::4]]
EVERY += [("shapes", method, {**question, "iou_type": "bbox"}) for method, question in ASKED[1::8]]


def ask(project: ea_arrow.Project, asked: tuple[str, str, dict[str, Any]], **more: Any) -> pa.Table:
    name, method, question = asked
    table: pa.Table = getattr(project, method)(name, **question, **more).to_arrow()
    return table


@pytest.fixture(scope="module")
def expected(project: ea_arrow.Project) -> list[pa.Table]:
    """The answers to EVERY without a cache."""
    return [ask(project, asked, cache=False) for asked in EVERY]


def test_the_questions_have_different_answers(expected: list[pa.Table]) -> None:
    """Else the sweep below could not see one answer given for another."""
    wide = METRIC_QUESTIONS.index({"max_detections": (1, 10, 200)})
    in_hundred, beyond = (overall(expected[i].to_pylist()) for i in (0, wide))
    assert in_hundred["AR10"] == beyond["AR10"]
    assert in_hundred["AR100"] < beyond["AR200"]
    tables = [table.to_pydict() for table in expected if table.num_rows]
    assert len({str(table) for table in tables}) == len(tables)


@pytest.fixture(scope="module")
def asked_often(
    project: ea_arrow.Project, tmp_path_factory: pytest.TempPathFactory
) -> ea_arrow.Project:
    root = tmp_path_factory.mktemp("often")
    shutil.copytree(project.root / ".ea-arrow", root / ".ea-arrow")
    return ea_arrow.open(root)


@settings(max_examples=12)
@given(order=st.lists(st.integers(0, len(EVERY) - 1), min_size=2, max_size=6), again=st.booleans())
def test_any_order_of_questions_gives_the_answers_without_a_cache(
    asked_often: ea_arrow.Project, expected: list[pa.Table], order: list[int], again: bool
) -> None:
    """Whether one process asks, which keeps some in memory, or each question has its own."""
    clear(asked_often)
    project = ea_arrow.open(asked_often.root)
    for index in order:
        assert ask(project, EVERY[index]).equals(expected[index]), EVERY[index]
        if again:
            project = ea_arrow.open(asked_often.root)


def test_all_questions_one_after_the_other_and_again(
    asked_often: ea_arrow.Project, expected: list[pa.Table]
) -> None:
    clear(asked_often)
    for again in (False, True):
        before, project = kept(asked_often), ea_arrow.open(asked_often.root)
        for asked, table in zip(EVERY, expected, strict=True):
            assert ask(project, asked).equals(table), asked
        assert (kept(asked_often) == before) == again, "the second time nothing is computed"


def test_without_a_cache_nothing_is_read_or_kept(fresh: ea_arrow.Project) -> None:
    wrong = fresh.metrics("boxes").to_arrow()
    clear(fresh)
    fresh.metrics("boxes", cache=False)
    assert kept(fresh) == {}
    fresh.metrics("boxes")
    for path in derived(fresh).glob("metrics-*"):  # a lie that only a cache would tell
        cache.pq.write_table(wrong.slice(0, 1), path)
    assert len(fresh.metrics("boxes", cache=False)) == len(wrong) > 1
    assert len(fresh.metrics("boxes")) == 1


# -- the evaluation itself -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["boxes", "shapes"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    "asked", [{}, {"iou_thresholds": (0.3, 0.6)}, {"max_detections": (5, 200)}, {"areas": TINY}]
)
def test_metrics_equal_the_evaluation_of_the_stored_tables(
    fresh: ea_arrow.Project, name: str, iou_type: Any, asked: dict[str, Any]
) -> None:
    tables = [fresh.predictions(name), fresh.labels, fresh.data_units, fresh.classes]
    found = evaluate(
        *(table.to_arrow() for table in tables), CocoParameters(iou_type=iou_type, **asked)
    )
    wanted = found.to_metrics(name, "").drop_columns("provenance")
    got = fresh.metrics(name, iou_type=iou_type, **asked).to_arrow().drop_columns("provenance")
    assert got.equals(wanted)
    assert 0 < overall(got.to_pylist())["AP"] < 1


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("chosen", [(1, 3, 5), (2, 6), (4,)])
def test_a_slice_equals_a_project_of_only_its_data_units(
    fresh: ea_arrow.Project, tmp_path: Path, iou_type: Any, chosen: tuple[int, ...]
) -> None:
    truth, results = data()
    small = {
        **truth,
        "images": [i for i in truth["images"] if i["id"] in chosen],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in chosen],
    }
    alone = make_project(tmp_path / "alone", truth=small)
    import_results(alone, [r for r in results if r["image_id"] in chosen], "boxes")
    fresh.add_slice("part", f"source_id in ({', '.join(map(repr, map(str, chosen)))})")
    for protocol in ("coco", "encord"):
        asked: dict[str, Any] = {"protocol": protocol, "iou_type": iou_type}
        wanted = numbers(alone.metrics("boxes", **asked))
        assert numbers(fresh.metrics("boxes", slice="part", **asked)) == wanted
        assert numbers(fresh.metrics("boxes", slice="part", cache=False, **asked)) == wanted
    assert len(overall(fresh.metrics("boxes", slice="part"))) == 12
    points = [
        p.operating_points("boxes", iou_type=iou_type, **s).to_arrow().drop_columns("subset")
        for p, s in ((alone, {}), (fresh, {"slice": "part"}))
    ]
    assert points[0].equals(points[1])


def test_matches_and_metrics_count_the_same_true_positives(fresh: ea_arrow.Project) -> None:
    for name in ("boxes", "shapes"):
        tp = sum(r["outcome"] == "TP" for r in fresh.matches(name))
        best = [r for r in fresh.operating_points(name) if r["class"] is None]
        found = [r for r in fresh.confusion(name) if r["label_hash"] == r["predicted_hash"]]
        assert tp == best[-1]["tp"] == sum(r["count"] for r in found)
        labels = sum(r["outcome"] == "FN" for r in fresh.matches(name)) + tp
        assert labels == IMAGES * 4 - 1, "all but the crowd"


def test_the_subset_is_named(fresh: ea_arrow.Project) -> None:
    for asked, subset in (
        ({}, "all"),
        ({"slice": "night"}, "night"),
        ({"where": "unit_id\n  > 1"}, "unit_id > 1"),
        ({"slice": "night", "where": "unit_id > 1"}, "night and unit_id > 1"),
    ):
        assert {r["subset"] for r in fresh.metrics("boxes", **asked)} == {subset}


# -- never stale -----------------------------------------------------------------------------------


def assert_current(project: ea_arrow.Project, name: str) -> list[pa.Table]:
    methods = ("metrics", "curves", "operating_points", "matches", "confusion")
    cached = [ask(project, (name, m, {})) for m in methods]
    computed = [ask(project, (name, m, {}), cache=False) for m in methods]
    assert [a.equals(b) for a, b in zip(cached, computed, strict=True)] == [True] * len(methods)
    by_sql = project.sql(f"from metrics where iteration = '{name}'").to_arrow()
    assert by_sql["value"].to_pylist() == computed[0]["value"].to_pylist()
    return cached


@pytest.mark.parametrize("kind", ["boxes", "polygons"])
def test_answers_follow_every_change(fresh: ea_arrow.Project, kind: str) -> None:
    _, results = data()
    shaped = {"boxes": list, "polygons": as_polygons}[kind](results)
    seen = []
    import_results(fresh, shaped[:20], "x")
    seen.append(assert_current(fresh, "x"))
    import_results(fresh, shaped[20:40], "x", mode="append")
    seen.append(assert_current(fresh, "x"))
    import_results(fresh, shaped[10:30], "x", mode="replace")
    seen.append(assert_current(fresh, "x"))
    fresh.remove("x")
    with pytest.raises(IterationNotFoundError):
        fresh.metrics("x")
    import_results(fresh, shaped[30:60], "x")
    seen.append(assert_current(fresh, "x"))
    for one in range(len(seen)):
        for other in range(one):
            assert not any(a.equals(b) for a, b in zip(seen[one], seen[other], strict=True))


def test_a_changed_condition_of_a_slice_changes_the_answers(fresh: ea_arrow.Project) -> None:
    fresh.add_slice("s", "unit_id < 2")
    few = numbers(fresh.metrics("boxes", slice="s"))
    fresh.add_slice("s", "unit_id >= 2", replace=True)
    many = numbers(fresh.metrics("boxes", slice="s"))
    assert few != many
    assert many == numbers(fresh.metrics("boxes", slice="s", cache=False))
    fresh.add_slice("t", "unit_id < 2")
    assert numbers(fresh.metrics("boxes", slice="t")) == few


# -- files that are kept ---------------------------------------------------------------------------

SAMPLE = [EVERY[i] for i in range(0, len(EVERY), 7)] + [("shapes", "curves", {})]
DAMAGE = {
    "empty": lambda content: b"",
    "garbage": lambda content: random.Random(0).randbytes(len(content)),
    "half": lambda content: content[: len(content) // 2],
    "zeros at the end": lambda content: content[: len(content) // 2] + bytes(len(content) // 2),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_computed_again(
    fresh: ea_arrow.Project, project: ea_arrow.Project, damage: str
) -> None:
    wanted = [ask(fresh, asked) for asked in SAMPLE]
    whole = {path.name: path.read_bytes() for path in derived(fresh).iterdir()}
    kinds = {name.partition("-")[0] for name in whole}
    assert {"metrics", "candidates_bbox", "candidates_segm", "masks"} <= kinds
    for suffix in (".parquet", ".arrow"):
        for path in derived(fresh).iterdir():
            if path.suffix == suffix:
                path.write_bytes(DAMAGE[damage](whole[path.name]))
            else:
                path.unlink()  # what is damaged must be wanted
        for asked, table in zip(SAMPLE, wanted, strict=True):
            assert ask(ea_arrow.open(fresh.root), asked).equals(table), asked
        assert kept(fresh).keys() == whole.keys()
        assert not any(
            (derived(fresh) / name).read_bytes() == DAMAGE[damage](content)
            for name, content in whole.items()
        )


def test_a_file_has_a_temporary_name_until_it_is_whole(
    fresh: ea_arrow.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, before = [], dict[str, int]()

    def watched(path: Path) -> None:
        assert path.name.startswith(".")
        assert kept(fresh).keys() - {path.name} == before.keys()
        written.append(path.name)
        before.update({path.name.removeprefix(".").rpartition(".")[0]: 0})

    monkeypatch.setattr(cache, "sync", watched)
    for asked in (("boxes", "metrics", {}), ("shapes", "matches", {})):
        ask(fresh, asked)
    assert len(written) == len(kept(fresh)) > 3
    assert not any(name.startswith(".") for name in kept(fresh))


def test_a_full_disk_keeps_nothing_and_changes_no_answer(
    fresh: ea_arrow.Project, expected: list[pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "sync", full)
    assert ask(fresh, EVERY[0]).equals(expected[0])
    assert ask(fresh, EVERY[1]).equals(expected[1])
    assert kept(fresh) == {}


def test_a_project_that_cannot_be_written_answers_everything(
    fresh: ea_arrow.Project, expected: list[pa.Table]
) -> None:
    derived(fresh).rmdir()
    derived(fresh).write_text("in the way")
    for asked, table in list(zip(EVERY, expected, strict=True))[::2]:
        assert ask(fresh, asked).equals(table), asked
    assert len(fresh.sql("from matches")) > len(fresh.sql("from metrics")) > 0
    assert derived(fresh).read_text() == "in the way"


def test_compact_removes_what_is_stale_and_keeps_what_is_live(fresh: ea_arrow.Project) -> None:
    _, results = data()
    import_results(fresh, as_polygons(results[:20]), "x")
    asked = [(name, m, {}) for name in ("boxes", "shapes", "x") for m in ("metrics", "matches")]
    for each in asked:
        ask(fresh, each)
    (derived(fresh) / ".metrics-1-2.parquet.abcd").write_bytes(b"never finished")
    everything = kept(fresh)
    kinds = {name.partition("-")[0] for name in everything if not name.startswith(".")}
    assert kinds == {"metrics", "matches", "masks", "candidates_bbox", "candidates_segm"}
    import_results(fresh, as_polygons(results[20:40]), "x", mode="replace")
    wanted = [ask(fresh, each, cache=False) for each in asked[:4]]
    deleted = fresh.compact()
    live = kept(fresh)
    gone = everything.keys() - live.keys()
    # Of x: its metrics, matches, masks drawn and candidates. The other masks are of live inputs.
    assert sorted(name.partition("-")[0] for name in gone) == [
        ".metrics",
        "candidates_segm",
        "masks",
        "matches",
        "metrics",
    ]
    assert deleted == len(gone)
    assert [ask(fresh, each) for each in asked[:4]] == wanted
    assert {n: t for n, t in kept(fresh).items() if n in everything} == {
        n: everything[n] for n in everything if n in live
    }
    fresh.remove("x")
    fresh.compact()
    assert kept(fresh).keys() <= everything.keys() - gone
    assert fresh.compact() == 0


# -- what is compared ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_format(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ea_arrow.Project]:
    """Projects whose labels are boxes, shapes or both; iterations of the same kinds, and empty."""
    truth, results = data()
    plain = {
        **truth,
        "annotations": [
            {k: v for k, v in a.items() if k != "segmentation"} | {"iscrowd": 0}
            for a in truth["annotations"]
        ],
    }
    half = {**truth, "annotations": [*truth["annotations"][:10], *plain["annotations"][10:]]}
    projects = {}
    for kind, document in {"boxes": plain, "shapes": truth, "both": half}.items():
        project = make_project(tmp_path_factory.mktemp(kind), truth=document)
        import_results(project, results[:9], "boxes")
        import_results(project, as_masks(results[:9]), "masks")
        import_results(project, as_polygons(results[:9]), "polygons")
        import_results(project, results[:4], "both")
        import_results(project, as_masks(results[4:9]), "both", mode="append")
        import_results(project, [], "empty")
        projects[kind] = project
    return projects


@pytest.mark.parametrize("labels", ["boxes", "shapes", "both"])
@pytest.mark.parametrize("name", ["boxes", "masks", "polygons", "both", "empty"])
def test_masks_are_compared_where_both_sides_have_them(
    by_format: dict[str, ea_arrow.Project], labels: str, name: str
) -> None:
    project = by_format[labels]
    wanted = "segm" if name in ("masks", "polygons") and labels != "boxes" else "bbox"
    assert project.iou_type(name) == wanted
    for asked in ({}, {"iou_type": "bbox"}, {"iou_type": "segm"}):
        for method in ("metrics", "matches"):
            rows = ask(project, (name, method, asked))
            assert set(rows["iou_type"].to_pylist()) == {asked.get("iou_type", wanted)}


BOX_METRICS = "part as enclosing boxes: these are box metrics; --type segm compares masks."


@pytest.mark.parametrize(
    ("labels", "name", "asked", "notes"),
    [
        ("boxes", "boxes", {}, []),
        ("shapes", "masks", {}, []),
        ("shapes", "polygons", {}, []),
        ("boxes", "masks", {}, [f"9 masks or polygons take {BOX_METRICS}"]),
        ("shapes", "polygons", {"iou_type": "bbox"}, [f"9 masks or polygons take {BOX_METRICS}"]),
        ("shapes", "both", {}, [f"5 masks or polygons take {BOX_METRICS}"]),
        (
            "shapes",
            "both",
            {"iou_type": "segm"},
            ["4 predicted boxes take part as filled rectangles."],
        ),
        ("both", "masks", {}, ["14 labels are boxes and take part as filled rectangles."]),
        (
            "both",
            "boxes",
            {"iou_type": "segm"},
            [
                "9 predicted boxes take part as filled rectangles.",
                "14 labels are boxes and take part as filled rectangles.",
            ],
        ),
        ("boxes", "empty", {}, ["The iteration holds no predictions."]),
        (
            "boxes",
            "boxes",
            {"where": "width >\n 9999"},
            ["No data unit is in (width > 9999): nothing to score."],
        ),
    ],
)
def test_notes_say_what_numbers_do_not(
    by_format: dict[str, ea_arrow.Project],
    labels: str,
    name: str,
    asked: dict[str, Any],
    notes: list[str],
) -> None:
    assert by_format[labels].metrics(name, **asked).notes == notes
    assert by_format[labels].metrics(name, protocol="encord", **asked).notes == notes


def test_a_note_counts_one_as_one(by_format: dict[str, ea_arrow.Project]) -> None:
    project, (_, results) = by_format["boxes"], data()
    import_results(project, as_masks(results[:1]), "one")
    assert project.metrics("one").notes == [f"1 mask or polygon takes {BOX_METRICS}"]
    import_results(project, results[:1], "one", mode="replace")
    assert project.metrics("one", iou_type="segm").notes[0] == (
        "1 predicted box takes part as filled rectangles."
    )


def test_a_label_with_the_id_zero_is_explained(tmp_path: Path) -> None:
    """One label, found, but its id is 0: pycocotools' AP is 0, and 1 if it counted."""
    annotation = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400}
    truth, _ = data()
    truth |= {"annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    result = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    project = make_project(tmp_path, truth=truth, results=[result])
    found = project.metrics("base")
    assert overall(found)["AP"] == 0
    assert found.notes == [
        "A label has the id 0, which pycocotools never counts as found, and so neither do these "
        "numbers. If it counted, AP would be 1.000000."
    ]
    assert overall(project.metrics("base", protocol="coco_id_zero_counts"))["AP"] == pytest.approx(
        1
    )
    assert project.metrics("base", where="unit_id > 0").notes == []
    assert [r["outcome"] for r in project.matches("base")] == ["FP", "FN"]
    assert {r["error"] for r in project.matches("base")} == {None}


# -- classifications, and what there is nothing of -------------------------------------------------

BOX = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}


def label_row(number: int, answer: str | None, objects: int) -> dict[str, Any]:
    """Encord's document of one image with a classification and some equal boxes."""
    unit, name = f"unit{number}", f"answer{number}"
    thing = {"name": "Car", "shape": "bounding_box", "featureHash": "car", "boundingBox": BOX}
    asked = {"featureHash": "scene", "classificationHash": name, "name": "Weather"}
    given = [{"featureHash": "weather", "answers": [{"featureHash": answer}]}]
    return {
        "label_hash": f"label{number}",
        "data_hash": f"row{number}",
        "data_title": f"{unit}.jpg",
        "data_type": "image",
        "data_units": {
            unit: {
                "data_hash": unit,
                "data_title": f"{unit}.jpg",
                "data_type": "image/jpeg",
                "data_sequence": "0",
                "width": WIDTH,
                "height": HEIGHT,
                "labels": {
                    "objects": [thing | {"objectHash": f"{unit}-{i}"} for i in range(objects)],
                    "classifications": [asked] if answer else [],
                },
            }
        },
        "classification_answers": {name: {"classifications": given}} if answer else {},
        "object_answers": {},
        "object_actions": {},
    }


def car(unit: str, confidence: float) -> Prediction:
    detection = ObjectDetection(
        format=Format.BOUNDING_BOX, data=BoundingBox(**BOX), feature_hash="car"
    )
    return Prediction(data_hash=unit, confidence=confidence, object=detection)


def weather(unit: str, option: str, confidence: float) -> Prediction:
    answer = FrameClassification(feature_hash="scene", attribute_hash="weather", option_hash=option)
    return Prediction(data_hash=unit, confidence=confidence, classification=answer)


LABELS = {
    "mixed": [("sun", 1), ("rain", 1), ("sun", 0)],
    "answers": [("sun", 0), ("rain", 0), ("sun", 0)],
    "objects": [(None, 1), (None, 1), (None, 0)],
    "none": [(None, 0), (None, 0), (None, 0)],
}
CARS = [car("unit1", 0.9), car("unit2", 0.5)]
SKIES = [weather("unit1", "sun", 0.9), weather("unit2", "sun", 0.4)]
ITERATIONS = {"cars": CARS, "skies": SKIES, "both": [*CARS, *SKIES], "empty": []}


def weather_project(folder: Path, labels: str) -> ea_arrow.Project:
    """A project of three images with the labels named, and the four ITERATIONS."""
    rows = [label_row(i, *each) for i, each in enumerate(LABELS[labels], 1)]
    source = folder / "label_rows.json"
    source.write_text(json.dumps({"label_rows": rows, "ontology": copy.deepcopy(ONTOLOGY)}))
    project = ea_arrow.init(folder / "project", source)
    for name, predictions in ITERATIONS.items():
        path = folder / f"{name}.pkl"
        path.write_bytes(pickle.dumps(predictions))
        project.import_predictions(path)
    return project


@pytest.fixture(scope="module")
def weathers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ea_arrow.Project]:
    return {kind: weather_project(tmp_path_factory.mktemp(kind), kind) for kind in LABELS}


def values(table: pa.Table) -> Iterator[float]:
    for row in table.to_pylist():
        yield from (v for v in row.values() if isinstance(v, float))


NO_SUCH = {("matches", "classification"), ("confusion", "encord")}


@pytest.mark.parametrize("labels", ["mixed", "answers", "none"])
@pytest.mark.parametrize("name", ITERATIONS)
def test_what_there_is_nothing_of_is_null_and_never_nan(
    weathers: dict[str, ea_arrow.Project], labels: str, name: str
) -> None:
    project = weathers[labels]
    asked: list[tuple[str, dict[str, Any]]] = [("metrics", {"where": "null"})]
    for method in ("metrics", "matches", "curves", "operating_points", "confusion"):
        asked += [(method, {}), (method, {"iou_type": "segm"})]
    for method in ("metrics", "matches", "confusion"):
        asked += [(method, {"protocol": p}) for p in ("encord", "classification")]
    for method, question in asked:
        if (method, question.get("protocol")) in NO_SUCH:
            with pytest.raises(ParameterError, match=f"has no {method}"):
                ask(project, (name, method, question))
            continue
        table = ask(project, (name, method, question), cache=False)
        assert not any(math.isnan(value) for value in values(table))


# By hand: cars hit both boxes; of three answers sun is right once, and rain and the third missed.
AP_OF = {"mixed": {"cars": 1.0, "skies": 0.0, "both": 1.0, "empty": 0.0}}
AP_OF |= {"objects": AP_OF["mixed"], "answers": {}, "none": {}}
ACCURACY_OF = {"mixed": {"cars": 0.0, "skies": 1 / 3, "both": 1 / 3, "empty": 0.0}}
ACCURACY_OF |= {"answers": ACCURACY_OF["mixed"], "objects": {}, "none": {}}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", ITERATIONS)
def test_objects_and_classifications_do_not_disturb_each_other(
    weathers: dict[str, ea_arrow.Project], labels: str, name: str
) -> None:
    project = weathers[labels]
    assert overall(project.metrics(name))["AP"] == AP_OF[labels].get(name)
    found = [r for r in project.metrics(name, protocol="classification") if not r["class"]]
    accuracy = {r["value"] for r in found if r["metric"] == "accuracy"}
    wanted = ACCURACY_OF[labels].get(name)
    assert accuracy == ({wanted} if found else set())
    assert bool(found) == (wanted is not None or name in ("skies", "both"))


ONLY_ANSWERS = "The iteration holds classifications only; see --protocol classification."
NO_ANSWERS = "The iteration holds no classifications."
NO_PREDICTIONS = "The iteration holds no predictions."
NO_LABELS = "The project has no labels: there is nothing to find."
NO_OBJECT = "The labels are classifications only: there is no object to find."
NO_LABELLED = "No label is a classification: there is nothing to compare answers with."


@pytest.mark.parametrize(
    ("labels", "name", "of_objects", "of_answers"),
    [
        ("mixed", "both", [], []),
        ("mixed", "cars", [], [NO_ANSWERS]),
        ("mixed", "skies", [ONLY_ANSWERS], []),
        ("mixed", "empty", [NO_PREDICTIONS], [NO_PREDICTIONS]),
        ("answers", "cars", [NO_OBJECT], [NO_ANSWERS]),
        ("answers", "skies", [ONLY_ANSWERS, NO_OBJECT], []),
        ("objects", "cars", [], [NO_ANSWERS, NO_LABELLED]),
        ("objects", "skies", [ONLY_ANSWERS], [NO_LABELLED]),
        ("none", "cars", [NO_LABELS], [NO_LABELS, NO_ANSWERS]),
        ("none", "skies", [NO_LABELS, ONLY_ANSWERS], [NO_LABELS]),
        ("none", "empty", [NO_LABELS, NO_PREDICTIONS], [NO_LABELS, NO_PREDICTIONS]),
    ],
)
def test_notes_say_what_there_is_nothing_of(
    weathers: dict[str, ea_arrow.Project],
    labels: str,
    name: str,
    of_objects: list[str],
    of_answers: list[str],
) -> None:
    project = weathers[labels]
    assert project.metrics(name).notes == of_objects
    assert project.metrics(name, protocol="encord").notes == of_objects
    assert project.metrics(name, protocol="classification").notes == of_answers


def test_predictions_of_a_class_without_labels_are_false_positives(
    fresh: ea_arrow.Project,
) -> None:
    _, results = data()
    import_results(fresh, [{**r, "category_id": CATEGORIES} for r in results[:5]], "x")
    found = {(r["class"], r["metric"]): r for r in fresh.metrics("x")}
    assert found["class 4", "AP"]["value"] is None
    assert (found["class 4", "AP"]["n_labels"], found["class 4", "AP"]["n_predictions"]) == (0, 5)
    assert found[None, "AP"]["value"] == 0
    assert {r["outcome"] for r in fresh.matches("x") if r["label_id"] is None} == {"FP"}
    [best] = [r for r in fresh.operating_points("x") if r["class"] == "class 4" and r["is_best"]]
    assert (best["precision"], best["recall"], best["f1"]) == (0, None, 0)


# -- SQL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"iou_threshold": 0.9},
        {"protocol": "encord"},
        {"iou_type": "bbox"},
        {"iou_type": "segm", "protocol": "encord", "iou_threshold": 0.3},
    ],
)
def test_the_view_of_matches_holds_those_asked_for(
    fresh: ea_arrow.Project, asked: dict[str, Any]
) -> None:
    seen = []
    for name in ("boxes", "shapes"):
        by_sql = fresh.sql(f"from matches where iteration = '{name}'", **asked).to_arrow()
        direct = fresh.matches(name, cache=False, **asked).to_arrow()
        assert by_sql.to_pylist() == direct.to_pylist()
        seen.append(by_sql)
    usual = [fresh.matches(name).to_arrow().to_pylist() for name in ("boxes", "shapes")]
    assert ([t.to_pylist() for t in seen] == usual) == (not asked)


def test_the_view_of_metrics_has_classifications_of_iterations_that_hold_some(
    weathers: dict[str, ea_arrow.Project],
) -> None:
    project = weathers["mixed"]
    found = project.sql("select distinct iteration, protocol from metrics").to_arrow().to_pylist()
    assert {(r["iteration"], r["protocol"]) for r in found} == {
        *((name, "coco") for name in ITERATIONS),
        *((name, "classification") for name in ("skies", "both")),
    }
    accuracy = "select value from metrics where metric = 'accuracy' and iteration = 'skies'"
    assert {r["value"] for r in project.sql(accuracy)} == {1 / 3}


@pytest.mark.parametrize("protocol", ["classification"])
def test_protocols_without_matches_have_no_view_of_them(
    fresh: ea_arrow.Project, protocol: Any
) -> None:
    with pytest.raises(ParameterError, match=f"Protocol '{protocol}' has no matches"):
        fresh.sql("from matches", protocol=protocol)
    assert len(fresh.sql("from labels", protocol=protocol)) == IMAGES * 4


# -- bad questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"iou_thresholds": (0,)}, "above 0 and at most 1, got 0"),
        ({"iou_thresholds": (-1,)}, "got -1"),
        ({"iou_thresholds": (0.5, 1.5)}, "got 1.5"),
        ({"iou_thresholds": (math.nan,)}, "got nan"),
        ({"iou_thresholds": (math.inf,)}, "got inf"),
        ({"iou_thresholds": (0.7, 0.5)}, "must ascend"),
        ({"iou_thresholds": ()}, "iou_thresholds is empty"),
        ({"max_detections": ()}, "max_detections is empty"),
        ({"max_detections": (0,)}, "whole numbers from 1 to"),
        ({"max_detections": (10, -1)}, "got -1"),
        ({"max_detections": (1.5,)}, "got 1.5"),
        ({"max_detections": (math.nan,)}, "got nan"),
        ({"max_detections": (math.inf,)}, "got inf"),
        ({"areas": {}}, "areas is empty"),
        ({"areas": {"x": (5, 1)}}, "'x' goes from 5 to 1"),
        ({"areas": {"x": (-5, 1)}}, "'x' goes from -5 to 1"),
        ({"areas": {"x": (math.nan, 1)}}, "'x' goes from nan to 1"),
        ({"areas": {"x": (0, math.nan)}}, "'x' goes from 0 to nan"),
        ({"protocol": "coca"}, "no protocol 'coca'.\nDid you mean 'coco'?"),
        ({"protocol": "?"}, "There are: coco, encord, classification."),
        ({"iou_type": "box"}, "iou_type is 'box'; expected 'bbox' or 'segm'"),
    ],
)
def test_questions_out_of_range_are_refused(
    fresh: ea_arrow.Project, asked: dict[str, Any], says: str
) -> None:
    protocols: list[Any] = ["coco", "encord", "classification"]
    for protocol in protocols[: 1 if "protocol" in asked else 3]:
        with pytest.raises(ParameterError) as caught:
            fresh.metrics("boxes", **({"protocol": protocol} | asked))
        assert says in str(caught.value)
    assert kept(fresh) == {}


@pytest.mark.parametrize("threshold", [0, -1, 1.5, math.nan])
def test_a_threshold_out_of_range_is_refused_everywhere(
    fresh: ea_arrow.Project, threshold: float
) -> None:
    for method in (fresh.matches, fresh.operating_points, fresh.confusion):
        with pytest.raises(ParameterError, match="above 0 and at most 1"):
            method("boxes", iou_threshold=threshold)
    with pytest.raises(ParameterError, match="above 0 and at most 1"):
        fresh.sql("from matches", iou_threshold=threshold)
    with pytest.raises(ParameterError, match="A confidence is a number, got NaN"):
        fresh.confusion("boxes", confidence=math.nan)


def test_an_unknown_iteration_is_refused_everywhere(fresh: ea_arrow.Project) -> None:
    for method in ("metrics", "matches", "curves", "operating_points", "confusion", "iou_type"):
        with pytest.raises(IterationNotFoundError) as caught:
            getattr(fresh, method)("boxse")
        assert "Did you mean 'boxes'? There are: boxes, shapes." in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        *("", " ", "-- nothing", "width >", "nope > 1", "'text'", "count(*) > 1", "title"),
        *("true; drop table x", "true) union all select 5 where (true", "true)--", "from labels"),
        "data_hash in (select data_hash from read_csv('/etc/passwd'))",
        "data_hash in (from '/etc/hostname')",
        "(copy (select 1) to 'x.csv')",
        "true) -- \n; attach 'x.db'; (select 1",
        "(select true from metrics)",
        "(select error('no') from labels)",
        "unit_id in (select * from predictions_of_mine)",
    ],
)
def test_wrong_conditions_are_query_errors(
    fresh: ea_arrow.Project, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(QueryError):
        fresh.metrics("boxes", where=where)
    with pytest.raises(QueryError):
        fresh.add_slice("s", where)
    assert fresh.slices.keys() == {"night", "nothing"}
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("where", "units"),
    [
        ("null", []),
        ("title is null", []),
        ("nullif(unit_id, 2) < 4", [0, 1, 3]),
        ("unit_id = 3 -- the fourth", [3]),
        ("unit_id = 3 or\n/* any */ title = 'it''s'", [3]),
        ("1", list(range(IMAGES))),
        ("data_hash in (select data_hash from labels where is_crowd)", [1]),
        (
            "(data_hash, frame) in (select (data_hash, frame) from matches"
            " where iteration = 'boxes' and reason like 'More than 100%')",
            [0],
        ),
        ("data_hash in (select data_hash from predictions where area > 4)", [*range(IMAGES - 1)]),
        ("unit_id < (select count(distinct name) from iterations)", [0, 1]),
    ],
)
def test_conditions_choose_data_units(
    fresh: ea_arrow.Project, where: str, units: list[int]
) -> None:
    hashes = {row["data_hash"]: row["unit_id"] for row in fresh.data_units}
    seen = {hashes[row["data_hash"]] for row in fresh.matches("boxes", where=where)}
    assert seen == set(units)
    assert fresh.add_slice("s", where) == len(units)
    by_name = fresh.matches("boxes", slice="s").to_arrow()
    by_condition = fresh.matches("boxes", where=where, cache=False).to_arrow()
    assert by_name.drop_columns("subset") == by_condition.drop_columns("subset")


def test_errors_of_an_answer_are_of_one_family() -> None:
    assert issubclass(ParameterError, EaArrowError)
    assert issubclass(ParameterError, ValueError)


def test_an_answer_is_the_same_in_a_project_opened_again(fresh: ea_arrow.Project) -> None:
    first = fresh.metrics("shapes").to_arrow()
    written = kept(fresh)
    again = ea_arrow.open(fresh.root)
    assert again.metrics("shapes").to_arrow() == first
    assert kept(again) == written
    assert again.known_metrics().keys() == {"shapes"}
    assert again.known_metrics()["shapes"] == first


def test_default_results_of_the_builders_by_hand(tmp_path: Path) -> None:
    """Cats are found at every threshold, in an area of 400 and one of 307,200; the dog is not."""
    project = make_project(tmp_path, results=RESULTS)
    assert overall(project.metrics("base")) == {
        name: None if value is None else pytest.approx(value)
        for name, value in {
            **{"AP": 0.5, "AP50": 0.5, "AP75": 0.5, "APs": 0.5, "APm": None, "APl": 1.0},
            **{"AR1": 0.5, "AR10": 0.5, "AR100": 0.5, "ARs": 0.5, "ARm": None, "ARl": 1.0},
        }.items()
    }


def test_questions_asked_at_once_see_one_state(
    fresh: ea_arrow.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = fresh.metrics("boxes").to_arrow()
    read = []
    real = fresh._store.table
    monkeypatch.setattr(fresh._store, "table", lambda *a, **k: read.append(a) or real(*a, **k))
    with fresh.at_once():
        assert fresh.metrics("boxes").to_arrow() == alone
        once = len(read)
        assert fresh.metrics("boxes").to_arrow() == alone
        fresh.metrics("shapes")
        assert fresh.formats("boxes")
        assert len(read) == once
        fresh.remove("boxes")
        assert fresh.metrics("boxes").to_arrow() == alone
    with pytest.raises(IterationNotFoundError):
        fresh.metrics("boxes")
