"""Small charts as SVG made here: no library, no script, colours from the page's style sheet.

Lines are stretched with the box and keep their width; numbers stand beside the drawing as HTML, so
that they stay readable on a phone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import accumulate

from blockskip.studio import texts

MAX_POINTS = 300
WIDTH, HEIGHT = 600, 200
Points = Sequence[tuple[float, float]]


def thin(points: Points, peaks: bool = False) -> list[tuple[float, float]]:
    """At most MAX_POINTS points. peaks: of each bunch the highest stays, so that none is hidden."""
    if len(points) <= MAX_POINTS:
        return list(points)
    bunch = len(points) / (MAX_POINTS - 1)
    bunches = [points[int(i * bunch) : int((i + 1) * bunch)] for i in range(MAX_POINTS - 1)]
    return [*(max(b, key=lambda p: p[1]) if peaks else b[0] for b in bunches), points[-1]]


def smooth(points: Points) -> list[tuple[float, float]]:
    """The mean of each value's surroundings: a tenth of all points, half of that at the ends."""
    sums = [0.0, *accumulate(y for _, y in points)]
    reach, out = max(1, len(points) // 20), []
    for i, (x, _) in enumerate(points):
        first, end = max(0, i - reach), min(len(points), i + reach + 1)
        out.append((x, (sums[end] - sums[first]) / (end - first)))
    return out


def memory_chart(samples: Sequence[tuple[float, float, float]], budget: float) -> str:
    """RAM of the training process and graphics memory over time, with the budget as a line.

    samples: (seconds, RAM GiB, VRAM GiB or -1).
    """
    ram = thin([(t, r) for t, r, _ in samples], peaks=True)
    vram = thin([(t, v) for t, _, v in samples if v >= 0], peaks=True)
    lines = [("ram", texts.MEMORY_CHART_RAM, ram)]
    if vram:
        lines.insert(0, ("vram", texts.MEMORY_CHART_VRAM, vram))
    top = _ceiling(max([budget * 1.08, *(y for _, _, line in lines for _, y in line)]))
    now = ", ".join(f"{name} {line[-1][1]:.1f} GB" for _, name, line in lines if line)
    label = f"{texts.MEMORY_CHART}: {now or texts.CHART_EMPTY}; {texts.MEMORY_CHART_BUDGET}"
    legend = [(key, f"{name} {line[-1][1]:.1f} GB" if line else name) for key, name, line in lines]
    mark = texts.MEMORY_CHART_BUDGET.format(budget=budget)
    return _figure(
        texts.MEMORY_CHART,
        label.format(budget=budget),
        legend,
        lines,
        top,
        "GB",
        _minutes(samples[-1][0]) if samples else "",
        (budget, mark),
    )


def loss_chart(losses: dict[int, float], steps: int) -> str:
    """The loss of each step, thin, and its running mean, bold. losses: step → loss."""
    points = sorted(losses.items())
    mean = smooth(points)
    lines = [("raw", "", thin(points)), ("loss", "", thin(mean))]
    top = _ceiling(max((y for _, y in points), default=1.0))
    last = f"{mean[-1][1]:.3f}" if mean else texts.CHART_EMPTY
    legend = [("loss", texts.LOSS_CHART_ABOUT)]
    end = texts.STEP_OF.format(n=points[-1][0], total=steps) if points else ""
    return _figure(
        texts.LOSS_CHART, f"{texts.LOSS_CHART}: {last}, {end}", legend, lines, top, "", end, None
    )


def _figure(
    title: str,
    label: str,
    legend: list[tuple[str, str]],
    lines: list,
    top: float,
    unit: str,
    end: str,
    mark: tuple[float, str] | None,
) -> str:
    """One chart: title and legend, the drawing, and the numbers at its edges."""
    keys = "".join(f'<span class="key {key}">{html.escape(name)}</span>' for key, name in legend)
    drawn = any(len(line) > 1 for _, _, line in lines)
    marked = ""
    if mark:
        height = 100 * (1 - mark[0] / top)
        marked = (
            f'<span class="mark" style="top:{height:.1f}%">'
            f"<span>{html.escape(mark[1])}</span></span>"
        )
    empty = "" if drawn else f'<span class="empty">{html.escape(texts.CHART_EMPTY)}</span>'
    return (
        f'<figure class="chart"><figcaption><b>{html.escape(title)}</b>{keys}</figcaption>'
        f'<div class="plot"><span class="top">{top:g} {unit}</span><span class="zero">0</span>'
        f"{marked}{empty}{_svg(label, lines, top)}</div>"
        f'<div class="axis">{html.escape(end)}&nbsp;</div></figure>'
    )


def _svg(label: str, lines: list, top: float) -> str:
    start = min((line[0][0] for _, _, line in lines if line), default=0.0)
    end = max((line[-1][0] for _, _, line in lines if line), default=1.0)
    span = max(end - start, 1e-9)
    paths = []
    for key, _, line in lines:
        if len(line) < 2:
            continue
        where = " ".join(
            f"{(x - start) / span * WIDTH:.1f},{HEIGHT * (1 - y / top):.1f}" for x, y in line
        )
        paths.append(f'<polyline class="{key}" points="{where}"/>')
    grid = "".join(
        f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        for y in (0, HEIGHT / 2, HEIGHT)
    )
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none">{grid}{"".join(paths)}</svg>'
    )


def _ceiling(value: float) -> float:
    """The next round number above: 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten."""
    power = 1e-6
    while power * 10 < value:
        power *= 10
    return next((power * k for k in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * k >= value), value)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
