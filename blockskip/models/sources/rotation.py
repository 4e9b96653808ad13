"""The rotation of weights stored in 8 bits (ConvRot, arXiv 2512.03673).

Groups of neighbouring channels are multiplied by the normalised regular Hadamard matrix H of the
group's size, a power of 4: the Kronecker power of one of size 4. H is symmetric and H H = 1, so
that rotating twice changes nothing, and (x H)(W H)ᵀ = x Wᵀ. ComfyUI's int8 files use the same
matrix.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_SMALL_GROUP = 16


def rotated(x: Tensor, group: int) -> Tensor:
    """Return x (…, width) with each group of channels multiplied by H. Twice gives x again."""
    if group == 1:
        return x
    return (x.unflatten(-1, (-1, group)) @ _hadamard(group, x.dtype, x.device)).flatten(-2)


def rotated_digits(digits: Tensor, group: int) -> Tensor:
    """Return int8 digits (…, width), rotated, in float32: exact, in whatever order they are summed.

    H is the Kronecker product of two smaller ones, which takes a quarter of the time.
    """
    small = min(group, _SMALL_GROUP)
    x = digits.float().unflatten(-1, (-1, group // small, small))
    x = x @ _hadamard(small, x.dtype, x.device)
    return (_hadamard(group // small, x.dtype, x.device) @ x).flatten(-3)


@torch.compiler.assume_constant_result  # not computed again in each call of a compiled block
def _hadamard(group: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _new_hadamard(group, dtype, device)


@lru_cache
def _new_hadamard(group: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # the regular one, whose rows have equal sums: the mean of a group stays spread out too
    matrix, base = torch.ones(1, 1), torch.ones(4, 4) - 2 * torch.eye(4).flip(0)
    while len(matrix) < group:
        matrix = torch.kron(matrix, base)
    return (matrix / group**0.5).to(device, dtype)
