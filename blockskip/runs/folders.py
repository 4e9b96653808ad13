"""The folders of runs: their names, the list of them, and the files of a step. Files and folders
that people put there are passed over."""

from __future__ import annotations

import datetime
import os
import re
from contextlib import suppress
from pathlib import Path

from blockskip.core import files, names
from blockskip.core.errors import BadInput, command
from blockskip.core.lasting_folders import sync_folder, sync_tree
from blockskip.core.output_files import check_folder
from blockskip.core.paths import data_dir
from blockskip.core.settings import Settings

_MAX_WORDS = 60  # bytes of trigger and class in a run's name
_STEP = re.compile(r"step-([0-9]{5,12})")


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


def _taken(folder: Path) -> BadInput:
    return BadInput(
        f"There is already a run called “{folder.name}” ({folder}).",
        f"Choose another name with --out, or continue it: {command('resume')} {folder.name}",
    )


def automatic_name(settings: Settings, started: datetime.datetime) -> str:
    """Return a run's name made of trigger, class and date."""
    words = names.safe_name(f"{settings.trigger}-{settings.class_name}", "run", _MAX_WORDS)
    return f"{words}-{started:%Y%m%d-%H%M%S}"


def claim(unfinished: Path, folder: Path, automatic: bool) -> Path:
    """Rename the folder of a new run, and return its name once all of it is on the disk. Two starts
    never get the same one.

    automatic: if the name is taken, add a number. Raises UserError if it is taken otherwise,
    OSError.
    """
    sync_tree(unfinished)
    while True:
        if automatic:
            others = [name for name in os.listdir(folder.parent) if name != unfinished.name]
            folder = folder.with_name(names.unused_name(folder.name, others))
        elif taken_name(folder):
            raise _taken(folder)
        try:
            os.rename(unfinished, folder)
            sync_folder(folder.parent)
            return folder
        except OSError:
            if not exists(folder):  # else another process was quicker
                raise


def exists(path: Path) -> bool:
    """Return whether a path is there, False if it cannot be."""
    try:
        return path.exists()
    except OSError:  # the name is too long, or a parent folder is not accessible
        return False


def run_folders(parent: Path) -> list[Path]:
    """Return the folders of runs, newest first, also unreadable ones. Raises UserError if `parent`
    cannot be read."""
    try:
        with os.scandir(parent) as entries:
            found = [entry.path for entry in entries if _is_run(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise files.read_error(error, parent) from error
    return [Path(folder) for folder in sorted(found, key=_changed, reverse=True)]


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


def _changed(folder: str) -> float:
    """Return when run.toml, or else the folder, was last changed; 0 if it vanished."""
    for path in (os.path.join(folder, "run.toml"), folder):
        with suppress(OSError):
            return os.stat(path).st_ctime
    return 0.0
