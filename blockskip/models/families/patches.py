"""Neighbouring tokens as one, and back: what larger patches are made of (sampling/dynamic_patches.py).

T image tokens of a square picture, C numbers a token, in the library's order of cells: a token's
channels, then the places inside its patch.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


def to_grid(latents: Tensor) -> Tensor:
    """Tokens (B, T, C) → (B, C, h, w); what has four axes stays as it is."""
    if latents.dim() == 4:
        return latents
    return latents.mT.unflatten(2, (math.isqrt(latents.shape[1]), -1))


def to_vae_cells(latents: Tensor, patch: int) -> Tensor:
    """Latents as a transformer takes them → (B, C, h, w), every place a cell of the VAE. patch:
    cells to a side of a packed token."""
    return latents if latents.dim() == 4 else pixel_shuffle(to_grid(latents), patch)


def merge(latents: Tensor, factor: int) -> Tensor:
    """factor x factor neighbouring tokens as one: (B, T, C) → (B, T / factor², C · factor²), or
    (B, C, h, w) → (B, C · factor², h / factor, w / factor)."""
    merged = pixel_unshuffle(to_grid(latents), factor)
    return merged if latents.dim() == 4 else merged.flatten(2).mT


def split(latents: Tensor, factor: int) -> Tensor:
    """The reverse of `merge`."""
    apart = pixel_shuffle(to_grid(latents), factor)
    return apart if latents.dim() == 4 else apart.flatten(2).mT


def mean_positions(places: Tensor, factor: int) -> Tensor:
    """Positions (T, n), or (B, T, n), of tokens → those of merged ones, the means of theirs: rotary
    embeddings take fractions."""
    whole = places if places.dim() == 3 else places[None]
    mean = merge(whole.float(), factor).unflatten(2, (whole.shape[2], factor**2)).mean(3)
    return mean if places.dim() == 3 else mean[0]
