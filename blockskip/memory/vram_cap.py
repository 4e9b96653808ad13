"""Enforces the budget as a hard limit on torch's GPU memory, even if the plan was optimistic.

The limit counts what the allocator has reserved; of segments that grow (core/torch_allocator.py),
the mapped pages. A request that would exceed it, counted in full even where mapped pages are free,
is first tried again without any free page.
"""

from __future__ import annotations

import logging
import math
from functools import cache, partial

import torch
from torch import nn

from blockskip.core.errors import OutOfMemory
from blockskip.core.presets import reserve_table
from blockskip.core.settings import ExecutionPlan
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.memory.placement import free_memory as free_unused
from blockskip.memory.planning.request import desktop_gib

log = logging.getLogger(__name__)
# plausible sizes of a CUDA context: other programs change the free memory during the measurement
CONTEXT_GIB = (0.15, 2.0)


def limit_vram(device: torch.device, budget_gib: float) -> float:
    """Limit this process to the budget or, if smaller, the free memory less the desktop's reserve.

    Return torch's allocator limit in GiB, inf without CUDA. The allocator does not count CUDA's
    context, so the context is measured and subtracted first. Call this before anything else
    initialises CUDA. Raises UserError if nothing is left to use.
    """
    if device.type != "cuda":
        return math.inf
    set_torch_backends()
    index = device.index or 0  # torch's setter, unlike its getters, does not accept None
    context = context_gib(index)
    available, total = available_gib(device), _card_gib(index)[1]
    limit = allowed_gib(budget_gib, available, context)
    if limit <= 0:
        raise OutOfMemory(
            f"Only {available:.1f} GiB of the graphics card are free, which is too little.",
            "Close other programs that use the card, then resume.",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), index)
    log.info(
        "card: %.2f GiB free of %.2f, context %.2f, limit %.2f", available, total, context, limit
    )
    return limit


def available_gib(device: torch.device) -> float:
    """Return the GPU memory that other programs leave to this process, in GiB; inf off CUDA."""
    if device.type != "cuda":
        return math.inf
    index = device.index or 0
    free, _, held = _card_gib(index)
    return free + held + context_gib(index)


def room_gib() -> float:
    """Return what could still be allocated on the GPU, in GiB; inf where CUDA is not in use, or
    does not answer."""
    if not torch.cuda.is_initialized():
        return math.inf
    index = torch.cuda.current_device()
    try:
        free, total, held = _card_gib(index)
    except RuntimeError:  # a broken driver
        return math.inf
    unused = held - torch.cuda.memory_allocated(index) / GIB
    limit = torch.cuda.get_per_process_memory_fraction(index) * total
    return unused + min(free, limit - held)


def set_torch_backends() -> None:
    """Select GPU kernels that match the CPU's results: no TF32 in float32 convolutions, and no
    cuDNN attention until the model is known (memory/attention.py)."""
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.allow_tf32 = False


@cache  # it can be measured only once a process, as the context appears
def context_gib(index: int = 0) -> float:
    """Return the size of CUDA's context, libraries included, in GiB.

    It is measured while this process initialises CUDA. The value of presets/budgets.toml is used if
    NVML reports nothing, or a different GPU.
    """
    before = monitor.usage().vram_free_gib  # from NVML, which does not initialise CUDA
    _warm_up(torch.device("cuda", index))
    free_unused()
    free, _, held = _card_gib(index)
    context = before - free - held
    log.info("card: %.2f GiB free before CUDA's start, %.2f now, %.2f held", before, free, held)
    if before < 0 or context < CONTEXT_GIB[0]:
        return reserve_table()["context"]
    return min(context, CONTEXT_GIB[1])


def _warm_up(device: torch.device) -> None:
    """Load the kernels and library workspaces that training will use: CUDA loads them lazily."""
    dtype = torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    zeros = partial(torch.zeros, device=device, dtype=dtype, requires_grad=True)
    linear, picture = zeros((512, 512)), zeros((1, 128, 64, 64))
    x = zeros((1, 8, 256, 64))
    x = nn.functional.layer_norm(nn.functional.scaled_dot_product_attention(x, x, x), (64,))
    tokens = nn.functional.linear(x.transpose(1, 2).flatten(2), linear, linear[0])
    picture = nn.functional.group_norm(picture, 32)
    picture = nn.functional.conv2d(picture, zeros((128, 128, 3, 3)), padding=1)
    (tokens.float().sum() + picture.float().sum()).backward()
    torch.optim.AdamW([linear], fused=True).step()
    torch.cuda.synchronize(device)


def _card_gib(index: int) -> tuple[float, float, float]:
    """Return (free, total, held by torch) in GiB."""
    free, total = torch.cuda.mem_get_info(index)
    return free / GIB, total / GIB, torch.cuda.memory_reserved(index) / GIB


def untried_device_warning(device: torch.device, plan: ExecutionPlan) -> str:
    """Return a warning for devices that no one has tried, or ""."""
    if device.type in ("mps", "xpu") or (device.type == "cuda" and torch.version.hip):
        maker = {"mps": "Apple", "xpu": "Intel"}.get(device.type, "AMD")
        return (
            f"Training on graphics of {maker} is untried: it may fail, or take more memory than "
            "planned. Please report how it went."
        )
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0):
        return ""
    if plan.number_type == "float16":
        return ""
    name = torch.cuda.get_device_name(device)
    return (
        f"{name} is older than the cards this was planned for (RTX 30 and later): training may take "
        "more graphics memory and be much slower."
    )


def allowed_gib(budget_gib: float, free_gib: float, context_gib: float, system: str = "") -> float:
    """Return the limit of torch's memory: min(budget, free − desktop's share) − CUDA's context.

    All sizes in GiB. system: Windows, Linux, … ("": this one).
    """
    desktop = desktop_gib(budget_gib, system)
    return min(budget_gib, free_gib - desktop) - context_gib
