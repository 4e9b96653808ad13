"""A run's worker whose memory is limited from a stage on:

    python limited_worker.py FOLDER JOB

JOB is JSON: `kind` cgroup or data, `stage`, `mib`, and the `cgroup` folder. At the stage `start` mib
is the whole limit; elsewhere it is what the process may take beyond what it holds when that stage
begins. All else is the program's own worker.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20


@dataclass
class Limit:
    """A limit that begins once."""

    kind: str
    stage: str
    mib: float
    cgroup: str = ""
    begun: bool = False

    def begin(self, stage: str) -> None:
        """Limit the memory if this is the stage."""
        if stage != self.stage or self.begun:
            return
        self.begun = True
        {"cgroup": self._limit_cgroup, "data": self._limit_data}[self.kind]()

    def _limit_cgroup(self) -> None:
        folder = Path(self.cgroup)
        limit, used = _cgroup_files(folder)
        before = 0 if self.stage == "start" else int(used.read_text("ascii"))
        limit.write_text(str(int(before + self.mib * MIB)), "ascii")

    def _limit_data(self) -> None:
        before = 0 if self.stage == "start" else _data_bytes()
        most = int(before + self.mib * MIB)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _cgroup_files(folder: Path) -> tuple[Path, Path]:
    """Return the files of the limit and of the use, of either version of cgroups."""
    if (folder / "memory.max").exists():
        return folder / "memory.max", folder / "memory.current"
    return folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes"


def _data_bytes() -> int:
    """Return what RLIMIT_DATA counts of this process."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


def _watch(limit: Limit) -> None:
    """Let stages begin the limit. Call this where torch may be imported."""
    from blockskip.runs import worker
    from blockskip.runs.reporter import Reporter

    stage = Reporter.stage

    @contextmanager
    def limited(self: Any, name: str) -> Iterator[None]:
        with stage(self, name):
            limit.begin(name)
            yield

    save = worker.Worker._save_checkpoint

    def saving(self: Any, trainer: Any) -> Path:
        limit.begin("save")
        return save(self, trainer)

    Reporter.stage, worker.Worker._save_checkpoint = limited, saving  # type: ignore[method-assign]


def main(folder: str, job: str) -> int:
    """Work on a run as `python -m blockskip.runs.worker_entry` does."""
    limit = Limit(**json.loads(job))
    if limit.cgroup:
        Path(limit.cgroup, "cgroup.procs").write_text("0", "ascii")
    limit.begin("start")
    from blockskip.runs import worker_entry

    if limit.begun:
        return worker_entry.main(folder)
    entered: Callable[..., Any] = worker_entry.vanished.mark

    def mark(run: Any) -> dict:
        facts = entered(run)
        _watch(limit)  # the lock is held, and what the worker before left is read
        return facts

    worker_entry.vanished.mark = mark  # type: ignore[assignment]
    return worker_entry.main(folder)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
