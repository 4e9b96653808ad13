"""Storage of runs: rename, delete, clear caches, measure sizes. Does not import torch."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil

from blockskip.core import files, processes
from blockskip.core.errors import BadFile, BadInput, WrongState
from blockskip.core.names import same_name
from blockskip.core.paths import QUANTISED_CACHE, data_dir
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.runs import failure, likeness, run_queue
from blockskip.runs.folders import checked_name, runs_dir, taken_name
from blockskip.runs.run import Run, find_run, list_runs
from blockskip.runs.start_gate import starting


class AvailableMemory(TypedDict):
    """Memory that a plan may use, in GiB."""

    ram_gib: float
    free_ram_gib: float
    disk_gib: float


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Sizes of the data folder, in GiB.

    drive: mount point of its drive (D:\\, /, /mnt/big). free_gib, total_gib: space on that drive.
    models_gib: downloaded models. caches_gib: caches of runs and models that `clean_all` would
    free; runs_gib includes the runs' caches.
    """

    drive: str
    free_gib: float
    total_gib: float
    models_gib: float
    runs_gib: float
    caches_gib: float


def usage() -> Usage:
    """Measure the data folder, file by file. Raises UserError if its drive is missing."""
    folder = files.existing_parent(data_dir())
    drive = next((p for p in (folder, *folder.parents) if os.path.ismount(p)), Path(folder.anchor))
    disk, runs = shutil.disk_usage(folder), list_runs()
    idle = [run for run in runs if run.worker() is None]
    caches = sum(files.folder_size(run.cache_dir) for run in idle)
    if len(idle) == len(runs):
        caches += files.folder_size(data_dir() / QUANTISED_CACHE)
    sizes = {
        "free_gib": disk.free,
        "total_gib": disk.total,
        "models_gib": files.folder_size(data_dir() / "models"),
        "runs_gib": files.folder_size(runs_dir()),
        "caches_gib": caches,
    }
    return Usage(drive=str(drive), **{name: size / GIB for name, size in sizes.items()})


def available_memory(
    ram_gib: float | None = None, disk_gib: float | None = None, processes: int = 1
) -> AvailableMemory:
    """Return the given values, by default this PC's RAM and the free space on the data drive. What
    is free of a RAM that was given is not known. processes: those that share the RAM.

    Free space includes existing quantised blocks, which the next run reuses. Raises UserError if
    the drive is missing.
    """
    free_ram_gib = math.inf
    if ram_gib is None:
        free_ram_gib = monitor.free_ram_gib()
        ram_gib = round(psutil.virtual_memory().total / GIB, 1)
    if disk_gib is None:
        free = files.free_bytes(data_dir()) + files.folder_size(data_dir() / QUANTISED_CACHE)
        disk_gib = round(free / GIB, 1)
    return {
        "ram_gib": ram_gib / processes,
        "free_ram_gib": free_ram_gib / processes,
        "disk_gib": disk_gib,
    }


def clean_all() -> int:
    """Delete the caches of all idle runs, and the shared quantised blocks if no run is running.

    Caches are rebuilt when needed. Temporary files of killed processes are deleted too. Returns the
    bytes freed.
    """
    with starting():
        runs = list_runs()
        freed = files.remove_leftovers(data_dir())
        freed += sum(_clean(run) for run in runs)
        if any(run.worker() is not None for run in runs):
            return freed
        return freed + _remove(data_dir() / QUANTISED_CACHE)


def rename(name: str, new_name: str) -> Run:
    """Rename a run within its folder. Raises UserError if it is running or the name is taken."""
    find_run(name), checked_name(new_name)  # before anything is written
    with starting():
        run = find_run(name)
        target = run.folder.with_name(new_name)
        if run.worker() is not None:
            raise WrongState(f"Run “{run.name}” is running.", "Stop it before renaming it.")
        if taken_name(target) and not same_name(run.folder.name, new_name):
            raise BadInput(
                f"There is already a run called “{target.name}”.", "Choose another name."
            )
        _end_helpers(run)
        files.replace(run.folder, target)
        run_queue.rename(run.name, target.name)
        return Run(target)


def delete(name: str) -> int:
    """Delete a run with its whole folder. Returns the bytes freed. Raises UserError if it is
    running or a file is in use."""
    find_run(name)  # before anything is written
    with starting():
        run = find_run(name)
        if run.worker() is not None:
            raise WrongState(f"Run “{run.name}” is running.", "Stop it before deleting it.")
        _end_helpers(run)
        freed = run.size_bytes()
        try:
            files.remove(run.folder)  # of a link, only the link
            failure.remove(run.folder)
        except OSError as error:
            raise BadFile(
                f"{error.filename or run.folder} could not be deleted.",
                "Close programs that show it, then delete the run again.",
            ) from error
        return freed


def _end_helpers(run: Run) -> None:
    """Kill the processes that make pictures and measure likeness; both go on when asked again."""
    processes.kill(run.image_worker())
    processes.kill(processes.holder(likeness.lock(run)))


def remove_damaged_cache(run: Run, path: Path) -> bool:
    """Delete a damaged file if it is one of the run's or models' caches, which are made again.
    Returns whether it is one."""
    is_cache = bool({run.cache_dir, data_dir() / QUANTISED_CACHE} & set(path.parents))
    if is_cache:
        files.remove(path)
    return is_cache


def _clean(run: Run) -> int:
    """Delete an idle run's cache, which is rebuilt identically when needed. Returns the bytes
    freed."""
    return _remove(run.cache_dir) if run.worker() is None else 0


def _remove(folder: Path) -> int:
    freed = files.folder_size(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return freed
