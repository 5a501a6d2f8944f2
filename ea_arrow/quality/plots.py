"""Plots of one metric's bins: for the terminal, and as SVG.

Both draw a bar per bin as long as its rate, and its 95 % confidence interval as a whisker. Names
come from users and their ontologies: none of them can leave its place in the plot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

RATES = {"prediction": "precision of predictions", "label": "false-negative rate of labels"}
"""What the rate of each target is called."""

NARROWEST = 24
"""No plot is narrower than so many columns."""

_BAR = 10  # columns that a bar has at least, as long as anything can be left out beside it


@dataclass(frozen=True)
class _Glyphs:
    """What bars are drawn with."""

    bar: str
    low: str
    high: str
    line: str
    rate: str
    overall: str
    rule: str
    to: str
    cut: str


_UNICODE = _Glyphs("█", "├", "┤", "─", "●", "┊", "─", "…", "…")
_ASCII = _Glyphs("#", "[", "]", "-", "o", ":", "-", "..", ".")


def terminal_plot(bins: pa.Table, title: str, width: int = 80, *, encoding: str = "utf-8") -> str:
    """Draw bins as text, a line each: bounds, bar with whiskers, rate and number of rows.

    A bar is solid up to the lower end of the interval; the dot is the rate. The dotted line is the
    rate of all rows. What does not fit is left out: first the number of rows, then the rate.

    Args:
        bins: Rows of one metric and target of ``DRIVER_BINS``.
        title: First line; what cannot be printed is replaced.
        width: Columns of the terminal; at least ``NARROWEST`` are used.
        encoding: What the terminal can show. Without block characters it is plain ASCII.

    Returns:
        Lines of at most ``width`` columns, without a newline at the end.
    """
    width = max(width, NARROWEST)
    glyphs, encoding = _shown(encoding)
    title = _cut(_printable(title).encode(encoding, "replace").decode(encoding), width, glyphs.cut)
    rows = bins.to_pylist()
    if not rows:
        return f"{title}\nNothing to plot."
    what, overall = RATES[rows[0]["target"]], _overall(rows)
    names = _aligned(_names(rows, glyphs.to))
    rates, counts = map(_aligned, zip(*map(_numbers, rows), strict=True))
    right = [f"  {rate}  {count}" for rate, count in zip(rates, counts, strict=True)]
    for fewer in ([f"  {rate}" for rate in rates], [""] * len(rows)):
        if width - len(names[0]) - len(right[0]) - 1 < _BAR:
            right = fewer
    if width - len(names[0]) - 1 < _BAR:
        names = [_cut(name.strip(), width - _BAR - 1, glyphs.cut) for name in names]
        names = _aligned(names)
    size = width - len(names[0]) - len(right[0]) - 1
    lines = [
        f"{name} {_bar(row, size, overall, glyphs)}{end}".rstrip()
        for name, row, end in zip(names, rows, right, strict=True)
    ]
    margin = " " * (len(names[0]) + 1)
    legend = _cut(f"{what}, {overall:.3f} over all ({glyphs.overall})", width, glyphs.cut)
    rule = margin + glyphs.rule * size
    return "\n".join([title, legend, *lines, rule, margin + "0" + "1".rjust(size - 1)])


def _shown(encoding: str) -> tuple[_Glyphs, str]:
    """What to draw with on a terminal of an encoding, and in which one to write."""
    try:
        "".join(vars(_UNICODE).values()).encode(encoding)
    except UnicodeEncodeError:
        return _ASCII, encoding
    except LookupError:
        return _ASCII, "ascii"
    return _UNICODE, encoding


def _printable(text: str) -> str:
    """Without escape sequences, line breaks and what else a terminal or XML reader acts upon."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _columns(character: str) -> int:
    return (east_asian_width(character) in "WF") + (not combining(character))


def _cut(text: str, width: int, mark: str) -> str:
    """A text of at most ``width`` columns, cut with a mark."""
    if sum(map(_columns, text)) <= width:
        return text
    kept, used = "", len(mark)
    for character in text:
        used += _columns(character)
        if used > width:
            break
        kept += character
    return kept + mark


def _aligned(texts: Iterable[str]) -> list[str]:
    texts = list(texts)
    longest = max(map(len, texts))
    return [text.rjust(longest) for text in texts]


def _overall(rows: list[dict[str, Any]]) -> float:
    """Rate of all rows together."""
    n = sum(row["n"] for row in rows)
    return math.fsum(row["rate"] * row["n"] for row in rows) / float(n)


def _names(rows: list[dict[str, Any]], to: str) -> list[str]:
    """The bounds of each bin, with as many digits as tell them apart."""
    pairs = [(row["low"], row["high"]) for row in rows if row["bin"] is not None]
    texts: list[tuple[str, str]] = []
    for digits in range(4, 18):
        texts = [(f"{low:.{digits}g}", f"{high:.{digits}g}") for low, high in pairs]
        alike = any(
            (low == high) != (given[0] == given[1])
            for (low, high), given in zip(texts, pairs, strict=True)
        )
        if not alike and len({low for low, _ in texts}) == len(pairs):
            break
    names = [low if low == high else f"{low} {to} {high}" for low, high in texts]
    return names + ["undefined"] * (len(rows) - len(pairs))


def _numbers(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['rate']:.3f}", f"n {row['n']:,}"


def _bar(row: dict[str, Any], size: int, overall: float, glyphs: _Glyphs) -> str:
    """A bar of ``size`` columns from 0 to 1."""
    low, rate, high, mean = (
        math.floor(value * (size - 1) + 0.5)
        for value in (row["rate_low"], row["rate"], row["rate_high"], overall)
    )
    cells = [" "] * size
    cells[mean] = glyphs.overall
    cells[:low] = glyphs.bar * low
    cells[low : high + 1] = glyphs.line * (high + 1 - low)
    cells[low], cells[high] = glyphs.low, glyphs.high
    cells[rate] = glyphs.rate
    return "".join(cells)


_SIZE, _RIGHT, _TOP, _ROW, _BOTTOM = 440, 170, 76, 26, 56  # pixels; _SIZE is that of the axis
_LETTER = 8  # pixels that a digit takes, at most
_STYLE = "".join(
    # Inside a page a style holds for all of the page: each is for this kind of plot only.
    f"{selector}{{{rules}}}".replace("@", ".ea-arrow-bins")
    for selector, rules in {
        # Alone in a browser it follows the reader's theme; inside a page it has the page's colour.
        "@:root": "color-scheme:light dark;color:CanvasText",
        "@ text": "font:13px system-ui,sans-serif;fill:currentColor",
        "@ .heading": "font-size:16px;font-weight:600",
        "@ .end": "text-anchor:end",
        "@ .middle": "text-anchor:middle",
        "@ .bar": "fill:currentColor;fill-opacity:.25",
        "@ line": "stroke:currentColor",
        "@ .grid": "stroke-opacity:.15",
        "@ .whisker": "stroke-width:1.5",
        "@ .overall": "stroke-dasharray:4 4;stroke-opacity:.7",
    }.items()
)


def svg_plot(bins: pa.Table, title: str) -> str:
    """Draw bins as an SVG document: a bar per bin with its interval, on an axis from 0 to 1.

    It has no script and loads nothing. Text and lines have the colour of the text around it.

    Args:
        bins: Rows of one metric and target of ``DRIVER_BINS``.
        title: Heading, and the name of the image for screen readers.
    """
    rows = bins.to_pylist()
    what = RATES[rows[0]["target"]] if rows else "rate"
    metric = rows[0]["metric"] if rows else "metric"
    names = _names(rows, "…")
    left = 40 + _LETTER * max(map(len, names), default=0)
    width, foot = left + _SIZE + _RIGHT, _TOP + _ROW * len(rows)
    letters = (width - 40) // _LETTER
    heading, name = _xml(_cut(_printable(title), letters - 10, "…")), _xml(title)
    axis = _xml(_cut(f"{_printable(metric)}: lowest and highest value", letters, "…"))
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" class="ea-arrow-bins" role="img" '
        f'aria-label="{name}" viewBox="0 0 {width} {foot + _BOTTOM}" width="{width}" '
        f'height="{foot + _BOTTOM}">',
        f"<title>{name}</title>",
        f"<desc>{_xml(_description(rows, what))}</desc>",
        f"<style>{_STYLE}</style>",
        f'<text class="heading" x="16" y="28">{heading}</text>',
        f'<text x="16" y="{_TOP - 20}">{axis}</text>',
        f'<g transform="translate({left} 0)">',
        *_grid(foot),
    ]
    for place, bounds in enumerate(names):
        parts += _svg_row(_xml(bounds), rows[place], _TOP + _ROW * place)
    if rows:
        x = _x(_overall(rows))
        parts.append(_line("overall", (x, _TOP - 6), (x, foot)))
    label = f"{what}, dashed: over all" if rows else "nothing to plot"
    parts.append(f'<text class="middle" x="{_x(0.5)}" y="{foot + 42}">{label}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _grid(foot: int) -> list[str]:
    """A line and a number at every fifth of the axis."""
    parts = []
    for fifth in range(6):
        x = _x(fifth / 5)
        parts += [
            _line("grid", (x, _TOP - 6), (x, foot)),
            f'<text class="middle" x="{x}" y="{foot + 18}">{fifth / 5:g}</text>',
        ]
    return parts


def _svg_row(name: str, row: dict[str, Any], top: int) -> list[str]:
    """One bin: its bounds, bar, whisker, rate and number of rows."""
    rate, count = _numbers(row)
    end, low, high = (_x(row[name]) for name in ("rate", "rate_low", "rate_high"))
    middle = top + _ROW // 2
    interval = f"{rate} ({row['rate_low']:.3f} to {row['rate_high']:.3f})"
    return [
        f"<g><title>{name}: {interval}, {count}</title>",
        f'<text class="end" x="-10" y="{middle + 4}">{name}</text>',
        f'<rect class="bar" x="0" y="{top + 4}" width="{end}" height="{_ROW - 8}"/>',
        _line("whisker", (low, middle), (high, middle)),
        _line("whisker", (low, middle - 4), (low, middle + 4)),
        _line("whisker", (high, middle - 4), (high, middle + 4)),
        f'<text x="{_SIZE + 12}" y="{middle + 4}">{rate}  {count}</text></g>',
    ]


def _description(rows: list[dict[str, Any]], what: str) -> str:
    """The plot in words, for those who do not see it."""
    if not rows:
        return "There are no bins."
    bins = "; ".join(
        f"{name}: {row['rate']:.3f} of {row['n']:,}"
        for name, row in zip(_names(rows, "to"), rows, strict=True)
    )
    return f"{what} by {rows[0]['metric']}, over all {_overall(rows):.3f}. {bins}."


def _x(rate: float) -> float:
    """Pixels from the start of the axis."""
    return round(rate * _SIZE, 2)


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>'


def _xml(text: str) -> str:
    """Text that is safe in XML, as content and in an attribute."""
    return escape(_printable(text))
