"""The data set in our own columns: CSV, TSV, lines of JSON, Parquet and Arrow."""

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from tests.formats.dataset import (
    CLASSES,
    LABELS,
    PREDICTIONS,
    UNITS,
    LabelCase,
    PredictionCase,
)


def prediction(row):
    """Left, top, width and height in pixels; ids of the COCO ground truth."""
    x, y, w, h = row.box
    return {
        "image_id": row.unit + 1,
        "category_id": row.cls + 1,
        "confidence": row.score,
        "bbox_x": x,
        "bbox_y": y,
        "bbox_w": w,
        "bbox_h": h,
    }


def corners(row):
    """Two corners in pixels; names."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), row.corners, strict=True)
    return {"file_name": UNITS[row.unit].name, "class_name": CLASSES[row.cls], **dict(sides)}


def centred(row):
    """Centre and size as fractions; names."""
    sides = zip(("cx_rel", "cy_rel", "w_rel", "h_rel"), row.centred, strict=True)
    return {"file_name": UNITS[row.unit].name, "label": CLASSES[row.cls], **dict(sides)}


def listed(row):
    """A box as a list."""
    return {"image_id": row.unit + 1, "class": CLASSES[row.cls], "bbox": list(row.box)}


def scored(make):
    return [make(row) | {"score": row.score} for row in PREDICTIONS]


def with_sizes(make):
    """Labels, and a row for each data unit without any."""
    rows = [make(row) | _unit(row.unit) for row in LABELS]
    key = next(iter(rows[0]))
    rows += [
        ({} if key == "file_name" else {key: number + 1}) | _unit(number)
        for number in range(len(UNITS))
        if all(row.unit != number for row in LABELS)
    ]
    return rows


def _unit(number):
    unit = UNITS[number]
    return {"file_name": unit.name, "image_width": unit.width, "image_height": unit.height}


def write_csv(path, rows, *, delimiter=",", extra=()):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
    )
    data = (text.getvalue() + "".join(f"{line}\n" for line in extra)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_ndjson(path, rows, *, extra=()):
    lines = [*(json.dumps(row) for row in rows), *extra]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return path


def write_arrow(path, rows):
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=3)
    return path


def write_stream(path, rows):
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table, max_chunksize=3)
    return path


def write_directory(path, rows):
    """Two Parquet files."""
    path.mkdir(parents=True)
    write_parquet(path / "part-0.parquet", rows[:3])
    write_parquet(path / "part-1.parquet", rows[3:])
    return path


def _spoil_csv(folder):
    good = [prediction(row) for row in PREDICTIONS]
    bad = [
        good[0] | {"image_id": 99},
        good[0] | {"category_id": 99},
        good[0] | {"bbox_w": "wide"},
        good[0] | {"bbox_w": -3},
        good[0] | {"bbox_w": ""},
        good[0] | {"confidence": ""},
        good[0] | {"confidence": "high"},
        good[0] | {"image_id": ""},
    ]
    rejects = {
        "unknown_data_unit": 1,
        "unknown_class": 1,
        "invalid_box": 3,
        "missing_confidence": 1,
        "invalid_data": 3,
        "missing_data_unit": 1,
    }
    rows = [*good[:4], *bad, *good[4:]]
    path = write_csv(folder / "predictions.csv", rows, extra=("1,1", "1,1,0.5,0,0,1,1,1"))
    return [path], rejects


def _spoil_ndjson(folder):
    good = [prediction(row) for row in PREDICTIONS]
    bad = [
        good[0] | {"bbox_w": "wide"},
        good[0] | {"bbox_w": [1]},
        good[0] | {"image_id": {"a": 1}},
        good[0] | {"confidence": True},
    ]
    extra = ("{not json", "[1, 2]")
    path = write_ndjson(folder / "predictions.ndjson", [*good, *bad], extra=extra)
    return [path], {"invalid_box": 2, "invalid_data": 4}


def _spoil_labels(folder):
    rows = with_sizes(corners)
    rows += [rows[0] | {"xmax": "far"}, rows[0] | {"xmax": 0}]
    path = write_csv(folder / "labels.csv", rows, extra=("only,three,values",))
    return path, {"invalid_box": 2, "invalid_data": 1}


def _prediction_case(name, write, make, **more):
    return PredictionCase(
        format="table",
        id=name,
        write=lambda folder: [write(folder / name, scored(make))],
        **more,
    )


def _label_case(name, write, make, **more):
    return LabelCase(
        format="table",
        id=name,
        write=lambda folder: write(folder / name, with_sizes(make)),
        **more,
    )


PREDICTION_CASES = (
    PredictionCase(
        format="table",
        id="own.csv",
        write=lambda folder: [
            write_csv(folder / "predictions.csv", [prediction(row) for row in PREDICTIONS])
        ],
        spoil=_spoil_csv,
    ),
    PredictionCase(
        format="table",
        id="own.ndjson",
        write=lambda folder: [
            write_ndjson(folder / "predictions.ndjson", [prediction(row) for row in PREDICTIONS])
        ],
        spoil=_spoil_ndjson,
    ),
    PredictionCase(
        format="table",
        id="own.parquet",
        write=lambda folder: [
            write_parquet(folder / "predictions.parquet", [prediction(row) for row in PREDICTIONS])
        ],
    ),
    _prediction_case("corners.csv.gz", write_csv, corners),
    _prediction_case(
        "corners.tsv", lambda path, rows: write_csv(path, rows, delimiter="\t"), corners
    ),
    _prediction_case("centred.csv", write_csv, centred),
    _prediction_case("centred.parquet", write_parquet, centred),
    _prediction_case("list.csv", write_csv, listed),
    _prediction_case("list.jsonl", write_ndjson, listed),
    _prediction_case("list.parquet", write_parquet, listed),
    _prediction_case("list.arrow", write_arrow, listed),
    _prediction_case("stream.arrow", write_stream, corners),
    _prediction_case("directory", write_directory, corners),
)
LABEL_CASES = (
    _label_case("corners.csv", write_csv, corners, spoil=_spoil_labels),
    _label_case("centred.ndjson", write_ndjson, centred),
    _label_case("list.parquet", write_parquet, listed),
    _label_case("corners.arrow", write_arrow, corners),
    _label_case("directory", write_directory, corners),
    LabelCase(
        format="table",
        id="images",
        write=lambda folder: write_csv(folder / "labels.csv", [corners(row) for row in LABELS]),
        images=True,
    ),
)
