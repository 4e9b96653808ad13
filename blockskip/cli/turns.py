"""Start a run from the terminal when its turn in the queue has come."""

from __future__ import annotations

import subprocess
import time

from rich.console import Console
from rich.text import Text

from blockskip.core.errors import command
from blockskip.runs import run_queue
from blockskip.runs.folders import runs_dir
from blockskip.runs.run import Run

_POLL_S = 0.5


def take_turn(run: Run, console: Console) -> subprocess.Popen | None:
    """Start a run as soon as no run before it needs its card. Returns its process, None if it is not
    a new one or another process started it. Ctrl-C takes it out of the queue.

    A run outside the data folder is started at once. Raises UserError if it cannot be started.
    """
    if run.folder.parent != runs_dir() or run.worker() is not None:
        return run.start()
    starter = Starter(run)
    run_queue.enter(run)
    told = ""
    try:
        while True:
            run_queue.advance(starter)
            if starter.problem is not None:
                raise starter.problem
            waiting = run_queue.waiting()
            if starter.process is not None or run.name not in waiting:
                return starter.process
            if (words := _turn(waiting.index(run.name))) != told:
                told = words
                console.print(Text(words, style="yellow"))
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        run_queue.remove(run.name)
        raise


class Starter:
    """Starts runs for `run_queue.advance`, and keeps what happened to one of them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.process: subprocess.Popen | None = None
        self.problem: Exception | None = None

    def __call__(self, run: Run, card: str) -> None:
        ours = run.folder == self.run.folder
        try:
            process = run.start(card)
        except Exception as error:
            self.problem = error if ours else self.problem
            raise
        self.process = process if ours else self.process


def _turn(ahead: int) -> str:
    if run_queue.read().held:
        return f"The queue is held. It goes on with: {command('queue go')}"
    before = f" {ahead} before it." if ahead else ""
    return f"Another run trains; this one waits in the queue and begins by itself.{before}"
