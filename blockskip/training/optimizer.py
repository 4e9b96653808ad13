"""AdamW for the LoRA: the learning-rate schedule, and the state as tensors for checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from blockskip.core.settings import Settings

_MAX_WARM_UP = 20  # steps of the constant schedule


def learning_rate(settings: Settings, step: int) -> float:
    """Return the rate at `step`: linear warm-up over 5 % of the steps, then down to a tenth (ours).

    cosine: a half cosine. constant: linear over the last fifth, and the warm-up is short, so that a
    run of 400 steps or more has the rates of a longer one until it decays.
    """
    warm = max(1, settings.steps // 20)
    if settings.rate_schedule == "constant":
        warm = min(warm, _MAX_WARM_UP)
    if step < warm:
        return settings.lr * (step + 1) / warm
    if settings.rate_schedule == "constant":
        decay = settings.steps // 5
        share = max(0, step - settings.steps + decay) / max(1, decay)
        return settings.lr * (1 - 0.9 * share)
    share = (step - warm) / max(1, settings.steps - warm)
    return settings.lr * (0.55 + 0.45 * math.cos(math.pi * share))


def make(lora: dict[str, nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Create AdamW for a LoRA, with two fp32 values per parameter beside the gradient.

    8-bit AdamW would save little, since a LoRA is small, and bitsandbytes synchronises with the
    GPU after every parameter. The memory plan counts on fp32. On CUDA and on the processor one fused
    kernel updates all parameters.
    """
    fused = next(iter(lora.values())).device.type in ("cuda", "cpu") or None
    return torch.optim.AdamW(lora.values(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused)


def snapshot(adam: torch.optim.Optimizer, lora: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copy the optimiser's state to the CPU, as `<state key>.<parameter name>` → tensor."""
    return {
        f"{key}.{name}": value.detach().to("cpu", copy=True)
        for name, parameter in lora.items()
        for key, value in adam.state.get(parameter, {}).items()
    }


def restore(
    adam: torch.optim.Optimizer, lora: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Load a snapshot, which may come from another device. It may have more parameters, as
    training/lora.py's `restore` allows."""
    for entry, value in state.items():
        key, name = entry.split(".", 1)
        if name not in lora:
            continue
        parameter = lora[name]
        # AdamW keeps its step counters in RAM unless it is fused
        if key != "step" or adam.defaults["fused"]:
            value = value.to(parameter.device)
        adam.state[parameter][key] = value
