"""Checkpoints as files of tensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU."""
    from safetensors.torch import load

    return load(path.read_bytes())  # not mapped: Windows may not replace a mapped file


def checkpoint_lora(path: Path) -> dict[str, Tensor]:
    """The LoRA in a checkpoint, `transformer.<linear>.lora_A.weight` → (r, in) and so on."""
    return with_prefix(load_checkpoint(path), "lora.")


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, named without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
