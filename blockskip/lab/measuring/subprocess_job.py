"""Run a measurement in its own process, so that its peak is its own and the GPU is free afterwards.
Job and report are files."""

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
    """Run `python -m module JOB REPORT` and return the report, or {"name", "failed"} if the system
    killed it.

    job: a dataclass or a dict. folder: for both files. data: the data folder, by default the
    user's. Raises UserError if the process fails.
    """
    paths = folder / f"{name}.json", folder / f"{name}-report.json"
    files.write_json(paths[0], asdict(job) if is_dataclass(job) else job)
    paths[1].unlink(missing_ok=True)
    variables = {"PYTHONUTF8": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    if data is not None:
        variables["BLOCKSKIP_DATA"] = str(data.absolute())
    done = subprocess.run(
        [sys.executable, "-m", module, *(str(path.absolute()) for path in paths)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    if done.returncode == -9:  # killed by the system when out of RAM
        return {"name": name, "failed": KILLED}
    if done.returncode:
        errors = done.stderr.decode("utf-8", "replace").strip()
        (folder / f"{name}.log").write_text(errors, encoding="utf-8")
        last = (errors.splitlines() or ["no word"])[-1]
        raise Unexpected(f"{name} broke: {last}", f"All it said: {folder / f'{name}.log'}")
    return files.read_json(paths[1])


def serve(work: Callable[[dict], dict]) -> None:
    """Run the job of this process: read it from the first file argument, write the report to the
    second."""
    job, report = map(Path, sys.argv[1:])
    files.write_json(report, work(files.read_json(job)))
