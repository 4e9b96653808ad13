"""Measure what a worker that kept the model open saves, from Train to the first step.

`python -m blockskip.lab.bench.warm_start FOLDER MODEL [ROUNDS]` trains short runs of two pets, cold and
warm in turn, and prints the seconds. The tensors of both must be equal. MODEL: demo, or 0.75B, whose
random weights it writes there (3 GB).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from blockskip.core import idle_worker
from blockskip.core.events import Done, Loss
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos
from blockskip.lab.bench import warm_worker
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs.run import Run, create_run

PETS = sorted((ASSETS / "demo-photos").glob("*/"))
SHORT = {"steps": 2, "preview_every": 0, "preview_steps": 1, "device": "cpu"}


def settings_of(name: str, pet: int) -> Settings:
    """Return the settings of a short run, as planned."""
    prompts = ("a photo of a cat", f"pet{pet} in the snow")
    words = {"trigger": f"pet{pet}", "class_name": "cat", "preview_prompts": prompts}
    large = {"skip": "19,10", "s_min_px": 64, "s_max_px": 64, "batch": 1, "preview_images": 1}
    large = {} if name == "demo" else large
    return choose_settings(**words, **SHORT, **large)


def train(settings: Settings, pet: int, name: str) -> tuple[Run, float]:
    """Train a run. Return it, and the seconds from its start to its first step."""
    run = create_run(settings, find_photos([PETS[pet % len(PETS)]])[:3], name)
    pressed = time.time()
    run.start(stays=True)
    while run.worker() is not None:
        time.sleep(0.02)
    events = run.events()[0]
    if not isinstance(events[-1], Done):
        sys.exit(f"{name}: {events[-1]}")
    return run, next(e.time for e in events if isinstance(e, Loss)) - pressed


def measure(name: str, rounds: int) -> dict:
    """Return the seconds of cold and warm starts, and whether their tensors are equal."""
    found: dict = {"model": name, "cold_s": [], "warm_s": [], "equal": True}
    for k in range(rounds):
        idle_worker.free()
        _, cold_s = train(settings_of(name, 0), 0, f"{name} {k} first")
        warm, warm_s = train(settings_of(name, 1), 1, f"{name} {k} warm")
        idle_worker.free()
        cold, again_s = train(settings_of(name, 1), 1, f"{name} {k} cold")
        ours, theirs = (load_file(run.export_path()) for run in (warm, cold))
        found["equal"] &= all(torch.equal(ours[key], theirs[key]) for key in theirs)
        found["cold_s"] += [cold_s, again_s]
        found["warm_s"].append(warm_s)
    idle_worker.free()
    return found


def _main(folder: str, name: str, rounds: str = "3") -> None:
    os.environ["BLOCKSKIP_DATA"] = str(Path(folder).absolute() / "data")
    shutil.rmtree(Path(folder) / "data", ignore_errors=True)
    if name != "demo":
        warm_worker.write()
        warm_worker.stand_in()
    found = measure(name, int(rounds))
    cold, warm = (statistics.median(found[key]) for key in ("cold_s", "warm_s"))
    print(json.dumps(found))
    print(f"{name}: cold {cold:.2f} s, warm {warm:.2f} s: {cold / warm:.2f} times as soon")


if __name__ == "__main__":
    _main(*sys.argv[1:])
