"""Which models are on this machine: what was chosen, shipped or downloaded. `models.json` in the data
folder remembers what was chosen, `comfyui.json` where ComfyUI lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, ModelMissing, command
from blockskip.core.paths import ROOT, data_dir
from blockskip.core.presets import ModelRow
from blockskip.models.sources import hub
from blockskip.models.sources.layouts import configs_folder
from blockskip.models.sources.source import Source


def find_model(row: ModelRow) -> Source:
    """The model, where it was chosen, shipped or downloaded. Raises hub.IncompleteDownload when
    a part of it is on this machine, ModelMissing when nothing is, BadFile when something is wrong."""
    if (choice := selections().get(row.name)) is not None:
        return _restore_source(row, choice)
    folder = ROOT / row.source  # an absolute source stays what it is
    if (folder / "model_index.json").exists():
        return Source(row, folder)
    if row.demo:
        raise BadFile(
            f"A demo model is missing ({row.source}).",
            "Download BlockSkip Studio again, or make the model anew: "
            + command(f"lab pretrain-demo --family {row.family} --work FOLDER"),
        )
    if (downloaded := hub.downloaded(row)) is not None:
        return Source(row, downloaded)
    comfyui = (
        "" if row.parts else f"If ComfyUI has it: {command('models use-comfyui')} FOLDER. Else d"
    )
    accept = f", after accepting its licence at {hub.model_page(row)}" if row.gated else ""
    raise ModelMissing(
        f"{row.title} is not on this machine.",
        f"{comfyui or 'D'}ownload it{accept}: {command('models fetch')} {row.name}",
    )


def _models_file() -> Path:
    return data_dir() / "models.json"


def selections() -> dict:
    """Row → where its parts lie. Raises UserError when the file cannot be read."""
    if not _models_file().exists():
        return {}
    try:
        known = files.read_json(_models_file())
        if not all(map(_well_formed, known.values())):
            raise ValueError(known)
    except (OSError, ValueError, AttributeError) as error:
        raise BadFile(
            f"{_models_file()} cannot be read.", "Delete it and choose your models again."
        ) from error
    return known


def _well_formed(chosen: object) -> bool:
    """Whether it is what `save_selection` writes of a model."""
    if not isinstance(chosen, dict) or not isinstance(chosen.get("folder"), str):
        return False
    tables = chosen.get("files"), chosen.get("tokenizers")
    return all(isinstance(t, dict) and all(isinstance(p, str) for p in t.values()) for t in tables)


def save_selection(row: ModelRow, source: Source | None) -> None:
    """From now on `find_model` gives this one; None forgets."""
    known = {name: place for name, place in selections().items() if name != row.name}
    if source is not None:
        known[row.name] = {
            "folder": str(source.folder) if source.is_folder else "",
            "files": {part: str(path) for part, path in source.files.items()},
            "tokenizers": {name: str(path) for name, path in source.tokenizers.items()},
        }
    files.write_json(_models_file(), known)


def _restore_source(row: ModelRow, chosen: dict) -> Source:
    """Configurations are those of this version of the program, even if it was moved."""
    own = {part: Path(path) for part, path in chosen["files"].items()}
    texts = {name: Path(path) for name, path in chosen["tokenizers"].items()}
    folder = Path(chosen["folder"]) if chosen["folder"] else configs_folder(row)
    for path in (*own.values(), *texts.values(), folder):
        if not path.exists():
            raise BadFile(
                f"{row.title} is no longer where it was: {path} is missing.",
                "Put it back or attach its drive, or choose again: "
                f"{command('models use-comfyui')} FOLDER, or {command('models use')} {row.name} …",
            )
    return Source(row, folder, own, texts)


def save_comfyui_folders(folders: Sequence[Path]) -> None:
    """ComfyUI is there: one folder, or that of its models and that of the program."""
    files.write_json(_comfyui_file(), {"folders": [str(folder) for folder in folders]})


def comfyui_folders() -> list[Path]:
    """Where ComfyUI was last said to be; [] when never, or when it is gone."""
    try:
        said = [Path(folder) for folder in files.read_json(_comfyui_file())["folders"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [folder for folder in said if folder.is_dir()]


def _comfyui_file() -> Path:
    return data_dir() / "comfyui.json"
