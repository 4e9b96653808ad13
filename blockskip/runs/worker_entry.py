"""The first moments of a run's process: take the run's lock, then import torch and work.

Started by `Run.start` as `python -m blockskip.runs.worker_entry RUNFOLDER`. A worker is known by
its lock, so that it is taken before the imports, which take seconds and may fail.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path

from blockskip.core import files, processes
from blockskip.core.shortage import as_user_error
from blockskip.runs import failure
from blockskip.runs.run import Run

log = logging.getLogger(__name__)


def main(folder: str) -> int:
    """Work on a run, unless another process does. Returns 0 done, 1 failed or busy, 130 paused or
    stopped."""
    run = Run(Path(folder))
    pid = {"pid": os.getpid()}  # for people and other programs; ours ask the lock
    tell = partial(files.write_json, run.folder / "worker.json", pid, lasting=False)
    with processes.holding(run.lock_path, tell) as ours:
        if not ours:
            return 1
        try:
            from blockskip.runs import worker_process
        except Exception as error:  # too little memory for torch, or a broken installation
            log.exception("failed")
            end = failure.failed(as_user_error(error, run.folder / "worker.log"))
            failure.record(run.folder, run.events_path, end)
            return 1
        return worker_process.main(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
