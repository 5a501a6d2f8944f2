"""Plots: drawn by hand, within their width, and safe whatever a name holds."""

import re
from unicodedata import combining, east_asian_width
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ea_arrow.quality.drivers import drivers
from ea_arrow.quality.plots import NARROWEST, svg_plot, terminal_plot

HOSTILE = "</text><script>alert('1')</script>&amp;\"\x1b[31m\x00\u202e\ud800\uffff]]>\n面"
SVG = "{http://www.w3.org/2000/svg}"

metrics = st.lists(
    st.tuples(
        st.sampled_from([float("nan"), 0.0, 1.0, -1e-9, 123456.789, 123456.788, 1e300]),
        st.booleans(),
    ),
    max_size=40,
)


def bins_of(metric, correct, name="object_area", **options):
    return drivers({name: np.array(metric, float)}, np.array(correct, bool), **options).bins


def quarter():
    """Two bins and the undefined: 3 of 4, 0 of 4 and 1 of 2."""
    nan = float("nan")
    metric = [1, 1, 1, 1, 2, 2.5, 2.5, 2.5, nan, nan]
    return bins_of(metric, [1, 1, 1, 0, 0, 0, 0, 0, 1, 0], bins=2)


def shown_width(line):
    return sum((east_asian_width(c) in "WF") + (not combining(c)) for c in line)


def far_below(n=40):
    """A bin of which all are right, and one of which none are."""
    return bins_of([0] * n + [1] * n, [1] * n + [0] * n)


# Wilson: 3/4 is 0.3006 … 0.9544, 0/4 is 0 … 0.4899, 1/2 is 0.0945 … 0.9055. A bar of 41 columns
# has a column for every fortieth.
def test_bars_by_hand():
    assert terminal_plot(quarter(), "Area", 63).splitlines() == [
        "Area",
        "precision of predictions, 0.400 over all (┊)",
        "        1 " + "█" * 12 + "├" + "─" * 17 + "●" + "─" * 7 + "┤" + "    0.750  n 4",
        "  2 … 2.5 " + "●" + "─" * 19 + "┤" + " " * 20 + "  0.000  n 4",
        "undefined " + "█" * 4 + "├" + "─" * 15 + "●" + "─" * 15 + "┤" + " " * 4 + "  0.500  n 2",
        "          " + "─" * 41,
        "          0" + " " * 39 + "1",
    ]


def test_bars_in_ascii_by_hand():
    assert terminal_plot(quarter(), "Area – é", 63, encoding="ascii").splitlines() == [
        "Area ? ?",
        "precision of predictions, 0.400 over all (:)",
        "        1 " + "#" * 12 + "[" + "-" * 17 + "o" + "-" * 7 + "]" + "    0.750  n 4",
        " 2 .. 2.5 " + "o" + "-" * 19 + "]" + " " * 20 + "  0.000  n 4",
        "undefined " + "#" * 4 + "[" + "-" * 15 + "o" + "-" * 15 + "]" + " " * 4 + "  0.500  n 2",
        "          " + "-" * 41,
        "          0" + " " * 39 + "1",
    ]


def test_the_rate_over_all_is_marked_where_nothing_covers_it():
    lines = terminal_plot(far_below(), "t", 60).splitlines()
    assert "┊" not in lines[2]
    assert lines[3].index("┊") == 2 + round(0.5 * (len(lines[-2]) - 3))


def test_labels_show_their_false_negative_rate():
    bins = drivers({"m": np.arange(4.0)}, np.array([1, 1, 1, 0], bool), target="label").bins
    assert "false-negative rate of labels, 0.250" in terminal_plot(bins, "t")
    assert "false-negative rate of labels" in svg_plot(bins, "t")


def test_what_does_not_fit_is_left_out_in_order():
    bins = quarter()
    assert "n 4" in terminal_plot(bins, "t", 36)
    assert "n 4" not in terminal_plot(bins, "t", 30)
    assert "0.750" in terminal_plot(bins, "t", 30)
    assert "0.750" not in terminal_plot(bins, "t", NARROWEST)
    assert terminal_plot(bins, "t", 1) == terminal_plot(bins, "t", NARROWEST)


def test_bounds_have_the_digits_that_tell_them_apart():
    bins = bins_of([100001, 100002, 100003, 100004], [1, 0, 1, 0], bins=2)
    plot = terminal_plot(bins, "t")
    assert "100001 … 100002" in plot
    assert "100003 … 100004" in plot
    assert "0.3333" in terminal_plot(bins_of([1 / 3], [1]), "t")
    assert "0.33333" not in terminal_plot(bins_of([1 / 3], [1]), "t")


@given(
    metrics,
    st.text(max_size=60),
    st.integers(0, 120),
    st.sampled_from(["utf-8", "ascii", "cp1252", "cp437", "shift_jis", "no such encoding"]),
)
def test_every_line_fits_and_can_be_shown(pairs, title, width, encoding):
    bins = bins_of([value for value, _ in pairs], [flag for _, flag in pairs])
    text = terminal_plot(bins, title, width, encoding=encoding)
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == (len(bins) + 4 if len(bins) else 2)
    assert max(map(shown_width, lines)) <= max(width, NARROWEST)
    text.encode("ascii" if encoding == "no such encoding" else encoding)


def test_a_hostile_title_stays_in_its_line():
    first, second = terminal_plot(quarter(), HOSTILE, 300).splitlines()[:2]
    assert first.startswith("</text><script>")
    assert not set(first) & set("\x1b\x00\u202e\ud800\uffff\n")
    assert second.startswith("precision")


def test_plots_without_bins():
    empty = quarter().slice(0, 0)
    assert terminal_plot(empty, "Area") == "Area\nNothing to plot."
    assert "nothing to plot" in svg_plot(empty, "Area")
    ElementTree.fromstring(svg_plot(empty, "Area"))


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def test_svg_by_hand():
    root = ElementTree.fromstring(svg_plot(quarter(), "Area"))
    assert root.find(f"{SVG}title").text == "Area"
    assert root.find(f"{SVG}desc").text == (
        "precision of predictions by object_area, over all 0.400. "
        "1: 0.750 of 4; 2 to 2.5: 0.000 of 4; undefined: 0.500 of 2."
    )
    assert (root.get("role"), root.get("aria-label")) == ("img", "Area")
    shown = texts(root)
    assert shown[:2] == ["Area", "object_area: lowest and highest value"]
    assert {"0", "0.2", "0.4", "0.6", "0.8", "1"} < set(shown)
    assert {"1", "2 … 2.5", "undefined", "0.750  n 4", "0.000  n 4", "0.500  n 2"} < set(shown)
    assert shown[-1] == "precision of predictions, dashed: over all"
    # The axis is 440 pixels long.
    assert [float(bar.get("width")) for bar in root.iter(f"{SVG}rect")] == [330, 0, 220]
    lines = list(root.iter(f"{SVG}line"))
    across = [line for line in lines if line.get("y1") == line.get("y2")]
    ends = [[float(line.get(name)) / 440 for name in ("x1", "x2")] for line in across]
    np.testing.assert_allclose(ends, [(0.3006, 0.9544), (0, 0.4899), (0.0945, 0.9055)], atol=1e-4)
    overall = [line.get("x1") for line in lines if line.get("class") == "overall"]
    assert overall == ["176.0"]


def test_everything_is_inside_the_svg():
    bins = bins_of(1e300 + np.arange(30) * 1e285, np.arange(30) % 3, "m" * 500, bins=30)
    root = ElementTree.fromstring(svg_plot(bins, "t" * 500))
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {width:g} {height:g}"
    left = float(re.search(r"translate\((\d+) 0\)", svg_plot(bins, ""))[1])
    names = [text for text in root.iter(f"{SVG}text") if text.get("class") == "end"]
    assert len(names) == 30
    assert max(len(text.text) for text in names) * 8 <= left
    assert max(float(text.get("y")) for text in root.iter(f"{SVG}text")) < height
    assert max(len(text) for text in texts(root)) * 8 <= width


def test_svg_takes_the_colours_around_it_and_has_no_script():
    text = svg_plot(quarter(), "Area")
    assert not re.search(r"#[0-9a-f]{3}|rgb\(|black|white|href|url\(|<script|on\w+=", text)
    style = ElementTree.fromstring(text).find(f"{SVG}style").text
    selectors = re.findall(r"([^{}]+)\{", style)
    assert all(selector.startswith(".ea-arrow-bins") for selector in selectors)


def test_hostile_names_stay_text():
    bins = bins_of([1, 2, 3], [1, 0, 1], HOSTILE.replace("\ud800", ""))
    text = svg_plot(bins, HOSTILE)
    root = ElementTree.fromstring(text)
    plain = ElementTree.fromstring(svg_plot(bins_of([1, 2, 3], [1, 0, 1]), "Area"))
    assert [e.tag for e in root.iter()] == [e.tag for e in plain.iter()]
    assert "</text><script>alert('1')</script>&amp;\"�[31m" in root.find(f"{SVG}title").text
    text.encode("utf-8")


@given(metrics, st.text(), st.text())
def test_svg_is_xml_whatever_the_names_and_always_the_same(pairs, title, name):
    bins = bins_of([value for value, _ in pairs], [flag for _, flag in pairs], name)
    text = svg_plot(bins, title)
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert len(list(root.iter(f"{SVG}rect"))) == len(bins)
    assert svg_plot(bins, title) == text
