"""Capture a training's first gradients, to compare them with another's."""

from __future__ import annotations

import torch
from torch import Tensor

from blockskip.training.lora import restore
from blockskip.training.trainer import Trainer


def first_gradients(trainer: Trainer, scale: float, seed: int) -> dict[str, Tensor]:
    """Initialise the LoRA to random values, so that A receives gradients too. Returns a dict that
    the first step fills with gradients, in float32 on the CPU."""
    source = torch.Generator().manual_seed(seed)
    start = {n: scale * torch.randn(p.shape, generator=source) for n, p in trainer.lora.items()}
    restore(trainer.lora, start)
    gradients: dict[str, Tensor] = {}
    step = trainer.optimizer.step

    def first() -> None:
        if not gradients:
            gradients.update({n: p.grad.detach().float().cpu() for n, p in trainer.lora.items()})
        step()

    trainer.optimizer.step = first
    return gradients
