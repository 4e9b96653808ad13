"""Names of SANA's linear layers in diffusers and in NVIDIA's original model (native).

Stock ComfyUI does not support SANA. A custom node runs the original model, so ComfyUI's LoRA loader
accepts only the original names. That model fuses q, k and v (k and v in cross attention).

Sources: diffusers' `scripts/convert_sana_to_diffusers.py`, ComfyUI_ExtraModels' `Sana/` and
ComfyUI's `comfy/lora.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from blockskip.models.lora.names import diffusers_modules, fuse_lora

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE = "sana/lora"  # OneTrainer's spelling
IMPLEMENTATION = "https://github.com/NVlabs/Sana"
BASE_MODEL = "sana"
KOHYA_MODULE = ""
FORMATS = ("comfyui", "diffusers", "native")
IN_COMFYUI = False

_BLOCK = re.compile(r"transformer_blocks\.([0-9]+)\.(.+)")
# layer of a block → (its name in the original model, index of the part)
_NATIVE = {
    "attn1.to_q": ("attn.qkv", 0),
    "attn1.to_k": ("attn.qkv", 1),
    "attn1.to_v": ("attn.qkv", 2),
    "attn1.to_out.0": ("attn.proj", 0),
    "attn2.to_q": ("cross_attn.q_linear", 0),
    "attn2.to_k": ("cross_attn.kv_linear", 0),
    "attn2.to_v": ("cross_attn.kv_linear", 1),
    "attn2.to_out.0": ("cross_attn.proj", 0),
}
_PARTS = {"attn.qkv": 3, "cross_attn.kv_linear": 2}


def is_comfy_key(name: str) -> bool:
    """Return whether this layer has a native name."""
    match = _BLOCK.fullmatch(name)
    return match is not None and match[2] in _NATIVE


def exported_layers(format: str, modules: Collection[str]) -> set[str]:
    """See protocol.LoraNames."""
    if format != "native":
        return diffusers_modules(modules)
    return {_native(module)[0] for module in modules}


def exported_tensors(format: str, lora: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """See protocol.LoraNames. Native: `diffusion_model.<layer>.{lora_A, lora_B}.weight`."""
    if format != "native":
        return lora
    out: dict[str, Tensor] = {}
    for layer, (down, up) in fuse_lora(
        lora, _native, lambda layer: _fused_rows(layer, width)
    ).items():
        out |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    return out


def _native(module: str) -> tuple[str, int]:
    """Return (native layer, index of the part). Raises KeyError for a layer not in the table."""
    match = _BLOCK.fullmatch(module)
    if match is None:
        raise KeyError(module)
    name, part = _NATIVE[match[2]]
    return f"diffusion_model.blocks.{match[1]}.{name}", part


def _fused_rows(layer: str, width: int) -> tuple[int, ...]:
    """Return the output rows of each part of a fused layer, () for a layer that is not fused."""
    return (width,) * _PARTS.get(layer.split(".", 3)[3], 0)
