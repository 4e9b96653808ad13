"""Describe photos while nothing is trained: a process of their own does it (models/captioners)."""

from __future__ import annotations

from blockskip.core import idle_worker
from blockskip.core.errors import WrongState
from blockskip.models.captioners import jobs
from blockskip.models.captioners.jobs import Job
from blockskip.runs.run import list_runs
from blockskip.runs.start_gate import starting


def start(job: Job, during_training: bool = False) -> None:
    """Start describing photos. Raises UserError if photos are being described already, or if a run
    trains, since both need much memory; during_training: do it all the same."""
    with starting():
        training = any(run.worker() is not None for run in list_runs())
        if training and not during_training:
            raise WrongState(
                "A training is running, and describing photos needs memory too.",
                "Wait until it is done, pause it, or describe them all the same (in the terminal: "
                "--during-training).",
            )
        idle_worker.free()
        jobs.start(job)
