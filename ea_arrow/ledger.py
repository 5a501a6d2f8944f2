"""The account of an import: every row read is kept, or counted under the rule that refused it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

REJECTS: Final[dict[str, str]] = {
    "not_a_prediction": "not a prediction: a field is missing or of the wrong type",
    "missing_data_unit": "names no data unit",
    "unknown_data_unit": "data unit is not in the project",
    "missing_class": "names no class",
    "unknown_class": "class is not in the ontology",
    "bad_format": "format is unknown",
    "missing_confidence": "no confidence",
    "not_finite": "a number is NaN or infinite",
    "invalid_frame": "frame is not a whole number from 0",
    "invalid_box": "box is incomplete or has a negative side",
    "box_out_of_range": "box lies outside the data unit",
    "invalid_polygon": "polygon is not a list of at least 3 points",
    "polygon_out_of_range": "polygon lies outside the data unit",
    "invalid_mask": "mask is not a valid two-dimensional mask",
    "mask_not_binary": "mask holds other values than 0 and 1",
    "mask_size": "mask has another size than its data unit",
    "invalid_data": "data cannot be read",
    "unsupported_shape": "shape is not supported",
    "unsupported_answer": "answer is not a radio option",
    "repeated": "exact duplicate of a row that is there, dropped",
}
"""Rules in the order in which a row that breaks several is counted, each with its meaning."""

NOTES: Final[dict[str, str]] = {
    "clipped": "clipped: outside the data unit by less than 1e-6",
    "outside": "reaching outside the data unit (kept as given)",
    "within_one_pixel": "boxes within the first pixel: are they relative? (kept)",
    "beyond_one": "confidence outside [0, 1] (kept)",
    "duplicate": "exact duplicates of an earlier row of this import (kept)",
    "no_distribution": "class probabilities that do not add up to 1: no acquisition scores (kept)",
    "shape_differs": "format differs from the shape of the class (kept)",
}
"""What is counted about rows that are kept, each with its meaning."""

EXAMPLES: Final = 3


@dataclass
class Ledger:
    """Counts of an import.

    Attributes:
        read: Rows read.
        kept: Rows kept; ``read == kept + sum(rejects.values())``.
        rejects: Rows refused, each under one rule.
        notes: What is remarkable about kept rows, and about the source.
        examples: The first source rows of each reject and note, counted from 0; with the file's
            name where there are several.
        messages: What was found in the first row of each reject.
        choices: How the sources were read, where they left it open.
        proposals: What might keep rows that were refused; never done without being asked for.
    """

    read: int = 0
    kept: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[int | str]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)
    proposals: list[str] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """Rows refused."""
        return sum(self.rejects.values())

    def count(self, kind: str, rows: Sequence[int | str], number: int, *, reject: bool) -> None:
        """Count ``number`` rows of a kind; ``rows`` are the source rows of the first ones."""
        if number == 0:
            return
        into = self.rejects if reject else self.notes
        into[kind] = into.get(kind, 0) + number
        shown = self.examples.setdefault(kind, [])
        shown.extend(rows[: EXAMPLES - len(shown)])

    def add(self, other: Ledger, source: str | None = None) -> None:
        """Add the counts of another source; given its name, its rows are named with it."""
        self.read += other.read
        self.kept += other.kept
        for mine, theirs in ((self.rejects, other.rejects), (self.notes, other.notes)):
            for kind, number in theirs.items():
                mine[kind] = mine.get(kind, 0) + number
        for kind, rows in other.examples.items():
            shown = self.examples.setdefault(kind, [])
            named = [f"{source}:{row}" if source else row for row in rows]
            shown.extend(named[: EXAMPLES - len(shown)])
        for rule, message in other.messages.items():
            self.messages.setdefault(rule, message)
        self.choices += [choice for choice in other.choices if choice not in self.choices]

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain values, for JSON."""
        return {
            "read": self.read,
            "kept": self.kept,
            "rejects": self.rejects,
            "notes": self.notes,
            "examples": self.examples,
            "messages": self.messages,
            "choices": self.choices,
            "proposals": self.proposals,
        }
