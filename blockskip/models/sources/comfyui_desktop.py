"""ComfyUI Desktop's settings: its base folders, and its own files of additional model folders.

Both programs of that name are known: the first one has one base folder, Comfy Desktop 2 keeps a
list of installations.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from blockskip.core import files

_FIRST, _SECOND = "ComfyUI", "comfyui-desktop-2"  # names of their folders of settings


@dataclass(frozen=True)
class _Config:
    basePath: str  # noqa: N815


@dataclass(frozen=True, kw_only=True)
class _Installation:
    """An installation of Comfy Desktop 2. adoptedBaseDir: of the first Desktop, taken over."""

    id: str
    installPath: str | None = None  # noqa: N815
    adoptedBaseDir: str | None = None  # noqa: N815
    useSharedModels: bool | None = True  # noqa: N815

    @property
    def base(self) -> Path | None:
        """The folder with its models, None for one in the cloud."""
        if self.adoptedBaseDir or not self.installPath:
            return Path(self.adoptedBaseDir) if self.adoptedBaseDir else None
        folder = Path(self.installPath)
        return folder / "ComfyUI" if os.path.isdir(folder / "ComfyUI") else folder


def desktop_folders() -> list[Path]:
    """Return the base folders in the settings of ComfyUI Desktop, whether they exist or not."""
    return [base for base, _ in _settings()]


def is_desktop(folder: Path) -> bool:
    """Return whether it is a base folder of ComfyUI Desktop."""
    return any(_same_folder(folder, base) for base in desktop_folders())


def path_files(base: Path) -> list[Path]:
    """Return Desktop's files of additional model folders for this base folder, [] for another
    program's."""
    return [
        file for folder, file in _settings() if _same_folder(folder, base) and os.path.isfile(file)
    ]


def _same_folder(first: Path, second: Path) -> bool:
    """Return whether two paths are one folder, following links."""
    return os.path.normcase(os.path.realpath(first)) == os.path.normcase(os.path.realpath(second))


def _settings() -> Iterator[tuple[Path, Path]]:
    """Yield base folders, with the file of model folders that ComfyUI is started with there."""
    folder = Path(platformdirs.user_config_dir(_FIRST, False, roaming=True))
    config = _read(folder / "config.json", _Config)
    if config is not None:
        yield Path(config.basePath), folder / "extra_models_config.yaml"
    folder = Path(platformdirs.user_data_dir(_SECOND, False, roaming=True))
    for each in _read(folder / "installations.json", list[_Installation]) or ():
        shared = folder / "shared_model_paths.yaml"
        own = folder / "instance-model-paths" / f"{each.id}.yaml"
        if (base := each.base) is not None:
            yield base, own if each.useSharedModels is False else shared


def _read(path: Path, schema: Any) -> Any:
    try:
        return files.read_json(path, schema)
    except (OSError, ValueError):
        return None
