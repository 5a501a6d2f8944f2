"""What to say of numbers that were read wrongly, and how to read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.doctor.findings import Finding, counted
from ea_arrow.doctor.imported import free_name

if TYPE_CHECKING:
    from ea_arrow.doctor.case import Case
    from ea_arrow.doctor.layouts import BoxReading
    from ea_arrow.doctor.trials import Mended

_ORDER: Final = {
    "xywh": "[left, top, width, height]",
    "xyxy": "[left, top, right, bottom]",
    "cxcywh": "[centre x, centre y, width, height]",
    "yxhw": "[top, left, height, width]",
    "yxyx": "[top, left, bottom, right]",
}
_UNIT: Final = {
    "pixels": "in pixels",
    "relative": "in fractions of the data unit",
    "percent": "in percent of the data unit",
    "thousandths": "in thousandths of the data unit",
    "stretched": "in pixels of a {0} × {0} image that it was resized to",
    "letterboxed": "in pixels of a {0} × {0} image that it was fitted into the middle of",
    "padded": "in pixels of a {0} × {0} image that it was fitted into the top left of",
    "shortest": "in pixels of an image whose shorter side was scaled to {0}, the longer to {1} at "
    "most",
}
_SCALE: Final = {
    "percent": "divide them by 100, then import with --relative",
    "thousandths": "divide them by 1000, then import with --relative",
    "stretched": "multiply x by width / {0} and y by height / {0}, then import",
    "letterboxed": "subtract the padding and divide by {0} / max(width, height), then import",
    "padded": "divide them by {0} / max(width, height), then import",
    "shortest": "divide them by min({0} / min(width, height), {1} / max(width, height)), then "
    "import",
}


def misread(case: Case, mended: Mended) -> list[Finding]:
    """What the trials came to: one finding for boxes, one for classes."""
    found = []
    both = mended.boxes is not None and mended.classes is not None
    if mended.boxes is not None:
        was, reading = case.imported.reading, mended.boxes
        message = (
            f"Boxes are read as {_ORDER[was.layout]} {_UNIT[was.scale]}, but fit the labels as "
        )
        message += (
            f"{_ORDER[reading.layout]} {_UNIT[reading.scale].format(reading.side, reading.most)}."
        )
        kind, alone = _box_kind(was, reading), mended.boxes_only
        message += " y stands before x." if kind == "y_before_x" else ""
        message += " The classes are misread too (see there)." if both else ""
        found.append(
            _trial(
                kind,
                message + _at_least(case),
                mended,
                {"box": reading.layout, "scale": reading.scale, "side": reading.side or None}
                | {"ap50_alone": alone.ap50 if alone else None},
                _box_fix(was, reading),
            )
        )
    if mended.classes is not None:
        other, alone = mended.classes, mended.classes_only
        message = f"It looks as if {other.meaning}."
        message += " The boxes are misread too (see there)." if both else ""
        message += _at_least(case)
        option = other.option
        if other.content is not None:
            option = free_name(f"{Path(option).stem}-{case.imported.name}{Path(option).suffix}")
        evidence = {"map": option, "ap50_alone": alone.ap50 if alone else None}
        one = _trial(other.kind, message, mended, evidence, ("--map", option))
        file = None if other.content is None else (option, other.content)
        found.append(replace(one, file=file))
    return found


def _at_least(case: Case) -> str:
    """What to say where refused rows cannot be tried."""
    number = case.refused.left_out
    if not number:
        return ""
    rows = counted(number, "refused row")
    return f" {rows} could not be tried, so that AP50 may rise further."


def _trial(
    kind: str,
    message: str,
    mended: Mended,
    evidence: dict[str, Any],
    fix: tuple[str, ...] | str,
) -> Finding:
    evidence |= {"matched_now": mended.now.hits, "matched_then": mended.then.hits}
    evidence |= {"trials": mended.tried}
    now, then = mended.now.ap50, mended.then.ap50
    return Finding(kind, "error", message, evidence, now, then, fix)


def _box_kind(was: BoxReading, reading: BoxReading) -> str:
    """What to call a misreading."""
    if reading.scale != was.scale:
        known = {"relative": "relative_as_pixels", "pixels": "pixels_as_relative"}
        known |= {"percent": "percent_as_pixels", "thousandths": "thousandths_as_pixels"}
        return known.get(reading.scale, "resized_coordinates")
    if (reading.layout in ("yxhw", "yxyx")) != (was.layout in ("yxhw", "yxyx")):
        return "y_before_x" if reading.layout[0] == "y" else "x_before_y"
    return {
        "xyxy": "corner_as_size",
        "yxyx": "corner_as_size",
        "cxcywh": "centre_as_corner",
    }.get(reading.layout, "corner_as_centre" if was.layout == "cxcywh" else "size_as_corner")


def _box_fix(was: BoxReading, reading: BoxReading) -> tuple[str, ...] | str:
    if not reading.importable:
        what = _SCALE[reading.scale].format(reading.side, reading.most)
        layout = "" if reading.layout == was.layout else f" and --box {reading.layout}"
        return f"No option of the import does this to coordinates: {what}{layout}."
    words: tuple[str, ...] = ()
    if reading.layout != was.layout:
        words += ("--box", reading.layout)
    if reading.scale != was.scale:
        words += ("--relative",) if reading.relative else ("--pixels",)
    return words
