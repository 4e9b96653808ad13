"""The studio's charts: small, well-formed, and honest about peaks and the budget."""

import re
from html.parser import HTMLParser

import pytest

from blockskip.studio import charts


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in ("img", "line", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("img", "line", "polyline"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("count", [0, 1, 2, 299, 5000])
def test_charts_are_small_whatever_the_run(count):
    losses = {i + 1: 1 / (i + 1) for i in range(count)}
    memory = [(float(i), 1.0 + (i == count // 2), 2.0) for i in range(count)]
    for chart in (charts.loss_chart(losses, 5000), charts.memory_chart(memory, 8.0)):
        Balanced(chart)
        assert 'role="img"' in chart and "nan" not in chart
        for points in re.findall(r'points="([^"]*)"', chart):
            assert 2 <= len(points.split()) <= charts.MAX_POINTS


def test_thinning_keeps_the_peak():
    points = [(float(i), 9.0 if i == 1234 else 1.0) for i in range(5000)]
    assert max(y for _, y in charts.thin(points, peaks=True)) == 9.0


def test_the_budget_is_a_line_and_always_in_the_picture():
    chart = charts.memory_chart([(0, 1.0, -1.0), (1, 11.0, -1.0)], 8.0)
    assert "budget 8 GB" in chart and 'style="top:46.7%"' in chart, "8 of 15"
