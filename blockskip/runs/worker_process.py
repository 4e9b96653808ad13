"""The process of a run. It applies fallbacks when memory runs out, and records how the run ended.

It is called by runs/worker_entry.py, which holds the run's lock. No other process writes the run's
events.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from blockskip.core import events, files, stages
from blockskip.core.errors import OutOfMemory, UserError, command
from blockskip.core.events import Event, Note
from blockskip.core.paths import QUANTISED_CACHE, data_dir
from blockskip.core.power import keep_awake
from blockskip.core.safetensors_files import Damaged
from blockskip.core.settings import Settings
from blockskip.core.shortage import as_user_error, is_ram_short
from blockskip.memory import monitor
from blockskip.memory.placement import free_memory, pick_device
from blockskip.memory.planning.oom_fallback import (
    is_ambiguous,
    is_out_of_memory,
    least_ram,
    next_fallback,
)
from blockskip.memory.vram_cap import available_gib, room_gib
from blockskip.runs import checkpoints, failure, ram_figures, storage, vanished
from blockskip.runs.folders import step_of
from blockskip.runs.kept_model import KeptModel
from blockskip.runs.preload import preload
from blockskip.runs.run import Run
from blockskip.runs.slow_steps import PlanAgain
from blockskip.runs.worker import StopRequested, Worker

log = logging.getLogger(__name__)
_BROKEN = "The graphics card failed although it has free memory. It is tried once more."
_SLOW = "Steps became slow for want of graphics memory."
_ACTIVITIES = {
    stages.TEXT: "reading the captions",
    stages.LATENTS: "turning photos into latents",
    stages.RESIDUALS: "computing the skipped blocks",
    stages.TRAIN: "training",
}


def work(run: Run, killed_in: str | None = None, kept: KeptModel | None = None) -> None:
    """Execute a run, resuming with the next fallback each time memory runs out, and without a cache
    file that turned out to be damaged.

    killed_in: the stage in which the system ended the worker before for want of RAM, None if it did
    not. kept: the model of the run before, and then of this one. Raises UserError if no fallback is left, and the errors of Worker.work.
    """
    for folder in (run.folder, data_dir() / QUANTISED_CACHE):
        files.remove_leftovers(folder)
    if killed_in is not None:
        _ease_after_kill(run, killed_in)
    seen: set[Path | str] = set()
    while before_next := _attempt(run, seen, kept or KeptModel()):
        free_memory()
        before_next()


def _attempt(run: Run, seen: set[Path | str], kept: KeptModel) -> Callable[[], None] | None:
    """Return what to do before the next attempt, None if the run is done. All tensors of the
    attempt are unreferenced afterwards. seen: faults that another attempt was to mend."""
    worker = Worker(run, kept)
    try:
        worker.work()
    except PlanAgain as again:
        return partial(_continue_with, run, again.settings, _SLOW, again.words)
    except Damaged as error:
        if not storage.remove_damaged_cache(run, error.path):
            raise
        log.exception("a damaged cache file")
        return partial(_note_damaged, run, error.path, seen)
    except Exception as error:
        stage = worker.reporter.failed_stage
        if is_out_of_memory(error, room_gib):
            log.exception("out of graphics memory")
            taken = worker.reporter.peaks.held_gib.get(stage, monitor.UNKNOWN)
            return partial(_apply_fallback, run, stage, taken)
        if is_ram_short(error):
            log.exception("out of RAM")
            return partial(_ease_ram, run, stage, str(worker.device))
        if not is_ambiguous(error):
            raise
        log.exception("the graphics card does not compute")
        return partial(_note_broken, run, seen)
    return None


def _note_broken(run: Run, seen: set[Path | str]) -> None:
    """Say that the GPU failed although it has free memory, and is tried once more.

    Raises UserError if that was done before: the settings are not to blame, and stay.
    """
    if _BROKEN in seen:
        raise UserError(
            "The graphics card stopped computing, although it has free memory.",
            "Restart the computer and update the card's driver, then resume. "
            f"{command('doctor')} tells more.",
        )
    seen.add(_BROKEN)
    run.append(Note(level="warning", text=_BROKEN))


def _note_damaged(run: Run, path: Path, seen: set[Path | str]) -> None:
    """Say that a damaged cache file is deleted, and made again by the next attempt.

    Raises Damaged if that was done before: the drive does not keep what is written.
    """
    if path in seen:
        raise Damaged(path, "it was made again and is damaged again", "Check the drive.")
    seen.add(path)
    run.append(Note(level="warning", text=f"{path.name} was damaged and is made again."))


def _apply_fallback(run: Run, stage: str, taken_gib: float) -> None:
    """Record less demanding settings for `stage`; "" is outside of all, where nothing helps.
    taken_gib: of graphics memory, < 0 if unknown.

    Raises OutOfMemory if there are none.
    """
    doing = _ACTIVITIES.get(stage, "loading the model")
    settings = run.settings()
    smaller = None
    if stage:  # before the first of them, the card may not even tell what is free
        free = available_gib(pick_device(settings.device))
        smaller = next_fallback(settings, stage, free, run.settings(original=True))
    if smaller is None:
        raise OutOfMemory(
            f"The graphics card has too little free memory for {doing}.",
            f"{ram_figures.of_card(settings, stage, taken_gib)} Close other programs that use the "
            "card, or start a run with another budget; then resume.",
        )
    settings, words = smaller
    _continue_with(run, settings, f"Graphics memory ran out while {doing}.", words)


def _ease_ram(run: Run, stage: str, device: str) -> None:
    """Record settings that take less RAM in `stage`; "" is outside of all. device: as torch names
    it.

    Raises OutOfMemory if there are none.
    """
    settings, taken = run.settings(), monitor.peak_rss_gib()
    smaller = least_ram(settings, stage, device in ram_figures.SHARED, run.settings(original=True))
    if smaller is None:
        raise OutOfMemory(
            "There was not enough RAM for this run.",
            f"{ram_figures.of_ram(settings, stage, taken, device)} Close other programs, then "
            "resume.",
        )
    doing = _ACTIVITIES.get(stage, "loading the model")
    _continue_with(run, smaller[0], f"RAM ran out while {doing}.", smaller[1])


def _ease_after_kill(run: Run, stage: str) -> None:
    """Record settings that take less RAM in `stage`, if there are some: the system would end this
    worker like the one before."""
    settings = run.settings()
    shared = pick_device(settings.device).type in ram_figures.SHARED
    smaller = least_ram(settings, stage, shared, run.settings(original=True))
    if smaller is not None:
        _continue_with(
            run, smaller[0], "The system ended the training for want of RAM.", smaller[1]
        )


def _continue_with(run: Run, settings: Settings, why: str, words: str) -> None:
    """Record settings that take less memory, and say why and where training continues. words: what
    they change."""
    run.apply_fallback(settings)
    newest = checkpoints.list_checkpoints(run)[-1:]
    at = f"step {step_of(newest[0])}" if newest else "the beginning"
    text = f"{why} Training continues from {at} with less memory: {words}."
    run.append(Note(level="warning", text=text))


def main(folder: str, killed_in: str | None = None, kept: KeptModel | None = None) -> int:
    """Execute a run, recording its end in the events. killed_in, kept: as for `work`. Returns 0 done,
    1 failed, 130 paused or stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    run = Run(Path(folder))
    failure.reserve(run.folder)
    preload()
    end, code = _end_of(run, killed_in, kept)
    if end is not None and not failure.record(run.folder, run.events_path, end):
        return 1
    failure.remove(run.folder)
    return code


def _end_of(run: Run, killed_in: str | None, kept: KeptModel | None) -> tuple[Event | None, int]:
    """Execute a run. Returns the event of its end, unless it is done, and the exit code."""
    try:
        with keep_awake():
            work(run, killed_in, kept)
        return None, 0
    except StopRequested as stop:
        newest = checkpoints.list_checkpoints(run)[-1:]
        step = step_of(newest[0]) if newest else 0
        return events.Stopped(reason=stop.reason, step=step), 130
    except UserError as error:
        log.exception("failed")
        return failure.failed(error), 1
    except Exception as error:
        log.exception("failed")
        short = as_user_error(error, run.folder / "worker.log")
        return failure.failed(vanished.with_figures(run, short, monitor.peak_rss_gib())), 1
