"""What a process takes of RAM, by the operating system's word."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from blockskip.core.units import GIB


@dataclass
class Watch:
    """Peaks of this process's memory in GiB while it is entered, asked every 20 ms.

    anon_gib: ours alone. file_gib: pages of files, which the system may drop; -1 where it does not
    tell (anon_gib is then all).
    """

    anon_gib: float = 0.0
    file_gib: float = -1.0
    seconds: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            anon, file = memory_now()
            self.anon_gib, self.file_gib = max(self.anon_gib, anon), max(self.file_gib, file)
            if self._over.wait(0.02):
                return

    def told(self) -> dict:
        """anon_gib, file_gib, seconds, rounded."""
        told = ("anon_gib", "file_gib", "seconds")
        return {name: round(getattr(self, name), 3) for name in told}


def memory_now() -> tuple[float, float]:
    """(anonymous, file-backed) resident memory of this process in GiB; (all, -1) but on Linux."""
    if sys.platform != "linux":
        return psutil.Process().memory_info().rss / GIB, -1.0
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return int(kib["RssAnon"]) / 2**20, (int(kib["RssFile"]) + int(kib["RssShmem"])) / 2**20
