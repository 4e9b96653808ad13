"""The first moments of a run's process: take the run's lock, then import torch and work.

Started by `Run.start` as `python -m blockskip.runs.worker_entry RUNFOLDER`. A worker is known by
its lock, so that it is taken before the imports, which take seconds and may fail. At its end the
next run of the queue begins, whether anybody watches or not.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from blockskip.core import files, processes
from blockskip.core.shortage import as_user_error
from blockskip.memory import monitor
from blockskip.memory.cards import VISIBLE
from blockskip.runs import failure, run_queue, vanished
from blockskip.runs.run import Run

log = logging.getLogger(__name__)


def main(folder: str) -> int:
    """Work on a run, unless another process does. Returns 0 done, 1 failed or busy, 130 paused or
    stopped."""
    code = _work(Run(Path(folder)))
    run_queue.advance_quietly()
    return code


def _work(run: Run) -> int:
    killed_in = vanished.stage_without_ram(run)  # of the worker before, which this one forgets

    def tell() -> None:
        mark = vanished.mark(run) | {"card": os.environ.get(VISIBLE, "")}
        files.write_json(run.folder / "worker.json", mark, lasting=False)

    with processes.holding(run.lock_path, tell) as ours:
        if not ours:
            return 1
        try:
            from blockskip.runs import worker_process
        except Exception as error:  # too little memory for torch, or a broken installation
            log.exception("failed")
            short = as_user_error(error, run.folder / "worker.log")
            end = failure.failed(vanished.with_figures(run, short, monitor.peak_rss_gib()))
            failure.record(run.folder, run.events_path, end)
            return 1
        return worker_process.main(str(run.folder), killed_in)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
