"""What the page shows of the queue (runs/run_queue.py), and the thread that keeps it going."""

from __future__ import annotations

import threading
import time

from blockskip.core.errors import UserError
from blockskip.runs import run_queue
from blockskip.runs.expected_time import expected_time, finished_runs
from blockskip.runs.folders import runs_dir
from blockskip.runs.problem import reading
from blockskip.runs.run import Run
from blockskip.studio import queue_view, run_preferences, run_state, strings
from blockskip.studio.formatting import duration

_EVERY_S = 2.0  # only after a worker was killed: each calls the next one itself


def queue() -> str:
    """Return the waiting trainings and their buttons; a queue that cannot be read is shown as
    empty."""
    names = run_queue.waiting()
    runs = [Run(runs_dir() / name) for name in names]
    rows = [(run.name, run_preferences.pet_name(run), _facts(run)) for run in runs]
    return queue_view.queue(rows, bool(names) and run_queue.read().held)


def _facts(run: Run) -> str:
    """Return the steps of a training and how long it will take on this computer, if that is known."""
    try:
        with reading(run):
            settings = run.settings()
            expected = expected_time(settings, finished_runs())
    except UserError:  # the list below says what is wrong with it
        return ""
    if expected is None or expected.basis == "common":
        return strings.QUEUE_FACTS.format(steps=settings.steps)
    time = duration(60 * expected.minutes)
    return strings.QUEUE_FACTS_TIME.format(steps=settings.steps, time=time)


def place(run: Run) -> str:
    """Return what a waiting training's own page tells of its place, "" for one that does not
    wait."""
    names = run_queue.waiting()
    if run.name not in names:
        return ""
    ahead = names.index(run.name)
    return queue_view.place_note(run.name, ahead, len(names) - 1 - ahead, run_queue.read().held)


def let_go_on() -> None:
    """Start what waits, also after `hold`. Raises UserError."""
    run_queue.hold(False)
    run_queue.advance(run_state.start)


def remove(name: str) -> None:
    """Take a training out of the queue, unless it is not in it. Raises UserError."""
    if name in run_queue.read().names:
        run_queue.remove(name)


def move(name: str, by: str) -> None:
    """Move a waiting training. by: "-1" or "1". Raises UserError."""
    run_queue.move(name, -1 if by == "-1" else 1)


def keep_going() -> None:
    """Start a thread that lets the queue go on, for as long as this process lives."""

    def work() -> None:
        while True:
            run_queue.advance_quietly(run_state.start)
            time.sleep(_EVERY_S)

    threading.Thread(target=work, name="queue", daemon=True).start()
