"""The demo model's pretraining, with a world of eight pictures and a model of two blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blockskip.lab.demo_world import batches, data, latents
from blockskip.lab.demo_world.flow import Pretraining
from blockskip.lab.demo_world.flux import DemoFlux
from blockskip.lab.gpu import demo


def tiny_world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fill a new working folder, ready to train, and return it."""
    for module in (data, latents):
        monkeypatch.setattr(module, "PART", 4)
    monkeypatch.setattr(batches, "HELD_OUT", 1)
    monkeypatch.setattr(DemoFlux, "BATCH", dict.fromkeys(DemoFlux.BATCH, 2))
    monkeypatch.setattr(demo, "WORLD", {"count": 8, "seed": 7})
    monkeypatch.setattr(demo, "sample_average", lambda state: None)
    for depth in ("SHALLOW", "DEEP"):
        monkeypatch.setattr(DemoFlux, depth, (1, 1))
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    torch.save({"vae": DemoFlux.build_ae().state_dict()}, folder / "vae.pt")
    demo._prepare(folder, DemoFlux, 1, lambda line: None)
    Pretraining(folder, DemoFlux, 7).save()
    return folder
