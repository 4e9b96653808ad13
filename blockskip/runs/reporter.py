"""Write a run's events (rate-limited), memory once a second and the cost of each stage."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from blockskip.core.events import Event, Note, Peak, Progress
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.memory.planning.requirements import StageMemory
from blockskip.memory.usage_peaks import DiskMonitor, Peaks, ThermalMonitor
from blockskip.runs.run import Run

log = logging.getLogger(__name__)
FOLDER_SIZE_INTERVAL_S = 10.0  # seconds between measurements of the run folder's size


@dataclass
class Reporter:
    """Writer of events at a readable rate, and recorder of each stage's time and memory.

    failed_stage: the innermost stage ended by an error, "" without one.
    """

    run: Run
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: Peaks = field(default_factory=Peaks)
    failed_stage: str = ""
    heat: ThermalMonitor = field(default_factory=lambda: ThermalMonitor(monitor.slowdown_celsius()))
    disk: DiskMonitor = field(default_factory=DiskMonitor)
    _last: float = -math.inf
    _memory: float = -math.inf
    _folder: float = -math.inf
    _run_gib: float = -1.0
    _warned: set[str] | None = None

    def write(self, event: Event) -> None:
        self.run.append(event)
        if time.monotonic() - self._memory > 1.0:
            self._memory = time.monotonic()
            self._sample_usage()

    def _sample_usage(self) -> None:
        """Record memory, disk space and temperature, with warnings."""
        if time.monotonic() - self._folder > FOLDER_SIZE_INTERVAL_S:
            self._folder, self._run_gib = time.monotonic(), self.run.size_bytes() / GIB
        now = monitor.memory_event(self.run.folder, self._run_gib)
        self.peaks.sample(now.rss_gib)
        self.run.append(now)
        self.warn(self.heat.check(now.card_celsius, time.monotonic()))
        self.warn(self.disk.check(now.disk_free_gib, now.disk_run_gib))

    def warn(self, text: str) -> bool:
        """Write a warning once per run, even across workers; return whether it was written now.
        Ignores ""."""
        if not text:
            return False
        if self._warned is None:
            self._warned = {e.text for e in self.run.events()[0] if isinstance(e, Note)}
        if text in self._warned:
            return False
        self._warned.add(text)
        self.run.append(Note(level="warning", text=text))
        return True

    def progress(self, stage: str, n: int, total: int, eta_s: float = -1.0) -> None:
        if n == total or time.monotonic() - self._last > 0.2:
            self._last = time.monotonic()
            self.write(Progress(stage=stage, n=n, total=total, eta_s=eta_s))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager that counts time and memory for `name`, not for an enclosing stage."""
        log.info("stage %s", name)
        started, before = time.perf_counter(), sum(self.seconds.values())
        try:
            with self.peaks.stage(name):
                yield
        except BaseException:
            self.failed_stage = self.failed_stage or name
            raise
        finally:
            inner = sum(self.seconds.values()) - before
            spent = time.perf_counter() - started - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def log_peaks(self, planned: Mapping[str, StageMemory]) -> None:
        """Write measured and planned peak memory of each planned stage."""
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
