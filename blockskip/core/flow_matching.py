"""Flow matching: noising, target, loss and timestep sampling (docs/method.md §1.6).

No other module repeats these formulas.

t in [0, 1], 1 = pure noise:  x_t = (1 - t) x_0 + t ε,  velocity v = ε - x_0.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return the random generator for one purpose in a run.

    The same seed and names give the same numbers on every machine.
    """
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def sample_t(sampler: str, rng: torch.Generator, shift: float = 1.0) -> float:
    """Sample one timestep. sampler: logit_normal(0, 1) | uniform | shifted_sigmoid (logit_normal
    with a shift of 3 instead of `shift`)."""
    if sampler == "uniform":
        return shift_t(torch.rand((), generator=rng, dtype=torch.float64).item(), shift)
    t = 1 / (1 + math.exp(-torch.randn((), generator=rng, dtype=torch.float64).item()))
    return shift_t(t, shift if sampler == "logit_normal" else 3.0)


def shift_t(t: float, shift: float) -> float:
    """Shift a timestep towards noise, as samplers do: the odds t / (1 - t) grow by `shift`."""
    return shift * t / (1 + (shift - 1) * t)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Sample ε of one draw in float32, on the CPU so that every device trains on the same noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def add_noise(latent: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Compute x_t from x_0, ε and t (B,). Latents are (B, T, C) or (B, C, h, w), by family."""
    t = t.view(-1, *[1] * (latent.ndim - 1)).to(latent.dtype)
    return (1 - t) * latent + t * noise


def velocity(latent: Tensor, noise: Tensor) -> Tensor:
    """Compute the training target v = ε - x_0, in the latents' shape."""
    return noise - latent


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the mean squared error on v in float32, a scalar."""
    return torch.nn.functional.mse_loss(prediction.float(), target.float())
