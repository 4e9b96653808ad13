"""Tell the launchers whether a program runs from an environment beside them, which they then leave
as it is.

Run as a plain file, `python -I blockskip/cli/in_use.py`, with psutil. Exits with 0 if one does, else
with 1. No file says so, since a lock of a killed program would be wrong, and older versions have
none.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = (".venv", ".venv-next")


def users(root: Path = ROOT) -> list[int]:
    """Return the ids of the processes that run from the environments in a folder, without this one
    and those that wait for it."""
    folders = tuple(os.path.normcase(os.path.realpath(root / x)) + os.sep for x in ENVIRONMENTS)
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    return [
        process.pid
        for process in psutil.process_iter()
        if process.pid not in own and any(x.startswith(folders) for x in _programs(process))
    ]


def _programs(process: psutil.Process) -> Iterator[str]:
    """Yield the paths of a process's program: its file, and as it was called. On Linux and macOS, a
    virtual environment's python is a link to the system's."""
    with suppress(psutil.Error, OSError):  # another user's, or ended
        yield os.path.normcase(process.exe())
    with suppress(psutil.Error, OSError, IndexError):
        called = process.cmdline()[0]
        if os.path.dirname(called):
            path = os.path.join("" if os.path.isabs(called) else process.cwd(), called)
            folder, name = os.path.split(path)
            yield os.path.normcase(os.path.join(os.path.realpath(folder), name))


if __name__ == "__main__":
    sys.exit(not users())
