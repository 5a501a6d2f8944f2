"""What the columns of YOLO predictions are, told from all rows of a source, or asked for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ea_arrow.errors import SourceError
from ea_arrow.sources.yolo_rows import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ea_arrow.sources.text_files import TextRows

Role = Literal["conf", "track"]
Roles = tuple[Role, ...]

COLUMNS: Final[Mapping[str, Roles]] = {
    "none": (),
    "conf": ("conf",),
    "track": ("track",),
    "conf,track": ("conf", "track"),
}
"""What the option ``columns`` takes: what stands after the coordinates."""

TASKS: Final = ("detect", "segment", "obb")

_BOX: Final = 5
_CORNERS: Final = 9
_TRIANGLE: Final = 7
_POSE: Final = 14
"""Rows that all have one number of columns from here on may be key points."""


@dataclass
class Tail:
    """The last numbers of rows.

    Attributes:
        rows: How many rows.
        low: The least.
        high: The greatest.
        whole: All are whole numbers.
    """

    rows: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in the last numbers of further rows."""
        self.rows += len(values)
        values = values[np.isfinite(values)]
        if len(values):
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            self.whole &= bool((values == np.floor(values)).all())

    def merge(self, other: Tail) -> Tail:
        """Both together."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Tail(self.rows + other.rows, low, high, self.whole and other.whole)

    @property
    def known(self) -> bool:
        """Whether there is any number."""
        return self.low <= self.high

    @property
    def are_tracks(self) -> bool:
        """Whole numbers beyond 1."""
        return self.whole and self.low >= 0 and self.high > 1

    def are_fractions(self, low: float = 0, high: float = 1) -> bool:
        """Within a range and not whole."""
        return not self.whole and self.low >= low and self.high <= high

    @property
    def described(self) -> str:
        """For messages."""
        kind = "whole numbers " if self.whole else ""
        return f"{kind}from {self.low:g} to {self.high:g} in {self.rows:,} rows"


@dataclass(frozen=True)
class Layout:
    """The columns of a source.

    Attributes:
        task: ``detect``, ``segment`` or ``obb``.
        roles: What stands after the coordinates, by how many columns do.
        odd: How many do in a row of an odd number of columns, of polygons.
        notes: What was told from the rows, for the ledger.
    """

    task: str
    roles: Mapping[int, Roles]
    odd: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)

    def extras(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many columns follow the coordinates, by how many a row has.

        Args:
            counts: Columns of each row, shape (n,).

        Returns:
            Shape (n,); −1 where a row has another number of columns than it can.
        """
        if self.task == "segment":
            extras = np.where(counts % 2 == 0, 1, self.odd)
        else:
            extras = counts - (_BOX if self.task == "detect" else _CORNERS)
        fits = np.isin(extras, list(self.roles)) & (counts > extras)
        return np.where(fits, extras, -1)

    @property
    def expected(self) -> str:
        """What a row should look like, for messages."""
        coordinates = {
            "detect": "class cx cy w h",
            "segment": "class x1 y1 x2 y2 x3 y3 …",
            "obb": "class x1 y1 x2 y2 x3 y3 x4 y4",
        }[self.task]
        ends = {" ".join((coordinates, *roles)) for roles in self.roles.values()}
        return " or ".join(sorted(ends))


def layout_of(
    path: Path,
    blocks: Callable[[], Iterator[TextRows]],
    task: str | None,
    columns: str | None,
) -> Layout:
    """Tell the columns of a source from its rows.

    Args:
        path: The source, for messages.
        blocks: Its rows.
        task: The option ``task``.
        columns: The option ``columns``.

    Raises:
        SourceError: It cannot be told.
    """
    if task is not None and columns is not None:
        return _given(task, COLUMNS[columns])
    tails = _survey(blocks())
    told = task or _task(path, tails, columns)
    if columns is not None:
        return _given(told, COLUMNS[columns])
    return _boxes(path, tails, told) if told != "segment" else _polygons(path, tails)


def _given(task: str, roles: Roles) -> Layout:
    """As an option says; a row without a track still has its confidence."""
    odd = 2 if len(roles) == 2 else 0
    return Layout(task, {n: roles[:n] for n in range(len(roles) + 1)}, odd)


def _survey(blocks: Iterable[TextRows]) -> dict[int, Tail]:
    tails: dict[int, Tail] = defaultdict(Tail)
    for rows in blocks:
        lines = Lines(rows)
        last, _ = lines.column(-1, lines.counts > 1)
        for count in np.unique(lines.counts).tolist():
            tails[count].add(last[lines.counts == count])
    return dict(tails)


def _task(path: Path, tails: Mapping[int, Tail], columns: str | None) -> str:
    """Boxes or polygons: oriented boxes are read as polygons, so that these need no telling."""
    boxes = {n: tail.rows for n, tail in tails.items() if _BOX <= n <= _TRIANGLE}
    others = {n: tail.rows for n, tail in tails.items() if n > _TRIANGLE}
    few, many = sum(boxes.values()), sum(others.values())
    if not many:
        if set(boxes) != {_TRIANGLE} or columns == "conf,track":
            return "detect"
        return _detect_or_triangles(path, tails[_TRIANGLE], columns)
    if few and 0.1 < few / (few + many) < 0.9:
        message = (
            f"{path}: {few:,} rows have {_listed(boxes)} columns, as boxes have, and {many:,} rows "
            f"{_listed(others)}, as polygons have."
        )
        raise SourceError(message, hint="Say which: --option task=detect or task=segment.")
    if few > many:
        return "detect"
    if len(tails) == 1 and many >= 3 and min(tails) >= _POSE:
        message = (
            f"{path}: each of {many:,} rows has {min(tails)} columns: polygons have as many points "
            "as they need, so these are rather a pose's key points, which are not read."
        )
        raise SourceError(message, hint="If they are polygons: --option task=segment.")
    return "segment"


def _detect_or_triangles(path: Path, tail: Tail, columns: str | None) -> str:
    if columns == "none" or (columns is None and tail.are_fractions(-0.5, 1.5)):
        return "segment"
    if columns is None and not tail.are_tracks:
        message = (
            f"{path}: rows of 7 columns end in {tail.described}: boxes with a confidence and a "
            "track id, or triangles?"
        )
        hint = "Say which: --option columns=conf,track or --option task=segment."
        raise SourceError(message, hint=hint)
    return "detect"


def _boxes(path: Path, tails: Mapping[int, Tail], task: str) -> Layout:
    least = _BOX if task == "detect" else _CORNERS
    roles: dict[int, Roles] = {0: ()}
    notes: dict[str, int] = {}
    one, two = tails.get(least + 1, Tail()), tails.get(least + 2, Tail())
    if one.rows:
        roles[1] = (_one(path, one, least + 1),)
        notes[_said(roles[1])] = one.rows
    if two.rows:
        if two.whole is False:
            message = (
                f"{path}: the last of {least + 2} columns holds {two.described}; expected track "
                "ids, whole numbers, after the confidence."
            )
            raise SourceError(message, hint="Say what they are: --option task or columns.")
        roles[2] = ("conf", "track")
        notes[_said(roles[2])] = two.rows
    return Layout(task, roles, notes=notes)


def _polygons(path: Path, tails: Mapping[int, Tail]) -> Layout:
    even, odd = Tail(), Tail()
    for count, tail in tails.items():
        if count > _TRIANGLE and count % 2 == 0:
            even = even.merge(tail)
        elif count >= _TRIANGLE and count % 2:
            odd = odd.merge(tail)
    roles: dict[int, Roles] = {}
    notes: dict[str, int] = {}
    if even.rows:
        roles[1] = (_one(path, even, None),)
        notes[_said(roles[1])] = even.rows
    extras = 0
    if odd.rows and odd.are_tracks:
        extras = 2
        notes[_said(("conf", "track"))] = odd.rows
    elif odd.known and not odd.are_fractions(-0.5, 1.5):
        message = (
            f"{path}: rows of an odd number of columns end in {odd.described}: coordinates of "
            "polygons, or track ids after a confidence?"
        )
        hint = "Say which: --option columns=none or --option columns=conf,track."
        raise SourceError(message, hint=hint)
    roles[extras] = ("conf", "track") if extras else ()
    # Too few points are told as that, not as a wrong number of columns.
    roles.setdefault(1, ("conf",))
    if {n - 1 - (1 if n % 2 == 0 else extras) for n in tails} == {8}:
        total = even.rows + odd.rows
        notes["polygons of four points, which oriented boxes are read as"] = total
    return Layout("segment", roles, extras, notes)


def _one(path: Path, tail: Tail, columns: int | None) -> Role:
    """What the only column after the coordinates is."""
    if tail.are_tracks:
        return "track"
    if tail.are_fractions() or not tail.known:
        return "conf"
    which = f"the last of {columns} columns" if columns else "the last column"
    message = (
        f"{path}: {which} holds {tail.described}: confidences lie between 0 and 1, track ids are "
        "whole numbers, some beyond 1."
    )
    raise SourceError(message, hint="Say which: --option columns=conf or --option columns=track.")


def _said(roles: Roles) -> str:
    words = {"conf": "the confidence", "track": "the track id"}
    last = " and ".join(words[role] for role in roles)
    if len(roles) > 1:
        return f"rows whose last two columns are read as {last}"
    return f"rows whose last column is read as {last}"


def _listed(counts: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(counts)[:5]))
