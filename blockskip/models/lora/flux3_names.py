"""Names of FLUX 3 Image Klein's linear layers in diffusers and in Black Forest Labs' own model.

ComfyUI runs the original model. Its LoRA loader knows every layer by its name there after
`diffusion_model.`; diffusers' names it knows only for models that it has a table of, and none for
this one was found. diffusers renames the original names when it loads them.

Sources: ComfyUI's `comfy/lora.py: model_lora_keys_unet` (17358c8), diffusers 0.42.1
`loaders/lora_conversion_utils.py: _convert_non_diffusers_flux3_lora_to_diffusers`. ComfyUI's own
code for this model was not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from blockskip.models.lora.names import PREFIX, diffusers_modules

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE = "flux-3-image-klein/lora"
IMPLEMENTATION = "https://github.com/black-forest-labs/flux-3-image-klein"
BASE_MODEL = "flux3-klein"
KOHYA_MODULE = ""
FORMATS = ("comfyui", "diffusers")
IN_COMFYUI = True

_BLOCK = re.compile(r"single_transformer_blocks\.([0-9]+)\.(.+)")
_NATIVE = {
    "attn.to_q": "q_proj",
    "attn.to_k": "k_proj",
    "attn.to_v": "v_proj",
    "attn.to_out.0": "attn_out",
    "ff.linear_in": "mlp_in",
    "ff.linear_out": "mlp_out",
}


def is_comfy_key(name: str) -> bool:
    """Return whether this layer has a name in the original model."""
    match = _BLOCK.fullmatch(name)
    return match is not None and match[2] in _NATIVE


def exported_layers(format: str, modules: Collection[str]) -> set[str]:
    """See protocol.LoraNames. ComfyUI: `diffusion_model.single_blocks.…`."""
    if format != "comfyui":
        return diffusers_modules(modules)
    return {_native(module) for module in modules}


def exported_tensors(format: str, lora: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """See protocol.LoraNames."""
    if format != "comfyui":
        return lora
    out: dict[str, Tensor] = {}
    for name, tensor in lora.items():
        module, _, suffix = name.removeprefix(PREFIX).rpartition(".lora_")
        out[f"{_native(module)}.lora_{suffix}"] = tensor
    return out


def _native(module: str) -> str:
    """Return the layer's name in ComfyUI. Raises KeyError for a layer not in the table."""
    match = _BLOCK.fullmatch(module)
    if match is None:
        raise KeyError(module)
    return f"diffusion_model.single_blocks.{match[1]}.{_NATIVE[match[2]]}"
