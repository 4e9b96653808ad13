"""Measure frozen weights in 8 and 4 bits on the GPU: deviations of outputs and LoRA gradients from
16 bits, and the cost of a step. Also compares AdamW in 8 bits with 32.

The model is a few blocks of FLUX's true width with random weights. Trained weights round
differently, so the differences check the arithmetic and do not measure lost likeness.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blockskip.core.settings import Settings, settings_to_dict
from blockskip.core.units import GIB
from blockskip.lab.bench import worker as bench_child
from blockskip.lab.bench.contenders import SIZES
from blockskip.lab.full_size.random_model import FLUX_DEV, flux, write_checkpoint
from blockskip.lab.gpu.first_gradients import first_gradients
from blockskip.memory import monitor
from blockskip.memory.placement import pick_device
from blockskip.models.families.flux import Flux
from blockskip.training import optimizer
from blockskip.training.lora import snapshot
from blockskip.training.residuals import full_velocity

PRECISIONS = ("full", "int8", "int8-products", "nf4")
BLOCKS = {"num_layers": 3, "num_single_layers": 3}
STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job. tiny: use one head instead of FLUX's 24."""

    work: str
    device: str = "auto"
    tiny: bool = False


def work(job: Job) -> dict:
    """Return a row per precision and the two optimisers, JSON-ready."""
    device = pick_device(job.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    shape = FLUX_DEV | (SIZES["tiny"] if job.tiny else {}) | BLOCKS
    folder = Path(job.work) / f"quant-{'tiny' if job.tiny else 'full'}-{str(dtype)[6:]}"
    write_checkpoint(flux(shape, dtype), folder / "transformer", device=device)
    rows = {name: _measure(name, shape, folder, dtype, device, job) for name in PRECISIONS}
    exact = rows["full"]
    for row in rows.values():
        row["output_off"] = _relative_error(exact["output"], row["output"])
        row["gradients_off"] = max(
            _relative_error(grad, row["gradients"][n]) for n, grad in exact["gradients"].items()
        )
    for row in rows.values():
        del row["output"], row["gradients"]
    return {"shape": shape, "precisions": rows, "adamw": _optimisers(device, job.tiny)}


def _measure(
    precision: str, shape: dict, folder: Path, dtype: torch.dtype, device: torch.device, job: Job
) -> dict:
    """Return the model's output, the middle's first gradients, and the seconds and peak of a
    step."""
    settings = _settings(precision, device, job.tiny)
    bench_job = bench_child.Job(
        name=f"quant-{precision}",
        settings=settings_to_dict(settings),
        windows=True,
        shape=shape,
        dtype=str(dtype)[6:],
        folder=str(folder),
    )
    model, _ = bench_child.open_streamed(bench_job, settings, device)
    trainer = bench_child.make_trainer(bench_job, settings, model, device)
    gradients = first_gradients(trainer, 0.02, 3)
    output = full_velocity(model, Flux(), trainer.inputs(range(2)), 1, device).float()
    trainer.window_lora = snapshot(trainer.lora)  # or the loop would compute another window
    trainer.make_window(0)
    monitor.reset_card_peaks()
    seconds = sorted(event.seconds for event in trainer.run())
    used, _ = monitor.card_peaks_gib()
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) / GIB
    return {
        "output": output,
        "gradients": gradients,
        "step_seconds": seconds[len(seconds) // 2],
        "peak_gib": used,
        "weights_gib": weights,
    }


def _settings(precision: str, device: torch.device, tiny: bool) -> Settings:
    side = 64 if tiny else 256
    return Settings.of(
        model="flux-dev",
        s_min_px=side,
        s_max_px=2 * side,
        text_tokens=16 if tiny else 256,
        front=1,
        back=1,
        steps=STEPS,
        window_steps=STEPS,
        precision=precision.removesuffix("-products"),
        arithmetic="int8" if precision.endswith("-products") else "weights",
        window_on_card=STEPS,
        device=device.type,
    )


def _optimisers(device: torch.device, tiny: bool) -> dict:
    """Step one LoRA with the same gradients by both optimisers; return deviation, bytes,
    seconds."""
    if device.type != "cuda":
        return {"skipped": "measured on CUDA cards only"}
    source, side, rows = torch.Generator().manual_seed(1), 256 if tiny else 3072, {}
    grads = [torch.randn(16, side, generator=source) for _ in range(20)]
    for name, eight_bit in (("32 bits", False), ("8 bits", True)):
        lora = {
            f"{k}": nn.Parameter(torch.zeros(16, side, device=device))
            for k in range(8 if tiny else 64)
        }
        adam = _eight_bit(lora) if eight_bit else optimizer.make(lora, 1e-3)
        seconds = []
        for grad in (grad.to(device) for grad in grads):
            for parameter in lora.values():
                parameter.grad = grad
            torch.accelerator.synchronize()
            began = time.perf_counter()
            adam.step()
            torch.accelerator.synchronize()
            seconds.append(time.perf_counter() - began)
        rows[name] = {
            "seconds_a_step": sorted(seconds)[len(seconds) // 2],
            "state_bytes_a_parameter": _state_bytes(adam) / sum(p.numel() for p in lora.values()),
            "moved": next(iter(lora.values())).detach().float().cpu(),
        }
    moved = [row.pop("moved") for row in rows.values()]
    return rows | {"off": _relative_error(*moved)}


def _eight_bit(lora: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """Return bitsandbytes' AdamW, for measuring only (see training/optimizer.py)."""
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(lora.values(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)


def _state_bytes(of: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimiser's state, without the code books that all parameters
    share."""
    return sum(
        t.numel() * t.element_size()
        for state in of.state.values()
        for name, t in state.items()
        if isinstance(t, Tensor) and not name.startswith("qmap")
    )


def _relative_error(a: Tensor, b: Tensor) -> float:
    """Return the norm of the difference relative to the norm of `a`."""
    return float((a - b).norm() / a.norm().clamp_min(1e-12))
