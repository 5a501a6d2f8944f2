"""Finding a project's data units and classes by the names that a source gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

HASHES: Final = ("attribute_hash", "option_hash")

_SUFFIX: Final = (
    r"(?i)\.(png|jpe?g|webp|bmp|gif|tiff?|ppm|pgm|heic|avif|dcm|npy|mp4|avi|mov|mkv|webm)$"
)


def named_by(texts: pa.Array | pa.ChunkedArray, key: str) -> pa.Array | pa.ChunkedArray:
    """What texts that name data units come to under a key.

    Args:
        texts: Ids, titles, paths or file names.
        key: ``name`` takes what follows the last slash, ``stem`` that without the suffix of an
            image or video, ``number`` the whole number this is; all others take the text itself.

    Returns:
        The same number of texts; null where a text has no such form.

    >>> named_by(pa.array(["a/007.jpg", "b.v2"]), "number").to_pylist()
    ['7', None]
    >>> named_by(pa.array(["a/007.jpg", "b.v2"]), "stem").to_pylist()
    ['007', 'b.v2']
    """
    if key not in ("name", "stem", "number"):
        return texts
    names = pc.replace_substring_regex(texts, r"^.*[/\\]", "")
    if key == "name":
        return names
    stems = pc.replace_substring_regex(names, _SUFFIX, "")
    if key == "stem":
        return stems
    digits = pc.match_substring_regex(stems, r"^\d{1,18}$")
    numbers = pc.replace_substring_regex(stems, r"^0+(\d)", r"\1")
    return pc.if_else(digits, numbers, pa.scalar(None, pa.string()))


class Renaming:
    """Puts one name in the place of another; those it does not know stay as they are.

    Args:
        known: The new names by the old ones.

    >>> Renaming({"a": "b"})(pa.array(["a", "c", None])).to_pylist()
    ['b', 'c', None]
    """

    def __init__(self, known: Mapping[str, str | None]) -> None:
        self._old = pa.array(list(known), pa.string())
        self._new = pa.array(known.values(), pa.string())

    def __call__(self, column: pa.Array) -> pa.Array:
        """Return the column with the new names."""
        return pc.coalesce(self._new.take(pc.index_in(column, self._old)), column)


class UnitIndex:
    """Finds data units by key and frame.

    Args:
        data_units: ``DATA_UNITS``.
        key: What names them: one of ``sources.base.UnitKey``. Of two data units of one id, file
            name or stem neither is found.

    Attributes:
        shared: How many data units cannot be found because others are named alike.
    """

    def __init__(self, data_units: pa.Table, key: str) -> None:
        self.key = key
        self.hashes = data_units["data_hash"].combine_chunks()
        self.width = data_units["width"].to_numpy().astype(np.float64)
        self.height = data_units["height"].to_numpy().astype(np.float64)
        self.frame = data_units["frame"].to_numpy()
        keys = _unit_keys(data_units, key)
        self.values = keys.unique().drop_null()
        codes = pc.index_in(keys, self.values).fill_null(-1).to_numpy().astype(np.int64)
        self._frames = int(self.frame.max(initial=0)) + 1
        packed = np.where(codes < 0, -1, codes * self._frames + self.frame)
        self._order = np.argsort(packed, kind="stable")
        self._packed = packed[self._order]
        self.shared = self._drop_shared() if key != "data_hash" else 0

    def find(self, keys: pa.Array, frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each data unit, −1 where there is none."""
        codes = (
            pc.index_in(named_by(keys, self.key), self.values)
            .fill_null(-1)
            .to_numpy()
            .astype(np.int64)
        )
        valid = (codes >= 0) & (frame >= 0) & (frame < self._frames)
        wanted = np.where(valid, codes * self._frames + np.minimum(frame, self._frames), -2)
        place = np.searchsorted(self._packed, wanted)
        place = np.minimum(place, max(len(self._packed) - 1, 0))
        found = np.full(len(wanted), -1, dtype=np.int64)
        if len(self._packed):
            hit = self._packed[place] == wanted
            found[hit] = self._order[place[hit]]
        return found

    def _drop_shared(self) -> int:
        """Leave out data units whose key and frame others have too."""
        again = self._packed[1:] == self._packed[:-1]
        shared = np.append(again, False) | np.append(False, again) if len(self._packed) else again
        shared &= self._packed >= 0
        self._packed, self._order = self._packed[~shared], self._order[~shared]
        return int(shared.sum())


def _unit_keys(data_units: pa.Table, key: str) -> pa.Array:
    if key == "position":
        return pa.array(np.arange(len(data_units))).cast(pa.string())
    column = key if key in ("data_hash", "source_id", "title") else "title"
    keys = named_by(data_units[column], key)
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


class ClassIndex:
    """Finds object classes by key, and options of classifications by their three hashes."""

    def __init__(self, classes: pa.Table, key: str) -> None:
        is_object = pc.equal(classes["kind"], "object")
        self.objects = classes.filter(is_object).combine_chunks()
        self.options = classes.filter(pc.invert(is_object)).combine_chunks()
        if key == "index":
            self._keys = pa.array(np.arange(len(self.objects))).cast(pa.string())
        else:
            self._keys = self.objects[key].combine_chunks()
        if key == "name":  # of classes named alike none is meant
            counted = self._keys.value_counts()
            several = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
            alike = pc.is_in(self._keys, several)
            self._keys = pc.if_else(alike, pa.scalar(None, self._keys.type), self._keys)
        self._option_keys = _joined(
            [self.options[n].combine_chunks() for n in ("feature_hash", *HASHES)]
        )

    def find_objects(self, keys: pa.Array) -> NDArray[np.int64]:
        """Row of each class among the objects, −1 where there is none."""
        found = pc.index_in(keys, self._keys.drop_null()).fill_null(-1).to_numpy()
        place = np.flatnonzero(self._keys.is_valid().to_numpy(zero_copy_only=False))
        rows: NDArray[np.int64] = np.append(place, -1)[found]  # −1 takes the last: −1
        return rows

    def find_options(self, hashes: list[pa.Array]) -> NDArray[np.int64]:
        """Row of each option among the options, −1 where there is none."""
        found = pc.index_in(_joined(hashes), self._option_keys).fill_null(-1)
        rows: NDArray[np.int64] = found.to_numpy().astype(np.int64)
        return rows


def _joined(hashes: list[pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(*hashes, "\n", null_handling="replace", null_replacement="")
