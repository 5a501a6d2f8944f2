"""KITTI: a text file per data unit, and ``ontology_mapping.json`` with the names of the classes.

KITTI holds corners. The left and top edges come back as they were; a width or height whose far
edge is no float64 comes back within half a unit in the last place of that edge.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.exports.base import (
    UNUSED,
    Account,
    Subject,
    Target,
    floats,
    is_format,
    note_unsaid,
)
from ea_arrow.exports.text import joined, number_texts
from ea_arrow.exports.units import UnitFiles, write_sizes
from ea_arrow.schema import BOX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAPPING: Final = "ontology_mapping.json"
DONT_CARE: Final = "DontCare"

_UNKNOWN: Final = " -1 -1 -10 "
_NO_SOLID: Final = " -1 -1 -1 -1000 -1000 -1000 -10"


def _write(subject: Subject, folder: Path, name: str, account: Account) -> None:
    del name
    classes = subject.object_classes
    names = class_words(classes["name"].to_pylist())
    hashes = classes["feature_hash"].to_pylist()
    (folder / MAPPING).write_text(json.dumps(dict(zip(hashes, names, strict=True)), indent=2))
    changed = [new != old for new, old in zip(names, classes["name"].to_pylist(), strict=True)]
    account.note(f"classes under a name that fits, which {MAPPING} has", sum(changed))
    words = pa.array(names, pa.string())
    files = UnitFiles(folder, subject.data_units)
    used: set[str] = set()
    for batch in subject.objects(account):
        account.written += batch.num_rows
        note_unsaid(batch, account)
        account.note("masks written as their boxes", is_format(batch, "mask"))
        account.note("polygons written as their boxes", is_format(batch, "polygon"))
        klass = words.take(pa.array(subject.class_of(batch)))
        if subject.is_labels:
            klass = _dont_care(batch, klass, account)
            used.update(klass.unique().to_pylist())
        score = () if subject.is_labels else (" ", number_texts(batch.column("confidence")))
        lines = joined(klass, _UNKNOWN, _corners(batch, account), _NO_SOLID, *score)
        files.add(subject.unit_of(batch), lines)
    if subject.is_labels:
        files.add_empty()
        write_sizes(folder, subject.data_units)
        account.note(UNUSED, len({*names} - used))
    files.note(account)


def class_words(names: Sequence[str]) -> list[str]:
    """Names of classes as single words, all different: columns are separated by spaces.

    >>> class_words(["car", "traffic light", "traffic_light", "DontCare"])
    ['car', 'traffic_light_2', 'traffic_light', 'DontCare_2']
    """
    # Names that can stay do, whatever the others become.
    fitting = {name for name in names if _fits(name)}
    used = {DONT_CARE}
    words = []
    for name in names:
        word = name if _fits(name) else "_".join(name.replace(",", " ").replace('"', " ").split())
        word = word if _fits(word) else f"class_{word}"
        number, base = 1, word
        while word in used or (word in fitting and word != name):
            number += 1
            word = f"{base}_{number}"
        used.add(word)
        words.append(word)
    return words


def _fits(name: str) -> bool:
    """Whether a name is one word that cannot be taken for a number or a comment."""
    plain = name[:1].isalpha() and name.lower() not in ("nan", "inf", "infinity")
    return plain and not any(c.isspace() or c in ',"' for c in name)


def _dont_care(batch: pa.RecordBatch, klass: pa.Array, account: Account) -> pa.Array:
    ignored = pc.or_(batch.column("is_crowd"), batch.column("is_ignored"))
    number = pc.sum(ignored).as_py() or 0
    account.note(f"labels to be ignored and crowds written as {DONT_CARE}", number)
    return pc.if_else(ignored, DONT_CARE, klass)


def _corners(batch: pa.RecordBatch, account: Account) -> pa.Array:
    box = floats(batch, *BOX)
    low, size = box[:, :2], box[:, 2:]
    high = low + size
    account.note("boxes whose size is rounded, as corners are written", (high - low != size).any(1))
    left, top, right, bottom = map(number_texts, np.concatenate((low, high), axis=1).T)
    return joined(left, " ", top, " ", right, " ", bottom)


TARGET: Final = Target(
    name="kitti",
    doc="KITTI directory: a text file per data unit and ontology_mapping.json",
    about="<title without suffix>.txt per data unit, and ontology_mapping.json, {feature hash: "
    "name of the class}, by which an import finds the classes again. Masks and polygons are "
    "written as their boxes, classifications are left out. Labels have no score; those to "
    "be ignored are DontCare; a data unit without any has an empty file; sizes.csv "
    "(name,width,height) stands beside them, for who has no images.",
    suffix="",
    write=_write,
    format="kitti",
)
