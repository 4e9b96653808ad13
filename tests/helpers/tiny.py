"""Tiny random models and draws for tests, of deliberately uneven sizes, on the CPU,
deterministic."""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel

from blockskip.models.families.base import Text
from blockskip.training.residuals import WindowInputs


def tiny_flux(
    double: int = 2, single: int = 4, heads: int = 3, guidance: bool = False, seed: int = 0
) -> FluxTransformer2DModel:
    """Return a random frozen FLUX with an odd number of heads."""
    torch.manual_seed(seed)
    model = FluxTransformer2DModel(
        in_channels=12,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=20,
        pooled_projection_dim=10,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=guidance,
    )
    return model.requires_grad_(False).eval()


def tiny_draws(num: int = 5, cells: int = 3, text: int = 7, seed: int = 1) -> WindowInputs:
    """Return draws with x_t (num, cells², 12), text (num, text, 20) and (num, 10), t (num,)."""
    torch.manual_seed(seed)
    return WindowInputs(
        torch.randn(num, cells * cells, 12),
        Text(torch.randn(num, text, 20), torch.randn(num, 10)),
        torch.rand(num),
        cells * 16,
    )


def randomise(lora: dict[str, torch.nn.Parameter], scale: float = 0.3, seed: int = 2) -> None:
    """Set a LoRA to random non-zero values."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora.values():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * scale)
