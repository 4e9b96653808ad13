"""Find the models on this machine: selected, shipped or downloaded. In the data folder,
`models.json` stores the selections and `comfyui.json` ComfyUI's folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from blockskip.core import files, presets
from blockskip.core.errors import BadFile, ModelMissing, UserError, command
from blockskip.core.paths import ROOT, data_dir
from blockskip.core.presets import ModelRow
from blockskip.models.sources import hub
from blockskip.models.sources.layouts import configs_folder, index_file
from blockskip.models.sources.source import Source


@dataclass(frozen=True)
class _Selection:
    folder: str
    files: dict[str, str]
    tokenizers: dict[str, str]


def find_model(row: ModelRow) -> Source:
    """Return the source of a selected, shipped or downloaded model. Raises hub.IncompleteDownload
    for a partial download, ModelMissing if there is nothing, BadFile for damaged files."""
    if (choice := selections().get(row.name)) is not None:
        return _restore_source(row, choice)
    folder = ROOT / row.source  # an absolute source stays absolute
    if index_file(folder):
        return Source(row, folder)
    if row.demo:
        raise BadFile(
            f"A demo model is missing ({row.source}).",
            "Download BlockSkip Studio again, or make the model anew: "
            + command(f"lab pretrain-demo --family {row.family} --work FOLDER"),
        )
    for other in presets.model_rows().values():  # the same repository, with more of its parts
        if other.source == row.source and set(row.parts) < set(other.parts):
            with suppress(UserError):
                return replace(find_model(other), row=row)
    if (downloaded := hub.downloaded(row)) is not None:
        return Source(row, downloaded)
    comfyui = (
        f"If ComfyUI has it: {command('models use-comfyui')} FOLDER. Else d"
        if row.comfyui.files
        else ""
    )
    accept = f", after accepting its licence at {hub.model_page(row)}" if row.gated else ""
    raise ModelMissing(
        f"{row.title} is not on this machine.",
        f"{comfyui or 'D'}ownload it{accept}: {command('models fetch')} {row.name}",
    )


def has_folder(row: ModelRow) -> bool:
    """Return whether a model was downloaded whole, or a folder of it chosen that is still there."""
    if (choice := selections().get(row.name)) is not None:
        return bool(choice["folder"]) and os.path.isdir(choice["folder"])
    with suppress(UserError):
        return hub.downloaded(row) is not None
    return False


def lora_path(name: str) -> Path:
    """Return the file of a LoRA of others, by its row's name. Raises UserError if it is not on this machine."""
    return find_model(presets.model_row(name)).lora


def _models_file() -> Path:
    return data_dir() / "models.json"


def selections() -> dict:
    """Return the selections: row name → paths of its parts. Raises UserError if the file cannot be
    read."""
    if not _models_file().exists():
        return {}
    try:
        table = files.read_json(_models_file(), dict[str, _Selection])
    except (OSError, ValueError) as error:
        raise BadFile(
            f"{_models_file()} cannot be read.", "Delete it and choose your models again."
        ) from error
    return {name: asdict(selection) for name, selection in table.items()}


def save_selection(row: ModelRow, source: Source | None) -> None:
    """Make `find_model` return this source. None removes the selection."""
    table = {name: selection for name, selection in selections().items() if name != row.name}
    if source is not None:
        table[row.name] = {
            "folder": str(source.folder) if source.is_folder else "",
            "files": {part: str(path) for part, path in source.files.items()},
            "tokenizers": {name: str(path) for name, path in source.tokenizers.items()},
        }
    files.write_json(_models_file(), table)


def _restore_source(row: ModelRow, selection: dict) -> Source:
    """Return the selected source, with the configs shipped in this version of the program. Raises
    BadFile if a path is missing."""
    part_files = {part: Path(path) for part, path in selection["files"].items()}
    tokenizers = {name: Path(path) for name, path in selection["tokenizers"].items()}
    folder = Path(selection["folder"]) if selection["folder"] else configs_folder(row)
    for path in (*part_files.values(), *tokenizers.values(), folder):
        if not os.path.exists(path):
            raise BadFile(
                f"{row.title} is no longer where it was: {path} is missing.",
                "Put it back or attach its drive, or choose again: "
                f"{command('models use-comfyui')} FOLDER, or {command('models use')} {row.name} …",
            )
    return Source(row, folder, part_files, tokenizers)


@dataclass
class _ComfyUI:
    folders: list[str]


def save_comfyui_folders(folders: Sequence[Path]) -> None:
    """Store ComfyUI's folder, or its separate folders of models and program."""
    files.write_json(_comfyui_file(), {"folders": [str(folder) for folder in folders]})


def comfyui_folders() -> list[Path]:
    """Return the stored folders of ComfyUI that still exist."""
    try:
        folders = [Path(folder) for folder in files.read_json(_comfyui_file(), _ComfyUI).folders]
        return [folder for folder in folders if os.path.isdir(folder)]
    except (OSError, ValueError, KeyError):
        return []


def _comfyui_file() -> Path:
    return data_dir() / "comfyui.json"
