"""Time the sampling of pictures with a full-size model under memory caps: exact, with key steps and
with larger patches.

The weights are random, so the schedules are fixed instead of measured: the demo model's share of
key steps, and larger patches in every step that `hold` allows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from blockskip.core import presets
from blockskip.lab.measuring.model_session import ModelSession
from blockskip.lab.previews.sampling_methods import constant_schedule
from blockskip.memory import monitor
from blockskip.memory.placement import pin_on_device
from blockskip.models import sources
from blockskip.sampling import dynamic_patches, patch_adapters
from blockskip.sampling.key_steps import KeySteps

KEY_STEP_SHARES = {"key steps, 11 of 16": 11 / 16, "key steps, 8 of 16": 8 / 16}  # the demo model's


@dataclass(frozen=True, kw_only=True)
class Job:
    """The model and budget. folder: of the model's files, "" for the usual one."""

    name: str
    model: str
    budget_gib: float
    folder: str = ""
    steps: int = 0  # 0: the model's


def work(job: Job) -> dict:
    """Return a row per method, JSON-ready. times: the speed-up over exact, in the same process."""
    if job.folder:
        sources.select_model(presets.model_row(job.model), [Path(job.folder)])
    session = ModelSession(job.model, job.budget_gib)
    steps = job.steps or session.settings.preview_steps
    session.settings = session.settings.changed(preview_steps=steps)
    text, rows = session.encode(["a photo of a cat", ""]), []
    _pin_middle(session)
    for name, options in _sampling_options(session, steps):
        monitor.reset_card_peaks()
        began = time.perf_counter()
        session.sample(text.rows([0]), text.rows([1]), [0], steps, **options)
        rows.append(
            {
                "way": name,
                "seconds": time.perf_counter() - began,
                "used_gib": monitor.card_peaks_gib()[0],
            }
        )
    exact = next(row["seconds"] for row in rows if row["way"] == "exact")
    for row in rows:
        row["times"] = exact / row["seconds"]
    return {
        "name": job.name,
        "budget_gib": job.budget_gib,
        "px": session.settings.preview_px,
        "steps": steps,
        "rows": rows,
    }


def _pin_middle(session: ModelSession) -> None:
    """Pin the middle to the GPU if a run with this budget would."""
    settings, blocks = session.settings, session.family.blocks(session.transformer)
    if settings.plan.middle == "stays":
        middle = blocks[settings.plan.front : len(blocks) - settings.plan.back]
        pin_on_device(session.device, *(block for _, block in middle))


def _sampling_options(session: ModelSession, steps: int) -> Iterator[tuple[str, dict]]:
    yield "the first, untimed", {}  # loads kernels, and weights into RAM
    yield "exact", {}
    for name, share in KEY_STEP_SHARES.items():
        num = max(2, round(share * steps))
        keys = frozenset(round(k * (steps - 1) / (num - 1)) for k in range(num))
        yield name, {"cache": KeySteps(keys)}
    if session.family.patch_modules is None:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dtype = getattr(torch, session.row.dtype)
        adapters = {
            f: patch_adapters.PatchAdapter(session.transformer, session.family, f)
            .to(dtype)
            .requires_grad_(False)
            for f in patch_adapters.FACTORS
        }
    for factor in sorted(patch_adapters.FACTORS):
        schedule = constant_schedule(factor, max(2, steps // 6))
        dynamic = dynamic_patches.PatchScheduler(
            session.transformer, session.family, adapters, schedule
        )
        yield f"patches {factor} times as large", {"dynamic": dynamic}
