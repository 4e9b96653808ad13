"""Checkpoints: one file of tensors in three parts, the LoRA, the LoRA of the current window, AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile

PARTS = ("lora", "window", "adam")


def save_checkpoint(
    path: Path, parts: Mapping[str, Mapping[str, Tensor]], step: int, fingerprint: str
) -> None:
    """Write PARTS by name, with the step they belong to. Raises UserError when the disk is full."""
    tensors = {f"{part}.{name}": t for part in PARTS for name, t in parts[part].items()}
    header = {"step": str(step), "fingerprint": fingerprint}
    safetensors_files.save_tensors(path, tensors, header)


def read_checkpoint(path: Path, fingerprint: str) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """(step, PARTS by name) on the CPU. Raises UserError for another run's checkpoint."""
    metadata = safetensors_files.read_metadata(path)
    if metadata.get("fingerprint") != fingerprint:
        raise BadFile(
            f"{path.name} belongs to another run or to other photos.",
            "Start a new run instead of resuming this one.",
        )
    tensors = load_checkpoint(path)
    return int(metadata["step"]), {part: with_prefix(tensors, f"{part}.") for part in PARTS}


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
