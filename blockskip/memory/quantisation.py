"""Frozen weights in 8 or 4 bits: quantised once, cached on disk, identical in every stage.

int8 has one scale a row, in plain torch with the digits of bitsandbytes. NF4 is bitsandbytes': blocks
of 64 with quantised scales (QLoRA, arXiv 2305.14314); where that is missing, on a Mac, there is no
NF4. The layer is our own. bitsandbytes' layers use different
code paths in training, in sampling and on the CPU, so the residuals would belong to slightly
different weights than the middle's (docs/method.md §1.4b). All linears of all blocks are quantised.
Norms, biases, embedders and the head are not. int8 weights are rotated if products are in 8 bits
(memory/int8_products.py).

The whole model is never in memory: tensors are read and quantised one at a time, and the cache has
one file a block. Linears whose digits the model's files hold already are read from there, without a
second rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blockskip.core import files, safetensors_files
from blockskip.core.errors import BadFile
from blockskip.core.paths import QUANTISED_CACHE
from blockskip.memory.int8_products import GROUPS, int8_product, rotation_group
from blockskip.models.sources.rotation import rotated
from blockskip.models.sources.tensor_reader import Reader, StoredTensor, TensorIndex

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


def quantise_blocks(
    model: nn.Module,
    blocks: Sequence[tuple[str, nn.Module]],
    index: TensorIndex,
    precision: str,
    folder: Path,
    fingerprint: str,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
    rotates: bool = False,
) -> dict[str, StoredTensor]:
    """Replace the linears of an empty model's blocks by quantised ones; return the new index.

    folder: the cache of this model at this precision, a file a block unless the model's files have
    all of its digits. rotates: int8 weights, for products in 8 bits. device: where NF4 is
    quantised. progress(n, total): blocks. Raises UserError if the disk is full or a cached file
    has another fingerprint.
    """
    kind = GROUPS if rotates else (NF4_BLOCK, NF4_SCALES)
    stamp = {"fingerprint": files.fingerprint(fingerprint, precision, *kind)}
    linears = {
        name: QuantisedLinear(layer, precision, rotates)
        for name, layer in block_linears(blocks).items()
    }
    taken = _digits_in_files(index, linears)
    reader, quantised_index = Reader(), {**index, **taken}
    for n, (name, block) in enumerate(blocks):
        path = folder / f"{name}.safetensors"
        own = {f"{full}.weight" for full in block_linears([(name, block)])} - taken.keys()
        if own and not path.exists():
            rotations = {key: linears[key.removesuffix(".weight")].rotation for key in own}
            parts = _block_parts(reader, name, block, quantised_index, precision, rotations, device)
            safetensors_files.save_tensors(path, parts, stamp)
        elif (
            own and safetensors_files.read_metadata(path).get("fingerprint") != stamp["fingerprint"]
        ):
            raise BadFile(
                f"{path.name} in {folder} was made from another model's weights.",
                f"Delete the folder {folder}; it is made again.",
            )
        if own:
            quantised_index |= {key: StoredTensor(path, key) for key in reader.header(path)}
        progress(n + 1, len(blocks))
    for name, layer in linears.items():
        model.set_submodule(name, layer)
    return quantised_index


def _digits_in_files(
    index: TensorIndex, linears: dict[str, QuantisedLinear]
) -> dict[str, StoredTensor]:
    """Return where the parts of those linears are that files hold in 8 bits. Such a layer gets the
    rotation that its file has, which must be one if products in 8 bits are to be exact enough."""
    found: dict[str, StoredTensor] = {}
    for name, layer in linears.items():
        matrix = index[f"{name}.weight"].int8
        if matrix is None or layer.precision != "int8":
            continue
        if matrix.rotation > 1 or layer.rotation == 1:
            layer.rotation = matrix.rotation
            found[f"{name}.weight"] = matrix.digits
            found[f"{name}.scale"] = _largest_of(matrix.factors)
    return found


def _largest_of(factors: StoredTensor) -> StoredTensor:
    """Return the largest absolute values of rows, of which 8-bit digits are 127ths. factors: what a
    file's digits are multiplied by."""

    def fill(reader: Reader, _: StoredTensor, out: Tensor) -> None:
        reader.read(factors, out)
        wanted, largest = out.clone(), out * 127
        for towards in (math.inf, -math.inf):  # the neighbour may give the factor to the last digit
            other = largest.nextafter(torch.full_like(largest, towards))
            closer = (other / 127 == wanted) & (largest / 127 != wanted)
            largest = torch.where(closer, other, largest)
        out.copy_(largest)

    return StoredTensor(factors.path, factors.key, fill=fill)


def _block_parts(
    reader: Reader,
    name: str,
    block: nn.Module,
    index: TensorIndex,
    precision: str,
    rotations: dict[str, int],
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the tensors of a block's cache file, read and quantised one at a time. rotations: the
    weights to quantise, and how; other linears' are left out."""
    linears = {f"{full}.weight" for full in block_linears([(name, block)])}
    tensors: dict[str, Tensor] = {}
    for key, parameter in block.named_parameters():
        full = f"{name}.{key}"
        if full in linears and full not in rotations:
            continue
        tensor = torch.empty(parameter.shape, dtype=parameter.dtype)
        reader.read(index[full], tensor)
        if full not in rotations:
            tensors[full] = tensor
            continue
        on = device if precision == "nf4" else tensor.device
        parts = quantise(tensor.to(on), precision, rotations[full])
        stem = full.removesuffix("weight")
        tensors |= {f"{stem}{part}": value.cpu() for part, value in parts.items()}
    return tensors


def cache_folder(data_dir: Path, fingerprint: str, precision: str) -> Path:
    """Return the cache folder of a model: <data>/cache/quantised/<fingerprint>-<precision>."""
    return data_dir / QUANTISED_CACHE / f"{fingerprint}-{precision}"
