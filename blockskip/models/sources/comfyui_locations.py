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

_MOST = 20_000  # names looked at in one folder
_DEEP = 4  # folders of telling names inside each other: the zip, its folder, its folder, ComfyUI
_MODELS = ("checkpoints", "diffusion_models", "unet", "loras")
_INSTALLERS = ("stabilitymatrix", "stability matrix", "pinokio")
_ON_THE_WAY = ("app", "api", "contents", "data", "packages", "resources")
_SHELVES = ("", "AI", "Apps", "Programs", "Tools", "apps", "code", "dev", "git", "projects", "src")


def candidates() -> list[Path]:
    """ComfyUI folders, those with models first; each once, all of them there."""
    found: dict[str, Path] = {}
    for start in (*_written_down(), *_telling_names()):
        for folder in _inside(start, _DEEP):
            found.setdefault(os.path.realpath(folder), folder)
    return sorted(found.values(), key=lambda folder: not (folder / "models").is_dir())


def is_comfyui(folder: Path) -> bool:
    """Whether it is ComfyUI's own folder: that of its models, of the program, or of both."""
    return (folder / "comfy").is_dir() or any((folder / "models" / k).is_dir() for k in _MODELS)


def _written_down() -> Iterator[Path]:
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


def _telling_names() -> Iterator[Path]:
    for place in dict.fromkeys(_usual_places()):
        yield from _folders(place, _INSTALLERS)


def _usual_places() -> Iterator[Path]:
    """Whose folders are looked at: ours, the user's, programs', the drives'."""
    yield ROOT.parent
    for shelf in _SHELVES:
        yield Path.home() / shelf
    for folder in ("documents", "desktop", "downloads"):  # wherever Windows has moved them to
        yield Path(getattr(platformdirs, f"user_{folder}_dir")())
    if os.name == "nt":
        yield Path(os.environ.get("LOCALAPPDATA", Path.home()), "Programs")
    else:
        yield from map(Path, ("/opt", "/srv", "/workspace", "/Applications"))
    for drive in psutil.disk_partitions(all=False):  # no network drives: they may be asleep
        if os.name != "nt" or "fixed" in drive.opts:
            for shelf in _SHELVES[:5]:
                yield Path(drive.mountpoint) / shelf


def _inside(folder: Path, deep: int) -> Iterator[Path]:
    if is_comfyui(folder):
        yield folder
    elif deep:
        for sub in _folders(folder, _ON_THE_WAY):
            yield from _inside(sub, deep - 1)


def _folders(place: Path, names: tuple[str, ...]) -> list[Path]:
    """Folders right in it, links followed, with “comfy” in their name or called one of `names`; []
    for what cannot be listed."""
    try:
        with os.scandir(place) as entries:
            telling = [e for e in islice(entries, _MOST) if _tells(e.name.lower(), names)]
            return sorted(Path(e.path) for e in telling if e.is_dir())
    except OSError:
        return []


def _tells(name: str, names: tuple[str, ...]) -> bool:
    return "comfy" in name or name in names
