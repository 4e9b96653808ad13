"""Tell the launchers whether a program runs from an environment beside them, which they then leave
as it is.

Run as a plain file, `python -I blockskip/cli/in_use.py`, with psutil. Exits with 0 if one does, else
with 1. No file says so, since a lock of a killed program would be wrong, and older versions have
none.
"""

import os
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = (".venv", ".venv-next")


def users(root: Path = ROOT) -> list[int]:
    """Return the ids of the processes that run from the environments in a folder, without this one
    and those that wait for it."""
    folders = tuple(os.path.normcase(os.path.realpath(root / x)) + os.sep for x in ENVIRONMENTS)
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["exe", "cmdline"]):
        # on Linux and macOS, a virtual environment's python is a link to the system's
        command = (process.info["cmdline"] or [""])[0]
        started = (command, process.info["exe"] or "")
        if process.pid not in own and any(_comparable(x).startswith(folders) for x in started):
            found.append(process.pid)
    return found


def _comparable(path: str | Path) -> str:
    """Return a path as the system compares them, links in its folders followed."""
    folder, name = os.path.split(path)
    return os.path.normcase(os.path.join(os.path.realpath(folder), name)) if folder else str(path)


if __name__ == "__main__":
    sys.exit(not users())
