"""Locations of the data: runs, models and caches share one folder, on a drive the user chooses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from blockskip.core import files
from blockskip.core.errors import BadFile, BadInput, DiskFull
from blockskip.core.lasting_folders import make_private
from blockskip.core.units import GIB

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
PRESETS = ROOT / "presets"
QUANTISED_CACHE = Path("cache", "quantised")  # relative to the data folder, shared by all runs
PRIVATE_FOLDERS = (
    "runs",
    "draft",
    "gradio",
    "describe",
)  # in the data folder, closed to other users
MIN_FREE_BYTES = 2 << 30  # required on the drive of a newly chosen data folder


def data_dir() -> Path:
    """Return the folder of runs, models and caches.

    It is $BLOCKSKIP_DATA, else the folder set by `set_data_dir` before this process started, else
    the user's data folder.
    """
    chosen = os.environ.get("BLOCKSKIP_DATA")
    if not chosen:
        return _saved_location()
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise BadInput(
            f"The environment variable BLOCKSKIP_DATA is {chosen}, but there is no such home "
            "folder.",
            "Set it to a whole path.",
        ) from error


def make_data_dir() -> Path:
    """Create the data folder if it is missing, and return it. Other users cannot open what holds
    photos and trainings.

    A folder that the user made is left as it is, but for those inside it. Raises UserError.
    """
    folder = data_dir()
    try:
        if folder.exists() and not folder.is_dir():
            raise BadFile(
                f"{folder} is a file, but models and runs need a folder there.",
                "Move it away, or set the environment variable BLOCKSKIP_DATA to another place.",
            )
        if not folder.exists() or folder == default_dir():
            make_private(folder)
        for name in PRIVATE_FOLDERS:
            make_private(folder / name)
    except OSError as error:
        raise files.disk_error(folder, error) from error
    return folder


def adapter_file(model: str) -> Path:
    """Return the file of a model's adapters for larger patches (sampling/dynamic_patches.py).

    The demo model's file is shipped.
    """
    if model == "demo":
        return ASSETS / "demo-ddit.safetensors"
    return data_dir() / "ddit" / f"{model}.safetensors"


def set_data_dir(path: Path | str) -> Path:
    """Set the folder of runs, models and caches, with effect from the next start.

    Nothing is moved. The contents of the old folder reappear if it is chosen again. Returns the
    folder, created if missing. Raises UserError if it is not writable, lies in the program's folder
    (which an update replaces), has too little space, or if $BLOCKSKIP_DATA overrides it.
    """
    folder = files.user_path(path)
    if os.environ.get("BLOCKSKIP_DATA"):
        raise BadInput(
            "The environment variable BLOCKSKIP_DATA sets the data folder and takes precedence.",
            "Remove it, or set it to the folder you want.",
        )
    if not folder.is_absolute():
        raise BadInput(
            f"“{path}” is not an absolute path.", "Enter it from the drive letter or / on."
        )
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
    """Return the data folder used if none was chosen."""
    folder = Path(platformdirs.user_data_dir("BlockSkip Studio", False))
    if folder.is_absolute():
        return folder
    try:  # a relative XDG_DATA_HOME must be ignored
        return Path.home() / ".local" / "share" / "BlockSkip Studio"
    except RuntimeError as error:
        raise BadInput(
            "This user has no home folder, where models and runs would lie.",
            "Set the environment variable BLOCKSKIP_DATA to a folder for them.",
        ) from error


def location_file() -> Path:
    """Return the path of the file that stores the chosen folder. Without it the default applies."""
    return default_dir() / "place.json"


@dataclass
class _Location:
    data_dir: str


@cache
def _saved_location() -> Path:
    try:
        return Path(files.read_json(location_file(), _Location).data_dir)
    except FileNotFoundError:
        return default_dir()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(
            f"{location_file()} cannot be read: it says where models and runs live.",
            "Delete it and choose the folder again; the runs themselves are safe.",
        ) from error


def _check_writable(folder: Path) -> None:
    """Raises UserError if the folder is not writable or its drive has too little space."""
    free = files.free_bytes(folder)
    if free < MIN_FREE_BYTES:
        raise DiskFull(
            f"The drive of {folder} has only {free / GIB:.1f} GiB free.",
            "Free some space, or choose another drive: a large model takes about 32 GiB.",
        )
    trial = folder / f"can be written.{os.getpid()}.tmp"
    try:
        if not folder.exists():
            make_private(folder)
        trial.write_bytes(b"yes")
        trial.unlink()
    except OSError as error:
        raise files.disk_error(folder, error) from error
