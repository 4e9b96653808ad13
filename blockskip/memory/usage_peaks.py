"""Measured beside planned: the peak of every stage; and what people should be warned of: steps that
slow down on a full card, a hot card, a disk that gets full."""

from __future__ import annotations

import logging
import math
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from blockskip.memory import monitor

log = logging.getLogger(__name__)


@dataclass
class _OpenStage:
    """A stage that has not ended: the most seen so far, in GiB."""

    name: str
    used_gib: float = -1.0
    held_gib: float = -1.0
    ram_gib: float = -1.0


@dataclass
class Peaks:
    """The most memory of each stage in GiB. A stage inside another counts for itself alone.

    used_gib: tensors on the card, which is what is planned. held_gib: with the allocator's gaps,
    which is what the budget limits. ram_gib: this process, as often as `sample` was called. -1: not
    known (no card).
    """

    used_gib: dict[str, float] = field(default_factory=dict)
    held_gib: dict[str, float] = field(default_factory=dict)
    ram_gib: dict[str, float] = field(default_factory=dict)
    _open: list[_OpenStage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is used inside counts for `name`."""
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
        """Note what has been used since the last look, for the innermost stage."""
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
class SpillDetector:
    """Steps many times slower than the first ones while the card is full: the driver moves memory
    to RAM (Windows calls it shared memory) instead of failing.

    The first PROBE steps after a warm-up one are what is compared with. Thresholds are ours, and
    await a card that spills.
    """

    PROBE = 5
    SLOWER = 4.0
    FULL = 0.97  # share of the card in use
    IN_A_ROW = 3

    seconds: list[float] = field(default_factory=list)
    slow: int = 0
    warned: bool = False

    def check(self, seconds: float) -> str:
        """A step took so long; gives a warning, once, when the driver seems to spill."""
        self.seconds.append(seconds)
        if self.warned or len(self.seconds) <= self.PROBE + 1:
            return ""
        usual = statistics.median(self.seconds[1 : self.PROBE + 1])
        if seconds < self.SLOWER * usual or not self._full():
            self.slow = 0
            return ""
        self.slow += 1
        if self.slow < self.IN_A_ROW:
            return ""
        self.warned = True
        return self._warning(seconds / usual)

    def _full(self) -> bool:
        now = monitor.usage()
        return now.vram_total_gib > 0 and now.vram_used_gib >= self.FULL * now.vram_total_gib

    def _warning(self, times: float) -> str:
        text = (
            f"Steps became {times:.0f} times slower while the graphics card is full: the driver "
            "moves memory to RAM. Close other programs that use the card, or pause and choose a "
            "smaller budget."
        )
        if sys.platform == "win32":
            text += (
                " To forbid it: NVIDIA Control Panel, Manage 3D settings, “CUDA - Sysmem Fallback "
                "Policy”, “Prefer No Sysmem Fallback”."
            )
        return text


@dataclass
class ThermalMonitor:
    """A card that stays close to the temperature at which it slows itself down.

    slowdown_celsius: that temperature, -1: not known, and then nothing is said.
    """

    CLOSE = 5.0  # °C
    LONG_S = 60.0

    slowdown_celsius: float = -1.0
    since_s: float = math.inf  # when it became hot

    def check(self, celsius: float, now_s: float) -> str:
        """The card's temperature at a time, in seconds since anything; gives a warning or ""."""
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
    """A drive with less room than a run still needs, and a little. needs_gib: what the run takes
    when it ends."""

    SPARE_GIB = 1.0

    needs_gib: float = 0.0

    def check(self, free_gib: float, run_gib: float) -> str:
        """Free on the drive and taken by the run, -1: not known; gives a warning or ""."""
        still = max(0.0, self.needs_gib - max(0.0, run_gib))
        if free_gib < 0 or free_gib >= still + self.SPARE_GIB:
            return ""
        return (
            "The disk is nearly full: there may not be enough room for what this run still writes. "
            "Free some space; if it does stop, nothing that was saved is lost."
        )
