"""The budget as a hard limit: torch may not take more of the card, whatever the plan hoped."""

from __future__ import annotations

import logging
import math
from functools import cache

import torch
from torch import nn

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
    Its first call must be what wakes the card. Raises UserError when nothing is left to use.
    """
    if device.type != "cuda":
        return math.inf
    index = device.index or 0  # torch's setter, unlike its getters, wants a number
    context = _context_gib(index)
    free, total, held = _card_gib(index)
    ours = free + held + context
    limit = allowed_gib(budget_gib, ours, context)
    if limit <= 0:
        raise UserError(
            f"Only {ours:.1f} GiB of the graphics card are free, which is too little.",
            "Close other programs that use the card, then resume.",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), index)
    log.info("card: %.2f GiB free of %.2f, context %.2f, limit %.2f", ours, total, context, limit)
    return limit


@cache  # once a process: afterwards the context is there already
def _context_gib(index: int) -> float:
    before = monitor.usage().vram_free_gib  # from NVML, which does not wake the card
    _wake(torch.device("cuda", index))
    free, _, held = _card_gib(index)
    if before < 0:
        return reserve_table()["context"]
    log.info("card: %.2f GiB free before it was woken, %.2f now, %.2f held", before, free, held)
    return min(max(before - free - held, CONTEXT_GIB[0]), CONTEXT_GIB[1])


def _wake(device: torch.device) -> None:
    """Load what training will load: kernels come to the card when they are first asked for."""
    x = torch.zeros(1, 1, 64, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    nn.functional.scaled_dot_product_attention(x @ x, x, x).sum().backward()
    nn.functional.conv2d(x.detach(), x.detach()[..., :3, :3])
    torch.cuda.synchronize(device)


def _card_gib(index: int) -> tuple[float, float, float]:
    """(free, total, held by torch) in GiB."""
    free, total = torch.cuda.mem_get_info(index)
    return free / GIB, total / GIB, torch.cuda.memory_reserved(index) / GIB


def old_card(device: torch.device) -> str:
    """A warning for cards on which torch has no attention that is as small as planned, else ""."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0):
        return ""
    name = torch.cuda.get_device_name(device)
    return (
        f"{name} is older than the cards this was planned for (RTX 30 and later): training may take "
        "more graphics memory and be much slower."
    )


def allowed_gib(budget_gib: float, free_gib: float, context_gib: float, system: str = "") -> float:
    """What torch may hold: min(budget, free − the desktop's share) − CUDA's context.

    system: Windows, Linux, … ("": this one).
    """
    desktop = desktop_gib(budget_gib, system)
    return min(budget_gib, free_gib - desktop) - context_gib
