"""The schedule of a run: every draw from photos, settings and a seed (docs/method.md §1.1, §1.2).

A draw is one training example of one micro-step: photo, mirroring, t, crop, noise seed, caption.
The schedule is a pure function, and nothing random happens after it. data/crops.py places the
crops: high noise shows the whole pet, low noise a close-up. A box around the pet moves the crops of
its photo and changes nothing else, because every number consumes the random stream equally,
whatever its range.

Prior-preservation draws use the bare class word, with the untrained model's prediction as target
(ours, after "differential output preservation" in other trainers), so that “a photo of a cat” does
not become this cat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from blockskip.core.flow_matching import generator, sample_t
from blockskip.core.settings import Settings
from blockskip.data.crops import place_crop
from blockskip.data.crops import scaled_size as scaled_size  # re-exported
from blockskip.data.photos import Photo


@dataclass(frozen=True)
class Draw:
    """One training example. left, top, side: the crop in pixels of the photo scaled to short side
    s_max."""

    index: int
    photo: int
    flip: bool
    t: float
    left: int
    top: int
    side: int
    noise_seed: int
    prior: bool  # bare class word, with the untrained model's prediction as target
    blank: bool  # empty caption, which guidance compares with the prompt


def build_schedule(photos: Sequence[Photo], settings: Settings, multiple: int) -> list[Draw]:
    """Return all draws of a run, in order. Every photo is used once before any is reused."""
    draws = []
    for index in range(settings.num_draws):
        rng = generator(settings.seed, "draw", index)
        epoch, position = divmod(index, len(photos))
        order = torch.randperm(len(photos), generator=generator(settings.seed, "epoch", epoch))
        photo = int(order[position])
        flip = settings.flip and torch.rand((), generator=rng).item() < 0.5
        t = sample_t(settings.timesteps, rng, settings.shift)
        crop = place_crop(
            photos[photo], settings, multiple, t, partial(_share, rng), partial(_between, rng)
        )
        seed = int(torch.randint(0, 2**62, (), generator=rng))
        prior = torch.rand((), generator=rng).item() < settings.prior
        blank = torch.rand((), generator=rng).item() < settings.caption_dropout and not prior
        draws.append(Draw(index, photo, flip, t, *crop, seed, prior, blank))
    return draws


def _share(rng: torch.Generator) -> float:
    return torch.rand((), generator=rng, dtype=torch.float64).item()


def _between(rng: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=rng))
