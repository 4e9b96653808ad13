"""Measure what a worker that kept the model open saves, from Train to the first step.

`python -m blockskip.lab.bench.warm_start FOLDER [ROUNDS]` writes models of random weights there (9
GB), trains short runs of two pets on each, cold and warm in turn, and prints the seconds. The
tensors of both must be equal.
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

from blockskip.core import files, idle_worker, presets
from blockskip.core.events import Done, Loss
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos
from blockskip.lab.bench.contenders import SIZES
from blockskip.lab.full_size import random_model
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.runs.run import Run, create_run

PETS = sorted((ASSETS / "demo-photos").glob("*/"))
SHORT = {"steps": 2, "preview_every": 0, "threads": 2, "device": "cpu"}
MODELS = ("demo", "0.75 B", "sana-0.6b")


def prepare(name: str, folder: Path) -> str:
    """Write a model's random weights where they are missing, and select them. Return its row."""
    if name == "demo":
        return name
    row = presets.model_row("demo" if name == "0.75 B" else name)
    if name == "0.75 B":
        shutil.copytree(ASSETS / "demo-model", folder, dirs_exist_ok=True)
        part = folder / "transformer"
        shape = files.read_json(part / "config.json") | SIZES["small"]
        shape |= {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128}
        shape["axes_dims_rope"] = (16, 56, 56)
        files.remove(part / "diffusion_pytorch_model.safetensors")
        files.write_json(part / "config.json", shape)
        kept = {key: value for key, value in shape.items() if not key.startswith("_")}
        model = random_model.flux(kept, torch.float32)
        random_model.write_checkpoint(model, part, stem="diffusion_pytorch_model")
    else:
        random_model.write_model(row, folder, torch.device("cpu"))
    sources.select_model(row, [folder])
    return row.name


def settings_of(name: str, row: str, pet: int) -> Settings:
    """Return the settings of a short run: as planned, or for the model of which no plan knows with
    FLUX.1-dev's span."""
    words = {"trigger": f"pet{pet}", "class_name": "cat"}
    if name != "0.75 B":
        return choose_settings(model=row, preview_prompts=("a photo of a cat",), **words, **SHORT)
    plan = {"front": 19, "back": 10, "s_min_px": 64, "s_max_px": 128, "window_steps": 2}
    return Settings.of(model=row, **words, **SHORT, **plan)


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


def measure(name: str, folder: Path, rounds: int) -> dict:
    """Return the seconds of cold and warm starts, and whether their tensors are equal."""
    row = prepare(name, folder)
    found: dict = {"model": name, "cold_s": [], "warm_s": [], "equal": True}
    for k in range(rounds):
        idle_worker.free()
        _, cold_s = train(settings_of(name, row, 0), 0, f"{name} {k} first")
        warm, warm_s = train(settings_of(name, row, 1), 1, f"{name} {k} warm")
        idle_worker.free()
        cold, again_s = train(settings_of(name, row, 1), 1, f"{name} {k} cold")
        ours, theirs = (load_file(run.export_path()) for run in (warm, cold))
        found["equal"] &= all(torch.equal(ours[key], theirs[key]) for key in theirs)
        found["cold_s"] += [cold_s, again_s]
        found["warm_s"].append(warm_s)
    idle_worker.free()
    return found


def _main(folder: str, rounds: str = "3") -> None:
    os.environ["BLOCKSKIP_DATA"] = str(Path(folder).absolute() / "data")
    shutil.rmtree(Path(folder) / "data", ignore_errors=True)
    for name in MODELS:
        found = measure(name, Path(folder).absolute() / name, int(rounds))
        cold, warm = (statistics.median(found[key]) for key in ("cold_s", "warm_s"))
        print(f"{name:10} cold {cold:.2f} s, warm {warm:.2f} s: {cold / warm:.2f} times as soon")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
