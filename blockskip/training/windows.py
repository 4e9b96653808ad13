"""Residual windows on disk: one file of tensors per window, stamped with a hash of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from blockskip.core import files, safetensors_files
from blockskip.training.front_output import CAPTION, TEXT, with_text


class WindowStore:
    """A run's windows in `folder`. The run's `fingerprint` enters every window's stamp."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def path(self, number: int) -> Path:
        """Return the file of window `number`."""
        return self.folder / f"window-{number:04d}.safetensors"

    def remove(self, keep: int = -1) -> None:
        """Delete all windows but number `keep`. Also those that a killed worker left behind."""
        for path in self.folder.glob("window-*.safetensors"):
            if path != self.path(keep):
                path.unlink(missing_ok=True)

    def stamp(self, precision: str, rows: Sequence[int], lora: Mapping[str, Tensor]) -> str:
        """Hash a window's inputs: the run, the draws, the LoRA and the frozen blocks' precision.

        The precision may change during a run. Extending a run may lengthen its last window and
        therefore `rows`.
        """
        # sorted, because a checkpoint lists the same tensors in another order
        tensors = (tensor.cpu().numpy().tobytes() for _, tensor in sorted(lora.items()))
        return files.fingerprint(self.fingerprint, precision, rows[0], rows[-1] + 1, *tensors)

    def has(self, number: int, stamp: str) -> bool:
        """Return whether window `number` exists and has this stamp."""
        path = self.path(number)
        if not path.exists():
            return False
        return safetensors_files.read_metadata(path).get("fingerprint") == stamp


def save_window(path: Path, window: dict[str, Tensor], fingerprint: str) -> None:
    """Write a window's tensors in their dtypes. Raises UserError if the disk is full."""
    stamp = {"fingerprint": fingerprint}
    safetensors_files.save_tensors(path, window, stamp, by_row=True, lasting=False)


def load_rows(path: Path, start: int, stop: int, device: torch.device) -> dict[str, Tensor]:
    """Read only rows [start, stop) of every tensor of a stored window, onto `device`, and the text
    of their captions where it is stored once (front_output.py).

    Raises Damaged if they are not what was written.
    """
    from safetensors import SafetensorError, safe_open

    checksums, rows = safetensors_files.row_checksums(path), slice(start, stop)
    try:
        with safe_open(path, framework="pt") as file:
            read = {name: file.get_slice(name)[rows] for name in set(file.keys()) - {TEXT}}
            captions = read[CAPTION].tolist() if CAPTION in read else []
            texts = [file.get_slice(TEXT)[i : i + 1] for i in captions]
    except (OSError, SafetensorError) as error:
        raise safetensors_files.Damaged(path) from error
    for name, part in read.items():
        safetensors_files.verified(path, name, part, checksums, rows)
    for i, text in zip(captions, texts, strict=True):
        safetensors_files.verified(path, TEXT, text, checksums, slice(i, i + 1))
    if texts:
        read |= {TEXT: torch.cat(texts), CAPTION: torch.arange(len(texts))}
    return {name: part.to(device) for name, part in with_text(read).items()}
