"""Carry the demo model's pretraining to a card for some minutes, and back to the processor.

The working folder is that of `lab pretrain-demo`. Its checkpoint, log and sheets are written in the
same form, so the processor goes on where the card stopped. A card has time for larger batches. The
training's progress is therefore counted in pictures: each stands for the seconds that it took the
processor so far.

Only `flow.pt` and `vae.pt` need to be carried. Latents and captions follow from the world's seed
and are made again where they are missing. An empty folder starts from the model in assets.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from blockskip.core import files
from blockskip.core.errors import BadFile
from blockskip.core.paths import ASSETS
from blockskip.lab.demo_world import data
from blockskip.lab.demo_world.export import export_pipeline, warm_start
from blockskip.lab.demo_world.flow import Pretraining, sample_average, train
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.pretrain import KINDS, draw_world, prepare_latents
from blockskip.lab.measuring.json_lines import read_lines
from blockskip.memory import monitor
from blockskip.memory.placement import pick_device

MIB = 2**20
WORLD = {"count": 16_000, "seed": 7}  # of `lab pretrain-demo`
PICTURES_A_SECOND = 28.0  # of one core at 128 px (assets/evidence/demo-model-128.md's log)
TINY_STEPS = 2
CARRIED = {
    "flow.pt": "both ways, or none: the model in assets",
    "vae.pt": "to the card, with flow.pt",
    "flow.jsonl": "both ways",
    "world": "no: made again for latents",
    "latents": "no: made again",
    "captions.npz": "no: made again",
    "model": "back instead of flow.pt, without optimisers: for --start-from",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job. family: of the demo model. minutes: on the card, this time. total: of the whole
    pretraining, in minutes of a core. times: pictures a step, as a multiple of a core's. tiny: take
    only TINY_STEPS steps."""

    work: str
    family: str = "flux"
    minutes: float = 10.0
    total: float = 1500.0
    times: int = 8
    device: str = "auto"
    tiny: bool = False


def work(job: Job, say: Callable[[str], None] = lambda line: None) -> dict:
    """Train, and return the figures, JSON-ready. Ctrl-C ends it early, with everything saved.

    Raises BadFile if the checkpoint lacks its VAE.
    """
    folder, kind, device = Path(job.work), KINDS[job.family], pick_device(job.device)
    cores = 1 if job.tiny else os.cpu_count() or 1
    seed = _prepare(folder, kind, cores, say)
    torch.set_num_threads(cores)  # preparing in one process has set it to 1
    monitor.reset_card_peaks()
    state = Pretraining(folder, kind, seed, device=device, times=job.times)
    before, began, clock = state.check(), time.monotonic(), _clock(state)
    last = state.step + TINY_STEPS if job.tiny else math.inf
    say(f"training from step {state.step} on")
    with _interrupted() as interrupted:

        def stop() -> bool:
            late = time.monotonic() - began >= 60 * job.minutes
            return late or state.step >= last or interrupted()

        progress = train(state, clock, job.total, 0, stop=stop)
        stopped = interrupted()
    seconds = time.monotonic() - began
    after = state.check()
    say("a sheet of samples")
    sample_average(state)
    export_pipeline(folder, kind, folder / "model")
    return {
        "device": str(device),
        "times": job.times,
        "seconds": seconds,
        "stopped": stopped,
        "progress": min(progress, 1.0),
        "pictures_a_second": (after["samples"] - before["samples"]) / seconds,
        "peak_gib": monitor.card_peaks_gib()[0],
        "unseen": {"before": before, "after": after},
        "mib": _sizes(folder),
    }


def _prepare(folder: Path, kind: type[Demo], processes: int, say: Callable[[str], None]) -> int:
    """Make what the training needs and the folder lacks. Returns the world's seed."""
    checkpoint, vae = folder / "flow.pt", folder / "vae.pt"
    if checkpoint.exists() and not vae.exists():
        raise BadFile(
            f"{checkpoint} is there without its vae.pt.", "Copy vae.pt from the same folder."
        )
    if not vae.exists():
        say(f"starting from {kind.FOLDER}")
        warm_start(folder, kind, ASSETS / kind.FOLDER)
    facts = folder / "world" / "world.json"
    world = files.read_json(facts, dict[str, int]) if facts.exists() else WORLD
    parts = -(-world["count"] // data.PART)
    if len(list((folder / "latents").glob("part-*.npz"))) < parts:
        say(f"drawing {world['count']} pictures and encoding them, in {processes} processes")
        draw_world(folder, world["count"], world["seed"], processes)
    else:
        processes = 1
    prepare_latents(folder, kind, world["count"], world["seed"], processes)
    sizes = (f"{name} {size:.1f} MiB" for name, size in _sizes(folder).items())
    say(f"in the folder: {', '.join(sizes)}")
    return world["seed"]


def _clock(state: Pretraining) -> Callable[[], float]:
    """Return the training's seconds so far, by its pictures and the processor's pace in its log."""
    lines = [line for line in read_lines(state.log_path) if "samples" in line]
    pictures = lines[-1]["samples"] - lines[0]["samples"] if lines else 0
    spent = lines[-1]["seconds"] - lines[0]["seconds"] if lines else 0
    pace = spent / pictures if spent > 0 and pictures > 0 else 1 / PICTURES_A_SECOND
    seconds, samples = state.seconds, state.samples
    return lambda: seconds + (state.samples - samples) * pace


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Context manager that yields whether the process was asked to end. The second time it ends at
    once."""
    came: list[int] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        came.append(number)
        restore()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        restore()


def _sizes(folder: Path) -> dict[str, float]:
    """Return the MiB of what may be carried, by name, for what is there."""
    sizes = {}
    for name in CARRIED:
        path = folder / name
        parts = path.rglob("*") if path.is_dir() else [path]
        sizes[name] = sum(part.stat().st_size for part in parts if part.is_file()) / MIB
    return {name: size for name, size in sizes.items() if size}
