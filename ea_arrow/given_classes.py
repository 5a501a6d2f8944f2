"""The class of a prediction, by whatever name the model has for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.errors import PredictionError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClassNames:
    """Turns a model's classes into those of a project.

    A key of a mapping that is not in it stands for itself; a class the project does not have is
    refused row by row, as on import.

    Args:
        classes: The project's ``CLASSES``.
    """

    def __init__(self, classes: pa.Table) -> None:
        objects = classes.filter(pc.equal(classes["kind"], "object")).to_pylist()
        self.hashes = {row["feature_hash"] for row in objects}
        self._by_name: dict[str, str | None] = {}
        for row in objects:
            twice = row["name"] in self._by_name
            self._by_name[row["name"]] = None if twice else row["feature_hash"]

    def find(self, name: Any) -> str:
        """The feature hash of a class given by it or by a name that is not ambiguous.

        Raises:
            PredictionError: Several classes have that name.
        """
        text = str(name)
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
                list of these by index. A mapping from feature hashes to the model's names, as
                Encord Active also has it, is turned round.
        """
        if given is None:
            return {}
        pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
        found = {_key(key): self.find(_plain(value)) for key, value in pairs}
        turned = found and not set(found.values()) & self.hashes and found.keys() <= self.hashes
        return {value: key for key, value in found.items()} if turned else found

    def column(self, values: pa.Array, mapping: dict[str, str], *, by_name: bool) -> pa.Array:
        """A column of a model's classes as feature hashes.

        Args:
            values: Texts or whole numbers.
            mapping: What :meth:`mapping` returned.
            by_name: Also look for them among the names of the project's classes.

        Raises:
            PredictionError: Classes are numbers, and there is no mapping.
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
        found = [mapping[k] if k in mapping else self.find(k) if by_name else k for k in keys]
        return pa.array(found, pa.string()).take(codes.indices)


def _key(value: Any) -> str:
    """A class as a key: 3, 3.0 and "3" are the same."""
    value = _plain(value)
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 else value
