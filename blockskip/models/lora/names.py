"""Names of a LoRA's layers for other programs: what families share. No torch until tensors are made.

In other programs' models several of the library's layers are often one: q, k and v. LoRAs trained on
its parts become one LoRA of the fused layer: the A are stacked, the B stand on a block diagonal, so
every part keeps exactly its own update. Parts without a LoRA get rows of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from blockskip.models.lora.protocol import LoraNames

PREFIX = "transformer."  # of the library's names


@dataclass(frozen=True)
class DiffusersNames:
    """For a model whose LoRAs have the library's names everywhere (protocol.LoraNames).

    comfy: a pattern of the layers that ComfyUI loads. Others have a file of their own for their
    names, `<family>_names.py`.
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
    """FORMATS and IN_COMFYUI of a family, without its libraries."""
    own = f"blockskip.models.lora.{family}_names"
    return import_module(own) if find_spec(own) else DiffusersNames


def diffusers_modules(modules: Collection[str]) -> set[str]:
    """The layers of a file that has the library's names."""
    return {PREFIX + module for module in modules}


def fuse_lora(
    lora: dict[str, Tensor],
    place: Callable[[str], tuple[str, int]],
    heights: Callable[[str], tuple[int, ...]],
) -> dict[str, tuple[Tensor, Tensor]]:
    """A LoRA by another program's layers: layer → (A, B), scale 1.

    lora: `transformer.<linear>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r), scale 1; ranks
    may differ. place(linear): (layer, part in it). heights(layer): output rows of its parts, () for
    one that is not fused. Raises KeyError for half a pair.
    """
    down, up = ".lora_A.weight", ".lora_B.weight"
    found: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    for stem in sorted(name.removesuffix(down) for name in lora if name.endswith(down)):
        layer, part = place(stem.removeprefix(PREFIX))
        found.setdefault(layer, {})[part] = lora[stem + down], lora[stem + up]
    return {
        layer: _fused(parts, heights(layer)) if heights(layer) else parts[0]
        for layer, parts in found.items()
    }


def _fused(
    parts: dict[int, tuple[Tensor, Tensor]], heights: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """LoRAs of the parts of a layer → one of the layer: A (Σr, in), B (Σ heights, Σr)."""
    import torch

    present = sorted(parts)
    down = torch.cat([parts[part][0] for part in present])
    up = down.new_zeros(sum(heights), down.shape[0])
    column = 0
    for part in present:
        own = parts[part][1]  # (height, r)
        row = sum(heights[:part])
        up[row : row + heights[part], column : column + own.shape[1]] = own
        column += own.shape[1]
    return down, up
