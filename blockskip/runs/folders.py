"""The folders of runs: from a name, a path, or the words of the settings."""

from __future__ import annotations

import datetime
import os
from contextlib import suppress
from pathlib import Path

from blockskip.core import files, names
from blockskip.core.errors import BadInput, command
from blockskip.core.output_files import check_folder
from blockskip.core.paths import data_dir
from blockskip.core.settings import Settings

_MAX_WORDS = 60  # bytes of trigger and class in a run's name


def runs_dir() -> Path:
    return data_dir() / "runs"


def run_folder(name: str) -> Path:
    """Return the folder for a new run's name or path. Raises UserError for an invalid one."""
    path = Path(name)
    if "\0" in name or not (path.is_absolute() or len(path.parts) > 1):
        return runs_dir() / checked_name(name)
    try:
        return files.user_path(name).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise BadInput(
            f"“{names.shown_name(name)}” is no folder: {error}.", "Name another."
        ) from error


def checked_name(name: str) -> str:
    """Return the name of a run as given. Raises UserError if not every system can hold it."""
    if not names.is_safe_name(name):
        raise BadInput(
            f"“{names.shown_name(name)}” cannot be the name of a run.",
            "Use letters, digits, spaces, dots, dashes and underscores.",
        )
    return name


def taken_name(folder: Path) -> bool:
    """Return whether there is such a folder, or one that Windows or macOS would take for it."""
    if exists(folder):
        return True
    with suppress(OSError):  # the parent folder is missing, or may not be read
        return any(names.same_name(folder.name, other) for other in os.listdir(folder.parent))
    return False


def check_new(name: str) -> None:
    """Raise BadInput if a new run cannot have this name or path; "" is a name made later."""
    folder = run_folder(name) if name else runs_dir()
    if name and taken_name(folder):
        raise _taken(folder)
    check_folder(folder)


def named_folder(name: str) -> Path:
    """Create the folder for a new run's name or path. Raises UserError if it is taken."""
    folder = run_folder(name)
    taken = taken_name(folder)
    try:
        if not taken:
            folder.mkdir(parents=True)
    except FileExistsError:  # another process was quicker
        taken = True
    except OSError as error:
        raise files.disk_error(folder, error) from error
    if taken:
        raise _taken(folder)
    return folder


def _taken(folder: Path) -> BadInput:
    return BadInput(
        f"There is already a run called “{folder.name}” ({folder}).",
        f"Choose another name with --out, or continue it: {command('resume')} {folder.name}",
    )


def automatic_folder(settings: Settings, started: datetime.datetime) -> Path:
    """Create a folder named after trigger, class and date. Two starts never get the same one."""
    words = names.safe_name(f"{settings.trigger}-{settings.class_name}", "run", _MAX_WORDS)
    name = f"{words}-{started:%Y%m%d-%H%M%S}"
    try:
        runs_dir().mkdir(parents=True, exist_ok=True)
        while True:
            folder = runs_dir() / names.unused_name(name, os.listdir(runs_dir()))
            with suppress(FileExistsError):  # another process was quicker
                folder.mkdir()
                return folder
    except OSError as error:
        raise files.disk_error(runs_dir() / name, error) from error


def exists(path: Path) -> bool:
    """Return whether a path is there, False if it cannot be."""
    try:
        return path.exists()
    except OSError:  # the name is too long, or a parent folder is not accessible
        return False
