"""Products in 8 bits (W8A8): rows of the input are rounded too, and integers are multiplied.

For y = x Wᵀ each row of x (a token) gets 8-bit digits and a scale, as each row of W has
(memory/quantisation.py). `torch._int_mm` sums the products exactly; then both scales apply. The
gradient of x is grad · W, a sum over W's scales. They are multiplied into grad, whose rows are
rounded next. Between products, numbers pass the memory in 16 bits (ROUNDED_BYTES in
memory/planning/duration.py counts how often).

A channel much larger than the others leaves these few digits. Inputs and weights are therefore
rotated (models/sources/rotation.py), which spreads a large channel over its group. Weights are
rotated before they are quantised.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from blockskip.core.presets import old_card_table
from blockskip.memory.planning.model_stats import INT8_PIECE_BYTES
from blockskip.models.sources.rotation import rotated

log = logging.getLogger(__name__)
GROUPS = (256, 64, 16, 4)  # powers of 4: the entries ±1/16, ±1/8, … are exact in every type
_WIDE = 8192  # inputs from here on (of feed-forward's second linear) need the largest group
# Largest relative error of a product against its unpacked weight. The weight's own rounding adds
# 0.8 %, so that the whole stays within 2 %.
MAX_ERROR = 0.018
_FEWEST_ROWS, _MULTIPLE = 17, 8  # of torch._int_mm on CUDA (aten/src/ATen/native/cuda/Blas.cpp)


@cache
def available(device: torch.device) -> bool:
    """Return whether this device multiplies 8-bit integers. A product is tried: not every build of
    torch has it on every card."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if torch.version.hip or major + minor / 10 < old_card_table()["int8_from"]:
            return False
    try:
        ones = torch.ones(32, 64, dtype=torch.int8, device=device)
        return bool((torch._int_mm(ones, ones.t()) == 64).all())
    except (RuntimeError, AttributeError) as error:
        log.warning("products in 8 bits do not work on %s: %s", device, error)
        return False


def unavailable_warning(device: torch.device) -> str:
    """Return a warning if products in 8 bits were planned and do not work here, or ""."""
    if available(device):
        return ""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "This device"
    return (
        f"{name} does not multiply in 8 bits with this build of torch: products are "
        "computed in 16 bits, and training takes longer than planned."
    )


def allowed(rows: int, width: int, out_width: int) -> bool:
    """Return whether a product of this shape can, and with enough rows to be worth it."""
    return rows >= _FEWEST_ROWS and width % _MULTIPLE == 0 and out_width % _MULTIPLE == 0


def rotation_group(width: int) -> int:
    """Return how many neighbouring channels of `width` are rotated together; 1: none are."""
    groups = GROUPS if width >= _WIDE else GROUPS[1:]
    return next((group for group in groups if width % group == 0), 1)


def _rounded_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return 8-bit digits of x (R, C) and the scale of each row, (R, 1) float32."""
    largest = torch.linalg.vector_norm(x, math.inf, dim=1, keepdim=True).float()
    # float16 is exact to 1/16 here and halves what the memory moves; stored by rows, as cuBLASLt
    # needs the first matrix
    digits = x.new_empty(x.shape, dtype=torch.float16)
    torch.mul(x, 127 / largest.clamp(min=1e-30), out=digits)
    return digits.round_().to(torch.int8), largest / 127


def _unit_and_shares(largest: Tensor) -> tuple[Tensor, Tensor]:
    """Split the scales of a weight's rows, `largest` / 127, into their largest and the shares of it:
    what is multiplied by shares stays within the range of 16 bits, and few of their digits are lost."""
    unit = (largest.amax() / 127).clamp(min=1e-30)
    return unit, largest / 127 / unit


def _integer_product(digits: Tensor, other: Tensor) -> Tensor:
    """Return digits (R, C) times other (C, N), both int8, summed in int32."""
    if digits.device.type == "cpu":  # as exact, and ten times as fast as torch's own there
        return (digits.double() @ other.double()).int()
    rows = len(digits)
    if rows >= _FEWEST_ROWS:
        return torch._int_mm(digits, other)
    return torch._int_mm(torch.nn.functional.pad(digits, (0, 0, 0, 32 - rows)), other)[:rows]


def _pieces(x: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split both into equal pieces, of which what is computed takes at most INT8_PIECE_BYTES where
    one side is four times as wide as the other, as in feed-forward."""
    most = max(256, INT8_PIECE_BYTES // (6 * max(x.shape[1], out.shape[1])))
    rows = math.ceil(len(x) / max(1, math.ceil(len(x) / most)))
    yield from zip(x.split(rows), out.split(rows), strict=True)


def int8_product(
    x: Tensor, weight: Tensor, largest: Tensor, bias: Tensor | None, group: int
) -> Tensor:
    """Return the product x Wᵀ + b in 8 bits; so is the gradient of x.

    x: (…, K). weight: int8 (N, K) of the rotated W. largest: float32 (N,), of each row of it.
    """
    compiling = torch.compiler.is_compiling()
    product: Callable = _whole_product if compiling else _Product.apply
    return product(x, weight, largest, bias, group)


def _forward(x: Tensor, weight: Tensor, largest: Tensor, bias: Tensor | None, group: int) -> Tensor:
    tokens, out = x.flatten(0, -2), x.new_empty(x[..., 0].numel(), len(weight))
    unit, shares = _unit_and_shares(largest)
    for piece, target in _pieces(tokens, out):
        digits, row_scale = _rounded_rows(rotated(piece, group))
        torch.mul(_integer_product(digits, weight.t()), row_scale * unit, out=target)
        target.mul_(shares)
    if bias is not None:
        out += bias
    return out.unflatten(0, x.shape[:-1])


def _backward(grad: Tensor, weight: Tensor, largest: Tensor, group: int) -> Tensor:
    tokens = grad.flatten(0, -2)
    # cuBLASLt multiplies a second matrix that is stored by columns
    columns = weight.t().contiguous().t()
    out = tokens.new_empty(len(tokens), weight.shape[1])
    unit, shares = _unit_and_shares(largest)
    for piece, target in _pieces(tokens, out):
        digits, row_scale = _rounded_rows(torch.mul(piece, shares, out=torch.empty_like(piece)))
        torch.mul(_integer_product(digits, columns), row_scale * unit, out=target)
        target.copy_(rotated(target, group))
    return out.unflatten(0, grad.shape[:-1])


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, weight, largest, _, ctx.group = inputs
    ctx.save_for_backward(weight, largest)


class _Product(torch.autograd.Function):
    forward, setup_context = staticmethod(_forward), staticmethod(_save)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # accessed once: checkpointing frees them afterwards
        weight, largest = ctx.saved_tensors
        return _backward(grad, weight, largest, ctx.group), None, None, None, None


# A compiled block (memory/compiled_blocks.py) holds the product whole, as an operator: traced, its
# pieces would tie a graph to one number of tokens, and what it computes on the way could be kept.
_whole_product = torch.library.custom_op("blockskip::int8_product", _forward, mutates_args=())
_whole_backward = torch.library.custom_op("blockskip::int8_backward", _backward, mutates_args=())


@_whole_product.register_fake
def _(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@_whole_backward.register_fake
def _(grad: Tensor, weight: Tensor, *_: object) -> Tensor:
    return grad.new_empty(*grad.shape[:-1], weight.shape[1])


_whole_product.register_autograd(
    lambda ctx, grad: (_whole_backward(grad, *ctx.saved_tensors, ctx.group), *[None] * 4),
    setup_context=_save,
)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference, as a share of the norm of `expected`."""
    off, whole = (actual - expected).detach().float().norm(), expected.detach().float().norm()
    return float(off / whole) if whole > 0 else 0.0
