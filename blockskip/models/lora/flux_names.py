"""Names of FLUX.1's linear layers in diffusers (also read by ComfyUI) and in kohya's sd-scripts.

Kohya's names are those of Black Forest Labs' own model, which fuses q, k and v, and in single
blocks also the first layer of the MLP. alpha = rank everywhere, so the scale is 1 in every program.

Sources: ComfyUI's `comfy/utils.py: flux_to_diffusers` and diffusers 0.42.1
`loaders/lora_conversion_utils.py`, which undoes the fusion (for FLUX's true width only).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from blockskip.models.lora.names import diffusers_modules, fuse_lora

if TYPE_CHECKING:  # importing names must not load torch
    from torch import Tensor

# header values in sd-scripts' spelling (ModelSpec itself lists no FLUX)
ARCHITECTURE = "flux-1-dev/lora"
IMPLEMENTATION = "https://github.com/black-forest-labs/flux"
BASE_MODEL = "flux1"  # ss_base_model_version of sd-scripts
FORMATS = ("comfyui", "diffusers", "kohya")
IN_COMFYUI = True
KOHYA_MODULE = "networks.lora_flux"  # ss_network_module

_MLP = 4  # width of the MLP in stream widths, which ComfyUI assumes too
_BLOCK = re.compile(r"(transformer_blocks|single_transformer_blocks)\.([0-9]+)\.(.+)")

# layer of a block → its name in sd-scripts, with the index of its part if that layer is fused
_Layers = dict[str, str | tuple[str, int]]
_DOUBLE: _Layers = {
    "norm1.linear": "img_mod_lin",
    "norm1_context.linear": "txt_mod_lin",
    "attn.to_q": ("img_attn_qkv", 0),
    "attn.to_k": ("img_attn_qkv", 1),
    "attn.to_v": ("img_attn_qkv", 2),
    "attn.add_q_proj": ("txt_attn_qkv", 0),
    "attn.add_k_proj": ("txt_attn_qkv", 1),
    "attn.add_v_proj": ("txt_attn_qkv", 2),
    "attn.to_out.0": "img_attn_proj",
    "attn.to_add_out": "txt_attn_proj",
    "ff.net.0.proj": "img_mlp_0",
    "ff.net.2": "img_mlp_2",
    "ff_context.net.0.proj": "txt_mlp_0",
    "ff_context.net.2": "txt_mlp_2",
}
_SINGLE: _Layers = {
    "norm.linear": "modulation_lin",
    "attn.to_q": ("linear1", 0),
    "attn.to_k": ("linear1", 1),
    "attn.to_v": ("linear1", 2),
    "proj_mlp": ("linear1", 3),
    "proj_out": "linear2",
}
_OUTSIDE_BLOCKS: _Layers = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in_in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in_out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in_in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in_out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in_in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in_out_layer",
    "norm_out.linear": "final_layer_adaLN_modulation_1",
    "proj_out": "final_layer_linear",
}


def linears(double: int, single: int, guidance: bool) -> list[str]:
    """Return diffusers' names of all linear layers of a FLUX.1 with that many blocks."""
    outside = [name for name in _OUTSIDE_BLOCKS if guidance or "guidance" not in name]
    return [
        *outside,
        *(f"transformer_blocks.{i}.{name}" for i in range(double) for name in _DOUBLE),
        *(f"single_transformer_blocks.{i}.{name}" for i in range(single) for name in _SINGLE),
    ]


def is_comfy_key(name: str) -> bool:
    """Return whether ComfyUI loads a LoRA of this layer as `transformer.<name>`: true for every
    linear of FLUX.1."""
    return _kohya(name) is not None


def exported_layers(format: str, modules: Collection[str]) -> set[str]:
    """See protocol.LoraNames. Kohya: `lora_unet_…`."""
    if format != "kohya":
        return diffusers_modules(modules)
    return {fused_layer(module)[0] for module in modules}


def exported_tensors(format: str, lora: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """See protocol.LoraNames. Kohya: `lora_unet_<layer>.{lora_down.weight, lora_up.weight, alpha}`.
    width: 3072 for FLUX.1."""
    if format != "kohya":
        return lora
    import torch

    out: dict[str, Tensor] = {}
    layers = fuse_lora(lora, fused_layer, lambda layer: fused_rows(layer, width))
    for layer, (down, up) in layers.items():
        if layer == "lora_unet_final_layer_adaLN_modulation_1":
            up = torch.cat(up.chunk(2)[::-1])  # diffusers: (scale, shift), kohya: (shift, scale)
        out[f"{layer}.lora_down.weight"] = down
        out[f"{layer}.lora_up.weight"] = up
        out[f"{layer}.alpha"] = torch.tensor(float(down.shape[0]))
    return out


def fused_rows(layer: str, width: int) -> tuple[int, ...]:
    """Return the output rows of each part of a fused layer, () for a layer that is not fused."""
    qkv = (width,) * 3
    if layer.endswith("_linear1"):
        return (*qkv, _MLP * width)
    return qkv if layer.endswith("_qkv") else ()


def fused_layer(module: str) -> tuple[str, int]:
    """Return (kohya's layer, index of the part). Raises KeyError for a layer FLUX does not have."""
    layer = _kohya(module)
    if layer is None:
        raise KeyError(module)
    return layer


def _kohya(module: str) -> tuple[str, int] | None:
    prefix, known, layer = "lora_unet_", _OUTSIDE_BLOCKS, module
    if match := _BLOCK.fullmatch(module):
        stack, index, layer = match.groups()
        double = stack == "transformer_blocks"
        known = _DOUBLE if double else _SINGLE
        prefix += f"{'double' if double else 'single'}_blocks_{index}_"
    entry = known.get(layer)
    if entry is None:
        return None
    name, part = (entry, 0) if isinstance(entry, str) else entry
    return prefix + name, part
