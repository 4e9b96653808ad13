"""What a worker says: events at the pace of people, memory once a second, seconds by stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from blockskip.events import Event, Progress
from blockskip.memory import monitor
from blockskip.runs import Run

log = logging.getLogger(__name__)


@dataclass
class Reporter:
    """Writes events, not more often than people can read, and keeps the time of each stage."""

    run: Run
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0
    _memory: float = 0.0

    def say(self, event: Event) -> None:
        self.run.append(event)
        if time.monotonic() - self._memory > 1.0:
            self._memory = time.monotonic()
            self.run.append(monitor.memory_event())

    def progress(self, stage: str, n: int, total: int, eta_s: float = -1.0) -> None:
        if n == total or time.monotonic() - self._last > 0.2:
            self._last = time.monotonic()
            self.say(Progress(stage=stage, n=n, total=total, eta_s=eta_s))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Seconds spent inside count for `name`, and not for a stage around it."""
        log.info("stage %s", name)
        started, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            spent = time.perf_counter() - started - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
