"""Flow matching, the only place that knows it: noising, target, loss, timestep sampling (docs/method.md
§1.6).

t in [0, 1], 1 = pure noise:  x_t = (1 - t) x_0 + t ε,  velocity v = ε - x_0.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def generator(seed: int, *what: str | int) -> torch.Generator:
    """The random source of one thing in a run: same seed and names, same numbers, everywhere."""
    digest = hashlib.blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def sample_t(sampler: str, rng: torch.Generator) -> float:
    """One timestep. sampler: logit_normal(0, 1) | uniform | shifted_sigmoid (shift 3, towards
    noise)."""
    if sampler == "uniform":
        return torch.rand((), generator=rng, dtype=torch.float64).item()
    t = 1 / (1 + math.exp(-torch.randn((), generator=rng, dtype=torch.float64).item()))
    return t if sampler == "logit_normal" else 3 * t / (1 + 2 * t)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """ε of one draw, float32, made on the CPU so that every device trains on the same noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def add_noise(latent: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t from x_0 and ε, latents of B draws as the family has them, (B, T, C) or (B, C, h, w), and
    t (B,)."""
    t = t.view(-1, *[1] * (latent.ndim - 1)).to(latent.dtype)
    return (1 - t) * latent + t * noise


def velocity(latent: Tensor, noise: Tensor) -> Tensor:
    """The training target v = ε - x_0, of the latents' shape."""
    return noise - latent


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error on v in float32, a scalar."""
    return torch.nn.functional.mse_loss(prediction.float(), target.float())
