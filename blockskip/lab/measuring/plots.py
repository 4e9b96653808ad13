"""Two kinds of plots for the evidence, as SVG written here: lines with bands, and dots with intervals.

They stand in files that are looked at on any page, so each brings its own white ground and colours.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#c92a2a", "#0b7285", "#5c5f66", "#e8890c")
INK, PALE = "#24292f", "#d0d7de"
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 76


@dataclass(frozen=True)
class Series:
    """points: (x, y, low, high), low to high its interval."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Dot:
    """A row of `dots`: value with its interval."""

    name: str
    value: float
    low: float
    high: float


def lines(title: str, across: str, up: str, series: Sequence[Series], log_x: bool = False) -> str:
    """At most eight curves over numbers. log_x: equal factors take equal room."""
    points = [point for one in series for point in one.points]
    place = math.log if log_x else float
    xs = sorted({x for x, *_ in points})
    left, right = place(xs[0]), place(xs[-1])
    low, high, marks = _scale(min(p[2] for p in points), max(p[3] for p in points))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (place(x) - left) / max(right - left, 1e-9)
        height = (y - low) / (high - low)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM),
        )

    drawn = [_text(LEFT, 22, title, size=15)]
    for mark in marks:
        y = at(xs[0], mark)[1]
        drawn += [_rule(LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 8, y + 4, f"{mark:g}", "end")]
    round_ones = [x for x in _scale(xs[0], xs[-1])[2] if xs[0] <= x <= xs[-1]]
    for x in xs if len(xs) <= 12 else round_ones:
        drawn.append(_text(at(x, low)[0], HEIGHT - BOTTOM + 18, f"{x:g}", "middle"))
    drawn.append(_text((LEFT + WIDTH) / 2, HEIGHT - BOTTOM + 38, across, "middle"))
    drawn.append(_text(14, HEIGHT / 2, up, "middle", turn=True))
    beside = min(5, max(1, len(series)))  # keys in a line
    room, height = (WIDTH - LEFT) / beside, HEIGHT + 22 * ((len(series) - 1) // beside)
    for i, (one, colour) in enumerate(zip(series, COLOURS[: len(series)], strict=True)):
        there = [at(x, y) for x, y, *_ in one.points]
        band = [at(x, b) for x, _, b, _ in one.points] + [
            at(x, t) for x, _, _, t in reversed(one.points)
        ]
        drawn.append(f'<polygon points="{_joined(band)}" fill="{colour}" opacity=".13"/>')
        drawn.append(
            f'<polyline points="{_joined(there)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in there]
        key, line = LEFT + i % beside * room, HEIGHT - 16 + 22 * (i // beside)
        drawn.append(f'<circle cx="{key:.0f}" cy="{line}" r="5" fill="{colour}"/>')
        drawn.append(_text(key + 10, line + 4, one.name))
    return _page(height, drawn)


def dots(
    title: str,
    across: str,
    rows: Sequence[Dot],
    mark: float | None = None,
    least: float = -math.inf,
) -> str:
    """A row for each value with its interval, and the value in figures. mark: a vertical line to
    compare with. least: the axis shows nothing below; a value there is an arrow."""
    known = [x for row in rows for x in (row.low, row.high)] + ([] if mark is None else [mark])
    low, high, marks = _scale(max(min(known), least), max(known))
    label, step, figures = 330, 24, 48
    height = TOP + step * len(rows) + 56

    def at(x: float) -> float:
        return label + (max(x, low) - low) / (high - low) * (WIDTH - label - RIGHT - figures)

    foot = height - 50
    drawn = [_text(12, 22, title, size=15)]
    for x in marks:
        drawn += [_rule(at(x), TOP, at(x), foot), _text(at(x), foot + 16, f"{x:g}", "middle")]
    if mark is not None:
        drawn.append(_rule(at(mark), TOP, at(mark), foot, INK))
    drawn.append(_text((label + WIDTH) / 2, foot + 36, across, "middle"))
    for i, row in enumerate(rows):
        y = TOP + step * (i + 0.5)
        drawn.append(_text(label - 12, y + 4, row.name, "end"))
        drawn.append(_text(WIDTH - 12, y + 4, f"{row.value:.3f}", "end"))
        if row.value < low:
            drawn.append(_text(label, y + 4, "◂", size=16))
            continue
        drawn.append(_rule(at(row.low), y, at(row.high), y, COLOURS[0], 3))
        drawn.append(f'<circle cx="{at(row.value):.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[0]}"/>')
    return _page(height, drawn)


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds both, at round numbers, and the numbers to write there."""
    rough = max(high - low, 1e-6) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    marks = [round(k * step, 10) for k in range(first, last + 1)]
    return marks[0], marks[-1], marks


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = PALE, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float, y: float, words: str, anchor: str = "start", size: int = 12, turn: bool = False
) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}"'
        f"{turned}>{html.escape(words)}</text>"
    )


def _page(height: float, drawn: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )
