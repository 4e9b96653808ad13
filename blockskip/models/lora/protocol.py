"""What a family answers about the names in LoRA files."""

# ruff: noqa: N802 (properties, since nobody sets them; of modules they are constants)

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from torch import Tensor


class LoraNames(Protocol):
    """Names of layers in LoRA files: an object (names.py) or a module of functions (flux_names.py)."""

    @property
    def ARCHITECTURE(self) -> str:
        """For the header, as the next two."""

    @property
    def IMPLEMENTATION(self) -> str: ...

    @property
    def BASE_MODEL(self) -> str: ...

    @property
    def KOHYA_MODULE(self) -> str:
        """For the header of kohya's format; "" where FORMATS has none."""

    @property
    def FORMATS(self) -> tuple[str, ...]:
        """Of files that can be written: see models/lora/export.py."""

    @property
    def IN_COMFYUI(self) -> bool:
        """Whether ComfyUI knows the model by itself."""

    def is_comfy_key(self, name: str) -> bool:
        """Whether ComfyUI, or else the library, loads a LoRA of this layer under
        `transformer.<name>`."""

    def exported_layers(self, format: str, modules: Collection[str]) -> set[str]:
        """The layers of a file in that format that hold LoRAs of these. Raises KeyError."""

    def exported_tensors(
        self, format: str, lora: dict[str, Tensor], width: int
    ) -> dict[str, Tensor]:
        """The LoRA as that format names its tensors. lora: `transformer.<linear>.lora_A.weight`
        (r, in) and `….lora_B.weight` (out, r). width: of the model. Raises KeyError."""
