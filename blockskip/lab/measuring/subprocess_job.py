"""Work in a process of its own, for measurements: its peak is its own, and the card is free again when
it ends. What is asked for and what comes back are files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import Unexpected
from blockskip.core.paths import ROOT

KILLED = "out of memory: killed by the system"


def run_in_subprocess(
    module: str, job: object, folder: Path, name: str, data: Path | None = None
) -> dict:
    """`python -m module JOB REPORT`; gives the report, or {"name", "failed"} when the system killed it.

    job: a dataclass or a dict. folder: where both files are. data: the data folder, else the user's.
    Raises UserError when it breaks.
    """
    paths = folder / f"{name}.json", folder / f"{name}-report.json"
    files.write_json(paths[0], asdict(job) if is_dataclass(job) else job)
    paths[1].unlink(missing_ok=True)
    own = {"PYTHONUTF8": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    if data is not None:
        own["BLOCKSKIP_DATA"] = str(data.absolute())
    done = subprocess.run(
        [sys.executable, "-m", module, *(str(path.absolute()) for path in paths)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **own},
    )
    if done.returncode == -9:  # the system takes it when RAM is out
        return {"name": name, "failed": KILLED}
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        (folder / f"{name}.log").write_text(said, encoding="utf-8")
        last = (said.splitlines() or ["no word"])[-1]
        raise Unexpected(f"{name} broke: {last}", f"All it said: {folder / f'{name}.log'}")
    return files.read_json(paths[1])


def serve(work: Callable[[dict], dict]) -> None:
    """The other side: do the job of one file that this process was given, write the report to the
    other."""
    job, report = map(Path, sys.argv[1:])
    files.write_json(report, work(files.read_json(job)))
