"""Notices that steps became several times slower than a run's own first ones, and finds out why.

Thresholds are ours, and untested on a GPU that spills.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from blockskip.memory.monitor import Activity

Cause = Literal["spill", "gaps", "swap", "disk", "heat", "program", "processor", "unknown"]
# what follows “Steps became 5 times slower”: why, and what to do
WHY: dict[Cause, str] = {
    "spill": " while the graphics card is full: the driver moves memory to RAM. Close other programs "
    "that use the card.",
    "gaps": ", since free graphics memory is in pieces too small to be used. Close other "
    "programs that use the card.",
    "swap": " while the RAM is full: the system moves memory to the disk. Close other programs.",
    "disk": ", since weights that RAM held are read from the disk again. Close other programs.",
    "program": " since another program began to use the graphics card. Close it, or be patient.",
    "heat": " while the graphics card is hot and slows itself down. Give it air.",
    "processor": " while other programs use the processor. Close them, or be patient.",
    "unknown": "; what slows them down could not be found. Close other programs; restarting the "
    "computer may help too.",
}
WINDOWS_SPILL = (
    " To forbid it: NVIDIA Control Panel, Manage 3D settings, “CUDA - Sysmem Fallback Policy”, "
    "“Prefer No Sysmem Fallback”."
)
PLANNED_AGAIN = ("spill", "gaps")  # causes that a plan with less graphics memory helps against


@dataclass(frozen=True)
class Slowdown:
    """Steps take `times` as long as the run's first ones, because of `cause`."""

    cause: Cause
    times: float

    @property
    def text(self) -> str:
        """The warning: why, and what to do."""
        text = f"Steps became {self.times:.0f} times slower{WHY[self.cause]}"
        return text + WINDOWS_SPILL * (self.cause == "spill" and sys.platform == "win32")


def causes_in(texts: list[str]) -> set[Cause]:
    """Return the causes that these warnings name."""
    return {cause for cause, why in WHY.items() if any(why in text for text in texts)}


@dataclass
class SlowStepDetector:
    """A detector of steps many times slower than the first ones, for each cause once.

    look: returns what may slow this process down. hot_celsius: from where on the GPU is hot. told:
    causes that were reported before. The baseline is the first PROBE steps after one warm-up step.
    """

    PROBE = 5
    LEAST_S = 1e-3  # a step's clock may not have moved
    SLOWER = 4.0
    IN_A_ROW = 3
    FULL = 0.97  # share of the card in use
    GROWN_GIB = 0.5  # of the allocator's memory since the baseline
    RAM_FULL = 0.03  # share of the RAM that is free
    SWAPPED_GIB = 0.05  # a step
    READ_GIB = 0.1  # a step, beyond the baseline's
    OTHERS = 0.25  # share of all processors that other programs use

    look: Callable[[], Activity]
    hot_celsius: float = -1.0
    told: set[Cause] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    slow: list[Activity] = field(default_factory=list)  # after each slow step in a row
    first: Activity | None = None  # after the warm-up step
    steady: Activity | None = None  # at the baseline's end

    def check(self, seconds: float) -> Slowdown | None:
        """Record a step's duration. Return a slowdown whose cause was not reported yet."""
        self.seconds.append(seconds)
        num = len(self.seconds)
        if num == 1:
            self.first = self.look()
        elif num == self.PROBE + 1:
            self.steady = self.look()
        if num <= self.PROBE + 1:
            return None
        if seconds < self.SLOWER * self.baseline_s:
            self.slow = []
            return None
        self.slow.append(self.look())
        if len(self.slow) < self.IN_A_ROW:
            return None
        cause = self._cause()
        self.slow = self.slow[1:]
        if cause in self.told:
            return None
        self.told.add(cause)
        return Slowdown(cause, seconds / self.baseline_s)

    @property
    def baseline_s(self) -> float:
        """Seconds of a steady step."""
        return max(self.LEAST_S, statistics.median(self.seconds[1 : self.PROBE + 1]))

    def _cause(self) -> Cause:
        """Return why the last IN_A_ROW steps were slow: what explains most comes first."""
        first, steady, begun, now = self.first, self.steady, self.slow[0], self.slow[-1]
        assert first is not None and steady is not None
        steps = len(self.slow) - 1
        read = (now.read_gib - begun.read_gib) / steps
        usually_read = (steady.read_gib - first.read_gib) / self.PROBE
        swapped = (now.swapped_gib - begun.swapped_gib) / steps
        hot = self.hot_celsius > 0 and now.celsius >= self.hot_celsius
        causes: dict[Cause, bool] = {
            "spill": now.full >= self.FULL,
            "gaps": now.retries > begun.retries or now.held_gib > steady.held_gib + self.GROWN_GIB,
            "swap": swapped >= self.SWAPPED_GIB or now.ram_free < self.RAM_FULL,
            "disk": read >= usually_read + self.READ_GIB,
            "heat": hot,
            "program": bool(now.programs - steady.programs),
            "processor": now.full < 0 and self._others_share(begun, now) >= self.OTHERS,
        }
        return next((cause for cause, holds in causes.items() if holds), "unknown")

    def _others_share(self, begun: Activity, now: Activity) -> float:
        """Return the share of all processors that other programs used during the slow steps."""
        num = os.cpu_count() or 1
        passed_s = sum(self.seconds[1 - len(self.slow) :])
        return (now.others_cpu_s - begun.others_cpu_s) / (num * passed_s)
