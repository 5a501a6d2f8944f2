"""Rows of any kind for round trips, and what is compared after one."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import strategies as st

from ea_arrow.exporting import export
from ea_arrow.geometry import encode_dense
from ea_arrow.rle import encode_rle_strings
from tests.builders import import_results, make_project

SIZES = {1: (100, 50), 2: (640, 480)}  # of the images of builders.GROUND_TRUTH

scores = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.1 + 0.2, 1e-7, 1e300, -0.0, 10.0, 5e-324, 97.85]),
)
anywhere = st.floats(-1e6, 1e6)
sides = st.floats(0, 1e6)


@st.composite
def results(draw, shapes=("box", "polygon", "mask"), position=anywhere, side=sides, score=scores):
    """A COCO result of a shape; all have boxes."""
    image = draw(st.sampled_from(list(SIZES)))
    row = {
        "image_id": image,
        "category_id": draw(st.sampled_from([1, 2])),
        "bbox": [draw(position), draw(position), draw(side), draw(side)],
        "score": draw(score),
    }
    shape = draw(st.sampled_from(shapes))
    if shape == "polygon":
        ring = st.lists(position, min_size=6, max_size=12).map(lambda r: r[: len(r) // 2 * 2])
        row["segmentation"] = draw(st.lists(ring, min_size=1, max_size=3))
    if shape == "mask":
        row["segmentation"] = mask_of(draw(st.integers(0, 2**32)), *SIZES[image])
    return row


def mask_of(seed, width, height):
    """A mask of some random rectangles, as COCO's RLE."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width), np.uint8)
    for _ in range(random.integers(0, 4)):
        x, y = random.integers(0, width), random.integers(0, height)
        pixels[y : y + random.integers(1, height), x : x + random.integers(1, width)] = 1
    runs = encode_dense(pixels).counts
    counts, _ = encode_rle_strings(runs, np.array([len(runs)]))
    return {"size": [height, width], "counts": counts.tobytes().decode()}


def project_with(folder, rows, name="base"):
    """A project in a new folder, with COCO results imported."""
    project = make_project(folder)
    import_results(project, rows, name)
    return project


def again(project, to, name="base", **options):
    """Export and import it again; return the result of the export."""
    place = project.root / f"out-{to}"
    result = export(project, name, to, place, overwrite=True, options=options)
    form = {"parquet": "table", "csv": "table"}.get(to, to)
    project.import_predictions(
        place, "again", mode="replace", format=form, options=result.reading, strict=True
    )
    return result


def rows_of(project, name, without=()):
    """All rows of an iteration but for what an import of another file changes."""
    dropped = {"iteration", "source_row", *without}
    table = project.predictions(name).to_arrow()
    return table.select([n for n in table.column_names if n not in dropped]).to_pylist()


def by_unit(rows):
    """Rows sorted by data unit, each with its place there in place of its number."""
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["data_hash"], rows[i]["frame"], i))
    return [{k: v for k, v in rows[i].items() if k != "prediction_id"} for i in order]


def same(first, second):
    """Whether rows are equal to the last bit: JSON tells -0.0 from 0.0."""
    return json.dumps(first, default=repr) == json.dumps(second, default=repr)
