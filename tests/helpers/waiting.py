"""Wait for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(true: Callable[[], T], seconds: float = 60.0) -> T:
    """Return the first true answer."""
    deadline = time.monotonic() + seconds
    while not (said := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return said
