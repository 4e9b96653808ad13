"""What lies in the folders of runs. Files and folders that people put there are passed over."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from blockskip.core import files

_STEP = re.compile(r"step-([0-9]{5,12})")


def run_folders(parent: Path) -> list[Path]:
    """Return the folders of runs, newest first, also unreadable ones. Raises UserError if `parent`
    cannot be read."""
    try:
        with os.scandir(parent) as entries:
            found = [Path(entry.path) for entry in entries if _is_run(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise files.read_error(error, parent) from error
    return sorted(found, key=_changed, reverse=True)


def step_of(path: Path) -> int:
    """Return the optimiser step in the name of a checkpoint, an adapter or a preview folder."""
    return int(path.stem.split("-")[1])


def by_step(folder: Path, suffix: str = ".safetensors") -> dict[int, Path]:
    """Return the files step-N.safetensors in a folder by step, in order; with suffix "" the folders
    step-N."""
    found = {}
    for path in folder.glob(f"step-*{suffix}"):
        match = _STEP.fullmatch(path.name.removesuffix(suffix))
        if match and (path.is_file() if suffix else path.is_dir()):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def _is_run(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir() and not entry.name.startswith(".") and not entry.name.endswith(".tmp")
    except OSError:
        return False


def _changed(folder: Path) -> float:
    """Return when run.toml, or else the folder, was last changed; 0 if it vanished."""
    for path in (folder / "run.toml", folder):
        with suppress(OSError):
            return path.stat().st_ctime
    return 0.0
