"""AdamW over the LoRA: its rate by step, and its state as tensors for checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from blockskip.config import Settings


def learning_rate(settings: Settings, step: int) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine down to a tenth (ours)."""
    warm = max(1, settings.steps // 20)
    if step < warm:
        return settings.lr * (step + 1) / warm
    share = (step - warm) / max(1, settings.steps - warm)
    return settings.lr * (0.55 + 0.45 * math.cos(math.pi * share))


def make(
    lora: dict[str, nn.Parameter], lr: float, eight_bit: bool = False
) -> torch.optim.Optimizer:
    """AdamW over a LoRA: two fp32 numbers a parameter, and the gradient.

    eight_bit: the two are 8-bit ones (bitsandbytes), a quarter of the memory: less than is planned.
    """
    options = {"lr": lr, "betas": (0.9, 0.99), "weight_decay": 0.0}
    if not eight_bit:
        return torch.optim.AdamW(lora.values(), **options)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(lora.values(), **options)


def snapshot(of: torch.optim.Optimizer, lora: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Everything the optimiser remembers, as `<what>.<name in the LoRA>` → a copy.

    A copy: 8-bit states share their code book, and files hold no shared tensors.
    """
    return {
        f"{key}.{name}": torch.as_tensor(value).clone()
        for name, parameter in lora.items()
        for key, value in of.state.get(parameter, {}).items()
    }


def restore(
    of: torch.optim.Optimizer, lora: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Take over a snapshot; each tensor comes to its parameter's device."""
    for entry, value in state.items():
        key, name = entry.split(".", 1)
        parameter = lora[name]
        if key != "step":
            value = value.to(parameter.device)
        elif not value.is_floating_point():
            value = int(value)  # bitsandbytes counts steps in a plain number
        of.state[parameter][key] = value


def is_eight_bit(state: Mapping[str, Tensor]) -> bool:
    """Whether a snapshot is bitsandbytes', whose names differ from torch's."""
    return any(entry.startswith("state1.") for entry in state)
