"""Finding a project's data units and classes by the names that a source gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASHES: Final = ("attribute_hash", "option_hash")


class UnitIndex:
    """Finds data units by key and frame."""

    def __init__(self, data_units: pa.Table, key: str) -> None:
        self.hashes = data_units["data_hash"].combine_chunks()
        self.width = data_units["width"].to_numpy().astype(np.float64)
        self.height = data_units["height"].to_numpy().astype(np.float64)
        self.frame = data_units["frame"].to_numpy()
        keys = data_units[key].combine_chunks()
        self.values = keys.unique().drop_null()
        codes = pc.index_in(keys, self.values).fill_null(-1).to_numpy().astype(np.int64)
        self._frames = int(self.frame.max(initial=0)) + 1
        packed = np.where(codes < 0, -1, codes * self._frames + self.frame)
        self._order = np.argsort(packed, kind="stable")
        self._packed = packed[self._order]

    def find(self, keys: pa.Array, frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each data unit, −1 where there is none."""
        codes = pc.index_in(keys, self.values).fill_null(-1).to_numpy().astype(np.int64)
        valid = (codes >= 0) & (frame >= 0) & (frame < self._frames)
        wanted = np.where(valid, codes * self._frames + np.minimum(frame, self._frames), -2)
        place = np.searchsorted(self._packed, wanted)
        place = np.minimum(place, max(len(self._packed) - 1, 0))
        found = np.full(len(wanted), -1, dtype=np.int64)
        if len(self._packed):
            hit = self._packed[place] == wanted
            found[hit] = self._order[place[hit]]
        return found


class ClassIndex:
    """Finds object classes by key, and options of classifications by their three hashes."""

    def __init__(self, classes: pa.Table, key: str) -> None:
        is_object = pc.equal(classes["kind"], "object")
        self.objects = classes.filter(is_object).combine_chunks()
        self.options = classes.filter(pc.invert(is_object)).combine_chunks()
        self._keys = self.objects[key].combine_chunks()
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
