"""Map diffusers' parameters to the tensors of files in the original models' layouts, as ComfyUI has
them.

Original layouts fuse layers (q, k and v), split and name them differently, and store the last
modulation as (shift, scale) instead of (scale, shift). diffusers has a conversion for each model, of
tensors in memory; `converted` runs it on numbers of rows instead, and so learns where each parameter
lies. FLUX.1's and Chroma's assume the full model's width, so these two are mapped here, by the names
that LoRA files use (models/lora/flux_names.py).
"""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from blockskip.core.errors import BadFile, UserError
from blockskip.models.lora import flux_names
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.side_tensors import is_side_tensor
from blockskip.models.sources.tensors import Weight, WeightIndex, find_weight

if TYPE_CHECKING:  # listing models must not load torch
    from torch import Tensor

Config = Mapping[str, Any]
Tensors = dict[str, TensorEntry]
Conversion = Callable[..., dict[str, Any]]

_NORMS = {"attn.norm_q": "query_norm", "attn.norm_k": "key_norm"}
_ADDED_NORMS = {"attn.norm_added_q": "query_norm", "attn.norm_added_k": "key_norm"}
_GUIDANCE = "distilled_guidance_layer."
_GUIDANCE_NAMES = {".in_layer.": ".linear_1.", ".out_layer.": ".linear_2.", ".scale": ".weight"}


def converted(tensors: Tensors, conversion: Conversion, **options: object) -> WeightIndex:
    """Return parameter name → stored weight as a conversion of diffusers' single_file_utils has it.

    The conversion is given a tensor of row numbers, (rows, 1 …), in place of each stored one, all
    different. What it returns says which rows of which tensor make a parameter, and in which order.
    options: its other arguments. Raises UserError for a tensor that it needs and the file lacks, and
    for one that it cannot take apart.
    """
    import torch

    keys = [k for k, e in tensors.items() if e.dtype != "I64" and not is_side_tensor(tensors, k)]
    starts, numbers, end = [], {}, 0
    for key in keys:
        shape = tensors[key].shape
        size = shape[0] if shape else 1
        starts.append(end)
        # with as many axes as the original, because conversions cut off some
        numbers[key] = torch.arange(end, end + size).reshape((*shape[:1], *[1] * len(shape[1:])))
        end += size
    try:
        found = conversion(numbers, **options)
    except KeyError as error:
        raise _missing(tensors, str(error.args[0])) from error
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise _other_sizes(tensors) from error
    weights: WeightIndex = {}
    for name, rows in found.items():
        if rows is None:  # in place of what the file lacks
            continue
        if not rows.numel():
            raise _other_sizes(tensors)
        number = bisect(starts, int(rows.flatten()[0])) - 1
        weights[name] = _located(tensors, keys[number], rows, starts[number])
    return weights


def _located(tensors: Tensors, key: str, numbers: Tensor, start: int) -> Weight:
    """Return the weight of a parameter made of these rows of the tensor `key`, whose first row has
    the number `start`."""
    import torch

    stored, rows = tensors[key].shape, numbers.flatten() - start
    swapped = bool(rows[0] > rows[-1])
    if swapped:
        rows = torch.cat(rows.chunk(2)[::-1])
    first, last = int(rows[0]), int(rows[-1]) + 1
    outside = last > (stored[0] if stored else 1)  # rows of two tensors
    if outside or not torch.equal(rows, torch.arange(first, last)):
        raise _other_sizes(tensors)
    # axes of 1 may have been dropped; a tensor of one axis may have got more
    shape = (last - first, *stored[1 : numbers.ndim]) if len(stored) > 1 else tuple(numbers.shape)
    part = None if not stored or (first, last) == (0, stored[0]) else (first, last)
    return find_weight(tensors, key, part, swapped, shape)


def flux_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """Map the parameters of FLUX.1's transformer, from a file in diffusers' or the original
    layout."""
    blocks = config["num_layers"], config["num_single_layers"]
    linears = flux_names.linears(*blocks, config["guidance_embeds"])
    return _flux_blocks(tensors, linears, *blocks)


def chroma_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """Map the parameters of Chroma's transformer: FLUX.1's without modulations and embeddings of
    its own, and one module for all of these."""
    blocks = config["num_layers"], config["num_single_layers"]
    linears = [
        name
        for name in flux_names.linears(*blocks, guidance=False)
        if not name.endswith(".linear") and not name.startswith("time_text_embed.")
    ]
    weights = _flux_blocks(tensors, linears, *blocks)
    for key in tensors:
        if key.startswith(_GUIDANCE) and not is_side_tensor(tensors, key):
            name = key
            for theirs, ours in _GUIDANCE_NAMES.items():
                name = name.replace(theirs, ours)
            weights[name] = find_weight(tensors, key)
    return weights


def _flux_blocks(tensors: Tensors, linears: list[str], double: int, single: int) -> WeightIndex:
    """Map these linears, and the norms of queries and keys."""
    if not any(key.startswith("double_blocks.") for key in tensors):
        names = [f"{module}.{suffix}" for module in linears for suffix in ("weight", "bias")]
        names += [f"{module}.weight" for module, _ in _norms(double, single)]
        return {name: find_weight(tensors, name) for name in names}
    layer_keys = {
        key.rpartition(".")[0].replace(".", "_"): key.rpartition(".")[0] for key in tensors
    }
    weights: WeightIndex = {}
    for module in linears:
        layer, part = flux_names.fused_layer(module)
        layer_key = layer_keys.get(layer.removeprefix("lora_unet_"), layer)
        for suffix in ("weight", "bias"):
            rows = _fused_rows(tensors, layer_key, layer, part, suffix)
            halves_swapped = module == "norm_out.linear"
            weights[f"{module}.{suffix}"] = find_weight(
                tensors, f"{layer_key}.{suffix}", rows, halves_swapped
            )
    for module, layer_key in _norms(double, single):
        key = f"{layer_key}.scale" if f"{layer_key}.scale" in tensors else f"{layer_key}.weight"
        weights[f"{module}.weight"] = find_weight(tensors, key)
    return weights


def _fused_rows(
    tensors: Tensors, layer_key: str, layer: str, part: int, suffix: str
) -> tuple[int, int] | None:
    """Return the rows [first, end) of part number `part` in the fused layer, None if not fused.
    layer_key: the layer's name in the file. suffix: weight | bias."""
    weight, stored = (tensors.get(f"{layer_key}.{kind}") for kind in ("weight", suffix))
    if not layer.endswith(("_qkv", "_linear1")) or weight is None or stored is None:
        return None
    heights = flux_names.fused_rows(layer, math.prod(weight.shape[1:]))
    if stored.shape[:1] != (sum(heights),):
        raise _other_sizes(tensors)
    return sum(heights[:part]), sum(heights[: part + 1])


def _norms(double: int, single: int) -> Iterator[tuple[str, str]]:
    """Yield (diffusers' name, original name) of the norms of queries and keys."""
    for i in range(double):
        for stream, names in (("img", _NORMS), ("txt", _ADDED_NORMS)):
            for module, norm in names.items():
                yield (
                    f"transformer_blocks.{i}.{module}",
                    f"double_blocks.{i}.{stream}_attn.norm.{norm}",
                )
    for i in range(single):
        for module, norm in _NORMS.items():
            yield f"single_transformer_blocks.{i}.{module}", f"single_blocks.{i}.norm.{norm}"


def _missing(tensors: Tensors, key: str) -> UserError:
    return BadFile(
        f"{next(iter(tensors.values())).path.name} does not hold all of the model: “{key}” is "
        "missing.",
        "Fetch the file again.",
    )


def _other_sizes(tensors: Tensors) -> UserError:
    return BadFile(
        f"{next(iter(tensors.values())).path.name} holds tensors of other sizes than the model's.",
        "It is another model's file; choose the right one.",
    )


def ldm_vae_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """Map the parameters of a VAE with CompVis' names: FLUX's and Stable Diffusion's."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    tensors = {
        key.replace("encoder.quant_conv.", "quant_conv.").replace(
            "decoder.post_quant_conv.", "post_quant_conv."
        ): entry
        for key, entry in tensors.items()
    }
    blocks = range(len(config["block_out_channels"]))  # their kinds do not matter
    options = {"down_block_types": blocks, "up_block_types": blocks}
    weights = converted(tensors, convert_ldm_vae_checkpoint, config=options)
    # of FLUX.2's batch norm, which the conversion does not know
    norm = [key for key in ("bn.running_mean", "bn.running_var") if key in tensors]
    return weights | {key: find_weight(tensors, key) for key in norm}


# names of Wan 2.2's VAE → those of Qwen-Image-2.1's, in this order
_WAN22_NAMES = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (
        r"\.(down|up)samples\.(\d+)\.(down|up)samples\.\d+\.(resample|time_conv)",
        r".\1_blocks.\2.\1sampler.\4",
    ),
    (r"\.(down|up)samples\.(\d+)\.(down|up)samples\.(\d+)\.", r".\1_blocks.\2.resnets.\4."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def wan22_vae_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """Map the parameters of Qwen-Image-2.1's VAE from Wan 2.2's layout (ours: diffusers has no
    conversion). Kernels have an axis of one frame more there."""
    weights: WeightIndex = {}
    for key, entry in tensors.items():
        if is_side_tensor(tensors, key):
            continue
        name, shape = key, entry.shape
        for old, new in _WAN22_NAMES:
            name = re.sub(old, new, name)
        if len(shape) == 5:
            shape = (*shape[:2], *shape[3:])
        weights[name] = find_weight(tensors, key, shape=shape)
    return weights
