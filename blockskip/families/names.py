"""Names of a LoRA's layers for other programs, where those are the library's own."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LibraryNames:
    """What flux_names.py answers for FLUX.1, for a model whose LoRAs have the library's names everywhere.

    comfy: a pattern of the layers that stock ComfyUI loads under `transformer.<name>`; "" where it
    does not know the model. The capitals are constants of flux_names.py.
    """

    ARCHITECTURE: str
    IMPLEMENTATION: str
    BASE_MODEL: str
    comfy: str
    FORMATS: tuple[str, ...] = ("comfyui", "diffusers")
    KOHYA_MODULE: str = ""

    def is_comfy_key(self, name: str) -> bool:
        """Whether ComfyUI loads a LoRA of this layer; of a model that it does not know, whether
        the library does."""
        return bool(re.fullmatch(self.comfy or r".+", name))

    def kohya_names(self, modules: Collection[str]) -> set[str]:
        """Raises KeyError: it is not among FORMATS."""
        raise KeyError("kohya")

    def to_kohya(self, lora: dict[str, Tensor], inner_dim: int) -> dict[str, Tensor]:
        """Raises KeyError: it is not among FORMATS."""
        raise KeyError("kohya")
