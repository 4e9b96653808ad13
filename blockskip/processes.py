"""Child processes that live on when the studio or the terminal closes, and a lock that dies with its
holder. No torch in here.

A process is known by a small file that holds its number and the time it began: numbers are given
again, the two together are not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psutil

from blockskip import files
from blockskip.config import ROOT


def start(module: str, folder: Path, log: str, mark: Path | None = None) -> subprocess.Popen:
    """`python -m module folder`, detached; what it prints goes to the end of the file `log` in the
    folder. mark: the file `alive` will know it by."""
    environment = {
        **os.environ,
        "PYTHONUTF8": "1",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with open(folder / log, "ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=ROOT,
            env=environment,
            **_detached(),
        )
    if mark is not None:
        created = psutil.Process(process.pid).create_time()
        files.write_json(mark, {"pid": process.pid, "create_time": created})
    return process


def alive(mark: Path) -> psutil.Process | None:
    """The living process that a file names, or None."""
    try:
        data = files.read_json(mark)
        process = psutil.Process(data["pid"])
        same = abs(process.create_time() - data["create_time"]) < 2.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def end(process: psutil.Process | None, wait_s: float = 10.0) -> None:
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
    with open(path, "ab") as file:
        ours = _lock(file)
        try:
            yield ours
        finally:
            if ours and os.name == "nt":  # elsewhere closing the file is enough
                _lock(file, release=True)


def _lock(file: BinaryIO, release: bool = False) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)  # the byte that is locked need not exist
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK if release else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _detached() -> dict:
    if os.name == "nt":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}
