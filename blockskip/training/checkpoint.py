"""Checkpoints: one file with three parts, the LoRA, the current window's LoRA and AdamW's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile

PARTS = ("lora", "window", "adam")


def save_checkpoint(
    path: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    step: int,
    fingerprint: str,
    loss_scale: float = 1.0,
) -> None:
    """Write PARTS by name, their step and loss scale. Raises UserError if the disk is full."""
    tensors = {f"{part}.{name}": t for part in PARTS for name, t in parts[part].items()}
    header = {"step": str(step), "fingerprint": fingerprint}
    header |= {"loss_scale": str(loss_scale)} if loss_scale != 1 else {}
    safetensors_files.save_tensors(path, tensors, header)


def read_checkpoint(
    path: Path, fingerprint: str, loss_scale: float = 1.0
) -> tuple[int, dict[str, dict[str, Tensor]], float]:
    """Return (step, PARTS by name, loss scale), on the CPU. Raises BadFile for another run's
    checkpoint. loss_scale: where the file has none."""
    metadata = safetensors_files.read_metadata(path)
    if metadata.get("fingerprint") != fingerprint:
        raise BadFile(
            f"{path.name} belongs to another run or to other photos.",
            "Start a new run instead of resuming this one.",
        )
    tensors = safetensors_files.load_tensors(path)
    parts = {part: with_prefix(tensors, f"{part}.") for part in PARTS}
    return int(metadata["step"]), parts, float(metadata.get("loss_scale", loss_scale))


def checkpoint_lora(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's LoRA, named like `transformer.<linear>.lora_A.weight`, (r, in)."""
    return with_prefix(safetensors_files.load_tensors(path), "lora.")


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under `prefix`, which is removed from their names."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
