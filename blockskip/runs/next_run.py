"""What a worker does when its run has ended: it trains the next one on its card with the model that is
open. That is the next in the queue, or one that a user starts within a while (core/idle_worker.py).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from blockskip.core import files, idle_worker, processes
from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir
from blockskip.core.program import check_not_updated
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.memory.cards import VISIBLE
from blockskip.runs import run_queue, run_start, vanished
from blockskip.runs.run import Run, list_runs
from blockskip.runs.start_gate import starting

if TYPE_CHECKING:
    from blockskip.runs.kept_model import KeptModel

log = logging.getLogger(__name__)
LEAST_RAM_GIB = 1.0  # with less free, other programs need it more
Next = tuple[Run, str | None]  # and the stage in which the system ended its last worker


def mark_begun(run: Run) -> None:
    """Record that this process works on a run. On a full disk nothing is recorded."""
    mark = vanished.mark(run) | {"card": os.environ.get(VISIBLE, "")}
    with suppress(UserError, OSError):  # the training itself says what is wrong
        files.write_json(run.folder / "worker.json", mark, lasting=False)


def after(ended: Run, held: ExitStack, kept: KeptModel, stays: bool) -> Next | None:
    """Return the run that this process trains after one that has ended; None if there is none.

    held: holds the lock of `ended`, and then that of the run returned. stays: whether to wait for
    one. A process that waited in vain does not return but ends, so that its lock is freed with its
    memory. Raises UserError or OSError if it cannot wait.
    """
    card = os.environ.get(VISIBLE, "")
    starter = Starter(card, kept, stays)
    with ExitStack() as waits:
        with starting():
            try:
                run_queue.advance(starter, ended=ended)
            except (UserError, OSError) as error:
                log.warning("the queue does not go on: %s", error)
            stays = stays and not starter.card_is_taken and _wait(card, kept, waits)
            held.close()
        if stays:
            starter.taken = _ordered(card, starter.lock)
            if starter.taken is None:
                logging.shutdown()
                os._exit(0)
    held.callback(starter.lock.close)
    return starter.taken


class Starter:
    """Starts runs for `run_queue.advance`: one of them in this process, others in their own.

    card: of this process. kept: its model. taken: the run, once there is one. lock: holds its lock.
    """

    def __init__(self, card: str, kept: KeptModel, stays: bool) -> None:
        self.card, self.kept, self.stays = card, kept, stays
        self.lock, self.card_is_taken = ExitStack(), False
        self.taken: Next | None = None

    def __call__(self, run: Run, card: str) -> None:
        if card != self.card:
            run.start(card, self.stays)
            return
        if run.settings().model_key == self.kept.key:
            check_not_updated()
            self.taken = run_start.start(run, list_runs(), partial(_take, run, self.lock))
        else:
            self.kept.clear()
            run.start(card, self.stays)
        self.card_is_taken = True


def _take(run: Run, lock: ExitStack) -> Next:
    """Begin a run in this process. Raises WrongState if another one works on it, OSError if its folder
    cannot be written."""
    killed_in = vanished.stage_without_ram(run)
    with ExitStack() as stack:
        if not stack.enter_context(processes.held(run.lock_path)):
            raise run_start.is_running(run)
        processes.log_to(run.folder / "worker.log")
        mark_begun(run)
        lock.callback(stack.pop_all().close)
    return run, killed_in


def _wait(card: str, kept: KeptModel, waits: ExitStack) -> bool:
    """Begin to wait, in `waits`. Return whether this process may."""
    until = time.time() + idle_worker.IDLE_S
    idle = idle_worker.Idle(card=card, key=kept.key, held_gib=kept.held_gib(), until=until)
    processes.log_to(data_dir() / "idle.log")  # the run's own may be renamed or deleted meanwhile
    return bool(waits.enter_context(idle_worker.waiting(idle)))


def _ordered(card: str, lock: ExitStack) -> Next | None:
    """Return the run that another process hands over, None if none does in time."""
    folder = idle_worker.next_order(card, _others_need_memory())
    if folder is None:
        return None
    with suppress(UserError, OSError):  # who handed it over starts a new process then
        return _take(Run(Path(folder)), lock)
    return None


def _others_need_memory() -> Callable[[], bool]:
    """Return a function that tells whether RAM is short or another program came to the card."""
    known = monitor.card_processes().keys()

    def need() -> bool:
        short = psutil.virtual_memory().available < LEAST_RAM_GIB * GIB
        return short or not monitor.card_processes().keys() <= known

    return need
