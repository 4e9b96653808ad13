"""Read a LoRA file that others made, such as a training adapter, for the linears of a model.

Names are diffusers', with the prefixes that trainers and ComfyUI add, or with sd-scripts' underscores
instead of dots. The scale alpha / rank is multiplied into B.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from blockskip.core.errors import BadFile
from blockskip.models.sources.tensor_reader import Reader

_PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.")
_DOWN, _UP = (".lora_A", ".lora_down"), (".lora_B", ".lora_up")


def read_lora(path: Path, linears: Collection[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return linear → (A (r, in), B (out, r)), float32 on the CPU. linears: the model's.

    Raises UserError if the file is broken, no LoRA, or adapts something else.
    """
    reader, parts = Reader(), dict[str, dict[str, Tensor]]()
    underscored = {f"lora_unet_{name.replace('.', '_')}": name for name in linears}
    for key in reader.header(path):
        name, part = _split(key)
        name = underscored.get(name, name)
        if not part or name not in linears:
            raise BadFile(
                f"{path.name} does not fit this model: “{key}” is not one of its linears.",
                "It belongs to another model; fetch the right one.",
            )
        parts.setdefault(name, {})[part] = reader.tensor(path, key).float()
    if not parts:
        raise BadFile(f"{path.name} is an empty LoRA.", "Fetch it again.")
    layers = {}
    for name, found in parts.items():
        down, up = found.get("down"), found.get("up")
        if down is None or up is None or len(down) != up.shape[1]:
            raise BadFile(
                f"{path.name} is damaged: half of {name} is missing.", "Fetch the file again."
            )
        scale = float(found["alpha"]) / len(down) if "alpha" in found else 1.0
        layers[name] = down, up * scale
    return layers


def _split(key: str) -> tuple[str, str]:
    """Return (linear, down | up | alpha); "" for anything else."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    name, part = key.removesuffix(".weight").removesuffix(".default"), ""
    endings = {**dict.fromkeys(_DOWN, "down"), **dict.fromkeys(_UP, "up"), ".alpha": "alpha"}
    for ending, kind in endings.items():
        if name.endswith(ending):
            return name.removesuffix(ending), kind
    return name, part


def as_dtype(
    layers: dict[str, tuple[Tensor, Tensor]], dtype: torch.dtype
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the layers in `dtype`."""
    return {name: (down.to(dtype), up.to(dtype)) for name, (down, up) in layers.items()}
