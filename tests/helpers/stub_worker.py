"""A worker that does nothing but prove that it works alone: see helpers/racing_starts.py.

`proof` in the run's folder has a line for each beginning and end. `busy` exists meanwhile; a second
worker could not make it.
"""

import os
import sys
import time
from pathlib import Path

from blockskip.core import processes
from blockskip.runs.run import Run


def main(folder: str) -> int:
    run = Run(Path(folder))
    with processes.holding(run.lock_path) as ours:
        if not ours:
            return 1
        os.close(os.open(run.folder / "busy", os.O_CREAT | os.O_EXCL))
        _write(run, "begun")
        until = time.monotonic() + 60
        while not (run.folder / "end").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.unlink(run.folder / "busy")
        _write(run, "ended")
    return 0


def _write(run: Run, word: str) -> None:
    with open(run.folder / "proof", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {word}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
