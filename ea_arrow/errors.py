"""Every error that ea-arrow raises on purpose.

::

    EaArrowError
    ├── SourceError            a file cannot be read as what it claims to be
    │   └── UnsafePickleError  a pickle asks for something outside the allow-list
    ├── SchemaError            a table does not have the columns its schema declares
    ├── GeometryError          a mask, polygon or box cannot be what it claims to be
    ├── ProjectError           there is no project here, or it cannot be used
    │   └── ProjectExistsError
    ├── IterationError         an iteration name is invalid
    │   ├── IterationExistsError
    │   └── IterationNotFoundError
    ├── ConflictError          another process changed the same thing first
    ├── RejectedRowsError      ``--strict``: rows were refused
    ├── ExportError            an export cannot be written as it is asked for
    ├── ShardError             parts of an iteration by several processes do not fit together
    ├── PredictionError        a prediction handed to the API breaks the model's rules
    ├── SliceError             a named subset of data units is not there, or its name is taken
    ├── ParameterError         a threshold, area range or other parameter is out of range
    └── QueryError             a SQL statement is wrong or not allowed
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ea_arrow.ledger import Ledger


_MOST = 2000
"""Characters of a message; a longer one loses its middle."""


class EaArrowError(Exception):
    """Base of every error ea-arrow raises on purpose.

    Args:
        message: What is wrong, where, and what was expected.
        hint: The next step, one sentence; printed on its own line.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = _short(message)
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is None else _short(hint)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class SourceError(EaArrowError):
    """A file cannot be read as what it claims to be."""


class UnsafePickleError(SourceError):
    """A pickle asks for something that is not on the allow-list; nothing was executed."""


class SchemaError(EaArrowError):
    """A table does not have the columns, types or nullability its schema declares."""


class GeometryError(EaArrowError):
    """A mask, polygon or box cannot be what it claims to be."""


class ProjectError(EaArrowError):
    """There is no project here, or this version of ea-arrow cannot use it."""


class ProjectExistsError(ProjectError):
    """A project is already there."""


class IterationError(EaArrowError):
    """An iteration name is invalid."""


class IterationExistsError(IterationError):
    """The iteration is already there."""


class IterationNotFoundError(IterationError):
    """No iteration has that name."""


class ConflictError(EaArrowError):
    """Another process changed the same thing first; nothing was written."""


class RejectedRowsError(EaArrowError):
    """Rows were refused while the caller asked for all or nothing.

    Attributes:
        ledger: The account of every row.
    """

    def __init__(self, message: str, *, ledger: Ledger, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.ledger = ledger


class ExportError(EaArrowError):
    """An export cannot be written as it is asked for; nothing was written."""


class ShardError(EaArrowError):
    """Parts of an iteration that several processes write are missing or do not fit together."""


class PredictionError(EaArrowError, ValueError):
    """A prediction handed to the API breaks the model's rules."""


class SliceError(EaArrowError):
    """A named subset of data units is not there, or its name is invalid or taken."""


class ParameterError(EaArrowError, ValueError):
    """A threshold, an area range or another parameter of an evaluation is out of range."""


class QueryError(EaArrowError):
    """A SQL statement is wrong or not allowed here."""


def _short(text: str) -> str:
    """A message that quotes a file may not grow with it."""
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} … {text[-_MOST // 4 :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return ``Did you mean 'x'?`` for the known name nearest to ``name``, if one is near.

    >>> did_you_mean("yolov8", ["yolo-v8", "resnet"])
    "Did you mean 'yolo-v8'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean '{near[0]}'?" if near else None
