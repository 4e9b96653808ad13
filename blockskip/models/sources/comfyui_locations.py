"""Where ComfyUI is likely to lie on this machine: what its installers wrote down, and folders of
that name in the usual places. Some dozens of folders are listed, none of them deeply."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import platformdirs
import psutil

from blockskip.core import files
from blockskip.core.paths import ROOT

_MAX_ENTRIES = 20_000  # names looked at in one folder
_MAX_DEPTH = (
    4  # folders of telling names inside each other: the zip, its folder, its folder, ComfyUI
)
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
    """ComfyUI folders, those with models first; each once, all of them there."""
    found: dict[str, Path] = {}
    for start in (*_configured_folders(), *_folders_by_name()):
        for folder in _comfyui_below(start, _MAX_DEPTH):
            found.setdefault(os.path.realpath(folder), folder)
    return sorted(found.values(), key=lambda folder: not (folder / "models").is_dir())


def is_comfyui(folder: Path) -> bool:
    """Whether it is ComfyUI's own folder: that of its models, of the program, or of both."""
    return (folder / "comfy").is_dir() or any(
        (folder / "models" / k).is_dir() for k in _MODEL_FOLDERS
    )


def _configured_folders() -> Iterator[Path]:
    """Folders that ComfyUI Desktop and Stability Matrix note in their settings."""
    for program, file, key, below in (
        ("ComfyUI", "config.json", "basePath", ""),
        ("StabilityMatrix", "library.json", "LibraryPath", "Packages"),
    ):
        settings = Path(platformdirs.user_config_dir(program, False, roaming=True), file)
        try:
            yield Path(files.read_json(settings)[key]) / below
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _folders_by_name() -> Iterator[Path]:
    for place in dict.fromkeys(_common_places()):
        yield from _matching_folders(place, _INSTALLERS)


def _common_places() -> Iterator[Path]:
    """Whose folders are looked at: ours, the user's, programs', the drives'."""
    yield ROOT.parent
    for shelf in _COMMON_FOLDERS:
        yield Path.home() / shelf
    for folder in ("documents", "desktop", "downloads"):  # wherever Windows has moved them to
        yield Path(getattr(platformdirs, f"user_{folder}_dir")())
    if os.name == "nt":
        yield Path(os.environ.get("LOCALAPPDATA", Path.home()), "Programs")
    else:
        yield from map(Path, ("/opt", "/srv", "/workspace", "/Applications"))
    for drive in psutil.disk_partitions(all=False):  # no network drives: they may be asleep
        if os.name != "nt" or "fixed" in drive.opts:
            for shelf in _COMMON_FOLDERS[:5]:
                yield Path(drive.mountpoint) / shelf


def _comfyui_below(folder: Path, deep: int) -> Iterator[Path]:
    if is_comfyui(folder):
        yield folder
    elif deep:
        for sub in _matching_folders(folder, _INTERMEDIATE_FOLDERS):
            yield from _comfyui_below(sub, deep - 1)


def _matching_folders(place: Path, names: tuple[str, ...]) -> list[Path]:
    """Folders right in it, links followed, with “comfy” in their name or called one of `names`; []
    for what cannot be listed."""
    try:
        with os.scandir(place) as entries:
            telling = [
                e for e in islice(entries, _MAX_ENTRIES) if _name_matches(e.name.lower(), names)
            ]
            return sorted(Path(e.path) for e in telling if e.is_dir())
    except OSError:
        return []


def _name_matches(name: str, names: tuple[str, ...]) -> bool:
    return "comfy" in name or name in names
