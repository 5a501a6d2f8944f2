"""How a writer writes: its options, its project and its name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.errors import IterationError, ParameterError, ProjectError
from ea_arrow.names import check_name
from ea_arrow.schema import PREDICTIONS
from ea_arrow.shards import check_shard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ea_arrow.publication import Mode
    from ea_arrow.store import Store

MODES: Final[Mapping[str, Mode]] = {
    "error": "create",
    "create": "create",
    "append": "append",
    "replace": "replace",
}


@dataclass(frozen=True)
class WriterOptions:
    """How to write; see :meth:`ea_arrow.Project.writer`."""

    name: str | None = None
    model: str | None = None
    parameters: dict[str, Any] | None = None
    mode: str = "error"
    strict: bool = False
    partial: bool = False
    progress: bool = False
    shard: tuple[int, int] | None = None
    attempt: str | None = None

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            IterationError: The mode or the name is invalid.
            ParameterError: Options exclude each other.
        """
        if self.mode not in MODES:
            raise IterationError(
                f"mode must be one of error, append, replace; this is {self.mode!r}."
            )
        if self.name is not None:
            check_name(self.name)
        if self.attempt is not None:
            check_name(self.attempt)
        if self.shard is not None:
            check_shard(self.shard)
            if self.name is None:
                raise ParameterError("Writers with shard=… need one name for all of them.")
            if self.partial:
                raise ParameterError("partial=True is not for shards: a part is whole or absent.")


def root_of(project: Any) -> Path:
    """The directory of a project given as one, as its path, or as Encord Active's object."""
    if isinstance(project, str | os.PathLike):
        return Path(project).expanduser().absolute()
    root = getattr(project, "root", None)
    if root is None:
        root = getattr(getattr(project, "file_structure", None), "project_dir", None)
    if root is None:
        raise ProjectError(
            f"Expected a project or its directory; found a value of type {type(project).__name__}."
        )
    return Path(root).expanduser().absolute()


def reserve(store: Store) -> tuple[str, Path]:
    """Take the next free name: making its directory is what only one process succeeds in."""
    root = store.table(PREDICTIONS).root
    taken = store.iterations().keys()
    number = 1
    while True:
        name = f"run-{number:03}"
        folder = root / f"iteration={name}"
        number += 1
        if name in taken:
            continue
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return name, folder
