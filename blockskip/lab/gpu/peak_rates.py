"""What this device can do at best, measured here: products of matrices, and copies over the bus. Shares
of speed are of these, not of a data sheet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from blockskip.core.units import GIB
from blockskip.memory.placement import pick_device
from blockskip.memory.streaming import host_empty

WARM, TIMED = 3, 10


def work(job: dict) -> dict:
    """job: {"device", "tiny"}. TFLOP/s of a square product in the type that models have, GB/s from
    pinned RAM to the card and back."""
    device = pick_device(job["device"])
    side = 512 if job["tiny"] else 8192
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    seconds = _rates(lambda: a @ b, device)
    found = {
        "dtype": str(dtype).removeprefix("torch."),
        "side": side,
        "matmul_tflops": 2 * side**3 / seconds / 1e12,
    }
    size = (1 << 20) if job["tiny"] else GIB
    here = host_empty((size,), torch.uint8, device.type == "cuda")
    there = torch.empty(size, dtype=torch.uint8, device=device)
    found["to_card_gbs"] = size / _rates(lambda: there.copy_(here, non_blocking=True), device) / 1e9
    found["from_card_gbs"] = size / _rates(lambda: here.copy_(there), device) / 1e9
    return found


def _rates(do: Callable[[], object], device: torch.device) -> float:
    """Median seconds of one."""
    taken = []
    for n in range(WARM + TIMED):
        began = time.perf_counter()
        do()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        if n >= WARM:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)
