"""Shapes of latents, from VAEs without memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from blockskip.core.presets import model_row
from blockskip.lab.full_size.meta_models import build_vae, family_of


class VaePipe:
    """A stand-in for the pipeline in encode_images."""

    def __init__(self, vae: nn.Module) -> None:
        self.vae = vae


@cache
def latent_shapes(model: str, side_px: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a picture's latent shapes, the family's and the VAE's. Not to be called for the first
    time during a measurement."""
    row, latents = model_row(model), []
    vae = build_vae(row, tiled=False)

    def encode(pixels: Tensor, original: Callable = vae.encode) -> object:
        encoded = original(pixels)
        latents.append(encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode())
        return encoded

    vae.encode = encode
    pixels = torch.empty(1, 3, side_px, side_px, dtype=torch.float32)
    packed = family_of(row).encode_images(VaePipe(vae), pixels)
    return tuple(packed.shape[1:]), tuple(latents[0].shape[1:])
