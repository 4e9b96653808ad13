"""The process that keeps a model open for a while after a training, for the next one on its card.

It holds `idle-CARD.lock` in the data folder, and tells in `idle-CARD.json` what it keeps. It takes
one order, from `idle-CARD.order`: to train a run, or to end. Whoever needs the memory calls `free`.
Does not import torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from blockskip import __version__
from blockskip.core import files, processes
from blockskip.core.paths import data_dir

IDLE_S = 120.0  # how long it waits
_ANSWER_S = 10.0  # for an answer to an order; a process that gives none is ended
_KILL_S = 1.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Idle:
    """A process that waits. card: its UUID, "" if it was given none. key: of the model that it keeps
    open (Settings.model_key). held_gib: of graphics memory, which `free` gives back. until: when it
    ends, in seconds since 1970."""

    card: str
    key: str
    held_gib: float
    until: float
    version: str = __version__


@dataclass(frozen=True)
class _Order:
    """run: the folder of the run to train, "" to end."""

    run: str


def waiting_now() -> list[Idle]:
    """Return the processes that wait now."""
    found = []
    for lock in _locks():
        with suppress(OSError, ValueError):  # it has just ended
            if processes.is_locked(lock):
                found.append(files.read_json(lock.with_suffix(".json"), Idle))
    return found


def held_gib() -> float:
    """Return the graphics memory of those that wait in GiB, which the next training can have."""
    return sum(idle.held_gib for idle in waiting_now())


def hand_over(card: str, key: str, run: Path, begun: Callable[[], bool]) -> bool:
    """Let the process that waits on a card train a run, if it keeps the right model open. Return
    whether it does.

    run: its folder. begun: whether it has a worker. Call this inside the start gate
    (runs/start_gate.py). Raises UserError if the order cannot be written.
    """
    wanted = card, key, __version__
    if wanted not in [(idle.card, idle.key, idle.version) for idle in waiting_now()]:
        return False
    lock = _lock(card)
    _write_order(lock, str(run.absolute()))
    _wait_until_free(lock, begun)
    files.remove(_order_file(lock))
    return begun()


def free(card: str = "") -> None:
    """End the processes that wait on a card, on any by default, and return once their memory is
    free. One that has just begun a run goes on with it. Raises UserError."""
    for lock in _locks():
        waits = processes.holder(lock)
        if waits is None or (card and lock not in (_lock(card), _lock(""))):
            continue
        _write_order(lock, "")
        if not _wait_until_free(lock):
            processes.kill(waits, _KILL_S)
        files.remove(_order_file(lock))


@contextmanager
def waiting(idle: Idle) -> Iterator[bool]:
    """Context manager of the process that waits. Yields whether it may: no other one waits on its
    card."""
    lock = _lock(idle.card)
    with processes.held(lock) as ours:
        if ours:
            files.remove(_order_file(lock))
            files.write_json(lock.with_suffix(".json"), asdict(idle), lasting=False)
        yield ours


def next_order(card: str, wanted: Callable[[], bool], seconds: float = IDLE_S) -> Path | None:
    """Wait for an order. Returns the folder of the run to train; None: to end, because the time is
    over, or because `wanted`, asked once a second, tells that other programs need the memory."""
    path, began = _order_file(_lock(card)), time.monotonic()
    asked = began
    while (now := time.monotonic()) - began < seconds:
        with suppress(OSError, ValueError):  # none yet, or it is being written
            order: _Order = files.read_json(path, _Order)
            return Path(order.run) if order.run else None
        if now - asked > 1.0:
            asked = now
            if wanted():
                return None
        time.sleep(_POLL_S)
    return None


def _write_order(lock: Path, run: str) -> None:
    files.write_json(_order_file(lock), asdict(_Order(run)), lasting=False)


def _wait_until_free(lock: Path, or_this: Callable[[], bool] = lambda: False) -> bool:
    """Wait until nobody holds a lock, or something else is true. Return whether it came in time."""
    began = time.monotonic()
    while processes.is_locked(lock) and not or_this():
        if time.monotonic() - began > _ANSWER_S:
            return False
        time.sleep(_POLL_S)
    return True


def _locks() -> list[Path]:
    return list(data_dir().glob("idle-*.lock"))


def _lock(card: str) -> Path:
    return data_dir() / f"idle-{card or 'any'}.lock"


def _order_file(lock: Path) -> Path:
    return lock.with_suffix(".order")
