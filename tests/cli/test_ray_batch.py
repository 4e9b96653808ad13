"""A batch on a real Ray cluster of this computer. Needs the package ray, and takes minutes:

python -m pip install ray==2.60.0 && ./launch.sh test tests/cli/test_ray_batch.py
"""

import json
import os
import shutil
import subprocess
import sys

import psutil
import pytest
import torch
from helpers.waiting import until
from safetensors.torch import load_file

from blockskip.core import events
from blockskip.core.paths import ASSETS, ROOT
from blockskip.runs.run import find_run, list_runs

pytest.importorskip("ray")
PETS = ("ada", "bob", "cleo", "dot", "eva", "fin")
STEPS = 60  # with a checkpoint at step 50
SAME = ["--steps", str(STEPS), "--model", "demo", "--class", "cat"]


@pytest.fixture
def pets(tmp_path):
    demo = sorted(path for path in (ASSETS / "demo-photos").iterdir() if path.is_dir())
    for number, name in enumerate(PETS):
        shutil.copytree(demo[number % len(demo)], tmp_path / "pets" / name)
    return tmp_path / "pets"


def blockskip(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "blockskip", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


def learnt(run):
    return sum(isinstance(event, events.Loss) for event in run.events()[0])


def test_six_pets_and_a_worker_that_is_killed(pets):
    batch = blockskip("batch", pets, *SAME, "--ray", "local")
    until(lambda: any(learnt(run) > 52 for run in list_runs()), 600)
    hit = next(run for run in list_runs() if learnt(run) > 52)
    worker = hit.worker()
    assert worker is not None and worker.pid != batch.pid
    worker.kill()
    answer = json.loads(batch.communicate(timeout=1200)[0])
    assert [row["state"] for row in answer["pets"]] == ["done"] * len(PETS)
    begun = [event for event in hit.events()[0] if isinstance(event, events.Started)]
    assert [event.resumed_from for event in begun] == [0, 50], "it went on from its checkpoint"
    for row in answer["pets"]:
        trigger = find_run(row["run"]).settings().trigger
        alone = blockskip("train", pets / row["pet"], *SAME, "--trigger", trigger)
        lora = json.loads(alone.communicate(timeout=600)[0])["exported"]
        ours, theirs = load_file(row["lora"]), load_file(lora)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), row["pet"]
    assert not [p for p in psutil.process_iter(["name"]) if p.info["name"].startswith("ray::")]
