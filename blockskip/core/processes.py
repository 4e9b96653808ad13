"""Work in processes of their own, which live on when the studio or the terminal closes, and a lock
that dies with its holder. No torch in here.

A process is known by a small file that holds its number and the time it began: numbers are given
again, the two together are not.
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
    """`python -m module words`, detached; what it says goes to the end of `log`.

    mark: the file `find_running` will know it by. online: it may ask the hub, others may not. speaks: its
    stdout is a pipe to the caller.
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
    module: str, words: Sequence[str], *, said: str = "", seconds: float, online: bool = False
) -> str:
    """What a short-lived process answers on stdout; "" when it broke off or took longer than that.

    said: on its stdin, where no list of processes shows it. online: as in `start`.
    """
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            input=said,
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
    """What `find_running` knows a process by: its number, which may be given to another one later, and
    its start time (seconds since the epoch)."""
    return {"pid": pid, "create_time": psutil.Process(pid).create_time()}


def find_running(path: Path) -> psutil.Process | None:
    """The living process whose identity stands in a JSON file, or None."""
    try:
        data = files.read_json(path)
        process = psutil.Process(data["pid"])
        same = abs(process.create_time() - data["create_time"]) < 2.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def kill(process: psutil.Process | None, wait_s: float = 10.0) -> None:
    """Kill a process and wait until it is gone; None, or one that is gone already, is fine."""
    try:
        if process is not None:
            process.kill()
            process.wait(wait_s)
    except psutil.Error:
        pass


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Inside, True: this process alone holds the lock; False: another one does.

    The system frees the lock when its holder ends, however it ends. The file stays, empty.
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
    kept = {name: text for name, text in os.environ.items() if name not in _OFFLINE}
    return {
        **kept,
        **({} if online else {"HF_HUB_OFFLINE": "1"}),
        # also when another folder is chosen in the meantime
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
