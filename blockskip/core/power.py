"""Keep the PC awake while a run works. The screen may still turn off."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_CONTINUOUS, _SYSTEM_REQUIRED = 0x80000000, 0x00000001


@contextmanager
def keep_awake() -> Iterator[None]:
    """Context manager that keeps the machine awake, or does nothing if the system lacks support."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetThreadExecutionState(_CONTINUOUS | _SYSTEM_REQUIRED)
        try:
            yield
        finally:
            ctypes.windll.kernel32.SetThreadExecutionState(_CONTINUOUS)
        return
    command = (
        ["caffeinate", "-i", "cat"]
        if sys.platform == "darwin"
        else [
            "systemd-inhibit",
            "--what=sleep:idle",
            "--who=BlockSkip Studio",
            "--why=Training",
            "cat",
        ]
    )
    if shutil.which(command[0]) is None:
        yield
        return
    # `cat` waits until this process closes the pipe, so the inhibitor ends even if it crashes
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        holder.communicate(timeout=5)
