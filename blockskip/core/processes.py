"""Detached processes, which survive the studio and the terminal, and locks that the system frees
when their holder ends. Does not import torch.

A worker is known by the lock that it holds as long as it works (`holding`). The lock's file tells
its process id. No clock and no reused id can mislead those who ask (`holder`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import psutil
from filelock import FileLock, Timeout
from pydantic import Field
from pydantic.dataclasses import dataclass

from blockskip.core import environment, files
from blockskip.core.paths import ROOT, data_dir
from blockskip.core.program import check_not_updated

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_PID_OFFSET = 1  # in a lock's file; Windows lets nobody else read the locked first byte
_BEGUN, _BUSY = "begun", "busy"
_PROBE_S = 1.0  # those who only ask may hold a lock for a moment


@dataclass(frozen=True)
class _Mark:
    """What older versions wrote of a worker: its id, and when it started."""

    pid: Annotated[int, Field(ge=0, le=2**31 - 1)]
    create_time: Annotated[float, Field(ge=0, le=1e15)]


def start(
    module: str,
    words: Sequence[str],
    log: Path,
    *,
    online: bool = False,
    speaks: bool = False,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start `python -m module words`, detached, appending its output to `log`.

    online: whether it may access the Hugging Face hub. speaks: whether its stdout is a pipe to the
    caller. variables: changes to its environment. Raises UserError if the program was updated while
    this process ran.
    """
    check_not_updated()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if speaks else file,
            stderr=file,
            cwd=ROOT,
            env={**child_environment(online), **(variables or {})},
            **_detached(),
        )


def start_holder(
    module: str,
    words: Sequence[str],
    log: Path,
    *,
    online: bool = False,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen | None:
    """Start a process that begins with `holding`, and wait until it holds its lock. variables:
    changes to its environment.

    Returns None if another process holds it, else the process, which may have failed meanwhile.
    """
    process = start(module, words, log, online=online, speaks=True, variables=variables)
    assert process.stdout is not None
    with process.stdout:  # other people's startup code may print first
        answers = (line.decode("utf-8", "replace").strip() for line in process.stdout)
        answer = next((line for line in answers if line in (_BEGUN, _BUSY)), "")
    if answer == _BUSY:
        process.wait()
        return None
    return process


@contextmanager
def holding(lock: Path, prepare: Callable[[], object] | None = None) -> Iterator[bool]:
    """Context manager of a process started by `start_holder`: hold its lock, and tell the starter.

    Yields whether the lock is ours. Enter it before any slow import. prepare: called with the lock
    held, before the starter is told. Further output goes to stderr, which is the log.
    """
    with held(lock) as ours:
        if ours and prepare is not None:
            prepare()
        with suppress(OSError):  # the starter may have ended
            print(_BEGUN if ours else _BUSY, flush=True)
        os.dup2(2, 1)
        yield ours


def log_to(path: Path) -> None:
    """Append what this process prints and logs from now on to a file. Raises OSError."""
    with open(path, "ab") as file:
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(file.fileno(), number)


def lower_priority(nice: int = 19) -> None:
    """Lower the priority of this process. nice: 19 is below everything else on the machine, which may
    be never; 5 leaves others most of a busy core."""
    if sys.platform == "win32":
        low = psutil.BELOW_NORMAL_PRIORITY_CLASS if nice < 19 else psutil.IDLE_PRIORITY_CLASS
        psutil.Process().nice(low)
        return
    os.nice(max(0, nice - os.nice(0)))  # only the administrator may raise it
    with suppress(OSError):  # Linux divides a core among sessions first; others have no such file
        Path("/proc/self/autogroup").write_text(str(nice), encoding="ascii")


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
            env=child_environment(online),
            encoding="utf-8",
            timeout=seconds,
            **_detached(),
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Context manager: hold a lock as the process that `holder` returns. Yields whether it is
    ours."""
    with locked(lock, _PROBE_S) as ours:
        if ours:
            _write_pid(lock)
        yield ours


def holder(lock: Path, mark: Path | None = None) -> psutil.Process | None:
    """Return the live process that holds a lock by `holding`, or None.

    None also if the holder's id is unknown; starting another one then fails, since it needs the
    lock.

    mark: JSON file with id and start time, by which version 0.1.0 knew a process.
    """
    for _ in range(50):  # it may have taken the lock a moment ago
        if not is_locked(lock):
            return _marked_process(mark) if mark else None
        process = _written_process(lock)
        if process is not None and is_locked(lock):  # still: so its id is not another one's by now
            return process
        time.sleep(0.01)
    return None


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock. Asking disturbs neither holders nor others who ask."""
    if sys.platform == "win32":  # without shared locks, others who ask may hold it for a moment
        return path.exists() and not any(_lockable(path) for _ in range(3))
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    finally:
        os.close(descriptor)
    return False


def _lockable(path: Path) -> bool:
    with locked(path) as ours:
        pass
    if not ours:
        time.sleep(0.01)
    return ours


def _write_pid(lock: Path) -> None:
    with open(lock, "r+b", buffering=0) as file:
        file.seek(_PID_OFFSET)
        file.write(b"%d\n" % os.getpid())
        file.truncate()


def _written_process(lock: Path) -> psutil.Process | None:
    try:
        with open(lock, "rb", buffering=0) as file:
            file.seek(_PID_OFFSET)
            return _alive(int(file.read(20)))
    except (OSError, ValueError):
        return None


def _marked_process(mark: Path) -> psutil.Process | None:
    try:
        data = files.read_json(mark, _Mark)
        process = _alive(data.pid)
        same = process and abs(process.create_time() - data.create_time) < 2.0
        return process if same else None
    except (OSError, ValueError, psutil.Error):
        return None


def _alive(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError, OverflowError):
        return None


def kill(process: psutil.Process | None, wait_s: float = 10.0) -> None:
    """End a process at once and wait up to `wait_s`. Ignores None and ended processes.

    It ends by SIGTERM, so that SIGKILL means that the system ended it (core/shortage.py).
    """
    try:
        if process is not None:
            process.terminate()
            process.wait(wait_s)
    except psutil.TimeoutExpired as late:
        with suppress(psutil.Error):
            psutil.Process(late.pid).kill()
    except psutil.Error:
        pass


@contextmanager
def locked(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Context manager that tries to lock a file for `wait_s` and yields whether this process holds
    the lock.

    The system frees the lock when its holder ends, even by a crash. The file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_s, poll_interval=0.02, preserve_lock_file=True)
    with suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def child_environment(online: bool = False) -> dict[str, str]:
    """Return the environment of a process of ours. online: as in `start`."""
    unwanted = (*_OFFLINE, *environment.PYTHON)
    inherited = {name: text for name, text in os.environ.items() if name not in unwanted}
    return {
        **inherited,
        **(environment.set_aside() if online else {"HF_HUB_OFFLINE": "1"}),
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
