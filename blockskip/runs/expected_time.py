"""How long a run will take: by earlier runs on this computer, else counted from its measured speed,
else counted for a common PC. Does not import torch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from blockskip.core.errors import UserError
from blockskip.core.events import Done, Failed, Loss, Started, Stopped
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.memory import monitor
from blockskip.memory.planning.duration import run_seconds, sampling_passes, usual_rates
from blockskip.memory.planning.measured_speed import load, measured_rates
from blockskip.memory.planning.run_sizes import block_passes, offload
from blockskip.runs import event_log
from blockskip.runs.problem import reading
from blockskip.runs.run import list_runs

Basis = Literal["history", "measured", "common"]
NEWEST = 20  # runs that are looked at
_ENDS = (Started, Loss, Stopped, Failed, Done)


@dataclass(frozen=True)
class ExpectedTime:
    """The minutes of a run. basis: finished runs on this computer | its measured speed | a common
    PC's speed (presets/budgets.toml)."""

    minutes: float
    basis: Basis


def expected_time(
    settings: Settings, history: Sequence[tuple[Settings, float]]
) -> ExpectedTime | None:
    """Return how long a run will take, None if that is unknown: a processor is like no other.

    history: finished runs on this computer, (settings, seconds) each.
    """
    row = model_row(settings.model)
    if (minutes := minutes_by_history(history, settings)) is not None:
        return ExpectedTime(minutes, "history")
    speed = load()
    if speed and (rates := measured_rates(speed, row, settings)):
        return ExpectedTime(run_seconds(row, settings, rates) / 60, "measured")
    if speed or settings.device == "cpu" or monitor.usage().vram_total_gib < 0:
        return None
    return ExpectedTime(run_seconds(row, settings, usual_rates()) / 60, "common")


def expected_dict(settings: Settings) -> dict:
    """Return what `plan --json` tells of the time: minutes and basis, None where it is unknown."""
    expected = expected_time(settings, finished_runs())
    return {
        "expected_minutes": round(expected.minutes, 1) if expected else None,
        "minutes_from": expected.basis if expected else None,
    }


def finished_runs() -> list[tuple[Settings, float]]:
    """Return (settings, seconds of work) of finished runs among the newest, newest first."""
    done = []
    for run in list_runs()[:NEWEST]:
        with contextlib.suppress(UserError), reading(run):
            end = event_log.last_event(run.events_path, _ENDS)
            if isinstance(end, Done):
                done.append((run.settings(), end.seconds))
    return done


def minutes_by_history(
    history: Sequence[tuple[Settings, float]], settings: Settings
) -> float | None:
    """Estimate a run's minutes from finished runs on this machine, (settings, seconds) each.

    Only runs with the same device and execution plan count. Of those, the one nearest in size is
    scaled by its work. Return None if there is none.
    """
    wanted, kind = _work(settings), _comparable(settings)
    comparable = [(_work(s), seconds) for s, seconds in history if _comparable(s) == kind]
    comparable = [(work, seconds) for work, seconds in comparable if seconds > 0]
    if not comparable:
        return None
    work, seconds = min(comparable, key=lambda past: abs(math.log(past[0] / wanted)))
    return seconds * wanted / work / 60


def _comparable(s: Settings) -> tuple:
    """Return the settings whose effect on the time per draw can only be measured."""
    side = s.plan.s_max_px if s.plan.patches == "full" else s.plan.s_min_px
    where = (s.plan.precision, s.plan.int8_products, s.plan.middle, offload(model_row(s.model), s))
    return (
        s.model,
        s.device,
        s.threads,
        *where,
        s.refresh,
        side,
        s.plan.batch,
        s.plan.text_tokens,
        s.preview_px,
        s.plan.preview_speed,
        s.preview_model,
    )


def _work(s: Settings) -> float:
    """Count block passes, forward or backward, in a whole run.

    A draw passes every block when its window is computed, if any is skipped (prior-preservation
    draws once more), and the trained ones forward and backward. A picture passes all blocks in each
    sampling step, twice if guidance needs the empty prompt. The scaled time includes startup.
    """
    row = model_row(s.model)
    middle = row.num_blocks - s.plan.front - s.plan.back
    windows = s.num_draws * (s.plan.skips + s.prior) * row.num_blocks
    steps = s.steps * s.plan.draws_per_step * (middle + block_passes(row, s))
    side = s.plan.s_max_px if s.plan.patches == "full" else s.plan.s_min_px
    pixels = s.preview_times * s.progress_px**2 + s.finishes_large * s.preview_px**2
    pictures = len(s.preview_prompts) * s.preview_images * pixels / side**2
    return windows + steps + pictures * sampling_passes(row, s) * row.num_blocks
