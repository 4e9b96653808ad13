"""The first moments of a run's process: take the run's lock, then import torch and work.

Started by `Run.start` as `python -m blockskip.runs.worker_entry RUNFOLDER [stays]`. A worker is
known by its lock, so that it is taken before the imports, which take seconds and may fail. At its end
the next run of the queue begins, whether anybody watches or not: here, with the model that is open,
where it can (runs/next_run.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from blockskip.core import files, processes
from blockskip.core.errors import UserError
from blockskip.core.shortage import as_user_error
from blockskip.memory import monitor
from blockskip.runs import failure, next_run, run_queue, run_start, vanished
from blockskip.runs.run import Run

PAUSED = 130  # or stopped
log = logging.getLogger(__name__)


def main(folder: str, *words: str) -> int:
    """Work on a run, unless another process does, and on those that follow. Returns 0 done, 1 failed
    or busy, PAUSED."""
    run, code = Run(Path(folder)), 1
    with ExitStack() as held:
        killed_in = vanished.stage_without_ram(run)  # of the worker before, which this one forgets
        if held.enter_context(_holding(run)):
            code = _work(run, killed_in, held, run_start.STAYS in words)
    run_queue.advance_quietly()
    return code


@contextmanager
def _holding(run: Run) -> Iterator[bool]:
    """Context manager: hold a run's lock. Yields whether it is ours; on a full disk it cannot be."""
    with ExitStack() as stack:
        begin = partial(next_run.mark_begun, run)
        try:
            ours = stack.enter_context(processes.holding(run.lock_path, begin))
        except OSError as error:
            log.exception("failed")
            failure.reserve(run.folder)
            end = failure.failed(files.disk_error(run.folder, error))
            failure.record(run.folder, run.events_path, end)
            ours = False
        yield ours


def _work(run: Run, killed_in: str | None, held: ExitStack, stays: bool) -> int:
    """Work on a run whose lock is held, and on those that follow."""
    try:
        from blockskip.runs import worker_process
        from blockskip.runs.kept_model import KeptModel
    except Exception as error:  # too little memory for torch, or a broken installation
        log.exception("failed")
        short = as_user_error(error, run.folder / "worker.log")
        end = failure.failed(vanished.with_figures(run, short, monitor.peak_rss_gib()))
        failure.record(run.folder, run.events_path, end)
        return 1
    kept = KeptModel()
    while True:
        code = worker_process.main(str(run.folder), killed_in, kept)
        if code == PAUSED or not kept.key:  # its user wants the memory, or the model is not whole
            return code
        try:
            following = next_run.after(run, held, kept, stays)
        except (UserError, OSError):
            log.warning("nothing more is trained here", exc_info=True)
            return code
        if following is None:
            return code
        run, killed_in = following


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
