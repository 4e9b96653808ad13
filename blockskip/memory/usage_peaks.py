"""Records the peak memory of every stage, to compare with the plan, and warns of two conditions: a hot
GPU, and a nearly full disk. Slow steps: slow_steps.py."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from blockskip.memory import monitor

log = logging.getLogger(__name__)


@dataclass
class _OpenStage:
    """A running stage with its peaks so far, in GiB."""

    name: str
    used_gib: float = -1.0
    held_gib: float = -1.0
    ram_gib: float = -1.0


@dataclass
class Peaks:
    """Peak memory of each stage, in GiB. A nested stage is not counted in the outer one.

    used_gib: tensors on the GPU, the planned figure. held_gib: the same with the allocator's gaps,
    limited by the budget. ram_gib: this process, at the moments of `sample`. -1: unknown (no GPU).
    """

    used_gib: dict[str, float] = field(default_factory=dict)
    held_gib: dict[str, float] = field(default_factory=dict)
    ram_gib: dict[str, float] = field(default_factory=dict)
    _open: list[_OpenStage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager that counts memory used inside for stage `name`."""
        self.sample()
        self._open.append(_OpenStage(name))
        _reset()
        try:
            yield
        finally:
            self.sample()
            stage = self._open.pop()
            for peaks, value in (
                (self.used_gib, stage.used_gib),
                (self.held_gib, stage.held_gib),
                (self.ram_gib, stage.ram_gib),
            ):
                peaks[name] = max(peaks.get(name, -1.0), value)
            _reset()

    def sample(self, ram_gib: float | None = None) -> None:
        """Record the peaks since the last call for the innermost stage. ram_gib None: measure."""
        if not self._open:
            return
        used, held = monitor.card_peaks_gib()
        ram = monitor.usage().rss_gib if ram_gib is None else ram_gib
        stage = self._open[-1]
        stage.used_gib = max(stage.used_gib, used)
        stage.held_gib = max(stage.held_gib, held)
        stage.ram_gib = max(stage.ram_gib, ram)


def _reset() -> None:
    monitor.reset_card_peaks()


@dataclass
class ThermalMonitor:
    """A detector of a GPU that stays close to its throttling temperature.

    slowdown_celsius: that temperature; -1: unknown, and no warning is given.
    """

    CLOSE = 5.0  # °C
    LONG_S = 60.0

    slowdown_celsius: float = -1.0
    since_s: float = math.inf  # when it became hot

    def check(self, celsius: float, now_s: float) -> str:
        """Record the GPU's temperature; return a warning or "". now_s: seconds of any one clock."""
        if self.slowdown_celsius < 0 or celsius < self.slowdown_celsius - self.CLOSE:
            self.since_s = math.inf
            return ""
        self.since_s = min(self.since_s, now_s)
        if now_s - self.since_s < self.LONG_S:
            return ""
        return (
            "The graphics card is hot: it slows itself down at "
            f"{self.slowdown_celsius:.0f} °C, and has been close to that for a minute. Give it "
            "air, or expect longer steps."
        )


@dataclass
class DiskMonitor:
    """A detector of a drive without room for the rest of a run and SPARE_GIB more.

    needs_gib: the size of the finished run.
    """

    SPARE_GIB = 1.0

    needs_gib: float = 0.0

    def check(self, free_gib: float, run_gib: float) -> str:
        """Return a warning or "".

        free_gib: free on the drive. run_gib: the run's size so far. -1: unknown.
        """
        remaining = max(0.0, self.needs_gib - max(0.0, run_gib))
        if free_gib < 0 or free_gib >= remaining + self.SPARE_GIB:
            return ""
        return (
            "The disk is nearly full: there may not be enough room for what this run still writes. "
            "Free some space; if it does stop, nothing that was saved is lost."
        )
