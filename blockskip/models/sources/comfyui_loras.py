"""Copy LoRAs into the chosen ComfyUI, to a folder in which it lists them."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadInput, UserError, command
from blockskip.core.names import unused_name
from blockskip.models.sources import registry
from blockskip.models.sources.comfyui import MODEL_FOLDERS, base_folders
from blockskip.models.sources.comfyui_desktop import is_desktop
from blockskip.models.sources.comfyui_locations import candidates
from blockskip.models.sources.comfyui_paths import (
    LORA_SUFFIXES,
    extra_folders,
    files_below,
    lora_folders,
    loras_dir,
)

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ComfyuiLora:
    """A LoRA in ComfyUI's folders. name: in ComfyUI's lists, relative to the folder that it
    searches. new: whether it was copied now."""

    path: Path
    name: str
    new: bool = False


def comfyui_root() -> Path | None:
    """Return the folder with the models of the last selected ComfyUI (`select_comfyui`), None if it
    is gone.

    Of separate folders for models and program it is Desktop's base folder, else the one with
    models, unless the program merely adds those models to its own.
    """
    roots = [root for folder in registry.comfyui_folders() for root in base_folders(folder)]
    with_models = [root for root in roots if os.path.isdir(root / "models")]
    with_models.sort(key=is_desktop, reverse=True)
    if not with_models or is_desktop(with_models[0]) or os.path.isdir(with_models[0] / "comfy"):
        return next(iter(with_models), None)
    programs = (root for root in roots if _adds(root, with_models[0]))
    return next(programs, with_models[0])


def chosen_comfyui() -> Path:
    """Return `comfyui_root`. Raises BadInput, which names a ComfyUI of this machine, if there is
    none."""
    root = comfyui_root()
    if root is None:
        found = next(iter(candidates()), None)
        raise BadInput(
            "No ComfyUI folder was chosen.",
            "Name it under “Folder of your ComfyUI”, where the model is chosen, or: "
            + command("models use-comfyui")
            + (f' "{found}"' if found else " FOLDER"),
        )
    return root


def _adds(program: Path, models: Path) -> bool:
    """Return whether the program's files of model folders name folders in `models`."""
    with contextlib.suppress(UserError):
        folders = extra_folders(program, (*MODEL_FOLDERS, "loras"))
        return program != models and any(models in folder.parents for folder in folders)
    return False


def copy_to_comfyui(file: Path, stem: str) -> ComfyuiLora:
    """Copy an exported LoRA into ComfyUI's folder for new LoRAs, unless it lists that content
    already.

    stem: of the new file's name; a number is added if ComfyUI lists another file of that name in
    any of its folders. Never overwrites a file. Raises UserError if no ComfyUI is known, or its
    folder is not writable.
    """
    root = chosen_comfyui()
    folder, listed = loras_dir(root), _listed(lora_folders(root))
    for name, path in listed.items():
        with contextlib.suppress(OSError):  # a link to nothing
            if filecmp.cmp(path, file, shallow=False):
                return ComfyuiLora(path, name)
    try:
        names = [*listed, *(os.listdir(folder) if os.path.isdir(folder) else ())]
        taken = {Path(name).stem for name in names if name.lower().endswith(file.suffix)}
        target = folder / f"{unused_name(stem, taken)}{file.suffix}"
        with open(file, "rb") as source:
            files.write_parts(target, iter(lambda: source.read(_CHUNK), b""))
    except OSError as error:
        raise files.read_error(error) from error
    return ComfyuiLora(target, target.name, new=True)


def _listed(folders: Iterable[Path]) -> dict[str, Path]:
    """Return ComfyUI's list of LoRAs with the file that it loads for each name: the first
    folder's."""
    listed: dict[str, Path] = {}
    for folder in folders:
        for path in files_below([folder], LORA_SUFFIXES):
            listed.setdefault(str(path.relative_to(folder)), path)
    return listed
