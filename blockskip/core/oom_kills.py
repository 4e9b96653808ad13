"""Count the processes that the kernel has ended because RAM ran out.

Linux tells it to everybody, for the whole computer and for limits of containers alike. Other
systems end no process so: there, memory that cannot be had is an error of the process itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_COUNTERS, _BOOT = Path("/proc/vmstat"), Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Kills:
    """count: of processes ended since the start of the computer that `boot` identifies."""

    boot: str
    count: int


def kills() -> Kills | None:
    """Return the count so far, None where the system does not tell it."""
    try:
        counters = dict(line.split() for line in _COUNTERS.read_text("ascii").splitlines())
        return Kills(_BOOT.read_text("ascii").strip(), int(counters["oom_kill"]))
    except (OSError, ValueError, KeyError):
        return None
