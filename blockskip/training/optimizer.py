"""AdamW over the LoRA: its rate by step, and its state as tensors for checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from blockskip.core.settings import Settings


def learning_rate(settings: Settings, step: int) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine down to a tenth (ours)."""
    warm = max(1, settings.steps // 20)
    if step < warm:
        return settings.lr * (step + 1) / warm
    share = (step - warm) / max(1, settings.steps - warm)
    return settings.lr * (0.55 + 0.45 * math.cos(math.pi * share))


def make(lora: dict[str, nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW over a LoRA: two fp32 numbers a parameter, and the gradient.

    Not in 8 bits: a LoRA is small, fp32 is what is planned, and bitsandbytes waits for the card after
    every parameter. On CUDA all parameters move in one kernel.
    """
    fused = next(iter(lora.values())).is_cuda or None
    return torch.optim.AdamW(lora.values(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused)


def snapshot(adam: torch.optim.Optimizer, lora: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Everything the optimiser remembers, as `<what>.<name in the LoRA>` → a copy on the CPU."""
    return {
        f"{key}.{name}": value.detach().to("cpu", copy=True)
        for name, parameter in lora.items()
        for key, value in adam.state.get(parameter, {}).items()
    }


def restore(
    adam: torch.optim.Optimizer, lora: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Take over a snapshot, which may be another device's."""
    for entry, value in state.items():
        key, name = entry.split(".", 1)
        parameter = lora[name]
        # steps are counted in RAM, but where one kernel moves all
        if key != "step" or adam.defaults["fused"]:
            value = value.to(parameter.device)
        adam.state[parameter][key] = value
