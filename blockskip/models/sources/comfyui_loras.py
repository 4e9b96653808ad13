"""Find ComfyUI's folder for LoRAs and copy files into it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadInput, UserError
from blockskip.core.names import safe_name, same_name
from blockskip.models.sources import registry
from blockskip.models.sources.comfyui import base_folders, extra_folders


def comfyui_root() -> Path | None:
    """Return the last selected ComfyUI folder with models (`select_comfyui`), or None if it is
    gone."""
    roots = [root for folder in registry.comfyui_folders() for root in base_folders(folder)]
    return next((root for root in roots if (root / "models").is_dir()), None)


def loras_dir() -> Path | None:
    """Return that ComfyUI's folder for LoRAs: the first existing one in `extra_model_paths.yaml`,
    else models/loras. Return None if no ComfyUI is known."""
    root = comfyui_root()
    if root is None:
        return None
    try:
        folders = [folder for folder in extra_folders(root, ("loras",)) if folder.is_dir()]
    except UserError:  # ComfyUI cannot read the file either
        folders = []
    return folders[0] if folders else root / "models" / "loras"


def copy_to_comfyui(file: Path, name: str) -> Path:
    """Copy an exported LoRA into ComfyUI's folder for LoRAs as `name`, with a number added if
    another file has that name. Never overwrites a file. Return the path of the copy.

    Raises UserError if no ComfyUI is known, or its folder is not writable.
    """
    folder = loras_dir()
    if folder is None:
        raise BadInput(
            "No ComfyUI folder was chosen.",
            "Name it under “Folder of your ComfyUI”, where the model is chosen.",
        )
    stem = safe_name(name.removesuffix(file.suffix), file.stem)
    target, number = folder / f"{stem}{file.suffix}", 1
    temporary = folder / f"{stem}.{os.getpid()}.tmp"
    try:
        while (other := _taken_by(target)) is not None:
            if other.stat().st_size == file.stat().st_size and _same(other, file):
                return other
            number += 1
            target = folder / f"{stem}-{number}{file.suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, temporary)
        files.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself may be inaccessible
            temporary.unlink()
        raise files.disk_error(target, error) from error
    return target


def _taken_by(target: Path) -> Path | None:
    """Return the file that Windows or macOS would take for `target`, None if there is none."""
    siblings = target.parent.iterdir() if target.parent.is_dir() else ()
    return next((path for path in siblings if same_name(path.name, target.name)), None)


def _same(first: Path, second: Path) -> bool:
    return files.fingerprint(first) == files.fingerprint(second)
