"""The evidence's plots: true to the numbers, whole SVG, the same bytes for the same data."""

import sys
import xml.etree.ElementTree as ET

import pytest

from blockskip.core.errors import UserError
from blockskip.lab.measuring import plots

SVG = "{http://www.w3.org/2000/svg}"
CURVE = plots.Series("a < b & c", [(1, 0.1, 0.0, 0.2), (10, 0.9, 0.8, 1.0), (100, 0.5, 0.4, 0.6)])
ROWS = [plots.Dot("one", 0.2, 0.1, 0.3), plots.Dot("two", 0.8, 0.7, 0.9)]


def marks(svg: str, colour: str = plots.COLOURS[0]) -> list[tuple[float, float]]:
    """Where markers of a colour are, x and y from the upper left corner."""
    style = f"stroke: {colour}"
    uses = [use for use in ET.fromstring(svg).iter(f"{SVG}use") if style in use.get("style")]
    return [(float(use.get("x")), float(use.get("y"))) for use in uses]


def words(svg: str) -> list[str]:
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_curves_put_greater_values_higher_and_equal_factors_equally_far():
    svg = plots.lines("t", "x", "y", [CURVE], log_x=True)
    (x1, y1), (x2, y2), (x3, y3) = marks(svg)[:3]
    assert y1 > y3 > y2 and x2 - x1 == pytest.approx(x3 - x2) and x2 > x1
    assert {"t", "x", "y", "a < b & c", "1", "10", "100"} <= set(words(svg))


def test_dots_stand_in_rows_and_what_the_axis_does_not_reach_is_told_all_the_same():
    (x1, y1), (x2, y2) = marks(plots.dots("t", "x", ROWS, mark=0.5))
    assert x1 < x2 and y1 < y2
    far = plots.dots("t", "x", ROWS, mark=0.75, least=0.5)
    (arrow,), (dot,) = marks(far, "#000000"), marks(far)
    assert arrow[0] < dot[0] and arrow[1] < dot[1], "at the left end of the first row"
    assert {"one", "two", "0.200", "0.800"} <= set(words(far))


def test_the_same_data_gives_the_same_bytes():
    for draw in (lambda: plots.lines("t", "x", "y", [CURVE]), lambda: plots.dots("t", "x", ROWS)):
        assert draw() == draw()


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plots.dots("t", "x", ROWS)
