"""The quantised weights of a model's blocks: a cache on disk, one file a block.

The whole model is never in memory: tensors are read and quantised one at a time. Linears whose
digits the model's files hold already are read from there, without a second rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from blockskip.core import files, safetensors_files
from blockskip.core.paths import QUANTISED_CACHE
from blockskip.memory.int8_products import GROUPS
from blockskip.memory.quantisation import (
    NF4_BLOCK,
    NF4_SCALES,
    QuantisedLinear,
    block_linears,
    quantise,
)
from blockskip.models.sources.tensor_reader import Reader, StoredTensor, TensorIndex


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

    folder: the cache of this model at this precision, a file a block that needs one. rotates: int8
    weights, for products in 8 bits. device: where NF4 is made. progress(n, total): blocks. Raises
    UserError if the disk is full. Files of another version or other weights are made again.
    """
    kind = GROUPS if rotates else (NF4_BLOCK, NF4_SCALES)
    stamp = files.fingerprint(fingerprint, precision, *kind)
    linears = {
        name: QuantisedLinear(layer, precision, rotates)
        for name, layer in block_linears(blocks).items()
    }
    taken = _digits_in_files(index, linears)
    reader, quantised_index = Reader(), {**index, **taken}
    for n, (name, block) in enumerate(blocks):
        names = [full for full in block_linears([(name, block)]) if f"{full}.weight" not in taken]
        own = {full: linears[full] for full in names}
        path = folder / f"{name}.safetensors"
        if own and not _has_stamp(path, stamp):
            parts = _block_parts(reader, name, block, index, own, taken, device)
            safetensors_files.save_tensors(path, parts, {"fingerprint": stamp})
        if own:
            quantised_index |= {key: StoredTensor(path, key) for key in reader.header(path)}
        progress(n + 1, len(blocks))
    for name, layer in linears.items():
        model.set_submodule(name, layer)
    return quantised_index


def _has_stamp(path: Path, stamp: str) -> bool:
    """Return whether a cache file is what this version makes of these weights."""
    return path.exists() and safetensors_files.read_metadata(path).get("fingerprint") == stamp


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
    linears: dict[str, QuantisedLinear],
    left_out: Collection[str],
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the tensors of a block's cache file, read and quantised one at a time. linears: those
    to quantise. left_out: parameters that are read from elsewhere."""
    tensors: dict[str, Tensor] = {}
    for key, parameter in block.named_parameters():
        full = f"{name}.{key}"
        if full in left_out:
            continue
        tensor = torch.empty(parameter.shape, dtype=parameter.dtype)
        reader.read(index[full], tensor)
        layer = linears.get(full.removesuffix(".weight"))
        if layer is None:
            tensors[full] = tensor
            continue
        on = device if layer.precision == "nf4" else tensor.device
        parts = quantise(tensor.to(on), layer.precision, layer.rotation)
        stem = full.removesuffix("weight")
        tensors |= {f"{stem}{part}": value.cpu() for part, value in parts.items()}
    return tensors


def cache_folder(data_dir: Path, fingerprint: str, precision: str) -> Path:
    """Return the cache folder of a model: <data>/cache/quantised/<fingerprint>-<precision>."""
    return data_dir / QUANTISED_CACHE / f"{fingerprint}-{precision}"
