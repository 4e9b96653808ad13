"""Draw the evidence's plots as SVG: lines with bands, and dots with intervals.

Each file has its own white background and colours, so that it fits any page. The same data gives
the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockskip.core.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#c92a2a", "#0b7285", "#5c5f66", "#e8890c")
WIDTH_PX, INCH_PX = 720, 96
STYLE = {
    "svg.hashsalt": "blockskip",  # or ids in the file are random
    "svg.fonttype": "none",  # text stays text
    "font.sans-serif": "DejaVu Sans",  # ships with matplotlib, so has the same width everywhere
    "font.size": 9,
    "figure.titlesize": 11,
    "grid.color": "#d0d7de",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.major.pad": 9,
}


@dataclass(frozen=True)
class Series:
    """A curve. points: (x, y, low, high), with low to high the interval."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Dot:
    """A row of `dots`: a value with its interval."""

    name: str
    value: float
    low: float
    high: float


def lines(title: str, across: str, up: str, series: Sequence[Series], log_x: bool = False) -> str:
    """Return a plot of at most eight curves (SVG). log_x: use a logarithmic x axis."""
    xs = sorted({x for curve in series for x, *_ in curve.points})
    with _plot(title, 420) as (axes, svg):
        for curve, colour in zip(series, COLOURS[: len(series)], strict=True):
            x, y, low, high = zip(*curve.points, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
            axes.plot(x, y, "o-", color=colour, markersize=4.5, label=curve.name)
        axes.set(xlabel=across, ylabel=up, xscale="log" if log_x else "linear")
        if len(xs) <= 20 and all(x == round(x) for x in xs):
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
            axes.set_xticks([], minor=True)
        axes.grid(axis="y")
        axes.figure.legend(loc="outside lower left", ncols=min(4, len(series)), frameon=False)
    return svg.getvalue()


def dots(
    title: str,
    across: str,
    rows: Sequence[Dot],
    mark: float | None = None,
    least: float = -math.inf,
) -> str:
    """Return a plot with a row for each value and its interval (SVG). mark: a vertical reference
    line. least: lower limit of the axis; a smaller value is an arrow."""
    with _plot(title, 90 + 24 * len(rows)) as (axes, svg):
        right = axes.get_yaxis_transform()
        for y, row in enumerate(rows):
            axes.plot([row.low, row.high], [y, y], color=COLOURS[0], linewidth=2.5)
            axes.plot(row.value, y, "o", color=COLOURS[0], markersize=7)
            axes.text(1.02, y, f"{row.value:.3f}", va="center", transform=right)
        if mark is not None:
            axes.axvline(mark, color="black", linewidth=1, zorder=1)
        left = max(axes.get_xlim()[0], least)
        for y, row in enumerate(rows):
            if row.value < left:
                axes.plot(left, y, "k<", clip_on=False)
        axes.set(xlabel=across, xlim=(left, None), ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.locator_params("x", nbins=6, steps=(1, 2, 5, 10))
        axes.grid(axis="x")
    return svg.getvalue()


@contextlib.contextmanager
def _plot(title: str, height_px: int) -> Iterator[tuple[Axes, io.StringIO]]:
    """Context manager that yields empty axes and the buffer that receives the SVG on exit. Raises
    UserError without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        install = f"Install it: {sys.executable} -m pip install matplotlib"
        raise UserError("Plots need matplotlib, which is not here.", install) from None
    with rc_context(STYLE):
        figure, svg = (
            Figure((WIDTH_PX / INCH_PX, height_px / INCH_PX), layout="constrained"),
            io.StringIO(),
        )
        figure.suptitle(title, x=0.01, ha="left")
        yield figure.add_subplot(frameon=False), svg
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
