"""Interface of the layer names in a family's LoRA files."""

# ruff: noqa: N802 (read-only properties, which modules define as constants)

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from torch import Tensor


class LoraNames(Protocol):
    """Names of layers in LoRA files: an object (names.py) or a module (flux_names.py)."""

    @property
    def ARCHITECTURE(self) -> str:
        """Value for the file's header, like the next two."""

    @property
    def IMPLEMENTATION(self) -> str: ...

    @property
    def BASE_MODEL(self) -> str: ...

    @property
    def KOHYA_MODULE(self) -> str:
        """Value for the header of kohya's format; "" if FORMATS lacks it."""

    @property
    def FORMATS(self) -> tuple[str, ...]:
        """File formats that can be written (models/lora/export.py)."""

    @property
    def IN_COMFYUI(self) -> bool:
        """Whether ComfyUI supports the model without custom nodes."""

    def is_comfy_key(self, name: str) -> bool:
        """Return whether ComfyUI, or diffusers if ComfyUI lacks the model, loads a LoRA of this
        layer as `transformer.<name>`."""

    def exported_layers(self, format: str, modules: Collection[str]) -> set[str]:
        """Return the layers that hold the LoRAs of `modules` in a file of that format. Raises
        KeyError for an unknown module."""

    def exported_tensors(
        self, format: str, lora: dict[str, Tensor], width: int
    ) -> dict[str, Tensor]:
        """Return the LoRA's tensors by their names in that format.

        lora: `transformer.<linear>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r). width:
        of the model's stream. Raises KeyError for an unknown linear.
        """
