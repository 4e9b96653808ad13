"""Measures this computer's speed by itself at the first start, while nobody needs it.

A press of the user or a starting training ends the measurement. It begins again once nobody has
pressed anything for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from blockskip.memory import speed_process
from blockskip.memory.planning import measured_speed
from blockskip.studio import run_state

log = logging.getLogger(__name__)
State = Literal["running", "waiting", "over"]
QUIET_S = 20.0  # without a press, before it begins again
ATTEMPTS = 3  # that end by themselves, such as on a computer where torch does not start


def _measure(pressed: threading.Event) -> bool:
    """Measure in another process, and wait until it has ended. Return whether it measured."""
    process = speed_process.start()
    if process is None:
        return False
    if pressed.is_set():  # while it began, when nothing could be ended yet
        speed_process.stop()
    return speed_process.finished(process)


class Measuring:
    """When to measure. now: seconds of a monotonic clock. needed: whether the speed is unknown.
    busy: whether a training runs. work: measures unless the event is set, and returns whether it did
    once that has ended."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        needed: Callable[[], bool] = lambda: not measured_speed.is_known(),
        busy: Callable[[], bool] = lambda: run_state.running() is not None,
        work: Callable[[threading.Event], bool] = _measure,
        stop: Callable[[], None] = speed_process.stop,
    ) -> None:
        self._now, self._needed, self._busy = now, needed, busy
        self._work, self._stop = work, stop
        self._quiet_since = -QUIET_S
        self._pressed = threading.Event()
        self._attempts = 0
        self.running = False

    def press(self) -> None:
        """Note a press of the user, and end a measurement."""
        self._quiet_since = self._now()
        self._pressed.set()
        if self.running:
            self._stop()

    def wait_s(self) -> float | None:
        """Return the seconds until the next attempt, None if there is none to come."""
        if self._attempts >= ATTEMPTS or not self._needed():
            return None
        if self._busy():
            return QUIET_S
        return max(0.0, self._quiet_since + QUIET_S - self._now())

    def attempt(self) -> None:
        """Measure, unless a press comes first. One that was ended by a press does not count; one that
        worked is the last: a card that had no room for all of it may have it at the next start."""
        self._pressed.clear()
        if self.wait_s() != 0:  # a press came just before
            return
        self.running = True
        try:
            measured = self._work(self._pressed)
        finally:
            self.running = False
        if not self._pressed.is_set():
            self._attempts += ATTEMPTS if measured else 1

    def loop(self) -> None:
        """Measure as soon as there is a quiet moment, and return once the speed is known."""
        while (wait := self.wait_s()) is not None:
            if wait > 0:
                time.sleep(min(wait, 1.0))
            else:
                self.attempt()


_measuring = Measuring()


def begin() -> None:
    """Measure in the background if this computer's speed is not known."""
    threading.Thread(target=_loop, daemon=True, name="measuring").start()


def press() -> None:
    """Note a press of the user."""
    _measuring.press()


def state() -> State:
    """Return whether the speed is being measured now, will be, or is known or cannot be."""
    if _measuring.running:
        return "running"
    return "over" if _measuring.wait_s() is None else "waiting"


def _loop() -> None:
    try:
        _measuring.loop()
    except Exception:
        log.exception("the speed could not be measured")
