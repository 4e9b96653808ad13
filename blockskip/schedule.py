"""Photos, settings and a seed → every draw of the run (METHOD.md §1.1, §1.2).

A draw is one training example of one micro-step: photo, mirror, t, crop box, noise seed, caption.
The schedule is a pure function; nothing random happens after it. The crop side follows t (dynamic
patch sampling): high noise sees the whole pet, low noise a close-up.

Some draws carry the bare class word, with the untrained model's own answer as their target (ours,
after "differential output preservation" in other trainers): “a photo of a cat” must not become this
cat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from blockskip.config import Settings
from blockskip.flow import generator, sample_t
from blockskip.photos import Photo


@dataclass(frozen=True)
class Draw:
    """One training example. The box lies in the photo scaled to short side s_max, in pixels."""

    index: int
    photo: int
    flip: bool
    t: float
    left: int
    top: int
    side: int
    noise_seed: int
    prior: bool  # with the bare class word, and the untrained model's answer as its target


def crop_side(settings: Settings, t: float, multiple: int, source: torch.Generator) -> int:
    """Side of the crop in pixels, a multiple of the family's pixel multiple."""
    share = {"dynamic": t, "reversed": 1 - t}.get(settings.patches, 1.0)
    if settings.patches == "random":
        share = torch.rand((), generator=source, dtype=torch.float64).item()
    side = settings.s_min_px + share * (settings.s_max_px - settings.s_min_px)
    return int(side / multiple + 0.5) * multiple


def train_side(settings: Settings) -> int:
    """Side in pixels at which the model is trained: every crop is resized to it."""
    return settings.s_max_px if settings.patches == "full" else settings.s_min_px


def scaled_size(photo: Photo, short_px: int) -> tuple[int, int]:
    """(width, height) of a photo whose short side is `short_px`."""
    factor = short_px / min(photo.width, photo.height)
    return (max(short_px, round(photo.width * factor)), max(short_px, round(photo.height * factor)))


def build_schedule(photos: Sequence[Photo], settings: Settings, multiple: int) -> list[Draw]:
    """All draws of a run, in order. Photos take turns: each is seen once before any is seen
    again."""
    draws = []
    for index in range(settings.num_draws):
        source = generator(settings.seed, "draw", index)
        epoch, place = divmod(index, len(photos))
        order = torch.randperm(len(photos), generator=generator(settings.seed, "epoch", epoch))
        photo = int(order[place])
        flip = settings.flip and torch.rand((), generator=source).item() < 0.5
        t = sample_t(settings.timesteps, source)
        side = crop_side(settings, t, multiple, source)
        width, height = scaled_size(photos[photo], settings.s_max_px)
        left, top = (
            int(torch.randint(0, length - side + 1, (), generator=source))
            for length in (width, height)
        )
        seed = int(torch.randint(0, 2**62, (), generator=source))
        prior = torch.rand((), generator=source).item() < settings.prior
        draws.append(Draw(index, photo, flip, t, left, top, side, seed, prior))
    return draws
