"""What a run does when its steps become several times slower: it says why, and plans again where a
plan with less graphics memory helps."""

from __future__ import annotations

import torch

from blockskip.core import stages
from blockskip.core.events import Note
from blockskip.core.settings import Settings
from blockskip.memory import monitor
from blockskip.memory.planning.oom_fallback import next_fallback
from blockskip.memory.slow_steps import PLANNED_AGAIN, Slowdown, SlowStepDetector, causes_in
from blockskip.memory.usage_peaks import ThermalMonitor
from blockskip.memory.vram_cap import available_gib
from blockskip.runs.run import Run


class PlanAgain(Exception):
    """Steps are slow for a cause that other settings help against. words: what they change."""

    def __init__(self, settings: Settings, words: str) -> None:
        super().__init__(words)
        self.settings, self.words = settings, words


def detector(run: Run) -> SlowStepDetector:
    """Return the detector of a run's worker. What earlier workers said is not said again."""
    said = [event.text for event in run.events()[0] if isinstance(event, Note)]
    limit = monitor.slowdown_celsius()
    hot = limit - ThermalMonitor.CLOSE if limit > 0 else monitor.UNKNOWN
    return SlowStepDetector(monitor.activity, hot, causes_in(said))


def plan_again(run: Run, slowdown: Slowdown, device: torch.device) -> None:
    """Raises PlanAgain if settings with less graphics memory help and exist. Call this after a
    checkpoint is saved."""
    if slowdown.cause not in PLANNED_AGAIN:
        return
    settings = run.settings()
    free, planned = available_gib(device), run.settings(original=True)
    if smaller := next_fallback(settings, stages.TRAIN, free, planned):
        raise PlanAgain(*smaller)
