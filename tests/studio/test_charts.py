"""The studio's charts: small, well-formed, and honest about peaks and the budget."""

import re
from html.parser import HTMLParser

import pytest

from blockskip.core import events
from blockskip.studio import charts
from blockskip.studio.series import MAX_BINS, Series


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


def told(ram_gib, vram_gib=-1.0):
    """A Memory event with the curves that many of them make."""
    return events.Memory(
        rss_gib=ram_gib,
        ram_used_gib=8.0,
        ram_total_gib=16.0,
        vram_gib=vram_gib,
        vram_used_gib=vram_gib,
        vram_total_gib=12.0 if vram_gib >= 0 else -1.0,
    )


@pytest.mark.parametrize("count", [0, 1, 2, 299, 5000])
def test_charts_are_small_whatever_the_run(count):
    losses, memory = Series(), {"rss_gib": Series(), "ram_used_gib": Series(), "vram_gib": Series()}
    for i in range(count):
        losses.add(i + 1, 1 / (i + 1))
        for series in memory.values():
            series.add(float(i), 1.0 + (i == count // 2))
    drawn = [
        charts.loss_chart(losses, 5000),
        charts.memory_charts(memory, told(1.0, 1.0), 8.0, count),
    ]
    for chart in drawn:
        Balanced(chart)
        assert 'role="img"' in chart and "nan" not in chart and len(chart) < 9000
        for points in re.findall(r'points="([^"]*)"', chart):
            assert 2 <= len(points.split()) <= MAX_BINS


def test_no_chart_before_anything_was_measured():
    assert charts.memory_charts({}, None, 8.0, 0.0) == ""


@pytest.mark.parametrize("count", [1, MAX_BINS, MAX_BINS + 1, 3 * MAX_BINS + 7, 20_000])
def test_a_series_is_small_and_loses_neither_peak_nor_mean(count):
    values = [9.0 if i == count // 3 else 1.0 + i % 7 for i in range(count)]
    series = Series()
    for i, value in enumerate(values):
        series.add(i, value)
    assert len(series.bins) <= MAX_BINS
    assert max(y for _, y in series.peaks()) == max(values)
    total = sum(bin[1] for bin in series.bins.values())
    assert total == pytest.approx(sum(values)) and series.last == (count - 1, values[-1])
    xs = [x for x, _ in series.means()]
    assert xs == sorted(xs) and xs[-1] == count - 1
    assert len(series.smooth()) == len(series.means())


def test_what_is_learnt_again_is_not_shown_twice():
    series = Series()
    for step in range(1, 101):
        series.add(step, 1.0)
    series.cut(50)
    assert series.last == (50, 1.0)
    for step in range(51, 101):
        series.add(step, 2.0)
    assert sum(bin[0] for bin in series.bins.values()) == 100


def test_a_copy_does_not_change_with_the_original():
    series = Series()
    series.add(1, 1.0)
    copy = series.copy()
    series.add(1.5, 3.0)
    assert copy.last == (1, 1.0) and copy.peaks() == [(1, 1.0)]


def test_the_budget_is_a_line_and_always_in_the_picture():
    vram = Series()
    vram.add(0, 1.0)
    vram.add(10, 11.0)
    chart = charts.memory_charts({"vram_gib": vram}, told(1.0, 11.0), 8.0, 10)
    assert "budget 8 GB" in chart and 'style="top:46.7%"' in chart, "8 of 15"
    assert "this training 11.0 GB" in chart
