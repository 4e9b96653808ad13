"""Adapters of larger patches: what was stopped comes to the same bytes, what is learnt is learnt, and
the model that is learnt from stays as it is."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.lab.previews import distil
from blockskip.lab.previews.distil import Distillation, Plan
from blockskip.sampling import patch_adapters


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A plan of a few steps whose pictures are sampled."""
    work = tmp_path_factory.mktemp("dïstil") / "work"
    plan = Plan(work=work, model="demo", out=work / "a.safetensors", prompts=8, steps=4, batch=2)
    work.mkdir(parents=True)
    Distillation(plan).record(0)
    return plan


def fresh(plan, folder):
    """The same plan with the pictures, but nothing learnt."""
    folder.mkdir()
    for path in plan.work.glob("latents-*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return dataclasses.replace(plan, work=folder, out=folder / "a.safetensors")


def test_stopped_at_any_step_it_comes_to_the_same_bytes(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "held_out_error", lambda job, adapter: 0.5)
    whole, cut = fresh(recorded, tmp_path / "whole"), fresh(recorded, tmp_path / "cut")
    assert distil.distil(whole, lambda line: None)
    job = Distillation(cut)
    steps = iter([False, True])
    assert distil.train_adapter(job, 4, lambda line: None, lambda: next(steps)) is None
    lines = (cut.work / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["step"] == 2
    assert distil.distil(cut, lambda line: None)
    assert cut.out.read_bytes() == whole.out.read_bytes()


def test_what_is_missed_grows_less_and_the_model_stays(recorded, tmp_path):
    job = Distillation(dataclasses.replace(fresh(recorded, tmp_path / "work"), steps=12, batch=4))
    before = {name: tensor.clone() for name, tensor in job.transformer.state_dict().items()}
    new = patch_adapters.PatchAdapter(job.transformer, job.family, 2)
    begins = distil.held_out_error(job, new, 2)
    learnt = distil.train_adapter(job, 2, lambda line: None, lambda: False)
    assert distil.held_out_error(job, learnt, 2) < 0.95 * begins
    after = job.transformer.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in job.transformer.parameters())


def test_a_model_that_is_asked_by_position_is_recorded(tmp_path):
    """SANA's pipeline gives its transformer arguments without names."""
    work = tmp_path / "work"
    work.mkdir()
    plan = Plan(
        work=work, model="demo-sana", out=work / "a.safetensors", prompts=8, steps=2, batch=2
    )
    Distillation(plan).record(0)
    assert list(work.glob("latents-*"))


def test_models_whose_patches_cannot_be_merged_say_so(tmp_path):
    plan = Plan(work=tmp_path, model="qwen-image", out=tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="larger patches"):
        Distillation(plan)


def test_prompts_differ_and_are_the_same_each_time():
    for name, num in (("demo", 40), ("flux-dev", 90)):
        row = presets.model_row(name)
        texts = distil.captions(row, num, 0)
        assert texts == distil.captions(row, num, 0) != distil.captions(row, num, 1)
        assert len(texts) == num and len(set(texts)) > 0.7 * num
