"""What the doctor says: one finding, with its evidence and the command that removes the cause."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
"""``error``: the data were read wrongly or are damaged; ``warning``: numbers are not what the model
is worth; ``note``: worth knowing, and no failure."""

MOST_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One mistake, or something worth knowing.

    Attributes:
        kind: Its name, for programs: ``y_before_x``, ``shifted_classes``, ….
        severity: How bad it is.
        message: What is wrong, in one or two sentences.
        evidence: Numbers behind it, as plain values.
        ap50_now: AP at IoU 0.5 (boxes, all sizes, 100 detections) as the data are.
        ap50_then: The same if it were mended; None where that cannot be tried.
        fix: The words of a command, or what to do in plain text; None if there is nothing to do.
        file: Name and content of a file that the command needs.
        ap_now: AP, the mean over IoU 0.5 … 0.95, as the data are; where AP50 does not tell.
        ap_then: The same if it were mended.
        remark: What to know of the command.
    """

    kind: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    ap50_now: float | None = None
    ap50_then: float | None = None
    fix: tuple[str, ...] | str | None = None
    file: tuple[str, str] | None = None
    ap_now: float | None = None
    ap_then: float | None = None
    remark: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the check failed."""
        return self.severity != "note"

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        plain = asdict(self)
        plain["fix"] = list(self.fix) if isinstance(self.fix, tuple) else self.fix
        plain["file"] = (
            dict(zip(("name", "content"), self.file, strict=True)) if self.file else None
        )
        return plain


def differ(now: float | None, then: float | None) -> bool:
    """Whether two numbers differ as they are printed, with four digits.

    >>> differ(0.08114, 0.08108), differ(0.1, None)
    (False, False)
    """
    return now is not None and then is not None and f"{now:.4f}" != f"{then:.4f}"


def share(part: int, whole: int) -> str:
    """A part of a whole for a message.

    >>> share(1, 3), share(1, 10_000)
    ('33 %', '0.01 %')
    """
    percent = 100 * part / max(whole, 1)
    return f"{percent:.0f} %" if percent >= 1 or not part else f"{percent:.1g} %"


def counted(number: int, noun: str, verb: tuple[str, str] | None = None) -> str:
    """A number with its noun and, if given, the verb that agrees with it.

    >>> counted(1, "row", ("lies", "lie")), counted(2, "box"), counted(2, "class")
    ('1 row lies', '2 boxes', '2 classes')
    """
    plural = noun + ("es" if noun.endswith(("s", "x")) else "s")
    said = "" if verb is None else f" {verb[0] if number == 1 else verb[1]}"
    return f"{number:,} {noun if number == 1 else plural}{said}"


def listed(names: list[str], most: int = MOST_SHOWN) -> str:
    """The first of some names.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c, …'
    """
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
