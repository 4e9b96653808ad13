"""Small charts as hand-made SVG, without a plotting package or scripts, coloured by studio.css.

Lines stretch with the box and keep their width. Numbers are HTML beside the drawing, so that they
stay readable on a phone. All sizes are GiB, labelled GB.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from blockskip.core.events import Memory
from blockskip.studio import strings
from blockskip.studio.series import Series

WIDTH, HEIGHT = 600, 200
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line of a chart. key: its colour in studio.css. name: in the legend, "" = none. band:
    (x, low, high) of an area around it."""

    key: str
    name: str
    points: Points
    band: Sequence[tuple[float, float, float]] = ()


def loss_chart(losses: Series, steps: int) -> str:
    """Return a chart of each step's loss, thin, and its running mean, bold."""
    raw, mean = losses.means(), losses.smooth()
    lines = [Line("raw", strings.LOSS_RAW, raw), Line("loss", strings.LOSS_MEAN, mean)]
    last = strings.number(mean[-1][1], ".3f") if mean else strings.CHART_EMPTY
    end = strings.STEP_OF.format(n=int(raw[-1][0]), total=steps) if raw else ""
    return _figure(strings.LOSS_CHART, f"{last}, {end}", lines, "", end, strings.LOSS_ABOUT)


def likeness_chart(
    by_step: Mapping[int, Mapping], names: Mapping[str, str], mark: tuple[float, str] | None
) -> str:
    """Return a chart of each step's likeness, with the interval of its difference to the best step
    as a band.

    by_step: as in a likeness report, sorted, with a subject's likeness at every step. names: legend by key of the report. mark: likeness of
    the pet's own photos, and its label.
    """
    lines = []
    for key, colour in (("class_word", "other"), ("nearest", "raw"), ("subject", "ours")):
        points = [
            (step, max(0.0, facts[key]))
            for step, facts in by_step.items()
            if facts.get(key) is not None
        ]
        lines.append(Line(colour, names[key] if points else "", points))
    band = []
    for step, facts in by_step.items():
        half_width = (facts.get("less") or (0.0, 0.0))[1]
        middle = facts["subject"]
        low, high = middle - half_width, min(1.0, middle + half_width)
        band.append((float(step), max(0.0, low), max(0.0, high)))
    lines[-1] = replace(lines[-1], band=band)
    end = strings.LIKENESS_AXIS.format(step=max(by_step))
    label, about = strings.LIKENESS_CHART_LABEL, strings.LIKENESS_CHART_ABOUT
    return _figure(strings.LIKENESS_CHART, label, lines, "", end, about, mark)


def memory_charts(
    memory: Mapping[str, Series], now: Memory | None, budget: float, seconds: float
) -> str:
    """Return charts of graphics memory (with the budget as a line), RAM and disk over time.

    memory: field of `events.Memory` → its curve over seconds of work. budget: GiB. seconds: end
    of the time axis.
    """
    if now is None:
        return ""
    end = clock(seconds)

    def line(name: str, key: str, words: str) -> Line:
        series = memory.get(name)
        points = series.peaks() if series else []
        last = series.last[1] if series and series.last else None
        return Line(key, words.format(now=last) if last is not None else "", points)

    ours = line("vram_gib", "ours", strings.CHART_OURS)
    card = line("vram_used_gib", "other", strings.CHART_CARD)
    charts = []
    if ours.points or card.points:
        mark = (budget, strings.CHART_BUDGET.format(budget=budget))
        about = strings.CHART_CARD_ABOUT.format(total=now.vram_total_gib)
        charts.append(_figure(strings.CHART_VRAM, about, [card, ours], "GB", end, about, mark))
    ram = [
        line("ram_used_gib", "other", strings.CHART_PC),
        line("rss_gib", "ours", strings.CHART_OURS),
    ]
    about = strings.CHART_RAM_ABOUT.format(total=now.ram_total_gib)
    charts.append(_figure(strings.CHART_RAM, about, ram, "GB", end, about))
    if now.disk_free_gib >= 0:
        disk = [line("disk_run_gib", "ours", strings.CHART_DISK_RUN)]
        about = strings.CHART_DISK_ABOUT.format(free=now.disk_free_gib)
        charts.append(_figure(strings.CHART_DISK, about, disk, "GB", end, about))
    return "".join(charts)


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds: 2:05 min."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _figure(
    title: str,
    label: str,
    lines: list[Line],
    unit: str,
    end: str,
    about: str,
    mark: tuple[float, str] | None = None,
) -> str:
    """Return one chart: title and legend, the drawing, and the numbers at its edges.

    mark: (height of a dashed line, its label).
    """
    heights = [y for line in lines for _, y in line.points]
    heights += [high for line in lines for *_, high in line.band] + (
        [mark[0] * 1.08] if mark else []
    )
    top = _ceiling(max([*heights, 0.1]) if heights else 1.0)
    keys = "".join(
        f'<span class="key {line.key}">{html.escape(line.name)}</span>'
        for line in lines
        if line.name
    )
    marked = ""
    if mark:
        height = 100 * (1 - mark[0] / top)
        marked = f'<span class="mark" style="top:{height:.1f}%"><span>{html.escape(mark[1])}</span></span>'
    drawn = any(len(line.points) > 1 for line in lines)
    empty = "" if drawn else f'<span class="empty">{html.escape(strings.CHART_EMPTY)}</span>'
    label = html.escape(f"{title}: {', '.join(line.name for line in lines if line.name)} {label}")
    return (
        f'<figure class="chart"><figcaption><b>{html.escape(title)}</b>'
        f"<small>{html.escape(about)}</small>{keys}</figcaption>"
        f'<div class="plot"><span class="top">{strings.number(top)} {unit}</span><span class="zero">0</span>'
        f"{marked}{empty}{_svg(label, lines, top)}</div>"
        f'<div class="axis">{html.escape(end)}&nbsp;</div></figure>'
    )


def _svg(label: str, lines: list[Line], top: float) -> str:
    start = min((line.points[0][0] for line in lines if line.points), default=0.0)
    end = max((line.points[-1][0] for line in lines if line.points), default=1.0)
    span = max(end - start, 1e-9)

    def place(points: Points) -> str:
        return " ".join(
            f"{(x - start) / span * WIDTH:.0f},{HEIGHT * (1 - y / top):.1f}" for x, y in points
        )

    paths = []
    for line in lines:
        if len(line.points) < 2:
            continue
        if line.band:
            around = [(x, high) for x, _, high in line.band]
            around += [(x, low) for x, low, _ in reversed(line.band)]
            paths.append(f'<polygon class="{line.key}" points="{place(around)}"/>')
        paths.append(f'<polyline class="{line.key}" points="{place(line.points)}"/>')
    grid = "".join(
        f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        for y in (0, HEIGHT / 2, HEIGHT)
    )
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none">{grid}{"".join(paths)}</svg>'
    )


def _ceiling(value: float) -> float:
    """Return the next round number above: 1, 1.5, 2, 3, 4, 5, 6, 8 or 10 times a power of ten."""
    power = 1e-6
    while power * 10 < value:
        power *= 10
    return next((power * k for k in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * k >= value), value)
