"""Layer names of LoRAs for other programs, shared by all families. Imports torch only for tensors.

Other programs' models often fuse several layers of diffusers into one, such as q, k and v. The
LoRAs of its parts become one LoRA of the fused layer: the A are stacked and the B form a block
diagonal, so every part keeps exactly its own update. Parts without a LoRA get rows of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from blockskip.core.names import safe_name
from blockskip.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from blockskip.models.lora.protocol import LoraNames

PREFIX = "transformer."  # of layer names in diffusers' LoRA files


def output_path(out: Path, settings: Settings) -> Path:
    """Return the LoRA file to write for `out`, a file with or without ending, or a folder."""
    if out.is_dir():
        out = out / f"{safe_name(f'{settings.trigger}-{settings.class_name}', 'lora')}.safetensors"
    return out if out.suffix == ".safetensors" else out.with_name(f"{out.name}.safetensors")


@dataclass(frozen=True)
class DiffusersNames:
    """protocol.LoraNames of a model with diffusers' layer names in all programs.

    comfy: a regular expression for the layers that ComfyUI loads. Other models have a module
    `<family>_names.py`.
    """

    ARCHITECTURE: str
    IMPLEMENTATION: str
    BASE_MODEL: str
    comfy: str
    KOHYA_MODULE: ClassVar = ""
    FORMATS: ClassVar = ("comfyui", "diffusers")
    IN_COMFYUI: ClassVar = True

    def is_comfy_key(self, name: str) -> bool:
        return bool(re.fullmatch(self.comfy, name))

    def exported_layers(self, format: str, modules: Collection[str]) -> set[str]:
        return diffusers_modules(modules)

    def exported_tensors(
        self, format: str, lora: dict[str, Tensor], width: int
    ) -> dict[str, Tensor]:
        return lora


def lora_names_of(family: str) -> LoraNames | type[DiffusersNames]:
    """Return FORMATS and IN_COMFYUI of a family without importing diffusers."""
    module = f"blockskip.models.lora.{family}_names"
    return import_module(module) if find_spec(module) else DiffusersNames


def diffusers_modules(modules: Collection[str]) -> set[str]:
    """Return the layers of a file with diffusers' names."""
    return {PREFIX + module for module in modules}


def fuse_lora(
    lora: dict[str, Tensor],
    place: Callable[[str], tuple[str, int]],
    heights: Callable[[str], tuple[int, ...]],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Convert a LoRA to another program's layers. Return layer → (A, B), scale 1.

    lora: `transformer.<linear>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r), scale 1;
    ranks may differ. place(linear): (layer, index of its part). heights(layer): output rows of each
    part, () for a layer that is not fused. Raises KeyError for an A without its B.
    """
    down, up = ".lora_A.weight", ".lora_B.weight"
    parts_by_layer: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    for stem in sorted(name.removesuffix(down) for name in lora if name.endswith(down)):
        layer, part = place(stem.removeprefix(PREFIX))
        parts_by_layer.setdefault(layer, {})[part] = lora[stem + down], lora[stem + up]
    return {
        layer: _fused(parts, heights(layer)) if heights(layer) else parts[0]
        for layer, parts in parts_by_layer.items()
    }


def _fused(
    parts: dict[int, tuple[Tensor, Tensor]], heights: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Fuse the LoRAs of a layer's parts into one: A (Σr, in), B (Σ heights, Σr)."""
    import torch

    present = sorted(parts)
    down = torch.cat([parts[part][0] for part in present])
    up = down.new_zeros(sum(heights), down.shape[0])
    column = 0
    for part in present:
        part_up = parts[part][1]  # (height, r)
        row = sum(heights[:part])
        up[row : row + heights[part], column : column + part_up.shape[1]] = part_up
        column += part_up.shape[1]
    return down, up
