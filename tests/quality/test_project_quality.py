"""Quality metrics of a project: in SQL, in drivers, with metrics of the user's own."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

import ea_arrow
from ea_arrow.errors import IterationNotFoundError, ParameterError, ProjectError, QueryError
from tests.builders import GROUND_TRUTH, RESULTS


def write(path, document):
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def project(tmp_path):
    made = ea_arrow.init(tmp_path / "project", write(tmp_path / "gt.json", GROUND_TRUTH))
    made.import_predictions(write(tmp_path / "x.json", RESULTS), "x")
    return made


def column(project, sql):
    return [next(iter(row.values())) for row in project.sql(sql)]


def test_a_row_per_prediction_and_a_column_per_metric(project):
    rows = list(project.quality("x"))
    # The boxes of RESULTS: 20 × 20 and 5 × 5 of 100 × 50 pixels, 640 × 470 of 640 × 480.
    assert [row["object_area_absolute"] for row in rows] == [400, 25, 300_800]
    assert [row["object_area_relative"] for row in rows] == [8, 0.5, 100 * 300_800 / 307_200]
    assert [row["object_count"] for row in rows] == [2, 2, 1]
    assert [row["object_border_closeness"] for row in rows] == [0.9, 1, 1]
    assert [row["entropy"] for row in rows] == [None] * 3
    assert [row["prediction_id"] for row in rows] == [0, 1, 2]


def test_labels_and_images_have_their_own(project):
    labels = list(project.quality(target="label", only=["object_area_absolute"]))
    assert [row["object_area_absolute"] for row in labels] == [400, 900, 307_200]
    images = list(project.quality(target="image", only=["object_count", "frame_object_density"]))
    assert [row["object_count"] for row in images] == [2, 1]
    assert [row["frame_object_density"] for row in images] == [26, 100]


def test_the_long_view_has_every_value_once(project):
    wide = project.quality("x").to_polars()
    long = project.sql("select * from quality where target = 'prediction'").to_polars()
    values = wide.drop("iteration", "data_hash", "frame", "object_duplicate_of")
    expected = values.unpivot(index="prediction_id").drop_nulls()
    found = long.select(pl.col("target_id").alias("prediction_id"), "metric", "value")
    key = ["prediction_id", "metric"]
    assert found.sort(key).equals(expected.rename({"variable": "metric"}).sort(key))
    assert set(long["iteration"]) == {"x"}
    targets = column(project, "select distinct target from quality order by all")
    assert targets == ["image", "label", "prediction"]


def test_the_partner_of_a_duplicate_is_kept(project, tmp_path):
    rows = [RESULTS[0], RESULTS[0] | {"bbox": [10, 10, 20, 10]}, RESULTS[2]]
    project.import_predictions(write(tmp_path / "twice.json", rows), "twice")
    found = list(project.quality("twice", only=["object_duplicates", "object_duplicate_of"][:1]))
    assert [row["object_duplicates"] for row in found] == [0.5, 0.5, 0]
    sql = "select object_duplicate_of from prediction_quality where iteration = 'twice'"
    assert column(project, f"{sql} order by prediction_id") == [1, 0, None]


def test_quality_follows_newer_labels(project, tmp_path):
    before = column(project, "select count(*) from label_quality")
    more = GROUND_TRUTH | {
        "annotations": [{"id": 9, "image_id": 2, "category_id": 2, "bbox": [0, 0, 8, 8]}]
    }
    project.add_labels(write(tmp_path / "more.json", more))
    assert before == [3]
    assert column(project, "select count(*) from label_quality") == [4]


# -- metrics of the user's own --------------------------------------------------------------------

SQL = "confidence * object_area_absolute"


def test_an_sql_metric_is_in_sql_and_drivers_and_stays(project):
    project.add_quality_metric("sure_area", SQL, doc="Sure and large.", direction="low")
    for opened in (project, ea_arrow.open(project.root)):
        values = column(opened, "select sure_area from prediction_quality order by prediction_id")
        assert values == pytest.approx([0.9 * 400, 0.8 * 25, 0.7 * 300_800])
        long = "select value from quality where metric = 'sure_area' order by target_id"
        assert column(opened, long) == values
        ranking, bins = opened.drivers("x")
        assert "sure_area" in {row["metric"] for row in ranking}
        assert "sure_area" in {row["metric"] for row in bins}
        assert "sure_area" in {m["metric"] for m in opened.quality_metrics()}


def test_an_sql_metric_may_use_another_and_covers_later_iterations(project, tmp_path):
    project.add_quality_metric("half", "object_area_absolute / 2")
    project.add_quality_metric("quarter", "half / 2")
    project.import_predictions(write(tmp_path / "y.json", RESULTS[:1]), "y")
    assert column(project, "select quarter from prediction_quality where iteration = 'y'") == [100]
    project.add_quality_metric("wide", "relative_w > 0.5", target="label")
    project.add_quality_metric("portrait", "height > width", target="image")
    sql = "select value from quality where metric = 'wide' order by target_id"
    assert column(project, sql) == [0, 0, 1]
    assert column(project, "select portrait from image_quality") == [0, 0]


def test_the_values_of_a_function_stay_though_the_function_does_not(project, tmp_path):
    def doubled(frame):
        assert {"bbox_w", "class", "title", "object_area_relative"} <= set(frame.columns)
        return frame["bbox_w"] * 2

    project.add_quality_metric("doubled", doubled)
    sql = "select doubled from prediction_quality where iteration = 'x' order by prediction_id"
    assert column(project, sql) == [40, 10, 1280]
    reopened = ea_arrow.open(project.root)
    assert column(reopened, sql) == [40, 10, 1280]
    assert "doubled" in {row["metric"] for row in reopened.drivers("x")[0]}
    project.import_predictions(write(tmp_path / "y.json", RESULTS[:1]), "y")
    later = "select doubled from prediction_quality where iteration = 'y'"
    assert column(reopened, later) == [None]
    assert [row["doubled"] for row in project.quality("y", only=["doubled"])] == [40]
    assert column(reopened, later) == [40]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("nope + 1", QueryError, "nope"),
        ("1), (select 2", QueryError, "not an SQL expression"),
        ("1; drop table x", QueryError, "not an SQL expression"),
        ("title", QueryError, "Could not convert"),
        ("(select count(*) from read_csv('/etc/passwd'))", QueryError, "disabled"),
        (lambda frame: 1 / 0, ParameterError, "ZeroDivisionError"),
        (lambda frame: frame["bbox_w"][:1], ParameterError, "1 values for 3 rows"),
        (lambda frame: frame["title"], ParameterError, "failed"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_not_kept(project, how, error, message):
    with pytest.raises(error, match=message):
        project.add_quality_metric("bad", how)
    assert "bad" not in {m["metric"] for m in project.quality_metrics()}
    assert len(list(project.quality("x"))) == 3


@pytest.mark.parametrize("name", ["Bad", "a b", "", "1a", "entropy", "confidence", 'x"y', "é"])
def test_names_are_checked(project, name):
    with pytest.raises(ParameterError):
        project.add_quality_metric(name, SQL)


def test_a_metric_is_replaced_only_if_asked_and_can_be_removed(project):
    project.add_quality_metric("mine", "1")
    with pytest.raises(ParameterError, match="already"):
        project.add_quality_metric("mine", "2")
    project.add_quality_metric("mine", "2", replace=True)
    assert column(project, "select mine from prediction_quality") == [2, 2, 2]
    project.remove_quality_metric("mine")
    with pytest.raises(QueryError):
        column(project, "select mine from prediction_quality")
    with pytest.raises(ParameterError, match="no metric 'mine'"):
        project.remove_quality_metric("mine")


def test_a_hostile_metric_file_reads_no_file(project, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    folder = project.root / ".ea-arrow" / "quality"
    folder.mkdir()
    for sql in (f"(select a from read_csv('{secret}'))", "1) AS a, (SELECT 2"):
        entry = {"name": "evil", "target": "prediction", "sql": sql}
        (folder / "metrics.json").write_text(json.dumps([entry]))
        with pytest.raises(QueryError):
            ea_arrow.open(project.root).sql("select * from prediction_quality")
    (folder / "metrics.json").write_text("[{")
    with pytest.raises(ProjectError, match=r"metrics.json: cannot be read"):
        project.quality("x")
    assert len(list(project.sql("select * from predictions"))) == 3  # others do not need it


# -- images and embeddings ------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (100, 50), (51, 51, 51)).save(folder / "one.jpg")
    (folder / "two.jpg").write_bytes(b"no image")
    return folder


def test_pixels_are_measured_once_and_a_broken_image_costs_one_row(project, images):
    done = project.measure_images(images)
    assert (done.decoded, done.failed) == (2, 1)
    one, two = project.quality(target="image")
    assert one["brightness"] == pytest.approx(0.2, abs=0.01)
    assert two["brightness"] is None
    assert two["error"]
    assert project.measure_images(images).reused >= 1
    ranking, _ = project.drivers("x")
    assert ("prediction", "brightness") in {(r["target"], r["metric"]) for r in ranking}


def test_without_images_the_way_out_is_told(project):
    with pytest.raises(ProjectError, match="says where its image is") as caught:
        project.measure_images()
    assert "--images" in caught.value.hint


def test_embeddings_give_singularity_and_annotation_quality(project):
    units = project.data_units.to_arrow()
    table = pa.table({"data_hash": units["data_hash"], "embedding": [[1.0, 0.0], [0.0, 1.0]]})
    assert project.add_embeddings(table) == 2
    found = project.quality(target="image").to_polars()
    assert found["image_singularity"].to_list() == [0.5, 0.5]  # at right angles: (1 − 0) / 2
    objects = pa.table({"label_id": [0, 1, 2], "embedding": [[1.0, 0], [0.9, 0.1], [0.95, 0]]})
    project.add_embeddings(objects, target="label")
    values = project.quality(target="label").to_polars()["object_annotation_quality"].to_list()
    assert values == [0.5, 0, 0.5]  # cat, dog, cat: each of the two others is a neighbour


@pytest.mark.parametrize(
    "table",
    [
        {"data_hash": ["a"]},
        {"embedding": [[1.0]]},
        {"data_hash": ["a", "b"], "embedding": [[1.0], [1.0, 2.0]]},
        {"data_hash": ["a", "a"], "embedding": [[1.0], [1.0]]},
        {"data_hash": ["a"], "embedding": ["x"]},
    ],
)
def test_embeddings_that_do_not_fit_are_refused(project, table):
    with pytest.raises(ParameterError):
        project.add_embeddings(pa.table(table))
    with pytest.raises(ParameterError):
        project.add_embeddings(pa.table(table), target="prediction")


# -- drivers --------------------------------------------------------------------------------------


def test_drivers_count_true_positives_by_the_protocol_of_matches(tmp_path):
    rng = np.random.default_rng(0)
    images = [{"id": i, "width": 100, "height": 100} for i in range(200)]
    annotations, results = [], []
    for i in range(200):
        size = float(rng.choice([5, 40]))
        box = [10.0, 10.0, size, size]
        annotations.append({"id": i + 1, "image_id": i, "category_id": 1, "bbox": box})
        if size == 40:  # small ones are found elsewhere
            results.append({"image_id": i, "category_id": 1, "bbox": box, "score": 0.5})
        else:
            results.append({"image_id": i, "category_id": 1, "bbox": [60, 60, 5, 5], "score": 0.5})
    truth = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": annotations}
    project = ea_arrow.init(tmp_path / "p", write(tmp_path / "gt.json", truth))
    project.import_predictions(write(tmp_path / "x.json", results), "x")
    ranking, bins = (table.to_polars() for table in project.drivers("x"))
    large = sum(r["bbox"][2] == 40 for r in results)
    for target, rate in (("prediction", large / 200), ("label", (200 - large) / 200)):
        top = ranking.filter(pl.col("target") == target).row(0, named=True)
        assert top["mutual_information"] == pytest.approx(np.log(2), rel=0.02)
        assert top["overall_rate"] == rate
        area = bins.filter(pl.col("target") == target, pl.col("metric") == "object_area_absolute")
        assert area["rate"].to_list() == ([0, 1] if target == "prediction" else [1, 0])
        assert area["n"].to_list() == [200 - large, large]


def test_what_is_not_there_is_named(project):
    with pytest.raises(IterationNotFoundError):
        project.drivers("y")
    with pytest.raises(IterationNotFoundError):
        project.quality("y")
    with pytest.raises(ParameterError, match="no metric 'entropie'") as caught:
        project.quality("x", only=["entropie"])
    assert "entropy" in caught.value.hint


# -- what changes and what stays ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["area", "bbox_x", "width", "class", "title", "relative_w"])
def test_a_metric_may_not_hide_a_column(project, name):
    with pytest.raises(ParameterError, match="is taken"):
        project.add_quality_metric(name, "-1.0")


def test_a_metric_that_others_use_stays_and_fits_them(project):
    project.add_quality_metric("a", "1")
    project.add_quality_metric("b", "a + 1")
    with pytest.raises(ParameterError, match="Another metric uses 'a'"):
        project.remove_quality_metric("a")
    project.add_quality_metric("a", "10", replace=True)
    assert column(project, "select b from prediction_quality") == [11, 11, 11]
    with pytest.raises(QueryError):  # b comes after a
        project.add_quality_metric("a", "b * 2", replace=True)
    assert column(project, "select b from prediction_quality") == [11, 11, 11]


def test_a_metric_whose_successor_fails_stays(project):
    project.add_quality_metric("mine", lambda frame: frame["bbox_w"])
    with pytest.raises(ParameterError, match="failed"):
        project.add_quality_metric("mine", lambda frame: 1 / 0, replace=True)
    assert column(project, "select mine from prediction_quality order by all") == [5, 20, 640]


def test_values_of_predictions_stay_when_labels_change(project, tmp_path):
    project.add_quality_metric("mine", lambda frame: frame["bbox_w"])
    vectors = {"prediction_id": [0, 1, 2], "embedding": [[1.0, 0], [0.9, 0.1], [0.95, 0]]}
    assert project.add_embeddings(pa.table(vectors), target="prediction", iteration="x") == 3
    sql = (
        "select mine, object_annotation_quality as q from prediction_quality order by prediction_id"
    )
    before = list(ea_arrow.open(project.root).sql(sql))
    assert [row["mine"] for row in before] == [20, 5, 640]
    assert [row["q"] for row in before] == [0.5, 0, 0.5]
    more = GROUND_TRUTH | {
        "annotations": [{"id": 9, "image_id": 2, "category_id": 2, "bbox": [0, 0, 8, 8]}]
    }
    project.add_labels(write(tmp_path / "more.json", more))
    assert list(ea_arrow.open(project.root).sql(sql)) == before


def test_a_new_label_does_not_inherit_the_embedding_of_an_old_one(project, tmp_path):
    vectors = {"label_id": [0, 1, 2], "embedding": [[1.0, 0], [0.9, 0.1], [0.95, 0]]}
    project.add_embeddings(pa.table(vectors), target="label")
    newer = {"id": 9, "image_id": 2, "category_id": 1, "bbox": [0, 0, 8, 8]}
    document = GROUND_TRUTH | {"images": GROUND_TRUTH["images"][1:], "annotations": [newer]}
    project.add_labels(write(tmp_path / "n.json", document), replace=True)
    found = project.quality(target="label", only=["object_annotation_quality"]).to_polars()
    assert found["label_id"].to_list() == [0, 1, 3]
    assert found["object_annotation_quality"].to_list() == [0, 0, None]


def test_a_function_of_images_sees_what_was_measured_since(project, images):
    def twice(frame):
        return frame["brightness"] * 2

    project.add_quality_metric("twice", twice, target="image")
    assert column(project, "select twice from image_quality") == [None, None]
    project.measure_images(images)
    rows = list(project.quality(target="image", only=["twice"]))
    assert [row["twice"] for row in rows] == [pytest.approx(0.4, abs=0.02), None]


def test_embeddings_of_another_data_set_are_refused(project):
    with pytest.raises(ParameterError, match="None of the 1 embeddings is of an image"):
        project.add_embeddings(pa.table({"data_hash": ["elsewhere"], "embedding": [[1.0]]}))


@pytest.mark.parametrize(
    "sql", ["row_number() over (order by confidence)", "random()", "confidence + random() * 0"]
)
def test_a_value_that_depends_on_other_rows_or_on_chance_is_refused(project, sql):
    with pytest.raises(QueryError, match=r"looks at other rows|another value each time"):
        project.add_quality_metric("odd", sql)


def test_what_is_not_finite_is_null(project):
    project.add_quality_metric("odd", "1.0 / (confidence - confidence)")
    project.add_quality_metric("nan", "'nan'::double")
    assert column(project, "select odd from prediction_quality") == [None] * 3
    assert column(project, "select count(nan) from prediction_quality") == [0]


def test_a_metric_of_objects_may_use_those_of_their_image(project, images):
    project.measure_images(images)
    project.add_quality_metric("sure_in_the_dark", "confidence * (1 - brightness)")
    values = column(project, "select sure_in_the_dark from prediction_quality order by all")
    assert values == [pytest.approx(0.64, abs=0.01), pytest.approx(0.72, abs=0.01), None]
    assert "sure_in_the_dark" in {row["metric"] for row in project.drivers("x")[0]}


def test_embeddings_may_come_in_parts(project):
    for label, vector in enumerate([[1.0, 0], [0.9, 0.1], [0.95, 0]]):
        part = pa.table({"label_id": [label], "embedding": [vector]})
        assert project.add_embeddings(part, target="label") == 1
    values = project.quality(target="label").to_polars()["object_annotation_quality"].to_list()
    assert values == [0.5, 0, 0.5]
    for bad in ([1.0], [float("nan"), 1.0]):
        part = pa.table({"label_id": [0], "embedding": [bad]})
        with pytest.raises(ParameterError):
            project.add_embeddings(part, target="label")


def test_a_directory_of_other_images_is_refused(project, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    Image.new("L", (4, 4)).save(folder / "nobody.png")
    with pytest.raises(ProjectError, match="none of its 1 images is named as a data unit"):
        project.measure_images(folder)
