"""Detached processes, which survive the studio and the terminal, and a lock that the system frees
when its holder ends. Does not import torch.

A small file identifies a process by its id and start time, since ids are reused.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from blockskip.core import files
from blockskip.core.paths import ROOT, data_dir

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def start(
    module: str,
    words: Sequence[str],
    log: Path,
    *,
    mark: Path | None = None,
    online: bool = False,
    speaks: bool = False,
) -> subprocess.Popen:
    """Start `python -m module words`, detached, appending its output to `log`.

    mark: the file that identifies the process to `find_running`. online: whether it may access the
    Hugging Face hub. speaks: whether its stdout is a pipe to the caller.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if speaks else file,
            stderr=file,
            cwd=ROOT,
            env=_environment(online),
            **_detached(),
        )
    if mark is not None:
        files.write_json(mark, identity(process.pid))
    return process


def run_for_output(
    module: str, words: Sequence[str], *, stdin: str = "", seconds: float, online: bool = False
) -> str:
    """Run a short-lived process and return its stdout, or "" if it exceeds the time limit.

    stdin: text for its standard input, which process lists do not show. seconds: the time limit.
    online: as in `start`.
    """
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=_environment(online),
            encoding="utf-8",
            timeout=seconds,
            **_detached(),
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


def identity(pid: int) -> dict[str, float]:
    """Return what identifies a process to `find_running`: its id, which may be reused later, and
    its start time (seconds since the epoch)."""
    return {"pid": pid, "create_time": psutil.Process(pid).create_time()}


def find_running(path: Path) -> psutil.Process | None:
    """Return the live process identified by a JSON file, or None."""
    try:
        data = files.read_json(path)
        process = psutil.Process(data["pid"])
        same = abs(process.create_time() - data["create_time"]) < 2.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def kill(process: psutil.Process | None, wait_s: float = 10.0) -> None:
    """Kill a process and wait up to `wait_s` for its end. Ignores None and ended processes."""
    try:
        if process is not None:
            process.kill()
            process.wait(wait_s)
    except psutil.Error:
        pass


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Context manager that tries to lock a file and yields whether this process holds the lock.

    The system frees the lock when its holder ends, even by a crash. The empty file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False, preserve_lock_file=True)
    with suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _environment(online: bool) -> dict[str, str]:
    inherited = {name: text for name, text in os.environ.items() if name not in _OFFLINE}
    return {
        **inherited,
        **({} if online else {"HF_HUB_OFFLINE": "1"}),
        # the parent's folder, even if another one was chosen in the meantime
        "BLOCKSKIP_DATA": str(data_dir().absolute()),
        "PYTHONUTF8": "1",
        "PYTHONPATH": str(ROOT),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _detached() -> dict:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}
