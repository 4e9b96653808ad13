"""Run folders of earlier versions open, show and export, and a paused one goes on where it was.

data/0e42927 holds two runs of the demo model made by that version (8 steps, rank 1): one done, one
paused at step 4, and the LoRA with which that version ended the paused one. Their photos are the
first two of the first demo pet; caches are left out, since they are rebuilt.
"""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blockskip.core import events
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.runs import checkpoints, results, worker_process
from blockskip.runs.run import Run
from blockskip.runs.run_file import FORMAT

DATA = Path(__file__).with_name("data") / "0e42927"


@pytest.fixture
def opened(tmp_path):
    def copy(name: str) -> Run:
        folder = tmp_path / name
        shutil.copytree(DATA / name, folder)
        photos = sorted((ASSETS / "demo-photos" / "violet-cat").glob("*.jpg"))[:2]
        (folder / "photos").mkdir()
        for k, photo in enumerate(photos):
            shutil.copyfile(photo, folder / "photos" / f"{k:03d}-{photo.name}")
        return Run(folder)

    return copy


def test_a_run_without_a_format_has_its_plan_among_the_settings(opened):
    run = opened("done")
    assert "format" not in run.info() and run.state() == "done"
    settings = run.settings()
    assert (settings.plan.front, settings.plan.back, settings.plan.window_steps) == (6, 3, 4)
    assert (settings.steps, settings.rank, settings.plan.patches) == (8, 1, "full")
    recipe = (settings.shift, settings.rate_schedule, settings.caption_dropout)
    assert recipe == (1.0, "cosine", 0.0), "what it was made with"


def test_a_done_run_shows_and_exports(opened):
    run = opened("done")
    assert checkpoints.saved_steps(run) == [8]
    assert [len(list(p.glob("*.png"))) for p in sorted(run.previews_dir.glob("step-*"))] == [1] * 3
    found, _ = run.events()
    assert isinstance(found[-1], events.Done) and found[-1].steps == 8
    before = load_file(next(run.exports_dir.glob("*.safetensors")))
    after = load_file(results.export_run(run, "comfyui").path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_paused_run_goes_on_to_the_same_lora(opened):
    """To the same bytes on the same processor; another one adds in another order."""
    run = opened("paused")
    assert run.state() == "paused" and run.step() == 4
    worker_process.work(run)
    assert run.state() == "done"
    expected = load_file(DATA / "paused-finished.safetensors")
    found = load_file(checkpoints.adapter_path(run, 8))
    assert expected.keys() == found.keys()
    flat = [
        torch.cat([lora[name].flatten() for name in sorted(lora)]) for lora in (expected, found)
    ]
    assert torch.cosine_similarity(*flat, dim=0) > 0.9999


def test_a_run_of_a_later_version_says_so(opened):
    run = opened("done")
    run.write_info(run.info() | {"format": FORMAT + 1})
    with pytest.raises(UserError, match="later version"):
        run.settings()
