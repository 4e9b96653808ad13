"""Twenty limits of memory through all stages of a run, and what each run says and becomes.

A worker is limited from a stage on, by a cgroup, where the kernel ends it, or by RLIMIT_DATA, where
an allocation fails, as on Windows. It must go on with less, or end with a sentence that has the plan
and the peak; then, without a limit, it must come to the LoRA of a run that was never limited.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from blockskip.core import events, processes
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import vanished
from blockskip.runs.run import Run, create_run
from blockskip.studio import run_state, run_view

WORKER = Path(__file__).with_name("limited_worker.py")
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
STAGES = ("load", "text", "latents", "residuals", "train", "preview", "save", "export")
# MiB: of all memory at the start, else beyond what is held when the stage begins
AT_START = {"cgroup": (60, 160), "data": (40, 160)}
BEYOND = {"cgroup": dict.fromkeys(STAGES, 1.0), "data": dict.fromkeys(STAGES, 1.0)}
BEYOND["data"] |= {"latents": 40.0, "residuals": 24.0, "train": 24.0, "preview": 16.0}  # some go on
# of what was learnt, between LoRAs of runs whose batches were divided otherwise: Adam's first steps
# have one size whatever the gradient, so that rounding can turn those of weights without a direction
ROUNDING = 0.02
MOST_S = 300


@dataclass(frozen=True)
class Limit:
    """One limit. kind: cgroup | data. mib: see AT_START and BEYOND."""

    kind: str
    stage: str
    mib: float

    @property
    def id(self) -> str:
        return f"{self.kind} {self.stage} {self.mib:g}"


@dataclass(frozen=True)
class Row:
    """What a limit led to. ended: done | eased | told | killed and told; anything else is wrong.
    adapter: equal | equal to rounding, once it was resumed."""

    limit: Limit
    ended: str
    said: str
    adapter: str

    @property
    def is_right(self) -> bool:
        told = self.ended in ("done", "eased", "told", "killed, told")
        return told and self.adapter.startswith("equal")


def limits() -> list[Limit]:
    """Return the limits: 20 where cgroups can be made, else 10."""
    kinds = ("cgroup", "data") if cgroups() else ("data",)
    return [
        Limit(kind, stage, mib)
        for kind in kinds
        for stage, mib in (
            *(("start", mib) for mib in AT_START[kind]),
            *BEYOND[kind].items(),
        )
    ]


def cgroups() -> Path | None:
    """Return the folder in which this user can make groups with a limit, None if there is none."""
    for folder in CGROUPS:
        has_limits = (folder / "memory.limit_in_bytes").exists()
        controllers = folder / "cgroup.subtree_control"
        has_limits = has_limits or controllers.exists() and "memory" in controllers.read_text()
        if has_limits and os.access(folder / "cgroup.procs", os.W_OK):
            return folder
    return None


def new_run(data: Path, name: str) -> Run:
    """Create a run that is short and passes through every stage."""
    os.environ["BLOCKSKIP_DATA"] = str(data)
    settings = choose_settings(
        steps=4,
        batch=4,
        window_steps=2,
        checkpoint_every=1,
        preview_every=2,
        preview_steps=2,
        preview_prompts=("a photo of sks cat", "a photo of sks cat in the snow"),
        preview_images=4,
        seed=1,
    )
    return create_run(settings, find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]]), name)


@functools.cache
def whole() -> Path:
    """Return the LoRA of a run without a limit."""
    run = new_run(Path(tempfile.mkdtemp(prefix="limits-whole-")), "whole")
    assert _work(run, Limit("data", "never", 0)) == 0, _log(run)
    return run.export_path()


def tried(limit: Limit, data: Path) -> Row:
    """Return what a run under the limit leads to."""
    run = new_run(data, "limited")
    code = _work(run, limit)
    ended, said = _end(run, code)
    again = 0 if code == 0 else _work(run, Limit("data", "never", 0))
    adapter = _compared(run.export_path()) if again == 0 else f"not resumed: {_last_title(run)}"
    return Row(limit, ended, said, adapter)


def _work(run: Run, limit: Limit) -> int:
    """Let a worker work under a limit, begun as `Run.start` does, and return its exit code."""
    run.lock_path.touch()
    with _group(limit) as group, open(run.folder / "worker.log", "ab") as log:
        job = {
            "kind": limit.kind,
            "stage": limit.stage,
            "mib": limit.mib,
            "cgroup": str(group or ""),
        }
        process = subprocess.Popen(
            [sys.executable, str(WORKER), str(run.folder), json.dumps(job)],
            stdout=log,
            stderr=log,
            env=processes.child_environment() | {"OMP_NUM_THREADS": "1"},
        )
        code = process.wait(MOST_S)
    run_state._children[str(run.folder)] = process
    return code


@contextmanager
def _group(limit: Limit) -> Iterator[Path | None]:
    parent = cgroups()
    if limit.kind != "cgroup" or parent is None:
        yield None
        return
    folder = parent / f"endurance-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        folder.rmdir()


def _end(run: Run, code: int) -> tuple[str, str]:
    """Return how a worker ended, and what a person is told, as the page says it."""
    notes = [e.text for e in run.events()[0] if isinstance(e, events.Note)]
    if code == 0:
        return ("eased" if "eased" in run.info() else "done"), " ".join(notes)
    failed = [e for e in run.events()[0] if isinstance(e, events.Failed)]
    error = failed[-1] if failed else vanished.explain(run, code)
    if error is None:
        return f"silent, exit code {code}", " ".join(notes)
    said = f"{error.title} {error.remedy}"
    return _judged(run, error, said, code), " ".join([*notes, said])


def _judged(run: Run, error: UserError | events.Failed, said: str, code: int) -> str:
    """Return `told`, or what is missing: the shortage, the plan beside the peak, the page."""
    if error.kind not in ("OutOfMemory", "UserError"):
        return f"told as {error.kind}"
    if error.kind == "OutOfMemory" and "was planned with" not in said:
        return "told without the plan"
    if "Traceback" in said or error.title not in run_view.messages(run_state.read(run)):
        return "not on the page"
    return "killed, told" if code < 0 else "told"


def _compared(path: Path) -> str:
    ours, right = load_file(path), load_file(whole())
    if ours.keys() != right.keys():
        return "other tensors"
    if all(torch.equal(ours[name], right[name]) for name in right):
        return "equal"
    learnt = [name for name in right if ".lora_B." in name or ".lora_up." in name]
    apart = sum(float((ours[name] - right[name]).norm() ** 2) for name in learnt) ** 0.5
    share = apart / sum(float(right[name].norm() ** 2) for name in learnt) ** 0.5
    return f"{'equal' if share <= ROUNDING else 'different'} to {share:.2%}"


def _last_title(run: Run) -> str:
    failed = [e.title for e in run.events()[0] if isinstance(e, events.Failed)]
    return failed[-1] if failed else _log(run)[-200:]


def _log(run: Run) -> str:
    return (run.folder / "worker.log").read_text("utf-8", "replace")


def try_all(tell: Callable[[int], None] = lambda done: None) -> list[Row]:
    """Return what all limits lead to. tell: called with the number of those that were tried."""
    rows = []
    for limit in limits():
        with tempfile.TemporaryDirectory(prefix="limits-") as name:
            rows.append(tried(limit, Path(name)))
        tell(len(rows))
    shutil.rmtree(whole().parents[3], ignore_errors=True)
    return rows
