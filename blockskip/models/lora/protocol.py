"""What a family answers about the names in LoRA files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from torch import Tensor


class LoraNames(Protocol):
    """Names of layers in LoRA files: an object (names.py) or a module of functions (flux_names.py)."""

    ARCHITECTURE: str  # these three for the header
    IMPLEMENTATION: str
    BASE_MODEL: str
    KOHYA_MODULE: str  # for the header of kohya's format; "" where FORMATS has none
    FORMATS: tuple[str, ...]  # of files that can be written: see models/lora/export.py
    IN_COMFYUI: bool  # whether ComfyUI knows the model by itself

    def is_comfy_key(self, name: str) -> bool:
        """Whether ComfyUI, or else the library, loads a LoRA of this layer under
        `transformer.<name>`."""

    def renamed_modules(self, format: str, modules: Collection[str]) -> set[str]:
        """The layers of a file in that format that hold LoRAs of these. Raises KeyError."""

    def renamed(self, format: str, lora: dict[str, Tensor], width: int) -> dict[str, Tensor]:
        """The LoRA as that format names its tensors. lora: `transformer.<linear>.lora_A.weight`
        (r, in) and `….lora_B.weight` (out, r). width: of the model. Raises KeyError."""
