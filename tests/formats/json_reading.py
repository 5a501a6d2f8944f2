"""Reading a JSON file of predictions or labels in a test: its rows as plain dictionaries."""

import json
import random
from pathlib import Path

from ea_arrow.errors import EaArrowError
from ea_arrow.ledger import REJECTS
from ea_arrow.schema import RAW
from ea_arrow.sources.formats import Files, Reading
from ea_arrow.sources.samples import Sample


def filled(batches):
    """The rows of RAW batches, without what is null; each batch is validated."""
    rows = []
    for batch in batches:
        assert batch.schema == RAW.arrow
        batch.validate(full=True)
        rows += batch.to_pylist()
    assert {row["rule"] for row in rows} - {None} <= set(REJECTS)
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def opened(known, path, **reading):
    """A path opened as a source of predictions."""
    options = reading.pop("options", {})
    known.check(options)
    return known.open(Files(path, (path,)), Reading(options=options, **reading))


def rows_of(known, path, **reading):
    """The rows of a file of predictions."""
    return filled(opened(known, path, **reading).batches())


def read(known, path, **reading):
    """A path read as ground truth."""
    options = reading.pop("options", {})
    known.check(options)
    return known.read(Files(path, (path,)), Reading(options=options, **reading))


def written(path: Path, document) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def sniffs(known, path):
    return known.sniff(Sample(path))


OTHERS = {
    "coco results": '[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]',
    "coco": '{"images": [], "annotations": [{"id": 1, "bbox": [1, 2, 3, 4]}], "categories": []}',
    "ultralytics": '[{"image_id": "a", "file_name": "a.jpg", "category_id": 1,'
    ' "bbox": [1, 2, 3, 4], "score": 0.5}]',
    "labelme": '{"version": "5", "shapes": [{"label": "cat", "points": [[1, 2]], "score": null,'
    ' "shape_type": "polygon"}], "imagePath": "a.jpg"}',
    "own rows": '{"data_hash": "a", "feature_hash": "b", "confidence": 0.5, "x": 0.1}\n',
    "label and score rows": '{"label": "cat", "score": 0.5}\n{"label": "dog", "score": 0.5}\n',
    "encord label row": '{"label_hash": "a", "data_units": {"b": {"labels": {"objects": []}}}}',
    "encord ontology": '{"objects": [{"featureNodeHash": "a"}], "classifications": []}',
    "label studio tasks without results": '[{"data": {"image": "a.jpg"}, "predictions": []}]',
    "fiftyone metadata": '{"name": "dataset", "media_type": "image", "sample_fields": []}',
    "empty list": "[]",
    "text": "cat 0.5 1 2 3 4\n",
    "nothing": "",
}
"""Beginnings of files in other formats: whichever reader is asked, they are not its own."""


def claimed(known, folder):
    """Which of the other formats' files a format takes for its own."""
    found = []
    for name, text in OTHERS.items():
        path = folder / "other.json"
        path.write_text(text)
        found += [name] if sniffs(known, path) else []
    return found


_INSERTED = (b"-1", b"null", b"[]", b"{}", b'"', b"1e999", b"NaN", b"\\ud83d")


def mutations(data: bytes, number: int, seed: int = 0):
    """Copies of a file that are cut off, or have bytes changed, removed or put in."""
    chance = random.Random(seed)
    for _ in range(number):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(damaged) + 1)
            kind = chance.randrange(4)
            if kind == 0:
                del damaged[at:]
            elif kind == 1:
                damaged[at : at + 1] = bytes([chance.randrange(256)])
            elif kind == 2:
                del damaged[at : at + chance.randint(1, 9)]
            else:
                damaged[at:at] = chance.choice(
                    [b"-1", b"null", b"[]", b"{}", b'"', b"1e999", b"NaN"]
                )
            if not damaged:
                break
        yield bytes(damaged)


def survives(known, path, data, number=300, **reading):
    """Read damaged copies of a file: each ends in rows or in one clear error."""
    good = 0
    for damaged in mutations(data, number):
        path.write_bytes(damaged)
        sniffs(known, path)
        try:
            if hasattr(known, "open"):
                rows_of(known, path, **reading)
            else:
                filled(read(known, path, **reading).labels)
            good += 1
        except EaArrowError:
            continue
    return good
