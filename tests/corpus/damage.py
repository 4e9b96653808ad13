"""Damaged checkpoints, caches and logs of a run that was interrupted: it goes on, says so, and ends
with the bytes of a run that nothing happened to."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

from corpus import killed, kills
from corpus.cases import Case, demand
from corpus.mutations import FILE_MUTATIONS, Mutation, flipped
from helpers.scratch import scratch

from blockskip.core import events
from blockskip.runs.run import Run

AT = "checkpoints/step-00004"  # two older checkpoints and a window in use are there
CHECKPOINTS = 2
FLIPS = 6
MUTATIONS: dict[str, Mutation] = {
    **{
        name: FILE_MUTATIONS[name] for name in ("empty", "zeroed", "cut-half", "cut-last", "number")
    },
    **{f"flip-{seed}": flipped(seed) for seed in range(FLIPS)},
}
TEXTS = ("list", "number", "nested-list", "surrogate", "folder", "no-utf8", "null")


def cases(seed: int) -> list[Case]:
    """Return all damages."""
    found = []
    for kind in ("newest checkpoint", "latents", "window"):
        found += [(kind, name, mutation) for name, mutation in MUTATIONS.items()]
    for kind in ("control", "log"):
        found += [(kind, name, FILE_MUTATIONS[name]) for name in TEXTS]
    return [
        Case(f"damage-{n:03d}", f"damaged: {kind}", _damaged(kind, name, mutation), _check)
        for n, (kind, name, mutation) in enumerate(found)
    ]


@functools.cache
def interrupted() -> Path:
    """Return a data folder with a run that was killed after its third checkpoint."""
    points = kills.whole("train").points
    at = next(number for number, path in points if AT in path)
    for attempt in range(9):  # how often memory is logged depends on the time
        data = scratch("interrupted") / "data"
        arguments = kills.start_folder("train", data)
        code = killed.run("train", arguments, kills.environment(data), at + attempt // 2)
        checkpoints = len(_files(Run(data / "runs" / kills.NAME))["newest checkpoint"])
        if code == killed.KILLED and checkpoints == CHECKPOINTS:
            return data
        shutil.rmtree(data.parent)
    raise AssertionError(f"not interrupted with {CHECKPOINTS} checkpoints")


def _files(run: Run) -> dict[str, list[Path]]:
    """Return the files that are damaged, the newest last."""
    return {
        "newest checkpoint": sorted(run.checkpoints_dir.glob("step-*.safetensors")),
        "latents": sorted(run.cache_dir.glob("latents*.safetensors")),
        "window": sorted(run.cache_dir.glob("window-*.safetensors")),
        "control": [run.control_path],
        "log": [run.events_path],
    }


def _damaged(kind: str, name: str, mutation: Mutation) -> Callable[[Path], tuple]:
    def build(folder: Path) -> tuple:
        data = Path(shutil.copytree(interrupted(), folder / "data"))
        run = Run(data / "runs" / kills.NAME)
        found = _files(run)
        if kind == "control":
            run.control_path.write_text("{}", encoding="utf-8")
        mutation(found[kind][-1])
        return kind, found[kind][-1:], data, (str(run.folder),)

    return build


def _check(subject: tuple) -> None:
    kind, (path,), data, arguments = subject
    if kind == "log" and path.is_dir():
        return _check_said_elsewhere(data, arguments)
    kills.check("train", (data, arguments))
    if kind == "newest checkpoint":
        run = Run(data / "runs" / kills.NAME)
        notes = " ".join(e.text for e in run.events()[0] if isinstance(e, events.Note))
        demand(
            path.stem in notes or "checkpoint" in notes, f"the older one is used unsaid: {notes}"
        )
    return None


def _check_said_elsewhere(data: Path, arguments: tuple) -> None:
    """A log that cannot be written: the worker ends with the reason, and the run is listed."""
    code = killed.run("train", arguments, kills.environment(data))
    log = (data / "killed.log").read_text(encoding="utf-8", errors="replace")
    demand(code == 1, f"exit code {code}")
    run = Run(data / "runs" / kills.NAME)
    with kills.in_data(data):
        demand(run.state() in ("failed", "crashed"), f"state {run.state()}")
    texts = [p.read_text("utf-8", "replace") for p in run.folder.glob("*") if p.is_file()]
    demand(any("events.jsonl" in text for text in texts), f"the reason is nowhere: {log[-150:]}")
