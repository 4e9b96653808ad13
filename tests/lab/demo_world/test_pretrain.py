"""Pretraining goes the whole way from drawing to a pipeline folder, and goes on where it stopped."""

import json

import torch
from diffusers import FluxPipeline

from blockskip.lab.demo_world import batches, data, latents, pretrain, vae
from blockskip.lab.demo_world.flux import DemoFlux


def test_a_demo_model_is_pretrained_and_trained_further(tmp_path, monkeypatch):
    for module in (data, latents, vae):
        monkeypatch.setattr(module, "PART", 4)
    monkeypatch.setattr(batches, "HELD_OUT", 1)
    two = vae.held_out_pictures(2, DemoFlux.NATIVE_PX)
    monkeypatch.setattr(vae, "held_out_pictures", lambda *_: two)
    monkeypatch.setattr(DemoFlux, "BATCH", dict.fromkeys(DemoFlux.BATCH, 2))
    job = {"count": 4, "vae_minutes": 0.0, "vae_steps": 1, "minutes": 0.0, "ranks": 1}
    first = pretrain.pretrain(tmp_path / "work", tmp_path / "out", steps=2, **job)
    assert first["step"] == 2 and first["samples"] == 4
    state = torch.load(tmp_path / "work" / "flow.pt", weights_only=True)
    torch.save(state | {"done": False}, tmp_path / "work" / "flow.pt")
    assert pretrain.pretrain(tmp_path / "work", tmp_path / "out", steps=3, **job)["step"] == 3
    lines = (tmp_path / "work" / "flow.jsonl").read_text(encoding="utf-8").splitlines()
    assert {"step", "samples"} <= json.loads(lines[-1]).keys()
    pipe = FluxPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    assert len(pipe.transformer.transformer_blocks) == DemoFlux.DEEP[0]
