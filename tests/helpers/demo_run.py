"""Start the demo run and wait for a step."""

import subprocess
from contextlib import suppress

import pytest

from blockskip.core import events
from blockskip.core.paths import ASSETS
from blockskip.runs.run import Run

DEMO = ASSETS / "demo-photos"


def run_to_step(run: Run, step: int) -> subprocess.Popen:
    """Start the run and return its process once it has reported `step`."""
    process, (_, offset) = run.start(), run.events()
    while process.poll() is None:
        new_events, offset = run.events(offset)
        if any(isinstance(e, events.Loss) and e.step >= step for e in new_events):
            return process
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    pytest.fail(f"the run ended before step {step}: {run.state()}")
