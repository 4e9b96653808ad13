"""Measure the resident memory of this process."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from blockskip.core.units import GIB


class Poller(ABC):
    """Calls `sample` every `EVERY_S` seconds in its own thread while entered."""

    EVERY_S = 0.02

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @abstractmethod
    def sample(self) -> None:
        """Take one sample."""

    def _poll(self) -> None:
        while True:
            self.sample()
            if self._over.wait(self.EVERY_S):
                return


@dataclass
class MemoryWatch(Poller):
    """Peaks of this process's memory in GiB while entered.

    anon_gib: anonymous memory. file_gib: file-backed pages, which the system may drop; -1 if
    unknown, and anon_gib is then the total.
    """

    anon_gib: float = 0.0
    file_gib: float = -1.0
    seconds: float = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._began
        super().__exit__(*error)

    def sample(self) -> None:
        anon, file = memory_now()
        self.anon_gib, self.file_gib = max(self.anon_gib, anon), max(self.file_gib, file)

    def to_dict(self) -> dict:
        """Return anon_gib, file_gib and seconds, rounded."""
        names = ("anon_gib", "file_gib", "seconds")
        return {name: round(getattr(self, name), 3) for name in names}


def memory_now() -> tuple[float, float]:
    """Return the (anonymous, file-backed) resident memory of this process in GiB, or (total, -1)
    except on Linux."""
    if sys.platform != "linux":
        return psutil.Process().memory_info().rss / GIB, -1.0
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return int(kib["RssAnon"]) / 2**20, (int(kib["RssFile"]) + int(kib["RssShmem"])) / 2**20
