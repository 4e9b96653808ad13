"""The process of a run. It applies fallbacks when memory runs out, and records how the run ended.

It is called by runs/worker_entry.py, which holds the run's lock. No other process writes the run's
events.
"""

from __future__ import annotations

import logging
from pathlib import Path

from blockskip.core import events, stages
from blockskip.core.errors import OutOfMemory, UserError
from blockskip.core.events import Failed, Note
from blockskip.core.power import keep_awake
from blockskip.core.shortage import as_user_error
from blockskip.memory.placement import free_memory
from blockskip.memory.planning.oom_fallback import is_out_of_memory, next_fallback
from blockskip.runs import checkpoints
from blockskip.runs.run import Run, step_of
from blockskip.runs.worker import StopRequested, Worker

log = logging.getLogger(__name__)
_ACTIVITIES = {
    stages.TEXT: "reading the captions",
    stages.LATENTS: "turning photos into latents",
    stages.RESIDUALS: "computing the skipped blocks",
    stages.TRAIN: "training",
}


def work(run: Run) -> None:
    """Execute a run, resuming with the next fallback each time graphics memory runs out.

    Raises UserError if no fallback is left, and the errors of Worker.work.
    """
    while stage := _run_until_oom(run):
        free_memory()
        _apply_fallback(run, stage)


def _run_until_oom(run: Run) -> str:
    """Return the stage that ran out of graphics memory, "" if the run is done. All tensors of the
    attempt are unreferenced afterwards."""
    worker = Worker(run)
    try:
        worker.work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.exception("out of graphics memory")
        return worker.reporter.failed_stage or stages.TRAIN
    return ""


def _apply_fallback(run: Run, stage: str) -> None:
    doing = _ACTIVITIES.get(stage, "loading the model")
    smaller = next_fallback(run.settings(), stage)
    if smaller is None:
        raise OutOfMemory(
            f"The graphics card has too little free memory for {doing}.",
            "Close other programs that use the card, or start a run with another budget; then "
            "resume.",
        )
    settings, words = smaller
    run.apply_fallback(settings)
    newest = checkpoints.list_checkpoints(run)[-1:]
    at = f"step {step_of(newest[0])}" if newest else "the beginning"
    run.append(
        Note(
            level="warning",
            text=f"Graphics memory ran out while {doing}. Training continues from {at} with less "
            f"memory: {words}.",
        )
    )


def main(folder: str) -> int:
    """Execute a run, recording its end in the events. Returns 0 done, 1 failed, 130 paused or
    stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    run = Run(Path(folder))
    try:
        with keep_awake():
            work(run)
        return 0
    except StopRequested as stop:
        newest = checkpoints.list_checkpoints(run)[-1:]
        run.append(events.Stopped(reason=stop.reason, step=step_of(newest[0]) if newest else 0))
        return 130
    except UserError as error:
        log.exception("failed")
        failed = error
    except Exception as error:
        log.exception("failed")
        failed = as_user_error(error, run.folder / "worker.log")
    run.append(Failed(title=failed.title, remedy=failed.remedy, kind=failed.kind))
    return 1
