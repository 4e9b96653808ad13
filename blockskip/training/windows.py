"""Windows of residuals on disk: one file of tensors a window, known by what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from blockskip.core import files, safetensors_files


class WindowStore:
    """The windows of a run in `folder`. fingerprint: of the run, in every window's header."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def path(self, number: int) -> Path:
        """Where window `number` is kept."""
        return self.folder / f"window-{number:04d}.safetensors"

    def stamp(self, precision: str, rows: range, lora: Mapping[str, Tensor]) -> str:
        """What a window depends on beside the run: its draws, the LoRA it was made with, and the
        precision of the frozen blocks, which may change while a run goes on. `rows` ends later than
        before when a run's old end had cut the window short."""
        # by name: a checkpoint has another order, and its window is this window
        tensors = (tensor.cpu().numpy().tobytes() for _, tensor in sorted(lora.items()))
        return files.fingerprint(self.fingerprint, precision, rows.start, rows.stop, *tensors)

    def has(self, number: int, stamp: str) -> bool:
        """Whether window `number` is there and was made of just this."""
        path = self.path(number)
        if not path.exists():
            return False
        return safetensors_files.read_metadata(path).get("fingerprint") == stamp


def save_window(path: Path, window: dict[str, Tensor], fingerprint: str) -> None:
    """Write a window in its compute dtype. Raises UserError when the disk is full."""
    safetensors_files.save_tensors(path, window, {"fingerprint": fingerprint})


def load_rows(path: Path, start: int, stop: int, device: torch.device) -> dict[str, Tensor]:
    """Rows [start, stop) of every tensor of a stored window; nothing else is read."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_slice(name)[start:stop].to(device) for name in file.keys()}  # noqa: SIM118
