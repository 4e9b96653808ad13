"""Merge neighbouring tokens into larger patches and back, for sampling/dynamic_patches.py.

Shapes: T image tokens of a square picture, C values per token in diffusers' order: the channels,
then the cells inside the patch.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


def to_grid(latents: Tensor) -> Tensor:
    """Reshape tokens (B, T, C) to (B, C, h, w). Return a tensor of four axes unchanged."""
    if latents.dim() == 4:
        return latents
    return latents.mT.unflatten(2, (math.isqrt(latents.shape[1]), -1))


def to_vae_cells(latents: Tensor, patch: int) -> Tensor:
    """Reshape a transformer's latents to (B, C, h, w) in VAE cells. patch: side of a packed token,
    cells."""
    return latents if latents.dim() == 4 else pixel_shuffle(to_grid(latents), patch)


def merge(latents: Tensor, factor: int) -> Tensor:
    """Merge factor x factor neighbouring tokens into one: (B, T, C) → (B, T / factor²,
    C · factor²), or (B, C, h, w) → (B, C · factor², h / factor, w / factor)."""
    merged = pixel_unshuffle(to_grid(latents), factor)
    return merged if latents.dim() == 4 else merged.flatten(2).mT


def split(latents: Tensor, factor: int) -> Tensor:
    """Undo `merge`."""
    grid = pixel_shuffle(to_grid(latents), factor)
    return grid if latents.dim() == 4 else grid.flatten(2).mT


def mean_positions(positions: Tensor, factor: int) -> Tensor:
    """Return the positions of merged tokens, the means of positions (T, n) or (B, T, n). They are
    fractions, which rotary embeddings accept."""
    batched = positions if positions.dim() == 3 else positions[None]
    mean = merge(batched.float(), factor).unflatten(2, (batched.shape[2], factor**2)).mean(3)
    return mean if positions.dim() == 3 else mean[0]
