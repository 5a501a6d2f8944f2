"""SQL: what the views say, that names stay text, and that nothing but reading is possible."""

import shutil

import pyarrow as pa
import pytest

import ea_arrow
from ea_arrow.errors import QueryError
from ea_arrow.schema import ITERATIONS, LABELS, MATCHES, METRICS, PREDICTIONS, REJECTS
from tests.builders import RESULTS, import_results, make_encord_project, make_project

VIEWS = {
    "classes",
    "data_units",
    "iterations",
    "labels",
    "labels_details",
    "matches",
    "metrics",
    "predictions",
    "predictions_details",
    "rejects",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one iteration; no test changes it."""
    return make_project(tmp_path_factory.mktemp("sql") / "project", results=RESULTS)


def rows(project, sql):
    """The result as a list of tuples."""
    table = project.sql(sql).to_arrow()
    return [tuple(row.values()) for row in table.to_pylist()]


def snapshot(folder):
    """Every file below a folder with its content, but for results that queries may compute."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "derived" not in path.parts
    }


# -- views --------------------------------------------------------------------------------------


def test_outcomes(project):
    sql = "select outcome, count(*) from matches group by all order by outcome"
    assert rows(project, sql) == [("FN", 1), ("FP", 1), ("TP", 2)]


def test_every_view_can_be_read(project):
    for view in VIEWS:
        assert project.sql(f"from {view}").columns
    listed = {name for (name,) in rows(project, "show tables")}
    assert listed >= VIEWS


@pytest.mark.parametrize("spec", [PREDICTIONS, LABELS, ITERATIONS, REJECTS, MATCHES, METRICS])
def test_views_have_the_columns_of_their_tables(project, spec):
    result = project.sql(f"from {spec.name}")
    assert result.columns == spec.names
    types = {field.name: field.type for field in result.to_arrow().schema}
    for column in spec.columns:
        if column.type in (pa.string(), pa.int64(), pa.float64(), pa.bool_()):
            assert types[column.name] == column.type, column.name


def test_details_join_names_sizes_and_relative_boxes(project):
    sql = (
        "select class, title, width, height, relative_x, relative_y, relative_w, relative_h "
        "from predictions_details order by prediction_id limit 1"
    )
    assert rows(project, sql) == [("cat", "one.jpg", 100, 50, 0.1, 0.2, 0.2, 0.4)]
    assert rows(project, "select count(*), count(class) from labels_details") == [(3, 3)]


def test_details_of_frames_and_classifications_have_one_row_each(tmp_path):
    project = make_encord_project(tmp_path)
    sql = "select frame, class, relative_x, relative_w from labels_details order by frame"
    assert rows(project, sql) == [(0, "Car", 0.1, 0.3), (4, "Car", 0.1, 0.3)]


def test_metrics_by_sql_equal_metrics(project):
    (value,) = rows(project, "select value from metrics where metric='AP' and class is null")[0]
    by_name = {
        row["metric"]: row["value"] for row in project.metrics("base") if row["class"] is None
    }
    assert value == by_name["AP"]


def test_rejects_of_live_imports_only(tmp_path):
    results = [*RESULTS, {"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]
    project = make_project(tmp_path, results=results, name="one")
    assert rows(project, "select iteration, source_row, rules from rejects") == [
        ("one", 3, ["unknown_data_unit"])
    ]
    project.remove("one")
    assert rows(project, "from rejects") == []
    assert rows(project, "from predictions") == []


def test_a_project_without_iterations(tmp_path):
    project = make_project(tmp_path)
    for spec in (PREDICTIONS, MATCHES, METRICS, ITERATIONS, REJECTS):
        result = project.sql(f"from {spec.name}")
        assert len(result) == 0
        assert result.columns == spec.names
    assert rows(project, "select outcome, count(*) from matches group by all") == []
    assert rows(project, "select count(*) from labels_details") == [(3,)]


def test_an_empty_iteration(tmp_path):
    project = make_project(tmp_path, results=[], name="nothing")
    assert rows(project, "from predictions") == []
    assert rows(project, "select name, rows_kept from iterations") == [("nothing", 0)]
    assert rows(project, "select outcome, count(*) from matches group by all") == [("FN", 3)]


def test_a_filter_an_order_and_a_limit_go_together(tmp_path):
    # DuckDB 2.0.0's late materialisation ended in an internal error.
    project = make_project(tmp_path, results=RESULTS, name="x")
    sql = "select * from predictions where iteration = 'x' order by confidence desc limit 2"
    assert [row["confidence"] for row in project.sql(sql)] == [0.9, 0.8]


def test_replaced_predictions_are_gone_and_appended_ones_are_there(tmp_path):
    project = make_project(tmp_path, results=RESULTS, name="x")
    import_results(project, RESULTS[:1], "x", mode="replace")
    assert rows(project, "select count(*) from predictions") == [(1,)]
    import_results(project, RESULTS[:2], "x", mode="append")
    sql = "select iteration, prediction_id from predictions order by prediction_id"
    assert rows(project, sql) == [("x", 0), ("x", 1), ("x", 2)]


# -- names --------------------------------------------------------------------------------------

NAMES = ("007", "7", "1e3", "true", "2024-01-01", "null", "NULL", "nan", ".", "..", "-1", "a.b_c-d")
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def test_names_of_iterations_stay_text(tmp_path):
    project = make_project(tmp_path)
    names = [*NAMES, HIVE_NULL]
    for name in names:
        import_results(project, RESULTS[:1], name)
    for view in ("predictions", "predictions_details", "matches", "metrics"):
        assert {n for (n,) in rows(project, f"select distinct iteration from {view}")} == set(names)
        assert project.sql(f"select iteration from {view}").to_arrow().schema[0].type == pa.string()
    for name in names:
        assert rows(project, f"select count(*) from predictions where iteration = '{name}'") == [
            (1,)
        ]
    assert rows(project, "select count(*) from predictions where iteration = '07'") == [(0,)]
    assert {n for (n,) in rows(project, "select name from iterations")} == set(names)


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "it's",
        'say "x"',
        "p[1]",
        "a*b",
        "what?",
        "[!a]",
        "**",
        "x=3",
        "iteration=foo",
        "iteration=foo/iteration=bar",
        "日本é",
        "100%",
        "semi;colon--x",
        "$HOME",
        "{brace}",
    ],
)
def test_projects_in_directories_of_any_name(tmp_path, name):
    folder = tmp_path / name
    project = make_project(folder, results=RESULTS, name="007")
    shutil.copytree(folder, tmp_path / "p1")  # matches p[1]
    shutil.copytree(folder, tmp_path / "aXb")  # matches a*b
    sql = "select iteration, count(*) from predictions group by all"
    assert rows(ea_arrow.open(folder), sql) == [("007", 3)]
    assert rows(project, "select count(*) from labels") == [(3,)]
    sql = "select iteration, outcome, count(*) from matches group by all order by 2"
    assert rows(project, sql) == [("007", "FN", 1), ("007", "FP", 1), ("007", "TP", 2)]
    with pytest.raises(QueryError):
        project.sql(f"from read_text('{str(folder / 'gt.json').replace(chr(39), chr(39) * 2)}')")


# -- types --------------------------------------------------------------------------------------


def test_sums_of_whole_numbers_are_whole_numbers(project):
    table = project.sql("select sum(label_id) s, count(*) n from labels").to_arrow()
    assert [field.type for field in table.schema] == [pa.int64(), pa.int64()]
    assert table.to_pylist() == [{"s": 3, "n": 3}]


def test_a_sum_that_does_not_fit_stays_exact(project):
    (row,) = project.sql("select sum(i) as s from (values (9223372036854775807), (1)) t(i)")
    assert row["s"] == 2**63


def test_an_empty_result_keeps_its_columns(project):
    table = project.sql(
        "select label_id, area, sum(frame) over () s from labels limit 0"
    ).to_arrow()
    assert table.schema.names == ["label_id", "area", "s"]
    assert [f.type for f in table.schema] == [pa.int64(), pa.float64(), pa.int64()]


def test_equal_names_do_not_hide_each_other(project):
    result = project.sql("select 1 as a, 2 as a, 3 as b, 4 as a")
    assert result.columns == ["a", "a_1", "b", "a_2"]
    assert list(result) == [{"a": 1, "a_1": 2, "b": 3, "a_2": 4}]
    assert project.sql("select 1 as a_1, 2 as a, 3 as a").columns == ["a_1", "a", "a_2"]
    assert project.sql("select 1 as a, 2 as a, 3 as a_1").columns == ["a", "a_2", "a_1"]
    joined = project.sql("from predictions p join labels l using (data_hash)")
    assert len(set(joined.columns)) == len(joined.columns)


def test_the_order_of_a_query_is_kept(project):
    found = rows(project, "select label_id from labels order by label_id desc")
    assert found == [(2,), (1,), (0,)]


# -- what reads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "  \n select 1 ; ",
        "-- a comment\nselect 1 -- another",
        "/* explain */ select 1",
        "select 'explain copy insert'",
        "from labels",
        "table labels",
        "values (1)",
        "with x as (select 1) from x",
        "describe labels",
        "summarize labels",
        "show tables",
        "explain select * from labels",
        "explain\nanalyze select count(*) from predictions",
        "EXPLAIN ANALYZE FROM matches",
        "select * from query('select 1')",
        "select * from query_table('labels')",
        "from labels pivot (count(*) for is_crowd in (true, false))",
        "select created_at from iterations",
        'select 1 as "copy", 2 as "delete"',
    ],
)
def test_what_reads_is_allowed(project, sql):
    assert len(project.sql(sql)) >= 1


# -- what does not ------------------------------------------------------------------------------

COPY = "copy (select 1 as a) to '{data}' (format parquet, use_tmp_file false)"
ATTACKS = [
    "copy (select 1) to '{out}'",
    "COPY labels TO '{out}' (FORMAT parquet)",
    COPY,
    "copy labels from '{data}'",
    # A statement in what looks like a comment to a careless reader.
    "-- explain\n" + COPY + " /*\nselect 1 -- */",
    "-- select 1\n" + COPY,
    "/* select 1 */ " + COPY,
    "explain analyze " + COPY,
    "explain " + COPY,
    "explain /**/ analyze " + COPY,
    "explain (analyze) " + COPY,
    "explain explain " + COPY,
    # A SELECT that writes.
    "with x as (" + COPY + ") select * from x",
    "with x as (" + COPY + ") select 1",
    "with x as materialized (" + COPY.replace("parquet", "csv") + ") select 1",
    "explain analyze with x as (" + COPY + ") select * from x",
    "explain with x as (" + COPY + ") select * from x",
    "select * from (with x as (" + COPY + ") select * from x)",
    "select * from query('with x as (" + COPY.replace("'", "''") + ") select * from x')",
    "select * from json_execute_serialized_sql(json_serialize_sql('with x as ("
    + COPY.replace("'", "''")
    + ") select * from x'))",
    "from query('from json_execute_serialized_sql(json_serialize_sql(''with x as ("
    + COPY.replace("'", "''''")
    + ") select * from x''))')",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "with x as (insert into classes_rows values (1) returning 1) from x",
    "with x as (delete from labels returning 1) from x",
    "with x as (update labels set area = 1 returning 1) from x",
    "select * from query('" + COPY.replace("'", "''") + "')",
    "select * from query('select 1; select 2')",
    # Several statements.
    "select 1; " + COPY,
    COPY + "; select 1",
    "select 1; drop view predictions",
    "select 1; select 2",
    # Files.
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "select * from read_csv('{secret}')",
    "select * from read_json('{gt}')",
    "select * from read_parquet('{folder}/*.parquet')",
    "select * from read_parquet('{folder}/**/*.parquet')",
    "select * from sniff_csv('{secret}')",
    "select * from glob('{folder}/*')",
    "select * from '{secret}'",
    "select * from '{gt}'",
    "select * from query('select * from read_text(''{secret}'')')",
    "select * from query_table('{secret}')",
    "select * from 'http://127.0.0.1:9/x.parquet'",
    "select * from 's3://bucket/x.parquet'",
    "select getenv('HOME')",
    "select content from read_text('/proc/self/environ')",
    # Other databases and extensions.
    "attach '{out}'",
    "attach ':memory:' as other",
    "attach '{data}' as other (read_only)",
    "install httpfs",
    "load httpfs",
    "load '{out}'",
    "force install httpfs",
    "create secret (type s3)",
    "from duckdb_secrets()",
    # Settings.
    "set enable_external_access = true",
    "set allowed_directories = ['/']",
    "reset enable_external_access",
    "set variable x = 1",
    "pragma enable_profiling",
    "pragma database_list",
    "use memory",
    "select * from enable_logging(storage = 'file', storage_config = {{'path': '{out}'}})",
    "select * from enable_profiling(save_location = '{out}')",
    "select * from enable_profiling(save_location = '{data}')",
    # Changes.
    "create table t as select 1",
    "create or replace view predictions as select 1",
    "create temp macro f() as 1",
    "insert into predictions select * from predictions",
    "update predictions set confidence = 1",
    "delete from predictions",
    "merge into predictions using labels on true when matched then delete",
    "truncate predictions",
    "drop view predictions",
    "alter view predictions rename to p",
    "comment on view predictions is 'x'",
    "export database '{out}'",
    "import database '{out}'",
    "checkpoint",
    "vacuum",
    "analyze",
    "begin",
    "prepare x as select 1",
    "execute x",
    "call pragma_version()",
    "call enable_logging()",
    # Python.
    "select * from local_table",
    "select * from python_map_function((select 1))",
    "select * from pandas_scan(1)",
    # Nothing at all.
    "",
    " ; ",
    "-- nothing",
    "select",
    "select nope from labels",
    "select * from mtches",
    "select ?",
    "select $x",
    "select error('no')",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_end_in_a_query_error_and_change_nothing(project, monkeypatch, attack):
    local_table = pa.table({"a": [1]})
    assert local_table.num_rows
    folder = project.root
    monkeypatch.chdir(folder)
    secret = folder / "secret.txt"
    secret.write_text("swordfish")
    data = next((folder / ".ea-arrow" / "labels").glob("*.parquet"))
    before = snapshot(folder)
    sql = attack.format(
        data=data, out=folder / "out", folder=folder, secret=secret, gt=folder / "gt.json"
    )
    with pytest.raises(QueryError) as caught:
        project.sql(sql)
    assert snapshot(folder) == before
    assert "swordfish" not in str(caught.value)
    assert len(project.labels) == 3


def test_a_query_leaves_nothing_in_the_working_directory(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.sql("select count(*) from predictions, range(1000) order by all")
    assert list(tmp_path.iterdir()) == []


def test_half_a_character_is_a_query_error(project):
    with pytest.raises(QueryError):
        project.sql("select '\ud83d'")


# -- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("drop view labels", ["Only SELECT is allowed here; this is DROP.", "import and rm"]),
        ("with x as (" + COPY + ") from x", ["Only SELECT", "COPY_TO_FILE"]),
        ("select 1; select 2", ["found 2"]),
        ("", ["The query is empty."]),
        ("select * from mtches", ['"matches"', "Views: predictions"]),
        ("select nope from labels", ['"nope" not found', "LINE 1: select nope"]),
        ("select 1,\n nope from labels", ["LINE 2:  nope"]),
        ("from read_text('/etc/passwd')", ["Permission", "project's views only"]),
        ("selec 1", ["syntax error"]),
    ],
)
def test_messages_say_what_to_do(project, sql, words):
    with pytest.raises(QueryError) as caught:
        project.sql(sql.format(data="/tmp/x"))
    for word in words:
        assert word in str(caught.value)
    assert "EXPLAIN" not in str(caught.value)
