"""The budget as a hard limit: torch may not take more of the card, whatever the plan hoped."""

from __future__ import annotations

import logging
import math

import torch

from blockskip.config import reserve_table
from blockskip.events import UserError
from blockskip.memory import monitor
from blockskip.memory.plan import desktop_gib

log = logging.getLogger(__name__)
GIB = 1024**3
CONTEXT_GIB = (0.1, 2.0)  # what a CUDA context can take; other programs move the figure meanwhile


def cap(device: torch.device, budget_gib: float) -> float:
    """Limit this process to the budget, or to what is free less the desktop's reserve; gives the
    allocator's limit in GiB, inf where there is none to set (no CUDA).

    The limit is on what torch holds, so CUDA's own context, measured here, is taken off first.
    Must run before anything else wakes the card. Raises UserError when nothing is left to use.
    """
    if device.type != "cuda":
        return math.inf
    free_before = monitor.usage().vram_free_gib  # from NVML, which does not wake the card
    torch.zeros(1, device=device)
    free, total = (size / GIB for size in torch.cuda.mem_get_info(device))
    held = torch.cuda.memory_reserved(device) / GIB
    context = reserve_table()["context"]
    if free_before >= 0:
        context = min(max(free_before - free - held, CONTEXT_GIB[0]), CONTEXT_GIB[1])
    else:
        free_before = free + held + context
    limit = allowed_gib(budget_gib, free_before, context)
    if limit <= 0:
        raise UserError(
            f"Only {free_before:.1f} GiB of the graphics card are free, which is too little.",
            "Close other programs that use the card, then resume.",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    log.info(
        "card: %.2f GiB free of %.2f, context %.2f, limit %.2f", free_before, total, context, limit
    )
    return limit


def allowed_gib(budget_gib: float, free_gib: float, context_gib: float, system: str = "") -> float:
    """What torch may hold: min(budget, free − the desktop's share) − CUDA's context.

    system: Windows, Linux, … ("": this one).
    """
    desktop = desktop_gib(budget_gib, system)
    return min(budget_gib, free_gib - desktop) - context_gib
