"""Start a run: in a process of its own, or in one that has just trained another and keeps its model
open (runs/next_run.py). Does not import torch."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from blockskip.core import files, idle_worker, processes
from blockskip.core.errors import WrongState, command
from blockskip.memory import speed_process
from blockskip.memory.cards import VISIBLE
from blockskip.models.captioners import jobs as descriptions
from blockskip.runs.start_gate import starting

if TYPE_CHECKING:
    from blockskip.runs.run import Run

STAYS = "stays"  # a worker's second argument: it may wait for another run
T = TypeVar("T")


def start(run: Run, others: Sequence[Run], begin: Callable[[], T]) -> T:
    """Start or resume a run by `begin`, after which it holds the run's lock, and return its result.

    Ends what needs the card or RAM: workers that generate pictures of this run or of `others`, a
    measurement of speed, and describing photos. Raises UserError if the run is running or done.
    """
    with starting():
        info, state = run.info(), run.state()
        run.settings()  # those of another version may not be understood
        if state == "running":
            raise is_running(run)
        if state == "done" and info.get("lengthened", {}).get("steps", 0) <= run.step():
            raise WrongState(
                f"Run “{run.name}” is done.",
                f"Give it more steps: {command('resume')} {run.name} --steps N",
            )
        files.remove(run.control_path)
        run.lock_path.touch()  # also a worker that dies at once has begun
        speed_process.stop()
        descriptions.stop("A training began.", "Describe the rest of the photos after it.")
        begun = begin()
        for other in [run, *others]:  # new ones see this worker and wait
            processes.kill(other.image_worker())
        return begun


def begin_elsewhere(run: Run, module: str, card: str, stays: bool) -> subprocess.Popen | None:
    """Let another process work on a run: the one that waits on the card, None, else a new one.
    module: of the new one. card, stays: as for `Run.start`. Raises UserError."""
    key = run.settings().model_key
    if idle_worker.hand_over(card, key, run.folder, lambda: run.worker() is not None):
        return None
    idle_worker.free(card)
    words = [str(run.folder), *([STAYS] if stays else [])]
    log, variables = run.folder / "worker.log", {VISIBLE: card} if card else {}
    process = processes.start_holder(module, words, log, variables=variables)
    if process is None:
        raise is_running(run)
    return process


def is_running(run: Run) -> WrongState:
    """Return what to tell of a run that has a worker."""
    return WrongState(f"Run “{run.name}” is running.", "Watch it in the studio.")
