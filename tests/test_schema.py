"""The schema module: conforming tables, complete descriptions, and what the files really hold."""

import json

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import ea_arrow
from ea_arrow.conform import conform
from ea_arrow.errors import ProjectError, SchemaError
from ea_arrow.files import parquet_options
from ea_arrow.geometry import Rle
from ea_arrow.normalise import Normaliser
from ea_arrow.schema import (
    DATA_UNITS,
    DERIVED,
    ITERATIONS,
    LABELS,
    PREDICTIONS,
    RAW,
    SCHEMA_VERSION,
    STORED,
    TABLES,
    VERSION_KEY,
)
from ea_arrow.schema_docs import describe
from tests.builders import (
    RELATIVE,
    RESULTS,
    class_table,
    data_units,
    make_project,
    object_classes,
    raw_batch,
)

SPECS = (*STORED, *DERIVED, RAW)
UNITS = data_units(("a", 0, 4, 3))


def predictions(repeat=1):
    """A table with every kind of row: box, rotated box, polygons, mask."""
    row = {"unit": "a", "class_ref": "car"}
    box = {f"bbox_{c}": 0.1 * i for i, c in enumerate("xywh", 1)} | {"format": "bounding_box"}
    rings = [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 0.0, 1 / 3, 1.0]]
    rows = [
        row | box | {"track_id": "t", "probabilities": [0.25, 0.75]},
        row | box | {"theta": 45.0},
        row | {"format": "polygon", "polygon": rings},
        row | {"format": "mask", "mask": Rle(3, 4, np.array([4, 2, 1, 2, 3]))},
    ]
    normaliser = Normaliser(
        UNITS, class_table(object_classes(("car", "any", "1"))), RELATIVE, "predictions"
    )
    stored = normaliser(raw_batch(rows * repeat)).rows
    assert stored.num_rows == 4 * repeat
    names = pa.array(["it"] * stored.num_rows)
    return conform(pa.table(stored).append_column("iteration", names), PREDICTIONS)


# -- conform ------------------------------------------------------------------------------------


def test_a_conforming_table_comes_back_as_it_is():
    table = predictions()
    assert conform(table, PREDICTIONS).equals(table, check_metadata=True)
    assert table.schema.metadata == {VERSION_KEY.encode(): str(SCHEMA_VERSION).encode()}


def test_batches_conform_as_tables_do():
    batch = predictions().to_batches()[0]
    again = conform(batch, PREDICTIONS)
    assert isinstance(again, pa.RecordBatch)
    assert again.equals(batch, check_metadata=True)
    stored = conform(batch, PREDICTIONS, stored=True)
    assert stored.schema.names == [n for n in PREDICTIONS.names if n != "iteration"]


def test_columns_come_into_order_and_others_go():
    table = predictions()
    shuffled = table.select(table.schema.names[::-1]).append_column("extra", pa.array([1] * 4))
    assert conform(shuffled, PREDICTIONS).equals(table, check_metadata=True)


def test_a_missing_column_is_named_beside_what_is_there_instead():
    table = predictions().rename_columns(
        ["score" if n == "confidence" else n for n in PREDICTIONS.names]
    )
    with pytest.raises(SchemaError) as caught:
        conform(table, PREDICTIONS)
    message = "Table 'predictions' lacks 1 column(s): confidence; it has instead: score."
    assert str(caught.value) == message
    with pytest.raises(SchemaError, match=r"lacks 2 column\(s\): frame, area\.$"):
        conform(predictions().drop_columns(["area", "frame"]), PREDICTIONS)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("confidence", ["high"] * 4),
        ("prediction_id", [0.5, 1.0, 2.0, 3.0]),
        ("prediction_id", [2**63, 1, 2, 3]),
        ("polygon", [1.0] * 4),
        ("mask", ["x"] * 4),
        ("data_hash", [b"\xff"] * 4),
    ],
)
def test_a_wrong_type_is_an_error_that_names_both(name, values):
    table = predictions()
    index = table.schema.get_field_index(name)
    column = pa.array(values, pa.uint64() if values[0] == 2**63 else None)
    with pytest.raises(SchemaError) as caught:
        conform(table.set_column(index, name, column), PREDICTIONS)
    assert f"Column '{name}' of table 'predictions' is {column.type}" in str(caught.value)
    assert str(PREDICTIONS.arrow.field(name).type) in str(caught.value)


@pytest.mark.parametrize("name", [c.name for c in PREDICTIONS.columns if not c.nullable])
def test_nulls_where_none_may_be(name):
    table = predictions()
    index = table.schema.get_field_index(name)
    kind = table.schema.field(name).type
    with pytest.raises(SchemaError, match=f"'{name}' .* has 4 null"):
        conform(table.set_column(index, name, pa.nulls(4, kind)), PREDICTIONS)
    with pytest.raises(SchemaError, match=f"'{name}' .* has 4 null"):
        conform(table.set_column(index, name, pa.nulls(4)), PREDICTIONS)


def test_nulls_of_no_type_conform_where_nulls_may_be():
    table = predictions()
    for name in ("mask", "polygon", "area", "track_id", "probabilities"):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.nulls(4))
    conformed = conform(table, PREDICTIONS)
    assert conformed.schema.equals(PREDICTIONS.arrow, check_metadata=True)
    assert conformed["mask"].null_count == 4


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_empty_tables_conform(spec):
    table = conform(spec.arrow.empty_table(), spec)
    assert table.schema.equals(spec.arrow, check_metadata=True)
    assert conform(pl.DataFrame(table).to_arrow(), spec).equals(table, check_metadata=True)


def test_a_round_trip_through_polars_loses_nothing():
    table = predictions()
    back = pl.DataFrame(table).to_arrow()
    assert not back.schema.equals(table.schema, check_metadata=True)  # or conform had no purpose
    assert conform(back, PREDICTIONS).equals(table, check_metadata=True)


def test_a_round_trip_through_duckdb_loses_nothing():
    table = predictions()
    with duckdb.connect() as connection:
        connection.register("given", table)
        back = connection.sql("from given").to_arrow_table()
    assert not back.schema.equals(table.schema, check_metadata=True)
    assert conform(back, PREDICTIONS).equals(table, check_metadata=True)


def test_dictionaries_become_plain_text():
    table = predictions()
    index = table.schema.get_field_index("data_hash")
    coded = table.set_column(index, "data_hash", table["data_hash"].dictionary_encode())
    assert conform(coded, PREDICTIONS).equals(table, check_metadata=True)


# -- descriptions -------------------------------------------------------------------------------

PIXELS = {"bbox_x", "bbox_y", "bbox_w", "bbox_h", "mask", "polygon"}
UNITS_OF = dict.fromkeys(PIXELS, "pixel") | {
    "theta": "degree",
    "area": "pixel²",
    "area_low": "pixel²",
    "area_high": "pixel²",
    "width": "pixel",
    "mutual_information": "nat",
    "height": "pixel",
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_every_table_and_column_is_described(spec):
    assert spec.doc.endswith(".")
    assert len(set(spec.names)) == len(spec.columns)
    for column in spec.columns:
        assert column.doc.strip(), column.name
        assert column.doc[0].isupper() or column.doc[0].isdigit() or column.doc[0] in "`"
        assert column.doc.endswith("."), column.name


@pytest.mark.parametrize("spec", TABLES.values(), ids=lambda s: s.name)
def test_geometry_has_units(spec):
    for column in spec.columns:
        assert column.unit == UNITS_OF.get(column.name), column.name


@pytest.mark.parametrize("spec", TABLES.values(), ids=lambda s: s.name)
def test_documents_say_all_there_is_to_a_column(spec):
    document = json.loads(json.dumps(describe(spec)))
    assert document["schema_version"] == SCHEMA_VERSION
    assert [c["name"] for c in document["columns"]] == spec.arrow.names
    for described, field in zip(document["columns"], spec.arrow, strict=True):
        assert described["nullable"] == field.nullable
        assert described["type"] == str(field.type)


@pytest.mark.parametrize("spec", STORED, ids=lambda s: s.name)
def test_stored_types_are_those_that_delta_and_polars_know(spec):
    def leaves(kind):
        if pa.types.is_struct(kind):
            return [leaf for field in kind for leaf in leaves(field.type)]
        return leaves(kind.value_type) if pa.types.is_list(kind) else [kind]

    allowed = {"int64", "int32", "double", "float", "bool", "string", "binary"}
    for column in spec.columns:
        for leaf in leaves(column.type):
            assert str(leaf) in allowed | {"timestamp[us, tz=UTC]"}, column.name


# -- files --------------------------------------------------------------------------------------


def assert_same(found, expected):
    """Equal but for the names of list elements, which Parquet decides."""
    assert found.equals(expected)
    assert found.metadata == expected.metadata


def encodings(path):
    """The encodings of each leaf column of a Parquet file."""
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 1
    group = metadata.row_group(0)
    columns = [group.column(i) for i in range(metadata.num_columns)]
    return {c.path_in_schema: (set(c.encodings), c.compression) for c in columns}


def test_files_have_the_encodings_that_the_schema_declares(tmp_path):
    path = tmp_path / "predictions.parquet"
    table = predictions(repeat=50)
    pq.write_table(conform(table, PREDICTIONS, stored=True), path, **parquet_options(PREDICTIONS))
    found = encodings(path)
    assert {compression for _, compression in found.values()} == {"ZSTD"}
    split = {n for n, (used, _) in found.items() if "BYTE_STREAM_SPLIT" in used}
    points = "polygon.list.element.list.element"
    numbers = {"confidence", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "theta", "area"}
    assert split == numbers | {points}
    delta = {n for n, (used, _) in found.items() if "DELTA_BINARY_PACKED" in used}
    assert delta == {"prediction_id", "source_row"}
    coded = {n for n, (used, _) in found.items() if "RLE_DICTIONARY" in used}
    hashes = {"data_hash", "feature_hash", "attribute_hash", "option_hash"}
    assert coded == hashes | {"frame", "format", "mask.height", "mask.width"}
    assert pq.read_table(path).equals(conform(table, PREDICTIONS, stored=True))


@pytest.mark.parametrize("spec", [*STORED, *DERIVED], ids=lambda s: s.name)
def test_the_options_of_every_table_write_and_read_back(spec, tmp_path):
    path = tmp_path / "empty.parquet"
    table = conform(spec.arrow.empty_table(), spec, stored=True)
    pq.write_table(table, path, **parquet_options(spec))
    assert_same(pq.read_schema(path), spec.arrow_stored)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one iteration; no test changes it."""
    return make_project(tmp_path_factory.mktemp("schema") / "p", results=RESULTS)


def test_every_file_and_table_of_a_project_says_its_version(project):
    project.metrics("base")
    project.matches("base")
    files = list((project.root / ".ea-arrow").rglob("*.parquet"))
    assert len(files) >= 6
    for path in files:
        assert pq.read_schema(path).metadata[VERSION_KEY.encode()] == b"1"
    for spec in STORED:
        table = DeltaTable(str(project.root / ".ea-arrow" / spec.name))
        assert table.metadata().configuration[VERSION_KEY] == str(SCHEMA_VERSION)


def test_what_a_project_stores_has_the_schema(project):
    folder = project.root / ".ea-arrow"
    for spec in (PREDICTIONS, LABELS, DATA_UNITS, ITERATIONS):
        (path,) = (folder / spec.name).rglob("*.parquet")
        assert_same(pq.read_schema(path), spec.arrow_stored)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (SCHEMA_VERSION + 1, "Upgrade ea-arrow."),
        (0, "Make the project again"),
        ("1", "Make the project again"),
        (None, "Make the project again"),
    ],
)
def test_a_project_of_another_version_is_refused(tmp_path, version, words):
    folder = make_project(tmp_path).root
    marker = folder / ".ea-arrow" / "project.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"schema_version": version}))
    with pytest.raises(ProjectError) as caught:
        ea_arrow.open(folder)
    assert f"schema version {version}" in str(caught.value)
    assert f"reads version {SCHEMA_VERSION}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", "null"])
def test_a_marker_that_is_none_is_refused(tmp_path, text):
    folder = make_project(tmp_path).root
    (folder / ".ea-arrow" / "project.json").write_text(text)
    with pytest.raises(ProjectError, match="cannot be read"):
        ea_arrow.open(folder)
