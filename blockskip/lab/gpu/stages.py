"""Run a training under a hard memory cap and compare each stage's GPU memory peak with its plan,
then sample a picture at half the side.

The code is that of every run, and so is the cap (memory/vram_cap.py). The memory of the whole
process, CUDA context included, is the driver's used memory minus what was used before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from blockskip.core import events, presets
from blockskip.core.errors import UserError
from blockskip.core.events import Done, Failed, Note, Peak
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.data.photos import find_photos
from blockskip.lab.measuring.model_session import ModelSession
from blockskip.lab.measuring.process_memory import Poller
from blockskip.memory import monitor
from blockskip.memory.placement import free_memory
from blockskip.memory.planning.planner import make_plan, planned_memory
from blockskip.memory.planning.run_sizes import lora_params
from blockskip.models import sources
from blockskip.runs import worker_process
from blockskip.runs.run import Run, create_run

MIN_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to measure. planned_gib: the budget to plan for, 0 for budget_gib. folder: of the
    model's files, "" for the usual one. steps: 0 for all that one window serves."""

    name: str
    model: str
    budget_gib: float
    planned_gib: float = 0.0
    folder: str = ""
    device: str = "auto"
    steps: int = 0
    picture_steps: int = 0  # 0: the model's


class DriverMemory(Poller):
    """Peak GPU memory of all programs together in GiB, while entered; -1 without a GPU."""

    EVERY_S = 0.01

    def __init__(self) -> None:
        self.peak_gib = self.before_gib = monitor.usage().vram_used_gib

    @property
    def process_gib(self) -> float:
        """The increase since it was entered, in GiB: this process."""
        return self.peak_gib - self.before_gib if self.before_gib >= 0 else -1.0

    def sample(self) -> None:
        self.peak_gib = max(self.peak_gib, monitor.usage().vram_used_gib)


def work(job: Job) -> dict:
    """Run the job. Returns, JSON-ready, stages {name: planned, used, held, seconds}, the memory of
    the whole process, and the fallbacks taken."""
    row = presets.model_row(job.model)
    if job.folder:
        sources.select_model(row, [Path(job.folder)])
    settings, driver = settings_of(job), DriverMemory()
    pet = min((ASSETS / "demo-photos").glob("*/"))
    run = create_run(settings, find_photos([pet]), f"{job.name}-{time.time_ns()}")
    with driver:
        failed = _work_until_end(run)
        run_events = run.events()[0]
        stages = _stages(run_events, run)
        if not failed and not job.planned_gib:
            stages["preview-half"] = _half_size_preview(job, run.settings())
    done = next((event for event in run_events if isinstance(event, Done)), None)
    warnings = [
        event.text for event in run_events if isinstance(event, Note) and event.level == "warning"
    ]
    return {
        "name": job.name,
        "model": job.model,
        "budget_gib": job.budget_gib,
        "settings": _settings_dict(settings),
        "stages": stages,
        "process_gib": driver.process_gib,
        "within_cap": driver.process_gib <= job.budget_gib if driver.process_gib >= 0 else None,
        "eased": warnings,
        "after": _settings_dict(run.settings()),
        **({"failed": failed} if failed else {"seconds": done.seconds, "loss": done.final_loss}),
    }


def settings_of(job: Job) -> Settings:
    """Return the planned settings for one window and its steps, with one picture before and
    after."""
    plan = make_plan(
        model=job.model,
        budget_gib=job.planned_gib or job.budget_gib,
        device=job.device,
        preview_images=1,
    )
    settings = plan.settings.changed(budget_gib=job.budget_gib)
    steps = job.steps or max(MIN_STEPS, settings.plan.window_steps)
    return settings.changed(
        steps=steps,
        window_steps=min(steps, settings.plan.window_steps),
        preview_every=0,
        preview_prompts=settings.preview_prompts[:1],
        preview_steps=job.picture_steps or settings.preview_steps,
    )


def _work_until_end(run: Run) -> str:
    """Run the training and return the reason for a failure, or ""."""
    try:
        worker_process.work(run)
    except UserError as error:
        run.append(Failed(title=error.title, remedy=error.remedy, kind=error.kind))
        return error.title
    return ""


def _stages(run_events: list[events.Event], run: Run) -> dict[str, dict]:
    """Return the latest peaks and the seconds of each stage."""
    done = next((event for event in run_events if isinstance(event, Done)), None)
    stages = {}
    for peak in (event for event in run_events if isinstance(event, Peak)):
        stages[peak.stage] = _compare(peak.planned_vram_gib, peak.vram_gib, peak.held_gib) | {
            "ram_gib": peak.ram_gib,
            "planned_ram_gib": peak.planned_ram_gib,
        }
    for name, seconds in (done.stages if done else {}).items():
        stages.setdefault(name, {})["seconds"] = seconds
    return stages


def _half_size_preview(job: Job, settings: Settings) -> dict:
    """Sample one picture of half the side under the same cap."""
    free_memory()
    session = ModelSession(job.model, job.budget_gib)
    side = max(settings.preview_px // 2, settings.plan.s_min_px)
    session.settings = settings.changed(preview_px=side)
    prompt = "a photo of a cat"
    session.encode_prompts([prompt, ""])  # not timed
    monitor.reset_card_peaks()
    began = time.perf_counter()
    session.sample_prompts([prompt], [0])
    seconds = time.perf_counter() - began
    # no later steps, so no middle, LoRA or optimiser stays on the GPU
    alone = session.settings.changed(middle="leaves")
    plan = planned_memory(alone)["preview"].vram_gib - 12 * lora_params(session.row, alone) / GIB
    return _compare(plan, *monitor.card_peaks_gib()) | {"seconds": round(seconds, 2)}


def _compare(planned_gib: float, used_gib: float, held_gib: float) -> dict:
    """Return the memory figures. off: the plan's relative excess over use, None without a GPU."""
    off = planned_gib / used_gib - 1 if used_gib > 0 else None
    return {"planned_gib": planned_gib, "used_gib": used_gib, "held_gib": held_gib, "off": off}


def _settings_dict(s: Settings) -> dict:
    """Return the settings that determine memory and time."""
    return {
        "skip": [s.plan.front, s.plan.back],
        "side_px": s.plan.s_min_px,
        "text_tokens": s.plan.text_tokens,
        "precision": s.plan.precision,
        "recomputed": s.plan.recomputed,
        "middle": s.plan.middle,
        "ram_weights_gib": s.plan.ram_weights_gib,
        "batch": s.plan.batch,
        "micro_batch": s.plan.micro_batch,
        "window_draws": s.window_draws,
        "window_on_card": s.plan.window_on_card,
        "steps": s.steps,
        "preview_px": s.preview_px,
        "preview_tiled": s.plan.preview_tiled,
    }
