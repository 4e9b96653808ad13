"""The tensors beside a weight: scales that multiply it, and tensors that describe it.

Programs that store weights in float8 give a layer's scale one of the names in `SCALES`. All of them
multiply the stored weight: also those called “inverse”, which are the inverse of the factor that
the writer used (DeepSeek's `weight_dequant`, transformers' finegrained_fp8, Transformer Engine).
A scale is one number a tensor, one a row, or one a block of 128 x 128.

No tensor beside a weight is ignored unless it is listed here: it may change what the weight means.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from blockskip.core.errors import BadFile, UserError
from blockskip.core.files import read_error
from blockskip.models.sources.entry import FLOAT_DTYPES, FP8_DTYPES, TensorEntry

if TYPE_CHECKING:
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
# what ComfyUI's description may say of float8 weights without changing what a scale means
_FORMATS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fn_rowwise", "float8_e4m3fn_blockwise")
_FORMAT_KEYS = {"format", "full_precision_matrix_mult", "group_size", "block_size", "orig_dtype"}
# the largest number and the byte of its magnitude
_FP8_MAX = {"F8_E4M3": (448, 0x7E), "F8_E5M2": (57344, 0x7B)}
_SAMPLES = 3  # unscaled float8 matrices of which the numbers are looked at
REMEDY = "Use the bf16, fp16, fp8 or GGUF file of the same model."


def scale_of(tensors: dict[str, TensorEntry], key: str) -> TensorEntry | None:
    """Return the scale of the weight `key`, None if it has none. Raises UserError for a scale that
    is not understood."""
    entry, base = tensors[key], key.removesuffix(".weight")
    if entry.is_gguf:
        return None
    found = [tensors[base + name] for name in SCALES if base + name in tensors]
    if not found:
        return None
    scale = found[0]
    understood = (
        len(found) == 1
        and entry.dtype in FLOAT_DTYPES + FP8_DTYPES
        and scale.dtype in FLOAT_DTYPES
        and (math.prod(scale.shape) == 1 or _is_per_row(scale, entry) or _is_blocks(scale, entry))
    )
    if not understood:
        raise not_understood(found[-1])
    return scale


def scaled(
    tensor: Tensor, scale: Tensor, rows: tuple[int, int] | None, shape: tuple[int, ...]
) -> Tensor:
    """Return the product in float32. tensor: the rows `rows` of a stored tensor of shape `shape`,
    or all of it. scale: as `scale_of` allows."""
    import torch

    scale, tensor = scale.float(), tensor.float()
    if scale.numel() == 1:
        return tensor * scale.reshape(())
    first, last = rows or (0, shape[0])
    if scale.numel() == shape[0] == scale.shape[0]:
        return tensor * scale.reshape(-1)[first:last].reshape(-1, *[1] * (tensor.ndim - 1))
    scale = scale[torch.arange(first, last) // _BLOCK]
    return tensor * scale.repeat_interleave(_BLOCK, dim=1)[:, : shape[1]]


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
    used = {key for weight in weights for key in (weight.entry.key, weight.scale)}
    for key, entry in tensors.items():
        known = entry.key in used or any(word in f".{key}" for word in harmless)
        if not known and (entry.is_gguf or not _describes_used(tensors, key, used)):
            raise not_understood(entry)


def check_contents(weights: Iterable[Weight], tensors: dict[str, TensorEntry]) -> None:
    """Look at what headers do not tell: ComfyUI's description of each layer, and whether float8
    weights without a scale have lost it. Reads some tensors. Raises UserError."""
    for key, entry in tensors.items():
        if key.endswith(".comfy_quant") and not _is_known_format(entry):
            raise not_understood(entry)
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


def _is_known_format(entry: TensorEntry) -> bool:
    if entry.dtype != "U8" or entry.nbytes > 4096:
        return False
    try:
        told = json.loads(_bytes(entry))
        return told["format"] in _FORMATS and told.keys() <= _FORMAT_KEYS
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


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
