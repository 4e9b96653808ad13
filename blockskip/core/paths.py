"""Where data lives: runs, models and caches in one folder, on the drive that the user chose."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import platformdirs

from blockskip.core import files
from blockskip.core.errors import BadFile, BadInput, DiskFull
from blockskip.core.units import GIB

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
PRESETS = ROOT / "presets"
QUANTISED_CACHE = Path("cache", "quantised")  # in the data folder; shared by all runs
MIN_FREE_BYTES = 2 << 30  # bytes that must be free where data is to live


def data_dir() -> Path:
    """Where runs, models and caches live: $BLOCKSKIP_DATA, else the folder that was chosen
    (`set_data_dir`) when this process began, else the user's data folder."""
    chosen = os.environ.get("BLOCKSKIP_DATA")
    return Path(chosen) if chosen else _saved_location()


def adapter_file(model: str) -> Path:
    """Where a model's adapters of larger patches are looked for (sampling/dynamic_patches.py); the demo's are shipped."""
    if model == "demo":
        return ASSETS / "demo-ddit.safetensors"
    return data_dir() / "ddit" / f"{model}.safetensors"


def set_data_dir(path: Path | str) -> Path:
    """Remember another folder for runs, models and caches, which holds from the next start on.

    Nothing is moved: what is in the old folder stays there and is found again when that is chosen
    again. Returns the folder, made if need be. Raises UserError when it may not be written to, lies
    in the program's own folder (an update would replace it), has no room, or would not count.
    """
    folder = Path(path).expanduser()
    if os.environ.get("BLOCKSKIP_DATA"):
        raise BadInput(
            "The environment variable BLOCKSKIP_DATA sets the data folder and takes precedence.",
            "Remove it, or set it to the folder you want.",
        )
    if not folder.is_absolute():
        raise BadInput(f"“{path}” is not an absolute path.", "Enter it from the drive letter or / on.")
    folder = folder.resolve()
    if folder == ROOT or ROOT in folder.parents:
        raise BadInput(
            f"{folder} lies inside the program's own folder, which an update replaces.",
            "Choose a folder outside of it.",
        )
    _check_writable(folder)
    if folder == default_dir().resolve():
        location_file().unlink(missing_ok=True)
    else:
        files.write_json(location_file(), {"data_dir": str(folder)})
    return folder


def default_dir() -> Path:
    """Where data lives when nothing was chosen."""
    return Path(platformdirs.user_data_dir("BlockSkip Studio", False))


def location_file() -> Path:
    """The small file that remembers the choice; without it the default holds."""
    return default_dir() / "place.json"


@cache
def _saved_location() -> Path:
    try:
        return Path(files.read_json(location_file())["data_dir"])
    except FileNotFoundError:
        return default_dir()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(
            f"{location_file()} cannot be read: it says where models and runs live.",
            "Delete it and choose the folder again; the runs themselves are safe.",
        ) from error


def _check_writable(folder: Path) -> None:
    """Write there once. Raises UserError."""
    free = files.free_bytes(folder)
    if free < MIN_FREE_BYTES:
        raise DiskFull(
            f"The drive of {folder} has only {free / GIB:.1f} GiB free.",
            "Free some space, or choose another drive: a large model takes about 32 GiB.",
        )
    trial = folder / f"can be written.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"yes")
        trial.unlink()
    except OSError as error:
        raise files.disk_error(folder, error) from error
