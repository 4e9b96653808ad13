"""What a worker says: events at the pace of people, memory once a second, each stage's cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from blockskip.events import Event, Peak, Progress
from blockskip.memory import monitor
from blockskip.memory.tables import Need
from blockskip.memory.watch import Peaks
from blockskip.runs import Run

log = logging.getLogger(__name__)


@dataclass
class Reporter:
    """Writes events, not more often than people can read; keeps time and memory of each stage.

    broken_in: the innermost stage that an error ended, "" without one.
    """

    run: Run
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: Peaks = field(default_factory=Peaks)
    broken_in: str = ""
    _last: float = 0.0
    _memory: float = 0.0

    def say(self, event: Event) -> None:
        self.run.append(event)
        if time.monotonic() - self._memory > 1.0:
            self._memory = time.monotonic()
            now = monitor.memory_event()
            self.peaks.look(now.rss_gib)
            self.run.append(now)

    def progress(self, stage: str, n: int, total: int, eta_s: float = -1.0) -> None:
        if n == total or time.monotonic() - self._last > 0.2:
            self._last = time.monotonic()
            self.say(Progress(stage=stage, n=n, total=total, eta_s=eta_s))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Seconds and memory spent inside count for `name`, and not for a stage around it."""
        log.info("stage %s", name)
        started, before = time.perf_counter(), sum(self.seconds.values())
        try:
            with self.peaks.stage(name):
                yield
        except BaseException:
            self.broken_in = self.broken_in or name
            raise
        finally:
            inner = sum(self.seconds.values()) - before
            spent = time.perf_counter() - started - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def compare(self, planned: Mapping[str, Need]) -> None:
        """Say how much each planned stage took, beside the plan."""
        for name, need in planned.items():
            if name not in self.peaks.used_gib:
                continue
            used, held, ram = (
                measured[name]
                for measured in (self.peaks.used_gib, self.peaks.held_gib, self.peaks.ram_gib)
            )
            log.info(
                "peak of %s: %.2f GiB of the card (%.2f with gaps), planned %.2f; "
                "%.2f GiB of RAM, planned %.2f",
                *(name, used, held, need.vram_gib, ram, need.ram_gib),
            )
            self.run.append(
                Peak(
                    stage=name,
                    vram_gib=used,
                    held_gib=held,
                    ram_gib=ram,
                    planned_vram_gib=need.vram_gib,
                    planned_ram_gib=need.ram_gib,
                )
            )
