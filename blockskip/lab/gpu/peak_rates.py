"""Measure this device's peak rates: matrix products, and copies over the bus. Shares of speed are
relative to these, not to a data sheet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from blockskip.core.units import GIB
from blockskip.memory import int8_products
from blockskip.memory.block_buffers import host_empty
from blockskip.memory.placement import pick_device

WARM, TIMED = 3, 10


def work(job: dict) -> dict:
    """Return the TFLOP/s of a square product in the models' dtype and in 8 bits, and GB/s from
    pinned RAM to the GPU and back. job: {"device", "tiny"}."""
    device = pick_device(job["device"])
    side = 512 if job["tiny"] else 8192
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    seconds = _rates(lambda: a @ b, device)
    rates = {
        "dtype": str(dtype).removeprefix("torch."),
        "side": side,
        "matmul_tflops": 2 * side**3 / seconds / 1e12,
    }
    if int8_products.available(device):
        x, y = torch.ones(2, side, side, dtype=torch.int8, device=device)
        seconds = _rates(lambda: torch._int_mm(x, y.t()), device)
        rates["int8_tops"] = 2 * side**3 / seconds / 1e12
    size = (1 << 20) if job["tiny"] else GIB
    host = host_empty((size,), torch.uint8, device.type == "cuda")
    on_gpu = torch.empty(size, dtype=torch.uint8, device=device)
    rates["to_card_gbs"] = (
        size / _rates(lambda: on_gpu.copy_(host, non_blocking=True), device) / 1e9
    )
    rates["from_card_gbs"] = size / _rates(lambda: host.copy_(on_gpu), device) / 1e9
    return rates


def _rates(do: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of one call."""
    taken = []
    for n in range(WARM + TIMED):
        began = time.perf_counter()
        do()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        if n >= WARM:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)
