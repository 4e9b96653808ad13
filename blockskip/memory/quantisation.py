"""Frozen weights in 8 or 4 bits: quantised once, cached on disk, identical in every stage.

int8 has one scale a row, in plain torch with the digits of bitsandbytes. NF4 is bitsandbytes': blocks
of 64 with quantised scales (QLoRA, arXiv 2305.14314); where that is missing, on a Mac, there is no
NF4. The layer is our own. bitsandbytes' layers use different
code paths in training, in sampling and on the CPU, so the residuals would belong to slightly
different weights than the middle's (docs/method.md §1.4b). All linears of all blocks are quantised.
Norms, biases, embedders and the head are not. int8 weights are rotated if products are in 8 bits
(memory/int8_products.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from blockskip.memory.int8_products import int8_product, rotation_group
from blockskip.models.sources.rotation import rotated

NF4_BLOCK = 64  # weights that share a scale
NF4_SCALES = 256  # scales that share a second-level scale
_CHUNK_WEIGHTS = 4 << 20  # weights quantised at a time, since bitsandbytes copies them to float


@lru_cache
def _scale_code(device: torch.device) -> Tensor:
    from bitsandbytes.functional import create_dynamic_map

    return create_dynamic_map().to(device)


def part_shapes(shape: Sequence[int], precision: str) -> dict[str, tuple[torch.dtype, tuple]]:
    """Return name → (dtype, shape) of the tensors that encode a weight (out, in).

    precision: nf4 | int8.
    """
    rows, columns = shape
    if precision == "int8":
        return {"weight": (torch.int8, (rows, columns)), "scale": (torch.float32, (rows,))}
    blocks = -(-rows * columns // NF4_BLOCK)
    return {
        "weight": (torch.uint8, (-(-rows * columns // 2), 1)),
        "scale": (torch.uint8, (blocks,)),
        "scale_scale": (torch.float32, (-(-blocks // NF4_SCALES),)),
        "scale_mean": (torch.float32, (1,)),
    }


def quantise(weight: Tensor, precision: str, rotation: int = 1) -> dict[str, Tensor]:
    """Return the tensors of `part_shapes` for a weight (out, in), on the weight's device.

    rotation: int8 only, the `rotation_group` of its inputs.
    """
    if precision == "int8":
        parts = [_int8(_rotated(rows, rotation)) for rows in weight.split(_num_rows(weight))]
        return {
            "weight": torch.cat([part[0] for part in parts]),
            "scale": torch.cat([part[1] for part in parts]),
        }
    import bitsandbytes.functional as bnb

    flat = weight.reshape(-1)
    packed, scales = [], []
    # chunks are multiples of NF4_BLOCK, so the result is that of the whole weight
    for chunk in flat.split(_CHUNK_WEIGHTS):
        part, state = bnb.quantize_4bit(
            chunk.contiguous(), blocksize=NF4_BLOCK, quant_type="nf4", compress_statistics=False
        )
        packed.append(part.reshape(-1, 1))
        scales.append(state.absmax)
    scale = torch.cat(scales)
    mean = scale.mean()
    small, state = bnb.quantize_blockwise(
        scale - mean, code=_scale_code(scale.device), blocksize=NF4_SCALES
    )
    return {
        "weight": torch.cat(packed),
        "scale": small,
        "scale_scale": state.absmax,
        "scale_mean": mean.reshape(1),
    }


def _int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (R, C) in 8 bits and the largest absolute value of each, (R,) float32."""
    largest = rows.abs().amax(dim=1).float()
    return torch.round(rows * (127.0 / largest.unsqueeze(-1))).to(torch.int8), largest


def _rotated(rows: Tensor, rotation: int) -> Tensor:
    return rows if rotation == 1 else rotated(rows.float(), rotation)


def _num_rows(weight: Tensor) -> int:
    return max(1, _CHUNK_WEIGHTS // weight.shape[1])


def dequantise(
    parts: dict[str, Tensor],
    shape: Sequence[int],
    precision: str,
    dtype: torch.dtype,
    rotation: int = 1,
) -> Tensor:
    """Return the weight (out, in) that the parts encode, in `dtype`. rotation: as in `quantise`."""
    weight, scale = parts["weight"], parts["scale"]
    if precision == "int8":
        # the same values as bitsandbytes (in 16 bits), without its two float32 copies: a GPU
        # multiplies and rounds in one kernel; the CPU copies too, so it takes a few rows at a time,
        # as rotating does
        out = torch.empty(weight.shape, dtype=dtype, device=weight.device)
        some = weight.device.type == "cpu" or rotation > 1
        num = _num_rows(weight) if some else len(weight)
        pieces = weight.split(num), (scale / 127)[:, None].split(num), out.split(num)
        for rows, factors, target in zip(*pieces, strict=True):
            torch.mul(rows, factors, out=target)
            if rotation > 1:
                target.copy_(rotated(target, rotation))
        return out
    import bitsandbytes.functional as bnb

    code = _scale_code(weight.device)
    absmax = bnb.dequantize_blockwise(
        scale, absmax=parts["scale_scale"], code=code, blocksize=NF4_SCALES
    )
    state = bnb.QuantState(
        absmax=(absmax + parts["scale_mean"]).float(),
        shape=torch.Size(shape),
        dtype=dtype,
        blocksize=NF4_BLOCK,
        quant_type="nf4",
    )
    return bnb.dequantize_4bit(weight, state).reshape(tuple(shape))


def _forward(
    x: Tensor,
    bias: Tensor | None,
    shape: Sequence[int],
    precision: str,
    rotation: int,
    parts: Sequence[Tensor],
) -> Tensor:
    return nn.functional.linear(x, _unpacked(parts, shape, precision, x.dtype, rotation), bias)


def _backward(
    grad: Tensor, shape: Sequence[int], precision: str, rotation: int, parts: Sequence[Tensor]
) -> Tensor:
    return grad @ _unpacked(parts, shape, precision, grad.dtype, rotation)


_Layer = tuple[tuple[int, int], str, int]  # shape, precision, rotation


class _QuantisedMatmul(torch.autograd.Function):
    """The product x Wᵀ + b; W is unpacked again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: _Layer, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts)
        ctx.layer = layer
        return _forward(x, bias, *layer, parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts = ctx.saved_tensors  # accessed once: checkpointing frees them afterwards
        layer: _Layer = ctx.layer
        return _backward(grad, *layer, parts), None, None, *(None for _ in parts)


# as in int8_products.py: a compiled block never keeps an unpacked weight
_whole_product = torch.library.custom_op("blockskip::unpacked", _forward, mutates_args=())
_whole_backward = torch.library.custom_op(
    "blockskip::unpacked_backward", _backward, mutates_args=()
)


@_whole_product.register_fake
def _(x: Tensor, bias: object, shape: Sequence[int], *_: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], shape[0])


@_whole_backward.register_fake
def _(grad: Tensor, shape: Sequence[int], *_: object) -> Tensor:
    return grad.new_empty(*grad.shape[:-1], shape[1])


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, _, *ctx.layer, parts = inputs
    ctx.save_for_backward(*parts)


def _whole_gradients(ctx: Any, grad: Tensor) -> tuple:
    parts = ctx.saved_tensors
    inputs = _whole_backward(grad, *ctx.layer, list(parts))
    return inputs, None, None, None, None, [None for _ in parts]


_whole_product.register_autograd(_whole_gradients, setup_context=_save)


def _unpacked(
    parts: Sequence[Tensor], shape: Sequence[int], precision: str, dtype: torch.dtype, rotation: int
) -> Tensor:
    named = dict(zip(part_shapes(shape, precision), parts, strict=True))
    return dequantise(named, shape, precision, dtype, rotation)


class QuantisedLinear(nn.Linear):
    """A frozen linear with a quantised weight, created on the meta device and filled by placement.

    x: (…, in_features) in any float dtype; the product is computed in x's dtype, or in 8 bits if
    `in_int8` is set (sampling/arithmetic.py). A subclass of nn.Linear, so that peft attaches LoRA
    to it as usual.
    """

    scale: nn.Parameter

    def __init__(self, linear: nn.Linear, precision: str, rotates: bool = False) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.precision, self.in_int8 = precision, False
        self.rotation = rotation_group(linear.in_features) if rotates else 1
        for name, (dtype, shape) in part_shapes(self._shape, precision).items():
            part = torch.empty(shape, dtype=dtype, device="meta")
            self.register_parameter(name, nn.Parameter(part, requires_grad=False))
        self.register_parameter("bias", linear.bias)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def int8_product(self, x: Tensor) -> Tensor:
        """Return the layer's output, computed in 8 bits."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return int8_product(x, self.weight, self.scale, bias, self.rotation)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_int8:
            return self.int8_product(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        parts = [getattr(self, name) for name in part_shapes(self._shape, self.precision)]
        layer = self._shape, self.precision, self.rotation
        if torch.compiler.is_compiling():
            return _whole_product(x, bias, *layer, parts)
        return _QuantisedMatmul.apply(x, bias, layer, *parts)


def int8_linears(model: nn.Module) -> list[str]:
    """Return the names of the linears that multiply in 8 bits, with or without a LoRA, sorted."""
    return sorted(
        name.removesuffix(".base_layer")
        for name, layer in model.named_modules()
        if isinstance(layer, QuantisedLinear) and layer.in_int8
    )


def block_linears(blocks: Sequence[tuple[str, nn.Module]]) -> dict[str, nn.Linear]:
    """Return every linear of the blocks by its full name."""
    return {
        f"{name}.{inner}": layer
        for name, block in blocks
        for inner, layer in block.named_modules()
        if isinstance(layer, nn.Linear)
    }
