"""A tiny trainer with a small FLUX, random latents and captions."""

from pathlib import Path

import torch
from helpers.tiny import tiny_flux
from torch import nn

from blockskip.core.settings import Settings
from blockskip.data.photos import Photo
from blockskip.data.schedule import build_schedule
from blockskip.models.families.base import Text
from blockskip.models.families.flux import Flux
from blockskip.training.draws import TrainingData
from blockskip.training.ranks import ALONE, Ranks
from blockskip.training.trainer import Trainer

CPU = torch.device("cpu")


SETTINGS = Settings.of(
    s_min_px=48,
    s_max_px=96,
    steps=7,
    batch=2,
    accumulation=2,
    front=1,
    back=2,
    window_steps=3,
    micro_batch=3,
    rank=4,
    lr=3e-3,
    seed=5,
)


def trainer(
    folder: Path,
    settings: Settings = SETTINGS,
    fingerprint: str = "f",
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    ranks: Ranks = ALONE,
) -> Trainer:
    photos = [Photo(path=Path("a.png"), caption="a cat", width=96, height=120, sha="")] * 2
    torch.manual_seed(11)
    draws = build_schedule(photos, settings, 16)
    data = TrainingData(
        draws,
        torch.randn(len(draws), 9, 12),
        Text(torch.randn(3, 7, 20), torch.randn(3, 10)),
        captions=[0, 1],
        class_caption=2,
        empty_caption=2,
    )
    model = nn.Module.to(tiny_flux(), dtype)
    return Trainer(model, Flux(), settings, data, device, folder, fingerprint, ranks=ranks)


def losses(job: Trainer, steps: int = 10**6) -> list[float]:
    values = []
    for loss in job.run():
        values.append(loss.loss)
        if len(values) == steps:
            break
    return values
