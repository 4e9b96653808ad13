"""Keep the PC from falling asleep while a run works; the screen may still go dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wakepy import keep


@contextmanager
def keep_awake() -> Iterator[None]:
    """The machine stays awake inside. Where that cannot be asked for, nothing happens."""
    awake = keep.running(on_fail="pass")
    awake.__enter__()
    try:
        yield
    finally:
        # who logs out of a Linux desktop ends the bus that was asked; the run is none the worse
        with suppress(RuntimeError):
            awake.__exit__(None, None, None)
