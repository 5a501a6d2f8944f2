"""The class of a prediction, by whatever name the model has for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import PredictionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

SEPARATOR: Final = "\n"
_HASHES: Final = ("feature_hash", "attribute_hash", "option_hash")


class ClassNames:
    """Turns a model's classes into those of a project.

    A key of a mapping that is not in it stands for itself; a class the project does not have is
    refused row by row, as on import.

    Args:
        classes: The project's ``CLASSES``.
    """

    def __init__(self, classes: pa.Table) -> None:
        rows = classes.to_pylist()
        self.hashes = {row["feature_hash"] for row in rows if row["kind"] == "object"}
        self._by_name: dict[str, str | None] = {}
        for row in sorted(rows, key=lambda row: row["kind"] != "object"):
            if row["kind"] == "object":
                self._put(row["name"], row["feature_hash"])
                continue
            answer = SEPARATOR.join(row[name] for name in _HASHES)
            for name in {row["name"], row["option_hash"]} - self.hashes:
                self._put(name, answer)

    def _put(self, name: str, found: str) -> None:
        self._by_name[name] = None if name in self._by_name else found

    def find(self, name: Any) -> str:
        """A class, given by its hash or by a name that is not ambiguous.

        Returns:
            The feature hash of an object; of a classification's option its three hashes, joined.

        Raises:
            PredictionError: Several classes have that name.
        """
        if hasattr(name, "option_hash"):
            name = tuple(getattr(name, part) for part in _HASHES)
        text = SEPARATOR.join(name) if isinstance(name, tuple | list) else str(name)
        if text in self.hashes or text not in self._by_name:
            return text
        found = self._by_name[text]
        if found is None:
            raise PredictionError(
                f"Several classes are called '{text}'.",
                hint="Name it by its feature hash; 'ea-arrow ontology' lists them.",
            )
        return found

    def mapping(self, given: Mapping[Any, Any] | Sequence[Any] | None) -> dict[str, str]:
        """A model's classes by their index or name, as text.

        Args:
            given: From the model's index or name to a feature hash or name of the project, or a
                list of these by index. An option of a classification is given by its name, its
                hash, its three hashes or a ``FrameClassification``. A mapping from feature hashes
                to the model's names, as Encord Active also has it, is turned round.
        """
        if given is None:
            return {}
        pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
        found = {_key(key): self.find(_plain(value)) for key, value in pairs}
        turned = found and not set(found.values()) & self.hashes and found.keys() <= self.hashes
        return {value: key for key, value in found.items()} if turned else found

    def checked(self, given: Mapping[Any, Any] | Sequence[Any]) -> dict[str, str]:
        """As :meth:`mapping`, with a warning about names that are no class of the project.

        A model may know more classes than a project has: what it predicts of those is refused.

        Raises:
            PredictionError: None of the names is a class of the project, or one is None.
        """
        pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
        for key, value in pairs:
            if value is None:
                raise PredictionError(
                    f"classes names no class for {key!r}.", hint="Leave out what is not predicted."
                )
        mapping = self.mapping(given)
        known = self.hashes.union(found for found in self._by_name.values() if found)
        names = [f.replace(SEPARATOR, ", ") for f in mapping.values() if f not in known]
        if not names:
            return mapping
        near = did_you_mean(names[0], [*self._by_name, *self.hashes])
        what = f"'{names[0]}', which classes names, is no class of the project"
        if len(names) == len(mapping):
            hint = near or "Classes of the project: ea-arrow ontology"
            raise PredictionError(f"{what}, and no other name is.", hint=hint)
        more = f", nor are {len(names) - 1} more" if len(names) > 1 else ""
        message = f"{what}{more}: what is predicted of it will be refused. {near or ''}"
        warnings.warn(message.strip(), stacklevel=4)
        return mapping

    def column(self, values: pa.Array, mapping: dict[str, str], *, by_name: bool) -> pa.Array:
        """A column of a model's classes as feature hashes.

        Args:
            values: Texts or whole numbers.
            mapping: What :meth:`mapping` returned.
            by_name: Also look for them among the names of the project's classes.

        Raises:
            PredictionError: Classes are numbers, and there is no mapping, or one is not in it.
        """
        if not mapping and not pa.types.is_string(values.type):
            raise PredictionError(
                "The classes are numbers; what they mean in this project is not known.",
                hint="Give classes={0: 'name or feature hash', …} or a list of them.",
            )
        if pa.types.is_floating(values.type) and pc.all(pc.equal(values, pc.floor(values))).as_py():
            values = values.cast(pa.int64())
        codes = values.dictionary_encode()
        keys = codes.dictionary.cast(pa.string()).to_pylist()
        if not pa.types.is_string(values.type):
            self._check_indices(keys, mapping)
        found = [mapping[k] if k in mapping else self.find(k) if by_name else k for k in keys]
        return pa.array(found, pa.string()).take(codes.indices)

    def _check_indices(self, keys: list[str], mapping: dict[str, str]) -> None:
        """Refuse a number that the mapping does not have and that is no class itself."""
        for key in keys:
            if key in mapping or key in self.hashes or key in self._by_name:
                continue
            numbers = sorted(int(known) for known in mapping if known.isdecimal())
            held = f" ({numbers[0]} … {numbers[-1]})" if numbers else ""
            raise PredictionError(f"class index {key} is not in classes{held}.")


def answers(column: pa.Array) -> dict[str, pa.Array] | None:
    """The three hashes of a column in which some classes are options; None if none is."""
    codes = column.dictionary_encode()
    parts = [name.split(SEPARATOR) for name in codes.dictionary.to_pylist()]
    if all(len(part) == 1 for part in parts):
        return None
    found = [part if len(part) == 3 else [part[0], None, None] for part in parts]
    columns = zip(
        ("class_ref", "attribute_hash", "option_hash"), zip(*found, strict=True), strict=True
    )
    return {name: pa.array(values, pa.string()).take(codes.indices) for name, values in columns}


def _key(value: Any) -> str:
    """A class as a key: 3, 3.0 and "3" are the same."""
    value = _plain(value)
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 else value
