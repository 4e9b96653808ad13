"""Work in a process that kills itself at its n-th file operation.

Operations are writes, fsyncs, renames, deletions and new folders inside the data folder. A write is
killed half way, the others before they begin. Where the system can fork, such a process is a copy
of one that has everything imported, which saves seconds each:

    python killed.py                       reads jobs from stdin, a JSON line each, and answers so
    python killed.py JOB                   does one job

With at = FREE nothing is counted: the work is recorded, or what a power cut left is taken up again.
"""

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import recorder

ROOT = Path(__file__).resolve().parents[2]
KILLED = 137  # exit code that stands for a kill
FREE = -1
OPERATIONS = "operations.jsonl"  # beside the data folder


def run(work: str, arguments: tuple, environment: dict[str, str], at: int = 0) -> int:
    """Run a function of corpus.killed_work, or of the module before its dot, in a process. at: the operation at which it kills
    itself, 0 for none: then its operations are written beside the data folder; FREE for neither.
    Returns its exit code, KILLED if it was killed."""
    job = json.dumps([work, arguments, environment, at])
    if not hasattr(os, "fork"):
        return _code(subprocess.run([sys.executable, __file__, job], env=_environment()).returncode)
    template = _template()
    assert template.stdin and template.stdout
    template.stdin.write(job + "\n")
    template.stdin.flush()
    return _code(int(template.stdout.readline()))


def operations(data: Path) -> list[tuple[str, str]]:
    """Return the operations (kind, path in the data folder) of work that was not killed."""
    lines = (data.parent / OPERATIONS).read_text(encoding="utf-8").splitlines()
    return [tuple(json.loads(line)) for line in lines]


@functools.cache
def _template() -> subprocess.Popen:
    """Return the process that is copied for each job. It ends when this one does."""
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
        encoding="utf-8",
    )


def _environment() -> dict[str, str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    own = {"PYTHONPATH": paths, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **recorder.preload()}


def _code(code: int) -> int:
    return KILLED if code in (-9, KILLED) else code


def _copy_for_each_job() -> None:
    from corpus import killed_work, power_work  # noqa: F401  (imported once for all copies)

    gc.collect()
    gc.freeze()  # or each collection of the program would search all that was imported

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _do(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _do(job: list) -> None:
    """Do a job and end this process."""
    work, arguments, environment, at = job
    os.environ |= environment
    data = Path(environment["BLOCKSKIP_DATA"])
    said = Path(environment.get("KILLED_LOG", data / "killed.log"))
    said.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)  # what the work says
    os.dup2(log, 2)
    module, _, name = work.rpartition(".")
    works = importlib.import_module(f"corpus.{module or 'killed_work'}")
    if at != FREE:
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        told = None if at else os.open(data.parent / OPERATIONS, flags)
        Operations(data, at, told).hook()
    code = 99
    try:
        code = getattr(works, name)(*(_tuples(value) for value in arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code or 0))  # as the end of a process of its own


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Operations:
    """Counts file operations below a folder and kills this process at one of them."""

    def __init__(self, folder: Path, at: int, told: int | None) -> None:
        self.folder, self.at, self.told, self.count = str(folder.resolve()), at, told, 0

    def hook(self) -> None:
        """Count from now on."""
        for name in ("replace", "rename", "unlink", "remove", "mkdir"):
            setattr(os, name, self._counting(name, getattr(os, name)))
        sync = os.fsync
        os.fsync = lambda fd: (self.reached("fsync", ""), sync(fd))[1]
        opened = builtins.open

        def counted_open(file: Any, mode: str = "r", *words: Any, **options: Any) -> Any:
            stream = opened(file, mode, *words, **options)
            writes = any(letter in mode for letter in "wax+")
            if writes and not isinstance(file, int) and self.inside(file):
                return CountedFile(stream, str(file), self)
            return stream

        builtins.open = io.open = counted_open  # type: ignore[assignment]

    def inside(self, path: Any) -> bool:
        try:
            text = os.path.abspath(os.fspath(path))
        except TypeError:
            return False
        return text.startswith(self.folder) and not text.endswith("killed.log")

    def reached(self, kind: str, path: str, before: Callable[[], object] = lambda: None) -> None:
        """Count one operation. before: what is still done of the one that is never finished."""
        self.count += 1
        if self.told is not None:
            line = json.dumps([kind, path.removeprefix(self.folder)]) + "\n"
            os.write(self.told, line.encode("utf-8"))
        if self.count == self.at:
            before()
            _kill_self()

    def _counting(self, name: str, call: Callable) -> Callable:
        def counted(path: Any, *words: Any, **options: Any) -> Any:
            if options.get("dir_fd") is None and self.inside(path):
                self.reached(name, str(path))
            return call(path, *words, **options)

        return counted


class CountedFile:
    """A file whose writes are counted; the last one is only half done."""

    def __init__(self, file: Any, path: str, operations: Operations) -> None:
        self._file, self._path, self._operations = file, path, operations

    def write(self, data: Any) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._operations.reached("write", self._path, half)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> CountedFile:
        self._file.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._file.__exit__(*problem)

    def __iter__(self) -> Any:
        return iter(self._file)


def _kill_self() -> None:
    """End at once, as by `kill -9` or the Task Manager: nothing is flushed or unlocked."""
    if os.name == "nt":
        import ctypes

        handle = ctypes.windll.kernel32.GetCurrentProcess()  # type: ignore[attr-defined]
        ctypes.windll.kernel32.TerminateProcess(handle, KILLED)  # type: ignore[attr-defined]
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.modules["corpus.killed"] = sys.modules["__main__"]
    _do(json.loads(sys.argv[1])) if sys.argv[1:] else _copy_for_each_job()
