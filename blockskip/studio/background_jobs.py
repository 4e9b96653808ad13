"""Jobs that need torch, run in child processes, because the studio never imports torch.

Each job has a key. A running job is not started again. Jobs are short and end with the studio; the
next request starts them again.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from blockskip.core import processes
from blockskip.core.errors import Unexpected, UserError, from_kind
from blockskip.core.paths import ROOT
from blockskip.core.shortage import of_exit_code, shortage

log = logging.getLogger(__name__)
_lock = threading.Lock()
_threads: dict[tuple, threading.Thread] = {}
_running: set[tuple] = set()
_errors: dict[tuple, UserError] = {}


def submit(key: tuple, args: Sequence[str], on_success: Callable[[], object] | None = None) -> None:
    """Start `python -m args…` unless it is running. `on_success` is called if it exits with 0."""
    with _lock:
        if key in _running:
            return
        _running.add(key)
        _errors.pop(key, None)
        thread = threading.Thread(target=_run_job, args=(key, list(args), on_success), daemon=True)
        _threads[key] = thread
        thread.start()


def wait(key: tuple) -> None:
    """Wait for a submitted job to end. Return at once if there is none."""
    with _lock:
        thread = _threads.get(key)
    if thread is not None:
        thread.join()


def running(key: tuple) -> bool:
    """Return whether a job is running."""
    with _lock:
        return key in _running


def error(key: tuple) -> UserError | None:
    """Return the error of the last attempt, None if it succeeded or was never made."""
    with _lock:
        return _errors.get(key)


def _run_job(key: tuple, args: list[str], on_success: Callable[[], object] | None) -> None:
    error: UserError | None = None
    try:
        done = subprocess.run(
            [sys.executable, "-m", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            env=processes.child_environment(),
            encoding="utf-8",
            errors="replace",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        if done.returncode:
            log.warning("%s failed: %s", args, done.stderr[-4000:])
            killed = of_exit_code(done.returncode, "a helper of the studio")
            error = killed or _parse_error(done.stdout, args)
        elif on_success:
            on_success()
    except Exception as problem:
        log.exception("%s failed", args)
        known = problem if isinstance(problem, UserError) else shortage(problem)
        error = known or Unexpected(str(problem))
    with _lock:
        _running.discard(key)
        if error:
            _errors[key] = error


def _parse_error(output: str, args: list[str]) -> UserError:
    """Return the error that a failed command printed with --json."""
    try:
        data = json.loads(output.strip().splitlines()[-1])
        return from_kind(data["kind"], data["error"], data["remedy"])
    except (ValueError, KeyError, IndexError):
        return Unexpected(f"{args[0]} ended with an error.", "Details are in studio.log.")
