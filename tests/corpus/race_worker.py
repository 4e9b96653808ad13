"""A worker that trains nothing, started through the program's own start code.

It runs the program's own worker process (`blockskip.runs.worker_process`) with another Worker, so
that marks and locks are the real ones and torch is never imported. It stands in for Python itself:
the program starts `sys.executable -m module words`.
"""

from __future__ import annotations

import os
import runpy
import stat
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from filelock import FileLock

BEGAN, GATE = "began.txt", "gate"
_MODULES = ("blockskip.runs.worker", "blockskip.memory.placement", "torch")


def executable() -> str:
    """Write a program that runs this file instead of Python, and return its path."""
    windows = os.name == "nt"
    path = Path(tempfile.gettempdir(), f"race-worker-{os.getpid()}{'.bat' if windows else '.sh'}")
    if not path.exists():
        line = f'"{sys._base_executable if windows else sys.executable}" "{__file__}"'
        path.write_text(f"@{line} %*\n" if windows else f'#!/bin/sh\nexec {line} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def wait_until_begun(folder: Path, process: subprocess.Popen) -> None:
    """Wait until the worker has begun or ended."""
    while process.poll() is None:
        if str(process.pid) in _begun(folder):
            return
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue


def _begun(folder: Path) -> list[str]:
    path = folder / BEGAN
    return path.read_text(encoding="utf-8").split() if path.exists() else []


class StopRequested(Exception):
    """As that of the program's worker."""


class Worker:
    """Says that it began, and ends when it is let through the gate."""

    def __init__(self, run: Any) -> None:
        self.folder: Path = run.folder

    def work(self) -> None:
        """Tell, and wait."""
        with open(self.folder / BEGAN, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        with FileLock(self.folder.parent.parent / GATE):
            pass


def main(words: list[str]) -> None:
    """Run `-m module words` with the stand-ins."""
    for name in _MODULES:
        sys.modules[name] = _StandIn(name)
    worker: Any = sys.modules["blockskip.runs.worker"]
    worker.Worker, worker.StopRequested = Worker, StopRequested
    module, sys.argv = words[words.index("-m") + 1], words[words.index("-m") + 1 :]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class _StandIn(types.ModuleType):
    """A module that has whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


if __name__ == "__main__":
    main(sys.argv[1:])
