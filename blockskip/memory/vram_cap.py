"""The budget as a hard limit: torch may not take more of the card, whatever the plan hoped."""

from __future__ import annotations

import logging
import math
from functools import cache, partial

import torch
from torch import nn

from blockskip.core.errors import OutOfMemory
from blockskip.core.presets import reserve_table
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.memory.placement import free_memory as free_unused
from blockskip.memory.planning.search import desktop_gib

log = logging.getLogger(__name__)
CONTEXT_GIB = (0.15, 2.0)  # what a CUDA context can take; other programs move the figure meanwhile


def limit_vram(device: torch.device, budget_gib: float) -> float:
    """Limit this process to the budget, or to what is free less the desktop's reserve; gives the
    allocator's limit in GiB, inf where there is none to set (no CUDA).

    The limit is on what torch holds, so CUDA's own context, measured here, is taken off first.
    Its first call must be what wakes the card. Raises UserError when nothing is left to use.
    """
    if device.type != "cuda":
        return math.inf
    set_torch_backends()
    index = device.index or 0  # torch's setter, unlike its getters, wants a number
    context = context_gib(index)
    free, total, held = _card_gib(index)
    ours = free + held + context
    limit = allowed_gib(budget_gib, ours, context)
    if limit <= 0:
        raise OutOfMemory(
            f"Only {ours:.1f} GiB of the graphics card are free, which is too little.",
            "Close other programs that use the card, then resume.",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), index)
    log.info("card: %.2f GiB free of %.2f, context %.2f, limit %.2f", ours, total, context, limit)
    return limit


def set_torch_backends() -> None:
    """Let cards compute what was planned, and what the processor computes.

    Attention by the kernels that were counted: newer data-centre cards would take cuDNN's, whose backward
    has given NaN where a text's padding attends to nothing. Convolutions of float32 in float32.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.allow_tf32 = False


@cache  # once a process: afterwards the context is there already
def context_gib(index: int = 0) -> float:
    """What CUDA and its libraries take of the card beside torch's own memory, measured as this process
    wakes it; assumed where the driver does not tell, or tells of another card."""
    before = monitor.usage().vram_free_gib  # from NVML, which does not wake the card
    _warm_up(torch.device("cuda", index))
    free_unused()
    free, _, held = _card_gib(index)
    context = before - free - held
    log.info("card: %.2f GiB free before it was woken, %.2f now, %.2f held", before, free, held)
    if before < 0 or context < CONTEXT_GIB[0]:
        return reserve_table()["context"]
    return min(context, CONTEXT_GIB[1])


def _warm_up(device: torch.device) -> None:
    """Load what training will load: kernels come to the card when they are first asked for, and the
    libraries take room for their work."""
    zeros = partial(torch.zeros, device=device, dtype=torch.bfloat16, requires_grad=True)
    linear, picture = zeros((512, 512)), zeros((1, 128, 64, 64))
    x = zeros((1, 8, 256, 64))
    x = nn.functional.layer_norm(nn.functional.scaled_dot_product_attention(x, x, x), (64,))
    made = nn.functional.linear(x.transpose(1, 2).flatten(2), linear, linear[0])
    picture = nn.functional.group_norm(picture, 32)
    picture = nn.functional.conv2d(picture, zeros((128, 128, 3, 3)), padding=1)
    (made.float().sum() + picture.float().sum()).backward()
    torch.optim.AdamW([linear], fused=True).step()
    torch.cuda.synchronize(device)


def _card_gib(index: int) -> tuple[float, float, float]:
    """(free, total, held by torch) in GiB."""
    free, total = torch.cuda.mem_get_info(index)
    return free / GIB, total / GIB, torch.cuda.memory_reserved(index) / GIB


def old_card_warning(device: torch.device) -> str:
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
