"""The tensors beside a weight: scales that multiply it, and tensors that describe it.

Programs that store weights in float8 or int8 give a layer's scale one of the names in `SCALES`. All
of them multiply the stored weight: also those called “inverse”, which are the inverse of the factor
that the writer used (DeepSeek's `weight_dequant`, transformers' finegrained_fp8, Transformer
Engine). A scale is one number a tensor, one a row, or one a block of 128 x 128.

ComfyUI describes a layer's format in JSON: in a tensor `comfy_quant`, or in the file's header
(comfy/ops.py and utils.py). Integers mean nothing without it: they may be rotated
(models/sources/rotation.py) before they were rounded.

No tensor beside a weight is ignored unless it is listed here: it may change what the weight means.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, StrictBool, StrictInt
from pydantic.dataclasses import dataclass as pydantic_dataclass

from blockskip.core.errors import BadFile, BadInput, UserError
from blockskip.core.files import read_error
from blockskip.core.validation import validated
from blockskip.models.sources.entry import FLOAT_DTYPES, FP8_DTYPES, INT8_DTYPE, TensorEntry

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from blockskip.models.sources.tensors import Weight

# names of a scale, after the layer's name
SCALES = (
    *(".scale_weight", ".weight_scale", ".weight_scale_inv", ".scale_weight_inv", ".scale_inv"),
    *(".weight.scale", ".weight.scale_inv", ".weight_block_scale", ".weight_scale_block"),
)
# of activations, which are not rounded here, and ComfyUI's description of the format
_UNUSED = (".scale_input", ".input_scale", ".comfy_quant")
_MARK = "scaled_fp8"  # the whole file's
_BLOCK = 128  # side of a block with one scale
# the largest number and the byte of its magnitude
_FP8_MAX = {"F8_E4M3": (448, 0x7E), "F8_E5M2": (57344, 0x7B)}
_DESCRIPTION = ".comfy_quant"  # ComfyUI's, of a layer
_MAX_DESCRIPTION = 4096  # bytes
_SAMPLES = 3  # unscaled float8 matrices of which the numbers are looked at
REMEDY = "Use the bf16, fp16, fp8 or GGUF file of the same model."


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Format:
    """What a description may say of a layer; what changes the weights is used.

    int8_tensorwise has one scale a tensor or a row. group_size, block_size: sides of blocks, which
    the scale's shape tells too. full_precision_matrix_mult, per_row and the original's dtype and
    shape change nothing.
    """

    format: Literal[
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fn_rowwise",
        "float8_e4m3fn_blockwise",
        "int8_tensorwise",
        "int8_blockwise",
    ]
    convrot: StrictBool = False
    convrot_groupsize: StrictInt = 256
    full_precision_matrix_mult: StrictBool = False
    per_row: StrictBool = False
    group_size: Any = None
    block_size: Any = None
    orig_dtype: Any = None
    orig_shape: Any = None


def scale_of(tensors: dict[str, TensorEntry], key: str) -> tuple[TensorEntry | None, int]:
    """Return the scale of the weight `key`, None if it has none, and the group of columns that are
    stored rotated, 1 if none are. Raises UserError for a scale or a format that is not understood.
    """
    entry, base = tensors[key], key.removesuffix(".weight")
    if entry.is_gguf:
        return None, 1
    told = _format_of(tensors, key) if entry.dtype in (*FP8_DTYPES, INT8_DTYPE) else None
    found = [tensors[base + name] for name in SCALES if base + name in tensors]
    is_int8 = entry.dtype == INT8_DTYPE
    if is_int8 and (told is None or not found):
        raise not_understood(entry)
    if not found:
        return None, 1
    scale = found[0]
    one_or_rows = math.prod(scale.shape) == 1 or _is_per_row(scale, entry)
    blocks_allowed = not is_int8 or told is not None and told.format == "int8_blockwise"
    understood = (
        len(found) == 1
        and entry.dtype in (*FLOAT_DTYPES, *FP8_DTYPES, INT8_DTYPE)
        and scale.dtype in FLOAT_DTYPES
        and (one_or_rows or blocks_allowed and _is_blocks(scale, entry))
    )
    if not understood:
        raise not_understood(found[-1])
    return scale, told.convrot_groupsize if told is not None and told.convrot else 1


def scaled(
    tensor: Tensor, scale: Tensor, first: int, shape: tuple[int, ...], rotation: int
) -> Tensor:
    """Return the product in float32. tensor: rows from `first` on of a stored tensor of shape
    `shape`. scale, rotation: as `scale_of` returns them."""
    import torch

    from blockskip.models.sources.rotation import rotated_digits

    scale = scale.float()
    tensor = as_float(tensor) if rotation == 1 else rotated_digits(tensor, rotation)
    if scale.numel() == 1:
        return tensor.mul_(scale.reshape(()))
    end = first + len(tensor)
    if scale.numel() == shape[0] == scale.shape[0]:
        return tensor.mul_(scale.reshape(-1)[first:end].reshape(-1, *[1] * (tensor.ndim - 1)))
    scale = scale[torch.arange(first, end) // _BLOCK]
    return tensor.mul_(scale.repeat_interleave(_BLOCK, dim=1)[:, : shape[1]])


def as_float(tensor: Tensor) -> Tensor:
    """Return float8 in float32, other types too. torch's own conversion of float8 takes several
    times as long on a processor."""
    import torch

    if tensor.element_size() > 1 or not tensor.is_floating_point():
        return tensor.float()
    values = _float8_values(tensor.dtype)
    return torch.from_numpy(values.take(tensor.view(torch.uint8).numpy()))


@cache
def _float8_values(dtype: torch.dtype) -> np.ndarray:
    """Return what each byte means, (256,) float32."""
    import torch

    return torch.arange(256, dtype=torch.uint8).view(dtype).float().numpy()


def is_side_tensor(tensors: dict[str, TensorEntry], key: str) -> bool:
    """Return whether `key` is listed here and stands beside a weight, or marks the whole file."""
    if key.rpartition(".")[2] == _MARK:
        return True
    for name in (*SCALES, *_UNUSED):
        base = key.removesuffix(name)
        if base != key and (f"{base}.weight" in tensors or base in tensors):
            return True
    return False


def check_used(
    tensors: dict[str, TensorEntry], weights: Iterable[Weight], harmless: tuple[str, ...]
) -> None:
    """Raise UserError for a tensor that neither the model nor this module knows.

    tensors: those of a part. weights: the ones that the model uses. harmless: parts of names of
    tensors that the model does not need.
    """
    used = {entry.key for w in weights for entry in (w.entry, w.scale) if entry is not None}
    for key, entry in tensors.items():
        known = entry.key in used or any(word in f".{key}" for word in harmless)
        if not known and (entry.is_gguf or not _describes_used(tensors, key, used)):
            raise not_understood(entry)


def check_contents(weights: Iterable[Weight], tensors: dict[str, TensorEntry]) -> None:
    """Look at what headers do not tell: ComfyUI's description of each layer, and whether float8
    weights without a scale have lost it. Reads some tensors. Raises UserError."""
    for key, entry in tensors.items():
        if entry.told or key.endswith(_DESCRIPTION):
            _read_format(entry)
    plain = {w.entry for w in weights if w.entry.dtype in _FP8_MAX and not w.scale}
    matrices = sorted((e for e in plain if len(e.shape) == 2), key=lambda e: (e.nbytes, e.key))
    sample = [entry for entry in matrices if entry.nbytes >= 64][:_SAMPLES]
    if sample and all(map(_fills_range, sample)):
        raise BadFile(
            f"{sample[0].path.name} lacks the scales of its float8 weights: “{sample[0].key}” "
            f"holds numbers up to {_FP8_MAX[sample[0].dtype][0]}, as only scaled weights do.",
            REMEDY,
        )


def not_understood(entry: TensorEntry) -> UserError:
    """Return the error that names a tensor."""
    return BadFile(
        f"{entry.path.name} is packed in a way that cannot be read here: it is not known what "
        f"“{entry.key}” ({entry.dtype}, {' x '.join(map(str, entry.shape)) or 'one number'}) "
        "means.",
        REMEDY,
    )


def _describes_used(tensors: dict[str, TensorEntry], key: str, used: set[str]) -> bool:
    """Return whether the tensor describes a weight that the model uses, or one it never reads."""
    if not is_side_tensor(tensors, key):
        return False
    return not key.endswith(SCALES) or tensors[key].key in used


def _is_per_row(scale: TensorEntry, weight: TensorEntry) -> bool:
    rows = weight.shape[:1]
    return scale.shape[:1] == rows and math.prod(scale.shape) == math.prod(rows)


def _is_blocks(scale: TensorEntry, weight: TensorEntry) -> bool:
    blocks = tuple(-(-size // _BLOCK) for size in weight.shape)
    return len(weight.shape) == 2 and scale.shape == blocks


def _format_of(tensors: dict[str, TensorEntry], key: str) -> _Format | None:
    """Return the described format of the weight `key`, None without a description. Raises UserError
    if it is unknown, or does not fit the weight."""
    entry = tensors[key]
    description = tensors.get(key.removesuffix(".weight") + _DESCRIPTION, entry)
    if description is entry and not entry.told:
        return None
    told = _read_format(description)
    columns = math.prod(entry.shape[1:])
    fits = told.format.startswith("int8") == (entry.dtype == INT8_DTYPE)
    if told.convrot:
        rotatable = told.format == "int8_tensorwise" and len(entry.shape) == 2
        fits = fits and rotatable and _is_group(told.convrot_groupsize, columns)
    if not fits:
        raise not_understood(description)
    return told


def _is_group(size: int, width: int) -> bool:
    """Return whether `width` channels can be rotated in groups of `size`."""
    power_of_4 = size > 1 and size & (size - 1) == 0 and size.bit_length() % 2 == 1
    return power_of_4 and width % size == 0


def _read_format(entry: TensorEntry) -> _Format:
    """Return what a description says: the tensor itself, or the header's of a weight. Raises
    UserError if it is not understood."""
    unreadable = not entry.told and (entry.dtype != "U8" or entry.nbytes > _MAX_DESCRIPTION)
    try:
        told = {} if unreadable else json.loads(entry.told or _bytes(entry))
        if isinstance(told, dict):
            told = told.pop("params", {}) | told  # where ComfyUI looks too
        return validated(_Format, told, entry.path.name)
    except (ValueError, TypeError, RecursionError, BadInput) as error:
        raise not_understood(entry) from error


def _fills_range(entry: TensorEntry) -> bool:
    _, largest = _FP8_MAX[entry.dtype]
    data = _bytes(entry)
    return bytes((largest,)) in data or bytes((largest | 0x80,)) in data


def _bytes(entry: TensorEntry) -> bytes:
    try:
        with open(entry.path, "rb") as file:
            file.seek(entry.start)
            return file.read(entry.nbytes)
    except OSError as error:
        raise read_error(error, entry.path) from error
