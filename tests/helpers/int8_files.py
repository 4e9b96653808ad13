"""Store weights in int8 as ComfyUI's converters do, and state exactly what such files mean.

The format is that of comfy-kitchen's TensorWiseINT8Layout and ComfyUI's comfy/ops.py.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor


def hadamard(size: int) -> Tensor:
    """Return the regular Hadamard matrix of a power of 4, ±1, int64: an entry is negative if an odd
    number of base-4 digits of its row and column add up to 3."""
    row, column = torch.arange(size)[:, None], torch.arange(size)[None, :]
    signs = torch.ones(size, size, dtype=torch.int64)
    while size > 1:
        signs *= 1 - 2 * (row % 4 + column % 4 == 3)
        row, column, size = row // 4, column // 4, size // 4
    return signs


def rotated(matrix: Tensor, group: int) -> Tensor:
    """Return integers or floats (R, C) times H in groups of columns, without its 1/√group."""
    if group == 1:
        return matrix
    turn = hadamard(group).to(matrix.dtype)
    return torch.cat([part @ turn for part in matrix.split(group, dim=1)], dim=1)


def rounded(weight: Tensor, group: int = 1, unit: str = "row") -> tuple[Tensor, Tensor]:
    """Return (digits, scale) of a matrix. unit: what has a scale: tensor | row | block."""
    turned = (rotated(weight.double(), group) / group**0.5).float()
    if unit == "tensor":
        scale = spread = turned.abs().max() / 127
    elif unit == "row":
        scale = spread = turned.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    else:
        sizes = [-(-size // 128) for size in weight.shape]
        scale = torch.linspace(0.5, 1, sizes[0] * sizes[1]).reshape(sizes) * turned.abs().max() / 63
        spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
        spread = spread[: weight.shape[0], : weight.shape[1]]
    return (turned / spread).round().clamp(-128, 127).to(torch.int8), scale


def meant(digits: Tensor, scale: Tensor, group: int = 1) -> Tensor:
    """Return the weight in float32: integers are summed exactly, and the product is rounded once."""
    sums = rotated(digits.long(), group).double() / group**0.5
    spread = scale.double()
    if scale.ndim == 2 and scale.shape[1] > 1 or scale.ndim == 2 and len(scale) != len(digits):
        spread = spread.repeat_interleave(128, 0).repeat_interleave(128, 1)
        spread = spread[: digits.shape[0], : digits.shape[1]]
    elif scale.numel() > 1:
        spread = spread.reshape(-1, 1)
    return (sums * spread).float()


def described(**told: object) -> Tensor:
    """Return the tensor `comfy_quant` of a layer."""
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


def largest_group(width: int, most: int = 256) -> int:
    """Return the largest power of 4 that divides the width, at most `most`."""
    group = 1
    while group < most and width % (group * 4) == 0:
        group *= 4
    return group


def to_int8(state: dict[str, Tensor], convrot: bool = True) -> dict[str, Tensor]:
    """Return the state with matrices in int8 rows, their scales and descriptions."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim != 2 or not name.endswith(".weight"):
            out[name] = tensor
            continue
        base, group = name.removesuffix(".weight"), largest_group(tensor.shape[1])
        told: dict[str, object] = {"format": "int8_tensorwise"}
        if convrot and group > 1:
            told |= {"convrot": True, "convrot_groupsize": group}
        else:
            group = 1
        out[name], out[f"{base}.weight_scale"] = rounded(tensor, group)
        out[f"{base}.comfy_quant"] = described(**told)
    return out


def from_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the weights of `to_int8` mean, in float32, under the same names."""
    out = {}
    for name, tensor in state.items():
        base = name.removesuffix(".weight")
        if f"{base}.comfy_quant" in state and name.endswith(".weight"):
            told = json.loads(bytes(state[f"{base}.comfy_quant"].tolist()))
            group = told.get("convrot_groupsize", 1)
            out[name] = meant(tensor, state[f"{base}.weight_scale"], group)
        elif not name.endswith(("weight_scale", "comfy_quant")):
            out[name] = tensor
    return out
