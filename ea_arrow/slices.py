"""Subsets of data units: a condition in SQL, given once or stored under a name."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ea_arrow.errors import SliceError, did_you_mean
from ea_arrow.files import sync, writing
from ea_arrow.names import is_valid

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools
    from ea_arrow.store import Store

FOLDER: Final = "slices"


@dataclass(frozen=True)
class Subset:
    """Some of a project's data units.

    Attributes:
        name: The slice's name, or the condition.
        units: Whether each data unit is in it, in order of ``unit_id``.
    """

    name: str
    units: Bools

    @property
    def fingerprint(self) -> str:
        """Equal for equal data units."""
        return hashlib.sha256(self.units.tobytes()).hexdigest()


class Slices:
    """The named slices of a project, one file each: two processes cannot lose one another's.

    Args:
        store: The project.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.folder / FOLDER

    def all(self) -> dict[str, str]:
        """Names and their conditions, by name."""
        return {name: self._read(name) for name in self._names()}

    def where(self, name: str) -> str:
        """The condition of a slice.

        Raises:
            SliceError: There is none of that name.
        """
        self._check(name)
        return self._read(name)

    def add(self, name: str, where: str, *, replace: bool = False) -> None:
        """Store a condition under a name.

        Raises:
            SliceError: The name is invalid, or there already.
        """
        if not is_valid(name) or name.startswith(".") or name == "all":
            raise SliceError(
                f"{name!r} is not a valid name of a slice: expected A–Z a–z 0–9 . _ -, not first "
                "a dot, and not 'all'."
            )
        path = self._folder / f"{name}.json"
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
            temporary = self._folder / f".{name}.{uuid.uuid4().hex[:8]}"
            temporary.write_text(json.dumps({"where": where}) + "\n", encoding="utf-8")
            sync(temporary)
            try:
                if replace:
                    temporary.replace(path)
                else:
                    os.link(temporary, path)  # fails if another process was first
            except FileExistsError as error:
                raise SliceError(
                    f"There is a slice '{name}' already: {self._read(name)}",
                    hint="Replace it with --replace (replace=True).",
                ) from error
            finally:
                temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Forget a slice.

        Raises:
            SliceError: There is none of that name.
        """
        self._check(name)  # not read: one that is broken can be removed too
        with writing(self._folder):
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _names(self) -> list[str]:
        # Projects made before there were slices have no such folder.
        return sorted(p.stem for p in self._folder.glob("*.json") if not p.name.startswith("."))

    def _check(self, name: str) -> None:
        known = self._names()
        if name not in known:
            listed = f"There are: {', '.join(known)}." if known else "There are none yet."
            near = did_you_mean(name, known)
            raise SliceError(
                f"There is no slice '{name}'.", hint=f"{near} {listed}" if near else listed
            )

    def _read(self, name: str) -> str:
        path = self._folder / f"{name}.json"
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["where"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SliceError(
                f"{path}: cannot be read: {error}.",
                hint=f"Remove it with 'ea-arrow slices {name} --remove'.",
            ) from error
