"""Search this machine for ComfyUI: in its installers' settings, and by folder name in the usual
places. Lists some dozens of folders, none of them deeply."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import platformdirs
import psutil

from blockskip.core import files
from blockskip.core.paths import ROOT
from blockskip.models.sources.comfyui_desktop import desktop_folders

_MAX_ENTRIES = 20_000  # entries read per folder
_MAX_DEPTH = 4  # nested folders with matching names, such as those of an unpacked zip
_MODEL_FOLDERS = ("checkpoints", "diffusion_models", "unet", "loras")
_INSTALLERS = ("stabilitymatrix", "stability matrix", "pinokio")
_INTERMEDIATE_FOLDERS = ("app", "api", "contents", "data", "packages", "resources")
_COMMON_FOLDERS = (
    "",
    "AI",
    "Apps",
    "Programs",
    "Tools",
    "apps",
    "code",
    "dev",
    "git",
    "projects",
    "src",
)


def candidates() -> list[Path]:
    """Return the existing ComfyUI folders without duplicates, those with models first. Folders that
    may not be read, such as other users', are none."""
    folders: dict[str, Path] = {}
    for start in (*_configured_folders(), *_folders_by_name()):
        for folder in _comfyui_below(start, _MAX_DEPTH):
            folders.setdefault(os.path.realpath(folder), folder)
    return sorted(folders.values(), key=lambda folder: not os.path.isdir(folder / "models"))


def is_comfyui(folder: Path) -> bool:
    """Return whether the folder is a root of ComfyUI, with its models, its program or both."""
    return os.path.isdir(folder / "comfy") or any(
        os.path.isdir(folder / "models" / kind) for kind in _MODEL_FOLDERS
    )


def _configured_folders() -> Iterator[Path]:
    """Yield the folders in the settings of ComfyUI Desktop and Stability Matrix."""
    yield from desktop_folders()
    settings = Path(platformdirs.user_config_dir("StabilityMatrix", False, roaming=True))
    with suppress(OSError, ValueError, KeyError, TypeError):
        yield Path(files.read_json(settings / "library.json")["LibraryPath"]) / "Packages"


def _folders_by_name() -> Iterator[Path]:
    for folder in dict.fromkeys(_common_places()):
        yield from _matching_folders(folder, _INSTALLERS)


def _common_places() -> Iterator[Path]:
    """Yield the folders to search: around this program, in the home folder, of programs, and of
    drives."""
    yield ROOT.parent
    for name in _COMMON_FOLDERS:
        yield Path.home() / name
    for folder in ("documents", "desktop", "downloads"):  # Windows may have moved them
        yield Path(getattr(platformdirs, f"user_{folder}_dir")())
    if os.name == "nt":
        yield Path(os.environ.get("LOCALAPPDATA", Path.home()), "Programs")
    else:
        yield from map(Path, ("/opt", "/srv", "/workspace", "/Applications"))
    for drive in psutil.disk_partitions(all=False):  # network drives may not respond
        if os.name != "nt" or "fixed" in drive.opts:
            for name in _COMMON_FOLDERS[:5]:
                yield Path(drive.mountpoint) / name


def _comfyui_below(folder: Path, depth: int) -> Iterator[Path]:
    if is_comfyui(folder):
        yield folder
    elif depth:
        for subfolder in _matching_folders(folder, _INTERMEDIATE_FOLDERS):
            yield from _comfyui_below(subfolder, depth - 1)


def _matching_folders(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the direct subfolders, following links, with “comfy” in their name or named one of
    `names`. Return [] for an unreadable folder."""
    try:
        with os.scandir(folder) as entries:
            matches = [
                entry
                for entry in islice(entries, _MAX_ENTRIES)
                if _name_matches(entry.name.lower(), names)
            ]
            return sorted(Path(entry.path) for entry in matches if entry.is_dir())
    except OSError:
        return []


def _name_matches(name: str, names: tuple[str, ...]) -> bool:
    return "comfy" in name or name in names
