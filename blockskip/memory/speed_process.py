"""The process that measures this computer's speed, one at a time in a data folder.

It gives way: a starting training and a press in the studio end it (`stop`). Does not import torch
until it holds its lock.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from blockskip.core import idle_worker, processes
from blockskip.core.paths import data_dir

log = logging.getLogger(__name__)
LONGEST_S = 90.0  # of a computer that reads its libraries from a slow disk; ten seconds are usual


def start() -> subprocess.Popen | None:
    """Start measuring; None if another process does."""
    idle_worker.free()
    return processes.start_holder(__spec__.name, [], data_dir() / "speed.log")


def finished(process: subprocess.Popen) -> bool:
    """Wait for a process that measures. Return whether it did; one that hangs is ended."""
    try:
        return process.wait(LONGEST_S) == 0
    except subprocess.TimeoutExpired:
        stop()
        return False


def running() -> bool:
    """Return whether a process measures now."""
    return processes.is_locked(_lock())


def stop() -> None:
    """End the process that measures, if there is one. What it found so far is lost."""
    if running():
        processes.kill(processes.holder(_lock()))


def main() -> int:
    """Measure, unless another process does. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with processes.holding(_lock()) as ours:
        return int(not (ours and measure_and_keep()))


def measure_and_keep() -> bool:
    """Measure and keep the result. Return whether that worked: any driver may raise anything."""
    try:
        from blockskip.memory import measure_speed
        from blockskip.memory.planning import measured_speed

        measured_speed.save(measure_speed.measure())
        return True
    except Exception:
        log.exception("the speed could not be measured")
        return False


def _lock() -> Path:
    return data_dir() / "speed.lock"


if __name__ == "__main__":
    sys.exit(main())
