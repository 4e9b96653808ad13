"""Photos in, a LoRA out, through the command line, on the demo model; and what bad input is
told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.demo_run import DEMO, run_to_step
from safetensors.torch import load_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.paths import ROOT
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import worker_process
from blockskip.runs.run import Run, create_run, list_runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run on the demo pet, made once; (answer of --json, data folder)."""
    data = tmp_path_factory.mktemp("data with blank ü")
    os.environ["BLOCKSKIP_DATA"] = str(data)
    words = "-m blockskip train --demo --steps 6 --preview-every 0 --out first --json".split()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), data


def test_photos_in_lora_out(trained):
    answer, data = trained
    assert set(answer) == {
        "run",
        "adapter",
        "exported",
        "steps",
        "seconds",
        "stages",
        "peak_vram_gib",
        "peak_rss_gib",
        "final_loss",
        "resumed",
    }
    assert answer["steps"] == 6 and answer["resumed"] is False
    run = Run(Path(answer["run"]))
    assert run.state() == "done"
    names = [p.name for p in sorted(run.previews_dir.iterdir())]
    assert names == ["step-00000", "step-00006"]
    lora = load_file(answer["exported"])
    assert all(torch.isfinite(t).all() for t in lora.values())
    settings = run.settings()
    skipped = [f"transformer_blocks.{i}." for i in range(settings.plan.front)]
    assert not [n for n in lora if any(n.startswith(f"transformer.{s}") for s in skipped)]
    assert not list(run.cache_dir.glob("window-*")), "windows are gone when they served"


def test_the_exported_file_works_in_the_library(trained):
    from diffusers import FluxPipeline

    answer, _ = trained
    folder = ROOT / presets.model_row("demo").source
    pipe = FluxPipeline.from_pretrained(folder)
    pipe.load_lora_weights(answer["exported"])
    own = load_file(answer["exported"])
    loaded = {n: p for n, p in pipe.transformer.named_parameters() if "lora_B" in n}
    assert len(loaded) == len([n for n in own if "lora_B" in n])
    assert any(p.abs().max() > 0 for p in loaded.values())


def test_the_demo_sana_goes_the_whole_way_too(tmp_path):
    """Latents that are not packed, text by cross attention, one stream."""
    from diffusers import SanaPipeline

    settings = choose_settings(model="demo-sana", steps=6, preview_every=0)
    run = create_run(settings, find_photos([sorted(DEMO.glob("*/"))[0]]), str(tmp_path / "sana"))
    worker_process.work(run)
    pipe = SanaPipeline.from_pretrained(ROOT / presets.model_row("demo-sana").source)
    pipe.load_lora_weights(run.export_path())
    learnt = [p for n, p in pipe.transformer.named_parameters() if "lora_B" in n]
    assert len(learnt) == 6 * 8 and all(p.abs().max() > 0 for p in learnt)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command in this process, which has torch already. Returns (exit code, answer)."""

    def run(*arguments: str) -> tuple[int, dict]:
        monkeypatch.setattr("sys.argv", ["blockskip", *arguments, "--json"])
        code, said = app.main(), capsys.readouterr()
        assert "Traceback" not in said.err
        return code, json.loads(said.out)

    return run


def test_export_in_every_format(trained, command, tmp_path, monkeypatch):
    answer, data = trained
    monkeypatch.setenv("BLOCKSKIP_DATA", str(data))
    for form in ("diffusers", "kohya"):
        out = tmp_path / f"{form}.safetensors"
        code, said = command("export", "first", "--format", form, "--out", str(out))
        assert code == 0 and said["keys"] == len(load_file(out))


def short_run(folder: Path) -> Run:
    settings = choose_settings(
        steps=20,
        batch=2,
        window_steps=4,
        checkpoint_every=2,
        preview_every=0,
        preview_steps=1,
        seed=1,
    )
    return create_run(settings, find_photos([sorted(DEMO.glob("*/"))[0]]), str(folder / "pet"))


def test_killed_paused_and_stopped_it_ends_with_the_same_bytes(tmp_path):
    """Killed in the first window, before any checkpoint; paused and stopped in the middle of
    others. Kills at every other moment: tests/corpus/kills.py."""
    whole = short_run(tmp_path / "whole")
    shutil.copytree(whole.folder, tmp_path / "cut" / "pet")
    cut = Run(tmp_path / "cut" / "pet")
    worker_process.work(whole)
    process = run_to_step(cut, 1)
    process.kill()
    process.wait()
    assert cut.state() == "crashed"
    for step, command, state in ((5, "pause", "paused"), (10, "stop", "stopped")):
        process = run_to_step(cut, step)
        cut.send_command(command)
        assert process.wait() == 130
        assert cut.state() == state
    assert list(cut.exports_dir.glob("*.safetensors")), "what was learnt so far can be used"
    worker_process.work(cut)
    assert cut.state() == "done"
    for name in ("exports/pet.safetensors", "checkpoints/step-00020.safetensors"):
        assert (cut.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.jpg").write_text("dear diary", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.jpg").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "No photos were given"),
        (["{folder}/nowhere"], "nowhere"),
        (["{folder}/empty"], "empty"),
        (["{folder}/notes"], "diary.jpg"),
        (["{folder}/zero.jpg"], "zero.jpg"),
        (["--demo", "--model", "gpt"], "no model called “gpt”"),
        (["--demo", "--model", "flux-dev", "--budget", "24"], "is not on this machine"),
        (["--demo", "--budget", "0.1"], "too small"),
        (["--demo", "--skip", "9,9"], "leaves none"),
        (["--demo", "--skip", "half"], "not understood"),
        (["--demo", "--patches", "round"], "patches"),
        (["--demo", "--steps", "0"], "steps"),
        (["--demo", "--device", "tpu"], "tpu"),
    ],
)
def test_bad_input_gets_one_plain_sentence(command, folder, arguments, words):
    code, said = command("train", *(a.format(folder=folder) for a in arguments))
    assert code in (1, 2) and words in said["error"] + said["remedy"]
    assert said["remedy"], "every problem comes with what to do"
    assert not list_runs(), "nothing half made is left"
