"""Where LoRAs go so that ComfyUI finds them, and putting one there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadInput, UserError
from blockskip.models.sources import registry
from blockskip.models.sources.comfyui import base_folders, extra_folders


def comfyui_root() -> Path | None:
    """The ComfyUI folder with the models that was last chosen (`select_comfyui`), if it is still
    there."""
    found = [base for folder in registry.comfyui_folders() for base in base_folders(folder)]
    return next((base for base in found if (base / "models").is_dir()), None)


def loras_dir() -> Path | None:
    """Where that ComfyUI looks for LoRAs: what its `extra_model_paths.yaml` names, if it is there,
    else models/loras. None when no ComfyUI is known."""
    root = comfyui_root()
    if root is None:
        return None
    try:
        named = [folder for folder in extra_folders(root, ("loras",)) if folder.is_dir()]
    except UserError:  # ComfyUI cannot read it either
        named = []
    return named[0] if named else root / "models" / "loras"


def copy_to_comfyui(file: Path, name: str) -> Path:
    """Copy an exported LoRA to where ComfyUI finds it, as `name` or, where another file has that
    name, with a number added; nothing there is ever overwritten. Returns where it lies now.

    Raises UserError when no ComfyUI is known, or its folder cannot be written to.
    """
    folder = loras_dir()
    if folder is None:
        raise BadInput(
            "No ComfyUI folder was chosen.",
            "Name it under “Folder of your ComfyUI”, where the model is chosen.",
        )
    stem = re.sub(r"[^\w .-]", "_", name.removesuffix(file.suffix)).strip(" .")[:80] or file.stem
    target, number = folder / f"{stem}{file.suffix}", 1
    temporary = folder / f"{stem}.{os.getpid()}.tmp"
    try:
        while target.exists():
            if target.stat().st_size == file.stat().st_size and _same(target, file):
                return target
            number += 1
            target = folder / f"{stem}-{number}{file.suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, temporary)
        files.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):  # not even that can be looked for
            temporary.unlink()
        raise files.disk_error(target, error) from error
    return target


def _same(one: Path, other: Path) -> bool:
    return files.fingerprint(one) == files.fingerprint(other)
